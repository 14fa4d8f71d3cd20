"""The models that a page may ask for: backbones, and students that were put on them.

They are shared between visitors, and kept by what they are made of, never by who asks.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import explorer as ex
from explorer.baselines.restoration import RESTORED
from explorer.errors import InputError
from explorer.models.backbones import ImageSize
from explorer.models.pairs import read_card
from explorer_app.service import checkpoints, students
from explorer_app.service.cache import BoundedCache
from explorer_app.service.limits import LIMITS

SIZES = (224, 336, 448)
DEFAULT_BACKBONE, DEFAULT_STUDENT = "s14", "s14-noise"
UNTOUCHED = "untouched copy"
UNLEARNED = {UNTOUCHED: UNTOUCHED, RESTORED: f"{RESTORED}: the teacher, once the picture was restored"}
"""What stands in a student's place without having learned, for every backbone, and what lists call it."""
LONGEST_SPEC = 120  # letters, in a list of students
MODEL_CACHE_BYTES = 1536 << 20
_models: BoundedCache[ex.Backbone] = BoundedCache(
    MODEL_CACHE_BYTES, lambda model: sum(tensor.nbytes for tensor in model.module.parameters())
)


def load_backbone(name: str, size: ImageSize) -> ex.Backbone:
    """A backbone at any image size, from memory where it was used lately; a visitor's checkpoint by its secret name."""
    LIMITS.check_backbone(name)
    if checkpoints.is_own(name):
        return _models.get((name, size), lambda: checkpoints.load(name, size))
    return _models.get((name, size), lambda: ex.load_backbone(name, image_size=size))


def is_loaded(name: str, size: ImageSize) -> bool:
    """Whether a backbone need not be waited for."""
    return (name, size) in _models.kept


def backbones(own: Iterable[str] = ()) -> list[tuple[str, str]]:
    """The backbones that can be chosen, as (label, name): a visitor's own, the aliases, and timm's by their names."""
    mine = [(checkpoints.label_of(name), name) for name in own if checkpoints.is_own(name)]
    return [*mine, *aliases(), *((name, name) for name in architectures())]


def aliases() -> list[tuple[str, str]]:
    """Those of the backbones that need no model hub, as (label, name)."""
    return [(pinned.label, alias) for alias, pinned in ex.ALIASES.items()]


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
    pinned = ex.ALIASES.get(backbone)
    name, trained = (pinned.architecture, pinned.trained_size) if pinned else (backbone, _trained_size(backbone))
    patch = re.search(r"patch(\d+)", name)
    if trained is None or patch is None:
        return ""
    side = int(patch[1])
    unfit = [str(size) for size in SIZES if size % side]
    refused = f"; {' and '.join(unfit)} px do not fit" if unfit else ""
    return f"Patches of {side} px, trained at {trained} px{refused}."


def _trained_size(name: str) -> int | None:
    import timm  # late: a page that opens with an alias shall not wait for it

    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return None if config is None else int(config.input_size[1])


def offered_students(backbone: str, own: Iterable[str] = ()) -> list[tuple[str, str]]:
    """The students that can be chosen for a backbone, as (label, name); `UNLEARNED` are the last.

    Args:
        own: names of visitors' students; those that are gone, or have not learned anything yet, are left out.
    """
    offered = []
    for name in dict.fromkeys((*own, *ex.list_pairs())):
        try:
            card = card_of(name)
        except ValueError:
            continue
        label = students.label_of(name) if students.folder_of(name) else f"{name}: trained on {_learned(card)}"
        if card["backbone"] == backbone and card["step"] > 0:
            offered.append((label, name))
    return [*offered, *((label, name) for name, label in UNLEARNED.items())]


def _learned(card: dict[str, Any]) -> str:
    """What a student was trained on, in a line or two."""
    spec = str(card["distortion"])
    return spec if len(spec) <= LONGEST_SPEC else f"{len(ex.distortion(spec).branches)} kinds of damage"


def called(pair: str) -> str:
    """What a student is called where several are shown."""
    return f"yours {pair[4:8]}" if students.folder_of(pair) else pair


def version_of(pair: str) -> str | None:
    """What changes when the student of this name has learned more; None for the untouched copy, and what is unknown."""
    try:
        return str(card_of(pair)["student_sha256"])
    except ValueError:
        return None


def default_student(backbone: str) -> str:
    """The student that is shown of a backbone, unless somebody chooses."""
    names = [name for _, name in offered_students(backbone)]
    return DEFAULT_STUDENT if DEFAULT_STUDENT in names else names[0]


def card_of(pair: str) -> dict[str, Any]:
    """The card of a shipped student, or of a visitor's.

    Raises:
        ValueError: there is no such student, or it is damaged.
    """
    return read_card(_place(pair))


def load_student(pair: str, teacher: ex.Backbone) -> ex.Backbone | None:
    """A student, put on this teacher; None for the untouched copy.

    Args:
        pair: the name of a shipped pair or of a visitor's student (see `students`), or `RESTORED`.

    Raises:
        ValueError: there is no such pair, or it was trained from another teacher.
    """
    if pair == UNTOUCHED:
        return None
    if pair == RESTORED:
        return ex.restored_pair(teacher).student
    place = _place(pair)
    learned = read_card(place)["student_sha256"]  # which a run that is resumed changes
    key = (pair, learned, teacher.sha256, teacher.height_width)
    return _models.get(key, lambda: ex.load_pair(place, teacher=teacher).student)


def _place(pair: str) -> str | Path:
    """Names, and never folders: visitors may not point at files of the server."""
    own = students.folder_of(pair)
    if own is None and pair not in ex.list_pairs():
        raise InputError(f"unknown student '{pair}'; there are: {', '.join([*ex.list_pairs(), *UNLEARNED])}")
    return own or pair
