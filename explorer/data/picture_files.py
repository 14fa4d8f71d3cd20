"""Which files below a folder, or in a zip, are pictures; what is passed over in silence, and what is left out and told.

Enters: a folder, or one entry of a zip after the other. Leaves: `Found`. Nothing is decoded; only files whose names
leave it open are looked into, for a few bytes.
Passed over without a word: what is hidden (a dot in front), PASSED_OVER, and files that are no pictures.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from explorer.data.image import HEIC_SUFFIXES, SUFFIXES, looks_like_picture, reads_heic

PASSED_OVER = (
    *("@eadir", "@recycle", "#recycle", "#snapshot"),  # Synology's and QNAP's thumbnails, bins and copies
    *("$recycle.bin", "system volume information", "__macosx", "lost+found", "lost.dir"),
)
"""Folders that systems make, in lower case: copies and thumbnails of the pictures, and what was thrown away."""
THUMBNAILS = ("thumbs", "thumbnails")
"""Folders that people and programs make, in lower case. They are passed over, and told: a class might be called so."""
UNREAD = (
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),  # raw photos
    *(".dds", ".exr", ".hdr", ".jxl", ".psd", ".svg", ".tga", ".xcf"),
)
"""How the names of pictures end that are not read, in lower case."""
HEAD_BYTES = 64
_MOST_HEADS = 10_000  # files looked into in one search: a zip may have a million tiny entries
_NAMED = 3

_HEIC, _UNREAD, _UNNAMED, _TWICE = "HEIC photo", "unread format", "no suffix", "name twice"
DEAD, UNREADABLE, OUTSIDE, THUMBS = "dead link", "unreadable folder", "link outside", "thumbnails"
LINK, ESCAPING, DOTTED = "link in an archive", "name leading out", "other part of a sample"
REASONS = {
    _HEIC: ("HEIC photo", "HEIC photos", 'to read them: pip install "vit-explorer[heic]", which brings pillow-heif'),
    _UNREAD: ("picture of a format that is not read", "pictures of formats that are not read", "save as JPEG or PNG"),
    _UNNAMED: ("picture without the suffix of one", "pictures without the suffix of one", "rename to .jpg or the like"),
    _TWICE: ("file of a name that was there already", "files of names that were there already", ""),
    DEAD: ("dead link", "dead links", ""),
    UNREADABLE: ("folder that cannot be read", "folders that cannot be read", ""),
    OUTSIDE: ("link out of the folder", "links out of the folder", "they are not followed here"),
    THUMBS: ("folder of thumbnails", "folders of thumbnails", "rename it if it is a class"),
    LINK: ("link", "links", "they are not followed in archives"),
    ESCAPING: ("name that leads out of the zip", "names that lead out of the zip", ""),
    DOTTED: ("picture of another part of its sample", "pictures of other parts of their samples", "choose by image=…"),
}
"""Why something is left out -> how one and several are called, and what to do about it."""


class LeftOut(NamedTuple):
    """A file or folder that was not taken in, with its path inside the folder or zip, and why (see `REASONS`)."""

    name: str
    why: str


class Found:
    """The pictures of a search: name, with forward slashes -> key; and what is left out."""

    def __init__(self) -> None:
        self.pictures: dict[str, str] = {}
        self._left_out: dict[LeftOut, None] = {}
        self._heads = 0

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """Everything, in the order of names."""
        return tuple(sorted(self._left_out))

    def leave_out(self, name: str, why: str) -> None:
        """Note what is not taken in; once, however often it is noted."""
        self._left_out[LeftOut(name, why)] = None

    def add(self, name: str, key: str, head: Callable[[], bytes]) -> bool:
        """Take in a file if it is a picture; whether it was.

        Args:
            head: reads its first HEAD_BYTES.
        """
        if name in self.pictures:
            self.leave_out(name, _TWICE)
        elif name.lower().endswith(HEIC_SUFFIXES) and not self._reads_heic:
            self.leave_out(name, _HEIC)
        elif is_picture(name):
            self.pictures[name] = key
            return True
        elif name.lower().endswith(UNREAD):
            self.leave_out(name, _UNREAD)
        elif _is_doubtful(name) and self._heads < _MOST_HEADS:
            self._heads += 1
            if looks_like_picture(head()):
                self.leave_out(name, _UNNAMED)
        return False

    def below(self, folder: str) -> "Found":
        """What lies in one of the top folders, with names as seen from there."""
        part = Found()
        part.pictures = {_inner(name): key for name, key in self.pictures.items() if name.startswith(f"{folder}/")}
        part._left_out = {
            LeftOut(_inner(name), why): None for name, why in self._left_out if name.startswith(f"{folder}/")
        }
        return part

    @cached_property
    def _reads_heic(self) -> bool:
        return reads_heic()


def search(root: Path, within: Sequence[Path] | None = None) -> Found:
    """The pictures below a folder. Links are followed, but a folder is not entered again on the way down from itself.

    Args:
        within: follow links to `root` and these folders alone; None: wherever they lead.
    """
    found = Found()
    allowed = None if within is None else [Path(os.path.realpath(place)) for place in (root, *within)]
    waiting: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(root),))]
    while waiting:
        inside, above = waiting.pop()
        try:
            with os.scandir(root / inside) as listed:
                entries = [entry for entry in listed if not passed_over(entry.name)]
        except OSError:
            found.leave_out(inside.rstrip("/") or ".", UNREADABLE)
            continue
        for entry in entries:
            name = f"{inside}{entry.name}"
            if _leads_nowhere(found, name, entry, allowed):
                continue
            if not entry.is_dir():
                found.add(name, name, lambda path=entry.path: _head(path))  # type: ignore[misc]
            elif entry.name.lower() in THUMBNAILS:
                found.leave_out(name, THUMBS)
            elif (real := os.path.realpath(entry.path)) not in above:
                waiting.append((f"{name}/", (*above, real)))
    return found


def passed_over(name: str) -> bool:
    """Whether a file or folder of this name is passed over without a word."""
    return name.startswith(".") or name.lower() in PASSED_OVER


def is_picture(name: str) -> bool:
    """Whether a file's name ends like a picture's that can be read, with pillow-heif."""
    return name.lower().endswith((*SUFFIXES, *HEIC_SUFFIXES))


def told(left_out: Iterable[LeftOut]) -> str:
    """What is left out, counted and named, in words: "2 dead links ('a.png', 'cat'), 1 HEIC photo ('b.heic'; …)"."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, why in left_out:
        groups[why].append(name)
    return ", ".join(_group(names, *REASONS[why]) for why, names in groups.items())


