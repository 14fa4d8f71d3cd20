"""What a tab is to the page, and what the tabs have in common."""

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from explorer_app.column.sidebar import Sidebar
from explorer_app.service.errors import ToldError
from explorer_app.service.question import Question


@dataclass(frozen=True)
class Page:
    """What a tab may read and write beside its own parts.

    Attributes:
        column: the left column.
        problem: the line above the tabs; takes a `notice`.
        tabs, shown: all tabs, and the id of the one that is open.
        opened: the event after which this tab is open, and drawn.
        redraw: settings of an event that draws the open tab again.
        load: the event of a page that opens.
    """

    column: Sidebar
    problem: gr.HTML
    tabs: gr.Tabs
    shown: gr.State
    opened: Any
    redraw: dict[str, Any]
    load: Any


@dataclass(frozen=True)
class Tab:
    """One tab, as its module registers it in `tabs.TABS`.

    Attributes:
        id, label: what events and links call it, and what people do.
        build: lays out its content beside the left column; returns its parts.
        help: "How to read this".
        connect: takes its parts and the page, once everything is laid out.
        output: of its parts the one that follows the left column while the tab is open.
        depends: what of the question it shows.
        draw: what `output` and the line of weights show. Without it, `output` shows `changed` instead as soon as what
            it depends on has changed since the tab was opened.
    """

    id: str
    label: str
    build: Callable[[Sidebar], Any]
    help: str = ""
    connect: Callable[[Any, Page], None] | None = None
    output: Callable[[Any], gr.HTML] | None = None
    depends: Callable[[Question], Any] = lambda question: question
    draw: Callable[[Question], tuple[Any, str]] | None = None
    changed: str = ""


def notice(error: ToldError | None = None) -> str:
    """The line above the tabs: empty, or what went wrong."""
    return "" if error is None else f'<p class="notice" role="alert">{html.escape(str(error))}</p>'


def weights_line(question: Question) -> str:
    """Which weights these are, in words."""
    return f"Weights: {html.escape(question.teacher().source)}"
