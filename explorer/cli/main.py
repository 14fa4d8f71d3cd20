"""The command `vit-explorer`: one function for each subcommand, registered in `COMMANDS` at the foot of this module.

Enters: words of a command line. Leaves: files where the user asked for them, a few lines on standard output, and an
exit code: 0; 2 and one readable line on standard error for bad input; 1 and a traceback for a bug of ours; 130 when
stopped by Ctrl-C, 143 by SIGTERM.
Everything heavy is imported inside of the commands, so that help answers at once.
"""

import argparse
import errno
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

from explorer.cli import (
    app,
    backbones,
    benchmark,
    compare,
    distill,
    embed,
    evaluate,
    evaluate_dense,
    fit_probe,
    pairs,
    predict,
    sweep,
    weights,
)
from explorer.cli.parts import PROGRAM, Command
from explorer.errors import is_for_users, one_line
from explorer.system.threads import wait_briefly
from explorer.version import __version__

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (None: that of the process) and return its exit code."""
    wait_briefly()
    _mend_streams()
    over = "\r\033[K" if sys.stderr.isatty() else ""  # the line of `progress` may stand there
    logging.basicConfig(format=f"{over}{PROGRAM}: %(message)s", level=logging.WARNING)
    try:
        options = command_parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has printed help, the version or the one line by now
        return stop.code if isinstance(stop.code, int) else 2
    try:
        return _run(options)
    except Exception as error:
        traceback.print_exc()
        print(f"{PROGRAM}: {one_line(error)} with the lines above", file=sys.stderr)
        return 1


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
        if not is_for_users(error):
            raise
        if options.debug:
            traceback.print_exc()
        print(f"{PROGRAM}: {_one_line(error)}{_way_out(error, options)}", file=sys.stderr)
        return 2
    return 0


def _prints_a_file(options: argparse.Namespace) -> bool:
    """Whether the standard output is to hold a file, and nothing else."""
    from explorer.system.files import descriptor

    return any(descriptor(value) == 1 for value in vars(options).values() if isinstance(value, Path))


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        advice = "; free some space, or write elsewhere" if error.errno in _NO_ROOM else ""
        return f"{error.strerror}: '{error.filename}'{advice}"
    return one_line(error)


def _way_out(error: Exception, options: argparse.Namespace) -> str:
    broken = type(error).__name__ == "ImageError" and getattr(options, "skip_broken", True) is False
    return "; --skip-broken does without such pictures" if broken else ""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{PROGRAM}: {' '.join(message.split())}; see `{self.prog} --help`\n")


def command_parser() -> argparse.ArgumentParser:
    """What understands a command line: all of `COMMANDS`, with their options."""
    parser = _Parser(
        prog=PROGRAM,
        description="See what a Vision Transformer does to a damaged picture.",
        epilog=f"`{PROGRAM} COMMAND --help` explains a command and shows examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
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


COMMANDS = (
    app.COMMAND,
    weights.COMMAND,
    compare.COMMAND,
    distill.COMMAND,
    pairs.COMMAND,
    evaluate.COMMAND,
    evaluate_dense.COMMAND,
    fit_probe.COMMAND,
    predict.COMMAND,
    sweep.COMMAND,
    benchmark.COMMAND,
    embed.COMMAND,
    backbones.COMMAND,
)
