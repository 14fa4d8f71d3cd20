"""What the app remembers: backbones, and views of pictures, both shared between visitors and bounded.

Keys are made of content (the picture's bytes, the distortion, the seed, the weights), never of who asks: nobody can get
another visitor's picture, and the same question is answered from memory. No Gradio in here.
"""

import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import timm
from jaxtyping import Float
from torch import Tensor

import explorer as ex
from explorer.data.image import to_uint8
from explorer.errors import InputError
from explorer.evaluation.embedding import PairEmbedding
from explorer.evaluation.projection import METHODS, Projection
from explorer.inspection.comparison import Comparison, View, assemble, look
from explorer.models.backbones import ImageSize
from explorer.models.pairs import read_card
from explorer.scenes.evaluation import MOST_THUMBNAILS, sprite
from explorer_app.service import checkpoints, students
from explorer_app.service.cores import CORES
from explorer_app.service.limits import LIMITS
from explorer_app.service.pictures import picture_set

SIZES = (224, 336, 448)
UNTOUCHED = "untouched copy"
VIEW_CACHE_BYTES = 512 << 20  # the last pictures of ten visitors, seen four ways each
MODEL_CACHE_BYTES = 1536 << 20
PICTURE_BYTES = 50 << 20
FORGOTTEN = "this page was left for so long that the server has forgotten it: reload it"

Value = TypeVar("Value")


class BoundedCache(Generic[Value]):
    """The most recently used values whose sizes together stay below a limit. Each is made once, whoever asks."""

    def __init__(self, limit: float, size: Callable[[Value], float]) -> None:
        self.limit, self.size = limit, size
        self.kept: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made now if it is not kept; other keys are not waited for."""
        with self._lock:
            turn = self._making.setdefault(key, threading.Lock())
        with turn:
            try:
                with self._lock:
                    found = [self.kept[key]] if key in self.kept else []
                value = found[0] if found else make()
                with self._lock:
                    self._keep(key, value)
            finally:
                self._making.pop(key, None)
        return value

    def _keep(self, key: Hashable, value: Value) -> None:
        self.kept[key] = value
        self.kept.move_to_end(key)
        while len(self.kept) > 1 and sum(map(self.size, self.kept.values())) > self.limit:
            self.kept.popitem(last=False)


_models: BoundedCache[ex.Backbone] = BoundedCache(MODEL_CACHE_BYTES, lambda model: _bytes(model))
_projections: dict[str, BoundedCache[Projection]] = {method: BoundedCache(16, lambda _: 1) for method in METHODS}
_views: BoundedCache[View] = BoundedCache(VIEW_CACHE_BYTES, lambda view: view.bytes)


def load_backbone(name: str, size: int) -> ex.Backbone:
    """A backbone at an image size, from memory where it was used lately."""
    if size not in SIZES:
        raise InputError(f"size must be one of {', '.join(map(str, SIZES))} px; got {size}")
    return backbone_at(name, size)


def backbone_at(name: str, size: ImageSize) -> ex.Backbone:
    """A backbone at any image size, from memory where it was used lately; a visitor's checkpoint by its secret name."""
    LIMITS.check_backbone(name)
    if checkpoints.is_own(name):
        return _models.get((name, size), lambda: checkpoints.load(name, size))
    return _models.get((name, size), lambda: ex.load_backbone(name, image_size=size))


def backbones(own: Iterable[str] = ()) -> list[tuple[str, str]]:
    """The backbones that can be chosen, as (label, name): a visitor's own, the aliases, and timm's by their names."""
    mine = [(checkpoints.label_of(name), name) for name in own if checkpoints.is_own(name)]
    aliases = [(pinned.label, alias) for alias, pinned in ex.ALIASES.items()]
    return [*mine, *aliases, *((name, name) for name in architectures())]


@lru_cache(maxsize=1)
def architectures() -> tuple[str, ...]:
    """timm's names that are supported; none on a public page."""
    if LIMITS.public:
        return ()
    return tuple(name for name in ex.list_backbones() if name not in ex.ALIASES)


def about_size(backbone: str) -> str:
    """The sizes that a backbone was made for, in words; empty where its name does not tell."""
    if checkpoints.is_own(backbone):
        return ""
    name = ex.ALIASES[backbone].architecture if backbone in ex.ALIASES else backbone
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    patch = re.search(r"patch(\d+)", name)
    if config is None or patch is None:
        return ""
    side = int(patch[1])
    unfit = [str(size) for size in SIZES if size % side]
    refused = f"; {' and '.join(unfit)} px do not fit" if unfit else ""
    return f"Patches of {side} px, trained at {config.input_size[1]} px{refused}."


def offered_students(backbone: str, own: Iterable[str] = ()) -> list[tuple[str, str]]:
    """The students that can be chosen for a backbone, as (label, name); the untouched copy is the last.

    Args:
        own: names of visitors' students; those that are gone, or have not learned anything yet, are left out.
    """
    offered = []
    for name in dict.fromkeys((*own, *ex.list_pairs())):
        try:
            card = card_of(name)
        except ValueError:
            continue
        label = students.label_of(name) if students.folder_of(name) else f"{name}: trained on {card['distortion']}"
        if card["backbone"] == backbone and card["step"] > 0:
            offered.append((label, name))
    return [*offered, (UNTOUCHED, UNTOUCHED)]


