"""Where sets of pictures come from: the photos that come with the project, folders, zips, shards, torchvision, tables.

Enters: where the pictures are, the size wanted. Leaves: an `ImageSet`.
Deliberately ignored: what is done with the pictures.
"""

import difflib
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from jaxtyping import Float
from torch import Tensor

from explorer.data.archives import zip_set
from explorer.data.folders import SplitsError, folder_set, photo_set
from explorer.data.image import ImageError, Size, same_aspect, upright_size
from explorer.data.labels import read_labels
from explorer.data.picture_files import told
from explorer.data.registration import SAME_SCENE, shift_between, shifted
from explorer.data.sets import Answer, Credit, ImageSet, OnError, PictureData, Reader, in_turn, without_broken
from explorer.data.shards import shard_set, shards_of
from explorer.data.tables import is_streamed, is_table, table_set
from explorer.data.torch_sets import TORCHVISION, Wrapped, fetched, wrapped_set
from explorer.errors import InputError, unknown
from explorer.system.processes import is_first

_log = logging.getLogger(__name__)


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
    unread = skip and not isinstance(images.reader, Wrapped)  # those were read already
    if labels is not None:
        images = read_labels(without_broken(images) if unread else images, labels)  # what is broken needs no label
    if limit is not None:
        images = images.select(in_turn(images.labels or (0,) * len(images), limit))
    return without_broken(images) if unread and labels is None else images


def image_set(images: "ImageSet | PictureData") -> "ImageSet":
    """Itself, or what `load_images` makes of a data set, each picture in its own size.

    Raises:
        ValueError: it is neither.
    """
    return images if isinstance(images, ImageSet) else load_images(images, size=None)


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
        return (self.damaged if isinstance(self.damaged, Wrapped) else self.clean).each(task, keys)

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


def _find(
    source: object, size: Size, split: str | None, within: Sequence[str | os.PathLike] | None, skip: bool
) -> ImageSet:
    if isinstance(source, (str, os.PathLike)) and source != "photos":
        if not os.fspath(source):
            raise InputError("expected 'photos', a folder, a file or the name of a data set; got an empty name")
        path = Path(source)
        if path.is_dir():
            return folder_set(path, size, split, within)
        if path.exists():
            return zip_set(path, size, split)
        return _named(str(source), size, split, skip)
    if split is not None:
        raise InputError(f"split='{split}' is for folders, zip files and names of data sets; leave it out here")
    if isinstance(source, str):
        return photo_set(size)
    if isinstance(source, PictureData):
        return wrapped_set(source, size, skip)
    raise InputError(f"{_ACCEPTED}; got {type(source).__name__}")


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
    return wrapped_set(fetched(known[bare.lower()], split or given), size, skip)
