"""What `import explorer` brings with it, and what it does not, in a fresh process."""

import inspect
import json
import subprocess
import sys

import pytest

import explorer

HEAVY = ("gradio", "matplotlib", "plotly", "umap", "numba", "captum", "sklearn", "pandas", "onnx", "peft", "kornia")
HEAVY += ("ipywidgets", "anywidget", "IPython", "timm", "torchvision")


def modules_after(code: str) -> set[str]:
    """Top-level packages that are loaded after `code` ran in a fresh interpreter."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_is_light() -> None:
    loaded = modules_after("import explorer; explorer.load_backbone; explorer.load_image; explorer.alignment")
    assert "torch" in loaded
    assert loaded & set(HEAVY) == set()


def test_bare_import_does_not_even_load_torch() -> None:
    assert "torch" not in modules_after("import explorer")


@pytest.mark.parametrize("name", explorer.__all__)
def test_public_names_resolve_and_are_explained(name: str) -> None:
    value = getattr(explorer, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value), f"explorer.{name} has no docstring"
        assert value.__name__ == name


def test_star_import_and_dir_agree() -> None:
    assert dir(explorer) == sorted(explorer.__all__)
    assert len(set(explorer.__all__)) == len(explorer.__all__)


def test_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'lode_backbone'.*load_backbone"):
        _ = explorer.lode_backbone
