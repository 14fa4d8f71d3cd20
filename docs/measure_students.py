"""Measures the shipped students on embedded photos, which none of them was trained on, and writes docs/students.md:

    python docs/measure_students.py

For each student: the teacher on clean pictures (the reference), the teacher and the student on distorted ones, and the
student on clean ones. *retrieval@1*: the nearest clean reference embedding (centred cosine) of a picture is its own.
*1-NN label*: the nearest clean reference of another picture has the picture's label.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

import explorer as ex

PICTURES, SEEDS, BATCH = 100, (0, 1, 2), 4
NUMBERS = ("CLS cosine", "patch cosine", "attention KL", "retrieval@1", "1-NN label")


def main() -> None:
    """One section for each shipped student."""
    seeds = ", ".join(map(str, SEEDS))
    text = ["# Shipped students\n", "Made by `python docs/measure_students.py`. No student saw these photos:"]
    text += [f"{PICTURES} embedded photos, seeds {seeds}; mean and standard deviation over the seeds.\n"]
    text += [section(name) for name in ex.list_pairs()]
    Path(__file__).with_name("students.md").write_text("\n".join(text), encoding="utf-8")


def section(name: str) -> str:
    """What a student is, and its table."""
    pair = ex.load_pair(name)
    photos = ex.load_images("photos", size=pair.teacher.image_size, limit=PICTURES)
    runs: dict[str, list[list[float]]] = {"teacher, distorted": [], "student, distorted": [], "student, clean": []}
    for seed in tqdm(SEEDS, desc=name):
        for row, numbers in measured(pair, photos, seed).items():
            runs[row].append(numbers)
    reference = measured_reference(pair, photos)
    lines = [f"## {name}\n", described(pair), "", f"| | {' | '.join(NUMBERS)} |", "|---|" + "---:|" * len(NUMBERS)]
    lines.append("| teacher, clean (reference) | 1 | 1 | 0 | 1 | " + f"{reference:.2f} |")
    for row, values in runs.items():
        cells = [f"{statistics.mean(v):.3f} ± {statistics.stdev(v):.3f}" for v in zip(*values, strict=True)]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def described(pair: ex.Pair) -> str:
    """Backbone, data, distortion and training, as METHOD asks of a result."""
    config, data = pair.card["config"], pair.card["data"]
    return (
        f"{pair.teacher.source}. Trained on {data['pictures']} pictures without labels, {config['steps']} steps of "
        f'{config["batch_size"]} at {config["image_size"]} px, {pair.distortion}, `trainable="{config["trainable"]}"`, '
        f"seed {config['seed']}. Measured at {pair.teacher.image_size} px with the same distortion."
    )


def measured(pair: ex.Pair, photos: ex.ImageSet, seed: int) -> dict[str, list[float]]:
    """The numbers of each row for one draw of the distortion."""
    sums: dict[str, list[ex.Alignment]] = {}
    embeddings: dict[str, list[Tensor]] = {}
    for indices, clean in batches(photos):
        distorted = pair.distortion(clean, seed=seed, indices=indices)
        reference = pair.teacher.trace(clean, layers=range(-4, 0), attention="full")
        embeddings.setdefault("reference", []).append(reference.embedding)
        views = {
            "teacher, distorted": (pair.teacher, distorted),
            "student, distorted": (pair.student, distorted),
            "student, clean": (pair.student, clean),
        }
        for row, (backbone, images) in views.items():
            seen = backbone.trace(images, layers=range(-4, 0), attention="full")
            sums.setdefault(row, []).append(ex.alignment(reference, seen))
            embeddings.setdefault(row, []).append(seen.embedding)
    gallery = torch.cat(embeddings.pop("reference"))
    labels = torch.tensor(photos.labels)
    return {row: averages(parts) + found(gallery, torch.cat(embeddings[row]), labels) for row, parts in sums.items()}


def measured_reference(pair: ex.Pair, photos: ex.ImageSet) -> float:
    """1-NN label accuracy of the reference itself, each picture left out."""
    gallery = torch.cat(
        [pair.teacher.trace(clean, layers=-1, attention=None).embedding for _, clean in batches(photos)]
    )
    return found(gallery, gallery, torch.tensor(photos.labels))[1]


def batches(photos: ex.ImageSet) -> Iterator[tuple[range, Tensor]]:
    """Indices and pictures."""
    for start in range(0, len(photos), BATCH):
        indices = range(start, min(start + BATCH, len(photos)))
        yield indices, photos.stack(indices)


def averages(parts: list[ex.Alignment]) -> list[float]:
    """CLS cosine, patch cosine and attention KL over all pictures."""
    names = ("cls_cosine", "patch_cosine", "attention_kl")
    return [float(torch.cat([part.per_image[name] for part in parts]).mean()) for name in names]


def found(gallery: Tensor, queries: Tensor, labels: Tensor) -> list[float]:
    """retrieval@1, and accuracy of the nearest other picture's label; cosine after subtracting the gallery's mean."""
    centre = gallery.mean(dim=0)
    cosines = F.normalize(queries - centre, dim=1) @ F.normalize(gallery - centre, dim=1).T
    own = (cosines.argmax(dim=1) == torch.arange(len(gallery))).float().mean()
    nearest = cosines.fill_diagonal_(-2.0).argmax(dim=1)
    return [float(own), float((labels[nearest] == labels).float().mean())]


if __name__ == "__main__":
    main()
