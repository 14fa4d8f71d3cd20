"""The browser views in a real browser: their arithmetic against numpy, their speed, their keys, their files."""

import base64
import copy
import json
import statistics
from pathlib import Path

import fixtures
import numpy as np
import pytest
from opening import box, centre, colour, decode, events, next_frame, number, pixel

from explorer.plots.style import scale_end
from explorer.web import VIEWS, module_source

pytestmark = pytest.mark.browser

COMPARISONS = ("attentionview", "patchview")
"""The views of one comparison."""


@pytest.fixture(scope="module")
def attention() -> dict:
    return fixtures.attention_payload()


@pytest.fixture(scope="module")
def patches() -> dict:
    return fixtures.patch_payload()


def pane_of(payload: dict, key: str) -> dict:
    return next(pane for pane in payload["panes"] if pane["id"] == key)


def mean_of_heads(payload: dict, key: str, layer: int) -> np.ndarray:
    return decode(pane_of(payload, key)["attention"])[layer].mean(0)


def divergence(first: np.ndarray, second: np.ndarray) -> float:
    p, q = first / first.sum(), second / second.sum()
    middle = (p + q) / 2
    return float(0.5 * (p * np.log(p / middle)).sum() + 0.5 * (q * np.log(q / middle)).sum())


# ---------------------------------------------------------------- the bundle


@pytest.mark.parametrize("name", VIEWS)
def test_a_bundle_needs_nothing_else(name):
    source = module_source(name)
    assert "import" not in [line.split(" ")[0] for line in source.splitlines()]
    exports = [line for line in source.splitlines() if line.startswith("export")]
    assert len(exports) == 1
    assert VIEWS[name] in exports[0]
    assert "innerHTML" not in source


def test_an_unknown_view_is_refused():
    with pytest.raises(ValueError, match="attentionview, patchview"):
        module_source("attention")


# ---------------------------------------------------------------- patches: arithmetic and speed


def test_similarity_is_the_cosine(open_view, patches):
    page = open_view("patchview", patches)
    got = page.evaluate("""() => Object.fromEntries(Object.entries(view.similarity("teacher_distorted", 5, 9))
                                 .map(([id, values]) => [id, Array.from(values)]))""")
    exact = fixtures.features()
    for key, values in got.items():
        ints = decode(pane_of(patches, key)["patches"]).astype(np.float64)
        query = decode(pane_of(patches, "teacher_distorted")["patches"]).astype(np.float64)[5 * 16 + 9]
        of_ints = ints @ query / np.linalg.norm(ints, axis=1) / np.linalg.norm(query)
        np.testing.assert_allclose(values, of_ints, atol=1e-5)
        np.testing.assert_allclose(values, exact[key] @ exact["teacher_distorted"][5 * 16 + 9], atol=1e-2)


def test_a_row_of_zeros_has_no_similarity(open_view):
    payload = fixtures.patch_payload(4, 4, 8)
    values = (
        np.frombuffer(base64.b64decode(payload["panes"][0]["patches"]["data"]), dtype=np.int8).reshape(16, 8).copy()
    )
    values[3] = 0
    payload["panes"][0]["patches"] = fixtures.encode(values)
    page = open_view("patchview", payload)
    assert page.evaluate('view.similarity("student_clean", 1, 1).teacher_clean[3]') == 0
    assert page.evaluate('Array.from(view.similarity("teacher_clean", 0, 3).student_clean)') == [0] * 16


@pytest.mark.parametrize(("grid", "limit_ms"), [(16, 16), (32, 33)])
def test_the_pointer_repaints_within_a_frame(open_view, grid, limit_ms):
    page = open_view("patchview", fixtures.patch_payload(grid, grid), device_scale_factor=2)
    taken = []
    for step in range(40):
        page.mouse.move(*centre(page, "teacher_clean", step % 11, (3 * step) % 13, grid, grid))
        before = page.evaluate("view.stats.repaints")
        next_frame(page)
        taken.append(page.evaluate("view.stats.lastRepaintMs"))
        assert page.evaluate("view.stats.repaints") <= before + 1
    assert page.evaluate("view.stats.repaints") > 20, "the pointer moved and nothing was repainted"
    assert float(page.locator("#root").get_attribute("data-repaint-ms") or "nan") > 0
    assert statistics.median(taken) < limit_ms


