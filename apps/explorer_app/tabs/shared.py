"""What a tab is to the page, and what the tabs have in common."""

import html
from collections.abc import Callable
from dataclasses import dataclass, field
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
        opened: the event after which this tab is open.
        load: the event of a page that opens.
        redrawn: events after which the open tab is drawn again, and settings of that.
    """

    column: Sidebar
    problem: gr.HTML
    tabs: gr.Tabs
    shown: gr.State
    load: Any
    opened: Any = None
    redrawn: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)

    def redraw_after(self, event: Any, **settings: Any) -> None:
        """Draw the open tab again after this event."""
        self.redrawn.append((event, settings))


@dataclass(frozen=True)
class Tab:
    """One tab, as its module registers it in `tabs.TABS`.

    Attributes:
        id, label: what events and links call it, and what people do.
        build: lays out its content and connects it; returns the part that follows the left column while the tab is
            open, if there is one.
        help: "How to read this".
        depends: what of the question that part shows.
        draw: what it shows.
        changed: what it shows instead, where there is no `draw`, once the question has changed since it was opened.
    """

    id: str
    label: str
    build: Callable[[Page], Any]
    help: str = ""
    depends: Callable[[Question], Any] = lambda question: question
    draw: Callable[[Question], Any] | None = None
    changed: str | None = None


def notice(error: ToldError | None = None) -> str:
    """The line above the tabs: empty, or what went wrong."""
    return "" if error is None else f'<p class="notice" role="alert">{html.escape(str(error))}</p>'
