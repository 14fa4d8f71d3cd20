"""The student against its rivals at equal supervision: computes docs/results.json, and writes the report from it.

    python docs/compare_rivals.py CALTECH CIFAR RUNS [--only WORD …] [--all] [--report]

CALTECH and CIFAR are folders with train/ and test/ of class folders. The work is cut into units of minutes, in an order
in which stopping early leaves whole tables; RUNS keeps a file for each finished unit. Stop it whenever you like, and
start it again: it goes on. Several processes share the work by themselves: start it as often as there are cores, each
with OMP_NUM_THREADS=1. `--report` writes the report of what there is, without models or pictures; so does `python
docs/results_report.py`, from the committed results.json alone.

What each row gets is in docs/results_head.md, which the report begins with.
"""

import argparse
import base64
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from results_report import (
    BLIND,
    CEILING,
    CONTRASTIVE,
    FINETUNED,
    FLOOR,
    FRACTIONS,
    GLOBAL,
    HEAD,
    HERE,
    JOINED,
    ORACLE,
    OURS,
    PROBES,
    TESTED,
    Results,
    key_of,
    write,
)
from tqdm import tqdm

import explorer as ex
from explorer.baselines.finetuning import Classifier, FinetuneConfig, finetune
from explorer.evaluation.evaluation import draw_seed
from explorer.evaluation.probes import fit_on_features
from explorer.system.files import atomic_path, claimed

STEPS = 240
FINETUNE_STEPS = 2 * STEPS  # validation accuracy is flat by then: table "Fine-tuning" of the report
BATCH, SIZE, LOADED_SIZE = 16, 112, 128
SEEDS = (0, 1, 2)  # of our training; the rivals' is 0
RATES = (1e-4, 3e-4, 1e-3)  # of fine-tuning; the best one of a data set is taken
HEAD_RATE = 1e-3
WEIGHTS = (3.0, 1.0, 0.3)  # of the attention level for CLIP's students; the best one is taken, as docs/recipe.md did
CLIP = "clip-b16"
PRECISION: Any = "bfloat16"

LEARNED = {
    "noise": "gaussian_noise(sigma=0.1..0.5)",
    "mask": "pixel_mask(fraction=0.5..0.9)",
    "blur": "gaussian_blur(kernel=21, sigma=5) | gaussian_blur(kernel=37, sigma=9)",
}
MIXTURE = " | ".join(LEARNED.values())
MIDDLE = ("gaussian_noise(sigma=0.3)", "pixel_mask(fraction=0.75)", "gaussian_blur(kernel=21, sigma=5)")
LOSSES: dict[str, dict[str, float]] = {
    OURS: {},
    GLOBAL: {"patch": 0.0, "attention": 0.0},
    CONTRASTIVE: {"cls": 0.0, "patch": 0.0, "attention": 0.0, "contrastive": 1.0},
    JOINED: {"contrastive": 1.0},
}

Right = dict[str, str]
"""Key of a cell -> for each test picture whether it was right, as bits in base64."""


def main() -> None:
    """Compute what is missing, then write the report."""
    options = _options()
    if not options.report:
        lab = Lab({"caltech101": options.caltech, "cifar10": options.cifar}, options)
        begin(options.runs, lab.settings, options.out / "results.json")
        work_through(_chosen(lab.units(), options.only), options.runs / "units")
    write(collected(options.runs), options.out)


# The work, unit by unit.


@dataclass(frozen=True)
class Unit:
    """A piece of work of some minutes.

    Attributes:
        name: of its file; parts are divided by dots, for `--only`.
        work: gives what is kept of it: "right" (see `Right`), or anything else that can be written as JSON.
        needs: names of units that have to be finished before.
        for_others: whether it is done only where an unfinished unit needs it.
    """

    name: str
    work: Callable[[], dict[str, Any]]
    needs: tuple[str, ...] = ()
    for_others: bool = False


def work_through(units: list[Unit], folder: Path, wait_s: float = 20.0) -> None:
    """Do all units that nobody has done, the first ones first, beside other processes that do the same."""
    folder.mkdir(parents=True, exist_ok=True)

    def finished(name: str) -> bool:
        return _is_whole(folder / f"{name}.json")

    while left := [unit for unit in units if not unit.for_others and not finished(unit.name)]:
        needed = {name for unit in left for name in unit.needs}
        open_units = [u for u in units if (u in left or u.name in needed) and not finished(u.name)]
        ready = (unit for unit in open_units if all(map(finished, unit.needs)))
        if not any(_done_here(unit, folder) for unit in ready):  # others are at work on all that could be done now
            time.sleep(wait_s)


