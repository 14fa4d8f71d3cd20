"""What the tabs have in common: one function from the left column to what a tab shows, and how errors are told."""

import html
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from explorer.errors import InputError, is_for_users, one_line
from explorer.inspection.comparison import Comparison
from explorer_app.service import engine

MODEL_QUEUE = {"concurrency_id": "model", "concurrency_limit": 1}
_log = logging.getLogger(__name__)


class ToldError(Exception):
    """An error in words for people."""


@contextmanager
def told() -> Iterator[None]:
    """Turn what the library refuses into one readable sentence; anything unexpected is logged with its traceback."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, InputError):
            _log.log(logging.WARNING if is_for_users(error) else logging.ERROR, "request failed", exc_info=True)
        raise ToldError(one_line(error)) from error


def compare(
    picture: str | None, photo: str | None, spec: str, backbone: str, pair: str, size: int, seed: float | None
) -> tuple[Comparison, dict[str, str] | None]:
    """The comparison that the left column asks for, and the query parameters that reopen it.

    Raises:
        ToldError: bad input, or weights that cannot be had.
    """
    with told():
        whole = int(seed or 0)
        comparison = engine.compare(picture, spec, backbone, pair, int(size), whole)
        if photo is None:
            return comparison, None  # an uploaded picture is in nobody else's reach
        link = {"photo": photo, "distortion": comparison.distortion.spec, "backbone": backbone, "pair": pair}
        return comparison, {**link, "size": str(size), "seed": str(whole)}


def notice(error: ToldError | None = None) -> str:
    """The line above the tabs: empty, or what went wrong."""
    return "" if error is None else f'<p class="notice" role="alert">{html.escape(str(error))}</p>'


def weights_line(backbone: str, size: int) -> str:
    """Which weights these are, in words."""
    return f"Weights: {html.escape(engine.load_backbone(backbone, int(size)).source)}"


def sidebar_changes(column: Any) -> list[Any]:
    """The events after which every tab has to be drawn again."""
    return [
        column.picture.change,
        column.photo.change,  # an upload's picture may arrive before it is known that no link leads to it
        column.spec.change,
        column.seed.change,
        column.pair.input,
        column.size.input,
    ]


def on_change(events: list[Any], function: Any, inputs: list[Any], outputs: list[Any]) -> None:
    """Run a function after any of these events; only the latest waiting request counts."""
    for event in events:
        event(
            function,
            inputs,
            outputs,
            trigger_mode="always_last",
            show_progress="minimal",
            api_visibility="private",
            **MODEL_QUEUE,
        )
