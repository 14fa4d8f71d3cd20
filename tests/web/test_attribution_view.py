"""The attribution view in a real browser: one scale, values at the pointer, one table, its files."""

import copy
import json
import re
from pathlib import Path

import fixtures
import numpy as np
import pytest
import torch
from opening import Opener, box, centre, colour, decode, next_frame, number, pixel
from playwright.sync_api import Page
from test_recovery_view import contrast

from explorer.distortions import distortion
from explorer.inspection.attribution import attribute_views
from explorer.inspection.attribution_problem import Settings
from explorer.inspection.attribution_quality import quality
from explorer.models.loading import load_backbone
from explorer.plots.style import scale_end
from explorer.scenes.inspection import attribution_scene
from tests.architectures import peaked
from tests.small import NOISE

pytestmark = pytest.mark.browser

PANES = ("teacher_clean", "teacher_distorted", "student_distorted")
ROWS, COLS = 3, 4
NAMES = (
    "target",
    "baseline_target",
    "completeness",
    "unexplained",
    "deletion",
    "insertion",
    "infidelity",
    "sensitivity",
)


def made(method: str, judge: bool) -> dict:
    """The payload of a small untrained pair, 3 x 4 patches."""
    networks = []
    for seed in (0, 1):
        networks.append(
            load_backbone(
                "vit_tiny_patch16_224", image_size=(16 * ROWS, 16 * COLS), source="random", device="cpu", seed=seed
            )
        )
        peaked(networks[-1].module, factor=4.0, seed=seed)
    picture = torch.from_numpy(fixtures.photo(16 * ROWS, 16 * COLS)).permute(2, 0, 1)
    views = attribute_views(*networks, picture, NOISE, method=method, settings=Settings(steps=2))
    judged = {
        name: quality(networks[name.startswith("student")], view, samples=2, neighbours=1)
        for name, view in views.items()
        if judge
    }
    link = {"photo": "farm_animal/owl.webp", "distortion": NOISE}
    return attribution_scene(views, judged, distortion=distortion(NOISE), weights=("one", "another"), link=link)


@pytest.fixture(scope="module")
def signed() -> dict:
    return made("integrated_gradients", judge=True)


@pytest.fixture(scope="module")
def unsigned() -> dict:
    return made("gradient_attention", judge=False)


def watch(open_view: Opener, payload: object, attributes: str = "", **context: object) -> Page:
    return open_view("attributionview", payload, attributes, **context)


def maps(payload: dict) -> dict[str, np.ndarray]:
    return {pane["id"]: decode(pane["heatmap"]) for pane in payload["panes"]}


def ticks(page: Page) -> list[float]:
    return [number(text) for text in page.locator(".vx-tick").all_inner_texts()]


def notes(page: Page) -> list[str]:
    return page.locator(".vx-note").all_inner_texts()


def table(page: Page) -> dict[str, list[str]]:
    rows = page.locator(".vx-scores tbody tr").all()
    return {row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in rows}


# ---------------------------------------------------------------- the scale


def test_one_scale_with_its_middle_at_zero(open_view, signed):
    page = watch(open_view, signed)
    values = maps(signed)
    top = scale_end(*(np.abs(each) for each in values.values()))
    assert ticks(page) == pytest.approx([-top, 0, top], rel=0.01)
    for key, each in values.items():
        for row, col in np.ndindex(ROWS, COLS):
            level = np.clip((each[row, col] / top + 1) / 2, 0, 1)
            np.testing.assert_allclose(pixel(page, key, row, col), colour(signed, "difference", level), atol=6)
    assert page.get_by_role("img", name="above 0 (red) speaks for the clean teacher's view").is_visible()
    assert page.get_by_label("Colours").is_hidden(), "a sign has its own colours"


def test_a_method_without_a_sign_begins_at_zero(open_view, unsigned):
    page = watch(open_view, unsigned)
    values = maps(unsigned)
    top = scale_end(*values.values())
    assert ticks(page) == pytest.approx([0, top / 2, top], rel=0.01)
    page.get_by_label("Colours").select_option("magma")
    for key, each in values.items():
        level = min(1, each[1, 2] / top)
        np.testing.assert_allclose(pixel(page, key, 1, 2), colour(unsigned, "magma", level), atol=6)
    assert "has no sign" in page.locator(".vx-barlabel").inner_text()


