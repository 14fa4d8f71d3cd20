"""Data sets of (picture, class number), as torch has them, and torchvision by name: `wrapped_set` and `fetched`.

Enters: a data set, or the name of one of torchvision's. Leaves: an `ImageSet`, whose pictures are asked for by number.
Deliberately ignored: data sets whose items are anything else.
"""

import inspect
import io
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from explorer.data.image import ImageError, Size, besides_pixels, load_image
from explorer.data.sets import Answer, ImageSet, Reader, without_broken
from explorer.errors import InputError
from explorer.system.files import cache_dir, readable

# Those whose items are (picture, class number) and that can be made from a name.
TORCHVISION = (
    *("Caltech101", "Caltech256", "CIFAR10", "CIFAR100", "Country211", "DTD", "EuroSAT", "FakeData", "FashionMNIST"),
    *("FGVCAircraft", "Flowers102", "Food101", "GTSRB", "Imagenette", "KMNIST", "MNIST", "OxfordIIITPet", "PCAM"),
    *("QMNIST", "RenderedSST2", "SEMEION", "STL10", "SUN397", "SVHN", "USPS"),
)


def fetched(name: str, split: str) -> Any:
    """One of `TORCHVISION`, downloaded to the cache where it is not there yet; the split "" is its own default.

    Raises:
        ValueError: it has no such split.
        ConnectionError: it could not be downloaded.
    """
    import torchvision.datasets  # late: it takes longer than torch itself

    kind = getattr(torchvision.datasets, name)
    parameters = inspect.signature(kind).parameters
    root = cache_dir() / "datasets"
    options: dict[str, object] = {"root": root, "download": True} if "root" in parameters else {}
    try:
        if options:
            root.mkdir(parents=True, exist_ok=True)
        return kind(**options, **_split_option(kind, parameters, split))
    except (OSError, RuntimeError) as error:
        raise ConnectionError(
            f"{kind.__name__} could not be fetched to '{root}' ({error}); check the connection, or put its files there"
        ) from error


def _split_option(kind: type, parameters: Iterable[str], split: str) -> dict[str, object]:
    """torchvision says train=True or split="train", as the case may be; without a split, its own default is taken."""
    if not split:
        return {}
    if "split" in parameters:
        return {"split": split}
    if "train" in parameters:
        if split in ("train", "test"):
            return {"train": split == "train"}
        raise InputError(f"{kind.__name__} has the splits 'train' and 'test'; got '{split}'")
    raise InputError(f"{kind.__name__} has no splits; leave ':{split}' out")


def wrapped_set(dataset: Any, size: Size, skip: bool) -> ImageSet:
    """The pictures of a data set, with its own class numbers and, where it has them, names of classes.

    Args:
        skip: whether what cannot be read is left out, after each picture was decoded once.

    Raises:
        ValueError: it is empty, or its items are something else, or some are labelled and others not.
        ImageError: a picture that is asked for a label cannot be had.
    """
    if len(dataset) == 0:
        raise InputError(f"the data set {type(dataset).__name__} is empty; give one that holds pictures")
    keys = tuple(range(len(dataset)))
    digits = len(str(len(keys) - 1))
    names = tuple(f"{key:0{digits}d}" for key in keys)
    reader = Wrapped(dataset)
    images = ImageSet(names=names, labels=None, classes=(), size=size, reader=reader, keys=keys)
    if skip:
        images = without_broken(images)
    labels = _labels(reader, images.keys)
    return replace(images, labels=labels, classes=_classes(dataset, labels))


