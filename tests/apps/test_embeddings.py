"""The tabs Embeddings and Robustness in a real browser: where pictures lie, and what a click on them opens."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from serving import PYTHON, Served, serving
from visiting import Open, Visit

import explorer as ex
from explorer.errors import InputError
from explorer.evaluation.embedding import embed_pair
from explorer.scenes.evaluation import embedding_scene
from explorer.system.files import asset_path
from explorer_app.service import first_look, models
from explorer_app.service.models import DEFAULT_STUDENT
from explorer_app.service.pictures import SELECTED, UPLOAD, Selection, photo_path
from explorer_app.service.question import SYNTHETIC, Question
from explorer_app.tabs import embeddings, robustness
from tests.small import network, pair, picture_folder, picture_set

pytestmark = [pytest.mark.browser, pytest.mark.weights]

PLOTTED = "() => Boolean(document.querySelector('#embedding-view .vx-embedplot .main-svg'))"
POINTS = """() => document.querySelector('#embedding-view .vx-mount').view"""
CAPTION = "(text) => document.querySelector('#embedding-view').innerText.includes(text)"
FOLDER, ALONE = "holiday", "alone"
NOISE = "gaussian_noise(sigma=0.3)"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos in two folders; beside it lies a folder with one."""
    root = tmp_path_factory.mktemp("served") / FOLDER
    for label in ("fish", "tool"):
        (root / label).mkdir(parents=True)
        for file in sorted((asset_path("photos") / label).glob("*.webp"))[:6]:
            shutil.copy(file, root / label)
    (root.parent / ALONE).mkdir()
    shutil.copy(asset_path("photos") / "fish" / "fish1.webp", root.parent / ALONE)
    return root


