"""Weather: snow, frost, fog and spatter over the picture. Functions, then their entries `WEATHER`.

Lengths of snow and spatter are px of the picture as it comes and do not grow with it: a severity is stated for 224 px.
Fog and frost fill the picture with shapes of its own size.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.distortions.batching import per_group, per_image
from explorer.distortions.fields import enlarged, plasma, smooth, streaked
from explorer.distortions.parameters import Description, Parameter, by_severity
from explorer.distortions.randomness import Draw
from explorer.distortions.relief import relief

GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601, as in OpenCV
FLAKES = 0.3  # standard deviation of the noise of which snow is made
CRYSTALS = 24  # of frost, in a picture of any size
WATER, MUD = (175 / 255, 238 / 255, 238 / 255), (63 / 255, 42 / 255, 20 / 255)
MUD_EDGE, MUD_THINNEST = 1.5, 0.8  # px of smoothing of a blot; how much of a blot a pixel must hold to be mud


@per_image
def snow(
    images: Float[Tensor, "1 3 height width"],
    draw: Draw,
    amount: float,
    size: float,
    threshold: float,
    radius: int,
    sigma: float,
    whiten: float,
) -> Float[Tensor, "1 3 height width"]:
    """The picture whitened, plus flakes that fall aslant, plus the same flakes turned by half a turn.

    Flakes are normal noise (mean `amount`, deviation 0.3) enlarged `size` times, set to 0 below `threshold`, clipped to
    [0, 1] and streaked as in `motion_blur` along a random direction, 45 degrees around the vertical.
    """
    height, width = images.shape[2:]
    noise = draw.normal(1, height, width).to(images.dtype) * FLAKES + amount
    flakes = enlarged(noise, size).clamp(0.0, 1.0)
    flakes = streaked(flakes.masked_fill(flakes < threshold, 0.0), radius, sigma, float(draw.uniform(1)) * 90 - 135)
    grey = (images * torch.tensor(GREY).to(images)[:, None, None]).sum(dim=1, keepdim=True)
    white = torch.lerp(images, torch.maximum(images, grey * 1.5 + 0.5), whiten)
    return white + flakes + flakes.flip(2, 3)


@per_group
def fog(
    images: Float[Tensor, "batch 3 height width"], draw: Draw, thickness: float, decay: float
) -> Float[Tensor, "batch 3 height width"]:
    """`thickness` times a plasma cloud is added, and all is scaled so that the brightest pixel cannot grow brighter.

    The fog is as large as the next power of two px, and so grows with the picture in steps.
    """
    height, width = images.shape[2:]
    cloud = plasma(draw, height, width, decay).to(images.dtype)
    brightest = images.amax(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(images.dtype).tiny)
    return (images + thickness * cloud) * (brightest / (brightest + thickness))


@per_image
def frost(
    images: Float[Tensor, "1 3 height width"], draw: Draw, frost: float, picture: float
) -> Float[Tensor, "1 3 height width"]:
    """picture x the image + frost x a layer of ice.

    Deviation from ImageNet-C: its ice is cut from six photographs of frosted windows, whose origin and licence are not
    stated; this one is drawn. Crystals of random place and direction carry the barbs of a feather, over a cloud; how
    white the ice is as a whole differs from picture to picture as it does between those photographs (mean 0.6,
    deviation 0.15), and so does its blueness. The drawn ice resembles theirs in brightness and contrast, not in shape.
    """
    ice = _ice(draw, images.shape[2], images.shape[3]).to(images.dtype)
    return images * picture + ice * frost


def _ice(draw: Draw, height: int, width: int) -> Float[Tensor, "1 3 height width"]:
    """From dark blue to white."""
    level, blueness = draw.uniform(2)[0].tolist()
    cloud = plasma(draw, height, width, 1.4)
    white = 0.385 + 0.54 * level + 0.5 * (cloud - 0.5) + 0.3 * (_feathers(draw, height, width, cloud) - 0.5)
    tint = torch.tensor([-0.16, 0.02, 0.14], device=white.device)[:, None, None] * (0.2 + 0.8 * blueness)
    return (white + tint * (1 - level)).clamp(0.0, 1.0)


def _feathers(
    draw: Draw, height: int, width: int, cloud: Float[Tensor, "1 1 height width"]
) -> Float[Tensor, "1 1 height width"]:
    """Crystals from 0 to 1: around each of some random points a stem with barbs, bent a little by the cloud.

    A pixel belongs to the nearest point. Along the stem u and across it v, barbs are waves of u + |v|, and fade from
    the stem outwards.
    """
    seeds = draw.uniform(4, CRYSTALS)[0]
    side = max(height, width)
    centres = seeds[:2] * torch.tensor([[height / side], [width / side]], device=cloud.device)
    bend = (cloud[0, 0] - 0.5) * 0.15
    rows = torch.arange(height, device=cloud.device)[:, None] / side + bend
    cols = torch.arange(width, device=cloud.device) / side + bend.flip(0, 1)
    nearest = ((centres**2).sum(0) - 2 * torch.stack([rows, cols], dim=2) @ centres).argmin(dim=2)
    down, right = rows - centres[0][nearest], cols - centres[1][nearest]
    angle, period = seeds[2][nearest] * math.tau, 0.012 + 0.025 * seeds[3][nearest]
    along = down * angle.sin() + right * angle.cos()
    across = (right * angle.sin() - down * angle.cos()).abs()
    barbs = (0.5 + 0.5 * torch.cos((along + across) * math.tau / period)) * torch.exp(-across / 0.12)
    stem = torch.exp(-((across / 0.006) ** 2))
    return torch.maximum(barbs, stem)[None, None]


@per_group
def spatter(
    images: Float[Tensor, "batch 3 height width"],
    draw: Draw,
    amount: float,
    spread: float,
    size: float,
    threshold: float,
    opacity: float,
    mud: int,
) -> Float[Tensor, "batch 3 height width"]:
    """Drops of water or blots of mud where smooth noise exceeds `threshold`.

    The noise is normal (mean `amount`, deviation `spread`) smoothed by a Gaussian of `size` px. Mud covers the picture;
    water adds a pale turquoise, brighter on one side of a drop than on the other (see `relief`).
    """
    noise = draw.normal(1, *images.shape[2:]).to(images.dtype) * spread + amount
    liquid = smooth(noise, size)
    colour = torch.tensor(MUD if mud else WATER).to(images)[:, None, None]
    if not mud:
        return images + relief(liquid.masked_fill(liquid < threshold, 0.0)) * opacity * colour
    blots = smooth((liquid > threshold).to(images.dtype), MUD_EDGE)
    return torch.lerp(images, colour, blots.masked_fill(blots < MUD_THINNEST, 0.0) * opacity)


def _parameter(
    name: str, default: float, bounds: tuple[float, float], step: float, unit: str, description: str
) -> Parameter:
    low, high = bounds
    return Parameter(name=name, default=default, low=low, high=high, step=step, unit=unit, description=description)


WEATHER: dict[str, Description] = {
    "snow": Description(
        name="snow",
        label="Snow",
        summary="Whitens the picture and adds streaked flakes (ImageNet-C).",
        operator=snow,
        parameters=(
            _parameter("amount", 0.55, (-1.0, 1.0), 0.01, "pixel value", "Mean of the noise that flakes are made of."),
            _parameter("size", 4.0, (1.0, 20.0), 0.1, "px", "Side of the smallest flakes."),
            _parameter("threshold", 0.9, (0.0, 1.0), 0.01, "pixel value", "How bright noise must be to be a flake."),
            Parameter(
                name="radius",
                default=12,
                low=1,
                high=60,
                step=1,
                unit="px",
                description="Half of the length of the streaks.",
                integer=True,
            ),
            _parameter("sigma", 8.0, (0.1, 60.0), 0.5, "px", "How slowly the streaks fade."),
            _parameter("whiten", 0.3, (0.0, 1.0), 0.01, "share", "How much of the picture is whitened."),
        ),
        severities=by_severity(
            amount=(0.1, 0.2, 0.55, 0.55, 0.55),
            size=(3, 2, 4, 4.5, 2.5),
            threshold=(0.5, 0.5, 0.9, 0.85, 0.85),
            radius=(10, 12, 12, 12, 12),
            sigma=(4, 4, 8, 8, 12),
            whiten=(0.2, 0.3, 0.3, 0.35, 0.45),
        ),
        strengths=(0.1, 0.3, 0.45, 0.55, 0.65, 0.75, 0.9),
    ),
    "frost": Description(
        name="frost",
        label="Frost",
        summary="Lays drawn ice crystals over the picture (after ImageNet-C, which has photographs of frost).",
        operator=frost,
        parameters=(
            _parameter("frost", 0.7, (0.0, 1.0), 0.01, "weight", "How much of the ice is added."),
            _parameter("picture", 0.7, (0.0, 1.0), 0.01, "weight", "How much of the picture is kept."),
        ),
        severities=by_severity(frost=(0.4, 0.6, 0.7, 0.7, 0.75), picture=(1.0, 0.8, 0.7, 0.65, 0.6)),
        strengths=(0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 0.9),
    ),
    "fog": Description(
        name="fog",
        label="Fog",
        summary="Adds a cloud of plasma and darkens all to the old range (ImageNet-C).",
        operator=fog,
        parameters=(
            _parameter("thickness", 2.5, (0.0, 10.0), 0.1, "pixel value", "The cloud at its thickest."),
            _parameter("decay", 1.7, (1.05, 5.0), 0.05, "ratio", "How smooth the cloud is: the more, the smoother."),
        ),
        severities=by_severity(thickness=(1.5, 2, 2.5, 2.5, 3), decay=(2, 2, 1.7, 1.5, 1.4)),
        strengths=(0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 5.0),
    ),
    "spatter": Description(
        name="spatter",
        label="Spatter",
        summary="Drops of water, or blots of mud from severity 4 on (ImageNet-C, extra).",
        operator=spatter,
        parameters=(
            _parameter("amount", 0.65, (0.0, 1.0), 0.01, "noise", "Mean of the noise that drops are made of."),
            _parameter("spread", 0.3, (0.0, 2.0), 0.01, "noise", "Standard deviation of that noise."),
            _parameter("size", 2.0, (0.3, 20.0), 0.1, "px", "How large the drops are: what the noise is smoothed by."),
            _parameter("threshold", 0.68, (0.0, 1.0), 0.01, "noise", "Smoothed noise above it is a drop."),
            _parameter("opacity", 0.5, (0.0, 1.0), 0.01, "share", "How much the drops show."),
            Parameter(
                name="mud",
                default=0,
                low=0,
                high=1,
                step=1,
                unit="0 or 1",
                description="Mud in place of water.",
                integer=True,
            ),
        ),
        severities=by_severity(
            amount=(0.65, 0.65, 0.65, 0.65, 0.67),
            spread=(0.3, 0.3, 0.3, 0.3, 0.4),
            size=(4, 3, 2, 1, 1),
            threshold=(0.69, 0.68, 0.68, 0.65, 0.65),
            opacity=(0.6, 0.6, 0.5, 1.0, 1.0),
            mud=(0, 0, 0, 1, 1),
        ),
        strengths=(0.58, 0.61, 0.63, 0.65, 0.67, 0.69, 0.72),
    ),
}
