"""The story in five steps: it comes once, moves the real controls, and can be skipped, also by the keyboard."""

import pytest
from playwright.sync_api import Browser, expect
from serving import Served
from visiting import Visit

pytestmark = [pytest.mark.browser, pytest.mark.weights]

SIGMA = "#parameter-0 input[type=number]"


def test_the_story_moves_the_real_controls_and_comes_once(app: Served, browser: Browser) -> None:
    visit = Visit(browser, app.url, tour=True).open()
    page, card = visit.page, visit.page.locator("#tour")
    expect(card).to_be_visible()
    expect(card.get_by_role("heading")).to_be_focused()
    expect(page.locator(SIGMA)).to_have_value("0")
    expect(page.locator(".vx-saying").first).to_contain_text("costs the teacher 0 %")
    card.get_by_role("button", name="Next").click()
    expect(page.locator(SIGMA)).to_have_value("0.3")
    expect(page.locator(".vx-saying").first).not_to_contain_text("costs the teacher 0 %")
    for tab, words in (("Attention", "student"), ("Patches", "patch"), ("Train", "Train your own")):
        page.keyboard.press("Tab")
        card.get_by_role("button", name="Next").press("Enter")
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        expect(card).to_contain_text(words)
    expect(page.locator("#start-run[data-tour]")).to_be_visible()
    card.get_by_role("button", name="Done").press("Enter")
    expect(card).to_be_hidden()
    assert page.locator("[data-tour]").count() == 0
    visit.settle()
    page.reload()
    visit.wait_for_maps()
    visit.settle()
    expect(card).to_be_hidden()
    page.locator("#tour-button").click()
    expect(card).to_be_visible()
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    expect(page.locator(SIGMA)).to_have_value("0.3")
    visit.close()
    assert not visit.complaints


def test_a_link_tells_the_story_on_a_phone(app: Served, browser: Browser) -> None:
    visit = Visit(browser, app.url, width=390, height=844).open("?tour=1")
    card = visit.page.locator("#tour")
    expect(card).to_be_visible()
    box = card.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    card.get_by_role("button", name="Skip").click()
    expect(card).to_be_hidden()
    visit.page.get_by_role("button", name="Picture, damage, student").click()
    expect(visit.page.locator("#operator")).to_be_visible()
    maps = visit.page.locator('#attention-view .vx-box[data-pane="picture_distorted"]').bounding_box()
    sheet = visit.page.locator("#sidebar").bounding_box()
    assert maps is not None
    assert sheet is not None
    assert maps["y"] < sheet["y"], "the effect is seen above the sheet"
    visit.page.keyboard.press("Escape")
    expect(visit.page.locator("#operator")).to_be_hidden()
    visit.close()
