"""Which pictures suffer, and which a student saves: a `PairEmbedding` cut by label, by cluster and by outcome.

Enters: a `PairEmbedding`. Leaves: `slices_of`, each with its pictures, and `slice_table`, what was measured of them.
Deliberately ignored: that slices of few pictures scatter; their counts stand beside their numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Int

from explorer.evaluation.embedding import OF_PICTURES, PairEmbedding
from explorer.models.students import STUDENT, TEACHER

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """Some of the pictures.

    Attributes:
        key: what tells it from the other slices: "label:fish", "cluster:0", "worse:student".
        kind: what the pictures were cut by.
        name: how people call it.
        pictures: their places, in order.
    """

    key: str
    kind: Literal["label", "cluster", "outcome"]
    name: str
    pictures: Int[np.ndarray, " member"]


def slices_of(embedding: PairEmbedding) -> tuple[Slice, ...]:
    """Each label, each cluster of the clean teacher, and for each student: the damaged pictures that it puts farther
    from the reference than the teacher does (by centred cosine), those that it finds again (the nearest clean picture
    is their own), and those that it loses. Labels that no picture has are left out; outcomes may be empty."""
    return (*_labels(embedding), *_clusters(embedding), *_outcomes(embedding))


def slice_table(embedding: PairEmbedding) -> "pandas.DataFrame":
    """One row for each slice and view: key, kind, name, pictures (how many) and view, then the columns of
    `PairEmbedding.measures` over these pictures, NaN where there are none."""
    import pandas

    rows = [
        {"key": cut.key, "kind": cut.kind, "name": cut.name, "pictures": len(cut.pictures), "view": view}
        | measures_of(embedding, cut, view)
        for cut in slices_of(embedding)
        for view in embedding.features
    ]
    return pandas.DataFrame(rows)


def measures_of(embedding: PairEmbedding, cut: Slice, view: str) -> dict[str, float]:
    """What `PairEmbedding.measures` tells of a view, over the pictures of a slice."""
    each = embedding.each[view]
    return {name: float(each[name][cut.pictures].mean()) if len(cut.pictures) else np.nan for name in OF_PICTURES}


def _labels(embedding: PairEmbedding) -> Iterator[Slice]:
    labels = embedding.images.labels
    for label, name in enumerate(embedding.images.classes if labels else ()):
        members = np.flatnonzero(np.asarray(labels) == label)
        if len(members):
            yield Slice(key=f"label:{name}", kind="label", name=name, pictures=members)


def _clusters(embedding: PairEmbedding) -> Iterator[Slice]:
    found = embedding.clusters
    for place, name in enumerate(found.names):
        members = np.flatnonzero(found.of == place)
        yield Slice(key=f"cluster:{place}", kind="cluster", name=f"{place + 1}: {name}", pictures=members)


def _outcomes(embedding: PairEmbedding) -> Iterator[Slice]:
    teacher = embedding.each[f"{TEACHER}_distorted"]
    for student in embedding.students:
        own = embedding.each[f"{student}_distorted"]
        who = "the student" if student == STUDENT else student
        told = {
            "worse": (f"{who} worse than the teacher", own["displacement"] > teacher["displacement"]),
            "found": (f"found again by {who}", own["retrieval"] == 1),
            "lost": (f"lost by {who}", own["retrieval"] == 0),
        }
        for key, (name, chosen) in told.items():
            yield Slice(key=f"{key}:{student}", kind="outcome", name=name, pictures=np.flatnonzero(chosen))
