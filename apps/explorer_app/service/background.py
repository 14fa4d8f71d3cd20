"""Work that goes on in a thread of its own, so that a page can watch it and leave it. No Gradio in here."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from explorer.evaluation.features import Told
from explorer.sessions.latest import Left
from explorer_app.service.cores import CORES

Result = TypeVar("Result")


class Background(Generic[Result]):
    """Starts the work at once. The work tells its progress, and is ended there when nobody watches it any more.

    Args:
        work: takes a function that is told (done, all), and returns the result.

    Attributes:
        done, total: what it told last.
        left: seconds that remain, at the pace since it first told something; None as long as there is no telling.
    """

    def __init__(self, work: Callable[[Told], Result]) -> None:
        self.done, self.total = 0, 0
        self.left: float | None = None
        self._first: tuple[int, float] | None = None
        self._left = threading.Event()
        self._result: Result | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[Told], Result]) -> None:
        try:
            with CORES.share() as share_again:

                def told(done: int, total: int) -> None:
                    share_again()
                    self._told(done, total)

                self._result = work(told)
        except Left:
            pass
        except Exception as error:
            self._error = error

    def _told(self, done: int, total: int) -> None:
        if self._left.is_set():
            raise Left
        now = time.monotonic()
        self._first = self._first or (done, now)
        gained, seconds = done - self._first[0], now - self._first[1]
        self.left = seconds / gained * (total - done) if gained > 0 else None
        self.done, self.total = done, total

    def watch(self, seconds: float) -> Iterator[tuple[int, int]]:
        """(done, all) every so many seconds, until the work has ended; who stops asking ends the work."""
        try:
            while self._thread.is_alive():
                self._thread.join(seconds)
                if self._thread.is_alive():
                    yield self.done, self.total
        finally:
            self._left.set()

    def check(self) -> None:
        """Raise the error that ended the work, if there was one."""
        if self._error is not None:
            raise self._error

    @property
    def result(self) -> Result:
        """What the work returned, after it has ended; its error is raised here."""
        self.check()
        assert self._result is not None, "the work has ended by itself"
        return self._result
