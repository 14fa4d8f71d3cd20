"""docs/compare_rivals.py: work that is shared and taken up again, and its report from a small kept file."""

import base64
import csv
import json
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from explorer.evaluation.intervals import compare_paired
from explorer.system.files import claimed

TEST_PICTURES = 60
SETTINGS = {
    "recipe": {
        "steps": 2,
        "batch_size": 16,
        "image_size": 112,
        "trainable": "lora:8",
        "precision": "bfloat16",
        "cls": 1.0,
        "patch": 1.0,
        "attention": 1.0,
    },
    "pictures": {"caltech101": [120, TEST_PICTURES], "cifar10": [120, 50]},
    "per_class": None,
    "finetune_steps": 4,
}
NOISE = "gaussian_noise(sigma=0.3)"


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "docs")
    import compare_rivals

    return compare_rivals


@pytest.fixture
def report(rivals: ModuleType) -> ModuleType:
    import results_report

    return results_report


def bits(right: np.ndarray) -> str:
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def first(count: int) -> np.ndarray:
    """The first so many of the test pictures are right."""
    return np.arange(TEST_PICTURES) < count


def kept(report: ModuleType) -> dict[str, Any]:
    """One whole cell, one that lacks a rival, and nothing else."""
    rows = {row: 10 + place for place, row in enumerate(report.RIVALS["s14"])} | {report.JOINED: 30, report.ORACLE: 55}
    right = {
        report.key_of("caltech101", "s14", row, NOISE, 1.0, "linear", 0): bits(first(n)) for row, n in rows.items()
    }
    for seed, count in enumerate((40, 42, 44)):
        for fraction in (1.0, 0.1):
            right[report.key_of("caltech101", "s14", report.OURS, NOISE, fraction, "linear", seed)] = bits(first(count))
    right[report.key_of("caltech101", "s14", report.FLOOR, NOISE, 0.1, "linear", 0)] = bits(first(41))
    right[report.key_of("caltech101", "s14", report.CEILING, "none", 1.0, "linear", 0)] = bits(first(50))
    search = {"search": {"caltech101 / 0.001": {"2": 0.25, "4": 0.5}}, "cpu_seconds": 3600.0}
    return {"settings": SETTINGS, "units": {"a": {"right": right, "cpu_seconds": 1800.0}, "b": search}}


def test_the_report_says_what_is_decided_and_what_was_not_run(report: ModuleType, tmp_path: Path) -> None:
    report.write(kept(report), tmp_path)
    lines = (tmp_path / "results.md").read_text(encoding="utf-8").splitlines()
    shares = np.mean([first(count) for count in (40, 42, 44)], axis=0)
    best = compare_paired(shares, first(15))
    found = [line for line in lines if line.startswith("| noise 0.3 ")]
    assert found[0] == (
        "| noise 0.3 | 0.167 | 0.183 | 0.200 | 0.217 | 0.233 | 0.250 | **0.700 ± 0.033** "
        f"| +0.450 [{best.low:+.3f}, {best.high:+.3f}] (contrastive) | ahead | 80% | *0.500* | *0.917* | *0.833* |"
    )
    assert found[1] == (
        "| noise 0.3 | 0.683 | not run yet | not run yet | not run yet | not run yet | not run yet | 0.700 ± 0.033 "
        "|  | not decided yet |  | not run yet | not run yet | not run yet |"
    )
    assert "| Caltech-101, `s14` | 100% | linear | 1 of 8 | 1 | 0 | 0 | 80% |" in lines
    assert "| Caltech-101, `s14` | 100% | linear | 1 of 8 | 1 | 0 | 0 | 50% |" in lines, "the row apart, too"
    assert "| CIFAR-10, `s14` | 100% | linear | not run yet |  |  |  |  |" in lines
    assert "| frozen + probe | 1 / 1 / 0 | not run yet | not run yet |" in lines
    assert (
        "| *oracle restoration + probe*, told the damage: no rival | 0 / 0 / 1 | not run yet | not run yet |" in lines
    )
    assert "| Caltech-101 | 0.001 | 0.250 | 0.500 |" in lines
    assert any("1.5 core hours" in line for line in lines)
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "results.json").read_text()) == kept(report)
    with (tmp_path / "results.csv").open(encoding="utf-8") as file:
        joined, ours = (row for row in csv.DictReader(file) if row["verdict"])
    assert joined["row"] == report.JOINED
    assert (ours["row"], ours["seeds"], ours["accuracy"], ours["best_rival"]) == (
        *("three-level student", "3", "0.7000"),
        "contrastive student",
    )


def unit(rivals: ModuleType, name: str, done: list[str], *needs: str, **more: Any) -> Any:
    return rivals.Unit(name, lambda: done.append(name) or {"right": {}}, needs, **more)


