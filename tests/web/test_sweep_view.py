"""The sweep view in a real browser: its points against the numbers, choosing, reading, what is missing, its files."""

import copy
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import sweep_fixtures as fixtures
from opening import Opener, events, next_frame, number
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from test_recovery_view import contrast

pytestmark = pytest.mark.browser

LEFT, RIGHT, TOP, BOTTOM, HEIGHT, INSET = 40, 16, 16, 44, 204, 8
"""Margins of a plot, its height, and how far the first strength stands from the axis, in px."""
SERIES = ("cls_cosine", "patch_cosine", "attention_js", "nearest_label")
WHO = ("teacher", "student")
UPDATE = "(payload) => view.update(payload)"


@pytest.fixture
def sweep() -> dict:
    return fixtures.sweep_payload()


def watch(open_view: Opener, payload: object, attributes: str = "", **context: object) -> Page:
    return open_view("sweepview", payload, attributes, **context)


def plot(page: Page, name: str) -> Locator:
    return page.locator(f'.vx-sweepplot[data-series="{name}"]')


def width_of(page: Page) -> float:
    return plot(page, "cls_cosine").evaluate("(node) => node.clientWidth")


def strength_px(page: Page, payload: dict, value: float) -> float:
    """Where a strength lies on an axis that is true to scale."""
    low, high = min(payload["values"]), max(payload["values"])
    return LEFT + INSET + (value - low) / (high - low) * (width_of(page) - LEFT - RIGHT - 2 * INSET)


def points(page: Page, name: str, who: str, part: str = "dots") -> np.ndarray:
    """Centres of the dots as they are drawn, "point xy", or the corners of the line."""
    path = plot(page, name).locator(f"[data-who={who}] .vx-{part}").get_attribute("d") or ""
    found = np.array([[float(x), float(y)] for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path)]).reshape(-1, 2)
    if part == "dots":
        found += [[4.5, 0]] if who == "teacher" else [[3.25, 3.25]]
    return found


def expected_points(page: Page, payload: dict, name: str, who: str) -> np.ndarray:
    series = next(each for each in payload["series"] if each["id"] == name)
    known = [(x, y) for x, y in zip(payload["values"], series[who], strict=True) if y is not None]
    share = [(series["high"] - value) / (series["high"] - series["low"]) for _, value in known]
    return np.array(
        [
            [strength_px(page, payload, x), TOP + each * (HEIGHT - TOP - BOTTOM)]
            for (x, _), each in zip(known, share, strict=True)
        ]
    ).reshape(-1, 2)


def marker(page: Page, name: str, line: str = "vx-sweephere") -> float | None:
    found = re.match(r"M([\d.]+) ", plot(page, name).locator(f".{line}").get_attribute("d") or "")
    return float(found[1]) if found else None


def point_at(page: Page, name: str, x: float, y: float = 90) -> None:
    plot(page, name).hover(position={"x": x, "y": y})
    next_frame(page)


def readout(page: Page, name: str) -> list[str]:
    figure = page.locator(".vx-chart", has=plot(page, name))
    return figure.locator(".vx-sweepat, .vx-sweepvalue, .vx-sweepgap").all_inner_texts()


def attributes(found: Locator, name: str) -> list[float]:
    return found.evaluate_all("(nodes, name) => nodes.map((node) => Number(node.getAttribute(name)))", name)


def chosen(page: Page) -> int | None:
    return page.evaluate("view.state().chosen")


# ---------------------------------------------------------------- where things are drawn


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_every_number_is_a_point(open_view, sweep, width):
    page = watch(open_view, sweep, viewport={"width": width, "height": 900})
    for name in SERIES:
        for who in WHO:
            expected = expected_points(page, sweep, name, who)
            np.testing.assert_allclose(points(page, name, who), expected, atol=0.03)
            np.testing.assert_allclose(points(page, name, who, "stroke"), expected, atol=0.03)


def test_dots_are_seen_where_the_numbers_say(open_view, sweep):
    page = watch(open_view, {**sweep, "chosen": None})
    image = Image.open(io.BytesIO(plot(page, "patch_cosine").screenshot())).convert("RGB")
    for who, colour in (("teacher", (0x00, 0x72, 0xB2)), ("student", (0xD5, 0x5E, 0x00))):
        for x, y in expected_points(page, sweep, "patch_cosine", who)[2:]:
            assert image.getpixel((round(x), round(y))) == colour


