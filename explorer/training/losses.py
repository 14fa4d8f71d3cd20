"""The three levels of distillation, each a function of (reference, student): the teacher's trace of the clean pictures
and the student's trace of the distorted ones.

The method is the one that Alexis, Giannopoulos and Gunopulos describe in the abstract of "Distilling Vision
Transformers for Distortion-Robust Representation Learning" (arXiv 2604.22529): a student that sees the distorted
picture is aligned with its frozen teacher, which sees the clean one, in the global embedding, the patch features and
the attention maps. **The loss forms are ours**: the paper's equations are not known to us. Each is made of the function
in `explorer.analysis.metrics` under whose name the level is reported. Everything is computed in float32 at least, and a
reference is never differentiated. Deliberately ignored: models, pictures, and how the terms are minimised.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from explorer.analysis import metrics
from explorer.errors import InputError
from explorer.models.trace import Trace
from explorer.system.precision import outside_autocast
from explorer.training.choices import ATTENTION_LAYERS, Blocks, Rows, check_weights

TEMPERATURE = 0.1


def cls(reference: Trace, student: Trace) -> Float[Tensor, ""]:
    """1 - cosine of the global embeddings, mean of the batch; 0 is equal.

    Our form of the global level; the cosine is `Alignment.cls_cosine`.
    """
    return 1 - metrics.cosine(*_embeddings(reference, student)).mean()


def patch(reference: Trace, student: Trace, layers: Blocks = 1) -> Float[Tensor, ""]:
    """1 - cosine of each patch's features, mean of patches, blocks and batch; 0 is equal.

    Our form of the patch level. Both of DINOv2's levels weigh 1 (Oquab et al. 2023), as do ours.

    Args:
        layers: so many of the last traced blocks, or block numbers; the last block alone by default, where the cosine
            is `Alignment.patch_cosine`.
    """
    return 1 - metrics.cosine(*_patches(reference, student, layers)).mean()


def attention(
    reference: Trace,
    student: Trace,
    layers: Blocks = ATTENTION_LAYERS,
    rows: Rows = "all",
    heads: Sequence[int] | None = None,
) -> Float[Tensor, ""]:
    """KL(reference || student) of attention rows in nats, mean of rows, heads, blocks and batch; 0 is equal.

    Our form of the attention level. Attention transfer (Li et al., NeurIPS 2024) minimises the cross-entropy of the
    same rows, with the same means, which differs by the reference's entropy, a constant. With the default arguments the
    number is `Alignment.attention_kl`.

    Args:
        layers: so many of the last traced blocks, or block numbers.
        rows: "all" query rows, which needs traces with attention="full"; or the picture's "own" row (of the class
            token; for models without one see `Trace.query_kind`).
        heads: these heads; None: all.

    Raises:
        ValueError: a trace without attention, or without the rows, blocks or heads that are asked for.
    """
    return metrics.kl_divergence(*_attention_rows(reference, student, layers, rows, heads)).mean()


@outside_autocast()
def contrastive(reference: Trace, student: Trace, temperature: float = TEMPERATURE) -> Float[Tensor, ""]:
    """InfoNCE: each distorted picture has to find its own clean embedding among those of the batch.

    As in Ravula et al., "Inverse Problems Leveraging Pre-trained Contrastive Representations" (NeurIPS 2021), for
    comparison with `cls`; the other pictures of the batch are the negatives.

    Raises:
        ValueError: fewer than two pictures, which would leave nothing to tell apart.
    """
    targets, embeddings = (F.normalize(z, dim=-1) for z in _embeddings(reference, student))
    if len(targets) < 2:
        raise InputError("contrastive compares the pictures of a batch with each other: it needs at least two of them")
    logits = embeddings @ targets.T / temperature
    return F.cross_entropy(logits, torch.arange(len(targets), device=logits.device))


@outside_autocast()
def cls_mse(reference: Trace, student: Trace) -> Float[Tensor, ""]:
    """Mean squared difference of the global embeddings; the form of `cls` that keeps lengths, for comparison."""
    target, embedding = _embeddings(reference, student)
    return F.mse_loss(embedding, target)


@outside_autocast()
def patch_mse(reference: Trace, student: Trace, layers: Blocks = 1) -> Float[Tensor, ""]:
    """Mean squared difference of the patches' features; the form of `patch` that keeps lengths, for comparison."""
    targets, patches = _patches(reference, student, layers)
    return F.mse_loss(patches, targets)


