"""Which pixels or patches made the answer: heatmaps towards an embedding or a linear probe's class.

Enters: a backbone, one picture, what it is asked for. Leaves: a heatmap, raw and signed as its method gives it, and an
`Attribution` that also holds the numbers by which to judge it. The backbone is never touched: all passes run on a copy
of its structure that shares its weights and asks for no gradient of them, so that many threads may explain one model.
Deliberately ignored: colours and scales, which are the business of figures. Integrated gradients, saliency, occlusion,
infidelity and sensitivity are Captum's (an optional dependency, imported when it is first needed).
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from types import ModuleType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from explorer.distortions import Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.errors import InputError, MissingExtraError, did_you_mean, whole_number
from explorer.evaluation.predicting import PictureProbe
from explorer.evaluation.probes import Probe
from explorer.inspection.comparison import FULL_ATTENTION_BYTES
from explorer.models.backbones import Backbone, expect_backbone, without_checkpointing
from explorer.models.capture import AttentionCapture, outputs_edited
from explorer.models.relevance import NoRuleError, RelevanceRules
from explorer.models.trace import Grid
from explorer.system.precision import outside_autocast

Toward = Tensor | tuple[Probe | PictureProbe, Any]
Baseline = Literal["mean", "black", "blur"] | Tensor
Score = Callable[[Tensor], Tensor]
VIEWS = ("teacher_clean", "teacher_distorted", "student_distorted")

_NO_SLOPE = 1e-6  # float32 embeddings agree to about 1e-7: nearer to 1 a gradient of the cosine is rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class Settings:
    """How an attribution is computed; each method reads what it needs.

    Attributes:
        steps: of integrated gradients (Gauss-Legendre). `Attribution.completeness` tells whether they were enough: on
            one photo the S/14 lost 0.14 of a change of 0.78 with 32 of them, and 0.03 with 64.
        internal_batch_size: pictures in one pass at most; this bounds the memory of every method.
        baseline: the picture without information: "mean" (its mean colour), "black", "blur" (Gaussian, sigma 1/16 of
            the shorter side), or a picture of the same size. Integrated gradients start at it; occlusion and `quality`
            put it in place of what they hide. A blur keeps much (the S/14 finds 0.5 to 0.9 of the cosine in it) and
            takes noise away: a noisy picture can score less than its own blur.
        patch: side of the occlusion window in pixels; None: the model's patch.
        gamma: of AttnLRP's rule for linear and convolutional layers, from 0 (its epsilon rule) up: how much more weight
            the contributions get that have the sign of their sum, as the paper does for ViTs. Without it, patches are
            hardly ordered better than by chance: deletion is 0.69 with 0, 0.54 with 0.25, 0.70 for any order on clean
            pictures (docs/attribution.md). 0 takes two thirds of the time.
    """

    steps: int = 32
    internal_batch_size: int = 8
    baseline: Baseline = "mean"
    patch: int | None = None
    gamma: float = 0.25

    def __post_init__(self) -> None:
        for name in ("steps", "internal_batch_size", "patch"):
            if name != "patch" or self.patch is not None:
                whole_number(name, getattr(self, name), 1)
        if isinstance(self.gamma, bool) or not isinstance(self.gamma, int | float) or not 0 <= self.gamma < math.inf:
            raise InputError(f"gamma is a finite number from 0 up; got {self.gamma!r}")


DEFAULTS = Settings()


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
    _method(method)
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


# One problem: a frozen model, a picture, its baseline, and a score.


@dataclass(frozen=True, kw_only=True, eq=False)
class _Goal:
    """What is scored: the thing itself, in words, and as a function of embeddings ("batch dim" -> "batch")."""

    toward: Toward
    words: str
    score: Score


class Problem:
    """A frozen model and a picture, and what is asked; picture and baseline are looked at once."""

    goal: _Goal

    def __init__(
        self,
        backbone: Backbone,
        picture: Float[Tensor, "1 3 height width"],
        settings: Settings,
        goal: _Goal | None = None,
    ) -> None:
        self.backbone, self.picture, self.settings = backbone, picture, settings
        self.baseline = _baseline(picture, settings.baseline)
        self._recorded: tuple[Tensor, list[Tensor]] | None = None
        if goal is not None:
            self.goal = goal

    @cached_property
    def embedding(self) -> Float[Tensor, "1 dim"]:
        """That of the picture."""
        with torch.no_grad():
            return _embed(self.backbone, self.picture)

    @cached_property
    def start(self) -> Float[Tensor, "1 dim"]:
        """That of the baseline."""
        with torch.no_grad():
            return _embed(self.backbone, self.baseline)

    @property
    def target(self) -> float:
        """The score of the picture."""
        return self.goal.score(self.embedding).item()

    def record(self) -> None:
        """Look at the picture so that `recorded` has it."""
        with torch.enable_grad(), AttentionCapture(rows="all") as capture:
            embedding = _embed(self.backbone, self.picture.clone().requires_grad_())
        self.backbone.check_calls(capture.seen)
        calls = self.backbone.reader.calls.of(range(self.backbone.depth))
        self.embedding = embedding.detach()
        self._recorded = embedding, [capture.kept[number] for number in calls]

    def recorded(self) -> tuple[Float[Tensor, "1 dim"], list[Float[Tensor, "1 head token token"]]]:
        """The picture's embedding and the attention of all blocks, both differentiable; handed out, as it is large."""
        if self._recorded is None:
            self.record()
        found, self._recorded = self._recorded, None
        assert found is not None
        return found

    def score(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, " batch"]:
        """The score of each picture; differentiable where gradients are on."""
        return self.goal.score(_embed(self.backbone, pictures))


