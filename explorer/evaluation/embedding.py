"""Where pictures lie in the eyes of a teacher and a student: `embed_pair`.

Enters: a pair, pictures, a distortion. Leaves: a `PairEmbedding`: the features of four views, how far each damaged
picture was driven from its clean original, and who its neighbours are. All of it is measured in feature space; a
projection to two dimensions is only a sketch of it, drawn with one fixed ruler: the clean teacher's.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from explorer.data.sets import ImageSet, PictureData
from explorer.data.sources import image_set
from explorer.distortions import Distortion, Given
from explorer.distortions import distortion as parse_distortion
from explorer.errors import InputError
from explorer.evaluation import features as kept
from explorer.evaluation.features import Kind, Told, embed, share_of
from explorer.evaluation.probes import nearest, nearest_label_accuracy, retrieval_at_1
from explorer.evaluation.projection import Projection, project
from explorer.models.backbones import Layers
from explorer.models.pairs import Pair

if TYPE_CHECKING:
    import pandas

VIEWS = ("teacher_clean", "teacher_distorted", "student_distorted", "student_clean")
"""The reference first; then the way of a picture: what the damage does, and what the student makes of it."""
REFERENCE = VIEWS[0]


@dataclass(frozen=True, eq=False)
class PairEmbedding:
    """Features of the same pictures in four views. Made by `embed_pair`.

    Attributes:
        features: each of `VIEWS` -> one row for each picture.
        images: the pictures.
        distortion, seed: what damaged them.
        kind, layer: which features these are, as in `Features.of`.
        weights: those of teacher and student, a line each.
    """

    features: dict[str, Float[np.ndarray, "image dim"]]
    images: ImageSet
    distortion: Distortion
    seed: int
    kind: Kind
    layer: int
    weights: tuple[str, str]

    @property
    def reference(self) -> Float[np.ndarray, "image dim"]:
        """The clean teacher's features."""
        return self.features[REFERENCE]

    def project(self, method: Literal["pca", "umap"] = "pca", components: int = 2, seed: int = 0) -> Projection:
        """The four views in one picture, fitted on the reference; see `explorer.project`."""
        names = self.images.labels and [self.images.classes[label] for label in self.images.labels]
        return project(self.features, method, REFERENCE, components=components, labels=names, seed=seed)

    def neighbours(self, view: str, k: int) -> tuple[Int[np.ndarray, "image k"], Float[np.ndarray, "image k"]]:
        """The nearest clean pictures of each picture in a view, its own original among them, except for the reference
        itself: indices and centred cosines, the nearest first."""
        return nearest(self.reference, self.features[view], k, leave_out=view == REFERENCE)

    @cached_property
    def measures(self) -> "pandas.DataFrame":
        """One row for each view: view; displacement (mean centred cosine distance from the clean teacher's embedding of
        the same picture); nearest_label (share of pictures whose nearest other clean picture has the same label, NaN
        without labels); retrieval (share whose nearest clean picture is their own, NaN for the reference)."""
        import pandas

        moved = project(self.features, "pca", REFERENCE).displacement
        rows = []
        for view, values in self.features.items():
            labels = self.images.labels
            near = np.nan if labels is None else nearest_label_accuracy(self.reference, values, labels)
            own = np.nan if view == REFERENCE else retrieval_at_1(self.reference, values)
            rows.append(
                {"view": view, "displacement": float(moved[view].mean()), "nearest_label": near, "retrieval": own}
            )
        return pandas.DataFrame(rows)

    def frame(self, method: Literal["pca", "umap"] = "pca", components: int = 2, seed: int = 0) -> "pandas.DataFrame":
        """One row for each picture and view: the columns of `Projection.frame`, and name."""
        return self.named(self.project(method, components, seed).frame())

    def named(self, table: "pandas.DataFrame") -> "pandas.DataFrame":
        """The table of a projection, with each picture's name."""
        return table.assign(name=[self.images.names[index] for index in table["index"]])