def test_a_larger_number_than_the_range_is_not_cut_off(open_view, sweep):
    sweep["series"][0]["student"][6] = -0.6
    page = watch(open_view, sweep)
    sweep["series"][0]["low"] = -0.6
    expected = expected_points(page, sweep, "cls_cosine", "student")
    np.testing.assert_allclose(points(page, "cls_cosine", "student"), expected, atol=0.03)
    assert "\u22120.5" in plot(page, "cls_cosine").locator(".vx-ytick").all_text_contents()


def test_the_reference_and_the_ticks_lie_on_the_axis(open_view, sweep):
    page = watch(open_view, sweep)
    line = plot(page, "nearest_label").locator(".vx-sweepreference").get_attribute("d") or ""
    y = float(re.match(r"M40 ([\d.]+)H", line)[1])
    assert y == pytest.approx(TOP + (1 - 0.9844) * (HEIGHT - TOP - BOTTOM), abs=0.03)
    ticks = plot(page, "attention_js").locator(".vx-ytick")
    for text, top in zip(ticks.all_text_contents(), attributes(ticks, "y"), strict=True):
        assert top - 4 == pytest.approx(TOP + (1 - float(text) / 0.6931) * (HEIGHT - TOP - BOTTOM), abs=0.03)
    assert ticks.count() == 4
    labels = plot(page, "cls_cosine").locator(".vx-xtick")
    assert labels.all_text_contents() == ["0", "0.1", "0.2", "0.4", "0.5", "0.6"], "0.3 is written by the marker"
    assert plot(page, "cls_cosine").locator(".vx-pill-chosen").text_content() == "0.3"
    for text, x in zip(labels.all_text_contents(), attributes(labels, "x"), strict=True):
        assert x == pytest.approx(strength_px(page, sweep, float(text)), abs=0.03)


def test_what_has_not_come_is_not_drawn(open_view, sweep):
    page = watch(open_view, fixtures.measured_until(sweep, 3))
    assert len(points(page, "cls_cosine", "teacher")) == 3
    assert marker(page, "cls_cosine") == pytest.approx(strength_px(page, sweep, 0.3), abs=0.03)
    gap = fixtures.measured_until(sweep, 7)
    for series in gap["series"]:
        series["student"][2] = None
    page.evaluate(UPDATE, gap)
    expected = expected_points(page, gap, "patch_cosine", "student")
    np.testing.assert_allclose(points(page, "patch_cosine", "student"), expected, atol=0.03)
    line = plot(page, "patch_cosine").locator("[data-who=student] .vx-stroke").get_attribute("d") or ""
    assert (line.count("M"), line.count("L")) == (2, 4), "no line is drawn over a strength that is not known"
    assert "NaN" not in page.locator(".vx-sweepcharts").inner_html()


def test_strengths_too_close_are_spaced_evenly_and_say_so(open_view):
    values = (0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5)
    payload = fixtures.sweep_payload(values, trained=(0.01, 0.3)) | {"chosen": None}
    page = watch(open_view, payload)
    xs = points(page, "cls_cosine", "teacher")[:, 0]
    ends = LEFT + INSET, width_of(page) - RIGHT - INSET
    np.testing.assert_allclose(xs, np.linspace(*ends, 7), atol=0.03)
    assert plot(page, "cls_cosine").locator(".vx-xname").text_content() == "sigma, evenly spaced (not to scale)"
    band = plot(page, "cls_cosine").locator(".vx-sweepband").get_attribute("d") or ""
    left, right = re.match(r"M([\d.]+) 16H([\d.]+)V", band).groups()
    assert float(left) == pytest.approx(xs[3], abs=0.03)
    assert float(right) == pytest.approx((xs[5] + xs[6]) / 2, abs=0.03)
    page.evaluate(UPDATE, fixtures.sweep_payload())
    assert plot(page, "cls_cosine").locator(".vx-xname").text_content() == "sigma (of the range [0, 1])"


