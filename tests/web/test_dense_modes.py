"""The patch view's foreground, clusters, matches and labels in a real browser, against the library's."""

import json
import statistics
from pathlib import Path

import fixtures
import numpy as np
import pytest
import torch
from opening import box, centre, colour, decode, events, next_frame, number, pixel
from playwright.sync_api import Page

import explorer as ex
from explorer.models.trace import Grid, Trace
from explorer.plots.segmentation import CLASS_COLOURS

pytestmark = pytest.mark.browser

PANES = [name for name, *_ in fixtures.PANES]
MODES = ("foreground", "clusters", "matches", "labels")
CLICKS = [(5, 10, 1), (1, 1, 2), (13, 4, 1)]
PALETTE = np.array([[int(each[at : at + 2], 16) for at in (1, 3, 5)] for each in CLASS_COLOURS])


@pytest.fixture(scope="module")
def patches() -> dict:
    """The damaged teacher sees little, and the damaged student more."""
    payload = fixtures.patch_payload()
    generator = np.random.default_rng(5)
    for pane, noise in zip(payload["panes"], (0, 120, 0, 60), strict=True):
        values = decode(pane["patches"]) + noise * generator.normal(size=(256, 384))
        pane["patches"] = fixtures.encode(fixtures.quantise(values))
    return payload


@pytest.fixture(scope="module")
def traces(patches: dict) -> list[Trace]:
    """Of what travels; the reference first."""
    return [
        Trace(
            embedding=torch.zeros(1, 384),
            cls=None,
            patches=torch.tensor(decode(pane["patches"])[None, None], dtype=torch.float32),
            attention=None,
            layers=(0,),
            grid=Grid(16, 16),
            prefix=0,
        )
        for pane in patches["panes"]
    ]


def show(open_view, patches: dict, mode: str, **context: object) -> Page:
    page = open_view("patchview", patches, **context)
    page.get_by_label("Show", exact=True).select_option(mode)
    return page


def pixels(page: Page, pane: str) -> np.ndarray:
    data = page.evaluate(
        """(pane) => { const canvas = document.querySelector(`.vx-box[data-pane="${pane}"] .vx-heat`);
        return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]; }""",
        pane,
    )
    return np.array(data).reshape(16, 16, 4)[..., :3]


def numbers(page: Page, pane: str) -> np.ndarray:
    """The place of each patch's colour among all; every one is one of them."""
    apart = np.abs(pixels(page, pane)[..., None, :] - PALETTE).sum(axis=-1)
    assert (apart.min(axis=-1) == 0).all()
    return apart.argmin(axis=-1)


def note(page: Page, pane: str) -> str:
    return page.locator(f'figure:has([data-pane="{pane}"]) .vx-note').inner_text()


def cells(page: Page) -> dict[str, list[str]]:
    rows = page.locator(".vx-matches tbody tr").all()
    return {row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in rows}


# ---------------------------------------------------------------- what is painted


def test_foreground_is_painted_under_one_scale_and_outlined(open_view, patches, traces):
    page = show(open_view, patches, "foreground")
    maps = [scores[0].numpy() for scores in ex.foreground(*traces)]
    top = max(np.abs(scores).max() for scores in maps)
    low, middle, high = (number(text) for text in page.locator(".vx-tick").all_inner_texts())
    assert (low, middle, high) == (pytest.approx(-top, abs=0.01), 0, pytest.approx(top, abs=0.01))
    for name, scores in zip(PANES, maps, strict=True):
        for row, col in ((0, 0), (6, 10), (15, 3)):
            expected = colour(patches, "viridis", (scores[row, col] / top + 1) / 2)
            np.testing.assert_allclose(pixel(page, name, row, col), expected, atol=4)
        path = page.locator(f'[data-pane="{name}"] .vx-outline > .vx-line').get_attribute("d") or ""
        padded = np.pad((scores > 0).astype(int), 1)
        assert path.count("M") == np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
        mask, reference = scores > 0, maps[0] > 0
        overlap = (mask & reference).sum() / (mask | reference).sum()
        assert note(page, name) == ("" if name == "teacher_clean" else f"IoU {overlap:.2f}")
    page.mouse.move(*centre(page, "student_clean", 6, 10))
    next_frame(page)
    side = "foreground" if maps[2][6, 10] > 0 else "background"
    assert page.locator(".vx-tip").inner_text() == f"row 6, col 10: {maps[2][6, 10]:.2f}, {side}".replace("-", "\u2212")


