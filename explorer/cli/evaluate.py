"""`vit-explorer evaluate`: accuracy of probes on frozen features."""

import argparse
from typing import TYPE_CHECKING

from explorer.cli.parts import (
    PROGRAM,
    Command,
    part,
)
from explorer.cli.results import (
    check_options,
    deliver,
    distortion_argument,
    images_of,
    pair_of,
    probe_argument,
    progress_bar,
    shared_arguments,
    twins_argument,
)
from explorer.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from explorer.evaluation.evaluation import Evaluation


_EVALUATE_HELP = f"""\
How many pictures a probe on frozen features classifies rightly, for teacher and student, clean and distorted.

The pictures need labels: one folder for each class, or --labels. Without --test and --test-split a part
of --images is held out.
Features may be whitened first, so that every direction of them counts alike, which helps some backbones.
"gap closed" is (student distorted - teacher distorted) / (teacher clean - teacher distorted).

examples:
  {PROGRAM} evaluate s14-noise
  {PROGRAM} evaluate s14-noise --probe linear --fraction 0.1 --draws 10 --csv noise.csv --figure noise.png
  {PROGRAM} evaluate s14-noise --images night/ --clean day/      pictures that are damaged already, by class
  {PROGRAM} evaluate runs/noise --images train/ --test test/ --fit teacher_clean
  {PROGRAM} evaluate runs/noise --images pets/ --split train --test-split val      where pets/ holds train/ and val/
  {PROGRAM} evaluate s14-noise --images pictures/ --labels labels.csv      a file with the columns file,label
"""


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    shared_arguments(parser)
    distortion_argument(parser)
    twins_argument(parser)
    parser.add_argument("--test-clean", metavar="SOURCE", help="the same for --test")
    parser.add_argument("--test", metavar="SOURCE", help="pictures to test on (default: a part of --images)")
    parser.add_argument("--test-split", metavar="NAME", help="the part of --test, or without it of --images, to take")
    parser.add_argument(
        "--held-out",
        type=part,
        default=0.5,
        help="share of --images to test on, without --test and --test-split (default: %(default)s)",
    )
    probe_argument(parser)
    parser.add_argument("--fraction", type=float, default=1.0, help="share of the labels (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=3, help="draws of the distortion (default: %(default)s)")
    parser.add_argument(
        "--fit",
        choices=("own", "clean", "teacher_clean"),
        default="own",
        help="a probe for each view; one for each network, of its clean pictures; or one of the clean teacher for all "
        "(default: %(default)s)",
    )


def _evaluate(options: argparse.Namespace) -> None:
    check_options(options)
    if options.test_clean is not None and options.test is None:
        raise InputError("--test-clean has the clean twins of --test; without --test, --clean has them all")
    pair = pair_of(options)
    images = images_of(options, options.images, options.split, pair, options.clean)
    sets = [images]
    if options.test is not None or options.test_split is not None:
        twins = options.clean if options.test is None else options.test_clean
        sets.append(images_of(options, options.test or options.images, options.test_split, pair, twins))
    train, test = sets if len(sets) == 2 else images.split(1 - options.held_out, seed=options.seed)
    from explorer.evaluation.evaluation import evaluate

    with progress_bar("pictures") as told:
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
    interval = found.gap_interval
    about = {"gap_closed": found.gap_closed, "gap_interval": interval, "probe": found.probe, "fit": found.fit}
    about["distortion"] = found.distortion.spec

    def draw() -> "Figure":
        from explorer.plots.evaluation import plot_evaluation

        return plot_evaluation(found)

    deliver(options, pair, sets, found.frame(), about, draw)
    print(f"gap closed: {_told(found, interval)}")


def _told(found: "Evaluation", interval: tuple[float, float] | None) -> str:
    """How much of the gap is closed, and how far that carries."""
    if found.gap_closed is None:
        return "no gap"
    if interval is None:
        return f"{found.gap_closed:.3f}, but {found.test_pictures} test pictures are too few to say that there is a gap"
    low, high = interval
    return (
        f"{found.gap_closed:.3f} (95 % interval over the {found.test_pictures} test pictures: {low:.3f} to {high:.3f})"
    )


COMMAND = Command(
    name="evaluate",
    summary="accuracy of probes on frozen features",
    help=_EVALUATE_HELP,
    add_arguments=_evaluate_arguments,
    run=_evaluate,
)
