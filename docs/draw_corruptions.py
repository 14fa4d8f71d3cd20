"""Draws one photo under every corruption of ImageNet-C and its extras at the severities 1 to 5:

    python docs/draw_corruptions.py

Writes docs/corruptions.png. The photo is corrupted at 224 px and shown smaller. Takes a few seconds.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

import explorer as ex
from explorer.system.files import asset_path

OUT = Path(__file__).with_name("corruptions.png")
PHOTO, SIZE, SEED = "farm_animal/cat.webp", 224, 0
SEVERITIES = (1, 2, 3, 4, 5)
PANELS = 2  # side by side


def main() -> None:
    """Draw and write."""
    photo = ex.load_image(asset_path("photos") / PHOTO, size=SIZE)
    figure = contact_sheet(photo, SEED)
    figure.savefig(OUT, dpi=90, bbox_inches="tight", pil_kwargs={"optimize": True})
    plt.close(figure)


def contact_sheet(photo: Tensor, seed: int) -> Figure:
    """One row for each corruption, one column for each severity, in panels side by side."""
    names = [name for name, entry in ex.DISTORTIONS.items() if entry.severities is not None]
    rows = -(-len(names) // PANELS)
    columns = PANELS * len(SEVERITIES)
    figure, axes = plt.subplots(
        rows, columns + PANELS - 1, figsize=(1.06 * (columns + PANELS), 1.24 * rows), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for number, name in enumerate(names):
        panel, row = divmod(number, rows)
        first = panel * (len(SEVERITIES) + 1)
        for place, severity in enumerate(SEVERITIES):
            _show(axes[row, first + place], photo, f"{name}:{severity}", seed)
        axes[row, first].set_title(name, loc="left", fontsize=11, pad=3)
    figure.subplots_adjust(wspace=0.03, hspace=0.2)
    return figure


def _show(axis: plt.Axes, photo: Tensor, spec: str, seed: int) -> None:
    axis.imshow(ex.distortion(spec)(photo[None], seed=seed)[0].permute(1, 2, 0).numpy(), interpolation="antialiased")


if __name__ == "__main__":
    main()
