"""`vit-explorer fit-probe` and `predict` as a person meets them: a file, a table, and one line for bad input."""

import json
from pathlib import Path

import pandas as pd
import pytest

from explorer import load_image, load_pair, load_probe
from explorer.distortions import distortion
from tests.small import break_some, picture_folder
from tests.together import Run

pytestmark = pytest.mark.weights


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return picture_folder(tmp_path / "pictures", per_class=3)


def test_a_student_s_probe_is_fitted_kept_and_asked(run: Run, images: Path, tmp_path: Path) -> None:
    done = run("fit-probe", images, "--student", "s14-noise", "--size", 28, "--out", "p.safetensors", "--seed", 4)
    assert done.returncode == 0, done.stderr
    assert "3 classes: blue (3), green (3), red (3)" in done.stdout
    assert "student of s14, trained on gaussian_noise" in done.stdout
    assert done.stdout.endswith("wrote p.safetensors\n")
    pictures = (images / "red" / "0.png", images / "blue" / "1.png")
    words = ("--distortion", "gaussian_noise(sigma=0.3)", "--seed", 1, "--top", 2)
    done = run("predict", *pictures, "--probe", "p.safetensors", *words, "--csv", "p.csv", "--json", "p.json")
    assert done.returncode == 0, done.stderr
    probe = load_probe(tmp_path / "p.safetensors", load_pair("s14-noise", image_size=28, device="cpu").student)
    damage = distortion("gaussian_noise(sigma=0.3)")
    seen = [probe.top(damage(load_image(picture, 28)[None], seed=1), 2)[0] for picture in pictures]
    table = pd.read_csv(tmp_path / "p.csv")
    assert list(table.columns) == ["picture", "rank", "class", "probability"]
    assert table["picture"].tolist() == [str(picture) for picture in pictures for _ in range(2)]
    assert table["class"].tolist() == [name for shown in seen for name, _ in shown]
    assert table["probability"].tolist() == pytest.approx([chance for shown in seen for _, chance in shown], abs=1e-6)
    for name, chance in seen[0]:
        assert f"  {name}" in done.stdout
        assert f"{chance:.3f}" in done.stdout
    about = json.loads((tmp_path / "p.json").read_text())
    assert about["fitted_on"] == {"blue": 3, "green": 3, "red": 3}
    assert [sum(row["probabilities"].values()) for row in about["pictures"]] == pytest.approx([1, 1])
    # The same student by its name, and another one.
    assert run("predict", pictures[0], "--probe", "p.safetensors", "--student", "s14-noise").returncode == 0
    other = run("predict", pictures[0], "--probe", "p.safetensors", "--student", "s14-blur")
    assert other.returncode == 2
    assert "was fitted on 's14', student of s14, trained on gaussian_noise" in other.stderr


def test_labels_of_a_file_and_broken_pictures(run: Run, images: Path) -> None:
    break_some(images)
    flat = images.parent / "flat"
    flat.mkdir()
    lines = ["file,label"]
    for file in images.glob("*/*"):
        (flat / f"{file.parent.name}-{file.name}").write_bytes(file.read_bytes())
        lines.append(f"{file.parent.name}-{file.name},{'warm' if file.parent.name == 'red' else 'cold'}")
    (images.parent / "labels.csv").write_text("\n".join(lines))
    ask = ("fit-probe", flat, "--labels", "labels.csv", "--size", 28, "--out", "p.safetensors")
    done = run(*ask)
    assert done.returncode == 2
    assert "--skip-broken does without such pictures" in done.stderr
    done = run(*ask, "--skip-broken")
    assert done.returncode == 0, done.stderr
    assert "2 classes: cold (6), warm (3)" in done.stdout
    assert "skipped 3 pictures" in done.stderr


def test_bad_input_is_one_line(run: Run, images: Path, tmp_path: Path) -> None:
    (tmp_path / "there.safetensors").write_text("mine")
    picture = images / "red" / "0.png"
    fit, out = ("fit-probe", images, "--size", 28), ("--out", "new.safetensors")
    ask = ("predict", picture, "--probe", "there.safetensors")
    for words, part in [
        ((*fit, "--out", "there.safetensors"), "--force overwrites it"),
        ((*fit, "--out", "probe.pkl"), "--out takes a file that ends in .safetensors"),
        (("fit-probe", images / "red", *out), "these have none: put them into one folder for each class"),
        (("fit-probe", images, *out, "--limit", 1), "show 'blue' alone"),
        (("fit-probe", tmp_path / "none", *out), "does not exist"),
        ((*fit, *out, "--distortion", "fogg"), "did you mean 'fog'?"),
        ((*fit, *out, "--student", "s14-nois"), "s14-noise"),
        ((*fit, *out, "--student", "s14-noise", "--backbone", "s14"), "not allowed with argument"),
        (ask, "is no probe that can be read"),
        (("predict", picture, "--probe", "none.safetensors"), "a file that is there"),
        (("predict", "none.png", "--probe", "there.safetensors"), "'none.png' does not exist"),
        ((*ask, "--csv", picture, "--force"), "is the picture itself"),
        ((*ask, "--csv", "there.safetensors", "--force"), "is the probe itself"),
    ]:
        done = run(*words)
        assert done.returncode == 2, done.stdout
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert part in done.stderr
        assert done.stdout == ""
    assert (tmp_path / "there.safetensors").read_text() == "mine"
    assert not (tmp_path / "new.safetensors").exists()
