"""`vit-explorer embed`: where pictures lie, clean and distorted."""

import argparse
import json
from typing import TYPE_CHECKING

from explorer.cli.parts import (
    PROGRAM,
    Command,
    progress,
)
from explorer.cli.results import (
    beside,
    check_options,
    deliver,
    distortion_argument,
    images_of,
    pair_of,
    progress_bar,
    shared_arguments,
    students_argument,
    twins_argument,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_EMBED_HELP = f"""\
Where pictures lie: a table of their places on a map that is fitted on the clean pictures as the teacher sees them, in
four views, and how far the damage moves each of them in feature space. --student puts up to three other students of
the same teacher beside the one of PAIR.

Features are kept in your cache folder; with several GPUs: accelerate launch -m explorer embed …; with several
processes on CPUs: torchrun --nproc_per_node 2 -m explorer embed …

examples:
  {PROGRAM} embed s14-noise --csv places.csv
  {PROGRAM} embed s14-noise --method umap --figure places.png
  {PROGRAM} embed s14-noise --student s14-mixture --distortion fog:3
  {PROGRAM} embed s14-noise --images night/ --clean day/      pictures that are damaged already: night/1.jpg, day/1.png
  {PROGRAM} embed runs/noise --images pictures/ --distortion "pixel_mask(fraction=0.5)" --json places.json
"""


def _embed_arguments(parser: argparse.ArgumentParser) -> None:
    shared_arguments(parser)
    students_argument(parser)
    distortion_argument(parser)
    twins_argument(parser)
    parser.add_argument("--method", choices=("pca", "umap"), default="pca", help="(default: %(default)s)")
    parser.add_argument("--axes", type=int, choices=(2, 3), default=2, help="of the map (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode pictures (default: %(default)s)")


def _embed(options: argparse.Namespace) -> None:
    check_options(options)
    pair = pair_of(options)
    pairs = beside(options, pair)
    images = images_of(options, options.images, options.split, pair, options.clean)
    from explorer.evaluation.embedding import embed_pair
    from explorer.system.processes import is_first

    with progress_bar("views") as told:
        embedding = embed_pair(
            pairs,
            images,
            options.distortion,
            options.seed,
            batch_size=options.batch_size,
            workers=options.workers,
            progress=told,
        )
    if not is_first():
        return
    with progress(options.method):
        projection = embedding.project(options.method, options.axes, options.seed)

    def draw() -> "Figure":
        from explorer.plots.evaluation import plot_projection

        return plot_projection(projection)

    about = {"method": options.method, "distortion": embedding.distortion.spec, "seed": embedding.seed}
    measures = embedding.measures
    about["measures"] = json.loads(measures.to_json(orient="records"))
    deliver(options, pairs, (images,), embedding.named(projection.frame()), about, draw, shown=measures)


COMMAND = Command(
    name="embed",
    summary="where pictures lie, clean and distorted",
    help=_EMBED_HELP,
    add_arguments=_embed_arguments,
    run=_embed,
)
