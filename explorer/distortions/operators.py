"""The image operations and, at the foot, their table `DISTORTIONS`.

A new operator is one function and one entry. The function takes the images (float, RGB in [0, 1], but values outside
may come in from an operator before it), a `Draw` for random numbers, and each parameter as an array with one value
per image; it returns new images and never writes to its input. `per_image` makes such a function of one that handles
a single image with plain numbers, for operations that cannot run on a whole batch at once. Nothing here clips.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch
import torchvision.transforms.v2.functional as tvf
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from explorer.distortions.parameters import Description, Parameter
from explorer.distortions.randomness import Draw


def per_image(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operator on a batch, made of one on a batch of one whose parameters are plain numbers."""

    @functools.wraps(operator)
    def batched(images: Tensor, draw: Draw, **values: np.ndarray) -> Tensor:
        singles = [{name: array[i].item() for name, array in values.items()} for i in range(len(images))]
        return torch.cat([operator(images[i : i + 1], draw[i], **single) for i, single in enumerate(singles)])

    return batched


def identity(images: Float[Tensor, "batch 3 height width"], _draw: Draw) -> Float[Tensor, "batch 3 height width"]:
    """A copy."""
    return images.clone()


def gaussian_noise(
    images: Float[Tensor, "batch 3 height width"], draw: Draw, sigma: Float64[np.ndarray, " batch"]
) -> Float[Tensor, "batch 3 height width"]:
    """x + sigma N(0, 1), independent for each pixel and channel (Ravula et al. 2021; Hendrycks and Dietterich 2019).

    The normal numbers are float32 for every dtype of the images, so that a picture meets the same noise in all of them.
    """
    strength = torch.as_tensor(sigma, dtype=images.dtype, device=images.device)[:, None, None, None]
    return draw.normal(*images.shape[1:]).to(images.dtype).mul_(strength).add_(images)


@per_image
def gaussian_blur(
    images: Float[Tensor, "1 3 height width"],
    _draw: Draw,
    kernel: int,
    sigma: float,
) -> Float[Tensor, "1 3 height width"]:
    """Convolution with a Gaussian of `sigma` px cut to `kernel` px and normalised, borders reflected (Ravula et al.).

    torchvision builds a two-dimensional kernel; called once for each axis it convolves with 2 x kernel taps instead of
    kernel squared. One image at a time, because a convolution may choose another algorithm, and so another rounding,
    for another batch size; on a CPU that is also faster (6x measured at 32 x 224 px, kernel 21).

    Deviation from ImageNet-C: scikit-image repeats the border pixel where this reflects.

    Raises:
        ValueError: the kernel is too large for the reflection at the border.
    """
    height, width = images.shape[2:]
    largest = 2 * min(height, width) - 1
    if kernel > largest:
        raise ValueError(
            f"gaussian_blur: a kernel of {kernel} px reaches {kernel // 2} px beyond the border, more than a picture "
            f"of {height}x{width} px (height x width) can reflect; use kernel={largest} or less, or a larger picture"
        )
    across = tvf.gaussian_blur(images, kernel_size=[kernel, 1], sigma=[sigma, sigma])
    return tvf.gaussian_blur(across, kernel_size=[1, kernel], sigma=[sigma, sigma])


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
        raise ValueError(
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


NONE = Description(
    name="none", label="None", summary="The picture as it is.", operator=identity, parameters=(), stochastic=False
)


def _fraction(unit: str, description: str) -> Parameter:
    return Parameter(name="fraction", default=0.5, low=0.0, high=1.0, step=0.01, unit=unit, description=description)


DISTORTIONS: dict[str, Description] = {
    "gaussian_noise": Description(
        name="gaussian_noise",
        label="Gaussian noise",
        summary="Adds independent normal noise to each pixel and channel (Ravula et al. 2021; severities: ImageNet-C).",
        operator=gaussian_noise,
        parameters=(
            Parameter(
                name="sigma",
                default=0.3,
                low=0.0,
                high=2.0,
                step=0.01,
                unit="pixel value, pictures span [0, 1]",
                description="Standard deviation of the noise.",
            ),
        ),
        severities={
            severity: {"sigma": sigma} for severity, sigma in enumerate((0.08, 0.12, 0.18, 0.26, 0.38), start=1)
        },
        strengths=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7),
    ),
    "gaussian_blur": Description(
        name="gaussian_blur",
        label="Gaussian blur",
        summary="Convolves with a Gaussian cut to a square kernel (Ravula et al. 2021; severities: ImageNet-C).",
        operator=gaussian_blur,
        parameters=(
            Parameter(
                name="kernel",
                default=21,
                low=1,
                high=101,
                step=2,
                unit="px",
                description="Side of the square to which the Gaussian is cut.",
                integer=True,
                odd=True,
            ),
            Parameter(
                name="sigma",
                default=5.0,
                low=0.1,
                high=20.0,
                step=0.1,
                unit="px",
                description="Standard deviation of the Gaussian.",
            ),
        ),
        # The kernels are scikit-image's: 2 int(4 sigma + 0.5) + 1 taps.
        severities={
            severity: {"kernel": 8 * sigma + 1, "sigma": sigma}
            for severity, sigma in enumerate((1, 2, 3, 4, 6), start=1)
        },
        stochastic=False,
        strength="sigma",
        strengths=(0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0),
    ),
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
