"""The embedding view in a real browser: what plotly draws against the payload, pointing, filters, files, looks."""

import base64
import copy
import io
import json
from collections.abc import Iterator
from pathlib import Path

import embedding_fixtures
import numpy as np
import plotly
import pytest
from embedding_fixtures import CLASSES, COLUMNS, SIDE
from opening import Opener, decode, events, next_frame, number
from PIL import Image
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

LIBRARY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
UPDATE = "(payload) => view.update(payload)"
IDS = ("teacher_clean", "teacher_distorted", "student_distorted", "student_clean")
TRACES = """() => document.querySelector(".vx-embedplot").data.map((trace) => ({
  type: trace.type, meta: trace.meta, visible: trace.visible, customdata: trace.customdata,
  selectedpoints: trace.selectedpoints, symbol: trace.marker?.symbol, ink: trace.marker?.color,
  x: trace.x, y: trace.y, z: trace.z, size: trace.marker?.size,
}))"""
RANGES = (
    """() => ["xaxis", "yaxis"].map((name) => [...document.querySelector(".vx-embedplot")._fullLayout[name].range])"""
)
RING_AT = """([x, y]) => {
  const box = document.querySelector(".vx-ring-chosen").getBoundingClientRect();
  return Math.hypot(box.x + box.width / 2 - x, box.y + box.height / 2 - y) < 2;
}"""
NO_WEBGL = """() => {
  const get = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    return kind.includes("webgl") ? null : get.call(this, kind, ...rest);
  };
}"""


@pytest.fixture(scope="module")
def payload() -> dict:
    return embedding_fixtures.embedding_payload()


@pytest.fixture(scope="module")
def deep() -> dict:
    return embedding_fixtures.embedding_payload(components=3)


@pytest.fixture(autouse=True)
def gl_may_be_slow(open_view: Opener) -> Iterator[None]:
    """A browser without a graphics card remarks on its own slowness; nothing else may be said."""
    yield
    open_view.complaints[:] = [line for line in open_view.complaints if "GL Driver Message" not in line]


def show(
    open_view: Opener,
    payload: dict | None,
    attributes: str = "",
    before: str = "",
    width: int = 1280,
    **context: object,
) -> Page:
    context = {"viewport": {"width": width, "height": 900}, **context}
    page = open_view("embeddingview", None, attributes, alone=bool(before), **context)
    if not page.evaluate("'Plotly' in window"):
        page.add_script_tag(path=LIBRARY)
    if before:
        page.evaluate(before)
    page.evaluate(UPDATE, payload)
    return page


def state(page: Page, name: str) -> object:
    return page.evaluate("(name) => view.state()[name]", name)


def traces(page: Page) -> dict[str, dict]:
    return {trace["meta"]: trace for trace in page.evaluate(TRACES) if trace["meta"]}


def measured(payload: dict, view: str, key: str) -> np.ndarray:
    return decode(next(each for each in payload["views"] if each["id"] == view)[key])


def place(page: Page, view: str, index: int) -> tuple[float, float]:
    found = page.evaluate("([view, index]) => window.view.pixel(view, index)", [view, index])
    return found["x"], found["y"]


def point_at(page: Page, view: str, index: int) -> None:
    x, y = place(page, view, index)
    page.mouse.move(x - 25, y - 25)
    page.mouse.move(x, y, steps=3)
    page.wait_for_function("(index) => view.state().pointed === index", arg=index)
    next_frame(page)


def chip(page: Page, name: str) -> object:
    return page.locator(f'.vx-chip[data-id="{name}"]')


def between(spots: np.ndarray, share: float) -> np.ndarray:
    """A place with no mark just above, below or beside it: in each direction the middle of a gap, near a quantile."""
    ordered = np.sort(spots, axis=0)
    start = round(share * len(spots))
    window = ordered[start - 12 : start + 12]
    widest = np.diff(window, axis=0).argmax(0)
    return np.array([(window[at, axis] + window[at + 1, axis]) / 2 for axis, at in enumerate(widest)])


def lonely(page: Page, payload: dict) -> tuple[str, int]:
    """The mark that is farthest from any other."""
    spots = [(view, index, *place(page, view, index)) for view in IDS for index in range(payload["shown"])]
    places = np.array([spot[2:] for spot in spots])
    apart = np.linalg.norm(places[:, None] - places, axis=-1) + 1e9 * np.eye(len(places))
    return spots[int(apart.min(1).argmax())][:2]


# ---------------------------------------------------------------- what is drawn


def test_every_view_is_drawn_where_the_payload_puts_it(open_view, payload):
    page = show(open_view, payload)
    drawn = traces(page)
    for view in IDS:
        points = measured(payload, view, "points")
        np.testing.assert_allclose(np.transpose([drawn[view]["x"], drawn[view]["y"]]), points, atol=1e-7)
        assert drawn[view]["customdata"] == list(range(40))
    assert len({drawn[view]["symbol"] for view in IDS}) == 4, "views can be told apart without colour"
    start, end = measured(payload, "teacher_clean", "points"), measured(payload, "teacher_distorted", "points")
    arrow = drawn["arrows_teacher_distorted"]
    np.testing.assert_allclose(arrow["x"][:2], [start[0, 0], end[0, 0]], atol=1e-7)
    assert arrow["x"][2::3] == [None] * 40
    titles = page.locator(".xtitle, .ytitle").all_text_contents()
    assert titles == [f"PC {i + 1} ({round(100 * share)} %)" for i, share in enumerate(payload["explained"])]


