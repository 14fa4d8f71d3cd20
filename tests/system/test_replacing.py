"""A writer that dies at any system call leaves all old files or all new ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from explorer.system.replacing import COMMITTED, current, finish, replacing

NAMES = ("a", "b", "c")

# Writes new files, and dies without a word (as by SIGKILL) just before its n-th call of these functions.
DYING = """
import os, sys
from pathlib import Path
from explorer.system import replacing as _replacement
folder, left = Path(sys.argv[1]), int(sys.argv[2])
def deadly(function):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return function(*args, **kwargs)
    return call
for name in ("rename", "replace", "fsync", "rmdir", "open"):
    setattr(os, name, deadly(getattr(os, name)))
Path.rmdir = deadly(Path.rmdir)
with _replacement.replacing(folder) as part:
    for name in "abc":
        (part / name).write_text("new")
"""


def write(folder: Path, text: str) -> None:
    with replacing(folder) as part:
        for name in NAMES:
            (part / name).write_text(text)


def read(folder: Path) -> set[str]:
    return {current(folder, name).read_text() for name in NAMES}


def test_a_writer_that_dies_anywhere(tmp_path: Path) -> None:
    results, calls = [], 0
    while True:
        folder = tmp_path / str(calls)
        write(folder, "old")
        code = subprocess.run([sys.executable, "-c", DYING, str(folder), str(calls)], check=False).returncode
        seen = read(folder)
        assert len(seen) == 1, f"a mix of old and new after {calls} calls"
        finish(folder)
        assert read(folder) == seen
        assert sorted(path.name for path in folder.iterdir()) == list(NAMES)
        results.append(seen.pop())
        if code == 0:
            break
        assert code == 9
        calls += 1
    assert calls > 8
    assert results[0] == "old"
    assert results[-1] == "new"
    assert results == sorted(results, reverse=True), "old files came back"
    write(tmp_path / str(calls), "newer")
    assert read(tmp_path / str(calls)) == {"newer"}


def test_an_error_leaves_the_old_files(tmp_path: Path) -> None:
    write(tmp_path, "old")
    with pytest.raises(IsADirectoryError), replacing(tmp_path) as part:
        part.write_text("a folder cannot be written")
    assert read(tmp_path) == {"old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == list(NAMES)


def test_the_next_writer_finishes_what_was_committed(tmp_path: Path) -> None:
    write(tmp_path, "old")
    (tmp_path / COMMITTED).mkdir()
    (tmp_path / COMMITTED / "a").write_text("committed")
    assert current(tmp_path, "a").read_text() == "committed"
    with replacing(tmp_path) as part:
        (part / "b").write_text("new")
    assert [(tmp_path / name).read_text() for name in NAMES] == ["committed", "new", "old"]
    assert not os.path.exists(tmp_path / COMMITTED)
