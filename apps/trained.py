"""Where the students of the app's visitors lie: one folder each, found by a name that nobody can guess.

They outlive the app. Whoever knows a name may use that student, so that a link to it can be shared; nobody is shown
the names of others. No Gradio in here.
"""

import os
import re
import secrets
import shutil
from pathlib import Path

import platformdirs

from explorer._replacement import current
from explorer.pairs import CARD, PairError, import_pair, read_card

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
        OSError: the disk is nearly full.
    """
    root = runs_dir()
    root.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(root).free < FREE_BYTES:
        raise OSError(
            f"less than {FREE_BYTES >> 30} GiB is free where students are kept: delete some of the folders in "
            f"{RUNS_VARIABLE}, or point it elsewhere"
        )
    return root / f"run-{secrets.token_hex(10)}"


def folder_of(name: str) -> Path | None:
    """The folder of a visitor's student; None if there is none of this name."""
    folder = runs_dir() / name
    return folder if _NAME.fullmatch(name) and current(folder, CARD).is_file() else None


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