def _asked(backbone: Backbone, image: Tensor, toward: Toward | None, method: str, settings: Settings) -> Problem:
    _method(method)
    frozen = frozen_copy(backbone)
    problem = Problem(frozen, one_picture(frozen, image), settings)
    problem.goal = _own_goal(problem, method) if toward is None else goal_of(toward, frozen)
    return problem


def _heatmap(problem: Problem, method: str) -> Float[Tensor, "height width"] | Float[Tensor, "rows cols"]:
    how = WAYS[method]
    heatmap = how.run(problem).detach().to(problem.picture.dtype)
    if how.one_gradient and isinstance(problem.goal.toward, Tensor) and abs(1 - problem.target) < _NO_SLOPE:
        raise InputError(
            f"'{method}' takes the gradient of a cosine at the picture; this picture already has the embedding that it "
            f"is asked for, where the cosine is 1 and flat: the heatmap would be rounding. Use toward=None, which "
            f"measures from the baseline, or {_and_others(method)}"
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


def _and_others(method: str) -> str:
    others = [f"'{name}'" for name, how in WAYS.items() if name != method and not how.one_gradient]
    return " or ".join(f"method={name}" for name in others)


def frozen_copy(backbone: Backbone) -> Backbone:
    """The same weights in the same storage under a structure of its own, where no parameter asks for a gradient.

    Switching `requires_grad` off and on again on the module itself would be seen by every other thread that uses it.

    Raises:
        ValueError: parts are replaced by `explorer.intervene`, which the copy's would not be.
    """
    expect_backbone(backbone, "attribution")
    if outputs_edited():
        raise InputError("an attribution goes through a copy, whose parts are not replaced: ask outside of intervene()")
    shared: dict[int, Any] = {id(buffer): _plain(buffer) for buffer in backbone.module.buffers()}
    for parameter in backbone.module.parameters():
        shared[id(parameter)] = nn.Parameter(_plain(parameter.detach()), requires_grad=False)
    return backbone.with_module(copy.deepcopy(backbone.module, shared))


def _plain(tensor: Tensor) -> Tensor:
    """Itself; a copy of what was made in inference mode, through which no gradient is taken."""
    return tensor.clone() if tensor.is_inference() else tensor


def _embed(backbone: Backbone, pictures: Tensor) -> Float[Tensor, "batch dim"]:
    return backbone.trace(pictures, layers=-1, attention=None, grad=torch.is_grad_enabled()).embedding


def one_picture(backbone: Backbone, image: Tensor) -> Float[Tensor, "1 3 height width"]:
    """As a batch of one, where the backbone is and in its precision; `Backbone.trace` checks the range of values."""
    height, width = backbone.height_width
    float_tensor = isinstance(image, Tensor) and image.is_floating_point()
    if not float_tensor or image.shape[-3:] != (3, height, width) or image.ndim not in (3, 4):
        got = f"{tuple(image.shape)} of {image.dtype}" if isinstance(image, Tensor) else type(image).__name__
        raise InputError(
            f"expected one picture '3 height width' of floats, here {(3, height, width)}; got {got}. Load it at the "
            f"backbone's size: load_image(path, size={backbone.image_size})"
        )
    if image.ndim == 4 and len(image) != 1:
        raise InputError(f"one picture is explained at a time; got a batch of {len(image)}: call it for each of them")
    batch = image.detach() if image.ndim == 4 else image.detach()[None]
    return _plain(batch.to(device=backbone.device, dtype=next(backbone.module.parameters()).dtype))


def _baseline(picture: Tensor, kind: Baseline) -> Float[Tensor, "1 3 height width"]:
    if isinstance(kind, Tensor):
        given = kind.detach() if kind.ndim == 4 else kind.detach()[None]
        if given.shape != picture.shape:
            raise InputError(
                f"the baseline is a picture of the same size, {tuple(picture.shape[1:])}; got {tuple(kind.shape)}"
            )
        return _plain(given.to(picture))
    if kind not in _BASELINES:
        raise InputError(f"baseline must be {', '.join(map(repr, _BASELINES))} or a picture; got {kind!r}")
    return _BASELINES[kind](picture)


def _blurred(picture: Tensor) -> Tensor:
    """Sigma is 1/16 of the shorter side (14 px at 224), cut at three sigma; one axis after the other is cheaper."""
    import torchvision.transforms.v2.functional as tvf  # late: it takes longer than torch itself

    sigma = min(picture.shape[2:]) / 16
    kernel = 2 * math.floor(3 * sigma) + 1
    across = tvf.gaussian_blur(picture, kernel_size=[kernel, 1], sigma=[sigma, sigma])
    return tvf.gaussian_blur(across, kernel_size=[1, kernel], sigma=[sigma, sigma])


_BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda picture: picture.mean(dim=(2, 3), keepdim=True).expand_as(picture).clone(),
    "black": torch.zeros_like,
    "blur": _blurred,
}


