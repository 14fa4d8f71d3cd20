"""Errors for people are told from bugs by their type."""

import ast
from pathlib import Path

import pytest

import explorer as ex
from explorer.data.folders import SplitsError
from explorer.errors import InputError, MissingExtraError, UserError, did_you_mean, is_for_users, one_line, unknown

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "explorer").rglob("*.py"), *(ROOT / "apps").rglob("*.py")])
OURS_TO_MEND = {"explorer/web/linker.py"}  # a page of ours that cannot be put together


def raised(source: str) -> set[str]:
    """Names of the exceptions that a source raises."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            found.add(node.exc.func.id)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_refused_is_refused_by_an_error_for_people(path: Path) -> None:
    if path.relative_to(ROOT).as_posix() not in OURS_TO_MEND:
        assert not raised(path.read_text(encoding="utf-8")) & {"ValueError", "RuntimeError", "ImportError"}


def test_they_are_still_what_python_calls_them() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(MissingExtraError, ImportError)
    assert issubclass(SplitsError, InputError)
    for name in ("ImageError", "PairError", "UnsupportedModelError"):
        assert issubclass(getattr(ex, name), InputError), name
    for name in ("WeightsError", "CaptureError", "DivergedError"):
        assert issubclass(getattr(ex, name), UserError), name
        assert issubclass(getattr(ex, name), RuntimeError), name


@pytest.mark.parametrize("error", [InputError("x"), OSError("x"), MemoryError("x"), MissingExtraError("x", "app")])
def test_people_are_told_what_to_mend(error: Exception) -> None:
    assert is_for_users(error)
    assert one_line(error) == str(error)


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), ImportError("x"), KeyError("x"), IndexError()])
def test_a_bug_is_told_as_one(error: Exception) -> None:
    assert not is_for_users(error)
    assert "this is a bug in vit-explorer" in one_line(error)
    assert type(error).__name__ in one_line(error)


def test_lines_are_joined() -> None:
    assert one_line(InputError("one\n  two")) == "one two"
    assert one_line(MemoryError()) == "MemoryError"


def test_near_names_are_suggested() -> None:
    assert did_you_mean("nose", ("noise", "blur")) == "; did you mean 'noise'?"
    assert did_you_mean("qqq", ("noise", "blur")) == ""
    assert str(unknown("probe", "lineal", ("knn", "linear"))) == (
        "unknown probe 'lineal'; did you mean linear? There are: knn, linear"
    )
    assert str(unknown("probe", "qqq", ("knn",))) == "unknown probe 'qqq'; There are: knn"
