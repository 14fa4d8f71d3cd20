"""What patch features are worth: `evaluate_dense`, semantic segmentation on frozen features.

Enters: a pair, pictures with a class for each pixel to fit a probe on, and others to test it on. Leaves: a
`DenseEvaluation`: mean intersection over union (mIoU) of four views (teacher and student, clean and distorted).
Protocol: a linear layer on frozen patch features, whose class probabilities are enlarged bilinearly to the picture
(Oquab et al. 2023, DINOv2, "linear"); or a vote of the nearest labelled patches, without training (as labels are
propagated in Caron et al. 2021, DINO, 4.2.2).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean, stdev
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch.nn.functional import interpolate

from explorer.data.masks import IGNORED, SegmentedSet
from explorer.distortions import Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.errors import InputError
from explorer.evaluation.embedding import VIEWS
from explorer.evaluation.evaluation import draw_seed
from explorer.evaluation.features import Told
from explorer.evaluation.probes import PROBES, Probe, fit_probe
from explorer.models.backbones import Backbone
from explorer.models.pairs import Pair
from explorer.models.trace import Grid
from explorer.system.memory import Parts, pictures_at_once

if TYPE_CHECKING:
    import pandas

_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseEvaluation:
    """How well patch features tell what stands where. Made by `evaluate_dense`.

    Attributes:
        confusion: each of `VIEWS` -> pixels of each true class (rows) that were given each class (columns), for each
            draw and test picture.
        predicted: each of `VIEWS` -> the value of the class of each pixel, in the first draw.
        classes: value in a mask -> name; rows and columns of `confusion` are in this order.
        probe: "linear" or "knn".
        fit: "own", a probe for each view, or "teacher_clean", one probe for all.
        distortion: what damaged the pictures.
        train_pictures, test_pictures: how many pictures the probe was fitted on and tested on.
        draws, seed: as given to `evaluate_dense`.
    """

    confusion: dict[str, Int[np.ndarray, "draw picture class class"]]
    predicted: dict[str, UInt8[np.ndarray, "picture height width"]]
    classes: dict[int, str]
    probe: str
    fit: str
    distortion: Distortion
    train_pictures: int
    test_pictures: int
    draws: int
    seed: int

    @property
    def miou(self) -> dict[str, tuple[float, ...]]:
        """Each of `VIEWS` -> mean intersection over union, over the classes that the test pictures show, for each draw."""
        return {view: tuple(_miou(counts.sum(axis=1)).tolist()) for view, counts in self.confusion.items()}

    @property
    def gap_closed(self) -> float | None:
        """As `Evaluation.gap_closed`, of mIoU; None where the damage costs the teacher nothing."""
        ceiling, floor, student = (
            mean(self.miou[view]) for view in ("teacher_clean", "teacher_distorted", "student_distorted")
        )
        return (student - floor) / (ceiling - floor) if ceiling > floor else None

    def interval(self, view: str, minus: str | None = None) -> tuple[float, float]:
        """95 % bootstrap interval of mIoU over the test pictures; or of its difference to that of another view.

        The same pictures are drawn for both, so that the difference is a paired one.
        """
        resamples = np.random.default_rng(self.seed).integers(self.test_pictures, size=(_RESAMPLES, self.test_pictures))

        def drawn(name: str) -> Float[np.ndarray, " resample"]:
            counts = self.confusion[name].sum(axis=0)
            return np.array([_miou(counts[chosen].sum(axis=0)) for chosen in resamples])

        low, high = np.quantile(drawn(view) - (0 if minus is None else drawn(minus)), (0.025, 0.975))
        return float(low), float(high)

    def frame(self) -> "pandas.DataFrame":
        """One row for each view: view, miou (mean over the draws), std (over the draws; NaN for one draw), low and high
        (`interval`), pixel_accuracy, a column for each class (its intersection over union, NaN for one that no test
        picture shows), draws, train_pictures, test_pictures."""
        import pandas

        rows = []
        for view, values in self.miou.items():
            low, high = self.interval(view)
            counts = self.confusion[view].sum(axis=(0, 1))
            shares = dict(zip(self.classes.values(), _iou(counts).tolist(), strict=True))
            spread = stdev(values) if len(values) > 1 else float("nan")
            right = float(np.trace(counts) / counts.sum())
            about = {"view": view, "miou": mean(values), "std": spread, "low": low, "high": high}
            rows.append({**about, "pixel_accuracy": right, **shares})
        counts = {"draws": self.draws, "train_pictures": self.train_pictures, "test_pictures": self.test_pictures}
        return pandas.DataFrame(rows).assign(**counts)


def evaluate_dense(
    pair: Pair,
    train: SegmentedSet,
    test: SegmentedSet,
    probe: Literal["knn", "linear"] = "linear",
    draws: int = 1,
    seed: int = 0,
    *,
    distortion: str | Distortion | None = None,
    fit: Literal["own", "teacher_clean"] = "own",
    k: int = 10,
    batch_size: int | None = None,
    progress: Told | None = None,
) -> DenseEvaluation:
    """Semantic segmentation by a probe on frozen patch features, for teacher and student, clean and distorted.

    Args:
        train: pictures whose patches the probe is fitted on; a patch has the class of most of its pixels.
        test: others, with the same classes.
        probe: "linear", logistic regression on standardised patch features; or "knn", a vote of the `k` nearest
            training patches by centred cosine, with which nothing is learned.
        draws, seed, distortion, fit, batch_size, progress: as in `explorer.evaluate`.

    Raises:
        ValueError: other classes in test than in train, pictures that are in both, or numbers out of range.
        ImageError: a picture or a mask is damaged.
    """
    if draws < 1:
        raise InputError(f"draws is a number of draws of the distortion, at least 1; got {draws}")
    if probe not in PROBES:
        raise InputError(f"probe is one of {', '.join(PROBES)}; got {probe!r}")
    if fit not in ("own", "teacher_clean"):
        raise InputError(f"fit is 'own' or 'teacher_clean'; got {fit!r}")
    _check_fit(train, test)
    damage = pair.distortion if distortion is None else parse_distortion(distortion)
    count = draws if damage.stochastic else 1
    train, test = (images.resized(pair.teacher.image_size) for images in (train, test))
    labels = np.concatenate([_patch_classes(train, index, pair.teacher.grid) for index in range(len(train))])
    known = labels != IGNORED
    truth = [_indices(test, test.mask(index)) for index in range(len(test))]
    looks = 2 + 2 * count
    told = _Count(progress, len(train) * (looks if fit == "own" else 1) + len(test) * looks)

    def fit_on(backbone: Backbone, draw: int | None) -> Probe:
        seen = _patches(backbone, train, damage, draw, draw_seed(seed, draw or 0, "train"), batch_size, told)
        return fit_probe(probe, np.concatenate(list(seen))[known], labels[known], k=k)

    shared = fit_on(pair.teacher, None) if fit == "teacher_clean" else None
    confusion, predicted = {}, {}
    for view in VIEWS:
        backbone = pair.teacher if view.startswith("teacher") else pair.student
        counts = []
        for draw in range(count) if view.endswith("distorted") else (None,):
            reader = shared or fit_on(backbone, draw)
            seen = _patches(backbone, test, damage, draw, draw_seed(seed, draw or 0, "test"), batch_size, told)
            drawn = [_segmented(reader, patches, backbone, test) for patches in seen]
            counts.append(np.stack([_counted(t, p, len(test.classes)) for t, p in zip(truth, drawn, strict=True)]))
            if not draw:
                predicted[view] = np.array([*test.classes], dtype=np.uint8)[np.stack(drawn)]
        confusion[view] = np.stack(counts)
    return DenseEvaluation(
        confusion=confusion,
        predicted=predicted,
        classes=test.classes,
        probe=probe,
        fit=fit,
        distortion=damage,
        train_pictures=len(train),
        test_pictures=len(test),
        draws=count,
        seed=seed,
    )


def _check_fit(train: SegmentedSet, test: SegmentedSet) -> None:
    if not len(train) or not len(test):
        raise InputError(f"expected pictures to fit a probe on and to test it on; got {len(train)} and {len(test)}")
    if train.classes != test.classes:
        raise InputError(f"train and test must have the same classes; got {train.classes} and {test.classes}")
    if shared := {mask.resolve() for mask in train.masks} & {mask.resolve() for mask in test.masks}:
        raise InputError(f"{len(shared)} pictures are in train and in test, so that a probe would know them by heart")


class _Count:
    """Pictures done, of all."""

    def __init__(self, progress: Told | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, more: int) -> None:
        self.done += more
        if self.progress is not None:
            self.progress(self.done, self.total)


@torch.inference_mode()
def _patches(
    backbone: Backbone,
    pictures: SegmentedSet,
    damage: Distortion,
    draw: int | None,
    seed: int,
    batch_size: int | None,
    told: _Count,
) -> Iterator[Float[np.ndarray, "patch dim"]]:
    """The patch features of each picture as one draw of the distortion leaves it; None: of the clean one."""
    at_once = pictures_at_once(batch_size, backbone.device)
    parts = Parts("seeing pictures", "use smaller ones, or a smaller backbone", at_once)

    def look(part: slice) -> Float[np.ndarray, "picture patch dim"]:
        numbers = range(part.start, part.stop)
        images = pictures.images.stack(numbers).to(backbone.device)
        if draw is not None:
            images = damage(images, seed=seed, indices=numbers)
        return backbone.trace(images, layers=-1, attention=None).patches[:, -1].float().cpu().numpy()

    for _, found in parts(look, len(pictures)):
        yield from found
        told(len(found))


def _patch_classes(pictures: SegmentedSet, index: int, grid: Grid) -> UInt8[np.ndarray, " patch"]:
    """The class of most pixels of each patch; `IGNORED` where that is none."""
    mask = pictures.mask(index)
    known = np.isin(mask, [*pictures.classes])
    rows = np.arange(mask.shape[0]) * grid.rows // mask.shape[0]
    cols = np.arange(mask.shape[1]) * grid.cols // mask.shape[1]
    counts = np.zeros((grid.patches, IGNORED + 1), dtype=np.int64)
    np.add.at(counts, (rows[:, None] * grid.cols + cols, np.where(known, mask, IGNORED)), 1)
    return counts.argmax(axis=1).astype(np.uint8)


def _segmented(
    probe: Probe, patches: Float[np.ndarray, "patch dim"], backbone: Backbone, pictures: SegmentedSet
) -> Int[np.ndarray, "height width"]:
    """The place of each pixel's most likely class among all classes."""
    likely = torch.from_numpy(probe.probabilities(patches)).T.reshape(1, -1, *backbone.grid)
    enlarged = interpolate(likely, size=backbone.height_width, mode="bilinear", align_corners=False)
    places = {value: place for place, value in enumerate(pictures.classes)}
    return np.array([places[value] for value in probe.classes])[enlarged[0].argmax(dim=0).numpy()]


def _indices(pictures: SegmentedSet, mask: UInt8[np.ndarray, "height width"]) -> Int[np.ndarray, "height width"]:
    """Places of the classes of pixels among all classes; -1 for none."""
    table = np.full(IGNORED + 1, -1)
    table[[*pictures.classes]] = np.arange(len(pictures.classes))
    return table[mask]


def _counted(
    truth: Int[np.ndarray, "height width"], predicted: Int[np.ndarray, "height width"], classes: int
) -> Int[np.ndarray, "class class"]:
    known = truth >= 0
    return np.bincount(truth[known] * classes + predicted[known], minlength=classes**2).reshape(classes, classes)


def _iou(counts: Int[np.ndarray, "*draw class class"]) -> Float[np.ndarray, "*draw class"]:
    """Intersection over union of each class; NaN for classes without a true pixel."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    true, given = counts.sum(axis=-1), counts.sum(axis=-2)
    return np.where(true > 0, right / np.maximum(true + given - right, 1), np.nan)


def _miou(counts: Int[np.ndarray, "*draw class class"]) -> Float[np.ndarray, "*draw"]:
    return np.nanmean(_iou(counts), axis=-1)
