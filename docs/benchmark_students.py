"""Measures the shipped students under every common corruption, for the sheet that the app's Robustness tab begins with:

    python docs/benchmark_students.py [NAME …]

Writes assets/benchmarks/NAME.json: what was measured (pictures, size, severities, digests) and the cells, rounded; and
the table at the end of docs/benchmark.md. The pictures are shipped photos, which no shipped student was trained on.
Finished cells are kept in the user's cache: start it again, and it goes on. On one core the students of s14 take about
25 minutes together; those of clip-b16, whose passes take ten times as long, are measured where they are named.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

import explorer as ex
from explorer.evaluation.benchmarking import CORRUPTIONS, benchmark_steps
from explorer.models.pairs import read_card
from explorer.models.students import MOST_STUDENTS

OUT, PAGE = Path(__file__).parents[1] / "assets" / "benchmarks", Path(__file__).with_name("benchmark.md")
MEASURED = {"s14": (112, 48), "clip-b16": (224, 8)}  # px, photos
UNASKED = "s14"
DIGITS, SEED = 4, 0
HEADING = "## The shipped students\n"


def main() -> None:
    """Measure what was asked for; files of students that are not shipped any more go."""
    students = ex.list_pairs()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    told = f"of {', '.join(students)} (default: those of {UNASKED})"
    parser.add_argument("names", nargs="*", metavar="NAME", help=told)
    names = parser.parse_args().names or [name for name in students if read_card(name)["backbone"] == UNASKED]
    if unknown := set(names) - set(students):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(students)}")
    OUT.mkdir(exist_ok=True)
    for backbone in MEASURED:
        of = [name for name in names if read_card(name)["backbone"] == backbone]
        for start in range(0, len(of), MOST_STUDENTS):
            measure(backbone, of[start : start + MOST_STUDENTS])
    for file in OUT.glob("*.json"):
        if file.stem not in students:
            file.unlink()
    head, heading, _ = PAGE.read_text(encoding="utf-8").partition(HEADING)
    PAGE.write_text("\n".join([head + heading, *table(), ""]), encoding="utf-8")


def measure(backbone: str, names: Sequence[str]) -> None:
    """Students of one teacher, together, then each with its teacher as a file of its own."""
    size, count = MEASURED[backbone]
    teacher = ex.load_backbone(backbone, image_size=size)
    photos = ex.load_images("photos", size=size, limit=count)
    pairs = {name: ex.load_pair(name, teacher=teacher) for name in names}
    with tqdm(desc=f"{', '.join(names)} at {size} px", unit=" views") as bar:

        def told(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        for _ in benchmark_steps(pairs, photos, seed=SEED, progress=told):
            pass
    for name, pair in pairs.items():
        ex.benchmark(pair, photos, seed=SEED).save(OUT / f"{name}.json", digits=DIGITS)


def table() -> list[str]:
    """What the sheets of all students come to."""
    lines = [
        "Made by `python docs/benchmark_students.py`, which goes on where it was stopped; the sheets are in",
        "`assets/benchmarks`, and the Robustness tab begins with them. Those of clip-b16, which take ten times as",
        "long, are measured where they are named. *Error*: the mean corruption error, over all 19 corruptions and over",
        "the 15 of ImageNet-C; lowest and highest of the 19; clean: the student's CLS cosine on whole photos.\n",
        "| student | photos | px | error | of the 15 | lowest | highest | clean |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for file in sorted(OUT.glob("*.json")):
        found = ex.load_benchmark(file)
        errors = found.errors().query("view == 'student'").set_index("corruption")["error"]
        told = [f"`{name}` {errors[name]:.2f}" for name in map(str, (errors.idxmin(), errors.idxmax()))]
        of_15 = errors[list(CORRUPTIONS["imagenet-c"])].mean()
        numbers = [f"{errors.mean():.2f}", f"{of_15:.2f}", *told, f"{found.clean['student']['cls_cosine']:.3f}"]
        lines.append(f"| {file.stem} | {found.pictures} | {found.image_size[0]} | {' | '.join(numbers)} |")
    return lines


if __name__ == "__main__":
    main()
