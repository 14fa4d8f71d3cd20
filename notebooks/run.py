"""Runs the notebooks of this folder from top to bottom and stores them with their outputs.

    python notebooks/run.py            # all
    python notebooks/run.py 01 03      # those whose names begin like this

Enters: notebooks. Leaves: the same files with outputs, without what changes for no reason (times, widget state,
progress bars), and with a fingerprint of their code, so that outputs of older code are noticed. What failed is not
stored; a widget's callback that raised is a failure, too.
"""

import ast
import hashlib
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import nbformat
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets import Type
from traitlets.config import Config

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
WIDGET = "application/vnd.jupyter.widget-view+json"
_TRACEBACK = "Traceback (most recent call last)"
_PLACES = [r"/(?:root|home|tmp|work|var|usr|opt|private|Users|content)/", r"[A-Z]:\\\\?Users", r"file://"]
_STILL = re.compile(r' class="vx-still-\w+"')  # by which a widget finds its picture; drawn anew each time
_EMBEDDED = re.compile(r"base64,[A-Za-z0-9+/=]+")
_MACHINE = re.compile("|".join([re.escape(str(Path.home())), re.escape(str(ROOT)), *_PLACES]))


def notebooks(*beginnings: str) -> list[Path]:
    """The notebooks of this folder in their order, or those whose names begin like one of these."""
    return [path for path in sorted(FOLDER.glob("*.ipynb")) if path.name.startswith(tuple(beginnings or [""]))]


def read(path: Path) -> NotebookNode:
    """A notebook from its file."""
    return nbformat.read(path, as_version=4)


class ShellChannel(AsyncZMQSocketChannel):
    """Looks for replies every second, told of one or not.

    nbclient writes to this channel, to bring an Output widget up to date, while it waits for a cell's reply on it. The
    reply's arrival can go unnoticed then, for as long as a cell may take (nbclient's issue 312).
    """

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            try:
                return await super().get_msg(max(0.0, min(1.0, left)))
            except Empty:
                if left <= 1:
                    raise


class KernelClient(AsyncKernelClient):
    """Jupyter's own, with this channel."""

    shell_channel_class = Type(ShellChannel)


def execute(notebook: NotebookNode, seconds: int = 1800) -> list[str]:
    """Run all cells in this folder with this package, and keep the outputs in the notebook.

    Returns:
        What went wrong without stopping a cell, see `faults`.

    Raises:
        CellExecutionError: a cell raised an error.
    """
    config = Config({"AsyncKernelManager": {"client_factory": KernelClient}})
    place = {"metadata": {"path": str(FOLDER)}}
    client = NotebookClient(
        notebook, timeout=seconds, kernel_name="python3", resources=place, record_timing=False, config=config
    )
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    client.execute(env={**os.environ, "PYTHONPATH": path})
    captured = [{"outputs": getattr(output, "outputs", [])} for output in client.comm_objects.values()]
    return faults(notebook, [*client.widget_state.values(), *captured])


def faults(notebook: NotebookNode, widget_states: list[dict[str, Any]] | None = None) -> list[str]:
    """Errors among the outputs of cells, and in widgets: in what an Output widget caught, and in what a widget of
    `explorer` says itself."""
    states = widget_states or []
    within = [output for state in states for output in state.get("outputs") or []]
    said = [f"a widget says: {state['error']}" for state in states if state.get("error")]
    caught = [text for output in [*outputs(notebook), *within] if (text := _error(output))]
    return list(dict.fromkeys(caught + said))


def outputs(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """All outputs of all cells."""
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def tidy(notebook: NotebookNode) -> None:
    """Take away what changes for no reason, and what a reader without a kernel cannot use."""
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
        vit_explorer=NotebookNode(code_sha256=fingerprint(notebook)),
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_tidied, cell.outputs) if output is not None]


def fingerprint(notebook: NotebookNode) -> str:
    """SHA-256 of the code of all cells in their order."""
    code = json.dumps([cell.source for cell in notebook.cells if cell.cell_type == "code"])
    return hashlib.sha256(code.encode()).hexdigest()


def machine_paths(notebook: NotebookNode) -> list[str]:
    """Lines of outputs that name a place on this machine; the letters of an embedded picture may say anything."""
    texts = (_EMBEDDED.sub("base64,", text) for output in outputs(notebook) for text in _texts(output))
    lines = [line for text in texts for line in text.splitlines()]
    return [line for line in lines if _MACHINE.search(line)]


def with_parameters(notebook: NotebookNode, values: dict[str, Any]) -> NotebookNode:
    """A copy whose one cell tagged "parameters" assigns these values.

    Raises:
        ValueError: there is not one such cell, it holds anything but `NAME = literal`, or lacks one of the names.
    """
    copy = nbformat.from_dict(notebook)
    cells = [cell for cell in copy.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"expected one cell tagged 'parameters'; there are {len(cells)}")
    known = _assigned(cells[0].source)
    if missing := sorted(set(values) - set(known)):
        raise ValueError(f"no such parameters: {', '.join(missing)}; the cell assigns {', '.join(known)}")
    cells[0].source = "\n".join(f"{name} = {value!r}" for name, value in {**known, **values}.items())
    return copy


def _assigned(source: str) -> dict[str, Any]:
    found = {}
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if _is_literal(value):
                found[name] = ast.literal_eval(value)
            case _:
                raise ValueError(f"the parameters cell holds `NAME = literal` alone; got: {ast.unparse(statement)}")
    return found


def _is_literal(value: ast.expr) -> bool:
    try:
        ast.literal_eval(value)
    except ValueError:
        return False
    return True


def _error(output: dict[str, Any]) -> str | None:
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}"
    text = output.get("text", "")
    return text[text.index(_TRACEBACK) :] if _TRACEBACK in text else None


def _tidied(output: NotebookNode) -> NotebookNode | None:
    """Without the view of a widget that is not there any more; None for a progress bar."""
    if output.output_type == "stream":
        output.text = "".join(line for line in output.text.splitlines(keepends=True) if not _is_progress(line))
        return output if output.text.strip() else None
    data = output.get("data", {})
    if "text/html" in data:
        data["text/html"] = _STILL.sub("", data["text/html"])
    if WIDGET in data:
        del data[WIDGET]
        return output if set(data) - {"text/plain"} else None
    return output


def _is_progress(line: str) -> bool:
    return line.startswith("\r") or bool(re.search(r"\d+%\|.*\|", line))


def _texts(output: NotebookNode) -> Iterator[str]:
    yield output.get("text", "")
    for kind, data in output.get("data", {}).items():
        if not kind.startswith("image/") or kind == "image/svg+xml":
            yield data if isinstance(data, str) else json.dumps(data)


def store(path: Path) -> None:
    """Run one notebook and write it back with its outputs.

    Raises:
        CellExecutionError: a cell raised an error.
        RuntimeError: something else went wrong, or an output names a place on this machine.
    """
    notebook = read(path)
    wrong = execute(notebook)
    tidy(notebook)
    wrong += [f"an output names a place on this machine: {line}" for line in machine_paths(notebook)]
    if wrong:
        raise RuntimeError(f"{path.name} is not stored:\n" + "\n".join(wrong))
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


if __name__ == "__main__":
    chosen = notebooks(*sys.argv[1:])
    if not chosen:
        sys.exit(f"no notebook begins with {' or '.join(sys.argv[1:])}; there are: {[p.name for p in notebooks()]}")
    for one in chosen:
        began = time.monotonic()
        store(one)
        print(f"{one.name}: {time.monotonic() - began:.0f} s, {one.stat().st_size / 1e6:.2f} MB", flush=True)
