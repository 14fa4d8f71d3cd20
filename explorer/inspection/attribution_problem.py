"""What an attribution is asked: a frozen model, a picture, a baseline, and a score.

Enters: a backbone, one picture, what to go towards. Leaves: a `Problem`, which the methods of
`explorer.inspection.attribution_methods` solve. All passes run on a copy of the backbone's structure that shares its
weights and asks for no gradient of them, so that many threads may explain one model.
Deliberately ignored: how it is solved, and what is said of the answer.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from explorer.errors import InputError, did_you_mean, whole_number
from explorer.evaluation.predicting import PictureProbe
from explorer.evaluation.probes import Probe
from explorer.models.backbones import Backbone, expect_backbone
from explorer.models.capture import AttentionCapture, outputs_edited

Toward = Tensor | tuple[Probe | PictureProbe, Any]
Baseline = Literal["mean", "black", "blur"] | Tensor
Score = Callable[[Tensor], Tensor]


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
class Goal:
    """What is scored: the thing itself, in words, and as a function of embeddings ("batch dim" -> "batch")."""

    toward: Toward
    words: str
    score: Score


class Problem:
    """A frozen model and a picture, and what is asked; picture and baseline are looked at once."""

    goal: Goal

    def __init__(
        self,
        backbone: Backbone,
        picture: Float[Tensor, "1 3 height width"],
        settings: Settings,
        goal: Goal | None = None,
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
            return embedded(self.backbone, self.picture)

    @cached_property
    def start(self) -> Float[Tensor, "1 dim"]:
        """That of the baseline."""
        with torch.no_grad():
            return embedded(self.backbone, self.baseline)

    @property
    def target(self) -> float:
        """The score of the picture."""
        return self.goal.score(self.embedding).item()

    def record(self) -> None:
        """Look at the picture so that `recorded` has it."""
        with torch.enable_grad(), AttentionCapture(rows="all") as capture:
            embedding = embedded(self.backbone, self.picture.clone().requires_grad_())
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
        return self.goal.score(embedded(self.backbone, pictures))


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


def embedded(backbone: Backbone, pictures: Tensor) -> Float[Tensor, "batch dim"]:
    """The embeddings of pictures; differentiable where gradients are on."""
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


def goal_of(toward: Toward, backbone: Backbone, words: str | None = None) -> Goal:
    """What `attribute` is asked for, as a score of the embeddings of a backbone.

    Raises:
        ValueError: it is no embedding of this backbone's size, and no linear probe of it with one of its classes.
    """
    if isinstance(toward, Tensor):
        direction = _direction(toward, backbone)
        return Goal(toward=direction, words=words or "cosine with the given embedding", score=cosine_with(direction))
    if not isinstance(toward, tuple) or len(toward) != 2 or not isinstance(toward[0], Probe | PictureProbe):
        raise InputError(
            f"toward is an embedding, (probe, label) or None; got {type(toward).__name__}. A probe comes with the "
            f"class that is asked for: toward=(probe, label)"
        )
    probe, label = toward[0].probe if isinstance(toward[0], PictureProbe) else toward[0], toward[1]
    return Goal(toward=(probe, label), words=f"probe's score for {label!r}", score=_probe_score(probe, label, backbone))


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


def cosine_with(direction: Tensor) -> Score:
    """The cosine of each embedding with this one."""
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
