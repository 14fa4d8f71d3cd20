"""Records what the app's tabs show before a visitor has made anything:

    python docs/make_first_look.py                    # all of it
    python docs/make_first_look.py s14-noise          # one student's, after it was exchanged
    python docs/make_first_look.py run                # the run
    python docs/make_first_look.py scene              # what a page is seen with first

Writes assets/first_look: `run.json.gz`, a run of the app's own with its form as it comes; `scene.json.gz`, the picture
with which the app begins, as its first two tabs show it; `STUDENT.json.gz`, a sweep and a map; and `photos.webp`, the
thumbnails of all maps. Scene, sweep and map are bound to their student by its digest: the scene is made anew with the
student that the app begins with. On two cores the run takes about six minutes, a student one, or three if it is
CLIP's, and as much again where `docs/embed_photos.py` was not run.
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
from explorer.evaluation.patch_probes import shipped_patch_probe
from explorer.evaluation.sweeping import strengths_of
from explorer.models.pairs import read_card
from explorer.scenes.common import Payload, features_of
from explorer.scenes.evaluation import embedding_scene, sprite
from explorer.scenes.inspection import attention_scene, patch_scene

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
    known = [*MAKES, *students]
    parser = argparse.ArgumentParser(description="Records what the app's tabs show at first.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(MAKES)}, {', '.join(students)} (default: all)"
    )
    names = parser.parse_args().names or known
    unknown = set(names) - set(known)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if FIRST.student in names and "scene" not in names:
        names.append("scene")
    OUT.mkdir(exist_ok=True)
    for name in tqdm(names):
        _write(name, MAKES[name]() if name in MAKES else looked_at(name))
    for file in OUT.glob("*.json.gz"):
        if file.name.split(".")[0] not in known:
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
    caption = f"{len(photos)} shipped photos · {DAMAGE}, seed {SEED} · {pair.teacher.name} at {SIZE} px, {student}"
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


def seen() -> Payload:
    """The first picture as the first two tabs show it, each once: pictures, and what both tell alike, stand apart."""
    comparison = FIRST.comparison()
    probe = shipped_patch_probe(FIRST.teacher().sha256)
    attention, patches = attention_scene(comparison), patch_scene(comparison, probe=probe)
    features = [torch.nn.functional.normalize(_decoded(pane["patches"]), dim=1) for pane in patches["panes"]]
    for pane, less in zip(patches["panes"], reduced(features), strict=True):
        pane["patches"] = features_of(less)
    pictures = {pane["view"]: pane.pop("picture") for pane in [*attention["panes"], *patches["panes"]]}
    both = {name: told for name, told in attention.items() if name != "panes" and patches.get(name) == told}
    views = {"attention": attention, "patches": patches}
    only = {tab: {name: told for name, told in view.items() if name not in both} for tab, view in views.items()}
    digest = read_card(FIRST.student)["student_sha256"]
    return {"student_sha256": digest, "asked": FIRST.link(), "pictures": pictures, "both": both, "views": only}


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
    views = [payload["reference"], *kept]
    whole = [torch.nn.functional.normalize(_decoded(moment["patches"]), dim=1) for moment in views]
    first, *moments = (
        {**moment, "patches": features_of(less)} for moment, less in zip(views, reduced(whole), strict=True)
    )
    return {**payload, "reference": first, "moments": moments}


def reduced(whole: list[Float[Tensor, "patch dim"]]) -> list[Float[Tensor, "patch direction"]]:
    """Patch features, each of length 1, in the main directions of all of them."""
    basis = torch.linalg.svd(torch.cat(whole), full_matrices=False).Vh[:DIRECTIONS].T
    less = [features @ basis for features in whole]
    wrong = max(_furthest(whole[0], one, less[0], other) for one, other in zip(whole, less, strict=True))
    tqdm.write(f"{len(whole)} views in {DIRECTIONS} directions: cosines are wrong by {wrong:.3f} at most")
    return less


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


MAKES = {"run": recorded, "scene": seen}


def _write(name: str, content: Payload) -> None:
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    (OUT / f"{name}.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
