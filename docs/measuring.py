"""What `measure_students.py` and `ablate_levels.py` measure of a pair, on pictures that its student never saw.

*retrieval@1*: the nearest clean reference embedding (centred cosine) of a picture is its own. *1-NN label*: the nearest
clean reference of another picture has the picture's label. Attention KL is over the last four blocks.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

import explorer as ex
from explorer.evaluation.probes import nearest_label_accuracy, retrieval_at_1

NUMBERS = ("CLS cosine", "patch cosine", "attention KL", "retrieval@1", "1-NN label")
BATCH = 4


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


def measured_reference(teacher: ex.Backbone, photos: ex.ImageSet) -> float:
    """1-NN label accuracy of the reference itself, each picture left out."""
    gallery = torch.cat([teacher.trace(clean, layers=-1, attention=None).embedding for _, clean in batches(photos)])
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
    return [retrieval_at_1(gallery, queries), nearest_label_accuracy(gallery, queries, labels.tolist())]
