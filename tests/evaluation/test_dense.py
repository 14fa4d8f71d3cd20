"""`evaluate_dense` against scikit-learn by hand, its intervals against loops, and everything that it refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import jaccard_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import interpolate

from explorer import DenseEvaluation, SegmentedSet, evaluate_dense, load_segmented
from explorer.distortions import distortion
from explorer.evaluation.dense import Segmentation, _counted
from explorer.evaluation.embedding import VIEWS
from explorer.evaluation.evaluation import draw_seed
from explorer.evaluation.patch_probes import _majority
from explorer.models.backbones import Backbone
from explorer.models.pairs import Pair
from explorer.models.trace import Grid
from tests.small import CLASSES, NOISE, SIZE, network, pair, segmented_folder

SEED = 4


@pytest.fixture(scope="module")
def both() -> Pair:
    return pair()


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[SegmentedSet, SegmentedSet]:
    folder = tmp_path_factory.mktemp("segmented")
    train, test = (segmented_folder(folder / name, seed=seed) for seed, name in enumerate(("train", "test")))
    return load_segmented(train), load_segmented(test)


@pytest.fixture(scope="module")
def found(both: Pair, sets: tuple[SegmentedSet, SegmentedSet]) -> DenseEvaluation:
    return evaluate_dense(both, *sets, draws=2, seed=SEED)


def seen(backbone: Backbone, pictures: SegmentedSet, seed: int | None) -> np.ndarray:
    """Patch features, "picture patch dim"."""
    batch = pictures.images.resized(SIZE).stack()
    batch = batch if seed is None else distortion(NOISE)(batch, seed=seed)
    return backbone.trace(batch).patches[:, -1].numpy()


def scikit(protocol: str) -> object:
    """Written without the code under test."""
    if protocol == "linear":
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    voters = KNeighborsClassifier(10, metric="cosine", algorithm="brute")
    return make_pipeline(StandardScaler(with_std=False), voters)


def labels_of(pictures: SegmentedSet) -> np.ndarray:
    """The squares of 20 pixels are the patches of a 2 x 2 grid."""
    return np.concatenate([np.asarray(Image.open(mask))[10::20, 10::20].ravel() for mask in pictures.masks])


@pytest.mark.parametrize("protocol", ["linear", "propagation"])
def test_masks_and_miou_are_those_of_scikit_learn(
    both: Pair, sets: tuple[SegmentedSet, SegmentedSet], found: DenseEvaluation, protocol: str
) -> None:
    train, test = sets
    told: Segmentation = getattr(found, protocol)
    truth = np.stack([test.resized(SIZE).mask(index) for index in range(len(test))])
    for view in VIEWS:
        backbone = both.teacher if view.startswith("teacher") else both.student
        expected = []
        for draw in range(2) if view.endswith("distorted") else [None]:
            seeds = [None if draw is None else draw_seed(SEED, draw, part) for part in ("train", "test")]  # type: ignore[arg-type]
            x = seen(backbone, train, seeds[0]) if protocol == "linear" else seen(both.teacher, train, None)
            fitted = scikit(protocol).fit(x.reshape(-1, x.shape[-1]), labels_of(train))  # type: ignore[attr-defined]
            chances = np.stack([fitted.predict_proba(patches) for patches in seen(backbone, test, seeds[1])])
            maps = torch.from_numpy(chances).transpose(1, 2).reshape(len(test), -1, 2, 2)
            drawn = interpolate(maps, size=(SIZE, SIZE), mode="bilinear").argmax(dim=1).numpy()
            expected.append(jaccard_score(truth.ravel(), drawn.ravel(), average="macro"))
            if not draw:
                assert (told.predicted[view] == drawn).mean() > 0.98  # votes may be level
        assert told.miou[view] == pytest.approx(expected, abs=0.02)


def test_a_perfect_reader_has_1(both: Pair, tmp_path: Path) -> None:
    """Pictures of one colour each, which even an untrained network tells apart."""
    folders = tmp_path / "train", tmp_path / "test"
    for seed, folder in enumerate(folders):
        segmented_folder(folder, pictures=9)
        for number in range(9):
            pixels = np.random.default_rng((seed, number)).integers(0, 40, (40, 40, 3), dtype=np.uint8)
            pixels[..., number % 3] += 200
            Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
            Image.fromarray(np.full((40, 40), number % 3, dtype=np.uint8)).save(folder / "masks" / f"{number}.png")
    whole = evaluate_dense(both, *map(load_segmented, folders), distortion="none")
    table = whole.frame()
    assert table["miou"].tolist() == [1.0] * 4
    assert table["propagation_miou"].tolist()[:2] == [1.0] * 2
    assert (table[["low", "high"]] == 1).all(axis=None)
    assert whole.linear.gap_closed is None


def test_the_table(found: DenseEvaluation) -> None:
    table = found.frame().set_index("view")
    assert list(table.index) == list(VIEWS)
    for protocol, prefix in ((found.linear, ""), (found.propagation, "propagation_")):
        row = table.loc["student_distorted"]
        assert row[f"{prefix}miou"] == pytest.approx(np.mean(protocol.miou["student_distorted"]))
        assert row[f"{prefix}std"] == pytest.approx(np.std(protocol.miou["student_distorted"], ddof=1))
        assert row[f"{prefix}low"] <= row[f"{prefix}miou"] <= row[f"{prefix}high"]
        assert np.isnan(table.loc["teacher_clean", f"{prefix}std"])
    assert set(table["train_pictures"]) == set(table["test_pictures"]) == {6}
    assert set(table["draws"]) == {2}


def test_the_table_of_classes(found: DenseEvaluation) -> None:
    table = found.by_class()
    assert table["class"].tolist() == [*CLASSES] * 4
    clean = table[table["view"] == "student_clean"]
    assert clean["iou"].mean() == pytest.approx(found.linear.miou["student_clean"][0])
    assert clean["propagation_iou"].mean() == pytest.approx(found.propagation.miou["student_clean"][0])


def test_gap_closed(found: DenseEvaluation) -> None:
    mean = {view: np.mean(values) for view, values in found.linear.miou.items()}
    gap = mean["teacher_clean"] - mean["teacher_distorted"]
    assert gap > 0
    closed = (mean["student_distorted"] - mean["teacher_distorted"]) / gap
    assert found.linear.gap_closed == pytest.approx(closed)


def by_hand(pixels: np.ndarray, chosen: list[int]) -> float:
    """mIoU of these pictures, the mean over the draws, by loops."""
    values = []
    for drawn in pixels:
        right, true, given = sum(drawn[picture].astype(int) for picture in chosen)
        values.append(np.mean([r / (t + g - r) for r, t, g in zip(right, true, given, strict=True) if t]))
    return float(np.mean(values))


def test_differences_are_paired(found: DenseEvaluation) -> None:
    linear = found.linear
    often = np.random.default_rng(SEED).multinomial(6, [1 / 6] * 6, size=1000)
    drawn = {
        view: np.array([by_hand(linear.pixels[view], np.repeat(np.arange(6), times).tolist()) for times in often])
        for view in ("student_clean", "teacher_distorted")
    }
    assert linear.interval("student_clean") == pytest.approx(np.quantile(drawn["student_clean"], (0.025, 0.975)))
    value, interval = linear.difference("student_clean", "teacher_distorted")
    mean = {view: np.mean(values) for view, values in linear.miou.items()}
    assert value == pytest.approx(mean["student_clean"] - mean["teacher_distorted"])
    paired = drawn["student_clean"] - drawn["teacher_distorted"]
    assert interval == pytest.approx(np.quantile(paired, (0.025, 0.975)))


def test_a_difference_between_two_students(
    both: Pair, sets: tuple[SegmentedSet, SegmentedSet], found: DenseEvaluation
) -> None:
    other = evaluate_dense(replace(both, student=network(2)), *sets, seed=SEED + 1)
    same = found.linear.difference("teacher_clean", "teacher_clean", of=other.linear)
    assert same == (0.0, (0.0, 0.0))  # the same teacher, and the same pictures drawn for both
    value, (low, high) = found.linear.difference("student_distorted", "student_distorted", of=other.linear)
    ours, theirs = (np.mean(which.linear.miou["student_distorted"]) for which in (found, other))
    assert value == pytest.approx(ours - theirs)
    assert low < value < high
    fewer = evaluate_dense(both, sets[0], load_segmented(sets[1].masks[0].parents[1], limit=5))
    turned = replace(other.linear, pixels={view: pixels[:, ::-1] for view, pixels in other.linear.pixels.items()})
    for wrong in (fewer.linear, turned):
        with pytest.raises(ValueError, match="the same test pictures, in the same order"):
            found.linear.difference("teacher_clean", "teacher_clean", of=wrong)


def test_pixels_of_no_class_never_count() -> None:
    truth = np.array([[[0, 0, 1], [255, 255, 2]]], dtype=np.uint8)
    given = np.array([[[0, 1, 1], [0, 1, 0]]], dtype=np.uint8)
    pixels = _counted(truth, given, [0, 1, 2])
    assert pixels.tolist() == [[[1, 1, 0], [2, 1, 1], [2, 2, 0]]]
    told = Segmentation(pixels=dict.fromkeys(VIEWS, pixels[None]), predicted={}, seed=0)
    assert told.miou["teacher_clean"] == (pytest.approx((1 / 3 + 1 / 2 + 0) / 3),)


def test_classes_that_no_test_picture_shows_are_left_out() -> None:
    pixels = np.array([[[[4, 0], [8, 0], [8, 5]]]])
    told = Segmentation(pixels=dict.fromkeys(VIEWS, pixels), predicted={}, seed=0)
    assert told.miou["teacher_clean"] == (4 / 12,)
    assert np.isnan(told.iou("teacher_clean")[1])
    assert told.interval("teacher_clean") == (4 / 12, 4 / 12)


def test_a_patch_has_the_class_of_most_of_its_pixels() -> None:
    mask = np.full((6, 9), 255, dtype=np.uint8)
    mask[:3, :2], mask[:3, 3:6], mask[3:, 6:] = 1, [[2, 2, 1]], 3
    assert _majority(mask, Grid(2, 3)).tolist() == [1, 2, 255, 255, 255, 3]


def test_a_distortion_without_chance_is_drawn_once(both: Pair, sets: tuple[SegmentedSet, SegmentedSet]) -> None:
    blurred = evaluate_dense(both, *sets, draws=5, distortion="gaussian_blur")
    assert blurred.draws == 1
    assert {len(values) for values in blurred.linear.miou.values()} == {1}


def test_distorted_pictures_are_those_that_were_seen(found: DenseEvaluation) -> None:
    batch = distortion(NOISE)(found.test.images.stack(), seed=draw_seed(SEED, 0, "test"))
    assert torch.equal(found.distorted(3), batch[3])


def test_batches_change_nothing_and_progress_ends_at_the_total(
    both: Pair, sets: tuple[SegmentedSet, SegmentedSet], found: DenseEvaluation
) -> None:
    told: list[tuple[int, int]] = []
    again = evaluate_dense(both, *sets, draws=2, seed=SEED, batch_size=4, progress=lambda *now: told.append(now))
    assert told[-1] == (12 * 6, 12 * 6)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert again.linear.miou["teacher_clean"] == pytest.approx(found.linear.miou["teacher_clean"], abs=0.01)


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused(both: Pair, sets: tuple[SegmentedSet, SegmentedSet], tmp_path: Path) -> None:
    train, test = sets
    odd = segmented_folder(tmp_path / "odd")
    (odd / "classes.csv").write_text("value,name\n9,nothing")
    unseen = load_segmented(odd)
    one = replace(train, classes={0: CLASSES[0]})
    refusals: list[tuple[Callable[[], object], str]] = [
        (lambda: evaluate_dense(both, train, test, draws=0), "at least 1; got 0"),
        (lambda: evaluate_dense(both, train, train), "6 pictures are in train and in test"),
        (lambda: evaluate_dense(both, train, replace(test, classes={0: "sky"})), "the same classes"),
        (
            lambda: evaluate_dense(both, unseen, replace(test, classes=unseen.classes)),
            "no patch .* expected the values 9",
        ),
        (lambda: evaluate_dense(both, one, replace(test, classes=one.classes)), "at least two classes"),
        (lambda: evaluate_dense(both, train, replace(test, images=test.images[:0], masks=())), "got 6 and 0"),
    ]
    for bad, message in refusals:
        with pytest.raises(ValueError, match=message):
            bad()


def test_a_broken_mask_stops_before_the_work(
    both: Pair, sets: tuple[SegmentedSet, SegmentedSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = segmented_folder(tmp_path / "broken")
    (folder / "masks" / "5.png").write_bytes(b"")
    monkeypatch.setattr(Backbone, "trace", None)
    with pytest.raises(ValueError, match=r"5\.png' cannot be read as a mask"):
        evaluate_dense(both, sets[0], load_segmented(folder))