def test_both_axes_have_one_scale(open_view, payload):
    page = show(open_view, payload)
    points = measured(payload, "teacher_clean", "points")
    pixels = np.array([place(page, "teacher_clean", index) for index in range(40)])
    across, up = (np.polyfit(points[:, axis], pixels[:, axis], 1)[0] for axis in (0, 1))
    assert across == pytest.approx(-up, rel=1e-4)


def test_colours_follow_labels_or_views(open_view, payload):
    page = show(open_view, payload)
    ink = traces(page)["student_clean"]["ink"]
    labels = payload["pictures"]["labels"]
    assert len(set(ink)) == len(CLASSES)
    assert all((ink[i] == ink[j]) == (labels[i] == labels[j]) for i in range(40) for j in range(40))
    page.get_by_label("Colour by").select_option("view")
    drawn = traces(page)
    assert set(drawn["teacher_clean"]["ink"] + drawn["teacher_distorted"]["ink"]) == {"#0072b2"}
    assert set(drawn["student_clean"]["ink"]) == {"#d55e00"}
    assert events(page, "state")[-1]["colour"] == "view"
    page.evaluate(UPDATE, {**payload, "pictures": {**payload["pictures"], "labels": None, "classes": []}})
    assert page.get_by_role("group", name="Labels").is_hidden()
    page.evaluate("view.set({ colour: 'label' })")
    assert state(page, "colour") == "view", "without labels there is nothing else"


def test_filters_take_marks_and_arrows_and_move_nothing(open_view, payload):
    page = show(open_view, payload)
    before, spot = page.evaluate(RANGES), place(page, "student_clean", 3)
    tools = [i for i, label in enumerate(payload["pictures"]["labels"]) if CLASSES[label] == "tool"]
    kept = [i for i in range(40) if i not in tools]
    chip(page, "tool").click()
    drawn = traces(page)
    for view in IDS:
        assert drawn[view]["customdata"] == kept
        np.testing.assert_allclose(drawn[view]["x"], measured(payload, view, "points")[kept, 0], atol=1e-7)
    assert len(drawn["arrows_student_distorted"]["x"]) == 3 * len(kept)
    assert chip(page, "tool").get_attribute("aria-pressed") == "false"
    assert "32" in chip(page, "teacher_clean").inner_text()
    chip(page, "teacher_distorted").press("Enter")
    drawn = traces(page)
    assert [drawn[view]["visible"] for view in IDS] == [True, False, True, True]
    assert not drawn["arrows_teacher_distorted"]["visible"]
    assert not drawn["arrows_student_distorted"]["visible"], "an arrow needs both ends"
    assert page.evaluate(RANGES) == before
    assert place(page, "student_clean", 3) == spot
    page.get_by_role("button", name="none views").click()
    assert not any(traces(page)[view]["visible"] for view in IDS)
    page.get_by_role("button", name="all views").click()
    page.get_by_role("button", name="all labels").click()
    assert (state(page, "hidden_views"), state(page, "hidden_labels")) == ([], [])
    assert page.evaluate(RANGES) == before
    assert traces(page)["teacher_clean"]["customdata"] == list(range(40))


def test_arrows_can_be_fewer(open_view, payload):
    page = show(open_view, payload)
    assert page.locator(".vx-arrow").count() == 2, "both legs of the chosen picture"
    page.get_by_label("Arrows").select_option("pointed")
    assert not traces(page)["arrows_teacher_distorted"]["visible"]
    assert page.locator(".vx-arrow").count() == 2
    page.get_by_label("Arrows").select_option("none")
    assert page.locator(".vx-arrow").count() == 0
    assert page.locator(".vx-ring").count() == 4


def test_many_pictures_are_thinned_by_the_server_and_drawn_with_webgl(open_view):
    payload = embedding_fixtures.embedding_payload(count=800)
    page = show(open_view, {**payload, "total": 100_000})
    notes = page.locator(".vx-embednotes").inner_text()
    assert "800 of 100,000 pictures are drawn" in notes
    assert "drawn with WebGL: many points" in notes
    assert traces(page)["teacher_clean"]["type"] == "scattergl"
    assert state(page, "arrows") == "pointed"
    assert state(page, "hidden_views") == ["student_clean"], "at first; `set` brings it back"
    page.evaluate("view.set({ hidden_views: [] })")
    assert state(page, "hidden_views") == []
    again = show(open_view, payload, before=NO_WEBGL)
    assert "WebGL" not in again.locator(".vx-embednotes").inner_text()
    assert "pictures are drawn" not in again.locator(".vx-embednotes").inner_text()
    assert traces(again)["teacher_clean"]["type"] == "scatter"


# ---------------------------------------------------------------- pointing


