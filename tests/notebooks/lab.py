"""A JupyterLab of its own, with a small notebook, driven in a real browser."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

ROOT = Path(__file__).parents[2]
WAIT_MS = 60_000
HARMLESS = re.compile(
    "willReadFrequently"  # only these tests read the canvases
    r"|^Plugin \S+ is taking too long to activate\.|took [\d.]+ms to activate\.$"  # JupyterLab, on a busy machine
)
RUN = """async ([place, code]) => {
  const notebook = jupyterapp.shell.currentWidget.content;
  if (code !== null) notebook.widgets[place].model.sharedModel.setSource(code);
  notebook.deselectAll();
  notebook.activeCellIndex = place;
  await jupyterapp.commands.execute("notebook:run-cell");
  return notebook.widgets[place].model.outputs.toJSON();
}"""
PIXELS = """(canvas) => { const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let hash = 17; for (const byte of data) hash = (31 * hash + byte) | 0; return hash; }"""
COUNT_LIBRARIES = """
window.libraries = 0;
const make = URL.createObjectURL.bind(URL);
URL.createObjectURL = (blob) => {
  if (blob.type === "text/javascript" && blob.size > 3e6) window.libraries += 1;
  return make(blob);
};
"""


class Lab:
    """A notebook that is open in JupyterLab.

    Attributes:
        places: number of each cell by its name.
        complaints: errors and warnings on the console, uncaught errors, requests to other hosts.
    """

    def __init__(self, page: Page, address: str, cells: dict[str, str]) -> None:
        self.page = page
        self.places = {name: place for place, name in enumerate(cells)}
        self.complaints: list[str] = []
        known = (address, address.replace("http:", "ws:"), "data:", "blob:")
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("request", lambda one: one.url.startswith(known) or self.complaints.append(f"asked {one.url}"))

    def run(self, name: str, code: str | None = None) -> str:
        """Run a cell, and give back what it printed; errors fail."""
        outputs = self.page.evaluate(RUN, [self.places[name], code])
        bad = [out for out in outputs if out["output_type"] == "error" or out.get("name") == "stderr"]
        assert not bad, str(bad)
        return "".join(out["text"] for out in outputs if out.get("name") == "stdout").strip()

    def cell(self, name: str) -> Locator:
        """A cell of the notebook."""
        return self.page.locator(".jp-Notebook-cell").nth(self.places[name])

    def show(self, name: str) -> Locator:
        """Run a cell with a widget, and wait until its maps are painted."""
        self.run(name)
        widget = self.cell(name).locator(".vx-mount")
        self.until(lambda: len(set(self.heats(widget).values())) > 1)
        return widget

    def heats(self, widget: Locator) -> dict[str, int]:
        """A number for the pixels of each map."""
        boxes = widget.locator(".vx-box").all()
        return {str(box.get_attribute("data-pane")): box.locator(".vx-heat").first.evaluate(PIXELS) for box in boxes}

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait for something that is asked for again and again."""
        end = time.monotonic() + WAIT_MS / 1000
        while not reached():
            assert time.monotonic() < end, f"it did not come; the page complained: {self.complaints}"
            self.page.wait_for_timeout(50)

    def _listen(self, line: ConsoleMessage) -> None:
        if line.type in ("error", "warning") and not HARMLESS.search(line.text):
            self.complaints.append(f"{line.type}: {line.text}")


@contextmanager
def serving(root: Path, cells: dict[str, str]) -> Iterator[str]:
    """JupyterLab with a notebook of these cells; its address.

    Args:
        root: an empty folder.
    """
    written = [nbformat.v4.new_code_cell(code.strip()) for code in cells.values()]
    (root / "work").mkdir()
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # else it is asked for
    nbformat.write(nbformat.v4.new_notebook(cells=written, metadata=kernel), root / "work" / "widgets.ipynb")
    settings = root / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"port": port, "root_dir": root / "work", "open_browser": False}
    command = [sys.executable, "-m", "jupyterlab", "--allow-root", "--expose-app-in-browser"]
    command += ["--IdentityProvider.token=", *(f"--ServerApp.{name}={value}" for name, value in options.items())]
    with (root / "log").open("w") as log:
        running = subprocess.Popen(command, env=_environment(root), stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api", root / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(30)


@contextmanager
def opened(browser: Browser, address: str, cells: dict[str, str], **options: object) -> Iterator[Lab]:
    """The notebook in a window, with its cell "start" run."""
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, **options})  # type: ignore[arg-type]
    context.set_default_timeout(WAIT_MS)
    context.add_init_script(COUNT_LIBRARIES)
    lab = Lab(context.new_page(), address, cells)
    lab.page.goto(f"{address}/lab/tree/widgets.ipynb?reset")
    lab.page.locator(".jp-Notebook-cell").first.wait_for()
    lab.page.wait_for_function("jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    lab.run("start")
    yield lab
    context.close()


def _environment(root: Path) -> dict[str, str]:
    """Nothing of the user's own Jupyter, and this very library."""
    homes = {f"JUPYTER_{name}_DIR": str(root / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    homes |= {f"JUPYTERLAB_{name}_DIR": str(root / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    return {**os.environ, **homes, "PYTHONPATH": str(ROOT)}


def _wait_for(address: str, log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')}")
