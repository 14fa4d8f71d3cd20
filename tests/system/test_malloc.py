"""Pages that the system makes anew, counted by the system, in a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, resource, sys
from threading import Thread
import torch
from explorer.system.malloc import freed_memory_kept, one_arena

def rounds(number):
    for _ in range(number):
        torch.ones(16 << 20)  # 64 MiB

def run(number):
    if sys.argv[1] == "in a thread":
        thread = Thread(target=rounds, args=[number])
        thread.start()
        thread.join()
    else:
        rounds(number)

def made_anew():  # MiB in a round
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    run(40)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / 40 / (1 << 20)

def taken():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

one_arena()
at_first = taken()
assert made_anew() > 60
with freed_memory_kept(), freed_memory_kept():
    assert made_anew() < 32  # remainders of aligned blocks keep some of them apart at first, in each thread
    assert taken() - at_first > 60
assert taken() - at_first < 20
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc alone is told what to keep")
@pytest.mark.parametrize("where", ["in the main thread", "in a thread"])
def test_freed_memory_is_used_again_while_it_is_kept_and_given_back_afterwards(where: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, where], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
