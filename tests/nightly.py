"""Which cases of a parametrized test are left to the slow set."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def left(names: Iterable[str], to_the_night: Collection[str]) -> list[Any]:
    """All names, as `parametrize` takes them; these are marked as slow."""
    return [pytest.param(name, marks=pytest.mark.slow if name in to_the_night else ()) for name in names]
