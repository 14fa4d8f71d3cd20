"""Of several requests only the newest is worked on, and work that nobody waits for is told so."""

import threading
import time

from explorer.sessions.latest import Check, Latest, Left


def test_only_the_newest_wish_is_worked_on() -> None:
    latest, done = Latest(), []
    under_way, go = threading.Event(), threading.Event()

    def slow(check: Check) -> None:
        under_way.set()
        assert go.wait(10)
        check()
        done.append("slow")

    latest.ask(slow)
    assert under_way.wait(10)
    for name in ("forgotten", "newest"):
        latest.ask(lambda _, name=name: done.append(name))
    go.set()
    assert latest.settle(10.0)
    assert done == ["newest"]
    latest.close()
    latest.ask(lambda _: done.append("after closing"))
    assert latest.settle(10.0)
    assert done == ["newest"]


def test_work_is_told_that_it_is_not_wanted_any_more() -> None:
    latest, seen = Latest(), threading.Event()

    def endless(check: Check) -> None:
        try:
            while True:
                check()
                time.sleep(0.005)
        except Left:
            seen.set()
            raise

    latest.ask(endless)
    time.sleep(0.05)
    latest.close()
    assert seen.wait(10)
    assert latest.settle(10.0)
