"""What the commands share: `Command`, arguments that several take, how words are read, tables and files."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import explorer
from explorer.errors import InputError

if TYPE_CHECKING:
    import explorer.models.backbones


PROGRAM = "vit-explorer"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A subcommand: what its help says, which arguments it takes, what it does with them."""

    name: str
    summary: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Say on standard error what is going on, where a person is looking; the line is gone afterwards."""
    if not sys.stderr.isatty():
        yield
        return
    print(f"{text} …", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def add_backbone_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that `load` reads, for every command that runs a model."""
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        default="s14",
        help="alias or timm name of a plain ViT (default: %(default)s)",
    )
    parser.add_argument("--weights", metavar="FILE", help="a safetensors file for it (default: its pretrained weights)")
    parser.add_argument(
        "--size",
        type=size,
        default=224,
        help="pixels a side, or HEIGHTxWIDTH (default: %(default)s)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, … (default: %(default)s)")


def add_skip_argument(parser: argparse.ArgumentParser) -> None:
    """For every command that reads sets of pictures; see `on_error`."""
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave pictures out that cannot be read, and list them at the end (default: the first one is an error)",
    )


def on_error(options: argparse.Namespace) -> "explorer.data.sets.OnError":
    """For `load_images`."""
    return "skip" if options.skip_broken else "raise"


def print_skipped(*sets: "explorer.data.sets.ImageSet") -> None:
    """What --skip-broken left out, on standard error."""
    reasons = [reason for images in sets for reason in images.skipped.values()]
    if reasons:
        count = "1 picture that" if len(reasons) == 1 else f"{len(reasons)} pictures that"
        print(f"skipped {count} cannot be read:", *reasons, sep="\n  ", file=sys.stderr)


def load(options: argparse.Namespace) -> "explorer.models.backbones.Backbone":
    """The backbone that `add_backbone_arguments` asked for."""
    with progress(f"loading {options.backbone}"):
        from explorer.models.loading import load_backbone

        source = "auto" if options.weights is None else Path(options.weights)
        return load_backbone(options.backbone, image_size=options.size, source=source, device=options.device)


def model_named(
    name: str | None, student: str | None, image_size: "explorer.models.backbones.ImageSize", device: str
) -> "explorer.models.backbones.Backbone":
    """A backbone, or, if a pair is named, its student."""
    with progress(f"loading {student or name}"):
        from explorer.models.loading import load_backbone
        from explorer.models.pairs import load_pair

        if student is not None:
            return load_pair(student, image_size=image_size, device=device).student
        assert name is not None, "a backbone or a student was named"
        return load_backbone(name, image_size=image_size, device=device)


RESTORED = "restored"  # as `explorer.baselines.restoration` has it, which help need not wait for


def student_named(name: str, teacher: "explorer.models.backbones.Backbone") -> "explorer.models.pairs.Pair":
    """A student of this teacher: a shipped pair, a run's folder, or the teacher on restored pictures."""
    with progress(f"loading {name}"):
        from explorer.baselines.restoration import restored_pair
        from explorer.models.pairs import load_pair

        return restored_pair(teacher) if name == RESTORED else load_pair(name, teacher=teacher)


DASH = "; - for the standard output"
_SUFFIXES = {"--out": (".png",), "--figure": (".png",), "--html": (".html", ".htm")}


def output(text: str) -> Path:
    """How the name of a file to write is read."""
    from explorer.system.files import STDOUT

    return STDOUT if text == "-" else Path(checked(text, not _ends_in_slash(text), "a file, not a folder"))


def file_or_folder(text: str) -> Path | str:
    """A path; as text if it ends in a slash, which a `Path` forgets: a folder, whatever its name."""
    return text if _ends_in_slash(text) else output(text)


def _ends_in_slash(text: str) -> bool:
    return text.endswith((os.sep, os.altsep or os.sep))


def check_outputs(
    outputs: Mapping[str, Path | None],
    force: bool,
    keep: Path | None = None,
    kept: str = "the picture",
    endings: Mapping[str, tuple[str, ...]] = _SUFFIXES,
) -> None:
    """Before any work: all files can be written, nothing is overwritten unasked, and what is looked at never.

    Args:
        outputs: option -> its file, if it was given.
        keep: a file that is none of them, called `kept` in the error.
        endings: option -> how its file's name may end, the usual one first; whatever else may end as it likes.
    """
    from explorer.system.files import behind_links, check_target, descriptor, is_stream

    names = f"{', '.join([*outputs][:-1])} and {[*outputs][-1]}" if len(outputs) > 1 else ", ".join(outputs)
    targets = {option: target for option, target in outputs.items() if target is not None}
    places = [descriptor(target) or behind_links(target) for target in targets.values()]
    for (option, target), place in zip(targets.items(), places, strict=True):
        if places.count(place) > 1 and target != Path(os.devnull):
            what = "the standard output" if place == 1 else f"'{target}'"
            raise InputError(f"{names} have to name different files; got {what} twice")
        if target.is_dir():
            raise InputError(f"'{target}' is a folder; name a file in it")
        suffixes = endings.get(option, (target.suffix.lower(),))
        if not is_stream(target):
            if target.suffix.lower() not in suffixes:
                raise InputError(f"{option} takes a file that ends in {suffixes[0]}; got '{target}'")
            if keep is not None and target.exists() and keep.exists() and target.samefile(keep):
                raise InputError(f"'{target}' is {kept} itself; choose another name for the result")
            if target.exists() and not force:
                raise InputError(f"'{target}' is there already; --force overwrites it, another name leaves it alone")
        check_target(target)


def print_written(*files: Path | None) -> None:
    """Say which files there are now."""
    from explorer.system.files import descriptor, readable

    for file in files:
        if file is not None and descriptor(file) != 1:
            print(f"wrote {readable(str(file))}")


def write(target: Path, content: bytes) -> None:
    """Write a file; it is complete, or not there."""
    from explorer.system.files import atomic_path

    with atomic_path(target) as part:
        part.write_bytes(content)


def as_table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def head_choice(text: str) -> int | str:
    if text in ("mean", "max") or not re.fullmatch(r"-?\d+", text):
        return checked(text, text in ("mean", "max"), "a number, mean or max")
    return int(text)


def size(text: str) -> int | tuple[int, int]:
    """How --size is read."""
    checked(text, bool(re.fullmatch(r"\d{1,5}(x\d{1,5})?", text)), "pixels a side such as 224, or 224x336")
    sides = tuple(int(side) for side in text.split("x"))
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def part(text: str) -> float:
    """How a part of something, neither nothing nor all of it, is read."""
    try:
        valid = 0 < float(text) < 1
    except ValueError:
        valid = False
    return float(checked(text, valid, "a part above 0 and below 1, such as 0.5"))


def existing_folder(text: str) -> Path:
    return Path(checked(text, Path(text).is_dir(), "a folder that is there")).resolve()


def existing_file(text: str) -> Path:
    return Path(checked(text, Path(text).is_file(), "a file that is there")).resolve()


def port_number(text: str) -> int:
    valid = bool(re.fullmatch(r"\d{1,5}", text)) and 0 < int(text) < 65536
    return int(checked(text, valid, "a number from 1 to 65535"))


def checked(text: str, valid: bool, expected: str) -> str:
    if not valid:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return text
