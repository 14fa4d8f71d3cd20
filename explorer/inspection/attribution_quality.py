"""How far an attribution can be believed: `quality`.

Enters: a backbone and what `attribution` returned for it. Leaves: infidelity and sensitivity (Captum), what becomes of
the score as patches go and come in the heatmap's order, and whether it points at what is known to be there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import reduce, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from explorer.errors import InputError, seed_number, whole_number
from explorer.evaluation.features import Told
from explorer.inspection.attribution import Attribution
from explorer.inspection.attribution_methods import WAYS, captum_part
from explorer.inspection.attribution_problem import Problem, frozen_copy, goal_of, one_picture
from explorer.models.backbones import Backbone
from explorer.system.precision import outside_autocast


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How far an attribution can be believed (Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations").

    Attributes:
        infidelity: mean squared difference between what the heatmap predicts for a hidden square and how much the score
            really fell, at the heatmap's best scale (Captum, normalize=True). 0 is best; in squared units of the score.
        unexplained: infidelity as a share of the mean squared fall: 0 is a perfect prediction, 1 none at all. Unlike
            infidelity it can be compared between views whose scores move by different amounts.
        sensitivity: the largest relative change of the heatmap under slight noise; 0 is best.
        deletion, insertion: `RemovalCurves.deletion_area` and `.insertion_area`.
    """

    infidelity: float
    unexplained: float
    sensitivity: float
    deletion: float = math.nan
    insertion: float = math.nan

    @property
    def verdict(self) -> str:
        """What the heatmap does, in words."""
        explains = next((words for most, words in _VERDICTS if self.unexplained <= most), "nothing")
        moves = ", and changes completely under noise that nobody sees" if self.sensitivity > 1 else ""
        return f"explains {explains} of the score{moves}"


_NO_FALL = 1e-6  # of scores in float32: below it is rounding
_VERDICTS = ((0.3, "most"), (0.7, "some"), (0.95, "little"))  # by the largest share that is unexplained


@dataclass(frozen=True, kw_only=True, eq=False)
class RemovalCurves:
    """What becomes of the score as the patches that a heatmap ranks highest are hidden, or are all that is shown
    (Petsiuk et al. 2018, "RISE", there from pixels).

    Attributes:
        shares: of the patches that were taken, from 0 to 1.
        deletion: the score with these hidden by the baseline; 1 is the picture's score and 0 the baseline's.
        insertion: the score with these alone laid over the baseline.
        fall: the picture's score minus the baseline's, which the curves are shares of.
    """

    shares: Float[Tensor, " step"]
    deletion: Float[Tensor, " step"]
    insertion: Float[Tensor, " step"]
    fall: float

    @property
    def deletion_area(self) -> float:
        """Below the curve: 0.5 is what a fall in even steps has, lower is better. NaN without a score to lose, as where
        the baseline has more of it than a damaged picture."""
        return self._area(self.deletion)

    @property
    def insertion_area(self) -> float:
        """Below the curve: higher is better. NaN as above."""
        return self._area(self.insertion)

    def _area(self, curve: Tensor) -> float:
        return torch.trapezoid(curve, self.shares).item() if self.fall > _NO_FALL else math.nan


@torch.inference_mode()
@outside_autocast()
def removal_curves(
    backbone: Backbone, explained: Attribution, steps: int = 16, progress: Told | None = None
) -> RemovalCurves:
    """Hide the patches in the heatmap's order, the highest first, and show them in the same order; two pictures for
    each step.

    Args:
        backbone: the one that was explained.
        explained: what `attribution` returned for it; its settings say what the baseline is.
        steps: into which the order is cut, at most one for each patch.
        progress: is told (passes done, all of them).

    Raises:
        ValueError: no steps, or a backbone of another image or embedding size.
    """
    steps = whole_number("steps", steps, 1)
    return _removal(_problem(backbone, explained), explained, steps, progress)


