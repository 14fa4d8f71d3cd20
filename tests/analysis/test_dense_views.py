"""Foreground, clusters, matches and labels against NumPy and scikit-learn, on traces made for it and on real ones."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

import explorer as ex
from explorer.analysis.dense import LabelVote
from explorer.models.trace import Grid, Trace
from explorer.system.files import asset_path
from tests.analysis.test_maps import made

GRID = Grid(8, 10)
DIM = 16


def scene(noise: float = 0.0, offset: float = 0.0, seed: int = 0, batch: int = 1, grid: Grid = GRID) -> Trace:
    """Three things before a background: a blob in the middle, a stripe below it, a corner; then noise, and a common
    offset. The first three patterns are the same for every seed."""
    patterns = np.random.default_rng(99).normal(size=(5, DIM))
    kinds = kinds_of(grid)
    generator = np.random.default_rng(seed)
    places = np.random.default_rng(98).normal(size=(grid.patches, DIM))  # every place looks a little different
    rows = patterns[kinds.ravel()] + 0.25 * places + noise * generator.normal(size=(batch, grid.patches, DIM))
    scales = generator.uniform(0.5, 3, size=(batch, grid.patches, 1))  # lengths tell nothing
    patches = torch.tensor(scales * (rows + offset * patterns[4]), dtype=torch.float32)
    return bare(patches, grid)


def bare(patches: Tensor, grid: Grid = GRID) -> Trace:
    """A trace of one block that holds features of patches alone."""
    return Trace(
        embedding=patches[:, 0],
        cls=None,
        patches=patches[:, None],
        attention=None,
        layers=(0,),
        grid=grid,
        prefix=0,
        query_kind="mean of patches",
    )


def kinds_of(grid: Grid) -> np.ndarray:
    kinds = np.zeros(grid, dtype=int)
    kinds[2:5, 3:7] = 1
    kinds[5:7, 2:8] = 2
    kinds[0, :2] = 3
    return kinds


def directions(trace: Trace, layer: int = -1) -> np.ndarray:
    """batch, patch, dim; in double precision."""
    rows = trace.patches[:, layer].double().numpy()
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


# Foreground.


def scores_by_sklearn(*traces: Trace) -> list[np.ndarray]:
    centred = [directions(trace) - directions(trace).mean(axis=(0, 1)) for trace in traces]
    stacked = np.concatenate([each.reshape(-1, each.shape[-1]) for each in centred])
    axis = PCA(1).fit(stacked).components_[0]
    scores = [(each @ axis).reshape(len(each), *trace.grid) for each, trace in zip(centred, traces, strict=True)]
    spread = np.concatenate([each.ravel() for each in scores]).std()
    on_border = np.concatenate([scores[0][:, [0, -1]].ravel(), scores[0][:, 1:-1, [0, -1]].ravel()])
    sign = -1 if on_border.mean() > scores[0][:, 1:-1, 1:-1].mean() else 1
    return [sign * each / spread for each in scores]


@pytest.mark.parametrize("batch", [1, 2])
def test_the_foreground_is_the_first_component_of_all_views(batch: int) -> None:
    traces = scene(0.2, seed=1, batch=batch), scene(0.8, 2, seed=2, batch=batch), scene(0.5, seed=3, batch=batch)
    for got, expected in zip(ex.foreground(*traces), scores_by_sklearn(*traces), strict=True):
        assert got.shape == (batch, *GRID)
        np.testing.assert_allclose(got.numpy(), expected, atol=1e-4)


def test_the_foreground_is_what_stands_in_the_middle_whatever_the_offset() -> None:
    clean, moved = ex.foreground(scene(0.1, seed=1), scene(0.1, offset=5, seed=2))
    things = torch.tensor((kinds_of(GRID) == 1) | (kinds_of(GRID) == 2))
    for scores in (clean, moved):
        assert ((scores[0] > 0) == things).float().mean() > 0.95
    turned = dataclasses.replace(scene(0.1, seed=1), patches=-scene(0.1, seed=1).patches)
    torch.testing.assert_close(ex.foreground(turned), ex.foreground(scene(0.1, seed=1)), atol=1e-4, rtol=0)


def test_lengths_of_features_do_not_count() -> None:
    longer = dataclasses.replace(scene(0.3), patches=scene(0.3).patches * torch.rand(1, 1, GRID.patches, 1).add(0.1))
    torch.testing.assert_close(ex.foreground(longer), ex.foreground(scene(0.3)), atol=1e-4, rtol=0)
    assert torch.equal(ex.patch_clusters(longer), ex.patch_clusters(scene(0.3)))


# Clusters.


def build(rows: np.ndarray, count: int) -> list[int]:
    """The first centres, by trying each patch."""
    chosen: list[int] = []
    for _ in range(count):
        costs = [
            sum(min(((row - rows[each]) ** 2).sum() for each in [*chosen, candidate]) for row in rows)
            for candidate in range(len(rows))
        ]
        chosen.append(int(np.argmin(costs)))
    return chosen


def numbered(labels: np.ndarray) -> dict[int, int]:
    """By size, then by the first patch."""
    order = sorted(set(labels.tolist()), key=lambda each: (-(labels == each).sum(), int(np.argmax(labels == each))))
    return {each: place for place, each in enumerate(order)}


@pytest.mark.parametrize("clusters", [2, 5])
def test_clusters_are_those_of_lloyds_algorithm_by_hand(clusters: int) -> None:
    reference, other = scene(0.6, seed=4), scene(1.2, seed=5)
    rows, others = directions(reference)[0], directions(other)[0]
    centres = rows[build(rows, clusters)]

    def nearest(points: np.ndarray) -> np.ndarray:
        return ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)

    while True:
        labels = nearest(rows)
        means = np.stack([rows[labels == each].mean(axis=0) for each in range(clusters)])
        if np.allclose(means, centres, atol=1e-12):
            break
        centres = means
    number = numbered(labels)
    got, of_other = ex.patch_clusters(reference, other, clusters=clusters)
    assert got[0].ravel().tolist() == [number[each] for each in labels.tolist()]
    assert of_other[0].ravel().tolist() == [number[each] for each in nearest(others).tolist()]
    assert KMeans(clusters, init=centres, n_init=1).fit(rows).n_iter_ <= 2, "nothing moves any more"


def test_clusters_find_the_kinds_and_are_numbered_by_size() -> None:
    found = ex.patch_clusters(scene(0.1), clusters=4)[0].numpy()
    kinds = kinds_of(GRID)
    sizes = np.bincount(kinds.ravel())
    for place, kind in enumerate(np.lexsort((range(4), -sizes))):
        assert (found[kinds == kind] == place).all()


def test_clusters_of_the_reference_keep_their_numbers_under_any_damage() -> None:
    reference = scene(0.5, seed=6)
    alone = ex.patch_clusters(reference)
    for noise in (0.0, 0.7, 3.0):
        assert torch.equal(ex.patch_clusters(reference, scene(noise, seed=7), scene(noise, 2))[0], alone)
    assert torch.equal(ex.patch_clusters(reference, reference)[1], alone)


def test_many_pictures_are_clustered_together() -> None:
    """More patches than the first centres are sought among."""
    reference = scene(0.1, batch=8)
    found = ex.patch_clusters(reference, clusters=4)
    assert found.shape == (8, *GRID)
    assert len({tuple(each.ravel().tolist()) for each in found}) == 1, "the same kinds everywhere"
    assert sorted(found.unique().tolist()) == [0, 1, 2, 3]


# Matches.


@pytest.mark.parametrize("points", [None, [(0, 0), (3, 4), (7, 9)]])
def test_matches_are_the_nearest_patches(points: list | None) -> None:
    reference, other = scene(0.1, batch=2, seed=1), scene(1.0, batch=2, seed=2)
    matches = ex.patch_matches(reference, other, points)
    sought = [*itertools.product(range(8), range(10))] if points is None else points
    assert matches.points.tolist() == [list(each) for each in sought]
    rows = []
    for image, (a, b) in enumerate(zip(directions(reference), directions(other), strict=True)):
        for row, col in sought:
            cosines = b @ a[row * 10 + col]
            found = divmod(int(cosines.argmax()), 10)
            near = max(abs(found[0] - row), abs(found[1] - col)) <= 1
            rows.append([image, row, col, *found, cosines.max(), near])
    frame = matches.frame()
    assert list(frame) == ["image", "row", "col", "match_row", "match_col", "cosine", "right"]
    np.testing.assert_allclose(frame.to_numpy(dtype=float), np.array(rows, dtype=float), atol=1e-6)
    assert matches.share_right == pytest.approx(np.mean([row[-1] for row in rows]))
    if points is None:
        assert 0.05 < matches.share_right < 0.95


def test_a_view_is_matched_with_itself() -> None:
    matches = ex.patch_matches(made(), made())
    assert matches.share_right == 1
    assert torch.equal(matches.positions, matches.points.expand(2, -1, -1))
    torch.testing.assert_close(matches.cosines, torch.ones(2, 12))


def test_damage_that_moves_the_scene_is_told() -> None:
    reference = made(batch=1)
    rolled = reference.patches.reshape(1, 4, 3, 4, 8).roll((1, 2), dims=(2, 3)).reshape(1, 4, 12, 8)
    other = dataclasses.replace(reference, patches=rolled)
    matches = ex.patch_matches(reference, other, moved=(1.0, 2.0))
    assert matches.points.tolist() == [[row, col] for row in (0, 1) for col in (0, 1)], "the others left the picture"
    assert matches.share_right == 1
    assert matches.positions[0].tolist() == [[row + 1, col + 2] for row in (0, 1) for col in (0, 1)]
    assert ex.patch_matches(reference, other).share_right < 0.5


# Labels.

CLICKS = [(3, 4, 7), (6, 5, 2), (7, 0, 0), (1, 8, 0), (0, 0, 5)]


def test_each_patch_takes_the_label_of_the_nearest_click() -> None:
    reference, other = scene(0.2, seed=1), scene(0.8, seed=2, batch=3)
    centre = directions(reference)[0].mean(axis=0)
    known = directions(reference)[0][[row * 10 + col for row, col, _ in CLICKS]] - centre
    nearest = KNeighborsClassifier(1, metric="cosine").fit(known, [label for *_, label in CLICKS])
    expected = nearest.predict((directions(other) - centre).reshape(-1, DIM)).reshape(3, *GRID)
    np.testing.assert_array_equal(ex.propagate_labels(reference, other, CLICKS).numpy(), expected)
    own = ex.propagate_labels(reference, reference, CLICKS)[0]
    for row, col, label in CLICKS:
        assert own[row, col] == label


def test_of_two_labels_for_one_patch_the_last_counts() -> None:
    found = ex.propagate_labels(scene(), scene(), [(0, 0, 4), (3, 4, 1), (0, 0, 3)])
    assert sorted(found.unique().tolist()) == [1, 3]


def test_labels_are_carried_onto_another_grid() -> None:
    assert ex.propagate_labels(scene(), scene(grid=Grid(7, 12)), CLICKS).shape == (1, 7, 12)


def test_a_vote_of_several_is_scikit_learns() -> None:
    generator = np.random.default_rng(3)
    rows, others = generator.normal(size=(2, 60, 8)).astype(np.float32)
    labels, centre = generator.integers(0, 3, 60).astype(np.uint8), rows.mean(axis=0)
    vote = LabelVote(rows, labels, centre, neighbours=7)
    expected = KNeighborsClassifier(7, metric="cosine").fit(rows - centre, labels).predict_proba(others - centre)
    assert vote.classes == (0, 1, 2)
    np.testing.assert_allclose(vote.probabilities(others), expected, atol=1e-6)


# What is refused.


def spoilt() -> Trace:
    patches = scene().patches.clone()
    patches[0, 0, 3, 2] = torch.nan
    return dataclasses.replace(scene(), patches=patches)


def wider() -> Trace:
    return bare(torch.ones(1, GRID.patches, 5))


@pytest.mark.parametrize(
    "function",
    [
        lambda other: ex.foreground(scene(), other),
        lambda other: ex.patch_clusters(scene(), other),
        lambda other: ex.patch_matches(scene(), other),
        lambda other: ex.propagate_labels(scene(), other, CLICKS),
    ],
    ids=["foreground", "patch_clusters", "patch_matches", "propagate_labels"],
)
def test_features_that_cannot_be_put_together(function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="the patches hold NaN or infinite values"):
        function(spoilt())
    with pytest.raises(ValueError, match=r"features of one size, .*; got \[5, 16\]"):
        function(wider())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ex.patch_clusters(scene(), clusters=1), "from 2 to 80, the reference's patches; got 1"),
        (lambda: ex.patch_clusters(scene(), clusters=81), "from 2 to 80, the reference's patches; got 81"),
        (lambda: ex.patch_clusters(scene(), layer=3), "layer 3 was not traced"),
        (lambda: ex.patch_matches(scene(), scene(grid=Grid(8, 9))), r"1 of \(8, 10\) in .*, and 1 of \(8, 9\)"),
        (lambda: ex.patch_matches(scene(batch=2), scene()), r"got 2 of \(8, 10\) in the reference, and 1 of"),
        (lambda: ex.patch_matches(scene(), scene(), []), "expected points to match, as"),
        (lambda: ex.patch_matches(scene(), scene(), moved=(9.0, 0.0)), "got none that lies in both pictures"),
        (lambda: ex.patch_matches(scene(), scene(), [(8, 0)]), "outside of the grid: rows go from 0 to 7"),
        (lambda: ex.propagate_labels(scene(), scene(), []), r"expected labels as \(row, col, label\), .*; got none"),
        (lambda: ex.propagate_labels(scene(), scene(), [(0, 10, 1)]), "columns from 0 to 9"),
        (lambda: ex.propagate_labels(scene(batch=2), scene(), CLICKS), r"a reference of 2: trace\[0:1\]"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()


# Real weights.


@pytest.fixture(scope="module")
def views(s14: ex.Backbone) -> dict[str, Trace]:
    """An owl under noise, seen by the teacher and by the student that learned it."""
    student = ex.load_pair("s14-noise", teacher=s14).student
    owl = ex.load_image(asset_path("photos") / "farm_animal/owl.webp", size=224)[None]
    damaged = ex.distortion("gaussian_noise(sigma=0.3)")(owl, seed=0)
    looks = {"clean": (s14, owl), "teacher": (s14, damaged), "student": (student, damaged)}
    return {name: who.trace(picture, layers=-1, attention=None) for name, (who, picture) in looks.items()}


@pytest.mark.weights
def test_a_student_knows_what_stands_where(views: dict[str, Trace]) -> None:
    clean, teacher, student = views.values()
    found = [ex.patch_matches(clean, other).share_right for other in (teacher, student)]
    assert 0.05 < found[0] < found[1] - 0.1
    masks = [scores[0] > 0 for scores in ex.foreground(clean, teacher, student)]
    shared = [float((masks[0] & mask).sum() / (masks[0] | mask).sum()) for mask in masks[1:]]
    assert shared[0] < shared[1]
    assert 0.2 < masks[0].float().mean() < 0.5
    reference, *others = ex.patch_clusters(clean, teacher, student)
    kept = [float((each == reference).float().mean()) for each in others]
    assert kept[0] < kept[1]
    own, *carried = (ex.propagate_labels(clean, other, [(8, 10, 1), (1, 1, 0)]) for other in (clean, teacher, student))
    assert (carried[0] == own).float().mean() < (carried[1] == own).float().mean()
