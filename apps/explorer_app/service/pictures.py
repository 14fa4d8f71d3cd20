"""The pictures that a page may look at and learn from: the shipped photos, uploads, folders that are offered."""

import logging
import os
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

import explorer as ex
from explorer.data.image import Size, to_uint8
from explorer.data.picture_files import told
from explorer.data.sources import SplitsError, is_split
from explorer.errors import InputError
from explorer.scenes.evaluation import MOST_THUMBNAILS, sprite
from explorer.system.files import readable
from explorer_app.service.cache import BoundedCache

VARIABLE = "VIT_EXPLORER_PICTURES"
PHOTOS = "shipped photos"
_EARLIER = "embedded photos"
"""What runs that were started before call them."""
PICTURE_BYTES = 50 << 20
_sprites: BoundedCache[dict[str, Any] | None] = BoundedCache(4, lambda _: 1)


def picture_folders() -> dict[str, Path]:
    """The folders on this computer that are offered, by name: those in VIT_EXPLORER_PICTURES; of one with train/ and
    test/ above its classes each of these.
    """
    return {name: folder / (split or "") for name, (folder, split) in _offered().items()}


def picture_set(source: str, size: Size, limit: int | None = None) -> ex.ImageSet:
    """The shipped photos, or the pictures in a folder that is offered. Links lead nowhere but into such folders.

    Raises:
        ValueError: there is no such folder, or no picture in it.
    """
    if source in (PHOTOS, _EARLIER):
        return ex.load_images("photos", size=size, limit=limit)
    offered = _offered()
    if source not in offered:
        raise InputError(f"the folder '{source}' is not offered any more (set {VARIABLE})")
    folder, split = offered[source]
    return ex.load_images(folder, size=size, limit=limit, split=split, within=_named())


def zipped_set(file: Path, size: Size) -> tuple[ex.ImageSet, str]:
    """The pictures of a visitor's zip file to learn from, and what to say of them: of several splits it is "train"."""
    try:
        images = ex.load_images(file, size=size)
        return images, without(images)
    except SplitsError as error:
        images = ex.load_images(file, size=size, split=error.training)
        return images, f"Of {', '.join(error.splits)} it learns from {error.training}. {without(images)}".strip()


def without(images: ex.ImageSet) -> str:
    """What was left out of a set, in one sentence; empty where nothing was."""
    return f"Left out: {told(images.left_out)}." if images.left_out else ""


def load_picture(path: str | None, size: int) -> Float[Tensor, "3 height width"]:
    """The centre square of a picture file."""
    if path and not os.path.isfile(path):
        raise InputError("this picture is not kept any more: choose it, or upload it, again")
    if path and os.path.getsize(path) > PICTURE_BYTES:
        raise InputError(f"this picture's file has more than {PICTURE_BYTES >> 20} MiB: save it smaller")
    if not path:
        raise InputError("there is no picture: choose a sample, upload one, paste one or take one with the camera")
    try:
        return ex.load_image(path, size=size)
    except ValueError as error:  # where uploads are kept is nobody's business
        raise InputError(str(error).replace(f"{Path(path).parent}{os.sep}", "")) from error


@cache
def photos() -> ex.ImageSet:
    """The photos that come with the project."""
    return ex.load_images("photos", size=224)


def photo_path(name: str) -> str:
    """Path of a shipped photo.

    Raises:
        ValueError: there is no photo of that name.
    """
    if name not in photos().names:
        raise InputError(f"there is no shipped photo '{name}'")
    return str(photos().path(photos().names.index(name)))


def thumbnail(name: str) -> UInt8[np.ndarray, "112 112 3"]:
    """A small square of a shipped photo, for the gallery."""
    return to_uint8(ex.load_image(Path(photo_path(name)), size=112))


def thumbnails(images: ex.ImageSet) -> dict[str, Any] | None:
    """Thumbnails of all pictures; see `explorer.scenes.evaluation.sprite`."""
    return _sprites.get(images.digest, lambda: sprite(images)) if len(images) <= MOST_THUMBNAILS else None


def without_paths(text: str) -> str:
    """A message that does not tell where the folders lie that are offered: each goes by its last name."""
    named = {str(path): folder.name for folder in _named() for path in (folder, folder.resolve()) if folder.name}
    for path in sorted(named, key=len, reverse=True):
        text = text.replace(path, named[path])
    return text


def _named() -> list[Path]:
    listed = os.environ.get(VARIABLE, "").split(os.pathsep)
    return [Path(part).expanduser() for part in listed if part]


def _offered() -> dict[str, tuple[Path, str | None]]:
    offered: dict[str, tuple[Path, str | None]] = {}
    alike = Counter([PHOTOS])
    for folder in _named():
        name = readable(folder.name or str(folder))
        alike[name] += 1
        title = name if alike[name] == 1 else f"{name} ({alike[name]})"
        for split in _splits(folder) or (None,):
            offered[f"{title}: {split}" if split else title] = folder, split
    return offered


@cache
def _splits(folder: Path) -> tuple[str, ...]:
    """Looked for once, and only where a folder in it is called so, for there may be a million files."""
    try:
        if any(is_split(child.name) for child in folder.iterdir()):
            ex.load_images(folder, within=_named())
    except SplitsError as error:
        return error.splits
    except (ValueError, OSError):
        pass  # it is told when the folder is chosen
    return ()


class _Once(logging.Filter):
    """A page looks at the same pictures again and again; what is left out of them is logged once."""

    def __init__(self) -> None:
        super().__init__()
        self._logged: set[int] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        before = len(self._logged)
        self._logged.add(hash(record.getMessage()))
        return len(self._logged) > before


logging.getLogger("explorer.data.sources").addFilter(_Once())
