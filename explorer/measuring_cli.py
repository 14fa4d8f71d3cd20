"""The subcommands `evaluate`, `sweep` and `embed` of `vit-explorer`; `explorer.cli` registers them.

Enters and leaves: as in `explorer.cli`; a table goes to the terminal, and to CSV and JSON files and a figure where the
user asks for them. Like there, everything heavy is imported inside of the commands.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer import cli
from explorer.cli import PROGRAM, Command, progress

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    import explorer.data
    import explorer.pairs

_EVALUATE_HELP = f"""\
How many pictures a probe on frozen features classifies rightly, for teacher and student, clean and distorted.

The pictures need labels: one folder for each class, or --labels. Without --test and --test-split a part
of --images is held out.
"gap closed" is (student distorted - teacher distorted) / (teacher clean - teacher distorted).

examples:
  {PROGRAM} evaluate s14-noise
  {PROGRAM} evaluate s14-noise --probe linear --fraction 0.1 --draws 10 --csv noise.csv --figure noise.png
  {PROGRAM} evaluate runs/noise --images train/ --test test/ --fit teacher_clean
  {PROGRAM} evaluate runs/noise --images pets/ --split train --test-split val      where pets/ holds train/ and val/
  {PROGRAM} evaluate s14-noise --images pictures/ --labels labels.csv      a file with the columns file,label
"""

_SWEEP_HELP = f"""\
How far teacher and student drift from what the teacher sees in the clean pictures, as one distortion grows.

examples:
  {PROGRAM} sweep s14-noise
  {PROGRAM} sweep s14-noise --values 0.1,0.3,0.5 --limit 100 --csv noise.csv --figure noise.png
  {PROGRAM} sweep s14-noise --distortion "gaussian_blur(kernel=37)"         another one than it was trained on
  {PROGRAM} sweep s14-noise --parameter severity                           ImageNet-C, 1 to 5
"""

_EMBED_HELP = f"""\
Where pictures lie: a table of their places on a map that is fitted on the clean pictures as the teacher sees them, in
four views, and how far the damage moves each of them in feature space.

Features are kept in your cache folder; with several GPUs: accelerate launch -m explorer embed …; with several
processes on CPUs: torchrun --nproc_per_node 2 -m explorer embed …

examples:
  {PROGRAM} embed s14-noise --csv places.csv
  {PROGRAM} embed s14-noise --method umap --figure places.png
  {PROGRAM} embed runs/noise --images pictures/ --distortion "pixel_mask(fraction=0.5)" --json places.json
