"""docs/api.md is of the code as it is: every public name is in it with its signature, its methods, and its summary."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import explorer

REFERENCE = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
OUT_OF_DATE = "docs/api.md is out of date: python docs/make_api.py"
WIDGETS = importlib.import_module("explorer.widgets").__all__
NAMES = [f"ex.{name}" for name in explorer.__all__] + [f"explorer.widgets.{name}" for name in WIDGETS]


def chapters(level: int, text: str) -> dict[str, str]:
    """Heading -> what is below it, up to the next one of its level or above."""
    parts = re.split(rf"^(#{{2,{level}}}) `(.+)`$", text, flags=re.MULTILINE)
    found = zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    return {name: body for marks, name, body in found if len(marks) == level}


def written(body: str) -> ast.FunctionDef | None:
    """The signature in a chapter's first block of code, read as a function."""
    block = re.search(r"```python\n(?:def|class) (.+?)\n```", body, re.DOTALL)
    parsed = ast.parse(f"def {block[1]}: ...").body[0] if block and "(" in block[1] else None
    assert parsed is None or isinstance(parsed, ast.FunctionDef)
    return parsed


def in_source(name: str, inside: ast.AST) -> ast.FunctionDef | ast.ClassDef:
    nodes = [node for node in ast.walk(inside) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return next(node for node in reversed(nodes) if node.name == name)


def same(shown: ast.FunctionDef, source: ast.FunctionDef) -> bool:
    """Quotes around whole annotations do not count, nor does `self`."""

    def told(node: ast.FunctionDef) -> list[str]:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        named = [f"{one.arg}: {plain(one.annotation)}" for one in arguments if one.arg != "self"]
        rest = [f"*{star.arg}: {plain(star.annotation)}" for star in (node.args.vararg, node.args.kwarg) if star]
        defaults = [ast.unparse(one) for one in [*node.args.defaults, *node.args.kw_defaults] if one]
        return [*named, *rest, *defaults, plain(node.returns), str(len(node.args.kwonlyargs))]

    return told(shown) == told(source)


def plain(annotation: ast.expr | None) -> str:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    return ast.unparse(annotation) if annotation else ""


def test_these_names_and_no_others() -> None:
    assert set(chapters(3, REFERENCE)) == set(NAMES), OUT_OF_DATE


@pytest.mark.parametrize("name", NAMES)
def test_signature_and_summary_are_of_the_code(name: str) -> None:
    place, short = name.rsplit(".", 1)
    found = getattr(explorer if place == "ex" else importlib.import_module(place), short)
    body = chapters(3, REFERENCE)[name]
    if not inspect.isclass(found) and not inspect.isfunction(found):
        return
    home = ast.parse(Path(inspect.getsourcefile(inspect.unwrap(found)) or "").read_text(encoding="utf-8"))
    source = in_source(short, home)
    summary = (ast.get_docstring(source) or "").splitlines()[0]
    assert summary in body, OUT_OF_DATE
    shown = written(body)
    if isinstance(source, ast.FunctionDef):
        assert shown is not None
        assert same(shown, source), OUT_OF_DATE
        return
    if not issubclass(found, Exception | tuple):
        assert shown is not None
        expected = [one for one in inspect.signature(found).parameters if one != "self"]
        arguments = [*shown.args.posonlyargs, *shown.args.args, *shown.args.kwonlyargs]
        stars = [star for star in (shown.args.vararg, shown.args.kwarg) if star]
        assert [one.arg for one in arguments + stars] == expected, OUT_OF_DATE
    methods = [node for node in source.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
    below = chapters(4, REFERENCE)
    for method in methods:
        if any("property" in ast.unparse(each) or "setter" in ast.unparse(each) for each in method.decorator_list):
            assert f"- `{method.name}`" in body, OUT_OF_DATE
            continue
        shown = written(below[f"{short}.{method.name}"])
        assert shown is not None
        assert same(shown, method), f"{OUT_OF_DATE}: {method.name}"
