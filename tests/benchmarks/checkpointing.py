"""What `DistillConfig(checkpointing=True)` saves of memory.

This module imports no torch, so that the processes that it starts to measure memory start small, see `memory`.
"""

from dataclasses import replace

from distillation import FLOAT32, FRESH, PEAK_STEPS, QUICK, _peak
from report import Section, Table
from timing import Case, in_fresh_process

CASES = (
    Case(label="ViT-S/14 at 224 px", name="s14", image_size=224, batch=8, rounds=1),
    Case(label="CLIP ViT-B/16 at 224 px", name="clip-b16", image_size=224, batch=4, rounds=1),
)
TRAINABLES = ("lora:8", "all")


def run(quick: bool) -> Section:
    """One table for all models."""
    cases = (QUICK,) if quick else CASES
    return Section(
        title="Checkpointing: what it saves of memory",
        intro=(
            "Steps of `explorer.distill` with three levels, all rows of attention of the last four blocks, on pictures "
            "that lie in memory, random seeded weights. With `checkpointing=True` each block keeps only what goes into "
            "it, and is computed again in the backward pass, which takes one more forward pass of the student; what "
            "the loss is made of, maps among it, is kept. The students are equal to the last bit. *peak MiB*: what a "
            f"run adds at its highest to a process with the finished teacher, in its first {PEAK_STEPS} steps and the "
            "checkpoint before them, each in a fresh process (`ru_maxrss`). Weights, gradients and the optimizer's "
            "moments are counted, too: with `all` they are the most of a small batch."
        ),
        tables=(
            Table(
                title="Runs, float32",
                columns=("model", "trainable", "peak MiB", "with checkpointing", "of it"),
                rows=tuple(_row(case, trainable) for case in cases for trainable in TRAINABLES),
            ),
        ),
    )


def _row(case: Case, trainable: str) -> tuple[str, str, float, float, float]:
    settings = [replace(FLOAT32, checkpointing=on) for on in (False, True)]
    plain, less = (in_fresh_process(_peak, case, setting, (trainable, FRESH)) for setting in settings)
    return f"{case.label}, batch {case.batch}", f"`{trainable}`", plain, less, less / plain
