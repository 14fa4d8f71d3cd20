"""The Attribution tab in a real browser: three maps under one scale, and numbers that are the library's."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect
from visiting import Open

import explorer as ex
from explorer.data.image import to_pil
from explorer.evaluation.predicting import probe_of
from explorer.inspection.attribution import attribute_views
from explorer.system.files import asset_path
from explorer_app.tabs.attribution import ONLY_A_CLASS

pytestmark = [pytest.mark.browser, pytest.mark.weights]


def test_what_made_the_answer_is_shown_for_three_views(open_page: Open) -> None:
    visit = open_page()
    visit.page.get_by_role("tab", name="Attribution").click()  # the quickest method is taken unasked
    view = visit.page.locator("#attribution-view")
    expect(view.locator(".vx-box:visible")).to_have_count(3, timeout=60_000)
    pair = ex.load_pair("s14-noise")
    owl = ex.load_image(asset_path("photos") / "farm_animal" / "owl.webp", size=224)
    expected = attribute_views(
        pair.teacher, pair.student, owl, "gaussian_noise(sigma=0.3)", method="gradient_attention"
    )
    scores = view.get_by_role("row", name="score", exact=False).first.locator("td").all_inner_texts()
    assert [float(text) for text in scores] == pytest.approx([each.target for each in expected.values()], abs=2e-3)
    expect(view.locator(".vx-saying")).to_contain_text("of the teacher's score; the student wins")
    before = len(visit.requests)
    view.locator("[data-pane=student_distorted]").hover()
    expect(view.locator(".vx-note").first).not_to_be_empty()
    assert len(visit.requests) == before, "the pointer asks no server"
    visit.page.get_by_role("tab", name="About").click()
    visit.page.get_by_role("tab", name="Attribution").click()
    visit.settle()
    expect(view.locator(".vx-box:visible")).to_have_count(3)
    visit.unfold("more-damage").type_into("seed", "7")
    line = visit.page.locator("#attribution-mark")
    expect(line).to_contain_text(
        "Of the settings before: gradient x attention, owl under gaussian_noise(sigma=0.3), seed 0"
    )
    visit.page.locator("#explain").click()
    expect(line).to_have_text(
        re.compile(r"^\s*gradient x attention, owl under gaussian_noise\(sigma=0.3\), seed 7"), timeout=60_000
    )
    visit.page.locator("#attribution-method").get_by_label("integrated gradients").check()
    visit.page.locator("#explain").click()
    expect(view.locator(".vx-barlabel")).to_contain_text("integrated gradients; above 0 (red)", timeout=60_000)
    with visit.page.expect_download() as download:
        view.get_by_role("button", name="Save page").click()
    assert "createAttributionView" in Path(download.value.path()).read_text()


def test_a_damaged_photo_alone_is_explained_towards_a_class(open_page: Open, tmp_path: Path) -> None:
    visit = open_page()
    page = visit.page
    damaged = ex.distortion("gaussian_noise(sigma=0.2)")(ex.load_images("photos", size=224)[20][0][None], seed=1)[0]
    to_pil(damaged).save(tmp_path / "night.png")
    page.get_by_label("My damaged photo").check()
    page.locator("#picture input[type=file]").set_input_files(tmp_path / "night.png")
    visit.settle()
    visit.open_tab("Attribution")
    status = page.locator("#attribution-status")
    expect(status).to_contain_text(ONLY_A_CLASS, timeout=60_000)
    visit.open_tab("Predict")
    expect(page.locator("#seen-said")).to_contain_text("in the damaged picture", timeout=60_000)
    visit.settle()
    visit.open_tab("Attribution")
    visit.choose("attribution-toward", "wild animal")
    expect(status).to_have_text("")
    page.locator("#explain").click()
    view = page.locator("#attribution-view")
    expect(view.locator(".vx-saying")).to_contain_text("For “wild animal” the teacher scores", timeout=60_000)
    expect(view.locator(".vx-box:visible")).to_have_count(2)
    pair, photos = ex.load_pair("s14-noise"), ex.load_images("photos", size=224)
    names = [photos.classes[label] for label in photos.labels or ()]
    own, other = (
        (probe_of(net, ex.embed(net, photos).embedding, names), "wild animal") for net in (pair.teacher, pair.student)
    )
    night = ex.load_image(tmp_path / "night.png", size=224)
    nets = pair.teacher, pair.student
    expected = attribute_views(*nets, None, night, own, "gradient_attention", student_toward=other)
    scores = view.get_by_role("row", name="score", exact=False).first.locator("td").all_inner_texts()
    found = [float(text.replace("\u2212", "-")) for text in scores]
    assert found == pytest.approx([each.target for each in expected.values()], abs=0.02)


def test_a_method_that_is_not_sound_for_a_model_is_told(open_page: Open) -> None:
    visit = open_page("?photo=farm_animal/owl.webp&size=224")
    visit.page.get_by_role("tab", name="Attribution").click()
    visit.page.locator("#picture button[aria-label='Remove Image']").click()
    visit.settle()
    visit.page.locator("#explain").click()
    expect(visit.page.locator("#attribution-status")).to_contain_text("there is no picture", timeout=60_000)
