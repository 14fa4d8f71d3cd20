"""The Train tab in a real browser: a student learns, is stopped, goes on, and is looked at; visitors take turns."""

import io
import re
import time
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from serving import Served
from visiting import Open, Visit

from explorer.models.pairs import MAX_BYTES
from explorer_app.service import first_look
from explorer_app.tabs import train

pytestmark = [pytest.mark.browser, pytest.mark.weights]

PATIENCE = 120_000  # of two busy cores
STEPS = 24
TOLD = re.compile(r"step (\d+) of (\d+)")


def on_train_tab(visit: Visit, steps: int, **more: str) -> Page:
    """The Train tab, set to a small run."""
    page = visit.page
    page.get_by_role("tab", name="Train").click()
    page.get_by_role("button", name="What is trained").click()
    page.locator("#train-size").get_by_label("112").check()
    for elem_id, value in {"steps": str(steps), "batch": "2", **more}.items():
        page.locator(f"#{elem_id} input[type=number]").fill(value)
        page.keyboard.press("Tab")
    expect(page.locator("#start-run")).to_be_enabled(timeout=PATIENCE)
    return page


def begin(page: Page) -> None:
    """Start, and wait until the example gives way."""
    page.locator("#start-run").click()
    expect(page.locator("#recovery-view")).not_to_contain_text("Shipped example", timeout=PATIENCE)


def told(page: Page) -> str:
    return page.locator("#recovery-view").inner_text()


def step(page: Page) -> int:
    found = TOLD.search(told(page))
    return int(found[1]) if found else -1


def wait_for(page: Page, text: str) -> None:
    script = "(text) => document.querySelector('#recovery-view').innerText.includes(text)"
    page.wait_for_function(script, arg=text, timeout=PATIENCE)


def wait_for_step(page: Page, least: int) -> None:
    words = "document.querySelector('#recovery-view').innerText"
    script = f"(least) => Number(/step (\\d+) of/.exec({words})?.[1]) >= least"
    page.wait_for_function(script, arg=least, timeout=PATIENCE)


def curves(page: Page) -> list[str]:
    """What the charts draw."""
    return page.locator("#recovery-view svg path, #recovery-view svg polyline").evaluate_all(
        "(lines) => lines.map((line) => line.getAttribute('d') ?? line.getAttribute('points'))"
    )


def wait_for_other_heat(visit: Visit, before: int) -> None:
    """Until the student's map is another; the table's text is another one as soon as the tab is open."""
    end = time.monotonic() + PATIENCE / 1000
    while visit.heat("student_distorted") == before:
        assert time.monotonic() < end, "the same map"
        visit.page.wait_for_timeout(250)
    visit.settle()


def moments(visit: Visit) -> int:
    return int(visit.page.locator("#recovery-view input[name=moment]").get_attribute("max") or 0)


@pytest.fixture(scope="module")
def trained(browser: Browser, app: Served):
    """A page on which a run was stopped; the tests after it go on with it."""
    visit = Visit(browser, app.url).open()
    yield visit
    visit.close()


def test_a_student_learns_while_one_watches(trained: Visit) -> None:
    page = on_train_tab(trained, steps=STEPS)
    if first_look.recorded_run():
        expect(page.locator("#recovery-view")).to_contain_text("Shipped example, a recorded run")
    expect(page.locator("#run-mark")).to_have_text(re.compile(r"Start a run of 24 steps .*: about \d+ (s|min)"))
    for name in ("student", "animation"):
        expect(page.locator(f"#save-{name}")).to_be_disabled()
    begin(page)
    wait_for_step(page, 2)
    early, heat, seen = curves(page), trained.heat("attention_student", "train"), moments(trained)
    assert trained.heat("attention_before", "train") != trained.heat("attention_reference", "train")
    expect(page.locator("#start-run")).to_be_disabled()
    wait_for_step(page, 5)
    assert curves(page) != early, "the curves move"
    assert trained.heat("attention_student", "train") != heat, "and so do the maps"
    assert moments(trained) > seen
    assert re.search(r"[\d.]+ images/s", told(page))
    assert "left" in told(page)


def test_stop_comes_at_once(trained: Visit) -> None:
    page = trained.page
    page.locator("#stop-run").click()
    wait_for(page, "stopped")
    reached = step(page)
    assert 5 <= reached < STEPS
    expect(page.locator("#stop-run")).to_be_disabled()
    expect(page.locator("#resume-run")).to_be_enabled()
    page.wait_for_timeout(1500)
    assert "stopped" in told(page)
    assert step(page) == reached


