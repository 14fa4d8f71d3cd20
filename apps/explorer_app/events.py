"""How the page's events are asked for: hidden from programs, and one at a time where a model computes."""

import html
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from explorer_app.browser_view import RECALL
from explorer_app.service.errors import ToldError, told

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUICK: dict[str, Any] = {"show_progress": "hidden", **PRIVATE}
"""Not `queue=False`: Gradio reports a changed `gr.State` to the page only through the queue."""
AT_ONCE: dict[str, Any] = {"queue": False, **QUICK}
OPENING: dict[str, Any] = {"js": f"() => [({RECALL})()]", **AT_ONCE}
"""Of a page, with the names of students that its browser recalls."""
MODEL_QUEUE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, **PRIVATE}


def on_change(events: list[Any], function: Any, inputs: list[Any], outputs: list[Any], **settings: Any) -> None:
    """Run a function after any of these events; only the latest waiting request counts."""
    for event in events:
        event(function, inputs, outputs, trigger_mode="always_last", **MODEL_QUEUE, **settings)


def hush(page: gr.Blocks, nobody: gr.HTML) -> None:
    """Have events whose progress is hidden tell it to one element that shows nothing. Gradio tells it to all their
    outputs else, and from then on copies what each of these holds whenever anything goes on.
    """
    for event in page.fns.values():
        if event.show_progress == "hidden":
            event.show_progress_on = [nobody]


@contextmanager
def refused(in_page: bool = True, **settings: Any) -> Iterator[None]:
    """Show an error in words over the page, which takes it for HTML, or hand it to the program that asked.

    Args:
        settings: what `gr.Error` takes.
    """
    try:
        with told():
            yield
    except ToldError as error:
        words = html.escape(str(error)) if in_page else str(error)
        raise gr.Error(words, print_exception=False, **settings) from error
