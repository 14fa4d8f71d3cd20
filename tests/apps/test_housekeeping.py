"""What visitors leave behind goes: the state of closed pages, old files. A small page of Gradio, really served."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client, handle_file

from explorer_app.service import housekeeping
from explorer_app.tabs.shared import saved_files


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[gr.Blocks]:
    """Remembers what a visitor said last; hands files back; shows a picture of its own."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    own = tmp_path / "own.txt"
    own.write_text("the page's own")
    with gr.Blocks(analytics_enabled=False) as served:
        said, text, answer = gr.State(""), gr.Textbox(), gr.Textbox()
        text.submit(lambda before, now: (now, before), [said, text], [said, answer], api_name="say")
        given, back = gr.File(str(own)), gr.File()
        given.change(lambda file: file, given, back, api_name="echo")
    served.launch(prevent_thread_lock=True, quiet=True)
    yield served
    served.close()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_closed_page_is_forgotten_and_an_open_one_is_not(page: gr.Blocks) -> None:
    gone, here = Client(page.local_url, verbose=False), Client(page.local_url, verbose=False)
    for client in (gone, here):
        client.predict("first", api_name="/say")
    sessions = page.state_holder.session_data
    assert {gone.session_hash, here.session_hash} <= set(sessions)
    gone.close()
    until(lambda: sessions[gone.session_hash].is_closed)
    housekeeping.forget_closed(page)
    assert gone.session_hash in sessions, "it may have lost its connection for a moment alone"
    housekeeping.forget_closed(page, seconds=0)
    assert gone.session_hash not in sessions
    assert gone.session_hash not in page.state_holder.time_last_used
    assert here.predict("second", api_name="/say") == "first"
    here.close()


def test_old_files_go_then_the_oldest_and_never_the_pages_own(page: gr.Blocks, tmp_path: Path) -> None:
    client = Client(page.local_url, verbose=False, download_files=False)
    for name in ("old", "middle", "new"):
        (tmp_path / name).write_bytes(name.encode() * 100)
        client.predict(handle_file(tmp_path / name), api_name="/echo")
        time.sleep(0.02)
    client.close()
    folder = tmp_path / "gradio"

    def kept() -> set[str]:
        return {path.name for path in folder.rglob("*") if path.is_file() and not path.name.startswith("tmp")}

    assert kept() == {"own.txt", "old", "middle", "new"}
    housekeeping.remove_files(page)
    assert kept() == {"own.txt", "old", "middle", "new"}
    housekeeping.remove_files(page, size=950)
    assert kept() == {"own.txt", "middle", "new"}
    housekeeping.remove_files(page, seconds=0)
    assert kept() == {"own.txt"}
    housekeeping.remove_files(page)
    assert not any(os.sep in file for files in page.temp_file_sets for file in files if "new" in file)


def test_the_latest_files_wait_for_being_downloaded() -> None:
    folder = Path(saved_files())
    for number in range(70):
        (folder / f"{number}.zip").touch()
        os.utime(folder / f"{number}.zip", (number + 1, number + 1))
    assert sorted(int(file.stem) for file in Path(saved_files()).glob("*.zip")) == list(range(6, 70))


@pytest.mark.parametrize("seconds", [0.01])
def test_it_goes_on_after_an_error(page: gr.Blocks, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    visited: list[int] = []

    def forget(_: gr.Blocks) -> None:
        visited.append(1)
        raise OSError("the disk is on holiday")

    monkeypatch.setattr(housekeeping, "_EVERY_SECONDS", seconds)
    monkeypatch.setattr(housekeeping, "forget_closed", forget)
    housekeeping.keep_house(page)
    until(lambda: len(visited) > 1)
    monkeypatch.undo()
