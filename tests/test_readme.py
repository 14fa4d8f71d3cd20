"""The README's Python runs as it is printed, and its commands are the ones that CI runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.weights
def test_the_python_runs(tmp_path: Path) -> None:
    """All of it in its order, with two steps of training and 40 pictures where it prints a hundred."""
    code = "\n".join(blocks("python"))
    assert code.count("steps=100") == 1
    assert code.count("runs/noise") == 2
    assert code.count("limit=100") == 1
    shorter = {"steps=100": "steps=2", "limit=100": "limit=40", "runs/noise": str(tmp_path / "noise")}
    for printed, run in shorter.items():
        code = code.replace(printed, run)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "cls_cosine" in done.stdout
    assert "torch.Size([4, 16, 16])" in done.stdout
    assert "\n2 " in done.stdout


def test_ci_runs_the_test_command() -> None:
    command = next(block.strip() for block in blocks("bash") if "pytest" in block)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_local_links_and_pictures_exist() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert targets
    assert not missing
