"""The folder of the app, pushed as a Space: what its header and its requirements say is what the project is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import RepoCard
from packaging.requirements import Requirement

from explorer_app.service import limits

tomllib = pytest.importorskip("tomllib", reason="comes with Python 3.11")
ROOT = Path(__file__).parents[2]
APPS = ROOT / "apps"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (APPS / "README.md").read_text(encoding="utf-8")


def required(extra: str) -> set[str]:
    """What an extra installs beside the package, through the package's other extras."""
    found: set[str] = set()
    for line in PROJECT["project"]["optional-dependencies"][extra]:
        requirement = Requirement(line)
        inner = requirement.extras if requirement.name == PROJECT["project"]["name"] else ()
        found |= {line} if not inner else {name for part in inner for name in required(part)}
    return found


def test_the_header_is_that_of_a_gradio_space() -> None:
    header = RepoCard(README).data.to_dict()
    pinned = next(Requirement(line) for line in required("app") if line.startswith("gradio"))
    assert (header["sdk"], header["license"]) == ("gradio", PROJECT["project"]["license"].lower())
    assert pinned.specifier.contains(header["sdk_version"])
    assert header["title"] == PROJECT["project"]["name"]
    assert len(header["short_description"]) <= 60
    assert Requirement(f"python{PROJECT['project']['requires-python']}").specifier.contains(header["python_version"])
    assert "demo = build()" in (APPS / header["app_file"]).read_text(encoding="utf-8")


def test_the_requirements_are_those_of_the_app() -> None:
    lines = (APPS / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = {line for line in lines if not line.startswith("#")}
    bare = {line.partition("#")[0].strip() for line in PROJECT["project"]["dependencies"]}
    assert listed == bare | required("app")


def test_what_is_pushed_is_all_that_the_library_needs(tmp_path: Path) -> None:
    """The commands of the text, with links in the place of uploads; then the library is imported as a Space does."""
    parts = re.search(r"for part in (.+); do", README)
    assert parts is not None
    shipped = {name for name in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"] if "/" in name}
    assert {f"assets/{part}" for part in parts[1].split()} == shipped
    uploads = re.findall(r"hf upload USER/NAME (\S+) (\S+) --type space", README)
    assert uploads == [("apps", "."), ("explorer", "explorer"), ("assets/$part", "assets/$part")]
    for file in APPS.iterdir():
        (tmp_path / file.name).symlink_to(file)
    for folder in ("explorer", *sorted(shipped)):
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", ROOT / folder, tmp_path / folder], check=True)
    code = (
        "import explorer.system.files as files; print(files.__file__); print(files.asset_path('photos')); "
        "import explorer_app.service.limits as limits; print(limits.LIMITS.public)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"SPACE_ID": "a/b"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    home = tmp_path.resolve()
    expected = [home / "explorer" / "system" / "files.py", home / "assets" / "photos", True]
    assert done.stdout.split("\n")[:3] == list(map(str, expected))


def test_a_space_is_public_unless_it_is_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(limits.PUBLIC_VARIABLE, raising=False)
    assert not limits._from_environment().public
    monkeypatch.setenv("SPACE_ID", "somebody/vit-explorer")
    assert limits._from_environment().public
    monkeypatch.setenv(limits.PUBLIC_VARIABLE, "0")
    assert not limits._from_environment().public
