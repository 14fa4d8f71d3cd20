"""Labels from a file, for pictures that do not lie in one folder for each class: `read_labels`.

Enters: an `ImageSet` and a CSV file with the columns file and label. Leaves: the same pictures with these labels.
"""

import csv
import os
from dataclasses import replace
from pathlib import Path

from explorer.data import ImageSet


def read_labels(images: ImageSet, file: str | os.PathLike) -> ImageSet:
    """The pictures with the labels of a CSV file.

    Args:
        file: UTF-8, with a header that names the columns "file" (as in `ImageSet.names`) and "label"; others are
            ignored, and so are lines about files that are not among the pictures.

    Raises:
        ValueError: no such columns, a picture without a line, or with two different labels.
        OSError: the file cannot be read.
    """
    known = _lines(Path(file))
    missing = [name for name in images.names if name not in known]
    if missing:
        raise ValueError(
            f"'{file}' does not fit these pictures: {len(missing)} of {len(images)} have no line, such as "
            f"'{missing[0]}'; it names files such as '{next(iter(known), '(none)')}'"
        )
    labels = [known[name] for name in images.names]
    classes = tuple(sorted(set(labels)))
    return replace(images, labels=tuple(classes.index(label) for label in labels), classes=classes)


def _lines(file: Path) -> dict[str, str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"'{file}' is no text in UTF-8; expected a CSV file with the columns file and label"
        ) from error
    rows = csv.DictReader(text.splitlines())
    if not {"file", "label"} <= set(rows.fieldnames or ()):
        raise ValueError(f"'{file}': expected the columns file and label; got {', '.join(rows.fieldnames or ['none'])}")
    known: dict[str, str] = {}
    for row in rows:
        if known.setdefault(row["file"], row["label"]) != row["label"]:
            raise ValueError(f"'{file}' gives '{row['file']}' two labels: {known[row['file']]} and {row['label']}")
    return known
