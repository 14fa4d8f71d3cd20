"""The levels against naive loops, gradients included; and against the metrics that are reported under their names."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from explorer import losses
from explorer.analysis.similarity import alignment
from explorer.models.trace import Grid, Trace

BATCH, LAYERS, HEADS, PATCHES, DIM = 3, (7, 8, 9, 10, 11), 2, 6, 5
TOKENS = 1 + PATCHES


def made_up(seed: int, grad: bool = False, query_kind: str = "class token") -> Trace:
    """A trace of random numbers; the student's are leaves of autograd."""
    draw = torch.Generator().manual_seed(seed)
    numbers = [
        torch.randn(*shape, generator=draw, dtype=torch.float64)
        for shape in ((BATCH, DIM), (BATCH, len(LAYERS), PATCHES, DIM), (BATCH, len(LAYERS), HEADS, TOKENS, TOKENS))
    ]
    embedding, patches, attention = numbers[0], numbers[1], numbers[2].softmax(dim=-1)
    for tensor in (embedding, patches, attention):
        tensor.requires_grad_(grad)
    return Trace(
        embedding=embedding,
        cls=None,
        patches=patches,
        attention=attention,
        layers=LAYERS,
        grid=Grid(2, 3),
        prefix=1,
        query_kind=query_kind,  # type: ignore[arg-type]
    )


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt())


def naive_cls(t: Trace, s: Trace) -> Tensor:
    return 1 - sum(cosine(t.embedding[i], s.embedding[i]) for i in range(BATCH)) / BATCH


def naive_patch(t: Trace, s: Trace, positions: tuple[int, ...] = (4,)) -> Tensor:
    terms = [
        cosine(t.patches[i, b, p], s.patches[i, b, p]) for i in range(BATCH) for b in positions for p in range(PATCHES)
    ]
    return 1 - sum(terms) / len(terms)


def naive_attention(
    t: Trace,
    s: Trace,
    positions: tuple[int, ...] = (1, 2, 3, 4),
    heads: tuple[int, ...] = (0, 1),
    queries: tuple[int, ...] = tuple(range(TOKENS)),
) -> Tensor:
    rows = [(i, b, h, q) for i in range(BATCH) for b in positions for h in heads for q in queries]
    assert t.attention is not None
    assert s.attention is not None
    total = sum(
        t.attention[row][k] * (t.attention[row][k].log() - s.attention[row][k].log())
        for row in rows
        for k in range(TOKENS)
    )
    return total / len(rows)


def naive_contrastive(t: Trace, s: Trace) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i in range(BATCH):
        scores = [torch.exp(cosine(s.embedding[i], t.embedding[j]) / 0.1) for j in range(BATCH)]
        total = total - torch.log(scores[i] / sum(scores))
    return total / BATCH


def naive_cls_mse(t: Trace, s: Trace) -> Tensor:
    return sum((t.embedding[i, d] - s.embedding[i, d]) ** 2 for i in range(BATCH) for d in range(DIM)) / (BATCH * DIM)


def naive_patch_mse(t: Trace, s: Trace) -> Tensor:
    return ((t.patches[:, 4] - s.patches[:, 4]) ** 2).sum() / (BATCH * PATCHES * DIM)


Loss = Callable[[Trace, Trace], Tensor]


def assert_same(loss: Loss, naive: Loss) -> None:
    """Equal values, and equal gradients in everything that the student's trace holds."""
    reference, results = made_up(0), []
    for function in (loss, naive):
        student = made_up(1, grad=True)
        value = function(reference, student)
        leaves = (student.embedding, student.patches, student.attention)
        gradients = torch.autograd.grad(value, leaves, allow_unused=True)
        results.append((value.detach(), [torch.zeros(()) if g is None else g for g in gradients]))
    (value, gradients), (expected, naive_gradients) = results
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    assert any(gradient.abs().max() > 1e-4 for gradient in gradients)
    for gradient, other in zip(gradients, naive_gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    ("loss", "naive"),
    [
        (losses.cls, naive_cls),
        (losses.patch, naive_patch),
        (losses.attention, naive_attention),
        (losses.contrastive, naive_contrastive),
        (losses.cls_mse, naive_cls_mse),
        (losses.patch_mse, naive_patch_mse),
    ],
    ids=list(losses.LEVELS),
)
def test_values_and_gradients(loss: Loss, naive: Loss) -> None:
    assert_same(loss, naive)


def test_chosen_blocks_heads_and_rows() -> None:
    assert_same(lambda t, s: losses.patch(t, s, layers=3), lambda t, s: naive_patch(t, s, (2, 3, 4)))
    assert_same(lambda t, s: losses.patch(t, s, layers=(7, -1)), lambda t, s: naive_patch(t, s, (0, 4)))
    assert_same(lambda t, s: losses.attention(t, s, layers=(9,)), lambda t, s: naive_attention(t, s, (2,)))
    assert_same(lambda t, s: losses.attention(t, s, heads=[1]), lambda t, s: naive_attention(t, s, heads=(1,)))
    assert_same(lambda t, s: losses.attention(t, s, rows="own"), lambda t, s: naive_attention(t, s, queries=(0,)))


