"""Trackers are told each step once, under names that stay, also of a run that was stopped, killed or resumed; and no
run is lost, or learns anything else, because of them."""

import importlib.util
import io
import itertools
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.tracking import GeneralTracker
from PIL import Image
from torch import Tensor

from explorer import DistillConfig, distill, distortion
from explorer.analysis.maps import attention_map
from explorer.models.backbones import Backbone
from explorer.models.pairs import CARD, HISTORY, STUDENT
from explorer.training.checkpoint import OPTIMIZER
from explorer.training.held_out import HeldOut, split
from explorer.training.records import Record
from explorer.training.trackers import LOGGED, TRACKERS, checked, side_by_side
from tests.small import NOISE, SIZE, network, picture_folder
from tests.together import Run


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return network(0)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(10, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def begun(backbone: Backbone, pictures: Tensor, out: Path, **changes: Any) -> Any:
    small = {"image_size": SIZE, "steps": 6, "batch_size": 4, "trainable": "last:1", "probe": 2, "lr": 1e-3}
    config = DistillConfig(**{**small, "eval_every": 2, "checkpoint_every": 2})
    return distill(backbone, pictures, config, out, **changes)


def events(out: Path) -> Any:
    """What TensorBoard reads of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()


class Listener(GeneralTracker):
    """A tracker of somebody's own, which keeps what it is told, and fails where it is said to.

    Args:
        fails: "start", or the step at which it does.
    """

    requires_logging_directory = False

    def __init__(self, name: str = "listener", fails: str | int | None = None) -> None:
        self.name, self.fails = name, fails
        self.told: list[tuple[int, dict[str, Any]]] = []
        self.config: dict[str, Any] = {}
        self.finished = False
        super().__init__()

    @property
    def tracker(self) -> object:
        return self.told

    def start(self) -> None:
        if self.fails == "start":
            raise ConnectionError("nobody is logged in")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.config = values

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        assert step is not None
        if step == self.fails:
            raise ConnectionError("the network is gone")
        self.told.append((step, values))

    def finish(self) -> None:
        self.finished = True


def test_tensorboard_is_told_what_the_records_say(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    records: list[Record] = list(begun(backbone, pictures, tmp_path / "run", trackers=["tensorboard"]))
    told = events(tmp_path / "run")
    losses = {f"losses/{name}" for name in records[0].losses}
    measured = {f"alignment/{name}" for name in records[1].alignment.as_dict()}  # type: ignore[union-attr]
    assert set(told.Tags()["scalars"]) == losses | measured | {"lr", "images_per_second"}
    for name in records[0].losses:
        found = [(event.step, event.value) for event in told.Scalars(f"losses/{name}")]
        assert found == [(record.step, pytest.approx(record.losses[name], rel=1e-6)) for record in records]
    rates = [event.value for event in told.Scalars("lr")]
    assert rates == pytest.approx([record.lr for record in records])
    aligned = told.Scalars("alignment/cls_cosine")
    assert [event.step for event in aligned] == [0, 2, 4, 6]
    assert aligned[-1].value == pytest.approx(records[-1].alignment.cls_cosine)  # type: ignore[union-attr]
    card = json.loads((tmp_path / "run" / CARD).read_text())
    assert aligned[0].value == pytest.approx(card["metrics"]["before"]["cls_cosine"])
    (settings,) = (tmp_path / "run" / "tensorboard").glob("*/hparams.yml")
    assert "distortion: gaussian_noise(sigma=0.3)" in settings.read_text()
    list(begun(backbone, pictures, tmp_path / "untold"))
    for name in (STUDENT, OPTIMIZER):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "untold" / name).read_bytes()
    assert not (tmp_path / "untold" / LOGGED).exists()


def test_the_picture_shows_teacher_and_student(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    """Left what the teacher sees in the first held-out picture, the same each time; right the student of that step."""
    records: list[Record] = list(begun(backbone, pictures, tmp_path / "run", trackers="tensorboard"))
    shown = events(tmp_path / "run").Images("attention")
    assert [event.step for event in shown] == [0, 2, 4, 6]
    pixels = [np.array(Image.open(io.BytesIO(event.encoded_image_string))) for event in shown]
    assert {each.shape for each in pixels} == {(SIZE, 2 * SIZE, 3)}
    first = pictures[split(len(pictures), 2)[0][0]][None]
    damaged = distortion(NOISE)(first, seed=0, indices=[1 << 40])
    traces = [backbone.trace(first), records[-1].student.trace(damaged)]
    maps = [attention_map(trace)[0] for trace in traces]
    expected = side_by_side(list(zip([first[0], damaged[0]], maps, strict=True)))
    assert np.array_equal(pixels[-1], expected)
    assert not np.array_equal(pixels[0][:, SIZE:], pixels[-1][:, SIZE:])


def test_the_brightest_patch_is_the_one_that_is_looked_at() -> None:
    maps = torch.tensor([[0.1, 0.2], [0.0, 0.4]]), torch.tensor([[0.2, 0.0], [0.0, 0.0]])
    pixels = side_by_side([(torch.zeros(3, 4, 4), each) for each in maps]).astype(int)
    assert pixels.shape == (4, 8, 3)
    assert pixels[3, 3] == pytest.approx(0.75 * np.array([253, 231, 37]), abs=1), "the end of viridis"
    assert np.array_equal(pixels[0, 3], pixels[0, 4]), "0.2 has one colour, in both"
    assert side_by_side([(torch.zeros(3, 4, 4), torch.zeros(2, 2))]).max() < 80


def test_no_step_is_told_twice(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    """Stopped after step 1; killed after step 3, when the last checkpoint was that of step 2; and resumed each time."""
    out, kept = tmp_path / "run", tmp_path / "kept"
    tracked = {"trackers": ["tensorboard"]}
    records = begun(backbone, pictures, out, **tracked)
    next(records)
    records.close()
    records = begun(backbone, pictures, out, resume=True, **tracked)
    next(records)
    kept.mkdir()
    for name in (CARD, HISTORY, STUDENT, OPTIMIZER):
        shutil.copy(out / name, kept)
    next(records)
    records.close()
    shutil.copytree(kept, out, dirs_exist_ok=True)
    with (out / LOGGED).open("a") as file:
        file.write('{"step": 4, "t')
    steps = [record.step for record in begun(backbone, pictures, out, resume=True, **tracked)]
    assert steps == [3, 4, 5, 6]
    told = events(out)
    assert [event.step for event in told.Scalars("losses/loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in told.Scalars("alignment/cka")] == [0, 2, 4, 6]
    assert [event.step for event in told.Images("attention")] == [0, 2, 4, 6]
    assert len(list((out / "tensorboard").glob("*/hparams.yml"))) == 1


def test_a_step_that_was_stopped_before_it_was_told_is_told(
    backbone: Backbone, pictures: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Ctrl-C while step 2 is evaluated."""
    listener, measure, count = Listener(), HeldOut.alignment, itertools.count()

    def interrupted(self: HeldOut, student: Backbone) -> Any:
        if next(count) == 1:
            raise KeyboardInterrupt
        return measure(self, student)

    with monkeypatch.context() as patch:
        patch.setattr(HeldOut, "alignment", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(begun(backbone, pictures, tmp_path / "run", trackers=[listener]))
    list(begun(backbone, pictures, tmp_path / "run", resume=True, trackers=[listener]))
    assert [step for step, _ in listener.told] == [*range(7)]
    assert {"losses/loss", "alignment/cls_cosine"} < set(listener.told[2][1])


def test_a_tracker_that_fails_loses_no_run(
    backbone: Backbone, pictures: Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    never, breaks, sound = Listener("never", fails="start"), Listener("breaks", fails=3), Listener("sound")
    with caplog.at_level(logging.WARNING):
        records = list(begun(backbone, pictures, tmp_path / "run", trackers=[never, breaks, sound]))
    assert [record.step for record in records] == [1, 2, 3, 4, 5, 6]
    assert [[step for step, _ in each.told] for each in (never, breaks, sound)] == [[], [0, 1, 2], [*range(7)]]
    assert [record.message for record in caplog.records] == [
        f"the tracker '{name}' failed, and the run goes on without it: ConnectionError: {why}"
        for name, why in (("never", "nobody is logged in"), ("breaks", "the network is gone"))
    ]
    assert sound.finished
    assert sound.config["attention_layers"] == 4
    assert sound.config["area"] == "[0.4, 1.0]"
    assert sound.config["weights"] == backbone.source
    assert sound.told[0][1].keys() == {f"alignment/{name}" for name in records[1].alignment.as_dict()}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("trackers", "message"),
    [
        (
            "tensorbord",
            "unknown tracker 'tensorbord'; did you mean tensorboard? There are: trackio, tensorboard, wandb",
        ),
        ([3], "a tracker is one of the names trackio, tensorboard, wandb, or one of accelerate.tracking; got int"),
    ],
)
def test_unknown_trackers(trackers: Sequence[Any], message: str, backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        begun(backbone, torch.zeros(2, 3, SIZE, SIZE), tmp_path / "run", trackers=trackers)
    assert not (tmp_path / "run").exists()


def test_what_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [name for name in TRACKERS if importlib.util.find_spec(name) is None]
    if not missing:
        pytest.skip("all of them are installed")
    (tmp_path / missing[0]).mkdir()  # as they leave it behind: no package
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    said = rf'the tracker \'{missing[0]}\' needs the package .*: pip install "vit-explorer\[{missing[0]}\]"'
    with pytest.raises(ImportError, match=said):
        checked([missing[0]])
    assert checked(["tensorboard", "tensorboard"]) == ("tensorboard",)


@pytest.mark.weights
def test_on_the_command_line(run: Run, s14: Backbone, tmp_path: Path) -> None:
    picture_folder(tmp_path / "pictures", per_class=2)
    words = ["distill", "--images", "pictures", "--out", "run", "--size", "28", "--steps", "1", "--batch-size", "2"]
    done = run(*words, "--tracker", "tensorbord")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "unknown tracker 'tensorbord'; did you mean tensorboard?" in done.stderr
    done = run(*words, "--tracker", "tensorboard")
    assert done.returncode == 0, done.stderr
    assert [event.step for event in events(tmp_path / "run").Scalars("losses/loss")] == [1]
