"""The widgets in JupyterLab, in a real browser: each is moved and clicked, and what it shows changes."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

ROOT = Path(__file__).parents[2]
CELLS = {
    "start": """
import explorer as ex
from explorer import widgets
pair = ex.load_pair("s14-noise", image_size=112)
photos = ex.load_images("photos")
owl = photos.path(photos.names.index("farm_animal/owl.webp"))
few = photos.select(range(0, 207, 26))
config = ex.DistillConfig(steps=500, batch_size=2, image_size=112, probe=2, eval_every=50, checkpoint_every=100)
""",
    "attention": "attention = widgets.AttentionExplorer(pair, owl)\nattention",
    "patches": "patches = widgets.PatchExplorer(pair, owl)\npatches",
    "map": "embedding = widgets.EmbeddingExplorer(pair, few)\nembedding",
    "map again": "embedding",
    "monitor": """
earlier = globals().get("monitor")
monitor = widgets.DistillationMonitor(pair.teacher, few, config, watch=owl)
monitor
""",
    "scratch": "",
}
PLACES = {name: place for place, name in enumerate(CELLS)}
WAIT_MS = 60_000
READ_BACK = "willReadFrequently"  # only these tests read the canvases
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
        complaints: errors and warnings on the console, uncaught errors, requests to other hosts.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        known = (address, address.replace("http:", "ws:"), "data:", "blob:")
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("request", lambda one: one.url.startswith(known) or self.complaints.append(f"asked {one.url}"))

    def run(self, name: str, code: str | None = None) -> str:
        """Run a cell, and give back what it printed; errors fail."""
        outputs = self.page.evaluate(RUN, [PLACES[name], code])
        bad = [out for out in outputs if out["output_type"] == "error" or out.get("name") == "stderr"]
        assert [out for out in bad if not _is_progress(out)] == []
        return "".join(out["text"] for out in outputs if out.get("name") == "stdout").strip()

    def cell(self, name: str) -> Locator:
        """A cell of the notebook."""
        return self.page.locator(".jp-Notebook-cell").nth(PLACES[name])

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
        if line.type in ("error", "warning") and READ_BACK not in line.text:
            self.complaints.append(f"{line.type}: {line.text}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JupyterLab of its own, with a small notebook; its address."""
    root = tmp_path_factory.mktemp("lab")
    cells = [nbformat.v4.new_code_cell(code.strip()) for code in CELLS.values()]
    (root / "work").mkdir()
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # else it is asked for
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), root / "work" / "widgets.ipynb")
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


