"""Noise: each pixel and channel is changed by a random number of its own. Functions, then their entries `NOISE`.

Noise is drawn for each pixel, so nothing here depends on the size of the picture.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from explorer.distortions.parameters import Description, Parameter, by_severity
from explorer.distortions.randomness import Draw


def gaussian_noise(
    images: Float[Tensor, "batch 3 height width"], draw: Draw, sigma: Float64[np.ndarray, " batch"]
) -> Float[Tensor, "batch 3 height width"]:
    """x + sigma N(0, 1), independent for each pixel and channel (Ravula et al. 2021; Hendrycks and Dietterich 2019).

    The normal numbers are float32 for every dtype of the images, so that a picture meets the same noise in all of them.
    """
    return draw.normal(*images.shape[1:]).to(images.dtype).mul_(_column(sigma, images)).add_(images)


def shot_noise(
    images: Float[Tensor, "batch 3 height width"], draw: Draw, sigma: Float64[np.ndarray, " batch"]
) -> Float[Tensor, "batch 3 height width"]:
    """Counts of photons, Poisson with mean x photons, divided by photons = 1 / sigma^2 (Hendrycks and Dietterich 2019).

    The standard deviation at a pixel value x is sigma sqrt(x). A value below 0 counts as 0: it has no photons.
    """
    photons = _column(sigma**-2, images)
    return draw.poisson((images.clamp(min=0.0) * photons).float()).to(images.dtype) / photons


def impulse_noise(
    images: Float[Tensor, "batch 3 height width"], draw: Draw, fraction: Float64[np.ndarray, " batch"]
) -> Float[Tensor, "batch 3 height width"]:
    """Each channel of each pixel becomes 0 or 1, with chance fraction / 2 for either ("salt and pepper", as there)."""
    chance, share = draw.uniform(*images.shape[1:]), _column(fraction, images).float()
    return images.masked_fill(chance < share, 1.0).masked_fill_(chance < share / 2, 0.0)


def speckle_noise(
    images: Float[Tensor, "batch 3 height width"], draw: Draw, sigma: Float64[np.ndarray, " batch"]
) -> Float[Tensor, "batch 3 height width"]:
    """x + x sigma N(0, 1): noise in proportion to the pixel value (extra of Hendrycks and Dietterich 2019)."""
    noise = draw.normal(*images.shape[1:]).to(images.dtype).mul_(_column(sigma, images))
    return torch.addcmul(images, images, noise)


def _column(values: Float64[np.ndarray, " batch"], images: Tensor) -> Float[Tensor, "batch 1 1 1"]:
    return torch.as_tensor(values, dtype=images.dtype, device=images.device)[:, None, None, None]


NOISE: dict[str, Description] = {
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
        severities=by_severity(sigma=(0.08, 0.12, 0.18, 0.26, 0.38)),
        strengths=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7),
    ),
    "shot_noise": Description(
        name="shot_noise",
        label="Shot noise",
        summary="Counts photons: Poisson noise, stronger where the picture is bright (ImageNet-C).",
        operator=shot_noise,
        parameters=(
            Parameter(
                name="sigma",
                default=0.29,
                low=0.01,
                high=2.0,
                step=0.01,
                unit="pixel value, pictures span [0, 1]",
                description="Standard deviation of the noise at white; white is 1 / sigma^2 photons.",
            ),
        ),
        # ImageNet-C counts 60, 25, 12, 5 and 3 photons at white.
        severities=by_severity(sigma=tuple(photons**-0.5 for photons in (60, 25, 12, 5, 3))),
        strengths=(0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8),
    ),
    "impulse_noise": Description(
        name="impulse_noise",
        label="Impulse noise",
        summary="Sets random channels of random pixels to 0 or 1, salt and pepper in colour (ImageNet-C).",
        operator=impulse_noise,
        parameters=(
            Parameter(
                name="fraction",
                default=0.09,
                low=0.0,
                high=1.0,
                step=0.01,
                unit="share of the channel values",
                description="How many values are lost, half of them to white and half to black.",
            ),
        ),
        severities=by_severity(fraction=(0.03, 0.06, 0.09, 0.17, 0.27)),
        strengths=(0.01, 0.03, 0.06, 0.12, 0.2, 0.3, 0.5),
    ),
    "speckle_noise": Description(
        name="speckle_noise",
        label="Speckle noise",
        summary="Adds normal noise in proportion to the pixel value (ImageNet-C, extra).",
        operator=speckle_noise,
        parameters=(
            Parameter(
                name="sigma",
                default=0.35,
                low=0.0,
                high=2.0,
                step=0.01,
                unit="share of the pixel value",
                description="Standard deviation of the noise where the picture is white.",
            ),
        ),
        severities=by_severity(sigma=(0.15, 0.2, 0.35, 0.45, 0.6)),
        strengths=(0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9),
    ),
}