@dataclass(frozen=True, eq=False)
class Wrapped(Reader):
    """A data set of (picture, class number); keys are its indices."""

    dataset: Any

    def __eq__(self, other: object) -> bool:  # two lists of tensors cannot be compared
        return isinstance(other, Wrapped) and self.dataset is other.dataset

    def load(self, key: int, size: Size) -> Float[Tensor, "3 height width"]:
        picture = self.item(key)[0]
        try:
            return load_image(picture, size)
        except ImageError as error:
            raise ImageError(f"{self._name(key)}: {error}") from error

    def each(self, task: Callable[[Any], Answer], keys: Sequence[Any]) -> list[Answer]:
        """One after the other: whether somebody's data set may be asked by several threads is not known."""
        return [task(key) for key in keys]

    def raw(self, key: int) -> bytes:
        """The picture's mode and values, and what else decides how it looks; there is no file."""
        picture = self.item(key)[0]
        mode = picture.mode if isinstance(picture, Image.Image) else ""
        stream = io.BytesIO(mode.encode())
        stream.seek(0, os.SEEK_END)
        with self._named(key):  # PIL images may be decoded only now
            values = np.asarray(picture)
            besides = besides_pixels(picture) if isinstance(picture, Image.Image) else b""
        np.save(stream, values, allow_pickle=False)
        return stream.getvalue() + besides

    def item(self, key: int) -> tuple[Any, Any]:
        """Picture and label."""
        with self._named(key):
            item = self.dataset[key]
        return _pair(item)

    @contextmanager
    def _named(self, key: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # data sets that decode hand on whatever their decoder raises
            raise ImageError(f"{self._name(key)} cannot be had ({type(error).__name__}: {error})") from error

    def _name(self, key: int) -> str:
        return f"picture {key} of {type(self.dataset).__name__}"


def _pair(item: Any) -> tuple[Any, Any]:
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return item[0], item[1]
    raise InputError(f"expected a data set whose items are (picture, class number); got {type(item).__name__}")


def _labels(reader: Wrapped, keys: Sequence[Any]) -> tuple[int, ...] | None:
    """From the data set's own list where it agrees with what it hands out; else every picture is decoded once."""
    ends = {key: _label(reader.item(key)[1]) for key in (keys[0], keys[-1])}
    for listed in _lists(reader.dataset):
        if all(listed[key] == label for key, label in ends.items()):
            return _known([listed[key] for key in keys])
    return _known([_label(reader.item(key)[1]) for key in keys])


def _lists(dataset: Any) -> Iterator[list[int | None]]:
    """What a data set lists as its labels; of a part, what the whole one lists of it."""
    if isinstance(dataset, Subset):
        yield from ([listed[index] for index in dataset.indices] for listed in _lists(dataset.dataset))
    elif getattr(dataset, "target_transform", None) is None:
        listings = (
            _numbers(getattr(dataset, name, None), len(dataset)) for name in ("targets", "labels", "_labels", "y")
        )
        yield from (listed for listed in listings if listed is not None)


def _numbers(listed: Any, length: int) -> list[int | None] | None:
    """The labels in a list of them; None for anything else, such as a list of names."""
    try:
        if isinstance(listed, (list, tuple, np.ndarray, Tensor)) and len(listed) == length:
            return [_label(value) for value in listed]
    except (TypeError, ValueError):  # a single number has no length
        pass
    return None


def _label(value: Any) -> int | None:
    if value is None:
        return None
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"expected class numbers as labels; got {type(value).__name__}") from None


def _known(labels: list[int | None]) -> tuple[int, ...] | None:
    """None where nothing is labelled, which STL10 writes as -1."""
    numbers = tuple(label for label in labels if label is not None and label >= 0)
    if numbers and len(numbers) < len(labels):
        raise InputError(f"{len(labels) - len(numbers)} of {len(labels)} pictures have no label; label all or none")
    return numbers or None


def _classes(dataset: Any, labels: tuple[int, ...] | None) -> tuple[str, ...]:
    if labels is None:
        return ()
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    for name in ("classes", "categories"):
        listed = getattr(dataset, name, None)
        if isinstance(listed, (list, tuple)) and len(listed) > max(labels):
            return tuple(readable(str(value)) for value in listed)
    return tuple(str(number) for number in range(max(labels) + 1))