@pytest.mark.parametrize("count", [6, 3])
def test_clusters_have_the_colours_of_the_figures(open_view, patches, traces, count):
    page = show(open_view, patches, "clusters")
    page.get_by_label("Clusters", exact=True).select_option(str(count))
    found = [each[0].numpy() for each in ex.patch_clusters(*traces, clusters=count)]
    for name, expected in zip(PANES, found, strict=True):
        np.testing.assert_array_equal(numbers(page, name), expected)
    stay = [f"{100 * (each == found[0]).mean():.0f} %" for each in found[1:]]
    assert [note(page, name) for name in PANES] == ["", *(f"{each} stay" for each in stay)]
    assert [texts[0] for texts in cells(page).values()] == stay
    assert page.evaluate("view.link()")["mode"] == "clusters"
    assert page.evaluate("view.link().clusters") == (None if count == 6 else count)


def test_classes_are_what_a_probe_said(open_view, patches):
    names = [f"class {number}" for number in range(14)]
    generator = np.random.default_rng(3)
    said = {name: generator.integers(0, 14, 256).astype(np.uint8) for name in PANES}
    panes = [
        {
            **pane,
            "classes": fixtures.encode(said[pane["id"]]),
            "chances": fixtures.encode(np.full(256, 51, np.uint8), 1 / 255),
        }
        for pane in patches["panes"]
    ]
    page = show(open_view, {**patches, "panes": panes, "classes": {"names": names, "pictures": 9}}, "classes")
    for name in PANES:
        np.testing.assert_array_equal(numbers(page, name).ravel(), said[name] % 12)
    alike = [f"{100 * (said[name] == said['teacher_clean']).mean():.0f} %" for name in PANES[1:]]
    assert [texts[0] for texts in cells(page).values()] == alike
    assert page.get_by_role("list", name="Classes").get_by_role("listitem").all_inner_texts() == names
    assert page.get_by_text("fitted on what the clean teacher sees in 9 pictures with masks").is_visible()
    page.mouse.move(*centre(page, "student_clean", 2, 3))
    next_frame(page)
    assert page.locator(".vx-tip").inner_text() == f"row 2, col 3: {names[said['student_clean'][35]]} 20 %"
    page.evaluate("(payload) => view.update(payload)", patches)
    assert page.evaluate("view.state().mode") == "similarity"
    assert page.get_by_label("Show", exact=True).locator("option[value=classes]").is_disabled()


