"""How an operator meets a batch: `per_image` one picture at a time, `per_group` pictures of equal parameters together.

Enters: an operator that takes plain numbers. Leaves: one that takes an array of each parameter, one value per image,
as the table of operators wants it. `per_group` is for work whose result for one image does not depend, not even in
its last bit, on how many images are in the batch (indexing, element by element); a convolution or a matrix product
may choose another algorithm for another batch, and so goes through `per_image`.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from explorer.distortions.randomness import Draw


def per_image(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operator on a batch, made of one on a batch of one whose parameters are plain numbers."""

    @functools.wraps(operator)
    def batched(images: Tensor, draw: Draw, **values: np.ndarray) -> Tensor:
        singles = [{name: array[i].item() for name, array in values.items()} for i in range(len(images))]
        return torch.cat([operator(images[i : i + 1], draw[i], **single) for i, single in enumerate(singles)])

    return batched


def per_group(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operator on a batch, made of one on a batch of any size whose parameters are plain numbers."""

    @functools.wraps(operator)
    def batched(images: Tensor, draw: Draw, **values: np.ndarray) -> Tensor:
        groups: dict[tuple[int | float, ...], list[int]] = {}
        for place, key in enumerate(zip(*(array.tolist() for array in values.values()), strict=True)):
            groups.setdefault(key, []).append(place)
        if len(groups) == 1:
            return operator(images, draw, **dict(zip(values, *groups, strict=True)))
        out = torch.empty_like(images)
        for key, members in groups.items():
            out[members] = operator(images[members], draw.of(members), **dict(zip(values, key, strict=True)))
        return out

    return batched
