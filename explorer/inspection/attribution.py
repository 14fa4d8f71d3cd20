"""Which pixels or patches made the answer: heatmaps towards an embedding or a linear probe's class.

Enters: a backbone, one picture, what it is asked for. Leaves: a heatmap, raw and signed as its method gives it, and an
`Attribution` that also holds the numbers by which to judge it. The backbone is never touched.
Deliberately ignored: colours and scales, which are the business of figures.
"""

from dataclasses import dataclass

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from explorer.distortions import Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.errors import InputError
from explorer.inspection.attribution_methods import WAYS, and_others, gradient_attention, method_of, readout_tokens
from explorer.inspection.attribution_problem import (
    DEFAULTS,
    Baseline,
    Goal,
    Problem,
    Settings,
    Toward,
    cosine_with,
    frozen_copy,
    goal_of,
    one_picture,
)
from explorer.models.backbones import Backbone
from explorer.models.trace import Grid
from explorer.system.precision import outside_autocast

VIEWS = ("teacher_clean", "teacher_distorted", "student_distorted")

_NO_SLOPE = 1e-6  # float32 embeddings agree to about 1e-7: nearer to 1 a gradient of the cosine is rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribution:
    """One picture explained. Made by `attribution` and `attribute_views`.

    Attributes:
        heatmap: "height width" (gradient x attention: "rows cols"), as the method gives it. Signed maps: above 0 speaks
            for the target, below 0 against it.
        method: a name in `METHODS`.
        image: the picture that was explained.
        grid: rows and columns of the backbone's patches.
        target: the score of the picture: a cosine, or a probe's score.
        baseline_target: the score of the baseline.
        completeness: of integrated gradients, the sum of the heatmap minus (target - baseline_target): what was lost
            by taking too few steps. None for the other methods.
        absorbed: of AttnLRP, the target minus the sum of the heatmap: what goes to biases, position embedding, class
            token and registers, and what softmaxes absorb (negative where they add to it). None for the other methods.
        toward: the embedding, or the probe and its label, that the score is for.
        towards: the same in words.
        settings: how it was computed.
    """

    heatmap: Float[Tensor, "height width"] | Float[Tensor, "rows cols"]
    method: str
    image: Float[Tensor, "3 height_px width_px"]
    grid: Grid
    target: float
    baseline_target: float
    completeness: float | None
    absorbed: float | None
    toward: Toward
    towards: str
    settings: Settings

    @property
    def called(self) -> str:
        """What people call the method."""
        return WAYS[self.method].called

    @property
    def signed(self) -> bool:
        """Whether values below 0 mean "against the target"; otherwise there are none."""
        return WAYS[self.method].signed

    def by_patch(self) -> Float[Tensor, "rows cols"]:
        """The heatmap over the patch grid: sums for integrated gradients and AttnLRP (they keep their total), otherwise
        means."""
        rows, cols = self.grid
        how = "sum" if WAYS[self.method].shares_out else "mean"
        if self.heatmap.shape == (rows, cols):
            return self.heatmap
        return reduce(self.heatmap, "(r a) (c b) -> r c", how, r=rows, c=cols)


@torch.inference_mode(False)  # gradients are needed, whatever is switched off around
@outside_autocast()
def attribute(
    backbone: Backbone,
    image: Float[Tensor, "*one 3 height width"],
    toward: Toward | None = None,
    method: str = "integrated_gradients",
    *,
    steps: int = 32,
    internal_batch_size: int = 8,
    baseline: Baseline = "mean",
    patch: int | None = None,
    gamma: float = 0.25,
) -> Float[Tensor, "height width"] | Float[Tensor, "rows cols"]:
    """Which parts of a picture bring its embedding near to another one, or to a class.

    Args:
        backbone: is left as it is.
        image: one picture, RGB in [0, 1], of the backbone's image size (a batch of one will do).
        toward: an embedding ("dim"), of this or another picture, such as the clean teacher's: the score is the cosine
            with it. Or (probe, label) with a probe of `fit_probe`, or a linear `Probe` of features: the score is that
            class's, before the softmax. None: the picture's own embedding; for the methods that take one gradient at
            the picture, where the cosine with itself is flat, the direction to it from the embedding of the baseline.
        method: a name in `METHODS`. Nothing in them is random.
        steps, internal_batch_size, baseline, patch, gamma: see `Settings`.

    Returns:
        The heatmap of `Attribution`: "height width"; for gradient x attention "rows cols".

    Raises:
        ValueError: unknown method; an embedding of another size, or the picture's own for a method that takes one
            gradient; a probe that is not linear; a model in which the method is not sound; a picture that does not fit.
        ImportError: the method needs captum, which is not installed.
    """
    settings = Settings(
        steps=steps, internal_batch_size=internal_batch_size, baseline=baseline, patch=patch, gamma=gamma
    )
    return _heatmap(_asked(backbone, image, toward, method, settings), method)


@torch.inference_mode(False)
@outside_autocast()
def attribution(
    backbone: Backbone,
    image: Float[Tensor, "*one 3 height width"],
    toward: Toward | None = None,
    method: str = "integrated_gradients",
    settings: Settings = DEFAULTS,
) -> Attribution:
    """As `attribute`, with the score and the numbers by which to judge the heatmap."""
    return _explain(_asked(backbone, image, toward, method, settings), method)