def test_all_panes_share_one_scale(open_view, patches):
    page = open_view("patchview", patches)
    page.mouse.move(*centre(page, "student_distorted", 4, 6))
    next_frame(page)
    low, middle, high = (number(text) for text in page.locator(".vx-tick").all_inner_texts())
    ints = {pane["id"]: decode(pane["patches"]).astype(float) for pane in patches["panes"]}
    units = {key: values / np.linalg.norm(values, axis=1, keepdims=True) for key, values in ints.items()}
    cosines = np.stack([values @ units["student_distorted"][4 * 16 + 6] for values in units.values()])
    assert low == pytest.approx(cosines.min(), rel=0.01)
    assert high == pytest.approx(1, abs=0.01)
    assert middle == pytest.approx((low + high) / 2, abs=0.01)
    for index, key in enumerate(units):
        level = (cosines[index, 40] - cosines.min()) / (1 - cosines.min())
        np.testing.assert_allclose(pixel(page, key, 2, 8), colour(patches, "viridis", level), atol=4)
    page.get_by_label("Scale of cosines").select_option("-1..1")
    assert [number(text) for text in page.locator(".vx-tick").all_inner_texts()] == [-1, 0, 1]


def test_attention_and_pca_modes(open_view, patches):
    page = open_view("patchview", patches)
    page.get_by_label("Show", exact=True).select_option("attention")
    page.mouse.move(*centre(page, "teacher_clean", 2, 3))
    next_frame(page)
    rows = np.stack([decode(pane["rows"])[2 * 16 + 3] for pane in patches["panes"]])
    low, _, high = (number(text) for text in page.locator(".vx-tick").all_inner_texts())
    assert (low, high) == (0, pytest.approx(rows.max(), rel=0.01))
    page.get_by_label("Show", exact=True).select_option("pca")
    assert pixel(page, "student_clean", 5, 7) == decode(pane_of(patches, "student_clean")["pca"])[5 * 16 + 7].tolist()
    assert page.locator(".vx-ticks").is_hidden()
    bare = copy.deepcopy(patches)
    for pane in bare["panes"]:
        pane["rows"] = pane["pca"] = None
    page.evaluate("(payload) => view.update(payload)", bare)
    assert page.evaluate("view.state().mode") == "similarity"
    disabled = page.locator("select[name=mode] option:disabled").evaluate_all("(all) => all.map((each) => each.value)")
    assert disabled == ["attention", "pca", "classes"]


# ---------------------------------------------------------------- patches: pointing, pinning, layers


def test_pin_and_unpin_with_the_pointer(open_view, patches):
    page = open_view("patchview", patches)
    page.mouse.click(*centre(page, "teacher_clean", 5, 10))
    assert page.evaluate("view.state().pin") == {"pane": "teacher_clean", "row": 5, "col": 10}
    units = fixtures.features()
    cosines = units["teacher_distorted"] @ units["teacher_clean"][5 * 16 + 10]
    row, col = divmod(int(cosines.argmax()), 16)
    (pinned,) = events(page, "pin")
    match = next(each for each in pinned["matches"] if each["pane"] == "teacher_distorted")
    assert (match["row"], match["col"]) == (row, col)
    assert match["cosine"] == pytest.approx(float(cosines.max()), abs=1e-2)
    assert match["distance"] == pytest.approx(np.hypot(row - 5, col - 10))
    assert match["rank"] == pytest.approx(1 + (cosines > cosines[5 * 16 + 10]).sum(), abs=2)
    listed = page.locator(".vx-matches tbody tr", has_text="Teacher · distorted").inner_text()
    assert f"row {row}, col {col}" in listed
    assert f"{match['rank']} of 256" in listed
    assert page.locator(".vx-mark-match:visible").count() == 3
    assert page.locator(".vx-threads .vx-line path").count() == 3
    page.mouse.move(*centre(page, "student_clean", 12, 2))
    next_frame(page)
    assert "row 5, col 10 of Teacher · clean" in page.locator(".vx-barlabel").inner_text()
    page.mouse.click(*centre(page, "teacher_clean", 5, 10))
    assert page.evaluate("view.state().pin") is None
    assert page.locator(".vx-mark-match:visible").count() == 0
    page.mouse.click(*centre(page, "student_clean", 1, 1))
    page.keyboard.press("Escape")
    assert page.evaluate("view.state().pin") is None
    assert len(events(page, "unpin")) == 2


