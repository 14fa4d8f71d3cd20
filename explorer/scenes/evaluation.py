"""From a `PairEmbedding`, a `Sweep` or a `Benchmark` to what a browser draws: JSON, with arrays as in `scene`.

Deliberately ignored: what the pictures mean, and how a program reacts when one is clicked.
"""

import base64
import io
import math

import numpy as np
from PIL import Image

from explorer.analysis.measures import CURVES, MEASURES, Measure
from explorer.data.image import to_pil
from explorer.data.sets import ImageSet
from explorer.distortions import DISTORTIONS
from explorer.evaluation.benchmarking import MEASURED, Benchmark
from explorer.evaluation.embedding import OF_PICTURES, REFERENCE, PairEmbedding
from explorer.evaluation.probes import own_ranks
from explorer.evaluation.projection import Projection
from explorer.evaluation.slices import Slice, measures_of, slices_of
from explorer.evaluation.sweeping import SEVERITY, Sweep
from explorer.models.students import TEACHER, network_and_kind
from explorer.scenes.common import Payload, about, colormap_tables, measure_of, packed

MOST_DRAWN = 5000
"""More pictures than these are thinned for drawing; measures are always of all."""
MOST_THUMBNAILS = 1500
NEIGHBOURS = 6
_TITLES = {
    "teacher_clean": "Teacher · clean",
    "teacher_distorted": "Teacher · distorted",
    "student_distorted": "Student · distorted",
    "student_clean": "Student · clean",
}


def embedding_scene(
    embedding: PairEmbedding,
    projection: Projection,
    sprite: Payload | None = None,
    *,
    chosen: str | None = None,
    pending: str | None = None,
    caption: str = "",
    link: dict[str, str] | None = None,
) -> Payload:
    """What the embedding view shows.

    Args:
        embedding: what was measured.
        projection: of its views.
        sprite: thumbnails of all its pictures, see `sprite`.
        chosen: the name of the picture that is marked.
        pending: what is still being computed.
        caption: what this is, in one line.
        link: query parameters that reopen this view.
    """
    images, students = embedding.images, embedding.students if embedding.several else ()
    drawn = _drawn(len(images))
    names = [images.names[index] for index in drawn]
    sampled = (
        f"UMAP was fitted on {projection.fitted} of {len(images)} pictures, and the others were laid onto its map."
    )
    return {
        "version": 1,
        "method": projection.method,
        "components": projection.coordinates[REFERENCE].shape[1],
        "explained": projection.explained and list(projection.explained),
        "pending": pending,
        "measures": [measure_of(MEASURES[name]) for name in OF_PICTURES],
        "views": [_view(view, embedding, projection, drawn) for view in projection.coordinates],
        "pictures": {
            "names": names,
            "labels": images.labels and [images.labels[index] for index in drawn],
            "classes": list(images.classes),
        },
        "clusters": {"of": packed(embedding.clusters.of[drawn].astype(np.int32)), "names": [*embedding.clusters.names]},
        "slices": [_slice(cut, embedding, drawn) for cut in slices_of(embedding)],
        "sprite": sprite if len(drawn) == len(images) else None,
        "chosen": names.index(chosen) if chosen in names else None,
        "shown": len(drawn),
        "total": len(images),
        "untouched_student": embedding.untouched,
        "about": about(embedding.weights, embedding.distortion, embedding.seed, names=students),
        "caption": caption,
        "message": sampled if projection.fitted < len(images) else None,
        "link": link,
    }


