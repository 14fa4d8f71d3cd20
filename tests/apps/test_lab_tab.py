"""The Lab tab in a real browser: what is replaced is what the library replaces, and the search finds what it finds."""

import re

import pytest
import torch
from playwright.sync_api import expect
from visiting import Open

import explorer as ex
from explorer.errors import InputError
from explorer.system.files import asset_path
from explorer_app.service.lab import NEEDS_CLEAN, Asked

pytestmark = [pytest.mark.browser, pytest.mark.weights]


def test_what_is_asked_is_checked() -> None:
    assert Asked.read({"kind": "head", "layer": 3, "head": 2}) == Asked(kind="head", layer=3, head=2)
    assert Asked.read({"kind": "patches", "picked": [[0, 1]]}).picked == ((0, 1),)
    for given, told in (
        ({"kind": "arm"}, "kind is one of head, attention"),
        ({"by": "magic"}, "by is one of clean"),
        ({"layer": -1}, "layer is a whole number"),
        ({"head": "x"}, "head is a whole number"),
        ({"picked": [1]}, "picked is a list of patches"),
    ):
        with pytest.raises(InputError, match=told):
            Asked.read(given)


def test_a_backbone_lacks_some_of_it() -> None:
    small = ex.load_backbone("vit_tiny_patch16_224", image_size=32, source="random", device="cpu")
    asked = Asked(kind="registers", layer=99, head=99, count=99, picked=((0, 1), (7, 7))).within(small)
    assert asked == Asked(kind="head", layer=11, head=2, count=4, picked=((0, 1),))


def test_the_part_that_is_chosen_is_replaced(open_page: Open) -> None:
    visit = open_page(
        "?view=lab&kind=head&part=9&head=4&by=zero", view="lab", permissions=["clipboard-read", "clipboard-write"]
    )
    view = visit.page.locator("#lab-view")
    expect(view.locator(".vx-saying")).to_contain_text("With head 9.4 set to zero", timeout=60_000)
    pair = ex.load_pair("s14-noise")
    owl = ex.load_image(asset_path("photos") / "farm_animal" / "owl.webp", size=224)[None]
    noisy = ex.distortion("gaussian_noise(sigma=0.3)")(owl, seed=0)
    reference = pair.teacher.trace(owl)

    def expected(part: ex.Part, by: str, pictures: torch.Tensor | None = None) -> list[str]:
        found = []
        for backbone in (pair.teacher, pair.student):
            with ex.intervene(backbone, part, by, pictures):  # type: ignore[arg-type]
                changed = backbone.trace(noisy)
            plain = backbone.trace(noisy)
            found += [ex.alignment(reference, trace).cls_cosine for trace in (plain, changed)]
        return [f"{cosine:.3f}" for cosine in found]

    def shown() -> list[str]:
        return view.locator(".vx-scores tbody tr").first.locator("td").all_inner_texts()

    assert shown() == expected(ex.Part("head", 9, 4), "zero")
    view.get_by_label("By", exact=True).select_option("clean")
    expect(view.locator(".vx-saying")).to_contain_text("With head 9.4 as in the clean view", timeout=30_000)
    assert shown() == expected(ex.Part("head", 9, 4), "pictures", owl)
    visit.settle()
    assert re.search(r"kind=head&part=9&.*by=clean", visit.link())


@pytest.mark.slow
def test_the_search_finds_what_each_part_brings_back(open_page: Open) -> None:
    visit = open_page("?view=lab", view="lab")
    view = visit.page.locator("#lab-view")
    visit.page.locator("#lab-search").click()
    table = view.locator(".vx-sharetable").first
    expect(table).to_be_visible(timeout=120_000)
    visit.settle()
    teacher = ex.load_backbone("s14", image_size=224)
    owl = ex.load_image(asset_path("photos") / "farm_animal" / "owl.webp", size=224)[None]
    noisy = ex.distortion("gaussian_noise(sigma=0.3)")(owl, seed=0)
    target, plain = (teacher.trace(picture).embedding for picture in (owl, noisy))
    with ex.intervene(teacher, ex.Part("head", 8, 4), "pictures", owl):
        patched = teacher.trace(noisy).embedding
    without, found = (torch.nn.functional.cosine_similarity(each, target).item() for each in (plain, patched))
    cell = table.locator("td[data-kind=head][data-layer='8'][data-head='4']")
    assert float(cell.inner_text().replace("\u2212", "-")) == pytest.approx((found - without) / (1 - without), abs=6e-3)
    cell.click()
    expect(view.locator(".vx-saying")).to_contain_text("With head 8.4 as in the clean view", timeout=30_000)
    visit.settle()


def test_patches_by_rule_then_by_hand(open_page: Open) -> None:
    visit = open_page("?view=lab&kind=patches&part=4&count=3", view="lab")
    view = visit.page.locator("#lab-view")
    saying = view.locator(".vx-saying")
    expect(saying).to_contain_text("With 3 patches after block 4 as in the clean view", timeout=60_000)
    box = view.locator("[data-pane=teacher_distorted]")
    box.click(position={"x": 3, "y": 3})
    expect(saying).to_contain_text("With 4 patches after block 4", timeout=30_000)
    expect(view.get_by_label("Which patches")).to_have_value("picked")
    view.get_by_label("By", exact=True).select_option("mean")
    expect(saying).to_contain_text("as over 8 photos in the mean", timeout=30_000)
    visit.settle()


def test_without_a_clean_picture_it_says_so(open_page: Open) -> None:
    visit = open_page("?view=lab", view="lab")
    expect(visit.page.locator("#lab-view .vx-saying")).to_contain_text("With attention of block 8", timeout=60_000)
    visit.settle()
    visit.page.get_by_label("My damaged photo").check()
    visit.page.locator("#picture input[type=file]").set_input_files(asset_path("photos") / "farm_animal" / "owl.webp")
    visit.wait_for_notice(NEEDS_CLEAN)