def test_at_first_the_subject_is_pinned_and_the_maps_follow_the_pointer(open_view, patches):
    page = open_view("patchview", {**patches, "subject": [5, 10]})
    opening = {"pane": "teacher_clean", "row": 5, "col": 10}
    assert page.evaluate("view.state().pin") == opening
    assert page.locator(".vx-matches tbody tr").count() == 4
    label = page.locator(".vx-barlabel")
    page.mouse.move(*centre(page, "student_clean", 12, 2))
    next_frame(page)
    assert "row 12, col 2 of Student · clean" in label.inner_text()
    page.mouse.move(0, 0)
    next_frame(page)
    assert "row 5, col 10 of Teacher · clean" in label.inner_text()
    page.evaluate("(payload) => view.update(payload)", {**patches, "subject": [1, 2]})
    assert page.evaluate("view.state().pin") == {**opening, "row": 1, "col": 2}, "another picture has another subject"
    page.get_by_role("button", name="Unpin").click()
    page.evaluate("(payload) => view.update(payload)", {**patches, "subject": [5, 10]})
    assert page.evaluate("view.state().pin") is None, "whoever lets it go is not asked again"


def test_the_keyboard_does_all_of_it(open_view, patches):
    page = open_view("patchview", patches)
    page.get_by_label("smooth").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.pane") == "teacher_clean"
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    next_frame(page)
    label = box(page, "teacher_clean").get_attribute("aria-label") or ""
    assert "row 1, column 3" in label
    assert "value 1.000" in label
    page.keyboard.press("Enter")
    assert page.evaluate("view.state().pin") == {"pane": "teacher_clean", "row": 1, "col": 3}
    assert "Best matches" in page.locator("[aria-live]").inner_text()
    page.keyboard.press("Space")
    assert page.evaluate("view.state().pin") is None
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert page.evaluate("view.state().pin.col") == 0
    page.get_by_role("button", name="Unpin").press("Enter")
    assert page.evaluate("[view.state().pin, document.activeElement.dataset.pane]") == [None, "teacher_clean"]
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert page.evaluate("view.state().pin") is None
    for key in ("ArrowDown", "ArrowRight") * 16:
        page.keyboard.press(key)
    page.evaluate("(payload) => view.update(payload)", fixtures.patch_payload(8, 8))
    page.keyboard.press("Enter")
    assert page.evaluate("view.state().pin") == {"pane": "teacher_clean", "row": 7, "col": 7}, "a smaller grid"


def test_a_finger_points_and_taps(open_view, patches):
    page = open_view("patchview", patches, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    page.touchscreen.tap(*centre(page, "student_distorted", 7, 7))
    assert page.evaluate("view.state().pin.pane") == "student_distorted"
    heights = page.locator(".vx-select:visible, .vx-button:visible").evaluate_all(
        "(nodes) => nodes.map((node) => node.offsetHeight)"
    )
    assert min(heights) >= 40


def test_a_finger_that_goes_up_over_a_pane_scrolls_the_page(open_view, patches):
    page = open_view("patchview", patches, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 500})
    x, y = centre(page, "teacher_clean", 7, 7)
    screen = page.context.new_cdp_session(page)
    screen.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for up in range(0, 130, 10):
        screen.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y - up}]})
        page.wait_for_timeout(16)
    screen.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert page.evaluate("window.scrollY") > 50


