"""What patch features are worth: `evaluate_dense`, semantic segmentation on frozen features.

Enters: a pair, pictures with a class for each pixel to learn from, and others to test on. Leaves: a `DenseEvaluation`:
mean intersection over union (mIoU) of four views (teacher and student, clean and distorted), by two protocols. Linear:
logistic regression on frozen patch features, whose class probabilities are enlarged bilinearly to the picture (Oquab et
al. 2023, DINOv2, "linear"); here scikit-learn's, fitted on whole patches. Propagation: a vote of the nearest labelled
patches, without training (Caron et al. 2021, DINO, 4.2.2, there from frame to frame of a video). All labelled patches
are held in memory: 0.4 MB a picture for a ViT-S/14 at 224 px.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import mean, stdev
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from explorer.analysis.dense import LabelVote
from explorer.data.masks import IGNORED, SegmentedSet, expect_segmented
from explorer.distortions import Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.errors import InputError, seed_number, whole_number
from explorer.evaluation.embedding import VIEWS
from explorer.evaluation.evaluation import draw_seed, gap_closed
from explorer.evaluation.features import Told
from explorer.evaluation.intervals import resamples_of
from explorer.evaluation.patch_probes import REGULARISATION, patch_labels, patches_of
from explorer.evaluation.probes import Probe, fit_on_features
from explorer.models.backbones import Backbone
from explorer.models.pairs import Pair

if TYPE_CHECKING:
    import pandas

NEIGHBOURS = 10
"""How many labelled patches vote for the class of a patch."""
_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentation:
    """What one protocol made of the test pictures.

    Attributes:
        pixels: each of `VIEWS` -> for each draw, picture and class, how many pixels are of this class and were called
            so, how many are of it, and how many were called so.
        predicted: each of `VIEWS` -> the value of the class of each pixel, in the first draw.
        seed: of the bootstrap.
    """

    pixels: dict[str, Int[np.ndarray, "draw picture 3 class"]]
    predicted: dict[str, UInt8[np.ndarray, "picture height width"]]
    seed: int

    @property
    def miou(self) -> dict[str, tuple[float, ...]]:
        """Each of `VIEWS` -> mean intersection over union, over the classes that the test pictures show, for each
        draw."""
        return {view: tuple(_miou(pixels.sum(axis=1)).tolist()) for view, pixels in self.pixels.items()}

    @property
    def gap_closed(self) -> float | None:
        """As `Evaluation.gap_closed`, of mIoU; None where the damage costs the teacher nothing."""
        return gap_closed(self.miou)

    def iou(self, view: str) -> Float[np.ndarray, " class"]:
        """Intersection over union of each class, over all pictures and draws; NaN for one that no picture shows."""
        return _iou(self.pixels[view].sum(axis=(0, 1)))

    def interval(self, view: str) -> tuple[float, float]:
        """95 % bootstrap interval of mIoU over the test pictures."""
        return _middle(self._resampled[view])

    def difference(self, view: str, minus: str, of: "Segmentation | None" = None) -> tuple[float, tuple[float, float]]:
        """mIoU of a view minus that of another one, and its 95 % bootstrap interval over the test pictures.

        The same pictures are drawn for both, so that the difference is a paired one: pictures that are hard for both do
        not widen it.

        Args:
            view: one of `VIEWS`.
            minus: another one.
            of: whose: another result on the same test pictures, such as that of another student; None: this one's.

        Raises:
            ValueError: the other result is of other test pictures, or of another size.
        """
        other = self if of is None else of
        mine, theirs = (whose.pixels[VIEWS[0]][0, :, 1] for whose in (self, other))  # what the masks show
        if not np.array_equal(mine, theirs):
            raise InputError(
                "a paired difference is of two results on the same test pictures, in the same order and size, with the "
                f"same classes; got {len(mine)} and {len(theirs)} pictures, {mine.shape[1]} and {theirs.shape[1]} "
                "classes, whose masks differ"
            )
        drawn = self._resampled[view] - replace(other, seed=self.seed)._resampled[minus]
        return mean(self.miou[view]) - mean(other.miou[minus]), _middle(drawn)

    @cached_property
    def _resampled(self) -> dict[str, Float[np.ndarray, " resample"]]:
        """mIoU, the mean over the draws, for test pictures drawn with replacement."""
        count = self.pixels[VIEWS[0]].shape[1]
        often = resamples_of(count, _RESAMPLES, self.seed)
        return {
            view: _miou(np.einsum("rp,dpkc->rdkc", often, pixels, optimize=True)).mean(axis=1)
            for view, pixels in self.pixels.items()
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseEvaluation:
    """How well patch features tell what stands where. Made by `evaluate_dense`.

    Attributes:
        linear: by a linear probe for each view.
        propagation: by the nearest patches of the teacher's clean training pictures.
        test: the pictures and masks that it was tested on, at the size of the pair.
        classes: value in a mask -> name, of the classes that occur; the axis "class" of both is in this order.
        distortion: what damaged the pictures.
        train_pictures: how many labelled pictures there were.
        draws, seed: as given to `evaluate_dense`.
    """

    linear: Segmentation
    propagation: Segmentation
    test: SegmentedSet
    classes: dict[int, str]
    distortion: Distortion
    train_pictures: int
    draws: int
    seed: int

    def distorted(self, index: int) -> Float[Tensor, "3 height width"]:
        """Test picture `index` as the first draw left it (on the processor: a GPU draws other numbers)."""
        image = self.test.images.stack([index])
        return self.distortion(image, seed=draw_seed(self.seed, 0, "test"), indices=[index])[0]

    def frame(self) -> "pandas.DataFrame":
        """One row for each view: view; miou of the linear probe (mean over the draws), std (over the draws; NaN for one
        draw), low and high (`Segmentation.interval`); the same of propagation, as propagation_miou, propagation_std,
        propagation_low and propagation_high; draws, train_pictures, test_pictures."""
        import pandas

        rows = [
            {"view": view, **_told(self.linear, view, ""), **_told(self.propagation, view, "propagation_")}
            for view in VIEWS
        ]
        counts = {"draws": self.draws, "train_pictures": self.train_pictures, "test_pictures": len(self.test)}
        return pandas.DataFrame(rows).assign(**counts)

    def by_class(self) -> "pandas.DataFrame":
        """One row for each view and class: view, class, iou and propagation_iou (`Segmentation.iou`)."""
        import pandas

        tables = [
            pandas.DataFrame(
                {
                    "view": view,
                    "class": [*self.classes.values()],
                    "iou": self.linear.iou(view),
                    "propagation_iou": self.propagation.iou(view),
                }
            )
            for view in VIEWS
        ]
        return pandas.concat(tables, ignore_index=True)


def evaluate_dense(
    pair: Pair,
    train: SegmentedSet,
    test: SegmentedSet,
    draws: int = 1,
    seed: int = 0,
    *,
    distortion: str | Distortion | None = None,
    batch_size: int | None = None,
    progress: Told | None = None,
) -> DenseEvaluation:
    """Semantic segmentation by frozen patch features, for teacher and student, clean and distorted.

    Two protocols. "linear" asks what the features of a view hold: a logistic regression (scikit-learn's, C = 0.01, on
    standardised features) is fitted on training patches of that very view, as in Ravula et al. 2021. "propagation" asks
    whether they are still what the teacher sees in clean pictures: for all views, the 10 nearest patches of the
    teacher's *clean* training pictures vote, by cosine after their mean was subtracted. Nothing is learned there.

    A training patch has the class of most of its pixels. mIoU counts pixels of all test pictures together; a class that
    the training pictures do not show is counted as missed.

    Args:
        train: pictures whose patches are labelled.
        test: others, with the same classes.
        draws, seed, distortion, batch_size, progress: as in `explorer.evaluate`.

    Raises:
        ValueError: other classes in test than in train, pictures that are in both, masks that show no class or a single
            one, or numbers out of range.
        ImageError: a picture or a mask is damaged.
    """
    expect_segmented(train, test)
    draws, seed = whole_number("draws", draws, 1), seed_number(seed)
    _check_fit(train, test)
    damage = pair.distortion if distortion is None else parse_distortion(distortion)
    count = draws if damage.stochastic else 1
    train, test = (pictures.resized(pair.teacher.image_size) for pictures in (train, test))
    for pictures in (train, test):
        pictures.images.check()  # all of them, before the work on any
    labels = patch_labels(train, pair.teacher.grid)
    truth = np.stack([test.mask(index) for index in range(len(test))])
    classes = _shown(test, labels, truth)
    known = labels != IGNORED
    look = _Look(damage, seed, batch_size, progress, total=(len(train) + len(test)) * (2 + 2 * count))
    pixels: dict[str, list[np.ndarray]] = {}
    predicted: dict[str, np.ndarray] = {}
    vote = None
    for view in VIEWS:
        backbone = pair.teacher if view.startswith("teacher") else pair.student
        pixels[view] = []
        for draw in range(count) if view.endswith("distorted") else (None,):
            rows = np.concatenate([*look(backbone, train, draw, "train")])[known]
            if vote is None:  # the first view is the reference: the clean teacher
                vote = LabelVote(rows, labels[known], rows.mean(axis=0), NEIGHBOURS)
            probe = fit_on_features("linear", rows, labels[known], regularisation=REGULARISATION)
            both = [_segmented((probe, vote), patches, backbone) for patches in look(backbone, test, draw, "test")]
            drawn = np.stack(both, axis=1)
            predicted.setdefault(view, drawn)
            pixels[view].append(np.stack([_counted(truth, values, [*classes]) for values in drawn]))
    linear, propagation = (
        Segmentation(
            pixels={view: np.stack([drawn[which] for drawn in pixels[view]]) for view in VIEWS},
            predicted={view: predicted[view][which] for view in VIEWS},
            seed=seed,
        )
        for which in range(2)
    )
    return DenseEvaluation(
        linear=linear,
        propagation=propagation,
        test=test,
        classes=classes,
        distortion=damage,
        train_pictures=len(train),
        draws=count,
        seed=seed,
    )


def _check_fit(train: SegmentedSet, test: SegmentedSet) -> None:
    if not len(train) or not len(test):
        raise InputError(f"expected pictures to learn from and to test on; got {len(train)} and {len(test)}")
    if train.classes != test.classes:
        raise InputError(f"train and test must have the same classes; got {train.classes} and {test.classes}")
    if shared := {mask.resolve() for mask in train.masks} & {mask.resolve() for mask in test.masks}:
        raise InputError(f"{len(shared)} pictures are in train and in test, so that a probe would know them by heart")


def _shown(
    test: SegmentedSet, labels: UInt8[np.ndarray, " patch"], truth: UInt8[np.ndarray, "picture height width"]
) -> dict[int, str]:
    """The classes that occur."""
    learned, tested = (set(np.unique(values).tolist()) - {IGNORED} for values in (labels, truth))
    for part, values in (("training", learned), ("test", tested)):
        if not values:
            raise InputError(
                f"no {'patch' if part == 'training' else 'pixel'} of the {part} pictures belongs to a class: expected "
                f"the values {', '.join(map(str, test.classes))} in their masks; do the masks hold these?"
            )
    return {value: name for value, name in test.classes.items() if value in learned | tested}


class _Look:
    """The patch features of pictures, and progress through all of them."""

    def __init__(
        self, damage: Distortion, seed: int, batch_size: int | None, progress: Told | None, total: int
    ) -> None:
        self.damage, self.seed, self.batch_size, self.progress = damage, seed, batch_size, progress
        self.done, self.total = 0, total

    def __call__(
        self, backbone: Backbone, pictures: SegmentedSet, draw: int | None, part: Literal["train", "test"]
    ) -> Iterator[Float[np.ndarray, "patch dim"]]:
        """Of each picture, as one draw of the distortion leaves it; None: as it is."""
        damage, seed = (None, 0) if draw is None else (self.damage, draw_seed(self.seed, draw, part))
        for found in patches_of(backbone, pictures, damage, seed, self.batch_size):
            yield found
            self.done += 1
            if self.progress is not None:
                self.progress(self.done, self.total)


def _segmented(
    readers: tuple[Probe | LabelVote, ...], patches: Float[np.ndarray, "patch dim"], backbone: Backbone
) -> UInt8[np.ndarray, "reader height width"]:
    """The value of each pixel's most likely class, as each of several readers tells it."""
    told = []
    for reader in readers:
        likely = torch.from_numpy(reader.probabilities(patches)).T.reshape(1, -1, *backbone.grid)
        enlarged = interpolate(likely, size=backbone.height_width, mode="bilinear", align_corners=False)
        told.append(np.array(reader.classes, dtype=np.uint8)[enlarged[0].argmax(dim=0).numpy()])
    return np.stack(told)


