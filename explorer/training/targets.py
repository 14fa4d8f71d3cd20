"""The frozen teacher's traces of clean crops, computed once for each crop where crops repeat.

Enters: batches of clean crops and their slot numbers. Leaves: `Trace`s, the same ones that the teacher would give.
What is kept lies in memory up to a bound, beyond it in a file on the disk; nothing is kept where crops do not repeat,
or where even the disk is too small.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from explorer.models.trace import Trace
from explorer.system.files import allocate

SCRATCH = ".targets-"
Teacher = Callable[[Tensor], Trace]
_DISK_SHARE = 0.5  # of the free space
_log = logging.getLogger(__name__)


class Targets:
    """The teacher's traces by slot.

    Each crop goes through the teacher by itself when it is first seen: in a batch the last bits of a result
    depend on its neighbours, and a run that is resumed meets a crop among others than the run that never stopped.

    Args:
        teacher: clean crops -> their trace, outside of autograd.
        slots: how many different crops there are; None if they do not repeat, so that nothing is kept.
        memory_bytes: the most memory that kept traces may take.
        folder: where a file goes if they would take more; at most half of the free space is used.

    Attributes:
        place: "memory", "disk" or "off"; known after the first batch.
        computed: how many crops went through the teacher.
    """

    def __init__(self, teacher: Teacher, slots: int | None, memory_bytes: int, folder: Path) -> None:
        self._teacher, self._slots, self._bound, self._folder = teacher, slots, memory_bytes, folder
        self._filled = np.zeros(slots or 0, dtype=bool)
        self._kept: dict[str, Tensor] = {}
        self._like: Trace | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self.place = "off" if slots is None else "unknown"
        self.computed = 0

    def __call__(self, crops: Float[Tensor, "batch 3 height width"], slots: list[int]) -> Trace:
        """The teacher's trace of these clean crops, on their device."""
        if self.place == "off":
            return self._compute(crops)
        for place in self._missing(slots):
            trace = self._compute(crops[place : place + 1])
            if self.place == "unknown":
                self._open(trace)
            if self.place == "off":
                return self._compute(crops)
            for name, tensor in _tensors(trace).items():
                self._kept[name][slots[place]] = tensor[0].cpu()
            self._filled[slots[place]] = True
        return self._look_up(slots, crops.device)

    def close(self) -> None:
        """Forget everything, and delete the file."""
        self._kept.clear()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def _missing(self, slots: list[int]) -> list[int]:
        """Places in the batch of the slots that are not kept yet, each slot once."""
        first = {slot: place for place, slot in reversed(list(enumerate(slots))) if not self._filled[slot]}
        return sorted(first.values())

    def _compute(self, crops: Tensor) -> Trace:
        self.computed += len(crops)
        return self._teacher(crops)

    def _open(self, trace: Trace) -> None:
        """Choose where traces are kept, now that their size is known."""
        assert self._slots is not None
        tensors = _tensors(trace)
        total = self._slots * sum(tensor[0].nbytes for tensor in tensors.values())
        self._like = trace
        self.place = "memory" if total <= self._bound else "disk"
        try:
            if self.place == "disk" and total > shutil.disk_usage(self._folder).free * _DISK_SHARE:
                raise OSError("too little space")
            if self.place == "disk":
                self._scratch = tempfile.TemporaryDirectory(
                    dir=self._folder, prefix=SCRATCH, ignore_cleanup_errors=True
                )
            self._kept = {name: self._storage(name, tensor) for name, tensor in tensors.items()}
        except OSError as error:  # also a quota, or a limit on the size of files
            self.close()
            self.place = "off"
            _log.warning(
                "the teacher's targets would take %.1f GB, more than memory (%.1f GB) and disk may hold (%s): they "
                "are computed anew in each step; fewer views, smaller pictures or rows='own' take less",
                *(total / 1e9, self._bound / 1e9, error.strerror or error),
            )

    def _storage(self, name: str, like: Tensor) -> Tensor:
        shape = (self._slots or 0, *like.shape[1:])
        if self._scratch is None:
            return torch.empty(shape, dtype=like.dtype)
        size = int(np.prod(shape)) * like.element_size()
        path = Path(self._scratch.name, name)
        with path.open("wb") as file:
            file.truncate(size)
        allocate(path)
        mapped = np.memmap(path, dtype=np.uint8, mode="r+", shape=(size,))
        return torch.from_numpy(mapped).view(like.dtype).reshape(shape)

    def _look_up(self, slots: list[int], device: torch.device) -> Trace:
        assert self._like is not None
        found: dict[str, Any] = {name: kept[slots].to(device) for name, kept in self._kept.items()}
        return replace(self._like, cls=None, norms=None, **found)


def _tensors(trace: Trace) -> dict[str, Tensor]:
    found = {"embedding": trace.embedding, "patches": trace.patches, "attention": trace.attention}
    return {name: tensor for name, tensor in found.items() if tensor is not None}
