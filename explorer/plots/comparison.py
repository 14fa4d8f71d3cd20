"""A comparison as a figure: maps of both networks on the clean and the distorted picture, heads, similarity, colours.

Enters: a `Comparison`. Leaves: a matplotlib figure. Whatever is compared shares one colour scale.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from matplotlib.text import Text
from torch import Tensor

from explorer.analysis.maps import Head
from explorer.analysis.measures import AGREEMENT, MEASURES
from explorer.data.image import to_uint8
from explorer.errors import InputError
from explorer.inspection.comparison import Comparison
from explorer.models.students import TEACHER, network_and_kind
from explorer.plots.lettering import as_written
from explorer.plots.overlays import draw_grey, draw_map, fraction, inside, note
from explorer.plots.style import (
    BETTER,
    CELL,
    COLOURS,
    DIVERGING,
    GAP,
    INK,
    PAPER,
    QUIET,
    WORSE,
    bar_below,
    bar_beside,
    bare,
    colormap_of,
    empty_figure,
    highest,
    lowest,
    number_text,
    own_axes,
    root_figure,
    scale_end,
    symmetric_scale,
    to_array,
)

_PERCENTILE = 0.995
_LINE = 0.21  # of the table of numbers, in inches
_LONGEST = 24  # letters of a student's name that are drawn


def plot_comparison(
    comparison: Comparison,
    layer: int = -1,
    head: Head = "mean",
    colormap: str = "viridis",
    opacity: float = 0.75,
    smooth: bool = False,
) -> Figure:
    """One picture seen four ways: rows picture, teacher, student; columns clean, distorted, difference.

    All maps share one colour scale from 0 on; see `explorer.plots.style.scale_end`. A difference is the distorted view
    minus the reference (the teacher on the clean picture), all differences under one symmetric scale. Without a clean
    picture there is no such column, and the only difference is student minus teacher. Students with names have a row
    each, and their numbers stand in a table below.

    Args:
        comparison: made by `explorer.compare`.
        layer, head: as in `explorer.attention_map`.
        colormap: a name of matplotlib's; "viridis", "cividis", "magma" and "inferno" are safe for colour-blind readers.
        opacity: of the maps over the grey picture, from 0 to 1.
        smooth: whether maps are interpolated; otherwise one square is one patch.

    Raises:
        ValueError: layer, head or colour map that does not exist; opacity out of range.
    """
    maps = {name: to_array(values) for name, values in comparison.maps(layer, head).items()}
    kinds, networks, changes = pictures_of(comparison), comparison.networks, changes_of(comparison, maps)
    end, highest_value = scale_end(*maps.values()), highest(*maps.values())
    scale, symmetric = Normalize(0, end), symmetric_scale(*changes.values())
    below = _LINE * (len(AGREEMENT) + 2) if comparison.named else 0.0
    figure, axes = _sheet(len(networks) + 1, len(kinds) + 1, comparison.distorted, top=0.88, bottom=0.72 + below)
    write_title(figure, damage(comparison), caption_of(comparison, layer, head))
    _pictures_row(axes[0], comparison)
    style: dict[str, Any] = {"opacity": opacity, "smooth": smooth}
    for network, row in zip(networks, axes[1:], strict=True):
        _row_name(row[0], network, comparison)
        for kind, ax in zip(kinds, row, strict=False):
            heat = draw_map(ax, getattr(comparison, kind), maps[f"{network}_{kind}"], scale, colormap, **style)
        if network in changes:
            change = draw_map(row[-1], getattr(comparison, kinds[0]), changes[network], symmetric, DIVERGING, **style)
        else:
            row[-1].set_axis_off()
    if comparison.clean is not None:
        _mark_reference(axes[1, 0])
    few = f" (a few: up to {highest_value:.3f})" if highest_value > end else ""
    bar_below(figure, axes[-1, :-1], heat, f"attention probability, all maps{few}")
    bar_below(figure, axes[-1, -1:], change, " minus ".join(reversed(compared(comparison))))
    if comparison.named:
        _numbers_table(figure, comparison)
    return figure


def plot_heads(
    data: Comparison | Float[Tensor, "layer head rows cols"],
    view: str = "student_distorted",
    colormap: str = "viridis",
    high: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """An overview of all blocks and heads: one small map each, all under one colour scale.

    Args:
        data: a comparison, or maps as `Comparison.heads` returns them.
        view: which view of a comparison.
        colormap: a name of matplotlib's.
        high: where the scale ends. None: at the 99.5th percentile, of all views of a comparison together, so that
            figures of two of them can be laid side by side; a few patches may lie above it.
        ax: where to draw; None for a figure of its own.

    Raises:
        ValueError: unknown view or colour map; maps of another shape.
    """
    maps = to_array(data.heads(view) if isinstance(data, Comparison) else data)
    if maps.ndim != 4:
        raise InputError(f"expected maps 'layer head rows cols', such as comparison.heads(view); got {maps.shape}")
    everything = [to_array(data.heads(name)) for name in data.views] if isinstance(data, Comparison) else [maps]
    scale = Normalize(0, highest(*everything, percentile=_PERCENTILE) if high is None else high)
    mosaic, ticks = _mosaic(maps)
    ax = own_axes(ax, (6.6 * mosaic.shape[1] / mosaic.shape[0] + 1.5, 7.4))
    image = ax.imshow(mosaic, cmap=colormap_of(colormap), norm=scale, interpolation="nearest")
    _label_mosaic(ax, *ticks)
    if isinstance(data, Comparison):
        network, kind = network_and_kind(view)
        title = ax.set_title(f"{network} · {kind}", size=11, weight="bold", color=_colour(network))
        as_written([title, ax.text(0, -0.01, damage(data), size=8, color=QUIET, **inside(ax))])
    bar_beside(ax, image, "attention probability", extend="max")
    return root_figure(ax)


def plot_similarity(
    comparison: Comparison,
    row: int,
    col: int,
    layer: int = -1,
    colormap: str = "magma",
    opacity: float = 0.75,
    smooth: bool = False,
) -> Figure:
    """Where one patch of the reference is found again: its cosine with all patches of all views.

    Without a clean picture it is a patch of the teacher's view of the damaged one.

    The patch is a square in the reference, and a dashed square at the same place elsewhere. A ring is around the patch
    that matches best.

    Args:
        comparison: made by `explorer.compare`.
        row, col: the patch of the reference.
        layer: whose features.
        colormap, opacity, smooth: as in `plot_comparison`.

    Raises:
        ValueError: a patch outside of the grid; layer or colour map that does not exist; opacity out of range.
    """
    maps = {name: to_array(values) for name, values in comparison.similarity(row, col, layer).items()}
    scale = Normalize(min(0.0, lowest(*maps.values())), 1.0)
    figure, axes = views_sheet(comparison, bottom=0.72)
    write_title(
        figure,
        f"Patch (row {row}, column {col})",
        f"cosine with its features · {layer_text(comparison, layer)} · {damage(comparison)}",
    )
    for number, (name, ax) in enumerate(zip(comparison.views, axes.flat, strict=False)):
        picture = getattr(comparison, network_and_kind(name)[1])
        heat = draw_map(ax, picture, maps[name], scale, colormap, opacity, smooth)
        mark_patch(ax, maps[name].shape, row, col, dashed=number > 0)
        if number > 0:
            _mark_best(ax, maps[name])
    bar_below(figure, axes[-1, :], heat, "cosine")
    return figure


def plot_pca(comparison: Comparison, layer: int = -1, opacity: float = 1.0) -> Figure:
    """The first three principal components of the patches as colours, fitted on all views together.

    Args:
        comparison: made by `explorer.compare`.
        layer: whose features.
        opacity: of the colours over the grey picture, from 0 to 1.

    Raises:
        ValueError: a layer that does not exist; opacity out of range.
    """
    figure, axes = views_sheet(comparison, bottom=0.2)
    write_title(figure, damage(comparison), f"patches in joint PCA colours · {layer_text(comparison, layer)}")
    for (name, colours), ax in zip(comparison.colours(layer).items(), axes.flat, strict=False):
        extent = draw_grey(ax, getattr(comparison, network_and_kind(name)[1]))
        ax.imshow(to_array(colours), extent=extent, interpolation="nearest", alpha=fraction(opacity))
    return figure


def _mosaic(maps: np.ndarray) -> tuple[np.ndarray, tuple[list[float], list[float]]]:
    """Small maps (layer, head, row, col) in one array with gaps of NaN; and where the middle of each lies."""
    layers, heads, rows, cols = maps.shape
    gap = max(1, round(max(rows, cols) / 12))
    padded = np.full((layers, heads, rows + gap, cols + gap), np.nan, dtype=maps.dtype)
    padded[:, :, :rows, :cols] = maps
    mosaic = padded.transpose(0, 2, 1, 3).reshape(layers * (rows + gap), heads * (cols + gap))
    down = [layer * (rows + gap) + (rows - 1) / 2 for layer in range(layers)]
    across = [head * (cols + gap) + (cols - 1) / 2 for head in range(heads)]
    return mosaic[:-gap, :-gap], (down, across)


# Words.


def damage(comparison: Comparison) -> str:
    told, spec = comparison.distortion.told(comparison.seed), comparison.distortion.spec
    return told if len(spec) <= 76 else told.replace(spec, spec[:75] + "…")


def pictures_of(comparison: Comparison) -> tuple[str, ...]:
    """The pictures that there are."""
    return ("distorted",) if comparison.clean is None else ("clean", "distorted")


def changes_of(comparison: Comparison, maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Networks -> their map of the distorted picture minus the reference; the reference itself has none."""
    whom = comparison.networks if comparison.clean is not None else comparison.students
    reference = next(iter(maps.values()))
    return {name: maps[f"{name}_distorted"] - reference for name in whom}


