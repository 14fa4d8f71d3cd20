"""Values that are kept because they cost much to make, up to a limit."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class BoundedCache(Generic[Value]):
    """The most recently used values whose sizes together stay below a limit. Each is made once, whoever asks."""

    def __init__(self, limit: float, size: Callable[[Value], float]) -> None:
        self.limit, self.size = limit, size
        self.kept: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[Hashable, tuple[threading.Lock, int]] = {}  # and how many want it

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made now if it is not kept; other keys are not waited for."""
        with self._lock:
            turn, wanting = self._making.get(key, (threading.Lock(), 0))
            self._making[key] = turn, wanting + 1
        try:
            with turn:
                with self._lock:
                    if key in self.kept:
                        self.kept.move_to_end(key)
                        return self.kept[key]
                value = make()
                with self._lock:
                    self._keep(key, value)
        finally:
            self._leave(key)
        return value

    def _leave(self, key: Hashable) -> None:
        with self._lock:
            turn, wanting = self._making.pop(key)
            if wanting > 1:  # the others wait for the same turn, also where it failed
                self._making[key] = turn, wanting - 1

    def _keep(self, key: Hashable, value: Value) -> None:
        self.kept[key] = value
        while len(self.kept) > 1 and sum(map(self.size, self.kept.values())) > self.limit:
            self.kept.popitem(last=False)
