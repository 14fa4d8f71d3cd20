"""What all figures share: colours, scales, bars, empty figures, and the way from a figure to pixels.

Nothing here shows a window or keeps state: pyplot is never touched, so that a server may draw in many threads.
"""

import io
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from explorer.errors import InputError, did_you_mean
from explorer.plots.lettering import quieten

# Okabe and Ito (2008): told apart with every kind of colour vision. One colour for each of the two networks everywhere.
COLOURS = {"teacher": "#0072B2", "student": "#D55E00"}
STUDENTS = (COLOURS["student"], "#18A884", "#780048", "#6C2400")  # of several, in their order; see networks.js
BETTER, WORSE = "#009E73", "#CC79A7"
DIVERGING = "RdBu_r"  # safe for colour-blind readers (ColorBrewer), and its white reads as "no change"
INK, QUIET, PAPER = "#1a1a1a", "#6b6b6b", "#f4f4f2"

LEAST = 1e-9  # where a scale ends at least
CELL = 2.5  # width of a pane in inches
GAP = 0.1
_DPI = 130


def to_image(figure: Figure, dpi: int = _DPI) -> Image.Image:
    """A figure's pixels, RGB, without a PNG file between; the figure keeps this resolution."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    quieten()
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def to_png(figure: Figure, dpi: int = _DPI) -> bytes:
    """The bytes of a figure as a PNG file; equal figures give equal bytes."""
    stream = io.BytesIO()
    quieten()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


# From data to numbers that can be drawn.


def to_array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()


def highest(*arrays: np.ndarray, percentile: float = 1.0) -> float:
    """The largest finite value, or a quantile of the values; above 0, so that a scale always has a width."""
    finite = np.concatenate([array[np.isfinite(array)] for array in arrays])
    return max(float(np.quantile(finite, percentile)), LEAST) if finite.size else 1.0


def scale_end(*maps: np.ndarray) -> float:
    """Where one scale for maps of attention ends: at the highest value, but no farther than three times the 95th
    percentile. Else a few patches that draw nearly all attention, as CLIP's do, would leave everything else dark. Where
    that is 0, these few are all there is."""
    top, most = highest(*maps), highest(*maps, percentile=0.95)
    return min(top, 3 * most) if most > LEAST else top


def lowest(*arrays: np.ndarray) -> float:
    return -highest(*(-array for array in arrays))


def symmetric_scale(*arrays: np.ndarray) -> Normalize:
    high = highest(*(np.abs(array) for array in arrays))
    return Normalize(-high, high)


def colormap_of(name: str) -> Colormap:
    if name not in matplotlib.colormaps:
        others = "; did you mean viridis or cividis or magma or inferno?"
        raise InputError(f"unknown colour map '{name}'{did_you_mean(name, matplotlib.colormaps, 3, str) or others}")
    return matplotlib.colormaps[name]


def number_text(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


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


def bare(ax: Axes) -> None:
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(color="#c8c8c8", linewidth=0.6)


def bar_below(figure: Figure, axes: np.ndarray, image: AxesImage, label: str) -> None:
    """A colour bar as wide as these panes."""
    left, right = axes[0].get_position(), axes[-1].get_position()
    inch = 1 / figure.get_size_inches()[1]
    cax = figure.add_axes((left.x0, left.y0 - 0.24 * inch, right.x1 - left.x0, 0.12 * inch))
    ticks = 5 if len(axes) > 1 else 4  # the numbers of more than these meet below a single pane
    _colour_bar(figure, cax, image, label, ticks, orientation="horizontal")
    low, high = cax.get_xlim()
    for tick, text in zip(cax.get_xticks(), cax.get_xticklabels(), strict=True):  # keep the outer ones above the bar
        place = (tick - low) / (high - low)
        text.set_horizontalalignment("left" if place < 0.05 else "right" if place > 0.95 else "center")


def bar_beside(ax: Axes, image: AxesImage, label: str, extend: Literal["neither", "max"] = "neither") -> None:
    """A colour bar as tall as this pane."""
    _colour_bar(root_figure(ax), ax.inset_axes((1.025, 0.0, 0.03, 1.0)), image, label, extend=extend, extendfrac=0.02)


def _colour_bar(figure: Figure, cax: Axes, image: AxesImage, label: str, ticks: int = 5, **options: Any) -> None:
    # A mappable of its own has no opacity: the bar shows what numbers stand for, not its blend with a picture.
    bar = figure.colorbar(ScalarMappable(image.norm, image.get_cmap()), cax=cax, ticks=MaxNLocator(ticks), **options)
    bar.outline.set_visible(False)
    cax.tick_params(labelsize=8, length=2.5, color=QUIET, labelcolor=QUIET)
    bar.set_label(label, size=8.5, color=QUIET)
