"""Measures what probes see through the shipped students, and writes docs/probes.md:

    python docs/measure_probes.py CALTECH RUNS [NAME …] [--share 0/2] [--report]

Probes are fitted on clean features of Caltech-101 (CALTECH has folders train and test, with a folder for each class),
those of the teacher and those of the student, and read clean test pictures and damaged ones; the teacher's also read
damaged ones that were restored. RUNS keeps what is finished; start it again, and it goes on.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from measure_students import DAMAGES
from measuring import kept_file, make_missing, sharing_options

import explorer as ex
from explorer.evaluation.intervals import compare_paired
from explorer.evaluation.probes import PROBES

LABELLED = 10  # pictures of each class that probes are fitted on
MOST = 0.02  # that a student may lose on clean pictures
LEAST = 0.5  # of the gap that it should close

Found = dict[str, dict[str, Any]]
"""Kind of probe -> "accuracy" of each view and of the teacher on "restored" pictures, "gap" with its "interval", and
how far the student is ahead of the teacher, with the ends of its interval: "clean", and "restored", where the teacher
has restored pictures and the student damaged ones."""


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("caltech", type=Path)
    sharing_options(parser)
    parser.add_argument("names", nargs="*", help="students; all unless given")
    options = parser.parse_args()
    files = {case: _file(options.runs, *case) for case in cases(ex.list_pairs())}
    make_missing(
        options,
        [
            (file, partial(found_of, *case, options.caltech))
            for case, file in files.items()
            if not options.names or case[0] in options.names
        ],
    )
    done = {case: json.loads(file.read_text()) for case, file in files.items() if file.exists()}
    Path(__file__).with_name("probes.md").write_text(page(done), encoding="utf-8")


def cases(names: list[str]) -> Iterator[tuple[str, str]]:
    """Each student and the damage that it is measured under: its own, or each of a mixture."""
    for name in names:
        kind = name.rpartition("-")[2]
        for damage in DAMAGES if kind == "mixture" else [kind]:
            yield name, DAMAGES.get(damage, "random_corruption")


def _file(runs: Path, name: str, damage: str) -> Path:
    kept = kept_file(runs, name)
    return kept.with_stem(f"{kept.stem}-{damage.partition('(')[0]}")


def found_of(name: str, damage: str, caltech: Path) -> Found:
    """What each kind of probe finds in the four views, and in restored pictures."""
    pair = ex.load_pair(name, device="cpu")
    train, test = _pictures(caltech / "train").subset(per_class=LABELLED), _pictures(caltech / "test")
    restored = ex.restored_pair(pair.teacher)
    way: dict[str, Any] = {"distortion": damage, "fit": "clean", "precision": "bfloat16"}
    found = {}
    for kind in PROBES:
        seen, mended = (ex.evaluate(each, train, test, kind, **way) for each in (pair, restored))
        right = {view: rows[0] for view, rows in seen.right.items()}
        right["restored"] = mended.right["student_distorted"][0]
        found[kind] = {
            "accuracy": {view: float(of.mean()) for view, of in right.items()},
            "gap": seen.gap_closed,
            "interval": seen.gap_interval,
            "pictures": seen.test_pictures,
            "clean": _difference(right["student_clean"], right["teacher_clean"]),
            "restored": _difference(right["student_distorted"], right["restored"]),
        }
    return found


def _difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    paired = compare_paired(first, second)
    return paired.difference, paired.low, paired.high


@cache
def _pictures(folder: Path) -> ex.ImageSet:
    return ex.load_images(folder)


def page(done: dict[tuple[str, str], Found]) -> str:
    """A table of clean pictures and one of damaged ones: a column for each kind of probe."""
    clean = {name: found for (name, _), found in done.items()}  # it is the same under all damages of a student
    losing = [f"{name} ({kind})" for name, found in clean.items() for kind in PROBES if found[kind]["clean"][0] < -MOST]
    leaving = [
        f"{name} under `{damage}` ({kind})"
        for (name, damage), found in done.items()
        for kind in PROBES
        if (gap := found[kind]["gap"]) is not None and gap < LEAST
    ]
    pictures = next((found[PROBES[0]]["pictures"] for found in done.values()), 0)
    missing = [f"{name} under `{damage}`" for name, damage in cases(ex.list_pairs()) if (name, damage) not in done]
    lines = [
        "# What probes see through the shipped students\n",
        'Made by `python docs/measure_probes.py CALTECH RUNS`, by `ex.evaluate(…, fit="clean")`: probes are fitted on '
        f"**clean** features of Caltech-101, which no student saw, {LABELLED} labelled pictures of each class, on the "
        f"teacher's and on the student's; they read {pictures:,} clean test pictures, and the same damaged (224 px, "
        "one draw, bfloat16). Intervals are 95 % bootstrap intervals over the test pictures. Probes that are fitted "
        "under each damage, and rivals: [results.md](results.md).\n",
        *([f"Not measured yet: {', '.join(missing)}.\n"] if missing else []),
        "## Clean pictures: what a student gives up\n",
        "Teacher's accuracy → student's, and the paired difference in points. "
        f"More than {100 * MOST:.0f} points are lost by {', '.join(losing) or 'none'}.\n",
        f"| student | {' | '.join(PROBES)} |",
        "|---|" + "---|" * len(PROBES),
        *(f"| {_link(name)} | {_cells(found, _lost)} |" for name, found in clean.items()),
        "\n## Damaged pictures: how much of the gap is closed\n",
        "Teacher's accuracy → student's, of the teacher's on clean pictures: the share that the student closes of the "
        f"teacher's gap. Less than half of it is closed by {', '.join(leaving) or 'none'}.\n",
        f"| student | damage | {' | '.join(PROBES)} |",
        "|---|---|" + "---|" * len(PROBES),
        *(f"| {_link(name)} | `{damage}` | {_cells(found, _closed)} |" for (name, damage), found in done.items()),
        "\n## Or restoring the picture first?\n",
        "The teacher's accuracy on pictures that were restored by somebody who was told nothing of the damage "
        "(`explorer.baselines.restoration.restore_blind` estimates from each picture which pixels are missing, how "
        "much noise there is and how wide edges are) → the student's on the damaged ones, and the paired difference in "
        f"points. {_verdicts(done)}\n",
        f"| student | damage | {' | '.join(PROBES)} |",
        "|---|---|" + "---|" * len(PROBES),
        *(f"| {_link(name)} | `{damage}` | {_cells(found, _ahead)} |" for (name, damage), found in done.items()),
    ]
    return "\n".join(lines) + "\n"


def _link(name: str) -> str:
    return f"[{name}](students.md#{name})"


def _cells(found: Found, text: Callable[[dict[str, Any]], str]) -> str:
    return " | ".join(text(found[kind]) for kind in PROBES)


def _verdicts(done: dict[tuple[str, str], Found]) -> str:
    """In how many cells the student is ahead, level and behind."""
    ends = [found[kind]["restored"][1:] for found in done.values() for kind in PROBES]
    ahead, behind = sum(low > 0 for low, _ in ends), sum(high < 0 for _, high in ends)
    return (
        f"Of {len(ends)} cells the student is ahead in {ahead}, behind in {behind}, and level, where the interval "
        f"holds 0, in {len(ends) - ahead - behind}."
    )


def _lost(of: dict[str, Any]) -> str:
    return _change(of, "teacher_clean", "student_clean", "clean")


def _ahead(of: dict[str, Any]) -> str:
    return _change(of, "restored", "student_distorted", "restored")


def _change(of: dict[str, Any], before: str, after: str, difference: str) -> str:
    points = (f"{100 * value:+.1f}" for value in of[difference])
    return "{:.3f} → {:.3f}: {} ({} to {})".format(*(of["accuracy"][view] for view in (before, after)), *points)


def _closed(of: dict[str, Any]) -> str:
    seen = of["accuracy"]
    told = f"{seen['teacher_distorted']:.3f} → {seen['student_distorted']:.3f} of {seen['teacher_clean']:.3f}"
    if of["interval"] is None:
        return f"{told}: no gap"
    low, high = of["interval"]
    return f"{told}: {of['gap']:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
