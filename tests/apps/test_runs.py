"""Runs of the app's visitors, without a page: they take turns, stop at once, and go on."""

import asyncio
import os
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import explorer as ex
from explorer.models.pairs import STUDENT, PairError, export_pair, read_card
from explorer_app import endpoints
from explorer_app.service import beside, models, pictures, runs, students
from explorer_app.service.limits import Limits
from explorer_app.service.runs import Run, Runs, Watched
from explorer_app.tabs import train

OWL = "farm_animal/owl.webp"
NOISE = "gaussian_noise(sigma=0.3)"
BACKBONE = "vit_tiny_patch16_224"

pytestmark = pytest.mark.usefixtures("small_runs")


def config(steps: int = 4, **changes: Any) -> ex.DistillConfig:
    return runs.configuration(NOISE, steps, 32, **{"batch_size": 2, "precision": "float32", **changes})


def watched() -> Watched:
    return Watched(path=pictures.photo_path(OWL), distortion=NOISE, seed=0, photo=OWL)


def wait(run: Run, until: Callable[[Run], bool], seconds: float = 120) -> Run:
    end, version = time.monotonic() + seconds, -1
    while not until(run):
        assert time.monotonic() < end, f"{run.state}: {run.message}"
        version = run.wait(version, 1)
    return run


def ended(run: Run) -> bool:
    return run.ended


def student(run: Run) -> bytes:
    return (students.folder_of(run.name) / STUDENT).read_bytes()  # type: ignore[operator]


def test_a_run_ends_with_a_student_that_can_be_looked_at(manager: Runs) -> None:
    run = wait(manager.start(BACKBONE, config(), watched=watched()), ended)
    assert (run.state, run.message) == ("finished", None)
    assert [record["step"] for record in run.history] == [1, 2, 3, 4]
    shown = run.payload()
    assert [moment["step"] for moment in shown["moments"]] == [0, 1, 2, 3, 4]
    assert shown["reference"]["attention"]["shape"] == [3, 4]
    assert set(shown["before"]) >= {"cls_cosine", "patch_cosine", "attention_kl"}
    teacher = models.load_backbone(BACKBONE, 32)
    seen = models.load_student(run.name, teacher)
    assert seen is not None
    picture = torch.rand(1, 3, 32, 32)
    assert not torch.equal(seen.trace(picture).embedding, teacher.trace(picture).embedding)
    assert run.name in [name for _, name in models.offered_students(BACKBONE, [run.name])]
    assert run.name not in [name for _, name in models.offered_students(BACKBONE)], "nobody else is offered it"
    assert run.name not in [name for _, name in models.offered_students("s14", [run.name])]


def test_a_run_that_a_link_tells_is_only_looked_at_by_others(manager: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "RUNS", manager)
    monkeypatch.setattr(beside, "RUNS", manager)
    run = manager.start(BACKBONE, config(400), watched=watched())
    wait(run, lambda each: students.folder_of(each.name) is not None and bool(each.moments))
    by_link = SimpleNamespace(query_params={"view": "train", "run": run.name})
    payload, current, _, kept, *buttons, _ = train.restore([], by_link)  # type: ignore[arg-type]
    assert (payload["run"], current, kept) == (None, run.name, []), "this browser does not take it for its own"
    assert "The run of the link" in payload["message"]
    assert "It goes on" in payload["message"]
    allowed = [button.interactive for button in buttons]
    assert allowed == [True, False, False, True, True, False], "neither stopped, resumed nor repeated"
    manager.stop(run)
    wait(run, ended)
    assert train.TAB.told(run.name) == {"run": run.name}
    payload, *_, start, stop, resume, _, _, repeat, _ = train.restore([run.name], by_link)  # type: ignore[arg-type]
    assert payload["run"] == run.name
    assert [each.interactive for each in (start, stop, resume, repeat)] == [True, False, True, True]
    assert train.TAB.told(train.EXAMPLE) == {}


