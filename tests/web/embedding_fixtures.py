"""Payloads for the tests of the embedding view: shipped photos that noise scatters and a student gathers again."""

import base64
import io
import json
import math
from functools import cache
from pathlib import Path

import numpy as np
from fixtures import encode, measures
from PIL import Image

from explorer.data.sets import ImageSet
from explorer.distortions import distortion
from explorer.evaluation.embedding import PairEmbedding
from explorer.scenes.evaluation import embedding_scene
from explorer.system.files import asset_path

CLASSES = ("fish", "monument", "tool", "wild_animal", "windmill")
VIEWS = (
    ("teacher_clean", "teacher", "clean", "Teacher · clean", 0.0),
    ("teacher_distorted", "teacher", "distorted", "Teacher · distorted", 1.0),
    ("student_distorted", "student", "distorted", "Student · distorted", 0.3),
    ("student_clean", "student", "clean", "Student · clean", 0.06),
)
"""id, who, view, title, how much of the damage it suffers."""
SIDE, COLUMNS = 48, 8


def views_of(*students: str) -> tuple[tuple[str, str, str, str, float], ...]:
    """The same for students with names, each of whom copes a little better than the one before."""
    suffered = {"distorted": 0.4, "clean": 0.06}
    of_students = (
        (f"{who}_{kind}", who, kind, f"{who} · {kind}", amount * 0.8**place)
        for place, who in enumerate(students)
        for kind, amount in suffered.items()
    )
    return (*VIEWS[:2], *of_students)


@cache
def photos(each: int) -> tuple[Path, ...]:
    """Some shipped photos of every class."""
    return tuple(path for name in CLASSES for path in sorted((asset_path("photos") / name).glob("*.webp"))[:each])


@cache
def sprite(count: int, each: int) -> str:
    """Thumbnails row by row, as a data URI; with more pictures than photos they come round again."""
    paths = photos(each)
    sheet = Image.new("RGB", (COLUMNS * SIDE, math.ceil(count / COLUMNS) * SIDE))
    tiles = []
    for path in paths:
        with Image.open(path) as image:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            tiles.append(image.convert("RGB").crop((left, top, left + side, top + side)).resize((SIDE, SIDE)))
    for index in range(count):
        sheet.paste(tiles[index % len(tiles)], (index % COLUMNS * SIDE, index // COLUMNS * SIDE))
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def features(labels: np.ndarray, views: tuple = VIEWS, dim: int = 32, seed: int = 0) -> dict[str, np.ndarray]:
    """Unit features of every view, (n, dim): a cluster for each label, and noise that pulls toward one spot."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(len(CLASSES), dim))
    clean = centres[labels] + 0.55 * generator.normal(size=(len(labels), dim))
    damage = 1.4 * generator.normal(size=dim) - 0.55 * clean + 0.8 * generator.normal(size=clean.shape)
    return {name: unit(clean + amount * damage).astype(np.float32) for name, _, _, _, amount in views}


def view_of(
    name: str, of: dict[str, np.ndarray], places: np.ndarray, labels: np.ndarray, k: int
) -> dict[str, np.ndarray | float | None]:
    """What is measured of one view in feature space."""
    reference = of["teacher_clean"]
    cosines = of[name] @ reference.T
    own = cosines.diagonal().copy()
    rank = (cosines > own[:, None]).sum(1).astype(np.int32)
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.argsort(-cosines, axis=1)[:, :k].astype(np.int32)
    return {
        "points": places.astype(np.float32),
        "displacement": (1 - own).astype(np.float32),
        "neighbours": nearest,
        "cosines": np.take_along_axis(cosines, nearest, 1).astype(np.float32),
        "own_rank": None if name == "teacher_clean" else rank,
        "nearest_label": float((labels[nearest[:, 0]] == labels).mean()),
        "retrieval": None if name == "teacher_clean" else float((rank == 0).mean()),
    }


def embedding_payload(
    each: int = 8, count: int | None = None, components: int = 2, k: int = 5, students: tuple[str, ...] = ()
) -> dict:
    """PCA of seeded features under the shipped photos' thumbnails.

    Args:
        each: photos of each class.
        count: pictures in all; None for one each photo.
        components: 2 or 3.
        k: neighbours of each picture.
        students: names of several; none for a single one.
    """
    shown_views = views_of(*students) if students else VIEWS
    paths = photos(each)
    count = len(paths) if count is None else count
    shown = [paths[index % len(paths)] for index in range(count)]
    labels = np.array([CLASSES.index(path.parent.name) for path in shown])
    of = features(labels, shown_views)
    stacked = np.concatenate(list(of.values()))
    _, spread, axes = np.linalg.svd(stacked - stacked.mean(0), full_matrices=False)
    explained = spread**2 / (spread**2).sum()
    views = []
    for name, who, kind, title, _ in shown_views:
        places = (of[name] - stacked.mean(0)) @ axes[:components].T
        measured = {
            key: encode(value) if isinstance(value, np.ndarray) else value
            for key, value in view_of(name, of, places, labels, k).items()
        }
        views.append(
            {"id": name, "who": who, "view": kind, "title": title, "reference": name == "teacher_clean", **measured}
        )
    return {
        "version": 1,
        "method": "pca",
        "components": components,
        "explained": [float(value) for value in explained[:components]],
        "pending": None,
        "measures": measures("displacement", "nearest_label", "retrieval"),
        "views": views,
        "pictures": {
            "names": [
                f"{path.parent.name}/{path.stem}" + (f" #{i}" * (count > len(paths))) for i, path in enumerate(shown)
            ],
            "labels": labels.tolist(),
            "classes": list(CLASSES),
        },
        "sprite": {"image": sprite(count, each), "side": SIDE, "columns": COLUMNS},
        "chosen": 12,
        "shown": count,
        "total": count,
        "untouched_student": False,
        "caption": "gaussian_noise(sigma=0.3), seed 0 · ViT-S/14 · CLS token of the last layer",
        "message": None,
        "link": None,
    }


def synthetic(count: int, labelled: bool = True, dim: int = 32) -> PairEmbedding:
    """Seeded features of pictures that nobody looks at."""
    labels = np.random.default_rng(3).integers(0, len(CLASSES), count)
    names = tuple(f"folder/picture {index}.webp" for index in range(count))
    known, classes = (tuple(labels.tolist()), CLASSES) if labelled else (None, ())
    images = ImageSet(names=names, labels=known, classes=classes, size=SIDE, reader=None, keys=names)  # type: ignore[arg-type]
    return PairEmbedding(features(labels, dim=dim), images, distortion("fog:3"), 0, "embedding", -1, ("a", "b"))


def sliced_payload(count: int = 60, labelled: bool = True, components: int = 2) -> dict:
    """What the app would send of them: with clusters and slices."""
    embedding = synthetic(count, labelled)
    scene = embedding_scene(embedding, embedding.project(components=components), caption="synthetic")
    return json.loads(json.dumps(scene, allow_nan=False))