def test_the_pointer_shows_the_picture_below_it(open_view, payload):
    page = show(open_view, payload)
    view, index = "student_distorted", 21
    point_at(page, view, index)
    card = page.locator(".vx-tip")
    assert payload["pictures"]["names"][index] in card.inner_text()
    assert "Student · distorted" in card.inner_text()
    told = number(card.inner_text().split("displacement ")[1])
    assert told == pytest.approx(measured(payload, view, "displacement")[index], abs=6e-4)
    style = card.locator(".vx-thumb").evaluate(
        "(node) => [getComputedStyle(node).backgroundPosition, node.offsetWidth]"
    )
    size = style[1]
    assert style[0] == f"{-(index % COLUMNS) * size}px {-(index // COLUMNS) * size}px"
    assert page.locator(".vx-panelname").inner_text() == payload["pictures"]["names"][index]
    page.mouse.move(5, 5)
    assert card.is_hidden()
    assert state(page, "pointed") == index, "the panel stays, so that one can go there"


def test_the_thumbnail_is_the_picture(open_view, payload):
    page = show(open_view, payload)
    page.evaluate("view.set({ pointed: 19 })")
    thumb = page.locator(".vx-panelhead .vx-thumb")
    seen = np.asarray(Image.open(io.BytesIO(thumb.screenshot())).convert("RGB").resize((12, 12)), float)
    sheet = Image.open(io.BytesIO(base64.b64decode(payload["sprite"]["image"].split(",")[1]))).convert("RGB")
    row, col = divmod(19, COLUMNS)
    tile = sheet.crop((SIDE * col, SIDE * row, SIDE * (col + 1), SIDE * (row + 1)))
    assert np.abs(seen - np.asarray(tile.resize((12, 12)), float))[2:-2, 2:-2].mean() < 8


def test_where_marks_overlap_the_nearest_is_meant(open_view, payload):
    page = show(open_view, payload)
    places = {view: np.array([place(page, view, index) for index in range(40)]) for view in IDS}
    x, y = np.mean([places["teacher_clean"][5], places["student_clean"][5]], axis=0) + np.array([3, 1])
    page.mouse.move(x - 20, y)
    page.mouse.move(x, y, steps=3)
    apart = {(view, i): np.hypot(*(places[view][i] - (x, y))) for view in IDS for i in range(40)}
    expected = min(apart, key=lambda spot: apart[spot])[1]
    page.wait_for_function("(index) => view.state().pointed === index", arg=expected)


def test_a_click_opens_the_picture_once(open_view, payload):
    page = show(open_view, payload)
    view, index = lonely(page, payload)
    page.mouse.click(*place(page, view, index))
    page.wait_for_timeout(500)
    expected = {"index": index, "name": payload["pictures"]["names"][index]}
    assert events(page, "open") == [expected]
    page.wait_for_timeout(400)
    page.mouse.dblclick(*place(page, view, index))
    page.wait_for_timeout(500)
    assert events(page, "open") == [expected] * 2
    area = page.locator(".vx-embedstage").bounding_box()
    page.mouse.click(area["x"] + 60, area["y"] + area["height"] - 60)
    assert len(events(page, "open")) == 2, "where there is no mark nothing opens"


@pytest.mark.parametrize("mode", ["Zoom", "Box Select", "Lasso Select"])
def test_a_click_opens_whatever_the_tool(open_view, payload, mode):
    page = show(open_view, payload)
    page.locator(f'.modebar-btn[data-title="{mode}"]').click()
    view, index = lonely(page, payload)
    page.mouse.click(*place(page, view, index))
    page.wait_for_timeout(400)
    assert [event["index"] for event in events(page, "open")] == [index]


def test_a_drag_moves_the_plot_and_opens_nothing(open_view, payload):
    page = show(open_view, payload)
    x, y = place(page, "teacher_clean", 12)
    before = page.evaluate(RANGES)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y - 40, steps=6)
    page.wait_for_function(RING_AT, arg=[x + 60, y - 40])
    page.mouse.up()
    page.wait_for_timeout(400)
    assert page.evaluate(RANGES) != before
    assert place(page, "teacher_clean", 12) == pytest.approx((x + 60, y - 40), abs=2)
    assert page.evaluate(RING_AT, [x + 60, y - 40])
    assert events(page, "open") == []


def test_the_keyboard_steps_opens_and_lets_go(open_view, payload):
    page = show(open_view, payload)
    stage = page.locator(".vx-embedstage")
    stage.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
    assert state(page, "pointed") == 14, "from the chosen picture, 12, on"
    next_frame(page)
    name = payload["pictures"]["names"][14]
    live = page.locator("p[aria-live]").inner_text()
    assert live.startswith(f"{name}, monument")
    moved = measured(payload, "teacher_distorted", "displacement")[14]
    assert f"Teacher · distorted displacement {moved:.2f}" in live
    assert name in page.locator(".vx-tip").inner_text()
    page.keyboard.press("Enter")
    assert events(page, "open") == [{"index": 14, "name": name}]
    chip(page, "monument").click()
    stage.focus()
    page.keyboard.press("ArrowRight")
    assert CLASSES[payload["pictures"]["labels"][state(page, "pointed")]] != "monument"
    page.keyboard.press("Escape")
    assert state(page, "pointed") is None
    assert page.locator(".vx-tip").is_hidden()


