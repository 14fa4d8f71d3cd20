"""What a step of distillation costs: three levels over the CLS loss alone; and pictures a second and memory of runs.

This module imports no torch, so that the processes that it starts to measure memory start small, see `memory`.
"""

from dataclasses import dataclass
from typing import Literal

from memory import MEBIBYTE, high_water, settled
from report import Section, Table, aim
from timing import Case, Timing, in_fresh_process, paired, stopwatch

BASELINE = "CLS loss in plain torch"
CLS = "CLS level"
LEVELS = "three levels"
CACHED = "cached teacher"
FRESH = "teacher in each step"
VIEWS = (FRESH, CACHED)
LEVELS_LIMIT, CACHED_LIMIT = 1.25, 0.90
PEAK_STEPS = 2


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and how it is computed, and what is."""

    label: str
    device: Literal["cpu", "cuda"]
    precision: Literal["float32", "bfloat16"]
    compile: bool = False
    checkpointing: bool = False
    trainables: tuple[str, ...] = ("lora:8", "last:2", "all")


FLOAT32 = Setting(label="float32", device="cpu", precision="float32")
BFLOAT16 = Setting(label="bfloat16", device="cpu", precision="bfloat16")
CUDA = Setting(label="bfloat16", device="cuda", precision="bfloat16")
COMPILED = Setting(  # compilation takes most of the time
    label="bfloat16, torch.compile", device="cuda", precision="bfloat16", compile=True, trainables=("lora:8",)
)
CASES = {
    FLOAT32: (Case(label="ViT-S/14 at 224 px", name="s14", image_size=224, batch=8, rounds=4),),
    CUDA: (
        Case(label="ViT-S/14 at 224 px", name="s14", image_size=224, batch=64, rounds=20),
        Case(label="ViT-B/16 at 224 px", name="clip-b16", image_size=224, batch=64, rounds=20),
    ),
}
CASES |= {BFLOAT16: CASES[FLOAT32], COMPILED: CASES[CUDA][:1]}
QUICK = Case(label="test_vit at 160 px", name="test_vit", image_size=160, batch=2, rounds=3)


def run(quick: bool) -> Section:
    """Measure all cases in all settings of this machine."""
    settings = (FLOAT32,) if quick else in_fresh_process(_settings)
    pairs = [(case, setting) for setting in settings for case in ((QUICK,) if quick else CASES[setting])]
    steps = [
        in_fresh_process(_steps, case, setting, trainable)
        for case, setting in pairs
        for trainable in setting.trainables
        if trainable != "last:2"
    ]
    throughput = [_runs(case, setting, setting.trainables[: 1 if quick else None]) for case, setting in pairs]
    return Section(
        title="Distillation: what a step costs",
        intro=(
            "Random seeded weights (time does not depend on them); pictures lie in memory at the trained size, so that "
            "no decoding or cropping is counted. **A step** is loss, backward pass, clipping and AdamW. Its baseline "
            f"is written in plain torch: the teacher's fused forward pass without maps, the student's, and 1 - cosine "
            f"of the two embeddings. *{CLS}* is the same loss from the library's parts (`Backbone.trace`, `Targets`, "
            f"`losses.combine`); *{LEVELS}* adds the patches of the last block and the attention of the last four, all "
            f"rows unless *own rows* (the class token's) is said. With a *{CACHED}* its targets of the batch are "
            "looked up. Before the clock starts, each variant's gradients are checked: finite, for every trained "
            "parameter, and those of the CLS level equal to the baseline's (float32).\n\n"
            "**Runs** are steps of `explorer.distill` with three levels, all rows, from record to record; checkpoints "
            f"and evaluations are not counted. *peak MiB*: what a run adds at its highest to a process with the "
            f"finished teacher, in its first {PEAK_STEPS} steps and the checkpoint before them: resident memory on a "
            "CPU, `torch.cuda.max_memory_allocated` on a GPU. Kept targets count there, of one batch of pictures here."
        ),
        tables=(*steps, *throughput),
    )


def _settings() -> tuple[Setting, ...]:
    """What this machine is made for: its GPU; else float32 and, with instructions for it, bfloat16."""
    import torch

    if torch.cuda.is_available():
        return CUDA, COMPILED
    native = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    half = any(getattr(torch.cpu, name, lambda: False)() for name in native)
    return (FLOAT32, BFLOAT16) if half else (FLOAT32,)


def _steps(case: Case, setting: Setting, trainable: str) -> Table:
    """One table of steps."""
    from steps import VARIANTS, build, checked_levels, subject

    seen = subject(case, trainable, setting)
    levels = {name: checked_levels(name, seen) for name in VARIANTS}
    measures = {name: stopwatch(build(name, seen)) for name in VARIANTS}
    timings = paired(measures, baseline=BASELINE, rounds=case.rounds)
    cached = f"{CACHED}, {LEVELS}"
    aims = [
        aim(f"{LEVELS} on four blocks", timings[LEVELS].median_ratio, LEVELS_LIMIT),
        aim(f"the same with the {CACHED}", timings[cached].median_ratio, CACHED_LIMIT),
    ]
    return Table(
        title=f"A step: {case.label}, batch {case.batch}, `{trainable}`, {setting.label}",
        columns=("step", "levels", "best ms", "median ms", "images/s", "least ratio", "median ratio"),
        rows=tuple((name, levels[name], *_numbers(timings[name], case.batch)) for name in VARIANTS),
        notes=(f"{case.rounds} rounds. {' '.join(aims)}",),
    )


def _runs(case: Case, setting: Setting, trainables: tuple[str, ...]) -> Table:
    """One table of runs; memory is measured in a fresh process for each of them."""
    rows = [(trainable, views) for trainable in trainables for views in VIEWS]
    timings = in_fresh_process(_timed_runs, case, setting, rows)
    peaks = [in_fresh_process(_peak, case, setting, row) for row in rows]
    return Table(
        title=f"Runs: {case.label}, batch {case.batch}, {setting.label}",
        columns=("trainable", "teacher", "best ms", "median ms", "images/s", "least ratio", "median ratio", "peak MiB"),
        rows=tuple(
            (f"`{row[0]}`", row[1], *_numbers(timing, case.batch), peak)
            for row, timing, peak in zip(rows, timings, peaks, strict=True)
        ),
        notes=(f"{case.rounds} rounds. Ratios to the first row.",),
    )


def _timed_runs(case: Case, setting: Setting, rows: list[tuple[str, str]]) -> list[Timing]:
    from steps import runs

    warmup = 2  # the first record also has the first checkpoint and evaluation, and fills the cache
    with runs(case, setting, rows, steps=case.rounds + warmup + 1) as started:  # the last one is followed by another
        measures = {str(row): stopwatch(records.__next__) for row, records in zip(rows, started, strict=True)}
        timings = paired(measures, baseline=str(rows[0]), rounds=case.rounds, warmup=warmup)
    return [timings[str(row)] for row in rows]


def _peak(case: Case, setting: Setting, row: tuple[str, str]) -> float:
    """Mebibytes that a run adds at its highest."""
    import peft  # noqa: F401  (code that is loaded late is not what a run takes)
    import torch
    from steps import runs

    with runs(case, setting, [row], steps=PEAK_STEPS + 1) as started:
        if setting.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated() / MEBIBYTE
        else:
            before = settled()
        for _ in range(PEAK_STEPS):
            next(started[0])
        after = torch.cuda.max_memory_allocated() / MEBIBYTE if setting.device == "cuda" else high_water()
    return after - before


def _numbers(timing: Timing, batch: int) -> tuple[float, float, float, float, float]:
    rate = 1000 * batch / timing.median_ms
    return timing.best_ms, timing.median_ms, rate, timing.best_ratio, timing.median_ratio
