"""What the left column asks, as one value: `Question`. Read once, where a page, a link or a program hands it over.

Views are kept by what was seen (the picture's pixels, the weights), never by who asks: nobody can get another visitor's
picture, and the same question is answered from memory.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from jaxtyping import Float
from torch import Tensor

import explorer as ex
from explorer.distortions import Given
from explorer.errors import InputError
from explorer.inspection.comparison import Comparison, View, assemble, look
from explorer.models.students import MOST_STUDENTS, STUDENT, TEACHER, Pairs
from explorer_app.service import models, pictures
from explorer_app.service.cache import BoundedCache
from explorer_app.service.cores import CORES

DEFAULT_PHOTO = "farm_animal/owl.webp"
DEFAULT_DISTORTION = ex.distortion("gaussian_noise").spec
SYNTHETIC, DAMAGED, PAIR = WAYS = ("synthetic", "damaged", "pair")
"""Where the damage comes from: it is done here, or it came with a photo, without or with its clean twin."""
SEEDS = 2**31
"""The page's seeds are below this."""
FORGOTTEN = "this page was left for so long that the server has forgotten it: reload it"
VIEW_CACHE_BYTES = 512 << 20  # the last pictures of ten visitors, seen four ways each
Picture: TypeAlias = Float[Tensor, "3 height width"]
_views: BoundedCache[View] = BoundedCache(VIEW_CACHE_BYTES, lambda view: view.bytes)


