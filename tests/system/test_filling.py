"""`Table`: what was written is there after a kill, and only then said to be there."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from explorer.system import tables
from explorer.system.tables import Table

ROOT = Path(__file__).parents[2]


def values(rows: range) -> dict[str, np.ndarray]:
    numbers = np.array(rows, dtype=np.float32)
    return {"one": numbers[:, None] * np.ones(3, dtype=np.float32), "two": numbers}


def test_rows_are_gone_on_with_after_a_kill(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
import tests.system.test_filling as here
table = here.Table(Path({str(tmp_path)!r}), 10)
table.begin(here.values(range(1)))
table.write(range(2, 5), here.values(range(2, 5)))
table.save()
table.write(range(7, 9), here.values(range(7, 9)))  # not handed to the disk
print("now", flush=True)
import time; time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGKILL)
    table = Table(tmp_path, 10)
    assert table.done().tolist() == [False] * 2 + [True] * 3 + [False] * 5
    table.begin(values(range(1)))
    for rows in (range(2), range(5, 10)):
        table.write(rows, values(rows))
    table.save()
    assert table.done().all()
    table.finish()
    for name, expected in values(range(10)).items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), expected)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.npy", "two.npy"]


def test_a_damaged_table_is_begun_anew(tmp_path: Path) -> None:
    table = Table(tmp_path, 4)
    assert not table.done().any()
    table.begin(values(range(1)))
    table.write(range(4), values(range(4)))
    table.save()
    (tmp_path / "one.npy").write_bytes(b"nothing")
    assert not Table(tmp_path, 4).done().any()
    again = Table(tmp_path, 4)
    again.begin(values(range(1)))
    again.write(range(1), values(range(1)))
    again.save()
    assert again.done().tolist() == [True, False, False, False]
    assert not Table(tmp_path, 5).done().any(), "of another number of rows"


def test_without_room_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Path) -> None:
        raise OSError(28, f"no space left for {file.name}")

    monkeypatch.setattr(tables, "allocate", full)
    with pytest.raises(OSError, match="no space left"):
        Table(tmp_path, 4).begin(values(range(1)))
    assert list(tmp_path.iterdir()) == []


def test_it_is_saved_as_time_goes_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_SAVE_S", 0.0)
    table = Table(tmp_path, 3)
    table.begin(values(range(1)))
    table.write(range(2), values(range(2)))
    assert Table(tmp_path, 3).done().tolist() == [True, True, False]
