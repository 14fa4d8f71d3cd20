"""Addresses that open the page as somebody else saw it."""

from typing import Any

import gradio as gr

from explorer_app.column.sidebar import describe
from explorer_app.service import students
from explorer_app.service.errors import ToldError, notice, told
from explorer_app.service.question import Question
from explorer_app.tabs import TABS

OPENED = tuple(tab.id for tab in TABS if tab.draw is not None)
"""Tabs that a link opens, the first where it names none of them."""


def reopen(recalled: Any, request: gr.Request) -> list[Any]:
    """A word on a bad link, the tabs, the one that is shown, and the left column as the page's address describes it;
    what it does not describe keeps its default."""
    query, own = dict(request.query_params) if request else {}, students.still_there(recalled)
    try:
        with told():
            return [gr.skip(), *_reopened(query, own)]
    except ToldError as error:
        told_once = notice(ToldError(f"this link cannot be opened as it is: {error}"))
        return [gr.HTML(told_once, visible=True), *_reopened({}, own)]


def _reopened(query: dict[str, str], own: list[str]) -> list[Any]:
    asked = Question.of_link(query)
    view = query["view"] if query.get("view") in OPENED else OPENED[0]
    if "pair" in query and asked.student not in own:
        own = [asked.student, *own]  # somebody else's, who gave this link away
    return [gr.Tabs(selected=view), view, *describe(asked, own)]