def test_matches_are_lines_and_a_share(open_view, patches, traces):
    page = show(open_view, patches, "matches")
    matches = {name: ex.patch_matches(traces[0], trace) for name, trace in zip(PANES, traces, strict=True)}
    for name, found in matches.items():
        assert box(page, name).locator(".vx-heat").is_hidden(), "the picture is to be seen"
        frame = found.frame()
        some = frame[(frame["row"] % 2 == 1) & (frame["col"] % 2 == 1)]
        paths = (
            box(page, name)
            .locator(".vx-trails path")
            .evaluate_all("(nodes) => nodes.map((node) => [node.getAttribute('stroke'), node.getAttribute('d')])")
        )
        lines = {stroke: d for stroke, d in paths if stroke != "#000" and "L" in d}
        for right, stroke in ((True, "#56B4E9"), (False, "#E69F00")):
            chosen = some[some["right"] == right]
            expected = "".join(
                f"M{each.col + 0.5:g} {each.row + 0.5:g}L{each.match_col + 0.5:g} {each.match_row + 0.5:g}"
                for each in chosen.itertuples()
            )
            assert lines.get(stroke, "") == expected
        assert note(page, name) == ("" if name == "teacher_clean" else f"{100 * found.share_right:.0f} % right")
    del matches["teacher_clean"]
    cosines = [float(ex.metrics.cosine(traces[0].patches[:, 0], each.patches[:, 0])) for each in traces[1:]]
    told = list(cells(page).values())
    assert [each[0] for each in told] == [f"{100 * found.share_right:.0f} %" for found in matches.values()]
    assert [float(each[1]) for each in told] == pytest.approx(cosines, abs=1e-3)
    shares = [matches[f"{who}_distorted"].share_right for who in ("teacher", "student")]
    assert shares[0] < shares[1] - 0.1
    said = page.locator(".vx-saying").inner_text()
    assert f"the teacher finds {100 * shares[0]:.0f} % of the patches" in said
    assert said.endswith(f"the student {100 * shares[1]:.0f} %.")
    page.mouse.move(*centre(page, "teacher_distorted", 3, 4))
    next_frame(page)
    row, col = matches["teacher_distorted"].positions[0, 3 * 16 + 4].tolist()
    assert f"found at row {row}, col {col}" in page.locator(".vx-tip").inner_text()
    assert page.locator(".vx-threads .vx-line path").count() == page.locator(".vx-mark-match:visible").count() == 3
    ring = page.locator('[data-pane="teacher_distorted"] .vx-mark-match')
    assert (
        ring.get_attribute("style")
        == f"left: {100 * col / 16:g}%; top: {100 * row / 16:g}%; width: 6.25%; height: 6.25%;"
    )
    page.mouse.move(0, 0)
    next_frame(page)
    assert page.locator(".vx-threads .vx-line path").count() == 0


def test_what_only_these_modes_draw_goes_with_them(open_view, patches):
    page = show(open_view, patches, "matches")
    page.evaluate("view.set({ pin: 'teacher_clean,5,10' })")
    assert page.locator(".vx-mark:visible").count() == 0, "the pin waits"
    for mode in ("foreground", "labels", "similarity"):
        page.get_by_label("Show", exact=True).select_option(mode)
    assert page.locator(".vx-trails path, .vx-spot").count() == 0
    assert [page.locator(".vx-outline > .vx-line").nth(i).get_attribute("d") for i in range(4)] == [""] * 4
    assert page.locator(".vx-heat:visible").count() == 4
    assert page.locator(".vx-mark-pin:visible").count() == 1
    assert page.get_by_role("group", name="Label to set").is_hidden()
    assert page.get_by_label("Clusters", exact=True).is_hidden()


# ---------------------------------------------------------------- labels


def carried(traces: list[Trace], clicks: list) -> list[np.ndarray]:
    return [ex.propagate_labels(traces[0], trace, clicks)[0].numpy() for trace in traces]


def test_clicks_label_all_views(open_view, patches, traces):
    page = show(open_view, patches, "labels")
    assert page.locator(".vx-heat:visible").count() == 0
    assert "Set two labels at least" in page.locator(".vx-hint").inner_text()
    for row, col, label in CLICKS:
        page.get_by_role("button", name=f"label {label}").click()
        page.mouse.click(*centre(page, "teacher_clean", row, col))
    page.mouse.move(0, 0)
    next_frame(page)
    expected = carried(traces, CLICKS)
    for name, labels in zip(PANES, expected, strict=True):
        np.testing.assert_array_equal(numbers(page, name) + 1, labels)
        share = f"{100 * (labels == expected[0]).mean():.0f} % alike"
        assert note(page, name) == ("" if name == "teacher_clean" else share)
    assert page.locator(".vx-spot").all_inner_texts() == [str(label) for *_, label in CLICKS]
    assert box(page, "teacher_clean").locator(".vx-spot").count() == 3
    assert events(page, "pin") == []
    assert events(page, "state")[-1]["labels"] == [{"row": r, "col": c, "label": each} for r, c, each in CLICKS]
    page.get_by_role("button", name="Undo").click()
    for name, labels in zip(PANES, carried(traces, CLICKS[:2]), strict=True):
        np.testing.assert_array_equal(numbers(page, name) + 1, labels)
    page.mouse.click(*centre(page, "teacher_clean", 1, 1))  # label 1 was chosen last: it takes the place of 2
    assert page.evaluate("view.state().labels.map((each) => each.label)") == [1, 1]
    page.mouse.click(*centre(page, "teacher_clean", 1, 1))
    assert page.evaluate("view.state().labels.length") == 1, "a second click takes it away"
    page.get_by_role("button", name="Clear").click()
    assert page.evaluate("view.state().labels") == []
    assert page.get_by_role("button", name="Clear").is_disabled()
    assert page.locator(".vx-heat:visible").count() == 0


