"""What features are worth to somebody with few labels: `evaluate`.

Enters: a pair, labelled pictures to fit a probe on and others to test it on. Leaves: an `Evaluation`: accuracy of four
views (teacher and student, clean and distorted), which always include the clean ones, so that no gain on damaged
pictures hides a loss on whole ones. Protocol: Ravula et al. 2021 (frozen features, a probe, a share of the labels,
several draws of the distortion).
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Bool

from explorer.data.sets import ImageSet, PictureData
from explorer.data.sources import image_set
from explorer.distortions import Distortion
from explorer.errors import InputError, seed_number, whole_number
from explorer.evaluation.embedding import VIEWS, damage_of, seen_in
from explorer.evaluation.features import Kind, Precision, Told, embed, share_of
from explorer.evaluation.probes import PROBES, Probe, fit_on_features, wilson_interval
from explorer.models.backbones import Backbone
from explorer.models.pairs import Pair
from explorer.models.students import expect_pair

if TYPE_CHECKING:
    import pandas

Fit: TypeAlias = Literal["own", "clean", "teacher_clean"]
_RESAMPLES = 10_000
_OF_THE_GAP = ("teacher_clean", "teacher_distorted", "student_distorted")


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Accuracy of each view. Made by `evaluate`.

    Attributes:
        right: each of `VIEWS` -> whether each test picture was classified rightly, in each draw; one draw of the clean
            views.
        probe: "knn" or "linear".
        fit: "own", a probe for each view; "clean", one for each network; or "teacher_clean", one for all.
        distortion: what damaged the pictures.
        train_pictures, test_pictures: how many labelled pictures the probe was fitted on and tested on.
        label_fraction, draws, seed: as given to `evaluate`.
    """

    right: dict[str, Bool[np.ndarray, "draw picture"]]
    probe: str
    fit: str
    distortion: Distortion
    train_pictures: int
    test_pictures: int
    label_fraction: float
    draws: int
    seed: int

    @property
    def accuracy(self) -> dict[str, tuple[float, ...]]:
        """Each of `VIEWS` -> share of the test pictures that were classified rightly, one for each draw."""
        return {view: tuple(right.mean(axis=1).tolist()) for view, right in self.right.items()}

    @property
    def gap_closed(self) -> float | None:
        """(student distorted - teacher distorted) / (teacher clean - teacher distorted), of the means over the draws.

        1: the student sees damaged pictures as well as the teacher sees whole ones; 0: as badly as the teacher does;
        negative: worse. None where the damage costs the teacher nothing, so that there is no gap.
        """
        return gap_closed(self.accuracy)

    @property
    def gap_interval(self) -> tuple[float, float] | None:
        """95 % bootstrap interval of `gap_closed` over the test pictures. None where they are too few to say that there
        is a gap: more than 2.5 % of the resamples have none."""
        answers = np.stack([self.right[view].mean(axis=0) for view in _OF_THE_GAP], axis=1)
        kinds, counts = np.unique(answers, axis=0, return_counts=True)  # few, however many pictures there are
        often = np.random.default_rng(0).multinomial(len(answers), counts / len(answers), _RESAMPLES)
        ceiling, floor, student = (often @ kinds).T
        gap = ceiling - floor
        if (gap <= 0).mean() > 0.025:
            return None
        low, high = np.quantile((student - floor)[gap > 0] / gap[gap > 0], (0.025, 0.975))
        return float(low), float(high)

    def frame(self) -> "pandas.DataFrame":
        """One row for each view: view, accuracy (mean over the draws), std (over the draws; NaN for one draw), low and
        high (95 % Wilson score interval over the test pictures), draws, train_pictures, test_pictures."""
        import pandas

        rows = []
        for view, values in self.accuracy.items():
            low, high = wilson_interval(mean(values), self.test_pictures)
            spread = stdev(values) if len(values) > 1 else float("nan")
            rows.append({"view": view, "accuracy": mean(values), "std": spread, "low": low, "high": high})
        counts = {"draws": self.draws, "train_pictures": self.train_pictures, "test_pictures": self.test_pictures}
        return pandas.DataFrame(rows).assign(**counts)


