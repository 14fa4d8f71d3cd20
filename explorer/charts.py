"""Further figures from data: where many pictures lie, how agreement falls with the damage, how accurate probes are,
what an answer was made from; and panes and curves of one's own.

Enters: a `Projection`, a `Sweep`, an `Evaluation`, views with an `Attribution` each, maps, or numbers. Leaves: a
matplotlib figure. Nothing here computes; colours, and the rule that no window is opened, are those of `plots`.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from explorer.attribution import Attribution
from explorer.evaluation import Evaluation
from explorer.images import to_uint8
from explorer.plots import (
    AGREEMENT,
    COLOURS,
    DIVERGING,
    INK,
    QUIET,
    as_written,
    empty_figure,
    overlay,
    own_axes,
    plot_map,
    root_figure,
)
from explorer.projection import Projection
from explorer.sweeping import Sweep

Pane = tuple[Float[Tensor, "3 height width"], Float[Tensor, "rows cols"] | None]
STYLES = (("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-.", "^"), ("#CC79A7", ":", "D"))
MARKERS = {"clean": "o", "distorted": "X"}
_MEASURES = ("cls_cosine", "patch_cosine", "attention_js", "nearest_label")
_NAMES = {name: label for name, (label, _) in AGREEMENT.items()} | {"nearest_label": "1-NN accuracy"}


def plot_projection(projection: Projection, arrows: bool = True, ax: Axes | None = None) -> Figure:
    """The first two axes: a colour for each label, a marker for each kind of view, arrows along the views.

    Args:
        arrows: draw a line from each picture's place in the first view to its place in the next ones.
    """
    ax = own_axes(ax, (8.0, 6.4))
    views = list(projection.coordinates)
    labels = projection.labels or ("",) * len(projection.coordinates[views[0]])
    names = sorted(set(labels), key=str)
    palette = {name: colormaps["tab20"](place % 20) for place, name in enumerate(names)}
    colours = [palette[label] for label in labels]
    if arrows:
        _draw_ways(ax, projection, views)
    for view in views:
        points = projection.coordinates[view]
        student, clean = "student" in view, "clean" in view
        ax.scatter(
            points[:, 0],
            points[:, 1],
            c=colours,
            s=26 if clean else 34,
            marker=MARKERS["clean" if clean else "distorted"],
            edgecolors=COLOURS["student" if student else "teacher"],
            linewidths=0.7,
            alpha=0.85,
            label=view.replace("_", " "),
        )
    _legend(ax, names if projection.labels else [], palette)
    axes = ["PC", "UMAP"][projection.method == "umap"]
    shares = [f" ({share:.0%})" for share in projection.explained or ()] or ["", ""]
    ax.set(xlabel=f"{axes} 1{shares[0]}", ylabel=f"{axes} 2{shares[1]}", xticks=[], yticks=[])
    ax.set_aspect("equal", adjustable="datalim")
    fitted = projection.fit_on.replace("_", " ")
    as_written([ax.set_title(f"Fitted on '{fitted}', which is the ruler for all", loc="left", size=10, color=INK)])
    return root_figure(ax)


def plot_sweep(sweep: Sweep) -> Figure:
    """Four curves by strength; the band marks what the student was trained on."""
    figure = empty_figure((11.0, 2.9))
    figure.set_layout_engine("constrained")
    for ax, name in zip(figure.subplots(1, 4), _MEASURES, strict=True):
        for who, rows in sweep.rows.items():
            values = [np.nan if row[name] is None else row[name] for row in rows]
            ax.plot(sweep.values, values, color=COLOURS[who], marker="o" if who == "teacher" else "s", ms=4, label=who)
        if name == "nearest_label" and sweep.ceiling is not None:
            ax.axhline(sweep.ceiling, color=QUIET, ls=":", lw=1)
        if sweep.trained_range is not None:
            low, high = sweep.trained_range
            ax.axvspan(low, max(high, low + 0.004 * np.ptp(sweep.values)), color=COLOURS["student"], alpha=0.18, lw=0)
        ax.set_title(_NAMES[name], loc="left", size=10)
        as_written([ax.set_xlabel(f"{sweep.operator}: {sweep.parameter}", size=8)])
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    if sweep.never_trained:
        words = f"never trained on: the student learned {sweep.trained_on.spec}"
        as_written([figure.suptitle(words, size=9, color=QUIET)])
    return figure


def plot_evaluation(evaluation: Evaluation, ax: Axes | None = None) -> Figure:
    """Accuracy of each view with its confidence interval."""
    ax = own_axes(ax, (6.0, 2.6))
    table = evaluation.frame()
    places = np.arange(len(table))[::-1]
    colours = [COLOURS[view.split("_")[0]] for view in table["view"]]
    errors = [table["accuracy"] - table["low"], table["high"] - table["accuracy"]]
    ax.barh(places, table["accuracy"], xerr=errors, color=colours, alpha=0.85, ecolor=INK, capsize=3)
    ax.set_yticks(places, [view.replace("_", ", ") for view in table["view"]])
    ax.set(xlim=(0, 1), xlabel=f"accuracy ({evaluation.probe} probe, 95 % interval)")
    gap = "" if evaluation.gap_closed is None else f"   gap closed: {evaluation.gap_closed:.0%}"
    as_written([ax.set_title(f"{evaluation.distortion.spec}{gap}", loc="left", size=10)])
    ax.spines[["top", "right"]].set_visible(False)
    return root_figure(ax)


def plot_attribution(
    views: dict[str, Attribution] | Attribution,
    by_patch: bool = True,
    colormap: str = "viridis",
    opacity: float = 0.75,
) -> Figure:
    """Heatmaps over their pictures side by side, under one scale: diverging around 0 where the method has a sign.

    The scale ends at the 99.5th percentile of all heatmaps together, as single pixels stand far out.

    Args:
        views: made by `explorer.attribution.attribute_views`, or one attribution.
        by_patch: one square for each patch (see `Attribution.by_patch`); otherwise pixels, where the method gives them.
        colormap: of methods without a sign.
        opacity: of the heatmaps over the grey pictures.

    Raises:
        ValueError: no views, or views of several methods, which no scale can hold; unknown colour map; opacity.
    """
    named = {"": views} if isinstance(views, Attribution) else views
    methods = sorted({view.method for view in named.values()})
    if len(methods) != 1:
        raise ValueError(f"one scale needs views of one method; got {', '.join(methods) or 'none'}")
    maps = {name: view.by_patch() if by_patch else view.heatmap for name, view in named.items()}
    signed = next(iter(named.values())).signed
    values = np.concatenate([np.abs(heat.detach().float().cpu().numpy()).ravel() for heat in maps.values()])
    high = max(float(np.quantile(values, 0.995)), 1e-12)
    figure = empty_figure((3.6 * len(named) + 0.2, 3.7))
    figure.set_layout_engine("constrained")
    style: dict[str, Any] = {
        "colormap": DIVERGING if signed else colormap,
        "low": -high if signed else 0.0,
        "high": high,
    }
    for ax, (name, view) in zip(figure.subplots(1, len(named), squeeze=False)[0], named.items(), strict=True):
        plot_map(view.image.cpu(), maps[name], opacity=opacity, ax=ax, **style)
        colour = COLOURS.get(name.split("_")[0], INK)
        as_written([ax.set_title(name.replace("_", " · ") or methods[0], size=11, weight="bold", color=colour)])
        ax.set_xlabel(f"score {view.target:.2f} (baseline {view.baseline_target:.2f})", size=8.5, color=QUIET)
    words = next(iter(named.values())).towards
    as_written([figure.suptitle(f"{methods[0].replace('_', ' ')} towards: {words}", size=10, color=INK)])
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
        ValueError: no pane, unknown colour map, opacity out of range.
    """
    if not panes:
        raise ValueError("expected panes: title -> (picture, map or None); got none")
    columns = len(panes) if columns is None else columns
    rows = -(-len(panes) // columns)
    maps = [values for _, values in panes.values() if values is not None]
    known = [values[values.isfinite()] for values in maps]  # elsewhere the picture shows through
    top = max((float(values.max()) for values in known if len(values)), default=1.0) if high is None else high
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
    _draw_legend(ax, [*before, *lines], frameon=False, fontsize=8.5)
    return root_figure(ax)


def _draw_ways(ax: Axes, projection: Projection, views: list[str]) -> None:
    """From the reference to the teacher's distorted view, and on to the student's."""
    way = [view for view in views if view == projection.fit_on or "distorted" in view]
    for before, after in pairwise(way):
        ends = np.stack([projection.coordinates[before][:, :2], projection.coordinates[after][:, :2]], axis=1)
        colour = COLOURS["student" if "student" in after else "teacher"]
        ax.add_collection(LineCollection(list(ends), colors=colour, linewidths=0.5, alpha=0.3))


def _legend(ax: Axes, names: list, palette: dict) -> None:
    """Views by their markers, and labels by their colours, unless there are too many."""
    views, _ = ax.get_legend_handles_labels()
    shown = names if len(names) <= 20 else []
    spots = [ax.plot([], [], "o", color=palette[name], label=str(name))[0] for name in shown]
    _draw_legend(ax, [*views, *spots], loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)


def _draw_legend(ax: Axes, handles: Sequence[Artist], **style: Any) -> None:
    """With labels that begin with `_`, too: matplotlib leaves these out where it looks for them itself."""
    as_written(ax.legend(handles, [str(handle.get_label()) for handle in handles], **style).get_texts())
