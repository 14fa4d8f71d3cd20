"""How long a map of many pictures takes: PCA and UMAP by `ex.project`, beside scikit-learn and umap-learn alone."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from report import Section, Table, exponent
from timing import in_fresh_process, paired, stopwatch

DIM, CLASSES = 384, 20
SIZES = (300, 1_000, 3_000)
MANY, NEAR = 10_000, 15
OURS, BARE = "ex.project", "bare"


def run(quick: bool) -> Section:
    """First maps in new processes, then later ones."""
    sizes = (60, 90) if quick else SIZES
    first = [(way, *in_fresh_process(_first, way, sizes[0])) for way in FIRST]
    tables = [
        Table(
            title=f"The first map in a new process, two views of {sizes[0]} pictures, once each, in seconds",
            columns=("way", "import and warm up", "first map", "second map"),
            rows=tuple(first),
        ),
        *(in_fresh_process(_later, method, sizes, 1 if quick else 3) for method in ("pca", "umap")),
        in_fresh_process(_sampled, 200 if quick else MANY, 80 if quick else None),
    ]
    return Section(
        title="Projection: features to a map",
        intro=(
            f"Seeded features of {DIM} numbers around {CLASSES} centres; a second view is the first with noise on top, "
            "laid onto the map of the first. *bare*: `fit` and `transform` of scikit-learn's PCA, or of umap-learn "
            "with the settings that `ex.project` takes (one job, a seed, `init='pca'`; of more than 2,000 "
            "pictures it also takes umap's approximate search); `ex.project` also checks the "
            "features and measures each picture's displacement. `ex.projection.warm_up` is what the app does in the "
            "background while PCA is shown. What numba compiles for it is kept on the disk, so that a machine's first "
            "UMAP by `ex.project` takes as long as the bare way does each time."
        ),
        tables=tuple(tables),
    )


def _views(pictures: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(CLASSES, DIM))
    clean = centres[np.arange(pictures) % CLASSES] + 0.5 * generator.normal(size=(pictures, DIM))
    return {"clean": clean, "distorted": clean + 0.3 * generator.normal(size=clean.shape)}


def _sampled(pictures: int, fitted: int | None) -> Table:
    """How many neighbours a UMAP of all keeps, and one of some with the others laid on."""
    from explorer.evaluation import projection

    features, fitted = _curved(pictures), fitted or projection.UMAP_FITTED
    rows = []
    for most in (pictures, fitted):
        projection.UMAP_FITTED = most
        projection.project({"clean": features}, "umap")  # compiles
        began = time.perf_counter()
        place = projection.project({"clean": features}, "umap").coordinates["clean"]
        rows.append((f"{most:,}", time.perf_counter() - began, _kept(features, place)))
    return Table(
        title=f"UMAP of {pictures:,} pictures, fitted on all and, as `ex.project` does it, on {fitted:,}",
        columns=("fitted on", "seconds", f"of {NEAR} neighbours kept"),
        rows=tuple(rows),
        notes=(
            "Features on a curved surface of 8 dimensions around 40 centres; neighbours of 500 pictures by cosine from "
            "the mean, and those on the map: the share of the former among the latter.",
        ),
    )


def _curved(pictures: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    centres = 2 * generator.normal(size=(40, 8))
    places = centres[np.arange(pictures) % 40] + generator.normal(size=(pictures, 8))
    bent = np.tanh(places @ generator.normal(size=(8, 64)) / 3) @ generator.normal(size=(64, DIM)) / 8
    return (bent + 0.3 * generator.normal(size=bent.shape)).astype(np.float32)


def _kept(features: np.ndarray, place: np.ndarray) -> float:
    from sklearn.neighbors import NearestNeighbors

    from explorer.evaluation.probes import nearest

    asked = np.random.default_rng(1).choice(len(features), min(500, len(features)), replace=False)
    near = nearest(features, features[asked], k=NEAR + 1)[0][:, 1:]  # the first one is the picture itself
    drawn = NearestNeighbors(n_neighbors=NEAR + 1).fit(place).kneighbors(place[asked], return_distance=False)[:, 1:]
    return float(np.mean([len({*a} & {*b}) / NEAR for a, b in zip(near.tolist(), drawn.tolist(), strict=True)]))


def _ours(method: str, views: Mapping[str, np.ndarray]) -> object:
    import explorer as ex

    return ex.project(views, method=method)


def _bare(method: str, views: Mapping[str, np.ndarray]) -> object:
    if method == "pca":
        from sklearn.decomposition import PCA

        ruler: Any = PCA(2, svd_solver="full")
    else:
        from umap import UMAP

        seeds = {"random_state": 0, "transform_seed": 0, "n_jobs": 1}
        ruler = UMAP(n_neighbors=15, min_dist=0.1, spread=1.0, metric="cosine", init="pca", **seeds)
    single = [view.astype(np.float32 if method == "umap" else np.float64) for view in views.values()]
    ruler.fit(single[0])
    return ruler.transform(single[1])


def _warm() -> None:
    from explorer.evaluation.projection import warm_up

    warm_up()


def _nothing() -> None:
    """No preparation."""


FIRST: dict[str, tuple[Callable[[], None], Callable[[str, Any], object], str]] = {
    "PCA, `ex.project`": (_nothing, _ours, "pca"),
    "UMAP, `ex.project`": (_nothing, _ours, "umap"),
    "UMAP, `ex.project` after `warm_up`": (_warm, _ours, "umap"),
    "UMAP, bare": (_nothing, _bare, "umap"),
}


def _first(way: str, pictures: int) -> tuple[float | None, float, float]:
    """Seconds of the preparation, of the first map and of the second one; imports belong to where they happen."""
    prepare, draw, method = FIRST[way]
    views = _views(pictures)
    moments = [time.perf_counter()]
    for step in (prepare, partial(draw, method, views), partial(draw, method, views)):
        step()
        moments.append(time.perf_counter())
    prepared, first, second = np.diff(moments)
    return None if prepare is _nothing else float(prepared), float(first), float(second)


def _later(method: str, sizes: tuple[int, ...], rounds: int) -> Table:
    """Everything is compiled by the round that warms up."""
    rows, seconds = [], []
    for pictures in sizes:
        views = _views(pictures)
        ways = {OURS: stopwatch(partial(_ours, method, views)), BARE: stopwatch(partial(_bare, method, views))}
        own = rounds if pictures < 3_000 or method == "pca" else 1
        found = paired(ways, baseline=BARE, rounds=own, warmup=int(pictures < 3_000))
        ours, bare = found[OURS], found[BARE]
        rows.append((pictures, own, bare.median_ms, ours.median_ms, ours.best_ratio, ours.median_ratio))
        seconds.append(ours.median_ms)
    return Table(
        title=f"Later maps by {method.upper()}, two views",
        columns=("pictures", "rounds", "bare ms", "`ex.project` ms", "least ratio", "median ratio"),
        rows=tuple(rows),
        notes=(f"`ex.project` grows with the number of pictures to the power of {exponent(sizes, seconds):.2f}.",),
    )
