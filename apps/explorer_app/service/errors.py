"""Errors in words for people."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from explorer.errors import InputError, is_for_users, one_line
from explorer_app.service.pictures import without_paths

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
    """One line, which does not tell where this machine keeps its folders."""
    return without_paths(one_line(error))
