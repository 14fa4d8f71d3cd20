"""{clean, distorted} x {teacher, student}: one picture seen four ways, and how far each view is from the reference.

Enters: a picture, a distortion, two backbones. Leaves: a `Comparison`, which holds everything that app, widgets,
plots and command line show, so that a change of layer, head or colour needs no further forward pass. The reference is
the teacher on the clean picture. Where a damaged picture is given and no clean one, there is no reference: then teacher
and student are compared with each other on the damaged picture alone, and nothing is measured against a truth.
Several students stand beside the teacher under names of one's own; a single one is called "student".
"""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor

from explorer.analysis import metrics
from explorer.analysis.dense import PatchMatches, foreground, patch_clusters, patch_matches, propagate_labels
from explorer.analysis.maps import Head, attention_map, pca_rgb, rollout
from explorer.analysis.norms import TokenNorms, norm_outliers
from explorer.analysis.similarity import Alignment, alignment, patch_similarity
from explorer.data.image import Source, at_size, is_at, load_image, same_aspect, upright_size
from explorer.data.picture_files import is_picture
from explorer.data.registration import SAME_SCENE, look_swapped, shift_between, shifted
from explorer.distortions import Distortion, Given
from explorer.distortions import distortion as parse_distortion
from explorer.errors import InputError, seed_number
from explorer.evaluation.patch_probes import PatchProbe
from explorer.models.backbones import Backbone, expect_backbone
from explorer.models.students import KINDS, STUDENT, TEACHER, check_names, networks_of, sources_of
from explorer.models.trace import Trace
from explorer.system.precision import outside_autocast

if TYPE_CHECKING:
    import pandas

