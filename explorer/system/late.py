"""Modules that are imported when something of them is first used: `Late`.

For those that take seconds and that a program may well do without, where too many functions use them for an import in
each.
"""

from importlib import import_module
from typing import Any


class Late:
    """Stands for a module. Type checkers are given the module itself:

    if TYPE_CHECKING:
        import timm
    else:
        timm = Late("timm")
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)
