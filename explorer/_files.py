"""Where files lie: the assets that come with the project, the user's cache, and writing without half files.

Whatever kills a process, nothing half is taken for whole, and the next one removes what was left. Nothing here
interprets content.
"""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import platformdirs

CACHE_VARIABLE = "VIT_EXPLORER_CACHE"


def asset_path(name: str) -> Path:
    """Path of something below `assets/`: inside an installed wheel, or beside the package in a checkout.

    Raises:
        FileNotFoundError: the project was installed without it.
    """
    package = Path(__file__).resolve().parent
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
    """A path to write to beside `target`; it takes the target's name only if the block ends without an error.

    A process that dies half-way leaves a file with a `.part` name, which nothing ever reads (see `parts_of`).

    Raises:
        OSError: it cannot be written, such as on a full disk; the error names the target.
    """
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.touch(exist_ok=False)  # not mkstemp, whose files nobody else can read, where a cache may be shared
        try:
            yield part
            with part.open("rb+") as written:
                os.fsync(written.fileno())
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(part):  # a full disk is reported without any name
            error.filename = os.fspath(target)
        raise


def parts_of(target: Path) -> list[Path]:
    """What `atomic_path` left of a target where processes died; and what those that live are writing just now."""
    return list(target.parent.glob(f".{target.name}.*.part"))


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
