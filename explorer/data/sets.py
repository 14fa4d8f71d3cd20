"""A set of pictures, decoded when asked for: `ImageSet`.

Enters: what a source says of its pictures. Leaves: an immutable, picklable, map-style torch `Dataset` of (float RGB in
[0, 1], label or None).
Deliberately ignored: where pictures come from (`explorer.data.sources`), augmentation, normalisation and batching
(the backbone and the training loop do these).
"""

import hashlib
import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, SupportsIndex, TypeAlias, TypeVar, overload, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from explorer.data.image import ImageError, Size
from explorer.data.picture_files import LeftOut
from explorer.errors import InputError, seed_number, whole_number


@runtime_checkable
class PictureData(Protocol):
    """Anything that hands out (picture, class number) by index: torchvision's data sets, TensorDataset, a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


Item: TypeAlias = tuple[Float[Tensor, "3 height width"], int | None]
OnError = Literal["raise", "skip"]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Credit:
    """Who made a photo, under which licence it may be used, and the page that says so."""

    author: str
    licence: str
    source: str


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ImageSet(Dataset):
    """Pictures and their labels. Made by `load_images`.

    Attributes:
        names: one per picture, unique: the file's path inside the folder or zip, with forward slashes.
        labels: one per picture, an index into `classes`; None for pictures without labels.
        classes: names of the classes; a subset keeps all of them, so that labels keep their meaning.
        size: pixels a side, or (height, width), or None where each picture keeps its own.
        left_out: what the folder or zip holds beside these that looks like a picture, and why it was not taken in.
        skipped: name of each picture that `load_images(…, on_error="skip")` left out -> why; a subset keeps all.
        clean: where these pictures are damaged already, `load_images(…, clean=…)`: their clean twins, in this order.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...]
    size: Size
    reader: "Reader"
    keys: tuple[Any, ...]  # what the reader calls each picture
    left_out: tuple[LeftOut, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    clean: "ImageSet | None" = None

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        skipped = f" ({len(self.skipped)} more skipped)" if self.skipped else ""
        twins = "" if self.clean is None else " with clean twins"
        return f"ImageSet({len(self)} pictures{twins}{skipped}, {len(self.classes)} classes, size={self.size})"

    def __iter__(self) -> Iterator[Item]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: SupportsIndex) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> "ImageSet": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "Item | ImageSet":
        """Picture and label; or, for a slice, a smaller set.

        Raises:
            ImageError: the picture is damaged; the message names it.
        """
        if isinstance(index, slice):
            return self.select(range(len(self))[index])
        position = self._position(index)
        return self.reader.load(self.keys[position], self.size), self._label(position)

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Item]:
        """Several pictures and their labels, decoded side by side: what torch's `DataLoader` asks for a batch.

        Raises:
            ImageError: a picture is damaged; the message names the first one.
        """
        positions = [self._position(index) for index in indices]
        images = self.reader.load_many([self.keys[position] for position in positions], self.size)
        return [(image, self._label(position)) for image, position in zip(images, positions, strict=True)]

    def select(self, indices: Iterable[SupportsIndex]) -> "ImageSet":
        """These pictures, in this order.

        Raises:
            ValueError: a picture is named twice, or by something that is no whole number.
            IndexError: there is no such picture.
        """
        kept = [self._position(index) for index in _plain(indices)]
        if len(set(kept)) < len(kept):
            raise InputError("a picture was selected twice; every index may occur once")
        return replace(
            self,
            names=tuple(self.names[i] for i in kept),
            labels=None if self.labels is None else tuple(self.labels[i] for i in kept),
            keys=tuple(self.keys[i] for i in kept),
            clean=self.clean and self.clean.select(kept),
        )

    def subset(self, per_class: int | None = None, fraction: float | None = None, seed: int = 0) -> "ImageSet":
        """A seeded choice, balanced over classes, in the order of this set. Give exactly one of the first two.

        With the same seed a larger choice contains the smaller ones.

        Args:
            per_class: so many pictures of each class.
            fraction: this part of each class, in (0, 1], rounded, at least one picture.

        Raises:
            ValueError: not exactly one was given, or it or the seed is out of range, or a class has fewer pictures.
        """
        if (per_class is None) == (fraction is None):
            raise InputError("give either per_class or fraction")
        seed = seed_number(seed)
        if per_class is not None:
            self._check_per_class(per_class)
        if fraction is not None and not 0 < fraction <= 1:
            raise InputError(f"fraction is a part of each class, above 0 and at most 1; got {fraction}")
        chosen = []
        for label, members in self._groups().items():
            count = per_class if fraction is None else max(1, round(fraction * len(members)))
            chosen.extend(np.random.default_rng((seed, label)).permutation(members)[:count].tolist())
        return self.select(sorted(chosen))

    def split(self, fraction: float, seed: int = 0) -> "tuple[ImageSet, ImageSet]":
        """`subset(fraction=…)`, and all the other pictures.

        Raises:
            ValueError: the fraction is out of range, or nothing would be left for the second set.
        """
        first = self.subset(fraction=fraction, seed=seed)
        taken = set(first.keys)
        rest = [position for position, key in enumerate(self.keys) if key not in taken]
        if not rest:
            raise InputError(f"fraction={fraction} takes all {len(self)} pictures, and leaves none for the second set")
        return first, self.select(rest)

    def resized(self, size: Size) -> "ImageSet":
        """The same pictures, cut to another size when they are asked for."""
        if _canonical(size) == _canonical(self.size):
            return self
        return replace(self, size=size, clean=self.clean and self.clean.resized(size))

    def stack(self, indices: Iterable[SupportsIndex] | None = None) -> Float[Tensor, "batch 3 height width"]:
        """All pictures, or these, as one batch.

        Raises:
            ValueError: there are none, or (with size=None) they differ in size.
        """
        images = [image for image, _ in self.__getitems__(range(len(self)) if indices is None else _plain(indices))]
        shapes = {tuple(image.shape[1:]) for image in images}
        if len(shapes) != 1:
            raise InputError(
                f"pictures of one size can be stacked; got {sorted(shapes) or 'none'}: load them with a size"
            )
        return torch.stack(images)

    def check(self) -> None:
        """Look at the head of each file, before work that would end at a broken one hours later.

        That takes well under a millisecond a picture. What is damaged further on is met when it is decoded, and so is
        whatever a data set hands out.

        Raises:
            ImageError: a file is no picture, or too large; the message names the first and counts the others.
        """
        if self.clean is not None:
            self.clean.check()
        if self._broken:
            others = f" ({len(self._broken) - 1} more of {len(self)} are broken)" if len(self._broken) > 1 else ""
            raise ImageError(f"{self._broken[0]}{others}")

    @cached_property
    def _broken(self) -> list[str]:
        return [error for error in self.reader.errors(self.reader.look, self.keys) if error is not None]

    def path(self, index: SupportsIndex) -> Path | None:
        """The picture's file; None where it has none of its own (zip files, data sets)."""
        return self.reader.path(self.keys[self._position(index)])

    def credit(self, index: SupportsIndex) -> Credit | None:
        """Author, licence and source, known for the photos that come with the project; else None."""
        return self.reader.credit(self.keys[self._position(index)])

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the undecoded pictures in their order and of the size: a key for caches of features.

        Neither names nor labels nor the place where the pictures lie count.
        """
        total = hashlib.sha256(repr(_canonical(self.size)).encode())
        for key in self.keys:
            total.update(hashlib.sha256(self.reader.raw(key)).digest())
        return total.hexdigest()

    def _label(self, position: int) -> int | None:
        return None if self.labels is None else self.labels[position]

    def _position(self, index: SupportsIndex) -> int:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"there is no picture {position}; this set has {len(self)}")
        return position % len(self)

    def _check_per_class(self, per_class: int) -> None:
        if self.labels is None:
            raise InputError("per_class needs labels, and these pictures have none; use fraction, or select()")
        whole_number("per_class", per_class, 1)
        short = {self.classes[k]: len(v) for k, v in self._groups().items() if len(v) < per_class}
        if short:
            raise InputError(f"per_class={per_class} is more than there are of {short}; take fewer, or use fraction")

    def _groups(self) -> dict[int, list[int]]:
        """Positions by label; all of them under 0 where there are no labels."""
        groups = defaultdict(list)
        for position, label in enumerate(self.labels or (0,) * len(self)):
            groups[label].append(position)
        return dict(sorted(groups.items()))


def _canonical(size: Size) -> tuple[int, int] | None:
    """224 and (224, 224) are the same size."""
    return size if isinstance(size, tuple) or size is None else (size, size)


def _plain(indices: Iterable[SupportsIndex]) -> list[int]:
    """Whole numbers as Python's; masks, whose True would count as picture 1, are refused."""
    values = indices.tolist() if isinstance(indices, (Tensor, np.ndarray)) else list(indices)
    if any(isinstance(value, (bool, np.bool_, float)) for value in values):
        raise InputError("pictures are selected by whole numbers, not by a mask; use mask.nonzero()")
    return [operator.index(value) for value in values]


