"""Where the students of the app's visitors lie: one folder each, found by a name that nobody can guess.

They outlive the app. Whoever knows a name may use that student, so that a link to it can be shared; nobody is shown
the names of others.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from explorer.models.pairs import CARD, PairError, import_pair, read_card
from explorer.system.files import claimed
from explorer.system.replacing import current

RUNS_VARIABLE = "VIT_EXPLORER_RUNS"
FREE_BYTES = 1 << 30  # less than this, and nothing more is taken in
_NAME = re.compile(r"run-[0-9a-f]{20}")


def runs_dir() -> Path:
    """The folder of all runs; set VIT_EXPLORER_RUNS to move it."""
    chosen = os.environ.get(RUNS_VARIABLE)
    data = Path(platformdirs.user_data_dir("vit-explorer", appauthor=False))
    return Path(chosen).expanduser() if chosen else data / "runs"


def new_folder() -> Path:
    """A folder for a new student, which is not there yet; its name is the student's.

    Raises:
        OSError: the disk is nearly full, or cannot be written to.
    """
    root = runs_dir()
    with kept_secret("students"):
        root.mkdir(parents=True, exist_ok=True)
    _remove_deserted(root)
    if shutil.disk_usage(root).free < FREE_BYTES:
        raise OSError(
            f"less than {FREE_BYTES >> 30} GiB is free where students are kept: delete some of the folders in "
            f"{RUNS_VARIABLE}, or point it elsewhere"
        )
    return root / f"run-{secrets.token_hex(10)}"


@contextmanager
def kept_secret(what: str) -> Iterator[None]:
    """Tell what could not be written, and how to mend it, without telling visitors where this machine keeps files.

    Raises:
        OSError: whatever kept the block from writing.
    """
    try:
        yield
    except OSError as error:
        raise OSError(
            f"nothing can be written where {what} are kept ({error.strerror or 'no reason is known'}): free some space "
            f"there, or point {RUNS_VARIABLE} to a folder that can be written to"
        ) from error


def _remove_deserted(root: Path) -> None:
    """Folders of runs whose server was killed before their first checkpoint: there is nothing to go on from."""
    for folder in root.iterdir():
        if _NAME.fullmatch(folder.name) and not current(folder, CARD).is_file():
            with suppress(OSError), claimed(folder):
                if not current(folder, CARD).is_file():  # nor was one written by whoever had claimed it until now
                    shutil.rmtree(folder, ignore_errors=True)


def folder_of(name: str) -> Path | None:
    """The folder of a visitor's student; None if there is none of this name."""
    folder = runs_dir() / name
    return folder if _NAME.fullmatch(name) and current(folder, CARD).is_file() else None


def still_there(recalled: Any) -> list[str]:
    """The visitor's own students that are still there, as the browser recalls them."""
    names = recalled if isinstance(recalled, list) else []
    return [name for name in names if isinstance(name, str) and folder_of(name)]


def label_of(name: str) -> str:
    """What a visitor's student is called in lists.

    Raises:
        PairError: it is damaged, or there is none.
    """
    folder = folder_of(name)
    if folder is None:
        raise PairError(f"there is no student '{name}'")
    card = read_card(folder)
    steps = "1 step" if card["step"] == 1 else f"{card['step']} steps"
    return f"yours {name[4:8]}: {card['distortion']}, {steps}"


def take_in(file: str) -> str:
    """Unpack a student that was saved as one file; its new name.

    Raises:
        PairError: the file holds no student.
        OSError: the disk is nearly full.
    """
    return import_pair(file, new_folder()).name
