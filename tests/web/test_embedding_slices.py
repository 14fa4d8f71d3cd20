"""The map's contours, clusters and slices in a real browser: what is drawn against numpy, and how it is chosen."""

import base64
import copy
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import embedding_fixtures
import numpy as np
import plotly
import pytest
from embedding_fixtures import CLASSES
from embedding_fixtures import VIEWS as IN_VIEWS
from opening import Opener, decode, events, next_frame
from playwright.sync_api import Page, expect

from explorer.evaluation.embedding import OF_PICTURES, VIEWS
from explorer.evaluation.slices import slice_table
from explorer.scenes.evaluation import embedding_scene
from explorer.web import page_modules

pytestmark = pytest.mark.browser

LIBRARY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
COUNT = 60
UPDATE = "(payload) => view.update(payload)"
PLOT = "document.querySelector('.vx-embedplot')"
TRACE = f"(name) => {PLOT}.data.find((trace) => trace.meta === name || trace.name === name)"
NAMES = f"() => {PLOT}.layout.annotations.map(({{ x, y, text }}) => ({{ x, y, text }}))"
RANGES = f"() => ['xaxis', 'yaxis'].map((name) => [...{PLOT}._fullLayout[name].range])"
SHIFTS = """() => [".gl-container", ".cartesianlayer"].map((name) => document.querySelector(name).style.transform)"""
FLAT = """async (source) => {
  await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  window.Plotly = vxViews.flatplot;
}"""
PIXELS = """() => {
  const canvas = document.querySelector(".vx-embedplot canvas");
  return canvas.toDataURL("image/png");
}"""
PAN = """async ([x, y]) => {
  const cover = document.querySelector(".dragcover");
  const frames = [];
  let last = performance.now();
  for (let i = 0; i < 60; i++) {
    const at = { clientX: x + 2 * (i % 30), clientY: y + (i % 17), buttons: 1, bubbles: true };
    cover.dispatchEvent(new MouseEvent("mousemove", at));
    await new Promise(requestAnimationFrame);
    frames.push(performance.now() - last);
    last = performance.now();
  }
  return frames;
}"""


@pytest.fixture(scope="module")
def payload() -> dict:
    return embedding_fixtures.sliced_payload(COUNT)


@pytest.fixture(autouse=True)
def gl_may_be_slow(open_view: Opener) -> Iterator[None]:
    yield
    open_view.complaints[:] = [line for line in open_view.complaints if "GL Driver Message" not in line]


def show(open_view: Opener, payload: dict | None, width: int = 1280, **context: object) -> Page:
    page = open_view("embeddingview", None, viewport={"width": width, "height": 900}, **context)
    if not page.evaluate("'Plotly' in window"):
        page.add_script_tag(path=LIBRARY)
    page.evaluate(UPDATE, payload)
    return page


def state(page: Page, name: str) -> object:
    return page.evaluate("(name) => view.state()[name]", name)


def points(payload: dict, view: str = "teacher_clean") -> np.ndarray:
    return decode(next(each for each in payload["views"] if each["id"] == view)["points"])


def slice_of(payload: dict, name: str) -> dict:
    return next(each for each in payload["slices"] if each["id"] == name)


