"""Attention and rollout beside two packages made for them: `fast-vit-rollout` and `daam-timm-vit`.

Both need little that is not here already, so they live in a folder of their own, which the variable RIVALS names:

    python -m pip install --no-deps --target FOLDER fast-vit-rollout daam-timm-vit opencv-python-headless

Then all run in turn in one process, on the same parameters. Without it only our own are measured. This module imports
no torch, so that the processes that it starts to measure memory start small, see `memory`.
"""

from statistics import mean

from memory import high_water, settled
from report import Section, Table
from timing import Case, in_fresh_process, paired, stopwatch

CASES = (
    Case(label="ViT-S/14 at 224 px", name="s14", image_size=224, batch=1, rounds=12),
    Case(label="ViT-S/14 at 448 px", name="s14", image_size=448, batch=1, rounds=5),
)
QUICK = (Case(label="test_vit at 160 px", name="test_vit", image_size=160, batch=1, rounds=2),)
PROCESSES = 2
BASELINE = "plain forward, fused"


def run(quick: bool) -> Section:
    """Measure all cases; memory of the largest alone."""
    cases = QUICK if quick else CASES
    return Section(
        title="Rivals: rollout and maps of two packages",
        intro=(
            "Random seeded weights, no gradients unless a way needs them. `fast-vit-rollout` 0.1.1 is asked for the "
            "same as ours: mean of heads, nothing discarded; its default discards 90 % of each matrix. `daam-timm-vit` "
            "0.2.1 gives another kind of map, attention times gradient times value of every block, with a backward "
            "pass; beside it stands `ex.attribute` by attention and its gradient, which needs one as well, and the "
            "attention maps of all blocks, which need none. *difference*: the largest absolute difference from our "
            "rollout of the class token's row; for `daam-timm-vit` of the attention that it works with from ours. "
            "*hooks*: what is left on the model after use. *peak MiB*: what the first call adds to a process with the "
            f"finished model, mean of {1 if quick else PROCESSES}. The packages lie in a folder that the variable "
            "RIVALS names (`tests/benchmarks/rivals.py` says how to make it)."
        ),
        tables=tuple(_table(case, quick, case is cases[-1]) for case in cases),
    )


def _table(case: Case, quick: bool, largest: bool) -> Table:
    rows, missing = in_fresh_process(_measure, case)
    processes = 1 if quick else PROCESSES
    peaks = {
        row[0]: mean(in_fresh_process(_peak, row[0], case) for _ in range(processes))
        for row in (rows[:2] if quick else rows)
        if largest and not isinstance(row[1], str)
    }
    note = f" Not measured, since they are not installed: {', '.join(missing)}." if missing else ""
    return Table(
        title=f"{case.label}, batch {case.batch}",
        columns=(
            "way",
            "maps",
            "difference",
            "hooks",
            "best ms",
            "median ms",
            "least ratio",
            "median ratio",
            "peak MiB",
        ),
        rows=tuple((*row, peaks.get(row[0])) for row in rows),
        notes=(f"{case.rounds} rounds.{note}",),
    )


def _measure(case: Case) -> tuple[list[tuple[str | int | float | None, ...]], list[str]]:
    """A row for each way, without its peak; and the packages that are not there."""
    from rival_ways import MISSING, WAYS, checked, subject

    seen = subject(case.name, case.image_size, case.batch)
    found = {name: checked(name, seen) for name in WAYS}
    works = {name: stopwatch(WAYS[name](seen).run) for name, result in found.items() if result.problem is None}
    timings = paired(works, baseline=BASELINE, rounds=case.rounds)
    rows: list[tuple[str | int | float | None, ...]] = []
    for name, result in found.items():
        if name in timings:
            timing = timings[name]
            times = (timing.best_ms, timing.median_ms, timing.best_ratio, timing.median_ratio)
            rows.append((name, result.maps, result.difference, result.hooks, *times))
        else:
            rows.append((name, result.problem, None, result.hooks, None, None, None, None))
    return rows, MISSING


def _peak(way: str, case: Case) -> float:
    """Mebibytes that one call adds at its highest."""
    from rival_ways import WAYS, subject

    built = WAYS[way](subject(case.name, case.image_size, case.batch))
    before = settled()
    kept = built.run()
    after = high_water()
    del kept
    return after - before
