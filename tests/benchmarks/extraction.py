"""What it costs to embed a set of pictures, beside the bare forward passes, and how long the app's tabs take.

The bare passes get pictures that are decoded, distorted and normalised already, in the same batches.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import torch
from report import Section, Table, aim
from timing import paired, stopwatch

import explorer as ex
from explorer.evaluation.embedding import embed_pair
from explorer.evaluation.sweeping import strengths_of
from explorer.models.weights import ALIASES
from explorer.system.memory import pictures_at_once

BATCH = pictures_at_once(None, torch.device("cpu"))
AIM = 1.1
NOISE = "gaussian_noise(sigma=0.3)"
BARE = "bare forward passes"
LARGER = f"bare forward passes, {4 * BATCH} at a time"


def run(quick: bool) -> Section:
    """Both tables."""
    name, size = ("test_vit", 160) if quick else ("s14", 224)
    source = "auto" if not quick and ALIASES["s14"].cached_file.is_file() else "random"
    backbone = ex.load_backbone(name, image_size=size, source=source, device="cpu")
    images = ex.load_images("photos", size=size, limit=32 if quick else 64)
    with tempfile.TemporaryDirectory() as folder:
        extraction = _extraction(backbone, images, Path(folder), 2 if quick else 5)
        waiting = _waiting(backbone, images if quick else ex.load_images("photos", size=size), Path(folder))
    return Section(
        title="Many pictures: embedding them, and what the app waits for",
        intro=f"Backbone '{name}' at {size} px, float32, batches of {BATCH}. Weights: {backbone.source}.",
        tables=(extraction, waiting),
    )


def _extraction(backbone: ex.Backbone, images: ex.ImageSet, folder: Path, rounds: int) -> Table:
    seeds = count()
    ways: dict[str, Callable[[], object]] = {
        BARE: partial(_bare, backbone, _batches(backbone, images, BATCH)),
        LARGER: partial(_bare, backbone, _batches(backbone, images, 4 * BATCH)),
        "`embed`, no cache": lambda: ex.embed(backbone, images, cache=False),
        "`embed`, to the disk": lambda: ex.embed(backbone, images, NOISE, next(seeds), cache=folder),
        "`embed`, all blocks": lambda: ex.embed(backbone, images, layers="all", cache=False),
    }
    timings = paired({name: stopwatch(way) for name, way in ways.items()}, baseline=BARE, rounds=rounds)
    rows = [
        (name, timing.median_ms / len(images), timing.best_ratio, timing.median_ratio)
        for name, timing in timings.items()
    ]
    return Table(
        title=f"Embedding {len(images)} photos: decoded, resized, distorted with noise where they go to the disk",
        columns=("way", "median ms a picture", "best ratio", "median ratio"),
        rows=tuple(rows),
        notes=(aim("`embed`, to the disk", timings["`embed`, to the disk"].median_ratio, AIM),),
    )


def _bare(backbone: ex.Backbone, batches: list[torch.Tensor]) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [
            backbone.module.forward_head(backbone.module.forward_features(batch), pre_logits=True)  # type: ignore[operator]
            for batch in batches
        ]


def _batches(backbone: ex.Backbone, images: ex.ImageSet, size: int) -> list[torch.Tensor]:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    damage = ex.distortion(NOISE)
    starts = range(0, len(images), size)
    parts = [range(start, min(start + size, len(images))) for start in starts]
    return [(damage(images.stack(part), indices=part) - mean) / std for part in parts]


def _waiting(backbone: ex.Backbone, photos: ex.ImageSet, folder: Path) -> Table:
    """Once each: what a person waits for who does it for the first time."""
    pair = ex.Pair(teacher=backbone, student=_other(backbone), distortion=ex.distortion(NOISE), card={})
    limit = min(64, len(photos))
    steps: dict[str, Callable[[], object]] = {
        f"four views of {len(photos)} photos and PCA, nothing cached": lambda: _embedded(pair, photos, folder / "app"),
        "the same again": lambda: _embedded(pair, photos, folder / "app"),
        f"sweep of 7 strengths, {limit} photos": lambda: ex.sweep(pair, photos[:limit]),
    }
    assert len(strengths_of("gaussian_noise").values) == 7
    rows = []
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        rows.append((name, time.perf_counter() - start))
    return Table(title="Waiting, in seconds, once each", columns=("what", "seconds"), rows=tuple(rows))


def _embedded(pair: ex.Pair, photos: ex.ImageSet, folder: Path) -> object:
    embedding = embed_pair(pair, photos, cache=folder)
    return embedding.measures, embedding.project()


def _other(backbone: ex.Backbone) -> ex.Backbone:
    """The same architecture with other weights, so that nothing is found in the cache."""
    return ex.load_backbone(backbone.name, image_size=backbone.image_size, source="random", device="cpu", seed=1)
