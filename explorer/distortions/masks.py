"""Masks: pixels, patches or one square of the picture are set to black. Functions, then their entries `MASKS`."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from explorer.distortions.batching import per_image
from explorer.distortions.parameters import Description, Parameter
from explorer.distortions.randomness import Draw
from explorer.errors import InputError


def pixel_mask(
    images: Float[Tensor, "batch 3 height width"], draw: Draw, fraction: Float64[np.ndarray, " batch"]
) -> Float[Tensor, "batch 3 height width"]:
    """Exactly int(height * width * fraction) random pixels set to 0 in all channels (Ravula et al. 2021)."""
    batch, _, height, width = images.shape
    pixels = height * width
    counts = torch.tensor([[int(pixels * one)] for one in fraction.tolist()], device=images.device)
    rank = torch.arange(pixels, device=images.device)
    hidden = torch.empty(batch, pixels, dtype=torch.bool, device=images.device)
    hidden.scatter_(1, draw.permutation(pixels), rank < counts)
    return images.masked_fill(hidden.reshape(batch, 1, height, width), 0.0)


@per_image
def patch_mask(
    images: Float[Tensor, "1 3 height width"], draw: Draw, fraction: float, patch: int
) -> Float[Tensor, "1 3 height width"]:
    """Exactly int(cells * fraction) random cells of the patch grid set to 0, as a ViT would lose whole patches.

    The grid starts at the top left; cells at the right and bottom edge may be partial, and count as cells.
    """
    height, width = images.shape[2:]
    rows, cols = -(-height // patch), -(-width // patch)
    hidden = torch.zeros(rows * cols, dtype=torch.bool, device=images.device)
    hidden[draw.permutation(rows * cols)[0, : int(rows * cols * fraction)]] = True
    cells = hidden.reshape(rows, cols).repeat_interleave(patch, dim=0).repeat_interleave(patch, dim=1)
    return images.masked_fill(cells[:height, :width], 0.0)


def square_mask(
    images: Float[Tensor, "batch 3 height width"], draw: Draw, size: Int64[np.ndarray, " batch"]
) -> Float[Tensor, "batch 3 height width"]:
    """One square of zeros per image, `size` px on each side, anywhere fully inside the picture with equal chance.

    Raises:
        ValueError: the square is larger than the picture.
    """
    height, width = images.shape[2:]
    if size.max() > min(height, width):
        raise InputError(
            f"square_mask: a square of {size.max()} px does not fit into a picture of {height}x{width} px "
            f"(height x width); use size={min(height, width)} or less, or a larger picture"
        )
    side = torch.as_tensor(size, device=images.device)
    share = draw.uniform(2)
    inside_rows = _interval(height, side, share[:, 0])
    inside_cols = _interval(width, side, share[:, 1])
    return images.masked_fill((inside_rows[:, :, None] & inside_cols[:, None, :])[:, None], 0.0)


def _interval(
    length: int, side: Int64[Tensor, " batch"], share: Float[Tensor, " batch"]
) -> Bool[Tensor, "batch length"]:
    """Which of `length` places lie in a run of `side` that begins at one of its possible starts, chosen by `share`."""
    start = (share * (length - side + 1)).long()[:, None]
    place = torch.arange(length, device=side.device)
    return (place >= start) & (place < start + side[:, None])


def _fraction(unit: str, description: str) -> Parameter:
    return Parameter(name="fraction", default=0.5, low=0.0, high=1.0, step=0.01, unit=unit, description=description)


MASKS: dict[str, Description] = {
    "pixel_mask": Description(
        name="pixel_mask",
        label="Pixel mask",
        summary="Sets an exact share of randomly chosen pixels to black (Ravula et al. 2021).",
        operator=pixel_mask,
        parameters=(_fraction("share of the pixels", "How many pixels are lost."),),
        strengths=(0.0, 0.15, 0.3, 0.5, 0.75, 0.85, 0.95),
    ),
    "patch_mask": Description(
        name="patch_mask",
        label="Patch mask",
        summary="Sets an exact share of the cells of a patch grid to black (our form of masking, Alexis et al. 2026).",
        operator=patch_mask,
        parameters=(
            _fraction("share of the cells", "How many cells are lost."),
            Parameter(
                name="patch",
                default=14,
                low=1,
                high=224,
                step=1,
                unit="px",
                description="Side of a cell; the model's patch size hides whole tokens.",
                integer=True,
            ),
        ),
        strengths=(0.0, 0.15, 0.3, 0.5, 0.75, 0.85, 0.95),
    ),
    "square_mask": Description(
        name="square_mask",
        label="Square mask",
        summary="Sets one square at a random place to black (occlusion; Ravula et al. 2021).",
        operator=square_mask,
        parameters=(
            Parameter(
                name="size",
                default=100,
                low=1,
                high=448,
                step=1,
                unit="px",
                description="Side of the square; it lies fully inside the picture.",
                integer=True,
            ),
        ),
        strengths=(20, 50, 80, 110, 140, 170, 200),
    ),
}