def points_at(explained: Attribution, mask: Bool[Tensor, "height width"]) -> bool:
    """Whether the highest patch of the heatmap covers a part of the mask, such as an object's, that is at least half of
    the patch: the pointing game (Zhang et al. 2018, "Top-down Neural Attention by Excitation Backprop"), by patches.

    Raises:
        ValueError: a mask of another size than the picture.
    """
    if mask.shape != explained.image.shape[1:]:
        raise InputError(
            f"the mask belongs to a picture of {tuple(explained.image.shape[1:])} px; got {tuple(mask.shape)}"
        )
    rows, cols = explained.grid
    inside = reduce(mask.float(), "(r a) (c b) -> (r c)", "mean", r=rows, c=cols)
    return bool(inside[int(explained.by_patch().flatten().argmax())] >= 0.5)


@torch.inference_mode(False)
@outside_autocast()
def quality(
    backbone: Backbone,
    explained: Attribution,
    *,
    samples: int = 32,
    neighbours: int = 4,
    radius: float = 0.02,
    steps: int = 8,
    seed: int = 0,
    progress: Told | None = None,
) -> Quality:
    """Test an attribution: does it foretell what hiding squares does, and does it stay when the picture barely changes?

    It costs about `samples` forward passes, two for each of `steps`, and `neighbours` further attributions; memory
    stays that of the attribution.

    Args:
        backbone: the one that was explained.
        explained: what `attribution` returned for it.
        samples: hidden squares (of one patch up to half of the grid's shorter side), replaced by the baseline.
        neighbours: noisy copies of the picture.
        radius: the noise is uniform within this distance, in [0, 1] pixel values.
        steps: as in `removal_curves`.
        seed: of squares and noise.
        progress: is told (squares, steps and noisy copies done, all of them).

    Raises:
        ValueError: no samples, steps or neighbours, radius not above 0, or a backbone of another image or embedding
            size.
        ImportError: captum is not installed.
    """
    if samples < 1 or neighbours < 1 or steps < 1 or not radius > 0:
        raise InputError(
            f"samples, neighbours and steps are at least 1 and radius is above 0; got {samples}, {neighbours}, {steps} "
            f"and {radius}"
        )
    steps, seed = min(steps, explained.grid.patches), seed_number(seed, 63)
    problem, total, done = _problem(backbone, explained), samples + 2 * steps + neighbours, 0

    def told(more: int) -> None:
        nonlocal done
        done = min(done + more, total)
        if progress is not None:
            progress(done, total)

    infidelity, moved = _infidelity(problem, explained, samples, torch.Generator().manual_seed(seed), told)
    curves = _removal(problem, explained, steps, lambda *_: told(2))
    return Quality(
        infidelity=infidelity,
        unexplained=infidelity / moved if moved else 0.0,
        sensitivity=_sensitivity(problem, explained, neighbours, radius, torch.Generator().manual_seed(seed), told),
        deletion=curves.deletion_area,
        insertion=curves.insertion_area,
    )


# How good they are.


def _problem(backbone: Backbone, explained: Attribution) -> Problem:
    frozen = frozen_copy(backbone)
    picture = one_picture(frozen, explained.image)
    return Problem(frozen, picture, explained.settings, goal_of(explained.toward, frozen, explained.towards))


@torch.no_grad()
def _removal(problem: Problem, explained: Attribution, steps: int, progress: Told | None) -> RemovalCurves:
    grid = explained.grid
    order = explained.by_patch().flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    height, width = problem.picture.shape[2:]
    place = repeat(rank.reshape(grid), "r c -> 1 1 (r a) (c b)", a=height // grid.rows, b=width // grid.cols).to(
        problem.picture.device
    )
    counts = torch.linspace(0, len(order), min(steps, len(order)) + 1).round().long()

    def scored(*pictures: Tensor) -> Tensor:
        parts = torch.cat(pictures).split(problem.settings.internal_batch_size)
        return torch.cat([problem.score(part) for part in parts])

    ends = scored(problem.picture, problem.baseline)
    scores = []
    for number, count in enumerate(counts[1:-1], start=1):
        taken = place < count
        hidden = torch.where(taken, problem.baseline, problem.picture)
        shown = torch.where(taken, problem.picture, problem.baseline)
        scores.append(scored(hidden, shown))
        if progress is not None:
            progress(number, len(counts) - 1)
    if progress is not None:
        progress(len(counts) - 1, len(counts) - 1)
    values = torch.stack([ends, *scores, ends.flip(0)]).cpu().double()
    fall = (values[0, 0] - values[0, 1]).item()
    curves = (values - values[0, 1]) / fall if abs(fall) > _NO_FALL else torch.full_like(values, torch.nan)
    return RemovalCurves(shares=counts / len(order), deletion=curves[:, 0], insertion=curves[:, 1], fall=fall)