def card_of(pair: str) -> dict[str, Any]:
    """The card of a shipped student, or of a visitor's.

    Raises:
        ValueError: there is no such student, or it is damaged.
    """
    return read_card(_place(pair))


def version_of(pair: str) -> str | None:
    """What changes when a student of this name has learned more; None for the untouched copy, and what is unknown."""
    try:
        return str(card_of(pair)["student_sha256"])
    except ValueError:
        return None


def load_student(pair: str | None, teacher: ex.Backbone) -> ex.Backbone | None:
    """A student, put on this teacher; None for the untouched copy.

    Args:
        pair: the name of a shipped pair or of a visitor's student (see `trained`).

    Raises:
        ValueError: there is no such pair, or it was trained from another teacher.
    """
    if pair in (UNTOUCHED, "", None):
        return None
    place = _place(pair)
    key = (pair, read_card(place)["student_sha256"], teacher.height_width)  # a run that is resumed changes its student
    return _models.get(key, lambda: ex.load_pair(place, teacher=teacher).student)


def _place(pair: str) -> str | Path:
    """Names, and never folders: visitors may not point at files of the server."""
    own = students.folder_of(pair)
    if own is None and pair not in ex.list_pairs():
        raise InputError(f"unknown student '{pair}'; there are: {', '.join([*ex.list_pairs(), UNTOUCHED])}")
    return own or pair


def load_picture(path: str | None, size: int) -> Float[Tensor, "3 height width"]:
    """The centre square of a picture file."""
    if path and not os.path.isfile(path):
        raise InputError("this picture is not kept any more: choose it, or upload it, again")
    if path and os.path.getsize(path) > PICTURE_BYTES:
        raise InputError(f"this picture's file has more than {PICTURE_BYTES >> 20} MiB: save it smaller")
    if not path:
        raise InputError("there is no picture: choose a sample, upload one, paste one or take one with the camera")
    try:
        return ex.load_image(path, size=size)
    except ValueError as error:  # where uploads are kept is nobody's business
        raise InputError(str(error).replace(f"{Path(path).parent}{os.sep}", "")) from error


def compare(path: str | None, distortion: str | None, backbone: str, pair: str, size: int, seed: int) -> Comparison:
    """The four views of a picture; only those that were not seen lately cost a forward pass."""
    damage = ex.distortion(remembered(distortion))
    teacher = load_backbone(backbone, size)
    student = load_student(pair, teacher)
    clean = load_picture(path, size)
    distorted = damage(clean[None], seed=seed)[0]
    views = {"teacher_clean": _look(teacher, clean), "teacher_distorted": _look(teacher, distorted)}
    if student is not None:
        views |= {"student_clean": _look(student, clean), "student_distorted": _look(student, distorted)}
    return assemble(clean, distorted, views, damage, seed)


def remembered(spec: str | None) -> str:
    """The distortion of a page, as the server remembers it.

    Raises:
        ValueError: it was left for so long that it was forgotten; see `housekeeping`.
    """
    if spec is None:
        raise InputError(FORGOTTEN)
    return spec


def _bytes(model: ex.Backbone) -> int:
    return sum(tensor.nbytes for tensor in model.module.parameters())


def _look(backbone: ex.Backbone, image: Float[Tensor, "3 height width"]) -> View:
    picture = hashlib.sha256(image.contiguous().numpy()).hexdigest()  # type: ignore[arg-type]
    return _views.get((backbone.sha256, backbone.height_width, picture), lambda: _look_now(backbone, image))


def _look_now(backbone: ex.Backbone, image: Float[Tensor, "3 height width"]) -> View:
    with CORES.share():
        return look(backbone, image)


def pair_of(name: str, backbone: str, size: int) -> ex.Pair:
    """Teacher and student; the untouched copy is the teacher itself."""
    teacher = load_backbone(backbone, size)
    student = load_student(name, teacher)
    if student is None:
        return ex.Pair(teacher=teacher, student=teacher, distortion=ex.distortion("none"), card={})
    card = card_of(name)
    return ex.Pair(teacher=teacher, student=student, distortion=ex.distortion(card["distortion"]), card=card)


@lru_cache(maxsize=4)
def _sprite(source: str, _digest: str) -> dict[str, Any] | None:
    return sprite(picture_set(source, 64))


def thumbnails(source: str, images: ex.ImageSet) -> dict[str, Any] | None:
    """Thumbnails of all pictures; see `explorer.scenes.evaluation.sprite`."""
    return _sprite(source, images.digest) if len(images) <= MOST_THUMBNAILS else None


def project(embedding: PairEmbedding, method: str, components: int, seed: int) -> Projection:
    """A projection, from memory where it was made lately."""
    digest = hashlib.sha256(b"".join(values.tobytes() for values in embedding.features.values())).hexdigest()
    key = (digest, components, seed)
    if method not in _projections:
        raise InputError(f"the map is made by one of {', '.join(_projections)}; got '{method}'")
    return _projections[method].get(key, lambda: embedding.project(method, components, seed))  # type: ignore[arg-type]


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
        raise InputError(f"there is no embedded photo '{name}'")
    return str(photos().path(photos().names.index(name)))


def thumbnail(name: str) -> "object":
    """A small square of an embedded photo, for the gallery."""
    return to_uint8(ex.load_image(Path(photo_path(name)), size=112))
