"""The subcommand `backbones` of `vit-explorer`; `explorer.cli.main` registers it.

Enters and leaves: as in `explorer.cli.main`. Names go to the terminal one a line, so that other programs can read them.
"""

import argparse

from explorer.cli.parts import PROGRAM, Command
from explorer.errors import InputError

_HELP = f"""\
The names that --backbone takes: the aliases, then every model of timm that is supported.

Aliases come from the package registry, timm's weights from its model hub.

examples:
  {PROGRAM} backbones
  {PROGRAM} backbones "*dinov2*"
  {PROGRAM} backbones "*siglip*" --pretrained      the full names of all weights
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("filter", metavar="FILTER", nargs="?", default="", help='a pattern, such as "*dinov2*"')
    parser.add_argument("--pretrained", action="store_true", help="only those with weights, under their full names")


def _run(options: argparse.Namespace) -> None:
    from explorer.models.architectures import list_backbones

    names = list_backbones(options.filter, pretrained=options.pretrained)
    if not names:
        raise InputError(f"no backbone is called '{options.filter}'; a pattern has stars around its word: \"*dinov2*\"")
    print("\n".join(names))


COMMAND = Command(
    name="backbones",
    summary="names of the supported models",
    help=_HELP,
    add_arguments=_arguments,
    run=_run,
)
