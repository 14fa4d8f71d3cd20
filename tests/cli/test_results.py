"""`vit-explorer evaluate`, `sweep`, `benchmark`, `embed` as a person meets them: tables, files, bad input."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from torch import Tensor

from explorer import load_benchmark
from explorer.data.image import to_pil
from tests.small import break_some, picture_folder, segmented_folder
from tests.together import Run

pytestmark = pytest.mark.weights

Refused = Callable[[list[object], str], None]
SMALL = ("--size", 28)  # two patches a side: quick, and good for nothing else


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return picture_folder(tmp_path / "pictures", per_class=4)


@pytest.fixture
def refused(run: Run) -> Refused:
    """Check that a command line is answered by exit code 2 and one line that says this."""

    def check(words: list[object], part: str) -> None:
        done = run(*words)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert part in done.stderr
        assert done.stdout == ""

    return check


def test_embed_writes_a_table_a_figure_and_what_it_is_about(run: Run, images: Path, tmp_path: Path) -> None:
    files = ("--csv", "p.csv", "--json", "p.json", "--figure", "p.png")
    done = run("embed", "s14-noise", "--images", images, *SMALL, *files)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "p.csv")
    assert len(table) == 4 * 12
    about = json.loads((tmp_path / "p.json").read_text())
    assert about["pair"] == "s14-noise"
    assert about["distortion"] == "gaussian_noise(sigma=0.1..0.5)"
    assert len(about["weights_sha256"]) == len(about["student_sha256"]) == 64
    assert about["rows"] == json.loads(table.to_json(orient="records"))
    means = table.groupby("view")["displacement"].mean()
    for row in about["measures"]:
        assert means[row["view"]] == pytest.approx(row["displacement"], abs=1e-9)
        assert f"{row['displacement']:.3f}" in done.stdout
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_embed_takes_several_students(run: Run, images: Path, tmp_path: Path) -> None:
    words = ("embed", "s14-noise", "--student", "s14-mixture", "--images", images, *SMALL)
    refused = run(*words)
    assert (refused.returncode, "trained on different damage" in refused.stderr) == (2, True)
    done = run(*words, "--distortion", "gaussian_noise", "--json", "p.json", "--figure", "p.png")
    assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / "p.json").read_text())
    assert about["pair"] == ["s14-noise", "s14-mixture"]
    assert len(set(about["student_sha256"].values())) == 2
    told = {row["view"]: row["displacement"] for row in about["measures"]}
    views = [f"{name}_{kind}" for name in about["pair"] for kind in ("distorted", "clean")]
    assert list(told) == ["teacher_clean", "teacher_distorted", *views]
    assert told["s14-noise_distorted"] != told["s14-mixture_distorted"]
    assert "s14-mixture_distorted" in done.stdout


def test_sweep_takes_several_students(run: Run, images: Path, tmp_path: Path) -> None:
    words = ("sweep", "s14-noise", "--student", "s14-mask", "--images", images, *SMALL, "--values", "0.3")
    done = run(*words, "--csv", "s.csv", "--json", "s.json", "--figure", "s.png")
    assert done.returncode == 0, done.stderr
    assert list(pd.read_csv(tmp_path / "s.csv")["network"]) == ["teacher", "s14-noise", "s14-mask"]
    about = json.loads((tmp_path / "s.json").read_text())
    assert about["trained_on"]["s14-mask"] == "pixel_mask(fraction=0.5..0.9)"
    assert about["pair"] == ["s14-noise", "s14-mask"]
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_benchmark_takes_several_students(run: Run, refused: Refused, images: Path, tmp_path: Path) -> None:
    words = ("benchmark", "s14-noise", "--student", "s14-common", "--images", images, *SMALL)
    asked = (*words, "--corruptions", "fog,gaussian_noise", "--severities", "1,4")
    done = run(*asked, "--no-cache", "--csv", "b.csv", "--json", "b.json", "--figure", "b.png")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "b.csv")
    assert len(table) == 2 * 2 * 3
    assert list(table["view"][:3]) == ["teacher", "s14-noise", "s14-common"]
    found = load_benchmark(tmp_path / "b.json")
    pd.testing.assert_frame_equal(found.frame(), table, atol=1e-9)
    about = json.loads((tmp_path / "b.json").read_text())
    assert about["mean_error"] == pytest.approx(found.mean_error)
    assert about["pair"] == ["s14-noise", "s14-common"]
    assert f"{found.mean_error['s14-common']:.3f}" in done.stdout
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    refused([*words, "--severities", "6"], "severities: expected numbers from 1 to 5, ImageNet-C's; got 6")


def test_embed_and_evaluate_take_folders_of_real_pairs(run: Run, images: Path, tmp_path: Path) -> None:
    for file in images.rglob("*.png"):
        night = tmp_path / "night" / file.relative_to(images).with_suffix(".jpg")
        night.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            image.point(lambda value: value // 5).save(night, quality=10)
    pairs = ("--images", tmp_path / "night", "--clean", images, *SMALL)
    done = run("embed", "s14-noise", *pairs, "--json", "p.json")
    assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / "p.json").read_text())
    assert about["distortion"] == "your picture"
    assert about["measures"][1]["displacement"] > 0
    done = run("evaluate", "s14-noise", *pairs, "--json", "e.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "e.json").read_text())["distortion"] == "your picture"
    for words, part in (
        (("--distortion", "fog:3"), "damaged already"),
        (("--test-clean", images), "--test-clean has the clean twins of --test"),
    ):
        refused = run("evaluate", "s14-noise", *pairs, *words)
        assert (refused.returncode, part in refused.stderr) == (2, True)


def test_pairs_are_aligned_where_it_is_asked_for(run: Run, refused: Refused, photos: Tensor, tmp_path: Path) -> None:
    for number, photo in enumerate(photos[:8]):
        for kind, picture in (("night", photo.roll((12, -12), (1, 2)) / 4), ("train" if number < 4 else "day", photo)):
            file = tmp_path / kind / "ab"[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            to_pil(picture).save(file)
    night = ("s14-noise", "--images", "night", "--clean", "day", "--size", 112)
    found = []
    for words in ((), ("--align",)):
        assert run("sweep", *night, *words, "--csv", "s.csv", "--force").returncode == 0
        found.append(pd.read_csv(tmp_path / "s.csv").patch_cosine)
    assert (found[1] > found[0] + 0.05).all()
    other = ("--images", "train", "--test", "night", "--test-clean", "day", "--fit", "teacher_clean")
    done = run("evaluate", "s14-noise", *other, "--size", 112, "--align")
    assert done.returncode == 0, done.stderr
    refused(["embed", "s14-noise", "--images", "night", "--align"], "align moves pictures onto their clean twins")


def test_sweep_prints_and_writes_every_strength(run: Run, images: Path, tmp_path: Path) -> None:
    done = run("sweep", "s14-noise", "--images", images, *SMALL, "--values", "0.1,0.4", "--csv", "s.csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO((tmp_path / "s.csv").read_text())))
    assert [(row["network"], row["value"]) for row in rows] == [
        ("teacher", "0.1"),
        ("teacher", "0.4"),
        ("student", "0.1"),
        ("student", "0.4"),
    ]
    other = run("sweep", "s14-noise", "--images", images, *SMALL, "--distortion", "pixel_mask", "--values", "0.5")
    assert "never trained on pixel_mask, but on gaussian_noise(sigma=0.1..0.5)" in other.stdout


def test_evaluate_says_how_much_of_the_gap_is_closed(run: Run, images: Path, tmp_path: Path) -> None:
    done = run(
        "evaluate", "s14-noise", "--images", images, *SMALL, "--draws", 2, "--json", "e.json", "--figure", "e.png"
    )
    assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / "e.json").read_text())
    accuracy = {row["view"]: row["accuracy"] for row in about["rows"]}
    assert list(accuracy) == ["teacher_clean", "teacher_distorted", "student_distorted", "student_clean"]
    floor, ceiling = accuracy["teacher_distorted"], accuracy["teacher_clean"]
    if ceiling > floor:
        assert about["gap_closed"] == pytest.approx((accuracy["student_distorted"] - floor) / (ceiling - floor))
        told = (
            "6 test pictures are too few" if about["gap_interval"] is None else "95 % interval over the 6 test pictures"
        )
        assert told in done.stdout
    else:
        assert "no gap" in done.stdout
    assert all(row["train_pictures"] == row["test_pictures"] == 6 for row in about["rows"])


def test_evaluate_dense_tells_both_protocols(run: Run, refused: Refused, tmp_path: Path) -> None:
    folders = [segmented_folder(tmp_path / name, seed=len(name)) for name in ("train", "test")]
    ask = ["evaluate-dense", "s14-noise", *folders, *SMALL]
    done = run(*ask, "--limit", 5, "--draws", 2, "--csv", "d.csv", "--json", "d.json", "--figure", "d.png")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "d.csv")
    assert table["view"].tolist() == ["teacher_clean", "teacher_distorted", "student_distorted", "student_clean"]
    assert set(table["test_pictures"]) == {5}
    assert set(table["draws"]) == {2}
    about = json.loads((tmp_path / "d.json").read_text())
    assert len(about["by_class"]) == 4 * 3
    assert [row["propagation_miou"] for row in about["rows"]] == pytest.approx(table["propagation_miou"].tolist())
    assert f"gap closed, linear: {about['gap_closed']['linear'] or 0:.3f}" in done.stdout or "no gap" in done.stdout
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")
    refused(["evaluate-dense", "s14-noise", folders[0], folders[0]], "6 pictures are in train and in test")
    refused(["evaluate-dense", "s14-noise", folders[0], folders[1] / "masks"], "holds no images/")
    (folders[1] / "masks" / "3.png").unlink()
    refused(ask, "1 of 6 pictures have no mask, such as '3.png'")


def test_labels_from_a_file(run: Run, refused: Refused, images: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    lines = ["file,label"]
    for file in sorted(images.glob("*/*.png")):
        (flat / f"{file.parent.name}-{file.name}").write_bytes(file.read_bytes())
        lines.append(f"{file.parent.name}-{file.name},{file.parent.name}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    ask = ["evaluate", "s14-noise", "--images", flat, *SMALL, "--draws", 1, "--labels", tmp_path / "labels.csv"]
    done = run(*ask, "--probe", "knn-whitened")
    assert done.returncode == 0, done.stderr
    (tmp_path / "labels.csv").write_text("\n".join(lines[:-1]))
    refused(ask, "1 of 12 have no line")


def test_bad_input_is_one_line(refused: Refused, images: Path, tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    (one / "a.png").write_bytes((images / "red" / "0.png").read_bytes())
    (tmp_path / "there.csv").write_text("mine")
    refused(["embed", "s14-noise", "--images", one, *SMALL], "at least two pictures; got 1")
    refused(["evaluate", "s14-noise", "--images", images / "red", *SMALL], "no labels")
    refused(["sweep", "s14-noise", "--images", images, *SMALL, "--values", "5"], "sigma must lie from 0.0 to 2.0")
    refused(["sweep", "s14-noise", "--values", "much"], "expected numbers such as 0.1,0.3,0.5")
    refused(["embed", "s14-noise", "--csv", "there.csv"], "--force overwrites it")
    assert (tmp_path / "there.csv").read_text() == "mine"
    refused(["embed", "s14-noise", "--figure", "map.svg"], "ends in .png")
    refused(["embed", "s14-nois"], "s14-noise")


def test_splits_are_named_in_the_command(run: Run, tmp_path: Path) -> None:
    pets = tmp_path / "pets"
    for split in ("train", "val"):
        picture_folder(pets / split, per_class=2)
    tables = []
    for words in (
        ("--images", pets, "--split", "train", "--test-split", "val"),
        ("--images", pets / "train", "--test", pets / "val"),
    ):
        done = run("evaluate", "s14-noise", *words, *SMALL, "--draws", 1, "--csv", "e.csv", "--force")
        assert done.returncode == 0, done.stderr
        tables.append((tmp_path / "e.csv").read_text())
    assert tables[0] == tables[1]


def test_broken_pictures_stop_a_command_or_are_skipped_and_listed(
    run: Run, refused: Refused, images: Path, tmp_path: Path
) -> None:
    broken = break_some(images)
    embed = ["embed", "s14-noise", "--images", images, *SMALL]
    sweep = ["sweep", "s14-noise", "--images", images, *SMALL, "--values", "0.3"]
    refused(sweep, "2a.jpg' holds text")
    for words, rows in ((embed, 48), (sweep, 2)):
        done = run(*words, "--skip-broken", "--json", "found.json", "--force")
        assert done.returncode == 0, done.stderr
        about = json.loads((tmp_path / "found.json").read_text())
        assert about["skipped"] == list(broken)
        assert len(about["rows"]) == rows
        assert "skipped 3 pictures that cannot be read:" in done.stderr
        assert [done.stderr.count(file) for file in broken] == [1, 1, 1]
    assert about["pictures"] == 12
    for file in broken[1:]:
        (images / file).unlink()
    refused(embed, "truncated); it is damaged or cut short: get it again; --skip-broken")


def test_labels_and_a_test_set_where_pictures_are_broken(run: Run, images: Path, tmp_path: Path) -> None:
    test = picture_folder(tmp_path / "test", per_class=2)
    broken = [*break_some(images), *break_some(test)]
    lines = [f"{file.parent.name}\\{file.name};{file.parent.name}" for file in test.glob("*/*.png")]
    lines += [f"{file.parent.name}\\{file.name};{file.parent.name}" for file in images.glob("*/[0-3].png")]
    (tmp_path / "labels.csv").write_text("\n".join(["file;label", *dict.fromkeys(lines)]))
    words = ("--test", test, "--labels", "labels.csv", "--draws", 1, "--skip-broken", "--json", "e.json")
    done = run("evaluate", "s14-noise", "--images", images, *SMALL, *words)
    assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / "e.json").read_text())
    assert about["skipped"] == broken
    assert {(row["train_pictures"], row["test_pictures"]) for row in about["rows"]} == {(12, 6)}
    assert "skipped 6 pictures" in done.stderr