def compared(comparison: Comparison) -> tuple[str, str]:
    """What is measured against, and what is measured."""
    return ("teacher", "student") if comparison.clean is None else ("reference", "distorted")


def _colour(network: str) -> str:
    """Students are told apart by their names."""
    return COLOURS["teacher" if network == TEACHER else "student"]


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def layer_text(comparison: Comparison, layer: int) -> str:
    trace = comparison.reference.trace
    return f"layer {trace.layers[trace.position(layer)]}"


def caption_of(comparison: Comparison, layer: int, head: Head) -> str:
    heads = f"{head} of heads" if isinstance(head, str) else f"head {head}"
    row = {"class token": "of the class token", "attention pooling": "of the pooling", "mean of patches": "of patches"}
    kind = row[comparison.reference.trace.query_kind]
    return f"attention {kind} · {layer_text(comparison, layer)} · {heads}"


# Parts of matplotlib figures.


def _sheet(
    rows: int, cols: int, image: Float[Tensor, "3 height width"], top: float, bottom: float
) -> tuple[Figure, np.ndarray]:
    """A figure of rows x cols panes of the picture's shape; margins in inches."""
    aspect = min(2.0, max(0.5, image.shape[1] / image.shape[2]))
    cell, tall, left, right = CELL, CELL * aspect, 0.42, 0.16
    width = left + right + cols * cell + (cols - 1) * GAP
    height = top + bottom + rows * tall + (rows - 1) * GAP
    figure = empty_figure((width, height))
    grid = {"left": left / width, "right": 1 - right / width, "top": 1 - top / height, "bottom": bottom / height}
    axes = figure.subplots(rows, cols, squeeze=False, gridspec_kw=grid | {"wspace": GAP / cell, "hspace": GAP / tall})
    for ax in axes.flat:
        bare(ax)
    return figure, axes


