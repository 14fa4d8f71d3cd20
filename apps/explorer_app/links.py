"""Addresses that open the page as somebody else saw it: what they tell, and what becomes of it.

A link tells the tab, the left column, the tab's own controls, whether its result was made, and what its view shows,
which the browser adds (`share.js`) and reads (`mount.js`).
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from explorer.errors import InputError
from explorer_app.browser_view import script_of
from explorer_app.column.sidebar import describe
from explorer_app.events import AT_ONCE
from explorer_app.service import students
from explorer_app.service.errors import ToldError, notice, told
from explorer_app.service.pictures import SELECTED, UPLOAD
from explorer_app.service.question import DEFAULT_PHOTO, Question
from explorer_app.service.runs import RUNS
from explorer_app.tabs import TABS
from explorer_app.tabs.shared import Field, Follows, Page, Tab

_TABS = {tab.id: tab for tab in TABS}
_GONE = "The run of this link is not on this server any more. The form holds its settings: Start makes it again."
TELL_TABS = "() => { if (location.search) document.querySelector('#linked').click(); }"
"""JavaScript for a page that was described by its address: what `Page.linked` listens to."""
_BUTTON = """
<button type="button">Copy link</button>
<div class="share-answer" hidden><span role="status"></span><input readonly hidden aria-label="Link to this view"></div>
"""


def build_share() -> gr.HTML:
    """A button that copies the link to what is shown; its event `copy` asks for what a link tells."""
    script = f"{script_of('share.js')}\nshare({{ element, props, watch, trigger }});\n"
    return gr.HTML(html_template=_BUTTON, js_on_load=script, elem_id="share", padding=False)


def reopen(parts: Mapping[str, Follows]) -> Callable[..., list[Any]]:
    """What answers a page that opens: a word on a bad link, the tabs, the one that is shown, what the link tells, the
    left column and the controls of all tabs as the address describes them; what it does not keeps its default."""

    def reopened(recalled: Any, request: gr.Request) -> list[Any]:
        query, own = dict(request.query_params) if request else {}, students.still_there(recalled)
        try:
            with told():
                return _reopened(query, own, parts)
        except ToldError as error:
            view = {"view": query["view"]} if query.get("view") in _TABS else {}
            told_once = notice(ToldError(f"this link cannot be opened as it is: {error}"))
            return [gr.HTML(told_once, visible=True), *_reopened(view, own, parts)[1:]]

    return reopened


def connect_share(share: Any, page: Page, parts: Mapping[str, Follows]) -> None:
    """Answer `copy` with the query that `reopen` reads, or with why there is none; and with the time, so that the
    browser hears of an answer that is the same as the one before."""
    fields = {name: part.fields for name, part in parts.items() if part.fields}
    results = {name: part.result for name, part in parts.items() if part.result}

    def answer(shown: str, *given: Any) -> dict[str, Any]:
        rest = iter(given)
        made = {name: next(rest) for name in results}
        values = {name: [(field, next(rest)) for field in each] for name, each in fields.items()}
        try:
            with told():
                question = Question.read(*rest)  # of a page that is not ready it says so
                query = _link_of(_TABS[shown], question)
                query |= {field.name: _written(value) for field, value in values.get(shown, ()) if value is not None}
                query |= _TABS[shown].told(made[shown]) if shown in made else {}
                if "run" not in query:
                    _check_own(query)
                query = {name: text for name, text in query.items() if text != SELECTED}
        except ToldError as error:
            return {"reason": str(error), "at": time.time()}
        return {"query": query, "at": time.time()}

    controls = [field.control for each in fields.values() for field in each]
    inputs = [page.shown, *results.values(), *controls, *page.column.inputs]
    share.copy(answer, inputs, share, **AT_ONCE)


def _link_of(tab: Tab, question: Question) -> dict[str, str]:
    """The tab and the left column.

    Raises:
        InputError: no link leads to the picture that the tab looks at.
    """
    query = question.link() if question.photo or tab.of_picture else replace(question, photo=DEFAULT_PHOTO).link()
    if isinstance(query, str):
        raise InputError(query)
    return {**query, "view": tab.id}


def _check_own(query: dict[str, str]) -> None:
    """
    Raises:
        InputError: the tab's pictures are a visitor's own.
    """
    if UPLOAD in query.values():
        raise InputError("No link leads to a zip file of your own: it stays between you and this server.")
    if SELECTED in query.values():
        raise InputError(
            "No link leads to what is measured of pictures that you selected: the Embeddings tab's link tells them."
        )


def _reopened(query: dict[str, str], own: list[str], parts: Mapping[str, Follows]) -> list[Any]:
    view = query.get("view", TABS[0].id)
    if view not in _TABS:
        raise InputError(f"there is no tab '{view}'; there are: {', '.join(_TABS)}")
    gone = view == "train" and "run" in query and RUNS.remembered(query["run"]) is None
    if gone and query.get("pair") == query["run"]:
        del query["pair"]
    asked = Question.of_link(query)
    if "pair" in query and asked.student not in own:
        own = [asked.student, *own]  # somebody else's, who gave this link away
    fields = [
        _read(field, query[field.name]) if name == view and field.name in query else gr.skip()
        for name, part in parts.items()
        for field in part.fields
    ]
    word = gr.HTML(notice(ToldError(_GONE)), visible=True) if gone else gr.skip()
    return [
        word,
        gr.Tabs(selected=view),
        view,
        {**query, "view": view} if query else None,
        *describe(asked, own),
        *fields,
    ]


def _written(value: Any) -> str:
    """A control's value as a query parameter; `_read` gives it back."""
    if isinstance(value, bool):
        return str(int(value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _read(field: Field, text: str) -> Any:
    """A control's value from a query parameter.

    Raises:
        InputError: the control does not take it.
    """
    control = field.control
    listed = [(None, False), (None, True)] if isinstance(control, gr.Checkbox) else getattr(control, "choices", None)
    if listed:
        choices = {_written(value): value for _, value in listed}
        if text not in choices:
            raise InputError(f"{field.name} is one of {', '.join(choices)}; got '{text}'")
        return choices[text]
    if isinstance(control, gr.Slider | gr.Number):
        return _number(field.name, text, control)
    field.check(text)
    return text


def _number(name: str, text: str, control: gr.Slider | gr.Number) -> float:
    low, high = control.minimum, control.maximum
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise InputError(f"{name} is a number from {low} to {high}; got '{text}'")
    return int(number) if number.is_integer() else number
