"""The benchmark view in a real browser: its cells against the numbers, choosing by mouse and keyboard, what is missing,
its files."""

import base64
import copy
import json
import re
from pathlib import Path

import benchmark_fixtures as fixtures
import pytest
from opening import Opener, events
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser

SHEETS = ("teacher", "student", "difference")
UPDATE = "(payload) => view.update(payload)"
CHOSEN = "() => [document.activeElement.closest('table')?.dataset.sheet, document.activeElement.dataset.row, \
  document.activeElement.dataset.column]"


@pytest.fixture
def payload() -> dict:
    return fixtures.benchmark_payload()


def watch(open_view: Opener, payload: object, attributes: str = "", **context: object) -> Page:
    return open_view("benchmarkview", payload, attributes, **context)


def cell(page: Page, sheet: str, row: int, column: int) -> Locator:
    return page.locator(f"[data-sheet={sheet}] td[data-row='{row}'][data-column='{column}']")


def texts(page: Page, sheet: str) -> list[list[str]]:
    rows = page.locator(f"[data-sheet={sheet}] tbody tr").all()
    return [row.locator("td").all_inner_texts() for row in rows]


def background(where: Locator, what: str = "backgroundColor") -> list[int]:
    return [int(part) for part in re.findall(r"\d+", where.evaluate(f"(node) => getComputedStyle(node).{what}"))][:3]


def expected(payload: dict, table: str, share: float, turned: bool = False) -> list[int]:
    """The colour at a share of a scale."""
    place = int(255 * share + 0.5)
    place = 255 - place if turned else place
    return list(base64.b64decode(payload["colormaps"][table])[3 * place : 3 * place + 3])


