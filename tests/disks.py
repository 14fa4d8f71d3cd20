"""Disks that are full or read-only, and processes that die: real ones, where this system lets us have them."""

import os
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A disk of so many kilobytes, mounted at a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """A folder that even root cannot write to."""
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,ro,bind", str(folder))
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*words: str) -> None:
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a disk that is full or read-only needs the right to mount one")
    mounted = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")


def forked(work: Callable[[], object], seconds: int = 100) -> int:
    """Do the work in a process of its own, which is ended after so many seconds; its process number."""
    if not hasattr(os, "fork"):
        pytest.skip("needs processes that fork")
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.alarm(seconds)
        torch.set_num_threads(1)  # a forked process has none of its parent's threads
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def end_of(process: int) -> int:
    """How a forked process ended: its exit code, or minus the number of the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed() -> None:
    """End this process at once, as the system does when memory or power is gone: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def flipped(file: Path, byte: int, bit: int = 0) -> None:
    """Change one bit of a file, as a bad disk does; negative bytes count from the end."""
    content = bytearray(file.read_bytes())
    content[byte] ^= 1 << bit
    file.write_bytes(content)
