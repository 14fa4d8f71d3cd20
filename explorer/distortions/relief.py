"""Light on drops of water, for `spatter`: a layer of liquid becomes a relief that is bright on its lower right sides.

Follows ImageNet-C step by step (edges, distance to them, equalised, embossed, smoothed), with two deviations: Canny's
detector has one threshold, so that weak edges are not followed, and distances are exact where OpenCV's are not.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from explorer.distortions.fields import stencil

STEEP = 150  # of 255 levels, as Sobel's weights add them up
TURN = math.tan(math.pi / 8)  # up to this slope a direction counts as along an axis
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
FARTHEST = 20  # px: distances are cut there
EMBOSS = ((-2.0, -1.0, 0.0), (-1.0, 1.0, 1.0), (0.0, 1.0, 2.0))
MEAN = ((1 / 9,) * 3,) * 3


def relief(liquid: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch 1 height width"]:
    """From 0 to 1 within each picture.

    Args:
        liquid: how much liquid there is, 0 outside of the drops.
    """
    return torch.cat([_relief(one[None]) for one in liquid])  # one by one, which caches like


def _relief(liquid: Float[Tensor, "1 1 height width"]) -> Float[Tensor, "1 1 height width"]:
    distance = stencil(_distance(_edges(liquid)).to(liquid.dtype), MEAN)
    light = stencil(stencil(_equalised(distance), EMBOSS).clamp(0.0, 1.0), MEAN)
    bright = liquid * light
    return bright / bright.amax(dim=(2, 3), keepdim=True).clamp(min=torch.finfo(liquid.dtype).tiny)


def _edges(liquid: Float[Tensor, "batch 1 height width"]) -> Bool[Tensor, "batch 1 height width"]:
    """Where Sobel's gradient is steep and steepest along its own direction, of which there are four (Canny 1986)."""
    levels = (liquid * 255).floor()
    across, down = stencil(levels, SOBEL), stencil(levels, tuple(zip(*SOBEL, strict=True)))
    steep = across.abs() + down.abs()
    flat, upright = down.abs() < TURN * across.abs(), across.abs() < TURN * down.abs()
    falling = across * down >= 0
    wide = F.pad(steep, (1, 1, 1, 1))
    diagonal = torch.where(falling, _peak(steep, wide, 1, 1), _peak(steep, wide, 1, -1))
    thin = torch.where(flat, _peak(steep, wide, 0, 1), torch.where(upright, _peak(steep, wide, 1, 0), diagonal))
    return thin & (steep > STEEP)


def _peak(
    steep: Float[Tensor, "batch 1 height width"], wide: Float[Tensor, "batch 1 h w"], row: int, col: int
) -> Bool[Tensor, "batch 1 height width"]:
    """More than the neighbour before and no less than the one behind; on a diagonal more than both."""
    height, width = steep.shape[2:]
    before = wide[..., 1 - row : 1 - row + height, 1 - col : 1 - col + width]
    behind = wide[..., 1 + row : 1 + row + height, 1 + col : 1 + col + width]
    return (steep > before) & ((steep > behind) if row and col else (steep >= behind))


def _distance(edges: Bool[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch 1 height width"]:
    """Of each pixel to the nearest edge, in px, at most `FARTHEST`: along the rows first, then over the rows."""
    height, width = edges.shape[2:]
    place = torch.arange(width, device=edges.device, dtype=torch.float32)
    before = torch.where(edges, place, -torch.inf).cummax(dim=3).values
    after = torch.where(edges, -place, -torch.inf).flip(3).cummax(dim=3).values.flip(3)
    squares = torch.minimum(place - before, -after - place).clamp(max=FARTHEST) ** 2
    wide = F.pad(squares, (0, 0, FARTHEST, FARTHEST), value=FARTHEST**2)
    nearest = squares
    for row in range(-FARTHEST, FARTHEST + 1):
        nearest = torch.minimum(nearest, wide[..., FARTHEST + row : FARTHEST + row + height, :] + row**2)
    return nearest.sqrt()


def _equalised(distance: Float[Tensor, "1 1 height width"]) -> Float[Tensor, "1 1 height width"]:
    """Whole px of distance, mapped so that all levels from 0 to 1 are about equally frequent."""
    levels = distance.long().flatten()
    counts = levels.bincount(minlength=FARTHEST + 1)
    first = counts[counts > 0][0]
    table = ((counts.cumsum(0) - first) / (counts.sum() - first).clamp(min=1)).clamp(min=0.0)
    return table.to(distance.dtype)[levels].reshape(distance.shape)
