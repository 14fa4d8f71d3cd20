"""The recovery view in a real browser: its arithmetic against numpy, how it follows a run, its scrubber and curves."""

import copy
import io
import json
import re
import statistics
from pathlib import Path

import fixtures
import numpy as np
import pytest
from opening import Opener, box, centre, colour, decode, events, next_frame, number, pixel
from PIL import Image
from playwright.sync_api import Page

from explorer.plots.style import scale_end

pytestmark = pytest.mark.browser

ROWS = ("attention", "similarity")
COLUMNS = ("reference", "before", "student")
MEASURED = "(fields) => Object.fromEntries(fields.map((name) => [name, view.state()[name]]))"
UPDATE = "(payload) => view.update(payload)"
SCALE_END = "Number(document.querySelector('.vx-bar .vx-ticks :last-child').textContent)"


@pytest.fixture(scope="module")
def run() -> dict:
    return fixtures.recovery_payload()


def watch(open_view: Opener, payload: dict | None, **context: object) -> Page:
    return open_view("recoveryview", payload, **context)


def state(page: Page, *fields: str) -> list:
    found = page.evaluate(MEASURED, list(fields))
    return [found[name] for name in fields]


def columns(payload: dict, index: int) -> dict[str, dict]:
    moments = payload["moments"]
    return {"reference": payload["reference"], "before": moments[0], "student": moments[index]}


def cosines(payload: dict, index: int, at: int) -> dict[str, np.ndarray]:
    """With one patch of the reference, from the stored whole numbers."""
    ints = {name: decode(moment["patches"]).astype(float) for name, moment in columns(payload, index).items()}
    units = {name: values / np.linalg.norm(values, axis=1, keepdims=True) for name, values in ints.items()}
    return {name: values @ units["reference"][at] for name, values in units.items()}


def attention(moment: dict, head: int | None = None) -> np.ndarray:
    values = decode(moment["attention"])
    return values.mean(0) if head is None else values[head]


def busiest(payload: dict) -> dict[str, int]:
    row, col = divmod(int(attention(payload["reference"]).argmax()), payload["grid"][1])
    return {"row": row, "col": col}


def shown(page: Page) -> dict[str, np.ndarray]:
    maps = page.evaluate("Object.fromEntries(Object.entries(view.maps()).map(([id, map]) => [id, Array.from(map)]))")
    return {name: np.array(values) for name, values in maps.items()}


# ---------------------------------------------------------------- arithmetic


def test_similarity_is_the_cosine_with_the_reference(open_view, run):
    page = watch(open_view, run)
    page.evaluate("view.set({ step: 20 })")
    got = page.evaluate("""() => Object.fromEntries(Object.entries(view.similarity(5, 9))
                                 .map(([id, values]) => [id, Array.from(values)]))""")
    for name, values in cosines(run, 5, 5 * 16 + 9).items():
        np.testing.assert_allclose(got[name], values, atol=1e-5)
    assert np.abs(np.subtract(got["before"], got["student"])).max() > 0.1


def test_a_row_of_zeros_resembles_nothing(open_view):
    run = fixtures.recovery_payload(moments=2, rows=4, cols=4, dim=8)
    values = decode(run["moments"][1]["patches"]).copy()
    values[3] = 0
    run["moments"][1]["patches"] = fixtures.encode(values)
    page = watch(open_view, run)
    assert page.evaluate("view.similarity(1, 1).student[3]") == 0
    assert page.evaluate("view.similarity(1, 1).before[3]") != 0


def test_one_scale_for_all_panes_and_steps(open_view, run):
    page = watch(open_view, run)
    high = scale_end(*(attention(moment) for moment in [run["reference"], *run["moments"]]))
    at = busiest(run)["row"] * 16 + busiest(run)["col"]
    for index in (10, 3):
        page.evaluate("(index) => view.set({ index })", index)
        low, _, top = (number(text) for text in page.locator(".vx-bar").first.locator(".vx-tick").all_inner_texts())
        assert (low, top) == (0, pytest.approx(high, rel=0.01))
        maps = shown(page)
        for name, moment in columns(run, index).items():
            np.testing.assert_allclose(maps[f"attention_{name}"], attention(moment), atol=1e-7)
            np.testing.assert_allclose(maps[f"similarity_{name}"], cosines(run, index, at)[name], atol=1e-5)
            for patch in (40, at):
                where = divmod(patch, 16)
                level = min(1, attention(moment)[patch] / high)
                np.testing.assert_allclose(
                    pixel(page, f"attention_{name}", *where), colour(run, "viridis", level), atol=4
                )
                level = np.clip(cosines(run, index, at)[name][patch], 0, 1)
                np.testing.assert_allclose(
                    pixel(page, f"similarity_{name}", *where), colour(run, "viridis", level), atol=4
                )