# What is scored.


def goal_of(toward: Toward, backbone: Backbone, words: str | None = None) -> _Goal:
    if isinstance(toward, Tensor):
        direction = _direction(toward, backbone)
        return _Goal(toward=direction, words=words or "cosine with the given embedding", score=_cosine(direction))
    if not isinstance(toward, tuple) or len(toward) != 2 or not isinstance(toward[0], Probe | PictureProbe):
        raise InputError(
            f"toward is an embedding, (probe, label) or None; got {type(toward).__name__}. A probe comes with the "
            f"class that is asked for: toward=(probe, label)"
        )
    probe, label = toward[0].probe if isinstance(toward[0], PictureProbe) else toward[0], toward[1]
    return _Goal(
        toward=(probe, label), words=f"probe's score for {label!r}", score=_probe_score(probe, label, backbone)
    )


def _own_goal(problem: Problem, method: str, owner: str = "the picture's own") -> _Goal:
    how = WAYS[method]
    if how.run is _gradient_attention:
        _readout_tokens(problem.backbone)
        problem.record()  # so that one pass serves both
    own = problem.embedding[0]
    if not how.one_gradient:
        return _Goal(toward=own, words=f"cosine with {owner} embedding", score=_cosine(own))
    # The cosine with itself has no slope. That with the way from "nothing" to it has one, and stays comparable.
    way = own - problem.start[0]
    return _Goal(toward=way, words=f"cosine with the way from the baseline's to {owner} embedding", score=_cosine(way))


def _direction(toward: Tensor, backbone: Backbone) -> Float[Tensor, " dim"]:
    flat = toward.detach()[0] if toward.ndim == 2 and len(toward) == 1 else toward.detach()
    if flat.shape != (backbone.dim,):
        raise InputError(
            f"'{backbone.name}' has embeddings of size {backbone.dim}; toward has the shape {tuple(toward.shape)}. "
            f"Give the embedding of one picture: trace(images).embedding[0]"
        )
    if not torch.isfinite(flat).all():
        raise InputError("toward holds NaN or infinite values: look for what broke the model that it came from")
    return _plain(flat.to(device=backbone.device, dtype=next(backbone.module.parameters()).dtype))


def _cosine(direction: Tensor) -> Score:
    return lambda embedding: F.cosine_similarity(embedding, direction[None], dim=1)


