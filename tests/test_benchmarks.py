"""The benchmarks run and measure what they say; never how fast anything is, which depends on who else is at work."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # a dozen interpreters, which a busy machine is slow at

BENCHMARKS = Path(__file__).parent / "benchmarks"
BLOCKS = 6  # of timm's test_vit


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The Markdown, and the tables by benchmark, of one quick run in a folder that is not the repository."""
    folder = tmp_path_factory.mktemp("benchmarks")
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--quick", "--only", "capture", "--only", "imports"]
    command += [
        "--only",
        "distillation",
        "--only",
        "extraction",
        "--out",
        str(folder / "docs" / "report.md"),
        "--json",
        str(folder / "report.json"),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    capture, imports, distillation, extraction = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    markdown = (folder / "docs" / "report.md").read_text(encoding="utf-8")
    tables = {"capture": capture["tables"][0], "imports": imports["tables"][0], "distillation": distillation["tables"]}
    tables["extraction"] = extraction["tables"]
    return {"markdown": markdown, **tables}


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


def test_the_report_says_how_it_was_made_and_where_without_naming_the_machine(report: dict[str, Any]) -> None:
    head = report["markdown"].partition("\n## ")[0]
    assert (
        "python tests/benchmarks/run.py --quick --only capture --only imports --only distillation --only extraction"
        in head
    )
    for word in ("cores", "threads", "torch ", "timm ", "No number counts"):
        assert word in head
    assert str(Path.home()) not in report["markdown"]
    assert str(BENCHMARKS) not in report["markdown"]
