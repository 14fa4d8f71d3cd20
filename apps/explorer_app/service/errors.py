"""Errors in words for people."""

import html
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from explorer.errors import InputError, is_for_users, one_line
from explorer.models.checkpoints import HubError
from explorer_app.service.limits import LIMITS
from explorer_app.service.pictures import without_paths

OWN_FILE = 'or open a file of them below "Your own checkpoint"'
"""What the page offers besides, where it is not public."""
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
        raise ToldError(in_words(error)) from error


def in_words(error: Exception) -> str:
    """One line, which does not tell where this machine keeps its folders, and advises what the page offers."""
    if isinstance(error, HubError):
        advice = "Choose a backbone whose weights come without the hub: the first ones of the list"
        return without_paths(" ".join(f"{error.reason}. {advice}{'' if LIMITS.public else ', ' + OWN_FILE}".split()))
    return without_paths(one_line(error))


def notice(error: ToldError | None = None) -> str:
    """A line for what went wrong, as HTML; empty where nothing did."""
    return "" if error is None else f'<p class="notice" role="alert">{html.escape(str(error))}</p>'
