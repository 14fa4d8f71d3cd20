"""Records what the app's tabs show before a visitor has made anything:

    python docs/make_first_look.py                    # the run, and a sweep and a map of each shipped student
    python docs/make_first_look.py s14-noise          # one student's, after it was exchanged
    python docs/make_first_look.py run                # the run

Writes assets/first_look: `run.json.gz`, a run of the app's own with its form as it comes; `STUDENT.json.gz`, a sweep
and a map, bound to the student by its digest; and `photos.webp`, the thumbnails of all maps. On two cores the run takes
about six minutes, a student one, or three if it is CLIP's, and as much again where `docs/embed_photos.py` was not run.
"""

import argparse
import base64
import gzip
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

import explorer as ex
from explorer.evaluation.embedding import embed_pair
from explorer.evaluation.sweeping import strengths_of
from explorer.models.pairs import read_card
from explorer.scenes.common import Payload, features_of
from explorer.scenes.evaluation import embedding_scene, sprite

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "apps"))
from explorer_app.service.question import Question  # noqa: E402
from explorer_app.service.runs import BATCH, STEPS, Runs, Watched, configuration  # noqa: E402
from explorer_app.service.students import RUNS_VARIABLE  # noqa: E402
from explorer_app.tabs import robustness  # noqa: E402

OUT = ROOT / "assets" / "first_look"
FIRST = Question.of_link({})  # with which the app begins
DAMAGE, SEED, SIZE = FIRST.damage.spec, FIRST.seed, FIRST.size
PICTURES = 32
MOMENTS, DIRECTIONS = 21, 64
CORES = 2


def main() -> None:
    """Make what was asked for; files of students that are not shipped any more go."""
    students = ex.list_pairs()
    parser = argparse.ArgumentParser(description="Records what the app's tabs show at first.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"run, {', '.join(students)} (default: all)")
    names = parser.parse_args().names or ["run", *students]
    unknown = set(names) - {"run", *students}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are run, {', '.join(students)}")
    OUT.mkdir(exist_ok=True)
    for name in tqdm(names):
        if name == "run":
            _write("run", recorded())
        else:
            _write(name, looked_at(name))
    for file in OUT.glob("*.json.gz"):
        if file.name.split(".")[0] not in ("run", *students):
            file.unlink()


def looked_at(student: str) -> Payload:
    """A sweep and a map of a student."""
    pair, photos = ex.load_pair(student, image_size=SIZE), ex.load_images("photos", size=SIZE)
    scene, picture = mapped(pair, photos, student)
    (OUT / "photos.webp").write_bytes(picture)
    asked = [DAMAGE, SIZE, SEED]
    digest = read_card(student)["student_sha256"]
    return {"student_sha256": digest, "sweep": swept(pair, photos, student), "map": scene, "asked": asked}


def mapped(pair: ex.Pair, photos: ex.ImageSet, student: str) -> tuple[Payload, bytes]:
    """The map that the Embeddings tab begins with, and its thumbnails, which are the same for all students."""
    embedding = embed_pair(pair, photos, DAMAGE, SEED)
    caption = f"{len(photos)} embedded photos · {DAMAGE}, seed {SEED} · {pair.teacher.name} at {SIZE} px, {student}"
    thumbnails = sprite(photos) or {}
    picture = base64.b64decode(str(thumbnails.pop("image")).partition(",")[2])
    return embedding_scene(embedding, embedding.project(seed=SEED), thumbnails, caption=caption), picture


def swept(pair: ex.Pair, photos: ex.ImageSet, student: str) -> Payload:
    """The sweep that Measure makes of a student: the first damage that it was trained on, in seven strengths."""
    operator = pair.distortion.branches[0][0].name
    asked = Question.of_link({"backbone": pair.teacher.name, "pair": student})
    steps = robustness.sweep(asked, photos, PICTURES, strengths_of(operator))
    *_, last = tqdm(steps, leave=False, desc=student)
    low, high = last.trained_range or (0, 0)
    trained = [place for place, value in enumerate(last.values) if low <= value <= high]
    return {**robustness.scene(last, asked, ""), "chosen": trained[0] if trained else None}


def recorded() -> Payload:
    """A run of the app's own: its form as it comes, the picture and the damage with which it opens."""
    watched = Watched(path=str(FIRST.picture), distortion=DAMAGE, seed=SEED, photo=FIRST.photo)
    config = configuration(DAMAGE, STEPS, SIZE, seed=SEED)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[RUNS_VARIABLE] = folder
        runs, began = Runs(), time.process_time()
        run = runs.start(FIRST.backbone, config, watched=watched)
        with tqdm(total=STEPS, leave=False, desc="run") as bar:
            while not run.ended:
                run.wait(run.version, 1.0)
                bar.update(run.step - bar.n)
        seconds = (time.process_time() - began) / CORES  # of both, whoever else worked meanwhile
        runs.close()
        payload = run.payload()
    if run.state != "finished":
        raise RuntimeError(f"the run {run.state}: {run.message}")
    forward = _forward_seconds(SIZE)
    made = {"steps": STEPS, "batch": BATCH, "size": SIZE, "seconds": round(seconds)}
    made["forwards"] = round(seconds * CORES / (STEPS * BATCH) / forward, 2)
    return {"made": made, "scene": _smaller({**payload, "run": None, "key": "recorded"})}


def _forward_seconds(size: int) -> float:
    """Of one core for a forward pass of one picture, with which the app times other machines."""
    teacher, picture = ex.load_backbone("s14", image_size=size), torch.rand(1, 3, size, size)
    times = []
    for _ in range(5):
        began = time.process_time()
        teacher.trace(picture, layers=-1, attention=None)
        times.append(time.process_time() - began)
    return min(times)


def _smaller(payload: Payload) -> Payload:
    """The same run with fewer moments, and with patch features in their main directions alone, which keep the cosines
    that the view draws: a megabyte instead of eight."""
    recorded = payload["moments"]
    kept = [recorded[round(place)] for place in np.linspace(0, len(recorded) - 1, min(MOMENTS, len(recorded)))]
    seen = [payload["reference"], *kept]
    whole = [torch.nn.functional.normalize(_decoded(moment["patches"]), dim=1) for moment in seen]
    basis = torch.linalg.svd(torch.cat(whole), full_matrices=False).Vh[:DIRECTIONS].T
    reduced = [features @ basis for features in whole]
    wrong = max(_furthest(whole[0], one, reduced[0], less) for one, less in zip(whole, reduced, strict=True))
    tqdm.write(f"{len(kept)} moments in {DIRECTIONS} directions: cosines are wrong by {wrong:.3f} at most")
    first, *moments = ({**moment, "patches": features_of(less)} for moment, less in zip(seen, reduced, strict=True))
    return {**payload, "reference": first, "moments": moments}


def _furthest(
    query: Float[Tensor, "patch dim"],
    seen: Float[Tensor, "patch dim"],
    less_query: Float[Tensor, "patch direction"],
    less_seen: Float[Tensor, "patch direction"],
) -> float:
    """By how much a cosine is wrong in the reduced features, 99 of 100 less."""
    unit = torch.nn.functional.normalize
    error = (query @ seen.T - unit(less_query, dim=1) @ unit(less_seen, dim=1).T).abs()
    return float(error.flatten().quantile(0.99))


def _decoded(array: dict[str, Any]) -> Tensor:
    raw = np.frombuffer(base64.b64decode(array["data"]), dtype=array["dtype"]).reshape(array["shape"])
    return torch.from_numpy(raw.astype(np.float32))


def _write(name: str, content: Payload) -> None:
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    (OUT / f"{name}.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
