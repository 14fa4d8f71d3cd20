"""`vit-explorer compare`: one picture, clean and distorted, as a figure, numbers and a page.

The picture is clean, and damaged here; or it is damaged already, with its clean twin or without one.
"""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.analysis.measures import AGREEMENT, MEASURES
from explorer.cli.parts import (
    DASH,
    PROGRAM,
    RESTORED,
    Command,
    add_backbone_arguments,
    as_table,
    check_outputs,
    existing_file,
    file_or_folder,
    head_choice,
    load,
    output,
    print_written,
    progress,
    student_named,
    write,
)
from explorer.cli.results import progress_bar, students_names
from explorer.errors import InputError
from explorer.version import __version__

if TYPE_CHECKING:
    import explorer.evaluation.patch_probes
    import explorer.inspection.comparison
    import explorer.models.backbones

_COMPARE_HELP = f"""\
Look at one picture clean and distorted, and see what becomes of the attention.

Writes a figure: the picture, the attention maps of the clean and of the distorted one under one colour scale, and
their difference. Prints how well the distorted view agrees with the reference, which is the teacher on the clean
picture. Without a trained student the student is the untouched copy of the teacher; --student may be given up to four
times. A picture that is damaged already is compared with its clean twin (--clean), onto which it is moved; or, where
there is none (--no-clean), student and teacher are compared with each other on it, and nothing is measured against a
truth. --html writes a page, too: the interactive views of attention and patches in one file below 2 MB, which needs
neither server nor network.

examples:
  {PROGRAM} compare cat.jpg
  {PROGRAM} compare cat.jpg --distortion "gaussian_blur(kernel=21, sigma=5)" --out figures/
  {PROGRAM} compare cat.jpg --distortion pixel_mask --layer 8 --head 3
  {PROGRAM} compare cat.jpg --student s14-noise --show matches
  {PROGRAM} compare cat.jpg --student s14-noise
  {PROGRAM} compare cat.jpg --student s14-noise --html cat.html
  {PROGRAM} compare cat.jpg --student s14-noise --student s14-mixture
  {PROGRAM} compare cat.jpg --distortion "gaussian_noise:3 + patch_mask(fraction=0.5, patch=16)" --json cat.json
  {PROGRAM} compare night.jpg --clean day.jpg --student s14-noise
  {PROGRAM} compare night.jpg --no-clean --student s14-noise --nearest photos
  {PROGRAM} compare cat.jpg --backbone clip-b16 --size 448 --out cat-448.png --force
"""


