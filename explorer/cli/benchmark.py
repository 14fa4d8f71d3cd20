"""`vit-explorer benchmark`: every common corruption at every severity, on one sheet."""

import argparse
from typing import TYPE_CHECKING

from explorer.cli.parts import PROGRAM, Command, on_error, progress
from explorer.cli.results import (
    beside,
    check_options,
    deliver,
    numbers_list,
    pair_of,
    probe_argument,
    progress_bar,
    shared_arguments,
    students_argument,
)

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from explorer.data.sets import ImageSet
    from explorer.evaluation.benchmarking import Benchmark
    from explorer.models.pairs import Pair

_BENCHMARK_HELP = f"""\
How far teacher and student drift from what the teacher sees in the clean pictures, under the 15 common corruptions of
ImageNet-C and its four extras, at severities 1 to 5. --student puts up to three other students of the same teacher
beside the one of PAIR.

"error" is what a network loses of its agreement (1 - CLS cosine), summed over the severities, as a share of what the
teacher loses: 0 is the clean teacher, 1 the damaged one. It is not ImageNet-C's mCE, which divides classification
errors by AlexNet's. What is finished is kept: a run that was stopped goes on.

examples:
  {PROGRAM} benchmark s14-common
  {PROGRAM} benchmark s14-common --size 112 --limit 100 --csv sheet.csv --json sheet.json --figure sheet.png
  {PROGRAM} benchmark s14-noise --student s14-blur --student s14-common --corruptions fog,snow --severities 1,3,5
  {PROGRAM} benchmark s14-common --images pets/ --split val --train pets/ --train-split train --probe linear
"""


def _benchmark_arguments(parser: argparse.ArgumentParser) -> None:
    shared_arguments(parser, limit=64)
    students_argument(parser)
    parser.add_argument(
        "--corruptions",
        metavar="A,B,…",
        default="common",
        help="common (19), imagenet-c (15), or names (default: %(default)s)",
    )
    parser.add_argument(
        "--severities", type=numbers_list, metavar="A,B,…", default=(1, 2, 3, 4, 5), help="(default: 1,2,3,4,5)"
    )
    parser.add_argument("--train", metavar="SOURCE", help="labelled pictures to fit a probe on, which gives accuracy")
    parser.add_argument("--train-split", metavar="NAME", help="the part of --train to take")
    probe_argument(parser)
    parser.add_argument("--no-cache", action="store_true", help="neither read nor keep finished cells")


def _benchmark(options: argparse.Namespace) -> None:
    check_options(options)
    pair = pair_of(options)
    pairs = beside(options, pair)
    images = _images(options, pair, options.images, options.split, options.limit)
    train = None if options.train is None else _images(options, pair, options.train, options.train_split)
    from explorer.evaluation.benchmarking import benchmark

    asked = options.corruptions if "," not in options.corruptions else options.corruptions.split(",")
    with progress_bar("views") as told:
        found = benchmark(
            pairs,
            images,
            asked,
            options.severities,
            seed=options.seed,
            train=train,
            probe=options.probe,
            batch_size=options.batch_size,
            cache=not options.no_cache,
            progress=told,
        )

    def draw() -> "Figure":
        from explorer.plots.evaluation import plot_benchmark

        return plot_benchmark(found)

    sets = (images,) if train is None else (images, train)
    deliver(options, pairs, sets, found.frame(), {**found.about(), "mean_error": found.mean_error}, draw, _shown(found))
    print(found.summary().to_string(index=False, float_format="{:.3f}".format, na_rep="-"))


def _images(
    options: argparse.Namespace, pair: "Pair", source: str, split: str | None, limit: int | None = None
) -> "ImageSet":
    with progress(f"looking for pictures in {source}"):
        from explorer.data.sources import load_images

        read = {"split": split, "on_error": on_error(options), "labels": options.labels}
        return load_images(source, pair.teacher.image_size, limit, **read)


def _shown(found: "Benchmark") -> "pandas.DataFrame":
    """A row for each corruption: every network's CLS cosine, averaged over the severities, and the students' errors."""
    cosines = found.frame().groupby(["corruption", "view"], sort=False)["cls_cosine"].mean().unstack(sort=False)
    errors = found.errors().pivot(index="corruption", columns="view", values="error").reindex(cosines.index)
    table = cosines.add_suffix(" CLS cosine").join(errors[list(found.learned)].add_suffix(" error"))
    return table.reset_index()


COMMAND = Command(
    name="benchmark",
    summary="all common corruptions by severity",
    help=_BENCHMARK_HELP,
    add_arguments=_benchmark_arguments,
    run=_benchmark,
)
