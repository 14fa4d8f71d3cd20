"""Distillation beside `lightly-train`, which a user might pick instead: the same pictures, model, batch and precision.

It needs much that is not here, so it lives in an environment of its own, whose python the variable LIGHTLY names:

    python3.11 -m venv FOLDER
    FOLDER/bin/python -m pip install torch torchvision lightly-train==0.18.0
    LIGHTLY=FOLDER/bin/python python tests/benchmarks/run.py --only lightly --out docs/benchmarks.md --update

Each run is a fresh process (see `lightly_run` for theirs), ours and theirs in turn. Without LIGHTLY nothing is run.
This module imports no torch, so that the processes that it starts to measure memory start small, see `memory`.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from memory import high_water, settled
from report import Section, Table
from timing import Case, Timing, in_fresh_process, paired

if TYPE_CHECKING:
    import explorer as ex

SIGMA = 0.3
DISTORTION = f"gaussian_noise(sigma={SIGMA})"
VIEWS = 2  # their targets are all kept before the half of the steps that is timed
EVERY = 7  # so that 30 of the photos are held out
PHOTOS, HELD_OUT = "photos", "held_out"
AIM = 1.0


@dataclass(frozen=True, kw_only=True)
class Task(Case):
    """A case, how many steps a run has, and where the weights come from."""

    steps: int
    source: str


TASK = Task(label="ViT-S/14 at 112 px", name="s14", image_size=112, batch=16, rounds=2, steps=48, source="auto")
QUICK = Task(label="ViT-S/14 at 56 px", name="s14", image_size=56, batch=2, rounds=1, steps=6, source="random")

LEVELS, THEIRS = "three levels", "lightly-train"
OURS: Mapping[str, dict[str, Any]] = {
    LEVELS: {"views": VIEWS},
    f"{LEVELS}, new crops at each visit": {},
    "global level alone": {"views": VIEWS, "patch": 0.0, "attention": 0.0},
}
OTHERS: Mapping[str, dict[str, Any]] = {
    THEIRS: {"drop_path": 0.0, "noise": 0.0},
    f"{THEIRS}, noise for its student": {"drop_path": 0.0, "noise": SIGMA},
    f"{THEIRS}, its own drop path": {"drop_path": None, "noise": 0.0},
}


def run(quick: bool) -> Section:
    """Measure all ways, or say that there is nothing to measure them beside."""
    task = QUICK if quick else TASK
    python = os.environ.get("LIGHTLY")
    return Section(
        title="lightly-train: distillation by what a user might pick instead",
        intro=(
            f"{task.steps} steps of batch {task.batch} in float32 on the CPU without workers, of the shipped photos "
            f"but every {EVERY}th. Teacher and student begin as the same ViT-S/14 (both programs are checked to embed "
            "a picture alike); all weights are trained, each at its own program's learning rate.\n\n"
            f"**What they learn differs.** Ours ({LEVELS}: class token, patches, attention of four blocks) shows the "
            f"student a picture with `{DISTORTION}` and the teacher the clean one. {VIEWS} crops of each picture come "
            "again and again, so that the teacher's targets are computed once and kept, unless *new crops* is said. "
            '`lightly_train.pretrain(method="distillation")` has one view, augmented (crop, flip, colour, blur) and '
            "mixed up with another picture's, which both see, anew at each visit. Its loss is the KL divergence "
            "between teacher and student of the class token's similarities to a queue of teacher embeddings, plus that "
            "of the similarities of patches within a picture, after linear heads. Nothing in it distorts the student's "
            "picture alone: *noise for its student* adds the same noise by a hook of ours on its patch embedding. "
            "*its own drop path*: its student leaves 5 of 16 pictures out of each block unless told otherwise; "
            "elsewhere that is off, as in ours. Ours keeps decoded pictures, theirs decodes them at each visit.\n\n"
            "*ms a step*: median of the second half of a run's steps, without its last, so that neither start nor "
            f"checkpoints count; median of all rounds. *speed*: pictures a second over those of *{THEIRS}* in the same "
            "round. *start* and *peak MiB*: resident memory of the whole process, imports included, before the run "
            "begins and at its highest. *CLS cosine*: of the student on the held-out photos with that distortion to "
            "the teacher on the clean ones, mean; *with head*: after the head that the package trains along, begins at "
            "random and does not export. Weights are the pinned pretrained ones: with random ones it is "
            "1.000 before any step. The environment is named by the variable LIGHTLY "
            "(`tests/benchmarks/lightly.py` says how to make it)."
        ),
        tables=(_table(task, python, quick),),
    )


def _table(task: Task, python: str | None, quick: bool) -> Table:
    rows: list[tuple[str | float | None, ...]] = []
    note = "Not measured: the variable LIGHTLY names no python that has lightly-train."
    if python:
        rows, note = _measured(task, python, (LEVELS, THEIRS) if quick else (*OURS, *OTHERS))
    return Table(
        title=f"{task.label}, batch {task.batch}, all weights, {task.steps} steps",
        columns=("run", "ms a step", "images/s", "speed", "start MiB", "peak MiB", "CLS cosine", "with head"),
        rows=tuple(rows),
        notes=(note,),
    )


def _measured(task: Task, python: str, ways: tuple[str, ...]) -> tuple[list[tuple[str | float | None, ...]], str]:
    """All rows, and what is to be said below them."""
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        before = in_fresh_process(_begin, task, Path(folder))
        works = {way: partial(_one, task, python, way, Path(folder), found[way]) for way in ways}
        timings = paired(works, baseline=THEIRS, rounds=task.rounds, warmup=0)
    theirs = found[THEIRS][0]
    rows = [(way, *_numbers(task, timings[way], found[way])) for way in ways]
    versions = ", ".join(f"{name} {number}" for name, number in theirs["versions"].items())
    ratio = _speed(timings[LEVELS])
    return rows, (
        f"{task.rounds} rounds. CLS cosine before training: {before:.3f}. Theirs: {versions}, {theirs['threads']} "
        f"threads. Aim: ours, {LEVELS}, pictures a second against {THEIRS} >= {AIM:.2f}x, median of the paired ratio. "
        f"Measured {ratio:.3f}x: {'reached' if ratio >= AIM else 'MISSED'}."
    )


def _numbers(task: Task, timing: Timing, found: list[dict[str, Any]]) -> tuple[float | None, ...]:
    memory = (median(one[key] for one in found) for key in ("start_mib", "peak_mib"))
    rate = 1000 * task.batch / timing.median_ms
    plain, headed = zip(*(one["cosines"] for one in found), strict=True)
    return timing.median_ms, rate, _speed(timing), *memory, mean(plain), None if None in headed else mean(headed)


def _speed(timing: Timing) -> float:
    return median(1 / ratio for ratio in timing.ratios)


def _one(task: Task, python: str, way: str, folder: Path, found: list[dict[str, Any]]) -> float:
    """One run in a process of its own; the seconds that a step takes."""
    out = Path(tempfile.mkdtemp(dir=folder))
    told = in_fresh_process(_ours, task, OURS[way], out) if way in OURS else _theirs(task, python, OTHERS[way], out)
    told["cosines"] = in_fresh_process(_cosines, task, out / "student.safetensors", folder / HELD_OUT)
    found.append(told)
    seconds = [after - before for before, after in pairwise(told["ticks"])]
    return median(seconds[task.steps // 2 : -1])


def _ours(task: Task, options: dict[str, Any], out: Path) -> dict[str, Any]:
    import explorer as ex

    teacher = _teacher(task)
    config = ex.DistillConfig(
        **options,
        distortion=DISTORTION,
        trainable="all",
        steps=task.steps,
        batch_size=task.batch,
        image_size=task.image_size,
        precision="float32",
        probe=1,
        eval_every=task.steps,
        checkpoint_every=task.steps,
    )
    images = ex.load_images(out.parent / PHOTOS, size=round(task.image_size * 4 / 3))
    start, ticks = settled(), [time.perf_counter()]
    for record in ex.distill(teacher, images, config, out / "run"):
        ticks.append(time.perf_counter())
        student = record.student
    peak = high_water()
    _save(student, out / "student.safetensors")
    return {"ticks": ticks, "start_mib": start, "peak_mib": peak}


def _theirs(task: Task, python: str, options: dict[str, Any], out: Path) -> dict[str, Any]:
    about = json.loads((out.parent / "about.json").read_text(encoding="utf-8"))
    settings = {"image_size": task.image_size, "batch": task.batch, "steps": task.steps}
    (out / "task.json").write_text(json.dumps({**about, **settings, **options}), encoding="utf-8")
    # no word of this run to anybody, and nothing left in the home folder
    quiet = {"LIGHTLY_TRAIN_EVENTS_DISABLED": "1", "LIGHTLY_TRAIN_CACHE_DIR": str(out / "cache")}
    command = [python, "-I", str(Path(__file__).with_name("lightly_run.py")), str(out / "task.json")]
    done = subprocess.run(command, env={**os.environ, **quiet}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"lightly-train ended with an error:\n{done.stderr[-4000:]}")
    told: dict[str, Any] = json.loads((out / "told.json").read_text(encoding="utf-8"))
    return told


def _begin(task: Task, folder: Path) -> float:
    """Write what theirs needs; the cosine before training."""
    import torch

    _share_out(folder)
    teacher, weights = _teacher(task), folder / "teacher.safetensors"
    _save(teacher, weights)
    module: Any = teacher.module
    picture = torch.linspace(-1, 1, 3 * task.image_size**2).view(1, 3, task.image_size, task.image_size)
    with torch.no_grad():
        embedding = module.forward_head(module.forward_features(picture), pre_logits=True)[0].tolist()
    about = {"weights": str(weights), "embedding": embedding, "mean": teacher.mean, "std": teacher.std}
    (folder / "about.json").write_text(json.dumps({**about, "photos": str(folder / PHOTOS)}), encoding="utf-8")
    return _cosines(task, weights, folder / HELD_OUT)[0]


def _cosines(task: Task, file: Path, held_out: Path) -> tuple[float, float | None]:
    """Of the class token's embeddings: the student's of distorted photos, the teacher's of clean ones; their mean. And
    the same through the head that lies beside the student, if one does."""
    import torch
    from safetensors.torch import load_file

    import explorer as ex
    from explorer.analysis import metrics

    teacher, student = _teacher(task), _teacher(task)
    student.module.load_state_dict(load_file(file))
    photos = ex.load_images(held_out, size=task.image_size)
    clean = torch.stack([photos[place][0] for place in range(len(photos))])
    target = teacher.trace(clean).embedding
    embedding = student.trace(ex.distortion(DISTORTION)(clean, seed=0)).embedding
    plain = float(metrics.cosine(target, embedding).mean())
    head = file.with_name("head.safetensors")
    if not head.exists():
        return plain, None
    headed = torch.nn.functional.linear(embedding, **load_file(head))
    return plain, float(metrics.cosine(target, headed).mean())


def _teacher(task: Task) -> "ex.Backbone":
    import explorer as ex

    return ex.load_backbone(task.name, image_size=task.image_size, source=task.source, device="cpu")


def _save(backbone: "ex.Backbone", file: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in backbone.module.state_dict().items()}, file)


def _share_out(folder: Path) -> None:
    """The photos in two folders: those to learn from, and those that are held out."""
    from explorer.system.files import asset_path

    for name in (PHOTOS, HELD_OUT):
        (folder / name).mkdir()
    for place, file in enumerate(sorted(Path(asset_path("photos")).glob("*/*.webp"))):
        name = PHOTOS if place % EVERY else HELD_OUT
        shutil.copy(file, folder / name / f"{file.parent.name}_{file.name}")
