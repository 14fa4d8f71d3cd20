"""Trace x Trace -> agreement: similarity of patches within and across pictures, and `alignment` in a few numbers."""

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from explorer.analysis import metrics
from explorer.errors import InputError, whole_number
from explorer.models.trace import Trace, expect_traces
from explorer.system.precision import outside_autocast

if TYPE_CHECKING:
    import pandas

ATTENTION_LAYERS = 4
MASS = 0.6


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """How well one trace agrees with a reference, on average over the pictures; `frame` has each picture.

    Attributes:
        cls_cosine: cosine of the global embeddings; 1 is equal.
        patch_cosine: cosine of the last traced block's patches, averaged over patches; 1 is equal.
        attention_kl: KL(reference || other) of attention rows in nats, over the last `ATTENTION_LAYERS` traced
            blocks, heads and rows; 0 is equal. None without attention.
        attention_js: Jensen-Shannon divergence of the same rows in nats, 0 to 0.693. None without attention.
        attention_iou: overlap of the patches that hold 60 % of the mass of the picture's own row, mean of heads, last
            traced block; 1 is equal. None without attention, and for full attention of models that pool by attention.
        cka: linear CKA of the last traced block's patches; 1 is equal up to rotation and scale.
        per_image: the same names -> Float "batch".
    """

    cls_cosine: float
    patch_cosine: float
    attention_kl: float | None
    attention_js: float | None
    attention_iou: float | None
    cka: float
    per_image: dict[str, Float[Tensor, " batch"]] = field(repr=False)

    def as_dict(self) -> dict[str, float | None]:
        """The averages by name."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "per_image"}

    def as_json(self) -> dict[str, float | None]:
        """The averages by name, as JSON can hold them: None for what is not finite."""
        return {name: value if math.isfinite(value or 0) else None for name, value in self.as_dict().items()}

    def frame(self) -> "pandas.DataFrame":
        """One row for each picture, one column for each number."""
        import pandas

        return pandas.DataFrame({name: values.tolist() for name, values in self.per_image.items()}).rename_axis("image")


@outside_autocast()
def alignment(reference: Trace, other: Trace, attention_layers: int = ATTENTION_LAYERS) -> Alignment:
    """How well `other` agrees with `reference`, picture by picture.

    Args:
        reference: what is aimed at, such as the teacher's trace of the clean pictures.
        other: a trace of the same pictures (distorted, or by a student), over the same grid and blocks.
        attention_layers: over how many of the last traced blocks the attention divergences are averaged.

    Raises:
        ValueError: the traces are of different batches, grids, sizes or blocks.
    """
    attention_layers = whole_number("attention_layers", attention_layers, 1)
    expect_traces(reference, other)
    _comparable(reference, other)
    numbers = {
        "cls_cosine": metrics.cosine(reference.embedding, other.embedding),
        "patch_cosine": metrics.cosine(reference.patches[:, -1], other.patches[:, -1]),
    }
    if reference.attention is not None and other.attention is not None:
        a, b = (_same_rows(trace, reference, other)[:, -attention_layers:] for trace in (reference, other))
        numbers["attention_kl"] = metrics.kl_divergence(a, b)
        numbers["attention_js"] = metrics.js_divergence(a, b)
        if reference.has_own_rows and other.has_own_rows:
            numbers["attention_iou"] = _overlap(_own_map(reference), _own_map(other))
    numbers["cka"] = metrics.linear_cka(reference.patches[:, -1].float(), other.patches[:, -1].float())
    averages = {name: float(values.mean()) for name, values in numbers.items()}
    names = ("attention_kl", "attention_js", "attention_iou")
    return Alignment(**{**dict.fromkeys(names), **averages}, per_image=numbers)  # type: ignore[arg-type]


@outside_autocast()
def patch_similarity(
    trace: Trace, query: tuple[int, int], against: Trace | None = None, layer: int = -1
) -> Float[Tensor, "batch rows cols"]:
    """Cosine of one patch's features with all patches, in the same pictures or in those of another trace.

    Args:
        trace: where the query patch lies.
        query: the patch as (row, col).
        against: whose patches are compared with it; None: the same trace's. Its grid may be another.
        layer: a block's number; negative from the last traced one.

    Raises:
        ValueError: patch outside of the grid, block that was not traced, batches or feature sizes that differ.
    """
    other = trace if against is None else against
    expect_traces(trace, other)
    patches = other.patches[:, other.position(layer)]
    wanted = trace.patches[:, trace.position(layer), trace.grid.position_of(query)]
    if patches.shape[0] != wanted.shape[0] or patches.shape[-1] != wanted.shape[-1]:
        raise InputError(
            f"the two traces differ in pictures or feature size: (batch, dim) is {tuple(wanted.shape)} for the query "
            f"and {(patches.shape[0], patches.shape[-1])} for the trace that it is compared with"
        )
    cosines = F.cosine_similarity(metrics.wide(patches), metrics.wide(wanted)[:, None], dim=-1)
    return rearrange(cosines, "b (r c) -> b r c", r=other.grid.rows)


def _overlap(a: Float[Tensor, "batch rows cols"], b: Float[Tensor, "batch rows cols"]) -> Float[Tensor, " batch"]:
    """Of the patches that hold most of the mass; NaN where a map is not finite, and so has no such patches."""
    known = torch.isfinite(a + b).flatten(1).all(dim=1)
    masses = [metrics.top_mass(maps.where(known[:, None, None], 0.0), MASS) for maps in (a, b)]
    return metrics.intersection_over_union(*masses).where(known, torch.nan)


def _comparable(reference: Trace, other: Trace) -> None:
    for name, a, b in (
        ("pictures", len(reference), len(other)),
        ("grid", reference.grid, other.grid),
        ("embedding size", reference.embedding.shape[-1], other.embedding.shape[-1]),
        ("blocks", reference.layers, other.layers),
        ("prefix tokens", reference.prefix, other.prefix),
        ("attention heads", _heads(reference, other), _heads(other, reference)),
    ):
        if a != b:
            raise InputError(f"the traces cannot be compared: {name} differ, {a} in the reference and {b} in the other")


def _heads(trace: Trace, beside: Trace) -> int | None:
    return None if trace.attention is None or beside.attention is None else trace.attention.shape[2]


def _same_rows(trace: Trace, *both: Trace) -> Float[Tensor, "batch layer head query token"]:
    """All rows if both traces hold all of them, else the pictures' own row, which both hold."""
    if all(t.attention is not None and t.attention.shape[3] > 1 for t in both):
        assert trace.attention is not None
        return trace.attention
    return trace.own_rows().unsqueeze(3)


def _own_map(trace: Trace) -> Float[Tensor, "batch rows cols"]:
    row = reduce(trace.own_rows()[:, -1, :, trace.prefix :], "b h p -> b p", "mean")
    return rearrange(row, "b (r c) -> b r c", r=trace.grid.rows)
