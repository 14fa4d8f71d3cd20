"""How the threads of one computation wait for each other: `wait_briefly`.

Between two parallel pieces of work OpenMP's threads spin, for milliseconds, to be quick when the next one comes. Where
other work wants the same cores, a thread then burns its time slice while the one that it waits for is not even running:
on two cores beside two busy processes, a trace took 2.2 times as long, and 2.3 times the processor's time
(docs/settings.md, "How threads wait").
"""

import os
import sys

SPINS = "3000"
"""Turns of waiting before a thread sleeps: some 40 microseconds, longer than Python takes from one operation to the
next."""


def wait_briefly() -> None:
    """Let threads sleep soon when they wait; for programs, before torch is imported. What the user set stays.

    It is read by libgomp, which torch's Linux builds bring, when it is loaded; other systems are as they were.
    """
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
