"""The sets of pictures that a page may look at and learn from, by name. No Gradio in here."""

import logging
import os
from collections import Counter
from functools import cache
from pathlib import Path

import explorer as ex
from explorer.data.image import Size
from explorer.data.picture_files import told
from explorer.data.sources import SplitsError, is_split
from explorer.errors import InputError
from explorer.system.files import readable

VARIABLE = "VIT_EXPLORER_PICTURES"
PHOTOS = "embedded photos"


def picture_folders() -> dict[str, Path]:
    """The folders on this computer that are offered, by name: those in VIT_EXPLORER_PICTURES; of one with train/ and
    test/ above its classes each of these.
    """
    return {name: folder / (split or "") for name, (folder, split) in _offered().items()}


def picture_set(source: str, size: Size, limit: int | None = None) -> ex.ImageSet:
    """The embedded photos, or the pictures in a folder that is offered. Links lead nowhere but into such folders.

    Raises:
        ValueError: there is no such folder, or no picture in it.
    """
    if source == PHOTOS:
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
