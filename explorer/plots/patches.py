"""What patches know, and how large they are, as figures: foreground, clusters, matches, labels and norms in all views
of a comparison.

Enters: a `Comparison`. Leaves: a matplotlib figure. The rules are those of `explorer.analysis.dense` and `norms`.
"""

from collections.abc import Iterable, Mapping
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from explorer.analysis.dense import NEAR, PatchMatches
from explorer.data.image import to_uint8
from explorer.evaluation.patch_probes import PatchProbe
from explorer.inspection.comparison import Comparison
from explorer.models.students import network_and_kind
from explorer.models.trace import Grid
from explorer.plots.comparison import damage, layer_text, mark_patch, views_sheet, write_title
from explorer.plots.lettering import as_written
from explorer.plots.overlays import draw_grey, draw_map, fraction, note
from explorer.plots.segmentation import CLASS_COLOURS
from explorer.plots.style import bar_below, highest, to_array

_RIGHT, _WRONG = "#56B4E9", "#E69F00"
_MOST_LINES = 100


def plot_foreground(
    comparison: Comparison, layer: int = -1, colormap: str = "viridis", opacity: float = 0.75
) -> Figure:
    """How much each patch belongs to the foreground, all views under one scale; what lies above 0 is outlined.

    Args:
        comparison: made by `explorer.compare`.
        layer: whose features.
        colormap, opacity: as in `plot_comparison`.

    Raises:
        ValueError: layer or colour map that does not exist; opacity out of range; features that are not finite.
    """
    maps = {name: to_array(scores) for name, scores in comparison.foreground(layer).items()}
    top = highest(*(np.abs(scores) for scores in maps.values()))
    figure, axes = views_sheet(comparison, bottom=0.72)
    write_title(figure, damage(comparison), f"foreground of the patches · {layer_text(comparison, layer)}")
    for (name, scores), ax in zip(maps.items(), axes.flat, strict=False):
        picture = getattr(comparison, network_and_kind(name)[1])
        heat = draw_map(ax, picture, scores, Normalize(-top, top), colormap, opacity, smooth=False)
        scale = np.array(picture.shape[:0:-1]) / scores.shape[::-1]
        _draw_lines(ax, _edges(scores > 0) * scale, "white")
    bar_below(figure, axes[-1, :], heat, "first principal component of all views, in standard deviations")
    return figure


def plot_clusters(comparison: Comparison, clusters: int = 6, layer: int = -1, opacity: float = 0.75) -> Figure:
    """Which kind of patch stands where: the same colour is the same cluster of the reference's patches in all views.

    Args:
        comparison: made by `explorer.compare`.
        clusters: how many; above 12 the colours come again.
        layer: whose features.
        opacity: of the colours over the grey picture, from 0 to 1.

    Raises:
        ValueError: a number of clusters or a layer that does not exist; opacity out of range; features that are not
            finite.
    """
    caption = f"{clusters} clusters of the reference's patches"
    return _numbered(comparison, comparison.clusters(clusters, layer), caption, layer, opacity)


def plot_labels(
    comparison: Comparison, labels: Iterable[tuple[int, int, int]], layer: int = -1, opacity: float = 0.75
) -> Figure:
    """Labels of a few patches of the reference, carried to all patches of all views; a square is around each of them.

    Args:
        comparison: made by `explorer.compare`.
        labels: (row, col, label) of patches of the reference, labels from 1; see `explorer.propagate_labels`.
        layer: whose features.
        opacity: of the colours over the grey picture, from 0 to 1.

    Raises:
        ValueError: no labels, or one outside of the grid; a layer that does not exist; opacity out of range; features
            that are not finite.
    """
    labels = list(labels)
    numbers = {name: values - 1 for name, values in comparison.labelled(labels, layer).items()}
    figure = _numbered(comparison, numbers, "labels of a few patches, carried to the others", layer, opacity)
    for row, col, _ in labels:
        mark_patch(figure.axes[0], comparison.reference.trace.grid, row, col, dashed=False)
    return figure


def plot_classes(comparison: Comparison, probe: PatchProbe, opacity: float = 0.75) -> Figure:
    """What each patch of each view is, as a linear probe says it, and how many are as in the reference.

    Args:
        comparison: made by `explorer.compare`.
        probe: made by `explorer.fit_patch_probe`.
        opacity: of the colours over the grey picture, from 0 to 1.

    Raises:
        ValueError: a probe of another backbone; opacity out of range; features that are not finite.
    """
    found = {name: likely.argmax(dim=-1) for name, likely in comparison.classes(probe).items()}
    figure = _numbered(comparison, found, "classes by a linear probe", probe.layer, opacity, bottom=0.72)
    reference, *others = found.values()
    for numbers, ax in zip(others, figure.axes[1:], strict=False):
        note(ax, f"{(numbers == reference).float().mean():.0%} as in the reference")
    shown = sorted({int(number) for numbers in found.values() for number in numbers.unique()})
    spots = [Patch(facecolor=CLASS_COLOURS[number % len(CLASS_COLOURS)]) for number in shown]
    names = [probe.classes[number] for number in shown]
    as_written(figure.legend(spots, names, loc="lower center", ncols=6, frameon=False, fontsize=9).get_texts())
    return figure


