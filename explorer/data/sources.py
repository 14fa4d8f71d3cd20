"""Where sets of pictures come from: the photos that come with the project, folders, zips, shards, torchvision, tables.

Enters: where the pictures are, the size wanted. Leaves: an `ImageSet`.
Deliberately ignored: what is done with the pictures.
"""

import csv
import difflib
import hashlib
import inspect
import io
import logging
import operator
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from explorer.data.image import (
    SUFFIXES,
    ImageError,
    Size,
    besides_pixels,
    check_image,
    load_image,
    same_aspect,
    upright_size,
)
from explorer.data.labels import read_labels
from explorer.data.picture_files import (
    ESCAPING,
    HEAD_BYTES,
    LINK,
    THUMBNAILS,
    THUMBS,
    Found,
    is_picture,
    passed_over,
    search,
    told,
)
from explorer.data.registration import SAME_SCENE, shift_between, shifted
from explorer.data.sets import Answer, Credit, ImageSet, OnError, PictureData, Reader, in_turn
from explorer.data.shards import shard_set, shards_of
from explorer.data.tables import is_streamed, is_table, table_set
from explorer.errors import InputError, unknown
from explorer.system.files import asset_path, cache_dir, readable
from explorer.system.processes import is_first

_log = logging.getLogger(__name__)

MAX_ZIP_PICTURES = 10_000
MAX_ZIP_BYTES = 50_000_000
"""A picture in a zip may not unpack to more bytes than this; measured while unpacking, whatever the zip declares."""


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


def load_images(
    source: str | os.PathLike | Sequence[str | os.PathLike] | PictureData = "photos",
    size: Size = 224,
    limit: int | None = None,
    *,
    split: str | None = None,
    within: Sequence[str | os.PathLike] | None = None,
    on_error: OnError = "raise",
    clean: str | os.PathLike | None = None,
    align: bool = False,
    labels: str | os.PathLike | None = None,
    image: str | None = None,
    label: str | None = None,
) -> "ImageSet":
    """A set of pictures, each cut to `size` (see `load_image`) when it is asked for.

    What looks like a picture and is not taken in (dead links, formats that are not read, …) is logged once, as a
    warning, and kept in `ImageSet.left_out`. What is hidden is passed over, and so are folders of systems, such as
    @eaDir, #recycle, $RECYCLE.BIN, System Volume Information, __MACOSX and lost+found.

    Args:
        source: "photos" (207 public domain photos in 10 classes, which come with the project); a folder or a zip of
            pictures, either flat (no labels) or with one sub-folder per class (links in a folder are followed; a zip
            is read in memory, never extracted, and is what a folder with its content is, except that class folders
            which lie together in a single folder count without it); the name of a torchvision data set, such as
            "cifar10" or, with its split, "cifar10:test", which is downloaded to the cache; a torchvision data set of
            (picture, class number); a `datasets.Dataset` of Hugging Face, or with split= a `DatasetDict`, whose
            pictures are read as they are stored; or WebDataset shards, "shards/{000..099}.tar" or a list of tar files,
            which are gone through once, and then read at any place like a folder. "photos" always means those of the
            project ("./photos" is a folder); else a path that exists comes first. Streams, which hand out their
            pictures once and in an order of their own, and shards behind a pipe or an address are refused: a run could
            not be resumed to the same pictures.
        size: pixels a side, or (height, width), or None to keep each picture as it is.
        limit: keep at most so many pictures, taken in turn from each class.
        split: the folder above the classes to take, such as "train", for folders and zips that hold train/ and test/;
            for the name of a torchvision data set the same as after its colon; a key of a `DatasetDict`.
        within: follow links in a folder no further than to itself and these folders; None: wherever they lead.
        on_error: "raise": a broken picture is an error when it is met. "skip": each picture is decoded once now, and
            what is broken is left out of the set, and told in its `skipped`.
        clean: the folder or zip with the clean twins of these pictures, which are damaged then: each is found by its
            path without suffix ("cat/1.jpg" and "cat/1.png"), and shows the same scene in the same place. What has no
            twin is left out and logged, once, as a warning. The twins are `ImageSet.clean`.
        align: whether each damaged picture is moved onto its clean twin, as `compare` does: when it is asked for, by
            whole pixels of its size then. One that shows another scene is a broken picture.
        labels: a CSV file with the columns "file" and "label" (see `explorer.data.labels.read_labels`), for pictures
            that do not lie in one folder for each class. Its classes take the place of those of folders.

    Raises:
        SplitsError: train/ and the like lie above the classes, and no split was given; a ValueError.
        ValueError: no picture is there, or none that can be read, or no such split, or the source is none of these; no
            picture has a twin, or one has several, or twins differ in aspect ratio; to be aligned, and no twins or no
            size.
        ConnectionError: a data set could not be downloaded.
        OSError: the file of labels cannot be read.
    """
    if on_error not in ("raise", "skip"):
        raise InputError(f"on_error is 'raise' or 'skip'; got {on_error!r}")
    if align and (clean is None or size is None):
        raise InputError(
            "align moves pictures onto their clean twins, at one size: give clean= and size= (in a command: --clean)"
        )
    skip = on_error == "skip"
    if is_table(source):
        images = table_set(_of_splits(source, split), size, image, label)
    elif shards := shards_of(source):
        if split is not None:
            raise InputError(f"split='{split}' is not for shards; name those of the split")
        images = shard_set(shards, size, image, label)
    elif image is None and label is None:
        images = _find(source, size, split, within, skip)
    else:
        raise InputError(
            "image= and label= name columns of a datasets.Dataset, or parts of shards; leave them out here"
        )
    if images.left_out and is_first():
        _log.warning("%s: left out %s", source, told(images.left_out))
    if clean is not None:
        images = _paired(images, load_images(clean, size, split=split, within=within, on_error=on_error), align)
    unread = skip and not isinstance(images.reader, _Wrapped)  # those were read already
    if labels is not None:
        images = read_labels(_readable(images) if unread else images, labels)  # what is broken needs no label
    if limit is not None:
        images = images.select(in_turn(images.labels or (0,) * len(images), limit))
    return _readable(images) if unread and labels is None else images


