"""`vit-explorer predict`: the classes of pictures, as a probe that `fit-probe` wrote says them."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.cli.parts import (
    DASH,
    PROGRAM,
    Command,
    as_table,
    check_outputs,
    existing_file,
    model_named,
    output,
    print_written,
    progress,
    write,
)
from explorer.system.devices import check_device

if TYPE_CHECKING:
    import explorer.evaluation.predicting
    import explorer.models.backbones


_PREDICT_HELP = f"""\
What a probe of `{PROGRAM} fit-probe` sees in pictures: the likeliest classes of each, with their probabilities.

The backbone that the probe was fitted on is loaded by what the file says of it; a student of your own is named by
--student. The probabilities are those of its classes alone: a picture of something else is given one of them, too.

examples:
  {PROGRAM} predict night.jpg --probe probe.safetensors
  {PROGRAM} predict cat.jpg owl.jpg --probe probe.safetensors --top 3 --csv seen.csv
  {PROGRAM} predict cat.jpg --probe probe.safetensors --distortion "gaussian_noise(sigma=0.3)" --seed 1
  {PROGRAM} predict cat.jpg --probe own.safetensors --student runs/noise --json seen.json
"""


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", metavar="PICTURE", type=Path, nargs="+", help="a picture file")
    parser.add_argument("--probe", metavar="FILE", type=existing_file, required=True, help="what fit-probe wrote")
    parser.add_argument(
        "--student", metavar="PAIR", help="the student that it was fitted on: a pair, or a run's folder"
    )
    parser.add_argument("--top", type=int, metavar="N", default=5, help="classes that are shown (default: %(default)s)")
    parser.add_argument(
        "--distortion", metavar="SPEC", default="none", help="what damages the pictures first (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, … (default: %(default)s)")
    parser.add_argument("--csv", type=output, metavar="FILE", help=f"write the table here{DASH}")
    parser.add_argument("--json", type=output, metavar="FILE", help=f"write all probabilities here{DASH}")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")


def _predict(options: argparse.Namespace) -> None:
    outputs = {"--csv": options.csv, "--json": options.json}
    check_outputs(outputs, options.force, keep=options.probe, kept="the probe")
    for picture in options.pictures:
        check_outputs(outputs, options.force, keep=picture)
    check_device(options.device)
    with progress("loading"):
        from explorer.data.image import check_image
        from explorer.distortions import distortion
        from explorer.evaluation.predicting import likeliest

        damage = distortion(options.distortion)
        for picture in options.pictures:
            check_image(picture)
        probe = _probe(options)
    seen = []
    for picture in options.pictures:
        with progress(f"looking at {picture.name}"):
            seen.append(probe.probabilities(damage(_loaded(picture, probe), seed=options.seed))[0])
    best = [likeliest(probe.classes, row, options.top) for row in seen]
    rows = [
        {"picture": _name(picture), "rank": rank, "class": name, "probability": probability}
        for picture, shown in zip(options.pictures, best, strict=True)
        for rank, (name, probability) in enumerate(shown, start=1)
    ]
    print(f"{probe.backbone.source}, {probe.backbone.image_size} px\n")
    told = [(str(row["picture"]), str(row["class"]), f"{row['probability']:.3f}") for row in rows]
    print(as_table([("picture", "class", "probability"), *told]), end="\n\n")
    if options.csv is not None:
        import pandas

        write(options.csv, pandas.DataFrame(rows).to_csv(index=False).encode())
    if options.json is not None:
        named = [dict(zip(probe.classes, row.tolist(), strict=True)) for row in seen]
        files = zip(options.pictures, named, strict=True)
        pictures = [{"picture": _name(picture), "probabilities": row} for picture, row in files]
        whole = {**_about(probe), "distortion": damage.spec, "seed": options.seed, "pictures": pictures}
        write(options.json, (json.dumps(whole, indent=1, allow_nan=False) + "\n").encode())
    print_written(options.csv, options.json)


def _probe(options: argparse.Namespace) -> "explorer.evaluation.predicting.PictureProbe":
    from explorer.evaluation.predicting import load_probe, read_about

    about = read_about(options.probe)
    backbone = None
    if options.student is not None:
        height, width = about["image_size"]
        backbone = model_named(None, options.student, (height, width), options.device)
    return load_probe(options.probe, backbone, options.device)


def _loaded(picture: Path, probe: "explorer.evaluation.predicting.PictureProbe") -> Any:
    from explorer.data.image import load_image

    return load_image(picture, probe.backbone.image_size)[None]


def _name(picture: Path) -> str:
    from explorer.system.files import readable

    return readable(str(picture))


def _about(probe: "explorer.evaluation.predicting.PictureProbe") -> dict[str, Any]:
    backbone = probe.backbone
    model = {"backbone": backbone.name, "weights": backbone.source, "weights_sha256": backbone.sha256}
    fitted = {"fitted_on": probe.counts, "fitted_on_distortion": probe.distortion}
    return {**model, "image_size": list(backbone.height_width), **fitted}


COMMAND = Command(
    name="predict",
    summary="what a probe sees in pictures",
    help=_PREDICT_HELP,
    add_arguments=_predict_arguments,
    run=_predict,
)
