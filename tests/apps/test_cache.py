"""What the app keeps: bounded, and made once."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from explorer_app.service.cache import BoundedCache


def test_the_cache_stays_below_its_limit_and_drops_the_oldest():
    cache: BoundedCache[bytes] = BoundedCache(100, len)
    for key in range(20):
        assert cache.get(key, lambda key=key: bytes([key]) * 30) == bytes([key]) * 30
        assert sum(map(len, cache.kept.values())) <= 100
    assert list(cache.kept) == [17, 18, 19]
    cache.get(17, lambda: pytest.fail("this was kept"))
    cache.get(20, lambda: bytes(30))
    assert list(cache.kept) == [19, 17, 20]


def test_what_is_larger_than_the_cache_is_kept_alone():
    cache: BoundedCache[bytes] = BoundedCache(100, len)
    cache.get("small", lambda: bytes(10))
    assert len(cache.get("large", lambda: bytes(500))) == 500
    assert list(cache.kept) == ["large"]


def test_a_value_that_could_not_be_made_is_not_kept():
    cache: BoundedCache[int] = BoundedCache(3, lambda _: 1)
    with pytest.raises(ZeroDivisionError):
        cache.get("key", lambda: 1 // 0)
    assert cache.get("key", lambda: 7) == 7


def test_after_a_failure_one_makes_it_and_the_others_wait():
    cache: BoundedCache[int] = BoundedCache(3, lambda _: 1)
    first, ended, made = threading.Event(), threading.Event(), []

    def fail() -> int:
        first.wait(5)
        raise ValueError

    def make() -> int:
        made.append(1)
        ended.wait(0.3)
        return 7

    def ask(make: Callable[[], int]) -> None:
        with suppress(ValueError):
            cache.get("key", make)

    def begin(make: Callable[[], int], wanting: int) -> threading.Thread:
        thread = threading.Thread(target=ask, args=(make,))
        thread.start()
        while cache._making["key"][1] < wanting:
            time.sleep(0.001)
        return thread

    threads = [begin(fail, 1), begin(make, 2)]
    first.set()
    while not made:
        time.sleep(0.001)
    ask(make)
    for thread in threads:
        thread.join()
    assert (made, cache._making) == ([1], {})


def test_many_threads_make_each_value_once_and_get_their_own():
    cache: BoundedCache[int] = BoundedCache(50, lambda _: 1)
    made: list[int] = []
    wrong: list[tuple[int, int]] = []

    def ask(offset: int) -> None:
        for step in range(200):
            key = (7 * step + offset) % 40
            value = cache.get(key, lambda key=key: made.append(key) or key * key)  # type: ignore[func-returns-value]
            if value != key * key:
                wrong.append((key, value))

    threads = [threading.Thread(target=ask, args=(offset,)) for offset in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert sorted(made) == list(range(40))
