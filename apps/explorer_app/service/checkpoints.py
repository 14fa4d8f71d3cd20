"""Checkpoints that visitors bring: one file and one note each, found by a name that nobody can guess.

Whoever knows a name may use that backbone; nobody is shown the names of others. The store is bounded: what was not used
for longest goes first.
"""

import json
import os
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import explorer as ex
from explorer.errors import InputError
from explorer.models.backbones import ImageSize
from explorer.models.checkpoints import read_checkpoint
from explorer.models.lora_files import is_adapter
from explorer.system.files import atomic_path, last_used, scratch_folder
from explorer_app.service import students
from explorer_app.service.limits import LIMITS

LARGEST_BYTES = 700 << 20
"""Of one checkpoint: a ViT-B/16 has 345 MB in single, a ViT-L/16 608 MB in half precision."""
KEPT_BYTES = 4 << 30
_NAME = re.compile(r"weights-[0-9a-f]{20}")


def weights_dir() -> Path:
    """The folder of all checkpoints: beside the visitors' students."""
    return students.runs_dir() / "weights"


def take_in(file: str, architecture: str, size: int) -> str:
    """Keep a visitor's safetensors file; its new name.

    Args:
        file: where the upload lies; read once to see that it fits, and copied.
        architecture: the timm name that it is said to fit.
        size: image size in pixels at which it is tried.

    Raises:
        ValueError: too large, no such architecture, or an architecture that does not take the size.
        WeightsError: it is no safetensors file, or does not fit.
        OSError: the disk is nearly full.
    """
    if LIMITS.public:
        raise InputError("this public page takes no checkpoints; run the app yourself for your own")
    given = Path(file)
    if given.suffix == ".json" or not given.is_file():
        raise InputError(f"'{given.name}' is not one file of weights; expected one .safetensors file")
    if given.stat().st_size > LARGEST_BYTES:
        raise InputError(
            f"'{given.name}' has {given.stat().st_size >> 20} MiB; expected {LARGEST_BYTES >> 20} MiB at most: save it "
            f"in half precision, or use it on your own machine with load_backbone('{architecture}', source='file')"
        )
    if is_adapter(read_checkpoint(given)):
        raise ex.WeightsError(
            f"'{given.name}' is an adapter alone; merge it with peft's merge_and_unload() and bring that"
        )
    ex.load_backbone(architecture, image_size=size, source=given, device="cpu")
    root = weights_dir()
    root.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(root).free < students.FREE_BYTES + LARGEST_BYTES:
        raise OSError("too little space is free where checkpoints are kept")
    name = f"weights-{secrets.token_hex(10)}"
    with students.kept_secret("checkpoints"), scratch_folder(root, "upload") as scratch:
        shutil.copyfile(given, scratch / "file")
        with atomic_path(root / f"{name}.json") as part:
            part.write_text(json.dumps({"architecture": architecture, "file": given.name[-80:]}), encoding="utf-8")
        os.replace(scratch / "file", root / f"{name}.safetensors")
    _make_room(root, keep=name)
    return name


def is_own(name: str) -> bool:
    """Whether a name is one of a visitor's checkpoint that is still there."""
    return _NAME.fullmatch(name) is not None and (weights_dir() / f"{name}.safetensors").is_file()


def load(name: str, size: ImageSize) -> ex.Backbone:
    """The backbone of a visitor's checkpoint, under its secret name."""
    note = _note(name)
    file = weights_dir() / f"{name}.safetensors"
    os.utime(file)
    backbone = ex.load_backbone(note["architecture"], image_size=size, source=file)
    source = backbone.source.replace(file.name, f"{note['file']} as {note['architecture']}")
    return replace(backbone, name=name, source=source)


def label_of(name: str) -> str:
    """What a visitor's checkpoint is called in lists."""
    note = _note(name)
    return f"yours: {note['file']} ({note['architecture']})"


def _note(name: str) -> dict[str, str]:
    if not is_own(name):
        raise InputError(f"there is no checkpoint '{name}' any more: upload it again")
    return json.loads((weights_dir() / f"{name}.json").read_text(encoding="utf-8"))


def _make_room(root: Path, keep: str) -> None:
    files = []
    for file in root.glob("weights-*.safetensors"):
        with suppress(FileNotFoundError):  # another server makes room, too
            files.append((last_used(file), file.stat().st_size, file))
    total = 0
    for _, size, file in sorted(files, reverse=True):
        total += size
        if total > KEPT_BYTES and file.stem != keep:
            file.unlink(missing_ok=True)
            file.with_suffix(".json").unlink(missing_ok=True)
