"""Tables of Hugging Face `datasets` as pictures: `table_set`.

Enters: a `datasets.Dataset`, and which columns hold pictures and labels. Leaves: an `ImageSet`, whose pictures are read
row by row as they are stored, and decoded by `load_image`.
Deliberately ignored: all other columns. `datasets` is not imported here: whoever has a table has done so.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from explorer.data.image import ImageError, Size, check_image, load_image
from explorer.data.labels import as_classes
from explorer.data.sets import ImageSet, Reader
from explorer.errors import InputError, unknown

PICTURES = ("image", "img", "picture")
LABELS = ("label", "labels")
"""What columns are called that are taken unasked; the first that is there."""
WITNESSES = 16
_TABLES = ("arrow_dataset.Dataset", "dataset_dict.DatasetDict")
_STREAMS = ("iterable_dataset.IterableDataset", "dataset_dict.IterableDatasetDict")
_INDICES = ("int", "uint", "bool", "string", "large_string")  # how the types of values begin that may be labels


def is_table(source: object) -> bool:
    """Whether it is a data set of Hugging Face `datasets`, a dictionary of its splits, or a stream of them."""
    return _is(source, _TABLES + _STREAMS)


def is_streamed(source: object) -> bool:
    """Whether it is a `datasets.IterableDataset`, or a dictionary of them."""
    return _is(source, _STREAMS)


def table_set(table: Any, size: Size, image: str | None = None, label: str | None = None) -> ImageSet:
    """The pictures of a `datasets.Dataset`, named by their rows.

    Args:
        image, label: names of columns, as in `load_images`.

    Raises:
        ValueError: there is no such column, or several may be meant, or labels are neither numbers nor names, or the
            data set is empty, or has a transform of its own.
    """
    if table.format["type"] == "custom":
        raise InputError(
            "the data set has a transform of its own, which would not be applied, for pictures are read as they are "
            "stored; give it as dataset.with_format(None)"
        )
    if not len(table):
        raise InputError("the data set is empty; give one that holds pictures")
    features = table.features
    pictures = _picture_column(features, image)
    named = _label_column(features, label)
    values = [None] * len(table) if named is None else _column(table, named)[:]
    labels, classes = as_classes(values, getattr(features.get(named), "names", ()))
    keys = tuple(range(len(table)))
    digits = len(str(len(keys) - 1))
    names = tuple(f"{key:0{digits}d}" for key in keys)
    return ImageSet(names=names, labels=labels, classes=classes, size=size, reader=_rows(table, pictures), keys=keys)


@dataclass(frozen=True, eq=False)
class _Rows(Reader):
    """A column; keys are the numbers of its rows.

    Attributes:
        table: what was given; the same one makes two readers equal.
        column: of undecoded pictures alone.
        name: what the column is called.
        dtype: of its values, where they are arrays.
    """

    table: Any
    column: Any
    name: str
    dtype: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Rows) and self.table is other.table and self.name == other.name

    def load(self, key: int, size: Size) -> Float[Tensor, "3 height width"]:
        with self._named(key):
            return load_image(self._stored(key), size)

    def look(self, key: int) -> None:
        with self._named(key):
            stored = self._stored(key)
            if not isinstance(stored, np.ndarray):
                check_image(stored)

    def raw(self, key: int) -> bytes:
        """The file's bytes, as in a folder; of an array its type, shape and values."""
        with self._named(key):
            stored = self._stored(key)
        if isinstance(stored, np.ndarray):
            return f"{stored.dtype.str}{stored.shape}".encode() + stored.tobytes()
        return stored.read_bytes() if isinstance(stored, Path) else stored

    def witness(self, keys: Sequence[int], /) -> str:
        """SHA-256 (hex) of WITNESSES rows, spread evenly: rows that are shuffled, or others, have another."""
        places = np.linspace(0, len(keys) - 1, WITNESSES).round().astype(int)
        return sha256(b"".join(sha256(self.raw(keys[place])).digest() for place in places)).hexdigest()

    def path(self, key: int, /) -> Path | None:
        stored = self._stored(key)
        return stored if isinstance(stored, Path) else None

    def _stored(self, key: int) -> bytes | Path | np.ndarray:
        """A file's bytes where the table holds them, else its path; or an array."""
        value = self.column[key][self.name]
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return value
        if isinstance(value, str) and "://" not in value:
            return Path(value)
        if isinstance(value, list):
            return np.asarray(value, dtype=self.dtype)
        got = "nothing" if value is None else f"'{value:.80}'" if isinstance(value, str) else type(value).__name__
        raise ImageError(f"expected the bytes of a file, its path on this machine, or an array; got {got}")

    @contextmanager
    def _named(self, key: int) -> Iterator[None]:
        try:
            yield
        except (ImageError, ValueError, OSError) as error:  # rows of arrays may differ in length
            raise ImageError(f"row {key} of the column '{self.name}': {error}") from error


def _rows(table: Any, name: str) -> _Rows:
    column, feature = _column(table, name, whole=False), table.features[name]
    if _is_picture(feature):
        column = column.cast_column(name, type(feature)(decode=False))
    while hasattr(feature, "feature"):  # lists of lists of values
        feature = feature.feature
    return _Rows(table, column, name, getattr(feature, "dtype", ""))


def _column(table: Any, name: str, whole: bool = True) -> Any:
    """Its values as they are stored, or a table of it alone."""
    alone = table.with_format(None).select_columns([name])
    return alone[:][name] if whole else alone


def _picture_column(features: Mapping[str, Any], asked: str | None) -> str:
    if asked is not None:
        return _known(features, asked)
    pictures = [name for name, feature in features.items() if _is_picture(feature)]
    if len(pictures) == 1:
        return pictures[0]
    for name in PICTURES:
        if name in (pictures or features):
            return name
    there = "several columns of pictures" if pictures else "no column that is known to hold pictures"
    raise InputError(f"the data set has {there}; name one by image=…; its columns: {', '.join(pictures or features)}")


def _label_column(features: Mapping[str, Any], asked: str | None) -> str | None:
    if asked is not None:
        return _known(features, asked)
    for name in LABELS:
        if str(getattr(features.get(name), "dtype", "")).startswith(_INDICES):
            return name
    classes = [name for name, feature in features.items() if hasattr(feature, "names")]
    if len(classes) > 1:
        raise InputError(f"the data set has several columns of classes; name one by label=…: {', '.join(classes)}")
    return classes[0] if classes else None


def _known(features: Mapping[str, Any], asked: str) -> str:
    if asked not in features:
        raise unknown("column", asked, features)
    return asked


def _is_picture(feature: object) -> bool:
    return _is(feature, ("features.image.Image",))


def _is(thing: object, kinds: tuple[str, ...]) -> bool:
    """Whether it is of a class of `datasets`, told by name; there are other packages that are called so."""
    names = {f"datasets.{kind}" for kind in kinds}
    return any(f"{base.__module__}.{base.__qualname__}" in names for base in type(thing).__mro__)