def test_a_page_that_is_opened_again_knows_the_run(trained: Visit) -> None:
    done = step(trained.page)
    trained.open()
    page = trained.page
    page.get_by_role("tab", name="Train").click()
    wait_for(page, "stopped")
    assert step(page) == done
    assert trained.heat("attention_student", "train")
    expect(page.locator("#resume-run")).to_be_enabled()


def test_it_goes_on_to_the_end_and_can_be_chosen_in_every_tab(trained: Visit) -> None:
    page = trained.page
    page.locator("#resume-run").click()
    wait_for(page, "finished")
    assert step(page) == STEPS
    expect(page.locator("#student input")).to_have_value(re.compile(f"yours .*{STEPS} steps"), timeout=PATIENCE)
    shipped = trained.heat("student_distorted")
    page.get_by_role("tab", name="Attention").click()
    wait_for_other_heat(trained, shipped)
    assert "untouched copy" not in page.locator("#attention-view").inner_text()
    ours = trained.heat("student_distorted")
    assert ours != trained.heat("teacher_distorted")
    trained.choose("student", "s14-noise: trained on gaussian_noise(sigma=0.1..0.5)")
    wait_for_other_heat(trained, ours)
    assert trained.heat("student_distorted") == shipped
    assert trained.notice() == ""


def test_the_scrubber_goes_back_to_the_beginning(trained: Visit) -> None:
    page = trained.page
    page.get_by_role("tab", name="Train").click()
    last = trained.heat("attention_student", "train")
    scrubber = page.locator("#recovery-view input[name=moment]")
    scrubber.focus()
    page.keyboard.press("Home")
    trained.frame()
    first = trained.heat("attention_student", "train")
    assert first == trained.heat("attention_before", "train") != last
    page.keyboard.press("End")
    trained.frame()
    assert trained.heat("attention_student", "train") == last


def test_animation_and_student_are_downloaded_and_the_student_comes_back(trained: Visit) -> None:
    page = trained.page
    with page.expect_download() as film:
        page.locator("#save-animation").click()
    opened = Image.open(io.BytesIO(Path(film.value.path()).read_bytes()))
    assert opened.format == "GIF"
    assert opened.n_frames > 10
    with page.expect_download() as packed:
        page.locator("#save-student").click()
    content = Path(packed.value.path()).read_bytes()
    assert sorted(zipfile.ZipFile(io.BytesIO(content)).namelist()) == sorted(MAX_BYTES)
    file = {"name": "student.zip", "mimeType": "application/zip", "buffer": content}
    before = page.locator("#student input").input_value()
    with page.expect_file_chooser() as opened_file:
        page.locator("#open-student").click()
    opened_file.value.set_files(file)
    expect(page.locator("#student input")).not_to_have_value(before, timeout=PATIENCE)
    assert f"{STEPS} steps" in page.locator("#student input").input_value()
    bad = {**file, "buffer": b"this is no zip file"}
    with page.expect_file_chooser() as opened_file:
        page.locator("#open-student").click()
    opened_file.value.set_files(bad)
    expect(page.locator("#run-status")).to_contain_text("cannot be read as a zip file")
    assert trained.complaints == []


@pytest.mark.slow
def test_a_run_is_repeated_with_one_thing_changed_and_stands_beside_the_other(trained: Visit) -> None:
    trained.open()
    page = on_train_tab(trained, steps=5)
    begin(page)
    wait_for(page, "step 5 of 5")
    trained.settle()
    trained.choose("changed", "without the patch features (weight 0)")
    page.locator("#repeat-run").click()
    expect(page.locator("#recovery-view .vx-settings tbody")).to_have_text(
        re.compile(r"^patch\s*0\s*1$"), timeout=PATIENCE
    )
    wait_for(page, "step 5 of 5")
    trained.settle()
    titles = page.locator("#recovery-view .vx-pane:visible .vx-title").all_inner_texts()
    assert [text for text in titles if "patch 1" in text] == ["patch 1 · step 5"] * 2
    assert trained.heat("attention_beside0", "train") != trained.heat("attention_student", "train")
    listed = page.locator("#runs-beside label")
    ticked = listed.filter(has_text="patch 1 · CLS").locator("input")
    expect(ticked).to_be_checked()
    assert listed.filter(has_text=f"steps {STEPS}").count() == 2, "so are the run before, and the student from its file"
    ticked.uncheck()
    expect(page.locator("#recovery-view .vx-settings")).to_have_count(0)
    assert trained.complaints == []


@pytest.mark.slow
def test_two_visitors_take_turns_and_who_leaves_makes_room(open_page: Open, app: Served, browser: Browser) -> None:
    first = Visit(browser, app.url).open()
    page = on_train_tab(first, steps=500)
    begin(page)
    wait_for_step(page, 1)
    second = open_page()
    other = on_train_tab(second, steps=5)
    begin(other)
    wait_for(other, "Waiting: 1 run before this one.")
    assert step(other) <= 0
    first.close()
    wait_for(other, "finished")
    assert step(other) == 5


