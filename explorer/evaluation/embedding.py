"""Where pictures lie in the eyes of a teacher and a student: `embed_pair`.

Enters: a pair, or several of one teacher by name, pictures, a distortion. Leaves: a `PairEmbedding`: the features of
each view, how far each damaged picture was driven from its clean original, and who its neighbours are. All of it is
measured in feature space; a projection to two dimensions is only a sketch of it, drawn with one fixed ruler: the clean
teacher's.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from explorer.data.sets import ImageSet, PictureData
from explorer.data.sources import image_set
from explorer.distortions import Distortion, Given
from explorer.distortions import distortion as parse_distortion
from explorer.errors import InputError, seed_number
from explorer.evaluation import features as kept
from explorer.evaluation.clusters import Clusters, cluster_pictures
from explorer.evaluation.features import Kind, Told, embed, share_of
from explorer.evaluation.probes import nearest, own_and_other
from explorer.evaluation.projection import Projection, displacement, project
from explorer.evaluation.rows import as_rows
from explorer.models.backbones import Layers
from explorer.models.students import KINDS, STUDENT, TEACHER, Pairs, backbones_of, named_pairs, networks_of, sources_of

if TYPE_CHECKING:
    import pandas


def views_of(students: Iterable[str]) -> tuple[str, ...]:
    """The reference first; then the way of a picture: what the damage does, and what each student makes of it."""
    made = (f"{student}_{kind}" for student in students for kind in reversed(KINDS))
    return (*(f"{TEACHER}_{kind}" for kind in KINDS), *made)


VIEWS = views_of([STUDENT])
REFERENCE = VIEWS[0]
OF_PICTURES = ("displacement", "nearest_label", "retrieval")


@dataclass(frozen=True, eq=False)
class PairEmbedding:
    """Features of the same pictures in four views; in more, where there are several students. Made by `embed_pair`.

    Attributes:
        features: each of `VIEWS` -> one row for each picture. Students with names have "noise_distorted",
            "noise_clean" and so on in the place of "student".
        images: the pictures.
        distortion, seed: what damaged them.
        kind, layer: which features these are, as in `Features.of`.
        weights: those of the teacher and of each student, a line each.
    """

    features: dict[str, Float[np.ndarray, "image dim"]]
    images: ImageSet
    distortion: Distortion
    seed: int
    kind: Kind
    layer: int
    weights: tuple[str, ...]

    @property
    def reference(self) -> Float[np.ndarray, "image dim"]:
        """The clean teacher's features."""
        return self.features[REFERENCE]

    @property
    def students(self) -> tuple[str, ...]:
        """The students' names; a single one without a name is "student"."""
        return networks_of(self.features)[1:]

    @property
    def several(self) -> bool:
        """Whether the students have names of somebody's own."""
        return self.students != (STUDENT,)

    @property
    def untouched(self) -> bool:
        """Whether the only student is the untouched copy of the teacher."""
        return not self.several and self.features[VIEWS[2]] is self.features[VIEWS[1]]

    def project(self, method: Literal["pca", "umap"] = "pca", components: int = 2, seed: int = 0) -> Projection:
        """All views in one picture, fitted on the reference; see `explorer.project`."""
        names = self.images.labels and [self.images.classes[label] for label in self.images.labels]
        return project(self.features, method, REFERENCE, components=components, labels=names, seed=seed)

    def neighbours(self, view: str, k: int) -> tuple[Int[np.ndarray, "image k"], Float[np.ndarray, "image k"]]:
        """The nearest clean pictures of each picture in a view, its own original among them, except for the reference
        itself: indices and centred cosines, the nearest first."""
        return nearest(self.reference, self.features[view], k, leave_out=view == REFERENCE)

    @cached_property
    def clusters(self) -> Clusters:
        """Which pictures lie together for the clean teacher; the same for all views."""
        return cluster_pictures(self.reference, self.images)

    @cached_property
    def each(self) -> dict[str, dict[str, Float[np.ndarray, " image"]]]:
        """Each view -> the columns of `measures` -> their value for each picture, 1 or 0 where they are shares."""
        views = {view: as_rows(values, f"'{view}'") for view, values in self.features.items()}
        moved = {view: displacement(rows, views[REFERENCE]) for view, rows in views.items()}
        return {view: {"displacement": moved[view], **self._found(view)} for view in views}

    def _found(self, view: str) -> dict[str, Float[np.ndarray, " image"]]:
        """Whether each picture is found again, and whether the nearest other one has its label."""
        count, labels = len(self.images), self.images.labels
        again, other = own_and_other(self.reference, self.features[view], np.arange(count))
        nothing = np.full(count, np.nan)
        alike = nothing if labels is None else (np.asarray(labels)[other] == np.asarray(labels)).astype(float)
        return {"nearest_label": alike, "retrieval": nothing if view == REFERENCE else again.astype(float)}

    @cached_property
    def measures(self) -> "pandas.DataFrame":
        """One row for each view: view; displacement (mean centred cosine distance from the clean teacher's embedding of
        the same picture); nearest_label (share of pictures whose nearest other clean picture has the same label, NaN
        without labels); retrieval (share whose nearest clean picture is their own, NaN for the reference)."""
        import pandas

        rows = [
            {"view": view} | {name: float(each[name].mean()) for name in OF_PICTURES}
            for view, each in self.each.items()
        ]
        return pandas.DataFrame(rows)

    def frame(self, method: Literal["pca", "umap"] = "pca", components: int = 2, seed: int = 0) -> "pandas.DataFrame":
        """One row for each picture and view: the columns of `Projection.frame`, and name."""
        return self.named(self.project(method, components, seed).frame())

    def named(self, table: "pandas.DataFrame") -> "pandas.DataFrame":
        """The table of a projection, with each picture's name."""
        return table.assign(name=[self.images.names[index] for index in table["index"]])