@pytest.fixture(scope="module")
def own_app(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An app that offers both folders."""
    runs, folders = tmp_path_factory.mktemp("runs"), os.pathsep.join(map(str, (pictures, pictures.parent / ALONE)))
    with serving(*PYTHON, VIT_EXPLORER_RUNS=str(runs), VIT_EXPLORER_PICTURES=folders) as served:
        yield served


@pytest.fixture(scope="module")
def map_page(browser: Browser, own_app: Served) -> Iterator[Visit]:
    """A page with the map of the shipped photos."""
    visit = Visit(browser, own_app.url).open()
    visit.page.get_by_role("tab", name="Embeddings").click()
    visit.page.wait_for_function(PLOTTED, timeout=60_000)
    visit.settle()
    yield visit
    assert not visit.complaints, f"the page complained: {visit.complaints}"
    visit.close()


def pointed(visit: Visit, view: str, index: int) -> tuple[float, float]:
    """Where a point is in the window."""
    visit.page.locator("#embedding-view .vx-embedplot").scroll_into_view_if_needed()
    place = visit.page.evaluate(f"([view, index]) => ({POINTS})().pixel(view, index)", [view, index])
    return place["x"], place["y"]


def test_the_first_look_shows_all_photos_and_what_was_measured(map_page: Visit) -> None:
    text = map_page.page.locator("#embedding-view").inner_text()
    for title in ("Teacher · clean", "Teacher · distorted", "Student · distorted", "Student · clean", "retrieval@1"):
        assert title in text
    assert "207 shipped photos · gaussian_noise(sigma=0.3), seed 0" in text
    line = map_page.page.locator("#embedding-mark")
    if first_look.map_of(DEFAULT_STUDENT):
        expect(line).to_contain_text("Shipped example: 207 shipped photos")
    expect(line).to_contain_text(re.compile(r"Press Compute for .* at most"))
    assert map_page.page.locator("#embedding-view .vx-arrow").count() <= 4, "only those of the picture that is open"


def test_what_is_selected_on_the_map_is_offered_in_other_tabs(map_page: Visit) -> None:
    page, said = map_page.page, map_page.page.locator("#embedding-selected")
    page.locator("#embedding-view .vx-slice", has_text="lost by the student").click()
    expect(said).to_contain_text("selected on the map (lost by the student)")
    count = int(re.findall(r"(\d+) shipped photos selected", said.inner_text())[0])
    assert page.locator("#embedding-view .vx-selection span").inner_text().startswith(f"{count} pictures selected")
    for tab, chosen, line in (("Train", "learn-from", "run"), ("Robustness", "sweep-pictures", "sweep")):
        map_page.open_tab(tab)
        map_page.choose(chosen, f"selected on the map ({count} pictures)")
        told = f"{count} shipped photos selected on the map (lost by the student)"
        expect(page.locator(f"#{line}-mark")).to_contain_text(told, timeout=30_000)
    expect(page.locator("#sheet-mark")).to_contain_text(told)
    map_page.open_tab("Embeddings")
    page.locator("#embedding-view").get_by_role("button", name="Clear", exact=True).click()
    expect(said).to_have_text(re.compile(r"^\s*$"))
    map_page.open_tab("Robustness")
    expect(page.locator("#sweep-pictures input")).to_have_value("selected on the map (0 pictures)")
    expect(page.locator("#sweep-mark")).to_contain_text("no pictures are selected on the map: select some in the Emb")
    page.locator("#measure-sweep").click()
    expect(page.locator("#sweep-status .notice")).to_contain_text("no pictures are selected on the map")
    map_page.choose("sweep-pictures", "shipped photos")
    expect(page.locator("#sweep-mark")).to_contain_text("32 shipped photos.")
    map_page.open_tab("Embeddings")
    map_page.settle()


def test_a_click_on_a_point_opens_that_picture_in_the_attention_tab(map_page: Visit) -> None:
    photos = ex.load_images("photos", size=224)
    index = photos.names.index("monument/tajMahal.webp")
    before = map_page.picture("picture_clean")
    x, y = pointed(map_page, "student_distorted", index)
    map_page.page.mouse.move(x, y)
    map_page.frame()
    name = map_page.page.locator("#embedding-view .vx-hovercard").inner_text().splitlines()[0]
    map_page.page.mouse.click(x, y)
    expect(map_page.page.get_by_role("tab", name="Attention")).to_have_attribute("aria-selected", "true")
    stem = re.sub(r".*/|\.webp", "", name)
    expect(map_page.page.locator("#catalogue input")).to_have_value(re.compile(f".*{stem}"))
    script = """([where, before]) => { const canvas = document.querySelector(where);
      const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      let hash = 17; for (const byte of data) hash = (31 * hash + byte) | 0; return hash !== before; }"""
    where = '#attention-view .vx-box[data-pane="picture_clean"] .vx-picture'
    map_page.page.wait_for_function(script, arg=[where, before])
    map_page.settle()
    map_page.page.get_by_role("tab", name="Embeddings").click()
    expect(map_page.page.locator("#embedding-view")).to_contain_text(name)


def test_umap_replaces_pca_when_it_is_ready(map_page: Visit) -> None:
    map_page.page.locator("#embedding-method").get_by_label("UMAP").check()
    map_page.page.wait_for_function(CAPTION, arg="UMAP 1", timeout=120_000)
    map_page.page.locator("#embedding-method").get_by_label("PCA").check()
    map_page.page.wait_for_function(CAPTION, arg="PC 1")
    map_page.settle()


def test_what_was_never_seen_is_computed_on_request(map_page: Visit, pictures: Path) -> None:
    seed = int(time.time()) % 10**6  # no cache knows it
    map_page.unfold("more-damage").type_into("seed", str(seed))
    status = map_page.page.locator("#embedding-status")
    line = map_page.page.locator("#embedding-mark")
    expect(line).to_contain_text(re.compile("Of the settings before: 207 shipped photos|Shipped example"))
    expect(line).to_contain_text(f"seed {seed}", timeout=30_000)
    map_page.choose("embedding-pictures", FOLDER)
    map_page.settle()
    map_page.page.locator("#compute-embedding").click()
    expect(status.locator("progress")).to_be_visible(timeout=30_000)
    map_page.page.wait_for_function(
        CAPTION, arg=f"12 {FOLDER} · gaussian_noise(sigma=0.3), seed {seed}", timeout=90_000
    )
    expect(status).not_to_be_visible()
    expect(line).to_have_text(re.compile(f"^\\s*12 {FOLDER}"))
    images = ex.load_images(pictures, size=224)
    expected = embed_pair(ex.load_pair("s14-noise"), images, "gaussian_noise(sigma=0.3)", seed=seed).measures.set_index(
        "view"
    )
    row = map_page.page.locator("#embedding-view tr", has_text="Student · distorted").first.inner_text()
    displacement = float(re.findall(r"\d\.\d+", row)[0])
    assert displacement == pytest.approx(expected.loc["student_distorted", "displacement"], abs=6e-4)


def test_a_picture_of_a_folder_is_opened(map_page: Visit) -> None:
    x, y = pointed(map_page, "teacher_clean", 3)
    map_page.page.mouse.click(x, y)
    expect(map_page.page.get_by_role("tab", name="Attention")).to_have_attribute("aria-selected", "true")
    expect(map_page.page.locator("#catalogue input")).to_have_value("")
    map_page.settle()
    assert map_page.notice() == ""


def test_one_picture_only_is_told_and_the_page_goes_on(map_page: Visit) -> None:
    map_page.page.get_by_role("tab", name="Embeddings").click()
    map_page.choose("embedding-pictures", ALONE)
    map_page.settle()
    map_page.page.locator("#compute-embedding").click()
    status = map_page.page.locator("#embedding-status")
    expect(status).to_contain_text("at least two pictures; got 1")
    map_page.choose("embedding-pictures", "shipped photos")
    expect(status).not_to_contain_text("at least two")


@pytest.mark.slow
def test_several_students_share_one_map(browser: Browser, own_app: Served, pictures: Path) -> None:
    visit = Visit(browser, own_app.url).open()
    visit.open_tab("Embeddings")
    visit.choose("embedding-pictures", FOLDER)
    visit.unfold("more-model").page.locator("#beside input").click()
    visit.page.get_by_role("option", name="s14-mixture: trained on").click()
    visit.page.keyboard.press("Escape")
    line = visit.page.locator("#embedding-mark")
    expect(line).to_contain_text(f"12 {FOLDER} · ", timeout=30_000)
    expect(line).to_contain_text("s14-noise · beside s14-mixture")
    visit.settle()
    visit.page.locator("#compute-embedding").click()
    visit.page.wait_for_function(CAPTION, arg="s14 at 224 px, s14-noise, s14-mixture", timeout=90_000)
    pairs = {name: ex.load_pair(name) for name in ("s14-noise", "s14-mixture")}
    images = ex.load_images(pictures, size=224)
    expected = embed_pair(pairs, images, "gaussian_noise(sigma=0.3)").measures.set_index("view")["displacement"]
    for view in expected.index[1:]:
        row = visit.page.locator(f'#embedding-view .vx-embedmeasures tr[data-view="{view}"] td').first
        assert float(row.inner_text()) == pytest.approx(expected[view], abs=6e-4)
    shown = visit.page.locator("#embedding-view .vx-chip[data-id$=_distorted][aria-pressed=true]")
    assert shown.count() == 3
    expect(visit.page.locator('#embedding-view .vx-chip[data-id="s14-mixture_clean"]')).to_have_attribute(
        "aria-pressed", "false"
    )
    visit.page.locator("#beside .token-remove:visible").first.click()
    expect(line).to_contain_text("Of the settings before: 12", timeout=30_000)
    visit.settle()
    visit.page.locator("#compute-embedding").click()
    expect(visit.page.locator("#embedding-view")).to_contain_text("Student · distorted", timeout=60_000)
    assert not visit.complaints
    visit.close()


# ---------------------------------------------------------------- Robustness


def test_a_sweep_knows_the_labels_of_its_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same pictures in other classes, as of somebody who mends them, have other numbers."""
    monkeypatch.setattr(models, "load_backbone", lambda *_: network(0))
    column = (None, None, NOISE, "s14", models.UNTOUCHED, 224, 0, None, 0.5, SYNTHETIC, None, True, [])
    folder, found = picture_folder(tmp_path / "some", per_class=3), []
    for number, name in enumerate(("first", "second")):
        file = Path(shutil.make_archive(str(tmp_path / name), "zip", folder))
        *_, (scene, *_) = robustness.measure(file, Selection(), UPLOAD, 16, "0.3", *column)
        alone = ex.sweep(Question.read(*column).pair(), ex.load_images(file), "gaussian_noise", (0.3,))
        found.append(next(each["teacher"] for each in scene["series"] if each["id"] == "nearest_label"))
        assert found[-1] == [alone.rows["teacher"][0]["nearest_label"]]
        for colour, other in (("red", "green"), ("blue", "red")):
            shutil.move(folder / colour / f"{number}.png", folder / other / f"{name}.png")
    assert found[0] != found[1]


def test_a_map_has_the_names_of_its_own_students(tmp_path: Path) -> None:
    """Two visitors have brought the same student, which each of them knows under a name of its own."""
    one, images = pair(), picture_set(tmp_path / "some", per_class=2)
    for name in ("yours 1111", "yours 2222"):
        embedding = embed_pair({"first": one, name: one}, images, NOISE)
        scene = embedding_scene(embedding, embeddings.project(embedding, "pca", 2, 0))
        assert f"{name}_distorted" in [view["id"] for view in scene["views"]]


def test_neighbours_of_a_selection_are_sought_among_all_of_its_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple] = []

    def steps(_: object, taken: ex.ImageSet, *__: object, gallery: ex.ImageSet, **___: object) -> Iterator[Any]:
        asked.append((taken.names, len(gallery)))
        raise InputError("that is enough")
        yield

    monkeypatch.setattr(robustness, "sweep_steps", steps)
    monkeypatch.setattr(robustness, "is_embedded", lambda *_: True)
    names = ("fish/fish1.webp", "fish/fish2.webp")
    photo = "farm_animal/owl.webp"
    column = (photo_path(photo), photo, NOISE, "s14", "s14-noise", 224, 0, None, 0.5, SYNTHETIC, None, True, [])
    *_, (*_, status) = robustness.measure(None, Selection(names=names), SELECTED, 16, "0.3", *column)
    assert "that is enough" in status
    assert asked == [(names, 207)]


