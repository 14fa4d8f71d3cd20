"""Assets, the cache's place, and writing without half files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from explorer._files import asset_path, atomic_path, cache_dir


def test_asset_path() -> None:
    assert (asset_path("photos") / "ATTRIBUTION.csv").is_file()


def test_missing_asset_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"'no/such\.file' is not among"):
        asset_path("no/such.file")


def test_cache_dir_follows_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIT_EXPLORER_CACHE", str(tmp_path / "elsewhere"))
    assert cache_dir() == tmp_path / "elsewhere"
    assert not cache_dir().exists()
    monkeypatch.setenv("VIT_EXPLORER_CACHE", "~/elsewhere")
    assert cache_dir() == Path.home() / "elsewhere"
    monkeypatch.delenv("VIT_EXPLORER_CACHE")
    assert cache_dir().name == "vit-explorer"
    assert cache_dir().is_absolute()


def test_atomic_path_appears_only_when_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.bin"
    with atomic_path(target) as part:
        part.write_bytes(b"whole")
        assert not target.exists()
        assert part.parent == target.parent
    assert target.read_bytes() == b"whole"
    assert os.listdir(target.parent) == ["file.bin"]


def test_atomic_path_keeps_the_old_file_after_an_error(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def write_half() -> None:
        with atomic_path(target) as part:
            part.write_bytes(b"ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_killed_process_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from explorer._files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as part:\n    part.write_bytes(b'half'); os.kill(os.getpid(), 9)"
    )
    target = tmp_path / "file.bin"
    done = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert done.returncode == -9
    assert not target.exists()
    assert [name.endswith(".part") for name in os.listdir(tmp_path)] == [True]


def test_atomic_file_is_readable_like_any_other(tmp_path: Path) -> None:
    target, plain = tmp_path / "file.bin", tmp_path / "plain.bin"
    plain.write_bytes(b"")
    with atomic_path(target) as part:
        part.write_bytes(b"x")
    assert target.stat().st_mode == plain.stat().st_mode
