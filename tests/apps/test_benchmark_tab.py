"""The sheet of all common corruptions in the Robustness tab: what is shipped, what is measured, what a click does."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas
import pytest
from playwright.sync_api import expect
from visiting import Open

import explorer as ex
from explorer.evaluation.benchmarking import CORRUPTIONS, benchmark_steps
from explorer.models.pairs import read_card
from explorer.system.files import asset_path
from explorer_app.service import first_look, pictures
from explorer_app.service.models import UNTOUCHED
from explorer_app.service.pictures import PHOTOS, SELECTED, Selection
from explorer_app.service.question import DEFAULT_PHOTO, SYNTHETIC, Question
from explorer_app.tabs import benchmark
from explorer_app.tabs.shared import Made
from tests.small import pair, picture_set

SHIPPED = tuple(name for name in ex.list_pairs() if name.startswith("s14-"))


def question(student: str = "s14-noise", *beside: str, spec: str = "fog:3") -> Question:
    return Question.read(*column(student, *beside, spec=spec))


def column(student: str = "s14-noise", *beside: str, spec: str = "fog:3") -> tuple:
    """What the left column gives, in the order of `Question.read`."""
    given = (pictures.photo_path(DEFAULT_PHOTO), DEFAULT_PHOTO, spec, "s14", student, 224, 0, None, 0.5)
    return (*given, SYNTHETIC, None, True, list(beside))


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Writes sheets in the place of those that are shipped."""
    images = picture_set(tmp_path / "pictures", per_class=1)
    found = ex.benchmark(pair(), images, ("fog",), (2, 3), cache=False)

    def there(name: str) -> Path:
        file = tmp_path / Path(name).name
        if not file.exists():
            raise FileNotFoundError(file)
        return file

    def write(student: str, **changes: object) -> ex.Benchmark:
        digests = {"teacher": "t", "student": read_card(student)["student_sha256"]}
        sheet = replace(found, **{"sha256": digests, **changes})  # type: ignore[arg-type]
        sheet.save(tmp_path / f"{student}.json")
        first_look._sheet.cache_clear()
        return sheet

    first_look._sheet.cache_clear()
    monkeypatch.setattr(first_look, "asset_path", there)
    yield write
    first_look._sheet.cache_clear()


def test_every_student_has_a_sheet_of_its_own() -> None:
    for name in ex.list_pairs():
        found = first_look.sheet_of((name,))
        assert found is not None, f"python docs/benchmark_students.py {name}"
        assert found.sha256["student"] == read_card(name)["student_sha256"]
        assert found.corruptions == CORRUPTIONS["common"]
        assert found.done == 95
        ahead = found.sheet("student") - found.sheet("teacher")
        learned = [found.trained_on("student", *place) for place in found.places]
        assert not any(learned) or ahead.flatten()[learned].mean() > 0.03
        assert asset_path(f"benchmarks/{name}.json").stat().st_size < 50_000
    together = first_look.sheet_of(SHIPPED[:4])
    assert together is not None
    assert list(together.cells) == ["teacher", *SHIPPED[:4]]


@pytest.mark.slow
@pytest.mark.weights
def test_a_shipped_sheet_is_what_the_models_give() -> None:
    shipped = first_look.sheet_of(("s14-noise",))
    assert shipped is not None
    height, _ = shipped.image_size
    photos = ex.load_images("photos", size=height, limit=shipped.pictures)
    found = ex.benchmark(ex.load_pair("s14-noise", image_size=height), photos, "contrast", (5,), cache=False)
    assert found.pictures_sha256 == shipped.pictures_sha256
    for view in ("teacher", "student"):
        assert found.cells[view]["contrast", 5] == pytest.approx(shipped.cells[view]["contrast", 5], abs=2e-3)


def test_a_sheet_of_a_student_that_was_exchanged_is_not_shown(sheets) -> None:
    assert first_look.sheet_of(("s14-noise",)) is None
    kept = sheets("s14-noise")
    found = first_look.sheet_of(("s14-noise",))
    assert found is not None
    pandas.testing.assert_frame_equal(found.frame(), kept.frame())
    sheets("s14-noise", sha256={"teacher": "t", "student": "0" * 64})
    assert first_look.sheet_of(("s14-noise",)) is None
    assert first_look.sheet_of((UNTOUCHED,)) is None


def test_students_that_were_measured_alike_stand_beside_each_other(sheets) -> None:
    one, other = sheets("s14-noise"), sheets("s14-blur", learned={"student": ex.distortion("fog:3")})
    found = first_look.sheet_of(("s14-noise", "s14-blur"))
    assert found is not None
    assert list(found.cells) == ["teacher", "s14-noise", "s14-blur"]
    assert found.cells["s14-blur"] == other.cells["student"]
    assert found.trained_on("s14-blur", "fog", 3)
    assert not found.trained_on("s14-noise", "fog", 3)
    assert found.mean_error["s14-noise"] == one.mean_error["student"]
    sheets("s14-blur", seed=1)
    assert first_look.sheet_of(("s14-noise", "s14-blur")) is None
    assert first_look.sheet_of(("s14-noise", "s14-mask")) is None