def test_a_box_selects_pictures_in_all_views(open_view, payload):
    page = show(open_view, payload)
    places = {view: np.array([place(page, view, index) for index in range(40)]) for view in IDS}
    low, high = (between(np.concatenate([*places.values()]), share) for share in (0.25, 0.7))
    inside = {view: ((spots > low) & (spots < high)).all(1) for view, spots in places.items()}
    expected = np.flatnonzero(np.any(list(inside.values()), axis=0)).tolist()
    assert 0 < len(expected) < 40
    page.locator('.modebar-btn[data-title="Box Select"]').click()
    page.mouse.move(*low)
    page.mouse.down()
    page.mouse.move(*high, steps=5)
    page.mouse.up()
    page.wait_for_function("view.state().selected")
    assert state(page, "selected") == expected
    names = [payload["pictures"]["names"][index] for index in expected]
    assert events(page, "select") == [{"indices": expected, "names": names, "slice": None}]
    assert traces(page)["student_clean"]["selectedpoints"] == sorted({*expected, 12})
    assert len(traces(page)["arrows_student_distorted"]["x"]) == 3 * len(expected)
    text = page.locator(".vx-selection").inner_text()
    assert text.startswith(f"{len(expected)} pictures selected")
    counts = np.bincount(np.array(payload["pictures"]["labels"])[expected], minlength=len(CLASSES))
    assert all(f"{name} {count}" in text for name, count in zip(CLASSES, counts, strict=True) if count)
    page.evaluate(UPDATE, payload)
    assert state(page, "selected") == expected, "the same pictures again"
    page.locator(".vx-embedstage").focus()
    page.keyboard.press("Escape")
    assert state(page, "selected") is None
    assert traces(page)["student_clean"]["selectedpoints"] is None
    assert events(page, "select")[-1] == {"indices": [], "names": [], "slice": None}


# ---------------------------------------------------------------- panel and numbers


def test_the_panel_shows_which_neighbours_come_and_go(open_view, payload):
    page = show(open_view, payload)
    index = int(np.argmax(measured(payload, "teacher_distorted", "own_rank") == 2))
    page.evaluate("(index) => view.set({ pointed: index })", index)
    clean = measured(payload, "teacher_clean", "neighbours")[index].tolist()
    labels = payload["pictures"]["labels"]
    for view in IDS:
        row = page.locator(f'.vx-paneltable tr[data-view="{view}"]')
        strip = row.locator("+ tr .vx-near")
        expected = measured(payload, view, "neighbours")[index].tolist()
        shown = [int(value) for value in strip.evaluate_all("(nodes) => nodes.map((node) => node.dataset.picture)")]
        assert [other for other in shown if other != index] == expected
        alike = [
            int(value)
            for value in row.locator("+ tr .vx-alike").evaluate_all("(all) => all.map((node) => node.dataset.picture)")
        ]
        assert alike == [other for other in expected if labels[other] == labels[index]]
        cells = row.locator("td").all_inner_texts()
        if view == "teacher_clean":
            assert (shown, cells) == (expected, ["0", "\u2013", "\u2013"])
            continue
        rank = int(measured(payload, view, "own_rank")[index])
        assert (shown.index(index) if rank <= 5 else -1) == (rank if rank <= 5 else -1)
        assert number(cells[0]) == pytest.approx(measured(payload, view, "displacement")[index], abs=6e-4)
        assert cells[1] == {0: "1st", 1: "2nd", 2: "3rd"}.get(rank, f"{rank + 1}th")
        assert cells[2] == f"{len(set(clean) & set(expected))} of 5"
        fresh = row.locator("+ tr .vx-nearnew").count()
        assert fresh == len(set(expected) - set(clean))
    first = measured(payload, "student_distorted", "neighbours")[index][0]
    target = page.locator('tr[data-view="student_distorted"] + tr').locator(f'[data-picture="{first}"]')
    cosine = measured(payload, "student_distorted", "cosines")[index][0]
    assert f"cosine {cosine:.3f}" in (target.get_attribute("aria-label") or "")
    target.press("Enter")
    assert events(page, "open") == [{"index": int(first), "name": payload["pictures"]["names"][first]}]
    next_frame(page)
    assert page.evaluate("document.activeElement.className") == "vx-panelname", "what was pressed is gone"
    assert page.locator(".vx-panelname").inner_text() == payload["pictures"]["names"][first]
    page.evaluate(UPDATE, {**payload, "chosen": int(first)})
    assert state(page, "pointed") is None
    assert "the picture that is open" in page.locator(".vx-panelhead").inner_text()


def test_a_thinned_embedding_has_no_neighbours(open_view, payload):
    thinned = copy.deepcopy(payload) | {"total": 5000, "sprite": None}
    for view in thinned["views"]:
        view |= dict.fromkeys(("neighbours", "cosines", "own_rank")) | {"mean_displacement": 0.321}
    page = show(open_view, thinned)
    assert page.locator(".vx-near").count() == 0
    assert "Neighbours are shown where all pictures are drawn" in page.locator(".vx-embedpanel").inner_text()
    cells = page.locator('.vx-paneltable tr[data-view="student_distorted"] td').all_inner_texts()
    assert number(cells[0]) == pytest.approx(measured(payload, "student_distorted", "displacement")[12], abs=6e-4)
    assert cells[1:] == ["\u2013", "\u2013"]
    told = page.locator('.vx-embedmeasures tr[data-view="student_distorted"] td').first.inner_text()
    assert number(told) == 0.321, "of all pictures, not of those that are drawn"
    with page.expect_download() as download:
        page.get_by_role("button", name="Save numbers").click()
    assert json.loads(Path(download.value.path()).read_text())["views"]["teacher_clean"]["own_rank"] is None


