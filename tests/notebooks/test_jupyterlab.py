"""The widgets in JupyterLab, in a real browser: each is moved and clicked, and what it shows changes."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from browsing import chromium
from lab import RUN, Lab, opened, serving
from playwright.sync_api import Error as PlaywrightError

from tests.saved_pages import until

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


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One notebook for all tests. A browser that dies while JupyterLab loads, as happened once, is started again."""
    with serving(tmp_path_factory.mktemp("lab"), CELLS) as address, ExitStack() as stack:
        browser = stack.enter_context(chromium())
        try:
            window = stack.enter_context(opened(browser, address, CELLS))
        except PlaywrightError:
            if browser.is_connected():
                raise
            stack.close()
            browser = stack.enter_context(chromium())
            window = stack.enter_context(opened(browser, address, CELLS))
        yield window


@pytest.fixture(autouse=True)
def no_complaints(lab: Lab) -> Iterator[None]:
    yield
    assert not lab.complaints, lab.complaints


@pytest.mark.browser
def test_attention_follows_the_controls(lab: Lab, tmp_path: Path) -> None:
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

    with lab.page.expect_download() as saved:
        widget.get_by_role("button", name="Save page (HTML)").click()
    page = lab.page.context.new_page()
    page.goto(Path(saved.value.path()).rename(tmp_path / "saved.html").as_uri())
    until(page, "document.querySelector('.vx-mount')?.dataset.repaintMs")
    assert page.locator("select[name=head]").input_value() == "2", "it opens as it was saved"
    page.close()

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
def test_the_picture_gives_way_to_the_widget(lab: Lab) -> None:
    """In whichever order they come; it takes no room, and is in every other place that shows the outputs."""
    widget = lab.show("patches")
    still = lab.cell("patches").locator("img[class^=vx-still]")
    assert str(still.get_attribute("alt")).startswith("PatchExplorer: a picture under gaussian_noise")
    lab.until(still.is_hidden)
    height = "(cell) => [...cell.querySelectorAll('.jp-OutputArea-child')].map((each) => each.offsetHeight)"
    shown = lab.cell("patches").evaluate(height)
    assert len(shown) == 2
    assert shown[0] >= widget.evaluate("(mount) => mount.offsetHeight") > 100
    assert shown[1] == 0


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


@pytest.mark.slow
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

    waiting = [lab.places["scratch"], "monitor.start()\nmonitor.wait()"]
    lab.page.evaluate(f"(cell) => {{ window.waiting = ({RUN})(cell); }}", waiting)
    button("Resume").wait_for(state="detached")
    lab.page.evaluate("jupyterapp.commands.execute('notebook:interrupt-kernel')")
    (interrupted,) = lab.page.evaluate("window.waiting")
    assert interrupted["ename"] == "KeyboardInterrupt"
    assert lab.run("scratch", kept) == "stopped True"

    lab.run("scratch", "monitor.start()")
    lab.run("monitor")  # again: what the cell made before ends
    assert lab.run("scratch", "print(earlier.state, earlier.comm, monitor.state)") == "stopped None ready"