def test_a_click_on_a_curve_shows_the_maps_at_that_strength(open_page: Open) -> None:
    visit = open_page()
    visit.page.get_by_role("tab", name="Robustness").click()
    line = visit.page.locator("#sweep-mark")
    expect(line).to_contain_text(re.compile(r"Measure takes about \d+ (s|min) for gaussian_noise"), timeout=30_000)
    if first_look.sweep_of(DEFAULT_STUDENT):
        expect(line).to_contain_text("Shipped example")
        assert visit.page.locator("#sweep-view .vx-sweepcharts svg").count() > 0
    visit.page.locator("#sweep-count").get_by_label("16").check()
    visit.type_into("sweep-values", "0.3, 0.6")
    visit.page.locator("#measure-sweep").click()
    view = visit.page.locator("#sweep-view")
    expect(view).to_contain_text("measured 8 of 16 pictures", timeout=90_000)
    expect(view).not_to_contain_text("measured", timeout=90_000)
    expect(view).to_contain_text("student trained at sigma 0.1 to 0.5")
    visit.settle()
    visit.page.locator("#sweep-view button", has_text="0.6").first.click()
    expect(visit.page.locator("#sweep-mark")).to_contain_text("16 shipped photos, gaussian_noise(sigma=0.3), seed 0")
    maps = visit.page.locator('#strength-view .vx-box[data-pane="teacher_distorted"] .vx-heat')
    expect(maps).to_be_visible(timeout=30_000)
    expect(maps).to_be_in_viewport()
    visit.settle()
    shown = float(visit.page.locator("#strength-view .vx-table tbody tr").first.locator("td").nth(0).inner_text())
    pair = ex.load_pair("s14-noise")
    owl = ex.load_image(asset_path("photos") / "farm_animal" / "owl.webp", size=224)
    found = ex.compare(pair.teacher, owl, "gaussian_noise(sigma=0.6)", pair.student)
    assert shown == pytest.approx(found.alignments["teacher"].cls_cosine, abs=0.006)


def test_another_distortion_is_marked_and_nonsense_is_told(open_page: Open) -> None:
    visit = open_page()
    visit.page.get_by_role("tab", name="Robustness").click()
    visit.page.locator("#sweep-count").get_by_label("64").check()
    visit.type_into("sweep-values", "0.1, much")
    visit.page.locator("#measure-sweep").click()
    status = visit.page.locator("#sweep-status")
    expect(status).to_contain_text("strengths are numbers such as 0.1, 0.3, 0.5")
    visit.choose("operator", "Pixel mask")
    visit.type_into("sweep-values", "0.2")
    visit.settle()
    visit.page.locator("#measure-sweep").click()
    view = visit.page.locator("#sweep-view")
    expect(status.locator("progress")).to_be_visible()
    expect(view).to_contain_text("never trained on", timeout=60_000)
    assert visit.notice() == ""
    visit.page.locator("#stop-sweep").click()
    expect(visit.page.locator("#sweep-mark")).to_contain_text(re.compile(r"Stopped after \d+ of 64 pictures"))