def luminance(colour: list[int]) -> float:
    linear = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in (c / 255 for c in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def plain(value: float, signed: bool = False) -> str:
    text = f"{abs(value):.2f}".removeprefix("0")
    sign = "\u2212" if value < 0 and float(text) else "+" if signed and value > 0.004999 else ""
    return sign + text


def test_cells_tell_the_numbers_in_colours_of_one_scale(open_view: Opener, payload: dict) -> None:
    page = watch(open_view, payload)
    teacher, student = (network["values"]["cls_cosine"] for network in payload["networks"])
    ahead = [[b - a for a, b in zip(*rows, strict=True)] for rows in zip(teacher, student, strict=True)]
    assert texts(page, "teacher") == [[plain(value) for value in row] for row in teacher]
    assert texts(page, "student") == [[plain(value) for value in row] for row in student]
    assert texts(page, "difference") == [[plain(value, signed=True) for value in row] for row in ahead]
    low, reach = 0.3, 0.3  # round numbers around these
    assert min(min(row) for row in teacher) == pytest.approx(0.324)
    assert max(max(row) for row in ahead) == pytest.approx(0.28)
    for row, column in ((0, 0), (2, 4), (1, 2)):
        for name, values in (("teacher", teacher), ("student", student)):
            share = (values[row][column] - low) / (1 - low)
            assert background(cell(page, name, row, column)) == expected(payload, "viridis", share)
        share = (ahead[row][column] + reach) / (2 * reach)
        assert background(cell(page, "difference", row, column)) == expected(payload, "difference", share, turned=True)
    worse, better = (background(cell(page, "difference", 0, column)) for column in (0, 4))
    assert worse[0] > worse[2]  # red
    assert better[2] > better[0]  # blue


def test_where_less_is_better_the_colours_are_turned(open_view: Opener, payload: dict) -> None:
    page = watch(open_view, payload)
    page.locator("select[name=measure]").select_option("attention_js")
    teacher, student = (network["values"]["attention_js"] for network in payload["networks"])
    assert texts(page, "teacher")[0] == [plain(value) for value in teacher[0]]
    high = 0.25  # the greatest is 0.25
    share = teacher[1][3] / high
    assert background(cell(page, "teacher", 1, 3)) == expected(payload, "viridis", share, turned=True)
    assert student[0][4] < teacher[0][4]
    better = background(cell(page, "difference", 0, 4))
    assert better[2] > better[0]
    assert events(page, "state")[-1]["measure"] == "attention_js"
    expect(page.locator(".vx-benchhelp")).to_have_text("lower is better")


def test_every_number_can_be_read_on_its_colour(open_view: Opener, payload: dict) -> None:
    page = watch(open_view, payload)
    for sheet in SHEETS:
        for row in range(3):
            for column in range(5):
                where = cell(page, sheet, row, column)
                ink, paper = sorted(luminance(background(where, what)) for what in ("color", "backgroundColor"))
                assert (paper + 0.05) / (ink + 0.05) >= 4.5


def test_a_click_tells_corruption_and_severity(open_view: Opener, payload: dict) -> None:
    page = watch(open_view, payload)
    cell(page, "difference", 1, 3).click()
    assert events(page, "corruption") == [{"name": "fog", "severity": 4, "spec": "fog:4"}]
    for sheet in SHEETS:
        expect(cell(page, sheet, 1, 3)).to_have_attribute("aria-selected", "true")
    assert page.locator("td[aria-selected=true]").count() == 3
    expect(page.locator("[aria-live]")).to_have_text("Chosen: Fog, severity 4")
    tip = page.locator(".vx-tip")
    expect(tip).to_have_text("Fog, severity 4: CLS cosine teacher 0.487, student 0.687, difference +0.200, better")


def test_keys_move_through_all_sheets_and_choose(open_view: Opener, payload: dict) -> None:
    page = watch(open_view, payload)
    assert page.locator("td[tabindex='0']").count() == 1
    cell(page, "teacher", 0, 0).focus()
    for keys, place in (
        (["ArrowDown"], ["teacher", "1", "0"]),
        (["ArrowRight"] * 4, ["teacher", "1", "4"]),
        (["ArrowRight"], ["student", "1", "0"]),
        (["End", "ArrowRight"], ["difference", "1", "0"]),
        (["End", "ArrowRight"], ["difference", "1", "4"]),
        (["ArrowDown", "ArrowDown", "Home"], ["difference", "2", "0"]),
        (["ArrowLeft"], ["student", "2", "4"]),
    ):
        for key in keys:
            page.keyboard.press(key)
        assert page.evaluate(CHOSEN) == place
    assert events(page, "corruption") == []
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowUp")
    page.keyboard.press(" ")
    assert [each["spec"] for each in events(page, "corruption")] == ["jpeg_compression:5", "fog:5"]
    assert page.locator("td[tabindex='0']").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"


def test_a_screen_reader_hears_each_cell(open_view: Opener, payload: dict) -> None:
    page = watch(open_view, payload)
    label = cell(page, "student", 0, 1).get_attribute("aria-label") or ""
    assert label == (
        "Gaussian noise, severity 2: CLS cosine teacher 0.800, student 0.840, difference +0.040, better; "
        "the student was trained on it"
    )
    grid = page.get_by_role("grid", name="student: CLS cosine by corruption and severity")
    expect(grid.get_by_role("rowheader")).to_have_count(3)
    expect(grid.get_by_role("gridcell")).to_have_count(15)


def test_what_the_student_was_trained_on_is_marked(open_view: Opener, payload: dict) -> None:
    page = watch(open_view, payload)
    framed = page.locator(".vx-learned")
    assert [each.get_attribute("data-column") for each in framed.all()] == ["1", "2", "3", "4"]
    assert {each.get_attribute("data-row") for each in framed.all()} == {"0"}
    marks = page.locator("[data-sheet=student] .vx-benchlearned")
    assert marks.all_inner_texts() == ["\u25aa", "", ""]
    assert marks.first.get_attribute("title") == "trained on severities 2 to 5"
    expect(page.get_by_text("student was trained on it.")).to_be_visible()
    other = copy.deepcopy(payload)
    other["networks"][1] |= {"learned": [[False] * 5] * 3, "spec": "pixel_mask(fraction=0.5)"}
    page.evaluate(UPDATE, other)
    assert framed.count() == 0
    expect(page.get_by_text("trained on none of these: pixel_mask(fraction=0.5)")).to_be_visible()


def test_several_students_are_chosen_from(open_view: Opener) -> None:
    payload = fixtures.benchmark_payload("s14-noise", "s14-blur")
    page = watch(open_view, payload)
    select = page.locator("select[name=student]")
    assert select.input_value() == "s14-noise"
    values = [network["values"]["cls_cosine"] for network in payload["networks"]]
    assert texts(page, "student")[2] == [plain(value) for value in values[1][2]]
    select.select_option("s14-blur")
    assert texts(page, "student")[2] == [plain(value) for value in values[2][2]]
    expect(page.locator("[data-sheet=student] caption")).to_have_text("s14-blur")
    page.evaluate(UPDATE, payload)
    assert select.input_value() == "s14-blur"
    page.evaluate(UPDATE, fixtures.benchmark_payload())
    expect(select).to_be_hidden()
    expect(page.locator("[data-sheet=student] caption")).to_have_text("student")


def test_what_is_not_measured_yet_is_not_drawn(open_view: Opener, payload: dict) -> None:
    page = watch(open_view, fixtures.measured_until(payload, 1))
    assert texts(page, "teacher")[1] == [""] * 5
    assert texts(page, "difference")[2] == [""] * 5
    assert (cell(page, "teacher", 2, 0).get_attribute("aria-label") or "").endswith("not measured")
    bar = page.get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuetext", "measured 5 of 15 cells")
    assert page.locator(".vx-saying").inner_text() == ""
    cell(page, "teacher", 0, 2).focus()
    page.evaluate(UPDATE, fixtures.measured_until(payload, 2))
    assert page.evaluate(CHOSEN) == ["teacher", "0", "2"]
    page.evaluate(UPDATE, payload)
    expect(page.locator("[aria-live]")).to_have_text("Measured: all 3 corruptions.")
    said = page.locator(".vx-saying").inner_text()
    assert "Over all 3 corruptions the student loses 55 % of what the teacher loses" in said
    nothing = fixtures.measured_until(payload, 0)
    page.evaluate(UPDATE, nothing)
    assert texts(page, "teacher") == [[""] * 5] * 3
    for each in nothing["measures"]:
        assert page.locator(f'select[name=measure] option[value="{each["id"]}"]').is_disabled()
    page.evaluate(UPDATE, payload)
    assert page.locator("select[name=measure] option:disabled").count() == 0


def test_an_untouched_copy_has_one_sheet(open_view: Opener, payload: dict) -> None:
    page = watch(open_view, {**payload, "untouched_student": True})
    assert [page.locator(f"[data-sheet={sheet}]").is_visible() for sheet in SHEETS] == [True, False, False]
    expect(page.get_by_text("still the untouched copy")).to_be_visible()
    cell(page, "teacher", 0, 4).focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(CHOSEN) == ["teacher", "0", "4"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "it has version 2 instead of 1"),
        ({"severities": ["much"]}, "its severities are no list of numbers"),
        ({"networks": []}, "it has no teacher and student"),
        (
            {"corruptions": [{"name": "fog", "label": "Fog"}]},
            "the teacher's cls_cosine is no table of 1 corruptions by 5",
        ),
    ],
)
def test_what_cannot_be_read_is_told(open_view: Opener, payload: dict, change: dict, words: str) -> None:
    page = watch(open_view, {**payload, **change})
    expect(page.locator(".vx-notice")).to_contain_text(words)
    expect(page.locator(".vx-benchsheets")).to_be_hidden()
    page.evaluate(UPDATE, payload)
    expect(page.locator(".vx-benchsheets")).to_be_visible()
    expect(page.locator(".vx-notice")).to_be_hidden()


