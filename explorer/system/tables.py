"""Tables of numbers on the disk that are filled row by row, and gone on with after a stop.

Enters: rows in any order, from one process or several. Leaves: one .npy file for each column, in a folder. Until it is
finished, a further file says which rows are there: a row is said to be there only after its numbers were handed to the
disk, so that a process, or a machine, may stop at any moment and lose a few seconds of work.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from explorer.system.files import allocate

_DONE = "done"  # a .npy file by another name: it is no column
_SAVE_S = 5.0

Columns = dict[str, Float[np.ndarray, "row ..."]]


class Table:
    """Columns of float32 with one row for each thing.

    Args:
        folder: is there, and holds nothing but what a table left in it.
        rows: how many there will be.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows
        self._columns: Columns = {}
        self._written: list[range] = []
        self._saved = time.monotonic()

    def done(self) -> Bool[np.ndarray, " row"]:
        """Which rows are there: none where it was not begun, or is damaged."""
        none = np.zeros(self.rows, dtype=bool)
        try:
            done = np.load(self.folder / _DONE)
            whole = all(len(column) == self.rows for column in _opened(self.folder).values())
        except (OSError, ValueError, EOFError):
            return none
        return done if whole and done.shape == none.shape and done.dtype == bool else none

    def begin(self, example: Columns) -> None:
        """Make the files, unless there are rows in them already; one process does it, before all open them.

        Args:
            example: column -> some rows of it.

        Raises:
            OSError: there is no room for them; then nothing is left of them.
        """
        if self.done().any():
            return
        try:
            for name, values in example.items():
                shape = (self.rows, *values.shape[1:])
                np.lib.format.open_memmap(self.folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=shape)
                allocate(self.folder / f"{name}.npy")
            np.lib.format.open_memmap(self.folder / _DONE, mode="w+", dtype=np.bool_, shape=(self.rows,))
        except OSError:
            for file in self.folder.iterdir():
                file.unlink()
            raise

    def write(self, rows: range, values: Columns) -> None:
        """Fill some rows of a table that was begun."""
        self._columns = self._columns or _opened(self.folder)
        for name, array in values.items():
            self._columns[name][rows.start : rows.stop] = array
        self._written.append(rows)
        if time.monotonic() - self._saved > _SAVE_S:
            self.save()

    def save(self) -> None:
        """Hand what was written to the disk, and then say that it is there."""
        if not self._written:
            return
        for column in self._columns.values():
            column.flush()  # type: ignore[attr-defined]
        done = np.load(self.folder / _DONE, mmap_mode="r+")
        for rows in self._written:
            done[rows.start : rows.stop] = True
        done.flush()
        with suppress(OSError):  # it was used
            os.utime(self.folder)
        self._written, self._saved = [], time.monotonic()

    def finish(self) -> None:
        """Take away what only an unfinished table has."""
        (self.folder / _DONE).unlink()


def _opened(folder: Path) -> Columns:
    return {file.stem: np.load(file, mmap_mode="r+") for file in sorted(folder.glob("*.npy"))}
