"""Processes beside the tests' own: two that work together, as `accelerate launch` and `torchrun` start them; and how
many threads torch has in this one."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

Run = Callable[..., "subprocess.CompletedProcess[str]"]
"""Runs a command line."""


def run_together(*words: str) -> list[str]:
    """Run Python with these words in two processes and return what each of them printed."""
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}  # no GPU, and nobody says so
    both = [
        subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        outputs = [process.communicate(timeout=240) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], outputs
    return [printed for printed, _ in outputs]


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch computes on so many threads, which decides the last bits of a result."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
