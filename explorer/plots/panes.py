"""Rows of panes under one scale, and curves over steps.

Enters: maps, attributions, records of a run. Leaves: a matplotlib figure.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from explorer.data.image import to_uint8
from explorer.errors import InputError, whole_number
from explorer.inspection.attribution import Attribution
from explorer.plots.evaluation import STYLES, draw_legend
from explorer.plots.lettering import as_written
from explorer.plots.overlays import overlay, plot_map
from explorer.plots.style import COLOURS, DIVERGING, INK, QUIET, empty_figure, own_axes, root_figure

Pane = tuple[Float[Tensor, "3 height width"], Float[Tensor, "rows cols"] | None]


def plot_attribution(
    views: dict[str, Attribution] | Attribution,
    by_patch: bool = True,
    colormap: str = "viridis",
    opacity: float = 0.75,
) -> Figure:
    """Heatmaps over their pictures side by side, under one scale: diverging around 0 where the method has a sign.

    The scale ends at the 99.5th percentile of all heatmaps together, as single pixels stand far out.

    Args:
        views: made by `explorer.inspection.attribution.attribute_views`, or one attribution.
        by_patch: one square for each patch (see `Attribution.by_patch`); otherwise pixels, where the method gives them.
        colormap: of methods without a sign.
        opacity: of the heatmaps over the grey pictures.

    Raises:
        ValueError: no views, or views of several methods, which no scale can hold; unknown colour map; opacity.
    """
    named = {"": views} if isinstance(views, Attribution) else views
    methods = sorted({view.method for view in named.values()})
    if len(methods) != 1:
        raise InputError(f"one scale needs views of one method; got {', '.join(methods) or 'none'}")
    maps = {name: view.by_patch() if by_patch else view.heatmap for name, view in named.items()}
    first = next(iter(named.values()))
    values = np.concatenate([np.abs(heat.detach().float().cpu().numpy()).ravel() for heat in maps.values()])
    high = max(float(np.quantile(values, 0.995)), 1e-12)
    figure = empty_figure((3.6 * len(named) + 0.2, 3.7))
    figure.set_layout_engine("constrained")
    style: dict[str, Any] = {
        "colormap": DIVERGING if first.signed else colormap,
        "low": -high if first.signed else 0.0,
        "high": high,
    }
    for ax, (name, view) in zip(figure.subplots(1, len(named), squeeze=False)[0], named.items(), strict=True):
        plot_map(view.image.cpu(), maps[name], opacity=opacity, ax=ax, **style)
        colour = COLOURS.get(name.split("_")[0], INK)
        as_written([ax.set_title(name.replace("_", " · ") or first.called, size=11, weight="bold", color=colour)])
        ax.set_xlabel(f"score {view.target:.2f} (baseline {view.baseline_target:.2f})", size=8.5, color=QUIET)
    as_written([figure.suptitle(f"{first.called} towards: {first.towards}", size=10, color=INK)])
    return figure


def plot_panes(
    panes: Mapping[str, Pane],
    columns: int | None = None,
    label: str = "attention probability",
    colormap: str = "viridis",
    opacity: float = 0.75,
    low: float = 0.0,
    high: float | None = None,
) -> Figure:
    """Pictures and maps side by side, all maps under one colour scale.

    Args:
        panes: title -> (picture, map over it); None instead of a map shows the picture itself. Titles are drawn as they
            stand.
        columns: so many panes in a row; None: all of them.
        label: of the colour bar.
        colormap, opacity: as in `plots.plot_comparison`.
        low, high: ends of the scale; high=None is the largest value of all maps.

    Raises:
        ValueError: no pane, no column, a scale that ends below `low`, unknown colour map, opacity out of range.
    """
    if not panes:
        raise InputError("expected panes: title -> (picture, map or None); got none")
    columns = whole_number("columns", len(panes) if columns is None else columns, 1)
    rows = -(-len(panes) // columns)
    maps = [values for _, values in panes.values() if values is not None]
    known = [values[values.isfinite()] for values in maps]  # elsewhere the picture shows through
    top = max((float(values.max()) for values in known if len(values)), default=1.0) if high is None else high
    if top < low:
        raise InputError(f"the scale begins at low={low:g} and would end at {top:g}: give a low below it")
    figure = empty_figure((2.35 * columns + (0.8 if maps else 0), 2.7 * rows))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, (picture, values)) in zip(axes.flat, panes.items(), strict=False):
        style: dict[str, Any] = {"colormap": colormap, "opacity": opacity, "low": low, "high": top}
        ax.imshow(to_uint8(picture) if values is None else overlay(picture, values, **style), interpolation="nearest")
        as_written([ax.set_title(title, size=9.5, color=INK)])
    if maps:
        bar = figure.colorbar(ScalarMappable(Normalize(low, top), colormap), ax=axes, fraction=0.035, pad=0.015)
        bar.set_label(label, size=8.5, color=QUIET)
        bar.ax.tick_params(labelsize=8, color=QUIET, labelcolor=QUIET)
        bar.outline.set_visible(False)
    return figure


def plot_curves(
    curves: Mapping[str, Sequence[float | int]],
    xlabel: str,
    ylabel: str,
    x: Sequence[float | int] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Curves over one axis, told apart by colour, line and marker.

    Args:
        curves: name -> values; names are drawn as they stand.
        x: where the values lie; None: 0, 1, 2 and so on, such as layers.
        ax: where to draw; None for a figure of its own.
    """
    ax = own_axes(ax, (6.4, 3.1))
    before, _ = ax.get_legend_handles_labels()
    lines = []
    for (name, values), (colour, line, marker) in zip(curves.items(), cycle(STYLES), strict=False):
        places = range(len(values)) if x is None else x
        lines += ax.plot(places, values, color=colour, linestyle=line, marker=marker, ms=4, label=name)
    ax.set_xlabel(xlabel, size=9.5)
    ax.set_ylabel(ylabel, size=9.5)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    draw_legend(ax, [*before, *lines], frameon=False, fontsize=8.5)
    return root_figure(ax)
