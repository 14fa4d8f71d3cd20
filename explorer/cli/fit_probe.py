"""`vit-explorer fit-probe`: a linear probe on labelled pictures, as one file for `vit-explorer predict`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.cli.parts import (
    PROGRAM,
    Command,
    add_skip_argument,
    check_outputs,
    model_named,
    on_error,
    output,
    print_skipped,
    print_written,
    progress,
    size,
)
from explorer.cli.results import limit_argument, progress_bar
from explorer.system.devices import check_device

if TYPE_CHECKING:
    import explorer.data.sets
    import explorer.models.backbones


_FIT_PROBE_HELP = f"""\
Fit a linear probe on what a backbone, or a student, makes of labelled pictures, and keep it as one safetensors file,
which `{PROGRAM} predict` takes.

The pictures need labels: one folder for each class, or --labels. How often such a probe is right on pictures that it
has not seen, `{PROGRAM} evaluate --probe linear` measures.

examples:
  {PROGRAM} fit-probe pictures/ --out probe.safetensors
  {PROGRAM} fit-probe pictures/ --student s14-noise --out student.safetensors
  {PROGRAM} fit-probe pictures/ --student s14-noise --distortion "gaussian_noise(sigma=0.3)" --out student.safetensors
  {PROGRAM} fit-probe flat/ --labels labels.csv --out probe.safetensors      a file with the columns file,label
  {PROGRAM} fit-probe photos --backbone clip-b16 --out probe.safetensors     the photos of the project
"""


def _fit_probe_arguments(parser: argparse.ArgumentParser) -> None:
    sources = "photos (those of the project), a folder, a zip, {000..099}.tar, or a data set of torchvision"
    parser.add_argument("images", metavar="IMAGES", help=sources)
    parser.add_argument(
        "--out", metavar="FILE", type=output, required=True, help="write the probe here: FILE.safetensors"
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--backbone", metavar="NAME", help="alias or timm name of a plain ViT (default: s14)")
    model.add_argument("--student", metavar="PAIR", help=f"or a shipped pair (see `{PROGRAM} pairs`) or a run's folder")
    parser.add_argument("--size", type=size, default=224, help="pixels a side, or HEIGHTxWIDTH (default: %(default)s)")
    parser.add_argument("--split", metavar="NAME", help="the part of IMAGES to take where it holds train/ and test/")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="a CSV file with the columns file and label")
    limit_argument(parser, None)
    add_skip_argument(parser)
    parser.add_argument(
        "--distortion", metavar="SPEC", default="none", help="what damages the pictures first (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, … (default: %(default)s)")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="pictures in a forward pass (default: 8 on processors, 32 on GPUs)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite a file that is there")


def _fit_probe(options: argparse.Namespace) -> None:
    check_outputs({"--out": options.out}, options.force, endings={"--out": (".safetensors",)})
    check_device(options.device)
    images = _images(options)
    backbone = model_named(options.backbone or "s14", options.student, options.size, options.device)
    from explorer.evaluation.predicting import fit_probe

    chosen = {"batch_size": options.batch_size}
    with progress_bar("pictures") as told:
        probe = fit_probe(backbone, images, options.distortion, options.seed, progress=told, **chosen)
    probe.save(options.out)
    counts = ", ".join(f"{name} ({count})" for name, count in sorted(probe.counts.items()))
    damaged = "" if probe.distortion == "none" else f", damaged by {probe.distortion}"
    print(f"{backbone.source}, {backbone.image_size} px\n{len(probe.classes)} classes{damaged}: {counts}")
    print_written(options.out)
    print_skipped(images)


def _images(options: argparse.Namespace) -> "explorer.data.sets.ImageSet":
    with progress(f"looking for pictures in {options.images}"):
        from explorer.data.sources import load_images
        from explorer.distortions import distortion
        from explorer.evaluation.predicting import class_names

        distortion(options.distortion)  # before the work
        read = {"split": options.split, "on_error": on_error(options), "labels": options.labels}
        images = load_images(options.images, options.size, options.limit, **read)
        class_names(images)
        return images


COMMAND = Command(
    name="fit-probe",
    summary="a linear probe on labelled pictures, kept as a file",
    help=_FIT_PROBE_HELP,
    add_arguments=_fit_probe_arguments,
    run=_fit_probe,
)
