"""Peak memory of one forward pass with maps, in a fresh process for each variant.

The high-water mark of a process starts at that of the one that started it, and never falls by itself: so the process
that starts the others must be small (this module imports no torch), and where the system allows (Linux) the mark is set
back to what the finished model takes, right before the pass that is measured.
"""

import resource
import sys
from pathlib import Path
from statistics import median

from report import Section, Table
from timing import in_fresh_process

MEBIBYTE = 2**20
CASE = ("s14", 448)
QUICK = ("test_vit", 160)
PROCESSES = 3  # the allocator and thread pools move a peak by some 20 MiB from process to process


def run(quick: bool) -> Section:
    """Measure all variants."""
    name, image_size = QUICK if quick else CASE
    names = in_fresh_process(_names, quick)
    processes = 1 if quick else PROCESSES
    runs = {
        variant: [in_fresh_process(_peak, variant, name, image_size) for _ in range(processes)] for variant in names
    }
    peaks = {variant: (median(peak for peak, _ in own), own[0][1]) for variant, own in runs.items()}
    plain = peaks[names[0]][0]
    return Section(
        title="Memory: what attention maps take",
        intro=(
            "The highest resident memory (`ru_maxrss`) during the first forward pass, minus what the process takes "
            f"with the finished model and the picture; median of {processes} fresh processes. *over plain*: minus the "
            "plain fused forward. *maps*: bytes of the attention tensors that were returned."
        ),
        tables=(
            Table(
                title=f"{name} at {image_size} px, batch 1",
                columns=("variant", "maps MiB", "peak MiB", "over plain MiB"),
                rows=tuple((variant, held, peak, peak - plain) for variant, (peak, held) in peaks.items()),
            ),
        ),
    )


def _names(quick: bool) -> list[str]:
    from variants import BASELINE, CLS, FULL, VARIANTS

    return [BASELINE, CLS, FULL] if quick else list(VARIANTS)


def _peak(variant: str, name: str, image_size: int) -> tuple[float, float]:
    """Mebibytes that one run adds at its highest, and those of the maps that it returns."""
    import torch
    from variants import build, expected_maps, subject

    seen = subject(name, image_size, batch=1)
    built = build(variant, seen)
    with torch.no_grad():
        before = settled()
        result = built.run()
        after = high_water()
    maps = built.maps(result)
    assert len(maps) == expected_maps(variant, seen.backbone.depth)
    return after - before, sum(attention.nbytes for attention in maps) / MEBIBYTE


def settled() -> float:
    """The high-water mark, set back to what is resident now where the system can do that."""
    mark = Path("/proc/self/clear_refs")
    if mark.exists():
        mark.write_text("5")  # man 5 proc: resets the peak resident set size
    return high_water()


def high_water() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, kibibytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEBIBYTE
