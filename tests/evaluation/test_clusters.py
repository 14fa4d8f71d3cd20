"""Clusters of pictures: those that scikit-learn finds, named after what is in them."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from explorer.data.sets import ImageSet
from explorer.evaluation.clusters import MOST_CLUSTERS, cluster_pictures


def pictures(count: int, labels: tuple[int, ...] | None = None, classes: tuple[str, ...] = ()) -> ImageSet:
    names = tuple(f"some/{index}.png" for index in range(count))
    return ImageSet(names=names, labels=labels, classes=classes, size=8, reader=None, keys=names)  # type: ignore[arg-type]


def heaps(*sizes: int, spread: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Features around some directions far from each other, shuffled; and whose they are."""
    generator = np.random.default_rng(0)
    truth = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return 5 + np.eye(16)[truth] + spread * generator.normal(size=(sum(sizes), 16)) / 4, truth


def test_clusters_are_those_of_scikit_learn() -> None:
    rows = np.random.default_rng(1).normal(size=(150, 12)) + 3
    found = cluster_pictures(rows, pictures(150), count=5, seed=2)
    steps = StandardScaler(with_std=False), Normalizer(), KMeans(5, n_init=4, random_state=2)
    assert adjusted_rand_score(make_pipeline(*steps).fit_predict(rows), found.of) == 1
    assert adjusted_rand_score(cluster_pictures(7 * rows, pictures(150), count=5, seed=2).of, found.of) == 1


def test_the_largest_comes_first_and_is_named_after_most_of_it() -> None:
    rows, truth = heaps(6, 20, 11)
    labels = truth.copy()
    labels[np.flatnonzero(truth == 1)[:5]] = 0
    found = cluster_pictures(rows, pictures(37, tuple(labels.tolist()), ("cat", "dog", "owl")), count=3)
    assert np.bincount(found.of).tolist() == [20, 11, 6]
    assert [set(truth[found.of == place].tolist()) for place in range(3)] == [{1}, {2}, {0}]
    assert found.names == ("dog 75 %", "owl 100 %", "cat 100 %")


def test_without_labels_the_nearest_to_the_centre_gives_the_name() -> None:
    rows, truth = heaps(12, 9)
    found = cluster_pictures(rows, pictures(21), count=2)
    towards = rows - rows.mean(axis=0)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    for place, name in enumerate(found.names):
        members = np.flatnonzero(truth == place)
        middle = np.mean([towards[member] for member in members], axis=0)
        assert name == f"{min(members, key=lambda each: np.linalg.norm(towards[each] - middle))}.png"


@pytest.mark.parametrize(("count", "expected"), [(2, 2), (8, 2), (50, 5), (400, MOST_CLUSTERS)])
def test_how_many_there_are_depends_on_the_pictures(count: int, expected: int) -> None:
    rows = np.random.default_rng(0).normal(size=(count, 6))
    found = cluster_pictures(rows, pictures(count))
    assert len(found.names) == expected == len(set(found.of.tolist()))


def test_there_are_no_more_clusters_than_different_pictures() -> None:
    rows = np.repeat(np.eye(4)[:3], 5, axis=0)
    assert len(cluster_pictures(rows, pictures(15), count=9).names) == 3


def test_what_does_not_fit_is_told() -> None:
    rows = np.eye(4)
    with pytest.raises(ValueError, match="each of 5 pictures; got 4 rows"):
        cluster_pictures(rows, pictures(5))
    with pytest.raises(ValueError, match="at least 1; got 0"):
        cluster_pictures(rows, pictures(4), count=0)
