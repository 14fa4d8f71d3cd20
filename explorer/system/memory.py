"""Work on many pictures in parts that fit into memory: as asked for, and in halves when memory runs out.

Enters: work on a slice of the pictures. Leaves: what it returns for each part. Deliberately ignored: how much memory
there is beforehand. An estimate would have to know every model and every other program; a pass that fails is certain.
"""

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from explorer.errors import whole_number
from explorer.system.malloc import freed_memory_kept

Result = TypeVar("Result")
_ONEDNN = "could not create a primitive"  # all that oneDNN says without memory, and ever after in the same thread
_log = logging.getLogger(__name__)


def pictures_at_once(asked: int | None, device: torch.device) -> int:
    """Pictures in a forward pass: as asked for, else 8 on processors and 32 on GPUs.

    On processors more take memory and gain nothing, or are slower: outside of `freed_memory_kept`, malloc gives their
    activations back to the system after each block, and every page of them is then made anew.

    Raises:
        ValueError: fewer than one.
    """
    if asked is not None:
        return whole_number("batch_size", asked, 1)
    return 8 if device.type == "cpu" else 32


class Parts:
    """Remembers how many pictures fit.

    Args:
        subject: what may need too much memory, such as "a training step".
        advice: what takes less, if even the smallest part does not fit.
        size: pictures in a part at first; None: all at once.
        smallest: so many pictures belong together.
    """

    def __init__(self, subject: str, advice: str, size: int | None = None, smallest: int = 1) -> None:
        self.subject, self.advice, self.size, self.smallest = subject, advice, size, smallest

    def __call__(self, work: Callable[[slice], Result], count: int) -> Iterator[tuple[slice, Result]]:
        """`work` on all of `count` places, in order; a part that fails for lack of memory is tried again in halves.

        Raises:
            MemoryError: the smallest part is too much.
        """
        start = 0
        with freed_memory_kept():
            while start < count:
                part = slice(start, min(count, start + (self.size or count)))
                reason = None
                try:
                    result = work(part)
                except (RuntimeError, MemoryError) as error:
                    if not _lacks_memory(error):
                        raise
                    reason = str(error).partition("\n")[0]
                    if _ONEDNN in reason:
                        torch.backends.mkldnn.set_flags(_enabled=False)  # torch's own kernels take as long
                if reason is None:
                    yield part, result
                    start = part.stop
                else:  # outside of `except`, whose traceback holds the tensors
                    self._halve(part.stop - part.start, reason)

    def _halve(self, tried: int, reason: str) -> None:
        from accelerate.utils.memory import clear_device_cache

        problem = f"{self.subject} with {tried} picture{'s' * (tried > 1)} needs more memory than there is"
        if tried <= self.smallest:
            raise MemoryError(f"{problem}; {self.advice} ({reason})")
        self.size = max(self.smallest, tried // 2)
        _log.warning("%s: going on with %d at a time", problem, self.size)
        clear_device_cache(garbage_collection=True)


def _lacks_memory(error: Exception) -> bool:
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, MemoryError) or should_reduce_batch_size(error) or _ONEDNN in str(error)
