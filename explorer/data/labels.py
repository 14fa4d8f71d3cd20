"""Labels of pictures that do not lie in one folder for each class: `read_labels` of a file, `as_classes` of values.

Enters: an `ImageSet` and a CSV file with the columns file and label; or numbers, or names. Leaves: the same pictures
with these labels; or labels and their classes.
"""

import csv
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from explorer.data.sets import ImageSet
from explorer.errors import InputError
from explorer.system.files import readable

MAX_CLASSES = 100_000
_DELIMITERS = (",", ";", "\t")  # Excel writes the latter two


def read_labels(images: ImageSet, file: str | os.PathLike) -> ImageSet:
    """The pictures with the labels of a CSV file.

    Args:
        file: UTF-8, with a header that names the columns "file" (as in `ImageSet.names`) and "label"; others are
            ignored, and so are lines about files that are not among the pictures. Commas, semicolons or tabs separate
            them, as in the header. Paths may be those of Windows or begin with "./", and leave out a folder that all
            pictures lie in.

    Raises:
        ValueError: no such columns, a picture without a line, without a label, or with two different labels.
        OSError: the file cannot be read.
    """
    lines = list(_lines(Path(file)))
    known = _known(file, lines, _spellings(images.names))
    missing = [name for name in images.names if name not in known]
    if missing:
        raise InputError(
            f"'{file}' does not fit these pictures: {len(missing)} of {len(images)} have no line, such as "
            f"'{missing[0]}'; it names files such as '{lines[0].file if lines else '(none)'}'"
        )
    labels = [known[name] for name in images.names]
    classes = tuple(sorted(set(labels)))
    return replace(images, labels=tuple(classes.index(label) for label in labels), classes=classes)


def as_classes(values: Sequence[object], names: Sequence[str] = ()) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    """Labels, and the names of their classes, of what was kept beside each picture: class numbers or names.

    Args:
        values: one a picture; None and numbers below 0 are none, and nothing but those gives no labels. True and
            False are the names of two classes.
        names: of the classes, where numbers have names.

    Raises:
        ValueError: some pictures have a label and others none, or labels are neither numbers nor names.
    """
    values = [str(value) if type(value) is bool else value for value in values]
    missing = sum(value is None or (type(value) is int and value < 0) for value in values)
    if missing == len(values):
        return None, ()
    if missing:
        raise InputError(f"{missing} of {len(values)} pictures have no label; label all or none")
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) == len(values):
        places = {name: place for place, name in enumerate(sorted(set(texts)))}
        return tuple(places[name] for name in texts), tuple(map(readable, places))
    numbers = [value for value in values if type(value) is int]
    if len(numbers) < len(values):
        other = next(value for value in values if type(value) is not int)
        raise InputError(f"expected class numbers or names as labels, the same for all pictures; got {other!r:.80}")
    last, count = max(numbers), len(names) or MAX_CLASSES
    if last >= count:
        raise InputError(f"expected class numbers below {count} as labels; got {last}")
    return tuple(numbers), tuple(map(readable, names)) or tuple(map(str, range(last + 1)))


def _spellings(names: tuple[str, ...]) -> dict[str, str]:
    """How a file may call the pictures -> their names; a picture's very name is always its own."""
    spellings = {_plain(name): name for name in names}
    if len({name.partition("/")[0] for name in names}) == 1 and "/" in names[0]:
        spellings = {plain.partition("/")[2]: name for plain, name in spellings.items()} | spellings
    return spellings | {name: name for name in names}


def _plain(name: str) -> str:
    """With one spelling for what Windows, macOS and shells write differently."""
    return str(PurePosixPath(unicodedata.normalize("NFC", name.strip()).replace("\\", "/")))


class _Line(NamedTuple):
    number: int
    file: str
    label: str  # empty where there is none
    more: list[str]  # values that no column is there for


def _known(file: str | os.PathLike, lines: list[_Line], spellings: dict[str, str]) -> dict[str, str]:
    """Picture -> label."""
    known: dict[str, str] = {}
    for line in lines:
        name = spellings.get(line.file) or spellings.get(_plain(line.file))
        if name is None:
            continue
        if problem := _problem(line):
            raise InputError(f"'{file}', line {line.number}: '{line.file}' {problem}")
        if known.setdefault(name, line.label) != line.label:
            raise InputError(f"'{file}' gives '{line.file}' two labels: {known[name]} and {line.label}")
    return known


def _problem(line: _Line) -> str | None:
    if not line.label:
        return "has no label; write one behind it, or take the picture away"
    if any(value.strip() for value in line.more):
        return "has more values than there are columns; put quotes around a value that holds a separator"
    if "\n" in line.label or "\r" in line.label:
        return "has a label of several lines; is there a quote that is not closed?"
    return None


def _lines(file: Path) -> Iterator[_Line]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            columns, delimiter = _header(text.readline())
            if columns.count("file") != 1 or columns.count("label") != 1:
                got = ", ".join(columns) or "none"
                raise InputError(f"'{file}': expected the columns file and label; got {got}")
            rows = csv.reader(text, delimiter=delimiter, skipinitialspace=True)
            for row in filter(None, rows):
                values = dict(zip(columns, row, strict=False))
                label = values.get("label", "").strip()
                yield _Line(rows.line_num + 1, values.get("file", ""), label, row[len(columns) :])
    except UnicodeDecodeError as error:
        raise InputError(
            f"'{file}' is no text in UTF-8; expected a CSV file with the columns file and label"
        ) from error
    except csv.Error as error:
        raise InputError(f"'{file}' is no CSV file ({error}); is there a quote that is not closed?") from error


def _header(line: str) -> tuple[list[str], str]:
    """The names of the columns, and what separates them: whatever shows the most of those that are needed."""

    def columns(delimiter: str) -> list[str]:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]

    delimiter = max(_DELIMITERS, key=lambda one: len({"file", "label"} & set(columns(one))))
    return columns(delimiter), delimiter
