"""What features are worth: k nearest neighbours, a linear probe, and whether a picture finds its original again.

Enters: features of pictures, "image dim", and their labels. Leaves: numbers, or a fitted `Probe` that gives them.
The backbone that made the features is not known here and is never trained. All cosines are *centred*: the mean of the
gallery (or of the training features) is subtracted first, because embeddings of one backbone share a large common part
that makes any two of them look alike.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from explorer.errors import InputError, unknown
from explorer.evaluation.rows import as_labels, as_rows, directions

CHUNK = 1 << 23  # cosines held at once: 64 MiB

_LENIENT, _STRICT = 0.1, 0.003  # scikit-learn's C

_Maker: TypeAlias = Callable[[int, float, int], Any]
"""Neighbours, regularisation, seed -> a scikit-learn pipeline."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """A classifier of features, fitted by `fit_on_features`.

    Attributes:
        kind: a name in `PROBES`.
        estimator: the fitted scikit-learn pipeline.
    """

    kind: str
    estimator: Any

    @property
    def classes(self) -> tuple[int | str, ...]:
        """The labels that it was fitted on, sorted."""
        return tuple(self.estimator.classes_.tolist())

    def predict(self, features: Shaped[Any, "image dim"]) -> Shaped[np.ndarray, " image"]:
        """The label of each picture, of the kind (number or name) that the probe was fitted on.

        Raises:
            ValueError: no pictures, NaN, or features of another size than those that it was fitted on.
        """
        return self.estimator.predict(self._rows(features))

    def probabilities(self, features: Shaped[Any, "image dim"]) -> Float[np.ndarray, "image class"]:
        """How likely each of `classes` is; of "knn", its share of the votes.

        Raises:
            ValueError: as for `predict`.
        """
        return self.estimator.predict_proba(self._rows(features))

    def _rows(self, features: Shaped[Any, "image dim"]) -> Float[np.ndarray, "image dim"]:
        rows, size = as_rows(features), self.estimator.n_features_in_
        if rows.shape[1] != size:
            raise InputError(
                f"the probe was fitted on features of size {size}; got size {rows.shape[1]}: use features of the same "
                "backbone"
            )
        return rows

    def accuracy(self, features: Shaped[Any, "image dim"], labels: Iterable[Any]) -> float:
        """The share of pictures whose label is predicted; a label that the probe never saw counts as wrong.

        Raises:
            ValueError: as for `predict`, labels that do not fit, or no label that the probe was fitted on.
        """
        predicted = self.predict(features)
        wanted = _labels(labels, len(predicted))
        seen = {*self.classes}
        if seen.isdisjoint(wanted.tolist()):
            raise InputError(
                f"none of the labels was among those that the probe was fitted on: got {_few(wanted.tolist())}, fitted "
                f"on {_few(self.classes)}; use the same class names or numbers in both sets"
            )
        return float(np.mean(predicted == wanted))


def fit_on_features(
    kind: str,
    features: Shaped[Any, "image dim"],
    labels: Iterable[Any],
    *,
    seed: int = 0,
    k: int = 10,
    regularisation: float | None = None,
) -> Probe:
    """Fit a classifier on the features of a frozen backbone.

    Args:
        kind: "knn" (a vote of the nearest by centred cosine; nothing is learned) or "linear" (logistic regression on
            standardised features); or the same on features of which every direction counts alike, "knn-whitened" and
            "linear-whitened" (`explorer.evaluation.whitening`): better where few directions vary most and tell no
            classes, as in "s14", and worse where they do.
        features: of the training pictures; numpy or torch.
        labels: their classes, numbers or names.
        seed: of the linear probe's solver; scikit-learn's present one draws no random numbers.
        k: neighbours of "knn", at most the number of pictures.
        regularisation: of "linear": scikit-learn's C, where less is stricter; None for 0.1, and 0.003 on whitened
            features, which cross-validation on training pictures of Caltech-101 finds best, or nearly so.

    Raises:
        ValueError: fewer than two classes, labels that do not fit, no pictures, NaN, unknown kind, k below 1.
    """
    if kind not in _MAKERS:
        raise unknown("probe", kind, PROBES)
    if regularisation is None:
        regularisation = _STRICT if kind.endswith("whitened") else _LENIENT
    if k < 1 or not regularisation > 0:
        raise InputError(f"k is at least 1 and regularisation above 0; got k={k}, regularisation={regularisation}")
    rows = as_rows(features)
    classes = _labels(labels, len(rows))
    found = sorted(set(classes.tolist()))
    if len(found) < 2:
        raise InputError(f"a probe needs at least two classes; got one, {found[0]!r}")
    return Probe(kind=kind, estimator=_MAKERS[kind](min(k, len(rows)), regularisation, seed).fit(rows, classes))


def linear_probe(
    classes: Iterable[int | str],
    weights: Float[np.ndarray, "row dim"],
    bias: Float[np.ndarray, " row"],
    mean: Float[np.ndarray, " dim"],
    scale: Float[np.ndarray, " dim"],
) -> Probe:
    """A "linear" probe of numbers that another one was fitted to; it says the very same.

    Args:
        classes: sorted, as in `Probe.classes`.
        weights, bias: of the logistic regression: a row for each class; for two classes one, which is the second's.
        mean, scale: by which features are standardised.
    """
    estimator = _linear(1, _LENIENT, 0)  # what the solver is told counts in fitting alone
    scaler, regression = estimator[0], estimator[-1]
    scaler.mean_, scaler.scale_, scaler.n_features_in_ = mean, scale, len(mean)
    regression.coef_ = np.asfortranarray(weights)  # scikit-learn's own order, on which the last bits depend
    regression.intercept_, regression.classes_ = bias, np.asarray(list(classes))
    regression.n_features_in_ = len(mean)
    return Probe(kind="linear", estimator=estimator)


def wilson_interval(share: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Between which shares the true one lies, if `share` of `count` independent pictures were right (Wilson 1927).

    Raises:
        ValueError: share outside of 0 to 1, no pictures, or a level that is not between 0 and 1.
    """
    if not 0 <= share <= 1 or count < 1 or not 0 < level < 1:
        raise InputError(
            f"share lies in 0 to 1, count is at least 1 and level lies between 0 and 1; got share={share}, "
            f"count={count}, level={level}"
        )
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    # At shares of 0 and 1 the bound is exactly there; rounding would leave it a hair beside.
    return 0.0 if share == 0 else max(0.0, middle - half), 1.0 if share == 1 else min(1.0, middle + half)


