"""Blur: each pixel becomes a mean of its surroundings, or is swapped with them. Functions, then their entries `BLUR`.

Lengths are px of the picture as it comes. They do not grow with it: a severity is stated for 224 px, and is a weaker
blur, relative to what is seen, of a larger picture. The zoom of `zoom_blur` is a ratio, and so the same at any size.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from explorer.distortions.batching import per_group, per_image
from explorer.distortions.fields import enlarged, gaussian_taps, reflected, smooth, streaked
from explorer.distortions.parameters import Description, Parameter, by_severity
from explorer.distortions.randomness import Draw
from explorer.errors import InputError


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
        raise InputError(
            f"gaussian_blur: a kernel of {kernel} px reaches {kernel // 2} px beyond the border, more than a picture "
            f"of {height}x{width} px (height x width) can reflect; use kernel={largest} or less, or a larger picture"
        )
    import torchvision.transforms.v2.functional as tvf  # late: it takes longer than torch itself

    across = tvf.gaussian_blur(images, kernel_size=[kernel, 1], sigma=[sigma, sigma])
    return tvf.gaussian_blur(across, kernel_size=[1, kernel], sigma=[sigma, sigma])


@per_image
def defocus_blur(
    images: Float[Tensor, "1 3 height width"], _draw: Draw, radius: float, sigma: float
) -> Float[Tensor, "1 3 height width"]:
    """Convolution with a disc of `radius` px whose edge is softened by a Gaussian of `sigma` px, borders mirrored.

    By Fourier transform: a disc is not separable, and this costs the same for every radius. One image at a time, for
    the same bits in any batch.

    Deviation from ImageNet-C: there the softened disc is cut to 17 or 21 px, here it is whole.
    """
    height, width = images.shape[2:]
    disc = _disc(radius, sigma).to(images)
    wide = reflected(images, len(disc) // 2)
    size = wide.shape[2:]
    product = torch.fft.rfft2(wide) * torch.fft.rfft2(disc, s=size)
    margin = len(disc) - 1  # a transform wraps around: only from here on is the result that of a plain convolution
    return torch.fft.irfft2(product, s=size)[..., margin : margin + height, margin : margin + width].contiguous()


def _disc(radius: float, sigma: float) -> Float[Tensor, "side side"]:
    """The pixels within `radius` px of the middle, softened over 2 px, with sum 1."""
    reach = math.ceil(radius) + 2
    squares = torch.arange(-reach, reach + 1, dtype=torch.float64) ** 2
    sharp = (squares[:, None] + squares[None] <= radius**2).double()
    edge = gaussian_taps(sigma, 2)
    soft = torch.nn.functional.conv2d(sharp[None, None], (edge[:, None] * edge)[None, None], padding=2)[0, 0]
    return soft / soft.sum()


@per_group
def glass_blur(
    images: Float[Tensor, "batch 3 height width"], draw: Draw, sigma: float, shift: int, iterations: int
) -> Float[Tensor, "batch 3 height width"]:
    """Smoothed, each pixel replaced by one at most `shift` px away, `iterations` times, and smoothed again.

    ImageNet-C means to swap two pixels, but assigns views of one array to each other, which copies the second over the
    first; its pictures were made so, and so are these. A picture too small for that is only smoothed.
    """
    height, width = images.shape[2:]
    blurred = smooth(images, sigma).flatten(2)
    for _ in range(iterations):
        source = _neighbours(draw, height, width, shift)
        blurred = blurred.gather(2, source[:, None].expand(-1, 3, -1))
    return smooth(blurred.unflatten(2, (height, width)), sigma)


def _neighbours(draw: Draw, height: int, width: int, shift: int) -> Int64[Tensor, "batch pixel"]:
    """Where each pixel comes from, if from the last to the first each takes what then is at its neighbour.

    A neighbour lies -shift to shift - 1 rows and columns away (ImageNet-C leaves `shift` itself out). Where it was
    replaced before, its own neighbour is looked up, and so on; all chains at once, doubling what is known of each.
    """
    moves = (draw.uniform(2, height, width) * (2 * shift)).long() - shift
    place = torch.arange(len(draw) * height * width, device=moves.device).reshape(len(draw), height, width)
    source = torch.full_like(place, -1)  # -1 - x for what was at x in the beginning, x for what is there afterwards
    source -= place
    inside = (slice(None), slice(shift + 1, height - shift + 1), slice(shift + 1, width - shift + 1))
    target = (place + moves[:, 0] * width + moves[:, 1])[inside]
    replaced = torch.zeros_like(place, dtype=torch.bool)
    replaced[inside] = True
    source[inside] = torch.where((target > place[inside]) & replaced.flatten()[target], target, -1 - target)
    chain = source.flatten()
    open_ends = (chain >= 0).nonzero()[:, 0]
    while len(open_ends):
        chain[open_ends] = chain[chain[open_ends]]
        open_ends = open_ends[chain[open_ends] >= 0]
    return (-1 - chain).reshape(len(draw), -1) - place[:, :1, 0]


@per_image
def motion_blur(
    images: Float[Tensor, "1 3 height width"], draw: Draw, radius: int, sigma: float
) -> Float[Tensor, "1 3 height width"]:
    """A streak of 2 radius + 1 px that fades as a Gaussian of `sigma` px, at most 45 degrees from the horizontal."""
    return streaked(images, radius, sigma, float(draw.uniform(1)) * 90 - 45)


@per_image
def zoom_blur(
    images: Float[Tensor, "1 3 height width"], _draw: Draw, zoom: float, layers: int
) -> Float[Tensor, "1 3 height width"]:
    """The mean of the picture and of `layers` enlargements of it, from 1 to `zoom` times (bilinear)."""
    total = images.clone()
    for factor in torch.linspace(1, zoom, layers, dtype=torch.float64).tolist():
        total += enlarged(images, factor)
    return total / (layers + 1)


def _px(name: str, default: float, low: float, high: float, step: float, description: str) -> Parameter:
    return Parameter(name=name, default=default, low=low, high=high, step=step, unit="px", description=description)


def _whole(name: str, default: int, low: int, high: int, unit: str, description: str) -> Parameter:
    return Parameter(
        name=name, default=default, low=low, high=high, step=1, unit=unit, description=description, integer=True
    )


BLUR: dict[str, Description] = {
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
        severities=by_severity(kernel=(9, 17, 25, 33, 49), sigma=(1, 2, 3, 4, 6)),
        stochastic=False,
        strength="sigma",
        strengths=(0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0),
    ),
    "defocus_blur": Description(
        name="defocus_blur",
        label="Defocus blur",
        summary="Spreads each pixel over a disc, like a lens out of focus (ImageNet-C).",
        operator=defocus_blur,
        parameters=(
            _px("radius", 6.0, 0.0, 40.0, 0.5, "Radius of the disc."),
            _px("sigma", 0.5, 0.1, 2.0, 0.1, "Standard deviation of the Gaussian that softens the edge of the disc."),
        ),
        severities=by_severity(radius=(3, 4, 6, 8, 10), sigma=(0.1, 0.5, 0.5, 0.5, 0.5)),
        stochastic=False,
        strengths=(1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 14.0),
    ),
    "glass_blur": Description(
        name="glass_blur",
        label="Glass blur",
        summary="Swaps neighbouring pixels between two blurs, like frosted glass (ImageNet-C).",
        operator=glass_blur,
        parameters=(
            _px("sigma", 1.0, 0.1, 10.0, 0.1, "Standard deviation of both Gaussians."),
            _whole("shift", 2, 1, 16, "px", "How far a swap reaches."),
            _whole("iterations", 2, 0, 10, "rounds", "How often each pixel is swapped."),
        ),
        severities=by_severity(sigma=(0.7, 0.9, 1.0, 1.1, 1.5), shift=(1, 2, 2, 3, 4), iterations=(2, 1, 3, 2, 2)),
        strength="shift",
        strengths=(1, 2, 3, 4, 5, 6, 8),
    ),
    "motion_blur": Description(
        name="motion_blur",
        label="Motion blur",
        summary="Streaks the picture in a random direction near the horizontal (ImageNet-C).",
        operator=motion_blur,
        parameters=(
            _whole("radius", 15, 1, 60, "px", "Half of the length of the streak."),
            _px("sigma", 8.0, 0.1, 60.0, 0.5, "How slowly the streak fades: the standard deviation of its weights."),
        ),
        severities=by_severity(radius=(10, 15, 15, 15, 20), sigma=(3, 5, 8, 12, 15)),
        strength="sigma",
        strengths=(1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0),
    ),
    "zoom_blur": Description(
        name="zoom_blur",
        label="Zoom blur",
        summary="Averages enlargements of the picture, as if the camera moved towards it (ImageNet-C).",
        operator=zoom_blur,
        parameters=(
            Parameter(
                name="zoom",
                default=1.2,
                low=1.0,
                high=3.0,
                step=0.01,
                unit="ratio",
                description="The largest enlargement.",
            ),
            _whole("layers", 12, 1, 60, "pictures", "How many enlargements are averaged."),
        ),
        # What numpy.arange makes of ImageNet-C's (1, 1.11, 0.01), (1, 1.16, 0.01), (1, 1.21, 0.02), ...
        severities=by_severity(zoom=(1.11, 1.15, 1.2, 1.24, 1.3), layers=(12, 16, 11, 13, 11)),
        stochastic=False,
        strengths=(1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.5),
    ),
}
