"""What `DistillConfig(checkpointing=True)` saves of memory, and what it costs of time.

This module imports no torch, so that the processes that it starts to measure memory start small, see `memory`.
"""

from contextlib import ExitStack
from dataclasses import replace

from distillation import FLOAT32, FRESH, PEAK_STEPS, QUICK, _peak
from report import Section, Table
from timing import Case, Timing, in_fresh_process, paired, stopwatch

CASES = (
    Case(label="ViT-S/14 at 224 px", name="s14", image_size=224, batch=8, rounds=2),
    Case(label="CLIP ViT-B/16 at 224 px", name="clip-b16", image_size=224, batch=4, rounds=1),
)
TRAINABLES = ("lora:8", "all")
WAYS = {False: "everything kept", True: "checkpointing"}


def run(quick: bool) -> Section:
    """One table for each model."""
    return Section(
        title="Checkpointing: memory for time",
        intro=(
            "Steps of `explorer.distill` with three levels, all rows of attention of the last four blocks, on pictures "
            "that lie in memory, random seeded weights, from record to record. With `checkpointing=True` each block "
            "keeps only what goes into it, and is computed again in the backward pass; what the loss is made of, maps "
            "among it, is kept. The students are equal to the last bit. *peak MiB*: what a run adds at its highest to "
            f"a process with the finished teacher, in its first {PEAK_STEPS} steps and the checkpoint before them, "
            "each in a fresh process (`ru_maxrss`)."
        ),
        tables=tuple(_table(case) for case in ((QUICK,) if quick else CASES)),
    )


def _table(case: Case) -> Table:
    rows = []
    for trainable in TRAINABLES:
        timings = in_fresh_process(_timed, case, trainable)
        peaks = [in_fresh_process(_peak, case, replace(FLOAT32, checkpointing=on), (trainable, FRESH)) for on in WAYS]
        for (name, timing), peak in zip(timings.items(), peaks, strict=True):
            rows.append((f"`{trainable}`", name, timing.median_ms, timing.median_ratio, peak, peak / peaks[0]))
    return Table(
        title=f"{case.label}, batch {case.batch}, float32",
        columns=("trainable", "blocks", "median ms", "median ratio", "peak MiB", "of everything kept"),
        rows=tuple(rows),
        notes=(f"{case.rounds} rounds.",),
    )


def _timed(case: Case, trainable: str) -> dict[str, Timing]:
    from steps import runs

    warmup = 1
    with ExitStack() as stack:
        measures = {}
        for on, name in WAYS.items():
            setting = replace(FLOAT32, checkpointing=on)
            started = stack.enter_context(runs(case, setting, [(trainable, FRESH)], steps=case.rounds + warmup + 1))
            measures[name] = stopwatch(started[0].__next__)
        return paired(measures, baseline=WAYS[False], rounds=case.rounds, warmup=warmup)