def _done_here(unit: Unit, folder: Path) -> bool:
    """Whether this process did it, and no other one did, or is doing it."""
    file = folder / f"{unit.name}.json"
    with ExitStack() as stack:
        try:
            stack.enter_context(claimed(folder / unit.name))
        except TimeoutError:
            return False
        if _is_whole(file):
            return False
        tqdm.write(unit.name)
        began = time.process_time()
        found = unit.work()
        found["cpu_seconds"] = round(time.process_time() - began, 1)
        with atomic_path(file) as part:
            part.write_text(json.dumps(found, indent=0), encoding="utf-8")
    return True


def _is_whole(file: Path) -> bool:
    """Whether a unit is finished, with all probes of today."""
    if not file.is_file():
        return False
    right = json.loads(file.read_text(encoding="utf-8")).get("right")
    return not right or {*PROBES} <= {key.split(" / ")[-2] for key in right}


def _chosen(units: list[Unit], words: list[str]) -> list[Unit]:
    """Those whose names have all words among their parts, and what they need."""
    if not words:
        return units
    wanted = {unit.name for unit in units if set(words) <= set(unit.name.split("."))}
    if not wanted:
        parts = sorted({part for unit in units for part in unit.name.split(".")})
        sys.exit(f"no unit has the parts {' '.join(words)}; parts are {', '.join(parts)}")
    by_name = {unit.name: unit for unit in units}
    open_names = list(wanted)
    while open_names:
        more = [name for name in by_name[open_names.pop()].needs if name not in wanted]
        wanted.update(more)
        open_names += more
    return [unit for unit in units if unit.name in wanted]


def begin(runs: Path, settings: dict[str, Any], committed: Path) -> None:
    """Numbers of different settings never come together; and what was committed by another machine is not done again.

    Students themselves are not committed: one is trained again where some of its numbers are missing.
    """
    file = runs / "settings.json"
    if file.is_file():
        _check_settings(file.parent, json.loads(file.read_text(encoding="utf-8")), settings)
    with atomic_path(file) as part:
        part.write_text(json.dumps(settings, indent=1), encoding="utf-8")
    if not committed.is_file():
        return
    kept = json.loads(committed.read_text(encoding="utf-8"))
    _check_settings(committed, kept["settings"], settings)
    for name, found in kept["units"].items():
        target = runs / "units" / f"{name}.json"
        if set(found) != {"cpu_seconds"} and not target.is_file():
            with atomic_path(target) as part:
                part.write_text(json.dumps(found, indent=0), encoding="utf-8")


def _check_settings(place: Path, before: dict[str, Any], settings: dict[str, Any]) -> None:
    changes = [
        f"{name} was {before.get(name)!r} and is {settings.get(name)!r}"
        for name in sorted({*before, *settings})
        if before.get(name) != settings.get(name)
    ]
    if changes:
        sys.exit(f"'{place}' holds numbers of other settings: {'; '.join(changes)}. Remove it, or choose another place")


def collected(runs: Path) -> dict[str, Any]:
    """All that the finished units found."""
    units = {
        file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted((runs / "units").glob("*.json"))
    }
    if not units:
        sys.exit(f"nothing is finished in '{runs}' yet")
    return {"settings": json.loads((runs / "settings.json").read_text(encoding="utf-8")), "units": units}


