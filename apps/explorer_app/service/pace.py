"""How long something will take on this machine: measured, not guessed. No Gradio in here."""

import time
from typing import Any

import explorer as ex
from explorer_app.service.cores import CORES

_forward: dict[Any, float] = {}  # seconds for a picture, by backbone and size
_learned: dict[Any, float] = {}  # the same for a picture that is learned from, by what is trained, too
_TRIES = 2


def seconds_a_picture(backbone: ex.Backbone) -> float:
    """A forward pass of one picture, timed when it is first asked for."""
    key = (backbone.name, backbone.height_width)
    if key not in _forward:
        picture = ex.load_images("photos", size=backbone.image_size)[0][0][None]
        with CORES.share():
            _forward[key] = min(_timed(backbone, picture) for _ in range(_TRIES))
    return _forward[key]


def seconds_of_a_run(teacher: ex.Backbone, config: ex.DistillConfig, forwards: float | None) -> float | None:
    """How long a run will take: at the pace of the last one of its kind here; before there was one, by a timed forward
    pass; None where neither is known.

    Args:
        teacher: at any image size.
        forwards: how many forward passes a picture that is learned from costs.
    """
    known = _learned.get(_kind(teacher.name, config))
    if known is None and forwards is not None:
        height, width = teacher.height_width
        known = forwards * seconds_a_picture(teacher) * int(config.image_size) ** 2 / (height * width)  # type: ignore[arg-type]
    return None if known is None else known * config.steps * config.batch_size


def remember(backbone: str, config: ex.DistillConfig, images_per_second: float) -> None:
    """How fast a run is here."""
    if images_per_second > 0:
        _learned[_kind(backbone, config)] = 1 / images_per_second


def in_words(seconds: float) -> str:
    """A duration as people say it, such as "40 s" or "6 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _kind(backbone: str, config: ex.DistillConfig) -> Any:
    return backbone, config.image_size, config.trainable


def _timed(backbone: ex.Backbone, picture: Any) -> float:
    began = time.monotonic()
    backbone.trace(picture, layers=-1, attention=None)
    return time.monotonic() - began