@pytest.mark.slow
def test_one_zip_of_pictures_is_there_in_three_tabs(open_page: Open, packed: Path) -> None:
    visit = open_page(width=390, height=844)
    page = on_train_tab(visit, steps=5)
    status = page.locator("#run-status")
    visit.choose("learn-from", "your zip file")
    expect(page.locator("#run-mark")).to_contain_text("there is no zip file: upload one")
    page.locator("#start-run").click()
    expect(status).to_contain_text("there is no zip file")
    page.wait_for_timeout(1500)
    expect(status).to_contain_text("there is no zip file")
    upload = page.locator("#learn-from-zip")
    for file in ({"name": "bad.zip", "mimeType": "application/zip", "buffer": b"no zip file"}, packed):
        with page.expect_file_chooser() as opened:
            upload.click()
        opened.value.set_files(file)
        if file != packed:
            expect(page.get_by_test_id("toast-body")).to_contain_text("'bad.zip' is no readable zip file")
            page.get_by_test_id("toast-close").click()
    expect(upload).to_contain_text("mine.zip")
    expect(status).not_to_be_visible()
    begin(page)
    assert abs(page.locator("#run-buttons").bounding_box()["y"]) < 20, "what goes on is in sight, with its buttons"
    wait_for(page, "finished")

    visit.open_tab("Embeddings")
    visit.choose("embedding-pictures", "your zip file")
    expect(page.locator("#embedding-pictures-zip")).to_contain_text("mine.zip")
    page.locator("#compute-embedding").click()
    line = page.locator("#embedding-mark")
    expect(line).to_have_text(re.compile(r"^\s*6 pictures of mine\.zip"), timeout=PATIENCE)
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#share")).to_contain_text("No link leads to a zip file of your own")

    visit.open_tab("Robustness")
    visit.choose("sweep-pictures", "your zip file")
    visit.type_into("sweep-values", "0.3")
    line = page.locator("#sweep-mark")
    expect(line).to_contain_text("1 strength, 6 pictures of mine.zip")
    page.locator("#measure-sweep").click()
    expect(line).to_have_text(re.compile(r"^\s*6 pictures of mine\.zip"), timeout=PATIENCE)
    visit.choose("sweep-pictures", "shipped photos")
    expect(line).to_contain_text(re.compile("Of the settings before: 6 pictures of mine.zip.* 32 shipped photos"))


def test_what_cannot_be_learned_is_told(open_page: Open) -> None:
    visit = open_page()
    page = on_train_tab(visit, steps=5)
    visit.type_into("learned", "gaussian_nois(sigma=0.3)")
    page.locator("#start-run").click()
    expect(page.locator("#run-status")).to_contain_text("did you mean 'gaussian_noise'?")
    visit.type_into("learned", "none")
    for level in ("cls", "patch", "attention"):
        page.locator(f"#level-{level} input[type=number]").fill("0")
        page.keyboard.press("Tab")
    page.locator("#start-run").click()
    expect(page.locator("#run-status")).to_contain_text("weight")
    expect(page.locator("#start-run")).to_be_enabled()


@pytest.mark.parametrize(
    ("spec", "varied"),
    [
        ("gaussian_noise(sigma=0.4)", "gaussian_noise(sigma=0.1..0.4)"),
        ("brightness(amount=0.4)", "brightness(amount=0.1..0.4)"),
        ("brightness(amount=-0.4)", "brightness(amount=-0.4..-0.1)"),
        ("glass_blur(shift=8)", "glass_blur(sigma=1.0, shift=3..8, iterations=2)"),
    ],
)
def test_what_varies_is_never_stronger_than_what_is_seen(spec: str, varied: str) -> None:
    assert train._ranges(spec, train.VARYING)[2] == varied


def test_a_range_of_strengths(open_page: Open) -> None:
    visit = open_page()
    page = visit.page
    page.get_by_role("tab", name="Train").click()
    page.locator("#strength").get_by_label("varying").check()
    learned = page.locator("#learned textarea, #learned input").first
    expect(learned).to_have_value(re.compile(r"gaussian_noise\(sigma=.*\.\.0\.3\)"))
    page.locator("#strength-high input[type=number]").fill("0.6")
    page.keyboard.press("Tab")
    expect(learned).to_have_value(re.compile(r"\.\.0\.6\)"))
    visit.choose("operator", "Gaussian blur")
    expect(learned).to_have_value(re.compile(r"gaussian_blur\(kernel=\d+, sigma=.*\.\."))
