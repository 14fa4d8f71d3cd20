"""Faults of the app: its server is killed, its disk is full, another server shares its folders, a browser goes away."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from threading import Timer

import pytest
import safetensors.torch
import timm
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, Page
from serving import PYTHON, Served, serving
from test_client import NOISE, OWL
from test_runs import BACKBONE, config, ended, student, wait, watched
from test_training import on_train_tab, step, wait_for, wait_for_step
from visiting import Visit

from explorer.models.pairs import read_card
from explorer_app.service import checkpoints, students
from explorer_app.service.runs import Run, Runs
from explorer_app.tabs import train
from tests.disks import end_of, forked, killed, read_only, small_disk
from tests.together import free_port

pytestmark = pytest.mark.usefixtures("one_thread")


def has_begun(run: Run) -> bool:
    return len(run.history) >= 1


def kept() -> list[str]:
    return sorted(path.name for path in students.runs_dir().iterdir())


# Runs.


@pytest.mark.usefixtures("small_runs")
def test_a_run_outlives_its_server_that_is_killed(manager: Runs) -> None:
    names = os.pipe()

    def serve() -> None:
        run = Runs().start(BACKBONE, config(6, checkpoint_every=2), watched=watched())
        wait(run, lambda run: len(run.history) >= 3)
        os.write(names[1], run.name.encode())
        killed()

    assert end_of(forked(serve)) == -signal.SIGKILL
    name = os.read(names[0], 100).decode()
    known = manager.remembered(name)
    assert known is not None
    assert known.resumable
    assert known.payload()["state"] == "stopped"
    assert len(known.history) >= 2
    again = wait(manager.resume(name, watched()), ended)
    assert again.state == "finished"
    whole = wait(manager.start(BACKBONE, config(6, checkpoint_every=2), watched=watched()), ended)
    assert student(again) == student(whole)
    assert kept() == sorted([again.name, whole.name])


@pytest.mark.usefixtures("small_runs")
def test_what_waited_when_a_server_was_killed_does_not_pile_up(manager: Runs, packed: Path) -> None:
    def serve() -> None:
        mine = Runs()
        wait(mine.start(BACKBONE, config(500), watched=watched()), has_begun)
        mine.start(BACKBONE, config(), pictures=packed)
        killed()

    assert end_of(forked(serve)) == -signal.SIGKILL
    folders = [path for path in students.runs_dir().iterdir() if path.is_dir()]
    (begun,) = (path.name for path in folders if students.folder_of(path.name))
    assert len(folders) == 2
    new = wait(manager.start(BACKBONE, config(1), watched=watched()), ended)
    assert kept() == sorted([begun, new.name])


@pytest.mark.usefixtures("small_runs")
def test_runs_that_never_began_leave_no_folder(manager: Runs, packed: Path, tmp_path: Path) -> None:
    first = wait(manager.start(BACKBONE, config(500), watched=watched()), has_begun)
    waiting = manager.start(BACKBONE, config(), pictures=packed)
    assert waiting.folder.is_dir()
    manager.stop(waiting)
    (tmp_path / "bad.zip").write_bytes(b"this is no zip file")
    bad = manager.start(BACKBONE, config(), pictures=tmp_path / "bad.zip")
    manager.stop(first)
    assert wait(bad, ended).state == "failed"
    assert kept() == [wait(first, ended).name]


@pytest.mark.usefixtures("small_runs")
def test_two_servers_share_the_folder_of_runs(manager: Runs, packed: Path) -> None:
    names, go_on = os.pipe(), os.pipe()

    def serve() -> None:
        mine = Runs()
        first = wait(mine.start(BACKBONE, config(500), watched=watched()), has_begun)
        waiting = mine.start(BACKBONE, config(1), pictures=packed)
        os.write(names[1], f"{first.name} {waiting.name}".encode())
        os.read(go_on[0], 1)
        mine.stop(first)
        assert wait(waiting, ended).state == "finished"

    other = forked(serve)
    first, waiting = os.read(names[0], 100).decode().split()
    mine = wait(manager.start(BACKBONE, config(1), watched=watched()), ended)
    assert (students.runs_dir() / waiting).is_dir(), "it waits for its turn at the other server"
    refused = wait(manager.resume(first, watched()), ended)
    assert refused.state == "failed"
    assert "another run is writing to its folder" in (refused.message or "")
    os.write(go_on[1], b"!")
    assert end_of(other) == 0
    assert kept() == sorted([first, waiting, mine.name])


@pytest.mark.usefixtures("small_runs")
def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on_when_there_is_room(
    manager: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(students, "FREE_BYTES", 0)
    with small_disk(students.runs_dir(), 3000) as disk:
        run = wait(manager.start(BACKBONE, config(4, trainable="lora:8"), watched=watched()), ended)
        assert run.state == "failed"
        told = r"the checkpoint of step 4 could not be written to its folder \(.+\)\. The one of step 0 is still there"
        assert re.match(told, run.message or "")
        assert str(tmp_path) not in (run.message or "")
        assert run.resumable
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert wait(manager.resume(run.name, watched()), ended).state == "finished"
        assert read_card(run.folder)["step"] == 4
        assert sorted(path.suffix for path in run.folder.iterdir()) == sorted(
            ["", ".json", ".json", ".jsonl", ".safetensors", ".safetensors"]
        )


@pytest.mark.usefixtures("small_runs")
def test_a_folder_of_runs_that_cannot_be_written_to(manager: Runs, packed: Path, tmp_path: Path) -> None:
    students.runs_dir().mkdir()
    message = "nothing can be written where runs are kept .*: free some space there, or point VIT_EXPLORER_RUNS"
    with read_only(students.runs_dir()), pytest.raises(OSError, match=message) as error:
        manager.start(BACKBONE, config(), pictures=packed)
    assert str(tmp_path) not in str(error.value), "where files lie on the server is nobody's business"


@pytest.mark.usefixtures("small_runs")
def test_a_page_that_is_opened_while_its_run_is_being_stopped_can_resume_it(
    manager: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a reload: the server notices a little later that the page before is gone."""
    monkeypatch.setattr(train, "RUNS", manager)
    run = wait(manager.start(BACKBONE, config(500), watched=watched()), has_begun)
    Timer(0.5, manager.stop, [run]).start()
    shown, name, _, _, start, stop, resume, *_ = train.restore([run.name], None)  # type: ignore[arg-type]
    assert (shown["state"], name) == ("stopped", run.name)
    assert [button.interactive for button in (start, stop, resume)] == [True, False, True]


