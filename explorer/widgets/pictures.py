"""What a stored notebook shows where no widget runs: small PNG files of figures.

Enters: matplotlib figures. Leaves: bytes, small enough to be kept in a notebook.
"""

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from explorer.inspection.recovery import Recovery
from explorer.plots.overlays import overlay
from explorer.plots.style import empty_figure, scale_end, to_png

MOST_BYTES = 280_000
_DPI = 84


def small_png(figure: Figure) -> bytes:
    """A PNG file of 256 colours, below `MOST_BYTES`: its resolution is lowered until it is."""
    dpi = _DPI
    while True:
        picture = Image.open(io.BytesIO(to_png(figure, dpi))).convert("RGB")
        stream = io.BytesIO()
        few = picture.quantize(256, Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE)
        few.save(stream, "PNG", optimize=True)
        if stream.tell() <= MOST_BYTES or dpi <= 20:
            return stream.getvalue()
        dpi = int(dpi * 0.8)


def plot_run(history: list[dict[str, Any]], recovery: Recovery | None) -> Figure:
    """Losses by step; above them what the teacher sees in the clean picture, and the student before and now."""
    rows = (recovery is not None) + bool(history)
    figure = empty_figure((7.2, 2.7 * max(1, rows) + 0.2))
    figure.set_layout_engine("constrained")
    parts = figure.subfigures(max(1, rows), 1, squeeze=False)[:, 0]
    if recovery is not None:
        _draw_recovery(parts[0], recovery)
    if history:
        _draw_losses(parts[-1].subplots(), history)
    return figure


def _draw_recovery(figure: Any, recovery: Recovery) -> None:
    maps = recovery.attention()
    before, now = recovery.moments[0], recovery.moments[-1]
    shown = [(recovery.clean, maps[0], "teacher · clean"), (recovery.distorted, maps[1], f"step {before.step}")]
    if now is not before:
        shown.append((recovery.distorted, maps[-1], f"student · step {now.step}"))
    high = scale_end(maps.numpy())
    for ax, (picture, values, name) in zip(figure.subplots(1, len(shown)), shown, strict=True):
        ax.imshow(overlay(picture.clamp(0, 1), values, high=high), interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.set_title(name, size=10)


def _draw_losses(ax: Axes, history: list[dict[str, Any]]) -> None:
    steps = [record["step"] for record in history]
    for name in history[0]["losses"]:
        width = 2.2 if name == "loss" else 1.2
        ax.plot(steps, [record["losses"].get(name) for record in history], lw=width, label=name)
    ax.set(xlabel="step", ylabel="loss", ylim=(0, None))
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