def test_the_measures_are_those_of_feature_space(open_view, payload):
    page = show(open_view, payload)
    for view in payload["views"]:
        cells = page.locator(f'.vx-embedmeasures tr[data-view="{view["id"]}"] td').all_inner_texts()
        assert number(cells[0]) == pytest.approx(decode(view["displacement"]).mean(), abs=6e-4)
        assert cells[1] == f"{round(100 * view['nearest_label'])} %"
        assert cells[2] == ("\u2013" if view["retrieval"] is None else f"{round(100 * view['retrieval'])} %")
    assert page.get_by_text("Distances in the picture are only a sketch").is_visible()
    page.get_by_text("retrieval@1").hover()
    assert "nearest clean picture is their own original" in page.locator(".vx-tip").inner_text()


# ---------------------------------------------------------------- three dimensions


def test_three_dimensions_are_drawn_and_clicked(open_view, deep):
    page = show(open_view, deep)
    page.wait_for_timeout(600)
    drawn = traces(page)
    assert {drawn[view]["type"] for view in IDS} == {"scatter3d"}
    for view in IDS:
        points = measured(deep, view, "points")
        np.testing.assert_allclose(np.transpose([drawn[view][axis] for axis in "xyz"]), points, atol=1e-7)
    view, index = lonely(page, deep)
    x, y = place(page, view, index)
    assert ink_near(page, x, y, traces(page)[view]["ink"][index]), "the mark is where the view says"
    start = place(page, "teacher_clean", deep["chosen"])
    page.mouse.click(x, y)
    page.wait_for_timeout(400)
    assert events(page, "open") == [{"index": index, "name": deep["pictures"]["names"][index]}]
    assert page.locator(".vx-panelname").inner_text() == deep["pictures"]["names"][index]
    page.mouse.move(x + 120, y + 60)
    page.mouse.move(x + 1, y, steps=3)
    page.wait_for_function("!document.querySelector('.vx-tip').hidden")
    assert deep["pictures"]["names"][index] in page.locator(".vx-tip").inner_text()
    page.mouse.down()
    for step in range(1, 7):
        page.mouse.move(x + 20 * step, y + 5 * step)
        next_frame(page)
    page.mouse.up()
    page.wait_for_timeout(800)
    assert len(events(page, "open")) == 1, "turning opens nothing"
    turned = place(page, "teacher_clean", deep["chosen"])
    assert np.hypot(*np.subtract(turned, start)) > 5
    assert page.evaluate(RING_AT, list(turned)), "the ring goes along"


def ink_near(page: Page, x: float, y: float, colour: str) -> bool:
    """Whether a colour is seen around a place."""
    clip = {"x": x - 9, "y": y - 9, "width": 18, "height": 18}
    seen = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"), int)
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return bool((np.abs(seen - wanted).max(-1) < 24).sum() > 8)


def test_without_webgl_the_first_two_components_are_drawn(open_view, deep):
    page = show(open_view, deep, before=NO_WEBGL)
    assert "offers no WebGL" in page.locator(".vx-embednotes").inner_text()
    drawn = traces(page)
    assert drawn["teacher_clean"]["type"] == "scatter"
    points = measured(deep, "teacher_clean", "points")
    np.testing.assert_allclose(np.transpose([drawn["teacher_clean"]["x"], drawn["teacher_clean"]["y"]]), points[:, :2])
    point_at(page, *lonely(page, deep))


def test_two_and_three_dimensions_follow_each_other(open_view, payload, deep):
    page = show(open_view, payload)
    page.evaluate(UPDATE, deep)
    assert traces(page)["teacher_clean"]["type"] == "scatter3d"
    page.evaluate(UPDATE, payload)
    assert traces(page)["teacher_clean"]["type"] == "scatter"
    assert page.locator(".vx-embedplot canvas").count() == 0
    view, index = lonely(page, payload)
    page.mouse.click(*place(page, view, index))
    page.wait_for_timeout(400)
    assert [event["index"] for event in events(page, "open")] == [index]


# ---------------------------------------------------------------- updates


def test_a_zoom_survives_what_stays_the_same(open_view, payload):
    page = show(open_view, payload)
    before = page.evaluate(RANGES)
    page.locator('.modebar-btn[data-title="Zoom in"]').click()
    page.wait_for_timeout(300)
    zoomed = page.evaluate(RANGES)
    assert zoomed != before
    page.evaluate(UPDATE, {**payload, "chosen": 3})
    chip(page, "tool").click()
    np.testing.assert_allclose(page.evaluate(RANGES), zoomed)
    page.evaluate(UPDATE, {**payload, "method": "umap", "explained": None})
    np.testing.assert_allclose(page.evaluate(RANGES), before)
    assert page.locator(".xtitle").text_content() == "UMAP 1"


def test_updates_leave_nothing_behind(open_view, payload):
    page = show(open_view, payload)
    page.evaluate(
        """() => { window.urls = 0; const make = URL.createObjectURL;
        URL.createObjectURL = (...all) => { window.urls += 1; return make.call(URL, ...all); }; }"""
    )
    count = "document.querySelectorAll('*').length"
    before = page.evaluate(count)
    for chosen in (3, 7, 12):
        page.evaluate(UPDATE, {**payload, "chosen": chosen})
    assert page.evaluate(count) == before
    assert page.evaluate("urls") == 0, "the same thumbnails are read once"
    page.evaluate("view.update(null)")
    assert page.get_by_text("Choose what to show and press Compute.").is_visible()
    page.evaluate(UPDATE, payload)
    assert page.evaluate(count) == before
    page.evaluate("view.destroy()")
    assert page.locator("#root > *").count() == 0


