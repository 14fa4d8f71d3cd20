"""The floors of the design, read from the source: imports go downward, and sideways only where it is drawn here."""

import ast
from pathlib import Path

import pytest

import explorer

PACKAGE = Path(__file__).parents[1] / "explorer"
FLOORS = (
    {"images", "trace", "precision", "onnx_weights", "fitting", "_files", "_replacement"},
    {"data", "distortions", "capture", "weights", "metrics", "adapters", "processes", "views", "rows", "reading"}
    | {"checkpoints", "dialects", "lora_files", "picture_files", "positions"},
    {
        "architectures",
        "backbones",
        "own_modules",
        "maps",
        "similarity",
        "projection",
        "probes",
        "losses",
        "targets",
        "labels",
    },
    {"comparison", "pairs", "distill_config", "distillation", "recovery", "attribution"}
    | {"features", "pair_embedding", "evaluation", "sweeping", "restoration", "finetuning"},
    {"scene", "map_scene", "pages", "plots", "charts", "animation", "widgets", "web"}
    | {"cli", "training_cli", "measuring_cli", "backbones_cli"},
)
SIDEWAYS = {("animation", "plots"), ("charts", "plots"), ("cli", "plots"), ("cli", "scene"), ("map_scene", "scene")}
SIDEWAYS |= {("pages", beside) for beside in ("scene", "map_scene", "web")} | {("cli", "pages"), ("widgets", "pages")}
SIDEWAYS |= {("widgets", beside) for beside in ("charts", "map_scene", "plots", "scene", "web")}
SIDEWAYS |= {
    ("data", "picture_files"),
    ("weights", "checkpoints"),
    ("checkpoints", "dialects"),
    ("lora_files", "checkpoints"),
    ("lora_files", "dialects"),
    ("positions", "checkpoints"),
    ("own_modules", "backbones"),
    ("own_modules", "architectures"),
    ("backbones", "architectures"),
}
SIDEWAYS |= {("cli", "training_cli"), ("training_cli", "cli")}  # one command line in two files
SIDEWAYS |= {("cli", "backbones_cli"), ("backbones_cli", "cli")}
SIDEWAYS |= {
    ("cli", "measuring_cli"),
    ("measuring_cli", "cli"),
    ("measuring_cli", "charts"),
    ("measuring_cli", "plots"),
}
SIDEWAYS |= {
    ("evaluation", "features"),
    ("evaluation", "pairs"),
    ("evaluation", "pair_embedding"),
    ("sweeping", "pairs"),
}
SIDEWAYS |= {("sweeping", "features"), ("pair_embedding", "features"), ("pair_embedding", "pairs")}
SIDEWAYS |= {("distillation", beside) for beside in ("pairs", "distill_config")}
FLOOR_OF = {module: number for number, floor in enumerate(FLOORS) for module in floor}
INTERFACES = {"gradio", "ipywidgets", "anywidget", "IPython", "apps", "notebooks", "tests"}
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem[:2] != "__")


def module_of(path: Path) -> str:
    """explorer/distortions/parsing.py -> "distortions"; explorer/maps.py -> "maps"."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


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


def violations(module: str, source: str) -> list[str]:
    """What `module` imports of explorer that is neither below it nor drawn; a public name counts as its home."""
    names = {name.split(".")[1] for name in imported(source) if name.startswith("explorer.")}
    own = {explorer._MODULE_OF.get(name, name) for name in names} - {module, "__version__"}
    return sorted(name for name in own if FLOOR_OF.get(name, 99) >= FLOOR_OF[module] and (module, name) not in SIDEWAYS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward(path: Path) -> None:
    module = module_of(path)
    assert module in FLOOR_OF, f"'{module}' stands on no floor: add it to FLOORS, and to the design"
    assert violations(module, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_knows_no_interface(path: Path) -> None:
    packages = {name.split(".")[0] for name in imported(path.read_text(encoding="utf-8"))}
    allowed = INTERFACES if module_of(path) in ("widgets", "cli") else set()
    assert packages & INTERFACES - allowed == set()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("maps", "from explorer.similarity import alignment"),
        ("capture", "import explorer.backbones"),
        ("scene", "from explorer import web"),
        ("trace", "def late():\n    from explorer.maps import rollout"),
        ("maps", "from explorer import alignment"),
    ],
)
def test_a_violation_is_noticed(module: str, source: str) -> None:
    assert violations(module, source)


def test_every_module_was_found() -> None:
    assert {"trace", "backbones", "distortions"} <= {module_of(path) for path in SOURCES}
