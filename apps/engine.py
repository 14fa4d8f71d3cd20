"""What the app remembers: backbones, and views of pictures, both shared between visitors and bounded.

Keys are made of content (the picture's bytes, the distortion, the seed, the weights), never of who asks: nobody can get
another visitor's picture, and the same question is answered from memory. No Gradio in here.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

import explorer as ex
from explorer.comparison import Comparison, View, assemble, look
from explorer.images import to_uint8
from explorer.pairs import read_card

SIZES = (224, 336, 448)
UNTOUCHED = "untouched copy"
VIEW_CACHE_BYTES = 400 * 1024**2
BACKBONES_KEPT = 3

Value = TypeVar("Value")


class BoundedCache(Generic[Value]):
    """The most recently used values whose sizes together stay below a limit. One thread makes a value at a time."""

    def __init__(self, limit: float, size: Callable[[Value], float]) -> None:
        self.limit, self.size = limit, size
        self.kept: OrderedDict[Hashable, Value] = OrderedDict()
        self.lock = threading.RLock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made now if it is not kept."""
        with self.lock:
            if key not in self.kept:
                self.kept[key] = make()
            self.kept.move_to_end(key)
            while len(self.kept) > 1 and sum(map(self.size, self.kept.values())) > self.limit:
                self.kept.popitem(last=False)
            return self.kept[key]


_backbones: BoundedCache[ex.Backbone] = BoundedCache(BACKBONES_KEPT, lambda _: 1)
_students: BoundedCache[ex.Backbone] = BoundedCache(BACKBONES_KEPT, lambda _: 1)
_views: BoundedCache[View] = BoundedCache(VIEW_CACHE_BYTES, lambda view: view.bytes)


def load_backbone(name: str, size: int) -> ex.Backbone:
    """A backbone at an image size, from memory where it was used lately."""
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(map(str, SIZES))} px; got {size}")
    return _backbones.get((name, size), lambda: ex.load_backbone(name, image_size=size))


def students(backbone: str) -> list[tuple[str, str]]:
    """The students that can be chosen for a backbone, as (label, name); the untouched copy is the last."""
    cards = {name: read_card(name) for name in ex.list_pairs()}
    fitting = [
        (f"{name}: trained on {card['distortion']}", name)
        for name, card in cards.items()
        if card["backbone"] == backbone
    ]
    return [*fitting, (UNTOUCHED, UNTOUCHED)]


def load_student(pair: str | None, teacher: ex.Backbone) -> ex.Backbone | None:
    """A shipped pair's student, put on this teacher; None for the untouched copy.

    Raises:
        ValueError: there is no such pair, or it was trained from another teacher.
    """
    if pair in (UNTOUCHED, "", None):
        return None
    if pair not in ex.list_pairs():  # a name, and never a folder: visitors may not point at files of the server
        raise ValueError(f"unknown student '{pair}'; there are: {', '.join([*ex.list_pairs(), UNTOUCHED])}")
    return _students.get((pair, teacher.height_width), lambda: ex.load_pair(pair, teacher=teacher).student)


def load_picture(path: str | None, size: int) -> Float[Tensor, "3 height width"]:
    """The centre square of a picture file."""
    if not path:
        raise ValueError("there is no picture: choose a sample, upload one, paste one or take one with the camera")
    try:
        return ex.load_image(path, size=size)
    except ValueError as error:  # where uploads are kept is nobody's business
        raise ValueError(str(error).replace(f"{Path(path).parent}{os.sep}", "")) from error


def compare(path: str | None, distortion: str, backbone: str, pair: str, size: int, seed: int) -> Comparison:
    """The four views of a picture; only those that were not seen lately cost a forward pass."""
    damage = ex.distortion(distortion)
    teacher = load_backbone(backbone, size)
    student = load_student(pair, teacher)
    clean = load_picture(path, size)
    distorted = damage(clean[None], seed=seed)[0]
    views = {"teacher_clean": _look(teacher, clean), "teacher_distorted": _look(teacher, distorted)}
    if student is not None:
        views |= {"student_clean": _look(student, clean), "student_distorted": _look(student, distorted)}
    return assemble(clean, distorted, views, damage, seed)


def _look(backbone: ex.Backbone, image: Float[Tensor, "3 height width"]) -> View:
    picture = hashlib.sha256(image.contiguous().numpy()).hexdigest()  # type: ignore[arg-type]
    return _views.get((backbone.sha256, backbone.height_width, picture), lambda: look(backbone, image))


@lru_cache(maxsize=1)
def photos() -> ex.ImageSet:
    """The photos that come with the project."""
    return ex.load_images("photos", size=224)


def photo_path(name: str) -> str:
    """Path of an embedded photo.

    Raises:
        ValueError: there is no photo of that name.
    """
    if name not in photos().names:
        raise ValueError(f"there is no embedded photo '{name}'")
    return str(photos().path(photos().names.index(name)))


def thumbnail(name: str) -> "object":
    """A small square of an embedded photo, for the gallery."""
    return to_uint8(ex.load_image(Path(photo_path(name)), size=112))
