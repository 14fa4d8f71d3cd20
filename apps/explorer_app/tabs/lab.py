"""Lab tab: replace a part of teacher and student, and see what becomes of what they see."""

import html
from collections.abc import Iterator
from typing import Any

import gradio as gr

from explorer_app.browser_view import browser_view
from explorer_app.events import AT_ONCE, PRIVATE, QUICK, refused
from explorer_app.service import lab
from explorer_app.service.background import Background
from explorer_app.service.errors import ToldError, notice, told
from explorer_app.service.question import Question
from explorer_app.tabs.shared import MADE, Follows, Page, Tab, bar, mark, status_and_mark

HELP = """
**Which part carries the damage?** A part of both networks is replaced while they look at the damaged picture, and
everything after it follows. **As in the clean picture** is activation patching: if the answer comes back, the damage
went through that part. **Find what repairs it** tries every head, attention and perceptron in turn: 1 means that all of
the lost cosine comes back with this part alone, below 0 that it makes it worse; parts work together, so that shares do
not add up. **Zero** misleads: a network never met zeros there, and what follows tells of that shock, too, as it does of
noise. The mean over photos and another photo's part are values that it knows; they take away what is said of *this*
picture and leave the rest.
"""
QUEUE: dict[str, Any] = {"concurrency_id": "lab", "concurrency_limit": 1, **PRIVATE}
_WATCH_SECONDS = 0.4


def build(page: Page) -> Follows:
    """Answers at once what is chosen in the view; the search of all parts waits for its button."""
    with gr.Row(elem_id="lab-buttons"):
        search = gr.Button("Find what repairs it", variant="primary", elem_id="lab-search", min_width=90)
        stop = gr.Button("Stop", elem_id="lab-stop", min_width=90)
    status, line = status_and_mark("lab")
    view = browser_view("labview", "lab-view", classes=MADE)
    asked, shown, found = gr.State(lab.Asked()), gr.State(None), gr.State(0)
    view.choose(choose, outputs=asked, **QUICK)
    searching = search.click(seek, [found, *page.column.inputs], [found, status], show_progress="hidden", **QUEUE)
    stop.click(lambda: "", outputs=status, cancels=[searching], **AT_ONCE)
    return Follows((asked, shown, found), (view, shown, line), (asked.change, found.change))


def choose(event: gr.EventData) -> lab.Asked:
    """What the view asks for."""
    with refused():
        return lab.Asked.read(event._data)


def follow(question: Question, asked: lab.Asked, shown: Any, found: int) -> list[Any]:
    """The answer, unless it is shown already."""
    wanted = (question, question.version(), asked, found)
    if shown == wanted:
        return [gr.skip()] * 3
    payload = lab.answer(question, asked)
    offer = "" if payload["shares"] else f"Press <b>Find what repairs it</b> for {html.escape(question.words)}."
    return [payload, wanted, mark(None, None, offer) if offer else ""]


def seek(found: int, *column: Any) -> Iterator[list[Any]]:
    """(how many searches there were, status) as the work goes on."""
    try:
        yield [gr.skip(), bar("trying every part")]
        with told():
            question = Question.read(*column)
            work = Background(lambda progress: lab.shares(question, progress))
            for done, total in work.watch(_WATCH_SECONDS):
                yield [gr.skip(), bar("trying every part", done, total, work.left)]
            work.check()
        yield [found + 1, ""]
    except ToldError as error:
        yield [gr.skip(), notice(error)]


TAB = Tab(id="lab", label="Lab", help=HELP, build=build, follow=follow)