def in_turn(labels: Sequence[int], limit: int) -> list[int]:
    """At most `limit` positions: the first of each class, then the second of each, and so on; in ascending order."""
    limit = whole_number("limit", limit, 1)
    seen: Counter[int] = Counter()
    rounds = []
    for position, label in enumerate(labels):
        rounds.append((seen[label], label, position))
        seen[label] += 1
    return sorted(position for _, _, position in sorted(rounds)[:limit])


class Reader:
    """One place that pictures come from. A key is what it calls a picture."""

    def load(self, key: Any, size: Size) -> Float[Tensor, "3 height width"]:
        raise NotImplementedError

    def load_many(self, keys: Sequence[Any], size: Size) -> list[Float[Tensor, "3 height width"]]:
        return self.each(lambda key: self.load(key, size), keys)

    def look(self, key: Any) -> None:
        """Raise ImageError where the head of a file says already that it cannot be decoded."""

    def errors(self, task: Callable[[Any], object], keys: Sequence[Any]) -> list[str | None]:
        """What is wrong with each picture; None where the task succeeds."""

        def error_of(key: Any) -> str | None:
            try:
                task(key)
            except ImageError as error:
                return str(error)
            return None

        return self.each(error_of, keys)

    def each(self, task: Callable[[Any], Answer], keys: Sequence[Any]) -> list[Answer]:
        """In threads, for Pillow lets others run while it decodes: as many as torch may use here, and at most 8, since
        each holds a whole picture."""
        with ThreadPoolExecutor(min(torch.get_num_threads(), 8)) as pool:
            return list(pool.map(task, keys))

    def raw(self, key: Any) -> bytes:
        """What the picture is made of, undecoded."""
        raise NotImplementedError

    def witness(self, _keys: Sequence[Any], /) -> str | None:
        """By what a run that is resumed knows the pictures again, where names do not say which they are."""
        return None

    def path(self, _key: Any, /) -> Path | None:
        return None

    def credit(self, _key: Any, /) -> Credit | None:
        return None


def without_broken(images: ImageSet) -> ImageSet:
    """Those that can be decoded: each is, once, for what is cut short has a sound head."""
    errors = images.reader.errors(lambda key: images.reader.load(key, images.size), images.keys)
    skipped = {name: error for name, error in zip(images.names, errors, strict=True) if error is not None}
    if len(skipped) == len(images):
        raise InputError(f"none of {len(images)} pictures can be read: {errors[0]}")
    whole = images.select(place for place, error in enumerate(errors) if error is None)
    return replace(whole, skipped=skipped)
