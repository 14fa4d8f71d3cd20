"""Figures in lessons: `show` puts one into a cell's output, with words for those who do not see it.

Enters: a matplotlib figure and its description. Leaves: an output that is small enough to be stored, and sharp enough
for screens of twice the pixels.
"""

import io

from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from explorer.plots import to_png

_DPI = 84  # as it is laid out on the page; it is drawn with twice as many dots


def show(figure: Figure, alt: str) -> None:
    """Show a figure below the cell.

    Args:
        figure: such as those that `explorer.plots` draws.
        alt: what is to be seen, in a sentence: read aloud, and shown where pictures are not.

    Raises:
        ValueError: `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("alt is a sentence that says what is to be seen; got none")
    picture = Image.open(io.BytesIO(to_png(figure, 2 * _DPI))).convert("RGB")
    stream = io.BytesIO()
    few = picture.quantize(256, Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE)
    few.save(stream, "PNG", optimize=True)
    metadata = {"image/png": {"alt": alt, "width": round(_DPI * figure.get_size_inches()[0])}}
    display({"image/png": stream.getvalue(), "text/plain": alt}, metadata=metadata, raw=True)
