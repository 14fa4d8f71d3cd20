"""A benchmark: the same numbers as `sweep` cell by cell, errors by hand, and a stopped run that goes on."""

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

from explorer import Benchmark, benchmark, distortion, load_benchmark, sweep
from explorer.data.sets import ImageSet
from explorer.data.sources import load_images
from explorer.errors import InputError
from explorer.evaluation import benchmarking
from explorer.evaluation.benchmarking import CLEAN, CORRUPTIONS, MEASURED, benchmark_steps
from explorer.evaluation.features import CacheError
from explorer.inspection.intervening import Part, intervene
from explorer.models.backbones import Backbone
from explorer.models.pairs import Pair
from explorer.models.weights import state_digest
from explorer.system.files import CACHE_VARIABLE
from tests.disks import end_of, forked
from tests.small import network, pair, picture_folder, picture_set

NAMES, SEVERITIES = ("fog", "gaussian_noise", "saturate"), (1, 4)


@pytest.fixture(scope="module")
def both() -> Pair:
    return pair("gaussian_noise(sigma=0.2..0.5) | fog:4")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return picture_set(tmp_path_factory.mktemp("pictures"), per_class=4)


@pytest.fixture(scope="module")
def found(both: Pair, images: ImageSet) -> Benchmark:
    return benchmark(both, images, NAMES, SEVERITIES, seed=3, cache=False)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tells each network's passes over a batch of pictures."""
    seen: list[str] = []
    trace = Backbone.trace

    def counted(self: Backbone, *given: Any, **others: Any) -> Any:
        seen.append(self.source)
        return trace(self, *given, **others)

    monkeypatch.setattr(Backbone, "trace", counted)
    return seen


def test_what_is_replaced_is_measured_and_not_kept(both: Pair, images: ImageSet, tmp_path: Path) -> None:
    plain = benchmark(both, images, "fog", (4,), cache=tmp_path)
    kept = sorted(tmp_path.rglob("*"))
    with intervene(both.student, Part("attention", 3)):
        replaced = benchmark(both, images, "fog", (4,), cache=tmp_path)
    assert replaced.cells["student"] != plain.cells["student"]
    assert replaced.cells["teacher"] == plain.cells["teacher"]
    assert sorted(tmp_path.rglob("*")) == kept


def test_weights_that_were_changed_in_memory_have_a_digest_of_their_own(images: ImageSet, tmp_path: Path) -> None:
    own = pair("fog:4")
    plain = benchmark(own, images, "fog", (4,), cache=tmp_path)
    with torch.no_grad():
        next(own.student.module.parameters()).mul_(1.5)
    changed = benchmark(own, images, "fog", (4,), cache=tmp_path)
    assert changed.sha256["teacher"] == plain.sha256["teacher"]
    assert changed.sha256["student"] == state_digest(own.student.module.state_dict()) != plain.sha256["student"]
    assert changed.cells["student"] != plain.cells["student"]


def test_cells_are_those_of_a_sweep(both: Pair, images: ImageSet, found: Benchmark) -> None:
    table = found.frame().set_index(["corruption", "severity", "view"])
    assert len(table) == len(NAMES) * len(SEVERITIES) * 2
    for name in NAMES:
        swept = sweep(both, images, name, SEVERITIES, parameter="severity", seed=3)
        for view, rows in swept.rows.items():
            for severity, row in zip(SEVERITIES, rows, strict=True):
                cell = table.loc[name, severity, view]
                assert dict(cell[list(MEASURED)]) == {
                    measure: row["nearest_label" if measure == "accuracy" else measure] for measure in MEASURED
                }
    clean = sweep(both, images, "gaussian_noise", (0,), seed=3)
    assert found.clean["student"]["cls_cosine"] == clean.rows["student"][0]["cls_cosine"]
    assert found.clean["teacher"]["cls_cosine"] == pytest.approx(1)
    assert found.accuracy_by == "1-NN"


