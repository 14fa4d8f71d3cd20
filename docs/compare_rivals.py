"""The student against its rivals at equal supervision, and writes docs/results.md, results.csv and results.png:

    python docs/compare_rivals.py IMAGES CIFAR RUNS

IMAGES is a folder of unlabelled pictures, on which students learn (without the embedded photos); CIFAR is a folder with
train/ and test/ of class folders. RUNS keeps the students, and in `results.json` every number that is finished: start
it again, and it goes on; `--report` writes the report of what there is. Who gets what:

- all rows have the same labelled pictures: 10 % or 100 % of them;
- *frozen + probe*: the teacher, a linear probe on distorted pictures;
- *restored + probe*: the same after classical restoration that knows the damage (see `explorer.baselines.restoration`);
- *fine-tuned*: adapter and head trained with the labels on distorted pictures, from a linear probe on;
- *contrastive student*: Ravula et al. 2021, InfoNCE with the clean teacher alone, then a linear probe;
- *three-level student*: CLS, patches and attention, the same steps on the same pictures, then a linear probe;
- *clean teacher*: what nobody can reach, a probe on clean pictures.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import explorer as ex
from explorer.baselines.finetuning import FinetuneConfig, finetune
from explorer.baselines.restoration import restore
from explorer.evaluation.evaluation import draw_seed
from explorer.evaluation.probes import fit_probe
from explorer.system.files import atomic_path

SIZE, STEPS, BATCH = 112, 120, 16
FAMILIES = {
    "noise": "gaussian_noise(sigma=0.1..0.5)",
    "mask": "pixel_mask(fraction=0.5..0.9)",
    "blur": "gaussian_blur(kernel=21, sigma=5) | gaussian_blur(kernel=37, sigma=9)",
}
DAMAGES = {
    "noise": [f"gaussian_noise(sigma={sigma})" for sigma in (0.1, 0.3, 0.5)],
    "mask": [f"pixel_mask(fraction={fraction})" for fraction in (0.5, 0.75, 0.9)],
    "blur": [f"gaussian_blur(kernel={kernel}, sigma={sigma})" for kernel, sigma in ((21, 5), (37, 9))],
}
MIDDLE = ("gaussian_noise(sigma=0.3)", "pixel_mask(fraction=0.75)", "gaussian_blur(kernel=21, sigma=5)")
RESTORED_ON_CIFAR = ("gaussian_noise(sigma=0.3)", "gaussian_blur(kernel=21, sigma=5)")  # filling masks takes longest
LOSSES: dict[str, dict[str, float]] = {
    "three-level student": {},
    "contrastive student": {"cls": 0.0, "patch": 0.0, "attention": 0.0, "contrastive": 1.0},
}
FRACTIONS = (0.1, 1.0)
DRAWS = {"photos": 3, "cifar10": 1}
FINETUNE_LR = 5e-4  # of 5e-4, 1e-3 and 2e-3 the best on 300 pictures of CIFAR-10 after 60 steps
FINETUNE_STEPS = {"photos": 60, "cifar10": 120}
CEILING, FLOOR = "clean teacher", "frozen + probe"

Sets = dict[str, tuple[ex.ImageSet, ex.ImageSet]]


def main() -> None:
    """Compute what is missing, then write the report."""
    options = _options()
    kept = Kept(options.runs / "results.json")
    if not options.report:
        photos = ex.load_images("photos", size=SIZE)
        cifar = tuple(ex.load_images(options.cifar / part, size=SIZE) for part in ("train", "test"))
        sets: Sets = {"photos": photos.split(0.5), "cifar10": cifar}  # type: ignore[dict-item]
        unlabelled = ex.load_images(options.images, size=128)
        _s14(options.runs, sets, unlabelled, kept)
        _clip(sets, kept)
    from results_report import write

    write(kept.numbers, Path(__file__).parent)


class Kept:
    """Accuracies by (data, backbone, row, damage, label fraction, probe), one for each draw; on disk after each."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.numbers: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}

    def __contains__(self, key: tuple[Any, ...]) -> bool:
        return " / ".join(map(str, key)) in self.numbers

    def put(self, key: tuple[Any, ...], values: list[float]) -> None:
        self.numbers[" / ".join(map(str, key))] = values
        with atomic_path(self.file) as part:
            part.write_text(json.dumps(self.numbers, indent=0))


def _s14(runs: Path, sets: Sets, unlabelled: ex.ImageSet, kept: Kept) -> None:
    """The students and all their rivals; first what is the least work and says the most."""
    teacher = ex.load_backbone("s14", image_size=SIZE)
    for data in sets:
        _probed(kept, data, sets, "s14", CEILING, "none", teacher)
    for family, damages in DAMAGES.items():
        students = {
            row: _student(runs / f"{family}-{row.split()[0]}", teacher, unlabelled, FAMILIES[family], losses)
            for row, losses in LOSSES.items()
        }
        for data in sets:
            for damage in damages:
                _probed(kept, data, sets, "s14", FLOOR, damage, teacher)
                for row, student in students.items():
                    _probed(kept, data, sets, "s14", row, damage, student)
            for row, student in students.items():
                _probed(kept, data, sets, "s14", f"{row} of {family}", "none", student)
            if (data, family) != ("cifar10", "blur"):  # what two cores had no time for
                _finetuned(kept, data, sets, family, teacher)
    for data, damage in _affordable(sets):
        _probed(kept, data, sets, "s14", "restored + probe", damage, teacher, restored=True)


