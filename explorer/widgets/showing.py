"""Figures in lessons: `show` puts one into a cell's output, with words for those who do not see it.

Enters: a matplotlib figure and its description. Leaves: an output that is small enough to be stored, and sharper than
it is laid out, for screens with more pixels.
"""

import io

from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from explorer.errors import InputError
from explorer.plots.style import to_png

_DPI, _DRAWN_DPI = 84, 126  # as it is laid out on the page, and as it is drawn
_EXACT_BYTES = 100_000


def show(figure: Figure, alt: str) -> None:
    """Show a figure below the cell.

    Args:
        figure: such as those that `explorer.plots.comparison` draws.
        alt: what is to be seen, in a sentence: read aloud, and shown where pictures are not.

    Raises:
        ValueError: `alt` is empty.
    """
    if not alt.strip():
        raise InputError("alt is a sentence that says what is to be seen; got none")
    metadata = {"image/png": {"alt": alt, "width": round(_DPI * figure.get_size_inches()[0])}}
    display({"image/png": _compressed(to_png(figure, _DRAWN_DPI)), "text/plain": alt}, metadata=metadata, raw=True)


def _compressed(png: bytes) -> bytes:
    """The same picture; in 256 colours, dithered, if it is large. White and black stay what they are."""
    if len(png) <= _EXACT_BYTES:
        return png
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    every_third = picture.resize((picture.width // 3, picture.height // 3), Image.Resampling.NEAREST)  # is faster
    palette = every_third.quantize(254, Image.Quantize.MAXCOVERAGE, kmeans=1)
    colours = palette.getpalette()
    assert colours is not None, "a quantised picture has a palette"
    palette.putpalette([*colours[: 3 * 254], 255, 255, 255, 0, 0, 0])
    stream = io.BytesIO()
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(stream, "PNG", optimize=True)
    return stream.getvalue()