def test_strengths_may_come_in_any_order(open_view, sweep):
    shuffled = copy.deepcopy(sweep)
    turn = [4, 0, 6, 2, 1, 5, 3]
    shuffled |= {name: [sweep[name][i] for i in turn] for name in ("values", "specs")}
    for series, straight in zip(shuffled["series"], sweep["series"], strict=True):
        series |= {who: [straight[who][i] for i in turn] for who in WHO}
    page = watch(open_view, shuffled | {"chosen": None})
    np.testing.assert_allclose(
        points(page, "cls_cosine", "teacher"), expected_points(page, sweep, "cls_cosine", "teacher"), atol=0.03
    )
    plot(page, "cls_cosine").click(position={"x": strength_px(page, sweep, 0.2), "y": 60})
    assert events(page, "strength") == [{"index": 3, "value": 0.2, "spec": "gaussian_noise(sigma=0.2)"}]
    plot(page, "cls_cosine").press("ArrowRight")
    assert page.evaluate("view.state().cursor") == turn.index(3)


def test_one_strength_is_enough(open_view):
    page = watch(open_view, fixtures.sweep_payload((0.3,)) | {"chosen": None})
    middle = (LEFT + width_of(page) - RIGHT) / 2
    np.testing.assert_allclose(points(page, "cls_cosine", "teacher"), [[middle, TOP]], atol=0.03)


# ---------------------------------------------------------------- where it was trained


def test_a_trained_range_is_shaded(open_view):
    payload = fixtures.sweep_payload(trained=(0.15, 0.45))
    page = watch(open_view, payload)
    for name in SERIES:
        band = plot(page, name).locator(".vx-sweepband").get_attribute("d") or ""
        found = [float(x) for x in re.match(r"M([\d.]+) 16H([\d.]+)V160", band).groups()]
        assert found == pytest.approx([strength_px(page, payload, value) for value in (0.15, 0.45)], abs=0.03)
    assert "student trained at sigma 0.15 to 0.45" in page.locator(".vx-sweeplegend").inner_text()


def test_one_trained_strength_is_a_band_that_can_be_seen(open_view, sweep):
    page = watch(open_view, sweep)
    tick = plot(page, "cls_cosine").locator(".vx-sweeptrained").get_attribute("d") or ""
    left, right = (float(x) for x in re.match(r"M([\d.]+) 160H([\d.]+)$", tick).groups())
    assert (left + right) / 2 == pytest.approx(strength_px(page, sweep, 0.3), abs=0.03)
    assert right - left == pytest.approx(10, abs=0.03)
    page.evaluate(UPDATE, fixtures.sweep_payload(trained=(0.9, 0.9)))
    assert plot(page, "cls_cosine").locator(".vx-sweepband").get_attribute("d") == ""
    assert "student trained at sigma 0.9, outside this axis" in page.locator(".vx-sweeplegend").inner_text()


def test_a_distortion_never_trained_on_has_a_badge(open_view, sweep):
    page = watch(open_view, sweep)
    badge = page.locator(".vx-sweepbadge")
    assert badge.is_hidden()
    page.evaluate(UPDATE, fixtures.severities(sweep))
    assert badge.inner_text() == "never trained on: the student learned gaussian_noise(sigma=0.3)"
    assert badge.is_visible()
    assert plot(page, "cls_cosine").locator(".vx-sweepband").get_attribute("d") == ""
    assert "trained at" not in page.locator(".vx-sweeplegend").inner_text()
    assert plot(page, "cls_cosine").locator(".vx-xtick").all_text_contents() == ["1", "2", "3", "4", "5"]
    page.evaluate(UPDATE, fixtures.severities(sweep) | {"never_trained": False})
    assert badge.is_visible(), "no range means the same"


# ---------------------------------------------------------------- choosing


@pytest.mark.parametrize("name", SERIES)
def test_a_click_on_a_point_chooses_its_strength_everywhere(open_view, sweep, name):
    page = watch(open_view, sweep)
    x, y = expected_points(page, sweep, name, "student")[5]
    plot(page, name).click(position={"x": x, "y": y})
    assert events(page, "strength") == [{"index": 5, "value": 0.5, "spec": "gaussian_noise(sigma=0.5)"}]
    for each in SERIES:
        assert marker(page, each) == pytest.approx(x, abs=0.03)
        assert plot(page, each).locator(".vx-pill-chosen").text_content() == "0.5"
    assert events(page, "state")[-1]["chosen"] == 5


def test_a_click_anywhere_chooses_the_nearest_strength(open_view, sweep):
    page = watch(open_view, sweep)
    for share, index in ((0.0, 0), (0.24, 1), (0.26, 2), (0.99, 6)):
        x = strength_px(page, sweep, 0.6 * share)
        plot(page, "attention_js").click(position={"x": x, "y": 30})
        assert chosen(page) == index
    plot(page, "attention_js").click(position={"x": 4, "y": 199})
    assert [event["index"] for event in events(page, "strength")] == [0, 1, 2, 6, 0]