def test_the_last_of_two_updates_wins(open_view, payload):
    page = show(open_view, None)
    page.evaluate(
        "([first, second]) => Promise.all([view.update(first), view.update(second)])",
        [payload, {**payload, "chosen": 5, "caption": "second", "sprite": None}],
    )
    assert page.locator(".vx-embednotes").inner_text() == "second"
    page.evaluate("(payload) => { view.update(payload); return view.update(null); }", {**payload, "caption": "late"})
    next_frame(page)
    assert page.locator(".vx-body").is_hidden()


def test_waiting_is_told_quietly(open_view, payload):
    page = show(open_view, {**payload, "pending": "UMAP is on its way…", "untouched_student": True})
    assert page.locator(".vx-pending").inner_text() == "UMAP is on its way…"
    assert "untouched copy" in page.locator(".vx-notice").inner_text()
    page.evaluate(UPDATE, payload)
    assert page.locator(".vx-pending").is_hidden()
    assert page.locator(".vx-notice").is_hidden()


BREAK = {
    "views": lambda p: p.update(views="none"),
    "list of views": lambda p: p.update(views=[]),
    "names no pictures": lambda p: p.pop("pictures"),
    "4 components": lambda p: p.update(components=4),
    "displacement of": lambda p: p["views"][1].update(displacement=p["views"][1]["points"]),
    "no points": lambda p: p["views"][2].pop("points"),
    "bytes": lambda p: p["views"][0]["cosines"].update(data="AAAA"),
    "not among its pictures": lambda p: p["pictures"].update(names=["one"]) or _shrink(p),
    "3 labels for 40": lambda p: p["pictures"].update(labels=[0, 1, 2]),
}


def _shrink(payload: dict) -> None:
    """One picture, whose neighbours are those of many."""
    payload["pictures"].update(labels=None)
    for view in payload["views"]:
        for key in ("points", "displacement", "neighbours", "cosines", "own_rank"):
            if view[key] is not None:
                view[key] = embedding_fixtures.encode(decode(view[key])[:1].copy())


@pytest.mark.parametrize("reason", BREAK)
def test_a_broken_payload_is_told_not_thrown(open_view, payload, reason):
    broken = copy.deepcopy(payload)
    BREAK[reason](broken)
    page = show(open_view, payload)
    page.evaluate(UPDATE, broken)
    notice = page.locator(".vx-notice").inner_text()
    assert "could not be read" in notice
    assert reason in notice
    assert page.locator(".vx-empty").is_visible()
    page.evaluate(UPDATE, payload)
    assert page.locator(".vx-notice").is_hidden()
    assert page.locator(".vx-embedplot .scatterlayer").is_visible()


def test_a_message_alone_and_a_broken_sprite(open_view, payload):
    page = show(open_view, {"version": 1, "message": "Choose at least three <b>pictures</b>."})
    assert page.locator(".vx-notice").inner_text() == "Choose at least three <b>pictures</b>."
    page.evaluate(UPDATE, {**payload, "sprite": {"image": "data:image/png;base64,AAAA", "side": 48, "columns": 8}})
    assert page.locator(".vx-panelhead .vx-thumb").inner_text() == "B", "a letter instead of bayterek"


def test_without_plotly_the_numbers_remain(open_view, payload):
    page = open_view("embeddingview", payload, alone=True)
    assert "plotly.js, which could not be loaded" in page.locator(".vx-embedinstead").inner_text()
    assert page.locator(".vx-panelname").inner_text() == payload["pictures"]["names"][12]
    page.add_script_tag(path=LIBRARY)
    page.evaluate(UPDATE, payload)
    assert page.locator(".vx-embedinstead").is_hidden()
    assert len(traces(page)["teacher_clean"]["x"]) == 40


def test_settings_may_come_before_the_pictures_and_may_be_nonsense(open_view, payload):
    page = show(open_view, None)
    page.evaluate("view.set({ colour: 'view', arrows: 'sideways', hidden_views: 'student_clean', pointed: 3, x: 1 })")
    page.evaluate(UPDATE, payload)
    expected = {"colour": "view", "arrows": "all", "hidden_views": ["student_clean"], "pointed": None}
    assert {name: state(page, name) for name in expected} == expected
    page.evaluate("view.set({ pointed: 99, colour: '' })")
    assert (state(page, "pointed"), state(page, "colour")) == (None, "view")


def test_a_link_tells_what_is_picked_before_the_pictures_are_there(open_view, payload):
    page = show(open_view, payload)
    page.evaluate("view.set({ pointed: 7, selected: [3, 9], colour: 'view', hidden_labels: 'fish', hidden_views: '' })")
    told = page.evaluate("view.link()")
    name = payload["pictures"]["names"][7]
    expected = {"colour": "view", "arrows": None, "hidden_views": "", "hidden_labels": "fish"}
    others = ("density", "cluster_names", "cut_by", "slice")
    assert told == {**expected, "picked": name, "selected": "3,9", **dict.fromkeys(others)}
    before = page.evaluate("view.state()")
    again = open_view("embeddingview", None)
    again.evaluate("(told) => view.set(told)", {key: value for key, value in told.items() if value is not None})
    again.evaluate("(payload) => view.update(payload)", payload)
    assert again.evaluate("view.state()") == before


