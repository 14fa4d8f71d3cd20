"""Several students at once in the page: what is asked, and what the Attention and the Patches tab show."""

import re
from dataclasses import replace

import pytest
from playwright.sync_api import expect
from visiting import Open

import explorer as ex
from explorer.errors import InputError
from explorer.evaluation.sweeping import strengths_of
from explorer_app.service import pictures
from explorer_app.service.models import RESTORED, UNTOUCHED
from explorer_app.service.question import DEFAULT_PHOTO, Question
from explorer_app.tabs import robustness
from explorer_app.tabs.shared import settings

NAMES = ("s14-noise", "s14-mixture", UNTOUCHED)


def question(student: str, *beside: str, backbone: str = "s14") -> Question:
    photo = pictures.photo_path(DEFAULT_PHOTO)
    return Question.read(photo, DEFAULT_PHOTO, "fog:3", backbone, student, 224, 0, beside=beside)


def test_the_student_itself_is_not_beside_itself_and_four_are_the_most():
    assert question("s14-noise", "s14-noise", "s14-blur", "s14-blur").beside == ("s14-blur",)
    with pytest.raises(InputError, match="4 students are shown at once at most; got 5"):
        question("s14-noise", "s14-blur", "s14-mask", "s14-mixture", "s14-common")


def test_a_link_tells_the_others_and_refuses_those_of_another_backbone():
    asked = question("s14-noise", "s14-mask", "s14-mixture")
    link = asked.link()
    assert isinstance(link, dict)
    assert link["beside"] == "s14-mask,s14-mixture"
    assert Question.of_link(link) == asked
    assert "beside" not in question("s14-noise").link()
    with pytest.raises(InputError, match="'s14' has no student 'clip-b16-mixture'"):
        Question.of_link({**link, "beside": "clip-b16-mixture"})


def test_what_is_measured_changes_with_those_beside_it():
    alone, several = question("s14-noise"), question("s14-noise", "s14-mask")
    assert settings(alone) != settings(several)
    assert several.versions() == (alone.version(), question("s14-mask").version())


def test_those_of_another_backbone_are_left_out_until_they_are_chosen_anew():
    assert question("s14-noise", "clip-b16-mixture", "s14-mask").students == ("s14-noise", "s14-mask")


@pytest.mark.weights
def test_each_student_is_seen_as_it_is_alone():
    together = question(*NAMES).together()
    assert together.students == NAMES
    for name in NAMES:
        alone = question(name).comparison()
        assert together.alignments[name].as_json() == alone.alignments["student"].as_json()
        assert together.maps()[f"{name}_clean"].equal(alone.maps()["student_clean"])
    assert question("s14-noise").together().students == ("student",)
    left = question("s14-noise", "clip-b16-mixture").together()
    assert left.students == ("student",), "one of the backbone before, between two events of the page"


@pytest.mark.weights
def test_the_teacher_on_restored_pictures_stands_beside_them():
    asked = question("s14-noise", RESTORED)
    assert Question.of_link(asked.link()) == asked
    noisy = replace(asked, damage=ex.distortion("gaussian_noise(sigma=0.3)"))
    together, alone = noisy.together(), replace(noisy, student=RESTORED, beside=()).comparison()
    assert together.students == ("s14-noise", "restored")
    assert together.alignments["restored"].as_json() == alone.alignments["student"].as_json()
    teacher, restored = (together.alignments[name].as_json()["cls_cosine"] for name in ("teacher", "restored"))
    assert restored > teacher + 0.2


@pytest.mark.weights
@pytest.mark.slow
def test_a_sweep_measures_each_as_it_does_alone():
    strengths, images = strengths_of("fog", (2,), "severity"), ex.load_images("photos")
    *_, several = robustness.sweep(question(*NAMES), images, 8, strengths)
    assert list(several.rows) == ["teacher", *NAMES]
    for name in NAMES:
        *_, alone = robustness.sweep(question(name), images, 8, strengths)
        assert several.rows[name] == alone.rows["student"]
    assert robustness.scene(several, question(*NAMES), "")["learned"][1]["name"] == "s14-mixture"


@pytest.mark.browser
@pytest.mark.weights
def test_students_stand_beside_each_other(open_page: Open):
    visit = open_page()
    page, before = visit.page, visit.numbers()
    visit.unfold("more-model")
    for name in ("s14-mixture", "s14-mask"):
        page.locator("#beside input").click()
        page.get_by_role("option", name=f"{name}: trained on").click()
        expect(page.locator(f'#attention-view .vx-box[data-pane="{name}_distorted"]')).to_be_visible(timeout=30_000)
        visit.settle()
    head = page.locator("#attention-view .vx-table thead").first
    for name in ("teacher", "s14-noise", "s14-mixture", "s14-mask"):
        expect(head).to_contain_text(name)
    assert visit.numbers() != before
    maps = [visit.heat(f"{name}_distorted") for name in ("teacher", "s14-noise", "s14-mixture", "s14-mask")]
    assert len(set(maps)) == 4
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    labels = page.locator("#beside .token > span")
    assert [box["height"] < 24 for box in (each.bounding_box() for each in labels.all())] == [True, True]
    expect(labels.first).to_have_attribute("title", re.compile(r"s14-mixture: trained on gaussian_noise.*pixel_mask"))

    visit.open_tab("Patches")
    patches = page.locator("#patch-view .vx-box:visible")
    expect(patches).to_have_count(8, timeout=30_000)
    visit.open_tab("Robustness")
    expect(page.locator("#sweep-mark")).to_contain_text("Measure takes about")
    page.locator("#sweep-count").get_by_label("16").check()
    page.locator("#sweep-values textarea").fill("0.3")
    page.locator("#measure-sweep").click()
    legend = page.locator("#sweep-view .vx-sweeplegend")
    expect(legend).to_contain_text("s14-mask, never trained on this", timeout=120_000)
    expect(legend).to_contain_text("s14-noise, trained at sigma 0.1 to 0.5")
    visit.open_tab("Attention")
    page.keyboard.press("Escape")
    while (chosen := page.locator("#beside .token-remove:visible")).count():
        chosen.first.click()
        visit.settle()
    expect(page.locator('#attention-view .vx-box[data-pane="student_distorted"]')).to_be_visible(timeout=30_000)
    expect(page.locator("#attention-view")).to_contain_text("the student keeps")
    assert visit.notice() == ""
