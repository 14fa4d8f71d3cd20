"""From a `Comparison` to what a browser needs to draw it: JSON with pictures and quantised arrays.

The views in `explorer.web` read it; they compute similarities and paint maps themselves, so that nothing is asked of a
server while the pointer moves. Sizes for ViT-S/14 at 224 px: attention of all layers and heads 148 kB for the four
views together (uint16), patch features 393 kB and attention among patches 262 kB for one layer.
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
from matplotlib import colormaps
from torch import Tensor

import explorer
from explorer.comparison import Comparison
from explorer.distortions import Distortion
from explorer.images import encode_image
from explorer.recovery import Moment, Recovery

COLORMAPS = ("viridis", "magma", "cividis", "inferno")
DIFFERENCE = "RdBu_r"
_TITLES = {
    "teacher_clean": "Teacher · clean",
    "teacher_distorted": "Teacher · distorted",
    "student_clean": "Student · clean",
    "student_distorted": "Student · distorted",
}
Payload = dict[str, Any]


def attention_scene(comparison: Comparison, link: dict[str, str] | None = None, message: str | None = None) -> Payload:
    """What the attention view shows: pictures, the picture's own attention row of every layer and head, numbers.

    Args:
        comparison: see `explorer.compare`.
        link: query parameters that reopen this view, or None where nothing can (an uploaded picture).
        message: a notice above the view.
    """
    trace = comparison.reference.trace
    scene = _common(comparison, link, message)
    for pane in scene["panes"]:
        view = comparison.views[pane["id"]]
        assert view.trace.attention is not None
        pane["attention"] = _quantised(view.trace.attention[0, :, :, 0, view.trace.prefix :], np.uint16)
        pane["rollout"] = None if view.rollout is None else _quantised(view.rollout.flatten(), np.uint16)
    scene["layers"] = list(trace.layers)
    scene["heads"] = scene["panes"][0]["attention"]["shape"][1]
    scene["query_kind"] = trace.query_kind
    scene["numbers"] = {name: agreement.as_json() for name, agreement in comparison.alignments.items()}
    return scene


def patch_scene(
    comparison: Comparison, layer: int = -1, link: dict[str, str] | None = None, message: str | None = None
) -> Payload:
    """What the patch view shows: patch features of one layer, what each patch attends to, joint PCA colours.

    Features are scaled to 127 patch by patch and rounded; cosines of them are within 0.01 of the exact ones.
    """
    trace = comparison.reference.trace
    position = trace.position(layer)
    colours = comparison.colours(layer)
    scene = _common(comparison, link, message)
    for pane in scene["panes"]:
        view = comparison.views[pane["id"]]
        pane["patches"] = _features(view.trace.patches[0, position])
        pane["rows"] = None if view.rows is None else _quantised(view.rows[position].float(), np.uint8)
        pane["pca"] = packed((colours[pane["id"]].flatten(0, 1) * 255).round().numpy().astype(np.uint8))
    scene["layer"] = trace.layers[position]
    scene["layers"] = list(trace.layers)
    return scene


def recovery_scene(recovery: Recovery) -> Payload:
    """What the recovery view shows that does not change while a student learns; see `moment_scene` for what does."""
    return {
        "version": 1,
        "grid": list(recovery.grid),
        "size": list(recovery.clean.shape[1:]),
        "colormaps": _colormaps(),
        "pictures": {"clean": _picture(recovery.clean), "distorted": _picture(recovery.distorted)},
        "about": about([recovery.weights], recovery.distortion, recovery.seed),
        "reference": moment_scene(recovery.reference),
    }


def moment_scene(moment: Moment) -> Payload:
    """What a student saw after one step: the picture's own attention row of each head, patch features, agreement."""
    return {
        "step": moment.step,
        "attention": _quantised(moment.attention, np.uint8),
        "patches": _features(moment.patches),
        "agreement": moment.agreement.as_json(),
    }


def about(weights: Sequence[str], distortion: Distortion | str, seed: int) -> list[list[str]]:
    """What a picture has to say when it stands alone, as [term, text]: the views show it where they leave the app.

    Args:
        weights: those of the teacher and of the student, a line each; one line where the student is still learning.
        distortion: what damaged the pictures.
        seed: of the distortion.
    """
    teacher, *students = weights
    told = [["Reference", "the teacher on the clean picture"], ["Teacher", teacher]]
    told += [["Student", "the untouched copy of the teacher" if one == teacher else one] for one in students]
    damage = distortion if isinstance(distortion, str) else distortion.spec
    return [*told, ["Distortion", f"{damage}, seed {seed}"], ["Made with", _versions()]]


@cache
def _versions() -> str:
    own = f"vit-explorer {explorer.__version__}"
    return f"{own}, PyTorch {version('torch')}, timm {version('timm')}, Python {platform.python_version()}"


def _common(comparison: Comparison, link: dict[str, str] | None, message: str | None) -> Payload:
    pictures = {"clean": _picture(comparison.clean), "distorted": _picture(comparison.distorted)}
    panes = []
    for name in comparison.views:
        who, view = name.split("_")
        panes.append(
            {
                "id": name,
                "who": who,
                "view": view,
                "title": _TITLES[name],
                "reference": name == "teacher_clean",
                "picture": pictures[view],
            }
        )
    return {
        "version": 1,
        "grid": list(comparison.reference.trace.grid),
        "size": list(comparison.clean.shape[1:]),
        "colormaps": _colormaps(),
        "panes": panes,
        "untouched_student": comparison.untouched,
        "about": about(comparison.weights, comparison.distortion, comparison.seed),
        "message": message,
        "link": link,
    }


def _features(patches: Float[Tensor, "patch dim"]) -> Payload:
    """Directions of patch features: each patch scaled to 127."""
    _check_finite(patches)
    largest = patches.float().abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
    return packed((patches.float() / largest * 127).round().numpy().astype(np.int8))


def _picture(image: Float[Tensor, "3 height width"]) -> str:
    return "data:image/webp;base64," + base64.b64encode(encode_image(image.clamp(0, 1), "webp", quality=90)).decode()


@cache
def _colormaps() -> dict[str, str]:
    """256 RGB bytes of each map; the difference map is the only one that diverges."""
    names = {**{name: name for name in COLORMAPS}, "difference": DIFFERENCE}
    steps = np.linspace(0, 1, 256)
    tables = {shown: (colormaps[name](steps)[:, :3] * 255).round().astype(np.uint8) for shown, name in names.items()}
    return {shown: base64.b64encode(table.tobytes()).decode() for shown, table in tables.items()}


def _quantised(values: Float[Tensor, "..."], dtype: type[np.unsignedinteger[Any]]) -> Payload:
    """Values from 0 up, as whole numbers times one scale."""
    _check_finite(values)
    levels = int(np.iinfo(dtype).max)
    scale = max(float(values.max()), 1e-12) / levels
    return {**packed((values / scale).round().clamp(0, levels).numpy().astype(dtype)), "scale": scale}


def _check_finite(values: Tensor) -> None:
    """Whole numbers know no NaN: it would become 0, and a map of nothing but NaN a flat one."""
    if not torch.isfinite(values).all():
        raise ValueError("NaN and infinite values cannot be drawn: look for what broke the model that they come from")


def packed(array: np.ndarray) -> Payload:
    """Little-endian bytes in base64."""
    data = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": base64.b64encode(data.tobytes()).decode()}
