"""The Attribution tab in a real browser: three maps under one scale, and numbers that are the library's."""

import re

import pytest
from playwright.sync_api import expect
from visiting import Open

import explorer as ex
from explorer.inspection.attribution import attribute_views
from explorer.system.files import asset_path

pytestmark = [pytest.mark.browser, pytest.mark.weights]


def test_what_made_the_answer_is_shown_for_three_views(open_page: Open) -> None:
    visit = open_page()
    visit.page.get_by_role("tab", name="Attribution").click()  # the quickest method is taken unasked
    figure = visit.page.locator("#attribution-figure img")
    expect(figure).to_be_visible(timeout=60_000)
    visit.page.wait_for_function("() => document.querySelector('#attribution-figure img').naturalWidth > 900")
    rows = visit.page.locator("#attribution-table tbody tr")
    expect(rows).to_have_count(3)
    pair = ex.load_pair("s14-noise")
    owl = ex.load_image(asset_path("photos") / "farm_animal" / "owl.webp", size=224)
    expected = attribute_views(
        pair.teacher, pair.student, owl, "gaussian_noise(sigma=0.3)", method="gradient_attention"
    )
    for place, (name, view) in enumerate(expected.items()):
        cells = rows.nth(place).locator("td").all_inner_texts()
        assert cells[0] == name.replace("_", ", ")
        assert float(cells[1]) == pytest.approx(view.target, abs=2e-3)
    visit.page.get_by_role("tab", name="About").click()
    visit.page.get_by_role("tab", name="Attribution").click()
    visit.settle()
    expect(figure).to_be_visible()
    expect(rows).to_have_count(3)
    visit.unfold("more-damage").type_into("seed", "7")
    line = visit.page.locator("#attribution-mark")
    expect(line).to_contain_text(
        "Of the settings before: gradient attention, owl under gaussian_noise(sigma=0.3), seed 0"
    )
    visit.page.locator("#explain").click()
    expect(line).to_have_text(
        re.compile(r"^\s*gradient attention, owl under gaussian_noise\(sigma=0.3\), seed 7"), timeout=60_000
    )


def test_a_method_that_is_not_sound_for_a_model_is_told(open_page: Open) -> None:
    visit = open_page("?photo=farm_animal/owl.webp&size=224")
    visit.page.get_by_role("tab", name="Attribution").click()
    visit.page.locator("#picture button[aria-label='Remove Image']").click()
    visit.settle()
    visit.page.locator("#explain").click()
    expect(visit.page.locator("#attribution-status")).to_contain_text("there is no picture", timeout=60_000)
