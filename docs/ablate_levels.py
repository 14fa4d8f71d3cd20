"""Which of the three levels does what: trains a student on each non-empty subset of them, and writes docs/levels.md:

    python docs/ablate_levels.py IMAGES RUNS [--steps 40] [--seeds 0 1 2] [--out docs/levels.md]

IMAGES is a folder of pictures that does not contain the shipped photos, on which the students are measured. All
students have the same budget; a seed stands for the order of the pictures, crops, the draws of the distortion and the
adapter's beginning, and every subset meets the same ones. Of each run the last step's student is measured. RUNS keeps
the runs, and in `levels.json` the numbers of those that are finished: start it again, and it goes on.
"""

import argparse
import hashlib
import json
import statistics
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

from measuring import NUMBERS, measured, measured_reference
from tqdm import tqdm

import explorer as ex
from explorer.system.files import atomic_path

LEVELS = ("cls", "patch", "attention")
SUBSETS = [subset for count in (1, 2, 3) for subset in combinations(LEVELS, count)]
NAMES = {"cls": "CLS", "patch": "patch", "attention": "attention"}
AIMED_AT = {"CLS cosine": "cls", "patch cosine": "patch", "attention KL": "attention"}  # number -> level
LOWER_IS_BETTER = ("attention KL",)
BACKBONE, SIZE, LOADED_SIZE = "s14", 112, 128
BUDGET: dict[str, Any] = {
    "distortion": "gaussian_noise(sigma=0.3)",
    "trainable": "lora:8",
    "lr": 2e-3,
    "patch_layers": 1,
    "batch_size": 16,
    "image_size": SIZE,
}
DRAW = 1000  # + seed: the distortion of the measured pictures, so that no student has met the draw in training
BEFORE, AFTER, CLEAN = "teacher, distorted", "student, distorted", "student, clean"  # rows of `measured`

# Written from the numbers of the settings below, and printed for these alone.
HOW_TO_READ = """
- Every level by itself improves every number on distorted pictures, also those that it was not trained on: attention
  alone brings the patch cosine from 0.48 to 0.77.
- A number is best, or within one standard deviation of the best, only for students that were trained on its level.
- All three together are best or within one standard deviation of the best in CLS cosine, patch cosine and retrieval@1.
  The price is attention: a KL of 0.40, where attention alone reaches 0.36.
- Attention is what the others gain most from: added to CLS it lifts the CLS cosine from 0.84 to 0.87 and retrieval@1
  from 0.27 to 0.50. Patches, added to these two, lift the patch cosine from 0.77 to 0.81, at the price of 0.02 in
  attention KL; CLS cosine, retrieval@1 and labels stay within the spread.
- 1-NN labels do not tell the subsets apart: on 100 pictures their spread is as large as most differences. All are above
  the untouched copy.
- On clean pictures every student has moved away from its teacher; CLS and patches without attention the least.

What this does not say: anything about other weights than 1 (the attention loss is the largest of the three, so that
equal weights are not equal pull), longer training, other backbones or other damage.
"""
HOW_TO_READ_SETTINGS: dict[str, Any] = {"steps": 40, "seeds": [0, 1, 2], "photos": 100, "precision": "bfloat16"}

Numbers = dict[str, list[float]]
Results = dict[str, Numbers]


def main() -> None:
    """Train and measure what is missing, then write the report."""
    options = _options()
    pictures = ex.load_images(options.images, size=LOADED_SIZE)
    photos = ex.load_images("photos", size=SIZE, limit=options.photos)
    teacher = ex.load_backbone(BACKBONE, image_size=SIZE)
    settings = {
        **BUDGET,
        "steps": options.steps,
        "precision": options.precision,
        "photos": len(photos),
        "backbone": teacher.source,
        "pictures": len(pictures),
        "names_sha256": hashlib.sha256("\n".join(pictures.names).encode()).hexdigest(),
    }
    kept = options.runs / "levels.json"
    results = _kept(kept, settings)
    # A seed after the other: stopped early, there is a whole table of fewer seeds.
    wanted = [(subset, seed) for seed in options.seeds for subset in SUBSETS]
    for subset, seed in tqdm(wanted, desc="students"):
        name = _name(subset, seed)
        if name not in results:
            pair = _trained(teacher, pictures, subset, seed, options)
            draws = measured(pair, photos, [DRAW + seed], pair.distortion)
            results[name] = {row: numbers for row, [numbers] in draws.items()}
            _keep(kept, settings, results)
    data = ex.load_pair(options.runs / _name(LEVELS, options.seeds[0]), teacher=teacher).card["data"]
    text = _report(results, settings, data, measured_reference(teacher, photos), options)
    with atomic_path(options.out) as part:
        part.write_text(text, encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0].rstrip(":"))
    parser.add_argument("images", type=Path, help="folder of pictures to train on")
    parser.add_argument("runs", type=Path, help="folder for the runs and the numbers of those that are finished")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16", help="of training")
    parser.add_argument("--photos", type=int, default=100, help="how many shipped photos are measured")
    parser.add_argument("--data", default="pictures of a folder", help="what IMAGES holds, for the report")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("levels.md"))
    return parser.parse_args()


def _name(subset: tuple[str, ...], seed: int) -> str:
    return f"{'-'.join(subset)}-{seed}"


