"""A user's own checkpoint: read without running anything of it, and reported on where it does not fit.

Enters: a file that may come from anybody, and the names and shapes that an architecture has. Leaves: tensors under
timm's names, or a `WeightsError` that lists what is missing, what is unknown and what has another shape. Only
safetensors are read; what a file really is, its first bytes tell, not its name.
"""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from explorer.onnx_weights import StateDict

HEADER_BYTES = 16 << 20
"""Longest list of tensors that is read; that of a model with 10,000 of them takes about 1 MiB."""
PREFIXES = (
    "module.",
    "backbone.",
    "model.",
    "encoder.",
    "teacher.backbone.",
    "teacher.",
    "student.backbone.",
    "student.",
    "module.backbone.",
    "model.backbone.",
    "_orig_mod.",
)
"""What other programs put before a backbone's names; one that two of them wrote is tried as it stands here."""
RESAMPLED = ("pos_embed", "relative_position_bias_table", "rel_pos")
"""Tensors whose shape may differ: timm resamples them to another grid."""
_SHOWN = 4


class WeightsError(RuntimeError):
    """Weights could not be had, or are not what they should be. The message says how to mend it."""


def read_checkpoint(path: str | Path) -> StateDict:
    """The tensors of a safetensors file.

    Raises:
        WeightsError: the file is missing or damaged, or a pickle, which is refused because it can run code.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no file at '{path}'; expected a .safetensors file with timm's parameter names")
    _check_container(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"'{path.name}' is not a .safetensors file, by its name. {_PICKLES}")
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"'{path.name}' cannot be read as safetensors ({error}); save or download it again"
        ) from error


def _check_container(path: Path) -> None:
    """Refuse by the first bytes: a safetensors file begins with the length of its header, and that with a brace."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] != b"{" and start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        raise WeightsError(f"'{path.name}' is a pickle, whatever its name. {_PICKLES}")
    if path.suffix != ".safetensors":
        return
    length = int.from_bytes(start[:8], "little")
    if size < 10 or start[8:] != b"{":
        raise WeightsError(f"'{path.name}' is no safetensors file, or was cut off: it has {size} bytes; save it again")
    if length > HEADER_BYTES:
        raise WeightsError(
            f"the header of '{path.name}' claims to have {length:,} bytes; expected {HEADER_BYTES >> 20} MiB at most"
        )
    if length + 8 > size:
        raise WeightsError(
            f"'{path.name}' was cut off: its header should have {length:,} bytes, and the whole file has {size:,}; "
            f"save or download it again"
        )


_PICKLES = (
    "Pickled checkpoints (.pt, .pth, .bin, .ckpt) can run code when they are opened and are refused; convert it where "
    "you trust it: safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')"
)


def stripped(tensors: StateDict, module: nn.Module) -> tuple[StateDict, str]:
    """The backbone's tensors without a prefix that another program put before their names, and what was done, in words.

    Tensors with other beginnings (a projection head, a second network) are left out where there is such a prefix. It
    is taken only where every tensor of the backbone is there under it; otherwise nothing is changed.

    Args:
        module: the architecture, without classifier.
    """
    expected = module.state_dict().keys()
    if expected <= tensors.keys():
        return tensors, ""
    for prefix in PREFIXES:
        inner = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if expected <= inner.keys():
            others = len(tensors) - len(inner)
            left = f", {others} other{'s' if others > 1 else ''} left out" if others else ""
            return inner, f"prefix '{prefix}' taken off{left}"
    return tensors, ""


def misfit(tensors: Mapping[str, Tensor], module: nn.Module) -> str | None:
    """What of these tensors does not fit a module, in one line; None: everything does, as far as names and shapes tell.

    A position embedding of another grid counts as fitting.
    """
    own = module.state_dict()
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    wrong = [
        f"{name} ({_shape(tensors[name])} instead of {_shape(own[name])})"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape and not _resampled(name, tensors[name], own[name])
    ]
    coded = [
        f"{name} ({tensors[name].dtype})"
        for name in own
        if name in tensors and own[name].is_floating_point() and not tensors[name].is_floating_point()
    ]
    parts = {
        f"missing of {len(own)}": missing,
        "unexpected": unexpected,
        "of another shape": wrong,
        "not floating-point numbers": coded,
    }
    found = [f"{len(names)} {what}: {_some(names)}" for what, names in parts.items() if names]
    return "; ".join(found) or None


def _resampled(name: str, stored: Tensor, own: Tensor) -> bool:
    same = stored.ndim == own.ndim and stored.shape[-1] == own.shape[-1]
    return same and any(part in name for part in RESAMPLED)


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def _some(names: list[str]) -> str:
    shown = ", ".join(name if len(name) < 120 else f"{name[:120]} …" for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
