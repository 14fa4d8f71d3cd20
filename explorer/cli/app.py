"""`vit-explorer app`: the app, with what it needs in its environment."""

import argparse
import importlib
import os
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from explorer.cli.parts import PROGRAM, Command, existing_file, existing_folder, port_number
from explorer.errors import MissingExtraError

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
    parser.add_argument("--port", type=port_number, help="port to listen at (default: the first free one from 7860)")
    parser.add_argument(
        "--pictures",
        action="append",
        type=existing_folder,
        metavar="DIR",
        help="a folder to learn from; may be repeated",
    )
    parser.add_argument("--public", action="store_true", help="expect strangers: limits on runs, files and backbones")
    parser.add_argument(
        "--password-file", type=existing_file, metavar="FILE", help="who may come in: lines of name:password"
    )
    parser.add_argument(
        "--endpoints", metavar="NAMES", help="which endpoints programs can reach, with commas; none (default: all)"
    )
    parser.add_argument("rest", nargs="*", metavar="-- ...", help="arguments that are handed to the app as they are")


def _app(options: argparse.Namespace) -> None:
    if find_spec("gradio") is None:
        raise MissingExtraError("the app needs gradio", "app")
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
    sys.path.insert(0, str(script.parent))  # as for `python apps/compare.py`: its package is beside it
    importlib.import_module(
        "explorer_app.service.limits"
    ).accounts()  # a mistake is told now: the imports of the app take many seconds
    print("starting the app …", file=sys.stderr)
    runpy.run_path(str(script), run_name="__main__")


def _app_script() -> Path:
    """The app: inside of an installed wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    scripts = (package / "_apps" / "compare.py", package.parent / "apps" / "compare.py")
    found = next((script for script in scripts if script.is_file()), None)
    if found is None:
        raise FileNotFoundError("the app is not among the files that came with vit-explorer; install the project again")
    return found


COMMAND = Command(name="app", summary="start the app", help=_APP_HELP, add_arguments=_app_arguments, run=_app)
