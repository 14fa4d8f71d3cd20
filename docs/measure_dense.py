"""What patch features are worth under damage, and what patches and attention bring beyond the embedding, on pictures
with masks; writes docs/dense.md, and RUNS/dense.jpg, which shows pictures of COCO and is not for sharing:

    python docs/measure_dense.py COCO IMAGES RUNS

COCO holds train/ and test/, each as `vit-explorer evaluate-dense` takes it; IMAGES are other pictures, without labels,
from which two students learn by the recipe of `DistillConfig`: one at all three levels, one at the global level alone.
RUNS keeps the students.
"""

import argparse
from pathlib import Path
from statistics import mean

from measure_students import DAMAGES
from tqdm import tqdm
from train_students import LOADED, MIXTURE, SMALL

import explorer as ex
from explorer import plots
from explorer.data.masks import load_segmented
from explorer.evaluation.dense import DenseEvaluation, Segmentation

STEPS, MEASURED_AT, SEED = 240, 224, 0  # px
STUDENTS: dict[str, dict[str, float]] = {"three levels": {}, "global level": {"patch": 0.0, "attention": 0.0}}
HERE = Path(__file__).parent

HEAD = """# What patches are worth under damage

Made by `python docs/measure_dense.py COCO IMAGES RUNS`: {train} pictures of COCO to learn from and {test} others to
test on, with coarse masks of {classes} classes, at {size} px; one draw of the damage. Mean intersection over union, in
brackets its 95 % bootstrap interval over the test pictures (`ex.evaluate_dense`, `vit-explorer evaluate-dense`).
*Linear*: a linear probe on frozen patch features, fitted for each column under the same damage. *Propagation*: each
patch takes the class of the nearest patches of the teacher's **clean** training pictures; nothing is learned.

Both students learned from the same {pictures:,} other pictures without labels: {steps} steps of {batch} at {learned}
px, by the recipe of `DistillConfig`, one at all three levels, one at the level of the global embedding alone, under
`{mixture}`.
The last column is their paired difference, and the interval of it. The command leaves the masks of a few pictures, side
by side, in RUNS/dense.jpg (`plots.plot_segmentation`): the pictures are not ours to share.
"""


def main() -> None:
    """Train whom there is not yet, measure both, and write the page and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("coco", "images", "runs"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    options = parser.parse_args()
    train, test = (load_segmented(options.coco / part) for part in ("train", "test"))
    for name in STUDENTS:
        _learn(options.images, _run(options.runs, name), name)
    pairs = {name: ex.load_pair(_run(options.runs, name), image_size=MEASURED_AT) for name in STUDENTS}
    found = {
        damage: {
            name: ex.evaluate_dense(pair, train, test, seed=SEED, distortion=damage) for name, pair in pairs.items()
        }
        for damage in tqdm(DAMAGES.values())
    }
    (HERE / "dense.md").write_text(_page(found, pairs["three levels"]), encoding="utf-8")
    image = plots.to_image(plots.plot_segmentation(found[DAMAGES["noise"]]["three levels"]))
    image.convert("RGB").save(options.runs / "dense.jpg", quality=85)


def _run(runs: Path, name: str) -> Path:
    return runs / name.replace(" ", "-")


def _learn(images: Path, run: Path, name: str) -> None:
    config = ex.DistillConfig(
        distortion=MIXTURE, steps=STEPS, image_size=SMALL, precision="bfloat16", seed=SEED, **STUDENTS[name]
    )
    pictures, teacher = ex.load_images(images, size=LOADED[SMALL]), ex.load_backbone("s14", image_size=SMALL)
    for _ in tqdm(ex.distill(teacher, pictures, config, run, resume=True), total=STEPS, desc=name):
        pass


def _page(found: dict[str, dict[str, DenseEvaluation]], pair: ex.Pair) -> str:
    one = found[DAMAGES["noise"]]["three levels"]
    config, data = pair.card["config"], pair.card["data"]
    lines = [
        HEAD.format(
            train=one.train_pictures,
            test=len(one.test),
            classes=len(one.classes),
            size=MEASURED_AT,
            pictures=data["pictures"],
            steps=config["steps"],
            batch=config["batch_size"],
            learned=SMALL,
            mixture=MIXTURE,
        )
    ]
    for protocol in ("linear", "propagation"):
        columns = "clean teacher | teacher | global level | three levels | gap closed | three levels - global level"
        lines += [f"## {protocol.capitalize()}\n", f"| damage | {columns} |", "|---|" + "---:|" * 6]
        for damage, students in found.items():
            ours, alone = (getattr(students[name], protocol) for name in STUDENTS)
            lines.append(f"| `{damage}` | {' | '.join(_cells(ours, alone))} |")
        lines.append("")
    return "\n".join(lines)


def _cells(ours: Segmentation, alone: Segmentation) -> list[str]:
    """A row of a table."""
    views = [(ours, "teacher_clean"), (ours, "teacher_distorted"), (alone, "student_distorted")]
    cells = [_with(mean(of.miou[view]), of.interval(view)) for of, view in [*views, (ours, "student_distorted")]]
    closed = "" if ours.gap_closed is None else f"{ours.gap_closed:.2f}"
    return [*cells, closed, _with(*ours.difference("student_distorted", "student_distorted", alone), sign="+")]


def _with(value: float, interval: tuple[float, float], sign: str = "") -> str:
    low, high = interval
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


if __name__ == "__main__":
    main()