def test_another_layer_is_asked_for_and_waited_for(open_view, patches):
    page = open_view("patchview", patches)
    page.evaluate("view.set({ pin: 'teacher_clean,5,10', opacity: '0.4', smooth: '1' })")
    page.get_by_label("Layer").select_option("7")
    assert events(page, "layer") == [{"layer": 7}]
    assert page.get_by_text("Loading block 7").is_visible()
    page.evaluate("(payload) => view.update(payload)", {**patches, "layer": 7})
    assert page.get_by_text("Loading block 7").is_hidden()
    state = page.evaluate("view.state()")
    assert (state["layer"], state["opacity"], state["smooth"]) == (7, 0.4, True)
    assert state["pin"] == {"pane": "teacher_clean", "row": 5, "col": 10}
    page.evaluate("(payload) => view.update(payload)", patches)  # another picture's answer, of layer 11: no circle
    assert page.evaluate("view.state().layer") == 11
    assert len(events(page, "layer")) == 1


def test_a_link_may_wish_for_another_layer(open_view, patches):
    page = open_view("patchview", None)
    page.evaluate("view.set({ layer: '3', mode: 'attention', pin: 'student_clean,2,2', nonsense: '1' })")
    page.evaluate("(payload) => view.update(payload)", patches)
    assert events(page, "layer") == [{"layer": 3}]
    assert page.evaluate("[view.state().mode, view.state().pin.pane]") == ["attention", "student_clean"]


def test_a_pin_keeps_its_place_on_another_grid(open_view, patches):
    page = open_view("patchview", patches)
    page.evaluate("view.set({ pin: 'teacher_clean,15,8' })")
    page.evaluate("(payload) => view.update(payload)", fixtures.patch_payload(8, 24))
    assert page.evaluate("view.state().pin") == {"pane": "teacher_clean", "row": 7, "col": 12}


# ---------------------------------------------------------------- attention


def test_no_difference_is_neutral(open_view, attention):
    same = copy.deepcopy(attention)
    pane_of(same, "teacher_distorted")["attention"] = pane_of(same, "teacher_clean")["attention"]
    pane_of(same, "student_distorted")["attention"] = pane_of(same, "teacher_clean")["attention"]
    page = open_view("attentionview", same)
    np.testing.assert_allclose(pixel(page, "difference_teacher", 3, 3), colour(same, "difference", 0.5), atol=3)


def test_maps_differences_and_divergence(open_view, attention):
    page = open_view("attentionview", attention)
    maps = page.evaluate("Object.fromEntries(Object.entries(view.maps()).map(([id, map]) => [id, Array.from(map)]))")
    expected = {pane["id"]: mean_of_heads(attention, pane["id"], 11) for pane in attention["panes"]}
    for key, values in expected.items():
        np.testing.assert_allclose(maps[key], values, atol=1e-7)
    ticks = [number(text) for text in page.locator(".vx-tick").all_inner_texts()]
    assert ticks[0] == 0
    end, highest = scale_end(*expected.values()), max(values.max() for values in expected.values())
    assert ticks[2] == pytest.approx(end, rel=0.01)
    label = page.locator(".vx-barlabel").first.inner_text()
    assert ("a few patches lie beyond its end" in label) == (highest > end)
    for who in ("teacher", "student"):
        np.testing.assert_allclose(
            maps[f"difference_{who}"], expected[f"{who}_distorted"] - expected["teacher_clean"], atol=1e-7
        )
        shown = page.locator(f'figure:has([data-pane="difference_{who}"]) .vx-note').inner_text()
        assert float(shown.split()[1]) == pytest.approx(
            divergence(expected[f"{who}_distorted"], expected["teacher_clean"]), abs=6e-4
        )
    page.get_by_label("Head", exact=True).select_option("max")
    top = decode(pane_of(attention, "teacher_clean")["attention"])[11].max(0)
    np.testing.assert_allclose(page.evaluate("Array.from(view.maps().teacher_clean)"), top, atol=1e-7)