def pieces(page: Page) -> np.ndarray:
    trace = page.evaluate(TRACE, "density")
    assert trace["x"][2::3] == [None] * (len(trace["x"]) // 3)
    return np.array([[trace["x"][i::3], trace["y"][i::3]] for i in (0, 1)], dtype=float)


def heights(drawn: np.ndarray, spots: np.ndarray) -> list[float]:
    """For each line, the share of the spots that lie where it is as dense or denser; by Gaussians at the spots."""
    width = 0.5 * np.sqrt(spots.var(0).mean()) / len(spots) ** (1 / 6)

    def dense(places: np.ndarray) -> np.ndarray:
        squared = ((places[:, None] - spots) ** 2).sum(-1)
        return np.exp(-squared / (2 * width**2)).sum(1)

    on, at = dense(drawn[0].T), dense(spots)
    return [float((at >= 0.99 * height).mean()) for height in on]


# ---------------------------------------------------------------- contours


@pytest.mark.parametrize("view", ["teacher_clean", "teacher_distorted", "student_distorted"])
def test_contours_lie_around_the_pictures_of_the_chosen_view(open_view, payload, view):
    page = show(open_view, payload)
    choice, title = page.get_by_label("Density of"), next(name for each, *_, name, _ in IN_VIEWS if each == view)
    assert choice.locator("option").all_inner_texts() == ["none", *(name for *_, name, _ in IN_VIEWS)]
    assert choice.input_value() == "none"
    assert not page.evaluate(TRACE, "density")["visible"]
    choice.focus()
    page.keyboard.press("ArrowDown")
    choice.select_option(title)
    assert page.evaluate(TRACE, "density")["visible"]
    assert events(page, "state")[-1]["density"] == view
    told = f"density of {title}: the lines hold 30, 60 and 90 % of its pictures"
    assert told in page.locator(".vx-embednotes").inner_text()
    drawn, spots = pieces(page), points(payload, view)
    assert drawn.shape[2] > 100
    assert set(np.round(heights(drawn, spots), 1)) == {0.3, 0.6, 0.9}
    page.locator('.vx-chip[data-id="tool"]').click()
    kept = spots[np.array(payload["pictures"]["labels"]) != CLASSES.index("tool")]
    again = pieces(page)
    assert again.shape != drawn.shape, "of the pictures that are shown"
    assert set(np.round(heights(again, kept), 1)) == {0.3, 0.6, 0.9}
    choice.select_option("none")
    assert not page.evaluate(TRACE, "density")["visible"]


def test_a_view_that_is_gone_has_no_contours(open_view, payload):
    page = show(open_view, payload)
    page.evaluate("view.set({ density: 'student_clean' })")
    assert len(pieces(page)[0][0]) > 100, "though its marks may be hidden"
    fewer = {**payload, "views": payload["views"][:2]}
    page.evaluate(UPDATE, fewer)
    assert (state(page, "density"), page.get_by_label("Density of").input_value()) == ("none", "none")
    page.evaluate(UPDATE, payload)
    assert state(page, "density") == "student_clean"


@pytest.mark.parametrize(
    ("older", "view"),
    [(1, "teacher_clean"), ("1", "teacher_clean"), (True, "teacher_clean"), ("0", "none"), (False, "none")],
)
def test_links_of_a_box_that_was_ticked_are_read(open_view, payload, older, view):
    page = show(open_view, None)
    page.evaluate("(older) => view.set({ density: older })", older)
    page.evaluate(UPDATE, payload)
    assert state(page, "density") == view
    assert page.evaluate("view.link().density") == (None if view == "none" else view)


def test_three_dimensions_have_no_contours(open_view):
    page = show(open_view, embedding_fixtures.sliced_payload(COUNT, components=3))
    page.evaluate("view.set({ density: 'student_distorted' })")
    choice = page.get_by_label("Density of")
    assert choice.is_disabled()
    assert choice.locator("option:checked").inner_text() == "none (in two dimensions only)"
    assert state(page, "density") == "student_distorted", "for two dimensions"
    page.get_by_label("Names of clusters").check()
    assert len(page.evaluate(f"{PLOT}.layout.scene.annotations")) > 3


# ---------------------------------------------------------------- clusters


def test_clusters_have_their_names_at_the_median(open_view, payload):
    page = show(open_view, payload)
    assert page.evaluate(NAMES) == []
    page.get_by_label("Names of clusters").check()
    found, of = page.evaluate(NAMES), decode(payload["clusters"]["of"])
    assert [each["text"] for each in found] == [
        f"{i + 1}: {name}" for i, name in enumerate(payload["clusters"]["names"])
    ]
    for place, each in enumerate(found):
        np.testing.assert_allclose([each["x"], each["y"]], np.median(points(payload)[of == place], axis=0), rtol=1e-5)
    page.locator('.vx-chip[data-id="fish"]').click()
    assert len(page.evaluate(NAMES)) < len(found), "without its pictures there is no cluster"


def test_colours_follow_clusters_in_all_views(open_view, payload):
    page = show(open_view, payload)
    page.get_by_label("Colour by").select_option("cluster")
    of = decode(payload["clusters"]["of"]).tolist()
    for view in VIEWS:
        ink = page.evaluate(TRACE, view)["marker"]["color"]
        assert all((ink[i] == ink[j]) == (of[i] == of[j]) for i in range(COUNT) for j in range(COUNT))
    assert page.get_by_label("Names of clusters").is_checked(), "else nobody would know what the colours mean"
    page.evaluate("view.set({ pointed: 3 })")
    page.locator(".vx-embedstage").focus()
    page.keyboard.press("ArrowRight")
    assert f"cluster {of[4] + 1}: {payload['clusters']['names'][of[4]]}" in page.locator(".vx-tip").inner_text()
    page.get_by_label("Names of clusters").uncheck()
    assert (page.evaluate(NAMES), state(page, "cluster_names")) == ([], False)


def test_names_of_clusters_are_no_markup(open_view, payload):
    named = copy.deepcopy(payload)
    named["clusters"]["names"][0] = "<b>bold</b> 50 %"
    page = show(open_view, named)
    page.evaluate("view.set({ cluster_names: 1 })")
    next_frame(page)
    assert page.locator(".vx-embedplot .annotation").first.text_content() == "1: <b>bold</b> 50 %"
    named["clusters"]["names"][0] = "<i>$x$ & a name that is longer than there is room"
    page.evaluate(UPDATE, named)
    page.evaluate("view.painted()")
    assert page.locator(".vx-embedplot .annotation").first.text_content() == "1: <i>$x$ & a name that is lon…"


# ---------------------------------------------------------------- slices


def test_each_slice_has_its_numbers(open_view, payload):
    page = show(open_view, payload)
    table = slice_table(embedding_fixtures.synthetic(COUNT)).set_index(["key", "view"])
    seen = []
    for kind in ("outcome", "label", "cluster"):
        page.get_by_label("Slices by").select_option(kind)
        for row in page.locator(".vx-slicetable tbody tr").all():
            key = row.locator("button").get_attribute("data-slice")
            teacher, student = (table.loc[(key, f"{who}_distorted")] for who in ("teacher", "student"))
            cells = [text.replace("\xa0", " ") for text in row.locator("td").all_inner_texts()]
            assert cells[0] == str(teacher["pictures"])
            if teacher["pictures"]:
                assert cells[1] == f"{teacher['displacement']:.3f} → {student['displacement']:.3f}"
                shares = [
                    f"{100 * one[name]:.0f} %" for name in ("nearest_label", "retrieval") for one in (teacher, student)
                ]
                assert cells[2:] == [f"{shares[0]} → {shares[1]}", f"{shares[2]} → {shares[3]}"]
            seen.append(key)
    assert seen == [
        each["id"] for kind in ("outcome", "label", "cluster") for each in payload["slices"] if each["kind"] == kind
    ]


def test_a_slice_selects_its_pictures(open_view, payload):
    page = show(open_view, payload)
    page.get_by_label("Slices by").select_option("label")
    button = page.get_by_role("button", name="tool", exact=True)
    button.focus()
    place = button.bounding_box()
    page.keyboard.press("Enter")
    assert button.bounding_box() == place, "a second press meets the same slice"
    expected = [i for i, label in enumerate(payload["pictures"]["labels"]) if CLASSES[label] == "tool"]
    assert (state(page, "selected"), state(page, "slice")) == (expected, "label:tool")
    names = [payload["pictures"]["names"][index] for index in expected]
    assert events(page, "select") == [{"indices": expected, "names": names, "slice": "tool"}]
    assert events(page, "state")[-1]["slice"] == "label:tool"
    page.evaluate(UPDATE, copy.deepcopy(payload))
    assert page.evaluate(TRACE, "student_distorted")["selectedpoints"] == expected
    assert page.locator(".vx-selection span").inner_text() == f"{len(expected)} pictures selected · tool"
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    assert (state(page, "selected"), state(page, "slice")) == (None, None)
    assert page.locator(".vx-selection").inner_text() == "No pictures are selected."
    button.press("Enter")
    page.get_by_role("button", name="Clear", exact=True).press("Enter")
    assert page.evaluate("document.activeElement.className") == "vx-embedstage"
    button.click()
    page.keyboard.press("Escape")
    assert (state(page, "selected"), state(page, "slice")) == (None, None)
    page.get_by_label("Slices by").select_option("outcome")
    empty = next(each for each in payload["slices"] if each["kind"] == "outcome" and not each["count"])
    assert page.get_by_role("button", name=empty["title"]).is_disabled()


def test_a_slice_is_cut_anew_for_other_numbers(open_view, payload):
    page = show(open_view, payload)
    page.evaluate("view.set({ slice: 'found:student' })")
    other = copy.deepcopy(payload)
    slice_of(other, "found:student")["indices"] = embedding_fixtures.encode(np.array([4, 7], np.int32))
    page.evaluate(UPDATE, other)
    assert state(page, "selected") == [4, 7]
    assert "2 of its " in page.locator(".vx-selection").inner_text(), "fewer are drawn than there are"
    other["slices"] = [each for each in other["slices"] if each["id"] != "found:student"]
    page.evaluate(UPDATE, other)
    assert (state(page, "selected"), state(page, "slice")) == (None, None)


def test_a_selection_that_nobody_pressed_is_told_once(open_view, payload):
    page = show(open_view, None)
    page.evaluate("view.set({ slice: 'found:student' })")
    page.evaluate(UPDATE, payload)
    chosen = decode(slice_of(payload, "found:student")["indices"]).tolist()
    assert [each["indices"] for each in events(page, "select")] == [chosen], "of a link"
    page.evaluate(UPDATE, payload)
    other = copy.deepcopy(payload)
    slice_of(other, "found:student")["indices"] = embedding_fixtures.encode(np.array([4, 7], np.int32))
    page.evaluate(UPDATE, other)
    names = [payload["pictures"]["names"][index] for index in (4, 7)]
    told = events(page, "select")
    assert len(told) == 2
    assert told[-1] == {"indices": [4, 7], "names": names, "slice": "found again by the student"}
    page.evaluate(UPDATE, embedding_fixtures.embedding_payload())
    assert (state(page, "selected"), len(events(page, "select"))) == (None, 2), "whoever took it keeps it"


def test_a_link_tells_contours_clusters_and_slice(open_view, payload):
    page = show(open_view, payload)
    assert set(page.evaluate("view.link()").values()) == {None}
    page.evaluate(
        """view.set({
          density: 'teacher_distorted', cluster_names: 1, cut_by: 'cluster', slice: 'cluster:1', colour: 'cluster',
        })"""
    )
    told = {name: str(value) for name, value in page.evaluate("view.link()").items() if value is not None}
    assert told == {
        "colour": "cluster",
        "density": "teacher_distorted",
        "cluster_names": "1",
        "cut_by": "cluster",
        "slice": "cluster:1",
    }
    before = page.evaluate("view.state()")
    assert before["selected"] == decode(slice_of(payload, "cluster:1")["indices"]).tolist()
    for settings in (told, before):
        again = show(open_view, None)
        again.evaluate("(told) => view.set(told)", settings)
        again.evaluate(UPDATE, payload)
        assert again.evaluate("view.state()") == before
    again.evaluate("view.set({ density: 'maybe', cut_by: 'size', slice: 'nonsense' })")
    assert again.evaluate("view.state()") == {**before, "selected": None, "slice": None}


def test_older_payloads_have_neither(open_view, payload):
    page = show(open_view, {key: value for key, value in payload.items() if key not in ("clusters", "slices")})
    assert page.get_by_label("Names of clusters").is_hidden()
    assert page.get_by_label("Slices by").is_hidden()
    assert page.get_by_label("Colour by").locator("option").all_inner_texts() == ["label", "teacher or student"]
    page.evaluate("view.set({ colour: 'cluster', cluster_names: 1, slice: 'label:tool' })")
    assert [state(page, name) for name in ("colour", "cluster_names", "slice")] == ["label", False, None]
    page.evaluate(UPDATE, payload)
    assert state(page, "colour") == "cluster"
    assert page.get_by_label("Slices by").is_visible()


def test_clusters_that_do_not_fit_are_told(open_view, payload):
    broken = copy.deepcopy(payload)
    broken["clusters"]["names"] = ["one"]
    page = show(open_view, broken)
    assert "its clusters do not fit its pictures" in page.locator(".vx-notice").inner_text()


def test_figure_and_numbers_carry_them(open_view, payload):
    page = show(open_view, payload)
    page.evaluate("view.set({ density: 'student_distorted', colour: 'cluster', slice: 'lost:student', pointed: 5 })")
    page.evaluate("""() => {
      const toImage = Plotly.toImage;
      Plotly.toImage = (figure, options) => { window.asked = figure; return toImage(figure, options); };
    }""")
    with page.expect_download():
        page.get_by_role("button", name="Save figure").click()
    asked = page.evaluate("asked")
    names = [f"{place + 1}: {name}" for place, name in enumerate(payload["clusters"]["names"])]
    assert [trace["name"] for trace in asked["data"]][-len(names) :] == names
    assert [note["text"] for note in asked["layout"]["annotations"]][: len(names)] == names
    assert len(asked["layout"]["annotations"]) == len(names) + 2, "and the arrows of the picture that is pointed at"
    lines = next(trace for trace in asked["data"] if trace["name"] == "density")
    assert lines["visible"]
    np.testing.assert_array_equal(lines["x"], page.evaluate(TRACE, "density")["x"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Save numbers").click()
    content = json.loads(Path(download.value.path()).read_text())
    assert content["settings"]["slice"] == "lost:student"
    assert content["clusters"] == payload["clusters"]["names"]
    assert [each["cluster"] for each in content["pictures"]] == decode(payload["clusters"]["of"]).tolist()
    saved = next(each for each in content["slices"] if each["id"] == "lost:student")
    expected = slice_of(payload, "lost:student")
    assert saved == {
        **{k: v for k, v in expected.items() if k != "indices"},
        "pictures": decode(expected["indices"]).tolist(),
    }


def test_a_page_of_its_own_draws_them_too(open_view, payload):
    page = open_view("embeddingview", None, alone=True)
    page.evaluate(FLAT, page_modules("embeddingview")[-1])
    page.evaluate(UPDATE, payload)
    seen = [page.evaluate(PIXELS)]
    changes = ("density: 'teacher_clean'", "density: 'teacher_distorted'", "cluster_names: 1", "density: 'none'")
    for settings in (*changes, "cluster_names: 0"):
        page.evaluate(f"view.set({{ {settings} }})")
        next_frame(page)
        seen.append(page.evaluate(PIXELS))
    assert len(set(seen)) == 5
    assert seen[0] == seen[-1]
    assert base64.b64decode(seen[0].partition(",")[2]), "there is a picture"


@pytest.mark.parametrize("width", [390, 700, 1280])
def test_no_width_overflows_and_fingers_find_the_slices(open_view, payload, width):
    page = show(open_view, payload, width=width, has_touch=True)
    page.add_style_tag(content="body { font-family: sans-serif }")
    page.evaluate("view.set({ cut_by: 'cluster', cluster_names: 1 })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".vx-slicetable").evaluate("(node) => node.scrollWidth <= node.clientWidth + 1")
    heights = page.locator(".vx-slice").evaluate_all("(nodes) => nodes.map((node) => node.offsetHeight)")
    assert min(heights) >= 28


# ---------------------------------------------------------------- many points


def test_a_map_of_many_points_is_shifted_while_it_is_dragged(open_view):
    page = show(open_view, embedding_fixtures.sliced_payload(1100))
    assert page.evaluate(TRACE, "teacher_clean")["type"] == "scattergl"
    start = page.evaluate("view.pixel('teacher_clean', 0)")
    area = page.locator(".nsewdrag").bounding_box()
    x, y = area["x"] + 0.5 * area["width"], area["y"] + 0.5 * area["height"]
    before = page.evaluate(RANGES)
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate(
        """([x, y]) => document.querySelector(".dragcover").dispatchEvent(
      new MouseEvent("mousemove", { clientX: x + 60, clientY: y - 40, buttons: 1, bubbles: true }))""",
        [x, y],
    )
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert page.evaluate(SHIFTS) == ["translate(60px, -40px)"] * 2
    assert page.evaluate(RANGES) == before, "plotly has not heard of it"
    page.wait_for_function(f"({SHIFTS})().every((shift) => !shift)")
    after = page.evaluate("view.pixel('teacher_clean', 0)")
    assert (after["x"] - start["x"], after["y"] - start["y"]) == pytest.approx((60, -40), abs=1), "it rests: drawn anew"
    page.mouse.move(x + 10, y + 20, steps=4)
    page.mouse.up()
    assert page.evaluate(SHIFTS) == ["", ""]
    after = page.evaluate("view.pixel('teacher_clean', 0)")
    assert (after["x"] - start["x"], after["y"] - start["y"]) == pytest.approx((10, 20), abs=1)
    page.mouse.move(x + 90, y + 90, steps=3)
    assert page.evaluate("view.pixel('teacher_clean', 0)") == after, "nothing is held any more"


@pytest.mark.slow
def test_a_hundred_thousand_pictures_are_thinned_in_little_memory(open_view):
    embedding = embedding_fixtures.synthetic(100_000, dim=8)
    generator = np.random.default_rng(0)
    values = {name: generator.random(100_000).round() for name in OF_PICTURES}
    embedding.__dict__["each"] = dict.fromkeys(VIEWS, values)  # each neighbour of each takes minutes, and has tests
    projection = embedding.project()
    tracemalloc.start()
    scene = embedding_scene(embedding, projection)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64e6, "bytes"
    assert len(json.dumps(scene)) < 2e6
    page = show(open_view, json.loads(json.dumps(scene)))
    assert "5,000 of 100,000 pictures are drawn" in page.locator(".vx-embednotes").inner_text()
    assert len(page.evaluate(TRACE, "teacher_clean")["x"]) == 5000
    page.evaluate("view.set({ slice: 'found:student', density: 'student_distorted' })")
    assert f"of its {int(values['retrieval'].sum()):,} pictures are drawn" in page.locator(".vx-selection").inner_text()
    assert len(pieces(page)[0][0]) > 100


@pytest.mark.slow
@pytest.mark.parametrize("pictures", [2_500, 5_000])
def test_ten_thousand_points_follow_the_pointer(open_view, pictures):
    """In four views; 33 ms a frame is 30 a second."""
    page = show(open_view, embedding_fixtures.sliced_payload(pictures))
    page.evaluate("view.set({ hidden_views: [] })")
    page.evaluate("view.painted()")
    area = page.locator(".nsewdrag").bounding_box()
    at = [area["x"] + 0.5 * area["width"], area["y"] + 0.5 * area["height"]]
    page.mouse.move(*at)
    page.mouse.down()
    frames = page.evaluate(PAN, at)
    page.mouse.up()
    print(
        f"{4 * pictures} points: {np.median(frames):.1f} ms a frame, 9 of 10 within {np.percentile(frames, 90):.1f} ms"
    )
    assert np.median(frames) <= 33
