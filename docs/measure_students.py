"""Measures the shipped students on shipped photos, which none of them was trained on, and writes docs/students.md:

    python docs/measure_students.py RUNS [--share 0/2] [--report]

For each student: the teacher on clean pictures (the reference), the teacher and the student on damaged ones, and the
student on clean ones. What the numbers are: see `measuring.py`. And a picture: what both see in one photo, and the
student's agreement while it learned, on pictures that were held out. RUNS keeps what is finished; start it again, and
it goes on; `--share 0/2` and `1/2` let two processes work side by side.
"""

import argparse
import json
import statistics
from functools import partial
from pathlib import Path

from measuring import NUMBERS, kept_file, make_missing, measured, measured_reference, sharing_options
from PIL import Image

import explorer as ex
from explorer import plots
from explorer.analysis.measures import MEASURES
from explorer.evaluation.evaluation import gap_closed

PICTURES, SEEDS = 100, (1000, 1001, 1002)  # draws that no student has met in training
PHOTO = "owl"
DAMAGES = {  # of what a student was trained on, the one that it is measured under; or all of it
    "noise": "gaussian_noise(sigma=0.3)",
    "blur": "gaussian_blur(kernel=21, sigma=5)",
    "mask": "pixel_mask(fraction=0.75)",
}
DRAWN = DAMAGES | {"mixture": "gaussian_noise(sigma=0.3)", "common": "snow:4"}
CURVES = ("cls_cosine", "patch_cosine", "attention_iou")
FOLDER = Path(__file__).with_name("students")

Rows = dict[str, list[list[float]]]
"""Row -> for each draw of the damage its `NUMBERS`."""


def main() -> None:
    """Measure what is missing, then write one section for each shipped student."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    sharing_options(parser)
    options = parser.parse_args()
    students = {name: kept_file(options.runs, name) for name in ex.list_pairs()}
    make_missing(options, [(file, partial(looked_at, name)) for name, file in students.items()])
    done = {name: json.loads(file.read_text()) for name, file in students.items() if file.exists()}
    Path(__file__).with_name("students.md").write_text(page(done), encoding="utf-8")


def looked_at(name: str) -> Rows:
    """What is measured of a student."""
    pair = ex.load_pair(name)
    damage = ex.distortion(damage_of(pair, name))
    photos = ex.load_images("photos", size=pair.teacher.image_size, limit=PICTURES)
    draw(name, pair)
    rows = measured(pair, photos, SEEDS if damage.stochastic else SEEDS[:1], damage)
    return {"teacher, clean": [[1.0, 1.0, 0.0, 1.0, measured_reference(pair.teacher, photos)]], **rows}


def damage_of(pair: ex.Pair, name: str) -> str:
    """The spec that a student is measured under."""
    return DAMAGES.get(name.rpartition("-")[2], pair.distortion.spec)


def page(done: dict[str, Rows]) -> str:
    """What all of them bring in one table, then a section for each."""
    lines = [
        "# Shipped students\n",
        "Made by `python docs/measure_students.py RUNS`. No student saw these photos: "
        f"{PICTURES} shipped photos, draws of the damage with the seeds {', '.join(map(str, SEEDS))}; mean and "
        "standard deviation over the draws. *Gap closed*: of the clean originals that the teacher does not find any "
        "more in a damaged picture, the share that the student finds, (student - teacher) / (1 - teacher). "
        "What probes see through them: [probes.md](probes.md).\n",
        "| student | measured under | CLS cosine | patch cosine | retrieval@1 | gap closed | clean CLS cosine |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    place = {name: NUMBERS.index(name) for name in ("CLS cosine", "patch cosine", "retrieval@1")}
    sections = []
    for name, rows in done.items():
        pair = ex.load_pair(name)
        damage = damage_of(pair, name)
        means = {row: [statistics.mean(values) for values in zip(*draws, strict=True)] for row, draws in rows.items()}
        before, after = means["teacher, distorted"], means["student, distorted"]
        cells = [f"{before[at]:.2f} → {after[at]:.3f}" for at in place.values()]
        found = place["retrieval@1"]
        gap = {"teacher_clean": [1.0], "teacher_distorted": [before[found]], "student_distorted": [after[found]]}
        cells.append(f"{gap_closed(gap):.2f}")
        cells.append(f"{means['student, clean'][0]:.3f}")
        shown = "all that it was trained on" if damage == pair.distortion.spec else f"`{damage}`"  # specs hold |
        lines.append(f"| [{name}](#{name}) | {shown} | {' | '.join(cells)} |")
        sections.append(section(name, pair, damage, rows))
    return "\n".join([*lines, "", *sections])


def section(name: str, pair: ex.Pair, damage: str, rows: Rows) -> str:
    """What a student is, its picture and its table."""
    lines = [
        f"## {name}\n",
        f"{described(pair)} Measured at {pair.teacher.image_size} px under `{damage}`.",
        "",
        f"![{name}](students/{name}.jpg)",
        "",
        f"| | {' | '.join(NUMBERS)} |",
        "|---|" + "---:|" * len(NUMBERS),
    ]
    for row, draws in rows.items():
        columns = zip(*draws, strict=True)
        cells = [
            f"{statistics.mean(c):.3f}" + (f" ± {statistics.stdev(c):.3f}" if len(draws) > 1 else "") for c in columns
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(name: str, pair: ex.Pair) -> None:
    """One photo under its damage, and the curves of learning, as a picture beside the page."""
    photos = ex.load_images("photos", size=pair.teacher.image_size)
    place = next(number for number, photo in enumerate(photos.names) if PHOTO in photo)
    comparison = ex.compare(pair.teacher, photos[place][0], DRAWN[name.rpartition("-")[2]], student=pair.student)
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
    for run in pair.runs:
        history = run.get("history", pair.history)  # the last one's lies beside its card
        measured_then = [record for record in history if record["alignment"]]
        steps += [before + record["step"] for record in measured_then]
        agreed += [record["alignment"] for record in measured_then]
        before += run["step"]
    return steps, {MEASURES[key].label: [each[key] for each in agreed] for key in CURVES}


def described(pair: ex.Pair) -> str:
    """Backbone, data, distortion and training, as METHOD asks of a result."""
    course = ", then ".join(
        f"{run['config']['steps']:,} steps of {run['config']['batch_size']} at {run['config']['image_size']} px"
        for run in pair.runs
    )
    config = pair.card["config"]
    return (
        f"{pair.teacher.source}. Trained on {pair.card['data']['pictures']:,} pictures without labels, {course}, "
        f'`{pair.distortion}`, `trainable="{config["trainable"]}"`, {config["precision"]}, seed {config["seed"]}.'
    )


if __name__ == "__main__":
    main()