def image_set(images: "ImageSet | PictureData") -> "ImageSet":
    """Itself, or what `load_images` makes of a data set, each picture in its own size.

    Raises:
        ValueError: it is neither.
    """
    return images if isinstance(images, ImageSet) else load_images(images, size=None)


def _readable(images: ImageSet) -> ImageSet:
    """Those that can be decoded: each is, once, for what is cut short has a sound head."""
    errors = images.reader.errors(lambda key: images.reader.load(key, images.size), images.keys)
    skipped = {name: error for name, error in zip(images.names, errors, strict=True) if error is not None}
    if len(skipped) == len(images):
        raise InputError(f"none of {len(images)} pictures can be read: {errors[0]}")
    whole = images.select(place for place, error in enumerate(errors) if error is None)
    return replace(whole, skipped=skipped)


# Pairs: damaged pictures and their clean twins.
_PairKey = tuple[str, Any, Any]


def _paired(damaged: ImageSet, clean: ImageSet, align: bool) -> ImageSet:
    """The damaged pictures that have a twin, with their twins."""
    if (damaged.reader, damaged.keys) == (clean.reader, clean.keys):
        raise InputError("clean= names the pictures themselves, as their own clean twins: name the folder of the twins")
    places, twins = _by_stem(damaged, "damaged"), _by_stem(clean, "clean")
    both = [stem for stem in places if stem in twins]
    alone = [damaged.names[place] for stem, place in places.items() if stem not in twins]
    unused = [clean.names[place] for stem, place in twins.items() if stem not in places]
    missing = f"{_listed(alone, 'damaged')} without a clean twin, {_listed(unused, 'clean')} without a damaged one"
    if not both:
        raise InputError(f"no picture has a twin of its name: {missing}; name both alike, such as 1.jpg and 1.png")
    if (alone or unused) and is_first():
        _log.warning("left out %s", missing)
    images, pairs = (one.select(where[stem] for stem in both) for one, where in ((damaged, places), (clean, twins)))
    other = [images.names[place] for place in range(len(both)) if _differs(images.path(place), pairs.path(place))]
    if other:
        raise InputError(f"{_listed(other, 'damaged')} of another aspect ratio than the clean twin; cut them alike")
    if align:
        keys = tuple(zip(images.names, images.keys, pairs.keys, strict=True))
        images = replace(images, reader=_Aligned(images.reader, pairs.reader), keys=keys)
    return replace(images, clean=pairs)


