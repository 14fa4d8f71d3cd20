"""What the tabs show before a visitor has made anything: real results that come with the project. No Gradio in here.

`docs/make_first_look.py` makes them, in `assets/first_look`: a recorded run, the picture with which the app begins, and
for each shipped student a sweep and a map of the photos; `docs/benchmark_students.py` makes the sheets of all common
corruptions, in `assets/benchmarks`. All but the run are bound to a student by its digest.
"""

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import explorer as ex
from explorer.models.students import STUDENT, TEACHER
from explorer.scenes.common import Payload
from explorer.system.files import asset_path
from explorer_app.service import models
from explorer_app.service.pace import in_words
from explorer_app.service.question import Question

FOLDER, SHEETS = "first_look", "benchmarks"
RUN, SCENE, PHOTOS = "run.json.gz", "scene.json.gz", "photos.webp"


@lru_cache(maxsize=1)
def recorded_run() -> Payload | None:
    """What the recovery view shows of a run that was recorded with the form as it comes; None where none is shipped."""
    found = _read(RUN)
    if found is None:
        return None
    made = found["made"]
    told = (
        f"Shipped example, a recorded run: {made['steps']} steps of {made['batch']} pictures at {made['size']} px, "
        f"{in_words(made['seconds'])} on two cores. Press Start for your own."
    )
    return {**found["scene"], "message": told, "plays": True}


def forwards_a_picture() -> float | None:
    """What a picture that is learned from cost in that run, in forward passes."""
    found = _read(RUN)
    return None if found is None else float(found["made"]["forwards"])


def scene_of(tab: str, question: Question) -> Payload | None:
    """What the attention or the patch view shows of the question with which the app begins; None of all others, and
    where none is shipped of the student as it is now."""
    found = _read(SCENE)
    if found is None or tab not in found["views"] or question.layer is not None or question.link() != found["asked"]:
        return None
    if found["student_sha256"] != question.version():
        return None
    scene = {**found["both"], **found["views"][tab], "link": question.link()}
    panes = [{**pane, "picture": found["pictures"][pane["view"]]} for pane in scene["panes"]]
    return {**scene, "panes": panes}


def sweep_of(student: str) -> Payload | None:
    """What the sweep view shows of a shipped student; None where there is no sweep of the student as it is now."""
    found = _of(student)
    return None if found is None else found["sweep"]


@dataclass(frozen=True)
class Map:
    """What the embedding view shows, and the spec, size and seed that it was made with."""

    scene: Payload
    asked: tuple[str, int, int]


def map_of(student: str) -> Map | None:
    """The photos as a shipped student sees them under the damage with which the app begins; None as above."""
    found = _of(student)
    if found is None:
        return None
    picture = base64.b64encode(asset_path(f"{FOLDER}/{PHOTOS}").read_bytes()).decode()
    sprite = {**found["map"]["sprite"], "image": f"data:image/webp;base64,{picture}"}
    spec, size, seed = found["asked"]
    return Map({**found["map"], "sprite": sprite}, (spec, size, seed))


def sheet_of(students: Sequence[str]) -> ex.Benchmark | None:
    """All common corruptions, of shipped students that were measured alike; None where there is no such sheet."""
    sheets = {name: sheet for name in students if (sheet := _sheet(name)) is not None}
    alike = {(sheet.pictures_sha256, sheet.seed, sheet.sha256[TEACHER]) for sheet in sheets.values()}
    if len(sheets) < len(students) or len(alike) != 1:
        return None
    return _beside(sheets) if len(sheets) > 1 else next(iter(sheets.values()))


def _beside(sheets: dict[str, ex.Benchmark]) -> ex.Benchmark:
    """Several students of one teacher on one sheet."""
    first = next(iter(sheets.values()))
    return replace(
        first,
        cells={TEACHER: first.cells[TEACHER], **{name: sheet.cells[STUDENT] for name, sheet in sheets.items()}},
        learned={name: sheet.learned[STUDENT] for name, sheet in sheets.items()},
        weights=(first.weights[0], *(sheet.weights[1] for sheet in sheets.values())),
        sha256={TEACHER: first.sha256[TEACHER], **{name: sheet.sha256[STUDENT] for name, sheet in sheets.items()}},
    )


@lru_cache(maxsize=8)
def _sheet(student: str) -> ex.Benchmark | None:
    if student not in ex.list_pairs():
        return None
    try:
        found = ex.load_benchmark(asset_path(f"{SHEETS}/{student}.json"))
    except FileNotFoundError:
        return None
    return found if found.sha256[STUDENT] == models.card_of(student)["student_sha256"] else None


def _of(student: str) -> dict[str, Any] | None:
    found = _read(f"{student}.json.gz") if student in ex.list_pairs() else None
    return found if found and found["student_sha256"] == models.card_of(student)["student_sha256"] else None


@lru_cache(maxsize=4)
def _read(name: str) -> dict[str, Any] | None:
    try:
        file = asset_path(f"{FOLDER}/{name}")
    except FileNotFoundError:
        return None
    return dict(json.loads(gzip.decompress(file.read_bytes())))
