"""A user's own checkpoint: read without running anything of it, and reported on where it does not fit.

Enters: a file that may come from anybody, and the names and shapes that an architecture has. Leaves: tensors under
timm's names, or a `WeightsError` that lists what is missing, what is unknown and what has another shape. Only
safetensors are read; what a file really is, its first bytes tell, not its name.
"""

import json
from collections.abc import Callable, Mapping, Set
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from explorer.errors import InputError, UserError
from explorer.models.dialects import DIALECTS, Dialect, hits_of, is_apart, without_wrappers
from explorer.models.onnx_weights import StateDict

HEADER_BYTES = 16 << 20
"""Longest list of tensors that is read; that of a model with 10,000 of them takes about 1 MiB."""
RESAMPLED = ("pos_embed", "relative_position_bias_table", "rel_pos")
"""Tensors whose shape may differ: timm resamples them to another grid."""
_SHOWN = 4


class WeightsError(UserError, RuntimeError):
    """Weights could not be had, or are not what they should be. The message says how to mend it."""


class HubError(WeightsError):
    """Pretrained weights are neither kept here nor given by timm's hub.

    Args:
        reason: what was missing, and what the hub said.
        advice: how the library's callers mend it; an app has other ways.
    """

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason, advice)
        self.reason = reason

    def __str__(self) -> str:
        return ". ".join(self.args)


def read_checkpoint(path: str | Path) -> StateDict:
    """The tensors of a safetensors file, of the several that a `model.safetensors.index.json` lists, or of the one such
    file or list in a folder.

    Raises:
        WeightsError: a file is missing or damaged, or a pickle, which is refused because it can run code.
    """
    path = checkpoint_file(path)
    if path.suffix == ".json":
        return _read_shards(path)
    _check_container(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"'{path.name}' is not a .safetensors file, by its name. {_PICKLES}")
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"'{path.name}' cannot be read as safetensors ({error}); save or download it again"
        ) from error


def checkpoint_file(path: str | Path) -> Path:
    """The file that a path means: itself, or what a folder has under one of the names that programs give.

    Raises:
        WeightsError: there is none, or a folder has several of them.
    """
    path = Path(path)
    if path.is_dir():
        present = [path / name for name in _NAMES if (path / name).is_file()] or sorted(path.glob("*.safetensors"))
        if len(present) == 1:
            return present[0]
        if present:
            listed = ", ".join(f"'{file.name}'" for file in present[:4])
            raise WeightsError(f"'{path.name}' holds several files of weights ({listed}); name the one that you mean")
    if not path.is_file():
        raise WeightsError(f"no file at '{path}'; expected a .safetensors file, a list of them or a folder with one")
    return path


_NAMES = ("model.safetensors.index.json", "model.safetensors", "adapter_model.safetensors")


def _read_shards(index: Path) -> StateDict:
    """The tensors that a list names, each from the file beside the list that it says."""
    try:
        if index.stat().st_size > HEADER_BYTES:
            raise InputError(f"it has more than {HEADER_BYTES >> 20} MiB")
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(places.values()))
        odd = [name for name in files if Path(name).name != name or "\\" in name or not name.endswith(".safetensors")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"'{index.name}' is no list of safetensors files ({type(error).__name__}: {str(error)[:120]}); expected "
            f"'weight_map', from the name of a tensor to that of its file"
        ) from error
    if odd:
        raise WeightsError(f"'{index.name}' names '{odd[0][:80]}'; expected .safetensors files in its own folder")
    missing = [name for name in files if not (index.parent / name).is_file()]
    if missing:
        raise WeightsError(
            f"{len(missing)} of the {len(files)} files that '{index.name}' names are missing beside it: "
            f"{_some(missing)}; download them, too"
        )
    tensors: StateDict = {}
    for name in files:
        shard = read_checkpoint(index.parent / name)
        lacking = sorted(tensor for tensor, file in places.items() if file == name and tensor not in shard)
        if lacking:
            raise WeightsError(f"'{name}' does not hold what '{index.name}' says: {_some(lacking)}")
        tensors |= {tensor: shard[tensor] for tensor, file in places.items() if file == name}
    return tensors