@dataclass(frozen=True)
class _Aligned(Reader):
    """Damaged pictures, each moved onto its clean twin; keys are (name, key, key of the twin)."""

    damaged: Reader
    clean: Reader

    def load(self, key: _PairKey, size: Size) -> Float[Tensor, "3 height width"]:
        name, own, twin = key
        clean = self.clean.load(twin, size)
        height, width = clean.shape[1:]
        damaged = self.damaged.load(own, (height, width))
        shift, correlation = shift_between(clean, damaged)
        if not correlation >= SAME_SCENE:
            raise ImageError(
                f"'{name}' does not show the scene of its clean twin: their details correlate by {correlation:.2f} at "
                f"best, and {SAME_SCENE} is needed; leave it out, or have the pictures not aligned"
            )
        return shifted(damaged, shift)

    def look(self, key: _PairKey) -> None:
        self.damaged.look(key[1])

    def each(self, task: Callable[[Any], Answer], keys: Sequence[Any]) -> list[Answer]:
        return (self.damaged if isinstance(self.damaged, _Wrapped) else self.clean).each(task, keys)

    def raw(self, key: _PairKey) -> bytes:
        """Both files: where the picture lies depends on its twin."""
        return self.damaged.raw(key[1]) + self.clean.raw(key[2])

    def witness(self, keys: Sequence[_PairKey], /) -> str:
        """That of the damaged pictures, and that they were aligned."""
        seen = self.damaged.witness([own for _, own, _ in keys])
        return hashlib.sha256(f"aligned {seen}".encode()).hexdigest()

    def path(self, key: _PairKey, /) -> Path | None:
        return self.damaged.path(key[1])

    def credit(self, key: _PairKey, /) -> Credit | None:
        return self.damaged.credit(key[1])


def _by_stem(images: ImageSet, kind: str) -> dict[str, int]:
    """Path without suffix -> place."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(images.names):
        found.setdefault(str(PurePosixPath(name).with_suffix("")), []).append(place)
    doubled = [images.names[place] for places in found.values() if len(places) > 1 for place in places]
    if doubled:
        raise InputError(f"{_listed(doubled, kind)} that differ in their suffix alone; keep one of each name")
    return {stem: places[0] for stem, places in found.items()}


def _listed(names: Sequence[str], kind: str) -> str:
    """Counted, with the first names: "2 damaged pictures ('a.jpg', 'b.jpg')"."""
    few = ", ".join(map(repr, names[:3])) + (", …" if len(names) > 3 else "")
    return f"{len(names)} {kind} picture{'' if len(names) == 1 else 's'}{f' ({few})' if names else ''}"


def _differs(damaged: Path | None, clean: Path | None) -> bool:
    """Whether the heads of two files tell of other aspect ratios; files in a zip are not looked into."""
    if damaged is None or clean is None:
        return False
    try:
        return not same_aspect(upright_size(damaged), upright_size(clean))
    except ImageError:  # told when it is met
        return False


# Where pictures come from.
def _find(
    source: object, size: Size, split: str | None, within: Sequence[str | os.PathLike] | None, skip: bool
) -> ImageSet:
    if isinstance(source, (str, os.PathLike)) and source != "photos":
        if not os.fspath(source):
            raise InputError("expected 'photos', a folder, a file or the name of a data set; got an empty name")
        path = Path(source)
        if path.is_dir():
            return _folder(path, size, split, within)
        if path.exists():
            return _zip(path, size, split)
        return _named(str(source), size, split, skip)
    if split is not None:
        raise InputError(f"split='{split}' is for folders, zip files and names of data sets; leave it out here")
    if isinstance(source, str):
        return _photos(size)
    if isinstance(source, PictureData):
        return _wrapped(source, size, skip)
    raise InputError(f"{_ACCEPTED}; got {type(source).__name__}")


@dataclass(frozen=True)
class _Files(Reader):
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


def _photos(size: Size) -> ImageSet:
    root = asset_path("photos")
    with (root / "ATTRIBUTION.csv").open(encoding="utf-8", newline="") as table:
        known = {row["file"]: Credit(row["author"], row["licence"], row["source"]) for row in csv.DictReader(table)}
    images = _folder(root, size)
    classes = tuple(name.replace("_", " ") for name in images.classes)
    return replace(images, classes=classes, reader=_Files(root, known))


def _folder(
    root: Path, size: Size, split: str | None = None, within: Sequence[str | os.PathLike] | None = None
) -> ImageSet:
    root = root.resolve()
    where = f"the folder '{root}'"
    found = search(root, None if within is None else [Path(place) for place in within])
    return _arranged(_of_split(found, split, where), _Files(root, {}), size, where)


def _of_split(found: Found, split: str | None, where: str) -> Found:
    """The part of a split; all of it where there are none.

    Raises:
        ValueError: there is no such split, or there are splits and none was asked for.
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