def test_a_finger_chooses(open_view, sweep):
    page = watch(open_view, sweep, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    plot(page, "patch_cosine").tap(position={"x": strength_px(page, sweep, 0.4) + 9, "y": 120})
    assert [event["index"] for event in events(page, "strength")] == [4]


def test_the_keyboard_moves_and_chooses(open_view, sweep):
    page = watch(open_view, sweep)
    page.locator(".vx-help").first.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.series") == "cls_cosine"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    spoken = page.locator("p[aria-live=polite]")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert (chosen(page), page.evaluate("view.state().cursor")) == (3, 5)
    assert "sigma 0.5: CLS cosine teacher 0.431, student 0.722, gap +0.291, better" in spoken.inner_text()
    assert "attention JS teacher 0.287, student 0.173, gap \u22120.114, better" in spoken.inner_text()
    assert events(page, "strength") == []
    page.keyboard.press("Enter")
    assert events(page, "strength") == [{"index": 5, "value": 0.5, "spec": "gaussian_noise(sigma=0.5)"}]
    assert marker(page, "nearest_label") == pytest.approx(strength_px(page, sweep, 0.5), abs=0.03)
    for key, index in (("Home", 0), ("ArrowLeft", 0), ("End", 6), ("ArrowLeft", 5), ("Escape", None)):
        page.keyboard.press(key)
        assert page.evaluate("view.state().cursor") == index
    page.keyboard.press("Space")
    assert len(events(page, "strength")) == 2


def test_the_numbers_choose_too(open_view, sweep):
    page = watch(open_view, sweep)
    page.get_by_role("button", name="0.2", exact=True).click()
    assert events(page, "strength") == [{"index": 2, "value": 0.2, "spec": "gaussian_noise(sigma=0.2)"}]
    assert page.locator("thead .vx-sweepchosen").inner_text() == "0.2"


def test_late_answers_do_not_take_the_marker_back(open_view, sweep):
    page = watch(open_view, fixtures.measured_until(sweep, 2))
    for value in (0.5, 0.1):
        plot(page, "cls_cosine").click(position={"x": strength_px(page, sweep, value), "y": 60})
    for done, told in ((3, 3), (4, 5), (5, 5), (6, 1)):
        page.evaluate(UPDATE, fixtures.measured_until(sweep, done) | {"chosen": told})
        assert chosen(page) == 1
    page.evaluate(UPDATE, sweep | {"chosen": 4})
    assert chosen(page) == 4, "somebody else chose"
    page.evaluate(UPDATE, fixtures.severities(sweep) | {"chosen": 2})
    assert chosen(page) == 2
    page.evaluate(UPDATE, fixtures.severities(sweep) | {"chosen": 77})
    assert chosen(page) is None


def test_settings_choose_in_silence(open_view, sweep):
    page = watch(open_view, None)
    page.evaluate("view.set({ strength: '0.41' })")
    page.evaluate(UPDATE, sweep)
    assert page.evaluate("view.state()") == {
        "chosen": 4, "value": 0.4, "spec": "gaussian_noise(sigma=0.4)", "cursor": None, "numbers": True,
    }  # fmt: skip
    assert page.evaluate("log.splice(0).length") == 1, "maps of what was wished for are asked for"
    for setting, index in (("{ chosen: '2' }", 2), ("{ chosen: 'x' }", 2), ("{ chosen: null }", None)):
        page.evaluate(f"view.set({setting})")
        assert chosen(page) == index
    page.evaluate("view.set({ numbers: false })")
    assert page.locator(".vx-sweeptable").is_hidden()
    assert page.evaluate("log") == []


# ---------------------------------------------------------------- reading


def test_pointing_reads_all_charts_at_once(open_view, sweep):
    page = watch(open_view, sweep)
    assert readout(page, "cls_cosine") == ["sigma 0.3:", "0.702", "0.897", "gap +0.195 better"]
    point_at(page, "patch_cosine", strength_px(page, sweep, 0.5) - 12)
    for series in sweep["series"]:
        at, teacher, student, gap = readout(page, series["id"])
        assert at == "sigma 0.5:"
        exact = series["teacher"][5], series["student"][5]
        assert (float(teacher), float(student)) == pytest.approx(exact, abs=6e-4)
        assert number(gap.split()[1]) == pytest.approx(exact[1] - exact[0], abs=6e-4)
        assert gap.split()[2] == "better"
        assert marker(page, series["id"], "vx-plotpointer") == pytest.approx(strength_px(page, sweep, 0.5), abs=0.03)
        assert marker(page, series["id"]) == pytest.approx(strength_px(page, sweep, 0.3), abs=0.03)
    point_at(page, "patch_cosine", strength_px(page, sweep, 0.0))
    assert readout(page, "attention_js")[3] == "gap +0.021 worse"
    page.mouse.move(1, 1)
    next_frame(page)
    assert readout(page, "cls_cosine")[0] == "sigma 0.3:"
    assert marker(page, "cls_cosine", "vx-plotpointer") is None


def test_updates_keep_hover_focus_and_elements(open_view, sweep):
    page = watch(open_view, fixtures.measured_until(sweep, 2))
    plot(page, "attention_js").focus()
    parts = ".vx :is(svg, g, path, td, th, figure, button):not(.vx-plotgrid *)"
    page.evaluate("(parts) => { window.nodes = [...document.querySelectorAll(parts)]; }", parts)
    point_at(page, "cls_cosine", strength_px(page, sweep, 0.4))
    assert readout(page, "cls_cosine") == ["sigma 0.4:", "\u2013", "\u2013", ""]
    for done in (3, 5, 7):
        page.evaluate(UPDATE, fixtures.measured_until(sweep, done))
    assert readout(page, "cls_cosine") == ["sigma 0.4:", "0.553", "0.823", "gap +0.270 better"]
    assert page.evaluate("document.activeElement.dataset.series") == "attention_js"
    assert page.evaluate("nodes.length > 100 && nodes.every((node) => node.isConnected)")
    page.evaluate("view.set({ numbers: false })")
    page.evaluate(UPDATE, sweep)
    assert page.locator(".vx-sweeptable").is_hidden()


def test_charts_and_numbers_can_be_read_without_seeing(open_view, sweep):
    page = watch(open_view, sweep)
    chart = page.get_by_role("application", name="CLS cosine over sigma.")
    label = chart.get_attribute("aria-label") or ""
    assert "teacher: from 1.000 at 0 to 0.342 at 0.6; student: from 0.981 at 0 to 0.604 at 0.6" in label
    assert page.locator(".vx-sweepplot[tabindex='0'][aria-label]").count() == 4
    rows = [row.split("\t") for row in page.locator(".vx-sweeptable").inner_text().split("\n")]
    rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert rows[0] == ["sigma", "0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6"]
    for i, series in enumerate(sweep["series"]):
        name, teacher, student = rows[1 + 3 * i : 4 + 3 * i]
        assert name[0].startswith(series["title"])
        for who, row in zip(WHO, (teacher, student), strict=True):
            assert row[0] == who
            assert [float(cell) for cell in row[1:]] == pytest.approx(series[who], abs=6e-4)
    student = page.get_by_role("row", name="student").first
    words = student.get_by_role("cell").evaluate_all("(cells) => cells.map((cell) => cell.title.split(': ')[1])")
    assert words == ["worse", *["better"] * 6]


# ---------------------------------------------------------------- how it stands


def test_progress_is_determinate(open_view, sweep):
    page = watch(open_view, fixtures.measured_until(sweep, 3))
    bar = page.get_by_role("progressbar", name="Measuring")
    assert [bar.get_attribute(f"aria-value{name}") for name in ("min", "now", "max")] == ["0", "3", "7"]
    assert page.locator(".vx-facts").inner_text() == "measured 3 of 7 pictures"
    assert page.locator(".vx-done").evaluate("(node) => node.style.width") == pytest.approx("42.8571%")
    top = plot(page, "cls_cosine").bounding_box()["y"]
    page.evaluate(UPDATE, sweep)
    assert page.get_by_role("progressbar").count() == 0
    assert page.locator(".vx-progress").is_hidden()
    assert plot(page, "cls_cosine").bounding_box()["y"] == top, "nothing jumps at the end"
    assert "all 7 strengths" in page.locator("p[aria-live=polite]").inner_text()


def test_an_untouched_student_has_no_curve(open_view, sweep):
    page = watch(open_view, fixtures.untouched(sweep))
    for name in SERIES:
        assert len(points(page, name, "teacher")) == 7
        assert len(points(page, name, "student")) == 0
    note = page.locator(".vx-sweepnote")
    assert "untouched copy of the teacher" in note.inner_text()
    assert "student" not in page.locator(".vx-sweeplegend").inner_text()
    point_at(page, "cls_cosine", strength_px(page, sweep, 0.2))
    assert page.locator(".vx-sweepvalue:visible").all_inner_texts() == ["0.844", "0.703", "0.101", "0.906"]
    page.evaluate(UPDATE, sweep)
    assert note.is_hidden()
    assert len(points(page, "cls_cosine", "student")) == 7


@pytest.mark.parametrize("why", [None, "the labels are in another file"])
def test_a_missing_measure_says_why(open_view, sweep, why):
    bare = fixtures.without_labels(fixtures.measured_until(sweep, 2))
    bare["series"][3]["why"] = why
    page = watch(open_view, bare)
    text = f"not measured: {why or 'these pictures have no labels'}"
    missing = page.locator(".vx-sweepmissing")
    assert missing.all_text_contents() == ["", "", "", text]
    assert page.locator(".vx-sweepwhy:visible").all_inner_texts() == [text]
    plot(page, "nearest_label").click(position={"x": strength_px(page, sweep, 0.2), "y": 80})
    assert chosen(page) == 2
    page.evaluate(UPDATE, fixtures.measured_until(sweep, 0))
    assert missing.all_text_contents() == ["not measured yet"] * 4
    page.evaluate(UPDATE, sweep)
    assert missing.all_text_contents() == [""] * 4


def test_nothing_is_the_empty_state(open_view, sweep):
    page = watch(open_view, None)
    empty = page.get_by_text("Press Measure to see how teacher and student hold up as the damage grows.")
    assert empty.is_visible()
    page.evaluate(UPDATE, {"version": 1, "values": [], "message": "Choose <b>pictures</b> first."})
    assert page.locator(".vx-notice").inner_text() == "Choose <b>pictures</b> first."
    page.evaluate(UPDATE, sweep | {"message": "Half of the pictures."})
    assert empty.is_hidden()
    assert page.locator(".vx-notice").inner_text() == "Half of the pictures."
    page.evaluate("view.update(null)")
    assert empty.is_visible()
    assert page.locator(".vx-body, .vx-notice").evaluate_all("(nodes) => nodes.every((node) => node.hidden)")
    page.evaluate("view.destroy()")
    assert page.locator("#root > *").count() == 0


BROKEN = {
    "it is no object": [1, 2],
    "has version 2 instead of 1": {"version": 2},
    "strengths (values) are no list of numbers": {"values": ["weak", "strong"]},
    "no list of measures": {"series": None},
    "one of its measures (series) is no object": {"series": [None]},
    "the teacher's CLS cosine has 2 values for 7 strengths": {"teacher": [1, 2]},
    "holds something else than numbers": {"teacher": ["a"] * 7},
}


@pytest.mark.parametrize("message", BROKEN)
def test_nonsense_is_explained(open_view, sweep, message):
    page = watch(open_view, sweep)
    broken = BROKEN[message]
    if isinstance(broken, dict) and "teacher" in broken:
        bad = copy.deepcopy(sweep)
        bad["series"][0] |= broken
    else:
        bad = broken if isinstance(broken, list) else sweep | broken
    page.evaluate(UPDATE, bad)
    assert message in page.locator(".vx-notice").inner_text()
    assert page.locator(".vx-body").is_hidden()
    page.evaluate(UPDATE, sweep)
    assert page.locator(".vx-notice").is_hidden()
    assert len(points(page, "cls_cosine", "teacher")) == 7


@pytest.mark.parametrize("name", ["parameter", "specs", "trained", "pictures", "seed", "progress", "caption", "label"])
def test_a_field_of_the_wrong_kind_breaks_nothing(open_view, sweep, name):
    page = watch(open_view, sweep | {name: "(" if name != "trained" else 3})
    plot(page, "cls_cosine").click(position={"x": strength_px(page, sweep, 0.2), "y": 60})
    assert chosen(page) == 2
    assert len(points(page, "nearest_label", "student")) == 7


# ---------------------------------------------------------------- several students


def test_several_students_have_a_curve_each(open_view, sweep):
    names = ("noise", "a mixture", "fog 3", "fourth")
    several = copy.deepcopy(sweep) | {"trained": None}
    several["learned"] = [{"name": name, "spec": "gaussian_noise", "low": 0.1, "high": 0.5} for name in names]
    several["learned"][2] |= {"spec": "fog:3", "low": None, "high": None}
    for each in several["series"]:
        own = each.pop("student")
        each["students"] = {name: [round(value - 0.02 * i, 4) for value in own] for i, name in enumerate(names)}
    page = watch(open_view, several)
    legend = page.locator(".vx-sweeplegend li:visible").all_inner_texts()
    assert legend[0] == "teacher, frozen"
    assert legend[1:3] == [f"{name}, trained at sigma 0.1 to 0.5" for name in names[:2]]
    assert legend[3] == "fog 3, never trained on this"
    found = plot(page, "cls_cosine").locator("[data-who]")
    looks = found.evaluate_all("(groups) => groups.map((each) => [each.dataset.who, each.getAttribute('class')])")
    assert [who for who, _ in looks] == ["teacher", *names]
    assert len({look for _, look in looks}) == 5
    inks = (
        page.locator(".vx-sweepplot")
        .first.locator("[data-who] .vx-dots")
        .evaluate_all("(dots) => dots.map((each) => getComputedStyle(each).fill)")
    )
    assert len(set(inks)) == 5
    for name in names:
        line = plot(page, "cls_cosine").locator(f'[data-who="{name}"] .vx-stroke').get_attribute("d") or ""
        heights = [float(y) for y in re.findall(r"[ML][\d.-]+ ([\d.-]+)", line)]
        series = several["series"][0]["students"][name]
        expected = [TOP + (1 - value) * (HEIGHT - TOP - BOTTOM) for value in series]
        np.testing.assert_allclose(heights, expected, atol=0.03)
    page.evaluate("view.set({ chosen: 3, numbers: true })")
    texts = readout(page, "cls_cosine")
    assert texts[1:6] == [f"{value:.3f}" for value in (0.702, 0.897, 0.877, 0.857, 0.837)]
    assert texts[6] == "", "one gap would be that of one student"
    rows = [row.split() for row in page.locator(".vx-sweeptable tbody").first.locator("tr").all_inner_texts()[1:6]]
    assert [row[-4] for row in rows] == ["0.702", "0.897", "0.877", "0.857", "0.837"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Save numbers").click()
    saved = json.loads(Path(download.value.path()).read_text())["series"][0]
    assert saved["fourth"] == several["series"][0]["students"]["fourth"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Save figure").click()
    assert Image.open(download.value.path()).width > 600
    page.evaluate(UPDATE, sweep)  # one student again
    expect(page.locator(".vx-sweeplegend")).to_contain_text("student trained at sigma 0.3")
    assert plot(page, "cls_cosine").locator("[data-who]").count() == 2


# ---------------------------------------------------------------- files


def test_figure_and_numbers_are_saved(open_view, sweep):
    page = watch(open_view, sweep, attributes='class="dark"')
    with page.expect_download() as download:
        page.get_by_role("button", name="Save figure").click()
    assert download.value.suggested_filename == "vit-explorer-sweep-gaussian_noise-sigma0.3.png"
    image = Image.open(download.value.path()).convert("RGB")
    assert image.width == 2 * (56 + 2 * 260 + 16)
    assert image.getpixel((2, 2)) == (255, 255, 255)
    height, low, high = round(260 * 0.86) - 18, LEFT + INSET, 260 - RIGHT - INSET
    series = sweep["series"][3]  # second row, second column of cells
    for i, value in enumerate(series["student"]):
        x = 28 + 276 + low + (high - low) * i / 6
        y = 28 + 30 + 22 + round(260 * 0.86) + 16 + 22 + 18 + TOP + (1 - value) * (height - TOP - BOTTOM)
        assert image.getpixel((round(2 * x), round(2 * y))) == (0xD5, 0x5E, 0x00)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save numbers").click()
    content = json.loads(Path(download.value.path()).read_text())
    assert content["settings"] == page.evaluate("view.state()")
    for name in ("operator", "parameter", "values", "specs", "trained", "pictures", "seed", "caption"):
        assert content[name] == sweep[name]
    assert [each["student"] for each in content["series"]] == [each["student"] for each in sweep["series"]]
    assert content["complete"]


def test_a_link_carries_the_strength(open_view, sweep):
    page = watch(open_view, sweep)
    assert page.evaluate("view.link()") == {"strength": None}, "the payload chose it"
    page.evaluate("view.set({ strength: 0.3 })")
    assert page.evaluate("view.link()") == {"strength": 0.3}
    page = open_view("sweepview", None)
    page.evaluate("view.set({ strength: '0.3' })")
    page.evaluate("(payload) => view.update(payload)", {**sweep, "chosen": None})
    assert page.evaluate("view.state().value") == 0.3
    assert [each["value"] for each in events(page, "strength")] == [0.3], "its maps are asked for"


# ---------------------------------------------------------------- looks


@pytest.mark.parametrize(
    ("width", "columns", "opened"), [(390, 1, False), (700, 2, False), (950, 2, True), (1280, 4, True)]
)
def test_no_width_overflows(open_view, sweep, width, columns, opened):
    never = fixtures.severities(sweep)
    never["trained"]["spec"] = "gaussian_noise(sigma=0.3)+gaussian_blur(radius_px=4.0)+jpeg(quality=10)"
    page = watch(open_view, sweep, viewport={"width": width, "height": 900})
    lefts = page.locator(".vx-sweepplot").evaluate_all("(n) => n.map((svg) => svg.getBoundingClientRect().left)")
    assert len({round(left) for left in lefts}) == columns
    assert page.locator(".vx-sweeptable").is_visible() == opened
    page.evaluate("view.set({ numbers: true })")
    for payload in (sweep, fixtures.measured_until(sweep, 3), never, fixtures.untouched(sweep)):
        page.evaluate(UPDATE, payload)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        spilled = page.evaluate("""() =>
          [...document.querySelectorAll(".vx-chart *, .vx-sweephead *, .vx-sweeplegend *")]
            .filter((node) => node.getBoundingClientRect().right > innerWidth).map((node) => node.outerHTML)""")
        assert spilled == []
    sizes = page.evaluate("""() => [...document.querySelectorAll(".vx *")].filter((node) => node.textContent.trim())
        .map((node) => parseFloat(getComputedStyle(node).fontSize))""")
    assert min(sizes) >= 12


def test_the_marker_joins_charts_that_stand_below_each_other(open_view, sweep):
    page = watch(open_view, sweep, viewport={"width": 390, "height": 844})
    ends = page.locator(".vx-sweepjoin").evaluate_all(
        "(paths) => paths.map((path) => path.getAttribute('d') && path.getBoundingClientRect().bottom)"
    )
    tops = page.locator(".vx-sweephere").evaluate_all("(paths) => paths.map((p) => p.getBoundingClientRect().top + 6)")
    assert ends[:3] == pytest.approx(tops[1:], abs=1.5)
    assert ends[3] == ""
    page.set_viewport_size({"width": 1280, "height": 844})
    page.wait_for_function("[...document.querySelectorAll('.vx-sweepjoin')].every((p) => !p.getAttribute('d'))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_curves_and_words_stand_out(open_view, sweep, scheme):
    page = watch(
        open_view, fixtures.without_labels(sweep), 'class="dark"' if scheme == "dark" else "", color_scheme=scheme
    )
    page.locator(".vx-plot").first.focus()
    assert contrast(page, ".vx-sweepplot .vx-stroke, .vx-sweepreference, .vx-sweephere", "stroke") >= 3
    assert contrast(page, ".vx-sweepplot .vx-dots", "fill") >= 3
    assert contrast(page, ".vx-plotgrid text, .vx-sweepmissing", "fill") >= 4.5
    words = ".vx-sweepcaption, .vx-facts, .vx-legend span, .vx-sweepreadout span, .vx-sweeptable :is(th, td, button)"
    assert contrast(page, words, "color") >= 4.5
    teacher = plot(page, "cls_cosine").locator("[data-who=teacher] .vx-stroke")
    colours = {"light": "rgb(0, 114, 178)", "dark": "rgb(86, 180, 233)"}
    assert teacher.evaluate("(node) => getComputedStyle(node).stroke") == colours[scheme]
    student = plot(page, "cls_cosine").locator("[data-who=student] .vx-stroke")
    assert student.evaluate("(node) => getComputedStyle(node).strokeDasharray") == "6px, 3px"
