"""Further figures from data: where many pictures lie, how agreement falls with the damage, under one corruption and
under all of them, how accurate probes are, what an answer was made from; and panes and curves of one's own.

Enters: a `Projection`, a `Sweep`, a `Benchmark`, an `Evaluation`, views with an `Attribution` each, maps, or numbers.
Leaves: a matplotlib figure. Nothing here computes; colours, and that no window is opened, are those of `plots`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from explorer.analysis.measures import CURVES, MEASURES
from explorer.distortions import DISTORTIONS
from explorer.evaluation.benchmarking import MEASURED, Benchmark
from explorer.evaluation.evaluation import Evaluation
from explorer.evaluation.projection import Projection
from explorer.evaluation.sweeping import Sweep
from explorer.models.students import KINDS, MOST_STUDENTS, STUDENT, TEACHER, network_and_kind
from explorer.plots.lettering import as_written
from explorer.plots.style import (
    COLOURS,
    DIVERGING,
    INK,
    QUIET,
    STUDENTS,
    bar_beside,
    empty_figure,
    own_axes,
    root_figure,
    symmetric_scale,
)

STYLES = (("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-.", "^"), ("#CC79A7", ":", "D"))
MARKERS = ("oX", "sD", "v^", "pP", "<>")
"""Clean and distorted, of the teacher and of up to four students."""
_INKS = (COLOURS["teacher"], *STUDENTS)


def plot_projection(projection: Projection, arrows: bool = True, ax: Axes | None = None) -> Figure:
    """The first two axes: a colour for each label, a marker for each view, arrows along the views.

    Args:
        arrows: draw a line from each picture's place in the fitted view to where its damage drives it for the teacher,
            and on to where each student puts it.
    """
    ax = own_axes(ax, (8.0, 6.4))
    views = list(projection.coordinates)
    places = _places(views)
    labels = projection.labels or ("",) * len(projection.coordinates[views[0]])
    names = sorted(set(labels), key=str)
    palette = {name: colormaps["tab20"](place % 20) for place, name in enumerate(names)}
    colours = [palette[label] for label in labels]
    if arrows:
        _draw_ways(ax, projection, places)
    for view in views:
        points = projection.coordinates[view]
        place, damaged = places[view], "clean" not in view
        ax.scatter(
            points[:, 0],
            points[:, 1],
            c=colours,
            s=34 if damaged and place == 0 else 26,
            marker=MARKERS[place][damaged],
            edgecolors=_INKS[place],
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
    """Four curves by strength; the band marks what the student was trained on, where there is one."""
    looks = dict(zip(sweep.rows, zip((COLOURS["teacher"], *STUDENTS), "osD^v", strict=True), strict=False))
    figure = empty_figure((11.0, 2.9))
    figure.set_layout_engine("constrained")
    for ax, name in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        for who, rows in sweep.rows.items():
            values = [np.nan if row[name] is None else row[name] for row in rows]
            colour, marker = looks[who]
            ax.plot(sweep.values, values, color=colour, marker=marker, ms=4, label=who)
        if name == "nearest_label" and sweep.ceiling is not None:
            ax.axhline(sweep.ceiling, color=QUIET, ls=":", lw=1)
        if sweep.trained_range is not None and len(sweep.learned) == 1:
            low, high = sweep.trained_range
            ax.axvspan(low, max(high, low + 0.004 * np.ptp(sweep.values)), color=COLOURS["student"], alpha=0.18, lw=0)
        ax.set_title(MEASURES[name].label, loc="left", size=10)
        as_written([ax.set_xlabel(f"{sweep.operator}: {sweep.parameter}", size=8)])
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    as_written(figure.axes[0].legend(frameon=False, fontsize=8).get_texts())
    if sweep.never_trained and len(sweep.learned) == 1:
        words = f"never trained on: the student learned {sweep.trained_on.spec}"
        as_written([figure.suptitle(words, size=9, color=QUIET)])
    return figure


def plot_benchmark(benchmark: Benchmark, measure: str = "cls_cosine", student: str | None = None) -> Figure:
    """Corruptions by severity: teacher, student and what the student is ahead, student - teacher. Teacher and student
    have one scale; a frame marks what the student was trained on.

    Args:
        measure: one of `explorer.evaluation.benchmarking.MEASURED`.
        student: whose; None for the first.

    Raises:
        ValueError: an unknown measure or student.
    """
    student = next(iter(benchmark.learned)) if student is None else student
    sheets = {TEACHER: benchmark.sheet(TEACHER, measure), student: benchmark.sheet(student, measure)}
    both = np.stack(list(sheets.values()))
    bounds = (np.nanmin(both), np.nanmax(both)) if np.isfinite(both).any() else (0, 1)
    figure = empty_figure((11.0, 1.6 + 0.24 * len(benchmark.corruptions)))
    figure.set_layout_engine("constrained")
    first, second, last = figure.subplots(1, 3, sharey=True)
    label, better = MEASURED[measure].label, MEASURED[measure].better
    for ax, (who, values) in zip((first, second), sheets.items(), strict=True):
        drawn = _draw_sheet(ax, benchmark, who, values)
        drawn.set(cmap="viridis" if better > 0 else "viridis_r", clim=bounds)
    bar_beside(second, drawn, label)
    ahead = sheets[student] - sheets[TEACHER]
    drawn = _draw_sheet(last, benchmark, f"{student} - {TEACHER}", ahead)
    drawn.set(cmap=DIVERGING if better < 0 else DIVERGING.removesuffix("_r"), norm=symmetric_scale(ahead))
    bar_beside(last, drawn, "blue: the student is closer")
    for row, name in enumerate(benchmark.corruptions):
        for column, severity in enumerate(benchmark.severities):
            if benchmark.trained_on(student, name, severity):
                second.plot(column, row, "s", mfc="none", mec="white", ms=7, mew=2.4)
                second.plot(column, row, "s", mfc="none", mec=INK, ms=7, mew=1)
    words = f"{label}, {benchmark.pictures} pictures at {benchmark.image_size[0]} x {benchmark.image_size[1]} px"
    as_written([figure.suptitle(f"{words}; framed: {student} learned it", size=9, color=QUIET)])
    return figure


def _draw_sheet(
    ax: Axes, benchmark: Benchmark, title: str, values: Float[np.ndarray, "corruption severity"]
) -> AxesImage:
    rows = [DISTORTIONS[name].label for name in benchmark.corruptions]
    ax.set_yticks(range(len(rows)), rows, size=8)
    ax.set_xticks(range(len(benchmark.severities)), [f"{severity:g}" for severity in benchmark.severities], size=8)
    ax.set_xlabel("severity", size=8)
    as_written([ax.set_title(title, loc="left", size=10)])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax.imshow(values, aspect="auto")


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


def _places(views: list[str]) -> dict[str, int]:
    """0 for a view of the teacher's, from 1 on for those of students, in their order. A view of another name than ours
    is the teacher's, unless it tells of a student."""
    given = {view: network_and_kind(view) for view in views}
    whose = {
        view: network if kind in KINDS else STUDENT if STUDENT in view else TEACHER
        for view, (network, kind) in given.items()
    }
    students = list(dict.fromkeys(network for network in whose.values() if network != TEACHER))
    return {view: 0 if who == TEACHER else 1 + students.index(who) % MOST_STUDENTS for view, who in whose.items()}


def _draw_ways(ax: Axes, projection: Projection, places: dict[str, int]) -> None:
    """From the reference to the teacher's distorted view, and on to that of each student."""
    before = projection.fit_on
    for after, place in places.items():
        if "distorted" not in after or after == before:
            continue
        ends = np.stack([projection.coordinates[before][:, :2], projection.coordinates[after][:, :2]], axis=1)
        ax.add_collection(LineCollection(list(ends), colors=_INKS[place], linewidths=0.5, alpha=0.3))
        before = before if place else after


def _legend(ax: Axes, names: list, palette: dict) -> None:
    """Views by their markers, and labels by their colours, unless there are too many."""
    views, _ = ax.get_legend_handles_labels()
    shown = names if len(names) <= 20 else []
    spots = [ax.plot([], [], "o", color=palette[name], label=str(name))[0] for name in shown]
    draw_legend(ax, [*views, *spots], loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)


def draw_legend(ax: Axes, handles: Sequence[Artist], **style: Any) -> None:
    """With labels that begin with `_`, too: matplotlib leaves these out where it looks for them itself."""
    as_written(ax.legend(handles, [str(handle.get_label()) for handle in handles], **style).get_texts())