_PATCHES = ("pca", "foreground", "clusters", "matches", "classes", "norms")


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    spec = (
        'what damages it: "name", "name(parameter=value)", "name:3" for ImageNet-C severity 1 to 5, "a + b" for both '
    )
    parser.add_argument("image", metavar="IMAGE", type=Path, help="a picture file")
    damaging = parser.add_mutually_exclusive_group()
    damaging.add_argument(
        "--distortion", metavar="SPEC", default="gaussian_noise(sigma=0.3)", help=f"{spec}(default: %(default)s)"
    )
    damaging.add_argument("--clean", metavar="FILE", type=Path, help="IMAGE is damaged, and this is its clean twin")
    damaging.add_argument("--no-clean", action="store_true", help="IMAGE is damaged, and there is no clean one")
    parser.add_argument(
        "--no-align", action="store_true", help="take IMAGE as it lies, and do not move it onto its clean twin"
    )
    parser.add_argument(
        "--student",
        metavar="PAIR",
        action="append",
        help=f"a shipped pair (see `{PROGRAM} pairs`), a run's folder, or {RESTORED}: the teacher, on restored "
        "pictures; none: untouched; may be repeated",
    )
    parser.add_argument(
        "--nearest", metavar="PICTURES", help="also tell the nearest of these clean pictures: photos, a folder or a zip"
    )
    parser.add_argument(
        "--show",
        choices=("attention", *_PATCHES),
        default="attention",
        help="what the figure shows; matches of patches are told in numbers, too (default: %(default)s)",
    )
    parser.add_argument(
        "--patch-probe",
        metavar="FILE",
        type=existing_file,
        help="what tells the classes of patches (fit_patch_probe(…).save(FILE)); none: the one that comes with s14",
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
    if options.no_align and options.clean is None:
        raise InputError("--no-align needs --clean FILE, onto which IMAGE would be moved otherwise")
    if options.patch_probe is not None and options.show != "classes":
        raise InputError("--patch-probe says what --show classes shows; add that, or leave it out")
    names = students_names(options.student or [])
    for kept in (options.image, options.clean):
        check_outputs({"--out": figure_file, "--json": options.json, "--html": options.html}, options.force, keep=kept)
    with progress("loading"):
        from explorer import compare, distortion, load_image
        from explorer.data.image import check_image
        from explorer.models.students import network_and_kind
    given = options.no_clean or options.clean is not None
    if given:
        for picture in filter(None, (options.image, options.clean)):
            check_image(picture)
        clean, damage = options.clean, options.image
    else:
        damage = distortion(options.distortion)
        clean = load_image(options.image, size=options.size)
    backbone = load(options)
    probe = _patch_probe(backbone, options)
    student = _students(options, names, backbone)
    with progress(f"looking at {options.image.name} with {backbone.name}"):
        comparison = compare(backbone, clean, damage, student, seed=options.seed, align=not options.no_align)
    nearest = _nearest(options, backbone, comparison) if options.nearest else {}
    with progress("drawing"):
        write(figure_file, _figure_bytes(comparison, probe, options))
    if options.json:
        write(options.json, _numbers_bytes(comparison, backbone, options, nearest))
    if options.html:
        with progress("making the page"):
            write(options.html, _page_bytes(comparison, options))
    _print_comparison(comparison, backbone)
    for view, share in _right_matches(comparison, options).items():
        print(f"{', '.join(network_and_kind(view))}: {share:.0%} of the patches are found within one patch")
    for view, found in nearest.items():
        told = ", ".join(f"{each['name']} {each['cosine']:.2f}" for each in found)
        print(f"{', '.join(network_and_kind(view))}, is nearest to: {told}")
    print_written(figure_file, options.json, options.html)


def _right_matches(
    comparison: "explorer.inspection.comparison.Comparison", options: argparse.Namespace
) -> dict[str, float]:
    """For each view but the reference, where they are asked for."""
    if options.show != "matches":
        return {}
    return {view: matches.share_right for view, matches in comparison.matches(options.layer).items()}


def _nearest(
    options: argparse.Namespace,
    teacher: "explorer.models.backbones.Backbone",
    comparison: "explorer.inspection.comparison.Comparison",
) -> dict[str, list[dict[str, Any]]]:
    from explorer.data.sources import load_images
    from explorer.inspection.neighbours import nearest_pictures

    images = load_images(options.nearest, size=teacher.image_size)
    with progress_bar("pictures") as told:
        found = nearest_pictures(teacher, comparison, images, progress=told)
    return {view: [asdict(each) for each in neighbours] for view, neighbours in found.items()}


def _students(
    options: argparse.Namespace, names: list[str], teacher: "explorer.models.backbones.Backbone"
) -> "explorer.models.backbones.Backbone | dict[str, explorer.models.backbones.Backbone] | None":
    students = [student_named(pair, teacher).student for pair in options.student or []]
    if names:
        return dict(zip(names, students, strict=True))
    return students[0] if students else None


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


def _patch_probe(
    backbone: "explorer.models.backbones.Backbone", options: argparse.Namespace
) -> "explorer.evaluation.patch_probes.PatchProbe | None":
    """What tells classes, where they are asked for."""
    if options.show != "classes":
        return None
    from explorer.evaluation.patch_probes import load_patch_probe, shipped_patch_probe

    own = options.patch_probe
    probe = shipped_patch_probe(backbone.sha256) if own is None else load_patch_probe(own, backbone)
    if probe is None:
        raise InputError(
            f"no patch probe comes with '{backbone.name}': fit one with fit_patch_probe, save it, and name its file by "
            f"--patch-probe"
        )
    return probe


def _figure_bytes(
    comparison: "explorer.inspection.comparison.Comparison",
    probe: "explorer.evaluation.patch_probes.PatchProbe | None",
    options: argparse.Namespace,
) -> bytes:
    from explorer import plots

    if options.show == "attention":
        return plots.to_png(plots.plot_comparison(comparison, options.layer, options.head))
    if probe is not None:
        return plots.to_png(plots.plot_classes(comparison, probe))
    return plots.to_png(getattr(plots, f"plot_{options.show}")(comparison, layer=options.layer))


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
    nearest: dict[str, Any],
) -> bytes:
    from explorer.system.files import readable

    made_from = {
        "image": readable(options.image.name),
        "clean_image": options.clean and readable(options.clean.name),
        "backbone": backbone.name,
        "weights": backbone.source,
        "weights_sha256": backbone.sha256,
        "student": _told_student(options),
        "image_size": list(backbone.height_width),
        "version": __version__,
    }
    numbers = comparison.numbers(options.layer, options.head)
    made_from |= {"nearest": nearest} if nearest else {}
    if right := _right_matches(comparison, options):
        made_from["right_matches"] = right
    return (json.dumps({**numbers, **made_from}, indent=1, allow_nan=False) + "\n").encode()


def _told_student(options: argparse.Namespace) -> str | list[str] | None:
    """The pair, or several of them, as they were given."""
    from explorer.system.files import readable

    given = [readable(pair) for pair in options.student or []]
    return given if len(given) > 1 else given[0] if given else None


def _print_comparison(
    comparison: "explorer.inspection.comparison.Comparison", backbone: "explorer.models.backbones.Backbone"
) -> None:
    against = "against the reference" if comparison.clean is not None else "against the teacher"
    tables = [as_table(_rows(comparison, against, _columns(comparison)))]
    if comparison.named and comparison.clean is not None:
        undamaged = {f"{name}_clean": name for name in comparison.students}
        tables.append(as_table(_rows(comparison, f"{against}, clean", undamaged)))
    note = f"{comparison.note}\n" if comparison.note else ""
    told = "\n\n".join(tables)
    print(f"{backbone.source}\n{comparison.distortion.told(comparison.seed)}\n{note}\n{told}\n")


def _columns(comparison: "explorer.inspection.comparison.Comparison") -> dict[str, str]:
    """Alignment -> heading. Students with names have their clean views in a table of their own."""
    if comparison.named:
        return {name: name for name in comparison.networks if name in comparison.alignments}
    student = "student (untouched)" if comparison.untouched else "student"
    columns = {"teacher": "teacher", "student": student, "student_clean": "student clean"}
    if comparison.untouched:
        del columns["student_clean"]
    return {name: heading for name, heading in columns.items() if name in comparison.alignments}


def _rows(
    comparison: "explorer.inspection.comparison.Comparison", corner: str, columns: dict[str, str]
) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [(corner, *columns.values())]
    for measure in map(MEASURES.__getitem__, AGREEMENT):
        values = [measure.told(comparison.alignments[name].as_dict()[measure.name]) for name in columns]
        nearer = "higher" if measure.better > 0 else "lower"
        rows.append((f"{measure.label} ({nearer} is nearer)", *values))
    return rows


COMMAND = Command(
    name="compare",
    summary="one picture, clean and distorted, as a figure and numbers",
    help=_COMPARE_HELP,
    add_arguments=_compare_arguments,
    run=_compare,
)
