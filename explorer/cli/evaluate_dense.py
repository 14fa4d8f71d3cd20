"""`vit-explorer evaluate-dense`: semantic segmentation by frozen patch features."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.cli.parts import PROGRAM, Command, progress
from explorer.cli.results import (
    check_options,
    deliver,
    distortion_argument,
    limit_argument,
    measuring_arguments,
    pair_argument,
    pair_of,
    progress_bar,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_HELP = f"""\
How well patch features tell what stands where, for teacher and student, clean and distorted: mean intersection over
union (mIoU) of semantic segmentation, with 95 % bootstrap intervals over the test pictures.

miou: a linear probe on frozen patch features, fitted for each view.
propagation_miou: each patch takes the class that most of the nearest patches of the teacher's clean training pictures
have; nothing is learned.

TRAIN and TEST are folders that hold images/ and masks/, with files of the same names but for their endings. Masks are
PNG files of one channel, whose values are class numbers, and 255 for none; classes.csv (the columns value and name), in
the folder or beside it, names them.

examples:
  {PROGRAM} evaluate-dense s14-noise coco/train coco/test
  {PROGRAM} evaluate-dense runs/noise coco/train coco/test --draws 3 --csv dense.csv --figure dense.png
  {PROGRAM} evaluate-dense s14-noise coco/train coco/test --distortion "pixel_mask(fraction=0.5)" --json dense.json
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    pair_argument(parser)
    parser.add_argument("train", metavar="TRAIN", type=Path, help="pictures and masks to learn from")
    parser.add_argument("test", metavar="TEST", type=Path, help="others to test on")
    limit_argument(parser)
    measuring_arguments(parser)
    distortion_argument(parser)
    parser.add_argument("--draws", type=int, default=1, help="draws of the distortion (default: %(default)s)")


def _evaluate_dense(options: argparse.Namespace) -> None:
    check_options(options)
    with progress("looking for pictures and masks"):
        from explorer.data.masks import load_segmented

        train, test = (load_segmented(folder, limit=options.limit) for folder in (options.train, options.test))
    pair = pair_of(options)
    from explorer.evaluation.dense import evaluate_dense

    with progress_bar("pictures") as told:
        found = evaluate_dense(
            pair,
            train,
            test,
            options.draws,
            options.seed,
            distortion=options.distortion,
            batch_size=options.batch_size,
            progress=told,
        )
    protocols = {"linear": found.linear, "propagation": found.propagation}
    gaps = {name: protocol.gap_closed for name, protocol in protocols.items()}
    about = {"gap_closed": gaps, "distortion": found.distortion.spec, "seed": found.seed}
    about["by_class"] = json.loads(found.by_class().to_json(orient="records"))

    def draw() -> "Figure":
        from explorer.plots.segmentation import plot_segmentation

        return plot_segmentation(found)

    table = found.frame()
    shown = table.drop(columns=["draws", "train_pictures", "test_pictures"])
    deliver(options, pair, (train.images, test.images), table, about, draw, shown=shown)
    for name, gap in gaps.items():
        print(f"gap closed, {name}: " + ("no gap" if gap is None else f"{gap:.3f}"))


COMMAND = Command(
    name="evaluate-dense",
    summary="semantic segmentation by frozen patch features",
    help=_HELP,
    add_arguments=_arguments,
    run=_evaluate_dense,
)