def views_sheet(comparison: Comparison, bottom: float) -> tuple[Figure, np.ndarray]:
    """A pane for each view: columns clean and distorted, a row for each network. Without a clean picture they lie
    beside each other, at most three in a row."""
    count = len(comparison.views)
    columns = 2 if comparison.clean is not None else min(count, 3)
    figure, axes = _sheet(-(-count // columns), columns, comparison.distorted, top=0.88, bottom=bottom)
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    if comparison.clean is None:
        for ax, network in zip(axes.flat, comparison.networks, strict=False):
            text = f"{_short(network)}, distorted"
            as_written([_tag(ax, text, _colour(network)) if comparison.named else _heading(ax, text)])
        return figure, axes
    for ax, kind in zip(axes[0], pictures_of(comparison), strict=True):
        _heading(ax, kind)
    for ax, network in zip(axes[:, 0], comparison.networks, strict=True):
        _row_name(ax, network, comparison)
    _mark_reference(axes[0, 0])
    return figure, axes


def write_title(figure: Figure, title: str, caption: str) -> None:
    width, height = figure.get_size_inches()
    place: dict[str, Any] = {"ha": "left", "va": "top"}
    size = min(12.0, 115 * (width - 2 * 0.42) / max(1, len(title)))  # a long spec shrinks rather than leaves the page
    upper = figure.text(0.42 / width, 1 - 0.14 / height, title, size=size, weight="bold", color=INK, **place)
    lower = figure.text(0.42 / width, 1 - 0.41 / height, caption, size=9.5, color=QUIET, **place)
    as_written([upper, lower])


def _pictures_row(axes: np.ndarray, comparison: Comparison) -> None:
    for ax, kind in zip(axes, pictures_of(comparison), strict=False):
        ax.imshow(to_uint8(getattr(comparison, kind)), interpolation="antialiased")
    for ax, heading in zip(axes, (*pictures_of(comparison), "difference"), strict=True):
        _heading(ax, heading)
    _side_name(axes[0], "picture", INK)
    if comparison.named:
        _change_panel(axes[-1], comparison)
    else:
        _numbers_panel(axes[-1], comparison)


def _change_panel(ax: Axes, comparison: Comparison) -> None:
    """What the damage did to the picture: grey is unchanged."""
    if comparison.clean is None:
        ax.patch.set_visible(False)
        for spine in ax.spines.values():
            spine.set_visible(False)
        return
    ax.imshow(to_uint8((comparison.distorted.clamp(0, 1) - comparison.clean + 1) / 2), interpolation="antialiased")


def _heading(ax: Axes, text: str) -> Text:
    return ax.set_title(text, size=11, color=INK, pad=5)


def _side_name(ax: Axes, text: str, colour: str) -> Text:
    return ax.set_ylabel(text, size=11, color=colour, weight="bold", labelpad=6)


def _row_name(ax: Axes, network: str, comparison: Comparison) -> None:
    as_written([_side_name(ax, _short(network), _colour(network))])
    if network == "student" and comparison.untouched:
        _tag(ax, "untouched copy of the teacher", COLOURS["student"])


def _numbers_panel(ax: Axes, comparison: Comparison) -> None:
    """Agreement of the two distorted views with the reference; a mark tells where the student is nearer to it. Without
    a reference: of student and teacher with each other."""
    ax.set_facecolor(PAPER)
    alone = comparison.clean is None
    student = comparison.alignments["student"].as_json()
    teacher = dict.fromkeys(student) if alone else comparison.alignments["teacher"].as_json()
    put: dict[str, Any] = {"transform": ax.transAxes, "va": "center"}
    heading = "student against teacher: no truth is known" if alone else "distorted views against the reference"
    ax.text(0.06, 0.91, heading, size=8, color=QUIET, **put)
    for x, network in ((0.9, "student"),) if alone else ((0.62, "teacher"), (0.9, "student")):
        ax.text(x, 0.80, network, size=9, weight="bold", color=COLOURS[network], ha="right", **put)
    for line, name in enumerate(AGREEMENT):
        measure = MEASURES[name]
        y = 0.68 - 0.575 * line / (len(AGREEMENT) - 1)
        ax.text(0.06, y, f"{measure.label} {measure.arrow}", size=9, color=INK, **put)
        if not alone:
            ax.text(0.62, y, number_text(teacher[name]), size=10, color=INK, ha="right", **put)
            ax.text(0.685, y, "→", size=9, color=QUIET, ha="center", **put)
        ax.text(0.9, y, number_text(student[name]), size=10, color=INK, weight="bold", ha="right", **put)
        mark, colour = _verdict(teacher[name], student[name], measure.better > 0)
        ax.text(0.95, y, mark, size=8, color=colour, ha="center", **put)


def _numbers_table(figure: Figure, comparison: Comparison) -> None:
    """A column for each network below the panes, as the panel has them for a student without a name. What is nearest to
    the reference among the students is bold."""
    width, height = figure.get_size_inches()
    alone = comparison.clean is None
    columns, lines = comparison.students if alone else comparison.networks, len(AGREEMENT) + 1
    wide = width - 0.58
    ax = figure.add_axes((0.42 / width, 0.1 / height, wide / width, _LINE * lines / height), facecolor=PAPER)
    bare(ax)
    ax.set(xlim=(0, 1), ylim=(lines, 0))
    ends = np.linspace(0.26, 0.985, len(columns) + 1)[1:]
    put: dict[str, Any] = {"va": "center"}
    heading = "against the teacher" if alone else "distorted views; bold: nearest"
    texts = [ax.text(0.015, 0.5, heading, size=8, color=QUIET, **put)]
    put["ha"] = "right"
    for x, network in zip(ends, columns, strict=True):
        name = _short(network)
        size = min(9.0, 72 * 0.72 * wide / len(columns) / (0.7 * len(name)))  # a bold letter is about 0.7 em wide
        texts.append(ax.text(x, 0.5, name, size=size, weight="bold", color=_colour(network), **put))
    as_written(texts)
    for line, measure in enumerate(map(MEASURES.__getitem__, AGREEMENT)):
        ax.text(0.015, line + 1.5, f"{measure.label} {measure.arrow}", size=9, color=INK, va="center")
        values = {network: comparison.alignments[network].as_json()[measure.name] for network in columns}
        nearest = set() if alone else _nearest(values, measure.better)
        for x, network in zip(ends, columns, strict=True):
            weight = "bold" if network in nearest else "normal"
            ax.text(x, line + 1.5, number_text(values[network]), size=10, color=INK, weight=weight, **put)


def _nearest(values: dict[str, float | None], better: int) -> set[str]:
    """The students that no other is before, by what is printed."""
    known = {name: round(value, 2) for name, value in values.items() if name != TEACHER and value is not None}
    return {name for name, value in known.items() if value == max(known.values(), key=lambda each: better * each)}


def _verdict(teacher: float | None, student: float | None, more: bool) -> tuple[str, str]:
    if teacher is None or student is None or number_text(teacher) == number_text(student):
        return "", QUIET
    return ("✓", BETTER) if (student > teacher) == more else ("✗", WORSE)


def _mark_reference(ax: Axes) -> None:
    for spine in ax.spines.values():
        spine.set(color=INK, linewidth=2.5, zorder=5)
    _tag(ax, "reference", INK)


def _tag(ax: Axes, text: str, colour: str) -> Text:
    box = {"facecolor": colour, "edgecolor": "none", "pad": 2.5}
    return ax.text(0.028, 0.966, text, size=8, color="white", weight="bold", **inside(ax), bbox=box)


def mark_patch(ax: Axes, grid: tuple[int, ...], row: int, col: int, dashed: bool) -> None:
    """A square around a patch: white on black, to be seen on any colour."""
    high, wide = _patch_size(ax, grid)
    for colour, width in (("black", 3.2), ("white", 1.6)):
        style = (0, (2.5, 1.5)) if dashed else "solid"
        edge: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": width, "linestyle": style}
        ax.add_patch(Rectangle((col * wide, row * high), wide, high, **edge))


def _mark_best(ax: Axes, values: np.ndarray) -> None:
    if not np.isfinite(values).any():
        return
    row, col = np.unravel_index(np.nanargmax(values), values.shape)
    high, wide = _patch_size(ax, values.shape)
    centre = ((float(col) + 0.5) * wide, (float(row) + 0.5) * high)
    for colour, width in (("black", 3.6), ("#56B4E9", 1.8)):
        ring = Circle(centre, 0.95 * max(high, wide), fill=False, edgecolor=colour, linewidth=width)
        ax.add_patch(ring)
    note(ax, f"best {values[row, col]:.2f} at ({row}, {col})")


def _patch_size(ax: Axes, grid: tuple[int, ...]) -> tuple[float, float]:
    _, width, height, _ = ax.images[0].get_extent()
    return height / grid[0], width / grid[1]


def _label_mosaic(ax: Axes, down: list[float], across: list[float]) -> None:
    ax.set_yticks(down, [str(layer) for layer in range(len(down))])
    ax.set_xticks(across, [str(head) for head in range(len(across))])
    ax.tick_params(length=0, labelsize=8, labelcolor=QUIET, top=False, labeltop=True, bottom=False, labelbottom=False)
    ax.xaxis.set_label_position("top")
    ax.set_xlabel("head", size=9.5, color=INK)
    ax.set_ylabel("layer", size=9.5, color=INK)
    for spine in ax.spines.values():
        spine.set_visible(False)