# ---------------------------------------------------------------- files and looks


def test_figure_and_numbers_are_saved(open_view, payload):
    page = show(open_view, {**payload, "link": {"photo": "farm_animal/owl.webp"}})
    with page.expect_download() as download:
        page.get_by_role("button", name="Save figure").click()
    assert download.value.suggested_filename == "vit-explorer-embedding-pca-2d.png"
    image = np.asarray(Image.open(download.value.path()).convert("RGB"), int)
    assert image.shape[1] == 2 * (2 * 28 + 4 * 260 + 3 * 16)
    blue = np.abs(image - (0, 0x72, 0xB2)).sum(-1) < 12
    assert blue.sum() > 100, "the chosen picture's arrow"
    with page.expect_download() as download:
        page.get_by_role("button", name="Save numbers").click()
    content = json.loads(Path(download.value.path()).read_text())
    assert content["settings"] == page.evaluate("view.state()")
    assert content["pictures"][7] == {"name": payload["pictures"]["names"][7], "label": "fish"}
    for view in IDS:
        saved = content["views"][view]
        for key in ("points", "displacement", "cosines"):
            np.testing.assert_allclose(saved[key], measured(payload, view, key), rtol=1e-5, atol=1e-7)
        assert saved["neighbours"] == measured(payload, view, "neighbours").tolist()


def test_class_names_are_no_markup_on_paper(open_view, payload):
    names = ["<b>bold</b> & <i>", "$a_1$", "&lt;", *payload["pictures"]["classes"][3:]]
    page = show(open_view, {**payload, "pictures": {**payload["pictures"], "classes": names}})
    page.evaluate("""() => {
      const toImage = Plotly.toImage;
      Plotly.toImage = (figure, options) => { window.asked = figure; return toImage(figure, options); };
    }""")
    with page.expect_download():
        page.get_by_role("button", name="Save figure").click()
    drawn = page.evaluate("""async () => {
      const place = document.body.appendChild(document.createElement("div"));
      await Plotly.newPlot(place, asked.data, asked.layout);
      const drawn = [...place.querySelectorAll(".legendtext")].map((text) => text.textContent);
      place.remove(); // other tests look at the same page
      return drawn;
    }""")
    assert drawn[-len(names) :] == names


@pytest.mark.parametrize("attributes", ["", 'class="dark"'])
def test_the_plot_follows_the_theme(open_view, payload, attributes):
    page = show(open_view, payload, attributes, color_scheme="light")
    ink = "document.querySelector('.vx-embedplot')._fullLayout.font.color"
    light, dark = "#1f2328", "#e6edf3"
    assert page.evaluate(ink) == (dark if attributes else light)
    page.evaluate("document.documentElement.classList.toggle('dark')")
    page.wait_for_function(f"{ink} === '{light if attributes else dark}'")
    colours = traces(page)["teacher_clean"]["ink"]
    page.evaluate("document.body.classList.toggle('unrelated')")
    next_frame(page)
    assert traces(page)["teacher_clean"]["ink"] == colours


@pytest.mark.parametrize("width", [390, 700, 950, 1280, 1440])
def test_no_width_overflows(open_view, payload, width):
    page = show(open_view, payload, width=width)
    page.add_style_tag(content="body { font-family: sans-serif }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    spilled = page.evaluate(
        """(selector) => [...document.querySelectorAll(selector)].filter((node) =>
          node.getBoundingClientRect().right > innerWidth - 15 || node.scrollWidth > node.clientWidth + 1
        ).map((node) => node.className)""",
        ".vx-embedtop, .vx-embedmain, .vx-embedside, .vx-embedmore, .vx-embedstage, .vx-embedpanel, .vx-nearest",
    )
    assert spilled == []
    sizes = page.evaluate("""() => [...document.querySelectorAll(".vx *:not(style)")]
        .filter((node) => node.textContent.trim()).map((node) => parseFloat(getComputedStyle(node).fontSize))""")
    assert min(sizes) >= 12
    page.set_viewport_size({"width": max(390, width - 150), "height": 900})
    page.wait_for_function(
        """() => { const plot = document.querySelector(".vx-embedplot");
          return plot.querySelector(".main-svg").clientWidth === plot.clientWidth; }"""
    )