def plot_matches(comparison: Comparison, layer: int = -1) -> Figure:
    """Where patches of the reference are found in the other views: lines from their place to where they are found.

    Blue with a dot at its end is a match within one patch of its place, orange one elsewhere. Some patches are drawn,
    evenly spread; the share in each pane counts all of them.

    Args:
        comparison: made by `explorer.compare`.
        layer: whose features.

    Raises:
        ValueError: a layer that does not exist, features that are not finite.
    """
    grid = comparison.reference.trace.grid
    figure, axes = views_sheet(comparison, bottom=0.2)
    caption = f"best matches of the reference's patches · {layer_text(comparison, layer)}"
    write_title(figure, damage(comparison), caption)
    matches = comparison.matches(layer)
    for name, ax in zip(comparison.views, axes.flat, strict=False):
        picture = getattr(comparison, network_and_kind(name)[1])
        ax.imshow(to_uint8(picture), interpolation="antialiased")
        if name in matches:
            _draw_matches(ax, matches[name], grid, np.array(picture.shape[:0:-1]) / grid[::-1])
    return figure


def plot_norms(comparison: Comparison, layer: int = -1, colormap: str = "viridis", opacity: float = 0.75) -> Figure:
    """How large the token of each patch is after a block, all views under one scale; patches that stand out by the
    reference's limit are outlined, and their share told. See `explorer.norm_outliers`.

    Args:
        comparison: made by `explorer.compare`.
        layer: whose tokens.
        colormap, opacity: as in `plot_comparison`.

    Raises:
        ValueError: layer or colour map that does not exist; opacity out of range; views without norms.
    """
    place, norms = comparison.reference.trace.position(layer), comparison.norms()
    maps = {name: to_array(each.patches[0, place]) for name, each in norms.items()}
    scale = Normalize(min(values.min() for values in maps.values()), highest(*maps.values()))
    limit = float(next(iter(norms.values())).thresholds[place])
    figure, axes = views_sheet(comparison, bottom=0.72)
    caption = f"norms of the patches' tokens · {layer_text(comparison, layer)} · above {limit:.2f} one stands out"
    write_title(figure, damage(comparison), caption)
    for (name, values), ax in zip(maps.items(), axes.flat, strict=False):
        picture = getattr(comparison, network_and_kind(name)[1])
        heat = draw_map(ax, picture, values, scale, colormap, opacity, smooth=False)
        _draw_lines(ax, _edges(values > limit) * (np.array(picture.shape[:0:-1]) / values.shape[::-1]), "white")
        note(ax, f"{(values > limit).mean():.0%} stand out")
    bar_below(figure, axes[-1, :], heat, "L2 norm")
    return figure


def _numbered(
    comparison: Comparison,
    maps: Mapping[str, Int[Tensor, "rows cols"]],
    caption: str,
    layer: int,
    opacity: float,
    bottom: float = 0.2,
) -> Figure:
    """A colour for each number, from 0; bottom: inches that are kept free."""
    colours = np.array([to_rgb(colour) for colour in CLASS_COLOURS])
    figure, axes = views_sheet(comparison, bottom=bottom)
    write_title(figure, damage(comparison), f"{caption} · {layer_text(comparison, layer)}")
    for (name, numbers), ax in zip(maps.items(), axes.flat, strict=False):
        extent = draw_grey(ax, getattr(comparison, network_and_kind(name)[1]))
        shown = colours[to_array(numbers).astype(int) % len(colours)]
        ax.imshow(shown, extent=extent, interpolation="nearest", alpha=fraction(opacity))
    return figure


def _draw_matches(ax: Axes, matches: PatchMatches, grid: Grid, scale: Float[np.ndarray, " 2"]) -> None:
    step = int(np.ceil(np.sqrt(grid.patches / _MOST_LINES)))
    some = [grid.position(row, col) for row, col in product(*(range(step // 2, side, step) for side in grid))]
    ends = np.stack([to_array(matches.points), to_array(matches.positions[0])], axis=1)[some]
    lines = (ends[..., ::-1] + 0.5) * scale
    right = to_array(matches.right[0]).astype(bool)[some]
    for colour, drawn in ((_WRONG, lines[~right]), (_RIGHT, lines[right])):
        _draw_lines(ax, drawn, colour)
        ax.plot(*drawn[:, 1].T, "o", color=colour, markersize=3.6, markeredgecolor="black", markeredgewidth=0.8)
    note(ax, f"{matches.share_right:.0%} within {NEAR} patch")


def _draw_lines(ax: Axes, lines: Float[np.ndarray, "line 2 2"], colour: str) -> None:
    """On black, to be seen on any picture."""
    for ink, width in (("black", 2.2), (colour, 1.1)):
        ax.add_collection(LineCollection([*lines], colors=ink, linewidths=width, capstyle="round"), autolim=False)


def _edges(mask: Bool[np.ndarray, "rows cols"]) -> Float[np.ndarray, "edge 2 2"]:
    """The sides of patches between what is in a mask and what is not, as lines from (x, y) to (x, y)."""
    padded = np.pad(mask, 1)
    across = [[(c, r), (c + 1, r)] for r, c in zip(*np.nonzero(np.diff(padded, axis=0)[:, 1:-1]), strict=True)]
    down = [[(c, r), (c, r + 1)] for r, c in zip(*np.nonzero(np.diff(padded, axis=1)[1:-1]), strict=True)]
    return np.array(across + down, dtype=float).reshape(-1, 2, 2)