def _check_container(path: Path) -> None:
    """Refuse by the first bytes: a safetensors file begins with the length of its header, and that with a brace."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
    if start[8:9] != b"{":
        other = next((what for bytes_, what in _CONTAINERS.items() if start.startswith(bytes_)), None)
        if other or (start.startswith(b"PK\x03\x04") and b".npy" in start):
            raise WeightsError(f"'{path.name}' is {other or 'a NumPy archive (.npz)'}; only safetensors files are read")
        if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
            raise WeightsError(f"'{path.name}' is a pickle, whatever its name. {_PICKLES}")
    if path.suffix != ".safetensors":
        return
    length = int.from_bytes(start[:8], "little")
    if size < 10 or start[8:9] != b"{":
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


_CONTAINERS = {b"GGUF": "a GGUF file of quantised weights", b"\x89HDF": "an HDF5 file, as Keras writes them"}
_PICKLES = (
    "Pickled checkpoints (.pt, .pth, .bin, .ckpt) can run code when they are opened and are refused; convert it where "
    "you trust it: safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')"
)


def stripped(
    tensors: StateDict, module: nn.Module, accepts: Callable[[StateDict], bool] | None = None
) -> tuple[StateDict, str]:
    """The backbone's tensors under names that timm takes, and what was done to have them, in words.

    Whatever other programs put before the names is taken off, where every tensor of the backbone is there after it;
    names of other programs are translated. What is no part of the backbone (heads, decoders, a second network) is left
    out. Where nothing fits, nothing is changed.

    Args:
        module: the architecture, without classifier.
        accepts: whether timm takes tensors under these names; it translates many itself. None: it is not asked.

    Raises:
        WeightsError: several networks in the file fit, and none of them is the teacher of the others.
    """
    expected = module.state_dict().keys()
    for renamed in (tensors, without_wrappers(tensors)):
        whole = [prefix for prefix, hits in hits_of(renamed, expected).items() if hits == len(expected)]
        if whole:
            prefix = _the_one(whole)
            under = _under(prefix, renamed)
            inner = {name: tensor for name, tensor in under.items() if name in expected or not is_apart(name)}
            return inner, _said(prefix, left_out=len(renamed) - len(inner))
    for dialect in DIALECTS:
        found = {prefix: _under(prefix, renamed) for prefix in dialect.prefixes(renamed, expected)}
        translated = {prefix: _translated(dialect, under, expected) for prefix, under in found.items()}
        fitting = [
            p for p, (named, _) in translated.items() if named and (dialect.label or (accepts and accepts(named)))
        ]
        if fitting:
            prefix = _the_one(fitting)
            named, apart = translated[prefix]
            others = len(renamed) - len(found[prefix]) + apart
            return named, _said(prefix, left_out=others, translated=dialect.label)
    return tensors, ""


def _translated(dialect: Dialect, tensors: StateDict, expected: Set[str]) -> tuple[StateDict, int]:
    """See `Dialect.translated`; nothing, where shapes are so odd that they cannot be put together."""
    try:
        return dialect.translated(tensors, expected)
    except (RuntimeError, IndexError):
        return {}, 0


def _under(prefix: str, tensors: StateDict) -> StateDict:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _the_one(prefixes: list[str]) -> str:
    """Of networks that all fit: the only one, or the teacher of the others."""
    teachers = [prefix for prefix in prefixes if "teacher" in prefix]
    students = [prefix for prefix in prefixes if "student" in prefix]
    if len(prefixes) == 1 or (len(teachers) == 1 and len(students) == len(prefixes) - 1):
        return (teachers or prefixes)[0]
    named = " and ".join(f"'{prefix}'" for prefix in prefixes)
    raise WeightsError(
        f"these weights are {len(prefixes)} networks that fit, with {named} before their names; save the one that you "
        f"mean: safetensors.torch.save_file({{name: tensor for name, tensor in tensors.items() if "
        f"name.startswith('{prefixes[-1]}')}}, 'weights.safetensors')"
    )


def _said(prefix: str, left_out: int, translated: str = "") -> str:
    done = [f"{translated} names translated"] if translated else []
    done += [f"prefix '{prefix}' taken off"] if prefix else []
    done += [f"{left_out} other{'s' if left_out > 1 else ''} left out"] if left_out else []
    return ", ".join(done)


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