def test_the_pointer_shows_what_a_click_would_do(open_view, patches, traces):
    page = show(open_view, patches, "labels")
    page.evaluate("view.set({ labels: '5.10.1', label: 3 })")
    page.mouse.move(*centre(page, "teacher_clean", 2, 3))
    next_frame(page)
    for name, labels in zip(PANES, carried(traces, [(5, 10, 1), (2, 3, 3)]), strict=True):
        np.testing.assert_array_equal(numbers(page, name) + 1, labels)
    assert page.evaluate("view.state().labels.length") == 1
    page.mouse.move(0, 0)
    next_frame(page)
    assert (numbers(page, "student_distorted") == 0).all()


def test_labels_by_keyboard_alone(open_view, patches, traces):
    page = show(open_view, patches, "labels")
    page.get_by_label("smooth").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.pane") == "teacher_clean"
    for key in ("ArrowDown", "ArrowRight", "2", "Enter"):
        page.keyboard.press(key)
    assert page.get_by_role("button", name="label 2").get_attribute("aria-pressed") == "true"
    assert page.locator("[aria-live]").inner_text().startswith("Label 2 at row 1, column 1. Teacher · distorted 100 %")
    for key in (*["ArrowDown"] * 4, *["ArrowRight"] * 9, "4", "Space"):
        page.keyboard.press(key)
    assert page.evaluate("view.link().labels") == "1.1.2_5.10.4"
    page.keyboard.press("7")
    page.keyboard.press("Escape")
    assert page.evaluate("[view.state().label, view.state().labels.length]") == [4, 2], "nothing is lost"
    label = box(page, "teacher_clean").get_attribute("aria-label") or ""
    assert "value label 4" in label
    for name, labels in zip(PANES, carried(traces, [(1, 1, 2), (5, 10, 4)]), strict=True):
        np.testing.assert_array_equal(numbers(page, name) + 1, labels)


def test_what_a_key_did_is_told_however_fast_it_follows(open_view, patches):
    page = show(open_view, patches, "labels")
    box(page, "teacher_clean").focus()
    page.evaluate(
        """(keys) => keys.forEach((key) =>
        document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })))""",
        ["ArrowRight", "Enter"],
    )
    next_frame(page)
    assert page.locator("[aria-live]").inner_text().startswith("Label 1 at row 0, column 1. ")