def test_units_are_done_once_in_order_and_after_what_they_need(rivals: ModuleType, tmp_path: Path) -> None:
    done: list[str] = []
    units = [unit(rivals, "a", done, "c"), unit(rivals, "b", done), unit(rivals, "c", done, for_others=True)]
    unneeded = unit(rivals, "d", done, for_others=True)
    for _ in range(2):
        rivals.work_through([*units, unneeded], tmp_path)
        assert done == ["b", "c", "a"]
    assert {file.name for file in tmp_path.iterdir()} == {"a.json", "b.json", "c.json"}


def test_a_unit_that_lacks_a_probe_of_today_is_done_again(
    rivals: ModuleType, report: ModuleType, tmp_path: Path
) -> None:
    def right(probes: tuple[str, ...]) -> dict[str, Any]:
        return {"right": {report.key_of("cifar10", "s14", report.OURS, NOISE, 1.0, probe, 0): "" for probe in probes}}

    (tmp_path / "a.json").write_text(json.dumps(right(report.PLAIN)))
    for _ in range(2):
        rivals.work_through([rivals.Unit("a", lambda: right(report.PROBES))], tmp_path)
        found = json.loads((tmp_path / "a.json").read_text())
        assert found["right"] == right(report.PROBES)["right"]


def test_what_another_process_is_doing_is_left_to_it(rivals: ModuleType, tmp_path: Path) -> None:
    done: list[str] = []
    second = Event()
    last = rivals.Unit("b", lambda: done.append("b") or second.set() or {"right": {}})
    units = [unit(rivals, "a", done), last]
    work = Thread(target=lambda: rivals.work_through(units, tmp_path, wait_s=0.01))
    with claimed(tmp_path / "a"):
        work.start()
        assert second.wait(10)
        assert (done, work.is_alive()) == (["b"], True)
    work.join(10)  # that one ended without a result
    assert done == ["b", "a"]


def test_a_unit_that_fails_leaves_nothing(rivals: ModuleType, tmp_path: Path) -> None:
    def fail() -> dict[str, Any]:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        rivals.work_through([rivals.Unit("a", fail)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_words_choose_units_and_what_these_need(rivals: ModuleType) -> None:
    done: list[str] = []
    units = [unit(rivals, "x.trained", done), unit(rivals, "x.noise", done, "x.trained"), unit(rivals, "x.blur", done)]
    assert [chosen.name for chosen in rivals._chosen(units, ["noise"])] == ["x.trained", "x.noise"]
    assert rivals._chosen(units, []) == units
    with pytest.raises(SystemExit, match="no unit has the parts blurred; parts are blur, noise, trained, x"):
        rivals._chosen(units, ["blurred"])


def test_committed_numbers_are_not_computed_again(rivals: ModuleType, report: ModuleType, tmp_path: Path) -> None:
    committed = tmp_path / "results.json"
    before = kept(report)
    committed.write_text(json.dumps(before | {"units": {**before["units"], "c.trained": {"cpu_seconds": 1.0}}}))
    rivals.begin(tmp_path / "runs", SETTINGS, committed)
    assert rivals.collected(tmp_path / "runs") == before  # without the student, which is not committed


def test_numbers_of_other_settings_never_come_together(rivals: ModuleType, report: ModuleType, tmp_path: Path) -> None:
    committed = tmp_path / "results.json"
    rivals.begin(tmp_path / "runs", SETTINGS, committed)
    other = SETTINGS | {"finetune_steps": 8}
    with pytest.raises(SystemExit, match="runs' holds numbers of other settings: finetune_steps was 4 and is 8"):
        rivals.begin(tmp_path / "runs", other, committed)
    committed.write_text(json.dumps(kept(report)))
    with pytest.raises(SystemExit, match=r"results\.json' holds numbers of other settings"):
        rivals.begin(tmp_path / "others", other, committed)
    with pytest.raises(SystemExit, match="nothing is finished"):
        rivals.collected(tmp_path / "others")


def names(units: list[Any], keep: Callable[[str], bool]) -> list[str]:
    return [unit.name for unit in units if keep(unit.name)]


def test_the_work_leaves_whole_tables_early(rivals: ModuleType, tmp_path: Path) -> None:
    """Caltech-101 with all rivals comes first, further seeds after all of seed 0; every need is among the units."""
    import argparse

    options = argparse.Namespace(all=True, runs=tmp_path, steps=2, per_class=None)
    units = rivals.Lab({"caltech101": tmp_path, "cifar10": tmp_path}, options).units()
    every = names(units, lambda name: True)
    assert len(set(every)) == len(every)
    assert {need for unit in units for need in unit.needs} <= set(every)
    last_of_caltech = max(map(every.index, names(units, lambda name: name.startswith("caltech101.s14.oracle"))))
    assert last_of_caltech < min(map(every.index, names(units, lambda name: name.startswith("cifar10"))))
    later = names(units, lambda name: ".seed1." in name or ".seed2." in name)
    assert set(later) <= set(every[every.index("caltech101.clip-b16.clean-teacher.none") :])
