"""The table of all image operations, `DISTORTIONS`, and what an operator is.

A new operator is one function and one entry, in `noise`, `blur`, `weather`, `digital` or `masks`. The function takes
the images (float, RGB in [0, 1], but values outside may come in from an operator before it), a `Draw` for random
numbers, and each parameter as an array with one value per image; it returns new images and never writes to its input.
`batching` makes such functions of ones that take plain numbers. Nothing here clips, except where the operation itself
is defined for [0, 1] only, and says so.

ImageNet-C (Hendrycks and Dietterich 2019) is stated for 224 px. Its operators take pictures of any size; each module
says how its parameters scale.
"""

from jaxtyping import Float
from torch import Tensor

from explorer.distortions.blur import BLUR
from explorer.distortions.digital import DIGITAL
from explorer.distortions.masks import MASKS
from explorer.distortions.noise import NOISE
from explorer.distortions.parameters import Description
from explorer.distortions.randomness import Draw
from explorer.distortions.weather import WEATHER


def identity(images: Float[Tensor, "batch 3 height width"], _draw: Draw) -> Float[Tensor, "batch 3 height width"]:
    """A copy."""
    return images.clone()


NONE = Description(
    name="none", label="None", summary="The picture as it is.", operator=identity, parameters=(), stochastic=False
)

DISTORTIONS: dict[str, Description] = {**NOISE, **BLUR, **WEATHER, **DIGITAL, **MASKS}

COMMON_CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)  # the 15 of ImageNet-C; the other operators with severities are its extras
RANDOM_CORRUPTION = "random_corruption"  # in a spec: each image draws one of the 15
