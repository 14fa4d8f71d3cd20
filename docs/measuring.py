"""What `measure_students.py` and `ablate_levels.py` measure of a pair, on pictures that its student never saw; and how
long measurements are kept and shared (`sharing_options`, `make_missing`).

*retrieval@1*: the nearest clean reference embedding (centred cosine) of a picture is its own. *1-NN label*: the nearest
clean reference of another picture has the picture's label. Attention KL is over the last four blocks.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import explorer as ex
from explorer.evaluation.probes import nearest_label_accuracy, retrieval_at_1
from explorer.models.pairs import read_card
from explorer.system.files import atomic_path

NUMBERS = ("CLS cosine", "patch cosine", "attention KL", "retrieval@1", "1-NN label")
BATCH = 4


def measured(
    pair: ex.Pair, photos: ex.ImageSet, seeds: Sequence[int], damage: ex.Distortion
) -> dict[str, list[list[float]]]:
    """The numbers of each row for each draw of the damage; clean pictures have one."""
    gallery: list[Tensor] = []
    looks: dict[tuple[str, int], list[tuple[ex.Alignment, Tensor]]] = {}
    for indices, clean in batches(photos):
        reference = pair.teacher.trace(clean, layers=range(-4, 0), attention="full")
        gallery.append(reference.embedding)
        views = {("student, clean", seeds[0]): (pair.student, clean)}
        for seed in seeds:
            distorted = damage(clean, seed=seed, indices=indices)
            views["teacher, distorted", seed] = pair.teacher, distorted
            views["student, distorted", seed] = pair.student, distorted
        for view, (backbone, images) in views.items():
            seen = backbone.trace(images, layers=range(-4, 0), attention="full")
            looks.setdefault(view, []).append((ex.alignment(reference, seen), seen.embedding))
    labels = torch.tensor(photos.labels)
    rows: dict[str, list[list[float]]] = {"teacher, distorted": [], "student, distorted": [], "student, clean": []}
    for (row, _), parts in looks.items():
        agreed, embeddings = zip(*parts, strict=True)
        rows[row].append(averages(agreed) + found(torch.cat(gallery), torch.cat(embeddings), labels))
    return rows


def measured_reference(teacher: ex.Backbone, photos: ex.ImageSet) -> float:
    """1-NN label accuracy of the reference itself, each picture left out."""
    gallery = torch.cat([teacher.trace(clean, layers=-1, attention=None).embedding for _, clean in batches(photos)])
    return found(gallery, gallery, torch.tensor(photos.labels))[1]


def sharing_options(parser: argparse.ArgumentParser) -> None:
    """RUNS, --share and --report, as `make_missing` takes them."""
    parser.add_argument("runs", type=Path)
    parser.add_argument("--share", default="0/1", help="which of how many processes this is")
    parser.add_argument("--report", action="store_true", help="only write the page of what is there")


def make_missing(options: argparse.Namespace, work: Sequence[tuple[Path, Callable[[], Any]]]) -> None:
    """Of this process's share of the files in RUNS, write those that are not there yet: what a call gives, as JSON."""
    options.runs.mkdir(parents=True, exist_ok=True)
    part, count = map(int, options.share.split("/"))
    for file, make in [] if options.report else tqdm(work[part::count]):
        if not file.exists():
            made = make()
            with atomic_path(file) as new:
                new.write_text(json.dumps(made))


def kept_file(runs: Path, name: str) -> Path:
    """Where RUNS keeps what was measured of a shipped student; another one for other weights."""
    return runs / f"{name}-{read_card(name)['student_sha256'][:12]}.json"


def batches(photos: ex.ImageSet) -> Iterator[tuple[range, Tensor]]:
    """Indices and pictures."""
    for start in range(0, len(photos), BATCH):
        indices = range(start, min(start + BATCH, len(photos)))
        yield indices, photos.stack(indices)


def averages(parts: Sequence[ex.Alignment]) -> list[float]:
    """CLS cosine, patch cosine and attention KL over all pictures."""
    names = ("cls_cosine", "patch_cosine", "attention_kl")
    return [float(torch.cat([part.per_image[name] for part in parts]).mean()) for name in names]


def found(gallery: Tensor, queries: Tensor, labels: Tensor) -> list[float]:
    """retrieval@1, and accuracy of the nearest other picture's label; cosine after subtracting the gallery's mean."""
    return [retrieval_at_1(gallery, queries), nearest_label_accuracy(gallery, queries, labels.tolist())]
