"""What it costs to see attention: time of a forward pass with maps over one without."""

from collections.abc import Callable

import torch
from report import Section, Table, aim
from timing import Case, Measure, Timing, paired, stopwatch
from torch import Tensor
from variants import BASELINE, CLS, ORACLE, VARIANTS, Subject, build, checked_maps, subject

CLS_LIMIT = 1.10


CASES = (
    Case(label="ViT-Ti/16 at 224 px", name="vit_tiny_patch16_224", image_size=224, batch=1, rounds=40),
    Case(label="ViT-S/14 at 224 px", name="s14", image_size=224, batch=1, rounds=25),
    Case(label="ViT-S/14 at 224 px", name="s14", image_size=224, batch=8, rounds=9),
    Case(label="ViT-S/14 at 448 px", name="s14", image_size=448, batch=1, rounds=15),
)
QUICK = (Case(label="test_vit at 160 px", name="test_vit", image_size=160, batch=2, rounds=3),)


def run(quick: bool) -> Section:
    """Measure all cases."""
    return Section(
        title="Capture: what attention maps cost",
        intro=(
            "Random seeded weights (time does not depend on them), no gradients. The baseline is "
            "`forward_head(forward_features(x))` of the timm model with fused attention. `trace` also returns the "
            "tokens of all blocks with the final norm applied, as `forward_intermediates` does.\n\n"
            "*maps*: attention tensors that the call really returned, checked before the clock starts: over all "
            "tokens, rows that sum to 1. *difference*: the largest absolute difference of their first rows from timm's "
            "own unfused softmax. **timm's hooks on a fused model, which is what `timm.create_model` builds, return no "
            "map and no error**; its fx method refuses such a model. The fx graph ends at the last softmax: no "
            "embedding comes out, and the rest of the last block is not computed."
        ),
        tables=tuple(_measure(case) for case in (QUICK if quick else CASES)),
    )


@torch.no_grad()
def _measure(case: Case) -> Table:
    seen = subject(case.name, case.image_size, case.batch)
    found = {name: checked_maps(name, seen) for name in VARIANTS}
    timings = paired({name: _clock(name, seen) for name in VARIANTS}, baseline=BASELINE, rounds=case.rounds)
    return Table(
        title=f"{case.label}, batch {case.batch}",
        columns=("variant", "maps", "difference", "best ms", "median ms", "least ratio", "median ratio"),
        rows=tuple(_row(name, timings[name], found[name], found[ORACLE]) for name in VARIANTS),
        notes=(f"{case.rounds} rounds. {aim('CLS rows of all layers', timings[CLS].median_ratio, CLS_LIMIT)}",),
    )


def _clock(name: str, seen: Subject) -> Measure:
    run: Callable[[], object] = build(name, seen).run
    return stopwatch(run)


def _row(name: str, timing: Timing, maps: list[Tensor], oracle: list[Tensor]) -> tuple[str | int | float | None, ...]:
    difference = max((float((a - b).abs().max()) for a, b in zip(maps, oracle, strict=False)), default=None)
    return (
        name,
        len(maps),
        difference,
        timing.best_ms,
        timing.median_ms,
        timing.best_ratio,
        timing.median_ratio,
    )
