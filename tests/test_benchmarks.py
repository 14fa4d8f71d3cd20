"""The benchmarks run and measure what they say; never how fast anything is, which depends on who else is at work."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # a dozen interpreters, which a busy machine is slow at

BENCHMARKS = Path(__file__).parent / "benchmarks"
NAMES = ("capture", "imports", "distillation", "extraction", "rivals", "lightly", "growth")
BLOCKS = 6  # of timm's test_vit


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The Markdown, and the tables by benchmark, of one quick run in a folder that is not the repository."""
    folder = tmp_path_factory.mktemp("benchmarks")
    only = [word for name in NAMES for word in ("--only", name)]
    files = ["--out", str(folder / "docs" / "report.md"), "--json", str(folder / "report.json")]
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--quick", *only, *files]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sections = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    tables = {name: section["tables"] for name, section in zip(NAMES, sections, strict=True)}
    markdown = (folder / "docs" / "report.md").read_text(encoding="utf-8")
    return {"markdown": markdown, **tables, "capture": tables["capture"][0], "imports": tables["imports"][0]}


def test_each_way_of_capturing_returns_the_maps_it_is_timed_for(report: dict[str, Any]) -> None:
    maps = {row[0]: row[1] for row in report["capture"]["rows"]}
    assert maps == {
        "plain forward, fused": 0,
        "forward_intermediates, fused": 0,
        "trace(attention=None), all layers": 0,
        'trace(attention="cls"), all layers': BLOCKS,
        'trace(attention="full"), all layers': BLOCKS,
        "plain forward, unfused": 0,
        "timm AttentionExtract hook, unfused": BLOCKS,
        "timm AttentionExtract fx, unfused": BLOCKS,
        "timm AttentionExtract hook, fused": 0,  # timm's silence on fused models, which ours has to break
    }


def test_all_maps_are_those_of_timm(report: dict[str, Any]) -> None:
    differences = [row[2] for row in report["capture"]["rows"] if row[1]]
    assert len(differences) == 4
    assert max(differences) < 1e-6


def test_ratios_are_those_of_the_baseline_of_the_same_table(report: dict[str, Any]) -> None:
    for table in (report["capture"], report["imports"], *report["distillation"][:2]):
        ratios = [row[-2:] for row in table["rows"]]
        assert ratios[0] == [1.0, 1.0]
        assert all(0 < least <= median for least, median in ratios)


def test_importing_is_compared_with_torch_and_timm(report: dict[str, Any]) -> None:
    baseline, alone, used = report["imports"]["rows"]
    assert baseline[:2] == ["`import torch, timm`", 0]
    assert alone[1] < 5, "`import explorer` loads nothing by itself"
    assert 10 < used[1] < 150, "a trace needs explorer's modules and little else"


def test_each_step_learns_from_the_levels_that_it_is_timed_for(report: dict[str, Any]) -> None:
    lora, everything, _ = report["distillation"]
    assert ["`lora:8`" in lora["title"], "`all`" in everything["title"]] == [True, True]
    for table in (lora, everything):
        assert {row[0]: row[1] for row in table["rows"]} == {
            "CLS loss in plain torch": 1,
            "CLS level": 1,
            "three levels, own rows": 3,
            "three levels": 3,
            "cached teacher, CLS level": 1,
            "cached teacher, three levels, own rows": 3,
            "cached teacher, three levels": 3,
        }
        assert table["notes"][0].count("Aim: ") == 2


def test_runs_are_timed_and_their_memory_is_measured(report: dict[str, Any]) -> None:
    rows = report["distillation"][2]["rows"]
    assert [row[:2] for row in rows] == [["`lora:8`", "teacher in each step"], ["`lora:8`", "cached teacher"]]
    for _, _, _, median_ms, rate, _, _, peak in rows:
        assert rate == pytest.approx(1000 * 2 / median_ms)  # a batch of two
        assert 1 < peak < 2000, "mebibytes that training the smallest model takes"


def test_embedding_is_compared_with_the_bare_passes(report: dict[str, Any]) -> None:
    ways, waiting = report["extraction"]
    assert ways["rows"][0][2:] == [1.0, 1.0]
    assert all(row[1] > 0 for row in ways["rows"])
    assert ways["notes"][0].startswith("Aim: `embed`, to the disk <= 1.10x")
    first, again, sweep = (row[1] for row in waiting["rows"])
    assert again < first
    assert sweep > 0


