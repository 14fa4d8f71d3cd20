"""How long a person waits: from a picture file to everything that the app shows of it, phase by phase."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from report import Section, Table

import explorer as ex
from explorer.inspection.comparison import View, assemble, look
from explorer.models.weights import ALIASES
from explorer.system.files import asset_path

SIZES = (224, 336, 448)
ROUNDS = 9
PHASES = ("read picture", "distort", "look at clean", "look at distorted", "agreement", "maps", "total")
DISTORTION = "gaussian_noise(sigma=0.3)"
Clock = dict[str, float]


def run(quick: bool) -> Section:
    """Measure all image sizes."""
    name, source = ("test_vit", "random") if quick else ("s14", _source())
    backbones = [ex.load_backbone(name, image_size=size, source=source) for size in ((160,) if quick else SIZES)]
    rounds = 2 if quick else ROUNDS
    return Section(
        title="Latency: from a picture file to the comparison",
        intro=(
            f"Milliseconds, median of {rounds} rounds. Backbone '{name}', weights: {backbones[0].source}; {DISTORTION} "
            "with a new seed each time. *look* is one forward pass with all attention matrices, rollout, and the rows "
            "that are kept of them; *agreement* is all alignments; *maps* are the attention maps of the four views, "
            "all heads, patch colours, and the similarity of one patch. *first* sees a new picture; *again* is a new "
            "distortion of a picture whose clean view is remembered, as in the app. *bare forward* is "
            "`trace(attention=None)`."
        ),
        tables=(_table(backbones, rounds),),
    )


def _table(backbones: list[ex.Backbone], rounds: int) -> Table:
    rows = [row for backbone in backbones for row in _measure(backbone, rounds)]
    return Table(title="Comparison", columns=("size", "call", *PHASES, "bare forward"), rows=tuple(rows))


def _measure(backbone: ex.Backbone, rounds: int) -> list[tuple[str | float | None, ...]]:
    clean = ex.load_image(_photo(), size=backbone.image_size)
    remembered = look(backbone, clean)
    first, again, bare = [], [], []
    for seed in range(rounds + 1):
        first.append(_comparison(backbone, seed, None))
        again.append(_comparison(backbone, seed, remembered))
        bare.append(_timed({}, "", lambda: backbone.trace(clean[None], attention=None))[1])
    size = f"{backbone.image_size} px"
    forward = 1000 * median(bare[1:])  # the first round warms up
    return [(size, name, *_medians(clocks[1:]), forward) for name, clocks in (("first", first), ("again", again))]


def _comparison(backbone: ex.Backbone, seed: int, remembered: View | None) -> Clock:
    """One run, timed. Everything that is shown is computed; nothing is drawn or encoded."""
    clock: Clock = {}
    size = backbone.image_size
    clean, _ = _timed(clock, "read picture", lambda: ex.load_image(_photo(), size=size))
    damage = ex.distortion(DISTORTION)
    distorted, _ = _timed(clock, "distort", lambda: damage(clean[None], seed=seed)[0])
    view = remembered
    if view is None:
        view, _ = _timed(clock, "look at clean", lambda: look(backbone, clean))
    other, _ = _timed(clock, "look at distorted", lambda: look(backbone, distorted))
    views = {"teacher_clean": view, "teacher_distorted": other}
    result, _ = _timed(clock, "agreement", lambda: assemble(clean, distorted, views, damage, seed))
    _timed(clock, "maps", lambda: (result.maps(), result.heads(), result.colours(), result.similarity(0, 0)))
    return {**clock, "total": sum(clock.values())}


def _timed(clock: Clock, phase: str, function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    value = function()
    clock[phase] = time.perf_counter() - start
    return value, clock[phase]


def _medians(clocks: list[Clock]) -> list[float | None]:
    return [1000 * median(clock[phase] for clock in clocks) if phase in clocks[0] else None for phase in PHASES]


def _photo() -> str:
    return str(asset_path("photos") / "farm_animal" / "cat.webp")


def _source() -> str:
    """The real weights if they are in the cache; a benchmark fetches nothing."""
    return "auto" if ALIASES["s14"].cached_file.is_file() else "random"
