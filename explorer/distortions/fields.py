"""What several corruptions are made of: borders, smoothing, streaks, enlargement and plasma. No parameters of a spec.

Everything takes (batch, channel, height, width) of any size, float32 or float64, and gives each image the same bits
alone and in a batch.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from explorer.distortions.randomness import Draw


def reflected(images: Float[Tensor, "batch channel height width"], margin: int) -> Float[Tensor, "batch channel h w"]:
    """The pictures with `margin` px more on each side, mirrored about the border pixel (OpenCV's default border).

    Unlike `F.pad` this takes any margin: in a picture that is too small the mirror images repeat.
    """
    if margin < min(images.shape[2:]):
        return F.pad(images, [margin] * 4, mode="reflect")
    rows, cols = (_mirrored(side, margin, images.device) for side in images.shape[2:])
    return images[:, :, rows][..., cols]


def _mirrored(length: int, margin: int, device: torch.device) -> Int64[Tensor, " place"]:
    place = torch.arange(-margin, length + margin, device=device).abs()
    period = max(2 * length - 2, 1)
    return (length - 1) - ((place % period) - (length - 1)).abs() if length > 1 else torch.zeros_like(place)


def gaussian_taps(sigma: float, radius: int) -> Float[Tensor, " tap"]:
    """Samples of a Gaussian at -radius..radius px with sum 1, in float64."""
    place = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-(place**2) / (2 * sigma**2))
    return taps / taps.sum()


def smooth(
    images: Float[Tensor, "batch channel height width"], sigma: float, truncate: float = 4.0
) -> Float[Tensor, "batch channel height width"]:
    """Convolution with a Gaussian of `sigma` px cut at `truncate` sigma, border pixels repeated, as in scikit-image."""
    taps = gaussian_taps(sigma, int(truncate * sigma + 0.5)).to(images)
    return torch.cat([_smoothed(image[:, None], taps) for image in images])  # one by one, for the same bits


def _smoothed(
    channels: Float[Tensor, "channel 1 height width"], taps: Float[Tensor, " tap"]
) -> Float[Tensor, "1 channel height width"]:
    margin = len(taps) // 2
    across = F.conv2d(F.pad(channels, (margin, margin, 0, 0), mode="replicate"), taps[None, None, None, :])
    down = F.conv2d(F.pad(across, (0, 0, margin, margin), mode="replicate"), taps[None, None, :, None])
    return down[None, :, 0]


def stencil(
    images: Float[Tensor, "batch channel height width"], weights: tuple[tuple[float, ...], ...]
) -> Float[Tensor, "batch channel height width"]:
    """Correlation with a small square of odd side, mirrored at the border; a sum of shifted pictures."""
    height, width = images.shape[2:]
    wide = reflected(images, len(weights) // 2)
    out = torch.zeros_like(images)
    for row, line in enumerate(weights):
        for col, weight in enumerate(line):
            if weight:
                out.add_(wide[..., row : row + height, col : col + width], alpha=weight)
    return out


def streaked(
    images: Float[Tensor, "batch channel height width"], radius: int, sigma: float, degrees: float
) -> Float[Tensor, "batch channel height width"]:
    """Motion blur of ImageNet-C: 2 radius + 1 copies moved along a line, weights half a Gaussian, borders repeated."""
    weights = gaussian_taps(sigma, 2 * radius)[2 * radius :]
    weights = weights / weights.sum()
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    steps = [(math.ceil(i * sine - 0.5), math.ceil(i * cosine - 0.5)) for i in range(2 * radius + 1)]
    up, left = (-min(0, *(step[axis] for step in (*steps, (0, 0)))) for axis in (0, 1))
    down, right = (max(0, *(step[axis] for step in (*steps, (0, 0)))) for axis in (0, 1))
    wide = F.pad(images, (left, right, up, down), mode="replicate")
    height, width = images.shape[2:]
    out = torch.zeros_like(images)
    for (row, col), weight in zip(steps, weights.tolist(), strict=True):
        out.add_(wide[..., up + row : up + row + height, left + col : left + col + width], alpha=weight)
    return out


def enlarged(
    images: Float[Tensor, "batch channel height width"], zoom: float
) -> Float[Tensor, "batch channel height width"]:
    """The middle of the pictures, `zoom` times larger, bilinear, cut to the size they had (ImageNet-C's clipped zoom).

    As there, what is too much is cut at the right and below.
    """
    height, width = images.shape[2:]
    middle = images
    for axis, side in ((2, height), (3, width)):
        kept = math.ceil(side / zoom)
        middle = middle.narrow(axis, (side - kept) // 2, kept)
    size = [max(round(kept * zoom), side) for kept, side in zip(middle.shape[2:], (height, width), strict=True)]
    return F.interpolate(middle, size=size, mode="bilinear", align_corners=True)[..., :height, :width]


def plasma(draw: Draw, height: int, width: int, decay: float) -> Float[Tensor, "batch 1 height width"]:
    """Clouds from 0 to 1 by the diamond-square algorithm on a torus; the finer by a factor 2, the fainter by decay^2.

    The cloud has as many px as the next power of two and is cut to the picture, so it grows with the picture's size.
    """
    side = 1 << (max(height, width) - 1).bit_length()
    cloud = torch.zeros(len(draw), 1, 1, device=draw.generators[0].device)
    amplitude = 1.0
    while cloud.shape[1] < side:
        cloud = _finer(cloud, (2 * draw.uniform(3, *cloud.shape[1:]) - 1) * amplitude)
        amplitude /= decay**2
    cloud = cloud - cloud.amin(dim=(1, 2), keepdim=True)
    cloud = cloud / cloud.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(cloud.dtype).tiny)
    return cloud[:, None, :height, :width]


def _finer(
    corner: Float[Tensor, "batch side side"], noise: Float[Tensor, "batch 3 side side"]
) -> Float[Tensor, "batch twice twice"]:
    """The grid and, between, the middles of its squares and edges: each the mean of four neighbours plus noise."""
    pairs = corner + corner.roll(-1, 1)
    middle = (pairs + pairs.roll(-1, 2)) / 4 + noise[:, 0]
    across = (corner + corner.roll(-1, 2) + middle + middle.roll(1, 1)) / 4 + noise[:, 1]
    down = (corner + corner.roll(-1, 1) + middle + middle.roll(1, 2)) / 4 + noise[:, 2]
    even = torch.stack([corner, across], dim=3).flatten(2)
    odd = torch.stack([down, middle], dim=3).flatten(2)
    return torch.stack([even, odd], dim=2).flatten(1, 2)
