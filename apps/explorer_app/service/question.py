"""What the left column asks, as one value: `Question`. Read once, where a page, a link or a program hands it over.

Views are kept by what was seen (the picture's pixels, the weights), never by who asks: nobody can get another visitor's
picture, and the same question is answered from memory.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

import explorer as ex
from explorer.errors import InputError
from explorer.inspection.comparison import Comparison, View, assemble, look
from explorer_app.service import models, pictures
from explorer_app.service.cache import BoundedCache
from explorer_app.service.cores import CORES

DEFAULT_PHOTO = "farm_animal/owl.webp"
DEFAULT_DISTORTION = ex.distortion("gaussian_noise").spec
SEEDS = 2**31
"""The page's seeds are below this."""
FORGOTTEN = "this page was left for so long that the server has forgotten it: reload it"
VIEW_CACHE_BYTES = 512 << 20  # the last pictures of ten visitors, seen four ways each
_views: BoundedCache[View] = BoundedCache(VIEW_CACHE_BYTES, lambda view: view.bytes)


@dataclass(frozen=True)
class Question:
    """One picture, one distortion, one pair of models, one seed.

    Attributes:
        picture: path of its file; None where there is none, or none is needed.
        photo: its name among the shipped photos; None for a visitor's own.
        damage: how it is distorted.
        backbone, student: names, as `models` takes them.
        size: pixels a side, one of `models.SIZES`.
        seed: of the distortion.
        layer: that is looked at; None for the last.
        crop: where the square of a visitor's own picture lies along its longer side, from 0, the left or the top, to 1.
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
    ) -> "Question":
        """From what a page or a program hands over, in this order.

        Raises:
            InputError: there is no such distortion, size or crop, the seed is no whole number from 0, or the server
                has forgotten the page.
        """
        if distortion is None:
            raise InputError(FORGOTTEN)
        damage, side = ex.distortion(distortion), whole("size", size)
        if side not in models.SIZES:
            raise InputError(f"size is one of {', '.join(map(str, models.SIZES))} px; got {side}")
        place = pictures.CENTRED if photo else float(crop or 0)
        if not 0 <= place <= 1:
            raise InputError(f"crop is a number from 0 to 1; got {crop}")
        student = student or models.UNTOUCHED
        return cls(picture, photo, damage, backbone, student, side, whole("seed", seed), layer, place)

    @classmethod
    def of_link(cls, query: Mapping[str, str]) -> "Question":
        """From the query of an address; what it does not name is as on a fresh page.

        Raises:
            InputError: as `read`, or there is no such photo, or the backbone has no such student.
        """
        photo, backbone = query.get("photo", DEFAULT_PHOTO), query.get("backbone", models.DEFAULT_BACKBONE)
        student = query["pair"] if "pair" in query else models.default_student(backbone)
        if student not in (name for _, name in models.offered_students(backbone, [student])):
            raise InputError(f"'{backbone}' has no student '{student}'")
        return cls.read(
            pictures.photo_path(photo),
            photo,
            query.get("distortion", DEFAULT_DISTORTION),
            backbone,
            student,
            query.get("size", models.SIZES[0]),
            whole("seed", query.get("seed"), SEEDS),
            whole("layer", query["layer"]) if "layer" in query else None,
        )

    @property
    def words(self) -> str:
        """Damage and models in one line, without the picture."""
        return f"{self.damage.spec}, seed {self.seed} · {self.backbone} at {self.size} px, {self.student}"

    def link(self) -> dict[str, str] | str:
        """The query that `of_link` reads; for an uploaded picture, which nobody else reaches, why there is none."""
        if self.photo is None:
            return "No link leads to a picture of your own: it stays between you and this server."
        told = {"photo": self.photo, "distortion": self.damage.spec, "backbone": self.backbone, "pair": self.student}
        return {**told, "size": str(self.size), "seed": str(self.seed)}

    def is_settled(self) -> bool:
        """Whether the student is the backbone's; between two events of a page it may still be the one of before."""
        return self.student == models.UNTOUCHED or models.card_of(self.student)["backbone"] == self.backbone

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
        student = models.load_student(self.student, teacher)
        if student is None:
            return ex.Pair(teacher=teacher, student=teacher, distortion=ex.distortion("none"), card={})
        card = models.card_of(self.student)
        return ex.Pair(teacher=teacher, student=student, distortion=ex.distortion(card["distortion"]), card=card)

    def version(self) -> str | None:
        """What changes when the student of this name has learned more; None for the untouched copy, and what is
        unknown.
        """
        try:
            return str(models.card_of(self.student)["student_sha256"])
        except ValueError:
            return None

    def clean(self) -> Float[Tensor, "3 height width"]:
        """The square of the picture that is looked at."""
        return pictures.load_picture(self.picture, self.size, self.crop)

    def comparison(self) -> Comparison:
        """The four views of the picture; only those that were not seen lately cost a forward pass."""
        pair, clean = self.pair(), self.clean()
        distorted = self.damage(clean[None], seed=self.seed)[0]
        seen = {"clean": clean, "distorted": distorted}
        views = {f"teacher_{name}": _look(pair.teacher, image) for name, image in seen.items()}
        if pair.student is not pair.teacher:
            views |= {f"student_{name}": _look(pair.student, image) for name, image in seen.items()}
        return assemble(clean, distorted, views, self.damage, self.seed)


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


def _look(backbone: ex.Backbone, image: Float[Tensor, "3 height width"]) -> View:
    def now() -> View:
        with CORES.share():
            return look(backbone, image)

    picture = hashlib.sha256(image.contiguous().numpy()).hexdigest()  # type: ignore[arg-type]
    return _views.get((backbone.sha256, backbone.height_width, picture), now)