def _counted(
    truth: UInt8[np.ndarray, "picture height width"],
    predicted: UInt8[np.ndarray, "picture height width"],
    classes: list[int],
) -> Int[np.ndarray, "picture 3 class"]:
    """Pixels that are of each class and were called so, that are of it, that were called so; those of no class never
    count."""

    def count(values: UInt8[np.ndarray, " pixel"]) -> Int[np.ndarray, " class"]:
        return np.bincount(values, minlength=IGNORED + 1)[classes]

    counts = []
    for true, given in zip(truth, predicted, strict=True):
        known = true != IGNORED
        true, given = true[known], given[known]
        counts.append([count(true[true == given]), count(true), count(given)])
    return np.array(counts)


def _iou(pixels: Shaped[np.ndarray, "*draw 3 class"]) -> Float[np.ndarray, "*draw class"]:
    """Intersection over union of each class; NaN for classes without a true pixel."""
    right, true, given = np.moveaxis(pixels, -2, 0)
    return np.where(true > 0, right / np.maximum(true + given - right, 1), np.nan)


def _miou(pixels: Shaped[np.ndarray, "*draw 3 class"]) -> Float[np.ndarray, "*draw"]:
    """The mean over the classes that have true pixels; NaN where none has."""
    shown = pixels[..., 1, :] > 0
    with np.errstate(invalid="ignore"):
        return _iou(pixels).sum(axis=-1, where=shown) / shown.sum(axis=-1)


def _middle(values: Float[np.ndarray, " resample"]) -> tuple[float, float]:
    low, high = np.nanquantile(values, (0.025, 0.975))
    return float(low), float(high)


def _told(found: Segmentation, view: str, prefix: str) -> dict[str, float]:
    """The columns of a view, as one protocol gives them."""
    values = found.miou[view]
    low, high = found.interval(view)
    numbers = {
        "miou": mean(values),
        "std": stdev(values) if len(values) > 1 else float("nan"),
        "low": low,
        "high": high,
    }
    return {f"{prefix}{name}": number for name, number in numbers.items()}