def _arranged(found: Found, reader: Reader, size: Size, where: str) -> ImageSet:
    """Flat, or a sub-folder per class: told by whether the names have folders in front."""
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


def _zip(path: Path, size: Size, split: str | None) -> ImageSet:
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
    return _arranged(_of_split(found, split, where), archive, size, where)


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


# Tables.
def _of_splits(source: Any, split: str | None) -> Any:
    """The table itself, or that of a split."""
    if is_streamed(source):
        raise InputError(_STREAM)
    if not isinstance(source, dict):
        if split is not None:
            raise InputError(f"split='{split}' is for a DatasetDict, and this is a Dataset; leave it out here")
        return source
    if split is None:
        raise SplitsError("the DatasetDict", tuple(source))
    if split not in source:
        raise unknown("split", split, source)
    return source[split]


_STREAM = (
    "a stream hands out its pictures once, and not by number, so that a run could not be resumed to the same pictures; "
    "give a datasets.Dataset (streaming=False), a folder, or a zip file"
)


# torchvision. Those whose items are (picture, class number) and that can be made from a name.
TORCHVISION = (
    *("Caltech101", "Caltech256", "CIFAR10", "CIFAR100", "Country211", "DTD", "EuroSAT", "FakeData", "FashionMNIST"),
    *("FGVCAircraft", "Flowers102", "Food101", "GTSRB", "Imagenette", "KMNIST", "MNIST", "OxfordIIITPet", "PCAM"),
    *("QMNIST", "RenderedSST2", "SEMEION", "STL10", "SUN397", "SVHN", "USPS"),
)
_ACCEPTED = (
    'expected "photos", a folder, a zip file, shards (.tar), a torchvision data set of (picture, class number), a '
    f"datasets.Dataset, or the name of one: {', '.join(TORCHVISION)}"
)


def _named(name: str, size: Size, split: str | None, skip: bool) -> ImageSet:
    bare, _, given = name.partition(":")
    if given and split not in (None, given):
        raise InputError(f"'{name}' names the split '{given}', and split= names '{split}'; give one of them")
    known = {title.lower(): title for title in TORCHVISION}
    if bare.lower() not in known:
        close = difflib.get_close_matches(bare.lower(), ["photos", *known], n=3)
        hint = f"; nearest: {', '.join(known.get(match, match) for match in close)}" if close else ""
        raise InputError(f"'{name}' does not exist{hint}; {_ACCEPTED}")
    import torchvision.datasets  # late: it takes longer than torch itself

    kind = getattr(torchvision.datasets, known[bare.lower()])
    return _wrapped(_fetched(kind, split or given), size, skip)


def _fetched(kind: type, split: str) -> Any:
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


@dataclass(frozen=True, eq=False)
class _Wrapped(Reader):
    """A data set of (picture, class number); keys are its indices."""

    dataset: Any

    def __eq__(self, other: object) -> bool:  # two lists of tensors cannot be compared
        return isinstance(other, _Wrapped) and self.dataset is other.dataset

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


def _wrapped(dataset: Any, size: Size, skip: bool) -> ImageSet:
    if len(dataset) == 0:
        raise InputError(f"the data set {type(dataset).__name__} is empty; give one that holds pictures")
    keys = tuple(range(len(dataset)))
    digits = len(str(len(keys) - 1))
    names = tuple(f"{key:0{digits}d}" for key in keys)
    reader = _Wrapped(dataset)
    images = ImageSet(names=names, labels=None, classes=(), size=size, reader=reader, keys=keys)
    if skip:
        images = _readable(images)
    labels = _labels(reader, images.keys)
    return replace(images, labels=labels, classes=_classes(dataset, labels))


def _pair(item: Any) -> tuple[Any, Any]:
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return item[0], item[1]
    raise InputError(f"expected a data set whose items are (picture, class number); got {type(item).__name__}")


def _labels(reader: _Wrapped, keys: Sequence[Any]) -> tuple[int, ...] | None:
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
        listings = (_numbers(getattr(dataset, name, None), len(dataset)) for name in ("targets", "labels", "_labels", "y"))
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
