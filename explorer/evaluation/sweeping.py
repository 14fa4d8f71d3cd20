"""How teacher and students hold up as the damage grows: `sweep`.

Enters: a pair, or several of one teacher, pictures, an operator and the strengths of it. Leaves: a `Sweep`, one row for
each strength and network. Pictures come in batches and all strengths of a batch are measured together, so that memory
stays bounded, the clean pictures are looked at once, and the whole curve can be seen from the first batch on, getting
more exact.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from explorer.analysis.measures import AGREEMENT, NEIGHBOURS
from explorer.analysis.similarity import ATTENTION_LAYERS, Alignment, alignment
from explorer.data.sets import ImageSet, PictureData
from explorer.data.sources import image_set
from explorer.distortions import DISTORTIONS, Distortion, Given
from explorer.distortions import distortion as parse_distortion
from explorer.distortions.parameters import SEVERITY, Description, unknown_name
from explorer.distortions.pipeline import Step
from explorer.errors import InputError, seed_number
from explorer.evaluation.features import Told, embed
from explorer.evaluation.probes import Probe, own_and_other
from explorer.models.backbones import Backbone
from explorer.models.pairs import Pair
from explorer.models.students import TEACHER, backbones_of, named_pairs, sources_of
from explorer.models.trace import Trace
from explorer.system.memory import Parts, pictures_at_once
from explorer.system.precision import outside_autocast

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
    """Agreement with the clean teacher by strength of the damage. Made by `sweep`.

    Attributes:
        operator, parameter: what was varied; the parameter may be "severity".
        values: the strengths.
        distortions: a `Distortion` for each of them.
        rows: "teacher" and "student", or the names of several students -> for each strength, a number for each measure
            of `AGREEMENT` and `NEIGHBOURS`, None where it could not be measured (no labels, one picture only).
        ceiling: share of the clean pictures whose nearest other one has the same label, for the teacher; or None.
        gallery: among how many clean pictures neighbours were sought.
        learned: each student -> what it was trained on.
        pictures, total: how many pictures were measured so far, and will be in the end.
        seed: of the distortion.
        weights: those of teacher and students, a line each.
    """

    operator: str
    parameter: str
    values: tuple[int | float, ...]
    distortions: tuple[Distortion, ...]
    rows: dict[str, tuple[dict[str, float | None], ...]]
    ceiling: float | None
    gallery: int
    learned: dict[str, Distortion]
    pictures: int
    total: int
    seed: int
    weights: tuple[str, ...]

    @property
    def trained_on(self) -> Distortion:
        """What the student was trained on, or the first of several."""
        return next(iter(self.learned.values()))

    @property
    def trained_range(self) -> tuple[int | float, int | float] | None:
        """`range_of` the student, or the first of several."""
        return self.range_of(next(iter(self.learned)))

    @property
    def never_trained(self) -> bool:
        """Whether no student ever met this operator."""
        learned = (branch for damage in self.learned.values() for branch in damage.branches)
        return all(step.name != self.operator for branch in learned for step in branch)

    def range_of(self, student: str) -> tuple[int | float, int | float] | None:
        """Smallest and largest strength of this operator in what a student was trained on; None if there is none."""
        return trained_range(self.learned[student], self.operator, self.parameter)

    def frame(self) -> "pandas.DataFrame":
        """One row for each network and strength: network ("teacher", "student" or a student's name), value, distortion,
        trained_on (whether this student, or the first one for the teacher, was trained on this strength of it), and a
        column for each measure."""
        import pandas

        never = (float("inf"), float("-inf"))
        ranges = {name: self.range_of(name) or never for name in self.learned}
        ranges["teacher"] = self.trained_range or never
        rows = [
            {"network": network, "value": value, "distortion": damage.spec, "trained_on": low <= value <= high, **row}
            for network, found in self.rows.items()
            for low, high in [ranges[network]]
            for value, damage, row in zip(self.values, self.distortions, found, strict=True)
        ]
        return pandas.DataFrame(rows)


def sweep(
    pair: Pair | Mapping[str, Pair],
    images: ImageSet | PictureData,
    distortion: str | None = None,
    values: Sequence[int | float] | float | None = None,
    *,
    parameter: str | None = None,
    seed: int = 0,
    gallery: ImageSet | None = None,
    batch_size: int | None = None,
) -> Sweep:
    """Agreement of teacher and student with the clean teacher, by strength of one distortion.

    Args:
        pair: or up to four pairs of the same teacher, each with a name of one's own for its student.
        images: any pictures; with labels, the accuracy of the nearest neighbour is measured, too. Pictures with clean
            twins (`load_images(…, clean=…)`) are damaged already, by one strength: then there is one point, and
            `distortion`, `values` and `parameter` are left as they are.
        distortion: one operator, such as "gaussian_noise", or with other parameters fixed, such as
            "gaussian_blur(kernel=37)"; None for Gaussian noise.
        values: strengths, or one; None for the operator's own seven.
        parameter: what `values` are: a parameter of the operator, or "severity" (ImageNet-C, 1 to 5); None for the
            parameter that says how strong it is, see `DISTORTIONS`.
        seed: of the distortion; picture i is damaged as number i.
        gallery: clean pictures among which neighbours are sought, `images` among them; None for `images` themselves.
        batch_size: pictures in a forward pass; None for 8 on processors, where more are slower, and 32 on GPUs.

    Raises:
        ValueError: no pictures, several operators, values that the parameter does not allow, a distortion for pictures
            that are damaged already, or pairs of several teachers or without proper names.
        ImageError: a picture is damaged, as in `embed`.
    """
    strengths = strengths_for(images, distortion, values, parameter)
    return deque(sweep_steps(pair, images, strengths, seed=seed, gallery=gallery, batch_size=batch_size), maxlen=1)[0]


def sweep_steps(
    pair: Pair | Mapping[str, Pair],
    images: ImageSet | PictureData,
    strengths: "Strengths",
    *,
    seed: int = 0,
    gallery: ImageSet | None = None,
    batch_size: int | None = None,
    progress: Told | None = None,
    only: Collection[str] | None = None,
    probe: Probe | None = None,
) -> Iterator[Sweep]:
    """`sweep` after each batch of pictures: the measures over the pictures so far.

    Args:
        progress: is told (views of pictures done, views in all), also within a batch.
        only: the networks that are measured, "teacher" or students' names; None for all of them.
        probe: of the teacher's clean embeddings, to labels as the pictures have them: rows then have its "accuracy".
    """
    if not len(images):
        raise InputError("there are no pictures to measure on")
    images = image_set(images)
    images.check()
    pairs = named_pairs(pair)
    networks, seed = backbones_of(pairs), seed_number(seed)
    teacher = networks[TEACHER]
    empty = Sweep(
        **vars(strengths),
        rows={},
        ceiling=None,
        gallery=0,
        learned={name: each.distortion for name, each in pairs.items()},
        pictures=0,
        total=len(images),
        seed=seed,
        weights=tuple(sources_of(networks).values()),
    )
    size = pictures_at_once(batch_size, teacher.device)
    clean = _Gallery(teacher, images.clean or images, gallery, probe)
    asked = {name: backbone for name, backbone in networks.items() if only is None or name in only}
    return _measured(teacher, asked, images.resized(teacher.image_size), empty, clean, size, progress)


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """One operator at several strengths; see `Sweep`."""

    operator: str
    parameter: str
    values: tuple[int | float, ...]
    distortions: tuple[Distortion, ...]


def strengths_for(
    images: ImageSet | PictureData,
    distortion: str | None = None,
    values: Sequence[int | float] | float | None = None,
    parameter: str | None = None,
) -> Strengths:
    """The distortions of a sweep over these pictures: the one that they came with, or those of `strengths_of`.

    Raises:
        ValueError: as `strengths_of`, or a distortion for pictures that are damaged already.
    """
    if not isinstance(images, ImageSet) or images.clean is None:
        return strengths_of(distortion or "gaussian_noise", values, parameter)
    asked = {"distortion": distortion, "values": values, "parameter": parameter}
    if given := [name for name, value in asked.items() if value is not None]:
        raise InputError(f"these pictures are damaged already, by one strength: leave out {' and '.join(given)}")
    return Strengths(operator=Given().spec, parameter="damage", values=(1,), distortions=(Given(),))


def strengths_of(
    distortion: str, values: Sequence[int | float] | float | None = None, parameter: str | None = None
) -> Strengths:
    """The distortions of a sweep; the arguments are those of `sweep`.

    Raises:
        ValueError: several operators, an unknown parameter, or values that it does not allow.
    """
    branches = parse_distortion(distortion).branches
    steps = [step for branch in branches for step in branch]
    if len(steps) != 1 or len(branches) != 1:
        raise InputError(f"a sweep varies exactly one operator, such as 'gaussian_noise'; got '{distortion}'")
    step, entry = steps[0], DISTORTIONS[steps[0].name]
    name = parameter or entry.strength
    own = {entry.strength: entry.strengths, SEVERITY: entry.severities}
    given = (own.get(name) or ()) if values is None else values
    chosen = tuple(sorted(dict.fromkeys(given if isinstance(given, Iterable) else (given,))))
    if not chosen:
        raise InputError(f"values: expected strengths for {name} of '{step.name}', such as (0.1, 0.3); got none")
    if name == SEVERITY and step.values != parse_distortion(step.name).branches[0][0].values:
        raise InputError(f"a severity says all of '{step.name}': leave its parameters out; got '{distortion}'")
    fixed = {key: value for key, value in step.values if key not in (name, SEVERITY)}
    damaged = tuple(_at(step.name, entry, name, value, fixed, step.clip) for value in chosen)
    return Strengths(operator=step.name, parameter=name, values=chosen, distortions=damaged)


def _at(operator: str, entry: Description, name: str, value: int | float, fixed: dict, clip: bool) -> Distortion:
    if name == SEVERITY:
        return parse_distortion(operator, **entry.at_severity(value), clip=True)
    known = [one.name for one in entry.parameters]
    if name not in known:
        raise unknown_name(f"parameter of {operator}", name, [*known, SEVERITY])
    return parse_distortion(operator, **fixed, **{name: value}, clip=clip or None)


def trained_range(trained: Distortion, operator: str, parameter: str) -> tuple[int | float, int | float] | None:
    """The strengths of an operator that a distortion holds; severities are looked up by the strength they mean, and the
    other way round."""
    steps = [step for branch in trained.branches for step in branch if step.name == operator]
    spans = (step.span(parameter) or (_severities(step) if parameter == SEVERITY else None) for step in steps)
    bounds = [span for span in spans if span is not None]
    return (min(low for low, _ in bounds), max(high for _, high in bounds)) if bounds else None


def _severities(step: Step) -> tuple[float, float] | None:
    """Between which severities, to a hundredth, the strengths of a step lie; None where none of them has any."""
    entry = DISTORTIONS[step.name]
    span = step.span(entry.strength)
    if span is None or not entry.severities:
        return None
    levels = [hundredth / 100 for hundredth in range(100 * min(entry.severities), 100 * max(entry.severities) + 1)]
    within = [level for level in levels if span[0] <= entry.at_severity(level)[entry.strength] <= span[1]]
    return (min(within), max(within)) if within else None


def _measured(
    teacher: Backbone,
    whom: dict[str, Backbone],
    images: ImageSet,
    empty: Sweep,
    gallery: "_Gallery",
    batch_size: int,
    progress: Told | None,
) -> Iterator[Sweep]:
    # An untouched copy sees what the teacher sees.
    same = {name: next(first for first, one in whom.items() if one is backbone) for name, backbone in whom.items()}
    networks = {name: whom[name] for name in same.values()}
    cells = {name: [_Cell() for _ in empty.values] for name in networks}
    views = 1 + len(networks) * len(empty.values)  # of each picture

    def told(part: slice, seen: int) -> None:
        if progress is not None:
            progress(part.start * views + (part.stop - part.start) * seen, len(images) * views)

    def measure(part: slice) -> tuple[Tensor, dict[str, list[tuple[Alignment, Tensor]]]]:
        numbers = range(part.start, part.stop)
        clean = (images.clean or images).stack(numbers).to(teacher.device)
        reference = _seen(teacher, clean)
        found: dict[str, list[tuple[Alignment, Tensor]]] = {name: [] for name in networks}
        told(part, 1)
        for place, damage in enumerate(empty.distortions):
            given = isinstance(damage, Given)
            damaged = images.stack(numbers).to(clean) if given else damage(clean, seed=empty.seed, indices=numbers)
            for name, backbone in networks.items():
                seen = _seen(backbone, damaged)
                found[name].append((alignment(reference, seen), seen.embedding.cpu()))
            told(part, 1 + len(networks) * (place + 1))
        return reference.embedding, found

    parts = Parts("a sweep", "take a smaller picture size or a smaller backbone", size=batch_size)
    for part, (embedding, found) in parts(measure, len(images)):
        gallery.add(embedding)
        for name, measured in found.items():
            for cell, (agreement, seen) in zip(cells[name], measured, strict=True):
                cell.add(agreement, seen)
        rows = {name: tuple(cell.numbers(gallery) for cell in found) for name, found in cells.items()}
        rows = {name: rows[first] for name, first in same.items()}
        ceiling = gallery.neighbours(gallery.queries())["nearest_label"]
        yield replace(empty, rows=rows, ceiling=ceiling, gallery=len(gallery.features), pictures=part.stop)


class _Cell:
    """What was measured of one network at one strength."""

    def __init__(self) -> None:
        self.parts: list[Alignment] = []
        self.embeddings: list[Tensor] = []

    def add(self, agreement: Alignment, embedding: Float[Tensor, "batch dim"]) -> None:
        self.parts.append(agreement)
        self.embeddings.append(embedding)

    def numbers(self, gallery: "_Gallery") -> dict[str, float | None]:
        agreement: dict[str, float | None] = {}
        for name in AGREEMENT:
            found = [part.per_image[name] for part in self.parts if name in part.per_image]
            agreement[name] = float(torch.cat(found).mean()) if found else None
        embeddings = torch.cat(self.embeddings).numpy()
        return {**agreement, **gallery.neighbours(embeddings), **gallery.accuracy(embeddings)}


class _Gallery:
    """The clean teacher's embeddings among which neighbours are sought: of the pictures so far, or of a whole set."""

    def __init__(self, teacher: Backbone, images: ImageSet, whole: ImageSet | None, probe: Probe | None) -> None:
        self.probe, self.wanted = probe, images.labels
        self.labels = None if images.labels is None else np.array(images.labels)
        self.own = np.arange(len(images))
        self.features = np.empty((0, teacher.dim), dtype=np.float32)
        self.whole, self.count = whole is not None, 0
        if whole is not None:
            if whole.reader != images.reader:
                raise InputError("the gallery must hold the pictures that are swept; it was loaded from elsewhere")
            if missing := set(images.keys) - set(whole.keys):
                raise InputError(f"the gallery must hold the pictures that are swept; {len(missing)} are not in it")
            self.labels = None if whole.labels is None else np.array(whole.labels)
            self.own = np.array([whole.keys.index(key) for key in images.keys])
            self.features = np.asarray(embed(teacher, whole).embedding)

    def add(self, embedding: Float[Tensor, "batch dim"]) -> None:
        if not self.whole:
            self.features = np.concatenate([self.features, embedding.float().cpu().numpy()])
        self.count += len(embedding)

    def queries(self) -> Float[np.ndarray, "image dim"]:
        """The clean embeddings of the pictures so far."""
        return self.features[self.own[: self.count]]

    def neighbours(self, queries: Float[np.ndarray, "image dim"]) -> dict[str, float | None]:
        """Of the pictures so far; None where there are too few pictures, or no labels."""
        if len(self.features) < 2:
            return dict.fromkeys(NEIGHBOURS)
        own = self.own[: len(queries)]
        again, other = own_and_other(self.features, queries, own)
        near = None if self.labels is None else float((self.labels[other] == self.labels[own]).mean())
        return {"retrieval": float(again.mean()), "nearest_label": near}

    def accuracy(self, seen: Float[np.ndarray, "image dim"]) -> dict[str, float | None]:
        """Of the probe on the pictures so far; nothing without one."""
        if self.probe is None or self.wanted is None:
            return {}
        return {"accuracy": float(np.mean(self.probe.predict(seen) == np.array(self.wanted[: len(seen)])))}


@torch.inference_mode()
@outside_autocast()
def _seen(backbone: Backbone, images: Float[Tensor, "batch 3 height width"]) -> Trace:
    return backbone.trace(images, layers=range(-min(ATTENTION_LAYERS, backbone.depth), 0), attention="cls")
