"""Five tasks of a visitor: none takes more presses and scrolls than docs/tasks.md says."""

import math
import re

import pytest
from playwright.sync_api import Locator, expect
from serving import ROOT
from visiting import Open, Visit

from tests.nightly import left

pytestmark = [pytest.mark.browser, pytest.mark.weights]

SCREENS = {"1440 x 1000": {"width": 1440, "height": 1000}, "390 x 844": {"width": 390, "height": 844}}
TURN = 2 / 3  # of the screen, in one scroll
PATIENCE_MS = 120_000
SEEN = """(node) => {
  const { left, right, top, bottom } = node.getBoundingClientRect();
  const upper = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
  return top >= 0 && bottom <= innerHeight && upper !== null && (node.contains(upper) || upper.contains(node));
}"""
MOVE = """(node) => {
  const before = node.getBoundingClientRect().top;
  node.scrollIntoView({ block: "center" });
  return Math.abs(node.getBoundingClientRect().top - before);
}"""


class Hand:
    """What a person does on a page: presses, and scrolls of two thirds of the screen."""

    def __init__(self, visit: Visit) -> None:
        self.visit, self.presses, self.scrolls = visit, 0, 0

    def see(self, place: Locator) -> None:
        """Scroll until all of it is in sight."""
        place.wait_for()
        if not place.evaluate(SEEN):
            moved = place.evaluate(MOVE)
            self.scrolls += max(1, math.ceil(moved / (TURN * self.visit.page.viewport_size["height"])))  # type: ignore[index]
            self.visit.frame()

    def press(self, place: Locator) -> None:
        """Click or tap it, once it is in sight."""
        self.see(place)
        place.click()
        self.presses += 1

    def open_column(self) -> None:
        """The left column, which a phone keeps in a sheet."""
        bar = self.visit.page.locator("#sheet-bar button")
        if bar.is_visible():
            self.press(bar)


def first_map(hand: Hand) -> None:
    """The student's map on the damaged picture, and the sentence that says what is seen."""
    hand.see(hand.visit.page.locator("#attention-view .vx-saying"))
    hand.see(hand.visit.box("student_distorted"))


def own_photo(hand: Hand) -> None:
    """A picture from one's own disk, and its map."""
    visit = hand.visit
    before = visit.numbers()
    hand.open_column()
    with visit.page.expect_file_chooser() as chooser:
        hand.press(visit.page.locator("#picture").get_by_label("Upload file"))
    chooser.value.set_files(ROOT / "assets" / "screenshot.png")
    visit.wait_for_other_numbers(before)
    hand.see(hand.visit.box("student_distorted"))


def other_student(hand: Hand) -> None:
    """A student that learned another damage, and its map."""
    visit = hand.visit
    before = visit.numbers()
    hand.open_column()
    hand.press(visit.page.locator("#student input"))
    hand.press(visit.page.get_by_role("option", name=re.compile("^s14-blur")))
    visit.wait_for_other_numbers(before)
    hand.see(hand.visit.box("student_distorted"))


def own_run(hand: Hand) -> None:
    """A run begins, is watched, and stopped; when the page is opened again, it is found."""
    visit, page = hand.visit, hand.visit.page
    hand.press(page.get_by_role("tab", name="Train"))
    start, mine = page.locator("#start-run"), visit.box("attention_student", "train")
    expect(start).to_be_enabled(timeout=PATIENCE_MS)
    hand.press(start)
    view = page.locator("#recovery-view")
    expect(view).not_to_contain_text("Shipped example", timeout=PATIENCE_MS)
    expect(view).to_contain_text(re.compile(r"step [1-9]\d* of"), timeout=PATIENCE_MS)
    hand.see(mine)
    hand.press(page.locator("#stop-run"))
    expect(page.locator("#resume-run")).to_be_enabled(timeout=PATIENCE_MS)
    page.close()
    visit.page = visit.watch(visit.context.new_page())
    visit.open()
    hand.press(visit.page.get_by_role("tab", name="Train"))
    expect(visit.page.locator("#resume-run")).to_be_enabled(timeout=PATIENCE_MS)
    hand.see(visit.box("attention_student", "train"))


def shared_view(hand: Hand) -> None:
    """A link to what is shown."""
    hand.press(hand.visit.page.get_by_role("button", name="Copy link"))
    hand.visit.page.get_by_text("link copied").wait_for()


TASKS = {
    "the first map is understood": first_map,
    "own photo": own_photo,
    "another student": other_student,
    "own run started, stopped, and found again": own_run,
    "a view shared": shared_view,
}


@pytest.fixture(scope="module")
def told() -> dict[tuple[str, str], list[int]]:
    """Presses and scrolls of (task, screen), as docs/tasks.md has them now."""
    lines = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8").splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("|")]
    places = {screen: head.index(f"{screen}, now") for screen in SCREENS}
    return {(row[0], screen): [int(n) for n in row[at].split("+")] for row in rows for screen, at in places.items()}


@pytest.mark.parametrize("screen", left(SCREENS, to_the_night=("1440 x 1000",)))
def test_the_tasks_of_a_visitor_take_no_more_than_is_told(
    open_page: Open, told: dict[tuple[str, str], list[int]], screen: str
) -> None:
    for name, task in TASKS.items():
        hand = Hand(open_page(**SCREENS[screen], permissions=["clipboard-read", "clipboard-write"]))
        task(hand)
        presses, scrolls = told[name, screen]
        assert hand.presses <= presses, name
        assert hand.scrolls <= scrolls, name
