"""Each computation gets its part of the cores, in its own thread only."""

import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import torch

from explorer_app.service import cores
from explorer_app.service.background import Background
from explorer_app.service.cores import Cores, each

threads = torch.get_num_threads


def elsewhere(work: Callable[[], object]) -> None:
    """Do this in another thread, to its end."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def test_who_computes_alone_has_all_cores_and_two_have_half():
    pool = Cores(4)
    before = threads()
    with pool.share() as again:
        assert threads() == 4
        elsewhere(lambda: halved(pool))
        assert threads() == 4, "of another thread"
        with ExitStack() as others:
            for _ in range(7):
                elsewhere(lambda: others.enter_context(pool.share()))
            again()
            assert threads() == 1
        again()
        assert threads() == 4
    assert threads() == before


def test_what_nobody_waits_for_keeps_to_one_core_while_others_work(monkeypatch: pytest.MonkeyPatch):
    pool = Cores(4)
    with pool.spare():
        assert threads() == 4
    with pool.share():
        elsewhere(lambda: check(pool, 1))
    check(pool, 1)  # the next question may come soon
    monkeypatch.setattr(cores, "_REST_SECONDS", 0.0)
    check(pool, 4)


def check(pool: Cores, expected: int) -> None:
    with pool.spare():
        assert threads() == expected


def test_it_is_quiet_when_nobody_has_worked_for_a_while():
    pool = Cores(4)
    assert pool.quiet(1e9), "nobody has worked yet"
    with pool.share():
        assert not pool.quiet(0.0)
    assert pool.quiet(0.0)
    assert not pool.quiet(60.0)


def test_work_within_work_counts_once():
    pool = Cores(4)
    with pool.share():
        with pool.share():
            assert threads() == 4
        elsewhere(lambda: halved(pool))
    with pool.share():
        assert threads() == 4


def halved(pool: Cores) -> None:
    with pool.share():
        assert threads() == 2


def test_what_fails_gives_its_share_back():
    pool = Cores(4)
    before = threads()
    with pytest.raises(ZeroDivisionError), pool.share():
        raise ZeroDivisionError
    assert threads() == before
    with pool.share():
        assert threads() == 4


def test_each_item_is_made_with_the_cores_of_its_moment():
    pool = Cores(4)

    def counted():
        for _ in range(3):
            yield threads()

    before, found = threads(), []
    with ExitStack() as others:
        for number in each(counted(), pool.share):
            found.append(number)
            assert threads() == before, "between two items"
            elsewhere(lambda: others.enter_context(pool.share()))
    assert found == [4, 2, 1]


def test_work_in_the_background_shares_anew_as_it_tells(monkeypatch: pytest.MonkeyPatch):
    pool = Cores(4)
    monkeypatch.setattr("explorer_app.service.background.CORES", pool)
    begun, other = threading.Event(), threading.Event()

    def work(told: Callable[[int, int], None]) -> list[int]:
        found = [threads()]
        begun.set()
        assert other.wait(60)
        told(1, 2)
        return [*found, threads()]

    background = Background(work)
    assert begun.wait(60)
    with pool.share():
        other.set()
        list(background.watch(0.1))
    assert background.result == [4, 2]
