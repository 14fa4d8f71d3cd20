"""Python in README and docs runs as it is printed, links lead somewhere, and CI runs the README's test command."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.weights
@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("README.md", ("cls_cosine", "torch.Size([4, 16, 16])", "\n2 ")),
        ("docs/library.md", ("cls_cosine", "retrieval", "corruption", "\n2 ")),
    ],
)
def test_the_python_runs(page: str, printed: tuple[str, ...], tmp_path: Path) -> None:
    """All of a page in its order, with two steps of training, and 40 pictures where it takes a hundred."""
    code = "\n".join(blocks(page, "python"))
    assert code.count("steps=100") == 1
    code = code.replace("steps=100", "steps=2").replace("limit=100", "limit=40").replace('"assets/', f'"{ROOT}/assets/')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for each in printed:
        assert each in done.stdout


def test_its_accuracies_are_those_of_the_results() -> None:
    rows = {
        "clean backbone, probe on distorted pictures": "frozen + probe",
        "blind restoration, then the clean backbone": "blind restoration + probe",
        "fine-tuned with the labels, then a probe": "fine-tuned + probe",
        "contrastive student (Ravula et al. 2021)": "contrastive student",
        "student of the global level alone": "global-level student",
        "three-level student, mean of three seeds": "three-level student",
    }
    damages = ("gaussian_noise(sigma=0.3)", "pixel_mask(fraction=0.75)", "gaussian_blur(kernel=21, sigma=5)")
    with (ROOT / "docs" / "results.csv").open(encoding="utf-8", newline="") as table:
        found = {
            (cell["row"], cell["distortion"]): cell["accuracy"]
            for cell in csv.DictReader(table)
            if (cell["data"], cell["backbone"], cell["probe"]) == ("caltech101", "s14", "linear")
            and float(cell["label_fraction"]) == 1
        }
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    printed = dict(re.findall(r"^\| ([^|*]+) \|(.+)\|$", text, re.MULTILINE))
    for row, name in rows.items():
        expected = [float(found[name, damage]) for damage in damages]
        assert [float(cell.strip(" *")) for cell in printed[row].split("|")] == pytest.approx(expected, abs=0.00051)


def test_ci_runs_the_test_command() -> None:
    command = next(block.strip() for block in blocks("README.md", "bash") if "pytest" in block)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md"))])
def test_local_links_and_pictures_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    missing = [target for target in targets if not ((ROOT / page).parent / target).exists()]
    assert not missing


def test_each_page_is_listed() -> None:
    listed = set(re.findall(r"\]\(([a-z_]+\.md)\)", (ROOT / "docs" / "README.md").read_text(encoding="utf-8")))
    parts = {"README.md", "results_head.md", "results_reading.md"}  # of results.md
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")} - parts
