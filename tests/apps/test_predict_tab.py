"""The Predict tab: its probes are the library's, the picture that is looked at is left out, and what cannot be fitted
is told; and in a real browser, on to the Attribution tab."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect
from visiting import Open

import explorer as ex
from explorer.errors import InputError
from explorer.evaluation.predicting import probe_of
from explorer.inspection.attribution import attribute_views
from explorer_app.service import pictures, probes
from explorer_app.service.models import UNTOUCHED
from explorer_app.service.question import Question
from explorer_app.tabs import predict
from explorer_app.tabs.shared import Fitted

NOISE = "gaussian_noise(sigma=0.3)"


@pytest.fixture
def asked(small_runs: None) -> Question:
    """The first photo, as a small untrained model sees it."""
    name = pictures.photos().names[0]
    return Question(pictures.photo_path(name), name, ex.distortion(NOISE), "s14", UNTOUCHED, 224, 3, None)


@pytest.fixture
def packed_classes(tmp_path: Path) -> Callable[..., Path]:
    """Zips photos, each into the folder that is named for it; "" is none."""

    def packed(*folders: str) -> Path:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.zip"
        with zipfile.ZipFile(file, "w") as archive:
            for number, (folder, name) in enumerate(zip(folders, pictures.photos().names, strict=False)):
                archive.write(pictures.photo_path(name), f"{folder}/{number}.webp" if folder else f"{number}.webp")
        return file

    return packed


def test_the_probes_are_the_library_s_without_the_picture(asked: Question, packed_classes: Callable[..., Path]) -> None:
    images, _ = probes.labelled(packed_classes("a", "a", "b", "b", "c"), None, 224)
    told: list[tuple[int, int]] = []
    key = probes.fit(asked, images, lambda *done: told.append(done))
    assert told[-1] == (5, 5)
    assert probes.fit(asked, images) == key
    seen = probes.see(asked, key)
    oracle = ex.fit_probe(asked.teacher(), images[1:], cache=False)
    clean, damaged, _ = asked.seen()
    assert clean is not None
    assert seen.classes == ("a", "b", "c")
    assert (seen.own, seen.pictures, list(seen.chances)) == ("a", 4, ["teacher_clean", "teacher_distorted"])
    assert seen.chances["teacher_clean"] == pytest.approx(oracle.probabilities(clean)[0], abs=1e-4)
    assert seen.chances["teacher_distorted"] == pytest.approx(oracle.probabilities(damaged)[0], abs=1e-4)
    assert not np.allclose(seen.chances["teacher_clean"], seen.chances["teacher_distorted"], atol=1e-3)
    other = replace(asked, picture=pictures.photo_path(pictures.photos().names[9]))
    assert (probes.see(other, key).own, probes.see(other, key).pictures) == (None, 5)
    probe = probes.probes(asked, key)[0]["student"]
    assert probe.counts == {"a": 1, "b": 2, "c": 1}
    assert probe.backbone is asked.teacher()


def test_what_cannot_be_fitted_is_told(asked: Question, packed_classes: Callable[..., Path], tmp_path: Path) -> None:
    flat = packed_classes("", "", "")
    (tmp_path / "labels.csv").write_text("file,label\n0.webp,x\n1.webp,y\n2.webp,y\n")
    (tmp_path / "short.csv").write_text("file,label\n0.webp,x\n")
    (tmp_path / "large.csv").write_bytes(b" " * (probes.LABEL_BYTES + 1))
    images, _ = probes.labelled(flat, tmp_path / "labels.csv", 224)
    assert (images.labels, images.classes) == ((0, 1, 1), ("x", "y"))
    refused: list[tuple[Path | None, str | None, str]] = [
        (flat, None, "these pictures have no classes: put them into one folder for each class, or upload a CSV"),
        (packed_classes("a", "a"), None, "these pictures show 'a' alone"),
        (packed_classes("a"), None, "these pictures show 'a' alone"),
        (None, None, "there is no zip file"),
        (flat, "short.csv", "2 of 3 have no line"),
        (flat, "large.csv", "more than 8 MiB"),
        (flat, "gone.csv", "not kept any more"),
    ]
    for source, labels, message in refused:
        with pytest.raises(InputError, match=message):
            probes.labelled(source, labels and tmp_path / labels, 224)
    key = probes.fit(asked, images)
    with pytest.raises(InputError, match="without the picture that is looked at, pictures of one class alone are left"):
        probes.see(asked, key)
    with pytest.raises(InputError, match="the server has forgotten these probes"):
        probes.see(asked, "unknown")


def test_nothing_is_lost_where_a_fit_is_refused(asked: Question, packed_classes: Callable[..., Path]) -> None:
    source = packed_classes("a", "a", "b")
    column = (asked.picture, asked.photo, NOISE, "s14", UNTOUCHED, 224, 3)
    *_, (made, status) = predict.fit(source, pictures.UPLOAD, None, *column)
    assert (made.classes, status) == (("a", "b"), "")
    *_, (kept, status) = predict.fit(packed_classes("a", "a"), pictures.UPLOAD, None, *column)
    assert not isinstance(kept, Fitted)
    assert "these pictures show &#x27;a&#x27; alone" in status
    line, said, view, _ = predict.follow(replace(asked, size=336), made, source, pictures.UPLOAD, None)
    assert "Of the settings before: " in line.replace("<b>", "").replace("</b>", "")
    assert "3 pictures of" in line
    assert not isinstance(said, str)
    assert not isinstance(view, str)


def seen(**best: tuple[str, float]) -> probes.Seen:
    """Of two classes."""
    rows = {view: np.array([p, 1 - p][:: 1 if name == "cat" else -1]) for view, (name, p) in best.items()}
    return probes.Seen(("cat", "dog"), rows, None, 2)


@pytest.mark.parametrize(
    ("best", "sentence"),
    [
        (
            {"teacher_clean": ("cat", 0.8), "teacher_distorted": ("dog", 0.6), "student_distorted": ("cat", 0.7)},
            "The teacher sees cat (80 %) in the clean picture, but dog (60 %) in the damaged one; the student sees cat "
            "(70 %) there.",
        ),
        (
            {"teacher_clean": ("cat", 0.999), "teacher_distorted": ("cat", 0.6)},
            "The teacher sees cat (> 99 %) in the clean picture, and still cat (60 %) in the damaged one; the student "
            "is its untouched copy.",
        ),
        (
            {"teacher_distorted": ("cat", 0.6), "student_distorted": ("dog", 0.7)},
            "The teacher sees cat (60 %) in the damaged picture; the student sees dog (70 %) there.",
        ),
    ],
)
def test_what_is_said(best: dict[str, tuple[str, float]], sentence: str) -> None:
    assert predict.say(seen(**best)) == sentence


def test_no_link_leads_to_labels_of_one_s_own() -> None:
    of: Any = ("s14", UNTOUCHED, None, 224, pictures.PHOTOS)
    assert predict._told(Fitted((*of, None), "")) == {"made": "1"}
    assert predict._told(None) == {}
    with pytest.raises(InputError, match="No link leads to a file of labels"):
        predict._told(Fitted((*of, Path("labels.csv")), ""))


@pytest.mark.browser
@pytest.mark.weights
def test_probes_see_what_the_left_column_shows_and_attribution_goes_towards_their_classes(open_page: Open) -> None:
    visit = open_page()
    page = visit.page
    visit.open_tab("Predict")
    said = page.locator("#seen-said")
    expect(said).to_contain_text("The teacher sees", timeout=60_000)  # shipped features: fitted unasked
    pair, photos = ex.load_pair("s14-noise"), ex.load_images("photos", size=224)
    owl = photos.names.index("farm_animal/owl.webp")
    others = [place for place in range(len(photos)) if place != owl]
    names = [photos.classes[(photos.labels or ())[place]] for place in others]
    both = {"teacher": pair.teacher, "student": pair.student}
    fitted = {who: probe_of(net, ex.embed(net, photos).embedding[others], names) for who, net in both.items()}
    clean = photos[owl][0]
    damaged = ex.distortion(NOISE)(clean[None], seed=0)
    views = {"teacher_clean": clean[None], "teacher_distorted": damaged, "student_distorted": damaged}
    for view, picture in views.items():
        rows = page.locator(f"[data-view={view}] tbody tr")
        best = fitted[view.split("_")[0]].top(picture, 5)[0]
        assert rows.locator("th").all_inner_texts()[:5] == [name for name, _ in best]
        shown = [text.strip("<> %") for text in rows.locator("td:last-child").all_inner_texts()[:5]]
        assert [float(text) for text in shown] == pytest.approx([100 * chance for _, chance in best], abs=1)
    expect(page.locator("#seen .vx-hint")).to_contain_text("206 clean pictures. The picture is one of that set")
    assert page.locator("[data-view=teacher_distorted] .as-reference").count() == 1
    before = said.inner_text()
    page.locator("#parameter-0 input[type=number]").fill("0.05")
    page.locator("#parameter-0 input[type=number]").press("Enter")
    expect(said).not_to_have_text(before)
    expect(said).to_contain_text("and still")
    with page.expect_download() as download:
        page.locator("#save-student-probe").click()
    loaded = ex.load_probe(download.value.path(), pair.student)
    assert loaded.probabilities(damaged) == pytest.approx(fitted["student"].probabilities(damaged), abs=1e-3)
    assert sum(loaded.counts.values()) == 206
    visit.open_tab("Attribution")
    view = page.locator("#attribution-view")
    expect(view.locator(".vx-box:visible")).to_have_count(3, timeout=60_000)
    visit.settle()
    visit.choose("attribution-toward", "wild animal")
    page.locator("#explain").click()
    expect(view.locator(".vx-saying")).to_contain_text("For “wild animal” the teacher scores", timeout=60_000)
    towards = {"toward": (fitted["teacher"], "wild animal"), "student_toward": (fitted["student"], "wild animal")}
    weak = "gaussian_noise(sigma=0.05)"
    expected = attribute_views(*both.values(), clean, weak, method="gradient_attention", **towards)
    scores = view.get_by_role("row", name="score", exact=False).first.locator("td").all_inner_texts()
    assert [float(text) for text in scores] == pytest.approx([each.target for each in expected.values()], abs=0.02)
    page.locator("#share button").click()
    expect(page.locator(".share-answer")).to_contain_text("No link leads to a map towards a class")
