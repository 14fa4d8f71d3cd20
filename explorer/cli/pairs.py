"""`vit-explorer pairs`: list, export or import pairs of teacher and student; students for other programs and hubs."""

import argparse
from pathlib import Path
from typing import Any

from explorer.analysis.measures import MEASURES
from explorer.cli.parts import (
    DASH,
    PROGRAM,
    Command,
    as_table,
    check_outputs,
    output,
    print_written,
    progress,
)
from explorer.errors import InputError

_PAIRS_HELP = f"""\
List pairs of teacher and student with how well the student agrees with its teacher, before -> after training, on
distorted pictures: cosines of the global embedding and of the patches (1 is equal) and KL divergence of attention
(0 is equal).

examples:
  {PROGRAM} pairs                                  those that come with the project
  {PROGRAM} pairs runs/noise runs/blur             your own
  {PROGRAM} pairs runs/noise --export noise.zip    one file, to carry it elsewhere
  {PROGRAM} pairs --import noise.zip pairs/noise   unpack such a file into a new folder

The student alone, its adapter merged, for programs that have nothing of this one:
  {PROGRAM} pairs export s14-noise student.safetensors         for timm; prints the line that loads it
  {PROGRAM} pairs export s14-noise student.onnx --format onnx --attention    pixels in, embedding and attention out
  {PROGRAM} pairs export s14-noise student --format hf         a folder for a model hub, with the adapter for peft
  {PROGRAM} pairs push runs/noise user/name                    such a folder, put on a hub; prints its address
  {PROGRAM} pairs hf://user/name                               an address, which every command takes for a PAIR
"""

_FORMATS = ("timm", "onnx", "hf")


def _pairs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pairs",
        nargs="*",
        metavar="PAIR",
        help="names of shipped pairs, or folders (default: all shipped); or `export PAIR FILE`, `push PAIR USER/NAME`",
    )
    parser.add_argument("--format", choices=_FORMATS, help="of `export PAIR FILE` (default: timm)")
    parser.add_argument("--attention", action="store_true", help="with --format onnx: attention rows are outputs, too")
    parser.add_argument("--export", type=output, metavar="FILE", help=f"write the pair as one zip file{DASH}")
    parser.add_argument("--private", action="store_true", help="of `push`: a repository that is made is yours alone")
    parser.add_argument("--half", action="store_true", help="with --export: store the student in half precision")
    parser.add_argument("--force", action="store_true", help="when exporting: overwrite a file that is there")
    parser.add_argument(
        "--import", dest="file", type=Path, metavar="FILE", help="unpack such a file into the folder PAIR"
    )


def _pairs(options: argparse.Namespace) -> None:
    word = options.pairs[0] if options.pairs[:1] in (["export"], ["push"]) else None
    for option, its in {"format": "export", "attention": "export", "private": "push"}.items():
        if getattr(options, option) and word != its:
            raise InputError(f"--{option} is of `{PROGRAM} pairs {its} PAIR …`: see `{PROGRAM} pairs --help`")
    if word is not None and (options.export or options.file or options.half):
        raise InputError("--export, --half and --import are of pairs as zip files: leave them out")
    if word == "export":
        _export(options, *_two(options.pairs, "FILE"))
        return
    if word == "push":
        _push(options, *_two(options.pairs, "USER/NAME"))
        return
    with progress("loading"):
        from explorer.models.pairs import export_pair, import_pair, list_pairs
    if (options.export or options.file) and len(options.pairs) != 1:
        raise InputError("--export takes the pair that is written, and --import the new folder: name exactly one PAIR")
    if options.export and options.file:
        raise InputError("either --export or --import, not both")
    if options.export:
        check_outputs({"--export": options.export}, options.force)
        print_written(export_pair(options.pairs[0], options.export, half=options.half))
    elif options.file:
        print(f"wrote {import_pair(options.file, options.pairs[0])}")
    else:
        chosen = options.pairs or list_pairs()
        print(agreements(chosen) if chosen else f"no pairs come with this version; train one: {PROGRAM} distill --help")


def _two(words: list[str], target: str) -> tuple[str, str]:
    """What follows the word that says what to do."""
    if len(words) != 3:
        raise InputError(
            f"expected `{PROGRAM} pairs {words[0]} PAIR {target}`; got `pairs {' '.join(words)}` (a "
            f"pair's folder of that name is './{words[0]}')"
        )
    return words[1], words[2]


def _export(options: argparse.Namespace, pair: str, target: str) -> None:
    format = options.format or "timm"
    if format != "hf":
        check_outputs({"FILE": Path(target)}, options.force)
    with progress(f"exporting {pair}"):
        from explorer.models.export import export_student
        from explorer.models.pairs import load_pair

        exported = export_student(load_pair(pair, device="cpu"), target, format, attention=options.attention)
    print_written(exported.path)
    print(f"load it: {exported.usage}")


def _push(options: argparse.Namespace, pair: str, repository: str) -> None:
    with progress(f"writing to {repository}"):
        from explorer.models.export import push_pair
        from explorer.models.pairs import load_pair

        address = push_pair(load_pair(pair, device="cpu"), repository, private=options.private)
    print(f"wrote {address}")


def agreements(pairs: list[Any]) -> str:
    """A table of the pairs with their metrics."""
    from explorer.models.pairs import read_card

    rows = [("pair", "backbone", "px", "distortion", "trained", "steps", *(MEASURES[name].label for name in _METRICS))]
    for pair in pairs:
        card = read_card(pair)
        about = (card["backbone"], "x".join(map(str, card["image_size"])), card["distortion"], card["trainable"])
        rows.append((str(pair), *about, str(card["step"]), *(_change(card["metrics"], name) for name in _METRICS)))
    return as_table(rows)


_METRICS = ("cls_cosine", "patch_cosine", "attention_kl")


def _change(metrics: dict[str, Any], name: str) -> str:
    found = [metrics[when].get(name) for when in ("before", "after") if isinstance(metrics.get(when), dict)]
    numbers = [f"{value:.3f}" if isinstance(value, int | float) else "-" for value in found]
    return " -> ".join(numbers) or "-"


COMMAND = Command(
    name="pairs",
    summary="list, export or import pairs of teacher and student; students for other programs",
    help=_PAIRS_HELP,
    add_arguments=_pairs_arguments,
    run=_pairs,
)
