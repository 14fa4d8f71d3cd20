"""How near two tensors are to each other: cosine, KL and Jensen-Shannon divergence, overlap of mass, CKA.

Plain functions of tensors; each returns one number per item of the batch, in float32 at least; NaN where an item holds
NaN. Training losses and reported metrics of the same name are both made of these.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from explorer.errors import InputError
from explorer.system.precision import doubled, outside_autocast

_TINY = 1e-12
_CACHED = 1 << 19  # numbers: 2 MiB of float32


@outside_autocast()
def cosine(a: Float[Tensor, "batch *rest dim"], b: Float[Tensor, "batch *rest dim"]) -> Float[Tensor, " batch"]:
    """Cosine similarity along the last axis, averaged over everything but the batch; in [-1, 1]."""
    a, b = wide(a), wide(b)
    return F.cosine_similarity(a, b, dim=-1).reshape(a.shape[0], -1).mean(dim=1)


@outside_autocast()
def kl_divergence(
    reference: Float[Tensor, "batch *rest token"], other: Float[Tensor, "batch *rest token"]
) -> Float[Tensor, " batch"]:
    """KL(reference || other) of rows that sum to 1, in nats, averaged over everything but the batch."""
    rows = _Divergence.apply(wide(reference), wide(other))
    return rows.reshape(rows.shape[0], -1).mean(dim=1)


class _Divergence(torch.autograd.Function):
    """KL of each row, in less than half of the time that autograd takes.

    Probabilities below 1e-12 count as 1e-12: float32 softmax rows hold exact zeros, where the logarithm is infinite.
    """

    @staticmethod
    def forward(ctx: Any, reference: Tensor, other: Tensor) -> Tensor:
        ctx.save_for_backward(reference, other)
        rows = other.new_empty(other.shape[:-1])
        for a, b, out in _in_cache(reference, other, rows):
            torch.sum(_log_ratio(a, b).mul_(a), dim=-1, out=out)
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        reference, other = ctx.saved_tensors
        of_reference = of_other = None
        gradient = gradient[..., None]
        if ctx.needs_input_grad[0]:
            of_reference = _log_ratio(reference, other).add_(reference >= _TINY).mul_(gradient)
        if ctx.needs_input_grad[1]:
            of_other = torch.empty_like(other)
            for a, b, g, out in _in_cache(reference, other, gradient, of_other):
                torch.div(a, torch.clamp_min(b, _TINY, out=out), out=out).mul_(-g)
                torch.ops.aten.threshold_backward.grad_input(out, b, _TINY, grad_input=out)  # 0 where it was clamped
        return of_reference, of_other


def _in_cache(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same parts of all of them, on processors so small that what is made of one in turn stays in the cache."""
    if tensors[0].device.type != "cpu" or tensors[0].ndim < 2 or tensors[0].numel() <= _CACHED:
        yield tensors
    else:
        for parts in zip(*tensors, strict=True):
            yield from _in_cache(*parts)


def _log_ratio(reference: Tensor, other: Tensor) -> Tensor:
    ratio = other.clamp_min(_TINY)
    return torch.div(reference.clamp_min(_TINY), ratio, out=ratio).log_()


@outside_autocast()
def js_divergence(
    a: Float[Tensor, "batch *rest token"], b: Float[Tensor, "batch *rest token"]
) -> Float[Tensor, " batch"]:
    """Jensen-Shannon divergence of rows that sum to 1, in nats (0 to ln 2 = 0.693), averaged like `kl_divergence`."""
    a, b = wide(a), wide(b)
    middle = (a + b) / 2
    return (kl_divergence(a, middle) + kl_divergence(b, middle)) / 2


@outside_autocast()
def top_mass(maps: Float[Tensor, "batch rows cols"], fraction: float = 0.6) -> Bool[Tensor, "batch rows cols"]:
    """The smallest set of patches that holds `fraction` of each map's mass (Caron et al. 2021, DINO, Figure 1).

    Raises:
        ValueError: a fraction out of range; maps with NaN or infinite values, whose mass is no number.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"fraction is the share of the mass that is kept, above 0 and at most 1; got {fraction}")
    if not torch.isfinite(maps).all():
        raise InputError("the maps hold NaN or infinite values: look for what broke the model that they come from")
    flat = doubled(maps.flatten(1))
    values, order = flat.sort(dim=1, descending=True)
    share_before = (values.cumsum(dim=1) - values) / values.sum(dim=1, keepdim=True).clamp_min(_TINY)
    # A hair below the fraction, so that rounding of the running sum does not add a patch to an exact share.
    kept = torch.zeros_like(flat, dtype=torch.bool).scatter(1, order, share_before < fraction - 1e-9)
    return kept.reshape(maps.shape).to(maps.device)


@outside_autocast()
def intersection_over_union(
    a: Bool[Tensor, "batch rows cols"], b: Bool[Tensor, "batch rows cols"]
) -> Float[Tensor, " batch"]:
    """Shared patches over patches in either; 1 where both sets are empty."""
    shared = doubled((a & b).flatten(1).sum(dim=1))
    either = doubled((a | b).flatten(1).sum(dim=1))
    return torch.where(either > 0, shared / either.clamp_min(1), torch.ones_like(shared)).float().to(a.device)


@outside_autocast()
def linear_cka(a: Float[Tensor, "batch patch dim"], b: Float[Tensor, "batch patch dim_b"]) -> Float[Tensor, " batch"]:
    """Linear centred kernel alignment over the patches of each picture (Kornblith et al. 2019, eq. 3-4); in [0, 1].

    It compares how patches relate to each other and ignores rotation and scale of the features. With fewer patches
    than dimensions it is biased upwards: compare it at one image size only.
    """
    a, b = wide(a), wide(b)
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    gram_a, gram_b = a @ a.transpose(1, 2), b @ b.transpose(1, 2)
    norms = gram_a.flatten(1).norm(dim=1) * gram_b.flatten(1).norm(dim=1)
    return (gram_a * gram_b).flatten(1).sum(dim=1) / norms.clamp_min(_TINY)


def wide(values: Tensor) -> Tensor:
    """In float32 at least: half precision has two or three digits."""
    return values.float() if values.dtype.itemsize < torch.float32.itemsize else values
