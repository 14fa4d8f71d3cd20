"""Work in a thread, so that the kernel goes on answering: of several requests, only the newest is worked on.

Enters: functions. Leaves: nothing; a function puts its result where it belongs. Nothing here knows who asks.
"""

import atexit
import threading
from collections.abc import Callable
from weakref import WeakSet

Check = Callable[[], None]
"""Raises `Left` inside of work that nobody waits for any more."""

_LAST_SECONDS = 10.0


class Left(Exception):  # noqa: N818  (not an error: nobody waits any more)
    """Something newer was asked for, or whoever asked has gone."""


class Latest:
    """Does what was asked for last, in a thread that lives only as long as there is work.

    Whatever waits when something newer comes is forgotten; work under way is told so by its `Check`, if it asks.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: Callable[[Check], None] | None = None
        self._thread: threading.Thread | None = None
        self._stale = threading.Event()  # the work under way is not wanted any more
        self._closed = False
        _living.add(self)

    @property
    def busy(self) -> bool:
        """Whether something is worked on."""
        return self._thread is not None

    def ask(self, work: Callable[[Check], None]) -> None:
        """Do this next, and nothing else that waits; after `close` nothing is done."""
        with self._changed:
            if self._closed:
                return
            self._waiting = work
            self._stale.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="vit-explorer widget", daemon=True)
                self._thread.start()

    def drop(self) -> None:
        """Give up what is worked on, and what waits."""
        with self._changed:
            self._waiting = None
            self._stale.set()

    def close(self) -> None:
        """The same, for good."""
        with self._changed:
            self._closed = True
        self.drop()

    def settle(self, seconds: float | None = None) -> bool:
        """Wait until all is done; whether it is. Work itself may not wait for itself: then it returns at once."""
        if threading.current_thread() is self._thread:
            return False
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                work, self._waiting = self._waiting, None
                if work is None:
                    self._thread = None
                    self._changed.notify_all()
                    return
                self._stale.clear()
            try:
                work(self._check)
            except Left:
                pass
            except BaseException:  # work tells its own errors; a bug must not leave `settle` waiting for ever
                with self._changed:
                    self._thread = None
                    self._changed.notify_all()
                raise

    def _check(self) -> None:
        if self._stale.is_set():
            raise Left


_living: "WeakSet[Latest]" = WeakSet()


def _end_all() -> None:
    """The kernel ends: a thread that is in the middle of something native would bring it down."""
    for latest in list(_living):
        latest.close()
    for latest in list(_living):
        latest.settle(_LAST_SECONDS)


atexit.register(_end_all)