FULL_ATTENTION_BYTES = 1 << 30
"""Beyond this the attention of all blocks of one picture is not held."""
NO_REFERENCE = (
    "Without a clean picture there is no reference: the numbers say how far the student is from the teacher, both on "
    "the damaged picture, and nothing is measured against a truth."
)
SWAPPED = (
    "It looks as if the two pictures were swapped: the clean one has the damage, and the damaged one has the details."
)
VIEWS = ("teacher_clean", "teacher_distorted", "student_clean", "student_distorted")


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """What one backbone makes of one picture, small enough to keep.

    Attributes:
        trace: all blocks, of a batch of one, on the CPU; attention="cls".
        rollout: attention rollout from the picture's own row; None where full attention would not fit.
        rows: attention among patches (query, token), mean of heads, per block, float16; None where it would not fit.
        source: which weights saw it, in one line.
    """

    trace: Trace
    rollout: Float[Tensor, "rows cols"] | None
    rows: Float[Tensor, "layer patch patch"] | None
    source: str

    @property
    def bytes(self) -> int:
        """Memory taken by the tensors."""
        own = (self.trace.embedding, self.trace.cls, self.trace.patches, self.trace.attention, self.rollout, self.rows)
        return sum(tensor.nbytes for tensor in own if tensor is not None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """One picture, one distortion, one teacher and one student, or several.

    Attributes:
        clean, distorted: the pictures, RGB; the distorted one may leave [0, 1]. None for `clean` where there is none.
        views: a `View` for each name in `VIEWS`, or for the distorted ones alone; the reference is "teacher_clean".
            Students with names have "noise_clean", "noise_distorted" and so on in the place of "student".
        alignments: "teacher", "student" (their distorted views) and "student_clean" -> agreement with the reference;
            without a clean picture "student" alone, its agreement with the teacher on the damaged picture. Students
            with names have "noise", "noise_clean" and so on.
        distortion, seed: what damaged the picture; a `Given` where the damage came with it.
        untouched: whether the student is still the untouched copy of the teacher.
    """

    clean: Float[Tensor, "3 height width"] | None
    distorted: Float[Tensor, "3 height width"]
    views: dict[str, View]
    alignments: dict[str, Alignment]
    distortion: Distortion
    seed: int
    untouched: bool

    @property
    def reference(self) -> View:
        """What the others are measured against: the teacher on the clean picture; on the damaged one, where that is all
        there is."""
        return next(iter(self.views.values()))

    @property
    def shift(self) -> tuple[int, int] | None:
        """By how many pixels (rows, cols) a given damaged picture was moved onto the clean one; None where it was not
        aligned, and for distortions."""
        return self.distortion.shift if isinstance(self.distortion, Given) else None

    @property
    def note(self) -> str | None:
        """What has to be known before the numbers are read: that there is no reference, or may be a wrong one."""
        if self.clean is None:
            return NO_REFERENCE.replace("the student is", "each student is") if self.named else NO_REFERENCE
        return SWAPPED if isinstance(self.distortion, Given) and self.distortion.swapped else None

    @property
    def networks(self) -> tuple[str, ...]:
        """The teacher, then the students by name."""
        return networks_of(self.views)

    @property
    def students(self) -> tuple[str, ...]:
        """The students' names; a single one without a name is "student"."""
        return self.networks[1:]

    @property
    def named(self) -> bool:
        """Whether the students have names of somebody's own."""
        return self.students != (STUDENT,)

    @property
    def weights(self) -> tuple[str, ...]:
        """Where the teacher's and each student's weights came from, a line each."""
        return tuple(self.views[f"{network}_distorted"].source for network in self.networks)

    def maps(self, layer: int = -1, head: Head = "mean") -> dict[str, Float[Tensor, "rows cols"]]:
        """The attention map of each view."""
        return {name: attention_map(view.trace, layer, head)[0] for name, view in self.views.items()}

    def heads(self, view: str = "student_distorted") -> Float[Tensor, "layer head rows cols"]:
        """The attention maps of all blocks and heads of one view.

        Raises:
            ValueError: no such view.
        """
        if view not in self.views:
            raise InputError(f"unknown view '{view}'; there are: {', '.join(self.views)}")
        trace = self.views[view].trace
        assert trace.attention is not None, "a View keeps attention"
        return rearrange(trace.attention[0, :, :, 0, trace.prefix :], "l h (r c) -> l h r c", r=trace.grid.rows)

    def similarity(self, row: int, col: int, layer: int = -1) -> dict[str, Float[Tensor, "rows cols"]]:
        """Cosine of one patch of the reference with every patch of each view."""
        wanted = self.reference.trace
        return {name: patch_similarity(wanted, (row, col), view.trace, layer)[0] for name, view in self.views.items()}

    def colours(self, layer: int = -1) -> dict[str, Float[Tensor, "rows cols 3"]]:
        """Joint PCA colours of the patches of each view: the same colour is the same kind of patch in all of them."""
        return self._each(pca_rgb(*self._traces, layer=layer))

    def foreground(self, layer: int = -1) -> dict[str, Float[Tensor, "rows cols"]]:
        """How much each patch of each view belongs to the foreground, which lies above 0; see `explorer.foreground`."""
        return self._each(foreground(*self._traces, layer=layer))

    def clusters(self, clusters: int = 6, layer: int = -1) -> dict[str, Int[Tensor, "rows cols"]]:
        """The cluster of each patch of each view, as fitted on the reference; see `explorer.patch_clusters`."""
        return self._each(patch_clusters(*self._traces, clusters=clusters, layer=layer))

    def matches(self, layer: int = -1) -> dict[str, PatchMatches]:
        """Where all patches of the reference are found in each other view; see `explorer.patch_matches`."""
        reference, *others = self._traces
        found = [patch_matches(reference, other, layer=layer) for other in others]
        return dict(zip([*self.views][1:], found, strict=True))

    def labelled(self, labels: Iterable[tuple[int, int, int]], layer: int = -1) -> dict[str, Int[Tensor, "rows cols"]]:
        """Labels of a few patches of the reference, as (row, col, label), carried to all patches of each view; see
        `explorer.propagate_labels`."""
        reference, labels = self.reference.trace, list(labels)
        return self._each(propagate_labels(reference, trace, labels, layer) for trace in self._traces)

    def classes(self, probe: PatchProbe) -> dict[str, Float[Tensor, "rows cols class"]]:
        """How likely each of the probe's classes is for each patch of each view; see `explorer.fit_patch_probe`."""
        return self._each(map(probe.probabilities, self._traces))

    @property
    def _traces(self) -> list[Trace]:
        """The reference's first."""
        return [view.trace for view in self.views.values()]

    def _each(self, maps: Iterable[Tensor]) -> dict[str, Tensor]:
        return {name: values[0] for name, values in zip(self.views, maps, strict=True)}

    def frame(self) -> "pandas.DataFrame":
        """How well the views agree with the reference: one row for each of `alignments`, one column for each number."""
        import pandas

        return pandas.DataFrame({name: agreement.as_dict() for name, agreement in self.alignments.items()}).T

    def by_layer(self) -> "pandas.DataFrame":
        """How far each other view is from the reference, block by block.

        One row for each view and block, with the columns view, layer, attention_js (Jensen-Shannon divergence of the
        picture's own row in nats, mean of heads; 0 is equal) and patch_cosine (mean of patches; 1 is equal).
        Without a clean picture: how far the student is from the teacher on the damaged one.
        """
        import pandas

        (_, reference), *others = self.views.items()
        trace, tables = reference.trace, []
        for name, view in others:
            pairs = {"view": name, "layer": trace.layers, **_layer_by_layer(trace, view.trace)}
            tables.append(pandas.DataFrame(pairs))
        return pandas.concat(tables, ignore_index=True)

    def norms(self) -> dict[str, TokenNorms]:
        """How large the tokens of each view are, and which patches stand out from the reference's."""
        return {name: norm_outliers(view.trace, self.reference.trace) for name, view in self.views.items()}

    def numbers(self, layer: int = -1, head: Head = "mean") -> dict[str, Any]:
        """Everything that can be written as JSON: the student's agreement with the reference at the top level, both
        agreements by name, the maps as nested lists (rows of columns), what they were made from, and `note`; and by
        view and block the share of patches whose norm stands out, with their overlap with the reference's ("outliers").
        Without a clean picture "reference" is None. Where students have names, everything stands by name: "students",
        "agreement" (as `alignments`) and "attention" (as `views`)."""
        maps = {name: values.tolist() for name, values in self.maps(layer, head).items()}
        agreements = {name: agreement.as_json() for name, agreement in self.alignments.items()}
        trace = self.reference.trace
        found: dict[str, Any]
        if self.named:
            found = {"students": list(self.students), "agreement": agreements, "attention": maps}
        else:
            found = {**agreements[STUDENT], **agreements, **{_MAPS[name]: values for name, values in maps.items()}}
        return {
            **found,
            "outliers": {} if trace.norms is None else {name: _outliers(each) for name, each in self.norms().items()},
            "grid": list(trace.grid),
            "layer": trace.layers[trace.position(layer)],
            "head": head,
            "query": trace.query_kind,
            "distortion": self.distortion.spec,
            "seed": self.seed,
            "shift_px": self.shift and list(self.shift),
            "reference": None if self.clean is None else "teacher_clean",
            "note": self.note,
            "untouched_student": self.untouched,
        }


def compare(
    teacher: Backbone,
    clean: Source | None,
    damage: str | Distortion | Source,
    student: Backbone | Mapping[str, Backbone] | None = None,
    seed: int = 0,
    *,
    align: bool = True,
) -> Comparison:
    """See one picture four ways, damaged here or by life.

        compare(teacher, picture, "gaussian_noise(sigma=0.3)", student)   # damaged here
        compare(teacher, "day.jpg", "night.jpg", student)                 # a real pair
        compare(teacher, None, "night.jpg", student)                      # no clean one: teacher against student
        compare(teacher, picture, "fog:3", {"noise": a, "mixture": b})    # several students

    Args:
        teacher: sees the clean picture as the reference.
        clean: RGB in [0, 1], of the teacher's image size; or a path or whatever else `load_image` takes, which is
            fitted to that size. None where only a damaged picture is there.
        damage: a spec such as "gaussian_noise(sigma=0.3)" or a `Distortion`, which damages the clean picture; or a
            damaged picture of the same scene: a path (as text, it ends like a picture's name), a PIL image, an array, a
            tensor. It is fitted to the teacher's size, and may have another one than the clean picture.
        student: None for the untouched copy of the teacher; or up to four students, each with a name of one's own.
        seed: of the distortion.
        align: whether a damaged picture is moved onto the clean one, by whole pixels of the teacher's image size, up to
            an eighth of each side (`Comparison.shift`), and refused where it shows another scene: where the correlation
            of details stays below SAME_SCENE (see `explorer.data.registration.shift_between` for what was measured).
            False: it is taken as it lies, and nobody checks what it shows.

    Raises:
        ValueError: a picture of another size, an unknown distortion, a student of another grid; a damaged picture of
            another aspect ratio or another scene, or the clean one once more; a distortion without a clean picture; no
            students or more than four, or names that would be mistaken for something else.
        ImageError: `clean` or `damage` is no picture that can be read.
    """
    expect_backbone(teacher, "teacher")
    students, seed = named_students(student), seed_number(seed)
    if names_damage(clean):
        raise InputError(f"the clean picture comes first, then what damages it; got '{clean}' as the clean picture")
    image = clean if clean is None or isinstance(clean, Tensor) else load_image(clean, teacher.height_width)
    if names_damage(damage):
        if image is None:
            raise InputError(f"'{damage}' needs a clean picture to damage; without one, give a damaged picture instead")
        damaging = parse_distortion(damage)
        distorted = damaging(image[None], seed=seed)[0]
    else:
        assert not isinstance(damage, Distortion), "it names damage"
        distorted, damaging = at_size(damage, teacher.height_width), Given()
        if clean is not None and image is not None and align:
            _check_aspects(clean, damage, teacher)
            distorted, damaging = laid_over(image, distorted)
    pictures = {"distorted": distorted} if image is None else {"clean": image, "distorted": distorted}
    whom = {"teacher": teacher, **students}
    told = sources_of(whom)
    views = {
        f"{who}_{kind}": replace(look(backbone, seen), source=told[who])
        for who, backbone in whom.items()
        for kind, seen in pictures.items()
    }
    return assemble(image, distorted, views, damaging, seed)


def named_students(student: Backbone | Mapping[str, Backbone] | None) -> dict[str, Backbone]:
    """The students by name, as `compare` takes them: none for the untouched copy; a single one is "student".

    Raises:
        ValueError: as `check_names`, or something else than a backbone.
    """
    if student is None:
        return {}
    if not isinstance(student, Mapping):
        return {STUDENT: expect_backbone(student, STUDENT)}
    check_names(student)
    return {name: expect_backbone(backbone, f"student '{name}'") for name, backbone in student.items()}


def names_damage(given: object) -> TypeGuard[str | Distortion]:
    """Whether this says how to damage a picture; text that ends like a picture's name is a picture."""
    return isinstance(given, Distortion) or (isinstance(given, str) and not is_picture(given))


def check_aspects(clean: tuple[int, int], damaged: tuple[int, int]) -> None:
    """Whether two pictures that come whole, of these (rows, cols), can be of one scene.

    Raises:
        ValueError: they are of another aspect ratio.
    """
    if not same_aspect(clean, damaged):
        (rows, cols), (other_rows, other_cols) = clean, damaged
        raise InputError(
            f"the clean picture is {cols} x {rows} px and the damaged one {other_cols} x {other_rows} px; two pictures "
            f"of one scene need the same aspect ratio: cut one of them to that of the other"
        )


def laid_over(
    clean: Float[Tensor, "3 height width"], damaged: Float[Tensor, "3 height width"]
) -> tuple[Float[Tensor, "3 height width"], Given]:
    """A damaged picture moved onto the clean one of the same size, and what is known of its damage then.

    Raises:
        ValueError: they show other scenes, or are the same.
    """
    if torch.equal(clean.cpu(), damaged.cpu()):
        raise InputError("the clean and the damaged picture are the same; give two, or a distortion such as 'fog:3'")
    shift, correlation = shift_between(clean, damaged)
    if not correlation >= SAME_SCENE:
        raise InputError(
            f"the two pictures do not show the same scene: their details correlate by {correlation:.2f} at best, and "
            f"{SAME_SCENE} is needed; give the clean twin of the damaged picture, or, if it is, have it not aligned"
        )
    return shifted(damaged, shift), Given(shift=shift, swapped=look_swapped(clean, damaged))


def assemble(
    clean: Float[Tensor, "3 height width"] | None,
    distorted: Float[Tensor, "3 height width"],
    views: dict[str, View],
    damage: Distortion,
    seed: int,
) -> Comparison:
    """A comparison from views that were made before; without a student's views the student is the untouched copy."""
    untouched = networks_of(views) == (TEACHER,)
    if untouched:
        views = {**views, **{name.replace(TEACHER, STUDENT): view for name, view in views.items()}}
    networks = networks_of(views)
    views = {name: views[name] for name in _names_of_views(networks) if name in views}
    reference = next(iter(views.values())).trace
    against = {network: f"{network}_distorted" for network in networks}
    if clean is None:
        del against[TEACHER]
    else:
        against |= {f"{student}_clean": f"{student}_clean" for student in networks[1:]}
    return Comparison(
        clean=clean,
        distorted=distorted,
        views=views,
        alignments={name: alignment(reference, views[view].trace) for name, view in against.items()},
        distortion=damage,
        seed=seed,
        untouched=untouched,
    )


def _names_of_views(networks: Iterable[str]) -> list[str]:
    return [f"{network}_{kind}" for network in networks for kind in KINDS]


def look(backbone: Backbone, image: Float[Tensor, "3 height width"]) -> View:
    """Run one picture through one backbone once and keep what is shown of it.

    Where the attention matrices of all blocks together would take more than `FULL_ATTENTION_BYTES`, only the picture's
    own rows are taken; then there is no rollout, and nothing on what a single patch attends to.
    """
    tokens = backbone.prefix + backbone.grid.patches
    fits = 4 * backbone.depth * backbone.heads * tokens**2 <= FULL_ATTENTION_BYTES
    pooled = backbone.query_kind == "attention pooling"
    trace = backbone.trace(image[None], attention="full" if fits and not pooled else "cls")
    if not fits or pooled:
        return View(trace=trace.to("cpu"), rollout=None, rows=None, source=backbone.source)
    return _whole_view(trace, backbone.source)


@outside_autocast()
def _whole_view(trace: Trace, source: str) -> View:
    """What is kept of all attention matrices."""
    assert trace.attention is not None
    means = (reduce(block, "h q t -> q t", "mean") for block in trace.attention[0])  # by block: they stay in the cache
    return View(
        trace=replace(trace, attention=trace.own_rows().unsqueeze(3).clone()).to("cpu"),
        rollout=rollout(trace)[0].cpu(),
        rows=torch.stack([mean[trace.prefix :, trace.prefix :].to("cpu", torch.float16) for mean in means]),
        source=source,
    )


# A damaged picture that was given.


def _check_aspects(clean: Source, damaged: Source, teacher: Backbone) -> None:
    """Of a picture that was cut to the teacher's size nobody knows its shape."""
    sizes = [_size(picture, teacher) for picture in (clean, damaged)]
    if teacher.height_width not in sizes:
        check_aspects(*sizes)


def _size(picture: Source, teacher: Backbone) -> tuple[int, int]:
    if isinstance(picture, str | os.PathLike):
        return upright_size(picture)
    rows, cols = (picture if is_at(picture, teacher.height_width) else load_image(picture)).shape[1:]
    return rows, cols


def _outliers(norms: TokenNorms) -> dict[str, list[float | None]]:
    overlap = [None if math.isnan(share) else share for share in norms.overlap[0].tolist()]
    return {"share": norms.share[0].tolist(), "overlap": overlap}


def _layer_by_layer(reference: Trace, other: Trace) -> dict[str, list[float]]:
    """The metrics take the blocks as their batch axis."""
    assert reference.attention is not None, "a View keeps attention"
    assert other.attention is not None, "a View keeps attention"
    return {
        "attention_js": metrics.js_divergence(reference.attention[0], other.attention[0]).tolist(),
        "patch_cosine": metrics.cosine(reference.patches[0], other.patches[0]).tolist(),
    }


_MAPS = {
    "teacher_clean": "clean_attention",
    "teacher_distorted": "teacher_attention",
    "student_distorted": "student_attention",
    "student_clean": "student_clean_attention",
}
