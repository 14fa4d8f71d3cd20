"""What the commands that measure many pictures share: their arguments, and how a table is delivered.

Enters: options, a pair. Leaves: a table on the terminal, and in CSV and JSON files and a figure where asked for.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.cli.parts import (
    DASH,
    PROGRAM,
    RESTORED,
    add_skip_argument,
    check_outputs,
    on_error,
    output,
    print_skipped,
    print_written,
    progress,
    size,
    student_named,
    write,
)
from explorer.errors import InputError
from explorer.system.devices import check_device

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    import explorer.models.pairs
    import explorer.models.students


def shared_arguments(parser: argparse.ArgumentParser, limit: int | None = None) -> None:
    pair_argument(parser)
    sources = "photos (those of the project), a folder, a zip, {000..099}.tar, or a data set of torchvision"
    parser.add_argument("--images", metavar="SOURCE", default="photos", help=f"{sources} (default: %(default)s)")
    parser.add_argument("--split", metavar="NAME", help="the part of --images to take where it holds train/ and test/")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="a CSV file with the columns file and label")
    limit_argument(parser, limit)
    add_skip_argument(parser)
    measuring_arguments(parser)


def pair_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pair", metavar="PAIR", help=f"a shipped pair (see `{PROGRAM} pairs`) or a run's folder")


def probe_argument(parser: argparse.ArgumentParser) -> None:
    kinds = ("knn", "linear", "knn-whitened", "linear-whitened")
    parser.add_argument("--probe", choices=kinds, default="knn", help="(default: %(default)s)")


def limit_argument(parser: argparse.ArgumentParser, limit: int | None = None) -> None:
    parser.add_argument(
        "--limit", type=int, metavar="N", default=limit, help="use at most so many (default: %(default)s)"
    )


def measuring_arguments(parser: argparse.ArgumentParser) -> None:
    """How it is measured, and where it is written to."""
    parser.add_argument("--seed", type=int, default=0, help="of the distortion, and of choices (default: %(default)s)")
    parser.add_argument("--size", type=size, help="pixels a side (default: the size that it was trained at)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, … (default: %(default)s)")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="pictures in a forward pass (default: 8 on processors, 32 on GPUs)"
    )
    parser.add_argument("--csv", type=output, metavar="FILE", help=f"write the table here{DASH}")
    parser.add_argument("--json", type=output, metavar="FILE", help=f"write table and settings here{DASH}")
    parser.add_argument("--figure", type=output, metavar="PNG", help="write a figure here")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")


def students_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--student",
        metavar="PAIR",
        action="append",
        default=[],
        help=f"another one, beside it, or {RESTORED}: the teacher, on restored pictures; may be repeated",
    )


def twins_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clean", metavar="SOURCE", help="a folder or zip with the clean twins of --images, which are damaged already"
    )
    parser.add_argument("--align", action="store_true", help="move each damaged picture onto its clean twin")


def distortion_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--distortion", metavar="SPEC", help="what damages them (default: what the student learned)")


def check_options(options: argparse.Namespace) -> None:
    """Before any work: files can be written, the device is there."""
    check_outputs({"--csv": options.csv, "--json": options.json, "--figure": options.figure}, options.force)
    check_device(options.device)


def pair_of(options: argparse.Namespace) -> "explorer.models.pairs.Pair":
    with progress(f"loading {options.pair}"):
        from explorer.models.pairs import load_pair

        return load_pair(options.pair, image_size=options.size, device=options.device)


def students_names(given: Sequence[str]) -> list[str]:
    """What several students are called: their pairs' names, of a run's folder its last part; none for a single one."""
    if len(given) < 2:
        return []
    names = [Path(pair).name or pair for pair in given]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"several students need several names; got '{twice}' more than once")
    with progress("loading"):
        from explorer.models.students import check_names
    check_names(names)
    return names


def beside(options: argparse.Namespace, pair: "explorer.models.pairs.Pair") -> "explorer.models.students.Pairs":
    """The pair; or, with other students of its teacher, all of them by name."""
    names = students_names([options.pair, *options.student])
    others = [student_named(student, pair.teacher) for student in options.student]
    return dict(zip(names, [pair, *others], strict=True)) if others else pair


def images_of(
    options: argparse.Namespace,
    source: str,
    split: str | None,
    pair: "explorer.models.pairs.Pair",
    clean: str | None = None,
) -> "explorer.data.sets.ImageSet":
    with progress(f"looking for pictures in {source}"):
        from explorer.data.sources import load_images

        read = {"split": split, "on_error": on_error(options), "clean": clean, "labels": options.labels}
        # Where the other set alone has twins, it alone is aligned.
        align = options.align and (clean is not None or not getattr(options, "test_clean", None))
        return load_images(source, pair.teacher.image_size, options.limit, align=align, **read)


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, where a person is looking."""
    from tqdm import tqdm

    with tqdm(unit=f" {unit}", disable=None, leave=False, file=sys.stderr) as bar:

        def told(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield told


def deliver(
    options: argparse.Namespace,
    pair: "explorer.models.students.Pairs",
    sets: "Sequence[explorer.data.sets.ImageSet]",
    table: "pandas.DataFrame",
    about: dict[str, Any],
    draw: Callable[[], "Figure"],
    shown: "pandas.DataFrame | None" = None,
) -> None:
    """Print the table, write what was asked for, and say what was left out."""
    from explorer.models.students import named_pairs
    from explorer.system.files import readable

    pairs = named_pairs(pair)
    teacher, several = next(iter(pairs.values())).teacher, len(pairs) > 1
    given, digests = readable(options.pair), {name: one.student.sha256 for name, one in pairs.items()}
    model: dict[str, Any] = {"pair": given, "backbone": teacher.name, "weights": teacher.source}
    model |= {"weights_sha256": teacher.sha256, "student_sha256": digests if several else next(iter(digests.values()))}
    if several:
        model["pair"] = [given, *map(readable, options.student)]
    sources = "\n".join([teacher.source, *(one.student.source for one in pairs.values())])
    print(f"{sources}, {teacher.image_size} px\n")
    print((table if shown is None else shown).to_string(index=False, float_format="{:.3f}".format, na_rep="-"))
    print()
    if options.csv is not None:
        write(options.csv, table.to_csv(index=False).encode())
    if options.json is not None:
        rows = json.loads(table.to_json(orient="records"))
        if getattr(options, "skip_broken", False):  # not every command can
            about["skipped"] = [name for images in sets for name in images.skipped]
        whole = {**model, "image_size": list(teacher.height_width), **about, "rows": rows}
        write(options.json, (json.dumps(whole, indent=1, allow_nan=False) + "\n").encode())
    if options.figure is not None:
        from explorer.plots.style import to_png

        write(options.figure, to_png(draw()))
    print_written(options.csv, options.json, options.figure)
    print_skipped(*sets)


def numbers_list(text: str) -> tuple[int | float, ...]:
    try:
        return tuple(int(part) if part.strip().lstrip("-").isdigit() else float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers such as 0.1,0.3,0.5, got {text!r}") from None
