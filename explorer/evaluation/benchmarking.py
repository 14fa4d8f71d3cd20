"""Every common corruption at every severity, for a teacher and its students, on one sheet: `benchmark`.

Enters: a pair, or several of one teacher, and clean pictures. Leaves: a `Benchmark`, one cell for each corruption,
severity and network. A corruption is measured as a sweep over its severities (`sweeping`), so that a cell holds the
numbers of that. Finished cells are kept on disk, in one file for each network, whose name is made of content: the
weights' bytes, the pictures' bytes, size, labels and seed. A run that was killed goes on where it was, and a student
that joins later costs its own passes alone. Deliberately ignored: what a corruption looks like (`distortions`).
"""

import hashlib
import json
import logging
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from explorer.analysis.measures import MEASURES, Measure
from explorer.data.sets import ImageSet, PictureData
from explorer.data.sources import image_set
from explorer.distortions import COMMON_CORRUPTIONS, DISTORTIONS, Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.distortions.parameters import SEVERITY, unknown_name
from explorer.errors import InputError, seed_number
from explorer.evaluation.evaluation import labels_of
from explorer.evaluation.features import CacheError, Told, embed, share_of
from explorer.evaluation.probes import PROBES, Probe, fit_on_features
from explorer.evaluation.sweeping import Strengths, strengths_of, sweep_steps, trained_range
from explorer.models.backbones import Backbone, identified
from explorer.models.pairs import Pair
from explorer.models.students import TEACHER, backbones_of, named_pairs, sources_of
from explorer.models.weights import state_digest
from explorer.system.files import atomic_path, cache_dir, last_used

if TYPE_CHECKING:
    import pandas

_OF_A_SWEEP = ("cls_cosine", "patch_cosine", "attention_js", "retrieval")
MEASURED = {name: MEASURES[name] for name in _OF_A_SWEEP} | {
    "accuracy": Measure(
        name="accuracy",
        label="accuracy",
        help="The share of pictures whose label is found: that of the nearest other clean picture, or by a probe that "
        "was fitted on the teacher's clean embeddings of other pictures.",
        best=None,
        unit="share",
    )
}
"""What a cell holds."""
CORRUPTIONS = {
    "common": tuple(name for name, entry in DISTORTIONS.items() if entry.severities is not None),
    "imagenet-c": COMMON_CORRUPTIONS,
}
"""The 15 of ImageNet-C with its four extras, and the 15 alone."""
SEVERITIES = (1, 2, 3, 4, 5)
CLEAN = ("none", 0)
"""The cell of the pictures as they are."""
MOST_KEPT = 500
"""Files of finished cells; what was not used for the longest time goes first."""

_FORMAT = 1
_log = logging.getLogger(__name__)

