"""Linear probes on labelled pictures, as a teacher and its student see them whole. No Gradio in here.

What was fitted is kept by content: features of the pictures for both, and a probe for each picture that was left out.
The backbones are not kept with it, so that nothing of them stays in memory that `models` has let go.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

import explorer as ex
from explorer.data.labels import read_labels
from explorer.errors import InputError
from explorer.evaluation.features import Told, embed, is_embedded, share_of
from explorer.evaluation.predicting import PictureProbe, class_names, probe_of
from explorer.evaluation.probes import Probe
from explorer_app.service.cache import BoundedCache
from explorer_app.service.cores import CORES
from explorer_app.service.models import UNTOUCHED
from explorer_app.service.pictures import Source, picture_set
from explorer_app.service.question import Question

MOST_PICTURES = 5000
LABEL_BYTES = 8 << 20
VIEWS = ("teacher_clean", "teacher_distorted", "student_distorted")
FORGOTTEN = "the server has forgotten these probes by now: press Fit to make them again"
_PROBES = 64  # of one fit, each for another picture that is left out
_CACHE_BYTES = 256 << 20


@dataclass(frozen=True, eq=False)
class Fit:
    """What probes are fitted on.

    Attributes:
        rows: "teacher" and "student" -> embeddings of the clean pictures; no student where it is the untouched copy.
        names: the class of each picture.
        digests: of each picture's file.
        probes: those that were asked for lately.
    """

    rows: dict[str, Float[np.ndarray, "picture dim"]]
    names: tuple[str, ...]
    digests: tuple[str, ...]
    probes: BoundedCache[Probe] = field(default_factory=lambda: BoundedCache(_PROBES, lambda _: 1))

    @property
    def bytes(self) -> int:
        """Memory taken by the features."""
        return sum(rows.nbytes for rows in self.rows.values())


@dataclass(frozen=True)
class Seen:
    """What the probes see in one picture.

    Attributes:
        classes: in the order of what follows.
        chances: each of `VIEWS` that there is -> probability of each class; none of the student where it is untouched.
        own: the picture's own class, where it is one of those that were fitted on, and was left out.
        pictures: how many the probes were fitted on.
    """

    classes: tuple[str, ...]
    chances: dict[str, Float[np.ndarray, " class"]]
    own: str | None
    pictures: int


_fits: BoundedCache[Fit] = BoundedCache(_CACHE_BYTES, lambda fit: fit.bytes)


def labelled(source: Source, labels: Path | None, size: Any) -> tuple[ex.ImageSet, str]:
    """Labelled pictures, and what was left out of them in words.

    Args:
        labels: a visitor's CSV file; None for the classes of folders.

    Raises:
        ValueError: no labels, one class only, or a file that does not fit.
    """
    images, note = picture_set(source, size, MOST_PICTURES if labels is None else None)
    if labels is not None:
        if not labels.is_file():
            raise InputError("the file of labels is not kept any more: upload it again")
        if labels.stat().st_size > LABEL_BYTES:
            raise InputError(f"the file of labels has more than {LABEL_BYTES >> 20} MiB: leave lines out")
        images = read_labels(images, labels)[:MOST_PICTURES]
    if images.labels is None:
        raise InputError(
            "these pictures have no classes: put them into one folder for each class, or upload a CSV file with the "
            "columns file and label"
        )
    class_names(images)
    return images, note


def asked(question: Question, source: Source, labels: Path | None) -> Any:
    """What decides which probes are fitted: models and pictures, and neither damage nor the picture looked at."""
    return question.backbone, question.student, question.version(), question.size, source, labels


def is_quick(question: Question, images: ex.ImageSet) -> bool:
    """Whether all features are there, or come with the project."""
    return all(is_embedded(backbone, images) for backbone in _networks(question).values())


def fit(question: Question, images: ex.ImageSet, progress: Told | None = None) -> str:
    """Look at the pictures with teacher and student, unless it was done lately; returns the key for `see`."""
    names, networks = class_names(images), _networks(question)
    digests = tuple(hashlib.sha256(images.reader.raw(key)).hexdigest() for key in images.keys)
    seen = (*((each.sha256, each.height_width) for each in networks.values()), digests, names)
    key = hashlib.sha256(repr(seen).encode()).hexdigest()
    total = len(images) * len(networks)

    def look() -> Fit:
        rows = {}
        for place, (name, backbone) in enumerate(networks.items()):
            told = share_of(progress, place * len(images), total)
            with CORES.share():
                rows[name] = np.asarray(embed(backbone, images, progress=told).embedding)
        return Fit(rows, names, digests)

    _fits.get(key, look)
    return key


def probes(question: Question, key: str) -> tuple[dict[str, PictureProbe], str | None]:
    """The probes of "teacher" and "student" (for the untouched copy the same), and the class of the picture of the left
    column if it is one of those that were fitted on: then it is left out, so that no probe knows it by heart.

    Raises:
        InputError: they were forgotten, or one class alone is left without the picture.
    """
    found = _find(key)
    digest = _digest(question.picture)
    kept = [place for place, each in enumerate(found.digests) if each != digest]
    own = next((name for name, each in zip(found.names, found.digests, strict=True) if each == digest), None)
    names = tuple(found.names[place] for place in kept)
    if len(set(names)) < 2:
        raise InputError("without the picture that is looked at, pictures of one class alone are left: choose another")
    made = {}
    for who, backbone in _networks(question).items():

        def now(who: str = who, backbone: ex.Backbone = backbone) -> Probe:
            # so small that threads would only wait for each other
            with CORES.share(), threadpool_limits(limits=1, user_api="blas"):
                return probe_of(backbone, found.rows[who][kept], names).probe

        probe = found.probes.get((who, digest if own else None), now)
        counts = {name: names.count(name) for name in sorted(set(names))}
        made[who] = PictureProbe(backbone=backbone, probe=probe, distortion="none", seed=0, counts=counts)
    return {"teacher": made["teacher"], "student": made.get("student", made["teacher"])}, own


def see(question: Question, key: str) -> Seen:
    """What the probes see in the picture of the left column, whole and damaged.

    Raises:
        InputError: as for `probes`, or there is no picture.
    """
    views = question.comparison().views
    both, own = probes(question, key)
    shown = [name for name in VIEWS if name in views and (name in VIEWS[:2] or question.student != UNTOUCHED)]
    chances = {name: both[name.split("_")[0]].probe.probabilities(views[name].trace.embedding)[0] for name in shown}
    probe = both["teacher"]
    return Seen(probe.classes, chances, own, sum(probe.counts.values()))


def _find(key: str) -> Fit:
    def forgotten() -> Fit:
        raise InputError(FORGOTTEN)

    return _fits.get(key, forgotten)


def _networks(question: Question) -> dict[str, ex.Backbone]:
    if question.student == UNTOUCHED:
        return {"teacher": question.teacher()}
    pair = question.pair()
    return {"teacher": pair.teacher, "student": pair.student}


def _digest(picture: str | None) -> str | None:
    if picture is None or not os.path.isfile(picture):
        return None
    return hashlib.sha256(Path(picture).read_bytes()).hexdigest()
