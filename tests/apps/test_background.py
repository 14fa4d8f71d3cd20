"""Work in a thread that is watched, fails, or is left."""

import threading
import time

import pytest

from explorer.evaluation.features import Told
from explorer_app.service.background import Background


def test_progress_is_seen_and_the_result_is_had() -> None:
    go = threading.Event()

    def work(told: Told) -> str:
        told(1, 3)
        go.wait(10)
        return "done"

    running = Background(work)
    seen = []
    for now in running.watch(0.01):
        seen.append(now)
        if now == (1, 3):
            go.set()
    assert (1, 3) in seen
    assert running.result == "done"


def test_an_error_comes_out_where_the_result_is_asked_for() -> None:
    def work(_: Told) -> str:
        raise ValueError("no such pictures")

    running = Background(work)
    assert list(running.watch(0.01)) == []
    with pytest.raises(ValueError, match="no such pictures"):
        _ = running.result


def test_work_that_nobody_watches_any_more_ends() -> None:
    ended = threading.Event()

    def work(told: Told) -> str:
        try:
            while True:
                told(0, 1)
                time.sleep(0.01)
        finally:
            ended.set()

    watching = Background(work).watch(0.01)
    next(watching)
    watching.close()  # type: ignore[attr-defined]
    assert ended.wait(5)
