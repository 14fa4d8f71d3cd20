"""Where a student helps and where it is worse than its teacher: every shipped student under every damage, on embedded
photos, which none of them was trained on; writes docs/limits.md:

    python docs/find_failures.py RUNS [--photos 30] [--share 0/2] [--report]

Compared is agreement with the clean teacher, photo by photo: the student's on damaged pictures minus the teacher's on
the same. RUNS keeps what is finished; start it again, and it goes on; `--share 0/2` and `1/2` let two
processes work side by side.
"""

import argparse
import json
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import make_missing, sharing_options

import explorer as ex
from explorer.analysis.measures import MEASURES
from explorer.distortions import COMMON_CORRUPTIONS
from explorer.evaluation.intervals import compare_paired

SEED = 1000  # a draw that no student has met in training
BATCH = 5
NUMBERS = [MEASURES[name] for name in ("cls_cosine", "patch_cosine", "attention_js")]
CLEAN = "none"
DAMAGES = [  # and the common corruptions
    CLEAN,
    *(f"gaussian_noise(sigma={sigma})" for sigma in (0.1, 0.3, 0.5)),
    *(f"pixel_mask(fraction={fraction})" for fraction in (0.5, 0.75, 0.9)),
    *(f"gaussian_blur(kernel={kernel}, sigma={sigma})" for kernel, sigma in ((21, 5), (37, 9))),
    "patch_mask(fraction=0.5)",
]
SEVERITIES = {"s14": (1, 3, 5), "clip-b16": (3,)}  # CLIP's take five times as long
SIZES = {"s14": (112, 448), "clip-b16": (112,)}  # beside the one trained at
AT_OTHER_SIZES = (
    "gaussian_noise(sigma=0.3)",
    "pixel_mask(fraction=0.75)",
    "gaussian_blur(kernel=21, sigma=5)",
    "snow:3",
)

HEAD = """# When it does not work

Made by `python docs/find_failures.py RUNS`: every shipped student under every damage, {photos} shipped photos (no
student was trained on them), one draw of the damage (seed {seed}). Each cell is agreement with the clean teacher's view
of the same photo, the teacher's on damaged pictures → the student's. ✓ the student is nearer, ✗ it is farther: the 95 %
bootstrap interval of the paired difference over the photos lies on that side of 0; no mark: within chance. Of {cells}
pairs of student and damage, {better} are better in all three numbers, and {worse} are worse in at least one.
"""

Found = dict[str, dict[str, list[float]]]
"""Who looks -> number -> its value for each photo."""


def main() -> None:
    """Measure what is missing, then write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    sharing_options(parser)
    parser.add_argument("--photos", type=int, default=30)
    options = parser.parse_args()
    files = [f"{backbone}-{size}-{damage.replace(' ', '')}.json" for size, damage, backbone in _work()]
    makes = [partial(measured, *asked, options.photos) for asked in _work()]
    make_missing(options, [(options.runs / name, make) for name, make in zip(files, makes, strict=True)])
    rows = [json.loads(file.read_text()) for file in sorted(options.runs.glob("*.json"))]
    Path(__file__).with_name("limits.md").write_text(report(rows), encoding="utf-8")


def _work() -> list[tuple[int, str, str]]:
    """(image size, damage, backbone), what says most first."""
    backbones = sorted({name.rpartition("-")[0] for name in ex.list_pairs()}, reverse=True)
    work = []
    for backbone in backbones:
        common = [f"{name}:{severity}" for name in COMMON_CORRUPTIONS for severity in SEVERITIES[backbone]]
        work += [(224, damage, backbone) for damage in DAMAGES + common]
        work += [(size, damage, backbone) for size in SIZES[backbone] for damage in AT_OTHER_SIZES]
    return work


def measured(size: int, damage: str, backbone: str, count: int) -> dict[str, Any]:
    """Teacher and all of its students under one damage: what was asked, and `Found`."""
    lookers = _lookers(size, backbone)
    photos = ex.load_images("photos", size=size, limit=count)
    found: Found = {who: {number.name: [] for number in NUMBERS} for who in lookers}
    for start in range(0, len(photos), BATCH):
        indices = range(start, min(start + BATCH, len(photos)))
        clean = photos.stack(indices)
        distorted = ex.distortion(damage)(clean, seed=SEED, indices=indices)
        reference = lookers["teacher"].trace(clean, layers=range(-4, 0))
        for who, looker in lookers.items():
            agreed = ex.alignment(reference, looker.trace(distorted, layers=range(-4, 0)))
            for number in NUMBERS:
                found[who][number.name] += agreed.per_image[number.name].tolist()
    return {"backbone": backbone, "size": size, "damage": damage, "found": found}


@lru_cache(maxsize=1)  # the damages of one size follow each other
def _lookers(size: int, backbone: str) -> dict[str, ex.Backbone]:
    teacher = ex.load_backbone(backbone, image_size=size)
    names = [name for name in ex.list_pairs() if name.rpartition("-")[0] == backbone]
    return {"teacher": teacher, **{name: ex.load_pair(name, teacher=teacher).student for name in names}}


def report(rows: list[dict[str, Any]]) -> str:
    """The page: for each student what it makes worse, and a table of all that was measured."""
    photos = len(rows[0]["found"]["teacher"]["cls_cosine"])
    cells = [cell for row in rows for cell in _cells(row)]
    worse = [cell for cell in cells if "behind" in cell["verdicts"] and cell["damage"] != CLEAN]
    clean = [cell for cell in cells if cell["damage"] == CLEAN]
    better = [cell for cell in cells if cell["verdicts"] == {"ahead"}]
    lines = [
        HEAD.format(photos=photos, seed=SEED, cells=len(cells) - len(clean), better=len(better), worse=len(worse)),
        "## Clean pictures: what a student gives up\n",
        *_table(clean),
        "\n## Damage under which a student is worse than its teacher\n",
        *_table(sorted(worse, key=lambda cell: cell["nearer"]["cls_cosine"].difference)),
        "\n## Everything that was measured\n",
        *_table(cells),
    ]
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A student's numbers beside its teacher's: before, after, and whether it is nearer to the reference."""
    teacher = row["found"]["teacher"]
    cells = []
    for student in row["found"].keys() - {"teacher"}:
        cell = {
            "student": student,
            "size": row["size"],
            "damage": row["damage"],
            "before": {},
            "after": {},
            "nearer": {},
        }
        for number in NUMBERS:
            before, after = (np.array(who[number.name]) for who in (teacher, row["found"][student]))
            cell["before"][number.name], cell["after"][number.name] = before.mean(), after.mean()
            cell["nearer"][number.name] = compare_paired(number.better * after, number.better * before)
        cell["verdicts"] = {compared.verdict for compared in cell["nearer"].values()}
        cells.append(cell)
    return sorted(cells, key=lambda cell: cell["student"])


def _table(cells: list[dict[str, Any]]) -> list[str]:
    labels = " | ".join(number.label for number in NUMBERS)
    lines = [f"| student | px | damage | {labels} |", "|---|---:|---|" + "---:|" * len(NUMBERS)]
    for cell in cells:
        numbers = []
        for name, compared in cell["nearer"].items():
            mark = {"ahead": " ✓", "level": "", "behind": " ✗"}[compared.verdict]
            numbers.append(f"{cell['before'][name]:.2f} → {cell['after'][name]:.2f}{mark}")
        lines.append(f"| {cell['student']} | {cell['size']} | `{cell['damage']}` | {' | '.join(numbers)} |")
    return lines


if __name__ == "__main__":
    main()
