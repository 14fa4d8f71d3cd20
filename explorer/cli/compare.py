"""`vit-explorer compare`: one picture, clean and distorted, as a figure, numbers and a page."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.analysis.measures import AGREEMENT, MEASURES
from explorer.cli.parts import (
    DASH,
    PROGRAM,
    Command,
    add_backbone_arguments,
    as_table,
    check_outputs,
    file_or_folder,
    head_choice,
    load,
    output,
    print_written,
    progress,
    write,
)
from explorer.errors import InputError
from explorer.version import __version__

if TYPE_CHECKING:
    import explorer.inspection.comparison
    import explorer.models.backbones


_COMPARE_HELP = f"""\
Look at one picture clean and distorted, and see what becomes of the attention.

Writes a figure: the picture, the attention maps of the clean and of the distorted one under one colour scale, and
their difference. Prints how well the distorted view agrees with the reference, which is the teacher on the clean
picture. Without a trained student the student is the untouched copy of the teacher. --html writes a page, too: the
interactive views of attention and patches in one file below 2 MB, which needs neither server nor network.

examples:
  {PROGRAM} compare cat.jpg
  {PROGRAM} compare cat.jpg --distortion "gaussian_blur(kernel=21, sigma=5)" --out figures/
  {PROGRAM} compare cat.jpg --distortion pixel_mask --layer 8 --head 3
  {PROGRAM} compare cat.jpg --student s14-noise
  {PROGRAM} compare cat.jpg --student s14-noise --html cat.html
  {PROGRAM} compare cat.jpg --distortion "gaussian_noise:3 + patch_mask(fraction=0.5, patch=16)" --json cat.json
  {PROGRAM} compare cat.jpg --backbone clip-b16 --size 448 --out cat-448.png --force
"""


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    spec = (
        'what damages it: "name", "name(parameter=value)", "name:3" for ImageNet-C severity 1 to 5, "a + b" for both '
    )
    parser.add_argument("image", metavar="IMAGE", type=Path, help="a picture file")
    parser.add_argument(
        "--distortion", metavar="SPEC", default="gaussian_noise(sigma=0.3)", help=f"{spec}(default: %(default)s)"
    )
    parser.add_argument(
        "--student", metavar="PAIR", help=f"a shipped pair (see `{PROGRAM} pairs`) or a run's folder; none: untouched"
    )
    parser.add_argument("--layer", type=int, default=-1, help="block, negative from the last (default: %(default)s)")
    parser.add_argument("--head", type=head_choice, default="mean", help="number, mean or max (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the distortion (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=file_or_folder,
        metavar="DIR_OR_PNG",
        help="where the figure goes: a .png file; a folder that is there, has no dot in its name, or ends in / "
        "(default: ./IMAGE-compare.png)",
    )
    parser.add_argument("--json", type=output, metavar="FILE", help=f"write the numbers and the maps here, too{DASH}")
    parser.add_argument(
        "--html", type=output, metavar="FILE", help="write the interactive views here, too, as one page"
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    add_backbone_arguments(parser)


def _compare(options: argparse.Namespace) -> None:
    figure_file = _figure_file(options)
    check_outputs(
        {"--out": figure_file, "--json": options.json, "--html": options.html}, options.force, keep=options.image
    )
    with progress("loading"):
        from explorer import compare, distortion, load_image
    damage = distortion(options.distortion)
    picture = load_image(options.image, size=options.size)
    backbone = load(options)
    student = _student(options, backbone)
    with progress(f"looking at {options.image.name} with {backbone.name}"):
        comparison = compare(backbone, picture, damage, student, seed=options.seed)
    with progress("drawing"):
        write(figure_file, _figure_bytes(comparison, options))
    if options.json:
        write(options.json, _numbers_bytes(comparison, backbone, options))
    if options.html:
        with progress("making the page"):
            write(options.html, _page_bytes(comparison, options))
    _print_comparison(comparison, backbone)
    print_written(figure_file, options.json, options.html)


def _student(
    options: argparse.Namespace, teacher: "explorer.models.backbones.Backbone"
) -> "explorer.models.backbones.Backbone | None":
    if options.student is None:
        return None
    with progress(f"loading {options.student}"):
        from explorer.models.pairs import load_pair

        return load_pair(options.student, teacher=teacher).student


def _figure_file(options: argparse.Namespace) -> Path:
    from explorer.system.files import is_stream

    name = f"{options.image.stem}-compare.png"
    out: Path | str | None = options.out
    if out is None:
        return Path(name)
    if isinstance(out, str):
        return Path(out, name)
    if is_stream(out):
        return out
    if out.is_dir() or not out.suffix:
        return out / name
    if out.suffix.lower() != ".png":
        raise InputError(f"--out takes a file that ends in .png, or a folder, written as '{out}{os.sep}'; got '{out}'")
    return out


def _figure_bytes(comparison: "explorer.inspection.comparison.Comparison", options: argparse.Namespace) -> bytes:
    from explorer import plots

    return plots.to_png(plots.plot_comparison(comparison, options.layer, options.head))


def _page_bytes(comparison: "explorer.inspection.comparison.Comparison", options: argparse.Namespace) -> bytes:
    from explorer.scenes.pages import page
    from explorer.system.files import readable

    settings = {"layer": options.layer, "head": options.head}
    title = f"{readable(options.image.name)}: {comparison.distortion.spec}"
    return page(comparison, title=title, settings=settings).encode()


def _numbers_bytes(
    comparison: "explorer.inspection.comparison.Comparison",
    backbone: "explorer.models.backbones.Backbone",
    options: argparse.Namespace,
) -> bytes:
    from explorer.system.files import readable

    made_from = {
        "image": readable(options.image.name),
        "backbone": backbone.name,
        "weights": backbone.source,
        "weights_sha256": backbone.sha256,
        "student": options.student and readable(options.student),
        "image_size": list(backbone.height_width),
        "version": __version__,
    }
    numbers = comparison.numbers(options.layer, options.head)
    return (json.dumps({**numbers, **made_from}, indent=1, allow_nan=False) + "\n").encode()


def _print_comparison(
    comparison: "explorer.inspection.comparison.Comparison", backbone: "explorer.models.backbones.Backbone"
) -> None:
    students = ("student (untouched)",) if comparison.untouched else ("student", "student clean")
    columns = [comparison.alignments[name].as_dict() for name in ("teacher", "student", "student_clean")]
    rows: list[tuple[str, ...]] = [("against the reference", "teacher", *students)]
    for measure in map(MEASURES.__getitem__, AGREEMENT):
        values = [measure.told(column[measure.name]) for column in columns]
        nearer = "higher" if measure.better > 0 else "lower"
        rows.append((f"{measure.label} ({nearer} is nearer)", *values[: len(students) + 1]))
    print(f"{backbone.source}\n{comparison.distortion.spec}, seed {comparison.seed}\n\n{as_table(rows)}\n")


COMMAND = Command(
    name="compare",
    summary="one picture, clean and distorted, as a figure and numbers",
    help=_COMPARE_HELP,
    add_arguments=_compare_arguments,
    run=_compare,
)
