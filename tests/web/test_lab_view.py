"""The lab view in a real browser: what is chosen is asked for, what was found is shown and chosen from, by pointer and
keys."""

import json
from pathlib import Path

import fixtures
import numpy as np
import pytest
import torch
from opening import Opener, box, centre, colour, decode, events, next_frame, number, pixel
from playwright.sync_api import Page, expect

import explorer as ex
from explorer.models.backbones import Backbone
from explorer.plots.style import scale_end
from explorer.scenes.laboratory import lab_scene
from explorer.scenes.pages import Section, save_page
from tests.small import NOISE, network

pytestmark = pytest.mark.browser

ROWS, COLS, LAST = 2, 2, 11
OFFERED = {
    "kind": [("head", "a head"), ("attention", "a block's attention"), ("patches", "patches")],
    "by": [("clean", "what it is in the clean picture"), ("zero", "zero")],
    "rule": [("picked", "the ones that I pick"), ("attended", "the most attended")],
}
ASKED = {"kind": "head", "layer": 8, "head": 1, "by": "zero", "rule": "attended", "count": 2, "picked": []}


@pytest.fixture(scope="module")
def networks() -> dict[str, Backbone]:
    return {"teacher": network(0), "student": network(1)}


@pytest.fixture(scope="module")
def compared(networks: dict[str, Backbone]) -> ex.Comparison:
    picture = torch.from_numpy(fixtures.photo(32, 32)).permute(2, 0, 1)
    return ex.compare(networks["teacher"], picture, NOISE, networks["student"])


@pytest.fixture(scope="module")
def payload(networks: dict[str, Backbone], compared: ex.Comparison) -> dict:
    """One head of a small untrained pair set to zero, and what every part brings back."""
    changed, shares = {}, {}
    for who, backbone in networks.items():
        with ex.intervene(backbone, ex.Part("head", 8, 1)):
            changed[who] = backbone.trace(compared.distorted[None])
        shares[who] = ex.activation_patching(backbone, compared.clean, compared.distorted)
    told = {"told": "head 8.1 set to zero", "offered": OFFERED, "link": {"photo": "farm_animal/owl.webp"}}
    return lab_scene(compared, changed, asked=ASKED, shares=shares, patches=((0, 1),), **told)


def test_maps_before_and_after_under_one_scale(open_view: Opener, payload: dict) -> None:
    page = open_view("labview", payload)
    maps = {pane["id"]: decode(pane["maps"])[LAST] for pane in payload["panes"]}
    assert list(maps) == [
        f"{who}_{kind}" for who in ("teacher", "student") for kind in ("clean", "distorted", "changed")
    ]
    top = scale_end(*maps.values())
    for pane, values in maps.items():
        expected = colour(payload, "viridis", min(1.0, values[3] / top))
        assert np.abs(np.subtract(pixel(page, pane, 1, 1), expected)).max() <= 6
    page.mouse.move(*centre(page, "student_changed", 1, 0, ROWS, COLS))
    next_frame(page)
    notes = [number(text) for text in page.locator(".vx-note").all_inner_texts()]
    change = maps["student_changed"] - maps["student_distorted"]
    assert notes[6] == pytest.approx(maps["student_changed"][2], rel=6e-3)
    assert notes[7] == pytest.approx(change[2], rel=2e-2)
    page.get_by_label("Maps of block").select_option("8")
    expect(page.locator(".vx-barlabel").first).to_contain_text("attention of block 8")


def test_what_it_says_is_what_was_measured(open_view: Opener, payload: dict, compared: ex.Comparison) -> None:
    page = open_view("labview", payload)
    numbers = payload["numbers"]
    assert numbers["teacher_distorted"]["cls_cosine"] == compared.alignments["teacher"].cls_cosine
    saying = page.locator(".vx-saying").inner_text()
    assert saying.startswith("With head 8.1 set to zero, the teacher's agreement goes from ")
    for name in ("teacher_distorted", "teacher_changed", "student_distorted", "student_changed"):
        assert f"{numbers[name]['cls_cosine']:.3f}".replace("-", "\u2212") in saying
    cells = page.locator(".vx-scores tbody tr").first.locator("td").all_inner_texts()
    order = ("teacher_distorted", "teacher_changed", "student_distorted", "student_changed")
    assert [number(text) for text in cells] == [round(numbers[name]["cls_cosine"], 3) for name in order]


