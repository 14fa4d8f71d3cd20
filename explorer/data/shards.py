"""WebDataset shards as pictures: `shards_of` a source, and `shard_set`.

Enters: tar files, in which files of one name before the first dot are a sample: 0001.jpg and 0001.cls. Leaves: an
`ImageSet`, whose pictures are read by their places in the files when they are asked for. Each file is gone through
once, from header to header, and what is kept of a picture are its name and its place.
Deliberately ignored: shuffling (any picture can be had at any time, so that there is nothing to buffer), what else a
sample holds, such as seg.png or txt; and anything that is not a file on this machine.
"""

import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from explorer.data.image import SUFFIXES, ImageError, Size, check_image, load_image
from explorer.data.labels import as_classes
from explorer.data.picture_files import DOTTED, HEAD_BYTES, LINK, Found, is_picture, passed_over, told
from explorer.data.sets import ImageSet, Reader
from explorer.errors import InputError
from explorer.system.files import readable

MAX_SHARDS = 100_000
MAX_LABEL_BYTES = 1 << 20
_ENDINGS = 100  # that are kept to be told
_HEAD_BYTES = 1 << 16  # of a picture, in which its size stands, but for some TIFFs
_BLOCK, _BEHIND = 512, 1 << 20  # what an archive ends with, zeros, and how far it is looked whether more comes
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")
_SHARD = re.compile(r"\.(tar(\.\w+)?|tgz)$", re.IGNORECASE)
_ELSEWHERE = re.compile(r"pipe:|[A-Za-z][\w.+-]*://")


def shards_of(source: object) -> tuple[Path, ...]:
    """The shards that are meant, such as by "shards/{000..099}.tar"; none where it is something else.

    Raises:
        ValueError: they are not on this machine, or too many, or one of several is no tar file.
    """
    several = isinstance(source, (list, tuple))
    sources = list(source) if isinstance(source, (list, tuple)) else [source]
    texts = [os.fspath(one) for one in sources if isinstance(one, (str, os.PathLike))]
    if len(texts) < len(sources):
        return ()
    for text in texts:
        if _ELSEWHERE.match(text):
            raise InputError(
                f"'{text}' is not on this machine, and no stream is read: it comes once and in one order, so that a "
                "run could not be resumed to the same pictures; save the shards, and give their paths"
            )
    files = [name for text in texts for name in ([text] if os.path.exists(text) else _expanded(text))]
    tars = [name for name in files if _SHARD.search(name) and not os.path.isdir(name)]
    if several and 0 < len(tars) < len(files):
        raise InputError(f"expected tar files; got '{next(name for name in files if name not in tars)}' among them")
    return tuple(map(Path, tars)) if len(tars) == len(files) else ()