def test_one_head_has_a_scale_of_its_own(open_view, run):
    page = watch(open_view, run)
    page.get_by_label("Attention head").select_option("2")
    np.testing.assert_allclose(shown(page)["attention_student"], attention(run["moments"][-1], 2), atol=1e-7)
    top = number(page.locator(".vx-bar").first.locator(".vx-tick").last.inner_text())
    everything = [attention(moment, 2) for moment in [run["reference"], *run["moments"]]]
    assert top == pytest.approx(scale_end(*everything), rel=0.01)
    assert events(page, "state")[-1]["head"] == 2
    page.evaluate("view.set({ head: '77' })")
    assert state(page, "head") == [2]


# ---------------------------------------------------------------- pointing


def test_the_first_patch_is_the_one_that_the_reference_looks_at_most(open_view, run):
    page = watch(open_view, run)
    assert state(page, "query", "pin") == [busiest(run), None]


def test_a_pointer_in_any_pane_moves_the_patch_in_all(open_view, run):
    page = watch(open_view, run)
    page.mouse.move(*centre(page, "attention_before", 3, 7))
    next_frame(page)
    assert state(page, "query") == [{"row": 3, "col": 7}]
    expected = cosines(run, 10, 3 * 16 + 7)
    np.testing.assert_allclose(shown(page)["similarity_student"], expected["student"], atol=1e-5)
    best = int(expected["student"].argmax())
    ring = box(page, "similarity_student").locator(".vx-mark-match")
    assert ring.evaluate("(node) => [parseFloat(node.style.top), parseFloat(node.style.left)]") == pytest.approx(
        [100 * (best // 16) / 16, 100 * (best % 16) / 16]
    )
    assert "row 3, col 7" in page.locator(".vx-tip").inner_text()
    page.mouse.click(*centre(page, "similarity_student", 9, 4))
    page.mouse.move(*centre(page, "similarity_before", 1, 1))
    next_frame(page)
    assert state(page, "query", "pin") == [{"row": 9, "col": 4}] * 2
    assert events(page, "state")[-1]["pin"] == {"row": 9, "col": 4}
    page.mouse.click(*centre(page, "similarity_student", 9, 4))
    assert state(page, "pin") == [None]


def test_the_keyboard_points_and_pins(open_view, run):
    page = watch(open_view, run)
    page.get_by_label("Wipe").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.pane") == "attention_reference"
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    next_frame(page)
    label = box(page, "attention_reference").get_attribute("aria-label") or ""
    value = attention(run["reference"])[2 * 16 + 1]
    assert "Attention, Teacher · clean: row 2, column 1" in label
    assert number(label.split("value ")[1]) == pytest.approx(value, rel=0.01)
    assert "row 2, column 1. attention: Teacher" in page.locator("p[aria-live]").inner_text()
    page.keyboard.press("Enter")
    assert state(page, "pin") == [{"row": 2, "col": 1}]
    page.keyboard.press("Escape")
    assert state(page, "pin") == [None]


def test_a_finger_points_and_taps(open_view, run):
    page = watch(open_view, run, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    page.touchscreen.tap(*centre(page, "similarity_student", 7, 6))
    assert state(page, "pin") == [{"row": 7, "col": 6}]
    controls = page.locator(".vx-select:visible, .vx-button:visible, .vx-range:visible")
    assert min(controls.evaluate_all("(nodes) => nodes.map((node) => node.offsetHeight)")) >= 40


def test_the_pointer_repaints_within_a_frame(open_view):
    page = watch(open_view, fixtures.recovery_payload(moments=40, every=3, dim=384))
    taken = []
    for step in range(40):
        page.mouse.move(*centre(page, "similarity_reference", step % 11, (3 * step) % 13))
        before = page.evaluate("view.stats.repaints")
        next_frame(page)
        taken.append(page.evaluate("view.stats.lastRepaintMs"))
        assert page.evaluate("view.stats.repaints") <= before + 1
    assert page.evaluate("view.stats.repaints") > 20, "the pointer moved and nothing was repainted"
    assert float(page.locator("#root").get_attribute("data-repaint-ms") or "nan") > 0
    assert statistics.median(taken) <= 16


# ---------------------------------------------------------------- a run that goes on


def test_at_the_end_the_newest_moment_is_followed_elsewhere_the_step_is_kept(open_view, run):
    page = watch(open_view, fixtures.recovery_until(run, 12))
    assert state(page, "index", "step") == [3, 12]
    page.evaluate(UPDATE, fixtures.recovery_until(run, 20))
    assert state(page, "index", "step") == [5, 20]
    slider = page.get_by_label("Recorded step")
    slider.focus()
    slider.press("Home")
    for _ in range(2):
        slider.press("ArrowRight")
    assert state(page, "index", "step") == [2, 8]
    page.evaluate(UPDATE, fixtures.recovery_until(run, 32))
    assert state(page, "index", "step") == [2, 8]
    assert slider.get_attribute("aria-valuetext") == "step 8"
    assert slider.evaluate("(node) => [node.value, node.max]") == ["2", "8"]
    np.testing.assert_allclose(shown(page)["attention_student"], attention(run["moments"][2]), atol=1e-7)
    slider.press("End")
    page.evaluate(UPDATE, run)
    assert state(page, "index", "step") == [10, 40]
    assert [event["step"] for event in events(page, "state")] == [0, 4, 8, 32], "only people's changes are reported"


def test_each_moment_is_decoded_once(open_view, run):
    page = watch(open_view, fixtures.recovery_until(run, 12))
    page.evaluate(
        "window.nodes = [...document.querySelectorAll('.vx :is(canvas, .vx-box, input, option, td, .vx-curve)')]"
    )
    for step, decoded in ((12, 4), (20, 6), (40, 11), (40, 11)):
        page.evaluate(UPDATE, fixtures.recovery_until(run, step))
        assert page.evaluate("view.stats.decoded") == decoded
    assert page.evaluate("window.nodes.length > 50 && window.nodes.every((node) => node.isConnected)")
    rewound = fixtures.recovery_until(run, 20)
    rewound["moments"] = [*rewound["moments"][:-1], {**run["moments"][8], "step": 20}]
    page.evaluate(UPDATE, rewound)
    assert page.evaluate("view.stats.decoded") == 12, "a step that was made again"
    np.testing.assert_allclose(shown(page)["attention_student"], attention(run["moments"][8]), atol=1e-7)


@pytest.mark.parametrize("name", ["run", "key"])
def test_another_run_or_other_pictures_begin_anew(open_view, run, name):
    page = watch(open_view, run)
    page.evaluate("view.set({ step: 8, pin: '15,8', head: 3, wipe: 30 })")
    other = fixtures.recovery_payload(moments=3, rows=8, cols=8)
    page.evaluate(UPDATE, {**other, "run": run["run"], "key": run["key"], name: "another"})
    assert state(page, "index", "pin", "head", "wipe") == [2, {"row": 7, "col": 4}, 3, 30]
    assert page.evaluate("view.stats.decoded") == 11 + 3
    np.testing.assert_allclose(shown(page)["attention_student"], attention(other["moments"][-1], 3), atol=1e-7)


def test_the_last_of_two_updates_wins(open_view, run):
    page = watch(open_view, None)
    page.evaluate(
        "([first, second]) => Promise.all([view.update(first), view.update(second)])",
        [fixtures.recovery_until(run, 8), fixtures.recovery_until(run, 16)],
    )
    assert state(page, "step") == [16]
    page.evaluate("(payload) => { view.update(payload); return view.update(null); }", {**run, "key": "later"})
    next_frame(page)
    assert page.locator(".vx-body").is_hidden()


def test_a_step_may_be_wished_for_before_there_is_one(open_view, run):
    page = watch(open_view, None)
    page.evaluate("view.set({ step: '8', head: '1', nonsense: 2 })")
    page.evaluate(UPDATE, run)
    assert state(page, "step", "head") == [8, 1]


def test_playing_takes_four_seconds_and_ends_at_the_end(open_view, run):
    page = watch(open_view, run)
    seen = page.evaluate(
        """async () => {
          const began = performance.now();
          const visited = [];
          document.querySelector("[name=play]").click();
          while (view.state().playing) {
            visited.push(view.state().index);
            await new Promise((done) => requestAnimationFrame(done));
          }
          return { visited, seconds: (performance.now() - began) / 1000 };
        }"""
    )
    assert seen["visited"] == sorted(seen["visited"])
    assert seen["visited"][0] == 0
    assert len(set(seen["visited"])) >= 8
    assert 3.8 < seen["seconds"] < 6
    assert state(page, "index") == [10]
    assert [event["playing"] for event in events(page, "state")] == [True, False]


def test_playing_can_be_paused_and_the_scrubber_takes_over(open_view, run):
    page = watch(open_view, run)
    page.evaluate("view.set({ index: 4 })")
    button = page.locator("[name=play]")
    button.click()
    assert button.inner_text() == "Pause"
    page.wait_for_function("view.state().index === 6")
    button.click()
    assert button.inner_text() == "Play"
    assert state(page, "playing", "index") == [False, 6]
    button.press("Enter")
    assert state(page, "playing") == [True]
    page.get_by_label("Recorded step").press("Home")
    assert state(page, "playing", "index") == [False, 0]
    page.evaluate(UPDATE, fixtures.recovery_until(run, 0, "waiting"))
    assert button.is_disabled(), "one moment is no film"


# ---------------------------------------------------------------- the wipe


def patches_on_screen(page: Page, pane: str) -> np.ndarray:
    """What is seen in the middle of each patch, "row col 3"."""
    png = box(page, pane).screenshot()
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    rows = ((np.arange(16) + 0.5) / 16 * image.shape[0]).astype(int)
    cols = ((np.arange(16) + 0.5) / 16 * image.shape[1]).astype(int)
    return image[rows][:, cols]


@pytest.mark.parametrize("what", ROWS)
def test_the_wipe_uncovers_the_past_on_the_left(open_view, run, what):
    page = watch(open_view, run)
    page.add_style_tag(content=".vx.vx .vx-marks, .vx.vx .vx-tip { display: none !important }")
    page.evaluate("view.set({ opacity: 1 })")
    before, after = (patches_on_screen(page, f"{what}_{name}") for name in ("before", "student"))
    assert (np.abs(before - after).max(-1) > 12).mean() > 0.3
    line = box(page, f"{what}_student").locator(".vx-wipeline")
    assert line.is_hidden()
    slider = page.get_by_label("Wipe")
    slider.fill("50")
    assert line.is_visible()
    wiped = patches_on_screen(page, f"{what}_student")
    np.testing.assert_allclose(wiped[:, :7], before[:, :7], atol=2)
    np.testing.assert_allclose(wiped[:, 9:], after[:, 9:], atol=2)
    assert slider.get_attribute("aria-valuetext") == "50 % before"
    slider.fill("100")
    np.testing.assert_allclose(patches_on_screen(page, f"{what}_student"), before, atol=2)
    assert events(page, "state")[-1]["wipe"] == 100


# ---------------------------------------------------------------- curves and table


def marker(page: Page, chart: int) -> float:
    path = page.locator(".vx-plothere").nth(chart).get_attribute("d") or ""
    return float(re.match(r"M([\d.]+) ", path).group(1))  # type: ignore[union-attr]


def test_the_curves_mark_the_step_and_choose_it(open_view, run):
    page = watch(open_view, run)
    width = page.locator(".vx-plot").first.evaluate("(node) => node.clientWidth")
    left, right = 40, width - 12
    for chart in (0, 1):
        assert marker(page, chart) == pytest.approx(right)
    page.evaluate("view.set({ step: 20 })")
    for chart in (0, 1):
        assert marker(page, chart) == pytest.approx((left + right) / 2)
    page.locator(".vx-plot").nth(1).click(position={"x": left + 0.31 * (right - left), "y": 60})
    assert state(page, "step") == [12]
    assert events(page, "state")[-1]["step"] == 12
    assert marker(page, 0) == pytest.approx(left + 0.3 * (right - left))


def test_curves_go_through_the_numbers(open_view, run):
    page = watch(open_view, run)
    dots = page.locator(".vx-chart").nth(1).locator(".vx-plot .vx-curve-cls:not(.vx-dashed) .vx-dots")
    starts = re.findall(r"M([\d.]+) ([\d.]+)a", dots.get_attribute("d") or "")
    held_out = [record["alignment"]["cls_cosine"] for record in run["records"] if record["alignment"]]
    expected = np.array([run["before"]["cls_cosine"], *held_out])
    heights = np.array([float(y) for _, y in starts])
    assert len(starts) == len(expected) == 6
    np.testing.assert_allclose(
        np.ptp(heights) * (expected - expected[0]) / np.ptp(expected), heights[0] - heights, atol=0.1
    )
    total = page.locator(".vx-chart").first.locator(".vx-plot .vx-curve-loss")
    points = re.findall(r"[ML]([\d.]+) ([\d.]+)", total.locator(".vx-faint").get_attribute("d") or "")
    losses = np.array([record["losses"]["loss"] for record in run["records"]])
    assert len(points) == len(losses)
    assert np.corrcoef(losses, [float(y) for _, y in points])[0, 1] == pytest.approx(-1, abs=1e-3)
    smoothed = re.findall(r"[ML]([\d.]+) ([\d.]+)", total.locator(".vx-stroke").get_attribute("d") or "")
    assert smoothed[20][1] != points[20][1]
    page.evaluate(UPDATE, fixtures.recovery_until(run, 24))
    assert total.locator(".vx-faint").get_attribute("d") == "", "few records are drawn as they are"


def test_hovering_a_chart_shows_its_values(open_view, run):
    page = watch(open_view, run)
    width = page.locator(".vx-plot").first.evaluate("(node) => node.clientWidth")
    page.locator(".vx-plot").nth(1).hover(position={"x": 40 + 0.25 * (width - 52), "y": 60})
    text = page.locator(".vx-tip").inner_text()
    assert text.startswith("step 10")
    assert "CLS, held-out (step 8)" in text
    values = [number(each) for each in page.locator(".vx-tip dd").all_inner_texts()]
    record, moment = run["records"][7]["alignment"], run["moments"][2]["agreement"]
    expected = [record["cls_cosine"], record["patch_cosine"], moment["cls_cosine"], moment["patch_cosine"]]
    assert values == pytest.approx(expected, abs=6e-4)
    page.mouse.move(1, 1)
    assert page.locator(".vx-tip").is_hidden()


def test_charts_and_table_can_be_read_without_seeing(open_view, run):
    page = watch(open_view, run)
    losses, agreement = page.get_by_role("img", name=re.compile("^(Losses|Agreement)")).all()
    first, last = (run["records"][i]["losses"]["loss"] for i in (0, -1))
    assert f"total: from {first:.3f} at step 1 to {last:.3f} at step 40" in (losses.get_attribute("aria-label") or "")
    assert "CLS, held-out: from 0.580 at step 0 to 0.900 at step 40" in (agreement.get_attribute("aria-label") or "")
    page.evaluate("view.set({ step: 12 })")
    rows = page.get_by_role("row").all_inner_texts()
    assert [number(text) for text in rows[1].split()[-4:]] == pytest.approx([0.52, 0.31, 0.2, 0.25])
    student = page.get_by_role("row").nth(2)
    assert "student, step 12" in student.inner_text()
    values = run["moments"][3]["agreement"]
    cells = student.get_by_role("cell").all_inner_texts()
    shown_there = [number(text.split()[0]) for text in cells]
    keys = ("cls_cosine", "patch_cosine", "attention_js", "attention_iou")
    assert shown_there == pytest.approx([values[key] for key in keys], abs=6e-4)
    assert all("closer" in (cell.text_content() or "") for cell in student.get_by_role("cell").all())


def test_missing_numbers_leave_gaps(open_view, run):
    bare = copy.deepcopy(run)
    for index in (9, 10):
        bare["records"][index]["losses"] = dict.fromkeys(bare["records"][index]["losses"])
    bare["records"][11]["losses"] = None
    bare["records"][-1] |= {"images_per_second": None, "eta_seconds": None}
    bare["moments"][-1]["agreement"] = dict.fromkeys(bare["moments"][-1]["agreement"])
    bare["before"] = {"cls_cosine": None, "patch_cosine": None}
    page = watch(open_view, bare)
    line = page.locator(".vx-plot .vx-curve-loss .vx-faint").get_attribute("d") or ""
    assert "NaN" not in line
    assert line.count("M") == 2
    assert page.get_by_role("row").nth(2).get_by_role("cell").all_inner_texts()[0].strip() == "\u2013"
    page.evaluate(UPDATE, {**bare, "records": [], "before": None})
    assert page.locator(".vx-body").is_visible()
    assert page.get_by_role("img", name="Losses. Nothing yet.").is_visible()


# ---------------------------------------------------------------- how a run stands


def test_the_status_of_a_running_training(open_view, run):
    page = watch(open_view, fixtures.recovery_until(run, 12))
    line = page.locator(".vx-runline")
    assert line.inner_text().split("\n") == ["running", "step 12 of 40", "15 images/s · 2 min left"]
    bar = page.get_by_role("progressbar")
    assert [bar.get_attribute(f"aria-value{name}") for name in ("min", "now", "max")] == ["0", "12", "40"]
    page.evaluate(UPDATE, fixtures.recovery_until(run, 36))
    assert "16 s left" in line.inner_text()
    slow = fixtures.recovery_until(run, 12)
    slow["records"] = [{**record, "eta_seconds": 7500.0} for record in slow["records"]]
    page.evaluate(UPDATE, slow)
    assert "2 h 5 min left" in line.inner_text()
    page.evaluate(UPDATE, run)
    assert line.inner_text().split("\n")[:2] == ["finished", "step 40 of 40"]
    assert "left" not in line.inner_text()


def test_screen_readers_are_told_seldom(open_view, run):
    page = watch(open_view, fixtures.recovery_until(run, 4))
    spoken = page.locator(".vx-run [role=status]")
    assert "running, step 4 of 40" in spoken.inner_text()
    for step in (8, 12, 16):
        page.evaluate(UPDATE, fixtures.recovery_until(run, step))
        assert "step 4 of 40" in spoken.inner_text()
    assert "step 16 of 40" in page.locator(".vx-runline").inner_text()
    page.evaluate(UPDATE, fixtures.recovery_until(run, 20, "stopping"))
    assert "stopping, step 20 of 40" in spoken.inner_text()


def test_a_failure_is_told(open_view, run):
    failed = {**fixtures.recovery_until(run, 12, "failed"), "message": "The <b>disk</b> is full."}
    page = watch(open_view, failed)
    assert page.locator(".vx-runmessage").inner_text() == "The <b>disk</b> is full."
    assert "The <b>disk</b> is full." in page.locator(".vx-run [role=status]").inner_text()
    assert state(page, "step") == [12], "what was recorded stays"
    page.evaluate(UPDATE, run)
    assert page.locator(".vx-runmessage").is_hidden()


def test_without_a_watched_picture_there_are_curves_only(open_view, run):
    bare = {name: run[name] for name in ("version", "run", "key", "steps", "records", "before")}
    waiting = {**bare, "state": "waiting", "message": "Waiting: 2 runs before this one.", "records": [], "moments": []}
    page = watch(open_view, waiting)
    assert page.locator(".vx-runmessage").inner_text() == "Waiting: 2 runs before this one."
    assert page.locator(".vx-box:visible").count() == 0
    page.evaluate(UPDATE, {**bare, "state": "running", "message": None, "moments": []})
    assert page.locator(".vx-plot:visible").count() == 2
    assert page.locator(".vx-plot .vx-curve-loss .vx-stroke").get_attribute("d")
    assert state(page, "index") == [None]
    page.evaluate(UPDATE, run)
    assert page.locator(".vx-box:visible").count() == 6
    assert state(page, "index") == [10]


def test_nothing_and_nonsense(open_view, run):
    page = watch(open_view, None)
    assert page.get_by_text("Start a run and watch the student learn here.").is_visible()
    page.evaluate(UPDATE, {**run, "grid": [7, 5]})
    assert "could not be read" in page.locator(".vx-notice").inner_text()
    page.evaluate(UPDATE, run)
    assert page.locator(".vx-notice").is_hidden()
    broken = copy.deepcopy(run)
    broken["key"] = "broken"
    broken["pictures"]["distorted"] = "data:image/png;base64,AAAA"
    page.evaluate(UPDATE, broken)
    assert page.locator(".vx-body").is_visible(), "a picture that cannot be decoded leaves the maps"
    broken["moments"][3]["attention"] = fixtures.encode(np.zeros((6, 9), np.uint8), 1.0)
    page.evaluate(UPDATE, broken)
    assert "step 12 has maps of [6,9]" in page.locator(".vx-notice").inner_text()
    page.evaluate("view.update(null)")
    assert page.locator(".vx-empty").is_visible()
    page.evaluate("view.destroy()")
    assert page.locator("#root > *").count() == 0


# ---------------------------------------------------------------- runs beside it


def beside(run: dict) -> list[dict]:
    """One that was recorded less often and stayed further away, and one that watched another picture."""
    slower = fixtures.recovery_payload(moments=6, every=8)
    for moment in slower["moments"]:
        values = np.roll(decode(moment["attention"]), 3, axis=1)
        scale = values.max() / 255
        moment["attention"] = fixtures.encode((values / scale).round().astype(np.uint8), float(scale))
    records = [record for record in slower["records"] if record["alignment"]]
    kept = {"records": records, "before": slower["before"]}
    return [
        {"name": "patch 0", "moments": slower["moments"], **kept},
        {"name": "b1c3", "why": "it watched another picture", **kept},
    ]


def with_others(run: dict) -> dict:
    return {**run, "beside": beside(run), "differs": [["patch", ["1", "0", "1"]], ["seed", ["0", "0", "7"]]]}


def test_runs_stand_beside_at_the_same_step_under_one_scale(open_view, run):
    page = watch(open_view, with_others(run))
    other = beside(run)[0]["moments"]
    everything = [attention(moment) for moment in [run["reference"], *run["moments"], *other]]
    assert page.evaluate(SCALE_END) == pytest.approx(scale_end(*everything), rel=0.01)
    query = busiest(run)
    for step, theirs in ((20, 2), (24, 3), (4, 0)):  # theirs are of every 8th
        page.evaluate("(step) => view.set({ step })", step)
        maps = shown(page)
        assert {name for name in maps if "beside" in name} == {"attention_beside0", "similarity_beside0"}
        np.testing.assert_allclose(maps["attention_beside0"], attention(other[theirs]), atol=1e-7)
        values = decode(other[theirs]["patches"]).astype(float)
        reference = decode(run["reference"]["patches"]).astype(float)[query["row"] * 16 + query["col"]]
        expected = values @ reference / np.linalg.norm(values, axis=1) / np.linalg.norm(reference)
        np.testing.assert_allclose(maps["similarity_beside0"], expected, atol=1e-5)
        caption = page.locator(".vx-pane", has=page.locator('[data-pane="attention_beside0"]')).locator(".vx-title")
        assert caption.inner_text() == f"patch 0 · step {8 * theirs}"
    rows = page.locator(".vx-agreement tbody tr").all_inner_texts()
    assert [text.split("\t")[0] for text in rows] == ["before, step 0", "student, step 4", "patch 0, step 0"]


def test_what_sets_runs_apart_is_told_and_their_curves_lie_in_one_chart(open_view, run):
    page = watch(open_view, with_others(run))
    table = page.locator(".vx-settings")
    assert table.locator("thead").inner_text().split() == ["this", "run", "patch", "0", "b1c3"]
    assert [row.split() for row in table.locator("tbody tr").all_inner_texts()] == [
        ["patch", "1", "0", "1"],
        ["seed", "0", "0", "7"],
    ]
    assert "b1c3: curves only, since it watched another picture." in page.locator(".vx-differences").inner_text()
    charts = page.locator(".vx-chart:visible")
    assert charts.locator(".vx-charttitle").all_inner_texts() == [
        "Losses",
        "CLS cosine, held-out pictures",
        "Patch cosine, held-out pictures",
    ]
    legend = charts.nth(1).locator("li").all_inner_texts()
    assert [" ".join(each.split()[:-1]) for each in legend] == ["this run", "patch 0", "b1c3"]
    assert "patch 0: from 0.580 at step 0 to 0.840 at step 32" in charts.nth(1).locator("svg").last.get_attribute(
        "aria-label"
    )
    page.evaluate(UPDATE, run)  # alone again
    page.wait_for_function("() => document.querySelector('.vx-differences').hidden")
    assert "Agreement with the teacher" in page.locator(".vx-chart:visible").last.inner_text()
    assert page.locator('[data-pane="attention_beside0"]').count() == 0
    assert set(shown(page)) >= {"attention_student"}


def test_what_is_saved_has_the_runs_beside(open_view, run):
    page = watch(open_view, with_others(run))
    with page.expect_download() as download:
        page.get_by_role("button", name="Save figure").click()
    assert Image.open(download.value.path()).width == 2 * (56 + 4 * 276 - 16)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save numbers").click()
    content = json.loads(Path(download.value.path()).read_text())
    assert set(content["attention"]) == {*COLUMNS, "beside0"}
    assert [each["name"] for each in content["beside"]] == ["patch 0", "b1c3"]
    assert content["differs"][0] == ["patch", ["1", "0", "1"]]


# ---------------------------------------------------------------- files


def test_figure_and_numbers_are_saved(open_view, run):
    page = watch(open_view, run)
    page.evaluate("view.set({ step: 8, pin: '5,9', wipe: 50 })")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save figure").click()
    assert download.value.suggested_filename == "vit-explorer-recovery-step8-row5-col9.png"
    image = Image.open(download.value.path())
    assert image.width == 2 * (56 + 3 * 276 - 16)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save numbers").click()
    content = json.loads(Path(download.value.path()).read_text())
    assert content["settings"] == page.evaluate("view.state()")
    assert (content["step"], content["query"], content["grid"]) == (8, {"row": 5, "col": 9}, [16, 16])
    expected = cosines(run, 2, 5 * 16 + 9)
    for name in COLUMNS:
        np.testing.assert_allclose(np.ravel(content["similarity"][name]), expected[name], atol=1e-4)
    np.testing.assert_allclose(np.ravel(content["attention"]["student"]), attention(run["moments"][2]), rtol=1e-4)
    assert content["agreement"]["student"] == run["moments"][2]["agreement"]
    assert len(content["records"]) == 40


# ---------------------------------------------------------------- looks


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("width", [390, 700, 950, 1050, 1440])
def test_no_width_overflows(open_view, run, width, others):
    page = watch(open_view, with_others(run) if others else run, viewport={"width": width, "height": 900})
    page.evaluate("view.set({ wipe: 40, pin: '3,3' })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    spilled = page.evaluate(
        """(selector) => [...document.querySelectorAll(selector)].filter((node) =>
          node.getBoundingClientRect().right > innerWidth - 15 || node.scrollWidth > node.clientWidth + 1
        ).map((node) => node.className)""",
        ".vx-run, .vx-scrub, .vx-triple, .vx-chart:not([hidden]), .vx-agreement, .vx-settings, .vx-controls",
    )
    assert spilled == []
    sizes = page.evaluate("""() => [...document.querySelectorAll(".vx *")].filter((node) => node.textContent.trim())
        .map((node) => parseFloat(getComputedStyle(node).fontSize))""")
    assert min(sizes) >= 12
    cut = page.evaluate("""() => [...document.querySelectorAll(".vx-title")]
        .filter((node) => node.scrollWidth > node.clientWidth).map((node) => node.textContent)""")
    assert cut == [], "which step a pane shows can be read"


def luminance(rgb: list[float]) -> float:
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(page: Page, selector: str, style: str) -> float:
    """Of the least legible element, with the surface."""
    found = page.evaluate(
        """([selector, style]) => {
          const context = new OffscreenCanvas(1, 1).getContext("2d");
          const read = (colour) => {
            context.fillStyle = colour;
            context.fillRect(0, 0, 1, 1);
            return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => value / 255);
          };
          const surface = getComputedStyle(document.querySelector(".vx")).getPropertyValue("--vx-surface");
          const nodes = [...document.querySelectorAll(selector)];
          return [read(surface), ...nodes.map((node) => read(getComputedStyle(node)[style]))];
        }""",
        [selector, style],
    )
    surface, *inks = [luminance(rgb) for rgb in found]
    assert inks
    return min((max(ink, surface) + 0.05) / (min(ink, surface) + 0.05) for ink in inks)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("stands", ["running", "failed", "finished", "stopped"])
def test_curves_and_words_stand_out(open_view, run, scheme, stands):
    other = copy.deepcopy(run)
    for record in other["records"]:
        record["losses"]["rows_of_patches"] = 0.2
    page = watch(open_view, {**other, "state": stands, "message": "A word."}, color_scheme=scheme)
    assert contrast(page, ".vx-curve .vx-stroke", "stroke") >= 3
    assert contrast(page, ".vx-plotgrid text", "fill") >= 4.5
    assert contrast(page, ".vx-state, .vx-facts, .vx-runmessage, .vx-legend span, .vx-closer", "color") >= 4.5
