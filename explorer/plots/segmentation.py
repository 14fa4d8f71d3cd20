"""What stands where, as patch features tell it: `plot_segmentation`.

Enters: a `DenseEvaluation`. Leaves: a matplotlib figure. Nothing here computes; pictures are read again from their
files, and damaged as they were.
"""

from collections.abc import Iterable, Sequence
from math import ceil
from statistics import mean
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from explorer.data.image import to_uint8
from explorer.data.masks import IGNORED
from explorer.errors import InputError
from explorer.evaluation.dense import DenseEvaluation
from explorer.evaluation.embedding import VIEWS
from explorer.plots.lettering import as_written
from explorer.plots.style import COLOURS, INK, QUIET, bare, empty_figure

# Okabe and Ito's eight and four of Paul Tol's "muted": any two of them and white are at least 17 apart in CIELAB, with
# common colour vision as with protanopia and deuteranopia (Machado et al. 2009).
CLASS_COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#F0E442", "#CC79A7", "#56B4E9", "#E69F00", "#000000"),
    *("#DDCC77", "#332288", "#882255", "#117733"),
)
_TINTS = (0.0, 0.45, 0.7)  # how much white is mixed into further rounds of them
_NO_CLASS = "#ffffff"
_CELL = 1.6  # width of a pane in inches
_MOST_UNASKED = 4


def plot_segmentation(
    evaluation: DenseEvaluation,
    protocol: Literal["linear", "propagation"] = "linear",
    pictures: Sequence[int] | None = None,
) -> Figure:
    """One row for each of a few test pictures: itself, damaged, its mask, and the masks that the four views give.

    A class has the same colour in every figure of one list of classes. Above 12 classes paler ones follow, and above 36
    the same again.

    Args:
        evaluation: made by `explorer.evaluate_dense`; the first draw is shown.
        protocol: whose masks.
        pictures: numbers of test pictures; None for the first four.

    Raises:
        ValueError: an unknown protocol, no pictures, or one that does not exist.
        ImageError: a picture or mask was changed since.
    """
    if protocol not in ("linear", "propagation"):
        raise InputError(f"protocol is 'linear' or 'propagation'; got {protocol!r}")
    count = len(evaluation.test)
    chosen = range(min(count, _MOST_UNASKED)) if pictures is None else pictures
    if not len(chosen) or not all(0 <= index < count for index in chosen):
        raise InputError(f"pictures are numbers of test pictures, from 0 to {count - 1}; got {list(chosen)}")
    found = evaluation.linear if protocol == "linear" else evaluation.propagation
    maps = [[evaluation.test.mask(i), *(found.predicted[view][i] for view in VIEWS)] for i in chosen]
    aspect = maps[0][0].shape[0] / maps[0][0].shape[1]
    figure = empty_figure((_CELL * 7, (_CELL * aspect - 0.02) * len(chosen) + 1.2))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02)
    axes = figure.subplots(len(chosen), 7, squeeze=False)
    colours = _colours(evaluation.test.classes)
    for row, index, masks in zip(axes, chosen, maps, strict=True):
        row[0].imshow(to_uint8(evaluation.test.images[index][0]), interpolation="antialiased")
        row[1].imshow(to_uint8(evaluation.distorted(index)), interpolation="antialiased")
        for ax, mask in zip(row[2:], masks, strict=True):
            ax.imshow(colours[mask], interpolation="nearest")
    for ax in axes.flat:
        bare(ax)
    for ax, heading in zip(axes[0], ("picture", "distorted", "its mask"), strict=False):
        ax.set_title(heading, size=9, color=INK)
    for ax, view in zip(axes[0, 3:], VIEWS, strict=True):
        heading = f"{view.replace('_', ', ')}\nmIoU {mean(found.miou[view]):.2f}"
        ax.set_title(heading, size=9, weight="bold", color=COLOURS[view.split("_")[0]])
    words = {
        "linear": "a linear probe for each view",
        "propagation": "the nearest patches of the teacher's clean pictures",
    }
    title = f"{evaluation.distortion.spec} · classes by {words[protocol]} · mIoU of {count} test pictures"
    as_written([figure.suptitle(title, x=0.01, ha="left", size=10, color=QUIET)])
    _legend(figure, evaluation.test.classes, colours, (mask for masks in maps for mask in masks))
    return figure


def _colours(classes: Iterable[int]) -> Float[np.ndarray, "value 3"]:
    """The colour of each value of a mask: that of the place of its class among all classes, shown or not."""
    table = np.tile(to_rgb(_NO_CLASS), (IGNORED + 1, 1))
    for place, value in enumerate(classes):
        round_, number = divmod(place, len(CLASS_COLOURS))
        tint = _TINTS[round_ % len(_TINTS)]
        table[value] = tint + (1 - tint) * np.array(to_rgb(CLASS_COLOURS[number]))
    return table


def _legend(
    figure: Figure, classes: dict[int, str], colours: Float[np.ndarray, "value 3"], masks: Iterable[np.ndarray]
) -> None:
    """The classes that the masks show."""
    shown = set(np.concatenate([np.unique(mask) for mask in masks]).tolist())
    names = {value: name for value, name in (classes | {IGNORED: "no class"}).items() if value in shown}
    spots = [Patch(facecolor=colours[value], edgecolor="#c8c8c8", linewidth=0.6) for value in names]
    style: dict[str, Any] = {
        "loc": "outside lower center",
        "ncols": ceil(len(names) / ceil(len(names) / 9)),
        "frameon": False,
        "fontsize": 9,
    }
    as_written(figure.legend(spots, [*names.values()], **style).get_texts())
