"""Whether two pictures show the same scene, and by how many pixels one is shifted: `shift_between`, `shifted`; and
whether the damaged one was given as the clean one: `look_swapped`.

Enters: a clean picture and a damaged one of the same size. Leaves: whole pixels, since to interpolate would blur the
damage that is to be seen, and half a pixel is little beside a patch. Deliberately ignored: rotation, scale and lens.
"""

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float
from torch import Tensor

FARTHEST = 1 / 8
"""The largest shift that is looked for, as a share of each side."""
SAME_SCENE = 0.4
"""The correlation from which on two pictures show the same scene; see `shift_between`."""
_TWICE, _SCENE, _NOISE = 2.0, 1.05, 1.25  # see `look_swapped`
_FINE, _COARSE = 0.01, 0.04  # sigmas of the band, as shares of the shorter side: noise is finer, haze is coarser


def shift_between(
    clean: Float[Tensor, "3 height width"], damaged: Float[Tensor, "3 height width"]
) -> tuple[tuple[int, int], float]:
    """By how many pixels the damaged picture has to be moved to lie on the clean one, and how well it lies there then.

    Both are compared in grey, in the band of details that survives most damage, by normalised cross-correlation over
    the common area of every shift up to `FARTHEST` (Padfield 2012, doi 10.1109/TIP.2011.2181402, by FFT).

    Measured on the project's photos at 112 and 160 px: 331 pairs of different photos reach 0.35 at most, 99 % of them
    0.22, half of them 0.10. A photo and itself, shifted by up to 14 px and damaged, reach at least 0.77 in dim light
    (8 photons at white, Poisson and read noise), 0.69 scaled down to an eighth, 0.74 as JPEG of quality 4, 0.70 under
    15 px of motion, 0.51 in ImageNet-C's fog 5, 0.49 in its zoom blur 5, and 0.51 with half of the width and height
    hidden; at 224 px 0.62 in very dim light (3 photons) and 0.68 scaled down to a twelfth. Below SAME_SCENE falls
    what leaves hardly anything of a picture: one photon at white (0.14), 80 % of the pixels or 75 % of the patches
    masked.

    Returns:
        (rows, cols), as scikit-image's `phase_cross_correlation` counts them; and the correlation, from -1 to 1.
    """
    a, b = (_band(picture) for picture in (clean, damaged))
    frame = (2 * a.shape[0], 2 * a.shape[1])  # padded, so that nothing wraps around
    ones = torch.ones_like(a)
    spectrum = {name: torch.fft.rfft2(one, frame) for name, one in (("a", a), ("aa", a * a), ("b", b), ("bb", b * b))}
    spectrum["1"] = torch.fft.rfft2(ones, frame)

    def over(one: str, other: str) -> Tensor:
        """The sum of a product over the common area, for every shift."""
        return torch.fft.irfft2(spectrum[one] * spectrum[other].conj(), frame)

    count = over("1", "1").clamp_min(1)
    sums = over("a", "1"), over("1", "b")
    squares = over("aa", "1"), over("1", "bb")
    spread = [(square - one**2 / count).clamp_min(0) for square, one in zip(squares, sums, strict=True)]
    correlation = (over("a", "b") - sums[0] * sums[1] / count) / (spread[0] * spread[1]).sqrt().clamp_min(1e-9)
    rows, cols = (torch.arange(-int(side * FARTHEST), int(side * FARTHEST) + 1) for side in a.shape)
    near = correlation[rows][:, cols]
    row, col = divmod(int(near.argmax()), len(cols))
    return (int(rows[row]), int(cols[col])), float(near[row, col])


def shifted(image: Float[Tensor, "3 height width"], shift: tuple[int, int]) -> Float[Tensor, "3 height width"]:
    """The picture moved down and to the right by whole pixels; where nothing is known its border is repeated."""
    rows, cols = shift
    height, width = image.shape[1:]
    padding = (max(cols, 0), max(-cols, 0), max(rows, 0), max(-rows, 0))
    padded = F.pad(image[None], padding, mode="replicate")[0]
    return padded[:, max(-rows, 0) :, max(-cols, 0) :][:, :height, :width].contiguous()


def look_swapped(clean: Float[Tensor, "3 height width"], damaged: Float[Tensor, "3 height width"]) -> bool:
    """Whether the clean picture looks like the damaged one, and the other way round; a hint, and no proof.

    Of two pictures of a scene one may have twice the finest details or more. Where these are mostly as fine as a pixel
    they are noise, and that picture is the damaged one; where coarser ones go with them they are the scene's, which the
    other picture has lost. In between, and where both have about as many, nothing is said.

    Measured on 103 of the project's photos at 224 px, given the wrong way round: told of 95 % under Gaussian blur of
    sigma 5, 94 % scaled down to an eighth, 90 % under noise of sigma 0.3, 80 % in dim light (8 photons at white), 48 %
    under 15 px of motion, 12 % under noise of sigma 0.1, and 1 % as JPEG of quality 8. Given the right way round it is
    said of 4 % under ImageNet-C's snow 3, and of 1 % at most under 21 others.
    """
    (own, share), (others, others_share) = _finest(clean), _finest(damaged)
    if own >= _TWICE * others:
        return share >= _NOISE  # the clean one has noise
    if others >= _TWICE * own:
        return others_share <= _SCENE  # the damaged one has the scene's details
    return False


def _finest(image: Float[Tensor, "3 height width"]) -> tuple[float, float]:
    """How strong details of one pixel are, as a share of the contrast; and as a share of those of two pixels."""
    grey = reduce(image.clamp(0, 1).to("cpu", torch.float64), "c h w -> 1 h w", "mean")
    half = F.avg_pool2d(grey, 2)
    quarter = F.avg_pool2d(half, 2)
    one, two = (
        (picture - F.interpolate(smaller[None], picture.shape[1:])[0]).square().mean().sqrt().item()
        for picture, smaller in ((grey, half), (half, quarter))
    )
    return one / (grey.std().item() + 1e-9), one / (two + 1e-9)


def _band(image: Float[Tensor, "3 height width"]) -> Float[Tensor, "height width"]:
    """Details of a middle size, in grey, in double precision; less uneven in strength, so that no single edge
    decides what the picture is like."""
    grey = reduce(image.to("cpu", torch.float64), "c h w -> 1 h w", "mean")
    grey = grey - grey.mean()  # of a flat picture nothing is left, not even rounding
    side = min(image.shape[1:])

    def blurred(picture: Tensor, sigma: float) -> Tensor:
        reach = min(int(3 * sigma * side), side // 2 - 1)
        down, across = (_blur(length, sigma * side, reach) for length in picture.shape[1:])
        return down @ picture @ across.T

    details = blurred(grey, _FINE) - blurred(grey, _COARSE)
    strength = blurred(details**2, _COARSE).sqrt()
    return (details / (strength + strength.mean() + 1e-9))[0]


def _blur(length: int, sigma: float, reach: int) -> Float[Tensor, "{length} {length}"]:
    """A Gaussian blur along one side, mirrored at its ends, as torchvision's, whose convolution in double precision
    takes 18 GB for a picture of 448 px."""
    steps = torch.arange(-reach, reach + 1)
    places = (torch.arange(length)[:, None] + steps).abs()
    places = length - 1 - (length - 1 - places).abs()
    weights = torch.softmax(-0.5 * (steps.double() / sigma) ** 2, dim=0)
    return torch.zeros(length, length, dtype=torch.float64).scatter_add_(1, places, weights.expand(length, -1))
