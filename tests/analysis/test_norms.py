"""Norms of tokens: those that the blocks leave, the rule for what stands out, and what is held against a reference."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import explorer as ex
from explorer import norm_outliers, token_norms
from explorer.errors import InputError
from explorer.models.trace import Trace
from tests.small import network


@pytest.fixture(scope="module")
def backbone() -> ex.Backbone:
    return network(0)


@pytest.fixture(scope="module")
def pictures(backbone: ex.Backbone) -> torch.Tensor:
    return torch.rand(6, 3, *backbone.height_width, generator=torch.Generator().manual_seed(0))


def with_outliers(trace: Trace, *places: tuple[int, int], layer: int = 0) -> Trace:
    """The same trace, with patches of huge norm: (picture, patch)."""
    assert trace.norms is not None
    norms = trace.norms.clone()
    for picture, patch in places:
        norms[picture, layer, trace.prefix + patch] = 1e4
    return replace(trace, norms=norms)


@pytest.mark.parametrize("layers", ["all", (3, 7)])
def test_norms_are_those_that_blocks_leave(backbone: ex.Backbone, pictures: torch.Tensor, layers: object) -> None:
    left: list[torch.Tensor] = []
    hooks = [block.register_forward_hook(lambda *given: left.append(given[2])) for block in backbone.module.blocks]  # type: ignore[union-attr]
    trace = backbone.trace(pictures, layers=layers)  # type: ignore[arg-type]
    for hook in hooks:
        hook.remove()
    found = norm_outliers(trace)
    torch.testing.assert_close(token_norms(trace), found.patches.flatten(start_dim=2), rtol=0, atol=0)
    for place, layer in enumerate(trace.layers):
        expected = left[layer].norm(dim=-1)
        torch.testing.assert_close(found.patches[:, place].flatten(1), expected[:, backbone.prefix :])
        torch.testing.assert_close(found.prefix[:, place], expected[:, : backbone.prefix])
    assert found.patches.shape[2:] == tuple(backbone.grid)


def test_norms_take_no_part_in_training(backbone: ex.Backbone, pictures: torch.Tensor) -> None:
    trace = backbone.trace(pictures, grad=True)
    assert trace.embedding.requires_grad
    assert trace.norms is not None
    assert not trace.norms.requires_grad


def test_a_module_of_ones_own_has_them_too(backbone: ex.Backbone, pictures: torch.Tensor) -> None:
    said = {name: getattr(backbone, name) for name in ("image_size", "grid", "prefix", "mean", "std")}
    own = ex.wrap_backbone(backbone.module, blocks="blocks", norm="norm", class_token=True, **said)
    expected, found = (each.trace(pictures).norms for each in (backbone, own))
    torch.testing.assert_close(found, expected)


def test_what_lies_far_above_the_reference_stands_out(backbone: ex.Backbone, pictures: torch.Tensor) -> None:
    reference = backbone.trace(pictures)
    assert reference.norms is not None
    found = norm_outliers(with_outliers(reference, (1, 2), (4, 0)), reference)
    for place in range(len(reference.layers)):
        norms = reference.norms[:, place, reference.prefix :].numpy()
        lower, upper = np.quantile(norms, [0.25, 0.75])
        assert float(found.thresholds[place]) == pytest.approx(upper + 3 * (upper - lower), rel=1e-5)
    assert found.outliers[:, 0].flatten(1).nonzero().tolist() == [[1, 2], [4, 0]]
    assert found.share[1, 0] == 1 / reference.grid.patches
    assert found.share[0, 0] == 0


def test_overlap_counts_places_that_stand_out_in_both(backbone: ex.Backbone, pictures: torch.Tensor) -> None:
    plain = backbone.trace(pictures)
    reference, other = with_outliers(plain, (0, 0), (0, 1), (2, 3)), with_outliers(plain, (0, 1), (0, 2), (3, 0))
    found = norm_outliers(other, reference)
    assert found.overlap[0, 0] == pytest.approx(1 / 3)
    assert found.overlap[2, 0] == found.overlap[3, 0] == 0
    assert torch.isnan(found.overlap[1, 0])
    assert norm_outliers(reference).overlap[0, 0] == 1


def test_the_table_has_a_row_for_each_picture_and_block(backbone: ex.Backbone, pictures: torch.Tensor) -> None:
    found = norm_outliers(backbone.trace(pictures, layers=(0, 11)))
    table = found.frame()
    assert list(table) == ["image", "layer", "median", "largest", "threshold", "outliers", "overlap", "prefix_0"]
    assert table[["image", "layer"]].to_numpy().tolist() == [[image, layer] for image in range(6) for layer in (0, 11)]
    assert table["largest"][3] == pytest.approx(float(found.patches[1, 1].max()))
    assert table["prefix_0"][2] == pytest.approx(float(found.prefix[1, 0, 0]))


def test_what_cannot_be_compared_is_refused(backbone: ex.Backbone, pictures: torch.Tensor) -> None:
    trace = backbone.trace(pictures)
    with pytest.raises(InputError, match="no norms of tokens"):
        norm_outliers(replace(trace, norms=None))
    with pytest.raises(InputError, match="the same pictures, grid and blocks"):
        norm_outliers(trace, trace[0:2])
    with pytest.raises(InputError, match="the same pictures, grid and blocks"):
        norm_outliers(trace, backbone.trace(pictures, layers=-1))
