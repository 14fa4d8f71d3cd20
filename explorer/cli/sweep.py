"""`vit-explorer sweep`: agreement by strength of a distortion."""

import argparse
from typing import TYPE_CHECKING

from explorer.cli.parts import (
    PROGRAM,
    Command,
)
from explorer.cli.results import (
    beside,
    check_options,
    deliver,
    images_of,
    numbers_list,
    pair_of,
    progress_bar,
    shared_arguments,
    students_argument,
    twins_argument,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_SWEEP_HELP = f"""\
How far teacher and student drift from what the teacher sees in the clean pictures, as one distortion grows. --student
puts up to three other students of the same teacher beside the one of PAIR.

examples:
  {PROGRAM} sweep s14-noise
  {PROGRAM} sweep s14-noise --values 0.1,0.3,0.5 --limit 100 --csv noise.csv --figure noise.png
  {PROGRAM} sweep s14-noise --distortion "gaussian_blur(kernel=37)"         another one than it was trained on
  {PROGRAM} sweep s14-noise --parameter severity                           ImageNet-C, 1 to 5
  {PROGRAM} sweep s14-noise --student s14-mixture --student s14-common
  {PROGRAM} sweep s14-noise --images night/ --clean day/                   real pairs: one point
"""


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    shared_arguments(parser, limit=64)
    students_argument(parser)
    twins_argument(parser)
    parser.add_argument("--distortion", metavar="SPEC", help="one operator (default: the first that was learned)")
    parser.add_argument(
        "--values", type=numbers_list, metavar="A,B,…", help="strengths (default: seven, weak to strong)"
    )
    parser.add_argument("--parameter", metavar="NAME", help="what the values are; severity for ImageNet-C's levels")


def _sweep(options: argparse.Namespace) -> None:
    check_options(options)
    pair = pair_of(options)
    pairs = beside(options, pair)
    images = images_of(options, options.images, options.split, pair, options.clean)
    from explorer.evaluation.sweeping import strengths_for, sweep_steps

    learned = next((step.name for branch in pair.distortion.branches for step in branch), None)
    distortion = options.distortion or (learned if images.clean is None else None)
    strengths = strengths_for(images, distortion, options.values, options.parameter)
    with progress_bar("pictures") as told:
        for swept in sweep_steps(pairs, images, strengths, seed=options.seed, batch_size=options.batch_size):
            told(swept.pictures, swept.total)

    def draw() -> "Figure":
        from explorer.plots.evaluation import plot_sweep

        return plot_sweep(swept)

    specs = {name: damage.spec for name, damage in swept.learned.items()}
    trained_on = specs if options.student else swept.trained_on.spec
    about = {"pictures": swept.pictures, "seed": swept.seed, "trained_on": trained_on}
    deliver(options, pairs, (images,), swept.frame(), {**about, "nearest_label_clean": swept.ceiling}, draw)
    if swept.never_trained and not options.student:
        print(f"the student was never trained on {swept.operator}, but on {swept.trained_on.spec}")


COMMAND = Command(
    name="sweep",
    summary="agreement by strength of a distortion",
    help=_SWEEP_HELP,
    add_arguments=_sweep_arguments,
    run=_sweep,
)