def test_errors_are_those_of_a_hand_computation(found: Benchmark) -> None:
    random = np.random.default_rng(0)  # these pictures are too easy to be mistaken
    cells = {
        view: {place: {**cell, "accuracy": random.uniform(0.2, 0.9)} for place, cell in each.items()}
        for view, each in found.cells.items()
    }
    drawn = replace(found, cells=cells)
    rows = list(drawn.frame().itertuples())
    for measure, means in (("cls_cosine", drawn.mean_error), ("accuracy", drawn.mean_accuracy_error)):
        numbers = {(row.corruption, row.severity, row.view): getattr(row, measure) for row in rows}
        total = 0.0
        for name in NAMES:
            lost = {view: sum(1 - numbers[name, s, view] for s in SEVERITIES) for view in ("teacher", "student")}
            total += lost["student"] / lost["teacher"]
        assert means == pytest.approx({"teacher": 1.0, "student": total / len(NAMES)})
    summary = drawn.summary().set_index("view")
    assert summary.loc["student", "mean_error"] == drawn.mean_error["student"]
    assert summary.loc["student", "clean_accuracy"] == cells["student"][CLEAN]["accuracy"]


def test_a_corruption_that_costs_the_teacher_nothing_is_not_in_the_mean(found: Benchmark) -> None:
    whole = {
        **found.cells["teacher"],
        **{("fog", s): {**found.clean["teacher"], "cls_cosine": 1.0} for s in SEVERITIES},
    }
    unharmed = replace(found, cells={**found.cells, "teacher": whole})
    errors = unharmed.errors().set_index(["corruption", "view"])["error"]
    assert np.isnan(errors["fog", "student"])
    others = [errors[name, "student"] for name in ("gaussian_noise", "saturate")]
    assert unharmed.mean_error["student"] == pytest.approx(np.mean(others))


def test_common_corruptions_are_those_of_imagenet_c_and_its_extras(both: Pair, images: ImageSet) -> None:
    assert len(CORRUPTIONS["common"]) == 19
    assert len(CORRUPTIONS["imagenet-c"]) == 15
    assert set(CORRUPTIONS["common"]) - set(CORRUPTIONS["imagenet-c"]) == {
        *("speckle_noise", "gaussian_blur", "spatter", "saturate")
    }
    whole = benchmark(both, images[:1], cache=False)
    assert len(whole.frame()) == 19 * 5 * 2
    assert whole.done == len(whole.places) == 95


def test_what_a_student_was_trained_on_is_marked(found: Benchmark) -> None:
    marks = found.frame().set_index(["corruption", "severity", "view"])["trained_on"]
    # sigma is 0.08 at severity 1 and 0.26 at 4
    assert not marks["gaussian_noise", 1, "student"]
    assert marks["gaussian_noise", 4, "student"]
    assert not marks["fog", 1, "student"]
    assert marks["fog", 4, "student"]
    assert not marks[:, :, "teacher"].any()
    assert not marks["saturate"].any()
    everything = replace(found, learned={"student": distortion("random_corruption")})
    for name in CORRUPTIONS["common"]:
        assert {everything.trained_on("student", name, s) for s in (1, 3, 5)} == {name in CORRUPTIONS["imagenet-c"]}


def test_a_killed_run_goes_on_and_measures_only_what_is_missing(
    both: Pair, images: ImageSet, found: Benchmark, tmp_path: Path, passes: list[str]
) -> None:
    def work() -> None:
        for step in benchmark_steps(both, images, NAMES, SEVERITIES, seed=3, cache=tmp_path, progress=killed_late):
            assert step.done <= 2  # the clean pictures, then fog

    def killed_late(done: int, _total: int) -> None:
        if done > 12 * (1 + 2) + 12 * (1 + 2 * 2) + 12:  # in the midst of the noise
            os.kill(os.getpid(), signal.SIGKILL)

    assert end_of(forked(work)) == -signal.SIGKILL
    told: list[tuple[int, int]] = []
    again = benchmark(
        both, images, NAMES, SEVERITIES, seed=3, cache=tmp_path, batch_size=12, progress=lambda *at: told.append(at)
    )
    pandas.testing.assert_frame_equal(again.frame(), found.frame(), rtol=1e-5, atol=1e-6)
    assert len(passes) == 2 * (1 + 2 * 2)
    assert told[-1] == (12 * 10, 12 * 10)
    passes.clear()
    whole = list(benchmark_steps(both, images, NAMES, SEVERITIES, seed=3, cache=tmp_path))
    assert passes == []
    assert len(whole) == 1
    pandas.testing.assert_frame_equal(whole[0].frame(), again.frame())
    benchmark(both, images, NAMES, (1, 3, 4), seed=3, cache=tmp_path, batch_size=12)
    assert len(passes) == 3 * (1 + 2)  # severity 3 alone