@torch.inference_mode(False)
@outside_autocast()
def attribute_views(
    teacher: Backbone,
    student: Backbone,
    image: Float[Tensor, "*one 3 height width"] | None,
    damage: str | Distortion | Float[Tensor, "*one 3 height width"],
    toward: Toward | None = None,
    method: str = "integrated_gradients",
    settings: Settings = DEFAULTS,
    seed: int = 0,
    student_toward: Toward | None = None,
) -> dict[str, Attribution]:
    """Clean teacher, distorted teacher and distorted student, all towards the same: by default what the clean teacher
    sees; or towards one class, as the probe of each reads it.

    Args:
        teacher, student: of one image size and one embedding size.
        image: the clean picture; None where there is none: then `damage` is a picture, and `toward` is given.
        damage: a spec or a `Distortion`; or the damaged picture itself.
        toward: as in `attribute`; None: the clean teacher's embedding (or the direction to it from its baseline's, by
            the same rule), for all three views.
        method, settings: of all views alike, so that their heatmaps can stand under one scale.
        seed: of the distortion.
        student_toward: the student's own, where it is another one: (its probe, the same label).

    Returns:
        Each of `VIEWS` -> `Attribution`; without a clean picture the distorted ones.

    Raises:
        ValueError: as for `attribute`; or no clean picture, and no damaged one or nothing to go towards.
    """
    method_of(method)
    networks = {"teacher": frozen_copy(teacher), "student": frozen_copy(student)}
    pictures = {} if image is None else {"clean": one_picture(networks["teacher"], image)}
    if not pictures and (toward is None or not isinstance(damage, Tensor)):
        raise InputError(
            "without a clean picture damage is the damaged picture itself, and toward an embedding or (probe, label)"
        )
    pictures["distorted"] = (
        damage if isinstance(damage, Tensor) else parse_distortion(damage)(pictures["clean"], seed=seed)
    )
    problems = {}
    for name in VIEWS:
        who, kind = name.split("_")
        if kind in pictures:
            problems[name] = Problem(networks[who], one_picture(networks[who], pictures[kind]), settings)
    if toward is None:
        goal = _own_goal(problems["teacher_clean"], method, owner="the clean teacher's")
    else:
        goal = goal_of(toward, networks["teacher"])
    own = goal if student_toward is None else goal_of(student_toward, networks["student"])
    views = {}
    for name, problem in problems.items():
        problem.goal = own if name.startswith("student") else goal
        views[name] = _explain(problem, method)
    return views


def _asked(backbone: Backbone, image: Tensor, toward: Toward | None, method: str, settings: Settings) -> Problem:
    method_of(method)
    frozen = frozen_copy(backbone)
    problem = Problem(frozen, one_picture(frozen, image), settings)
    problem.goal = _own_goal(problem, method) if toward is None else goal_of(toward, frozen)
    return problem


def _own_goal(problem: Problem, method: str, owner: str = "the picture's own") -> Goal:
    how = WAYS[method]
    if how.run is gradient_attention:
        readout_tokens(problem.backbone)
        problem.record()  # so that one pass serves both
    own = problem.embedding[0]
    if not how.one_gradient:
        return Goal(toward=own, words=f"cosine with {owner} embedding", score=cosine_with(own))
    # The cosine with itself has no slope. That with the way from "nothing" to it has one, and stays comparable.
    way = own - problem.start[0]
    return Goal(
        toward=way, words=f"cosine with the way from the baseline's to {owner} embedding", score=cosine_with(way)
    )


def _heatmap(problem: Problem, method: str) -> Float[Tensor, "height width"] | Float[Tensor, "rows cols"]:
    how = WAYS[method]
    heatmap = how.run(problem).detach().to(problem.picture.dtype)
    if how.one_gradient and isinstance(problem.goal.toward, Tensor) and abs(1 - problem.target) < _NO_SLOPE:
        raise InputError(
            f"'{method}' takes the gradient of a cosine at the picture; this picture already has the embedding that it "
            f"is asked for, where the cosine is 1 and flat: the heatmap would be rounding. Use toward=None, which "
            f"measures from the baseline, or {and_others(method)}"
        )
    if not torch.isfinite(heatmap).all():
        name = problem.backbone.name
        raise InputError(f"the gradients of '{name}' are not finite here, so that '{method}' shows nothing")
    return heatmap


def _explain(problem: Problem, method: str) -> Attribution:
    heatmap, goal = _heatmap(problem, method), problem.goal
    target, start, total = problem.target, goal.score(problem.start).item(), heatmap.sum().item()
    return Attribution(
        heatmap=heatmap,
        method=method,
        image=problem.picture[0],
        grid=problem.backbone.grid,
        target=target,
        baseline_target=start,
        completeness=total - (target - start) if method == "integrated_gradients" else None,
        absorbed=target - total if method == "attn_lrp" else None,
        toward=goal.toward,
        towards=goal.words,
        settings=problem.settings,
    )
