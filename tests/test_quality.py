"""The tools that keep the source tidy, run as a person would run them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy"])
def test_tool_has_nothing_to_say(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_a_known_vulnerability_ends_the_audit(tmp_path: Path) -> None:
    """`.ci/audit.py` on reports as pip-audit writes them."""
    mended = {"id": "PYSEC-2020-1", "fix_versions": ["1.1"]}
    sound, hurt = ({"name": name, "version": "1.0", "vulns": vulns} for name, vulns in (("a", []), ("b", [mended])))
    unknown = {"name": "c", "skip_reason": "Dependency not found"}

    def audited(*dependencies: dict) -> tuple[int, str]:
        report = tmp_path / "report.json"
        report.write_text(json.dumps({"dependencies": dependencies, "fixes": []}))
        command = [sys.executable, str(ROOT / ".ci" / "audit.py"), str(report)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    assert audited(sound, unknown) == (
        0,
        "audited 1 of 2 packages: 0 with known vulnerabilities\nthe database does not know 1: c\n",
    )
    assert audited(sound, hurt) == (
        1,
        "b 1.0: PYSEC-2020-1, mended in 1.1\naudited 2 of 2 packages: 1 with known vulnerabilities\n",
    )
