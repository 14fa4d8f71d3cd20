"""The methods of attribution, by name: `WAYS`.

Enters: a `Problem`. Leaves: its heatmap, raw and signed as the method gives it. Integrated gradients, saliency and
occlusion are Captum's (an optional dependency, imported when it is first needed).
Deliberately ignored: what the heatmap is worth (`explorer.inspection.attribution_quality`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from explorer.errors import InputError, MissingExtraError, did_you_mean
from explorer.inspection.attribution_problem import Problem, embedded
from explorer.inspection.comparison import FULL_ATTENTION_BYTES
from explorer.models.backbones import Backbone, without_checkpointing
from explorer.models.relevance import NoRuleError, RelevanceRules


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


def gradient_attention(problem: Problem) -> Float[Tensor, "rows cols"]:
    """Relevance of patches for the class token (Chefer et al. 2021, "Generic Attention-model Explainability").

    Equation 5: A' = mean over heads of (dy/dA * A)+; equation 6: R = R + A' R from the identity on; then the class
    token's row. Where the embedding is made from class and distillation token together, the mean of both rows.

    As only these rows are asked for, they are followed from the last block to the first, r = r + r A', in the order in
    which the backward pass comes to the blocks: no gradient is kept, and no matrix multiplied by another.
    """
    readout, backbone = readout_tokens(problem.backbone), problem.backbone
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


def readout_tokens(backbone: Backbone) -> int:
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
            f"from the class token but {made}: use {and_others('gradient_attention')}"
        )
    size = 4 * backbone.depth * backbone.heads * (backbone.prefix + backbone.grid.patches) ** 2
    if size > FULL_ATTENTION_BYTES:  # and its gradient comes on top
        raise InputError(
            f"the attention of all blocks would take {size / 2**30:.1f} GiB, and its gradient as much again; load "
            f"'{backbone.name}' at a smaller image size, or use {and_others('gradient_attention')}"
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
            score = problem.goal.score(embedded(plain, picture)).sum()
        slope = torch.autograd.grad(score, picture)[0]
    except NoRuleError as error:
        raise InputError(f"{error}, which '{backbone.name}' uses: use {and_others('attn_lrp')}") from None
    mean = rearrange(picture.new_tensor(backbone.mean), "c -> c 1 1")
    return ((picture.detach() - mean) * slope)[0].sum(dim=0)


def captum_part(part: str) -> ModuleType:
    """One of Captum's modules, such as "attr"; raises MissingExtraError where it is not installed."""
    from importlib import import_module

    try:
        return import_module(f"captum.{part}")
    except ImportError as error:
        raise MissingExtraError("this needs captum", "attribution") from error


def and_others(method: str) -> str:
    """What an error names instead: the other methods that can be asked for anything."""
    others = [f"'{name}'" for name, how in WAYS.items() if name != method and not how.one_gradient]
    return " or ".join(f"method={name}" for name in others)


def method_of(name: str) -> "_Method":
    """The method of a name; raises ValueError where there is none."""
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
        run=gradient_attention,
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
