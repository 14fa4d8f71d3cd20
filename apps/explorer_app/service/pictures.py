"""The pictures that a page may look at and learn from: the shipped photos, uploads, folders that are offered."""

import logging
import os
import re
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

import explorer as ex
from explorer.data.folders import SplitsError, is_split
from explorer.data.image import Size, to_uint8, upright_size
from explorer.data.picture_files import told
from explorer.distortions import Given
from explorer.errors import InputError
from explorer.inspection.comparison import check_aspects, laid_over
from explorer.scenes.evaluation import MOST_THUMBNAILS, sprite
from explorer.system.files import readable
from explorer_app.service.cache import BoundedCache

VARIABLE = "VIT_EXPLORER_PICTURES"
PHOTOS, UPLOAD, SELECTED = "shipped photos", "your zip file", "selected on the map"
_EARLIER = "embedded photos"
"""What runs that were started before call them."""


@dataclass(frozen=True)
class Selection:
    """Pictures that a visitor selected in the Embeddings tab.

    Attributes:
        of: the set of which they are some: `PHOTOS`, the name of one of `picture_folders`, or a visitor's zip file.
        names: what they are called there; none where nothing is selected.
        slice: what they have in common, where they are a slice.
    """

    of: str | Path = PHOTOS
    names: tuple[str, ...] = ()
    slice: str | None = field(default=None, compare=False)


Source: TypeAlias = str | Path | Selection | None
"""`PHOTOS`, the name of one of `picture_folders`, a visitor's zip file, or a selection; None where a zip file was not
uploaded yet."""
PICTURE_BYTES = 50 << 20
CENTRED = 0.5
_sprites: BoundedCache[dict[str, Any] | None] = BoundedCache(4, lambda _: 1)


def picture_folders() -> dict[str, Path]:
    """The folders on this computer that are offered, by name: those in VIT_EXPLORER_PICTURES; of one with train/ and
    test/ above its classes each of these.
    """
    return {name: folder / (split or "") for name, (folder, split) in _offered().items()}


def source_of(chosen: str, zipped: Path | None, selected: Selection | None = None) -> Source:
    """What was chosen: `PHOTOS`, a folder, `UPLOAD`, which stands for the zip file that was uploaded last, or
    `SELECTED`, which stands for what is selected on the map."""
    own: dict[str, Source] = {UPLOAD: zipped, SELECTED: selected or Selection()}
    return own.get(chosen, chosen)


def title(source: Source) -> str:
    """What it is called behind a number of pictures."""
    if isinstance(source, Selection):
        return f"{title(source.of)} {SELECTED}" + (f" ({source.slice})" if source.slice else "")
    return f"pictures of {readable(source.name)}" if isinstance(source, Path) else str(source)


def picture_set(source: Source, size: Size, limit: int | None = None) -> tuple[ex.ImageSet, str]:
    """The pictures of a source, and what to say of them: what was left out, and which split of a zip file it is. Links
    lead nowhere but into the folders that are offered.

    Raises:
        ValueError: there is no such folder or zip file, no picture in it, or not every one that was selected.
    """
    if source is None:
        raise InputError("there is no zip file: upload one, or choose other pictures")
    if isinstance(source, Selection):
        return _selected(source, size, limit)
    if isinstance(source, Path):
        return _zipped(source, size, limit)
    if source in (PHOTOS, _EARLIER):
        return ex.load_images("photos", size=size, limit=limit), ""
    offered = _offered()
    if source not in offered:
        raise InputError(f"the folder '{source}' is not offered any more (set {VARIABLE})")
    folder, split = offered[source]
    images = ex.load_images(folder, size=size, limit=limit, split=split, within=_named())
    return images, _without(images)


def load_picture(path: str | None, size: int, crop: float = CENTRED) -> Float[Tensor, "3 height width"]:
    """A square of a picture file.

    Args:
        crop: where it lies along the longer side, from 0, the left or the top, to 1.
    """
    if path and not os.path.isfile(path):
        raise InputError("this picture is not kept any more: choose it, or upload it, again")
    if path and os.path.getsize(path) > PICTURE_BYTES:
        raise InputError(f"this picture's file has more than {PICTURE_BYTES >> 20} MiB: save it smaller")
    if not path:
        raise InputError("there is no picture: choose a sample, upload one, paste one or take one with the camera")
    try:
        return ex.load_image(path, size=size, centering=(crop, crop))
    except ValueError as error:  # where uploads are kept is nobody's business
        raise InputError(str(error).replace(f"{Path(path).parent}{os.sep}", "")) from error


def load_pair(
    clean: str | None, damaged: str | None, size: int, crop: float = CENTRED, align: bool = True
) -> tuple[Float[Tensor, "3 height width"], Float[Tensor, "3 height width"], ex.Distortion]:
    """The same square of a clean picture file and of its damaged twin, which is laid over it, and what is known of its
    damage.

    Raises:
        ValueError: a picture is missing or cannot be read, or the two show other scenes or have other shapes.
    """
    picture = load_picture(clean, size, crop)
    if damaged is None:
        raise InputError("the damaged picture of the pair is missing: upload it in the left column")
    twin = load_picture(damaged, size, crop)
    check_aspects(upright_size(str(clean)), upright_size(damaged))
    return picture, *(laid_over(picture, twin) if align else (twin, Given()))


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
    """A message that does not tell where uploads lie, nor the folders that are offered: each goes by its last name."""
    uploads = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir(), "gradio"))
    for root in (uploads, uploads.resolve()):  # in it each has a folder that is called by its digest
        text = re.sub(rf"{re.escape(str(root))}[/\\][0-9a-f]+[/\\]", "", text)
    named = {str(path): folder.name for folder in _named() for path in (folder, folder.resolve()) if folder.name}
    for path in sorted(named, key=len, reverse=True):
        text = text.replace(path, named[path])
    return text


def _zipped(file: Path, size: Size, limit: int | None) -> tuple[ex.ImageSet, str]:
    """Of several splits it is "train"."""
    if not file.is_file():
        raise InputError(f"'{readable(file.name)}' is not kept any more: upload it again")
    try:
        images = ex.load_images(file, size=size, limit=limit)
        return images, _without(images)
    except SplitsError as error:
        images = ex.load_images(file, size=size, limit=limit, split=error.training)
        return images, f"Of {', '.join(error.splits)} only {error.training} is taken. {_without(images)}".strip()


def _selected(selection: Selection, size: Size, limit: int | None) -> tuple[ex.ImageSet, str]:
    """By their names, in the order of their set."""
    if not selection.names:
        raise InputError(
            f"no pictures are {SELECTED}: select some in the Embeddings tab, by a slice, a box or a lasso, or choose "
            "other pictures"
        )
    images, note = picture_set(selection.of, size)
    wanted = frozenset(selection.names)
    places = [place for place, name in enumerate(images.names) if name in wanted]
    if len(places) < len(wanted):
        raise InputError(
            f"{len(wanted) - len(places)} of the {len(wanted)} {title(selection)} are not there any more: select "
            "pictures in the Embeddings tab again"
        )
    return images.select(places[:limit]), note


def _without(images: ex.ImageSet) -> str:
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
