"""One map over one picture, as pixels or as a figure.

Enters: a picture and values over its patch grid. Leaves: an array of bytes, or a matplotlib figure.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from explorer.data.image import to_uint8
from explorer.errors import InputError
from explorer.plots.style import bar_beside, bare, colormap_of, highest, own_axes, root_figure, to_array


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
    array = to_array(values)
    scale = Normalize(low, max(low, highest(array)) if high is None else high)
    ax = own_axes(ax, (4.4, 3.8))
    heat = draw_map(ax, image, array, scale, colormap, opacity, smooth)
    bar_beside(ax, heat, "")
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
    scale = Normalize(low, max(low, highest(to_array(values))) if high is None else high, clip=True)
    heat = colormap_of(colormap)(scale(np.nan_to_num(spread)))[..., :3]
    weight = fraction(opacity) * np.isfinite(spread)[..., None]
    return np.round(255 * (weight * heat + (1 - weight) * picture)).astype(np.uint8)


def fraction(opacity: float) -> float:
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity goes from 0 (picture alone) to 1 (map alone); got {opacity}")
    return float(opacity)


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


def draw_grey(ax: Axes, image: Float[Tensor, "3 height width"]) -> tuple[float, float, float, float]:
    """The grey picture; returns its extent, which whatever lies over it must take."""
    height, width = image.shape[1:]
    extent = (0.0, float(width), float(height), 0.0)
    ax.imshow(_grey(image), cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="antialiased")
    bare(ax)
    return extent


def draw_map(
    ax: Axes,
    image: Float[Tensor, "3 height width"],
    values: np.ndarray,
    scale: Normalize,
    colormap: str,
    opacity: float,
    smooth: bool,
) -> AxesImage:
    size = (image.shape[1], image.shape[2])
    extent = draw_grey(ax, image)
    shown = _upsampled(torch.from_numpy(values), size, True) if smooth else values
    cmap, alpha = colormap_of(colormap), fraction(opacity)
    return ax.imshow(shown, cmap=cmap, norm=scale, alpha=alpha, extent=extent, interpolation="nearest")


def inside(ax: Axes) -> dict[str, Any]:
    return {"transform": ax.transAxes, "ha": "left", "va": "top"}


def note(ax: Axes, text: str) -> None:
    """A few words at the foot of a pane."""
    box = {"facecolor": "black", "edgecolor": "none", "alpha": 0.65, "pad": 2.5}
    ax.text(0.028, 0.034, text, size=8, color="white", **{**inside(ax), "va": "bottom"}, bbox=box)
