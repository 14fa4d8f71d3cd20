"""The order of packages in docs/architecture.md, read from the source: each imports only from those before it."""

import ast
from pathlib import Path

import pytest

import explorer

PACKAGE = Path(__file__).parents[1] / "explorer"
ORDER = (
    *("system", "web", "data", "distortions", "models", "analysis", "training", "evaluation", "baselines"),
    *("inspection", "sessions", "plots", "scenes", "widgets", "cli"),
)
INTERFACES = {"gradio", "ipywidgets", "anywidget", "IPython", "apps", "notebooks", "tests"}
FOR_ALL = {"version", "errors"}
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def package_of(path: Path) -> str:
    """explorer/distortions/parsing.py -> "distortions"."""
    return path.relative_to(PACKAGE).parts[0]


def imported(source: str) -> set[str]:
    """Dotted names that a source imports, wherever in it; `from a import b` counts as a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written out: `from explorer.x import y`"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def violations(package: str, source: str) -> list[str]:
    """What `package` imports of explorer that does not stand before it; a public name counts as its home."""
    names = {name.split(".")[1] for name in imported(source) if name.startswith("explorer.")}
    homes = {explorer._MODULE_OF.get(name, name).split(".")[0] for name in names} - {package, *FOR_ALL}
    before = ORDER[: ORDER.index(package)]
    return sorted(home for home in homes if home not in before)


def test_the_order_names_every_package() -> None:
    assert set(ORDER) == {package_of(path) for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_come_from_packages_before(path: Path) -> None:
    assert violations(package_of(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_knows_no_interface(path: Path) -> None:
    packages = {name.split(".")[0] for name in imported(path.read_text(encoding="utf-8"))}
    allowed = INTERFACES if package_of(path) in ("widgets", "cli") else set()
    assert packages & INTERFACES - allowed == set()


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("models", "from explorer.analysis.similarity import alignment"),
        ("models", "import explorer.training.losses"),
        ("data", "from explorer import distortions"),
        ("system", "def late():\n    from explorer.analysis.maps import rollout"),
        ("models", "from explorer import alignment"),
    ],
)
def test_a_violation_is_noticed(package: str, source: str) -> None:
    assert violations(package, source)