def test_before_anything_is_measured_there_is_a_word(open_view: Opener) -> None:
    page = watch(open_view, None)
    expect(page.locator(".vx-empty")).to_contain_text("Press Measure")


@pytest.mark.parametrize("width", [390, 820, 1280])
def test_sheets_fit_the_width(open_view: Opener, payload: dict, width: int) -> None:
    page = watch(open_view, payload, viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tops = [page.locator(f"[data-sheet={sheet}]").bounding_box()["y"] for sheet in SHEETS]  # type: ignore[index]
    assert len(set(tops)) == {390: 3, 820: 2, 1280: 1}[width]
    area = cell(page, "student", 0, 0).bounding_box()
    assert area is not None
    assert min(area["width"], area["height"]) >= 24


def test_figure_and_numbers_are_saved(open_view: Opener, payload: dict, tmp_path: Path) -> None:
    page = watch(open_view, payload)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save numbers").click()
    content = json.loads(Path(saved.value.path()).read_text())
    assert saved.value.suggested_filename == "vit-explorer-benchmark-cls_cosine-student.json"
    assert content["networks"][1]["values"]["cls_cosine"] == payload["networks"][1]["values"]["cls_cosine"]
    assert content["complete"] is True
    with page.expect_download() as drawn:
        page.get_by_role("button", name="Save figure").click()
    assert Path(drawn.value.path()).read_bytes().startswith(b"\x89PNG")


def test_settings_come_from_outside(open_view: Opener) -> None:
    page = watch(open_view, fixtures.benchmark_payload("a", "b"))
    page.evaluate("view.set({ measure: 'attention_js', student: 'b' })")
    state = page.evaluate("view.state()")
    assert (state["measure"], state["student"], state["name"]) == ("attention_js", "b", None)
    assert page.evaluate("view.link()") == {"measure": "attention_js"}
    page.evaluate("view.set({ measure: 'nonsense', student: 'nobody' })")
    assert page.locator("select[name=measure]").input_value() == "attention_js"
    assert page.locator("select[name=student]").input_value() == "a"
