"""A Vision Transformer behind one face: `Backbone.trace`.

Enters: a module that `explorer.models.loading` or `explorer.models.wrapping` has looked at, and pictures in [0, 1].
Leaves: a `Trace`. The model is its authors' own, unmodified and reachable as `Backbone.module`.
Deliberately ignored: where it and its weights come from, and which models are supported (`architectures`).
"""

import copy
import itertools
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from explorer.errors import InputError, UserError, as_sides, as_whole
from explorer.models.capture import AttentionCapture, differentiable, outputs_edited
from explorer.models.readers import Reader, TimmReader, Tokens
from explorer.models.trace import Grid, QueryKind, Trace
from explorer.models.weights import (
    ALIASES,
    first_broken,
    is_finite,
    state_digest,
)
from explorer.system.late import Late

if TYPE_CHECKING:
    import timm
else:
    timm = Late("timm")

Layers = Literal["all"] | int | Iterable[int]
Attention = Literal["cls", "full"] | None
ImageSize = int | tuple[int, int]


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