def _group(names: list[str], one: str, several: str, advice: str) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    listed = ", ".join(repr(name if len(name) <= 80 else f"…{name[-79:]}") for name in names[:_NAMED]) + more
    return f"{len(names)} {several if len(names) > 1 else one} ({listed}{'; ' if advice else ''}{advice})"


def _inner(name: str) -> str:
    return name.partition("/")[2]


def _is_doubtful(name: str) -> bool:
    """Names without any suffix, and those with a picture's in their midst: 'a.jpg_large', 'a.jpg.1'."""
    last = name.rpartition("/")[2].lower()
    return "." not in last or any(suffix in last for suffix in SUFFIXES)


def _leads_nowhere(found: Found, name: str, entry: os.DirEntry, allowed: list[Path] | None) -> bool:
    """Whether it is a link that is dead or leads where it may not, which is noted."""
    if not entry.is_symlink() and not getattr(entry, "is_junction", bool)():  # Windows has these, too; Python 3.12
        return False
    if not os.path.exists(entry.path):
        found.leave_out(name, DEAD)
        return True
    real = Path(os.path.realpath(entry.path))
    if allowed is None or any(real.is_relative_to(place) for place in allowed):
        return False
    if entry.is_dir() or is_picture(name):
        found.leave_out(name, OUTSIDE)
    return True


def _head(path: str) -> bytes:
    if not os.path.isfile(path):  # opening a pipe would wait for whoever writes to it
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""
