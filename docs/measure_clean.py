"""Measures what the shipped students lose on clean pictures, and writes docs/clean.md:

    python docs/measure_clean.py CALTECH RUNS [--share 0/2] [--report]

A probe on clean features of the student against one on the teacher's, on Caltech-101 (CALTECH has folders train and
test, with a folder for each class). RUNS keeps what is finished; start it again, and it goes on.
"""

import argparse
import json
from functools import cache, partial
from pathlib import Path

import numpy as np
from measuring import kept_file, make_missing, sharing_options

import explorer as ex
from explorer.evaluation.intervals import PairedDifference, compare_paired
from explorer.evaluation.probes import PROBES, fit_on_features
from explorer.models.pairs import read_card

SIZE, LABELLED = 224, 10  # pixels, pictures of each class that probes are fitted on
MOST = 0.02  # that a student may lose

Right = dict[str, list[bool]]
"""Kind of probe -> whether the class of each test picture was found."""


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("caltech", type=Path)
    sharing_options(parser)
    options = parser.parse_args()
    teachers = {name: str(read_card(name)["backbone"]) for name in ex.list_pairs()}
    names = [*dict.fromkeys(teachers.values()), *teachers]
    make_missing(options, [(_file(options.runs, name), partial(right_of, name, options.caltech)) for name in names])
    done = {name: json.loads(file.read_text()) for name in names if (file := _file(options.runs, name)).exists()}
    Path(__file__).with_name("clean.md").write_text(page(done, teachers), encoding="utf-8")


def _file(runs: Path, name: str) -> Path:
    return kept_file(runs, name) if name in ex.list_pairs() else runs / f"{name}.json"


def right_of(name: str, caltech: Path) -> Right:
    """The answers of all probes, on features of a student or, by the name of a backbone, of a teacher."""
    backbone = (
        ex.load_pair(name, device="cpu").student if name in ex.list_pairs() else ex.load_backbone(name, image_size=SIZE)
    )
    sets = [_pictures(caltech / "train").subset(per_class=LABELLED), _pictures(caltech / "test")]
    train, test = (np.array(ex.embed(backbone, images, precision="bfloat16", cache=False).embedding) for images in sets)
    labels, wanted = (np.array(images.labels) for images in sets)
    return {kind: (fit_on_features(kind, train, labels).predict(test) == wanted).tolist() for kind in PROBES}


@cache
def _pictures(folder: Path) -> ex.ImageSet:
    return ex.load_images(folder, size=SIZE)


def page(done: dict[str, Right], teachers: dict[str, str]) -> str:
    """One table: a row for each student, a column for each probe."""
    rows = {name: done[name] for name, teacher in teachers.items() if name in done and teacher in done}
    lost = {
        name: {kind: compare_paired(right[kind], done[teachers[name]][kind]) for kind in PROBES}
        for name, right in rows.items()
    }
    too_much = [
        f"{name} ({kind})" for name, each in lost.items() for kind, found in each.items() if found.difference < -MOST
    ]
    pictures = len(next(iter(done.values()))["knn"])
    lines = [
        "# What students lose on clean pictures\n",
        "Made by `python docs/measure_clean.py CALTECH RUNS`: a probe on a student's features of **clean** pictures of "
        f"Caltech-101, which no student saw, in place of the teacher's; {pictures:,} test pictures at {SIZE} px, "
        f"{LABELLED} labelled ones of each of the 101 classes, bfloat16. Teacher's accuracy → student's, and the "
        "paired difference in points with its 95 % bootstrap interval. The probes are those of "
        "[the protocol](results.md).\n",
        f"The aim, at most {100 * MOST:.0f} points, is missed by {', '.join(too_much)}."
        if too_much
        else f"None of these loses more than the {100 * MOST:.0f} points that are the aim.",
        *(f"Not measured yet: {name}." for name in teachers if name not in rows),
        "",
        f"| student | {' | '.join(PROBES)} |",
        "|---|" + "---|" * len(PROBES),
    ]
    for name, right in rows.items():
        before = done[teachers[name]]
        cells = [_cell(np.mean(before[kind]), np.mean(right[kind]), lost[name][kind]) for kind in PROBES]
        lines.append(f"| [{name}](students.md#{name}) | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(before: float, after: float, found: PairedDifference) -> str:
    points = (f"{100 * value:+.1f}" for value in (found.difference, found.low, found.high))
    return "{:.3f} → {:.3f}: {} ({} to {})".format(before, after, *points)


if __name__ == "__main__":
    main()