def test_more_than_the_reference_is_the_upper_end_of_the_scale(open_view, attention):
    page = open_view("attentionview", attention)
    difference = mean_of_heads(attention, "teacher_distorted", 11) - mean_of_heads(attention, "teacher_clean", 11)
    span = max(
        np.abs(mean_of_heads(attention, f"{who}_distorted", 11) - mean_of_heads(attention, "teacher_clean", 11)).max()
        for who in ("teacher", "student")
    )
    for place in (int(difference.argmax()), int(difference.argmin())):
        expected = colour(attention, "difference", (difference[place] / span + 1) / 2)
        np.testing.assert_allclose(pixel(page, "difference_teacher", *divmod(place, 16)), expected, atol=6)
    assert page.locator(".vx-tick").nth(3).inner_text().startswith("\u2212")
    assert page.locator(".vx-tick").nth(5).inner_text().startswith("+")


def test_smoothing_interpolates_values(open_view, attention):
    page = open_view("attentionview", attention)
    crisp = pixel(page, "teacher_clean", 6, 10)
    page.get_by_label("smooth").check()
    assert page.evaluate("document.querySelector('[data-pane=teacher_clean] .vx-heat').width") == 256
    # The middle of a patch lies between two pixels of the smoothed map; both are within a step of the patch's colour.
    np.testing.assert_allclose(pixel(page, "teacher_clean", 6 * 16 + 8, 10 * 16 + 8), crisp, atol=24)


def test_the_outline_holds_sixty_percent(open_view, attention):
    page = open_view("attentionview", attention)
    page.get_by_label("outline the top 60 % of the mass").check()
    path = page.locator('[data-pane="teacher_clean"] .vx-outline .vx-line').get_attribute("d") or ""
    values = mean_of_heads(attention, "teacher_clean", 11)
    order = values.argsort()[::-1]
    count = int(np.searchsorted(values[order].cumsum(), 0.6 * values.sum())) + 1
    inside = np.zeros(256, dtype=int)
    inside[order[:count]] = 1
    padded = np.pad(inside.reshape(16, 16), 1)
    edges = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    assert path.count("M") == edges


def test_hover_shows_every_map_at_one_patch(open_view, attention):
    page = open_view("attentionview", attention)
    page.mouse.move(*centre(page, "student_clean", 4, 7))
    next_frame(page)
    text = page.locator(".vx-tip").inner_text()
    assert "row 4, col 7" in text
    shown = [number(each) for each in page.locator(".vx-tip dd").all_inner_texts()[:4]]
    expected = [mean_of_heads(attention, pane["id"], 11)[4 * 16 + 7] for pane in attention["panes"]]
    assert shown == pytest.approx(expected, rel=0.01)
    assert page.locator(".vx-mark-cursor:visible").count() == 8
    page.evaluate("(payload) => view.update(payload)", fixtures.attention_payload(seed=1))
    next_frame(page)
    assert page.locator(".vx-tip").is_hidden(), "its numbers were of another picture"
    page.mouse.move(2, 2)
    next_frame(page)
    assert page.locator(".vx-tip").is_hidden()


def test_the_overview_picks_a_layer_and_a_head(open_view, attention):
    page = open_view("attentionview", attention)
    assert page.locator(".vx-tile").count() == 12 * 7
    page.locator('.vx-tile[data-layer="4"][data-head="2"]').click()
    assert page.evaluate("[view.state().layer, view.state().head]") == [4, 2]
    assert events(page, "pick") == [{"layer": 4, "head": 2}]
    assert events(page, "state")[-1]["layer"] == 4
    assert page.locator('.vx-tile[tabindex="0"]').count() == 1
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert page.evaluate("[view.state().layer, view.state().head]") == [5, 4]
    assert page.locator('.vx-tile[aria-selected="true"]').get_attribute("data-head") == "4"
    scaled = decode(pane_of(attention, "teacher_clean")["attention"])[5, 4]
    top = scale_end(*(decode(pane["attention"])[5, 4] for pane in attention["panes"]))
    page.get_by_label("Model and picture").select_option("teacher_clean")
    got = page.locator('.vx-tile[data-layer="5"][data-head="4"] canvas').evaluate(
        "(canvas, [row, col]) => [...canvas.getContext('2d').getImageData(col, row, 1, 1).data].slice(0, 3)",
        list(divmod(int(scaled.argmax()), 16)),
    )
    np.testing.assert_allclose(got, colour(attention, "viridis", min(1, scaled.max() / top)), atol=6)


