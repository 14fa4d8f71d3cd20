"""What axe-core finds on a page. npm brings it, as `.ci/run` brings the linter."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

PACKAGE = "axe-core@4.10.3"
_RUN = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  const found = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  return found.flatMap(({ id, nodes }) => nodes.map((node) =>
    [id, node.target.join(" "), node.html.slice(0, 200), node.failureSummary]));
}"""


def axe_source(folder: Path) -> str:
    """The script, fetched into a folder; no lock file, so that it names no registry.

    Skips the test where there is no npm.
    """
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm, which brings axe-core, is not installed")
    quiet = ("--silent", "--no-save", "--no-package-lock", "--no-audit", "--no-fund")
    subprocess.run([npm, "install", *quiet, "--prefix", str(folder), PACKAGE], check=True, timeout=300)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Page, source: str) -> list[Any]:
    """What is serious or critical: [rule, selector, element, what would mend it]."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(source)
    return list(page.evaluate(_RUN))
