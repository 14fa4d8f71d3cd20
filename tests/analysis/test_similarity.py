"""Agreement of traces: against the plain formulas, perfect with itself, and clear about what cannot be compared."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from explorer import metrics
from explorer.analysis.similarity import alignment, patch_similarity
from explorer.models.trace import Grid, Trace
from tests.analysis.test_maps import COLS, DEPTH, DIM, HEADS, PREFIX, ROWS, TOKENS, attention, made

NAMES = ["cls_cosine", "patch_cosine", "attention_kl", "attention_js", "attention_iou", "cka"]


@pytest.mark.parametrize("kind", ["class token", "mean of patches", "attention pooling"])
@pytest.mark.parametrize("full", [True, False])
def test_a_trace_agrees_with_itself(full: bool, kind: str) -> None:
    trace = made(full=full, kind=kind)  # type: ignore[arg-type]
    numbers = alignment(trace, trace)
    perfect = dict(zip(NAMES, [1, 1, 0, 0, 1, 1], strict=True))
    if full and kind == "attention pooling":  # the pooling's row is not among the blocks' rows
        assert numbers.as_dict().pop("attention_iou") is None
        assert {**numbers.as_dict(), "attention_iou": 1} == pytest.approx(perfect, abs=1e-6)
    else:
        assert numbers.as_dict() == pytest.approx(perfect, abs=1e-6)


def test_every_number_notices_a_difference() -> None:
    numbers = alignment(made(0), made(1)).as_dict()
    assert list(numbers) == NAMES
    assert all(abs(numbers[name] - perfect) > 0.05 for name, perfect in zip(NAMES, [1, 1, 0, 0, 1, 1], strict=True))  # type: ignore[operator]


def test_numbers_are_the_formulas() -> None:
    a, b = made(0), made(1)
    numbers = alignment(a, b, attention_layers=2).per_image
    for i in range(2):
        cosines = [F.cosine_similarity(a.patches[i, -1, p], b.patches[i, -1, p], dim=0).item() for p in range(12)]
        divergences = [
            metrics.kl_divergence(attention(a)[i : i + 1, n, h, q], attention(b)[i : i + 1, n, h, q]).item()
            for n in (2, 3)
            for h in range(HEADS)
            for q in range(TOKENS)
        ]
        assert numbers["patch_cosine"][i].item() == pytest.approx(sum(cosines) / 12, abs=1e-6)
        assert numbers["attention_kl"][i].item() == pytest.approx(sum(divergences) / len(divergences), abs=1e-6)
        maps = [attention(t)[i : i + 1, -1, :, 0, PREFIX:].mean(1).reshape(1, ROWS, COLS) for t in (a, b)]
        kept = [metrics.top_mass(m, 0.6) for m in maps]
        expected = (kept[0] & kept[1]).sum() / (kept[0] | kept[1]).sum()
        assert numbers["attention_iou"][i].item() == pytest.approx(expected.item(), abs=1e-6)


def test_reference_comes_first_in_the_divergence() -> None:
    a, b = made(0, full=False), made(1, full=False)
    expected = metrics.kl_divergence(attention(a), attention(b)).mean().item()
    assert alignment(a, b).attention_kl == pytest.approx(expected, abs=1e-6)
    assert alignment(b, a).attention_kl != pytest.approx(expected, abs=1e-3)


def test_full_and_own_rows_are_compared_by_the_row_that_both_hold() -> None:
    full, row = made(0), made(0, full=False)
    row = dataclasses.replace(row, attention=attention(full)[:, :, :, :1], patches=full.patches)
    assert alignment(full, row).attention_kl == pytest.approx(0, abs=1e-7)
    assert alignment(row, full).attention_iou == 1


def test_without_attention_its_numbers_are_none() -> None:
    bare = dataclasses.replace(made(), attention=None)
    numbers = alignment(bare, made())
    assert (numbers.attention_kl, numbers.attention_js, numbers.attention_iou) == (None, None, None)
    assert numbers.cls_cosine == pytest.approx(1)
    assert list(numbers.frame().columns) == ["cls_cosine", "patch_cosine", "cka"]


def test_frame_has_a_row_for_each_picture() -> None:
    numbers = alignment(made(0), made(1))
    frame = numbers.frame()
    assert list(frame.columns) == NAMES
    assert len(frame) == 2
    assert frame.index.name == "image"
    for name in NAMES:
        assert frame[name].mean() == pytest.approx(getattr(numbers, name), abs=1e-6)
        assert frame[name].tolist() == numbers.per_image[name].tolist()


def _wider(trace: Trace) -> Trace:
    return dataclasses.replace(trace, embedding=torch.zeros(2, 5), patches=torch.zeros(2, DEPTH, ROWS * COLS, 5))


def _one_prefix_token(trace: Trace) -> Trace:
    return dataclasses.replace(trace, attention=attention(trace)[..., 1:], prefix=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[:1], "pictures differ, 2 in the reference and 1"),
        (lambda t: dataclasses.replace(t, grid=Grid(COLS, ROWS)), "grid differ"),
        (lambda t: dataclasses.replace(t, layers=(0, 1, 2, 4)), "blocks differ"),
        (_wider, "embedding size differ, 8 in the reference and 5"),
        (_one_prefix_token, "prefix tokens differ, 2 in the reference and 1"),
        (lambda t: dataclasses.replace(t, attention=attention(t)[:, :, :2]), "attention heads differ, 3 .* and 2"),
    ],
)
def test_traces_that_cannot_be_compared(change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        alignment(made(), change(made()))


def test_attention_layers_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1; got 0"):
        alignment(made(), made(), attention_layers=0)


def test_patch_similarity_against_a_loop() -> None:
    a, b = made(0), made(1)
    within, across = patch_similarity(a, (1, 2), layer=2), patch_similarity(a, (1, 2), against=b, layer=2)
    for i in range(2):
        query = a.patches[i, 2, 1 * COLS + 2]
        for row in range(ROWS):
            for col in range(COLS):
                patch = row * COLS + col
                for got, other in ((within, a), (across, b)):
                    key = other.patches[i, 2, patch]
                    expected = float(query @ key / query.norm() / key.norm())
                    assert got[i, row, col].item() == pytest.approx(expected, abs=1e-6)
    assert within[:, 1, 2].tolist() == pytest.approx([1, 1])


def test_patch_similarity_across_grids() -> None:
    other = dataclasses.replace(made(1), grid=Grid(2, 6))
    assert tuple(patch_similarity(made(), (2, 3), against=other).shape) == (2, 2, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": (3, 0)}, "outside of the grid: rows go from 0 to 2"),
        ({"query": (0, 4)}, "columns from 0 to 3"),
        ({"query": (0, 0), "layer": 7}, "layer 7 was not traced"),
        ({"query": (0, 0), "against": made()[:1]}, rf"\(2, {DIM}\) for the query and \(1, {DIM}\)"),
        ({"query": (0, 0), "against": _wider(made())}, r"\(2, 5\) for the trace"),
    ],
)
def test_patch_similarity_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        patch_similarity(made(), **options)


def test_rows_of_blocks_and_of_the_pooling_are_not_compared() -> None:
    own, full = (made(full=full, kind="attention pooling") for full in (False, True))
    with pytest.raises(ValueError, match="holds the pooling's row"):
        alignment(own, full)
