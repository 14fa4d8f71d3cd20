"""Where the commands write, and with which letters: links, pipes, the standard output, closed streams, terminals."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from explorer.cli import compare
from explorer.cli import main as cli
from explorer.data.sources import load_images
from explorer.models.pairs import load_pair
from explorer.system.files import STDOUT
from explorer.training.config import DistillConfig
from explorer.training.distillation import distill
from tests.small import SIZE, network, picture_folder, picture_set
from tests.together import Run

COMMANDS = [command.name for command in cli.COMMANDS]
EXPORT = ("pairs", "s14-noise", "--export")
BYTE = b"caf\xe9".decode("utf-8", "surrogateescape")  # a name that is no UTF-8, as Python reads it


def in_a_shell(folder: Path, line: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """What a person types; `$X` is the command."""
    variables = {**os.environ, "COLUMNS": "120", "X": f"{sys.executable} -m explorer", **environment}
    return subprocess.run(["sh", "-c", line], capture_output=True, cwd=folder, env=variables, timeout=300)


# Files.


def test_an_export_goes_through_links_and_keeps_them(run: Run, tmp_path: Path) -> None:
    real, link = tmp_path / "real.zip", tmp_path / "link.zip"
    real.write_bytes(b"mine")
    real.chmod(0o640)
    link.symlink_to("real.zip")
    done = run(*EXPORT, "link.zip")
    assert (done.returncode, real.read_bytes()) == (2, b"mine")
    assert "'link.zip' is there already; --force" in done.stderr
    assert run(*EXPORT, "link.zip", "--force").stdout == "wrote link.zip\n"
    assert zipfile.is_zipfile(real)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    (tmp_path / "dangling.zip").symlink_to("new/there.zip")
    assert run(*EXPORT, "dangling.zip").returncode == 0
    assert (tmp_path / "new" / "there.zip").read_bytes() == real.read_bytes()


def test_folders_behind_links_hold_what_was_imported(run: Run, tmp_path: Path) -> None:
    run(*EXPORT, "pair.zip")
    (tmp_path / "link").symlink_to("far")
    assert run("pairs", "--import", "pair.zip", "link").stdout == "wrote link\n"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "card.json").is_file()
    assert "s14" in run("pairs", "link").stdout


def test_a_run_goes_to_the_folder_that_a_link_names(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("disk/run")
    settings = DistillConfig(image_size=SIZE, steps=1, batch_size=4, probe=2)
    list(distill(network(0), picture_set(tmp_path / "pictures"), settings, tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert load_pair(tmp_path / "disk" / "run", teacher=network(0)).card["step"] == 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((*EXPORT, "round"), "symbolic links: 'round'"),
        ((*EXPORT, "folder", "--force"), "'folder' is a folder; name a file in it"),
        ((*EXPORT, "new/"), "expected a file, not a folder, got 'new/'"),
        ((*EXPORT, "file/x.zip"), "Not a directory: 'file/x.zip'"),
        ((*EXPORT, "/dev/fd/999999"), "Bad file descriptor: '/dev/fd/999999'"),
        (("compare", "x.png", "--json", "round"), "symbolic links: 'round'"),
        (("compare", "x.png", "--json", "-", "--html", "-"), "different files; got the standard output twice"),
        (("compare", "x.png", "--json", "-", "--out", "/dev/stdout"), "got the standard output twice"),
        (("compare", "x.png", "--out", "out.v2"), "written as 'out.v2/'; got 'out.v2'"),
        (("sweep", "s14-noise", "--csv", "-", "--json", "/dev/fd/1"), "got the standard output twice"),
        (("embed", "s14-noise", "--csv", "file/x.csv"), "Not a directory: 'file/x.csv'"),
        (("evaluate", "s14-noise", "--json", "link", "--csv", "file", "--force"), "different files; got 'file' twice"),
    ],
)
def test_what_cannot_be_written_is_one_line_before_the_work(
    run: Run, tmp_path: Path, words: tuple[str, ...], part: str
) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "round").symlink_to("round")
    done = run(*words)
    assert done.returncode == 2
    assert part in done.stderr
    assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "link", "round"]
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("out", "file"),
    [
        ("out.v2/", Path("out.v2", "cat-compare.png")),
        ("a.png/", Path("a.png", "cat-compare.png")),
        ("there.v1", Path("there.v1", "cat-compare.png")),
        ("link.v1", Path("link.v1", "cat-compare.png")),
        ("-", STDOUT),
        ("./-.png", Path("-.png")),
        (os.devnull, Path(os.devnull)),
    ],
)
def test_where_a_figure_goes_when_names_have_dots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, file: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.v1").mkdir()
    (tmp_path / "link.v1").symlink_to("there.v1")
    assert compare._figure_file(cli.command_parser().parse_args(["compare", "cat.webp", "--out", out])) == file


@pytest.mark.weights
def test_the_standard_output_holds_one_file_and_nothing_else(run: Run, tmp_path: Path) -> None:
    images = picture_folder(tmp_path / "pictures", per_class=2)
    ask = ("sweep", "s14-noise", "--images", images, "--size", 28, "--values", "0.3")
    done = run(*ask, "--json", "-", "--csv", "sweep.csv")
    assert done.returncode == 0, done.stderr
    assert [row["network"] for row in json.loads(done.stdout)["rows"]] == ["teacher", "student"]
    assert "wrote sweep.csv" in done.stderr
    assert "patch_cosine" in done.stderr, "what people read"
    table = run(*ask, "--csv", "/dev/stdout", "--figure", os.devnull).stdout
    assert table.encode() == (tmp_path / "sweep.csv").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["pictures", "sweep.csv"]
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    assert "wrote pipe" in run(*ask, "--csv", "pipe").stdout
    reader.join(10)
    assert read == [table.encode()]


def test_closed_streams_end_nothing(tmp_path: Path) -> None:
    done = in_a_shell(tmp_path, "$X --help >&-; echo $?; $X nonsense 2>&-; echo $?")
    assert (done.stdout, done.stderr) == (b"0\n2\n", b"")
    code = (
        "import sys\n"
        "from explorer.cli import main as cli, parts\n"
        "def work(options):\n"
        "    print('said')\n"
        "    for name in ('done', '-'):\n"
        "        parts.check_outputs({'--json': parts.output(name)}, False)\n"
        "        parts.write(parts.output(name), b'work')\n"
        "options = cli.command_parser().parse_args(['weights'])\n"
        "options.run = work\n"
        "cli._mend_streams()\n"
        "sys.exit(cli._run(options))\n"
    )
    (tmp_path / "work.py").write_text(code)
    done = in_a_shell(tmp_path, f"{sys.executable} work.py >&-")
    assert done.returncode == 2
    assert done.stderr == b"vit-explorer: Bad file descriptor: '/dev/stdout'\n"
    assert (tmp_path / "done").read_bytes() == b"work"
    (tmp_path / "done").unlink()
    done = in_a_shell(tmp_path, f"{sys.executable} work.py 2>&-")
    assert (done.returncode, done.stdout) == (0, b"said\nwork")


# Letters.


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "latin-1", "cp1252", "utf-8"])
def test_help_can_be_read_on_every_terminal(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    for command in COMMANDS:
        written = io.BytesIO()
        with monkeypatch.context() as here:
            here.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, errors="strict"))
            assert cli.main([command, "--help"]) == 0
            sys.stdout.flush()
            text = written.getvalue().decode(encoding)
        assert f"vit-explorer {command}" in text
        assert ("\\u2026" in text) <= (encoding not in ("utf-8", "cp1252")), "only what is not there is escaped"


def test_processes_in_old_locales(tmp_path: Path) -> None:
    shown = in_a_shell(tmp_path, "$X sweep --help", PYTHONIOENCODING="cp437")
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"A,B,\\u2026" in shown.stdout
    old = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    shown = in_a_shell(tmp_path, "$X distill --help && $X compare \N{CAT FACE}.png --json x/", **old)
    assert (shown.returncode, shown.stdout.count(b"usage:")) == (2, 1)
    assert b"expected a file, not a folder" in shown.stderr


@pytest.mark.weights
def test_names_that_are_no_utf_8(run: Run, tmp_path: Path) -> None:
    images = picture_folder(tmp_path / "pictures", per_class=2)
    (images / "red").rename(images / BYTE)
    (images / BYTE / "0.png").rename(images / BYTE / f"{BYTE}.png")
    shutil.copy(images / BYTE / "1.png", tmp_path / f"{BYTE}.png")
    files = ("--json", f"{BYTE}.json", "--csv", "table.csv", "--figure", f"{BYTE}.figure.png")
    done = run("embed", "s14-noise", "--images", images, "--size", 28, *files)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / f"{BYTE}.json").read_text())["rows"]
    names = [row["name"] for row in rows]
    assert names[2:4] == [r"caf\xe9/1.png", r"caf\xe9/caf\xe9.png"]
    assert names == pd.read_csv(tmp_path / "table.csv")["name"].tolist()
    assert Image.open(tmp_path / f"{BYTE}.figure.png").format == "PNG"
    files = ("--out", f"{BYTE}.compared.png", "--html", "page.html", "--json", "-")
    done = run("compare", f"{BYTE}.png", "--size", 28, *files)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["image"] == r"caf\xe9.png"
    assert r"<title>caf\xe9.png: gaussian_noise" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert r"wrote caf\xe9.compared.png" in done.stderr


def test_pictures_whose_names_are_no_utf_8_are_found_and_told_apart(tmp_path: Path) -> None:
    images = picture_folder(tmp_path / "pictures", per_class=1)
    for place, name in enumerate((BYTE, b"caf\xe8".decode("utf-8", "surrogateescape"))):
        (images / ("red", "blue")[place]).rename(images / name)
    found = load_images(images, size=16)
    assert found.classes == (r"caf\xe8", r"caf\xe9", "green")
    assert found.names == (r"caf\xe8/0.png", r"caf\xe9/0.png", "green/0.png")
    assert found.stack().shape == (3, 3, 16, 16)
    assert os.fsencode(str(found.path(1))).endswith(b"caf\xe9/0.png")
