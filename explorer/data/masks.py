"""Pictures with a class for each pixel: `load_segmented`.

Enters: a folder with images/, masks/ and classes.csv. Leaves: a `SegmentedSet`, whose masks are cut as its pictures
are.
"""

import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from explorer.data.image import ImageError, Size, crop_box, upright_size
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
        `IGNORED` where it is none of `classes`.

        Raises:
            ImageError: the file is damaged, holds no class numbers, or is no mask of a picture of this shape.
        """
        path = self.masks[index]
        values = _values(path)
        cols, rows = values.size
        shown = upright_size(self.images.path(index))  # type: ignore[arg-type]  # they are files
        if (rows, cols) != shown:
            raise ImageError(
                f"'{path}' has {rows} rows and {cols} columns of pixels, and its picture {shown[0]} and {shown[1]}: a "
                "mask lies over the picture as it is shown, after its EXIF orientation has turned it"
            )
        box, (height, width) = crop_box(rows, cols, self.images.size)
        cut = np.asarray(values.resize((width, height), Image.Resampling.NEAREST, box=box)).astype(np.uint8)
        return np.where(np.isin(cut, [*self.classes]), cut, np.uint8(IGNORED))

    def resized(self, size: Size) -> "SegmentedSet":
        """The same pictures and masks, cut to another size when they are asked for."""
        return replace(self, images=self.images.resized(size))


def expect_segmented(*given: object) -> None:
    """Raises ValueError unless each of them is a `SegmentedSet`."""
    for pictures in given:
        if not isinstance(pictures, SegmentedSet):
            raise InputError(
                f"expected pictures with a class for each pixel, as load_segmented(folder) gives them; got "
                f"{type(pictures).__name__}"
            )


def load_segmented(folder: str | os.PathLike, size: Size = None, limit: int | None = None) -> SegmentedSet:
    """A folder of pictures with a class for each pixel.

    Args:
        folder: it holds images/ and masks/, whose files have the same names but for their endings; masks are PNG files
            of one channel, whose values are class numbers, and 255 for none. classes.csv, with the columns value and
            name, in it or beside it, says what they mean; without it every value below 255 is a class of that number.
        size: as in `load_images`.
        limit: at most so many pictures.

    Raises:
        ValueError: a folder or a mask is missing, or classes.csv has other columns or values.
    """
    folder = Path(folder)
    for name in ("images", "masks"):
        if not (folder / name).is_dir():
            raise InputError(f"'{folder}' holds no {name}/: expected images/ and masks/, with files of the same names")
    images = load_images(folder / "images", size, limit)
    masks = {
        _stem(file.relative_to(folder / "masks")): file for file in sorted((folder / "masks").rglob("*.[pP][nN][gG]"))
    }
    stems = [_stem(key) for key in images.keys]
    if missing := [key for key, stem in zip(images.keys, stems, strict=True) if stem not in masks]:
        raise InputError(
            f"{len(missing)} of {len(images)} pictures have no mask, such as '{missing[0]}': expected "
            f"'{folder / 'masks' / _stem(missing[0])}.png'"
        )
    if len(set(stems)) < len(stems):
        raise InputError(
            f"several pictures in '{folder / 'images'}' have one name but for their endings, and so one mask"
        )
    return SegmentedSet(
        images=images,
        masks=tuple(masks[stem] for stem in stems),
        classes=_classes(folder),
    )


def _stem(key: object) -> str:
    return PurePath(str(key)).with_suffix("").as_posix()


def _values(path: Path) -> Image.Image:
    """A mask as it is stored; of a palette, the numbers and not the colours; of fewer than 8 bits, not stretched."""
    try:
        with path.open("rb") as stream:
            bits = stream.read(25)[-1:]  # per value: PNG, 11.2.1
            file = Image.open(stream, formats=["PNG"])
            file.load()
            if file.mode not in _ONE_CHANNEL:
                raise ImageError(
                    f"'{path}' has values of Pillow's mode {file.mode}; a mask has one channel of 8 bits or fewer "
                    f"({', '.join(_ONE_CHANNEL)}): turn colours, or larger values, into class numbers below {IGNORED}"
                )
            top = 2 ** bits[0] - 1  # Pillow makes it 255
            return file.point([value * top // 255 for value in range(256)]) if file.mode == "L" else file
    except ImageError:
        raise
    except Exception as error:  # whatever Pillow and its decoders raise, as in `explorer.data.image`
        raise ImageError(
            f"'{path}' cannot be read as a mask ({error}); it is damaged or cut short: get it again"
        ) from error


def _classes(folder: Path) -> dict[int, str]:
    for file in (folder / "classes.csv", folder.parent / "classes.csv"):
        if file.is_file():
            return _named(file)
    return {value: str(value) for value in range(IGNORED)}


def _named(file: Path) -> dict[int, str]:
    """Value -> name, but for `IGNORED`."""
    expected = f"'{file}' has the columns value (a class number from 0 to {IGNORED}) and name"
    with file.open(encoding="utf-8-sig", newline="") as stream:
        try:
            named = {int(row["value"]): str(row["name"]) for row in csv.DictReader(stream)}
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{expected}; got {error}") from None
    if not named.keys() - {IGNORED} or not named.keys() <= {*range(IGNORED + 1)}:
        raise InputError(f"{expected}; got the values {sorted(named) or 'of no class'}")
    return {value: name for value, name in named.items() if value != IGNORED}