def combine(
    reference: Trace,
    student: Trace,
    *,
    cls: float = 1.0,
    patch: float = 1.0,
    attention: float = 1.0,
    contrastive: float = 0.0,
    cls_mse: float = 0.0,
    patch_mse: float = 0.0,
    patch_layers: Blocks = 1,
    attention_layers: Blocks = ATTENTION_LAYERS,
    rows: Rows = "all",
    heads: Sequence[int] | None = None,
    temperature: float = TEMPERATURE,
) -> dict[str, Float[Tensor, ""]]:
    """The weighted sum of the levels as "loss", and each level before its weight. A weight of 0 skips the level.

    Args:
        cls, patch, attention, contrastive, cls_mse, patch_mse: weights, not negative, of the functions of these names.
        patch_layers, attention_layers, rows, heads, temperature: as in these functions.

    Raises:
        ValueError: a bad weight, no weight above 0, or traces that lack what a level needs.
    """
    weights = {"cls": cls, "patch": patch, "attention": attention}
    weights |= {"contrastive": contrastive, "cls_mse": cls_mse, "patch_mse": patch_mse}
    check_weights(weights)
    options: dict[str, dict[str, Any]] = {
        "patch": {"layers": patch_layers},
        "patch_mse": {"layers": patch_layers},
        "attention": {"layers": attention_layers, "rows": rows, "heads": heads},
        "contrastive": {"temperature": temperature},
    }
    chosen = {name: weight for name, weight in weights.items() if weight > 0}
    terms = {name: LEVELS[name](reference, student, **options.get(name, {})) for name in chosen}
    return {"loss": torch.stack([chosen[name] * term for name, term in terms.items()]).sum(), **terms}


def _embeddings(reference: Trace, student: Trace) -> tuple[Tensor, Tensor]:
    return _pair("embedding", reference.embedding, student.embedding)


def _patches(reference: Trace, student: Trace, layers: Blocks) -> tuple[Tensor, Tensor]:
    a, b = (trace.patches[:, _positions(trace, layers)] for trace in (reference, student))
    return _pair("patches", a, b)


def _attention_rows(
    reference: Trace, student: Trace, layers: Blocks, rows: Rows, heads: Sequence[int] | None
) -> tuple[Tensor, Tensor]:
    a, b = (_rows(trace, rows)[:, _positions(trace, layers)] for trace in (reference, student))
    if heads is not None:
        known = range(a.shape[2])
        if not heads or any(head not in known for head in heads):
            raise InputError(f"these traces have the heads 0 to {len(known) - 1}; got {list(heads)}")
        a, b = a[:, :, list(heads)], b[:, :, list(heads)]
    return _pair("attention", a, b)


def _pair(what: str, reference: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    if reference.shape != student.shape:
        raise InputError(
            f"the traces cannot be compared: {what} has the shape {tuple(reference.shape)} in the reference and "
            f"{tuple(student.shape)} in the student; they need the same pictures, image size and kind of model"
        )
    # A half-precision cosine or KL has two or three digits; the reference is a constant.
    wide = torch.promote_types(student.dtype, torch.float32)
    return reference.detach().to(wide), student.to(wide)


def _positions(trace: Trace, layers: Blocks) -> list[int] | slice:
    """Places of these blocks in a trace; as a slice, which copies nothing, where they follow each other."""
    if not isinstance(layers, int):
        if not layers:
            raise InputError("no block was chosen; name block numbers, or how many of the last ones")
        places = [trace.position(layer) for layer in layers]
        first, end = places[0], places[0] + len(places)
        return slice(first, end) if places == list(range(first, end)) else places
    if not 1 <= layers <= len(trace.layers):
        raise InputError(
            f"cannot take the last {layers} blocks: this trace holds {len(trace.layers)} ({list(trace.layers)})"
        )
    return slice(len(trace.layers) - layers, None)


def _rows(trace: Trace, rows: Rows) -> Float[Tensor, "batch layer head query token"]:
    if trace.attention is None:
        raise InputError("the attention level needs traces with attention; trace with attention='cls' or 'full'")
    if rows not in ("all", "own"):
        raise InputError(f"rows must be 'all' or 'own'; got {rows!r}")
    if rows == "all":
        if trace.attention.shape[3] == 1:
            raise InputError("rows='all' needs traces with attention='full'; these hold the picture's own row alone")
        return trace.attention
    return trace.own_rows().unsqueeze(3)


LEVELS: dict[str, Callable[..., Float[Tensor, ""]]] = {
    "cls": cls,
    "patch": patch,
    "attention": attention,
    "contrastive": contrastive,
    "cls_mse": cls_mse,
    "patch_mse": patch_mse,
}