def _probe_score(probe: Probe, label: Any, backbone: Backbone) -> Score:
    """One row of the logistic regression, before the softmax, as a linear function of the embedding."""
    if probe.kind != "linear":
        raise InputError(
            f"a gradient needs a probe that is a smooth function of features: kind 'linear'; got '{probe.kind}'. Fit "
            f"one with explorer.evaluation.probes.fit_probe('linear', features, labels)"
        )
    if label not in probe.classes:
        hint = did_you_mean(str(label), map(str, probe.classes)) or "."
        raise InputError(f"the probe knows no class {label!r}{hint} It has: {', '.join(map(repr, probe.classes))}")
    scaler, model = probe.estimator[0], probe.estimator[-1]
    if scaler.n_features_in_ != backbone.dim:
        raise InputError(
            f"the probe was fitted on features of size {scaler.n_features_in_}; '{backbone.name}' has {backbone.dim}"
        )
    place, sign = probe.classes.index(label), 1.0
    if len(model.coef_) == 1:  # two classes share one row, written for the second
        place, sign = 0, 1.0 if place else -1.0
    weight = torch.from_numpy(sign * model.coef_[place] / scaler.scale_)
    bias = sign * float(model.intercept_[place]) - float(weight @ torch.from_numpy(scaler.mean_))
    weight = weight.to(device=backbone.device, dtype=next(backbone.module.parameters()).dtype)
    return lambda embedding: embedding @ weight + bias


# The methods.


def _integrated_gradients(problem: Problem) -> Float[Tensor, "height width"]:
    method = captum_part("attr").IntegratedGradients(problem.score)
    batch = problem.settings.internal_batch_size
    start, steps = problem.baseline, problem.settings.steps
    values = method.attribute(problem.picture, baselines=start, n_steps=steps, internal_batch_size=batch)
    return values[0].sum(dim=0)


def _saliency(problem: Problem) -> Float[Tensor, "height width"]:
    # A clone, as Captum switches requires_grad on the tensor that it is given.
    picture = problem.picture.clone().requires_grad_()
    return captum_part("attr").Saliency(problem.score).attribute(picture, abs=True)[0].amax(dim=0)


def _occlusion(problem: Problem) -> Float[Tensor, "height width"]:
    window = _window(problem)
    with torch.no_grad():
        values = (
            captum_part("attr")
            .Occlusion(problem.score)
            .attribute(
                problem.picture,
                sliding_window_shapes=(3, *window),
                strides=(3, *window),
                baselines=problem.baseline,
                perturbations_per_eval=problem.settings.internal_batch_size,
            )
        )
    return values[0, 0]


def _window(problem: Problem) -> tuple[int, int]:
    (height, width), grid, side = problem.backbone.height_width, problem.backbone.grid, problem.settings.patch
    if side is None:
        return height // grid.rows, width // grid.cols
    if side > min(height, width):
        raise InputError(f"patch, the occlusion window, has {side} px; the picture only {height} x {width} px")
    return side, side


def _gradient_attention(problem: Problem) -> Float[Tensor, "rows cols"]:
    """Relevance of patches for the class token (Chefer et al. 2021, "Generic Attention-model Explainability").

    Equation 5: A' = mean over heads of (dy/dA * A)+; equation 6: R = R + A' R from the identity on; then the class
    token's row. Where the embedding is made from class and distillation token together, the mean of both rows.

    As only these rows are asked for, they are followed from the last block to the first, r = r + r A', in the order in
    which the backward pass comes to the blocks: no gradient is kept, and no matrix multiplied by another.
    """
    readout, backbone = _readout_tokens(problem.backbone), problem.backbone
    embedding, attention = problem.recorded()
    with torch.enable_grad():
        score = problem.goal.score(embedding).sum()
    rows = torch.eye(attention[0].shape[-1], device=score.device, dtype=score.dtype)[:readout]
    per_block = backbone.reader.calls.per_block  # parallel attentions stand side by side as heads
    first, waiting, met = attention[:per_block], dict(enumerate(attention)), []

    def meet(number: int, slope: Float[Tensor, "1 head token token"]) -> None:
        nonlocal rows
        met.append((waiting.pop(number).detach() * slope)[0].clamp_min_(0))
        if len(met) == per_block:
            rows = rows + rows @ torch.cat(met).mean(dim=0)
            met.clear()

    hooks = [each.register_hook(partial(meet, number)) for number, each in enumerate(attention)]
    torch.autograd.grad(score, first)
    for hook in hooks:
        hook.remove()
    if waiting:
        raise InputError(f"the attention of {len(waiting)} calls does not reach the embedding of '{backbone.name}'")
    return rearrange(rows[:, backbone.prefix :].mean(dim=0), "(r c) -> r c", r=backbone.grid.rows)


