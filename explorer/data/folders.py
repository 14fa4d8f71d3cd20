"""Pictures in folders: which there are, their splits, and a class for each folder.

Enters: a folder, or what was found in something like one. Leaves: an `ImageSet`.
Deliberately ignored: what a picture is called for being found (`explorer.data.picture_files`).
"""

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from explorer.data.image import SUFFIXES, Size, check_image, load_image
from explorer.data.picture_files import Found, search, told
from explorer.data.sets import Credit, ImageSet, Reader
from explorer.errors import InputError
from explorer.system.files import asset_path, readable


class SplitsError(InputError):
    """Train and test pictures lie beside each other, and one of them was not chosen.

    Attributes:
        splits: what they are called.
        training: the one to learn from.
    """

    def __init__(self, where: str, splits: Sequence[str]) -> None:
        self.splits = tuple(splits)
        self.training = max(splits, key=lambda name: name.lower().startswith("train"))
        super().__init__(
            f"{where} holds the splits {', '.join(splits)}, which are no classes; "
            f'choose one, such as split="{self.training}" (in a command: --split or --test-split {self.training})'
        )


def photo_set(size: Size) -> ImageSet:
    """The photos that come with the project, with who made them."""
    root = asset_path("photos")
    with (root / "ATTRIBUTION.csv").open(encoding="utf-8", newline="") as table:
        known = {row["file"]: Credit(row["author"], row["licence"], row["source"]) for row in csv.DictReader(table)}
    images = folder_set(root, size)
    classes = tuple(name.replace("_", " ") for name in images.classes)
    return replace(images, classes=classes, reader=Files(root, known))


def folder_set(
    root: Path, size: Size, split: str | None = None, within: Sequence[str | os.PathLike] | None = None
) -> ImageSet:
    """A folder of pictures, or of a folder for each class; raises as `of_split` and `arranged`.

    Args:
        within: links are followed no further than to these folders; None: wherever they lead.
    """
    root = root.resolve()
    where = f"the folder '{root}'"
    found = search(root, None if within is None else [Path(place) for place in within])
    return arranged(of_split(found, split, where), Files(root, {}), size, where)


@dataclass(frozen=True)
class Files(Reader):
    """A folder; keys are paths relative to it."""

    root: Path
    credits: dict[str, Credit]

    def load(self, key: str, size: Size) -> Float[Tensor, "3 height width"]:
        return load_image(self.root / key, size)

    def look(self, key: str) -> None:
        check_image(self.root / key)

    def raw(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def path(self, key: str, /) -> Path:
        return self.root / key

    def credit(self, key: str, /) -> Credit | None:
        return self.credits.get(key)


def of_split(found: Found, split: str | None, where: str) -> Found:
    """The part of a split; all of it where there are none.

    Raises:
        SplitsError: there are splits, and none was asked for.
        ValueError: there is no such split.
    """
    tops = sorted({name.partition("/")[0] for name in found.pictures if "/" in name})
    if split is not None and split in tops:
        return found.below(split)
    if split is not None:
        there = ", ".join(tops) or "none"
        raise InputError(f"{where} has no split '{split}'; its folders with pictures: {there}{_besides(found)}")
    if tops and all("/" in name for name in found.pictures):
        if all(map(is_split, tops)):
            raise SplitsError(where, tops)
        parts = [name.split("/") for name in found.pictures]
        if len(tops) == 1 and all(len(part) > 3 and is_split(part[1]) for part in parts):
            raise InputError(f"{where} holds splits one level below, in '{tops[0]}'; load that folder, with split=…")
    return found


def _besides(found: Found) -> str:
    return f"; left out: {told(found.left_out)}" if found.left_out else ""


def is_split(name: str) -> bool:
    """Whether a folder's name says that it is a split (train, val, test2017, …), where all beside it are, too."""
    return (
        re.fullmatch("(train|training|val|valid|validation|test|testing|dev|eval)(20[0-9]{2})?", name.lower())
        is not None
    )


def arranged(found: Found, reader: Reader, size: Size, where: str) -> ImageSet:
    """Flat, or a sub-folder per class: told by whether the names have folders in front.

    Raises:
        ValueError: there is no picture, or there are some beside folders of others.
    """
    if not found.pictures:
        known = ", ".join(SUFFIXES)
        raise InputError(f"{where} holds no picture; the names of pictures end in {known}{_besides(found)}")
    names = tuple(sorted(found.pictures, key=lambda name: name.split("/")))
    flat = [name for name in names if "/" not in name]
    if flat and len(flat) < len(names):
        raise InputError(
            f"{where} holds pictures ('{flat[0]}' and {len(flat) - 1} more) beside folders of pictures; "
            f"put each picture into the folder of its class, or all of them into one folder"
        )
    of_class = [] if flat else [name.split("/")[0] for name in names]
    classes = tuple(sorted(set(of_class)))
    labels = None if flat else tuple(classes.index(name) for name in of_class)
    keys = tuple(found.pictures[name] for name in names)
    return ImageSet(
        names=tuple(map(readable, names)),
        labels=labels,
        classes=tuple(map(readable, classes)),
        size=size,
        reader=reader,
        keys=keys,
        left_out=found.left_out,
    )
