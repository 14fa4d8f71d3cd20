"""`vit-explorer distill`: train a student.

Ctrl-C ends a run after the step that it is in, with everything saved, and exit code 130; so does SIGTERM, with 143.
"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

if TYPE_CHECKING:
    import explorer.training.config
    import explorer.training.distillation


_DISTILL_HELP = f"""\
Train a student of a backbone to see in distorted pictures what its frozen teacher sees in the clean ones.

From the first step on the folder holds a pair: student.safetensors, card.json and history.jsonl. Ctrl-C (or SIGTERM, as
a machine sends it that is shut down) stops after the step that is being computed and saves; the same command with
--resume goes on, to the same result as if it had never been stopped. With several GPUs: accelerate launch -m explorer
distill …; with several processes on CPUs: torchrun --nproc_per_node 2 -m explorer distill …

examples:
  {PROGRAM} distill --steps 100 --out runs/noise
  {PROGRAM} distill --steps 100 --out runs/noise --resume
  {PROGRAM} distill --images pictures/ --distortion "gaussian_blur(kernel=21, sigma=5)" --out runs/blur
  {PROGRAM} distill --distortion "none | gaussian_noise(sigma=0.1..0.4) | pixel_mask(fraction=0.5..0.9)" --out runs/mix
  {PROGRAM} distill --size 112 --trainable all --attention 0 --steps 300 --out runs/features
"""


def _distill_arguments(parser: argparse.ArgumentParser) -> None:
    sources = "photos (those of the project), a folder, a zip, or a data set of torchvision"
    parser.add_argument("--images", metavar="SOURCE", default="photos", help=f"{sources} (default: %(default)s)")
    parser.add_argument("--split", metavar="NAME", help="the part of --images to take where it holds train/ and test/")
    parser.add_argument("--limit", type=int, metavar="N", help="use at most so many pictures")
    add_skip_argument(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("--resume", action="store_true", help="go on with the run that is in the folder")
    add_backbone_arguments(parser)
    for name, (reader, text) in FIELDS.items():
        flag = f"--{name.replace('_', '-')}"
        if reader is bool:
            parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=text)
        else:
            parser.add_argument(flag, type=reader, metavar="X", default=argparse.SUPPRESS, help=text)


def _distill(options: argparse.Namespace) -> None:
    with progress("loading"):
        from explorer.training.config import DistillConfig
        from explorer.training.distillation import distill
    given = {name: getattr(options, name) for name in FIELDS if hasattr(options, name)}
    config = DistillConfig(image_size=options.size, **given)
    images = _images(options, config)
    backbone = load(options)
    records = distill(backbone, images, config, options.out, resume=options.resume)
    if not _first_process():
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


def _images(
    options: argparse.Namespace, config: "explorer.training.config.DistillConfig"
) -> "explorer.data.sets.ImageSet":
    """Somewhat larger than they are trained at, so that crops need not be enlarged."""
    from explorer.data.sources import load_images

    sides = (options.size, options.size) if isinstance(options.size, int) else options.size
    larger = round(sides[0] * 4 / 3), round(sides[1] * 4 / 3)
    with progress(f"looking for pictures in {options.images}"):
        size = sides if config.views == "fixed" else larger
        return load_images(options.images, size, options.limit, split=options.split, on_error=on_error(options))


def _follow(
    records: Iterator["explorer.training.distillation.Record"],
    config: "explorer.training.config.DistillConfig",
    stopped: list[int],
) -> None:
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
            bar.set_postfix_str(line)
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


def _first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


# How options are written.


def _blocks(text: str) -> int | tuple[int, ...]:
    numbers = _whole_numbers(text)
    return numbers if "," in text else numbers[0]


def _whole_numbers(text: str) -> tuple[int, ...]:
    return _parts(text, int, "whole numbers such as 0,5,11")


def _area(text: str) -> tuple[float, ...]:
    return _parts(text, float, "two numbers such as 0.4,1")


def _views(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _parts(text: str, kind: Callable[[str], Any], expected: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}") from None


FIELDS: dict[str, tuple[Callable[[str], Any], str]] = {
    "distortion": (str, "what damages them; a..b draws between, | one of several (default: gaussian_noise(sigma=0.3))"),
    "cls": (float, "weight of the global embedding (default: 1.0)"),
    "patch": (float, "weight of the patch features (default: 1.0)"),
    "attention": (float, "weight of the attention maps (default: 1.0)"),
    "contrastive": (float, "weight of InfoNCE between embeddings (default: 0.0)"),
    "cls_mse": (float, "weight of the squared difference of embeddings (default: 0.0)"),
    "patch_mse": (float, "weight of the squared difference of patch features (default: 0.0)"),
    "attention_layers": (_blocks, "so many of the last blocks, or block numbers such as 0,5,11 (default: 4)"),
    "patch_layers": (_blocks, "so many of the last blocks, or block numbers (default: 1)"),
    "rows": (str, "attention rows that are aligned: all, or the picture's own (default: all)"),
    "heads": (_whole_numbers, "attention heads that are aligned, such as 0,3; all unless given (default: None)"),
    "steps": (int, "updates of the weights (default: 100)"),
    "batch_size": (int, "pictures in a forward pass (default: 16)"),
    "accumulate": (int, "forward passes for each update (default: 1)"),
    "lr": (float, "highest learning rate; 2e-3 for lora and 1e-4 else unless given (default: None)"),
    "warmup": (float, "share of the steps in which the learning rate rises (default: 0.1)"),
    "weight_decay": (float, "of AdamW (default: 0.0)"),
    "grad_clip": (float, "largest norm of the gradient (default: 1.0)"),
    "trainable": (str, "lora:RANK, all, or last:BLOCKS (default: lora:8)"),
    "views": (_views, "fresh: new crops at each visit; a number: so many per picture; fixed: none (default: fresh)"),
    "area": (_area, "smallest and largest share of a picture that a crop covers (default: 0.4,1.0)"),
    "cache_gib": (float, "memory for the teacher's targets where views repeat, in GiB (default: 2.0)"),
    "precision": (str, "auto, float32 or bfloat16 (default: auto)"),
    "compile": (bool, "compile the student"),
    "checkpointing": (bool, "compute the student's blocks again in the backward pass: less memory, more time"),
    "probe": (int, "pictures held out to measure agreement on (default: 16)"),
    "eval_every": (int, "measure agreement every so many steps (default: 10)"),
    "checkpoint_every": (int, "save every so many steps (default: 50)"),
    "workers": (int, "processes that decode pictures (default: 0)"),
    "seed": (int, "of everything random (default: 0)"),
}
"""Field of `DistillConfig` -> how it is read, help."""

COMMAND = Command(
    name="distill",
    summary="train a student",
    help=_DISTILL_HELP,
    add_arguments=_distill_arguments,
    run=_distill,
)
