"""Measures the shipped students on embedded photos, which none of them was trained on, and writes docs/students.md:

    python docs/measure_students.py

For each student: the teacher on clean pictures (the reference), the teacher and the student on distorted ones, and the
student on clean ones. What the numbers are: see `measuring.py`.
"""

import statistics
from pathlib import Path

from measuring import NUMBERS, measured, measured_reference
from tqdm import tqdm

import explorer as ex

PICTURES, SEEDS = 100, (1000, 1001, 1002)  # draws that no student has met in training


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
    lines = [f"## {name}\n", described(pair), "", f"| | {' | '.join(NUMBERS)} |", "|---|" + "---:|" * len(NUMBERS)]
    lines.append("| teacher, clean (reference) | 1 | 1 | 0 | 1 | " + f"{reference:.2f} |")
    for row, values in runs.items():
        cells = [f"{statistics.mean(v):.3f} ± {statistics.stdev(v):.3f}" for v in zip(*values, strict=True)]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def described(pair: ex.Pair) -> str:
    """Backbone, data, distortion and training, as METHOD asks of a result."""
    config, data = pair.card["config"], pair.card["data"]
    return (
        f"{pair.teacher.source}. Trained on {data['pictures']} pictures without labels, {config['steps']} steps of "
        f'{config["batch_size"]} at {config["image_size"]} px, {pair.distortion}, `trainable="{config["trainable"]}"`, '
        f"seed {config['seed']}. Measured at {pair.teacher.image_size} px with the same distortion."
    )


if __name__ == "__main__":
    main()
