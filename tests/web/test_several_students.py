"""Several students in the browser: a column for each under one scale, their numbers, and one student again."""

import json
from pathlib import Path

import fixtures
import numpy as np
import pytest
from opening import decode

from explorer.plots.style import scale_end

pytestmark = pytest.mark.browser

STUDENTS = ("my_noise", "mixture, of all", "<b>blur</b>", "common")


def several(payload: dict, *students: str) -> dict:
    """The same for these students: in turn they see what the one student sees, and what the teacher sees."""
    teacher, student = payload["panes"][:2], payload["panes"][2:]
    panes = [
        {**pane, "id": f"{who}_{pane['view']}", "who": who, "title": f"{who} · {pane['view']}", "reference": False}
        for place, who in enumerate(students)
        for pane in (teacher if place % 2 else student)
    ]
    told = {**payload, "panes": [*teacher, *panes]}
    if "numbers" in payload:
        numbers = payload["numbers"]
        told["numbers"] = {"teacher": numbers["teacher"]}
        for place, who in enumerate(students):
            told["numbers"][who] = {**numbers["student"], "cls_cosine": 0.9 - 0.1 * place}
            told["numbers"][f"{who}_clean"] = numbers["student_clean"]
    return told


@pytest.fixture(scope="module")
def attention() -> dict:
    return several(fixtures.attention_payload(), *STUDENTS[:2])


@pytest.fixture(scope="module")
def patches() -> dict:
    return several(fixtures.patch_payload(), *STUDENTS[:2])


def test_each_student_has_its_maps_and_its_column(open_view, attention):
    page = open_view("attentionview", attention, viewport={"width": 1440, "height": 900})
    maps = page.evaluate("Object.fromEntries(Object.entries(view.maps()).map(([id, map]) => [id, Array.from(map)]))")
    expected = {pane["id"]: decode(pane["attention"])[11].mean(0) for pane in attention["panes"]}
    for key, values in expected.items():
        np.testing.assert_allclose(maps[key], values, atol=1e-7)
    for who in ("teacher", *STUDENTS[:2]):
        change = expected[f"{who}_distorted"] - expected["teacher_clean"]
        np.testing.assert_allclose(maps[f"difference_{who}"], change, atol=1e-7)
    assert float(page.locator(".vx-tick").nth(2).inner_text()) == pytest.approx(scale_end(*expected.values()), rel=0.01)
    assert page.locator(".vx-numbers thead th").all_inner_texts() == ["teacher", *STUDENTS[:2]]
    cells = page.locator(".vx-numbers tr", has_text="CLS cosine").locator("td").all_text_contents()
    assert [cell.split() for cell in cells] == [["0.74"], ["0.90\u2713", "closer"], ["0.80\u2713", "closer"]]
    assert "my_noise keeps 90 %, mixture, of all keeps 80 %" in page.locator(".vx-saying").first.inner_text()
    tops = {who: page.locator(f'[data-pane="{who}_clean"]').bounding_box()["y"] for who in ("teacher", *STUDENTS[:2])}
    assert len(set(tops.values())) == 1  # columns


def test_a_patch_is_told_for_each_student(open_view, patches):
    page = open_view("patchview", patches, viewport={"width": 1440, "height": 900})
    page.evaluate("view.set({ pin: 'mixture, of all_clean,5,10' })")
    assert page.evaluate("view.state().pin") == {"pane": "mixture, of all_clean", "row": 5, "col": 10}
    assert page.locator(".vx-matches tbody tr").count() == 6
    page.evaluate("view.set({ pin: 'teacher_clean,5,10' })")
    told = page.locator(".vx-saying").inner_text()
    assert told.startswith("Under the damage the teacher finds this patch")
    assert ", my_noise " in told
    assert ", mixture, of all " in told
    assert len({box["y"] for box in (each.bounding_box() for each in page.locator(".vx-box").all())}) == 2


@pytest.mark.parametrize("name", ["attentionview", "patchview"])
def test_one_student_comes_back(open_view, attention, patches, name):
    one = {"attentionview": fixtures.attention_payload, "patchview": fixtures.patch_payload}[name]()
    page = open_view(name, {"attentionview": attention, "patchview": patches}[name])
    page.evaluate("(payload) => view.update(payload)", one)
    shown = page.locator("[data-pane]").evaluate_all("(all) => all.map((each) => each.dataset.pane)")
    assert not [pane for pane in shown if pane.startswith(STUDENTS[:2])]
    assert "student_distorted" in shown
    assert page.locator(".vx-several").count() == 0


@pytest.mark.parametrize("width", [390, 700, 1440])
@pytest.mark.parametrize("name", ["attentionview", "patchview"])
def test_four_students_fit_any_width(open_view, name, width):
    one = {"attentionview": fixtures.attention_payload, "patchview": fixtures.patch_payload}[name]()
    page = open_view(name, several(one, *STUDENTS), viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    spilled = page.evaluate("""() => [...document.querySelectorAll(".vx-cell, .vx-numbers, .vx-result, .vx-controls")]
        .filter((node) => node.scrollWidth > node.clientWidth + 1).map((node) => node.className)""")
    assert spilled == []
    assert page.locator("[data-pane$=_distorted]:visible").count() == 5 + (name == "attentionview")


def test_on_a_phone_the_columns_names_break_between_words_alone(open_view):
    names = ("s14-noise", "s14-mixture", "s14-mask", "s14-common")
    page = open_view(
        "attentionview", several(fixtures.attention_payload(), *names), viewport={"width": 384, "height": 900}
    )  # the app keeps so much of 390 px for it
    lines = page.locator(".vx-columns thead th").evaluate_all("""(all) => all.map((each) => {
        const range = document.createRange();
        const tops = [...each.textContent].map((_, i) => {
          range.setStart(each.firstChild, i);
          range.setEnd(each.firstChild, i + 1);
          return range.getBoundingClientRect().top;
        });
        return [...each.textContent].map((letter, i) => (i && tops[i] > tops[i - 1] ? "|" : "") + letter).join("");
    })""")
    assert lines == ["teacher", *(name.replace("-", "-|") for name in names)]


@pytest.mark.parametrize("name", ["attentionview", "patchview"])
def test_their_figure_and_numbers_are_saved(open_view, attention, patches, name):
    page = open_view(name, {"attentionview": attention, "patchview": patches}[name])
    with page.expect_download() as download:
        page.get_by_role("button", name="Save figure").click()
    png = Path(download.value.path()).read_bytes()
    assert int.from_bytes(png[16:20], "big") == 2 * (56 + 3 * 276 - 16)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save numbers").click()
    content = json.loads(Path(download.value.path()).read_text())
    assert {"my_noise_clean", "mixture, of all_distorted"} < set(content["maps" if "maps" in content else "values"])
