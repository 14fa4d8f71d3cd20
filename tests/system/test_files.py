"""Assets, the cache's place, and writing without half files."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from explorer.system.files import asset_path, atomic_path, cache_dir, check_target, readable
from tests.disks import read_only


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
        "import os, sys; from pathlib import Path; from explorer.system.files import atomic_path\n"
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


# Links, and what is no file of a disk.


def written(target: Path, content: bytes = b"new") -> None:
    with atomic_path(target) as part:
        part.write_bytes(content)


def test_links_are_written_through_to_where_they_point(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "there").write_bytes(b"old")
    links = {"there": tmp_path / "link", "not yet": tmp_path / "dangling", "new/folder/file": tmp_path / "far"}
    for name, link in links.items():
        link.symlink_to(Path("elsewhere", name))
    (tmp_path / "twice").symlink_to("link")
    for link in links.values():
        written(link)
    assert {name: (elsewhere / name).read_bytes() for name in links} == dict.fromkeys(links, b"new")
    written(tmp_path / "twice", b"newer")
    assert (elsewhere / "there").read_bytes() == b"newer"
    assert all(link.is_symlink() for link in (*links.values(), tmp_path / "twice"))
    assert sorted(os.listdir(elsewhere)) == ["new", "not yet", "there"], "no part is left"


def test_an_error_leaves_what_a_link_points_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "link") as part:
        part.unlink()
    assert (tmp_path / "link").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


@pytest.mark.parametrize("name", ["a", "a/file"])
def test_links_that_go_round_are_one_error_that_names_them(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for write in (written, check_target):
        with pytest.raises(OSError, match="symbolic links") as error:
            write(tmp_path / name)
        assert error.value.filename == str(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_who_may_read_a_file_stays_when_it_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    for mode in (0o600, 0o664, 0o444):
        target.chmod(mode)
        written(target)
        assert target.stat().st_mode & 0o777 == mode
    if os.geteuid() == 0:
        os.chown(target, 12345, 23456)
        written(target)
        assert (target.stat().st_uid, target.stat().st_gid) == (12345, 23456)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_and_a_device_are_written_to_and_stay(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to("pipe")
    for target in (pipe, tmp_path / "link"):
        read: list[bytes] = []
        reader = threading.Thread(target=lambda into=read: into.append(pipe.read_bytes()))
        reader.start()
        check_target(target)
        written(target)
        reader.join(10)
        assert read == [b"new"]
    assert pipe.is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]
    written(Path(os.devnull))
    assert Path(os.devnull).is_char_device()
    with pytest.raises(OSError, match="No space left") as error:
        written(Path("/dev/full"))
    assert error.value.filename == "/dev/full"


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs names for open files")
def test_an_open_file_is_gone_on_with(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    file = tmp_path / "file"
    with file.open("wb") as opened:
        opened.write(b"before ")
        opened.flush()
        for name in (f"/dev/fd/{opened.fileno()}", f"/proc/self/fd/{opened.fileno()}"):
            written(Path(name), b"new ")
        opened.write(b"after")
    assert file.read_bytes() == b"before new new after"
    print("before ", end="")
    for name in ("/dev/stdout", "/dev/fd/1"):
        written(Path(name), b"new ")
    assert capfd.readouterr().out == "before new new "
    assert Path("/dev/stdout").is_symlink()
    with pytest.raises(OSError, match="Bad file descriptor"):
        check_target(Path("/dev/fd/999999"))


def test_what_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    check_target(tmp_path / "not" / "yet" / "file")
    check_target(tmp_path / "file")
    with pytest.raises(NotADirectoryError) as error:
        check_target(tmp_path / "file" / "x")
    assert error.value.filename == str(tmp_path / "file" / "x")
    assert os.listdir(tmp_path) == ["file"], "looking leaves nothing"
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_disk_that_is_read_only_is_known_before_the_work(tmp_path: Path) -> None:
    with read_only(tmp_path):
        for write in (check_target, written):
            with pytest.raises(OSError, match="Read-only") as error:
                write(tmp_path / "file")
            assert error.value.filename == str(tmp_path / "file")


def test_the_longest_names_that_a_disk_takes_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "\N{PILE OF POO}" * 63):
        written(tmp_path / name)
        assert os.listdir(tmp_path) == [name]
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), r"caf\xe9"),
        ("\N{CAT FACE}".encode().decode("ascii", "surrogateescape"), "\N{CAT FACE}"),  # read under LC_ALL=C
        ("\ud800x", "\N{REPLACEMENT CHARACTER}x"),  # of Windows
    ],
)
def test_names_that_are_no_text_become_text(name: str, text: str) -> None:
    assert readable(name) == text
    assert readable(text) == text
