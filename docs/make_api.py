"""Writes docs/api.md, the reference of everything public, from the source:

    python -m pip install -e ".[docs]"
    python docs/make_api.py

Read by griffe, without importing anything: signatures and shapes stand as they were written. What `explorer` loads late
is found through the imports for type checkers in explorer/__init__.py. Takes a few seconds.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "api.md"
HEAD = """# API

Everything public, as `import explorer as ex` offers it, and the widgets. Shapes are written in the signatures:
`Float[Tensor, "batch rows cols"]` is a tensor of real numbers with these three axes, `"..."` any axes. Written by
`python docs/make_api.py` from the docstrings; edit those.
"""
WIDTH = 100
_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$")
_ENTRY = re.compile(r"^([^\s:][^:]*): (.*)$")


def main() -> None:
    """Write the file."""
    package = griffe.load("explorer", search_paths=[str(ROOT)], resolve_aliases=True)
    assert isinstance(package, griffe.Module)
    names = [f"ex.{name}" for name in _exports(package)]
    names += [f"explorer.widgets.{name}" for name in _exports(package["widgets"])]
    homes: dict[str, list[str]] = {}
    for name in names:
        homes.setdefault(_target(package, name).module.path, []).append(name)
    parts = [HEAD, _contents(homes)]
    for home in sorted(homes):
        about = package.modules_collection[home].docstring
        parts.append(f"## `{home}`\n")
        if about is not None and home != "explorer":
            parts.append(_text(about.value.split("\n\n")[0]))
        parts += [_public(name, _target(package, name)) for name in homes[home]]
    OUT.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def _exports(module: griffe.Object | griffe.Alias) -> list[str]:
    return [str(name).strip("'\"") for name in module.exports or ()]


def _target(package: griffe.Module, name: str) -> griffe.Object:
    """What a public name means: ex.Pair, explorer.widgets.PatchExplorer."""
    found = package[name.split(".", 1)[1]]
    return found.final_target if found.is_alias else found


def _contents(homes: dict[str, list[str]]) -> str:
    """Links to the headings, as GitHub names them: small letters, and a number where two would be the same."""
    seen: Counter[str] = Counter()
    rows = []
    for home in sorted(homes):
        links = []
        for name in homes[home]:
            anchor = name.lower().replace(".", "")
            links.append(f"[`{name}`](#{anchor}{f'-{seen[anchor]}' if seen[anchor] else ''})")
            seen[anchor] += 1
        rows.append(f"- `{home}`: {', '.join(links)}")
    return "\n".join(rows) + "\n"


def _public(name: str, found: griffe.Object) -> str:
    parts = [f"### `{name}`\n"]
    name = name.rsplit(".", 1)[1]
    if isinstance(found, griffe.Class):
        named = _signature("class", name, found.parameters, None)
        bases = ", ".join(str(base).rpartition(".")[2] for base in found.bases)
        kind = f"class {name}({bases})" if named.endswith("()") and bases else named
        parts += [_code(kind), _doc(found), *_members(name, found)]
    elif isinstance(found, griffe.Function):
        parts += [_code(_signature("def", name, found.parameters, found.returns)), _doc(found)]
    else:
        annotation = getattr(found, "annotation", None)
        parts += [_code(f"{name}: {annotation}") if annotation else "", _doc(found)]
    return "\n".join(part for part in parts if part)


def _members(name: str, found: griffe.Class) -> Iterator[str]:
    """Properties in a list, then methods one by one."""
    shown = [each for each in found.members.values() if each.name == "__call__" or not each.name.startswith("_")]
    properties = [each for each in shown if "property" in each.labels]
    if properties:
        lines = [f"- `{each.name}`: `{_annotation(each.annotation)}`. {_first(each)}" for each in properties]
        yield "**Properties**\n\n" + "\n".join(lines) + "\n"
    for each in shown:
        if isinstance(each, griffe.Function) and "property" not in each.labels:
            yield f"#### `{name}.{each.name}`\n"
            yield _code(_signature("def", each.name, each.parameters, each.returns))
            yield _doc(each)


def _first(found: griffe.Object | griffe.Alias) -> str:
    return " ".join(found.docstring.value.split("\n\n")[0].split()) if found.docstring else ""


def _signature(
    word: str, name: str, parameters: griffe.Parameters, returns: griffe.Expr | str | None, width: int = WIDTH
) -> str:
    """On one line, or one parameter on a line."""
    shown = [text for text in _parameters(parameters) if text != "self"]
    end = f") -> {_annotation(returns)}" if returns is not None else ")"
    line = f"{word} {name}({', '.join(shown)}{end}"
    if len(line) <= width:
        return line
    return f"{word} {name}(\n" + "".join(f"    {text},\n" for text in shown) + end


def _parameters(parameters: griffe.Parameters) -> Iterator[str]:
    keywords = False
    for one in parameters:
        if one.kind is griffe.ParameterKind.var_positional:
            keywords = True
        elif one.kind is griffe.ParameterKind.keyword_only and not keywords:
            keywords = True
            yield "*"
        star = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(one.kind, "")
        text = star + one.name + (f": {_annotation(one.annotation)}" if one.annotation is not None else "")
        yield text if one.default is None or star else f"{text} = {_double(str(one.default))}"


def _annotation(expression: griffe.Expr | str | None) -> str:
    """As in the source; one that is quoted as a whole loses its quotes."""
    text = str(expression)
    try:
        whole = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        whole = None
    return _double(whole if isinstance(whole, str) else text)


def _double(text: str) -> str:
    return re.sub(r"'([^'\"]*)'", r'"\1"', text)


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"


def _doc(found: griffe.Object) -> str:
    return _text(found.docstring.value) if found.docstring else ""


def _text(doc: str) -> str:
    """A docstring as Markdown: its sections become lists."""
    out: list[str] = []
    section = ""
    for line in doc.splitlines():
        heading = _SECTION.match(line)
        if heading:
            section = heading[1]
            out += [f"**{section}**", ""]
            continue
        if section and line and not line.startswith(" "):
            section = ""
        body = line[4:] if section else line
        entry = _ENTRY.match(body) if section and body and not body.startswith(" ") else None
        if entry:
            out.append(f"- {_entry_names(entry[1])}: {entry[2]}")
        elif section and body:
            out.append(f"  {body.strip()}" if out[-1].startswith(("- ", "  ")) else body.strip())
        else:
            out.append(re.sub(r"::$", ":", line))
    return "\n".join(out).rstrip() + "\n"


def _entry_names(text: str) -> str:
    names = text.split(", ")
    plain = all(re.fullmatch(r"\*{0,2}[\w.]+", name) for name in names)
    return ", ".join(f"`{name}`" for name in names) if plain else text


if __name__ == "__main__":
    main()
