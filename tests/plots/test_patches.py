"""Figures of what patches know: they show what the comparison computes, in the right panes."""

from itertools import product

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from explorer import plots
from explorer.inspection.comparison import VIEWS, Comparison
from explorer.plots.patches import _edges
from explorer.plots.segmentation import CLASS_COLOURS
from tests.plots.test_plots import GRID, SIZE, _heat, _panes, comparison  # noqa: F401  # a fixture

LABELS = [(1, 4, 2), (5, 0, 1), (2, 2, 3)]


def lines_of(ax: object) -> list[np.ndarray]:
    """What lies on the black ones."""
    collections = [each for each in ax.collections if isinstance(each, LineCollection)]  # type: ignore[attr-defined]
    return [np.array(each.get_segments()) for each in collections[1::2]]


def test_foreground_is_drawn_under_one_scale_and_outlined(comparison: Comparison) -> None:  # noqa: F811
    figure = plots.plot_foreground(comparison, layer=3)
    maps = comparison.foreground(3)
    top = max(float(scores.abs().max()) for scores in maps.values())
    for name, ax in zip(VIEWS, _panes(figure), strict=True):
        assert np.allclose(_heat(ax), maps[name].numpy())
        assert (ax.images[-1].norm.vmin, ax.images[-1].norm.vmax) == pytest.approx((-top, top))
        (lines,) = lines_of(ax)
        padded = np.pad((maps[name] > 0).numpy().astype(int), 1)
        assert len(lines) == np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
        assert lines.max() == SIZE, "in pixels of the picture"


def test_an_outline_goes_around_what_is_in_the_mask() -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[1, 2] = mask[1, 3] = True
    sides = {tuple(sorted(map(tuple, each))) for each in _edges(mask).tolist()}
    expected = {
        ((2, 1), (3, 1)),
        ((3, 1), (4, 1)),
        ((2, 2), (3, 2)),
        ((3, 2), (4, 2)),
        ((2, 1), (2, 2)),
        ((4, 1), (4, 2)),
    }
    assert sides == expected
    assert _edges(np.zeros((2, 2), dtype=bool)).shape == (0, 2, 2)


def colours_of(figure: Figure) -> list[np.ndarray]:
    """The number of the colour of each patch."""
    palette = np.array([to_rgb(colour) for colour in CLASS_COLOURS])
    return [np.abs(_heat(ax)[..., None, :] - palette).sum(axis=-1).argmin(axis=-1) for ax in _panes(figure)]


def test_clusters_have_a_colour_each(comparison: Comparison) -> None:  # noqa: F811
    found = comparison.clusters(5, layer=2)
    for name, shown in zip(VIEWS, colours_of(plots.plot_clusters(comparison, 5, layer=2)), strict=True):
        np.testing.assert_array_equal(shown, found[name])


def test_labels_have_a_colour_each_and_a_square(comparison: Comparison) -> None:  # noqa: F811
    figure = plots.plot_labels(comparison, LABELS)
    found = comparison.labelled(LABELS)
    for name, shown in zip(VIEWS, colours_of(figure), strict=True):
        np.testing.assert_array_equal(shown + 1, found[name])
    for row, col, label in LABELS:
        assert found["teacher_clean"][row, col] == label
    squares = [[patch for patch in ax.patches if isinstance(patch, Rectangle)] for ax in _panes(figure)]
    assert [len(each) for each in squares] == [6, 0, 0, 0]
    side = SIZE / GRID
    assert {each.get_xy() for each in squares[0]} == {(col * side, row * side) for row, col, _ in LABELS}


def test_matches_are_lines_to_where_patches_are_found(comparison: Comparison) -> None:  # noqa: F811
    figure = plots.plot_matches(comparison, layer=4)
    found = comparison.matches(4)
    assert list(found) == list(VIEWS[1:])
    reference, *others = _panes(figure)
    assert lines_of(reference) == []
    side = SIZE / GRID
    for name, ax in zip(VIEWS[1:], others, strict=True):
        wrong, right = lines_of(ax)
        assert len(wrong) + len(right) == GRID * GRID
        assert len(right) / GRID**2 == pytest.approx(found[name].share_right)
        ends = {(row, col): tuple(found[name].positions[0, row * GRID + col].tolist()) for row, col in _places()}
        drawn = np.concatenate([each for each in (wrong, right) if len(each)])[..., ::-1] / side - 0.5
        assert {tuple(map(int, start)): tuple(map(int, end)) for start, end in drawn.tolist()} == ends
        assert f"{found[name].share_right:.0%} within 1 patch" in [text.get_text() for text in ax.texts]


def test_norms_share_a_scale_and_those_that_stand_out_have_an_outline(comparison: Comparison) -> None:  # noqa: F811
    figure = plots.plot_norms(comparison, layer=4)
    found = comparison.norms()
    panes = _panes(figure)
    scales = {ax.images[-1].norm for ax in panes}
    assert len(scales) == 1
    for name, ax in zip(VIEWS, panes, strict=True):
        np.testing.assert_allclose(ax.images[-1].get_array(), found[name].patches[0, 4], rtol=1e-6)
        share = found[name].share[0, 4].item()
        assert f"{share:.0%} stand out" in [text.get_text() for text in ax.texts]
        assert (len(lines_of(ax)[-1]) > 0) == (share > 0)


def _places() -> list[tuple[int, int]]:
    return [*product(range(GRID), repeat=2)]
