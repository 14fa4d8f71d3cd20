"""Maps against naive loops, and what they refuse."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from explorer.analysis.maps import attention_map, pca_rgb, rollout
from explorer.models.trace import Grid, QueryKind, Trace

ROWS, COLS, PREFIX, HEADS, DEPTH, DIM = 3, 4, 2, 3, 4, 8
TOKENS = PREFIX + ROWS * COLS


def made(seed: int = 0, full: bool = True, kind: QueryKind = "class token", batch: int = 2) -> Trace:
    generator = torch.Generator().manual_seed(seed)
    queries = TOKENS if full else 1
    return Trace(
        embedding=torch.randn(batch, DIM, generator=generator),
        cls=None,
        patches=torch.randn(batch, DEPTH, ROWS * COLS, DIM, generator=generator),
        attention=(2 * torch.randn(batch, DEPTH, HEADS, queries, TOKENS, generator=generator)).softmax(-1),
        layers=tuple(range(DEPTH)),
        grid=Grid(ROWS, COLS),
        prefix=PREFIX,
        query_kind=kind,
    )


def attention(trace: Trace) -> Tensor:
    assert trace.attention is not None
    return trace.attention


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("layer", [0, 2, -1])
def test_attention_map_against_a_loop(full: bool, layer: int) -> None:
    trace = made(full=full)
    mean, first, most = (attention_map(trace, layer, head) for head in ("mean", 0, "max"))
    values = attention(trace)
    for b in range(2):
        for row in range(ROWS):
            for col in range(COLS):
                heads = [values[b, layer, h, 0, PREFIX + row * COLS + col].item() for h in range(HEADS)]
                assert mean[b, row, col].item() == pytest.approx(sum(heads) / HEADS, abs=1e-7)
                assert first[b, row, col].item() == heads[0]
                assert most[b, row, col].item() == max(heads)


def test_attention_map_is_raw_probability() -> None:
    trace = made()
    expected = 1 - attention(trace)[:, -1, :, 0, :PREFIX].sum(-1).mean(1)
    torch.testing.assert_close(attention_map(trace).sum((1, 2)), expected)


def test_attention_map_of_one_patch() -> None:
    trace = made()
    expected = attention(trace)[:, 1, :, PREFIX + 2 * COLS + 3, PREFIX:].mean(1).reshape(2, ROWS, COLS)
    torch.testing.assert_close(attention_map(trace, layer=1, query=(2, 3)), expected)


def test_attention_map_without_class_token_is_the_mean_of_patches() -> None:
    trace = made(kind="mean of patches")
    expected = attention(trace)[:, -1, :, PREFIX:, PREFIX:].mean((1, 2)).reshape(2, ROWS, COLS)
    torch.testing.assert_close(attention_map(trace), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 4}, r"layer 4 was not traced.*\[0, 1, 2, 3\]"),
        ({"layer": -5}, "layer -5 was not traced"),
        ({"head": 3}, "head 3 does not exist; heads go from 0 to 2"),
        ({"head": -4}, "head -4 does not exist"),
        ({"head": "median"}, "head must be a number, 'mean' or 'max'; got 'median'"),
        ({"query": (3, 0)}, "rows go from 0 to 2, columns from 0 to 3"),
    ],
)
def test_attention_map_refuses(options: dict, message: str, unchecked: None) -> None:
    with pytest.raises(ValueError, match=message):
        attention_map(made(), **options)


def test_attention_map_needs_what_the_trace_holds() -> None:
    with pytest.raises(ValueError, match="holds no attention"):
        attention_map(dataclasses.replace(made(), attention=None))
    with pytest.raises(ValueError, match="attention='full'"):
        attention_map(made(full=False), query=(0, 0))
    with pytest.raises(ValueError, match="pools by attention"):
        attention_map(made(kind="attention pooling"))


@pytest.mark.parametrize("head", ["mean", "max", 1])
@pytest.mark.parametrize("kind", ["class token", "mean of patches"])
def test_rollout_against_a_loop(head: int | str, kind: QueryKind) -> None:
    trace = made(kind=kind)
    result = rollout(trace, head)  # type: ignore[arg-type]
    for b in range(2):
        rolled = np.eye(TOKENS)
        for block in range(DEPTH):
            heads = attention(trace)[b, block].double().numpy()
            matrix = heads[head] if isinstance(head, int) else getattr(heads, head)(axis=0)
            matrix = matrix / matrix.sum(axis=1, keepdims=True)
            rolled = (matrix + np.eye(TOKENS)) / 2 @ rolled
        row = rolled[0] if kind == "class token" else rolled[PREFIX:].mean(axis=0)
        np.testing.assert_allclose(rolled.sum(axis=1), 1)
        np.testing.assert_allclose(result[b].flatten(), row[PREFIX:], atol=1e-6)


def test_rollout_refuses_what_it_cannot_multiply() -> None:
    with pytest.raises(ValueError, match="attention='full'"):
        rollout(made(full=False))
    with pytest.raises(ValueError, match="every block from the first"):
        rollout(dataclasses.replace(made(), layers=(1, 2, 3, 4)))
    with pytest.raises(ValueError, match="whole attention matrices"):
        rollout(dataclasses.replace(made(), attention=None))


def naive_pca(features: np.ndarray) -> np.ndarray:
    """Projections on three components by SVD; the largest loading is positive."""
    centred = features - features.mean(axis=0)
    components = np.linalg.svd(centred, full_matrices=False)[2][:3]
    signs = np.sign(components[np.arange(3), np.abs(components).argmax(axis=1)])
    return centred @ (components * signs[:, None]).T


def test_pca_is_joint_and_matches_svd() -> None:
    a, b = made(0), made(1)
    features = np.concatenate([t.patches[:, 2].reshape(-1, DIM).double().numpy() for t in (a, b)])
    projected = naive_pca(features)
    low, high = np.quantile(projected, [0.01, 0.99], axis=0)
    expected = np.clip((projected - low) / (high - low), 0, 1)
    got = pca_rgb(a, b, layer=2)
    assert isinstance(got, tuple)
    assert [tuple(colours.shape) for colours in got] == [(2, ROWS, COLS, 3)] * 2
    np.testing.assert_allclose(torch.cat([c.reshape(-1, 3) for c in got]), expected, atol=1e-5)


def test_pca_of_one_trace_is_one_tensor() -> None:
    colours = pca_rgb(made())
    assert isinstance(colours, Tensor)
    assert colours.min() == 0
    assert colours.max() == 1
    assert torch.equal(colours, pca_rgb(made()))


def test_pca_does_not_flip_when_traces_change_places_or_features_move_a_little() -> None:
    a, b = made(0), made(1)
    first, swapped = pca_rgb(a, b), pca_rgb(b, a)
    torch.testing.assert_close(first[0], swapped[1], atol=1e-4, rtol=0)
    moved = dataclasses.replace(a, patches=a.patches + 1e-4)
    torch.testing.assert_close(pca_rgb(a, b)[0], pca_rgb(moved, b)[0], atol=1e-2, rtol=0)


def test_pca_gives_equal_patches_equal_colours_in_every_picture() -> None:
    a, b = made(0), made(1)
    shared = b.patches.clone()
    shared[1, -1, 5] = a.patches[0, -1, 7]
    first, second = pca_rgb(a, dataclasses.replace(b, patches=shared))
    torch.testing.assert_close(first[0].reshape(-1, 3)[7], second[1].reshape(-1, 3)[5])


def test_pca_refuses_features_of_different_size() -> None:
    other = dataclasses.replace(made(), embedding=torch.zeros(2, 5), patches=torch.zeros(2, DEPTH, ROWS * COLS, 5))
    with pytest.raises(ValueError, match=r"features of one size.*\[5, 8\]"):
        pca_rgb(made(), other)


def test_pca_of_constant_features_is_finite() -> None:
    assert pca_rgb(dataclasses.replace(made(), patches=torch.ones(2, DEPTH, ROWS * COLS, DIM))).isfinite().all()