@pytest.mark.weights
def test_the_shipped_sheet_comes_at_once_and_gives_way_to_another_students() -> None:
    line, view, made = benchmark.follow(question(), None, None, Selection(), PHOTOS, 16)
    assert "Shipped example:" in line
    assert "Measure" in line
    assert "19 corruptions at 5 severities, 16 shipped photos at 224 px" in line
    assert len(view["corruptions"]) == 19
    assert view["networks"][1]["learned"][0] == [False, True, True, True, True]
    assert view["progress"] is None
    again = benchmark.follow(question(spec="snow:5"), made, None, Selection(), PHOTOS, 16)
    assert again[1]["__type__"] == "update", "the damage of the left column changes nothing"
    _, other, made = benchmark.follow(question("s14-blur", "s14-noise"), made, None, Selection(), PHOTOS, 16)
    assert [network["name"] for network in other["networks"]] == ["teacher", "s14-blur", "s14-noise"]


@pytest.mark.weights
def test_measuring_tells_its_progress_and_ends_with_the_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    few = partial(benchmark_steps, corruptions=("fog", "contrast"), severities=(1, 5), cache=tmp_path)
    monkeypatch.setattr(benchmark, "benchmark_steps", few)
    monkeypatch.setattr(benchmark, "_WATCH_SECONDS", 0.02)
    steps = list(benchmark.measure(None, Selection(), PHOTOS, 2, *column()))
    assert any("views of pictures" in status for *_, status in steps)
    shown = [view for view, *_ in steps if "networks" in view]
    assert shown[-1]["progress"] is None
    assert steps[-1][-1] == ""
    photos = ex.load_images("photos", size=224, limit=2)
    oracle = ex.sweep(question().pair(), photos, "contrast", (1, 5), parameter="severity")
    for network in shown[-1]["networks"]:
        expected = [row["cls_cosine"] for row in oracle.rows[network["name"]]]
        assert network["values"]["cls_cosine"][1] == pytest.approx(expected, abs=1e-3)
    line, view, _ = benchmark.follow(question(spec="snow:1"), steps[-1][1], None, Selection(), PHOTOS, 2)
    assert "2 shipped photos, s14 at 224 px, s14-noise" in line
    assert "before" not in line
    assert view["__type__"] == "update"
    other, *_ = benchmark.follow(question("s14-blur"), steps[-1][1], None, Selection(), PHOTOS, 2)
    assert "Of the settings before:" in other


def test_what_cannot_be_measured_is_told() -> None:
    *_, (_, _, status) = benchmark.measure(None, Selection(), "your zip file", 8, *column())
    assert "there is no zip file" in status
    *_, (_, _, status) = benchmark.measure(None, Selection(), SELECTED, 8, *column())
    assert "no pictures are selected on the map: select some in the Embeddings tab" in status


@pytest.mark.weights
def test_what_is_selected_is_offered_and_another_selection_is_told() -> None:
    three = Selection(PHOTOS, ("fish/fish1.webp", "fish/fish2.webp", "tool/axe.webp"), "lost by the student")
    now = benchmark._of(question(), three, 16)
    line, *_ = benchmark.follow(question(), Made(now, "these three"), None, three, SELECTED, 16)
    assert ("these three" in line, "before" in line) == (True, False)
    line, *_ = benchmark.follow(question(), Made(now, "these three"), None, replace(three, slice=None), SELECTED, 16)
    assert "before" not in line, "they are the same pictures"
    two = replace(three, names=three.names[:2])
    line, *_ = benchmark.follow(question(), Made(now, "these three"), None, two, SELECTED, 16)
    assert "Of the settings before:</b> these three" in line
    assert "2 shipped photos selected on the map (lost by the student)" in line


@pytest.mark.browser
@pytest.mark.weights
def test_a_cell_sets_the_damage_and_leads_to_its_maps(open_page: Open) -> None:
    visit = open_page()
    page = visit.page
    visit.open_tab("Robustness")
    expect(page.locator("#sheet-mark")).to_contain_text("Shipped example:")
    sheet = page.locator("#sheet-view [data-sheet=student]")
    expect(sheet.locator("td[data-row]")).to_have_count(95)
    sheet.locator("td[data-row='11'][data-column='3']").click()
    expect(page.locator("#sheet-said")).to_have_text("The left column is now damaged by Fog, severity 4.")
    expect(page.locator("#operator input")).to_have_value("Fog")
    expect(page.locator("#severity input:checked")).to_have_value("4")
    visit.settle()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#sheet-said")).to_have_text("The left column is now damaged by Frost, severity 5.")
    expect(page.locator("#operator input")).to_have_value("Frost")
    page.locator("#sheet-maps").click()
    expect(page.locator("#attention-view")).to_contain_text("Frost", timeout=30_000)
    assert visit.notice() == ""