def test_a_student_that_joins_costs_its_own_passes_alone(
    both: Pair, images: ImageSet, tmp_path: Path, passes: list[str]
) -> None:
    alone = benchmark(both, images, "fog", SEVERITIES, cache=tmp_path, batch_size=12)
    passes.clear()
    other = Pair(teacher=both.teacher, student=network(2), distortion=distortion("none"), card={})
    same = Pair(teacher=both.teacher, student=both.teacher, distortion=distortion("none"), card={})
    pairs = {"first": both, "second": other, "copy": same}
    beside = benchmark(pairs, images, "fog", SEVERITIES, cache=tmp_path, batch_size=12)
    assert len(passes) == (1 + 1) + (1 + 2)
    assert beside.cells["first"] == alone.cells["student"]
    assert beside.cells["copy"] == beside.cells["teacher"] == alone.cells["teacher"]
    assert beside.cells["second"] != beside.cells["first"]
    swept = sweep(pairs, images, "fog", SEVERITIES, parameter="severity")
    assert beside.sheet("second")[0] == pytest.approx([row["cls_cosine"] for row in swept.rows["second"]], abs=1e-6)


def test_other_pictures_seeds_and_labels_are_measured_anew(
    both: Pair, images: ImageSet, tmp_path: Path, passes: list[str]
) -> None:
    given: dict[str, Any] = {"corruptions": "fog", "severities": (2,), "cache": tmp_path}
    benchmark(both, images, **given)
    for other in (images[:-1], images.resized(32).select(range(11, -1, -1))):
        passes.clear()
        benchmark(both, other, **given)
        assert passes
    passes.clear()
    benchmark(both, images, **given, seed=1)
    assert passes
    trained = Pair(teacher=both.teacher, student=network(5), distortion=both.distortion, card={})
    passes.clear()
    benchmark(trained, images, **given)
    assert passes


def test_a_damaged_file_is_measured_again(both: Pair, images: ImageSet, tmp_path: Path, passes: list[str]) -> None:
    first = benchmark(both, images, "fog", (2,), cache=tmp_path)
    for file in tmp_path.glob("*.json"):
        file.write_text(file.read_text()[:-20])
    passes.clear()
    again = benchmark(both, images, "fog", (2,), cache=tmp_path)
    assert passes
    assert again.cells == first.cells


def test_a_probe_of_other_pictures_gives_the_accuracy(both: Pair, tmp_path: Path) -> None:
    train, test = load_images(picture_folder(tmp_path / "some"), size=32).split(0.5)
    found = benchmark(both, test, "gaussian_noise", (5,), train=train, probe="linear", cache=False)
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    oracle = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    oracle.fit(both.teacher.trace(train.stack()).embedding.numpy(), train.labels)
    damaged = distortion("gaussian_noise:5")(test.stack(), seed=0)
    for view, backbone in (("teacher", both.teacher), ("student", both.student)):
        expected = oracle.score(backbone.trace(damaged).embedding.numpy(), test.labels)
        assert found.cells[view]["gaussian_noise", 5]["accuracy"] == pytest.approx(expected)
    assert found.accuracy_by == "linear"
    clean = oracle.score(both.teacher.trace(test.stack()).embedding.numpy(), test.labels)
    assert found.clean["teacher"]["accuracy"] == pytest.approx(clean)