def test_a_choice_is_asked_for(open_view: Opener, payload: dict) -> None:
    page = open_view("labview", payload)
    page.get_by_label("By", exact=True).select_option("clean")
    assert last_asked(page) == {**ASKED, "by": "clean"}
    page.get_by_role("slider", name="Of block").fill("3")
    assert last_asked(page)["layer"] == 3
    expect(page.get_by_label("Which patches")).to_be_hidden()
    page.get_by_label("Replace", exact=True).select_option("patches")
    expect(page.get_by_label("How many")).to_be_visible()
    expect(page.get_by_label("Head", exact=True)).to_be_hidden()


def last_asked(page: Page) -> dict:
    page.wait_for_timeout(50)
    return events(page, "choose")[-1]


def test_patches_are_picked_by_pointer_and_keys(open_view: Opener, payload: dict) -> None:
    page = open_view("labview", {**payload, "asked": {**ASKED, "kind": "patches"}})
    page.mouse.click(*centre(page, "teacher_distorted", 1, 0, ROWS, COLS))
    box(page, "student_changed").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    (asked,) = events(page, "choose")  # once, when the last has been picked
    assert asked["rule"] == "picked"
    assert sorted(asked["picked"]) == [[0, 1], [1, 0], [1, 1]]
    now = {**asked, "picked": asked["picked"][::-1]}
    page.evaluate("(payload) => view.update(payload)", {**payload, "asked": now, "patches": now["picked"]})
    for _ in range(2):  # there and back
        page.mouse.click(*centre(page, "teacher_distorted", 0, 0, ROWS, COLS))
    page.evaluate("view.set(view.link())")
    page.wait_for_timeout(500)
    assert page.locator(".vx-labstage").get_attribute("aria-busy") is None, "nobody answers what is there already"
    assert len(events(page, "choose")) == 1


def test_the_table_of_parts(open_view: Opener, payload: dict) -> None:
    page = open_view("labview", payload)
    tables = page.locator(".vx-sharetable")
    expect(tables).to_have_count(2)
    for who, rows in zip(("teacher", "student"), tables.all(), strict=True):
        shown = [
            [number(text) for text in row.locator("td").all_inner_texts()] for row in rows.locator("tbody tr").all()
        ]
        expected = [[round(share, 2) for share in row] for row in payload["shares"][who]["rows"]]
        np.testing.assert_allclose(shown, expected, atol=0.0051)
    expect(tables.first.locator("[aria-selected]")).to_have_attribute("data-head", "1")
    cell = tables.first.locator("td.vx-share").first
    cell.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert last_asked(page) == {**ASKED, "layer": 2, "head": 1}
    tables.last.locator("td[data-kind=mlp][data-layer='5']").click()
    assert last_asked(page) == {**ASKED, "kind": "mlp", "layer": 5, "head": 1}


def test_settings_as_a_link_tells_them(open_view: Opener, payload: dict) -> None:
    page = open_view("labview", payload)
    link = page.evaluate("view.link()")
    assert link == {"kind": "head", "part": 8, "head": 1, "by": "zero", "rule": "attended", "count": 2}
    page.evaluate("view.set({ part: '4', by: 'clean', kind: 'nonsense' })")
    assert last_asked(page) == {**ASKED, "layer": 4, "by": "clean"}


def test_nothing_is_replaced_where_no_patch_is_chosen(open_view: Opener, payload: dict) -> None:
    page = open_view("labview", {**payload, "told": "", "patches": [], "shares": None})
    expect(page.locator(".vx-saying")).to_contain_text("No patch is chosen")
    expect(page.locator(".vx-shares")).to_be_hidden()


def test_files(open_view: Opener, payload: dict, tmp_path: Path) -> None:
    page = open_view("labview", payload)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save numbers").click()
    saved = json.loads(Path(download.value.path()).read_text())
    assert saved["agreement"] == payload["numbers"]
    assert set(saved["maps"]) >= {"teacher_changed", "student_difference"}
    with page.expect_download() as download:
        page.get_by_role("button", name="Save figure").click()
    assert download.value.suggested_filename == "vit-explorer-lab-head-block-8.png"
    file = save_page(Section(view="labview", scenes=(payload,)), tmp_path / "lab.html")
    alone = page.context.new_page()
    alone.goto(file.as_uri())
    expect(alone.locator(".vx-labstage figure")).to_have_count(8)
    expect(alone.get_by_label("Replace", exact=True)).to_be_hidden()  # nobody answers there
    alone.close()
