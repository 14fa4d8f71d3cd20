"""Figures from data: matplotlib for files and pages, plotly for pages that answer to the pointer.

Enters: a `Comparison`, or maps. Leaves: a figure, or pixels. Nothing here runs a model, shows a window or keeps state:
pyplot is never touched, so that a server may draw in many threads. Whatever is compared shares one colour scale.
Plotly is an optional dependency and is imported by the functions that draw with it.
"""

import io
import logging
import re
import unicodedata
import warnings
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.image import AxesImage
from matplotlib.patches import Circle, Rectangle
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from explorer._files import readable
from explorer.comparison import VIEWS, Comparison
from explorer.images import to_uint8
from explorer.maps import Head

if TYPE_CHECKING:
    import plotly.graph_objects

_log = logging.getLogger(__name__)

# Okabe and Ito (2008): told apart with every kind of colour vision. One colour for each of the two networks everywhere.
COLOURS = {"teacher": "#0072B2", "student": "#D55E00"}
BETTER, WORSE = "#009E73", "#CC79A7"
DIVERGING = "RdBu_r"  # safe for colour-blind readers (ColorBrewer), and its white reads as "no change"
INK, QUIET, PAPER = "#1a1a1a", "#6b6b6b", "#f4f4f2"

AGREEMENT = {
    "cls_cosine": ("CLS cosine", True),
    "patch_cosine": ("patch cosine", True),
    "cka": ("patch CKA", True),
    "attention_iou": ("attention IoU", True),
    "attention_js": ("attention JS", False),
    "attention_kl": ("attention KL", False),
}
"""Numbers of an `Alignment` in the order in which they are shown: how they are called, and whether more is better."""

_CELL = 2.5  # width of a pane in inches
_GAP = 0.1
_DPI = 130
_PERCENTILE = 0.995


def plot_comparison(
    comparison: Comparison,
    layer: int = -1,
    head: Head = "mean",
    colormap: str = "viridis",
    opacity: float = 0.75,
    smooth: bool = False,
) -> Figure:
    """One picture seen four ways: rows picture, teacher, student; columns clean, distorted, difference.

    The four maps share one colour scale from 0 to their common maximum. A difference is the distorted view minus the
    reference (the teacher on the clean picture), both differences under one symmetric scale.

    Args:
        comparison: made by `explorer.compare`.
        layer, head: as in `explorer.attention_map`.
        colormap: a name of matplotlib's; "viridis", "cividis", "magma" and "inferno" are safe for colour-blind readers.
        opacity: of the maps over the grey picture, from 0 to 1.
        smooth: whether maps are interpolated; otherwise one square is one patch.

    Raises:
        ValueError: layer, head or colour map that does not exist; opacity out of range.
    """
    maps = {name: _array(values) for name, values in comparison.maps(layer, head).items()}
    changes = {name: maps[f"{name}_distorted"] - maps["teacher_clean"] for name in COLOURS}
    scale, symmetric = Normalize(0, _highest(*maps.values())), _symmetric(*changes.values())
    figure, axes = _sheet(3, 3, comparison.clean, top=0.88, bottom=0.72)
    _title(figure, _damage(comparison), _caption(comparison, layer, head))
    _pictures_row(axes[0], comparison)
    style: dict[str, Any] = {"opacity": opacity, "smooth": smooth}
    for network, row in zip(COLOURS, axes[1:], strict=True):
        _row_name(row[0], network, comparison)
        for kind, ax in zip(("clean", "distorted"), row, strict=False):
            heat = _draw_map(ax, getattr(comparison, kind), maps[f"{network}_{kind}"], scale, colormap, **style)
        change = _draw_map(row[2], comparison.clean, changes[network], symmetric, DIVERGING, **style)
    _mark_reference(axes[1, 0])
    _bar_below(figure, axes[2, :2], heat, "attention probability, all four maps")
    _bar_below(figure, axes[2, 2:], change, "distorted minus reference")
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
        high: where the scale ends. None: at the 99.5th percentile, of all four views of a comparison together, so that
            figures of two views can be laid side by side; a few patches may lie above it.
        ax: where to draw; None for a figure of its own.

    Raises:
        ValueError: unknown view or colour map; maps of another shape.
    """
    maps = _array(data.heads(view) if isinstance(data, Comparison) else data)
    if maps.ndim != 4:
        raise ValueError(f"expected maps 'layer head rows cols', such as comparison.heads(view); got {maps.shape}")
    everything = [_array(data.heads(name)) for name in VIEWS] if isinstance(data, Comparison) else [maps]
    scale = Normalize(0, _highest(*everything, percentile=_PERCENTILE) if high is None else high)
    mosaic, ticks = _mosaic(maps)
    ax = own_axes(ax, (6.6 * mosaic.shape[1] / mosaic.shape[0] + 1.5, 7.4))
    image = ax.imshow(mosaic, cmap=_colormap(colormap), norm=scale, interpolation="nearest")
    _label_mosaic(ax, *ticks)
    if isinstance(data, Comparison):
        ax.set_title(view.replace("_", " · "), size=11, weight="bold", color=COLOURS[view.split("_")[0]])
        as_written([ax.text(0, -0.01, _damage(data), size=8, color=QUIET, **_inside(ax))])
    _bar_beside(ax, image, "attention probability", extend="max")
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
    """Where one patch of the reference is found again: its cosine with all patches of the four views.

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
    maps = {name: _array(values) for name, values in comparison.similarity(row, col, layer).items()}
    scale = Normalize(min(0.0, _lowest(*maps.values())), 1.0)
    figure, axes = _sheet(2, 2, comparison.clean, top=0.88, bottom=0.72)
    _title(
        figure,
        f"Patch (row {row}, column {col})",
        f"cosine with its features · {_layer_text(comparison, layer)} · {_damage(comparison)}",
    )
    _four_headings(axes, comparison)
    for name, ax in zip(VIEWS, axes.flat, strict=True):
        picture = getattr(comparison, name.split("_")[1])
        heat = _draw_map(ax, picture, maps[name], scale, colormap, opacity, smooth)
        _mark_patch(ax, maps[name].shape, row, col, dashed=name != "teacher_clean")
        if name != "teacher_clean":
            _mark_best(ax, maps[name])
    _mark_reference(axes[0, 0])
    _bar_below(figure, axes[1, :], heat, "cosine")
    return figure