def test_maps_of_nothing_are_neutral(open_view, signed):
    flat = copy.deepcopy(signed)
    for pane in flat["panes"]:
        pane["heatmap"] = fixtures.encode(np.zeros((ROWS, COLS), dtype=np.float32))
    page = watch(open_view, flat)
    np.testing.assert_allclose(pixel(page, "student_distorted", 1, 1), colour(signed, "difference", 0.5), atol=3)


def test_opacity_and_smoothing_are_settings(open_view, signed):
    page = watch(open_view, signed)
    page.evaluate("view.set({ opacity: '0.4', smooth: '1', colours: 'nonsense' })")
    assert page.evaluate("view.link()") == {"opacity": 0.4, "smooth": 1}
    heat = page.locator(".vx-heat").first
    assert heat.evaluate("(canvas) => [canvas.style.opacity, canvas.width > 200]") == ["0.4", True]


# ---------------------------------------------------------------- pointing


def told(payload: dict, row: int, col: int) -> list[float]:
    return [pytest.approx(each[row, col], rel=0.006, abs=1e-6) for each in maps(payload).values()]


def test_the_pointer_reads_all_three_maps(open_view, signed):
    page = watch(open_view, signed)
    assert notes(page) == ["", "", ""]
    page.mouse.move(*centre(page, "teacher_distorted", 2, 1, ROWS, COLS))
    next_frame(page)
    assert [number(text) for text in notes(page)] == told(signed, 2, 1)
    assert page.locator(".vx-mark-cursor:visible").count() == 3
    assert page.locator(".vx-tip").inner_text() == "row 2, col 1"
    page.mouse.move(1, 1)
    next_frame(page)
    assert notes(page) == ["", "", ""]
    assert page.locator(".vx-mark-cursor:visible, .vx-tip:visible").count() == 0


def test_keys_read_them_aloud(open_view, signed):
    page = watch(open_view, signed)
    assert box(page, "student_distorted").get_attribute("aria-label") == "Student · distorted: integrated gradients"
    box(page, "student_distorted").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    next_frame(page)
    assert [number(text) for text in notes(page)] == told(signed, 1, 2)
    values = notes(page)
    titles = (pane["title"] for pane in signed["panes"])
    spoken = ", ".join(f"{title} {value}" for title, value in zip(titles, values, strict=True))
    assert page.locator("p[aria-live=polite]").inner_text() == f"row 1, column 2: {spoken}"
    name = box(page, "teacher_clean").get_attribute("aria-label")
    assert name == f"Teacher · clean: row 1, column 2, value {values[0]}"
    page.keyboard.press("Escape")
    next_frame(page)
    assert notes(page) == ["", "", ""]