@dataclass(frozen=True)
class Question:
    """One picture, its damage, one pair of models.

    Attributes:
        picture: path of its file; None where there is none, or none is needed.
        photo: its name among the shipped photos; None for a visitor's own.
        damage: how pictures are distorted here.
        backbone, student: names, as `models` takes them.
        size: pixels a side, one of `models.SIZES`.
        seed: of the distortion.
        layer: that is looked at; None for the last.
        crop: where the square of a visitor's own picture lies along its longer side, from 0, the left or the top, to 1.
        way: one of `WAYS`; the picture is the clean one, but for "damaged".
        twin: path of its damaged twin, for "pair".
        align: whether the twin is moved onto it.
        beside: names of other students of the backbone, which `together` shows beside the student.
    """

    picture: str | None
    photo: str | None
    damage: ex.Distortion
    backbone: str
    student: str
    size: int
    seed: int
    layer: int | None
    crop: float = pictures.CENTRED
    way: str = SYNTHETIC
    twin: str | None = None
    align: bool = True
    beside: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        picture: str | None,
        photo: str | None,
        distortion: str | None,
        backbone: str,
        student: str | None,
        size: Any,
        seed: Any,
        layer: int | None = None,
        crop: Any = pictures.CENTRED,
        way: str = SYNTHETIC,
        twin: str | None = None,
        align: bool = True,
        beside: Iterable[str] | None = (),
    ) -> "Question":
        """From what a page or a program hands over, in this order.

        Raises:
            InputError: there is no such distortion, size, crop or way, the seed is no whole number from 0, there are
                too many students, or the server has forgotten the page.
        """
        if distortion is None:
            raise InputError(FORGOTTEN)
        damage, side = ex.distortion(distortion), whole("size", size)
        if side not in models.SIZES:
            raise InputError(f"size is one of {', '.join(map(str, models.SIZES))} px; got {side}")
        if way not in WAYS:
            raise InputError(f"the damage is one of {', '.join(WAYS)}; got '{way}'")
        place = pictures.CENTRED if photo else float(crop or 0)
        if not 0 <= place <= 1:
            raise InputError(f"crop is a number from 0 to 1; got {crop}")
        student = student or models.UNTOUCHED
        others = tuple(dict.fromkeys(name for name in beside or () if name != student))
        if len(others) >= MOST_STUDENTS:
            raise InputError(f"{MOST_STUDENTS} students are shown at once at most; got {1 + len(others)}")
        given = (way, twin if way == PAIR else None, align or way != PAIR, others)
        return cls(picture, photo, damage, backbone, student, side, whole("seed", seed), layer, place, *given)

    @classmethod
    def of_link(cls, query: Mapping[str, str]) -> "Question":
        """From the query of an address; what it does not name is as on a fresh page.

        Raises:
            InputError: as `read`, or there is no such photo, or the backbone has no such student.
        """
        photo, backbone = query.get("photo", DEFAULT_PHOTO), query.get("backbone", models.DEFAULT_BACKBONE)
        student = query["pair"] if "pair" in query else models.default_student(backbone)
        beside = [name for name in query.get("beside", "").split(",") if name]
        offered = [name for _, name in models.offered_students(backbone, [student, *beside])]
        if unknown := [name for name in (student, *beside) if name not in offered]:
            raise InputError(f"'{backbone}' has no student '{unknown[0]}'")
        return cls.read(
            pictures.photo_path(photo),
            photo,
            query.get("distortion", DEFAULT_DISTORTION),
            backbone,
            student,
            query.get("size", models.SIZES[0]),
            whole("seed", query.get("seed"), SEEDS),
            whole("layer", query["layer"]) if "layer" in query else None,
            beside=beside,
        )

    @property
    def students(self) -> tuple[str, ...]:
        """Names of the student and of the others of this backbone beside it."""
        return (self.student, *filter(self._has, self.beside))

    @property
    def words(self) -> str:
        """Damage and models in one line, without the picture."""
        seed = f", seed {self.seed}" if self.way == SYNTHETIC else ""
        return f"{self.damaged_by}{seed} · {self.backbone} at {self.size} px, {self.student}"

    @property
    def damaged_by(self) -> str:
        """What damages the picture, in words."""
        return {DAMAGED: "its own damage", PAIR: "the damage of its twin"}.get(self.way, self.damage.spec)

    def link(self) -> dict[str, str] | str:
        """The query that `of_link` reads; for an uploaded picture, which nobody else reaches, why there is none."""
        if self.photo is None or self.way != SYNTHETIC:
            return "No link leads to a picture of your own: it stays between you and this server."
        told = {"photo": self.photo, "distortion": self.damage.spec, "backbone": self.backbone, "pair": self.student}
        others = {"beside": ",".join(self.beside)} if self.beside else {}
        return {**told, **others, "size": str(self.size), "seed": str(self.seed)}

    def is_settled(self) -> bool:
        """Whether the student is the backbone's; between two events of a page it may still be the one of before."""
        return self._has(self.student)

    def is_ready(self) -> bool:
        """Whether the backbone need not be waited for."""
        return models.is_loaded(self.backbone, self.size)

    def teacher(self) -> ex.Backbone:
        """The backbone."""
        return models.load_backbone(self.backbone, self.size)

    def pair(self) -> ex.Pair:
        """Teacher and student; the untouched copy is the teacher itself.

        Raises:
            ValueError: there is no such student, or it was trained from another teacher.
        """
        teacher = self.teacher()
        if self.student == models.RESTORED:
            return ex.restored_pair(teacher)
        student = models.load_student(self.student, teacher)
        if student is None:
            return ex.Pair(teacher=teacher, student=teacher, distortion=ex.distortion("none"), card={})
        card = models.card_of(self.student)
        return ex.Pair(teacher=teacher, student=student, distortion=ex.distortion(card["distortion"]), card=card)

    def pairs(self) -> Pairs:
        """The pair; with other students beside it, all pairs by what their students are called.

        Raises:
            ValueError: as `pair`.
        """
        if len(self.students) == 1:
            return self.pair()
        return {models.called(name): replace(self, student=name).pair() for name in self.students}

    def version(self) -> str | None:
        """What changes when the student of this name has learned more; None for the untouched copy, and what is
        unknown.
        """
        return models.version_of(self.student)

    def versions(self) -> tuple[str | None, ...]:
        """The same, of all students that are shown at once."""
        return tuple(map(models.version_of, (self.student, *self.beside)))

    def done_here(self) -> ex.Distortion:
        """How pictures are distorted here.

        Raises:
            InputError: the left column looks at a photo that is damaged already.
        """
        if self.way != SYNTHETIC:
            raise InputError("this needs synthetic damage: choose it in the left column")
        return self.damage

    def seen(self) -> tuple[Picture | None, Picture, ex.Distortion]:
        """The square that is looked at: clean, where there is one, and damaged, and what damaged it.

        Raises:
            InputError: a picture is missing or cannot be read, or the two show other scenes or have other shapes.
        """
        if self.way == PAIR:
            return pictures.load_pair(self.picture, self.twin, self.size, self.crop, self.align)
        image = pictures.load_picture(self.picture, self.size, self.crop)
        if self.way == DAMAGED:
            return None, image, Given()
        return image, self.damage(image[None], seed=self.seed)[0], self.damage

    def comparison(self) -> Comparison:
        """Teacher and student on the picture; only views that were not seen lately cost a forward pass."""
        return self._seen_by(self.networks())

    def networks(self) -> dict[str, ex.Backbone]:
        """The teacher and the student; the teacher alone where the student is its untouched copy."""
        pair = self.pair()
        student = {} if pair.student is pair.teacher else {STUDENT: pair.student}
        return {TEACHER: pair.teacher, **student}

    def together(self) -> Comparison:
        """The same with all students at once, by their names, where there are others of this backbone beside it."""
        if len(self.students) == 1:
            return self.comparison()
        teacher = self.teacher()
        students = {models.called(name): models.load_student(name, teacher) for name in self.students}
        return self._seen_by({TEACHER: teacher, **{name: one or teacher for name, one in students.items()}})

    def _has(self, student: str) -> bool:
        """Whether it is a student of this backbone."""
        return student in models.UNLEARNED or models.card_of(student)["backbone"] == self.backbone

    def _seen_by(self, networks: dict[str, ex.Backbone]) -> Comparison:
        clean, distorted, damage = self.seen()
        seen = {"distorted": distorted} if clean is None else {"clean": clean, "distorted": distorted}
        looks = [(f"{who}_{kind}", network, image) for who, network in networks.items() for kind, image in seen.items()]
        views = {name: _look(network, image) for name, network, image in looks}
        return assemble(clean, distorted, views, damage, self.seed)


def whole(name: str, value: Any, end: int = 2**64) -> int:
    """A whole number from 0 that is smaller than `end`; 0 where a field was emptied.

    Raises:
        InputError: it is something else.
    """
    try:
        number = int(value or 0)
    except ValueError:
        raise InputError(f"{name} is a whole number; got '{value}'") from None
    if not 0 <= number < end:
        raise InputError(f"{name} is a whole number from 0 to {end - 1}; got {number}")
    return number


def _look(backbone: ex.Backbone, image: Picture) -> View:
    def now() -> View:
        with CORES.share():
            return look(backbone, image)

    picture = hashlib.sha256(image.contiguous().numpy()).hexdigest()  # type: ignore[arg-type]
    view = _views.get((backbone.sha256, backbone.height_width, picture), now)
    return replace(view, source=backbone.source)  # the same weights may come from the file of another visitor
