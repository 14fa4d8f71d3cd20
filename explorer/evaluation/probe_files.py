"""Files of linear probes: numbers and what they were fitted on, in one safetensors file, never a pickle.

Enters: a probe and words about it. Leaves: a file; and from a file, the same again. What the words mean is for those
who write them (`explorer.evaluation.predicting`, `explorer.evaluation.patch_probes`).
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from explorer.errors import InputError
from explorer.evaluation.probes import Probe, linear_probe
from explorer.models.weights import state_digest
from explorer.system.files import atomic_path
from explorer.version import __version__

Reads = Literal["pictures", "patches"]

MAX_BYTES = 512 << 20
_FORMAT = 1
_ABOUT = "probe"
_NUMBERS = ("weights", "bias", "mean", "scale")
_OWN: dict[Reads, tuple[str, str]] = {
    "pictures": ("fit_probe", "load_probe"),
    "patches": ("fit_patch_probe", "load_patch_probe"),
}


def write_probe(file: str | os.PathLike, reads: Reads, probe: Probe, about: dict[str, Any], **more: Tensor) -> Path:
    """Write a linear probe on a backbone's features, replacing the file if it is there.

    Args:
        reads: what it was fitted on, and can be asked about.
        about: "backbone" (its name), "weights" (see `weights_of`), "image_size", "counts" (class -> how many of it were
            fitted on), "distortion", "seed", and more.
        more: further tensors.

    Raises:
        OSError: it cannot be written.
    """
    scaler, regression = probe.estimator[0], probe.estimator[-1]
    numbers = (regression.coef_, regression.intercept_, scaler.mean_, scaler.scale_)
    tensors = {name: torch.from_numpy(values.copy("C")) for name, values in zip(_NUMBERS, numbers, strict=True)} | more
    about = {
        "format": _FORMAT,
        "classes": [str(name) for name in probe.classes],
        **({} if reads == "pictures" else {"reads": reads}),
        **about,
        "version": __version__,
    }
    about["sha256"] = _digest(about, tensors)
    content = safetensors.torch.save(tensors, metadata={_ABOUT: json.dumps(about)})
    with atomic_path(Path(file)) as part:
        part.write_bytes(content)
    return Path(file)


def read_probe(file: str | os.PathLike, reads: Reads) -> tuple[dict[str, Any], Probe, dict[str, Tensor]]:
    """What stands about a probe, the probe, which says the very same, and further tensors.

    Raises:
        ValueError: this is no probe, one of something else, or a damaged one.
        OSError: the file cannot be read.
    """
    about, tensors = _read(Path(file), reads)
    weights, bias, mean, scale = (tensors.pop(name).numpy() for name in _NUMBERS)
    return about, linear_probe(about["classes"], weights, bias, mean, scale), tensors


def _read(file: Path, reads: Reads) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if file.stat().st_size > MAX_BYTES:
        raise InputError(f"'{file}' is no probe: it is larger than {MAX_BYTES >> 20} MiB")
    content, (maker, _) = file.read_bytes(), _OWN[reads]
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        about = json.loads(header["__metadata__"][_ABOUT])
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"'{file}' is no probe that can be read ({type(error).__name__}: {error}); expected a safetensors file "
            f"that {maker}(…).save(file) wrote"
        ) from error
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        found = about.get("format") if isinstance(about, dict) else None
        raise InputError(f"'{file}' has the format {found!r}; this version of vit-explorer reads probes of {_FORMAT}")
    own = about.get("reads", "pictures")
    if own != reads and own in _OWN:
        raise InputError(f"'{file}' is a probe of {own}, and one of {reads} was expected; {_OWN[own][1]} reads it")
    if about.pop("sha256", None) != _digest(about, tensors) or not _fits_together(about, tensors):
        raise InputError(f"'{file}' is not as it was written: take it from a copy, or fit the probe again")
    return about, tensors


def _digest(about: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    return hashlib.sha256(f"{json.dumps(about, sort_keys=True)}{state_digest(tensors)}".encode()).hexdigest()


def _fits_together(about: dict[str, Any], tensors: dict[str, Tensor]) -> bool:
    """Whether all is there, in shapes that belong to one another: the digest alone tells no file that was made up."""
    kinds: dict[str, type] = {"classes": list, "counts": dict, "backbone": str, "weights": dict, "image_size": list}
    kinds |= {"distortion": str, "seed": int}
    of_patches = about.get("reads") == "patches"
    kinds |= {"layer": int, "pictures": int} if of_patches else {}
    needed = {*_NUMBERS} if of_patches else {*_NUMBERS, "sample"}
    if set(tensors) != needed or any(not isinstance(about.get(name), kinds[name]) for name in kinds):
        return False
    classes, weights, size = about["classes"], about["weights"], about["image_size"]
    named = all(isinstance(name, str) for name in classes) and len(set(classes)) == len(classes) >= 2
    told = all(isinstance(weights.get(name), str) for name in ("description", "sha256"))
    drawn = weights.get("seed") is None or (type(weights["seed"]) is int and 0 <= weights["seed"] < 1 << 63)
    sized = len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    rows, dim = 1 if len(classes) == 2 else len(classes), tensors["mean"].numel()
    shapes = {"weights": (rows, dim), "bias": (rows,), "mean": (dim,), "scale": (dim,)}
    whole = all(
        tensors[name].shape == shapes[name] and tensors[name].dtype == torch.float64 and tensors[name].isfinite().all()
        for name in _NUMBERS
    )
    return named and told and drawn and sized and whole and bool((tensors["scale"] > 0).all())
