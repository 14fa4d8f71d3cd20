"""From a trace to maps over the patch grid: attention, rollout, joint PCA colours.

Maps are raw: nothing is stretched to its own maximum, so that two maps can be compared. Upsampling and colours are
the business of plots.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from explorer.errors import InputError, as_whole
from explorer.models.trace import Trace, expect_traces
from explorer.system.precision import doubled, outside_autocast

Head = int | Literal["mean", "max"]


@outside_autocast()
def attention_map(
    trace: Trace, layer: int = -1, head: Head = "mean", query: tuple[int, int] | None = None
) -> Float[Tensor, "batch rows cols"]:
    """Attention probabilities over the patches.

    Args:
        trace: with attention="cls" or "full".
        layer: a block's number; negative from the last traced one.
        head: a head's number, or "mean" or "max" over heads.
        query: None for the picture's own row (the class token's; see `Trace.query_kind`), or a patch (row, col), for
            which the trace must hold attention="full".

    Returns:
        Probabilities as they are. With prefix tokens the patches of one head sum to less than 1: the rest went to
        them, and that is information.

    Raises:
        ValueError: no attention in the trace; layer, head or patch that does not exist.
    """
    expect_traces(trace)
    position = trace.position(layer)
    rows = trace.own_rows()[:, position] if query is None else _patch_row(trace, position, query)
    over_heads = _one_head(rows, head)
    return rearrange(over_heads[:, trace.prefix :], "b (r c) -> b r c", r=trace.grid.rows)


@outside_autocast()
def rollout(trace: Trace, head: Head = "mean") -> Float[Tensor, "batch rows cols"]:
    """Attention rollout (Abnar and Zuidema 2020, eq. 1): the product over blocks of 0.5 A + 0.5 I.

    Args:
        trace: with attention="full" on all blocks.
        head: how heads are put together before the product.

    Returns:
        The class token's row of the product over the patches; models without class token: the mean of all patches'
        rows. Rows of the product sum to 1 over all tokens.

    Raises:
        ValueError: the trace does not hold full attention of every block from the first.
    """
    expect_traces(trace)
    attention = trace.attention
    if attention is None or attention.shape[3] != attention.shape[4]:
        raise InputError("rollout multiplies whole attention matrices: trace(images, attention='full') keeps them")
    if trace.layers != tuple(range(len(trace.layers))):
        raise InputError(f"rollout needs every block from the first one: layers='all'; got {list(trace.layers)}")
    # One row from the last block down: vector times matrix, O(tokens^2) a block, where the product is O(tokens^3).
    row = _own_query(trace, attention)
    for block in range(attention.shape[1] - 1, -1, -1):
        row = (row + _attended(row, attention[:, block], head)) / 2
    return rearrange(row[:, trace.prefix :], "b (r c) -> b r c", r=trace.grid.rows)


def _own_query(trace: Trace, like: Tensor) -> Float[Tensor, "batch token"]:
    """The rows of the identity that rollout starts from: the class token's, or the mean of the patches'."""
    row = like.new_zeros(like.shape[0], like.shape[-1])
    if trace.query_kind == "class token":
        row[:, 0] = 1.0
    else:
        row[:, trace.prefix :] = 1.0 / trace.grid.patches
    return row


def _attended(
    row: Float[Tensor, "batch token"], matrices: Float[Tensor, "batch head token token"], head: Head
) -> Float[Tensor, "batch token"]:
    """row @ A, with the heads of A put together."""
    if head == "mean":  # the heads' results are averaged instead of the heads: no matrix is written
        return reduce(row[:, None, None] @ matrices, "b h 1 t -> b t", "mean")
    mixed = _one_head(matrices, head)
    if head == "max":  # over heads, which no longer sums to 1
        row = row / mixed.sum(dim=-1)
    return (row[:, None] @ mixed)[:, 0]


@outside_autocast()
def pca_rgb(
    trace: Trace, *others: Trace, layer: int = -1
) -> Float[Tensor, "batch rows cols 3"] | tuple[Float[Tensor, "batch rows cols 3"], ...]:
    """The first three principal components of patch features as colours, fitted jointly on all given traces.

    The same colour means the same kind of patch in every picture of every trace. Signs are fixed (the largest loading
    of a component is positive), and so are ranges (one per component, from the 1st to the 99th percentile of all
    patches), so that colours do not flip between calls on the same pictures.

    Returns:
        One tensor in [0, 1] for one trace, a tuple for several.

    Raises:
        ValueError: features of several sizes, or with NaN or infinite values.
    """
    traces = (trace, *others)
    tokens = patches_of_one_size(traces, layer)
    flat = torch.cat([rearrange(x, "b p d -> (b p) d") for x in tokens])
    mean, components = principal_components(flat)
    low, high = ((flat - mean) @ components).quantile(torch.tensor([0.01, 0.99], device=flat.device), dim=0)
    span = (high - low).clamp_min(1e-6)
    colours = tuple(
        rearrange(((((x - mean) @ components) - low) / span).clamp(0, 1), "b (r c) k -> b r c k", r=t.grid.rows)
        for x, t in zip(tokens, traces, strict=True)
    )
    return colours if others else colours[0]


def patches_of_one_size(traces: Iterable[Trace], layer: int) -> list[Float[Tensor, "batch patch dim"]]:
    """The patch features of one layer of several views, in float32.

    Raises:
        ValueError: features of several sizes, or with NaN or infinite values; a block that was not traced.
    """
    traces = tuple(traces)
    expect_traces(*traces)
    tokens = [t.patches[:, t.position(layer)].float() for t in traces]
    sizes = sorted({x.shape[-1] for x in tokens})
    if len(sizes) > 1:
        raise InputError(
            f"views are put together by features of one size, such as those of a teacher and its student; got {sizes}"
        )
    if not all(torch.isfinite(x).all() for x in tokens):
        raise InputError("the patches hold NaN or infinite values: look for what broke the model that they come from")
    return tokens


def principal_components(
    features: Float[Tensor, "sample dim"], count: int = 3
) -> tuple[Float[Tensor, " dim"], Float[Tensor, "dim component"]]:
    """Their mean, and the directions in which they differ most; the largest loading of each is positive."""
    mean = features.mean(dim=0)
    centred = doubled(features - mean)
    vectors = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -count:].flip(1)
    strongest = vectors.abs().argmax(dim=0, keepdim=True)
    return mean, (vectors * vectors.gather(0, strongest).sign()).to(features)


def _patch_row(trace: Trace, position: int, query: tuple[int, int]) -> Float[Tensor, "batch head token"]:
    if trace.attention is None or trace.attention.shape[3] == 1:
        raise InputError("the attention of a single patch needs trace(images, attention='full')")
    return trace.attention[:, position, :, trace.prefix + trace.grid.position_of(query)]


def _one_head(rows: Float[Tensor, "batch head ..."], head: Head) -> Float[Tensor, "batch ..."]:
    if isinstance(head, str):
        if head not in ("mean", "max"):
            raise InputError(f"head must be a number, 'mean' or 'max'; got {head!r}")
        return reduce(rows, "b h ... -> b ...", head)
    number = as_whole(head)
    if number is None or not -rows.shape[1] <= number < rows.shape[1]:
        raise InputError(f"head {head} does not exist; heads go from 0 to {rows.shape[1] - 1}, or 'mean' or 'max'")
    return rows[:, number]