def _kept(path: Path, settings: dict[str, Any]) -> Results:
    """The numbers of finished runs."""
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    before = found["settings"]
    changes = [
        f"{key} was {before.get(key)!r} and is {value!r}" for key, value in settings.items() if before.get(key) != value
    ]
    if changes:
        sys.exit(f"'{path}' holds numbers of other settings: {'; '.join(changes)}. Choose another folder for the runs")
    results: Results = found["results"]
    return results


def _keep(path: Path, settings: dict[str, Any], results: Results) -> None:
    with atomic_path(path) as part:
        part.write_text(json.dumps({"settings": settings, "results": results}, indent=1), encoding="utf-8")


def _trained(
    teacher: ex.Backbone, pictures: ex.ImageSet, subset: tuple[str, ...], seed: int, options: argparse.Namespace
) -> ex.Pair:
    """One student, or the rest of its run."""
    config = ex.DistillConfig(
        **BUDGET,
        **{level: float(level in subset) for level in LEVELS},
        steps=options.steps,
        seed=seed,
        precision=options.precision,
        eval_every=options.steps,
        checkpoint_every=20,
    )
    out = options.runs / _name(subset, seed)
    with tqdm(total=options.steps, desc=out.name, leave=False) as bar:
        for record in ex.distill(teacher, pictures, config, out=out, resume=True):
            bar.update(record.step - bar.n)
            bar.set_postfix(loss=f"{record.losses['loss']:.3f}")
    return ex.load_pair(out, teacher=teacher)


def _report(
    results: Results, settings: dict[str, Any], data: dict[str, Any], reference: float, options: argparse.Namespace
) -> str:
    seeds = options.seeds
    command = f"python docs/ablate_levels.py IMAGES RUNS --steps {options.steps} --seeds {' '.join(map(str, seeds))}"
    command += f" --precision {options.precision} --photos {options.photos} --data {json.dumps(options.data)}"
    untouched = _runs(results, LEVELS, seeds, BEFORE)  # the teacher's are the same whatever the subset
    students = {_title(subset): (subset, _runs(results, subset, seeds, AFTER)) for subset in SUBSETS}
    clean = {_title(subset): (subset, _runs(results, subset, seeds, CLEAN)) for subset in SUBSETS}
    lines = [
        "# What each level does\n",
        f"Made by `{command}`.\n",
        f"Backbone: {settings['backbone']}. Trained on {data['pictures']} of {settings['pictures']} pictures without "
        f"labels ({options.data}; the others are the runs' probes), {settings['steps']} steps of "
        f'{settings["batch_size"]} at {SIZE} px, {settings["distortion"]}, `trainable="{settings["trainable"]}"`, '
        f"{settings['precision']}, weight 1 for each level that is on. Measured in float32 on {settings['photos']} "
        f"shipped photos at {SIZE} px, which no student saw, with draws of the same distortion that no student met. "
        f"Seeds {', '.join(map(str, seeds))}: mean ± standard deviation; within a seed all students meet the same "
        "pictures, crops and noise. The last step's student counts, always.\n",
        "*retrieval@1*: the nearest clean reference embedding (centred cosine) of a picture is its own. *1-NN label*: "
        "the nearest clean reference of another picture has the picture's label. Attention KL (nats, lower is better) "
        "is over the last four blocks, all rows. † the student was trained on this number. **Bold**: best of its "
        "column.\n",
        "## On distorted pictures\n",
        *_table({"untouched (before)": ((), untouched), **students}),
        "",
        "## On clean pictures\n",
        *_table(clean, f"| teacher (reference) | 1 | 1 | 0 | 1 | {reference:.3f} |"),
        "",
        *_reading(settings, seeds),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _runs(results: Results, subset: tuple[str, ...], seeds: list[int], row: str) -> list[list[float]]:
    """Of each seed, the numbers of one row."""
    return [results[_name(subset, seed)][row] for seed in seeds]


def _title(subset: tuple[str, ...]) -> str:
    return " + ".join(NAMES[level] for level in subset)


def _table(rows: dict[str, tuple[tuple[str, ...], list[list[float]]]], first: str | None = None) -> list[str]:
    """A Markdown table of title -> (levels, numbers of each seed)."""
    means = {
        title: [round(statistics.mean(column), 3) for column in zip(*runs, strict=True)]
        for title, (_, runs) in rows.items()
    }
    best = [_best(name, [values[place] for values in means.values()]) for place, name in enumerate(NUMBERS)]
    lines = [f"| trained on | {' | '.join(NUMBERS)} |", "|---|" + "---:|" * len(NUMBERS), *([first] if first else [])]
    for title, (subset, runs) in rows.items():
        cells = []
        for place, name in enumerate(NUMBERS):
            text = _cell([run[place] for run in runs])
            text = f"**{text}**" if means[title][place] == best[place] else text
            cells.append(f"{text} †" if AIMED_AT.get(name) in subset else text)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _best(name: str, column: list[float]) -> float | None:
    """The best mean as it is printed; None where all are equal."""
    return None if len(set(column)) == 1 else (min if name in LOWER_IS_BETTER else max)(column)


def _cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def _reading(settings: dict[str, Any], seeds: list[int]) -> list[str]:
    found = {**settings, "seeds": seeds}
    if not HOW_TO_READ or any(found[name] != value for name, value in HOW_TO_READ_SETTINGS.items()):
        return []
    return ["## How to read it\n", HOW_TO_READ.strip()]


if __name__ == "__main__":
    main()