def sprite(images: ImageSet, side: int = 64) -> Payload | None:
    """Thumbnails of all pictures in one picture, row by row; None for more than `MOST_THUMBNAILS`."""
    if len(images) > MOST_THUMBNAILS:
        return None
    columns = math.ceil(math.sqrt(len(images)))
    sheet = Image.new("RGB", (columns * side, math.ceil(len(images) / columns) * side))
    for place, (image, _) in enumerate(images.resized(side)):
        sheet.paste(to_pil(image), (place % columns * side, place // columns * side))
    stream = io.BytesIO()
    sheet.save(stream, "webp", quality=80)
    address = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
    return {"image": address, "side": side, "columns": columns}


def sweep_scene(
    sweep: Sweep,
    *,
    chosen: int | None = None,
    running: bool = False,
    untouched: bool = False,
    caption: str = "",
    link: dict[str, str] | None = None,
) -> Payload:
    """What the sweep view shows.

    Args:
        sweep: what was measured, perhaps of the first pictures only.
        chosen: the place of the strength whose maps are shown.
        running: whether more pictures follow.
        untouched: whether the student is the untouched copy of the teacher.
        caption: what this is, in one line.
        link: query parameters that reopen this view.
    """
    entry = DISTORTIONS.get(sweep.operator)  # None for pictures that came damaged
    unit = next((one.unit for one in entry.parameters if one.name == sweep.parameter), "") if entry else ""
    learned = [_learned(sweep, name) for name in sweep.learned]
    named = len(learned) > 1
    return {
        "version": 1,
        "operator": sweep.operator,
        "label": entry.label if entry else sweep.distortions[0].label,
        "parameter": {"name": sweep.parameter, "unit": "ImageNet-C" if sweep.parameter == SEVERITY else unit},
        "values": list(sweep.values),
        "specs": [damage.spec for damage in sweep.distortions],
        "series": [_curve(sweep, untouched, MEASURES[name]) for name in CURVES],
        "trained": None if named else learned[0],
        **({"learned": learned} if named else {}),
        "never_trained": sweep.never_trained and not untouched,
        "untouched_student": untouched,
        "pictures": sweep.pictures,
        "seed": sweep.seed,
        "chosen": chosen,
        "progress": {"done": sweep.pictures, "total": sweep.total} if running else None,
        "about": about(
            sweep.weights,
            f"{sweep.operator} by {sweep.parameter}",
            sweep.seed,
            names=tuple(sweep.learned) if named else (),
        ),
        "caption": caption,
        "message": None,
        "link": link,
    }


def benchmark_scene(
    benchmark: Benchmark,
    *,
    running: bool = False,
    untouched: bool = False,
    caption: str = "",
    link: dict[str, str] | None = None,
) -> Payload:
    """What the benchmark view shows.

    Args:
        benchmark: what was measured, perhaps of the first corruptions only.
        running: whether more cells follow.
        untouched: whether the student is the untouched copy of the teacher.
        caption: what this is, in one line.
        link: query parameters that reopen this view.
    """
    errors = {} if running else benchmark.mean_error
    shown = [measure for name, measure in MEASURED.items() if name != "accuracy" or benchmark.accuracy_by is not None]
    students, what = list(benchmark.learned), f"{len(benchmark.corruptions)} common corruptions"
    return {
        "version": 1,
        "corruptions": [{"name": name, "label": DISTORTIONS[name].label} for name in benchmark.corruptions],
        "severities": list(benchmark.severities),
        "measures": [{**measure_of(measure), "low": measure.low, "high": measure.high} for measure in shown],
        "networks": [
            {
                "name": view,
                "error": None if running else _number(errors[view]),
                "values": {measure.name: _sheet(benchmark, view, measure.name) for measure in shown},
                **({"spec": benchmark.learned[view].spec, "learned": _met(benchmark, view)} if view != TEACHER else {}),
            }
            for view in benchmark.cells
        ],
        "colormaps": {name: colormap_tables()[name] for name in ("viridis", "difference")},
        "untouched_student": untouched,
        "pictures": benchmark.pictures,
        "seed": benchmark.seed,
        "progress": {"done": benchmark.done, "total": len(benchmark.places)} if running else None,
        "about": about(benchmark.weights, what, benchmark.seed, names=students if len(students) > 1 else ()),
        "caption": caption,
        "message": None,
        "link": link,
    }


def _sheet(benchmark: Benchmark, view: str, measure: str) -> list[list[float | None]]:
    return [[_number(round(value, 4)) for value in row] for row in benchmark.sheet(view, measure).tolist()]


def _met(benchmark: Benchmark, student: str) -> list[list[bool]]:
    """Which cells a student was trained on."""
    levels = benchmark.severities
    return [[benchmark.trained_on(student, name, level) for level in levels] for name in benchmark.corruptions]


def _learned(sweep: Sweep, student: str) -> Payload:
    """What a student was trained on, and the weakest and strongest of these strengths in it."""
    low, high = sweep.range_of(student) or (None, None)
    return {"name": student, "spec": sweep.learned[student].spec, "low": low, "high": high}


def _drawn(count: int) -> list[int]:
    """All pictures, or a seeded choice of them."""
    if count <= MOST_DRAWN:
        return list(range(count))
    return sorted(np.random.default_rng(0).choice(count, MOST_DRAWN, replace=False).tolist())


def _view(view: str, embedding: PairEmbedding, projection: Projection, drawn: list[int]) -> Payload:
    who, state = network_and_kind(view)
    measures = embedding.measures.set_index("view").loc[view].to_dict()
    scene = {
        "id": view,
        "who": who,
        "view": state,
        "title": _TITLES.get(view) or f"{who} · {state}",
        "reference": view == REFERENCE,
        "points": packed(projection.coordinates[view][drawn].astype(np.float32)),
        "displacement": packed(projection.displacement[view][drawn].astype(np.float32)),
        "mean_displacement": float(measures["displacement"]),
        "nearest_label": _number(measures["nearest_label"]),
        "retrieval": _number(measures["retrieval"]),
        "neighbours": None,
        "cosines": None,
        "own_rank": None,
    }
    count = min(NEIGHBOURS, len(embedding.images) - 1)
    if len(drawn) == len(embedding.images):
        nearest, cosines = embedding.neighbours(view, count)
        scene |= {"neighbours": packed(nearest.astype(np.int32)), "cosines": packed(cosines.astype(np.float32))}
        if view != REFERENCE:
            scene["own_rank"] = packed(own_ranks(embedding.reference, embedding.features[view]).astype(np.int32))
    return scene


def _slice(cut: Slice, embedding: PairEmbedding, drawn: list[int]) -> Payload:
    """Its numbers are of all its pictures; `indices` are the places of those that are drawn."""
    told = {view: measures_of(embedding, cut, view) for view in embedding.features}
    return {
        "id": cut.key,
        "kind": cut.kind,
        "title": cut.name,
        "count": len(cut.pictures),
        "indices": packed(np.flatnonzero(np.isin(drawn, cut.pictures)).astype(np.int32)),
        "measures": {view: {name: _number(value) for name, value in each.items()} for view, each in told.items()},
    }


def _curve(sweep: Sweep, untouched: bool, measure: Measure) -> Payload:
    name = measure.name
    teacher, *students = (
        [_number(row[name]) for row in sweep.rows[who]] if sweep.rows else [None] * len(sweep.values)
        for who in ("teacher", *sweep.learned)
    )
    several = {"students": dict(zip(sweep.learned, students, strict=True))} if len(students) > 1 else {}
    return {
        **measure_of(measure),
        "low": measure.low,
        "high": measure.high,
        "reference": sweep.ceiling if name == "nearest_label" else measure.best,
        "teacher": teacher,
        "student": None if untouched or several else students[0],
        **several,
        "why": "these pictures have no labels" if name == "nearest_label" and sweep.ceiling is None else None,
    }


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
