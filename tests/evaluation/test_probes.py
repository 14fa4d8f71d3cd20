"""What features are worth: scikit-learn's own numbers, naive loops, and errors that say what is wrong."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import scale

from explorer.evaluation import probes
from explorer.evaluation.probes import (
    fit_on_features,
    nearest,
    nearest_label_accuracy,
    own_ranks,
    retrieval_at_1,
    wilson_interval,
)

DIM = 12


def made(count: int = 80, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Features of four classes that overlap, far from the origin, and their labels."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(4, DIM))
    labels = random.integers(0, 4, size=count)
    spread = np.linspace(0.3, 4, DIM)
    return (5 + (centres[labels] + 1.5 * random.normal(size=(count, DIM))) * spread).astype(np.float32), labels


@pytest.mark.parametrize("k", [1, 10, 500])
def test_knn_is_that_of_scikit_learn(k: int) -> None:
    (train, labels), (test, wanted) = made(), made(50, seed=2)
    train, test = train.astype(np.float64), test.astype(np.float64)
    oracle = KNeighborsClassifier(min(k, 80), metric="cosine", algorithm="brute").fit(train - train.mean(0), labels)
    probe = fit_on_features("knn", train, labels, k=k)
    assert probe.predict(test).tolist() == oracle.predict(test - train.mean(0)).tolist()
    assert probe.accuracy(test, wanted) == oracle.score(test - train.mean(0), wanted)


def test_one_neighbour_is_the_nearest_of_the_gallery() -> None:
    (train, labels), (test, _) = made(), made(50, seed=2)
    assert (
        fit_on_features("knn", train, labels, k=1).predict(test).tolist()
        == labels[nearest(train, test)[0][:, 0]].tolist()
    )


@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_linear_is_that_of_scikit_learn(strength: float) -> None:
    (train, labels), (test, wanted) = made(), made(50, seed=2)
    both = scale(np.concatenate([train, train]).astype(np.float64))[:80]  # mean and spread are those of `train`
    oracle = LogisticRegression(C=strength, max_iter=2000).fit(both, labels)
    standard = (test.astype(np.float64) - train.mean(0, dtype=np.float64)) / train.astype(np.float64).std(0)
    probe = fit_on_features("linear", train, labels, regularisation=strength)
    assert probe.estimator[-1].coef_ == pytest.approx(oracle.coef_, abs=1e-6)
    assert probe.predict(test).tolist() == oracle.predict(standard).tolist()
    assert probe.accuracy(test, wanted) == oracle.score(standard, wanted) > 0.4


@pytest.mark.parametrize("pictures", [9, 80])  # of 12 numbers: the covariance of fewer has no inverse
def test_whitened_features_count_alike_in_every_direction(pictures: int) -> None:
    (train, labels), (test, wanted) = made(), made(50, seed=2)
    train, labels = train[:pictures], labels[:pictures]
    train, test = (rows * np.geomspace(1, 1e3, DIM, dtype=np.float32) for rows in (train, test))
    exact = LedoitWolf().fit(train.astype(np.float64))
    inverse = np.linalg.inv(exact.covariance_)
    probe = fit_on_features("knn-whitened", train, labels, k=1)
    a, b = (rows.astype(np.float64) - exact.location_ for rows in (train, test))
    lengths = [np.sqrt(np.einsum("id,de,ie->i", rows, inverse, rows)) for rows in (a, b)]
    cosines = b @ inverse @ a.T / np.outer(lengths[1], lengths[0])
    assert probe.predict(test).tolist() == labels[cosines.argmax(axis=1)].tolist()
    linear = fit_on_features("linear-whitened", train, labels, regularisation=0.3)
    assert linear.predict(test).tolist() == solved(a, b, labels, inverse, 0.3)
    if pictures == 80:
        plain = fit_on_features("knn", train, labels)
        whitened = fit_on_features("knn-whitened", train, labels)
        assert whitened.accuracy(test, wanted) > plain.accuracy(test, wanted)


def solved(a: np.ndarray, b: np.ndarray, labels: np.ndarray, inverse: np.ndarray, regularisation: float) -> list[int]:
    """Logistic regression on whitened features: by another root of the inverse, as it does not matter which."""
    root = np.linalg.cholesky(inverse)
    return LogisticRegression(C=regularisation, max_iter=2000).fit(a @ root, labels).predict(b @ root).tolist()


@pytest.mark.parametrize("kind", probes.PROBES)
def test_names_serve_as_labels_and_tensors_as_features(kind: str) -> None:
    (train, labels), (test, wanted) = made(), made(50, seed=2)
    names = np.array(["cat", "cow", "dog", "fox"])
    numbers = fit_on_features(kind, train, labels.tolist())
    named = fit_on_features(kind, torch.from_numpy(train), names[labels].tolist())
    assert names[numbers.predict(test)].tolist() == named.predict(torch.from_numpy(test)).tolist()
    assert named.accuracy(test, names[wanted]) == numbers.accuracy(test, torch.from_numpy(wanted))
    assert (named.kind, named.classes, numbers.classes) == (kind, ("cat", "cow", "dog", "fox"), (0, 1, 2, 3))


@pytest.mark.parametrize("kind", probes.PROBES)
def test_the_same_probe_every_time(kind: str) -> None:
    (train, labels), (test, _) = made(), made(50, seed=2)
    first, second = (fit_on_features(kind, train, labels).estimator.predict_proba(test) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_label_that_was_never_seen_counts_as_wrong() -> None:
    train, labels = made()
    probe = fit_on_features("knn", train, labels, k=1)
    assert probe.accuracy(train, labels) == 1
    assert probe.accuracy(train, np.where(labels == 0, 9, labels)) == pytest.approx((labels != 0).mean())
    with pytest.raises(ValueError, match=r"none of the labels .* got 9, fitted on 0, 1, 2, 3"):
        probe.accuracy(train, [9] * 80)
    with pytest.raises(ValueError, match="got '0', fitted on 0"):
        probe.accuracy(train, ["0"] * 80)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "lineal"}, r"unknown probe 'lineal'; did you mean linear\? There are: knn, linear"),
        ({"labels": ["x"] * 80}, "a probe needs at least two classes; got one, 'x'"),
        ({"labels": [0, 1]}, "labels that do not fit: 2 labels for 80 pictures"),
        ({"labels": ["x", 1] * 40}, "all numbers or all names; got both, such as 'x', 1"),
        ({"features": np.zeros((0, DIM)), "labels": []}, "there are no pictures"),
        ({"features": np.full((80, 2), np.nan)}, "NaN or infinite values in 80 of 80 pictures, first in picture 0"),
        ({"features": np.full((80, 2), np.inf)}, "NaN or infinite"),
        ({"features": np.zeros(80)}, r"two axes, \(image, dim\); features has shape \(80,\)"),
        ({"k": 0}, "k is at least 1"),
        ({"regularisation": 0}, "regularisation above 0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_probes_that_cannot_be_fitted(options: dict[str, Any], message: str) -> None:
    features, labels = made()
    with pytest.raises(ValueError, match=message):
        fit_on_features(**{"kind": "linear", "features": features, "labels": labels, **options})


def test_features_that_a_probe_was_not_fitted_on() -> None:
    features, labels = made()
    probe = fit_on_features("knn", features, labels)
    with pytest.raises(ValueError, match="fitted on features of size 12; got size 5"):
        probe.predict(features[:, :5])
    with pytest.raises(ValueError, match="2 labels for 80 pictures"):
        probe.accuracy(features, [0, 1])
    with pytest.raises(ValueError, match="no pictures"):
        probe.predict(features[:0])


@pytest.mark.parametrize(("right", "count"), [(0, 7), (1, 1), (3, 10), (10, 10), (812, 1350)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_wilson_interval_is_that_of_scipy(right: int, count: int, level: float) -> None:
    oracle = binomtest(right, count).proportion_ci(level, method="wilson")
    low, high = wilson_interval(right / count, count, level)
    assert (low, high) == pytest.approx((oracle.low, oracle.high), abs=1e-12)
    assert 0 <= low <= right / count <= high <= 1


@pytest.mark.parametrize(("share", "count", "level"), [(1.1, 5, 0.95), (-0.1, 5, 0.95), (0.5, 0, 0.95), (0.5, 5, 1.0)])
def test_wilson_interval_refuses(share: float, count: int, level: float) -> None:
    with pytest.raises(ValueError, match="count is at least 1"):
        wilson_interval(share, count, level)


def found(gallery: torch.Tensor, queries: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """The two numbers in which the students were measured, in plain torch."""
    centre = gallery.mean(dim=0)
    cosines = F.normalize(queries - centre, dim=1) @ F.normalize(gallery - centre, dim=1).T
    own = (cosines.argmax(dim=1) == torch.arange(len(gallery))).float().mean()
    other = cosines.fill_diagonal_(-2.0).argmax(dim=1)
    return [float(own), float((labels[other] == labels).float().mean())]


@pytest.mark.parametrize("chunk", [1, 80 * 7, 1 << 23])
def test_retrieval_is_that_of_the_documentation(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "CHUNK", chunk)
    clean, labels = made()
    damaged = clean + 3 * np.random.default_rng(5).normal(size=clean.shape).astype(np.float32)
    expected = found(*(torch.from_numpy(array) for array in (clean, damaged, labels)))
    assert 0.05 < min(expected) < max(expected) < 0.95
    assert [retrieval_at_1(clean, damaged), nearest_label_accuracy(clean, damaged, labels)] == pytest.approx(expected)
    assert retrieval_at_1(clean, clean) == 1
    assert nearest_label_accuracy(clean, clean, labels) < 1


@pytest.mark.parametrize("leave_out", [False, True])
@pytest.mark.parametrize("chunk", [1, 30 * 7, 1 << 23])
def test_nearest_against_a_loop(chunk: int, leave_out: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "CHUNK", chunk)
    gallery = made(30)[0].astype(np.float64)
    queries = made(30 if leave_out else 41, seed=2)[0].astype(np.float64)
    indices, cosines = nearest(gallery, queries, k=5, leave_out=leave_out)
    assert indices.shape == cosines.shape == (len(queries), 5)
    centre = gallery.mean(axis=0)
    for number, query in enumerate(queries - centre):
        pairs = []
        for item, row in enumerate(gallery - centre):
            if not (leave_out and item == number):
                pairs.append((-(query @ row) / np.sqrt((query @ query) * (row @ row)), item))
        expected = sorted(pairs)[:5]
        assert indices[number].tolist() == [item for _, item in expected]
        assert cosines[number] == pytest.approx([-cosine for cosine, _ in expected], abs=1e-12)


def test_of_equal_ones_the_first_comes_first() -> None:
    gallery = np.array([[1.0, 0], [0, 1], [1, 0], [-2, -1]])  # its mean is the origin
    indices, cosines = nearest(gallery, np.array([[3.0, 0], [0, 0]]), k=4)
    assert indices.tolist() == [[0, 2, 1, 3], [0, 1, 2, 3]]
    assert cosines.tolist() == [pytest.approx([1, 1, 0, -2 / 5**0.5]), [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("gallery", "queries", "options", "message"),
    [
        (4, 4, {"k": 0}, "k lies between 1 and 4.* got 0"),
        (4, 4, {"k": 5}, "between 1 and 4.* got 5"),
        (4, 4, {"k": 4, "leave_out": True}, "between 1 and 3.* got 4"),
        (1, 1, {"leave_out": True}, "the gallery is a single picture"),
        (4, 3, {"leave_out": True}, "got 4 in the gallery and 3 queries"),
        (0, 3, {}, "no pictures"),
        (3, 0, {}, "no pictures"),
    ],
)
def test_nearest_refuses(gallery: int, queries: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest(np.eye(5)[:gallery], np.eye(5)[:queries], **options)


@pytest.mark.usefixtures("unchecked")
def test_pictures_and_originals_have_to_match() -> None:
    clean, labels = made(20)
    with pytest.raises(ValueError, match="size 12 and those of the queries 3"):
        nearest(clean, clean[:, :3])
    with pytest.raises(ValueError, match="20 in the gallery and 9 queries"):
        retrieval_at_1(clean, clean[:9])
    with pytest.raises(ValueError, match="20 in the gallery and 9 queries"):
        nearest_label_accuracy(clean, clean[:9], labels)
    with pytest.raises(ValueError, match="19 labels for 20 pictures"):
        nearest_label_accuracy(clean, clean, labels[1:])


def test_own_ranks_are_those_of_a_naive_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, queries = made(30)[0].astype(np.float64), made(30, seed=3)[0].astype(np.float64)
    centre = gallery.mean(axis=0)

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float((a - centre) @ (b - centre) / np.linalg.norm(a - centre) / np.linalg.norm(b - centre))

    expected = [
        sum(cosine(query, other) > cosine(query, gallery[place]) + 1e-12 for other in gallery)
        for place, query in enumerate(queries)
    ]
    assert own_ranks(gallery, queries).tolist() == expected
    monkeypatch.setattr(probes, "CHUNK", 7 * len(gallery))
    assert own_ranks(gallery, queries).tolist() == expected
    assert own_ranks(gallery, gallery).tolist() == [0] * 30
