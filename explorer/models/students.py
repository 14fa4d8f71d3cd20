"""Several students of one teacher: the names that they and their views have, and the pairs that they come in.

Enters: one student, or up to four under names of somebody's own. Leaves: the same by name, checked; a single one is
called "student". Deliberately ignored: what is made of them.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

from explorer.errors import InputError
from explorer.models.backbones import Backbone
from explorer.models.pairs import Pair
from explorer.models.weights import state_digest

TEACHER, STUDENT = "teacher", "student"
"""What the teacher is called, and a student without a name of its own."""
MOST_STUDENTS = 4
KINDS = ("clean", "distorted")
Pairs: TypeAlias = Pair | Mapping[str, Pair]
"""A teacher and its student, or a teacher with several students by name."""


def named_pairs(pair: Pairs) -> dict[str, Pair]:
    """The pairs by their students' names; that of a single one is "student".

    Raises:
        ValueError: as `check_names`, something else than a pair, or students of several teachers.
    """
    if not isinstance(pair, Mapping):
        return {STUDENT: expect_pair(pair)}
    check_names(pair)
    for name, one in pair.items():
        expect_pair(one, f" for the student '{name}'")
    first, *others = pair
    teacher = pair[first].teacher
    for name in others:
        other = pair[name].teacher
        if (other.sha256, other.height_width) != (teacher.sha256, teacher.height_width):
            raise InputError(
                f"students stand beside each other under one teacher; that of '{first}' is {teacher.source} at "
                f"{teacher.image_size} px, and that of '{name}' {other.source} at {other.image_size} px: take students "
                "of the same teacher, load_pair(…, teacher=…)"
            )
    return dict(pair)


def expect_pair(given: object, whose: str = "") -> Pair:
    """What was given, if it is a pair.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(given, Pair):
        raise InputError(f"expected a Pair{whose}, as load_pair gives it; got {given!r:.80}")
    return given


def backbones_of(pair: Pairs) -> dict[str, Backbone]:
    """The teacher, then the students by name.

    Raises:
        ValueError: as `named_pairs`.
    """
    pairs = named_pairs(pair)
    return {TEACHER: next(iter(pairs.values())).teacher, **{name: one.student for name, one in pairs.items()}}


def sources_of(networks: Mapping[str, Backbone]) -> dict[str, str]:
    """The line of each network; one of other weights than the teacher's never has the teacher's line."""
    teacher = networks[TEACHER]
    return {name: _source(backbone, teacher) for name, backbone in networks.items()}


def _source(backbone: Backbone, teacher: Backbone) -> str:
    if backbone.source != teacher.source or backbone.module is teacher.module:
        return backbone.source
    digests = {state_digest(each.module.state_dict()) for each in (backbone, teacher)}
    return backbone.source if len(digests) == 1 else f"{backbone.source}, changed since"


def check_names(students: Collection[object]) -> None:
    """Whether so many students can be compared under these names.

    Raises:
        ValueError: none or more than four, or names that would be mistaken for something else.
    """
    if not 1 <= len(students) <= MOST_STUDENTS:
        given = ", ".join(map(str, students)) or "none"
        raise InputError(f"expected 1 to {MOST_STUDENTS} students by name; got {given}: give as many as that")
    wrong = next((name for name in students if not _is_students_name(name)), None)
    if wrong is not None:
        raise InputError(
            f"a student's name is printable text, neither '{TEACHER}', 'clean' nor 'distorted', and without "
            f"'_clean' or '_distorted' at its end; got {wrong!r}: give it another name"
        )


def _is_students_name(name: object) -> bool:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        return False
    return name not in (TEACHER, *KINDS) and not name.endswith(tuple(f"_{kind}" for kind in KINDS))


def network_and_kind(view: str) -> tuple[str, str]:
    """Who saw which picture: "student_distorted" -> "student", "distorted"."""
    network, _, kind = view.rpartition("_")
    return network, kind


def networks_of(views: Iterable[str]) -> tuple[str, ...]:
    """Who made these views, each once, the teacher first."""
    return tuple(dict.fromkeys([TEACHER, *(network_and_kind(view)[0] for view in views)]))
