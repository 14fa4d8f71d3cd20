"""`evaluate` against scikit-learn by hand, its bookkeeping, and everything that it refuses."""

import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from explorer import Evaluation, evaluate, sweep
from explorer.data.image import ImageError
from explorer.data.sets import ImageSet
from explorer.data.sources import load_images
from explorer.distortions import distortion
from explorer.evaluation.evaluation import VIEWS, Fit, draw_seed
from explorer.models.backbones import Backbone
from explorer.models.pairs import Pair
from tests.small import NOISE, break_some, pair, picture_folder, picture_set


@pytest.fixture(scope="module")
def both() -> Pair:
    return pair()


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageSet, ImageSet]:
    return picture_set(tmp_path_factory.mktemp("pictures"), per_class=12).split(0.5)


def seen(backbone: Backbone, images: ImageSet, seed: int | None) -> np.ndarray:
    batch = images.stack() if seed is None else distortion(NOISE)(images.stack(), seed=seed)
    return backbone.trace(batch).embedding.numpy().astype(np.float64)


def scikit(kind: str, x: np.ndarray, y: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Written without the code under test."""
    if kind == "knn":
        centre = x.mean(axis=0)
        fitted = KNeighborsClassifier(10, metric="cosine", algorithm="brute").fit(x - centre, y)
        return fitted.predict(others - centre)
    scale = StandardScaler().fit(x)
    return LogisticRegression(C=0.1, max_iter=2000).fit(scale.transform(x), y).predict(scale.transform(others))


@pytest.mark.parametrize("fit", get_args(Fit))
@pytest.mark.parametrize("kind", ["knn", "linear"])
def test_accuracy_is_that_of_scikit_learn(both: Pair, sets: tuple[ImageSet, ImageSet], kind: str, fit: Fit) -> None:
    train, test = sets
    found = evaluate(both, train, test, kind, draws=2, seed=4, fit=fit, cache=False)
    for view in VIEWS:
        backbone = both.teacher if view.startswith("teacher") else both.student
        draws = range(2) if view.endswith("distorted") else [None]
        expected = []
        for draw in draws:
            seeds = [None if draw is None else draw_seed(4, draw, part) for part in ("train", "test")]  # type: ignore[arg-type]
            fitted = both.teacher if fit == "teacher_clean" else backbone
            x = seen(fitted, train, seeds[0] if fit == "own" else None)
            guessed = scikit(kind, x, np.array(train.labels), seen(backbone, test, seeds[1]))
            expected.append((guessed == np.array(test.labels)).mean())
        assert found.accuracy[view] == pytest.approx(expected)


def test_draws_never_meet() -> None:
    seeds = {draw_seed(seed, draw, part) for seed in range(3) for draw in range(3) for part in ("train", "test")}  # type: ignore[arg-type]
    assert len(seeds) == 18


def test_label_fractions_are_balanced_and_seeded(both: Pair, sets: tuple[ImageSet, ImageSet]) -> None:
    train, test = sets
    half = evaluate(both, train, test, label_fraction=0.5, cache=False)
    again = evaluate(both, train.subset(fraction=0.5, seed=0), test, cache=False)
    assert half.train_pictures == 9
    assert half.accuracy == again.accuracy


def test_a_distortion_without_chance_is_drawn_once(both: Pair, sets: tuple[ImageSet, ImageSet]) -> None:
    found = evaluate(both, *sets, draws=5, distortion="gaussian_blur", cache=False)
    assert found.draws == 1
    assert {len(values) for values in found.accuracy.values()} == {1}


def test_the_table(both: Pair, sets: tuple[ImageSet, ImageSet]) -> None:
    found = evaluate(both, *sets, draws=3, cache=False)
    table = found.frame().set_index("view")
    assert list(table.index) == list(VIEWS)
    row = table.loc["student_distorted"]
    assert row["accuracy"] == pytest.approx(np.mean(found.accuracy["student_distorted"]))
    assert row["std"] == pytest.approx(np.std(found.accuracy["student_distorted"], ddof=1))
    assert row["low"] <= row["accuracy"] <= row["high"]
    assert (row["train_pictures"], row["test_pictures"], row["draws"]) == (18, 18, 3)
    assert np.isnan(table.loc["teacher_clean", "std"])


@pytest.mark.parametrize(
    ("accuracies", "closed", "between"),
    [
        ((0.9, 0.5, 0.7, 0.9), 0.5, (0.2, 0.8)),
        ((0.9, 0.5, 0.4, 0.9), -0.25, (-0.9, 0.1)),
        ((0.9, 0.5, 0.9, 0.5), 1.0, (0.999, 1.001)),
        ((0.54, 0.5, 0.54, 0.5), 1.0, None),  # 2 of 50 pictures make the gap: others might have none
        ((0.5, 0.5, 0.9, 1.0), None, None),
    ],
)
def test_gap_closed(accuracies: tuple[float, ...], closed: float | None, between: tuple[float, float] | None) -> None:
    def answers(share: float) -> np.ndarray:
        return np.arange(50)[None] < 50 * share

    found = Evaluation(
        right={view: answers(share) for view, share in zip(VIEWS, accuracies, strict=True)},
        probe="knn",
        fit="own",
        distortion=distortion(NOISE),
        train_pictures=50,
        test_pictures=50,
        label_fraction=1.0,
        draws=1,
        seed=0,
    )
    assert found.accuracy == {view: (pytest.approx(share),) for view, share in zip(VIEWS, accuracies, strict=True)}
    assert found.gap_closed == (None if closed is None else pytest.approx(closed))
    interval = found.gap_interval
    assert (interval is None) == (between is None)
    if interval is not None and between is not None and closed is not None:
        assert between[0] < interval[0] <= closed + 1e-9
        assert closed - 1e-9 <= interval[1] < between[1]


def test_progress_ends_at_the_total(both: Pair, sets: tuple[ImageSet, ImageSet]) -> None:
    for fit in get_args(Fit):
        told: list[tuple[int, int]] = []
        evaluate(both, *sets, draws=2, fit=fit, cache=False, progress=lambda *now, told=told: told.append(now))  # type: ignore[misc]
        assert told[-1][0] == told[-1][1]
        assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_zip_that_is_loaded_twice_is_the_same_pictures(both: Pair, tmp_path: Path) -> None:
    file = shutil.make_archive(str(tmp_path / "some"), "zip", picture_folder(tmp_path / "some", per_class=2))
    one, other = (load_images(file, size=32) for _ in range(2))
    with pytest.raises(ValueError, match="6 pictures are in train and in test"):
        evaluate(both, one, other)
    assert sweep(both, one[:4], values=(0.1,), gallery=other).gallery == 6
    with pytest.raises(ValueError, match="it was loaded from elsewhere"):
        sweep(both, one[:4], values=(0.1,), gallery=load_images(tmp_path / "some", size=32))


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused(both: Pair, sets: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    train, test = sets
    flat = load_images(picture_folder(tmp_path / "some") / "red", size=32)
    red = [i for i, label in enumerate(train.labels or ()) if label == 2]
    for bad, message in [
        (lambda: evaluate(both, flat, test), "no labels"),
        (lambda: evaluate(both, train, train), "18 pictures are in train and in test"),
        (lambda: evaluate(both, train.select(red), test), "show one only"),
        (lambda: evaluate(both, train.select(i for i in range(len(train)) if i not in red), test), "fewer labels than"),
        (lambda: evaluate(both, train, test, "nearest"), "probe is one of knn, linear"),  # type: ignore[arg-type]
        (lambda: evaluate(both, train, test, draws=0), "at least 1; got 0"),
        (lambda: evaluate(both, train, test, fit="all"), "fit is one of own, clean, teacher_clean"),  # type: ignore[arg-type]
        (lambda: evaluate(both, train, test, label_fraction=0.0), "part of each class"),
        (lambda: evaluate(both, train, test[:0]), "expected pictures"),
        (lambda: evaluate(both, train, load_images("photos", size=32)), "the same classes"),
    ]:
        with pytest.raises(ValueError, match=message):
            bad()


def test_a_broken_test_picture_stops_before_the_work_on_the_others(
    both: Pair, sets: tuple[ImageSet, ImageSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = picture_folder(tmp_path / "pictures", per_class=2)
    break_some(folder)
    monkeypatch.setattr(Backbone, "trace", None)
    with pytest.raises(ImageError, match=r"2a\.jpg.*text"):
        evaluate(both, sets[0], load_images(folder, size=32), cache=False)


def test_labels_stay_with_their_pictures_where_some_are_broken(both: Pair, tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures")
    whole = load_images(folder, size=32)
    break_some(folder)
    found, expected = (
        evaluate(both, *images.split(0.5), cache=False)
        for images in (load_images(folder, size=32, on_error="skip"), whole)
    )
    assert found.accuracy == expected.accuracy
    assert found.test_pictures == 9