Severity = int | float
Cell = dict[str, float | None]
"""Each of `MEASURED` -> its mean over the pictures; None where it could not be measured."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Benchmark:
    """Agreement with the clean teacher under every corruption. Made by `benchmark` and `load_benchmark`.

    Attributes:
        corruptions, severities: the sheet's rows and columns.
        cells: "teacher" and "student", or the names of several students -> (corruption, severity) -> a number for each
            of `MEASURED`, None where it could not be measured. `CLEAN` are the pictures as they are.
        learned: each student -> what it was trained on.
        accuracy_by: "1-NN" (the nearest other clean picture's label), "knn" or "linear" (a probe of the teacher's
            clean embeddings of other pictures); None without labels.
        pictures: how many.
        pictures_sha256: of them and their size, see `ImageSet.digest`.
        image_size: (height, width).
        seed: of the corruptions; picture i is damaged as number i.
        weights: those of teacher and students, a line each.
        sha256: each network -> the digest of its weights.
    """

    corruptions: tuple[str, ...]
    severities: tuple[Severity, ...]
    cells: dict[str, dict[tuple[str, Severity], Cell]]
    learned: dict[str, Distortion]
    accuracy_by: str | None
    pictures: int
    pictures_sha256: str
    image_size: tuple[int, int]
    seed: int
    weights: tuple[str, ...]
    sha256: dict[str, str]

    @property
    def places(self) -> list[tuple[str, Severity]]:
        """(corruption, severity) of all cells of the sheet, row by row."""
        return [(name, severity) for name in self.corruptions for severity in self.severities]

    @property
    def done(self) -> int:
        """How many cells of the sheet are finished, for all networks."""
        return sum(all(place in cells for cells in self.cells.values()) for place in self.places)

    @property
    def clean(self) -> dict[str, Cell]:
        """Each network on the pictures as they are, so that no gain on damaged ones hides a loss on whole ones."""
        return {view: cells[CLEAN] for view, cells in self.cells.items() if CLEAN in cells}

    def sheet(self, view: str, measure: str = "cls_cosine") -> Float[np.ndarray, "corruption severity"]:
        """One network's numbers; NaN where there is none.

        Raises:
            ValueError: an unknown network or measure.
        """
        if view not in self.cells:
            raise unknown_name("network", view, self.cells)
        if measure not in MEASURED:
            raise unknown_name("measure", measure, MEASURED)
        found = [_number(self.cells[view].get(place, {}).get(measure)) for place in self.places]
        return np.array(found).reshape(len(self.corruptions), len(self.severities))

    def trained_on(self, student: str, corruption: str, severity: Severity) -> bool:
        """Whether a student met this corruption in training, at this strength."""
        entry = DISTORTIONS[corruption]
        span = trained_range(self.learned[student], corruption, entry.strength)
        return span is not None and span[0] <= entry.at_severity(severity)[entry.strength] <= span[1]

    def frame(self) -> "pandas.DataFrame":
        """One row for each finished cell: corruption, severity, view ("teacher", "student" or a student's name),
        trained_on (whether this student was trained on it), and a column for each of `MEASURED`, NaN where it could
        not be measured."""
        import pandas

        rows = [
            {
                "corruption": place[0],
                "severity": place[1],
                "view": view,
                "trained_on": view in self.learned and self.trained_on(view, *place),
                **{name: _number(cells[place][name]) for name in MEASURED},
            }
            for place in self.places
            for view, cells in self.cells.items()
            if place in cells
        ]
        return pandas.DataFrame(rows, columns=["corruption", "severity", "view", "trained_on", *MEASURED])

    def errors(self) -> "pandas.DataFrame":
        """One row for each corruption whose severities are all finished, and each network: corruption, view, error and
        accuracy_error; see `mean_error` and `mean_accuracy_error`."""
        import pandas

        lost = {view: 1 - self.sheet(view) for view in self.cells}
        wrong = {view: 1 - self.sheet(view, "accuracy") for view in self.cells}
        rows = [
            {"corruption": name, "view": view, "error": _share(lost, view, row), "accuracy_error": accuracy_error}
            for row, name in enumerate(self.corruptions)
            for view in self.cells
            if all((name, severity) in self.cells[each] for each in (TEACHER, view) for severity in self.severities)
            for accuracy_error in [_share(wrong, view, row)]
        ]
        return pandas.DataFrame(rows, columns=["corruption", "view", "error", "accuracy_error"])

    @property
    def mean_error(self) -> dict[str, float]:
        """Each network -> its mean corruption error, by agreement with the clean teacher: of a corruption c

            error(c) = sum over severities s of (1 - cls_cosine(network, c, s))
                       / sum over s of (1 - cls_cosine(teacher, c, s)),

        and of that the mean over the corruptions. 0: the network sees each damaged picture as the teacher sees the
        clean one; 1: it loses as much as the teacher does, which is 1 itself; above 1: more. Each corruption counts
        alike, however much it harms; where the teacher loses nothing at all, the error is NaN, and not in the mean.

        It has the form of the mCE of Hendrycks and Dietterich (2019, section 4.1) and is not that: mCE divides
        *classification errors* on ImageNet's 50,000 validation pictures by AlexNet's, over 15 corruptions. Here no
        classifier is asked, the reference is the clean teacher, and the divisor is the damaged teacher, so that
        numbers of different teachers, pictures or sizes must not be compared with each other, nor with any mCE.
        """
        return self._means("error")

    @property
    def mean_accuracy_error(self) -> dict[str, float] | None:
        """The same of 1 - accuracy, see `accuracy_by`: the form of mCE with the teacher in AlexNet's place; None where
        no accuracy was measured."""
        return None if self.accuracy_by is None else self._means("accuracy_error")

    def _means(self, column: str) -> dict[str, float]:
        table = self.errors()
        return {view: float(table.loc[table["view"] == view, column].mean()) for view in self.cells}

    def summary(self) -> "pandas.DataFrame":
        """One row for each network: view, mean_error, mean_accuracy_error, and on the pictures as they are
        clean_cls_cosine and clean_accuracy."""
        import pandas

        errors = self.mean_accuracy_error or {}
        rows = [
            {
                "view": view,
                "mean_error": error,
                "mean_accuracy_error": errors.get(view, math.nan),
                "clean_cls_cosine": _number(self.clean.get(view, {}).get("cls_cosine")),
                "clean_accuracy": _number(self.clean.get(view, {}).get("accuracy")),
            }
            for view, error in self.mean_error.items()
        ]
        return pandas.DataFrame(rows)

    def about(self) -> dict[str, Any]:
        """What was measured, without the cells, as JSON has it."""
        return {
            "format": _FORMAT,
            "corruptions": list(self.corruptions),
            "severities": list(self.severities),
            "learned": {name: damage.spec for name, damage in self.learned.items()},
            "accuracy_by": self.accuracy_by,
            "pictures": self.pictures,
            "pictures_sha256": self.pictures_sha256,
            "image_size": list(self.image_size),
            "seed": self.seed,
            "networks": list(self.weights),
            "sha256": self.sha256,
            "clean": self.clean,
        }

    def save(self, file: str | os.PathLike, digits: int | None = None) -> Path:
        """Write it as JSON, which `load_benchmark` reads; replaced if it is there.

        Args:
            digits: to which numbers are rounded; None for all.

        Raises:
            OSError: it cannot be written.
        """
        cells = {place: {view: cells.get(place) for view, cells in self.cells.items()} for place in self.places}
        rows = [
            {"corruption": name, "severity": severity, "view": view, **cell}
            for (name, severity), found in cells.items()
            for view, cell in found.items()
            if cell is not None
        ]
        head = json.dumps(_rounded(self.about(), digits), indent=1, allow_nan=False)
        lines = ",\n".join(f"  {json.dumps(_rounded(row, digits), allow_nan=False)}" for row in rows)
        with atomic_path(Path(file)) as part:
            part.write_text(f'{head[:-2]},\n "rows": [\n{lines}\n ]\n}}\n', encoding="utf-8")
        return Path(file)


def load_benchmark(file: str | os.PathLike) -> Benchmark:
    """A benchmark that `Benchmark.save` or `vit-explorer benchmark --json` wrote.

    Raises:
        ValueError: the file holds something else.
        OSError: it cannot be read.
    """
    try:
        return _of_json(json.loads(Path(file).read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"'{os.fspath(file)}' is no benchmark that can be read ({type(error).__name__}: {error}); expected a JSON "
            f"file of the format {_FORMAT} that benchmark(…).save(file) wrote"
        ) from error


def benchmark(
    pair: Pair | Mapping[str, Pair],
    images: ImageSet | PictureData,
    corruptions: str | Sequence[str] = "common",
    severities: Sequence[Severity] = SEVERITIES,
    *,
    seed: int = 0,
    train: ImageSet | PictureData | None = None,
    probe: str = "knn",
    batch_size: int | None = None,
    cache: bool | str | os.PathLike = True,
    progress: Told | None = None,
) -> Benchmark:
    """Agreement of teacher and student with the clean teacher, under every common corruption at every severity.

    Args:
        pair: or up to four pairs of the same teacher, each with a name of one's own for its student.
        images: clean pictures; with labels, the accuracy of the nearest neighbour is measured, too.
        corruptions: "common" for the 15 of ImageNet-C and its four extras, "imagenet-c" for the 15 alone, or names of
            some of them.
        severities: of ImageNet-C, from 1 to 5; numbers between are allowed. They are stated for 224 px: blur and the
            like are stronger in a smaller picture.
        seed: of the corruptions; picture i is damaged as number i.
        train: other pictures, labelled with the same classes, on whose clean embeddings by the teacher a probe is
            fitted; its accuracy then takes the place of the nearest neighbour's.
        probe: a name in `explorer.evaluation.probes.PROBES`, such as "knn", with the defaults of `evaluate`.
        batch_size: pictures in a forward pass; None for 8 on processors, where more are slower, and 32 on GPUs.
        cache: where finished cells are kept: True for the user's cache, False for nowhere, or another folder. A run
            that was stopped goes on from there.
        progress: is told (views of pictures done, views in all) as the work goes on.

    Raises:
        ValueError: no pictures, or damaged ones; an unknown corruption or severity, or none; pairs of several teachers
            or without proper names; a probe without labels.
        ImageError: a picture is damaged, as in `embed`.
        CacheError: the folder named by `cache` cannot be written to.
    """
    given = {"seed": seed, "train": train, "probe": probe, "batch_size": batch_size, "cache": cache}
    steps = benchmark_steps(pair, images, corruptions, severities, progress=progress, **given)  # type: ignore[arg-type]
    return deque(steps, maxlen=1)[0]


def benchmark_steps(
    pair: Pair | Mapping[str, Pair],
    images: ImageSet | PictureData,
    corruptions: str | Sequence[str] = "common",
    severities: Sequence[Severity] = SEVERITIES,
    *,
    seed: int = 0,
    train: ImageSet | PictureData | None = None,
    probe: str = "knn",
    batch_size: int | None = None,
    cache: bool | str | os.PathLike = True,
    progress: Told | None = None,
) -> Iterator[Benchmark]:
    """`benchmark` after each corruption, with all that is finished by then; at once where nothing is missing."""
    names, levels = _corruptions(corruptions), _severities(severities)
    images, seed = image_set(images), seed_number(seed)
    if not len(images):
        raise InputError("there are no pictures to measure on")
    if images.clean is not None:
        raise InputError("a benchmark damages clean pictures, and these are damaged already: give their clean twins")
    images.check()
    pairs = named_pairs(pair)
    teacher = next(iter(pairs.values())).teacher
    sized = images.resized(teacher.image_size)
    fitted = None if train is None else _Fitted(teacher, image_set(train), sized, probe, cache)
    rows = [Strengths(operator="none", parameter=SEVERITY, values=(0,), distortions=(parse_distortion("none"),))]
    rows += [strengths_of(name, levels, SEVERITY) for name in names]
    job = _Job(pairs, sized, rows, seed, fitted, batch_size)
    empty = Benchmark(
        corruptions=names,
        severities=levels,
        cells={},
        learned={name: each.distortion for name, each in pairs.items()},
        accuracy_by=("1-NN" if images.labels is not None else None) if fitted is None else probe,
        pictures=len(images),
        pictures_sha256=sized.digest,
        image_size=teacher.height_width,
        seed=seed,
        weights=tuple(sources_of(job.networks).values()),
        sha256={name: identified(backbone).sha256 for name, backbone in job.networks.items()},
    )
    altered = any(backbone.altered for backbone in job.networks.values())
    return _measured(job, empty, _Cache(False if altered else cache), progress)


class _Fitted:
    """A probe of the teacher's clean embeddings of other pictures, which is fitted when it is first needed."""

    def __init__(self, teacher: Backbone, train: ImageSet, images: ImageSet, kind: str, cache: Any) -> None:
        if kind not in PROBES:
            raise InputError(f"probe is one of {', '.join(PROBES)}; got {kind!r}")
        labels_of(train, images)
        self.teacher, self.train, self.kind, self.cache = teacher, train.resized(teacher.image_size), kind, cache

    @property
    def key(self) -> list[Any]:
        return [self.kind, self.train.digest, _plain(self.train.labels)]

    def probe(self, progress: Told | None) -> Probe:
        features = embed(self.teacher, self.train, cache=self.cache, progress=progress)
        return fit_on_features(self.kind, features.embedding, self.train.labels or ())


class _Job:
    """What is measured of whom, and what that is called where it is kept."""

    def __init__(
        self,
        pairs: dict[str, Pair],
        images: ImageSet,
        rows: list[Strengths],
        seed: int,
        fitted: _Fitted | None,
        batch_size: int | None,
    ) -> None:
        self.pairs, self.images, self.rows, self.seed = pairs, images, rows, seed
        self.fitted, self.batch_size = fitted, batch_size
        self.networks = backbones_of(pairs)
        self.digests = {name: _digest(backbone) for name, backbone in self.networks.items()}

    def key(self, name: str) -> str:
        """SHA-256 of all that decides a network's cells but their damage."""
        teacher = self.networks[TEACHER]
        parts = {
            "format": _FORMAT,
            "teacher": self.digests[TEACHER],
            "network": self.digests[name],
            "pictures": self.images.digest,
            "size": list(teacher.height_width),
            "labels": _plain(self.images.labels),
            "seed": self.seed,
            "generator": teacher.device.type,  # a GPU draws other numbers
            "probe": None if self.fitted is None else self.fitted.key,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def sweep(
        self, row: Strengths, only: list[str], probe: Probe | None, progress: Told | None
    ) -> dict[str, dict[str, Cell]]:
        """Each network -> spec of the damage -> its cell."""
        given: dict[str, Any] = {"seed": self.seed, "batch_size": self.batch_size, "progress": progress}
        *_, swept = sweep_steps(self.pairs, self.images, row, only=only, probe=probe, **given)
        return {
            name: {damage.spec: _cell(numbers) for damage, numbers in zip(row.distortions, found, strict=True)}
            for name, found in swept.rows.items()
        }


def _measured(job: _Job, empty: Benchmark, cache: "_Cache", progress: Told | None) -> Iterator[Benchmark]:
    keys = {name: job.key(name) for name in job.networks}  # an untouched copy has its teacher's
    kept = {key: _Cells(cache, key) for key in keys.values()}
    cells = {name: kept[key] for name, key in keys.items()}
    todo = [part for row in job.rows if (part := _missing(row, cells))]
    views = [len(job.images) * (1 + len(whom) * len(row.values)) for row, whom in todo]
    done = len(job.fitted.train) if job.fitted is not None and todo else 0
    total = done + sum(views)
    probe = job.fitted.probe(share_of(progress, 0, total)) if job.fitted is not None and todo else None
    for (row, whom), count in zip(todo, views, strict=True):
        for name, found in job.sweep(row, whom, probe, share_of(progress, done, total)).items():
            cells[name].add(found)
        done += count
        yield _filled(empty, job.rows, cells)
    if not todo:
        yield _filled(empty, job.rows, cells)


def _missing(row: Strengths, cells: Mapping[str, "_Cells"]) -> tuple[Strengths, list[str]] | None:
    """What is still to be measured of a row, and of which networks; those of the same weights are measured once."""
    first = {id(each): name for name, each in reversed([*cells.items()])}
    specs = [damage.spec for damage in row.distortions]
    whom = [name for name in cells if name in first.values() and any(spec not in cells[name].found for spec in specs)]
    places = [place for place, spec in enumerate(specs) if any(spec not in cells[name].found for name in whom)]
    values = tuple(row.values[place] for place in places)
    damages = tuple(row.distortions[place] for place in places)
    return (replace(row, values=values, distortions=damages), whom) if whom else None


def _filled(empty: Benchmark, rows: list[Strengths], cells: Mapping[str, "_Cells"]) -> Benchmark:
    """With all cells that are finished."""
    places = {
        (row.operator, value): damage.spec
        for row in rows
        for value, damage in zip(row.values, row.distortions, strict=True)
    }
    found = {
        name: {place: each.found[spec] for place, spec in places.items() if spec in each.found}
        for name, each in cells.items()
    }
    return replace(empty, cells=found)


def _cell(numbers: Mapping[str, float | None]) -> Cell:
    """What of a sweep's numbers a cell holds."""
    accuracy = numbers.get("accuracy", numbers["nearest_label"])
    return {**{name: numbers[name] for name in _OF_A_SWEEP}, "accuracy": accuracy}


def _plain(labels: Sequence[int] | None) -> list[int] | None:
    """As JSON has them; some data sets give NumPy's numbers."""
    return None if labels is None else [int(label) for label in labels]


def _digest(backbone: Backbone) -> str:
    """Of what it computes."""
    weights = state_digest(backbone.module.state_dict())
    return " ".join([weights, *(json.dumps(way, sort_keys=True) for way in backbone.ways)])


# What was asked for.


def _corruptions(asked: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(asked, str) and asked in CORRUPTIONS:
        return CORRUPTIONS[asked]
    names = tuple(dict.fromkeys([asked] if isinstance(asked, str) else asked))
    if not names:
        raise InputError(f"corruptions: expected {', '.join(map(repr, CORRUPTIONS))} or names such as 'fog'; got none")
    for name in names:
        if name not in CORRUPTIONS["common"]:
            raise unknown_name("corruption", str(name), [*CORRUPTIONS["common"], *CORRUPTIONS])
    return names


def _severities(asked: Sequence[Severity]) -> tuple[Severity, ...]:
    levels = tuple(dict.fromkeys(asked)) if isinstance(asked, Sequence) else (asked,)
    if not levels:
        raise InputError("severities: expected numbers from 1 to 5, such as (1, 3, 5); got none")
    for level in levels:
        if isinstance(level, bool) or not isinstance(level, Real) or not 1 <= level <= 5:
            raise InputError(f"severities: expected numbers from 1 to 5, ImageNet-C's; got {level!r}")
    return tuple(int(level) if float(level).is_integer() else float(level) for level in levels)


# What is kept.


class _Cache:
    """The folder in which finished cells are kept, if there is one.

    The user's own, where nothing can be written, is done without; a folder that was named has to do.
    """

    def __init__(self, cache: bool | str | os.PathLike) -> None:
        self.named = cache is not True
        self.folder = None if cache is False else cache_dir() / "benchmarks" if cache is True else Path(cache)
        if self.folder is not None:
            with self.keeping():
                self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Raises: CacheError, the folder was named and cannot be written to."""
        try:
            yield
        except OSError as error:
            problem = f"benchmarks cannot be kept in '{self.folder}' ({error.strerror or error})"
            if self.named:
                raise CacheError(f"{problem}; choose another folder: benchmark(..., cache=...)") from error
            _log.warning("%s. They are measured without being kept", problem)
            self.folder = None


class _Cells:
    """The finished cells of one network, by the spec of their damage, and the file in which they are kept."""

    def __init__(self, cache: _Cache, key: str) -> None:
        self.cache, self.key = cache, key
        self.found = self._read()

    @property
    def file(self) -> Path | None:
        return None if self.cache.folder is None else self.cache.folder / f"{self.key}.json"

    def add(self, found: Mapping[str, Cell]) -> None:
        self.found = {**self._read(), **self.found, **found}  # another process may have measured others meanwhile
        if self.file is None:
            return
        with self.cache.keeping():
            with atomic_path(self.file) as part:
                part.write_text(json.dumps({"key": self.key, "cells": self.found}, allow_nan=False), encoding="utf-8")
            _prune(self.file)

    def _read(self) -> dict[str, Cell]:
        """What the file holds; nothing where it is missing or damaged, so that it is measured again."""
        if self.file is None or not self.file.exists():
            return {}
        try:
            kept = json.loads(self.file.read_text(encoding="utf-8"))
            if kept["key"] != self.key:
                raise InputError("not what its name says")
            found = {str(spec): _checked(cell) for spec, cell in kept["cells"].items()}
            with suppress(OSError):  # it was used: see `_prune`; a cache may be read-only
                os.utime(self.file)
            return found
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("the benchmark kept in %s is damaged (%s); it is measured again", self.file, error)
            return {}


def _prune(keep: Path) -> None:
    """Remove what nobody used for the longest time, until few enough are left."""
    files = [file for file in keep.parent.glob("*.json") if len(file.stem) == 64]
    for file in sorted(files, key=last_used)[: max(0, len(files) - MOST_KEPT)]:
        if file != keep:
            file.unlink(missing_ok=True)


def _checked(cell: Mapping[str, Any]) -> Cell:
    """Raises: ValueError, KeyError or TypeError, it is no cell."""
    if not all(cell[name] is None or math.isfinite(cell[name]) for name in MEASURED):
        raise InputError(f"not finite: {cell}")
    return {name: cell[name] for name in MEASURED}


# Numbers and files.


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _share(lost: Mapping[str, Float[np.ndarray, "corruption severity"]], view: str, row: int) -> float:
    """What a network loses under a corruption, over what the teacher loses."""
    mine, teachers = (float(lost[name][row].sum()) for name in (view, TEACHER))
    return mine / teachers if teachers > 0 else math.nan


def _rounded(content: Any, digits: int | None) -> Any:
    if isinstance(content, float):
        return content if digits is None else round(content, digits)
    if isinstance(content, dict):
        return {key: _rounded(each, digits) for key, each in content.items()}
    return [_rounded(each, digits) for each in content] if isinstance(content, list) else content


def _of_json(content: Mapping[str, Any]) -> Benchmark:
    """Raises: ValueError, KeyError, TypeError or AttributeError, it is no benchmark."""
    if content["format"] != _FORMAT:
        raise InputError(f"the format is {content['format']!r}")
    cells: dict[str, dict[tuple[str, Severity], Cell]] = {view: {} for view in content["sha256"]}
    for view, cell in content["clean"].items():
        cells[view][CLEAN] = _checked(cell)
    for row in content["rows"]:
        cells[row["view"]][row["corruption"], row["severity"]] = _checked(row)
    height, width = content["image_size"]
    return Benchmark(
        corruptions=_corruptions(content["corruptions"]),
        severities=_severities(content["severities"]),
        cells=cells,
        learned={name: parse_distortion(spec) for name, spec in content["learned"].items()},
        accuracy_by=content["accuracy_by"],
        pictures=content["pictures"],
        pictures_sha256=content["pictures_sha256"],
        image_size=(height, width),
        seed=content["seed"],
        weights=tuple(content["networks"]),
        sha256=dict(content["sha256"]),
    )
