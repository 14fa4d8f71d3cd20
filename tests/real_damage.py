"""Damage as cameras and files do it, written down apart from the library's own distortions."""

import io

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from explorer import load_image
from explorer.data.image import to_pil


def dim(picture: Tensor) -> Tensor:
    """A short exposure: few photons a pixel in linear light (Poisson), read noise, brightened again."""
    generator = torch.Generator().manual_seed(0)
    photons = torch.poisson(8 * picture**2.2, generator=generator)
    read = photons + torch.randn(picture.shape, generator=generator)
    return (read / 8).clamp(0, 1) ** (1 / 2.2)


def small(picture: Tensor) -> Tensor:
    """A thumbnail, an eighth of the size, and as large again."""
    image = to_pil(picture)
    thumbnail = image.resize((image.width // 8, image.height // 8), Image.Resampling.BOX)
    return load_image(thumbnail.resize(image.size, Image.Resampling.BICUBIC))


def jpeg(picture: Tensor) -> Tensor:
    file = io.BytesIO()
    to_pil(picture).save(file, "JPEG", quality=8)
    return load_image(file.getvalue())


def motion(picture: Tensor) -> Tensor:
    """The camera pans by 15 px while the shutter is open."""
    wide = F.pad(picture, (7, 7, 0, 0), mode="replicate")
    return torch.stack([wide[:, :, step : step + picture.shape[2]] for step in range(15)]).mean(dim=0)


DAMAGES = {"dim": dim, "small": small, "jpeg": jpeg, "motion": motion}


def cut(picture: Tensor, size: int, down: int = 0, right: int = 0) -> Tensor:
    """The central square, of a camera that points further down and to the right."""
    top, left = (picture.shape[1] - size) // 2 + down, (picture.shape[2] - size) // 2 + right
    return picture[:, top : top + size, left : left + size]