def test_labels_by_finger_on_a_phone(open_view, patches):
    page = show(open_view, patches, "labels", has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    page.touchscreen.tap(*centre(page, "teacher_clean", 7, 7))
    page.get_by_role("button", name="label 3").tap()
    page.touchscreen.tap(*centre(page, "teacher_clean", 1, 2))
    assert page.evaluate("view.link().labels") == "7.7.1_1.2.3"
    heights = page.locator(".vx-palette .vx-button").evaluate_all("(nodes) => nodes.map((node) => node.offsetHeight)")
    assert min(heights) >= 40


def test_labels_follow_the_pointer_within_a_frame(open_view, patches):
    """Four panes of 256 patches of 384 numbers, all of which are compared anew wherever the pointer goes."""
    page = show(open_view, patches, "labels", device_scale_factor=2)
    page.evaluate("view.set({ labels: '5.10.1_1.1.2_13.4.3_8.8.4' })")
    taken = []
    for step in range(40):
        page.mouse.move(*centre(page, "teacher_clean", step % 11, (3 * step) % 13))
        before = page.evaluate("view.stats.repaints")
        next_frame(page)
        taken.append(page.evaluate("view.stats.lastRepaintMs"))
        assert page.evaluate("view.stats.repaints") <= before + 1
    assert page.evaluate("view.stats.repaints") > 20
    assert statistics.median(taken) < 16


# ---------------------------------------------------------------- settings, files, widths


def test_links_and_settings_carry_what_is_shown(open_view, patches):
    page = open_view("patchview", None)
    page.evaluate("view.set({ mode: 'labels', clusters: '3', labels: '5.10.1_1.1.2_99.0.1_2.2.9_x', label: '5' })")
    page.evaluate("(payload) => view.update(payload)", patches)
    state = page.evaluate("view.state()")
    assert (state["mode"], state["clusters"], state["label"]) == ("labels", 3, 5)
    assert state["labels"] == [{"row": 5, "col": 10, "label": 1}, {"row": 1, "col": 1, "label": 2}]
    link = page.evaluate("view.link()")
    assert (link["mode"], link["clusters"], link["labels"]) == ("labels", 3, "5.10.1_1.1.2")
    assert "label" not in link
    page.evaluate("(link) => { view.set({ labels: [], clusters: 6 }); view.set(link); }", link)
    assert page.evaluate("view.state().labels") == state["labels"]
    page.evaluate("(payload) => view.update(payload)", fixtures.patch_payload(8, 24))
    assert page.evaluate("view.state().labels[0]") == {"row": 2, "col": 15, "label": 1}, "the same place"
    page.evaluate("view.set({ clusters: 7, labels: null, mode: 'nonsense' })")
    assert page.evaluate("[view.state().mode, view.state().clusters, view.state().labels.length]") == ["labels", 3, 2]


def test_figure_and_numbers_are_saved(open_view, patches, traces):
    page = open_view("patchview", patches)
    saved = {}
    for mode in MODES:
        page.evaluate("(mode) => view.set({ mode, labels: '5.10.1_1.1.2' })", mode)
        with page.expect_download() as download:
            page.get_by_role("button", name="Save figure").click()
        assert download.value.suggested_filename == f"vit-explorer-patches-layer11-{mode}.png"
        assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        with page.expect_download() as download:
            page.get_by_role("button", name="Save numbers").click()
        saved[mode] = content = json.loads(Path(download.value.path()).read_text())
        assert content["settings"] == page.evaluate("view.state()")
        assert list(content["shares"]) == list(content["patch_cosine"]) == PANES[1:]
        assert len(content["values"]["student_clean"]) == 256
    np.testing.assert_array_equal(saved["clusters"]["values"]["student_clean"], ex.patch_clusters(*traces)[2].flatten())
    share = ex.patch_matches(traces[0], traces[1]).share_right
    assert saved["matches"]["shares"]["teacher_distorted"] == pytest.approx(share)


@pytest.mark.parametrize("width", [390, 1000])
def test_no_width_overflows(open_view, patches, width):
    page = open_view("patchview", patches, viewport={"width": width, "height": 900})
    for mode in MODES:
        page.evaluate("(mode) => view.set({ mode, labels: '5.10.1_1.1.2' })", mode)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        spilled = page.evaluate("""() =>
            [...document.querySelectorAll(".vx-result, .vx-controls, .vx-caption, .vx-palette")]
            .filter((node) => node.scrollWidth > node.clientWidth + 1).map((node) => node.className)""")
        assert spilled == []


def test_without_a_clean_picture_the_damaged_teacher_is_the_reference(open_view, patches):
    panes = [{**pane, "reference": False} for pane in patches["panes"] if pane["view"] == "distorted"]
    page = show(open_view, {**patches, "panes": panes}, "matches")
    assert list(cells(page)) == ["Student · distorted"]
    assert page.locator(".vx-saying").inner_text() == ""
    assert note(page, "teacher_distorted") == ""
    assert note(page, "student_distorted").endswith("% right")


def test_colours_are_those_of_the_figures() -> None:
    source = (Path(ex.__file__).parent / "web" / "densemodes.js").read_text(encoding="utf-8")
    listed = source.split("COLOURS = [", 1)[1].split("];", 1)[0]
    assert tuple(part.strip(' "\n') for part in listed.rstrip(",\n ").split(",")) == CLASS_COLOURS