def embed_pair(
    pair: Pair,
    images: ImageSet | PictureData,
    distortion: str | Distortion | None = None,
    seed: int = 0,
    *,
    kind: Kind = "embedding",
    layer: int = -1,
    keep: Layers | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    cache: bool | str | os.PathLike = True,
    progress: Told | None = None,
) -> PairEmbedding:
    """Features of the same pictures in the four views of a pair.

    Args:
        distortion: None for the one that the student was trained on; for pictures with clean twins, which are damaged
            already, there is nothing else to give.
        seed: of the distortion.
        kind, layer: which features; see `Features.of`.
        keep: blocks that go into the cache, where several will be asked for; None for `layer` alone, and for the
            global embedding, which needs none.
        batch_size, workers, cache: as in `embed`.
        progress: is told (pictures done, pictures in all) over the views that have to be computed; those that the
            user's cache holds take no time, and do not count.

    Raises:
        ValueError: fewer than two pictures, an unknown distortion, block or kind of features.
        ImageError: a picture is damaged, as in `embed`.
    """
    images = image_set(images).resized(pair.teacher.image_size)  # once, so that their digest is computed once
    if len(images) < 2:
        raise InputError(f"neighbours and distances need at least two pictures; got {len(images)}")
    damage = damage_of(pair, images, distortion)
    wanted: dict[str, Any] = {"layers": _layers(kind, layer, keep), "batch_size": batch_size, "workers": workers}
    sources = VIEWS[:2] if pair.student is pair.teacher else VIEWS
    jobs = {
        view: (pair.teacher if "teacher" in view else pair.student, *seen_in(view, images, damage)) for view in sources
    }
    kept_by_user = cache is True and progress is not None
    missing = [
        view
        for view, (backbone, shown, spec) in jobs.items()
        if not (kept_by_user and kept.is_embedded(backbone, shown, spec, seed, layers=wanted["layers"]))
    ]
    found = {}
    for view, (backbone, shown, spec) in jobs.items():
        done, total = missing.index(view) * len(images) if view in missing else 0, len(missing) * len(images)
        told = share_of(progress, done, total) if view in missing else None
        features = embed(backbone, shown, spec, seed, **wanted, cache=cache, progress=told)
        found[view] = np.asarray(features.of(kind, backbone.blocks(layer)[0]))  # of all its blocks
    for view in VIEWS:  # an untouched student sees what the teacher sees
        found.setdefault(view, found.get(view.replace("student", "teacher"), np.empty((0, 0))))
    return PairEmbedding({view: found[view] for view in VIEWS}, images, damage, seed, kind, layer, pair.weights)


def is_embedded(
    pair: Pair,
    images: ImageSet,
    distortion: str | Distortion | None = None,
    seed: int = 0,
    *,
    kind: Kind = "embedding",
    layer: int = -1,
    keep: Layers | None = None,
) -> bool:
    """Whether `embed_pair` would need no forward passes, or hardly any."""
    damage = damage_of(pair, images, distortion)
    layers, images = _layers(kind, layer, keep), images.resized(pair.teacher.image_size)
    return all(
        kept.is_embedded(backbone, *seen_in(view, images, damage), seed, layers=layers)
        for backbone in dict.fromkeys((pair.teacher, pair.student))
        for view in VIEWS[:2]
    )


def damage_of(pair: Pair, images: ImageSet, distortion: str | Distortion | None) -> Distortion:
    """What damages the pictures: what was asked for, else what the student learned; `Given` where they have twins.

    Raises:
        ValueError: a distortion for pictures that are damaged already, or an unknown one.
    """
    if images.clean is None:
        return parse_distortion(pair.distortion if distortion is None else distortion)
    if distortion is not None:
        raise InputError(
            f"these pictures are damaged already; leave out distortion='{distortion}', or their clean twins"
        )
    return Given()


def seen_in(view: str, images: ImageSet, damage: Distortion) -> tuple[ImageSet, Distortion | str]:
    """The pictures of a view, and what is done to them yet: nothing to those that are clean or damaged already."""
    damaged = view.endswith("distorted")
    if images.clean is None:
        return images, damage if damaged else "none"
    return images if damaged else images.clean, "none"


def _layers(kind: Kind, layer: int, keep: Layers | None) -> Layers | None:
    return None if kind == "embedding" else layer if keep is None else keep