def shard_set(shards: Sequence[Path], size: Size, image: str | None = None, label: str | None = None) -> ImageSet:
    """The pictures of all shards, in their order.

    Args:
        image: how the names of pictures end behind the first dot; None: like any picture's, without another dot.
        label: "cls" for the files *.cls, or a field of the files *.json; None: "cls", else the field "label", else
            there are no labels.

    Raises:
        ValueError: a shard is missing, cut off or compressed; or a sample has several pictures, or one lacks its label,
            or there is nothing called so.
    """
    missing = [shard for shard in shards if not shard.is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(f"of {len(shards)} shards there is no {', '.join(map(repr, map(str, missing[:3])))}{more}")
    if len(set(shards)) < len(shards):
        raise InputError("a shard is named twice; every one may occur once")
    index = _Index(image=image and image.lower().lstrip("."), label=label)
    for number, (shard, prefix) in enumerate(zip(shards, _prefixes(shards), strict=True)):
        index.add(number, shard, prefix)
    index.check()
    labels, classes = as_classes(index.labels)
    return ImageSet(
        names=tuple(map(readable, index.names)),
        labels=labels,
        classes=classes,
        size=size,
        reader=_Shards(tuple(shard.resolve() for shard in shards), np.array(index.places), tuple(index.names)),
        keys=tuple(range(len(index.names))),
        left_out=index.found.left_out,
    )


@dataclass(frozen=True, eq=False)
class _Shards(Reader):
    """Tar files; keys are numbers of pictures. Each read opens its file for itself, in any thread and process.

    Attributes:
        places: shard, and first byte and number of bytes in it.
        names: of the pictures, for errors.
    """

    shards: tuple[Path, ...]
    places: Int64[np.ndarray, "picture 3"]
    names: tuple[str, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shards) and (self.shards, self.names) == (other.shards, other.names)

    def load(self, key: int, size: Size) -> Float[Tensor, "3 height width"]:
        with self._named(key):
            return load_image(self._read(key), size)

    def look(self, key: int) -> None:
        """By the first bytes; by all of them where these do not tell."""
        with self._named(key):
            try:
                check_image(self._read(key, _HEAD_BYTES))
            except ImageError:
                check_image(self._read(key))

    def raw(self, key: int) -> bytes:
        with self._named(key):
            return self._read(key)

    def _read(self, key: int, most: int | None = None) -> bytes:
        number, start, length = map(int, self.places[key])
        wanted = length if most is None else min(length, most)
        with self.shards[number].open("rb") as file:
            file.seek(start)
            data = file.read(wanted)
        if len(data) < wanted:
            raise ImageError("the shard was cut off since it was opened")
        return data

    @contextmanager
    def _named(self, key: int) -> Iterator[None]:
        try:
            yield
        except (ImageError, OSError) as error:
            shard = self.shards[int(self.places[key][0])]
            raise ImageError(f"'{readable(self.names[key])}' in '{shard}': {error}") from error


class _Part(NamedTuple):
    """A file in a shard."""

    name: str
    start: int
    length: int


@dataclass(kw_only=True)
class _Index:
    """What is known of the shards so far."""

    image: str | None
    label: str | None
    names: list[str] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    found: Found = field(default_factory=Found)
    endings: set[str] = field(default_factory=set)  # of all files
    fields: set[str] = field(default_factory=set)  # of all JSON files

    def add(self, number: int, shard: Path, prefix: str) -> None:
        """Take in the samples of a shard."""
        samples: dict[str, dict[str, _Part]] = {}
        with shard.open("rb") as file:
            for member in _members(shard):
                name = PurePosixPath(member.name).as_posix()  # `tar cf x.tar .` writes "./0001.jpg"
                stem, ending = _split(name)
                part = _Part(prefix + name, member.offset_data, member.size)
                if not stem or member.isdir() or any(map(passed_over, name.split("/"))):
                    continue
                if not member.isreg() or member.sparse is not None:
                    if is_picture(name):
                        self.found.leave_out(part.name, LINK)
                    continue
                if len(self.endings) < _ENDINGS:
                    self.endings.add(ending)
                if ending in ("cls", "json") or self.found.add(part.name, "", partial(_bytes, file, part, HEAD_BYTES)):
                    samples.setdefault(stem, {})[ending] = part
            for stem, parts in samples.items():
                self._sample(number, file, f"'{stem}' in '{shard}'", parts)

    def _sample(self, number: int, file: Any, what: str, parts: dict[str, _Part]) -> None:
        pictures = [ending for ending in parts if self._shows(ending)]
        if len(pictures) > 1:
            raise InputError(f"{what} has several pictures; choose by image=…: {', '.join(pictures)}")
        if pictures:
            name, start, length = parts[pictures[0]]
            self.names.append(name)
            self.places.append((number, start, length))
            self.labels.append(self._label(file, what, parts))
            return
        for ending, part in parts.items():
            if ending not in ("cls", "json"):
                self.found.leave_out(part.name, DOTTED)

    def _shows(self, ending: str) -> bool:
        return ending == self.image if self.image is not None else "." not in ending and is_picture(f".{ending}")

    def _label(self, file: Any, what: str, parts: dict[str, _Part]) -> Any:
        if "cls" in parts and self.label in (None, "cls"):
            text = _text(file, what, parts["cls"])
            return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text or None
        if "json" not in parts or self.label == "cls":
            return None
        try:
            values = json.loads(_text(file, what, parts["json"]))
        except (ValueError, RecursionError) as error:
            raise InputError(f"the .json of {what} is no JSON ({error})") from error
        if not isinstance(values, dict):
            return None
        if len(self.fields) < _ENDINGS:
            self.fields |= set(values)
        return values.get(self.label or "label")

    def check(self) -> None:
        """Refuse what holds no pictures, or none of those asked for."""
        endings = ", ".join(f".{ending}" for ending in sorted(self.endings)[:20]) or "nothing"
        if not self.names:
            wanted = ", ".join(SUFFIXES) if self.image is None else f".{self.image}"
            besides = f"; left out: {told(self.found.left_out)}" if self.found.left_out else ""
            raise InputError(f"the shards hold no picture {wanted}; their files end in {endings}{besides}")
        if self.label is not None and all(value is None for value in self.labels):
            there = f"; fields of .json: {', '.join(sorted(self.fields)[:20])}" if self.fields else ""
            raise InputError(
                f"no sample has the label '{self.label}', which is cls, or a field of .json; the shards' files end in "
                f"{endings}{there}"
            )


def _expanded(pattern: str) -> list[str]:
    """ "{08..10}" and "{a,b}" written out, as shells do it."""
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    first, last, listed = found.groups()
    if listed is None:
        low, high = int(first), int(last)
        width = max(len(first), len(last)) if "0" in (first[0], last[0]) else 0
        if abs(high - low) >= MAX_SHARDS:
            raise InputError(f"'{pattern}' means more than {MAX_SHARDS} shards; name fewer")
        values = [f"{n:0{width}d}" for n in (range(low, high + 1) if low <= high else range(low, high - 1, -1))]
    else:
        values = listed.split(",")
    ends = _expanded(pattern[found.end() :])
    if len(values) * len(ends) > MAX_SHARDS:
        raise InputError(f"'{pattern}' means more than {MAX_SHARDS} shards; name fewer")
    return [f"{pattern[: found.start()]}{value}{end}" for value in values for end in ends]


def _prefixes(shards: Sequence[Path]) -> list[str]:
    """What stands before the names in each shard: its own, with as much of the path as tells them apart; of a single
    one nothing."""
    if len(shards) == 1:
        return [""]
    above = os.path.commonpath([os.path.abspath(shard.parent) for shard in shards])
    return [f"{Path(os.path.relpath(os.path.abspath(shard), above)).with_suffix('').as_posix()}/" for shard in shards]


def _members(shard: Path) -> Iterator[tarfile.TarInfo]:
    """The headers, one after the other; after the last one it is known that the file is whole."""
    with shard.open("rb") as file:
        head = file.read(6)
        for magic, way in _COMPRESSED.items():
            if head.startswith(magic):
                raise InputError(
                    f"'{shard}' is compressed by {way}, and so has no places to read a picture at; unpack it to a .tar"
                )
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # else it keeps all headers
                    yield member
                file.seek(archive.offset)
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise InputError(f"{_damaged(shard)} ({error})") from error
        behind = file.read(_BEHIND)
        if len(behind) < _BLOCK or behind[:_BLOCK].strip(b"\0"):
            raise InputError(f"{_damaged(shard)} (its end is missing)")
        if behind.strip(b"\0"):
            raise InputError(f"'{shard}' goes on behind its end, as tars that were joined do; make one tar of it")


def _damaged(shard: Path) -> str:
    return f"the shard '{shard}' is damaged or cut off; make or fetch it again"


def _split(name: str) -> tuple[str, str]:
    """ "a/b.c/0001.seg.png" -> "a/b.c/0001", "seg.png"."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return f"{folder}{slash}{stem}" if stem else "", ending.lower()


def _bytes(file: Any, part: _Part, most: int) -> bytes:
    file.seek(part.start)
    return file.read(min(part.length, most))


def _text(file: Any, what: str, part: _Part) -> str:
    if part.length > MAX_LABEL_BYTES:
        raise InputError(f"the label of {what} takes {part.length} bytes; expected a number, a name, or some JSON")
    try:
        return _bytes(file, part, part.length).decode().strip()
    except UnicodeDecodeError as error:
        raise InputError(f"the label of {what} is no text in UTF-8") from error