def test_a_finger_points(open_view, signed):
    page = watch(open_view, signed, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    page.touchscreen.tap(*centre(page, "teacher_clean", 0, 3, ROWS, COLS))
    next_frame(page)
    assert [number(text) for text in notes(page)] == told(signed, 0, 3)


# ---------------------------------------------------------------- numbers


def test_each_number_has_one_place(open_view, signed):
    page = watch(open_view, signed)
    rows = table(page)
    assert list(rows) == [
        "score",
        "score of the baseline",
        "lost by too few steps",
        "unexplained",
        "deletion",
        "insertion",
        "infidelity",
        "sensitivity",
        "this map",
    ]
    for cells, name in zip(rows.values(), NAMES, strict=False):
        exact = [pane["numbers"].get(name) for pane in signed["panes"]]  # a view may have no score to lose
        assert any(value is not None for value in exact)
        for cell, value in zip(cells, exact, strict=True):
            told = None if cell == "\u2013" else number(cell)
            assert told == (value if value is None else pytest.approx(value, rel=0.006, abs=2e-4)), name
    assert rows["this map"] == [pane["verdict"] for pane in signed["panes"]]
    heads = page.get_by_role("columnheader").all_inner_texts()
    assert heads == [pane["title"] for pane in signed["panes"]]
    assert page.get_by_role("rowheader", name="score", exact=True).is_visible()
    page.locator(".vx-help", has_text="score").first.focus()
    assert page.get_by_role("tooltip").inner_text().endswith(f"It is the {signed['towards']}.")


def test_what_no_patch_has_is_a_row_of_its_own(open_view):
    shared = made("attn_lrp", judge=False)
    page = watch(open_view, shared)
    rows = table(page)
    assert list(rows) == ["score", "score of the baseline", "no patch's"]
    for pane, score, rest in zip(shared["panes"], rows["score"], rows["no patch's"], strict=True):
        assert number(score) == pytest.approx(decode(pane["heatmap"]).sum() + number(rest), abs=2e-3)
    assert "AttnLRP; above 0 (red)" in page.locator(".vx-barlabel").inner_text()


def test_towards_a_class_it_is_the_class_that_is_told(open_view, signed):
    page = watch(open_view, {**signed, "label": "wild <cat>", "towards": "probe's score for 'wild <cat>'"})
    clean, teacher, student = (number(cell) for cell in table(page)["score"])
    said = page.locator(".vx-saying").inner_text()
    assert said.startswith("For “wild <cat>” the teacher scores ")
    told = [number(word) for word in re.findall(r"[-\u2212]?[0-9.]+[0-9]", said)]
    assert told == pytest.approx([clean, teacher, student])
    assert page.get_by_role("img", name="above 0 (red) speaks for “wild <cat>”").is_visible()
    page.locator(".vx-help", has_text="score").first.focus()
    tip = page.get_by_role("tooltip").inner_text()
    assert tip.startswith("How much the view speaks for this class")
    assert tip.endswith("It is the probe's score for 'wild <cat>'.")


def test_of_a_damaged_photo_alone_there_are_two_maps(open_view, signed):
    alone = {**signed, "label": "cat", "panes": [pane for pane in signed["panes"] if pane["id"] != "teacher_clean"]}
    page = watch(open_view, alone)
    assert not box(page, "teacher_clean").is_visible()
    top = scale_end(*(np.abs(each) for each in maps(alone).values()))
    assert ticks(page) == pytest.approx([-top, 0, top], rel=0.01)
    assert "one scale for both maps" in page.locator(".vx-barlabel").inner_text()
    assert page.get_by_role("columnheader").all_inner_texts() == ["Teacher · distorted", "Student · distorted"]
    teacher, student = table(page)["score"]
    said = f"For “cat” the teacher scores {teacher} in the damaged picture; the student scores {student} there."
    assert page.locator(".vx-saying").inner_text() == said
    assert page.locator(".vx-badge:visible").count() == 0
    page.mouse.move(*centre(page, "student_distorted", 2, 1, ROWS, COLS))
    next_frame(page)
    assert [number(text) for text in page.locator(".vx-note:visible").all_inner_texts()] == told(alone, 2, 1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save numbers").click()
    content = json.loads(Path(download.value.path()).read_text())
    assert (content["reference"], list(content["maps"])) == (None, list(PANES[1:]))
    page.evaluate("(payload) => view.update(payload)", signed)
    assert box(page, "teacher_clean").is_visible()
    assert page.locator(".vx-badge:visible").count() == 1


def test_what_was_not_asked_for_has_no_row(open_view, signed, unsigned):
    page = watch(open_view, signed)
    page.evaluate("(payload) => view.update(payload)", unsigned)
    assert list(table(page)) == ["score", "score of the baseline"]


def test_a_sentence_tells_the_scores(open_view, signed):
    payload = copy.deepcopy(signed)
    for pane, score in zip(payload["panes"], (1.0, 0.38, 0.88), strict=True):
        pane["numbers"]["target"] = score
    page = watch(open_view, payload)
    said = "Gaussian noise 0.3 takes 62 % of the teacher's score; the student wins 81 % of it back."
    assert page.locator(".vx-saying").inner_text() == said
    page.evaluate("(payload) => view.update(payload)", {**payload, "untouched_student": True})
    assert page.locator(".vx-saying").inner_text().endswith("its untouched copy.")
    assert "untouched copy of the teacher" in page.locator(".vx-notice").inner_text()


# ---------------------------------------------------------------- payloads


def test_nothing_is_the_empty_state(open_view, signed):
    page = watch(open_view, None)
    empty = page.get_by_text("Press Explain to see which patches made the answer.")
    assert empty.is_visible()
    page.evaluate("(payload) => view.update(payload)", signed)
    assert empty.is_hidden()
    page.evaluate("view.destroy()")
    assert page.locator("#root > *").count() == 0


def test_what_cannot_be_read_is_told(open_view, signed):
    page = watch(open_view, {**signed, "panes": signed["panes"][:2]})
    assert 'no map of "student_distorted"' in page.locator(".vx-notice").inner_text()
    page.evaluate("(payload) => view.update(payload)", {**signed, "grid": [ROWS, COLS + 1]})
    assert 'no map of "teacher_clean"' in page.locator(".vx-notice").inner_text()
    page.evaluate("(payload) => view.update(payload)", signed)
    assert page.locator(".vx-notice").is_hidden()


def test_a_smaller_grid_under_the_pointer_breaks_nothing(open_view, signed):
    page = watch(open_view, signed)
    page.mouse.move(*centre(page, "student_distorted", 2, 3, ROWS, COLS))
    next_frame(page)
    small = {**copy.deepcopy(signed), "grid": [1, 1]}
    for pane in small["panes"]:
        pane["heatmap"] = fixtures.encode(np.full((1, 1), 0.25, dtype=np.float32))
    page.evaluate("(payload) => view.update(payload)", small)
    assert notes(page) == ["", "", ""]
    page.mouse.move(*centre(page, "student_distorted", 0, 0, 1, 1))
    next_frame(page)
    assert notes(page) == ["+0.250"] * 3


# ---------------------------------------------------------------- files


def test_figure_and_numbers_are_saved(open_view, signed):
    page = watch(open_view, signed, attributes='class="dark"')
    with page.expect_download() as download:
        page.get_by_role("button", name="Save figure").click()
    assert download.value.suggested_filename == "vit-explorer-attribution-integrated-gradients.png"
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save numbers").click()
    content = json.loads(Path(download.value.path()).read_text())
    assert content["settings"] == page.evaluate("view.state()")
    assert (content["method"], content["towards"]) == ("integrated_gradients", signed["towards"])
    assert (content["grid"], content["reference"], content["link"]) == ([ROWS, COLS], "teacher_clean", signed["link"])
    for pane in signed["panes"]:
        np.testing.assert_allclose(content["maps"][pane["id"]], decode(pane["heatmap"]), rtol=1e-5)
        assert content["numbers"][pane["id"]] == {**pane["numbers"], "verdict": pane["verdict"]}


# ---------------------------------------------------------------- looks


@pytest.mark.parametrize("width", [390, 700, 1280])
def test_no_width_overflows(open_view, signed, width):
    long = copy.deepcopy(signed) | {"damage": "Gaussian noise 0.3 + Gaussian blur 4.0 + JPEG 10"}
    page = watch(open_view, long, viewport={"width": width, "height": 900})
    page.mouse.move(*centre(page, "student_distorted", 2, 3, ROWS, COLS))
    next_frame(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    spilled = page.evaluate("""() => [...document.querySelectorAll(".vx *")]
      .filter((node) => node.getBoundingClientRect().right > innerWidth).map((node) => node.outerHTML)""")
    assert spilled == []
    clean, teacher, student = (box(page, name).bounding_box() for name in PANES)
    assert clean["y"] == teacher["y"]
    if width == 390:
        assert student["x"] == teacher["x"], "the damaged views stand below each other"
        assert student["y"] > teacher["y"] + teacher["height"]
    else:
        assert student["y"] == teacher["y"]
    sizes = page.evaluate("""() => [...document.querySelectorAll(".vx *")].filter((node) => node.textContent.trim())
        .map((node) => parseFloat(getComputedStyle(node).fontSize))""")
    assert min(sizes) >= 12
    page.evaluate("(payload) => view.update(payload)", {**long, "label": "cat", "panes": long["panes"][1:]})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    teacher, student = (box(page, name).bounding_box() for name in PANES[1:])
    assert teacher["y"] == student["y"]
    assert teacher["width"] == pytest.approx(student["width"], abs=1)
    assert teacher["width"] > 0.4 * min(width, 720) - 20


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out(open_view, signed, scheme):
    page = watch(open_view, signed, 'class="dark"' if scheme == "dark" else "", color_scheme=scheme)
    page.mouse.move(*centre(page, "teacher_clean", 1, 1, ROWS, COLS))
    next_frame(page)
    words = ".vx-saying, .vx-title, .vx-damage, .vx-note, .vx-barlabel, .vx-tick, .vx-label, .vx-scores :is(th, td)"
    assert contrast(page, words, "color") >= 4.5