def _clip(sets: Sets, kept: Kept) -> None:
    """The shipped student of the larger backbone, without rivals that need training."""
    pair = ex.load_pair("clip-b16-mixture", image_size=SIZE)
    for row, backbone in ((CEILING, pair.teacher), ("shipped student", pair.student)):
        _probed(kept, "photos", sets, "clip-b16", row, "none", backbone)
    for damage in MIDDLE:
        _probed(kept, "photos", sets, "clip-b16", FLOOR, damage, pair.teacher)
        _probed(kept, "photos", sets, "clip-b16", "shipped student", damage, pair.student)


def _affordable(sets: Sets) -> list[tuple[str, str]]:
    """(data, damage) that are restored: all damages of the few photos, and of the many pictures what is quick."""
    every = [damage for damages in DAMAGES.values() for damage in damages]
    return [(data, damage) for data in sets for damage in every if data == "photos" or damage in RESTORED_ON_CIFAR]


def _student(
    out: Path, teacher: ex.Backbone, images: ex.ImageSet, distortion: str, losses: dict[str, float]
) -> ex.Backbone:
    config = ex.DistillConfig(
        distortion=distortion,
        steps=STEPS,
        batch_size=BATCH,
        image_size=SIZE,
        precision="bfloat16",
        eval_every=STEPS,
        **losses,  # type: ignore[arg-type]
    )
    records = ex.distill(teacher, images, config, out, resume=out.exists())
    for _ in tqdm(records, total=STEPS, desc=out.name):
        pass
    return ex.load_pair(out, teacher=teacher).student


def _probed(
    kept: Kept,
    data: str,
    sets: Sets,
    name: str,
    row: str,
    damage: str,
    backbone: ex.Backbone,
    restored: bool = False,
) -> None:
    """Both probes and both label fractions on the features of one backbone."""
    keys = {(f, p): (data, name, row, damage, f, p) for f in FRACTIONS for p in ("linear", "knn")}
    if all(key in kept for key in keys.values()):
        return
    tqdm.write(f"probing {data} {name} {row} {damage}")
    train, test = sets[data]
    chosen = {f: train if f == 1.0 else train.subset(fraction=f, seed=0) for f in FRACTIONS}
    found: dict[Any, list[float]] = {key: [] for key in keys}
    for draw in range(DRAWS[data] if ex.distortion(damage).stochastic else 1):
        look = _restored if restored else _embedded
        x, y = (
            look(backbone, part, damage, draw_seed(0, draw, which))
            for part, which in ((train, "train"), (test, "test"))
        )
        for fraction, labelled in chosen.items():
            places = [train.keys.index(key) for key in labelled.keys]
            for probe in ("linear", "knn"):
                fitted = fit_probe(probe, x[places], labelled.labels or ())
                found[fraction, probe].append(fitted.accuracy(y, test.labels or ()))
    for key, values in found.items():
        kept.put(keys[key], values)


def _embedded(backbone: ex.Backbone, images: ex.ImageSet, damage: str, seed: int) -> np.ndarray:
    return np.asarray(ex.embed(backbone, images, damage, seed, precision="bfloat16").embedding)


def _restored(backbone: ex.Backbone, images: ex.ImageSet, damage: str, seed: int) -> np.ndarray:
    """Of what restoration makes of the distorted pictures."""
    parts = []
    for start in tqdm(range(0, len(images), 32), desc="restoring", leave=False):
        places = range(start, min(start + 32, len(images)))
        repaired = restore(ex.distortion(damage)(images.stack(places), seed=seed, indices=places), damage)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            parts.append(backbone.trace(repaired, layers=-1, attention=None).embedding.float())
    return torch.cat(parts).numpy()


def _finetuned(kept: Kept, data: str, sets: Sets, family: str, teacher: ex.Backbone) -> None:
    """One run for each label fraction on damage of all strengths, tested on each of them."""
    train, test = sets[data]
    for fraction in FRACTIONS:
        keys = {damage: (data, "s14", "fine-tuned", damage, fraction, "head") for damage in DAMAGES[family]}
        if all(key in kept for key in keys.values()):
            continue
        labelled = train if fraction == 1.0 else train.subset(fraction=fraction, seed=0)
        begin = _embedded(teacher, labelled, FAMILIES[family], draw_seed(0, 0, "train"))
        config = FinetuneConfig(
            distortion=FAMILIES[family],
            steps=FINETUNE_STEPS[data],
            batch_size=BATCH,
            lr=FINETUNE_LR,
            head_lr=1e-3,
            precision="bfloat16",
        )
        for record in tqdm(
            finetune(teacher, labelled, config, fit_probe("linear", begin, labelled.labels or ())),
            total=config.steps,
            desc=f"fine-tuning {data} {family}",
        ):
            classifier = record.classifier
        for damage, key in keys.items():
            draws = range(DRAWS[data] if ex.distortion(damage).stochastic else 1)
            with torch.autocast("cpu", torch.bfloat16):
                kept.put(key, [classifier.accuracy(test, damage, draw_seed(0, draw, "test")) for draw in draws])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("cifar", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--report", action="store_true", help="only write the report of what is there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