@pytest.mark.usefixtures("small_runs")
def test_a_second_page_looks_at_a_run_that_goes_on_and_may_start_its_own(
    manager: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "RUNS", manager)
    monkeypatch.setattr(train, "_LEAVE_SECONDS", 1.0)
    run = wait(manager.start(BACKBONE, config(500), watched=watched()), has_begun)
    shown, name, _, _, start, stop, *_ = train.restore([run.name], None)  # type: ignore[arg-type]
    assert (shown["run"], name) == (None, run.name)
    assert shown["message"].startswith("Your last run, of another page. It goes on: reload this page")
    assert [button.interactive for button in (start, stop)] == [True, False]
    wait(manager.stop(run) or run, ended)


# Checkpoints that visitors bring.


@pytest.fixture
def brought(small_runs: None, tmp_path: Path) -> str:
    """A checkpoint."""
    safetensors.torch.save_file(timm.create_model(BACKBONE).state_dict(), tmp_path / "mine.safetensors")
    return str(tmp_path / "mine.safetensors")


def test_a_checkpoint_whose_server_was_killed_leaves_nothing_for_long(
    brought: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(source: Path, target: Path) -> None:
        target.write_bytes(Path(source).read_bytes()[:1_000_000])
        killed()

    def serve() -> None:
        monkeypatch.setattr(shutil, "copyfile", half)
        checkpoints.take_in(brought, BACKBONE, 224)

    assert end_of(forked(serve)) == -signal.SIGKILL
    assert any(checkpoints.weights_dir().rglob("file"))
    name = checkpoints.take_in(brought, BACKBONE, 224)
    left = sorted(path.name for path in checkpoints.weights_dir().iterdir())
    assert left == [f"{name}.json", f"{name}.safetensors"]
    assert checkpoints.label_of(name) == f"yours: mine.safetensors ({BACKBONE})"


def test_checkpoints_with_a_date_to_come_do_not_stay_for_ever(brought: str, monkeypatch: pytest.MonkeyPatch) -> None:
    odd, used = (checkpoints.take_in(brought, BACKBONE, 224) for _ in range(2))
    to_come = time.time() + 365 * 86_400
    os.utime(checkpoints.weights_dir() / f"{odd}.safetensors", (to_come, to_come))
    monkeypatch.setattr(checkpoints, "KEPT_BYTES", int(2.5 * Path(brought).stat().st_size))
    new = checkpoints.take_in(brought, BACKBONE, 224)
    assert [checkpoints.is_own(name) for name in (odd, used, new)] == [False, True, True]


# Browsers, and the server under them.


def start_run(visit: Visit, steps: int) -> Page:
    page = on_train_tab(visit, steps)
    page.locator("#start-run").click()
    return page


def resumed(visit: Visit, least: int) -> Page:
    """The page is opened again, knows the run, and resumes it."""
    page = visit.open().page
    page.get_by_role("tab", name="Train").click()
    wait_for(page, "stopped")
    assert step(page) >= least
    page.locator("#resume-run").click()
    return page


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.weights
def test_a_server_that_was_killed_and_started_again_goes_on_with_the_run(browser: Browser, tmp_path: Path) -> None:
    where = {"VIT_EXPLORER_RUNS": str(tmp_path), "GRADIO_SERVER_PORT": str(free_port())}
    with serving(*PYTHON, **where) as served:
        visit = Visit(browser, served.url).open()
        wait_for_step(start_run(visit, steps=27), 26)  # a checkpoint comes every 25
        os.killpg(served.process, signal.SIGKILL)
    with serving(*PYTHON, **where):
        wait_for(resumed(visit, 25), "finished")
    visit.close()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.weights
def test_a_server_that_is_asked_to_end_saves_the_run(browser: Browser, tmp_path: Path) -> None:
    with serving(*PYTHON, VIT_EXPLORER_RUNS=str(tmp_path)) as served:
        visit = Visit(browser, served.url).open()
        wait_for_step(start_run(visit, steps=500), 3)
        os.kill(served.process, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(served.process, 0)[1]) == 0
        (folder,) = tmp_path.glob("run-*")
        assert read_card(folder)["step"] >= 3
        visit.close()


@pytest.mark.slow
@pytest.mark.weights
def test_a_server_that_is_asked_to_end_while_it_computes_does_not_crash() -> None:
    with serving(*PYTHON) as served:
        client = Client(served.url, verbose=False)
        asked = {"image": handle_file(OWL), "distortion": NOISE, "size": 112, "api_name": "/compare"}
        jobs = [client.submit(seed=seed, **asked) for seed in range(50)]
        while not jobs[4].done():
            time.sleep(0.05)
        os.kill(served.process, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(served.process, 0)[1]) == 0
        client.close()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.weights
@pytest.mark.parametrize("how", ["closed", "reloaded", "without connection"])
def test_a_browser_that_goes_away_finds_its_run_again(browser: Browser, app: Served, how: str) -> None:
    visit = Visit(browser, app.url).open()
    page = start_run(visit, steps=500)
    wait_for_step(page, 3)
    if how == "closed":
        page.close()
        visit.page = visit.watch(visit.context.new_page())
    elif how == "without connection":
        visit.context.set_offline(True)
        page.wait_for_timeout(3000)
        visit.context.set_offline(False)
    page = resumed(visit, 3)
    wait_for_step(page, step(page) + 2)
    page.locator("#stop-run").click()
    wait_for(page, "stopped")
    visit.close()