@dataclass
class Lab:
    """Pictures and models, loaded when they are first needed, and what is done with them."""

    folders: dict[str, Path]
    options: argparse.Namespace
    _teachers: dict[str, ex.Backbone] = field(default_factory=dict)

    @cached_property
    def settings(self) -> dict[str, Any]:
        config = self._config("noise", OURS, 0).settled("s14")
        recipe = config.as_dict() | {"lr": config.highest_lr}
        del recipe["distortion"], recipe["seed"]
        pictures = {
            data: [len(self._pictures(data, part, SIZE)) for part in ("train", "test")] for data in self.folders
        }
        own = {"finetune_steps": 2 * self.options.steps, "finetune_rates": list(RATES), "head_rate": HEAD_RATE}
        return {"recipe": recipe, "pictures": pictures, "per_class": self.options.per_class, **own}

    # The order of work: our own seed 0 and all its rivals, data set by data set, then further seeds.

    def units(self) -> list[Unit]:
        first = [unit for data in self.folders for unit in self._whole_table(data)]
        clip = list(self._clip(first=True))
        seeds = [
            unit
            for seed in SEEDS[1:]
            for data in self.folders
            for kind in LEARNED
            for unit in self._student(data, "s14", kind, OURS, seed, tuple(d for d in TESTED[kind] if d in MIDDLE))
        ]
        return first + clip + seeds + (list(self._clip(first=False)) if self.options.all else [])

    def _whole_table(self, data: str) -> Iterator[Unit]:
        yield self._plain(data, "s14", CEILING, "none")
        for kind, damages in TESTED.items():
            for damage in damages:
                yield self._plain(data, "s14", FLOOR, damage)
            yield from self._student(data, "s14", kind, OURS, 0, damages)
            for damage in damages:
                yield self._restored(data, "s14", BLIND, damage)
            for row in (GLOBAL, CONTRASTIVE, JOINED):
                yield from self._student(data, "s14", kind, row, 0, damages)
        searches = [self._search(data, rate) for rate in RATES]
        yield from searches
        for kind in LEARNED:
            for fraction in FRACTIONS:
                yield self._finetuned(data, kind, fraction, tuple(unit.name for unit in searches))
        for damages in TESTED.values():
            for damage in damages:
                yield self._restored(data, "s14", ORACLE, damage)

    def _clip(self, first: bool) -> Iterator[Unit]:
        """The larger backbone, with fewer rivals: one damage of each kind, or all the others."""
        data, name = "caltech101", CLIP
        weighings = [self._weighing(data, weight) for weight in WEIGHTS]
        if first:
            yield self._plain(data, name, CEILING, "none")
            yield from weighings
        for kind, tested in TESTED.items():
            chosen = tuple(damage for damage in tested if (damage in MIDDLE) == first)
            for damage in chosen:
                yield self._plain(data, name, FLOOR, damage)
            for row in (OURS, GLOBAL):
                after = tuple(unit.name for unit in weighings) if row == OURS else ()
                units = list(self._student(data, name, kind, row, 0, chosen, after))
                yield from units if first else units[-len(chosen) :]
            for damage in chosen:
                yield self._restored(data, name, BLIND, damage)
                yield self._restored(data, name, ORACLE, damage)

    # Units of each kind.

    def _plain(self, data: str, name: str, row: str, damage: str) -> Unit:
        return Unit(
            _name(data, name, row, damage),
            lambda: self._probed(data, name, row, damage, 0, lambda: self._embedded(data, self._teacher(name), damage)),
        )

    def _restored(self, data: str, name: str, row: str, damage: str) -> Unit:
        def embedded() -> tuple[np.ndarray, np.ndarray]:
            restored = ex.restored_pair(self._teacher(name), None if row == BLIND else damage)
            return self._embedded(data, restored.student, damage)

        return Unit(_name(data, name, row, damage), lambda: self._probed(data, name, row, damage, 0, embedded))

    def _student(
        self,
        data: str,
        name: str,
        kind: str,
        row: str,
        seed: int,
        damages: tuple[str, ...],
        after: tuple[str, ...] = (),
    ) -> Iterator[Unit]:
        """Training; clean pictures, for our first seed; then each damage."""
        run = _name(data, name, row, kind, f"seed{seed}")

        def train() -> dict[str, Any]:
            config = self._config(kind, row, seed)
            self._train(run, data, name, replace(config, attention=self._best_weight()) if after else config)
            return {}

        yield Unit(f"{run}.trained", train, after, for_others=True)

        def tried(own_row: str, damage: str) -> dict[str, Any]:
            def embedded() -> tuple[np.ndarray, np.ndarray]:
                student = ex.load_pair(self.options.runs / "students" / run, teacher=self._teacher(name)).student
                return self._embedded(data, student, damage)

            return self._probed(data, name, own_row, damage, seed, embedded)

        looks = [(row, damage) for damage in damages]
        if row == OURS and seed == 0:
            looks.insert(0, (f"{row} of {kind}", "none"))
        for own_row, damage in looks:
            yield Unit(
                f"{run}.{_word(damage)}",
                lambda own_row=own_row, damage=damage: tried(own_row, damage),  # type: ignore[misc]
                needs=(f"{run}.trained",),
            )

    def _weighing(self, data: str, weight: float) -> Unit:
        """One weight of attention for CLIP's student: probes of 80 % of the labelled pictures, tried on the others."""
        run = _name(data, CLIP, "search", f"attention-{weight:g}")

        def work() -> dict[str, Any]:
            config = replace(self._config("noise", OURS, 0), distortion=MIXTURE, attention=weight)
            student = self._train(run, data, CLIP, config)
            learned, validation = self._pictures(data, "train", SIZE).split(0.8)
            found = {}
            for damage in MIDDLE:
                x, y = _embed(student, learned, damage, "train"), _embed(student, validation, damage, "test")
                for probe in PROBES:
                    right = _answers(probe, x, learned, y) == np.array(validation.labels)
                    found[f"{damage} / {probe}"] = float(right.mean())
            return {"weights": {f"{weight:g}": found}}

        return Unit(run, work)

    def _search(self, data: str, rate: float) -> Unit:
        """One learning rate of fine-tuning, on 80 % of the labelled pictures, tried on the others."""

        def work() -> dict[str, Any]:
            learned, validation = self._pictures(data, "train", SIZE).split(0.8)
            quarters = {2 * self.options.steps * share // 4 for share in (1, 2, 3, 4)}
            curve = {}
            for step, classifier in self._finetune(data, learned, MIXTURE, rate):
                if step in quarters:
                    with torch.autocast("cpu", torch.bfloat16):
                        curve[step] = classifier.accuracy(validation, MIXTURE, draw_seed(0, 0, "test"))
            return {"search": {f"{data} / {rate:g}": curve}}

        return Unit(_name(data, "s14", "search", f"{rate:g}"), work)

    def _finetuned(self, data: str, kind: str, fraction: float, searches: tuple[str, ...]) -> Unit:
        """One run on damage of all strengths, tested on each of them."""

        unit = _name(data, "s14", "fine-tuned", kind, f"{fraction:.0%}".replace("%", "percent"))

        def work() -> dict[str, Any]:
            train, test = (self._pictures(data, part, SIZE) for part in ("train", "test"))
            labelled = _share(train, fraction)

            @cache
            def learned() -> Classifier:
                *_, (_, classifier) = self._finetune(data, labelled, LEARNED[kind], self._best_rate(data))
                return classifier

            def embedded(damage: str) -> tuple[np.ndarray, ...]:
                shown = (("train", labelled), ("test", test))
                x, y = (_embed(learned().backbone, pictures, damage, which) for which, pictures in shown)
                with torch.inference_mode():
                    return x, y, learned().head(torch.from_numpy(y)).argmax(dim=1).numpy()

            right: Right = {}
            for damage in ("none", *TESTED[kind]):
                x, y, head = self._kept(f"{unit}.{_word(damage)}", partial(embedded, damage))
                answers = {(HEAD, probe): head for probe in PROBES if probe.startswith("linear")}
                answers |= {(FINETUNED, probe): _answers(probe, x, labelled, y) for probe in PROBES}
                for (row, probe), found in answers.items():
                    own_row = f"{row} of {kind}" if damage == "none" else row
                    key = key_of(data, "s14", own_row, damage, fraction, probe, 0)
                    right[key] = _packed(found == np.array(test.labels))
            return {"right": right}

        return Unit(unit, work, searches)

    # What units are made of.

    def _config(self, kind: str, row: str, seed: int) -> ex.DistillConfig:
        steps = self.options.steps
        return ex.DistillConfig(
            distortion=LEARNED[kind],
            steps=steps,
            batch_size=BATCH,
            image_size=SIZE,
            precision=PRECISION,
            eval_every=steps,
            seed=seed,
            **LOSSES[row],  # type: ignore[arg-type]
        )

    def _train(self, run: str, data: str, name: str, config: ex.DistillConfig) -> ex.Backbone:
        """A student that learns from the pictures, not from their labels; or the rest of its run."""
        images, out = self._pictures(data, "train", LOADED_SIZE), self.options.runs / "students" / run
        with tqdm(total=config.steps, desc=run, leave=False, disable=None) as bar:
            for record in ex.distill(self._teacher(name), images, config, out, resume=True):
                bar.update(record.step - bar.n)
        return ex.load_pair(out, teacher=self._teacher(name)).student

    def _finetune(self, data: str, labelled: ex.ImageSet, damage: str, rate: float) -> Iterator[tuple[int, Classifier]]:
        """Adapter and head, from a linear probe of the same pictures on; after each step."""
        teacher = self._teacher("s14")
        probe = fit_on_features("linear", _embed(teacher, labelled, damage, "train"), labelled.labels or ())
        config = FinetuneConfig(
            distortion=damage,
            steps=2 * self.options.steps,
            batch_size=BATCH,
            lr=rate,
            head_lr=HEAD_RATE,
            trainable=self._config("noise", OURS, 0).trainable,
            precision=PRECISION,
        )
        larger = labelled.resized(LOADED_SIZE)
        for record in tqdm(
            finetune(teacher, larger, config, probe),
            total=config.steps,
            desc=f"fine-tuning {data} {rate:g}",
            leave=False,
            disable=None,
        ):
            yield record.step, record.classifier

    def _best_rate(self, data: str) -> float:
        found = Results(collected(self.options.runs)).search
        return max(RATES, key=lambda rate: list(found[f"{data} / {rate:g}"].values())[-1])

    def _best_weight(self) -> float:
        found = Results(collected(self.options.runs)).weights
        return max(WEIGHTS, key=lambda weight: mean(found[f"{weight:g}"].values()))

    def _embedded(self, data: str, backbone: ex.Backbone, damage: str) -> tuple[np.ndarray, np.ndarray]:
        train, test = (_embed(backbone, self._pictures(data, part, SIZE), damage, part) for part in ("train", "test"))
        return train, test

    def _probed(
        self, data: str, name: str, row: str, damage: str, seed: int, embed: Callable[[], tuple[np.ndarray, np.ndarray]]
    ) -> dict[str, Any]:
        """All probes with both shares of the labels."""
        train, test = (self._pictures(data, part, SIZE) for part in ("train", "test"))
        embedded = self._kept(_name(data, name, row, f"seed{seed}", damage), embed)
        place = {key: number for number, key in enumerate(train.keys)}
        right: Right = {}
        for fraction in FRACTIONS:
            labelled = _share(train, fraction)
            x = embedded[0][[place[key] for key in labelled.keys]]
            for probe in PROBES:
                found = _answers(probe, x, labelled, embedded[1])
                right[key_of(data, name, row, damage, fraction, probe, seed)] = _packed(found == np.array(test.labels))
        return {"right": right}

    def _kept(self, name: str, make: Callable[[], tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
        """Features, made or read: another probe of them takes seconds."""
        file = self.options.runs / "features" / f"{name}.npz"
        if not file.is_file():
            with atomic_path(file) as part, part.open("wb") as opened:
                np.savez(opened, *make())
        with np.load(file) as arrays:
            return tuple(arrays[key] for key in arrays.files)

    def _teacher(self, name: str) -> ex.Backbone:
        if name not in self._teachers:
            self._teachers[name] = ex.load_backbone(name, image_size=SIZE, device="cpu")
        return self._teachers[name]

    def _pictures(self, data: str, part: str, size: int) -> ex.ImageSet:
        """Enlarged or cut to `size`; whatever damages them comes after that."""
        return _loaded(self.folders[data] / part, self.options.per_class).resized(size)


@cache
def _loaded(folder: Path, per_class: int | None) -> ex.ImageSet:
    images = ex.load_images(folder, size=SIZE)
    return images if per_class is None else images.subset(per_class=per_class)


def _share(train: ex.ImageSet, fraction: float) -> ex.ImageSet:
    return train if fraction == 1.0 else train.subset(fraction=fraction, seed=0)


def _embed(backbone: ex.Backbone, images: ex.ImageSet, damage: str, part: Any) -> np.ndarray:
    seed = draw_seed(0, 0, part)
    return np.array(ex.embed(backbone, images, damage, seed, precision=PRECISION, cache=False).embedding)


def _answers(probe: str, x: np.ndarray, labelled: ex.ImageSet, y: np.ndarray) -> np.ndarray:
    """Classes that a probe finds. Ten neighbours vote, or one where a class has fewer than ten labelled pictures."""
    fewest = min(np.unique(labelled.labels, return_counts=True)[1])
    return fit_on_features(probe, x, labelled.labels or (), k=10 if fewest >= 10 else 1).predict(y)


def _packed(right: np.ndarray) -> str:
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def _name(*parts: str) -> str:
    return ".".join(map(_word, parts))


def _word(part: str) -> str:
    """gaussian_noise(sigma=0.3) -> gaussian_noise-sigma-0_3: a part of a file's name without dots."""
    letters = "".join(
        letter if letter.isalnum() or letter in "_-" else "_" if letter == "." else " " for letter in part
    )
    return "-".join(letters.split())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("caltech", type=Path, help="folder with train/ and test/ of class folders")
    parser.add_argument("cifar", type=Path, help="the same")
    parser.add_argument("runs", type=Path, help="keeps what is finished")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="units whose names have all these parts")
    parser.add_argument("--all", action="store_true", help="clip-b16 under all damages, not one of each kind")
    parser.add_argument("--report", action="store_true", help="only write the report of what is there")
    parser.add_argument("--out", type=Path, default=HERE, help="where results.json and the report go")
    parser.add_argument(
        "--steps", type=int, default=STEPS, help="of students, for a try; fine-tuning takes twice as many"
    )
    parser.add_argument("--per-class", type=int, help="use so many pictures of each class alone, for a try")
    return parser.parse_args()


if __name__ == "__main__":
    main()