def nearest(
    gallery: Shaped[Any, "item dim"], queries: Shaped[Any, "query dim"], k: int = 1, *, leave_out: bool = False
) -> tuple[Int[np.ndarray, "query k"], Float[np.ndarray, "query k"]]:
    """Which rows of the gallery are nearest to each query, best first, and their centred cosines.

    The gallery's mean is subtracted from both. Of equal cosines the earlier row comes first. It goes in chunks: memory
    grows with gallery plus queries, not with their product.

    Args:
        gallery: what is searched.
        queries: what is searched for.
        k: how many rows for each query; meant for few.
        leave_out: row i of the gallery never counts for query i, so that a picture does not find itself.

    Raises:
        ValueError: no pictures, NaN, sizes that differ, or a k that the gallery cannot fill.
    """
    items, rows = _pairs(gallery, queries) if leave_out else _same_size(gallery, queries)
    most = len(items) - leave_out
    if most == 0:
        raise InputError("the gallery is a single picture and leave_out leaves nothing of it; give at least two")
    if not 1 <= k <= most:
        raise InputError(f"k lies between 1 and {most}, the number of pictures that can be found; got {k}")
    parts = [_best(cosines, k) for cosines in _cosines(items, rows, leave_out)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def own_and_other(
    gallery: Shaped[Any, "item dim"], queries: Shaped[Any, "query dim"], own: Int[np.ndarray, " query"]
) -> tuple[Bool[np.ndarray, " query"], Int[np.ndarray, " query"]]:
    """For each query whether the row of the gallery that is nearest to it is its own, and which other one is nearest.

    Args:
        own: the row of the gallery that is each query's own.

    Raises:
        ValueError: as `nearest`, for two of the gallery.
    """
    first, second = nearest(gallery, queries, k=2)[0].T
    return first == own, np.where(first == own, second, first)


def retrieval_at_1(gallery: Shaped[Any, "image dim"], queries: Shaped[Any, "image dim"]) -> float:
    """The share of queries i whose nearest row of the gallery is row i.

    Raises:
        ValueError: gallery and queries differ in number or size, no pictures, or NaN.
    """
    items, rows = _pairs(gallery, queries)
    return float(np.mean(nearest(items, rows)[0][:, 0] == np.arange(len(items))))


def own_ranks(gallery: Shaped[Any, "image dim"], queries: Shaped[Any, "image dim"]) -> Int[np.ndarray, " image"]:
    """For each query i, how many rows of the gallery are nearer to it than row i; 0 where its own is the nearest.

    Raises:
        ValueError: gallery and queries differ in number or size, no pictures, or NaN.
    """
    items, rows = _pairs(gallery, queries)
    ranks, start = [], 0
    for cosines in _cosines(items, rows, leave_out=False):
        own = cosines[np.arange(len(cosines)), start + np.arange(len(cosines))]
        ranks.append((cosines > own[:, None]).sum(axis=1))
        start += len(cosines)
    return np.concatenate(ranks)


def nearest_label_accuracy(
    gallery: Shaped[Any, "image dim"], queries: Shaped[Any, "image dim"], labels: Iterable[Any]
) -> float:
    """The share of queries i whose nearest *other* row of the gallery has the label of picture i.

    Raises:
        ValueError: gallery and queries differ in number or size, labels that do not fit, a single picture, or NaN.
    """
    items, rows = _pairs(gallery, queries)
    classes = _labels(labels, len(items))
    found = nearest(items, rows, leave_out=True)[0][:, 0]
    return float(np.mean(classes[found] == classes))


def _cosines(
    gallery: Float[np.ndarray, "item dim"], queries: Float[np.ndarray, "query dim"], leave_out: bool
) -> Iterator[Float[np.ndarray, "chunk item"]]:
    """Centred cosines, some queries at a time; what is left out is -inf."""
    centre = gallery.mean(axis=0)
    towards = directions(gallery - centre).T
    step = max(1, CHUNK // len(gallery))
    for start in range(0, len(queries), step):
        cosines = directions(queries[start : start + step] - centre) @ towards
        if leave_out:
            own = np.arange(len(cosines))
            cosines[own, start + own] = -np.inf
        yield cosines


def _best(
    cosines: Float[np.ndarray, "chunk item"], k: int
) -> tuple[Int[np.ndarray, "chunk k"], Float[np.ndarray, "chunk k"]]:
    """The k greatest of each row. The greatest is taken k times, as a partial sort would order equal ones at will."""
    rows = np.arange(len(cosines))
    indices = np.empty((len(cosines), k), dtype=np.int64)
    values = np.empty((len(cosines), k))
    for place in range(k):
        indices[:, place] = cosines.argmax(axis=1)
        values[:, place] = cosines[rows, indices[:, place]]
        cosines[rows, indices[:, place]] = -np.inf
    return indices, values


def _labels(labels: Iterable[Any], pictures: int) -> Shaped[np.ndarray, " image"]:
    plain = as_labels(labels, pictures)
    if len({isinstance(label, str) for label in plain}) > 1:
        raise InputError("labels are either all numbers or all names; got both, such as " + _few(plain))
    return np.asarray(plain)


def _few(labels: Iterable[int | str]) -> str:
    distinct = list(dict.fromkeys(labels))
    return ", ".join(repr(label) for label in distinct[:5]) + (", ..." if len(distinct) > 5 else "")


def _same_size(gallery: Any, queries: Any) -> tuple[Float[np.ndarray, "item dim"], Float[np.ndarray, "query dim"]]:
    items, rows = as_rows(gallery), as_rows(queries)
    if items.shape[1] != rows.shape[1]:
        raise InputError(f"features of the gallery have size {items.shape[1]} and those of the queries {rows.shape[1]}")
    return items, rows


def _pairs(gallery: Any, queries: Any) -> tuple[Float[np.ndarray, "image dim"], Float[np.ndarray, "image dim"]]:
    items, rows = _same_size(gallery, queries)
    if len(items) != len(rows):
        raise InputError(
            f"query i belongs to row i of the gallery; got {len(items)} in the gallery and {len(rows)} queries: give "
            "both for the same pictures, in the same order"
        )
    return items, rows


def _knn(k: int, _regularisation: float, _seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    voters = KNeighborsClassifier(n_neighbors=k, metric="cosine", algorithm="brute")
    return make_pipeline(StandardScaler(with_std=False), voters)


def _whitened(maker: _Maker) -> _Maker:
    """The same estimator behind whitened features."""

    def make(k: int, regularisation: float, seed: int) -> Any:
        from explorer.evaluation.whitening import Whitening

        pipeline = maker(k, regularisation, seed)
        pipeline.steps[0] = ("whitening", Whitening())
        return pipeline

    return make


def _linear(_k: int, regularisation: float, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=regularisation, max_iter=2000, random_state=seed))


_MAKERS: dict[str, _Maker] = {
    "knn": _knn,
    "linear": _linear,
    "knn-whitened": _whitened(_knn),
    "linear-whitened": _whitened(_linear),
}
PROBES = tuple(_MAKERS)
