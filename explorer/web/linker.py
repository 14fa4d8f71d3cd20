"""Joins ES modules of this folder to one that needs nothing else.

Each module keeps a scope of its own, as the language gives it: the same name in two of them means two things. Enters:
a module's name. Leaves: one text, in which what it imports stands before it. What the modules do is ignored; they
import and export by name only, in the forms that the two patterns below tell. Comments that begin a line, with the
types in them, are for readers of the files: pages do without.
"""

import re
from collections.abc import Callable

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w-]+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class) (\w+))", re.MULTILINE)
_COMMENT = re.compile(r"^(?://.*|/\*\*(?s:.*?)\*/)\n", re.MULTILINE)
_OTHER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def linked(entry: str, read: Callable[[str], str]) -> str:
    """A module and all that it imports, directly or not, as one ES module with the exports of the first.

    Args:
        entry: the module's name, without `.js`.
        read: gives the source of the module of a name.

    Raises:
        ValueError: modules import each other in a circle, or a name that is not exported, or in another way.
    """
    exports: dict[str, list[str]] = {}  # of the modules that are done
    parts: list[str] = []

    def add(name: str, importers: tuple[str, ...]) -> None:
        if name in importers:
            raise ValueError(f"modules import each other in a circle: {' -> '.join((*importers, name))}")
        if name in exports:
            return
        source = read(name)
        for names, other in _IMPORT.findall(source):
            add(other, (*importers, name))
            for missing in sorted(set(_names(names)) - set(exports[other])):
                raise ValueError(f"{name}.js imports {missing}, which {other}.js does not export")
        exports[name] = _EXPORT.findall(source)
        given = f"{{ {', '.join(exports[name])} }}"
        start = f"const ${name}" if importers else f"export const {given}"
        parts.append(f"{start} = (() => {{\n{_body(name, source)}return {given};\n}})();\n")

    add(entry, ())
    return "\n".join(parts)


def _body(name: str, source: str) -> str:
    """What stands inside of a module's scope, with its imports taken from the modules before it."""
    source = _COMMENT.sub("", source)
    taken = _IMPORT.sub(lambda found: f"const {{ {', '.join(_names(found[1]))} }} = ${found[2]};", source)
    body = _EXPORT.sub("", taken).lstrip("\n")
    if unknown := _OTHER.search(body):
        raise ValueError(f"{name}.js imports or exports in a way that the linker does not know: {unknown[0]}")
    return body


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]
