"""What all patches know, in the real app: no server is asked, and links and saved pages carry what is shown."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser
from visiting import Open, Visit

from tests.saved_pages import heats, opened, settle, state

pytestmark = [pytest.mark.browser, pytest.mark.weights]

PANES = ("teacher_clean", "teacher_distorted", "student_clean", "student_distorted")


def press(visit: Visit, pane: str, row: int, col: int) -> None:
    box = visit.box(pane, "patches")
    box.scroll_into_view_if_needed()
    area = box.bounding_box()
    assert area is not None
    box.click(position={"x": (col + 0.5) / 16 * area["width"], "y": (row + 0.5) / 16 * area["height"]})


def test_every_kind_without_the_server_and_by_link_and_page(open_page: Open, browser: Browser, tmp_path: Path) -> None:
    visit = open_page("?view=patches", "patches", permissions=["clipboard-read", "clipboard-write"])
    view = visit.page.locator("#patch-view")
    visit.requests.clear()
    shown = set()
    told = {
        "foreground": "overlaps",
        "clusters": "stay in",
        "classes": "keep their class",
        "matches": "within one patch",
    }
    for mode, said in told.items():
        view.get_by_label("Show", exact=True).select_option(mode)
        visit.frame()
        assert said in view.locator(".vx-saying").inner_text()
        shown.add(visit.heat("student_distorted", "patches"))
    view.get_by_label("Show", exact=True).select_option("labels")
    press(visit, "teacher_clean", 8, 8)
    visit.page.keyboard.press("2")
    press(visit, "teacher_clean", 1, 1)
    visit.page.mouse.move(0, 0)
    visit.frame()
    shown.add(visit.heat("student_distorted", "patches"))
    assert len(shown) == 4, "matches leave the maps as they were"
    assert "keep their label" in view.locator(".vx-saying").inner_text()
    maps, before = [visit.heat(pane, "patches") for pane in PANES], visit.state("patches")
    assert [each["label"] for each in before["labels"]] == [1, 2]
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Save page").locator("visible=true").click()
    assert visit.requests == []
    file = tmp_path / "labels.html"
    download.value.save_as(file)
    with opened(browser, file) as found:
        settle(found)
        assert state(found) == before
        assert heats(found) == maps
    there = open_page(f"?{visit.link().split('?', 1)[1]}", "patches")
    assert there.state("patches") == {**before, "label": 1}
    assert [there.heat(pane, "patches") for pane in PANES] == maps