def _readout_tokens(backbone: Backbone) -> int:
    """How many leading tokens the embedding is made from.

    Raises:
        ValueError: it is made from others, too, for which the rule gives no row; or the matrices would not fit.
    """
    pooling = backbone.reader.pooling(backbone.module)
    if backbone.query_kind != "class token" or pooling != "token":
        pools_by_attention = backbone.query_kind == "attention pooling" or pooling == "map"
        made = "by an attention pooling" if pools_by_attention else "by pooling over all patches"
        raise InputError(
            f"gradient x attention follows the class token's row, and '{backbone.name}' does not make its embedding "
            f"from the class token but {made}: use {_and_others('gradient_attention')}"
        )
    size = 4 * backbone.depth * backbone.heads * (backbone.prefix + backbone.grid.patches) ** 2
    if size > FULL_ATTENTION_BYTES:  # and its gradient comes on top
        raise InputError(
            f"the attention of all blocks would take {size / 2**30:.1f} GiB, and its gradient as much again; load "
            f"'{backbone.name}' at a smaller image size, or use {_and_others('gradient_attention')}"
        )
    return 2 if getattr(backbone.module, "dist_token", None) is not None else 1


def _attn_lrp(problem: Problem) -> Float[Tensor, "height width"]:
    """AttnLRP (Achtibat et al. 2024): input x gradient under `RelevanceRules`.

    The input is the picture as the model takes it, from which the mean colour of its data was subtracted: a pixel of
    that colour has no relevance. Relevance starts as the score, whose cosine is taken as an inner product over lengths
    that are constants. What goes to biases, position embedding, class token and registers, and what the softmax
    absorbs, is no pixel's: see `Attribution.absorbed`.
    """
    backbone, picture = problem.backbone, problem.picture.clone().requires_grad_()
    plain = backbone.with_module(without_checkpointing(backbone.module))
    try:
        with torch.enable_grad(), RelevanceRules(problem.settings.gamma):
            score = problem.goal.score(_embed(plain, picture)).sum()
        slope = torch.autograd.grad(score, picture)[0]
    except NoRuleError as error:
        raise InputError(f"{error}, which '{backbone.name}' uses: use {_and_others('attn_lrp')}") from None
    mean = rearrange(picture.new_tensor(backbone.mean), "c -> c 1 1")
    return ((picture.detach() - mean) * slope)[0].sum(dim=0)


def captum_part(part: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(f"captum.{part}")
    except ImportError as error:
        raise MissingExtraError("this needs captum", "attribution") from error


def _method(name: str) -> "_Method":
    if name not in WAYS:
        hint = did_you_mean(str(name), METHODS) or ";"
        raise InputError(f"unknown method '{name}'{hint} There are: {', '.join(METHODS)}")
    return WAYS[name]


@dataclass(frozen=True, kw_only=True)
class _Method:
    called: str
    run: Callable[[Problem], Tensor]
    description: str
    signed: bool
    one_gradient: bool  # at the picture itself, so that a maximum of the score there leaves it nothing
    shares_out: bool = False  # the score, or its change, among pixels: only sums of the heatmap keep their total


WAYS = {
    "integrated_gradients": _Method(
        called="integrated gradients",
        run=_integrated_gradients,
        description="Gradients along the straight way from the baseline to the picture, summed over colours; they add "
        "up to the change of the score (Sundararajan et al. 2017).",
        signed=True,
        one_gradient=False,
        shares_out=True,
    ),
    "saliency": _Method(
        called="saliency",
        run=_saliency,
        description="The largest absolute gradient over colours of each pixel (Simonyan et al. 2014).",
        signed=False,
        one_gradient=True,
    ),
    "occlusion": _Method(
        called="occlusion",
        run=_occlusion,
        description="How much the score falls when a window of the picture is replaced by the baseline (Zeiler and "
        "Fergus 2014).",
        signed=True,
        one_gradient=False,
    ),
    "gradient_attention": _Method(
        called="gradient x attention",
        run=_gradient_attention,
        description="Attention weighted by its gradient, followed through all blocks to the class token (Chefer et al. "
        "2021); only for models whose embedding is the class token.",
        signed=False,
        one_gradient=True,
    ),
    "attn_lrp": _Method(
        called="AttnLRP",
        run=_attn_lrp,
        description="The score shared out backwards through all layers, by rules for attention, norms and activations "
        "that one backward pass follows (Achtibat et al. 2024, AttnLRP).",
        signed=True,
        one_gradient=False,
        shares_out=True,
    ),
}
METHODS = {name: how.description for name, how in WAYS.items()}
