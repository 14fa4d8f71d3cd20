"""Every tab for those who do not see, hear or point as most do: axe-core, and what a screen reader is told."""

from collections.abc import Iterator

import pytest
from axe import axe_source, violations
from playwright.sync_api import Browser
from serving import Served
from visiting import Open, Visit

from explorer_app.tabs import TABS

pytestmark = [pytest.mark.browser, pytest.mark.weights]

UNFOLD = """() => document.querySelectorAll("#sidebar button.label-wrap:not(.open), details:not([open]) > summary")
  .forEach((head) => head.checkVisibility() && head.click())"""
FILLED = """() => ![...document.querySelectorAll(".vx-empty")].some((words) => words.checkVisibility())"""


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    return axe_source(tmp_path_factory.mktemp("axe"))


@pytest.fixture(scope="module")
def looked_at(browser: Browser, app: Served) -> Iterator[Visit]:
    """A page without movement, which is looked at again and again."""
    visit = Visit(browser, app.url, reduced_motion="reduce").open()
    yield visit
    visit.close()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        pytest.param(1440, "dark", marks=pytest.mark.slow),
        (390, "light"),
        pytest.param(1440, "light", marks=pytest.mark.slow),
        pytest.param(390, "dark", marks=pytest.mark.slow),
    ],
)
def test_no_tab_shuts_anybody_out(looked_at: Visit, axe: str, width: int, scheme: str) -> None:
    page = looked_at.page
    page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", scheme == "dark")
    page.set_viewport_size({"width": width, "height": 1000})
    found = {}
    for tab in TABS:
        looked_at.open_tab(tab.label)
        page.wait_for_function(FILLED)  # axe remembers styles: what changes under it, it reads half
        looked_at.settle()
        found[tab.label] = violations(page, axe)
    if width == 390:
        page.get_by_role("button", name="Picture, damage, student").click()
    page.evaluate(UNFOLD)
    looked_at.settle()
    found["left column"] = violations(page, axe)
    page.keyboard.press("Escape")
    assert {place: wrong for place, wrong in found.items() if wrong} == {}


def test_a_screen_reader_hears_what_a_change_came_to(open_page: Open) -> None:
    visit = open_page()
    page = visit.page
    page.evaluate("""() => {
      window.heard = [];
      const live = "[aria-live='polite'], [aria-live='assertive'], [role=status], [role=alert], output";
      new MutationObserver((changes) => {
        for (const { target } of changes) {
          const region = (target.nodeType === 3 ? target.parentElement : target)?.closest(live);
          if (region?.textContent.trim()) window.heard.push(region.textContent.trim());
        }
      }).observe(document.body, { childList: true, characterData: true, subtree: true });
    }""")
    before = visit.numbers()
    page.locator("#parameter-0 input[type=number]").fill("0.6")
    page.locator("#parameter-0 input[type=number]").press("Enter")
    visit.wait_for_other_numbers(before)
    page.wait_for_timeout(300)
    heard = set(page.evaluate("window.heard"))
    assert any("Gaussian noise 0.6 costs the teacher" in text for text in heard)
    assert not [text for text in heard if "common." in text or text == "75 %" or text.startswith("block ")], heard
