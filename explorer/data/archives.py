"""Pictures in a zip file, which is read in memory and never extracted: `zip_set`.

Enters: a zip file, which anybody may have made. Leaves: an `ImageSet`.
Deliberately ignored: what makes a name a split or a class (`explorer.data.folders`).
"""

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from jaxtyping import Float
from torch import Tensor

from explorer.data.folders import arranged, of_split
from explorer.data.image import ImageError, Size, check_image, load_image
from explorer.data.picture_files import ESCAPING, HEAD_BYTES, LINK, THUMBNAILS, THUMBS, Found, is_picture, passed_over
from explorer.data.sets import ImageSet, Reader
from explorer.errors import InputError

MAX_ZIP_PICTURES = 10_000
MAX_ZIP_BYTES = 50_000_000
"""A picture in a zip may not unpack to more bytes than this; measured while unpacking, whatever the zip declares."""
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)


def zip_set(path: Path, size: Size, split: str | None) -> ImageSet:
    """The pictures in a zip file, arranged as those of a folder are.

    Raises:
        SplitsError: there are splits, and none was asked for.
        ValueError: it is no zip file, or a damaged, encrypted or too large one, or holds no such split or no picture.
    """
    archive = _Archive(path.resolve())
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        raise InputError(f"'{path}' is neither a folder nor a zip file; load_image() reads a single picture")
    try:
        entries = archive.entries()
    except _ZIP_ERRORS as error:
        raise InputError(
            f"'{path}' is no readable zip file ({error}); it is damaged or cut short: make it again"
        ) from error
    found = Found()
    for entry in entries:
        name = _inner_name(entry, found)
        if name is not None and found.add(name, entry.filename, partial(archive.head, entry)):
            _check_entry(entry, path)
    if len(found.pictures) > MAX_ZIP_PICTURES:
        raise InputError(
            f"'{path}' holds {len(found.pictures)} pictures; a zip may hold {MAX_ZIP_PICTURES}: unpack it to a folder"
        )
    where = f"the zip file '{path}'"
    if split is None or not any(name.startswith(f"{split}/") for name in found.pictures):
        found.pictures = _without_common_top(found.pictures)
    return arranged(of_split(found, split, where), archive, size, where)


class _Archive(Reader):
    """A zip file; keys are its entries' names. Each process opens it for itself: a forked file position is shared."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"file": self.file, "_opened": None}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Archive) and self.file == other.file

    def load(self, key: str, size: Size) -> Float[Tensor, "3 height width"]:
        with self._named(key):
            return load_image(self.raw(key), size)

    def look(self, key: str) -> None:
        with self._named(key):
            check_image(self.raw(key))

    def raw(self, key: str) -> bytes:
        """The unpacked bytes; never more than MAX_ZIP_BYTES of them are unpacked."""
        try:
            with self._open().open(key) as entry:
                data = entry.read(MAX_ZIP_BYTES + 1)
        except _ZIP_ERRORS as error:
            raise ImageError(f"'{key}' in '{self.file}' cannot be unpacked ({error}); make the zip again") from error
        if len(data) > MAX_ZIP_BYTES:
            raise ImageError(
                f"'{key}' in '{self.file}' unpacks to more than {MAX_ZIP_BYTES // 10**6} MB; make it smaller"
            )
        return data

    def head(self, entry: zipfile.ZipInfo) -> bytes:
        """The first bytes of an entry; none where it cannot be unpacked."""
        try:
            _check_entry(entry, self.file)
            with self._open().open(entry) as opened:
                return opened.read(HEAD_BYTES)
        except _ZIP_ERRORS:
            return b""

    @contextmanager
    def _named(self, key: str) -> Iterator[None]:
        try:
            yield
        except ImageError as error:
            raise ImageError(f"'{key}' in '{self.file}': {error}") from error

    def entries(self) -> list[zipfile.ZipInfo]:
        return self._open().infolist()

    def _open(self) -> zipfile.ZipFile:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), zipfile.ZipFile(self.file)
        return self._opened[1]


def _inner_name(entry: zipfile.ZipInfo, found: Found) -> str | None:
    """The file's path inside the zip; None for folders and what is passed over, and for what is left out, which is
    noted: links, and names that lead out of the zip.
    """
    parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
    name = "/".join(parts)
    if entry.is_dir() or not parts:
        return None
    if ".." in parts or parts[0].startswith("/") or re.fullmatch("[A-Za-z]:", parts[0]):
        if is_picture(name):
            found.leave_out(entry.filename, ESCAPING)
        return None
    if any(map(passed_over, parts)):
        return None
    for depth, part in enumerate(parts[:-1], 1):
        if part.lower() in THUMBNAILS:
            found.leave_out("/".join(parts[:depth]), THUMBS)
            return None
    if stat.S_ISLNK(entry.external_attr >> 16):
        found.leave_out(name, LINK)
        return None
    return name


def _check_entry(entry: zipfile.ZipInfo, path: Path) -> None:
    if entry.flag_bits & 1:
        raise InputError(f"'{path}' is encrypted; make a zip without a password")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # only these unpack in bounded memory
        raise InputError(
            f"'{path}' is compressed in an unusual way (only 'deflate' is read); make an ordinary zip of it"
        )


def _without_common_top(found: dict[str, str]) -> dict[str, str]:
    """Without the one folder in which all class folders lie. One that holds pictures itself is a class, as it would be
    in a folder; unless there are several folders beside the pictures, of which nobody knows whether they are classes.
    """
    parts = [name.split("/") for name in found]
    inner = {part[1] for part in parts if len(part) > 2}
    is_class = len(inner) < 2 and any(len(part) == 2 for part in parts)
    wrapped = len({part[0] for part in parts}) == 1 and min(map(len, parts)) > 1 and not is_class
    return {name.partition("/")[2]: key for name, key in found.items()} if wrapped else found