def test_own_row_of_a_model_without_class_token_is_the_mean_of_its_patches() -> None:
    full = [made_up(seed, query_kind="mean of patches") for seed in (0, 1)]
    own = [replace(t, attention=t.attention[:, :, :, 1:].mean(dim=3, keepdim=True)) for t in full]  # type: ignore[index]
    expected = losses.attention(*own, rows="own")
    assert losses.attention(*full, rows="own") == expected
    assert losses.attention(full[0], own[1], rows="own") == expected
    assert losses.attention(*[replace(t, query_kind="class token") for t in full], rows="own") != expected


def test_a_loss_is_the_metric_of_its_name() -> None:
    reference, student = made_up(0), made_up(1)
    reported = alignment(reference, student)
    assert 1 - losses.cls(reference, student).item() == pytest.approx(reported.cls_cosine, abs=1e-12)
    assert 1 - losses.patch(reference, student).item() == pytest.approx(reported.patch_cosine, abs=1e-12)
    assert losses.attention(reference, student).item() == pytest.approx(reported.attention_kl, abs=1e-12)


@pytest.mark.parametrize("name", ["cls", "patch", "attention", "cls_mse", "patch_mse"])
def test_equal_traces_have_no_loss(name: str) -> None:
    assert abs(losses.LEVELS[name](made_up(0), made_up(0)).item()) < 1e-12


@pytest.mark.parametrize("name", losses.LEVELS)
def test_the_reference_is_a_constant(name: str) -> None:
    reference, student = made_up(0, grad=True), made_up(1, grad=True)
    losses.LEVELS[name](reference, student).backward()
    assert all(tensor.grad is None for tensor in (reference.embedding, reference.patches, reference.attention))


def test_half_precision_is_computed_in_float32() -> None:
    reference, student = made_up(0).to(torch.float32), made_up(1).to(torch.bfloat16)
    loss = losses.cls(reference, student)
    assert loss.dtype == torch.float32
    assert loss == losses.cls(reference, student.to(torch.float32))


def test_combine_is_the_weighted_sum() -> None:
    reference, student = made_up(0), made_up(1)
    terms = losses.combine(reference, student, cls=2.0, patch=0.5, attention=3.0, contrastive=0.25)
    assert list(terms) == ["loss", "cls", "patch", "attention", "contrastive"]
    expected = 2 * naive_cls(reference, student) + 0.5 * naive_patch(reference, student)
    expected += 3 * naive_attention(reference, student) + 0.25 * naive_contrastive(reference, student)
    torch.testing.assert_close(terms["loss"], expected)
    torch.testing.assert_close(terms["attention"], naive_attention(reference, student))


def test_combine_hands_on_the_choices() -> None:
    reference, student = made_up(0), made_up(1)
    terms = losses.combine(
        reference,
        student,
        cls=0.0,
        contrastive=1.0,
        patch_layers=2,
        attention_layers=(8,),
        rows="own",
        heads=(1,),
        temperature=1.0,
    )
    torch.testing.assert_close(terms["patch"], naive_patch(reference, student, (3, 4)))
    torch.testing.assert_close(terms["attention"], naive_attention(reference, student, (1,), (1,), (0,)))
    assert terms["contrastive"] == losses.contrastive(reference, student, temperature=1.0)


def test_a_weight_of_zero_skips_the_level() -> None:
    blind = [replace(made_up(seed), attention=None) for seed in (0, 1)]
    assert list(losses.combine(*blind, attention=0.0)) == ["loss", "cls", "patch"]
    with pytest.raises(ValueError, match="attention='cls' or 'full'"):
        losses.combine(*blind)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, True, "1"])
def test_bad_weights(weight: float, unchecked: None) -> None:
    with pytest.raises(ValueError, match="weight of 'patch' is a number"):
        losses.combine(made_up(0), made_up(1), patch=weight)


def test_nothing_to_learn() -> None:
    with pytest.raises(ValueError, match="nothing to learn"):
        losses.combine(made_up(0), made_up(1), cls=0.0, patch=0.0, attention=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 6}, "last 6 blocks: this trace holds 5"),
        ({"layers": 0}, "last 0 blocks"),
        ({"layers": ()}, "no block was chosen"),
        ({"layers": (3,)}, "layer 3 was not traced"),
        ({"heads": (2,)}, "heads 0 to 1; got \\[2\\]"),
        ({"heads": ()}, "heads 0 to 1"),
    ],
)
def test_what_is_not_there(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        losses.attention(made_up(0), made_up(1), **options)


def test_all_rows_need_all_rows() -> None:
    row = replace(made_up(0), attention=made_up(0).attention[:, :, :, :1])  # type: ignore[index]
    with pytest.raises(ValueError, match="attention='full'"):
        losses.attention(row, made_up(1))
    with pytest.raises(ValueError, match="attention='full'"):
        losses.attention(made_up(1), row)


def test_traces_of_different_batches() -> None:
    with pytest.raises(ValueError, match="embedding has the shape"):
        losses.cls(made_up(0), made_up(1)[:2])
    with pytest.raises(ValueError, match="at least two"):
        losses.contrastive(made_up(0)[:1], made_up(1)[:1])
