"""A share of the processor's cores for each computation.

Visitors' work shares the cores: two that look at once lose next to nothing by it (docs/settings.md), and neither has to
wait for the other's threads. Training keeps to one core while somebody looks.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
_REST_SECONDS = 3.0  # as long as somebody who moves a slider may think


class Cores:
    """Counts who computes.

    Args:
        total: threads that there are to share.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._busy, self._last = 0, float("-inf")
        self._lock, self._own = threading.Lock(), threading.local()
        self._pools = ThreadpoolController().select(user_api="openmp")  # each thread has a number of its own

    @contextmanager
    def share(self) -> Iterator[Callable[[], None]]:
        """For work that somebody waits for: this thread gets its part of the cores, and at least one.

        Long work may call what it is given now and then, to have its part again as it has become. Work within work
        counts once.
        """
        first = not getattr(self._own, "counted", False)
        with self._lock:
            self._busy += first
        self._own.counted = True
        try:
            with self._limited(self._part()):

                def again() -> None:
                    self._limited(self._part())

                yield again
        finally:
            self._own.counted = not first
            with self._lock:
                self._busy, self._last = self._busy - first, time.monotonic()

    def spare(self) -> AbstractContextManager[object]:
        """For work that goes on by itself: one core while somebody's work goes on or has just ended, else all."""
        return self._limited(self.total if self.quiet(_REST_SECONDS) else 1)

    def quiet(self, seconds: float) -> bool:
        """Whether nobody's work goes on, nor did within so many seconds."""
        with self._lock:
            return not self._busy and time.monotonic() - self._last >= seconds

    def _part(self) -> int:
        return max(1, self.total // max(1, self._busy))

    def _limited(self, threads: int) -> AbstractContextManager[object]:
        """At once; leaving it restores what was before."""
        torch.get_num_threads()  # when a thread first asks torch, torch sets its number itself
        return self._pools.limit(limits=threads)


def each(items: Iterable[Item], place: Callable[[], AbstractContextManager[object]]) -> Iterator[Item]:
    """The same items, each made within a context of its own."""
    iterator = iter(items)
    while True:
        with place():
            made = next(iterator, iterator)
        if made is iterator:
            return
        yield made  # type: ignore[misc]


CORES = Cores(torch.get_num_threads())
