"""The left column's three ways: damage that is done here, a photo that is damaged already, and a real pair."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from playwright.sync_api import FilePayload, expect
from torch import Tensor
from visiting import Open, Visit

import explorer as ex
from explorer.data.image import to_pil
from explorer.errors import InputError
from explorer.inspection.comparison import NO_REFERENCE, SWAPPED
from explorer_app.service.models import UNTOUCHED
from explorer_app.service.question import DAMAGED, PAIR, SYNTHETIC, Question
from explorer_app.tabs.train import _watched
from tests.real_damage import cut, dim

CUT_OFF = """() => Math.max(0, ...[...document.querySelectorAll("#way label")].map(
  (each) => each.getBoundingClientRect().right - document.querySelector("#way").getBoundingClientRect().right + 4))"""


def png(picture: Tensor) -> bytes:
    stream = io.BytesIO()
    to_pil(picture).save(stream, "png")
    return stream.getvalue()


@pytest.fixture(scope="module")
def shots() -> dict[str, bytes]:
    """A scene by day, by night some pixels aside, from elsewhere and in another shape; and another scene."""
    photo, other = (ex.load_images("photos", size=256)[index][0] for index in (150, 20))
    assert photo.shape == (3, 256, 256)
    pictures = {
        "day": cut(photo, 224),
        "night": cut(dim(photo), 224, 6, -9),
        "other": cut(other, 224),
        "wide": cut(photo, 224)[:, :120],
    }
    return {name: png(picture) for name, picture in pictures.items()}


@pytest.fixture
def files(shots: dict[str, bytes], tmp_path: Path) -> dict[str, str]:
    for name, content in shots.items():
        (tmp_path / f"{name}.png").write_bytes(content)
    return {name: str(tmp_path / f"{name}.png") for name in shots}


# ---------------------------------------------------------------- what is asked


def question(picture: str | None, way: str = PAIR, twin: str | None = None, align: bool = True) -> Question:
    return Question.read(picture, None, "fog:3", "s14", UNTOUCHED, 224, 0, None, 0.5, way, twin, align)


def test_a_pair_is_seen_as_the_library_sees_it(files):
    clean, night = (ex.load_image(files[name], size=224) for name in ("day", "night"))
    seen, moved, damage = question(files["day"], twin=files["night"]).seen()
    assert torch.equal(seen, clean)
    assert damage.shift == (6, -9)
    assert not torch.equal(moved, night)
    _, as_it_lies, unmoved = question(files["day"], twin=files["night"], align=False).seen()
    assert torch.equal(as_it_lies, night)
    assert unmoved.shift is None


@pytest.mark.parametrize(
    ("twin", "words"),
    [
        (None, "the damaged picture of the pair is missing"),
        ("day", "the clean and the damaged picture are the same"),
        ("other", "do not show the same scene"),
        ("wide", "the same aspect ratio"),
    ],
)
def test_a_pair_that_does_not_fit_is_told_in_one_sentence(files, twin, words):
    with pytest.raises(InputError, match=words) as told:
        question(files["day"], twin=twin and files[twin]).seen()
    assert "\n" not in str(told.value)


def test_a_run_watches_a_pair_and_no_damaged_photo_alone(files):
    watched = _watched(question(files["day"], twin=files["night"]))
    teacher = ex.load_backbone("vit_tiny_patch16_224", image_size=112, source="random", device="cpu")
    recovery = watched.recovery(teacher, 112)
    clean, damaged, _ = replace(question(files["day"], twin=files["night"]), size=112).seen()
    assert torch.equal(recovery.clean, clean)
    assert torch.equal(recovery.distorted, damaged)
    with pytest.raises(InputError, match="do not show the same scene"):
        _watched(question(files["day"], twin=files["other"]))
    with pytest.raises(InputError, match="beside what the teacher sees in a clean picture"):
        _watched(question(files["night"], DAMAGED))


def test_a_damaged_photo_has_no_clean_one_and_no_damage_of_here(files):
    asked = question(files["night"], DAMAGED, twin=files["day"])
    clean, seen, _ = asked.seen()
    assert clean is None
    assert torch.equal(seen, ex.load_image(files["night"], size=224))
    assert asked == question(files["night"], DAMAGED, align=False), "what does not count does not make it another"
    assert "No link" in asked.link()
    with pytest.raises(InputError, match="this needs synthetic damage"):
        asked.done_here()
    assert question(files["day"], SYNTHETIC).done_here().spec == ex.distortion("fog:3").spec
    with pytest.raises(InputError, match="synthetic, damaged, pair; got 'real'"):
        question(files["day"], "real")


# ---------------------------------------------------------------- in a browser


def hand_over(visit: Visit, where: str, content: bytes) -> None:
    file = FilePayload(name=f"{where}.png", mimeType="image/png", buffer=content)
    visit.page.locator(f"#{where} input[type=file]").set_input_files(file)


def drawn(visit: Visit) -> Image.Image:
    """The damaged picture of the attention view."""
    return Image.open(io.BytesIO(visit.box("picture_distorted").screenshot())).convert("RGB")


@pytest.mark.browser
@pytest.mark.weights
def test_the_three_ways_of_the_left_column(open_page: Open, shots: dict[str, bytes]):
    visit = open_page()
    page, column = visit.page, visit.page.locator("#sidebar")
    before = visit.numbers()
    expect(column.locator("#operator")).to_be_visible()
    assert page.evaluate(CUT_OFF) == 0

    page.get_by_label("My damaged photo").check()
    hand_over(visit, "picture", shots["night"])
    expect(page.locator("#nearest-found figure")).to_have_count(10, timeout=30_000)
    visit.settle()
    expect(column.locator("#operator")).to_be_hidden()
    expect(column.locator("#corruption-sheet")).to_be_hidden()
    view = page.locator("#attention-view")
    expect(view).to_contain_text(NO_REFERENCE)
    expect(view).not_to_contain_text("reference under the damage")
    assert not page.locator('#attention-view .vx-box[data-pane="teacher_clean"]').is_visible()
    assert visit.numbers() != before
    nearest = page.locator("#nearest-found section")
    assert nearest.locator("h4").all_inner_texts() == ["To the teacher", "To the student"]
    assert all(page.locator("#nearest-found img").evaluate_all("(all) => all.map((each) => each.naturalWidth === 96)"))

    page.get_by_label("My pair").check()
    visit.wait_for_notice("the damaged picture of the pair is missing")
    hand_over(visit, "picture", shots["day"])
    hand_over(visit, "twin", shots["night"])
    moved = "The damaged picture is moved 6 px down and 9 px left onto the clean one."
    expect(view).to_contain_text(moved, timeout=30_000)
    visit.settle()
    assert visit.notice() == ""
    expect(page.locator("#nearest")).to_be_hidden()
    expect(view).not_to_contain_text(NO_REFERENCE)
    aligned, before = drawn(visit), visit.numbers()
    page.locator("#align input").uncheck()
    visit.wait_for_other_numbers(before)
    assert drawn(visit).tobytes() != aligned.tobytes()
    page.locator("#align input").check()
    expect(view).to_contain_text(moved, timeout=30_000)

    page.locator("#swap").click()
    expect(view).to_contain_text("is moved 6 px up and 9 px right onto the clean one.", timeout=30_000)
    expect(view).to_contain_text(SWAPPED)
    visit.settle()
    hand_over(visit, "twin", shots["other"])
    expect(page.locator("#notice")).to_contain_text("the two pictures do not show the same scene", timeout=30_000)
    visit.settle()

    visit.open_tab("Robustness")
    expect(page.locator("#sweep-mark")).to_contain_text("this needs synthetic damage", timeout=30_000)
    visit.open_tab("Attention")
    page.get_by_label("Synthetic damage").check()
    expect(column.locator("#operator")).to_be_visible()
    expect(view).to_contain_text("Gaussian noise 0.3 costs the teacher", timeout=30_000)
    visit.settle()
    assert visit.notice() == ""


@pytest.mark.browser
@pytest.mark.weights
def test_on_a_phone_a_damaged_photo_stays_within_the_page(open_page: Open):
    visit = open_page(width=390, height=844, has_touch=True)
    visit.page.get_by_role("button", name="Picture, damage, student").click()
    visit.page.get_by_label("My damaged photo").check()
    expect(visit.page.locator("#nearest-found figure")).to_have_count(10, timeout=30_000)
    visit.settle()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert visit.page.evaluate(CUT_OFF) == 0
