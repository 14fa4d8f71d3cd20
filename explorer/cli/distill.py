"""`vit-explorer distill`: train a student.

Ctrl-C ends a run after the step that it is in, with everything saved, and exit code 130; so does SIGTERM, with 143.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.cli.pairs import agreements
from explorer.cli.parts import (
    PROGRAM,
    Command,
    add_backbone_arguments,
    add_skip_argument,
    load,
    on_error,
    print_skipped,
    progress,
)
from explorer.cli.results import twins_argument
from explorer.errors import InputError
from explorer.training.config import DistillConfig

if TYPE_CHECKING:
    import explorer.training.records

_OPTIONS = [one for one in fields(DistillConfig) if "help" in one.metadata]
_DISTILL_HELP = f"""\
Train a student of a backbone to see in distorted pictures what its frozen teacher sees in the clean ones.

From the first step on the folder holds a pair: student.safetensors, card.json and history.jsonl. Ctrl-C (or SIGTERM, as
a machine sends it that is shut down) stops after the step that is being computed and saves; the same command with
--resume goes on, to the same result as if it had never been stopped. With several GPUs: accelerate launch -m explorer
distill …; with several processes on CPUs: torchrun --nproc_per_node 2 -m explorer distill …

examples:
  {PROGRAM} distill --steps 100 --out runs/noise
  {PROGRAM} distill --steps 100 --out runs/noise --resume
  {PROGRAM} distill --steps 100 --out runs/noise --tracker tensorboard    then: tensorboard --logdir runs
  {PROGRAM} distill --images night/ --clean day/ --distortion none --out runs/night      real pairs, named alike
  {PROGRAM} distill --images pictures/ --distortion "gaussian_blur(kernel=21, sigma=5)" --out runs/blur
  {PROGRAM} distill --distortion "none | gaussian_noise(sigma=0.1..0.4) | pixel_mask(fraction=0.5..0.9)" --out runs/mix
  {PROGRAM} distill --size 112 --trainable all --attention 0 --steps 300 --out runs/features
"""


def _distill_arguments(parser: argparse.ArgumentParser) -> None:
    sources = "photos (those of the project), a folder, a zip, {000..099}.tar, or a data set of torchvision"
    parser.add_argument("--images", metavar="SOURCE", default="photos", help=f"{sources} (default: %(default)s)")
    parser.add_argument("--split", metavar="NAME", help="the part of --images to take where it holds train/ and test/")
    twins_argument(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="use at most so many pictures")
    add_skip_argument(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("--resume", action="store_true", help="go on with the run that is in the folder")
    told = "a program that is told the run's numbers and maps: tensorboard, trackio or wandb; may be given again"
    parser.add_argument("--tracker", action="append", metavar="NAME", default=[], help=told)
    add_backbone_arguments(parser)
    for one in _OPTIONS:
        about: dict[str, Any] = {"action": "store_true", "help": one.metadata["help"]}
        if one.metadata["read"] is not bool:
            default = ",".join(map(str, one.default)) if isinstance(one.default, tuple) else one.default
            about = {"type": one.metadata["read"], "metavar": "X", "help": f"{about['help']} (default: {default})"}
        parser.add_argument(f"--{one.name.replace('_', '-')}", default=argparse.SUPPRESS, **about)


def _distill(options: argparse.Namespace) -> None:
    with progress("loading"):
        from explorer.system.processes import is_first
        from explorer.training.distillation import distill
        from explorer.training.trackers import checked
    checked(options.tracker)
    given = {one.name: getattr(options, one.name) for one in _OPTIONS if hasattr(options, one.name)}
    config = DistillConfig(image_size=options.size, **given)
    images = _images(options, config)
    backbone = load(options)
    try:
        records = distill(backbone, images, config, options.out, resume=options.resume, trackers=options.tracker)
    except FileExistsError as error:
        raise InputError(str(error).replace("resume=True", "--resume")) from error
    if not is_first():
        for _ in records:
            pass
        return
    print(f"{backbone.source}\n{config.distortion}, {len(images)} pictures, {config.trainable}", file=sys.stderr)
    with _stoppable() as stopped:
        _follow(records, config, stopped)
    print_skipped(images)
    if stopped:
        print(f"saved in '{options.out}'; go on with: {_resume_command()}", file=sys.stderr)
        raise KeyboardInterrupt(128 + stopped[0])
    print(f"{agreements([options.out])}\n\nwrote {options.out}")


def _images(options: argparse.Namespace, config: DistillConfig) -> "explorer.data.sets.ImageSet":
    """Somewhat larger than they are trained at, so that crops need not be enlarged."""
    from explorer.data.sources import load_images

    sides = (options.size, options.size) if isinstance(options.size, int) else options.size
    larger = round(sides[0] * 4 / 3), round(sides[1] * 4 / 3)
    with progress(f"looking for pictures in {options.images}"):
        size = sides if config.views == "fixed" else larger
        read = {"split": options.split, "on_error": on_error(options), "clean": options.clean, "align": options.align}
        return load_images(options.images, size, options.limit, **read)


def _follow(records: Iterator["explorer.training.records.Record"], config: DistillConfig, stopped: list[int]) -> None:
    """Show each record on standard error until the run ends or is to be stopped: a bar, or lines in a file."""
    from tqdm import tqdm

    with tqdm(total=config.steps, unit="step", disable=None, dynamic_ncols=True) as bar:
        agreement = ""
        for record in records:
            losses = " ".join(f"{name} {value:.3f}" for name, value in record.losses.items())
            if record.alignment is not None:
                numbers = record.alignment.as_dict().items()
                agreement = " ".join(f"{name} {value:.3f}" for name, value in numbers if value is not None)
            line = f"{losses} | {record.images_per_second:.1f} images/s"
            bar.update(record.step - bar.n)
            bar.set_postfix_str(f"loss {record.losses['loss']:.3f}")  # more would leave no room for the bar
            if record.alignment is not None:
                message = f"step {record.step}/{record.steps}: {line} | {agreement}"
                bar.write(message, file=sys.stderr)
            if stopped:
                records.close()  # type: ignore[attr-defined]
                return


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """A list that fills at the first Ctrl-C or SIGTERM, so that a step is not torn apart; the second one interrupts."""
    signals: list[int] = []

    def note(number: int, _frame: object) -> None:
        if signals:
            raise KeyboardInterrupt(128 + number)
        signals.append(number)
        print("\nstopping after this step; Ctrl-C again: at once", file=sys.stderr)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _resume_command() -> str:
    words = sys.argv[1:]
    return shlex.join([PROGRAM, *words, *([] if "--resume" in words else ["--resume"])])


COMMAND = Command(
    name="distill",
    summary="train a student",
    help=_DISTILL_HELP,
    add_arguments=_distill_arguments,
    run=_distill,
)
