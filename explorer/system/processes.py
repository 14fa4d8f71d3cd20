"""One process or several that work together: their shares, sums and locks, through Hugging Face Accelerate.

`accelerate launch` starts the processes and says so in the environment; by itself a process is alone, and Accelerate is
not even imported. Nothing here knows what they work on.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import torch
from torch import Tensor


def is_first() -> bool:
    """Whether this process is alone, or the first of several: the one that tells and writes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    return os.environ.get("RANK", "0") == "0"


class Processes:
    """Where this process stands among those that work together.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
    """

    def __init__(self) -> None:
        self._state: Any = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState
            from accelerate.utils import parse_flag_from_env

            # Without being told, Accelerate takes several processes without any GPU for as many lonely ones.
            no_gpu = not (torch.cuda.is_available() or torch.xpu.is_available() or torch.backends.mps.is_available())
            self._state = PartialState(cpu=no_gpu or parse_flag_from_env("ACCELERATE_USE_CPU"))
        self.rank: int = 0 if self._state is None else self._state.process_index
        self.count: int = 1 if self._state is None else self._state.num_processes

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def placed(self, device: torch.device) -> torch.device:
        """The device that this process computes on: its own among several; `device` where it is alone."""
        return device if self._state is None else self._state.device

    def wait(self) -> None:
        """Go on when all have come here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    def mean_(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes; all of them in one message."""
        if self._state is None:
            return
        from accelerate.utils import reduce

        parts = list(tensors)
        joined = reduce(torch.cat([part.reshape(-1) for part in parts]), "mean")
        for part, mean in zip(parts, joined.split([part.numel() for part in parts]), strict=True):
            part.copy_(mean.reshape(part.shape))

    def agreed(self, value: Any) -> Any:
        """What the first process has for `value`; picklable."""
        if self._state is None:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    @contextmanager
    def lock(self, folder: Path) -> Iterator[None]:
        """Keep all others from writing to a folder, which is made.

        Raises:
            BlockingIOError: somebody else is writing there.
            OSError: nothing can be written there.
        """
        if not self.first:
            self.wait()
            yield
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held = filelock.FileLock(folder / ".lock").acquire(timeout=0)
        except filelock.Timeout as error:
            raise BlockingIOError(
                f"another run is writing to '{folder}'; wait for it, or choose another folder"
            ) from error
        except OSError as error:
            raise OSError(
                f"nothing can be written to the folder '{folder}' ({error.strerror or error}); free some space there, "
                f"or choose another folder"
            ) from error
        with held:
            self.wait()
            yield