@pytest.fixture(scope="module")
def lab(server: str, browser: Browser) -> Iterator[Lab]:
    """The notebook, with its first cell run."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.set_default_timeout(WAIT_MS)
    context.add_init_script(COUNT_LIBRARIES)
    lab = Lab(context.new_page(), server)
    lab.page.goto(f"{server}/lab/tree/widgets.ipynb?reset")
    lab.page.locator(".jp-Notebook-cell").first.wait_for()
    lab.page.wait_for_function("jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    lab.run("start")
    yield lab
    context.close()


@pytest.fixture(autouse=True)
def no_complaints(lab: Lab) -> Iterator[None]:
    yield
    assert not lab.complaints, lab.complaints


@pytest.mark.browser
def test_attention_follows_the_controls(lab: Lab) -> None:
    widget = lab.show("attention")
    before = lab.heats(widget)
    sigma = lab.cell("attention").locator(".noUi-handle").first
    for _ in range(4):
        sigma.press("ArrowRight")
    lab.until(lambda: lab.heats(widget)["student_distorted"] != before["student_distorted"])
    told = "print(attention.distortion, f\"{attention.comparison.alignments['student'].cls_cosine:.2f}\")"
    spec, cosine = lab.run("scratch", told).split()
    assert spec != "gaussian_noise(sigma=0.3)"
    student = widget.locator(".vx-numbers tbody tr").first.locator("td").nth(1)
    lab.until(lambda: student.inner_text().strip() == cosine)

    after = lab.heats(widget)
    widget.locator("select[name=head]").select_option("2")
    lab.until(lambda: lab.heats(widget)["teacher_clean"] != after["teacher_clean"])
    lab.until(lambda: lab.run("scratch", "print(attention.head)") == "2")
    lab.run("scratch", "attention.layer = 0")
    lab.until(lambda: widget.locator("input[name=layer]").input_value() == "0")

    shown = lab.heats(widget)
    text = lab.cell("attention").locator(".widget-text input[type=text]").first
    text.fill("gausian_noise")
    text.press("Enter")
    lab.until(lambda: "did you mean 'gaussian_noise'" in lab.cell("attention").locator(".vx-problem").inner_text())
    assert lab.heats(widget) == shown


@pytest.mark.browser
def test_patches_follow_the_pointer(lab: Lab) -> None:
    widget = lab.show("patches")
    box = widget.locator('.vx-box[data-pane="teacher_clean"]')
    before = lab.heats(widget)
    box.hover(position={"x": 12, "y": 12})
    lab.until(lambda: all(value != before[pane] for pane, value in lab.heats(widget).items()))
    box.click(position={"x": 12, "y": 12})
    widget.locator(".vx-matches").wait_for()
    lab.until(lambda: lab.run("scratch", "print(patches.pin)") == "('teacher_clean', 0, 0)")
    pinned = lab.heats(widget)
    widget.locator("select[name=layer]").select_option("3")
    lab.until(lambda: lab.heats(widget)["student_distorted"] != pinned["student_distorted"])
    assert lab.run("scratch", "print(patches.layer, patches.view.payload['layer'], patches.pin[1:])") == "3 3 (0, 0)"


@pytest.mark.browser
def test_the_map_is_drawn_without_a_network_and_answers(lab: Lab) -> None:
    for name in ("map", "map again"):
        lab.run(name)
        lab.cell(name).locator(".vx-embedplot .main-svg").first.wait_for()
    assert lab.page.evaluate("window.libraries") == 1
    widget = lab.cell("map").locator(".vx-mount")
    widget.locator(".vx-embedstage").scroll_into_view_if_needed()
    spot = widget.evaluate("(root) => root.view.pixel('teacher_clean', 2)")
    lab.page.mouse.move(spot["x"], spot["y"])
    lab.until(lambda: widget.evaluate("(root) => root.view.state().pointed") == 2)
    lab.page.mouse.click(spot["x"], spot["y"])
    lab.until(lambda: lab.run("scratch", "print(embedding.chosen == few.names[2])") == "True")


@pytest.mark.browser
def test_a_run_is_watched_stopped_interrupted_and_left(lab: Lab) -> None:
    widget = lab.show("monitor")
    button = lambda name: lab.cell("monitor").get_by_role("button", name=name, exact=True)  # noqa: E731
    before = lab.heats(widget)
    button("Start").click()
    lab.until(lambda: lab.heats(widget)["attention_student"] != before["attention_student"])
    assert lab.run("scratch", "print(6 * 7, monitor.state)") == "42 running"  # the kernel is free
    button("Stop").click()
    button("Resume").wait_for()
    kept = "print(monitor.state, monitor.pair.card['step'] == len(monitor.records) > 0)"
    assert lab.run("scratch", kept) == "stopped True"

    waiting = [PLACES["scratch"], "monitor.start()\nmonitor.wait()"]
    lab.page.evaluate(f"(cell) => {{ window.waiting = ({RUN})(cell); }}", waiting)
    button("Resume").wait_for(state="detached")
    lab.page.evaluate("jupyterapp.commands.execute('notebook:interrupt-kernel')")
    (interrupted,) = lab.page.evaluate("window.waiting")
    assert interrupted["ename"] == "KeyboardInterrupt"
    assert lab.run("scratch", kept) == "stopped True"

    lab.run("scratch", "monitor.start()")
    lab.run("monitor")  # again: what the cell made before ends
    assert lab.run("scratch", "print(earlier.state, earlier.comm, monitor.state)") == "stopped None ready"


def _is_progress(output: dict) -> bool:
    """A slow machine is shown how far the first map is; then the line is blank again."""
    text = output.get("text", "")
    return output["output_type"] == "stream" and (not text.strip() or "features:" in text)


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