def test_update_keeps_what_still_makes_sense(open_view, attention):
    page = open_view("attentionview", attention)
    page.evaluate("view.set({ layer: '3', head: '5', colours: 'magma', smooth: 'true', map: 'attention', opacity: 2 })")
    page.evaluate("(payload) => view.update(payload)", fixtures.attention_payload(9, 14, seed=1))
    state = page.evaluate("view.state()")
    assert (state["layer"], state["head"], state["colours"], state["smooth"], state["opacity"]) == (
        3,
        5,
        "magma",
        True,
        1,
    )
    page.evaluate("(payload) => view.update(payload)", fixtures.attention_payload(layers=2, heads=3))
    assert page.evaluate("[view.state().layer, view.state().head]") == [1, "mean"]
    page.evaluate("view.update(null)")
    assert page.get_by_text("Nothing to show yet").is_visible()
    assert page.locator(".vx-stage").is_hidden()
    assert events(page, "state") == [], "only people's changes are reported"


def test_norms_have_a_scale_of_their_own_and_those_that_stand_out_an_outline(open_view, attention):
    page = open_view("attentionview", attention)
    page.get_by_label("Map", exact=True).select_option("norms")
    page.evaluate("view.set({ layer: 4 })")
    values = {pane["id"]: decode(pane["norms"])[4] for pane in attention["panes"]}
    shown = page.evaluate(
        "Object.fromEntries(Object.entries(view.maps()).map(([id, map]) => [id, Array.from(map ?? [])]))"
    )
    for name, expected in values.items():
        np.testing.assert_allclose(shown[name], expected, rtol=1e-5)
        pane = page.locator(".vx-pane", has=page.locator(f'[data-pane="{name}"]'))
        share = round(100 * float((expected > 86).mean()))
        assert pane.locator(".vx-note").inner_text() == f"{share} % stand out"
    np.testing.assert_allclose(
        shown["difference_teacher"], values["teacher_distorted"] - values["teacher_clean"], atol=1e-3
    )
    ticks = [number(text) for text in page.locator(".vx-bar").first.locator(".vx-tick").all_inner_texts()]
    assert ticks[0] == pytest.approx(min(each.min() for each in values.values()), rel=0.01)
    charts = page.locator(".vx-norms .vx-chart")
    growth, spread = (chart.locator("svg").get_attribute("aria-label") or "" for chart in charts.all())
    medians = {pane["title"]: np.median(decode(pane["norms"]), axis=1) for pane in attention["panes"]}
    for title, median in medians.items():
        assert f"{title} {median[0]:.2f} to {median[-1]:.2f}" in growth
    assert "after block 4" in spread
    assert charts.first.locator("path.vx-norm-teacher-distorted").get_attribute("d")
    assert "after block 4; above 86" in page.locator(".vx-barlabel").first.inner_text()
    assert page.get_by_label("Head", exact=True).is_disabled()
    assert page.get_by_label("Layer", exact=True).is_enabled()
    page.get_by_label("outline patches that stand out").check()
    outline = page.locator('[data-pane="teacher_distorted"] .vx-line').get_attribute("d") or ""
    assert outline
    assert page.locator(".vx-table tbody tr").last.locator("td").first.inner_text() == "\u2013", (
        "norms are no distribution"
    )
    assert page.evaluate("view.link().map") == "norms"
    other = copy.deepcopy(attention)
    for pane in other["panes"]:
        del pane["norms"]
    page.evaluate("(payload) => view.update(payload)", other)
    page.wait_for_function("view.state().map === 'attention'")
    assert page.locator("select[name=map] option:disabled").inner_text() == "norms of tokens (not computed)"
    assert page.locator('[data-pane="teacher_clean"]').locator("xpath=..").locator(".vx-note").inner_text() == ""


