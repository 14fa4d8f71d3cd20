"""How the time grows: with pixels, traced layers, the batch, and the number of pictures."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from report import Section, Table, exponent
from timing import paired, stopwatch
from variants import subject

import explorer as ex
from explorer.inspection.comparison import look

Ways = dict[str, Callable[[], Any]]
PLAIN, CLS, FULL, LOOK = "plain forward", 'trace("cls")', 'trace("full")', "`look`"


def run(quick: bool) -> Section:
    """All tables."""
    name, base = ("test_vit", 160) if quick else ("s14", 224)
    sizes = (160,) if quick else (112, 224, 336, 448)
    batches = (1, 2) if quick else (1, 2, 4, 8, 16)
    pictures = (2, 4) if quick else (16, 64, 207)
    rounds = 2 if quick else 7
    photos = ex.load_images("photos", size=base)
    backbone = ex.load_backbone(name, image_size=base, source="random", device="cpu")
    depths = (1, backbone.depth) if quick else (1, 3, 6, 12)
    return Section(
        title="Growth: with pixels, layers, batch and pictures",
        intro=(
            f"Backbone '{name}' with random weights, {base} px and a batch of one unless said otherwise; median "
            f"milliseconds of {rounds} rounds. {PLAIN}: timm's fused forward pass without maps; *trace* returns "
            f"tokens and attention of the traced layers; {LOOK} is what the app does with a picture: a trace with all "
            "matrices, rollout, and the rows that are kept. *power*: the exponent that fits the column best, 1 for "
            "twice the time at twice the size."
        ),
        tables=(
            _table("Pixels a side", sizes, lambda size: _passes(name, size, 1, LOOK), rounds),
            _table("Traced layers", depths, partial(_layers, backbone), rounds),
            _table("Pictures in a batch", batches, lambda batch: _passes(name, base, batch), rounds),
            _table("Pictures in a batch that is distorted", batches, _distortions, rounds),
            _table("Pictures that are embedded", pictures, partial(_embedding, backbone, photos), 1 if quick else 2),
        ),
    )


def _table(axis: str, values: Sequence[int], ways: Callable[[int], Ways], rounds: int) -> Table:
    columns: dict[str, list[float]] = {}
    for value in values:
        measures = {name: stopwatch(way) for name, way in ways(value).items()}
        for name, timing in paired(measures, baseline=next(iter(measures)), rounds=rounds).items():
            columns.setdefault(name, []).append(timing.median_ms)
    rows: list[tuple[str | int | float | None, ...]] = list(zip(map(str, values), *columns.values(), strict=True))
    if len(values) > 1:
        rows.append(("*power*", *(exponent(values, times) for times in columns.values())))
    return Table(title=axis, columns=(axis.lower(), *columns), rows=tuple(rows))


def _passes(name: str, size: int, batch: int, *more: str) -> Ways:
    seen = subject(name, size, batch)
    backbone, module = seen.backbone, seen.backbone.module

    @torch.no_grad()
    def plain() -> torch.Tensor:
        return module.forward_head(module.forward_features(seen.normalised))  # type: ignore[operator]

    ways: Ways = {
        PLAIN: plain,
        CLS: partial(backbone.trace, seen.images, attention="cls"),
        FULL: partial(backbone.trace, seen.images, attention="full"),
        LOOK: partial(look, backbone, seen.images[0]),
    }
    return {way: function for way, function in ways.items() if way != LOOK or LOOK in more}


def _layers(backbone: ex.Backbone, count: int) -> Ways:
    images = torch.rand(1, 3, *backbone.height_width, generator=torch.Generator().manual_seed(0))
    layers = range(backbone.depth - count, backbone.depth)
    return {
        CLS: partial(backbone.trace, images, layers=layers, attention="cls"),
        FULL: partial(backbone.trace, images, layers=layers, attention="full"),
    }


def _distortions(batch: int) -> Ways:
    images = torch.rand(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    specs = ("gaussian_noise(sigma=0.3)", "gaussian_blur(kernel=21, sigma=5)", "patch_mask(fraction=0.5)", "fog:3")
    return {f"`{spec}`": partial(ex.distortion(spec), images, seed=0) for spec in specs}


def _embedding(backbone: ex.Backbone, photos: ex.ImageSet, count: int) -> Ways:
    return {"`embed`, no cache": partial(ex.embed, backbone, photos[:count], cache=False)}