def test_a_finger_opens_a_picture(open_view, payload):
    page = show(open_view, payload, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    view, index = lonely(page, payload)
    page.touchscreen.tap(*place(page, view, index))
    page.wait_for_timeout(600)
    assert events(page, "open") == [], "the first tap shows the neighbours"
    assert state(page, "pointed") == index
    expect(page.locator(".vx-embedpanel")).to_be_in_viewport()
    page.locator(".vx-embedplot").scroll_into_view_if_needed()
    page.touchscreen.tap(*place(page, view, index))
    page.wait_for_timeout(600)
    assert [event["index"] for event in events(page, "open")] == [index]
    controls = page.locator(".vx-select:visible, .vx-button:visible, .vx-chip:visible")
    assert min(controls.evaluate_all("(nodes) => nodes.map((node) => node.offsetHeight)")) >= 40


# ---------------------------------------------------------------- several students

STUDENTS = ("my_noise", "mixture, of all", "<b>blur</b>", "a student whose name is as long as names may well be")
SYMBOLS = ("circle", "diamond", "square", "cross", "x")


@pytest.fixture(scope="module")
def several() -> dict:
    return embedding_fixtures.embedding_payload(students=STUDENTS)


def test_each_student_has_its_mark_its_colour_and_its_arrow(open_view, several):
    page = show(open_view, several)
    page.get_by_label("Colour by").select_option("view")
    drawn = traces(page)
    networks = ("teacher", *STUDENTS)
    for who, symbol in zip(networks, SYMBOLS, strict=True):
        assert [drawn[f"{who}_{kind}"]["symbol"] for kind in ("clean", "distorted")] == [symbol, f"{symbol}-open"]
        points = measured(several, f"{who}_distorted", "points")
        np.testing.assert_allclose(np.transpose([drawn[f"{who}_distorted"][axis] for axis in "xy"]), points, atol=1e-7)
    inks = [set(drawn[f"{who}_distorted"]["ink"]) for who in networks]
    assert len(set.union(*inks)) == len(networks)
    assert {view for view, trace in drawn.items() if trace["visible"] and view.endswith("_clean")} == {"teacher_clean"}
    start = measured(several, "teacher_distorted", "points")[0]
    for who in STUDENTS:
        arrow = drawn[f"arrows_{who}_distorted"]
        end = measured(several, f"{who}_distorted", "points")[0]
        np.testing.assert_allclose([arrow["x"][:2], arrow["y"][:2]], np.transpose([start, end]), atol=1e-7)
    assert page.locator(".vx-arrow").count() == 1 + len(STUDENTS)
    assert page.get_by_label("Colour by").locator("option:checked").inner_text() == "teacher or which student"


def test_what_was_measured_is_told_for_each_student(open_view, several):
    page = show(open_view, several)
    rows = page.locator(".vx-embedmeasures tbody tr")
    assert rows.locator("th").all_inner_texts() == [view["title"] for view in several["views"]]
    assert page.locator(".vx-paneltable tbody tr[data-view]").count() == len(several["views"])
    glyphs = rows.locator("path").evaluate_all("(all) => all.map((path) => path.getAttribute('d'))")
    assert len(set(glyphs)) == len(SYMBOLS)
    said = page.locator(".vx-saying").inner_text()
    for who in STUDENTS:
        view = next(each for each in several["views"] if each["id"] == f"{who}_distorted")
        assert f"{round(100 * view['retrieval'])} % for {who}" in said


def test_one_student_comes_back_to_the_map(open_view, payload, several):
    page = show(open_view, several)
    page.evaluate("view.set({ hidden_views: [] })")
    assert state(page, "hidden_views") == []
    page.evaluate(UPDATE, payload)
    assert {view for view in traces(page) if not view.startswith("arrows")} == set(IDS)
    assert "for the student." in page.locator(".vx-saying").inner_text()
    page.evaluate(UPDATE, several)
    assert state(page, "hidden_views") == [f"{who}_clean" for who in STUDENTS], "as at first: others are there"


def test_students_in_three_dimensions_have_marks_that_plotly_draws(open_view):
    page = show(open_view, embedding_fixtures.embedding_payload(components=3, students=STUDENTS))
    drawn = traces(page)
    symbols = ["circle-open", "diamond-open", "square-open", "cross", "circle-open"]
    assert [drawn[f"{who}_distorted"]["symbol"] for who in ("teacher", *STUDENTS)] == symbols
    size = {view: trace["size"] for view, trace in drawn.items()}
    assert size[f"{STUDENTS[3]}_distorted"] < 0.6 * size["teacher_distorted"], "a dot"
    assert size[f"{STUDENTS[2]}_clean"] < 0.7 * size[f"{STUDENTS[2]}_distorted"], "no open cross"


def test_all_students_are_on_the_figure_and_among_the_numbers(open_view, several):
    page = show(open_view, several)
    page.evaluate("view.set({ colour: 'view' })")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save figure").click()
    image = np.asarray(Image.open(download.value.path()).convert("RGB"), int)
    for ink in ("0072b2", "d55e00", "18a884", "780048", "6c2400"):
        colour = [int(ink[start : start + 2], 16) for start in (0, 2, 4)]
        assert (np.abs(image - colour).max(-1) < 12).sum() > 100, ink
    with page.expect_download() as download:
        page.get_by_role("button", name="Save numbers").click()
    content = json.loads(Path(download.value.path()).read_text())
    assert list(content["views"]) == [view["id"] for view in several["views"]]
    view = f"{STUDENTS[1]}_clean"
    np.testing.assert_allclose(
        content["views"][view]["displacement"], measured(several, view, "displacement"), rtol=1e-5
    )


@pytest.mark.parametrize("width", [390, 950, 1440])
def test_names_of_students_overflow_no_width(open_view, several, width):
    page = show(open_view, several, width=width)
    page.add_style_tag(content="body { font-family: sans-serif }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    spilled = page.evaluate(
        """(selector) => [...document.querySelectorAll(selector)].filter((node) =>
          node.scrollWidth > node.clientWidth + 1).map((node) => node.className)""",
        ".vx-embedtop, .vx-embedmain, .vx-embedside, .vx-embedpanel, .vx-embedmeasures, .vx-chips",
    )
    assert spilled == []
