"""What the Lab tab answers: a part of teacher and student replaced while they look at the damaged picture. No Gradio in
here."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from torch import Tensor

import explorer as ex
from explorer.analysis.norms import norm_outliers
from explorer.errors import InputError
from explorer.evaluation.features import Told
from explorer.inspection.intervening import By, Kind, kinds_of
from explorer.models.students import TEACHER
from explorer.scenes.common import Payload
from explorer.scenes.laboratory import lab_scene
from explorer_app.service.cache import BoundedCache
from explorer_app.service.cores import CORES
from explorer_app.service.pictures import PHOTOS, load_picture, photo_path, photos, picture_set
from explorer_app.service.question import Question, whole

KINDS: dict[Kind, str] = {
    "head": "a head",
    "attention": "a block's attention",
    "mlp": "a block's perceptron",
    "class token": "the class token",
    "registers": "the registers",
    "patches": "patches",
}
WAYS = {
    "clean": ("what it is in the clean picture", "as in the clean view"),
    "zero": ("zero", "set to zero"),
    "noise": ("noise of the same moments", "turned into noise"),
    "mean": ("its mean over 8 photos", "as over 8 photos in the mean"),
    "photo": ("what it is in another photo", "as in another photo"),
}
"""Name -> what a list calls it, and how it is told of a part."""
RULES = {"picked": "the ones that I pick", "attended": "the most attended", "outliers": "those of outlying norm"}
MEAN_PHOTOS = 8
NEEDS_CLEAN = (
    "The lab takes parts from what a network sees in the clean picture, and there is none of a photo that is damaged "
    "already: choose synthetic damage, or a pair, in the left column."
)
_answers: BoundedCache[Payload] = BoundedCache(16, lambda _: 1)
_shares: BoundedCache[dict[str, ex.ActivationPatching]] = BoundedCache(32, lambda _: 1)


@dataclass(frozen=True)
class Asked:
    """What is replaced, and by what.

    Attributes:
        kind, layer, head: of `explorer.Part`; the layer and the head are the nearest that the backbone has.
        by: one of `WAYS`.
        rule, count: how patches are chosen: one of `RULES`, and how many, of the most attended.
        picked: patches as (row, col); those outside of the grid are left out.
    """

    kind: Kind = "attention"
    layer: int = 8
    head: int = 0
    by: str = "clean"
    rule: str = "attended"
    count: int = 16
    picked: tuple[tuple[int, int], ...] = ()

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Asked":
        """From what a view sends; what it does not say is as at first.

        Raises:
            InputError: there is no such kind, way or rule, or a number is none.
        """
        asked = {**vars(cls()), **given}
        words: dict[str, Any] = {}
        for name, choices in (("kind", get_args(Kind)), ("by", tuple(WAYS)), ("rule", tuple(RULES))):
            if asked[name] not in choices:
                raise InputError(f"{name} is one of {', '.join(choices)}; got {asked[name]!r}")
            words[name] = asked[name]
        words |= {name: whole(name, asked[name]) for name in ("layer", "head", "count")}
        if not all(isinstance(place, list | tuple) and len(place) == 2 for place in asked["picked"]):
            raise InputError(f"picked is a list of patches as (row, col); got {asked['picked']!r:.80}")
        picked = tuple((whole("row", row), whole("col", col)) for row, col in asked["picked"])
        return cls(**words, picked=picked)

    def within(self, backbone: ex.Backbone) -> "Asked":
        """The same, as far as this backbone has it."""
        kinds = [kind for kind, _ in offered_kinds(backbone)]
        rows, cols = backbone.grid
        return replace(
            self,
            kind=self.kind if self.kind in kinds else kinds[0],
            layer=min(self.layer, backbone.depth - 1),
            head=min(self.head, backbone.heads - 1),
            count=max(1, min(self.count, backbone.grid.patches)),
            picked=tuple((row, col) for row, col in self.picked if row < rows and col < cols),
        )


def offered_kinds(backbone: ex.Backbone) -> list[tuple[Kind, str]]:
    """The kinds of parts that a backbone has, and what they are called."""
    return [(kind, KINDS[kind]) for kind in kinds_of(backbone)]


def answer(question: Question, asked: Asked) -> Payload:
    """The view's payload; what was asked lately is not computed again.

    Raises:
        InputError: there is no clean picture, or what `Question.seen` says.
    """
    known = _key(question)
    sought = _shares.kept.get(known)
    return _answers.get((known, asked, sought is not None), lambda: _answer(question, asked, sought))


def shares(question: Question, progress: Told) -> dict[str, ex.ActivationPatching]:
    """What each part brings back, for teacher and student; `answer` has it from then on."""
    return _shares.get(_key(question), lambda: _sought(question, progress))


def _key(question: Question) -> Any:
    return replace(question, layer=None, beside=()), question.version()


def _seen(question: Question) -> tuple[Tensor, Tensor]:
    clean, distorted, _ = question.seen()
    if clean is None:
        raise InputError(NEEDS_CLEAN)
    return clean, distorted


def _sought(question: Question, progress: Told) -> dict[str, ex.ActivationPatching]:
    clean, distorted = _seen(question)
    networks, found = question.networks(), {}
    for place, (who, backbone) in enumerate(networks.items()):

        def told(done: int, parts: int, before: int = place) -> None:
            progress(before * parts + done, len(networks) * parts)

        found[who] = ex.activation_patching(backbone, clean, distorted, told)
    return found


def _answer(question: Question, asked: Asked, sought: dict[str, ex.ActivationPatching] | None) -> Payload:
    clean, distorted = _seen(question)
    networks, comparison = question.networks(), question.comparison()
    teacher = networks[TEACHER]
    asked = asked.within(teacher)
    places = _patches(comparison, asked) if asked.kind == "patches" else ()
    words, changed = "", {}
    by, pictures = _by(question, asked, clean)
    for who, backbone in networks.items():
        with CORES.share():
            if asked.kind == "patches" and not places:
                changed[who] = comparison.views[f"{who}_distorted"].trace
                continue
            head = asked.head if asked.kind == "head" else None
            part = ex.Part(asked.kind, asked.layer, head, tuple(places))
            with ex.intervene(backbone, part, by, pictures, seed=question.seed):
                changed[who] = backbone.trace(distorted[None]).to("cpu")
            words = f"{part} {WAYS[asked.by][1]}"
    return lab_scene(
        comparison,
        changed,
        asked=vars(asked),
        told=words,
        offered={
            "kind": offered_kinds(teacher),
            "by": [(name, text) for name, (text, _) in WAYS.items()],
            "rule": list(RULES.items()),
        },
        patches=places,
        shares=sought,
        link=question.link(),
    )


def _patches(comparison: ex.Comparison, asked: Asked) -> tuple[tuple[int, int], ...]:
    """Of both networks the same, as the teacher sees them in the damaged picture."""
    trace = comparison.views["teacher_distorted"].trace
    if asked.rule == "picked":
        return asked.picked
    if asked.rule == "attended":
        return ex.most_attended(trace, asked.count, asked.layer)
    outliers = norm_outliers(trace, comparison.reference.trace).outliers[0, asked.layer]
    return tuple((row, col) for row, col in outliers.nonzero().tolist())


def _by(question: Question, asked: Asked, clean: Tensor) -> tuple[By, Tensor | None]:
    """As `explorer.intervene` takes it."""
    if asked.by == "clean":
        return "pictures", clean[None]
    if asked.by == "mean":
        return "mean", picture_set(PHOTOS, question.size, MEAN_PHOTOS)[0].stack()
    if asked.by == "photo":
        names = photos().names
        other = (names.index(question.photo) + 1) % len(names) if question.photo in names else 0
        return "pictures", load_picture(photo_path(names[other]), question.size)[None]
    return ("zero" if asked.by == "zero" else "noise"), None