def test_rivals_are_measured_where_they_are_installed(report: dict[str, Any]) -> None:
    (table,) = report["rivals"]
    maps = {row[0]: row[1] for row in table["rows"]}
    ours = {'rollout(trace(attention="full"))': 1, 'trace(attention="cls"), all blocks': BLOCKS}
    assert maps.items() >= ours.items()
    assert all(row[3] == 0 for row in table["rows"] if row[0] in ours), "no hooks are left"
    for package, way in (("fast-vit-rollout", "fast-vit-rollout, unfused"), ("daam-timm-vit", "daam-timm-vit")):
        missing = package in table["notes"][0]
        assert missing != (way in maps)
        assert missing or next(row[2] for row in table["rows"] if row[0] == way) < 1e-6, "the same as ours"


def test_lightly_train_is_measured_where_its_environment_is_named(report: dict[str, Any]) -> None:
    (table,) = report["lightly"]
    named = bool(os.environ.get("LIGHTLY"))
    assert [row[0] for row in table["rows"]] == (["three levels", "lightly-train"] if named else [])
    assert ("LIGHTLY" in table["notes"][0], "Aim: " in table["notes"][0]) == (not named, named)


def test_growth_is_told_as_a_power(report: dict[str, Any]) -> None:
    _, layers, batch, distorted, embedded = report["growth"]
    assert [row[0] for row in layers["rows"]] == ["1", str(BLOCKS), "*power*"]
    for table in (batch, distorted, embedded):
        small, large, power = (row[1] for row in table["rows"])
        assert power == pytest.approx(math.log2(large / small)), "the sizes are twice each other"


@pytest.mark.slow
def test_maps_of_many_pictures_are_compared_with_the_bare_libraries(tmp_path: Path) -> None:
    first, pca, umap = quickly("projection", tmp_path)["tables"]
    assert all(seconds > 0 for row in first["rows"] for seconds in row[2:])
    for table in (pca, umap):
        assert [row[0] for row in table["rows"]] == [60, 90]
        assert all(0 < row[-2] <= row[-1] for row in table["rows"])


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.weights
def test_the_app_is_timed_from_click_to_picture(tmp_path: Path, s14: object) -> None:
    start, use = quickly("app", tmp_path)["tables"]
    answered, shown = (row[1] for row in start["rows"])
    assert 0 < answered < shown
    assert len(use["rows"]) == 6
    assert all(0 <= repaint <= wait <= most for _, _, wait, most, repaint in use["rows"])


def quickly(name: str, folder: Path) -> dict[str, Any]:
    """One benchmark's section, measured with --quick."""
    file = folder / "report.json"
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--quick", "--only", name, "--json", str(file)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text(encoding="utf-8"))[0]


def test_one_section_is_renewed_in_its_place(tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    file.write_text(
        "# Benchmarks\n\nOld words.\n\n## First\n\nkept 1\n\n### A table\n\nkept 2\n\n"
        "## Import: what explorer adds to torch and timm\n\nold numbers\n\n## Last\n\nkept 3\n",
        encoding="utf-8",
    )
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--quick", "--only", "imports", "--out", str(file)]
    subprocess.run([*command, "--update"], check=True, capture_output=True)
    text = file.read_text(encoding="utf-8")
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == ["## First", "## Import: what explorer adds to torch and timm", "## Last"]
    assert "kept 1\n\n### A table\n\nkept 2\n\n## Import" in text
    assert text.endswith("## Last\n\nkept 3\n")
    assert "old numbers" not in text
    assert "`import explorer`" in text


def test_each_section_says_how_it_was_made_and_where_without_naming_the_machine(report: dict[str, Any]) -> None:
    head, *sections = report["markdown"].split("\n## ")
    assert "--update" in head
    assert len(sections) == len(NAMES)
    for name, section in zip(NAMES, sections, strict=True):
        assert f"python tests/benchmarks/run.py --quick --only {name} --out" in section
        for word in ("cores", "threads", "torch ", "timm ", "No number counts"):
            assert word in section
    assert str(Path.home()) not in report["markdown"]
    assert str(BENCHMARKS) not in report["markdown"]