def test_without_labels_there_is_no_accuracy(both: Pair, tmp_path: Path) -> None:
    flat = load_images(picture_folder(tmp_path / "some") / "red", size=32)
    found = benchmark(both, flat, "fog", (3,), cache=False)
    assert found.frame()["accuracy"].isna().all()
    assert found.accuracy_by is None
    assert found.mean_accuracy_error is None


def test_files_give_the_same_benchmark(found: Benchmark, tmp_path: Path) -> None:
    again = load_benchmark(found.save(tmp_path / "sheet.json"))
    pandas.testing.assert_frame_equal(again.frame(), found.frame())
    assert again.about() == found.about()
    assert again.mean_error == found.mean_error
    table = tmp_path / "sheet.csv"
    found.frame().to_csv(table, index=False)
    pandas.testing.assert_frame_equal(pandas.read_csv(table), found.frame())
    rounded = load_benchmark(found.save(tmp_path / "small.json", digits=3))
    assert np.abs(rounded.sheet("student") - found.sheet("student")).max() <= 5e-4
    assert not np.array_equal(rounded.sheet("student"), found.sheet("student"))


@pytest.mark.parametrize("content", ["[]", "{}", "nonsense", '{"format": 2}'])
def test_a_file_that_is_none_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "sheet.json").write_text(content)
    with pytest.raises(InputError, match="is no benchmark that can be read"):
        load_benchmark(tmp_path / "sheet.json")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"corruptions": "gaussian_nose"}, "unknown corruption 'gaussian_nose'.*did you mean 'gaussian_noise'"),
        ({"corruptions": ("fog:3",)}, "unknown corruption 'fog:3'"),
        ({"corruptions": "pixel_mask"}, "unknown corruption 'pixel_mask'"),
        ({"corruptions": ()}, "corruptions: expected .* got none"),
        ({"severities": (1, 6)}, "from 1 to 5, ImageNet-C's; got 6"),
        ({"severities": (True,)}, "got True"),
        ({"severities": (2, float("nan"))}, "got nan"),
        ({"severities": ()}, "severities: expected .* got none"),
        ({"train": "itself"}, "pictures are in train and in test"),
        ({"train": "itself", "probe": "svm"}, "probe is one of"),
    ],
)
def test_bad_input_is_told_before_any_work(
    both: Pair, images: ImageSet, given: dict[str, Any], message: str, passes: list[str]
) -> None:
    if "train" in given:
        given = {**given, "train": images}
    with pytest.raises(InputError, match=message):
        benchmark_steps(both, images, **given, cache=False)
    assert passes == []


def test_pictures_are_needed_and_clean_ones(both: Pair, images: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures"):
        benchmark(both, images[:0])
    twins = load_images(picture_folder(tmp_path / "night"), size=32, clean=picture_folder(tmp_path / "day"))
    with pytest.raises(InputError, match="damaged already"):
        benchmark(both, twins)


def test_a_folder_that_cannot_be_written_to(both: Pair, images: ImageSet, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="choose another folder"):
        benchmark(both, images, "fog", (3,), cache=tmp_path / "file")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    assert benchmark(both, images[:2], "fog", (3,)).done == 1


def test_a_disk_that_is_full_ends_no_run_in_the_users_cache(
    both: Pair, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_file: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(benchmarking, "atomic_path", full)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert benchmark(both, images[:2], ("fog", "snow"), (3,)).done == 2
    assert len([line for line in caplog.messages if "No space left on device" in line]) == 1
    with pytest.raises(CacheError, match="No space left"):
        benchmark(both, images[:2], "fog", (3,), cache=tmp_path / "named")


def test_few_files_are_kept(both: Pair, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarking, "MOST_KEPT", 2)
    (tmp_path / "notes.json").write_text("{}")
    for seed in range(3):
        benchmark(both, images[:2], "fog", (3,), seed=seed, cache=tmp_path)
    kept = [json.loads(file.read_text()) for file in tmp_path.glob("*.json") if file.stem != "notes"]
    assert len(kept) == 2
    assert (tmp_path / "notes.json").exists()
