"""Pictures with a class for each pixel: `load_segmented`.

Enters: a folder with images/, masks/ and classes.csv. Leaves: a `SegmentedSet`, whose masks are cut as its pictures are.
"""

import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from explorer.data.image import ImageError, Size, crop_box
from explorer.data.sets import ImageSet
from explorer.data.sources import load_images
from explorer.errors import InputError

IGNORED = 255
"""The value of pixels that belong to no class, as in PASCAL VOC and Cityscapes."""
_ONE_CHANNEL = ("L", "P", "1")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SegmentedSet:
    """Pictures and their masks. Made by `load_segmented`.

    Attributes:
        images: the pictures, without labels.
        masks: the file of each picture's mask.
        classes: value in a mask -> name; pixels of other values belong to no class.
    """

    images: ImageSet
    masks: tuple[Path, ...]
    classes: dict[int, str]

    def __len__(self) -> int:
        return len(self.masks)

    def __repr__(self) -> str:
        return f"SegmentedSet({len(self)} pictures, {len(self.classes)} classes, size={self.images.size})"

    def mask(self, index: int) -> UInt8[np.ndarray, "height width"]:
        """The class of each pixel of picture `index`, at the size of the set: the nearest pixel's, never a mixture.

        Raises:
            ImageError: the file is damaged, has colours, or is no mask of a picture of this shape.
        """
        path = self.masks[index]
        try:
            with Image.open(path) as file:
                file.load()
                values = file if file.mode in _ONE_CHANNEL else None
                shape = file.size
        except (OSError, SyntaxError, ValueError) as error:
            raise ImageError(f"'{path}' cannot be read as a mask: {error}") from error
        if values is None:
            raise ImageError(f"'{path}' has colours ({file.mode}); a mask has one channel, of class numbers")
        with Image.open(self.images.path(index)) as picture:  # type: ignore[arg-type]  # they are files
            if shape not in (picture.size, picture.size[::-1]):
                raise ImageError(f"'{path}' has {shape[0]} x {shape[1]} pixels, and its picture {picture.size}")
        cols, rows = shape
        size = self.images.size
        target = (rows, cols) if size is None else (size, size) if isinstance(size, int) else tuple(size)
        cut = values.resize(target[::-1], Image.Resampling.NEAREST, box=crop_box(rows, cols, size))
        return np.asarray(cut, dtype=np.uint8)

    def resized(self, size: Size) -> "SegmentedSet":
        """The same pictures and masks, cut to another size when they are asked for."""
        return replace(self, images=self.images.resized(size))


def load_segmented(folder: str | os.PathLike, size: Size = None, limit: int | None = None) -> SegmentedSet:
    """A folder of pictures with a class for each pixel.

    Args:
        folder: it holds images/ and masks/, whose files have the same names but for their endings; masks are PNG files
            of one channel, whose values are class numbers, and 255 for none. classes.csv, with the columns value and
            name, in it or beside it, says what they mean; without it every value below 255 is a class of that number.
        size: as in `load_images`.
        limit: at most so many pictures.

    Raises:
        ValueError: a folder or a mask is missing, or classes.csv has other columns.
    """
    folder = Path(folder)
    for name in ("images", "masks"):
        if not (folder / name).is_dir():
            raise InputError(f"'{folder}' holds no {name}/: expected images/ and masks/, with files of the same names")
    images = load_images(folder / "images", size, limit)
    masks = {file.stem: file for file in (folder / "masks").iterdir() if file.suffix.lower() == ".png"}
    missing = [name for name in images.names if Path(name).stem not in masks]
    if missing:
        raise InputError(f"{len(missing)} of {len(images)} pictures have no mask, such as '{missing[0]}'")
    return SegmentedSet(
        images=images,
        masks=tuple(masks[Path(name).stem] for name in images.names),
        classes=_classes(folder) or {value: str(value) for value in range(IGNORED)},
    )


def _classes(folder: Path) -> dict[int, str]:
    for file in (folder / "classes.csv", folder.parent / "classes.csv"):
        if file.is_file():
            with file.open(encoding="utf-8-sig", newline="") as stream:
                try:
                    named = {int(row["value"]): row["name"] for row in csv.DictReader(stream)}
                except (KeyError, ValueError) as error:
                    raise InputError(f"'{file}' has the columns value (a number) and name; got {error}") from None
            return {value: name for value, name in named.items() if 0 <= value < IGNORED}
    return {}