def embed_pair(
    pair: Pairs,
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

        embed_pair(pair, "photos")
        embed_pair({"noise": a, "mixture": b}, "photos", "fog:3")   # several students

    Args:
        pair: a pair; or up to four of one teacher, each under a name of one's own.
        distortion: None for the one that the student was trained on, or all students; for pictures with clean twins,
            which are damaged already, there is nothing else to give.
        seed: of the distortion.
        kind, layer: which features; see `Features.of`.
        keep: blocks that go into the cache, where several will be asked for; None for `layer` alone, and for the
            global embedding, which needs none.
        batch_size, workers, cache: as in `embed`.
        progress: is told (pictures done, pictures in all) over the views that have to be computed; those that the
            user's cache holds take no time, and do not count.

    Raises:
        ValueError: fewer than two pictures, an unknown distortion, block or kind of features; no distortion where the
            students were trained on different ones; students of several teachers, none or more than four, or names that
            would be mistaken for something else.
        ImageError: a picture is damaged, as in `embed`.
    """
    networks, seed = backbones_of(pair), seed_number(seed)
    images = image_set(images).resized(networks[TEACHER].image_size)  # once, so that their digest is computed once
    if len(images) < 2:
        raise InputError(f"neighbours and distances need at least two pictures; got {len(images)}")
    damage = damage_of(pair, images, distortion)
    wanted: dict[str, Any] = {"layers": _layers(kind, layer, keep), "batch_size": batch_size, "workers": workers}
    looks = {f"{network}_{view}": (backbone, view) for network, backbone in networks.items() for view in KINDS}
    # An untouched student looks as the teacher does: once for both.
    jobs = {look: (look[0], *seen_in(look[1], images, damage)) for look in looks.values()}
    kept_by_user = cache is True and progress is not None
    missing = [
        look
        for look, job in jobs.items()
        if not (kept_by_user and kept.is_embedded(*job, seed, layers=wanted["layers"]))
    ]
    found = {}
    for look, (backbone, shown, spec) in jobs.items():
        done, total = missing.index(look) * len(images) if look in missing else 0, len(missing) * len(images)
        told = share_of(progress, done, total) if look in missing else None
        features = embed(backbone, shown, spec, seed, **wanted, cache=cache, progress=told)
        found[look] = np.asarray(features.of(kind, backbone.blocks(layer)[0]))  # of all its blocks
    _, *students = networks
    ordered = {view: found[looks[view]] for view in views_of(students)}
    weights = tuple(sources_of(networks).values())
    return PairEmbedding(ordered, images, damage, seed, kind, layer, weights)


def is_embedded(
    pair: Pairs,
    images: ImageSet,
    distortion: str | Distortion | None = None,
    seed: int = 0,
    *,
    kind: Kind = "embedding",
    layer: int = -1,
    keep: Layers | None = None,
) -> bool:
    """Whether `embed_pair` would need no forward passes, or hardly any."""
    networks, damage = backbones_of(pair), damage_of(pair, images, distortion)
    layers, images = _layers(kind, layer, keep), images.resized(networks[TEACHER].image_size)
    return all(
        kept.is_embedded(backbone, *seen_in(view, images, damage), seed, layers=layers)
        for backbone in dict.fromkeys(networks.values())
        for view in KINDS
    )


def damage_of(pair: Pairs, images: ImageSet, distortion: str | Distortion | None) -> Distortion:
    """What damages the pictures: what was asked for, else what the students learned; `Given` where they have twins.

    Raises:
        ValueError: a distortion for pictures that are damaged already, or an unknown one; none where the students
            learned different ones.
    """
    if images.clean is None:
        return parse_distortion(learned_by(pair) if distortion is None else distortion)
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


def learned_by(pair: Pairs) -> Distortion:
    """The damage that the students were trained on.

    Raises:
        ValueError: they were trained on different ones.
    """
    pairs = named_pairs(pair)
    learned = {one.distortion.spec: one.distortion for one in pairs.values()}
    if len(learned) > 1:
        raise InputError(
            f"the students {', '.join(pairs)} were trained on different damage: say which one they are to see, such as "
            "distortion='gaussian_noise(sigma=0.3)'"
        )
    return next(iter(learned.values()))


def _layers(kind: Kind, layer: int, keep: Layers | None) -> Layers | None:
    return None if kind == "embedding" else layer if keep is None else keep
