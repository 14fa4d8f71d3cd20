"""Digital changes: light and colour, geometry, resolution, compression. Functions, then their entries `DIGITAL`.

Lengths are px of the picture as it comes and do not grow with it: a severity is stated for 224 px, and is weaker,
relative to what is seen, in a larger picture. Brightness, contrast and saturation know no lengths.
"""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64, UInt8
from PIL import Image
from torch import Tensor

from explorer.distortions.batching import per_group, per_image
from explorer.distortions.fields import gaussian_taps, smooth
from explorer.distortions.parameters import Description, Parameter, by_severity
from explorer.distortions.randomness import Draw


def brightness(
    images: Float[Tensor, "batch 3 height width"], _draw: Draw, amount: Float64[np.ndarray, " batch"]
) -> Float[Tensor, "batch 3 height width"]:
    """`amount` added to the value of HSV; hue and saturation stay. Clipped to [0, 1], where HSV is defined.

    A colour of given hue and saturation is proportional to its value, so no conversion is needed; black turns grey.
    """
    clipped = images.clamp(0.0, 1.0)
    value = clipped.amax(dim=1, keepdim=True)
    brighter = (value + _column(amount, images)).clamp(0.0, 1.0)
    return torch.where(value > 0, clipped * (brighter / value), brighter)


def saturate(
    images: Float[Tensor, "batch 3 height width"],
    _draw: Draw,
    factor: Float64[np.ndarray, " batch"],
    offset: Float64[np.ndarray, " batch"],
) -> Float[Tensor, "batch 3 height width"]:
    """The saturation of HSV becomes factor x saturation + offset; hue and value stay. Clipped to [0, 1] as HSV is.

    A channel lies saturation x (a share given by the hue) x value below the value, so no conversion is needed. A grey
    has the hue of red, as in scikit-image.
    """
    clipped = images.clamp(0.0, 1.0)
    value = clipped.amax(dim=1, keepdim=True)
    below = value - clipped  # the channels' distances from the largest
    chroma = below.amax(dim=1, keepdim=True)
    share = torch.where(chroma > 0, below / chroma, torch.tensor([0.0, 1.0, 1.0]).to(images)[:, None, None])
    saturation = torch.where(value > 0, chroma / value, 0.0)
    changed = (saturation * _column(factor, images) + _column(offset, images)).clamp(0.0, 1.0)
    return value - value * changed * share


@per_image
def contrast(images: Float[Tensor, "1 3 height width"], _draw: Draw, loss: float) -> Float[Tensor, "1 3 height width"]:
    """Each channel moved towards its mean over the picture: (x - mean) (1 - loss) + mean."""
    return torch.lerp(images, images.mean(dim=(2, 3), keepdim=True), loss)


@per_group
def elastic_transform(
    images: Float[Tensor, "batch 3 height width"], draw: Draw, shift: float, sigma: float
) -> Float[Tensor, "batch 3 height width"]:
    """Each pixel fetched from a place near it, at normal distances of `shift` px that are smooth over `sigma` px.

    Bilinear, mirrored at the border. In the limit of a large picture `shift` is the standard deviation exactly.

    Deviation from ImageNet-C: it states sigma as 1 % of the side (2.24 px at 224), here it is px; and the package's
    250 x (0.05 to 0.12) is a factor on uniform noise of 1.12 px, which makes a `shift` of 1.02 to 2.44 px.
    """
    height, width = images.shape[2:]
    spread = float((gaussian_taps(sigma, int(3 * sigma + 0.5)) ** 2).sum())  # of smoothed noise of spread 1
    moves = smooth(draw.normal(2, height, width), sigma, truncate=3.0).to(images.dtype) * (shift / spread)
    rows = torch.arange(height, device=images.device)[:, None] + moves[:, 0]
    cols = torch.arange(width, device=images.device) + moves[:, 1]
    grid = torch.stack([(2 * cols + 1) / width - 1, (2 * rows + 1) / height - 1], dim=3)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


@per_group
def pixelate(
    images: Float[Tensor, "batch 3 height width"], _draw: Draw, cell: float
) -> Float[Tensor, "batch 3 height width"]:
    """Each pixel becomes the mean of its cell; cells are `cell` px wide on average and made of whole pixels."""
    rows, cols = (_cells(side, cell, images.device) for side in images.shape[2:])
    sideways = _cell_means(images, rows).transpose(2, 3).contiguous()  # whole rows are gathered far faster than columns
    spread = _cell_means(sideways, cols).index_select(2, cols)
    return spread.transpose(2, 3).contiguous().index_select(2, rows)


def _cells(side: int, cell: float, device: torch.device) -> Int64[Tensor, " pixel"]:
    """To which cell each pixel belongs."""
    count = max(int(side / cell), 1)
    owner = ((torch.arange(side, dtype=torch.float64) + 0.5) * (count / side)).long()
    return owner.clamp(max=count - 1).to(device)


def _cell_means(images: Tensor, owner: Int64[Tensor, " pixel"]) -> Tensor:
    """Means of rows; the first of all cells, plus the second ones, ..., which gives the same bits in any batch."""
    sizes = owner.bincount()
    starts = sizes.cumsum(0) - sizes
    total = images.index_select(2, starts)
    for place in range(1, int(sizes.max())):
        there = (sizes > place).to(images.dtype)[:, None]
        total.addcmul_(images.index_select(2, (starts + place).clamp(max=len(owner) - 1)), there)
    return total / sizes[:, None]