def _infidelity(
    problem: Problem, explained: Attribution, samples: int, generator: torch.Generator, told: Callable[[int], None]
) -> tuple[float, float]:
    """Captum's infidelity, and the mean squared change of the score that it is a part of."""
    squares: list[Tensor] = []

    def watched(pictures: Tensor) -> Tensor:
        # After each part of the samples Captum asks for the picture itself, whose score has not changed: no square.
        values = problem.score(pictures)
        squares.append(((values - explained.target) ** 2).sum())
        told(len(pictures) if len(squares) % 2 else 0)
        return values

    def hide(pictures: Tensor) -> tuple[Tensor, Tensor]:
        masks = torch.stack([_square(problem, generator) for _ in pictures]).expand_as(pictures)
        return masks, torch.where(masks > 0, problem.baseline, pictures)

    value = captum_part("metrics").infidelity(
        watched,
        hide,
        problem.picture,
        _over_pixels(explained, problem.picture),
        n_perturb_samples=samples,
        max_examples_per_batch=min(samples, problem.settings.internal_batch_size),
        normalize=True,
    )
    return max(value.item(), 0.0), torch.stack(squares).sum().item() / samples


def _square(problem: Problem, generator: torch.Generator) -> Float[Tensor, "1 height width"]:
    """A square of patches somewhere on the grid: 1 inside, 0 outside (Yeh et al. 2019, square removal)."""
    rows, cols = problem.backbone.grid
    side = _draw(1, max(1, min(rows, cols) // 2), generator)
    top, left = _draw(0, rows - side, generator), _draw(0, cols - side, generator)
    mask = torch.zeros(rows, cols, dtype=problem.picture.dtype)
    mask[top : top + side, left : left + side] = 1
    height, width = problem.picture.shape[2:]
    return repeat(mask, "r c -> 1 (r a) (c b)", a=height // rows, b=width // cols).to(problem.picture.device)


def _draw(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def _over_pixels(explained: Attribution, picture: Tensor) -> Float[Tensor, "1 3 height width"]:
    """The heatmap shared out over the picture's values, so that sums over a region are what the heatmap says of it."""
    height, width = picture.shape[2:]
    down, across = height // explained.heatmap.shape[0], width // explained.heatmap.shape[1]
    return repeat(explained.heatmap / (3 * down * across), "r c -> 1 3 (r a) (c b)", a=down, b=across)


def _sensitivity(
    problem: Problem,
    explained: Attribution,
    neighbours: int,
    radius: float,
    generator: torch.Generator,
    told: Callable[[int], None],
) -> float:
    run = WAYS[explained.method].run

    def explain(pictures: Tensor | tuple[Tensor, ...]) -> tuple[Tensor]:
        # Always a tuple: Captum goes through what it gets for the tuple of inputs item by item.
        batch = pictures if isinstance(pictures, Tensor) else pictures[0]
        return (torch.stack([heatmap_of(picture[None]) for picture in batch]),)

    def heatmap_of(picture: Tensor) -> Tensor:
        if torch.equal(picture, problem.picture):
            return explained.heatmap
        heatmap = run(Problem(problem.backbone, picture, problem.settings, problem.goal)).detach()
        told(1)
        return heatmap

    def shake(pictures: Tensor) -> Tensor:
        noise = torch.rand(pictures.shape, generator=generator, dtype=torch.float64) * 2 - 1
        return pictures + radius * noise.to(pictures)

    value = captum_part("metrics").sensitivity_max(
        explain, problem.picture, shake, n_perturb_samples=neighbours, max_examples_per_batch=1
    )
    return value.max().item()