def test_rollout_is_off_where_there_is_none(open_view, attention):
    page = open_view("attentionview", attention)
    page.get_by_label("Map", exact=True).select_option("rollout")
    np.testing.assert_allclose(
        page.evaluate("Array.from(view.maps().student_clean)"),
        decode(pane_of(attention, "student_clean")["rollout"]),
        atol=1e-7,
    )
    assert page.get_by_label("Head", exact=True).is_disabled()
    bare = copy.deepcopy(attention)
    for pane in bare["panes"]:
        pane["rollout"] = None
    page.evaluate("(payload) => view.update(payload)", bare)
    assert page.evaluate("view.state().map") == "attention"
    assert page.locator("select[name=map] option:disabled").inner_text() == "rollout (not computed)"


def test_numbers_say_what_is_closer_without_colour(open_view, attention):
    page = open_view("attentionview", attention)
    rows = {row.locator("abbr").inner_text(): row for row in page.locator(".vx-numbers tbody tr").all()}
    assert "closer" in rows["CLS cosine"].text_content()
    assert "closer" in rows["attention JS"].text_content()
    assert "same" in rows["CKA"].text_content()
    rows["CKA"].locator("abbr").focus()
    assert "kernel alignment" in page.locator(".vx-tip").inner_text()
    worse = copy.deepcopy(attention)
    worse["numbers"]["student"]["attention_js"] = 0.5
    worse["untouched_student"] = True
    page.evaluate("(payload) => view.update(payload)", worse)
    assert "farther" in page.locator(".vx-numbers tr", has_text="attention JS").text_content()
    assert "untouched copy of the teacher" in page.locator(".vx-notice").inner_text()


# ---------------------------------------------------------------- files and links


@pytest.mark.parametrize("name", COMPARISONS)
def test_figure_and_numbers_are_saved(open_view, attention, patches, name):
    payload = {"attentionview": attention, "patchview": patches}[name]
    page = open_view(name, payload)
    if name == "patchview":
        page.evaluate("view.set({ pin: 'teacher_clean,5,10' })")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save figure").click()
    png = Path(download.value.path()).read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert download.value.suggested_filename.endswith(".png")
    width = int.from_bytes(png[16:20], "big")
    assert width == 2 * (56 + (3 if name == "attentionview" else 4) * 276 - 16)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save numbers").click()
    content = json.loads(Path(download.value.path()).read_text())
    assert content["settings"] == page.evaluate("view.state()")
    assert content["grid"] == [16, 16]
    assert content["reference"] == "teacher_clean"
    if name == "attentionview":
        assert content["numbers"] == attention["numbers"]
        np.testing.assert_allclose(
            np.ravel(content["maps"]["teacher_distorted"]), mean_of_heads(attention, "teacher_distorted", 11), rtol=1e-5
        )
        assert set(content["shown_js_nats"]) == {"teacher", "student"}
    else:
        assert content["query"] == {"pane": "teacher_clean", "row": 5, "col": 10}
        assert len(content["matches"]) == 4
        assert content["values"]["teacher_clean"][5][10] == pytest.approx(1)


def test_a_link_tells_what_is_not_as_it_comes(open_view, attention):
    page = open_view("attentionview", attention)
    page.evaluate("view.set({ layer: 4, head: 2, smooth: true })")
    assert page.evaluate("view.link()") == {"layer": 4, "head": 2, "map": "attention", "smooth": 1}


# ---------------------------------------------------------------- what never happens