def jpeg_compression(
    images: Float[Tensor, "batch 3 height width"], _draw: Draw, compression: Int64[np.ndarray, " batch"]
) -> Float[Tensor, "batch 3 height width"]:
    """Written as a JPEG of quality 100 - compression and read again, by Pillow on the CPU; rounded to 8 bits first.

    Colour at half resolution (4:2:0) as in ImageNet-C. Blocks are 8 px in a picture of any size. No gradient passes.
    torchvision's own JPEG functions are deprecated. Pictures are read side by side; Pillow writes one at a time.
    """
    pictures = images.detach().cpu().to(torch.promote_types(images.dtype, torch.float32)).numpy()
    out, qualities = np.empty_like(pictures), (100 - compression).tolist()
    workers = min(len(pictures), torch.get_num_threads())

    def code(first: int) -> None:
        for place in range(first, len(pictures), workers):
            levels = _through_jpeg(pictures[place], qualities[place])
            np.divide(levels, 255, out=out[place], dtype=out.dtype)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(code, range(workers)))
    return torch.from_numpy(out).to(images)


def _through_jpeg(picture: Float[np.ndarray, "3 height width"], quality: int) -> UInt8[np.ndarray, "3 height width"]:
    levels = np.rint(picture.clip(0, 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.merge("RGB", [Image.fromarray(channel) for channel in levels]).save(file, "JPEG", quality=quality)
    return np.ascontiguousarray(np.asarray(Image.open(file)).transpose(2, 0, 1))


def _column(values: Float64[np.ndarray, " batch"], images: Tensor) -> Float[Tensor, "batch 1 1 1"]:
    return torch.as_tensor(values, dtype=images.dtype, device=images.device)[:, None, None, None]


def _parameter(
    name: str, default: float, bounds: tuple[float, float], step: float, unit: str, description: str
) -> Parameter:
    low, high = bounds
    return Parameter(name=name, default=default, low=low, high=high, step=step, unit=unit, description=description)


DIGITAL: dict[str, Description] = {
    "brightness": Description(
        name="brightness",
        label="Brightness",
        summary="Adds to the value of HSV (ImageNet-C).",
        operator=brightness,
        parameters=(_parameter("amount", 0.3, (-1.0, 1.0), 0.01, "value of HSV, from 0 to 1", "What is added."),),
        severities=by_severity(amount=(0.1, 0.2, 0.3, 0.4, 0.5)),
        stochastic=False,
        strengths=(0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7),
    ),
    "contrast": Description(
        name="contrast",
        label="Contrast",
        summary="Moves every channel towards its mean (ImageNet-C).",
        operator=contrast,
        parameters=(_parameter("loss", 0.8, (0.0, 1.0), 0.01, "share of the contrast", "How much contrast is lost."),),
        severities=by_severity(loss=(0.6, 0.7, 0.8, 0.9, 0.95)),
        stochastic=False,
        strengths=(0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.97),
    ),
    "saturate": Description(
        name="saturate",
        label="Saturate",
        summary="Multiplies the saturation of HSV; severities 1 and 2 take colour away (ImageNet-C, extra).",
        operator=saturate,
        parameters=(
            _parameter("factor", 5.0, (0.0, 50.0), 0.1, "ratio", "Saturation is multiplied by it; 1 changes nothing."),
            _parameter("offset", 0.1, (-1.0, 1.0), 0.01, "saturation of HSV, from 0 to 1", "What is added afterwards."),
        ),
        # Between 2 and 3 a fraction passes the factor 1, the picture as it is: severity is no scale here.
        severities=by_severity(factor=(0.3, 0.1, 2.0, 5.0, 20.0), offset=(0.0, 0.0, 0.0, 0.1, 0.2)),
        stochastic=False,
        strengths=(1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0),
    ),
    "elastic_transform": Description(
        name="elastic_transform",
        label="Elastic transform",
        summary="Shifts each pixel by a smooth random field (ImageNet-C).",
        operator=elastic_transform,
        parameters=(
            _parameter("shift", 1.73, (0.0, 20.0), 0.05, "px", "Standard deviation of the shift along each axis."),
            _parameter("sigma", 2.24, (0.5, 30.0), 0.1, "px", "Over how far neighbouring pixels shift alike."),
        ),
        severities=by_severity(shift=(1.02, 1.32, 1.73, 2.04, 2.44), sigma=(2.24,) * 5),
        strengths=(0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0),
    ),
    "pixelate": Description(
        name="pixelate",
        label="Pixelate",
        summary="Replaces each cell of a grid by its mean (ImageNet-C).",
        operator=pixelate,
        parameters=(_parameter("cell", 2.5, (1.0, 64.0), 0.1, "px", "Side of a cell."),),
        # ImageNet-C shrinks to a share of 0.6, 0.5, 0.4, 0.3, 0.25.
        severities=by_severity(cell=tuple(1 / share for share in (0.6, 0.5, 0.4, 0.3, 0.25))),
        stochastic=False,
        strengths=(1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 14.0),
    ),
    "jpeg_compression": Description(
        name="jpeg_compression",
        label="JPEG compression",
        summary="Writes the picture as a JPEG and reads it again (ImageNet-C).",
        operator=jpeg_compression,
        parameters=(
            Parameter(
                name="compression",
                default=85,
                low=0,
                high=99,
                step=1,
                unit="100 minus the quality of JPEG",
                description="How much is thrown away.",
                integer=True,
            ),
        ),
        # ImageNet-C's qualities are 25, 18, 15, 10 and 7.
        severities=by_severity(compression=(75, 82, 85, 90, 93)),
        stochastic=False,
        strengths=(10, 30, 50, 70, 82, 90, 95),
    ),
}
