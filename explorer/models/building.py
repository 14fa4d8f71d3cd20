"""What is the whole process's while a module is built: timm's flags, and the generator that torch draws weights by.

Enters: a seed. Leaves: the generator as it was. Deliberately ignored: what other threads of a user draw meanwhile.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

BUILDING = threading.RLock()
"""Held while a module is built, and while weights are drawn."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw weights on the processor from a seed on; generators of GPUs are left alone."""
    with BUILDING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed those of GPUs, too
        yield