def evaluate(
    pair: Pair,
    train: ImageSet | PictureData,
    test: ImageSet | PictureData,
    probe: str = "knn",
    label_fraction: float = 1.0,
    draws: int = 1,
    seed: int = 0,
    *,
    distortion: str | Distortion | None = None,
    fit: Fit = "own",
    kind: Kind = "embedding",
    layer: int = -1,
    k: int = 10,
    batch_size: int | None = None,
    precision: Precision = "float32",
    cache: bool = True,
    progress: Told | None = None,
) -> Evaluation:
    """Accuracy of a probe on frozen features, for teacher and student, clean and distorted.

    Args:
        train: labelled pictures that the probe is fitted on.
        test: others, of the same classes.
        probe: a name in `explorer.evaluation.probes.PROBES`: "knn", `k` nearest neighbours by centred cosine; or
            "linear", logistic regression on standardised features, both scikit-learn's; or one of them on whitened
            features, as in `fit_on_features`.
        label_fraction: share of `train` that is used, balanced over the classes, chosen by `seed`.
        draws: how often the distortion is drawn anew; a distortion without chance needs one.
        seed: of the choice of labels and of the draws; draws of training and test pictures differ.
        distortion: None for the one that the student was trained on; for pictures with clean twins, which are damaged
            already, there is nothing else to give.
        fit: "own", each view's probe is fitted on training pictures of that view, as in Ravula et al. 2021; "clean",
            each network's is fitted on its clean pictures, and damage comes without labels, as in Hendrycks and
            Dietterich 2019; "teacher_clean", one probe, fitted on the teacher's clean features, reads all views: can
            the student take the teacher's place without anything else being changed?
        kind, layer: which features, as in `Features.of`.
        batch_size, precision: of the forward passes, as in `embed`.
        cache: whether features are kept on disk.
        progress: is told (pictures done, pictures in all) as the work goes on.

    Raises:
        ValueError: no labels, one class only, other classes in test than in train, pictures that are in both, or
            numbers out of range.
        ImageError: a picture is damaged, as in `embed`.
    """
    draws, seed = whole_number("draws", draws, 1), seed_number(seed)
    expect_pair(pair)
    if probe not in PROBES:
        raise InputError(f"probe is one of {', '.join(PROBES)}; got {probe!r}")
    if fit not in get_args(Fit):
        raise InputError(f"fit is one of {', '.join(get_args(Fit))}; got {fit!r}")
    train, test = image_set(train), image_set(test)
    wanted = labels_of(train, test)
    damage = damage_of(pair, test, distortion)
    if (train.clean is None) != (test.clean is None) and (fit == "own" or test.clean is None):
        raise InputError("train and test must both have clean twins, or neither; unless fit='own' test alone may")
    train, test = (images.resized(pair.teacher.image_size) for images in (train, test))
    test.check()  # before the work on the others
    labelled = train if label_fraction == 1.0 else train.subset(fraction=label_fraction, seed=seed)
    count = draws if damage.stochastic else 1
    fitted = {"own": 2 + 2 * count, "clean": 2, "teacher_clean": 1}[fit]
    total = len(labelled) * fitted + len(test) * (2 + 2 * count)
    done = 0

    def look(backbone: Backbone, images: ImageSet, draw: int | None, part: Literal["train", "test"]) -> np.ndarray:
        """Features of the pictures as one draw of the distortion leaves them; None: of the clean pictures."""
        nonlocal done
        own_seed = 0 if draw is None else draw_seed(seed, draw, part)
        shown, spec = seen_in("clean" if draw is None else "distorted", images, damage)
        told, layers = share_of(progress, done, total), None if kind == "embedding" else layer
        way: dict[str, Any] = {"batch_size": batch_size, "precision": precision, "cache": cache, "progress": told}
        features = embed(backbone, shown, spec, own_seed, layers=layers, **way)
        done += len(images)
        return np.asarray(features.of(kind, -1))

    @functools.cache
    def fitted_on(backbone: Backbone, draw: int | None) -> Probe:
        return fit_on_features(probe, look(backbone, labelled, draw, "train"), _of(labelled), k=k)

    def probe_of(backbone: Backbone, draw: int | None) -> Probe:
        return fitted_on(pair.teacher if fit == "teacher_clean" else backbone, draw if fit == "own" else None)

    right = {}
    for view in VIEWS:
        backbone = pair.teacher if view.startswith("teacher") else pair.student
        numbers = range(count) if view.endswith("distorted") else (None,)
        predicted = [probe_of(backbone, draw).predict(look(backbone, test, draw, "test")) for draw in numbers]
        right[view] = np.stack(predicted) == wanted
    return Evaluation(
        right=right,
        probe=probe,
        fit=fit,
        distortion=damage,
        train_pictures=len(labelled),
        test_pictures=len(test),
        label_fraction=label_fraction,
        draws=count,
        seed=seed,
    )


def gap_closed(found: Mapping[str, Sequence[float]]) -> float | None:
    """As `Evaluation.gap_closed`, of any number that is better when it is higher: each view -> its value for each
    draw."""
    ceiling, floor, student = (mean(found[view]) for view in _OF_THE_GAP)
    return (student - floor) / (ceiling - floor) if ceiling > floor else None


def draw_seed(seed: int, draw: int, part: Literal["train", "test"]) -> int:
    """The seed of one draw of the distortion: different for training and test pictures, and for every draw."""
    return int(np.random.SeedSequence([seed, draw, int(part == "test")]).generate_state(1)[0])


def _of(images: ImageSet) -> tuple[int, ...]:
    if images.labels is None:
        raise InputError("these pictures have no labels: expected one folder for each class")
    return images.labels


def labels_of(train: ImageSet, test: ImageSet) -> tuple[int, ...]:
    """Those of the test pictures, after checking that both sets fit together."""
    if not len(train) or not len(test):
        raise InputError(f"expected pictures to fit a probe on and to test it on; got {len(train)} and {len(test)}")
    _of(train)
    if train.classes != test.classes:
        raise InputError(
            f"train and test must have the same classes; got {_few(train.classes)} and {_few(test.classes)}"
        )
    if train.reader == test.reader and (shared := set(train.keys) & set(test.keys)):
        raise InputError(
            f"{len(shared)} pictures are in train and in test, so that a probe would know them by heart; "
            f"train, test = images.split(0.5) makes two sets"
        )
    if len(set(_of(train))) < 2:
        raise InputError("a probe tells classes apart, and the training pictures show one only")
    unknown = set(_of(test)) - set(_of(train))
    if unknown:
        names = _few(tuple(test.classes[label] for label in sorted(unknown)))
        raise InputError(f"fewer labels than classes: no training picture shows {names}, which the test pictures show")
    return _of(test)


def _few(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