"""


# Arguments.


def _shared_arguments(parser: argparse.ArgumentParser, limit: int | None = None) -> None:
    parser.add_argument("pair", metavar="PAIR", help=f"a shipped pair (see `{PROGRAM} pairs`) or a run's folder")
    sources = "photos (those of the project), a folder, a zip, or a data set of torchvision"
    parser.add_argument("--images", metavar="SOURCE", default="photos", help=f"{sources} (default: %(default)s)")
    parser.add_argument("--split", metavar="NAME", help="the part of --images to take where it holds train/ and test/")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="a CSV file with the columns file and label")
    parser.add_argument(
        "--limit", type=int, metavar="N", default=limit, help="use at most so many (default: %(default)s)"
    )
    cli.add_skip_argument(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the distortion, and of choices (default: %(default)s)")
    parser.add_argument("--size", type=cli.size, help="pixels a side (default: the size that it was trained at)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, … (default: %(default)s)")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="pictures in a forward pass (default: 8 on processors, 32 on GPUs)"
    )
    parser.add_argument("--csv", type=cli.output, metavar="FILE", help=f"write the table here{cli.DASH}")
    parser.add_argument("--json", type=cli.output, metavar="FILE", help=f"write table and settings here{cli.DASH}")
    parser.add_argument("--figure", type=cli.output, metavar="PNG", help="write a figure here")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")


def _distortion_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--distortion", metavar="SPEC", help="what damages them (default: what the student learned)")


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    _shared_arguments(parser)
    _distortion_argument(parser)
    parser.add_argument("--test", metavar="SOURCE", help="pictures to test on (default: a part of --images)")
    parser.add_argument("--test-split", metavar="NAME", help="the part of --test, or without it of --images, to take")
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.5,
        help="share of --images to test on, without --test and --test-split (default: %(default)s)",
    )
    parser.add_argument("--probe", choices=("knn", "linear"), default="knn", help="(default: %(default)s)")
    parser.add_argument("--fraction", type=float, default=1.0, help="share of the labels (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=3, help="draws of the distortion (default: %(default)s)")
    parser.add_argument(
        "--fit",
        choices=("own", "teacher_clean"),
        default="own",
        help="a probe for each view, or one of the clean teacher for all (default: %(default)s)",
    )


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    _shared_arguments(parser, limit=64)
    parser.add_argument("--distortion", metavar="SPEC", help="one operator (default: the first that was learned)")
    parser.add_argument("--values", type=_numbers, metavar="A,B,…", help="strengths (default: seven, weak to strong)")
    parser.add_argument("--parameter", metavar="NAME", help="what the values are; severity for ImageNet-C's levels")


def _embed_arguments(parser: argparse.ArgumentParser) -> None:
    _shared_arguments(parser)
    _distortion_argument(parser)
    parser.add_argument("--method", choices=("pca", "umap"), default="pca", help="(default: %(default)s)")
    parser.add_argument("--axes", type=int, choices=(2, 3), default=2, help="of the map (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode pictures (default: %(default)s)")


# Commands.


def _evaluate(options: argparse.Namespace) -> None:
    _check(options)
    pair = _pair(options)
    images = _images(options, options.images, options.split, pair)
    sets = [images]
    if options.test is not None or options.test_split is not None:
        sets.append(_images(options, options.test or options.images, options.test_split, pair))
    train, test = sets if len(sets) == 2 else images.split(1 - options.held_out, seed=options.seed)
    from explorer.evaluation import evaluate

    with _bar("pictures") as told:
        found = evaluate(
            pair,
            train,
            test,
            options.probe,
            options.fraction,
            options.draws,
            options.seed,
            distortion=options.distortion,
            fit=options.fit,
            batch_size=options.batch_size,
            progress=told,
        )
    gap = {"gap_closed": found.gap_closed, "probe": found.probe, "fit": found.fit, "distortion": found.distortion.spec}

    def draw() -> "Figure":
        from explorer.charts import plot_evaluation

        return plot_evaluation(found)

    _deliver(options, pair, sets, found.frame(), gap, draw)
    print("gap closed: " + ("no gap" if found.gap_closed is None else f"{found.gap_closed:.3f}"))


def _sweep(options: argparse.Namespace) -> None:
    _check(options)
    pair = _pair(options)
    images = _images(options, options.images, options.split, pair)
    from explorer.sweeping import strengths_of, sweep_steps

    learned = next((step.name for branch in pair.distortion.branches for step in branch), "gaussian_noise")
    distortion = options.distortion or learned
    strengths = strengths_of(distortion, options.values, options.parameter)
    with _bar("pictures") as told:
        for swept in sweep_steps(pair, images, strengths, seed=options.seed, batch_size=options.batch_size):
            told(swept.pictures, swept.total)

    def draw() -> "Figure":
        from explorer.charts import plot_sweep

        return plot_sweep(swept)

    about = {"pictures": swept.pictures, "seed": swept.seed, "trained_on": swept.trained_on.spec}
    _deliver(options, pair, (images,), swept.frame(), {**about, "nearest_label_clean": swept.ceiling}, draw)
    if swept.never_trained:
        print(f"the student was never trained on {swept.operator}, but on {swept.trained_on.spec}")


def _embed(options: argparse.Namespace) -> None:
    _check(options)
    pair = _pair(options)
    images = _images(options, options.images, options.split, pair)
    from explorer.pair_embedding import embed_pair

    with _bar("views") as told:
        embedding = embed_pair(
            pair,
            images,
            options.distortion,
            options.seed,
            batch_size=options.batch_size,
            workers=options.workers,
            progress=told,
        )
    if os.environ.get("RANK", "0") != "0":
        return  # the first of several processes writes
    with progress(options.method):
        projection = embedding.project(options.method, options.axes, options.seed)

    def draw() -> "Figure":
        from explorer.charts import plot_projection

        return plot_projection(projection)

    about = {"method": options.method, "distortion": embedding.distortion.spec, "seed": embedding.seed}
    measures = embedding.measures
    about["measures"] = json.loads(measures.to_json(orient="records"))
    _deliver(options, pair, (images,), embedding.named(projection.frame()), about, draw, shown=measures)


# Parts.


def _check(options: argparse.Namespace) -> None:
    """Before any work: files can be written, the device is there."""
    cli.check_outputs({"--csv": options.csv, "--json": options.json, "--figure": options.figure}, options.force)
    cli.check_device(options.device)


def _pair(options: argparse.Namespace) -> "explorer.pairs.Pair":
    with progress(f"loading {options.pair}"):
        from explorer.pairs import load_pair

        return load_pair(options.pair, image_size=options.size, device=options.device)


def _images(
    options: argparse.Namespace, source: str, split: str | None, pair: "explorer.pairs.Pair"
) -> "explorer.data.ImageSet":
    with progress(f"looking for pictures in {source}"):
        from explorer.data import load_images
        from explorer.labels import read_labels

        load = partial(load_images, source, pair.teacher.image_size, split=split, on_error=cli.on_error(options))
        if options.labels is None:
            return load(limit=options.limit)
        labelled = read_labels(load(), options.labels)
        return labelled if options.limit is None else labelled[: options.limit]


@contextmanager
def _bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, where a person is looking."""
    from tqdm import tqdm

    with tqdm(unit=f" {unit}", disable=None, leave=False, file=sys.stderr) as bar:

        def told(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield told


def _deliver(
    options: argparse.Namespace,
    pair: "explorer.pairs.Pair",
    sets: "Sequence[explorer.data.ImageSet]",
    table: "pandas.DataFrame",
    about: dict[str, Any],
    draw: Callable[[], "Figure"],
    shown: "pandas.DataFrame | None" = None,
) -> None:
    """Print the table, write what was asked for, and say what was left out."""
    from explorer._files import readable

    teacher = pair.teacher
    model = {"pair": readable(options.pair), "backbone": teacher.name, "weights": teacher.source}
    model |= {"weights_sha256": teacher.sha256, "student_sha256": pair.student.sha256}
    print(f"{teacher.source}\n{pair.student.source}, {teacher.image_size} px\n")
    print((table if shown is None else shown).to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    print()
    if options.csv is not None:
        cli.write(options.csv, table.to_csv(index=False).encode())
    if options.json is not None:
        rows = json.loads(table.to_json(orient="records"))
        if options.skip_broken:
            about["skipped"] = [name for images in sets for name in images.skipped]
        whole = {**model, "image_size": list(teacher.height_width), **about, "rows": rows}
        cli.write(options.json, (json.dumps(whole, indent=1, allow_nan=False) + "\n").encode())
    if options.figure is not None:
        from explorer.plots import to_png

        cli.write(options.figure, to_png(draw()))
    cli.print_written(options.csv, options.json, options.figure)
    cli.print_skipped(*sets)


def _numbers(text: str) -> tuple[int | float, ...]:
    try:
        return tuple(int(part) if part.strip().lstrip("-").isdigit() else float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers such as 0.1,0.3,0.5, got {text!r}") from None


COMMANDS = (
    Command(
        name="evaluate",
        summary="accuracy of probes on frozen features",
        help=_EVALUATE_HELP,
        add_arguments=_evaluate_arguments,
        run=_evaluate,
    ),
    Command(
        name="sweep",
        summary="agreement by strength of a distortion",
        help=_SWEEP_HELP,
        add_arguments=_sweep_arguments,
        run=_sweep,
    ),
    Command(
        name="embed",
        summary="where pictures lie, clean and distorted",
        help=_EMBED_HELP,
        add_arguments=_embed_arguments,
        run=_embed,
    ),
)
