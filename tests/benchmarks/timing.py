"""Side-by-side measurement: variants in turn within each round, and statistics of the ratios within a round.

Enters: functions that run a variant once and return its seconds. Leaves: a `Timing` for each. Whatever slows the
machine down slows all variants of a round down, so a ratio within a round says more than one of two separate averages.
The order within a round is drawn anew each time: no variant always runs after the same other one, whose allocations
and caches it would inherit. What a variant returns is freed outside of its measured time.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

Result = TypeVar("Result")
Measure = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, an image size in pixels, a batch, and how many rounds are worth their time."""

    label: str
    name: str
    image_size: int
    batch: int
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One variant's seconds, round by round, and the same rounds as multiples of the baseline's seconds."""

    seconds: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def best_ms(self) -> float:
        """The fastest round in milliseconds."""
        return 1000 * min(self.seconds)

    @property
    def median_ms(self) -> float:
        """The median round in milliseconds."""
        return 1000 * statistics.median(self.seconds)

    @property
    def best_ratio(self) -> float:
        """The smallest ratio of any round. Noise makes it too small: read it beside the median."""
        return min(self.ratios)

    @property
    def median_ratio(self) -> float:
        """The median of the ratios within a round: the number that is compared with an aim."""
        return statistics.median(self.ratios)


def paired(measures: Mapping[str, Measure], *, baseline: str, rounds: int, warmup: int = 1) -> dict[str, Timing]:
    """Measure every variant once a round.

    Args:
        measures: variant -> a function that runs it once and returns how many seconds that took.
        baseline: the variant whose seconds the others are divided by.
        rounds: how many rounds are kept.
        warmup: how many rounds before them are thrown away.
    """
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(-warmup, rounds):
        order = list(measures)
        random.Random(number).shuffle(order)
        for name in order:
            taken = measures[name]()
            if number >= 0:
                seconds[name].append(taken)
    return {
        name: Timing(seconds=tuple(own), ratios=tuple(a / b for a, b in zip(own, seconds[baseline], strict=True)))
        for name, own in seconds.items()
    }


def stopwatch(function: Callable[[], object]) -> Measure:
    """A function that calls `function` once and returns the seconds until it returned (for work on the CPU)."""

    def measure() -> float:
        gc.collect()
        gc.disable()
        try:
            start = time.perf_counter()
            kept = function()
            taken = time.perf_counter() - start
        finally:
            gc.enable()
        del kept
        return taken

    return measure


def in_fresh_process(function: Callable[..., Result], *arguments: object) -> Result:
    """What a module-level function returns when it is called in a new interpreter, with nothing inherited."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
