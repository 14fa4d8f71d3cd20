"""Several files of a folder replaced together: after a crash at any moment, all of them are old or all are new.

Writing goes in three steps. (1) The new files are written to a hidden folder beside the old ones and flushed to the
disk. (2) That folder is renamed to `COMMITTED`: this one rename is the moment at which the new files count. (3) They
are moved over the old ones. Whoever reads takes a file from the committed folder if it is still there, else from its
usual place; whoever writes next finishes step 3 first. Nothing here knows what the files hold.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

COMMITTED = ".committed"
_WRITING = ".writing-"


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder to write new files to; they replace those in `folder` if the block ends without an error.

    One writer at a time: the caller holds a lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finish(folder)
    part = Path(tempfile.mkdtemp(dir=folder, prefix=_WRITING))
    try:
        yield part
        for file in part.iterdir():
            _flush(file)
        _flush(part)
        os.rename(part, folder / COMMITTED)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    _flush(folder)
    finish(folder)


def current(folder: Path, name: str) -> Path:
    """Where the newest complete version of a file of the folder is; it may not exist."""
    committed = folder / COMMITTED / name
    return committed if committed.is_file() else folder / name


def finish(folder: Path) -> None:
    """Clear up after a writer that died: move what was committed into place, delete what was not."""
    committed = folder / COMMITTED
    if committed.is_dir():
        for file in sorted(committed.iterdir()):
            os.replace(file, folder / file.name)
        _flush(folder)
        committed.rmdir()
    for left in folder.glob(f"{_WRITING}*"):
        shutil.rmtree(left, ignore_errors=True)


def _flush(path: Path) -> None:
    """Out of the system's cache, onto the disk; where folders cannot be flushed (Windows) theirs is left out."""
    handle = None
    with suppress(PermissionError):
        handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    if handle is None:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
