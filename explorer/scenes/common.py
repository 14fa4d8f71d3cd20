"""What all scenes are made of: pictures, features and maps as bytes in base64, colour tables, words about a view.

Enters: tensors and arrays. Leaves: parts of payloads (JSON) for the views of `explorer.web`.
"""

import base64
import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from explorer.analysis.measures import Measure
from explorer.data.image import encode_image
from explorer.distortions import Distortion
from explorer.errors import InputError
from explorer.version import __version__

COLORMAPS = ("viridis", "magma", "cividis", "inferno")
DIFFERENCE = "RdBu_r"
Payload = dict[str, Any]
Link = dict[str, str] | str | None
"""Query parameters that reopen a view, or why none can, in words."""


def about(
    weights: Sequence[str],
    distortion: Distortion | str,
    seed: int,
    clean: bool = True,
    called: str = "teacher",
    names: Sequence[str] = (),
) -> list[list[str]]:
    """What a picture has to say when it stands alone, as [term, text]: the views show it where they leave the app.

    Args:
        weights: those of the teacher and of the student, a line each; one line where the student is still learning.
        distortion: what damaged the pictures.
        seed: of the distortion.
        clean: whether there is a clean picture, and so a reference.
        called: what the teacher is called.
        names: of several students; none for a single one.
    """
    teacher, *students = weights
    reference = f"the {called} on the clean picture" if clean else "none: nothing is measured against a truth"
    told = [["Reference", reference], [called.capitalize(), teacher]]
    terms = [f"Student {name}" for name in names] or ["Student"] * len(students)
    sources = ["the untouched copy of the teacher" if one == teacher else one for one in students]
    told += [list(each) for each in zip(terms, sources, strict=True)]
    damage = f"{distortion}, seed {seed}" if isinstance(distortion, str) else distortion.told(seed)
    return [*told, ["Distortion", damage], ["Made with", _versions()]]


@cache
def _versions() -> str:
    own = f"vit-explorer {__version__}"
    return f"{own}, PyTorch {version('torch')}, timm {version('timm')}, Python {platform.python_version()}"


def measure_of(measure: Measure) -> Payload:
    """How a view tells a measure."""
    return {"id": measure.name, "title": measure.label, "better": measure.better, "help": measure.help}


def features_of(patches: Float[Tensor, "patch dim"]) -> Payload:
    """Directions of patch features: each patch scaled to 127."""
    _check_finite(patches)
    largest = patches.float().abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
    return packed((patches.float() / largest * 127).round().numpy().astype(np.int8))


def picture_of(image: Float[Tensor, "3 height width"]) -> str:
    return "data:image/webp;base64," + base64.b64encode(encode_image(image.clamp(0, 1), "webp", quality=90)).decode()


@cache
def colormap_tables() -> dict[str, str]:
    """256 RGB bytes of each map; "difference" is the only one that diverges."""
    from matplotlib import colormaps  # late: a shipped scene has its tables

    names = {**{name: name for name in COLORMAPS}, "difference": DIFFERENCE}
    steps = np.linspace(0, 1, 256)
    tables = {shown: (colormaps[name](steps)[:, :3] * 255).round().astype(np.uint8) for shown, name in names.items()}
    return {shown: base64.b64encode(table.tobytes()).decode() for shown, table in tables.items()}


def floats(values: Float[Tensor, "..."]) -> Payload:
    """Values as they are, in single precision."""
    _check_finite(values)
    return packed(values.float().cpu().numpy())


def quantised(values: Float[Tensor, "..."], dtype: type[np.unsignedinteger[Any]]) -> Payload:
    """Values from 0 up, as whole numbers times one scale."""
    _check_finite(values)
    levels = int(np.iinfo(dtype).max)
    scale = max(float(values.max()), 1e-12) / levels
    return {**packed((values / scale).round().clamp(0, levels).numpy().astype(dtype)), "scale": scale}


def _check_finite(values: Tensor) -> None:
    """Whole numbers know no NaN: it would become 0, and a map of nothing but NaN a flat one."""
    if not torch.isfinite(values).all():
        raise InputError("NaN and infinite values cannot be drawn: look for what broke the model that they come from")


def packed(array: np.ndarray) -> Payload:
    """Little-endian bytes in base64."""
    data = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": base64.b64encode(data.tobytes()).decode()}