def test_a_cancelled_job_of_a_program_stops_its_run_at_once(manager: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it waits for its turn or its next step. Gradio cancels the task, then closes the generator."""
    monkeypatch.setattr(endpoints, "RUNS", manager)

    async def story() -> None:
        first, second = (endpoints.distill(BACKBONE, NOISE, 1.0, 1.0, 1.0, 2000, 32, 0) for _ in range(2))
        record = await anext(first)
        turn = asyncio.create_task(anext(second))  # type: ignore[arg-type]
        while len(manager._known) < 2:
            await asyncio.sleep(0.01)
        names = list(manager._known)
        assert names[0] == record["pair"]
        turn.cancel()
        assert isinstance((await asyncio.gather(turn, return_exceptions=True))[0], asyncio.CancelledError)
        await second.aclose()  # type: ignore[attr-defined]
        assert [manager._known[name].state for name in names] == ["running", "stopped"]
        await first.aclose()  # type: ignore[attr-defined]
        wait(manager._known[names[0]], ended)

    asyncio.run(story())


def test_the_watched_photo_is_not_learned_from(manager: Runs) -> None:
    run = wait(manager.start(BACKBONE, config(1), watched=watched()), ended)
    data = read_card(run.folder)["data"]
    assert data["pictures"] + len(data["probe"]) == len(ex.load_images("photos")) - 1
    assert OWL not in data["probe"]


def test_a_stop_comes_within_one_step_and_resuming_ends_like_an_uninterrupted_run(manager: Runs) -> None:
    whole = wait(manager.start(BACKBONE, config(6), watched=watched()), ended)
    run = manager.start(BACKBONE, config(6), watched=watched())
    wait(run, lambda run: len(run.history) == 2)
    manager.stop(run)
    wait(run, ended)
    assert run.state == "stopped"
    assert len(run.history) <= 4, "the step that was being computed, and one that may have begun before"
    assert run.resumable
    assert read_card(run.folder)["step"] == len(run.history) == run.moments[-1]["step"]
    again = wait(manager.resume(run.name, watched()), ended)
    assert again.state == "finished"
    assert not again.resumable
    assert [moment["step"] for moment in again.moments] == list(range(7)), "what was recorded before is kept"
    assert student(again) == student(whole)
    with pytest.raises(ValueError, match="finished"):
        manager.resume(run.name)


def test_another_picture_is_watched_from_where_the_run_goes_on(manager: Runs) -> None:
    run = manager.start(BACKBONE, config(5), watched=watched())
    wait(run, lambda run: len(run.history) >= 1)
    manager.stop(run)
    done = len(wait(run, ended).history)
    other = Watched(path=pictures.photo_path("fish/fish1.webp"), distortion=NOISE, seed=1)
    again = wait(manager.resume(run.name, other), ended)
    assert [moment["step"] for moment in again.moments] == [0, *range(done + 1, 6)]
    assert again.scene["pictures"] != run.scene["pictures"]
    assert again.payload()["key"] != run.payload()["key"]


def test_runs_take_turns_and_know_their_place(manager: Runs) -> None:
    first, second, third = (manager.start(BACKBONE, config(30), watched=watched()) for _ in range(3))
    wait(first, lambda run: len(run.history) >= 1)
    assert [manager.ahead(run) for run in (first, second, third)] == [0, 1, 2]
    assert third.payload(2)["message"] == "Waiting: 2 runs before this one."
    assert second.history == third.history == []
    manager.stop(second)
    assert second.state == "stopped", "at once: it has not begun"
    assert not second.resumable
    assert manager.ahead(third) == 1
    manager.stop(first)
    wait(third, lambda run: len(run.history) >= 1)
    assert first.ended
    manager.stop(third)
    wait(third, ended)


def test_what_fails_says_why_and_the_next_run_goes_on(manager: Runs, tmp_path: Path) -> None:
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"this is no zip file")
    failed = manager.start(BACKBONE, config(), pictures=bad)
    fine = manager.start(BACKBONE, config(1))
    wait(failed, ended)
    assert failed.state == "failed"
    assert failed.failure is None, "its traceback would keep the model and the pictures"
    assert "bad.zip" in (failed.message or ""), "as its visitor calls it"
    assert str(tmp_path) not in (failed.message or ""), "where files lie on the server is nobody's business"
    assert wait(fine, ended).state == "finished"


def test_a_zip_is_kept_so_that_the_run_can_be_resumed_by_another_process(
    manager: Runs, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = manager.start(BACKBONE, config(8), pictures=packed, watched=watched())
    wait(run, lambda run: len(run.history) >= 1)
    manager.stop(run)
    wait(run, ended)
    packed.unlink()
    later = Runs()
    known = later.remembered(run.name)
    assert known is not None
    assert known.resumable
    assert [record["step"] for record in known.payload()["records"]] == [record["step"] for record in run.history]
    again = wait(later.resume(run.name, watched()), ended)
    assert again.state == "finished"
    assert len(again.history) == 8
    assert read_card(again.folder)["data"]["pictures"] == 5


def test_a_selection_is_learned_from_again_after_a_stop_and_by_a_repeated_run(manager: Runs, packed: Path) -> None:
    names = pictures.picture_set(packed, 32)[0].names[1:5]
    selected = pictures.Selection(packed, names, "lost by the student")
    run = manager.start(BACKBONE, config(8), pictures=selected, watched=watched())
    wait(run, lambda run: len(run.history) >= 1)
    manager.stop(run)
    wait(run, ended)
    packed.unlink()
    again = wait(Runs().resume(run.name, watched()), ended)
    assert (again.state, len(again.history)) == ("finished", 8)
    assert read_card(again.folder)["data"]["pictures"] == 3, "one of the four is held out"
    assert again.learned_from == "4 pictures of mine.zip selected on the map (lost by the student)"
    repeated = wait(manager.repeat(run.name, lambda config: replace(config, steps=1)), ended)
    assert (repeated.state, repeated.learned_from) == ("finished", again.learned_from)
    assert read_card(repeated.folder)["data"]["pictures"] == 3


def test_the_watched_photo_is_left_out_of_a_selection(manager: Runs) -> None:
    selected = pictures.Selection(pictures.PHOTOS, (OWL, *pictures.photos().names[:4]))
    run = wait(manager.start(BACKBONE, config(1), pictures=selected, watched=watched()), ended)
    assert run.state == "finished"
    assert read_card(run.folder)["data"]["pictures"] == 3
    assert run.learned_from == "5 shipped photos selected on the map"


def test_a_selection_of_the_watched_photo_alone_is_told(manager: Runs) -> None:
    run = wait(manager.start(BACKBONE, config(1), pictures.Selection(names=(OWL,)), watched()), ended)
    assert run.state == "failed"
    assert "picture" in (run.message or "")


def test_folders_are_those_that_were_named_at_the_start(
    manager: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "holiday"
    folder.mkdir()
    for name in pictures.photos().names[:4]:
        (folder / Path(name).name).write_bytes(Path(pictures.photo_path(name)).read_bytes())
    monkeypatch.setenv(pictures.VARIABLE, str(folder))
    assert pictures.picture_folders() == {"holiday": folder}
    run = wait(manager.start(BACKBONE, config(1), pictures="holiday"), ended)
    assert run.state == "finished"
    assert read_card(run.folder)["data"]["pictures"] == 3


def test_a_run_tells_what_it_does_not_learn_from(manager: Runs, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in pictures.photos().names[:4]:
            archive.write(pictures.photo_path(name), f"train/{name}")
        archive.writestr("train/dam/raw.CR2", b"raw")
        archive.write(pictures.photo_path(OWL), "val/owl.webp")
    run = wait(manager.start(BACKBONE, config(1), pictures=tmp_path / "x.zip"), ended)
    assert (run.state, run.message) == ("finished", None)
    assert read_card(run.folder)["data"]["pictures"] == 3
    told = run.payload()["message"]
    assert told.startswith("Of train, val only train is taken. Left out: 1 picture of a format that is not read")
    assert "dam/raw.CR2" in told


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere niceness is not a thread's own")
def test_whoever_looks_at_something_goes_first(manager: Runs) -> None:
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    run = manager.start(BACKBONE, config(500), watched=watched())
    wait(run, lambda run: len(run.history) >= 1)
    assert manager._worker is not None
    assert os.getpriority(os.PRIO_PROCESS, manager._worker.native_id or 0) == before + runs._NICENESS
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
    manager.stop(run)
    wait(run, ended)


def test_closing_stops_and_saves(manager: Runs) -> None:
    run = manager.start(BACKBONE, config(500), watched=watched())
    wait(run, lambda run: len(run.history) >= 1)
    manager.close()
    assert run.state == "stopped"
    assert read_card(run.folder)["step"] == len(run.history)


def test_limits(manager: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="may take 2000 steps; got 2001"):
        manager.start(BACKBONE, config(2001))
    monkeypatch.setattr(students, "FREE_BYTES", 1 << 60)
    with pytest.raises(OSError, match="is free where students are kept"):
        manager.start(BACKBONE, config())
    monkeypatch.undo()
    monkeypatch.setattr(runs, "LIMITS", Limits(waiting=0))
    with pytest.raises(ValueError, match="waiting already"):
        manager.start(BACKBONE, config())


def test_strangers_get_less(manager: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "LIMITS", Limits(public=True, steps=20, minutes=0.0))
    with pytest.raises(ValueError, match="offers the backbones s14, clip-b16"):
        manager.start(BACKBONE, config())
    with pytest.raises(ValueError, match="may take 20 steps; got 21"):
        manager.start("s14", config(21))
    with pytest.raises(ValueError, match="trains adapters"):
        manager.start("s14", replace(config(), trainable="all"))
    assert not students.runs_dir().exists(), "nothing was kept of what was refused"
    run = wait(manager.start("s14", config(20)), ended)
    assert run.state == "stopped"
    assert run.message is not None
    assert "may take 0 minutes" in run.message
    assert len(run.history) == read_card(run.folder)["step"] == 1
    assert run.resumable


UNKNOWN = "run-" + "0" * 20


@pytest.mark.parametrize("name", ["", "..", "run-0", "../photos", UNKNOWN, f"{UNKNOWN}/..", "s14-noise"])
def test_names_of_nobody(manager: Runs, name: str) -> None:
    assert students.folder_of(name) is None
    assert manager.remembered(name) is None
    with pytest.raises(ValueError, match="no run to be resumed"):
        manager.resume(name)
    with pytest.raises(PairError):
        students.label_of(name)


def test_a_student_travels_as_one_file(manager: Runs, tmp_path: Path) -> None:
    run = wait(manager.start(BACKBONE, config(1), watched=watched()), ended)
    name = students.take_in(str(export_pair(run.folder, tmp_path / "student.zip")))
    assert name != run.name
    assert student(run) == (students.folder_of(name) / STUDENT).read_bytes()  # type: ignore[operator]
    assert "1 step" in students.label_of(name)
    known = manager.remembered(name)
    assert known is not None
    assert not known.resumable, "only the student was carried over"
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"no")
    with pytest.raises(PairError):
        students.take_in(str(bad))
    assert len(list(students.runs_dir().iterdir())) == 2, "nothing is left of a file that was refused"
