"""Measures the shipped students under every common corruption, for the sheet that the app's Robustness tab begins with:

    python docs/benchmark_students.py [NAME …]

Writes assets/benchmarks/NAME.json: what was measured (pictures, size, severities, digests) and the cells, rounded. The
pictures are shipped photos, which no shipped student was trained on. Finished cells are kept in the user's cache: start
it again, and it goes on. On one core the students of s14 take about 20 minutes together.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

import explorer as ex
from explorer.evaluation.benchmarking import benchmark_steps
from explorer.models.pairs import read_card
from explorer.models.students import MOST_STUDENTS

OUT = Path(__file__).parents[1] / "assets" / "benchmarks"
MEASURED = {"s14": (112, 48), "clip-b16": (224, 8)}  # px, photos; CLIP's pass takes ten times as long
DIGITS, SEED = 4, 0


def main() -> None:
    """Measure what was asked for; files of students that are not shipped any more go."""
    students = ex.list_pairs()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(students)} (default: all)")
    names = parser.parse_args().names or students
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


if __name__ == "__main__":
    main()
