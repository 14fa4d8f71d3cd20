"""The frozen types: positions, slices, and what they refuse."""

import dataclasses

import pytest
import torch
from jaxtyping import TypeCheckError

from explorer.models.trace import Grid, Trace


def made(batch: int = 2, layers: tuple[int, ...] = (2, 5, 11), full: bool = False) -> Trace:
    generator = torch.Generator().manual_seed(0)
    tokens = 1 + 6
    return Trace(
        embedding=torch.randn(batch, 8, generator=generator),
        cls=torch.randn(batch, len(layers), 8, generator=generator),
        patches=torch.randn(batch, len(layers), 6, 8, generator=generator),
        attention=torch.randn(batch, len(layers), 3, tokens if full else 1, tokens, generator=generator).softmax(-1),
        layers=layers,
        grid=Grid(2, 3),
        prefix=1,
    )


def test_grid_counts_row_by_row() -> None:
    grid = Grid(2, 3)
    assert grid.patches == 6
    assert [grid.position(r, c) for r in range(2) for c in range(3)] == list(range(6))


@pytest.mark.parametrize(("row", "col"), [(-1, 0), (0, -1), (2, 0), (0, 3)])
def test_grid_refuses_patches_outside(row: int, col: int) -> None:
    with pytest.raises(ValueError, match=rf"row={row}, col={col}.*rows go from 0 to 1, columns from 0 to 2"):
        Grid(2, 3).position(row, col)


def test_position_takes_block_numbers_and_counts_back_from_the_last_traced() -> None:
    trace = made()
    assert [trace.position(n) for n in (2, 5, 11, -1, -3)] == [0, 1, 2, 2, 0]


@pytest.mark.parametrize("layer", [0, 3, 12, -4])
def test_position_refuses_blocks_that_were_not_traced(layer: int) -> None:
    with pytest.raises(ValueError, match=rf"layer {layer} was not traced.*\[2, 5, 11\]"):
        made().position(layer)


def test_slices_keep_the_batch_axis() -> None:
    trace = made(batch=3)
    one = trace[1:2]
    assert len(trace) == 3
    assert len(one) == 1
    for name in ("embedding", "cls", "patches", "attention"):
        assert torch.equal(getattr(one, name), getattr(trace, name)[1:2])
    assert (one.layers, one.grid, one.prefix) == (trace.layers, trace.grid, trace.prefix)


def test_a_number_is_refused_as_index(unchecked: None) -> None:
    with pytest.raises(TypeError, match=r"trace\[0:1\]"):
        made()[0]  # type: ignore[index]


def test_optional_tensors_stay_none() -> None:
    bare = dataclasses.replace(made(), cls=None, attention=None)
    assert bare[0:1].cls is None
    assert bare.to("cpu").attention is None


def test_to_and_detach() -> None:
    trace = dataclasses.replace(made(), embedding=torch.ones(2, 8, requires_grad=True))
    assert trace.to(torch.float64).patches.dtype == torch.float64
    assert not trace.detach().embedding.requires_grad


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        made().prefix = 2  # type: ignore[misc]


def test_shapes_are_checked_while_tests_run() -> None:
    with pytest.raises(TypeCheckError):
        dataclasses.replace(made(), patches=torch.zeros(2, 2, 6, 8))  # two layers, where the others have three