def plot_pca(comparison: Comparison, layer: int = -1, opacity: float = 1.0) -> Figure:
    """The first three principal components of the patches as colours, fitted on all four views together.

    Args:
        comparison: made by `explorer.compare`.
        layer: whose features.
        opacity: of the colours over the grey picture, from 0 to 1.

    Raises:
        ValueError: a layer that does not exist; opacity out of range.
    """
    figure, axes = _sheet(2, 2, comparison.clean, top=0.88, bottom=0.2)
    _title(figure, _damage(comparison), f"patches in joint PCA colours · {_layer_text(comparison, layer)}")
    _four_headings(axes, comparison)
    for (name, colours), ax in zip(comparison.colours(layer).items(), axes.flat, strict=True):
        extent = _draw_grey(ax, getattr(comparison, name.split("_")[1]))
        ax.imshow(_array(colours), extent=extent, interpolation="nearest", alpha=_fraction(opacity))
    _mark_reference(axes[0, 0])
    return figure


def plot_map(
    image: Float[Tensor, "3 height width"],
    values: Float[Tensor, "rows cols"],
    colormap: str = "viridis",
    opacity: float = 0.75,
    low: float = 0.0,
    high: float | None = None,
    smooth: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """One map over one picture, with its colour bar. For maps that are compared, give all of them the same `high`.

    Args:
        image: RGB; clipped to [0, 1].
        values: over the patch grid; where it is NaN the picture shows through.
        colormap, opacity, smooth: as in `plot_comparison`.
        low, high: ends of the colour scale; high=None is the map's own maximum.
        ax: where to draw; None for a figure of its own.

    Raises:
        ValueError: unknown colour map; opacity out of range.
    """
    array = _array(values)
    scale = Normalize(low, max(low, _highest(array)) if high is None else high)
    ax = own_axes(ax, (4.4, 3.8))
    heat = _draw_map(ax, image, array, scale, colormap, opacity, smooth)
    _bar_beside(ax, heat, "")
    return root_figure(ax)


def overlay(
    image: Float[Tensor, "3 height width"],
    values: Float[Tensor, "rows cols"],
    colormap: str = "viridis",
    opacity: float = 0.75,
    low: float = 0.0,
    high: float | None = None,
    smooth: bool = False,
) -> UInt8[np.ndarray, "height width 3"]:
    """A map blended over the grey picture, as pixels 0..255; arguments as in `plot_map`.

    Raises:
        ValueError: unknown colour map; opacity out of range.
    """
    picture = np.repeat(_grey(image)[..., None], 3, axis=2) / 255
    spread = _upsampled(values, (image.shape[1], image.shape[2]), smooth)
    scale = Normalize(low, max(low, _highest(_array(values))) if high is None else high, clip=True)
    heat = _colormap(colormap)(scale(np.nan_to_num(spread)))[..., :3]
    weight = _fraction(opacity) * np.isfinite(spread)[..., None]
    return np.round(255 * (weight * heat + (1 - weight) * picture)).astype(np.uint8)


def to_image(figure: Figure, dpi: int = _DPI) -> Image.Image:
    """A figure's pixels, RGB, without a PNG file between; the figure keeps this resolution."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    _quieten()
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def to_png(figure: Figure, dpi: int = _DPI) -> bytes:
    """The bytes of a figure as a PNG file; equal figures give equal bytes."""
    stream = io.BytesIO()
    _quieten()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def plotly_comparison(
    comparison: Comparison, layer: int = -1, head: Head = "mean", colormap: str = "Viridis"
) -> "plotly.graph_objects.Figure":
    """The six maps of `plot_comparison` as heatmaps that say row, column and value under the pointer.

    Args:
        comparison: made by `explorer.compare`.
        layer, head: as in `explorer.attention_map`.
        colormap: a name of plotly's.

    Raises:
        ImportError: plotly is not installed.
        ValueError: layer, head or colour map that does not exist.
    """
    graphs = _plotly()
    maps = {name: _array(values) for name, values in comparison.maps(layer, head).items()}
    changes = {name: maps[f"{name}_distorted"] - maps["teacher_clean"] for name in COLOURS}
    figure = _plotly_panes([f"{name} · {kind}" for name in COLOURS for kind in ("clean", "distorted", "difference")])
    for row, network in enumerate(COLOURS, start=1):
        for col, kind in enumerate(("clean", "distorted"), start=1):
            figure.add_trace(_plotly_heat(graphs, maps[f"{network}_{kind}"], "attention", "coloraxis"), row, col)
        figure.add_trace(_plotly_heat(graphs, changes[network], "difference", "coloraxis2"), row, 3)
    high, change = _highest(*maps.values()), _highest(*map(np.abs, changes.values()))
    bar = {"orientation": "h", "yanchor": "top", "y": -0.04, "thickness": 12, "title": {"side": "bottom"}}
    figure.update_layout(
        title={"text": f"{_damage(comparison)}<br><sup>{_caption(comparison, layer, head)}</sup>"},
        coloraxis={"cmin": 0, "cmax": high, "colorscale": colormap, "colorbar": _bar(bar, "attention", 0.325, 0.6)},
        coloraxis2={
            "cmin": -change,
            "cmax": change,
            "colorscale": DIVERGING,
            "colorbar": _bar(bar, "distorted minus reference", 0.845, 0.28),
        },
        **_PLOTLY_LAYOUT,
        height=680,
    )
    return figure


def plotly_layers(comparison: Comparison) -> "plotly.graph_objects.Figure":
    """How far the attention on the distorted picture is from the reference, block by block, teacher and student.

    Raises:
        ImportError: plotly is not installed.
    """
    graphs = _plotly()
    figure, table = graphs.Figure(), comparison.by_layer()
    for network, dash in zip(COLOURS, ("solid", "dash"), strict=True):  # told apart without colours, too
        part = table[table.view == f"{network}_distorted"]
        line = {"color": COLOURS[network], "dash": dash, "width": 2.5}
        hover = f"{network}, layer %{{x}}<br>JS %{{y:.4f}}<extra></extra>"
        figure.add_trace(
            graphs.Scatter(x=part.layer, y=part.attention_js, name=network, line=line, hovertemplate=hover)
        )
    figure.update_traces(mode="lines+markers", marker={"size": 8})
    figure.update_xaxes(title="layer", dtick=1, gridcolor="#e5e5e5")
    figure.update_yaxes(title="Jensen-Shannon divergence (nats)", rangemode="tozero", gridcolor="#e5e5e5")
    title = f"Attention on the distorted picture, against the reference<br><sup>{_damage(comparison)}</sup>"
    figure.update_layout(title={"text": title}, **_PLOTLY_LAYOUT, height=420)
    return figure


# From data to numbers that can be drawn.


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()


def _highest(*arrays: np.ndarray, percentile: float = 1.0) -> float:
    """The largest finite value, or a quantile of the values; above 0, so that a scale always has a width."""
    finite = np.concatenate([array[np.isfinite(array)] for array in arrays])
    return max(float(np.quantile(finite, percentile)), 1e-9) if finite.size else 1.0


def _lowest(*arrays: np.ndarray) -> float:
    return -_highest(*(-array for array in arrays))


def _symmetric(*arrays: np.ndarray) -> Normalize:
    high = _highest(*(np.abs(array) for array in arrays))
    return Normalize(-high, high)


def _fraction(opacity: float) -> float:
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity goes from 0 (picture alone) to 1 (map alone); got {opacity}")
    return float(opacity)


def _colormap(name: str) -> Colormap:
    if name not in matplotlib.colormaps:
        near = get_close_matches(name, list(matplotlib.colormaps), n=3) or ["viridis", "cividis", "magma", "inferno"]
        raise ValueError(f"unknown colour map '{name}'; did you mean {' or '.join(near)}?")
    return matplotlib.colormaps[name]


def _grey(image: Float[Tensor, "3 height width"]) -> UInt8[np.ndarray, "height width"]:
    """Luma (ITU-R BT.601), so that the only colours are the map's."""
    return np.round(to_uint8(image) @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


def _upsampled(values: Float[Tensor, "rows cols"], size: tuple[int, int], smooth: bool) -> np.ndarray:
    """The map at the picture's size. NaN stays where it was: it is left out of the interpolation and put back."""
    known = torch.isfinite(values).float()[None, None]
    filled = torch.nan_to_num(values.detach().float(), 0.0, 0.0, 0.0)[None, None]
    nearest = F.interpolate(known, size, mode="nearest-exact")
    if smooth:
        share = F.interpolate(known, size, mode="bilinear").clamp_min(1e-6)
        spread = F.interpolate(filled, size, mode="bilinear") / share
    else:
        spread = F.interpolate(filled, size, mode="nearest-exact")
    return spread.masked_fill(nearest == 0, float("nan"))[0, 0].cpu().numpy()


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


def _damage(comparison: Comparison) -> str:
    spec = comparison.distortion.spec
    return f"{spec if len(spec) <= 76 else spec[:75] + '…'}, seed {comparison.seed}"


def _layer_text(comparison: Comparison, layer: int) -> str:
    trace = comparison.reference.trace
    return f"layer {trace.layers[trace.position(layer)]}"


def _caption(comparison: Comparison, layer: int, head: Head) -> str:
    heads = f"{head} of heads" if isinstance(head, str) else f"head {head}"
    row = {"class token": "of the class token", "attention pooling": "of the pooling", "mean of patches": "of patches"}
    kind = row[comparison.reference.trace.query_kind]
    return f"attention {kind} · {_layer_text(comparison, layer)} · {heads}"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


# Names in matplotlib figures.


def as_written(texts: Iterable[Text]) -> None:
    """Draw names that people gave (of classes, files, models) as they stand: `$`, `_` and `\\` are no mathematics.

    Letters that the text's own font does not have are taken from another font of this computer. Where none has them,
    that is told once, and boxes are drawn.
    """
    for text in texts:
        name = _CONTROLS.sub(lambda letter: repr(letter[0])[1:-1], readable(text.get_text()))
        text.set(text=name, parse_math=False, usetex=False)
        own = FT2Font(font_manager.findfont(text.get_fontproperties()))
        missing = frozenset(letter for letter in name if letter != "\n" and not own.get_char_index(ord(letter)))
        if missing:
            fonts = _fonts_with(missing, len(font_manager.fontManager.ttflist))
            text.set_fontfamily([*text.get_fontfamily(), *fonts])


_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # but for line breaks
_WITHOUT_LETTERS = ("Last Resort", "LastResort", ".Last", "Adobe Blank")  # they have a box for everything
_TOLD: set[str] = set()


@lru_cache(maxsize=256)
def _fonts_with(letters: frozenset[str], _installed: int) -> tuple[str, ...]:
    """As few fonts as have these letters, Noto first; what no font has is told."""
    left, chosen = set(letters), []
    entries = [entry for entry in font_manager.fontManager.ttflist if not entry.name.startswith(_WITHOUT_LETTERS)]
    for entry in sorted(entries, key=lambda entry: (not entry.name.startswith("Noto Sans"), entry.name, entry.fname)):
        had = set()
        with suppress(OSError, RuntimeError):  # a font that is damaged, or gone
            font = FT2Font(entry.fname)
            had = {letter for letter in left if font.get_char_index(ord(letter))}
        if had:
            chosen.append(entry.name)
            left -= had
        if not left:
            break
    _tell(sorted(letter for letter in left if unicodedata.category(letter) != "Cf"))  # these are not seen anyway
    return tuple(chosen)


def _tell(letters: list[str]) -> None:
    """Say once for each script that its letters are drawn as boxes."""
    for letter in letters:
        script = unicodedata.name(letter, "UNKNOWN").split()[0].title()
        font = "Noto Sans" if script == "Unknown" else f"Noto Sans {script}"
        if script in ("Cjk", "Hiragana", "Katakana", "Hangul", "Bopomofo", "Ideographic", "Fullwidth", "Halfwidth"):
            script, font = "Chinese, Japanese, Korean", "Noto Sans CJK"
        elif unicodedata.category(letter).startswith("S") or 0x1F000 <= ord(letter) < 0x20000:  # or too new for Python
            script, font = "emoji and symbols", "Noto Emoji"
        if font not in _TOLD:
            _TOLD.add(font)
            _log.warning(
                "no font on this computer has '%s' (%s): such letters are drawn as boxes in figures. Install one that "
                "has them, such as %s, and delete matplotlib's list of fonts in '%s'",
                *(letter, script, font, matplotlib.get_cachedir()),
            )


def _quieten() -> None:
    """What was told once, matplotlib does not tell for each letter."""
    if _TOLD:
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)


# Parts of matplotlib figures.


def _sheet(
    rows: int, cols: int, image: Float[Tensor, "3 height width"], top: float, bottom: float
) -> tuple[Figure, np.ndarray]:
    """A figure of rows x cols panes of the picture's shape; margins in inches."""
    aspect = min(2.0, max(0.5, image.shape[1] / image.shape[2]))
    cell, tall, left, right = _CELL, _CELL * aspect, 0.42, 0.16
    width = left + right + cols * cell + (cols - 1) * _GAP
    height = top + bottom + rows * tall + (rows - 1) * _GAP
    figure = empty_figure((width, height))
    grid = {"left": left / width, "right": 1 - right / width, "top": 1 - top / height, "bottom": bottom / height}
    axes = figure.subplots(rows, cols, squeeze=False, gridspec_kw=grid | {"wspace": _GAP / cell, "hspace": _GAP / tall})
    for ax in axes.flat:
        _bare(ax)
    return figure, axes


def empty_figure(size: tuple[float, float]) -> Figure:
    """A figure of this size in inches that no window shows."""
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def own_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The axes that were given, or those of a new figure of this size in inches."""
    if ax is not None:
        return ax
    figure = empty_figure(size)
    figure.set_layout_engine("constrained")
    return figure.add_subplot()


def root_figure(ax: Axes) -> Figure:
    """The figure that axes belong to."""
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def _bare(ax: Axes) -> None:
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(color="#c8c8c8", linewidth=0.6)


def _title(figure: Figure, title: str, caption: str) -> None:
    width, height = figure.get_size_inches()
    place: dict[str, Any] = {"ha": "left", "va": "top"}
    size = min(12.0, 115 * width / max(1, len(title)))  # a long spec shrinks rather than leaves the page
    upper = figure.text(0.42 / width, 1 - 0.14 / height, title, size=size, weight="bold", color=INK, **place)
    lower = figure.text(0.42 / width, 1 - 0.41 / height, caption, size=9.5, color=QUIET, **place)
    as_written([upper, lower])


def _draw_grey(ax: Axes, image: Float[Tensor, "3 height width"]) -> tuple[float, float, float, float]:
    """The grey picture; returns its extent, which whatever lies over it must take."""
    height, width = image.shape[1:]
    extent = (0.0, float(width), float(height), 0.0)
    ax.imshow(_grey(image), cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="antialiased")
    _bare(ax)
    return extent


def _draw_map(
    ax: Axes,
    image: Float[Tensor, "3 height width"],
    values: np.ndarray,
    scale: Normalize,
    colormap: str,
    opacity: float,
    smooth: bool,
) -> AxesImage:
    size = (image.shape[1], image.shape[2])
    extent = _draw_grey(ax, image)
    shown = _upsampled(torch.from_numpy(values), size, True) if smooth else values
    cmap, alpha = _colormap(colormap), _fraction(opacity)
    return ax.imshow(shown, cmap=cmap, norm=scale, alpha=alpha, extent=extent, interpolation="nearest")


def _pictures_row(axes: np.ndarray, comparison: Comparison) -> None:
    for ax, kind in zip(axes[:2], ("clean", "distorted"), strict=True):
        ax.imshow(to_uint8(getattr(comparison, kind)), interpolation="antialiased")
    for ax, heading in zip(axes, ("clean", "distorted", "difference"), strict=True):
        _heading(ax, heading)
    _side_name(axes[0], "picture", INK)
    _numbers_panel(axes[2], comparison)


def _heading(ax: Axes, text: str) -> None:
    ax.set_title(text, size=11, color=INK, pad=5)


def _side_name(ax: Axes, text: str, colour: str) -> None:
    ax.set_ylabel(text, size=11, color=colour, weight="bold", labelpad=6)


def _row_name(ax: Axes, network: str, comparison: Comparison) -> None:
    _side_name(ax, network, COLOURS[network])
    if network == "student" and comparison.untouched:
        _tag(ax, "untouched copy of the teacher", COLOURS["student"])


def _four_headings(axes: np.ndarray, comparison: Comparison) -> None:
    for ax, kind in zip(axes[0], ("clean", "distorted"), strict=True):
        _heading(ax, kind)
    for ax, network in zip(axes[:, 0], COLOURS, strict=True):
        _row_name(ax, network, comparison)


def _numbers_panel(ax: Axes, comparison: Comparison) -> None:
    """Agreement of the two distorted views with the reference; a mark tells where the student is nearer to it."""
    ax.set_facecolor(PAPER)
    teacher, student = (comparison.alignments[name].as_json() for name in COLOURS)
    put: dict[str, Any] = {"transform": ax.transAxes, "va": "center"}
    ax.text(0.06, 0.91, "distorted views against the reference", size=8, color=QUIET, **put)
    for x, network in ((0.62, "teacher"), (0.9, "student")):
        ax.text(x, 0.80, network, size=9, weight="bold", color=COLOURS[network], ha="right", **put)
    for line, (name, (label, more)) in enumerate(AGREEMENT.items()):
        y = 0.68 - 0.115 * line
        ax.text(0.06, y, f"{label} {'↑' if more else '↓'}", size=9, color=INK, **put)
        ax.text(0.62, y, _number(teacher[name]), size=10, color=INK, ha="right", **put)
        ax.text(0.685, y, "→", size=9, color=QUIET, ha="center", **put)
        ax.text(0.9, y, _number(student[name]), size=10, color=INK, weight="bold", ha="right", **put)
        mark, colour = _verdict(teacher[name], student[name], more)
        ax.text(0.95, y, mark, size=8, color=colour, ha="center", **put)


def _verdict(teacher: float | None, student: float | None, more: bool) -> tuple[str, str]:
    if teacher is None or student is None or _number(teacher) == _number(student):
        return "", QUIET
    return ("✓", BETTER) if (student > teacher) == more else ("✗", WORSE)


def _mark_reference(ax: Axes) -> None:
    for spine in ax.spines.values():
        spine.set(color=INK, linewidth=2.5, zorder=5)
    _tag(ax, "reference", INK)


def _tag(ax: Axes, text: str, colour: str) -> None:
    box = {"facecolor": colour, "edgecolor": "none", "pad": 2.5}
    ax.text(0.028, 0.966, text, size=8, color="white", weight="bold", **_inside(ax), bbox=box)


def _inside(ax: Axes) -> dict[str, Any]:
    return {"transform": ax.transAxes, "ha": "left", "va": "top"}


def _mark_patch(ax: Axes, grid: tuple[int, ...], row: int, col: int, dashed: bool) -> None:
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
    box = {"facecolor": "black", "edgecolor": "none", "alpha": 0.65, "pad": 2.5}
    text = f"best {values[row, col]:.2f} at ({row}, {col})"
    ax.text(0.028, 0.034, text, size=8, color="white", **{**_inside(ax), "va": "bottom"}, bbox=box)


def _patch_size(ax: Axes, grid: tuple[int, ...]) -> tuple[float, float]:
    _, width, height, _ = ax.images[0].get_extent()
    return height / grid[0], width / grid[1]


def _bar_below(figure: Figure, axes: np.ndarray, image: AxesImage, label: str) -> None:
    """A colour bar as wide as these panes."""
    left, right = axes[0].get_position(), axes[-1].get_position()
    inch = 1 / figure.get_size_inches()[1]
    cax = figure.add_axes((left.x0, left.y0 - 0.24 * inch, right.x1 - left.x0, 0.12 * inch))
    _colour_bar(figure, cax, image, label, orientation="horizontal")
    low, high = cax.get_xlim()
    for tick, text in zip(cax.get_xticks(), cax.get_xticklabels(), strict=True):  # keep the outer ones above the bar
        place = (tick - low) / (high - low)
        text.set_horizontalalignment("left" if place < 0.05 else "right" if place > 0.95 else "center")


def _bar_beside(ax: Axes, image: AxesImage, label: str, extend: Literal["neither", "max"] = "neither") -> None:
    """A colour bar as tall as this pane."""
    _colour_bar(root_figure(ax), ax.inset_axes((1.025, 0.0, 0.03, 1.0)), image, label, extend=extend, extendfrac=0.02)


def _colour_bar(figure: Figure, cax: Axes, image: AxesImage, label: str, **options: Any) -> None:
    # A mappable of its own has no opacity: the bar shows what numbers stand for, not its blend with a picture.
    bar = figure.colorbar(ScalarMappable(image.norm, image.get_cmap()), cax=cax, ticks=MaxNLocator(5), **options)
    bar.outline.set_visible(False)
    cax.tick_params(labelsize=8, length=2.5, color=QUIET, labelcolor=QUIET)
    bar.set_label(label, size=8.5, color=QUIET)


def _label_mosaic(ax: Axes, down: list[float], across: list[float]) -> None:
    ax.set_yticks(down, [str(layer) for layer in range(len(down))])
    ax.set_xticks(across, [str(head) for head in range(len(across))])
    ax.tick_params(length=0, labelsize=8, labelcolor=QUIET, top=False, labeltop=True, bottom=False, labelbottom=False)
    ax.xaxis.set_label_position("top")
    ax.set_xlabel("head", size=9.5, color=INK)
    ax.set_ylabel("layer", size=9.5, color=INK)
    for spine in ax.spines.values():
        spine.set_visible(False)


# Parts of plotly figures.

_PLOTLY_LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "margin": {"l": 50, "r": 20, "t": 90, "b": 60},
    "font": {"color": INK},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0, "xanchor": "right", "x": 1.0},
}


def _plotly() -> ModuleType:
    try:
        import plotly.graph_objects
    except ImportError as error:
        raise ImportError(
            'this figure needs plotly, which is not installed: pip install "vit-explorer[plotly]"'
        ) from error
    return plotly.graph_objects


def _plotly_panes(titles: list[str]) -> "plotly.graph_objects.Figure":
    from plotly.subplots import make_subplots

    titles[0] += " (reference)"
    figure = make_subplots(2, 3, subplot_titles=titles, horizontal_spacing=0.03, vertical_spacing=0.08)
    figure.update_xaxes(constrain="domain", showticklabels=False)
    figure.update_annotations(font_size=13)
    for number in range(1, 7):  # row 0 is at the top; patches are squares
        axis, across = (f"yaxis{number}", f"x{number}") if number > 1 else ("yaxis", "x")
        figure.layout[axis].update(autorange="reversed", scaleanchor=across, constrain="domain", showticklabels=False)
    return figure


def _plotly_heat(graphs: ModuleType, values: np.ndarray, what: str, coloraxis: str) -> "plotly.graph_objects.Heatmap":
    hover = f"row %{{y}}, column %{{x}}<br>{what} %{{z:.4f}}<extra></extra>"
    return graphs.Heatmap(z=values, coloraxis=coloraxis, hovertemplate=hover)


def _bar(shared: dict[str, Any], title: str, x: float, length: float) -> dict[str, Any]:
    return {**shared, "title": {"text": title, "side": "bottom"}, "x": x, "len": length}
