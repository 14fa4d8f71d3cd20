"""Where files lie: the assets that come with the project, the user's cache, and writing without half files.

Whatever kills a process, nothing half is taken for whole, and the next one removes what was left. Nothing here
interprets content.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import platformdirs

CACHE_VARIABLE = "VIT_EXPLORER_CACHE"
STDOUT = Path("/dev/stdout")
"""The standard output, also where a system has no such file."""


def asset_path(name: str) -> Path:
    """Path of something below `assets/`: inside an installed wheel, or beside the package in a checkout.

    Raises:
        FileNotFoundError: the project was installed without it.
    """
    package = Path(__file__).resolve().parents[1]
    for root in (package / "_assets", package.parent / "assets"):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(
        f"'{name}' is not among the files that came with vit-explorer; install the project again, or use a checkout"
    )


def cache_dir() -> Path:
    """The folder for what can be made again (converted weights); set VIT_EXPLORER_CACHE to move it. Not created."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("vit-explorer", appauthor=False))


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A path to write to; what was written is at `target` only if the block ends without an error.

    It lies beside the file that `target` is, or links to, and takes its name, and its mode if it is there. A process
    that dies half-way leaves a file with a `.part` name, which nothing ever reads (see `parts_of`). What is no regular
    file (a pipe, a device, /dev/stdout) stays what it is, and gets the bytes when all of them are there.

    Raises:
        OSError: it cannot be written, such as on a full disk; the error names the target.
    """
    try:
        with _part_for_stream(target) if is_stream(target) else _part_beside(behind_links(target)) as part:
            yield part
    except OSError as error:
        nameless = error.filename is None or str(error.filename).endswith(".part")  # full disks are told without a name
        if nameless and not (isinstance(error, BrokenPipeError) and descriptor(target) == 1):
            error.filename = os.fspath(target)
        raise


@contextmanager
def _part_beside(place: Path) -> Iterator[Path]:
    part = place.with_name(f"{_part_prefix(place)}{secrets.token_hex(8)}.part")
    place.parent.mkdir(parents=True, exist_ok=True)
    part.touch(exist_ok=False)  # not mkstemp, whose files nobody else can read, where a cache may be shared
    try:
        yield part
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        if place.is_file():
            _copy_rights(place, part)
        os.replace(part, place)
    finally:
        part.unlink(missing_ok=True)


def _part_prefix(target: Path) -> str:
    return f".{target.name[:50]}."  # names end at 255 bytes, and a letter may take four


def _copy_rights(old: Path, new: Path) -> None:
    """The file that takes another's place keeps who may read and write it, and its owner where that is allowed."""
    if hasattr(os, "chown"):
        with suppress(PermissionError):
            os.chown(new, old.stat().st_uid, old.stat().st_gid)
    shutil.copymode(old, new)


@contextmanager
def _part_for_stream(target: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, "part")
        part.touch()
        yield part
        number = descriptor(target)
        for printed in (sys.stdout, sys.stderr):
            if number is not None and printed is not None:
                printed.flush()  # what was said before comes before it
        opened = target.open("wb") if number is None else os.fdopen(os.dup(number), "wb")
        with part.open("rb") as whole, opened as stream:
            shutil.copyfileobj(whole, stream)


def is_stream(path: Path) -> bool:
    """Whether a path stands for something that is written to and never replaced: a pipe, a device, an open file.

    Raises:
        OSError: nobody can tell, such as where symbolic links go round in a circle.
    """
    if descriptor(path) is not None:
        return True
    try:
        kind = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


def descriptor(path: Path) -> int | None:
    """The number of the open file that a path stands for, such as 1 for /dev/stdout; None for other paths.

    Such a file is never opened anew: it would be cut to nothing, and written from its beginning.
    """
    open_files = os.path.realpath("/dev/fd")
    for _ in range(40):  # as many links as Linux follows
        if path == STDOUT:
            return 1
        if re.fullmatch(r"\d{1,9}", path.name, re.ASCII) and os.path.realpath(path.parent) == open_files:
            return int(path.name)
        if not os.path.islink(path):
            return None
        path = path.parent / os.readlink(path)
    return None


def behind_links(path: Path) -> Path:
    """The place that a path leads to through symbolic links, whether something is there or not yet.

    Raises:
        OSError: the links go round in a circle, or through what may not be looked into.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        os.stat(path)
    return Path(os.path.realpath(path))


def check_target(target: Path) -> None:
    """See before the work whether `atomic_path` will be able to write.

    Raises:
        OSError: it will not; the error names the target.
    """
    try:
        number = descriptor(target)
        if number is not None:
            if number == 1 and sys.__stdout__ is None:  # closed by `>&-`; the number may be another file's by now
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            os.write(number, b"")
        elif not is_stream(target):
            folder = next(parent for parent in behind_links(target).parents if parent.exists())
            with tempfile.TemporaryFile(dir=folder):
                pass
        elif not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        error.filename = os.fspath(target)
        raise


def parts_of(target: Path) -> list[Path]:
    """What `atomic_path` left of a target where processes died; and what those that live are writing just now."""
    place = behind_links(target)
    return list(place.parent.glob(f"{_part_prefix(place)}*.part"))


def readable(name: str) -> str:
    """A name as text that can be written and drawn everywhere: bytes that are no UTF-8 become escapes such as \\xe9."""
    letters = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\N{REPLACEMENT CHARACTER}", name)  # of no byte: Windows has such
    return letters.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@contextmanager
def scratch_folder(parent: Path, purpose: str) -> Iterator[Path]:
    """An empty folder below `parent` for as long as the block lasts; those of processes that died are removed.

    Args:
        purpose: a word in its name: only folders of the same purpose are removed.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f".{purpose}-*.part"):
        with suppress(OSError), claimed(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = parent / f".{purpose}-{secrets.token_hex(8)}.part"
    with claimed(folder):
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_folder(target: Path, purpose: str) -> Iterator[Path]:
    """A folder to be filled; what is in it is at `target` only if the block ends without an error.

    Args:
        target: is not there yet, or is an empty folder.
        purpose: as in `scratch_folder`.

    Raises:
        FileExistsError: there is something at `target`.
        OSError: it cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"'{target}' is there already; name a folder that is not")
    place = behind_links(target)
    with scratch_folder(place.parent, purpose) as scratch:
        yield scratch
        if place.exists():
            place.rmdir()
        os.rename(scratch, place)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Says that this process works in a folder, by a lock beside it, which ends with the process.

    A lock, and neither an age nor a process number: clocks jump, and numbers come again. It is claimed before it is
    made, so that there is no moment at which somebody finds it deserted.

    Raises:
        OSError: another process that lives has claimed it, or nothing can be written here.
    """
    place = folder.with_name(f".{folder.name.lstrip('.')}.lock")
    lock = filelock.FileLock(place, timeout=0, thread_local=False)  # a thread may release what another one took
    with lock:
        try:
            yield
        finally:
            with suppress(OSError):
                place.unlink(missing_ok=True)


def allocate(file: Path) -> None:
    """Take the disk's blocks for all of a file now. A memory-mapped file with holes kills its writer (SIGBUS) when the
    disk is full.

    Raises:
        OSError: there is too little space.
    """
    if hasattr(os, "posix_fallocate"):
        with file.open("rb+") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)


def file_digest(file: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def last_used(path: Path) -> float:
    """When a file or folder was used, as `os.utime` has kept it; long ago where that is still to come: clocks jump."""
    used = path.stat().st_mtime
    return used if used <= time.time() + 60 else 0.0