@pytest.mark.parametrize("name", COMPARISONS)
def test_strings_are_text(open_view, attention, patches, name):
    payload = copy.deepcopy({"attentionview": attention, "patchview": patches}[name])
    payload["message"] = "<b id='bold'>message</b><img src=x onerror=alert(1)>"
    payload["panes"][0]["title"] = "<b id='bold'>title</b>"
    page = open_view(name, payload)
    box(page, "teacher_clean").hover()
    next_frame(page)
    assert page.locator("#bold").count() == 0
    assert page.locator("#root img").count() == 0
    assert page.locator(".vx-notice").inner_text() == payload["message"]
    assert page.locator(".vx-title", has_text="<b id='bold'>title</b>").count() == 1


@pytest.mark.parametrize(("name", "key"), [("attentionview", "attention"), ("patchview", "rows")])
def test_maps_that_are_not_finite_are_not_drawn_as_even_ones(open_view, attention, patches, name, key):
    """JSON has no NaN: their scale arrives as null, and null times a number is 0."""
    broken = copy.deepcopy({"attentionview": attention, "patchview": patches}[name])
    broken["panes"][1][key]["scale"] = None
    page = open_view(name, broken)
    assert page.locator(".vx-notice").inner_text() == (
        "This result could not be read: it holds values that are not finite."
    )
    assert page.locator(".vx-body").is_hidden()


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_bad_payload_is_said_and_forgotten(open_view, attention, patches, name):
    payload = {"attentionview": attention, "patchview": patches}[name]
    page = open_view(name, {"message": "The picture is too small.", "panes": []})
    assert page.locator(".vx-notice").inner_text() == "The picture is too small."
    page.evaluate("(payload) => view.update(payload)", {**payload, "grid": [7, 5]})
    assert "could not be read" in page.locator(".vx-notice").inner_text()
    page.evaluate("(payload) => view.update(payload)", payload)
    assert page.locator(".vx-notice").is_hidden()
    assert page.locator(".vx-body").is_visible()
    broken = copy.deepcopy(payload)
    broken["panes"][1]["picture"] = "data:image/png;base64,AAAA"
    page.evaluate("(payload) => view.update(payload)", broken)
    assert page.locator(".vx-body").is_visible(), "a picture that cannot be decoded leaves the maps"
    page.evaluate("view.destroy()")
    assert page.locator("#root > *").count() == 0


@pytest.mark.parametrize("name", COMPARISONS)
def test_the_last_of_two_updates_wins(open_view, attention, patches, name):
    payload = {"attentionview": attention, "patchview": patches}[name]
    page = open_view(name, None)
    page.evaluate(
        "([first, second]) => Promise.all([view.update(first), view.update(second)])",
        [{**payload, "message": "first"}, {**payload, "message": "second"}],
    )
    assert page.locator(".vx-notice").inner_text() == "second"


@pytest.mark.parametrize("width", [390, 700, 1000, 1440])
@pytest.mark.parametrize("name", COMPARISONS)
def test_no_width_overflows(open_view, attention, patches, name, width):
    payload = {"attentionview": attention, "patchview": patches}[name]
    page = open_view(name, payload, viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    spilled = page.evaluate("""() => [...document.querySelectorAll(".vx-cell, .vx-numbers, .vx-result, .vx-controls")]
        .filter((node) => node.scrollWidth > node.clientWidth + 1).map((node) => node.className)""")
    assert spilled == []
    sizes = page.evaluate("""() => [...document.querySelectorAll(".vx *")].filter((node) => node.textContent.trim())
        .map((node) => parseFloat(getComputedStyle(node).fontSize))""")
    assert min(sizes) >= 12


@pytest.mark.parametrize(
    ("attributes", "scheme", "dark"),
    [
        ("", "light", False),
        ("", "dark", True),
        ('class="dark"', "light", True),
        ('data-jp-theme-light="false"', "light", True),
        ('data-jp-theme-light="true"', "dark", False),
        ('data-vx-theme="light"', "dark", False),
    ],
)
def test_light_and_dark_follow_the_host(open_view, patches, attributes, scheme, dark):
    page = open_view("patchview", patches, attributes, color_scheme=scheme)
    text = page.locator(".vx").evaluate("(node) => getComputedStyle(node).color")
    assert (text == "rgb(230, 237, 243)") is dark
