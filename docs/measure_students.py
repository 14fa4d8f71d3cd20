"""Measures the shipped students on embedded photos, which none of them was trained on, and writes docs/students.md:

    python docs/measure_students.py

For each student: the teacher on clean pictures (the reference), the teacher and the student on distorted ones, and the
student on clean ones. What the numbers are: see `measuring.py`. And a picture: what both see in one photo, and the
student's agreement while it learned, on pictures that were held out.
"""

import statistics
from pathlib import Path
from typing import Any

from measuring import NUMBERS, measured, measured_reference
from PIL import Image
from tqdm import tqdm

import explorer as ex
from explorer import plots
from explorer.analysis.measures import MEASURES

PICTURES, SEEDS = 100, (1000, 1001, 1002)  # draws that no student has met in training
PHOTO = "owl"
SHOWN = {  # of what a student was trained on, one damage
    "noise": "gaussian_noise(sigma=0.3)",
    "blur": "gaussian_blur(kernel=21, sigma=5)",
    "mask": "pixel_mask(fraction=0.75)",
    "mixture": "gaussian_noise(sigma=0.3)",
    "common": "snow:4",
}
CURVES = ("cls_cosine", "patch_cosine", "attention_iou")
FOLDER = Path(__file__).with_name("students")


def main() -> None:
    """One section for each shipped student."""
    seeds = ", ".join(map(str, SEEDS))
    text = ["# Shipped students\n", "Made by `python docs/measure_students.py`. No student saw these photos:"]
    text += [f"{PICTURES} embedded photos, seeds {seeds}; mean and standard deviation over the seeds.\n"]
    text += [section(name) for name in ex.list_pairs()]
    Path(__file__).with_name("students.md").write_text("\n".join(text), encoding="utf-8")


def section(name: str) -> str:
    """What a student is, and its table."""
    pair = ex.load_pair(name)
    photos = ex.load_images("photos", size=pair.teacher.image_size, limit=PICTURES)
    runs: dict[str, list[list[float]]] = {"teacher, distorted": [], "student, distorted": [], "student, clean": []}
    for seed in tqdm(SEEDS, desc=name):
        for row, numbers in measured(pair, photos, seed).items():
            runs[row].append(numbers)
    reference = measured_reference(pair.teacher, photos)
    draw(name, pair)
    lines = [
        f"## {name}\n",
        described(pair),
        "",
        f"![{name}](students/{name}.jpg)",
        "",
        f"| | {' | '.join(NUMBERS)} |",
        "|---|" + "---:|" * len(NUMBERS),
    ]
    lines.append("| teacher, clean (reference) | 1 | 1 | 0 | 1 | " + f"{reference:.2f} |")
    for row, values in runs.items():
        cells = [f"{statistics.mean(v):.3f} ± {statistics.stdev(v):.3f}" for v in zip(*values, strict=True)]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(name: str, pair: ex.Pair) -> None:
    """One photo under its damage, and the curves of learning, as a picture beside the page."""
    photos = ex.load_images("photos", size=pair.teacher.image_size)
    place = next(number for number, photo in enumerate(photos.names) if PHOTO in photo)
    comparison = ex.compare(pair.teacher, photos[place][0], SHOWN[name.rpartition("-")[2]], student=pair.student)
    maps = plots.plot_comparison(comparison)
    steps, curves = learned(pair)
    course = plots.plot_curves(curves, "step", "held-out agreement", x=steps)
    course.set_size_inches(maps.get_figwidth(), 2.6)
    parts = [plots.to_image(maps), plots.to_image(course)]
    sheet = Image.new("RGB", (parts[0].width, parts[0].height + parts[1].height), "white")
    sheet.paste(parts[0], (0, 0))
    sheet.paste(parts[1], (0, parts[0].height))
    FOLDER.mkdir(exist_ok=True)
    sheet.save(FOLDER / f"{name}.jpg", quality=85)


def learned(pair: ex.Pair) -> tuple[list[int], dict[str, list[float]]]:
    """Steps at which agreement was measured, over all runs that the student came of, and what it was."""
    steps, agreed, before = [], [], 0
    for run in runs_of(pair):
        history = run.get("history", pair.history)  # the last one's lies beside its card
        measured_then = [record for record in history if record["alignment"]]
        steps += [before + record["step"] for record in measured_then]
        agreed += [record["alignment"] for record in measured_then]
        before += run["step"]
    return steps, {MEASURES[key].label: [each[key] for each in agreed] for key in CURVES}


def runs_of(pair: ex.Pair) -> list[dict[str, Any]]:
    """The runs that the student came of, one after the other, as their cards tell."""
    runs = [pair.card]
    while begun := runs[0]["data"].get("begun_from"):
        runs.insert(0, begun)
    return runs


def described(pair: ex.Pair) -> str:
    """Backbone, data, distortion and training, as METHOD asks of a result."""
    data = pair.card["data"]
    course = ", then ".join(
        f"{run['config']['steps']} steps of {run['config']['batch_size']} at {run['config']['image_size']} px"
        for run in runs_of(pair)
    )
    config = pair.card["config"]
    return (
        f"{pair.teacher.source}. Trained on {data['pictures']} pictures without labels, {course}, {pair.distortion}, "
        f'`trainable="{config["trainable"]}"`, seed {config["seed"]}. Measured at {pair.teacher.image_size} px with '
        "the same distortion."
    )


if __name__ == "__main__":
    main()
