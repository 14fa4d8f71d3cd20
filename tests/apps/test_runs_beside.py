"""Runs beside runs, without a page: what sets them apart, what is shown of the others, a run that is repeated."""

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_runs import BACKBONE, NOISE, config, ended, wait, watched

from explorer.errors import InputError
from explorer_app.service import beside
from explorer_app.service.runs import Run, Runs
from explorer_app.tabs import train

pytestmark = pytest.mark.usefixtures("small_runs")

SEED, NO_PATCH, TWICE = "with the next seed", "without the patch features (weight 0)", "with twice the steps"


@pytest.fixture
def manager(manager: Runs, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The runs of this process, for the module and the tab, too."""
    monkeypatch.setattr(beside, "RUNS", manager)
    monkeypatch.setattr(train, "RUNS", manager)
    return manager


def made(manager: Runs, steps: int = 2) -> Run:
    return wait(manager.start(BACKBONE, config(steps), watched=watched()), ended)


def repeated(manager: Runs, run: Run, change: str) -> Run:
    return wait(manager.repeat(run.name, beside.CHANGES[change]), ended)


def test_one_thing_is_changed_and_the_other_run_stands_beside(manager: Runs) -> None:
    first = made(manager)
    second = repeated(manager, first, NO_PATCH)
    assert beside.differences([second, first]) == [("patch", ["0", "1"])]
    assert second.watched == first.watched
    shown = beside.payload_of(second)
    (other,) = shown["beside"]
    assert shown["differs"] == [["patch", ["0", "1"]]]
    assert other["name"] == "patch 1"
    assert other["moments"] == first.moments
    assert other["before"] == first.before
    assert [record["step"] for record in other["records"]] == [1, 2], "those with held-out pictures"
    third = repeated(manager, second, SEED)
    assert third.beside == (second.name, first.name)
    assert beside.payload_of(third)["differs"] == [["patch", ["0", "0", "1"]], ["seed", ["1", "0", "0"]]]
    assert [each["name"] for each in beside.payload_of(third)["beside"]] == ["seed 0", "patch 1, seed 0"]
    labels = dict(beside.listed([third.name, second.name, first.name], third))
    assert list(labels.values()) == [second.name, first.name], "the latest first, without the one that is shown"
    assert [label.split(" · ")[0].split(": ")[1] for label in labels] == ["seed 0", "patch 1, seed 0"]
    first.beside = ("a", "b", "c")
    longer = repeated(manager, first, TWICE)
    assert longer.beside == (first.name, "a", "b"), "no more than there is room for"
    assert beside.differences([first, longer]) == [("steps", ["2", "4"])], "not what follows from it"
    with pytest.raises(InputError, match="no weight of 'patch' already"):
        manager.repeat(second.name, beside.CHANGES[NO_PATCH])


def test_every_offered_change_is_one(manager: Runs) -> None:
    run = made(manager, steps=1)
    for words, change in beside.CHANGES.items():
        (row,) = beside.differences([run, Run(run.folder, BACKBONE, change(run.config), None)])
        assert row[1][0] != row[1][1], words


def test_maps_stand_side_by_side_only_of_the_same_picture_under_the_same_damage(manager: Runs) -> None:
    first = made(manager)
    other = manager.start(BACKBONE, config(2), watched=replace(watched(), seed=1))
    wait(other, ended).beside = (first.name,)
    (shown,) = beside.payload_of(other)["beside"]
    assert shown["why"] == "it watched another picture, or other damage"
    assert "moments" not in shown
    assert shown["records"], "its curves are shown"
    assert shown["name"] == first.name[4:8], "nothing that could be told in a word sets it apart"
    manager._known.clear()  # the app is begun again
    known = manager.remembered(other.name)
    assert known is not None
    known.beside = (first.name,)
    (shown,) = beside.payload_of(known)["beside"]
    assert shown["why"] == "this run has no maps any more"
    known.beside = ("run-0123456789abcdef0123",)
    assert "beside" not in beside.payload_of(known), "it is gone"


def test_a_run_is_repeated_by_an_app_that_was_begun_again(manager: Runs, tmp_path: Path) -> None:
    packed = tmp_path / "my pictures.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for i in range(12):
            picture = tmp_path / f"{i}.png"
            Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8)).save(picture)
            archive.write(picture, picture.name)
    run = wait(manager.start(BACKBONE, config(1), packed, watched()), ended)
    assert run.state == "finished", run.message
    manager._known.clear()
    packed.unlink()
    again = wait(manager.repeat(run.name, beside.CHANGES[SEED], watched()), ended)
    assert again.state == "finished", again.message
    assert again.learned_from == "my pictures.zip"
    assert beside.differences([again, run]) == [("seed", ["1", "0"])]


def test_a_student_that_was_brought_is_not_repeated(manager: Runs) -> None:
    run = made(manager, steps=1)
    (run.folder / "order.json").unlink()
    assert run.learned_from == "not known"
    with pytest.raises(InputError, match="not known here what this run learned from"):
        manager.repeat(run.name, beside.CHANGES[SEED])
    shutil.rmtree(run.folder)
    with pytest.raises(InputError):
        manager.repeat("run-0123456789abcdef0123", beside.CHANGES[SEED])


def test_the_latest_three_choices_stand_beside(manager: Runs) -> None:
    every = [made(manager, steps=1) for _ in range(5)]
    own = [run.name for run in every]
    view, group = train._put_beside(own, own[0], own[1:])
    assert group.value == own[2:]
    assert [value for _, value in group.choices] == own[1:]
    assert len({each["name"] for each in view["beside"]}) == 3, "told apart, though their settings are the same"
    assert all(NOISE not in label for label, _ in group.choices)
    assert train._put_beside(own, None, own)[0]["__type__"] == "update"
