"""What glibc's malloc does with large blocks, of which every picture's activations are made.

By itself it gives each one of more than 32 MiB back to the system when it is freed, and the system makes each page of
the next one anew: a fifth of a training step on a CPU. Where another malloc is at work nothing changes.
"""

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # M_… in glibc's malloc.h
_LARGEST, _ALL = 32 << 20, -1  # bytes; malloc goes as high as the first by itself, and takes them as unsigned
_glibc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
_there = hasattr(_glibc, "mallopt")
_lock = threading.Lock()
_open: list[None] = []  # `freed_memory_kept`, in all threads


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """While it is open, what is freed is kept for what comes next, in all threads; afterwards it is given back."""
    with _lock:
        _open.append(None)
        _keep_below(_ALL)
    try:
        yield
    finally:
        with _lock:
            _open.pop()
            if not _open:
                _keep_below(_LARGEST)
                if _there:
                    _glibc.malloc_trim(0)


def one_arena() -> None:
    """Let all threads take memory from one place; for programs that compute in threads, before these begin.

    The arenas that threads have of their own consist of heaps of 64 MiB, which hold no larger block, and go back to the
    system when they are empty, `freed_memory_kept` or not.
    """
    if _there:
        _glibc.mallopt(_ARENA_MAX, 1)


def _keep_below(size: int) -> None:
    if _there:
        _glibc.mallopt(_MMAP_THRESHOLD, size)
        _glibc.mallopt(_TRIM_THRESHOLD, 2 * size)  # as malloc itself sets them
