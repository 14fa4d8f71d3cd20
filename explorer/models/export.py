"""A student for other programs, which need nothing of this project to load it: `export_student`.

Enters: a pair. Leaves: one safetensors file for timm. An adapter is merged into the weights; what the student was made
from travels as metadata. Deliberately ignored: the teacher, which is the architecture's pretrained model or a file of
its own (`explorer.models.pairs.export_pair` carries a pair to another copy of this project).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from explorer.errors import InputError, unknown
from explorer.models.architectures import architecture_of, is_known, skeleton
from explorer.models.backbones import Backbone
from explorer.models.checkpoints import misfit
from explorer.models.pairs import Pair
from explorer.system.files import atomic_path
from explorer.version import __version__


@dataclass(frozen=True, kw_only=True)
class ExportedStudent:
    """A student that other programs load. Made by `export_student`.

    Attributes:
        path: the file.
        usage: the Python expression that loads it.
    """

    path: Path
    usage: str


def export_student(pair: Pair, file: str | os.PathLike, format: str = "timm") -> ExportedStudent:
    """Write a pair's student for other programs, its adapter merged into the weights.

    Args:
        file: where to; a file that is there is replaced.
        format: "timm": a safetensors file for `timm.create_model`, which then computes the student's embedding from
            normalised pictures of the student's image size.

    Returns:
        Where it is, and the line of Python that loads it.

    Raises:
        ValueError: the format is unknown, the file's name does not fit it, or the student is not one of timm's models.
        OSError: it cannot be written.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    return FORMATS[format](pair, Path(file))


def _timm(pair: Pair, file: Path) -> ExportedStudent:
    _check_suffix(file, ".safetensors", "timm")
    about, arguments = _about(pair), _arguments(pair.student)
    with atomic_path(file) as part:
        _save(pair.student.module.state_dict(), part, about)
    usage = f"timm.create_model({about['architecture']!r}, pretrained=False, checkpoint_path={str(file)!r}"
    return ExportedStudent(path=file, usage=f"{usage}{''.join(f', {key}={arguments[key]}' for key in arguments)})")


def _about(pair: Pair) -> dict[str, str]:
    """What a student was made from, for the metadata of its file."""
    student = pair.student
    return {
        "architecture": _timm_name(student),
        "image_size": "x".join(map(str, student.height_width)),
        "mean": ", ".join(map(str, student.mean)),
        "std": ", ".join(map(str, student.std)),
        "base_weights": pair.teacher.source,
        "base_weights_sha256": pair.teacher.sha256,
        "distortion": pair.distortion.spec,
        "vit_explorer": __version__,
    }


def _timm_name(student: Backbone) -> str:
    """The name under which timm builds the student's architecture.

    Raises:
        ValueError: it does not.
    """
    if not is_known(student.name):
        raise InputError(
            f"expected a student that timm can build; got one of '{student.name}', a module of somebody's own. Save "
            f"its weights for the code that it comes from: safetensors.torch.save_model(pair.student.module, "
            f"'student.safetensors')"
        )
    architecture = architecture_of(student.name)
    report = misfit(student.module.state_dict(), skeleton(architecture))
    if report is not None:
        raise InputError(f"the student is not timm's '{architecture}' any more: {report}. Load the pair again")
    return architecture


def _arguments(student: Backbone) -> dict[str, int | tuple[int, int]]:
    """What timm has to be told beside the architecture's name."""
    own = skeleton(architecture_of(student.name)).pretrained_cfg["input_size"][1:]  # type: ignore[index]
    return {"num_classes": 0, **({} if tuple(own) == student.height_width else {"img_size": student.image_size})}


def _check_suffix(file: Path, suffix: str, format: str) -> None:
    if file.suffix != suffix:
        raise InputError(f"format='{format}' writes a file that ends in {suffix}; got '{file}'")


def _save(tensors: dict[str, Tensor], file: Path, about: dict[str, str]) -> None:
    """Write a safetensors file into one that is there, which keeps who may read it."""
    mode = file.stat().st_mode
    try:
        safetensors.torch.save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file, about
        )
    except SafetensorError as error:  # a full disk is told so, too
        raise OSError(f"the student could not be written to '{file.parent}' ({error}); free some space") from error
    file.chmod(mode)


FORMATS: dict[str, Callable[[Pair, Path], ExportedStudent]] = {"timm": _timm}
