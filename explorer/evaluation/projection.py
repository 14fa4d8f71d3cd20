"""Features of several views of the same pictures -> one flat map of all of them, by PCA or UMAP.

Enters: a mapping from a view's name ("teacher clean", "student distorted") to its features, row i being picture i in
each view. Leaves: a `Projection`: a place for each picture in each view, and how far its features moved. The map is
made from one view alone and then read like a ruler: other views are laid onto it, each by itself, and never change it.
What is ignored: distances on a UMAP picture mean little, so how far a picture moved is measured among the features.
"""

import functools
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int, Shaped

from explorer.errors import InputError, MissingExtraError, seed_number, unknown
from explorer.evaluation.rows import as_labels, as_rows, directions

if TYPE_CHECKING:
    import pandas

Views: TypeAlias = dict[str, Float[np.ndarray, "image dim"]]
Places: TypeAlias = dict[str, Float[np.ndarray, "image component"]]

_AXES = ("x", "y", "z")
_UMAP_FEWEST = 4  # it runs with 3, where nothing is left to arrange
UMAP_FITTED = 5000
"""So many pictures UMAP is fitted on at most; the others are laid on."""
_COMPARED = 2000  # umap compares each of so many with all: of 4,000, its own limit, 20 s for each view instead of 1
_SPREAD = 1.0  # umap's own default; `min_dist` cannot exceed it

# Two umap calls at once end the whole process under numba's "workqueue" threading layer (exit code 134), and which
# layer numba takes depends on the machine: so there is only ever one at a time.
_UMAP_LOCK = threading.Lock()
_warm = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """Places of all pictures of all views on one map.

    Attributes:
        coordinates: a view's name -> the place of each picture; UMAP's in float32, PCA's in float64.
        displacement: a view's name -> how far each picture is from itself in the view that the map was fitted on: the
            cosine distance of the two features after subtracting the fitted view's mean, 0 to 2. It is measured among
            the features, never on the map.
        method: "pca" or "umap".
        fit_on: name of the view that the map was made from.
        labels: the class of each picture, if there are any.
        explained: the share of the fitted view's variance that each axis shows; None for UMAP, which has no such thing.
        seed: of UMAP; PCA needs none.
        fitted: how many pictures of `fit_on` the map was made from: all, or of UMAP at most `UMAP_FITTED`.
    """

    coordinates: Places
    displacement: dict[str, Float[np.ndarray, " image"]]
    method: str
    fit_on: str
    labels: tuple[int | str, ...] | None
    explained: tuple[float, ...] | None
    seed: int
    fitted: int

    def frame(self) -> "pandas.DataFrame":
        """One row for each picture of each view, with the columns x, y, (z,) view, index, label and displacement."""
        import pandas

        places = np.concatenate(list(self.coordinates.values()))
        views, pictures = len(self.coordinates), len(self.coordinates[self.fit_on])
        labels = self.labels or (None,) * pictures
        return pandas.DataFrame(
            {
                **{axis: places[:, number] for number, axis in enumerate(_AXES[: places.shape[1]])},
                "view": np.repeat(np.array(list(self.coordinates), dtype=object), pictures),
                "index": np.tile(np.arange(pictures), views),
                "label": list(labels) * views,
                "displacement": np.concatenate([self.displacement[name] for name in self.coordinates]),
            }
        )


def project(
    features: Mapping[str, Shaped[Any, "image dim"]],
    method: str = "pca",
    fit_on: str | None = None,
    *,
    components: int = 2,
    labels: Iterable[Any] | None = None,
    seed: int = 0,
    neighbours: int = 15,
    min_dist: float = 0.1,
) -> Projection:
    """Lay the pictures of all views onto one map, which is made from one of the views.

    The same features and the same seed give the same map, bit for bit. To add, drop or reorder the other views moves
    no point of the remaining ones. Of more than `UMAP_FITTED` pictures UMAP is fitted on so many, drawn by the seed,
    and the rest is laid on, which keeps fewer neighbours (docs/benchmarks.md, "Projection").

    Args:
        features: a view's name -> features (numpy or torch); row i is the same picture in all views.
        method: "pca" (a linear shadow, true distances) or "umap" (who is next to whom; McInnes et al. 2018).
        fit_on: the view that the map is made from; None: the first one.
        components: axes of the map, 2 or 3.
        labels: the class of each picture, number or name; it is carried along and does not shape the map.
        seed: of UMAP.
        neighbours: how many neighbours UMAP looks at; at most as many as there are other pictures.
        min_dist: how near UMAP may put two points, 0 to 1.

    Raises:
        ValueError: views that differ in shape, too few or identical pictures, NaN, labels that do not fit, or an
            unknown method or view.
        ImportError: UMAP without umap-learn.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    seed = seed_number(seed, 32)
    if not isinstance(features, Mapping):
        raise InputError(f'expected named views, such as {{"teacher clean": features}}; got {type(features).__name__}')
    views = {name: as_rows(values, f"'{name}'") for name, values in features.items()}
    if not views:
        raise InputError('there is no view; expected a mapping such as {"teacher clean": features, "student": others}')
    fitted = next(iter(views)) if fit_on is None else fit_on
    if fitted not in views:
        raise unknown("view to fit on:", fitted, views)
    wanted = _Wanted(fit_on=fitted, components=components, seed=seed, neighbours=neighbours, min_dist=min_dist)
    _check(views, method, wanted)
    carried = None if labels is None else as_labels(labels, len(views[fitted]))
    coordinates, explained = METHODS[method](views, wanted)
    return Projection(
        coordinates=coordinates,
        displacement={name: displacement(view, views[fitted]) for name, view in views.items()},
        method=method,
        fit_on=fitted,
        labels=carried,
        explained=explained,
        seed=seed,
        fitted=len(views[fitted]) if method == "pca" else min(len(views[fitted]), UMAP_FITTED),
    )


def displacement(
    view: Float[np.ndarray, "image dim"], fitted: Float[np.ndarray, "image dim"]
) -> Float[np.ndarray, " image"]:
    """1 - cosine of each row with its row in the fitted view, both seen from the fitted view's mean; 0 to 2."""
    centre = fitted.mean(axis=0)
    a, b = directions(view - centre), directions(fitted - centre)
    # |a - b|^2 / 2 is 1 - cosine for directions; unlike that, it is exactly 0 for equal rows, and never negative.
    distance = ((a - b) ** 2).sum(axis=1) / 2
    return np.where(a.any(axis=1) == b.any(axis=1), distance, 1.0)  # a row at the centre has no direction: cosine 0


def warm_up() -> None:
    """Import umap and have it compiled, so that the first real map is quick.

    It takes some 5 seconds; a minute the first time on a computer, since what is compiled is kept on its disk. It may
    run in a background thread; a map that is asked for meanwhile waits for it. The second call does nothing.

    Raises:
        ImportError: umap-learn is not installed.
    """
    global _warm
    with _UMAP_LOCK:
        if _warm:
            return
        noise = np.random.default_rng(0).normal(size=(2, 64, 32)).astype(np.float32)
        _new_umap(_Wanted(fit_on=""), len(noise[0])).fit(noise[0]).transform(noise[1])
        _warm = True


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What was asked of `project`, under the names of its arguments."""

    fit_on: str
    components: int = 2
    seed: int = 0
    neighbours: int = 15
    min_dist: float = 0.1


def _pca(views: Views, wanted: _Wanted) -> tuple[Places, tuple[float, ...]]:
    from sklearn.decomposition import PCA

    ruler = PCA(wanted.components, svd_solver="full").fit(views[wanted.fit_on])
    # The fitted view, too, goes through `transform`, whose last bits are not those of `fit_transform`: equal features
    # then lie on one point. Signs of the axes are settled by scikit-learn.
    places = {name: ruler.transform(view) for name, view in views.items()}
    return places, tuple(float(share) for share in ruler.explained_variance_ratio_)


def _umap(views: Views, wanted: _Wanted) -> tuple[Places, None]:
    single = {name: view.astype(np.float32) for name, view in views.items()}
    fitted = single[wanted.fit_on]
    chosen = _drawn(len(fitted), wanted.seed)
    with _UMAP_LOCK:
        ruler = _new_umap(wanted, len(chosen))
        try:
            ruler.fit(fitted[chosen])
            own = ruler.embedding_.copy() if len(chosen) == len(fitted) else ruler.transform(fitted)
            own[chosen] = ruler.embedding_
            places = {name: _laid_onto(ruler, view, fitted, own) for name, view in single.items()}
        except ValueError as error:
            raise InputError(f'UMAP cannot lay out these features ({error}); use method="pca"') from error
    lost = sorted(name for name, place in places.items() if not np.isfinite(place).all())
    if lost:
        raise InputError(
            f"UMAP finds no place for some pictures of {', '.join(lost)}: their features point away from all others "
            '(cosine -1); use method="pca"'
        )
    return places, None


def _drawn(pictures: int, seed: int) -> Int[np.ndarray, " drawn"]:
    """Which pictures UMAP is fitted on, in ascending order."""
    if pictures <= UMAP_FITTED:
        return np.arange(pictures)
    return np.sort(np.random.default_rng(seed).choice(pictures, UMAP_FITTED, replace=False))


def _new_umap(wanted: _Wanted, pictures: int) -> Any:
    try:
        from umap import UMAP
    except ModuleNotFoundError as error:
        if error.name != "umap":
            raise
        raise MissingExtraError("UMAP needs umap-learn", "umap", '; method="pca" needs nothing') from error
    _keep_what_is_compiled()
    # A seed alone is not enough: the default spectral start differs from fit to fit where the graph of neighbours
    # falls into pieces. One job, because umap would otherwise warn that a seed allows no more.
    return UMAP(
        n_components=wanted.components,
        n_neighbors=min(wanted.neighbours, pictures - 1),
        min_dist=wanted.min_dist,
        spread=_SPREAD,
        metric="cosine",
        init="pca",
        random_state=wanted.seed,
        transform_seed=wanted.seed,
        n_jobs=1,
        force_approximation_algorithm=pictures > _COMPARED,
    )


@functools.cache
def _keep_what_is_compiled() -> None:
    """Let numba keep umap's functions on the disk, as umap lets it do for some of them only.

    The others would be compiled anew in each process, for half a minute. It keeps them where it keeps those: beside
    umap's source, or in the user's cache folder, or in NUMBA_CACHE_DIR. Where none can be written, nothing is kept.
    """
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("umap.")]
    for function in [function for module in modules for function in vars(module).values()]:
        if hasattr(function, "enable_caching"):
            with suppress(RuntimeError):
                function.enable_caching()


def _laid_onto(
    ruler: Any,
    view: Float[np.ndarray, "image dim"],
    fitted: Float[np.ndarray, "image dim"],
    own: Float[np.ndarray, "image component"],
) -> Float[np.ndarray, "image component"]:
    # Points that are transformed together share one stream of random numbers, so a view always goes as a whole and
    # alone. Pictures whose features did not change stay where they are, which `transform` by itself does not promise.
    same = (view == fitted).all(axis=1)
    return own.copy() if same.all() else np.where(same[:, None], own, ruler.transform(view))


def _check(views: Views, method: str, wanted: _Wanted) -> None:
    if wanted.components not in (2, 3):
        raise InputError(f"components is the number of axes of the map, 2 or 3; got {wanted.components}")
    if wanted.neighbours < 2:
        raise InputError(f"neighbours is at least 2; got {wanted.neighbours}")
    if not 0 <= wanted.min_dist <= _SPREAD:
        raise InputError(f"min_dist lies between 0 and 1; got {wanted.min_dist}")
    fitted = views[wanted.fit_on]
    for name, view in views.items():
        _check_alike(name, view, wanted.fit_on, fitted)
    fewest = _UMAP_FEWEST if method == "umap" else wanted.components + 1
    if len(fitted) < fewest:
        raise InputError(
            f"a map of {wanted.components} axes by {method} needs at least {fewest} pictures; '{wanted.fit_on}' has "
            f"{len(fitted)}: add pictures"
        )
    if fitted.shape[1] < wanted.components:
        raise InputError(f"features of size {fitted.shape[1]} cannot make a map of {wanted.components} axes")
    if (fitted == fitted[0]).all():
        raise InputError(
            f"all {len(fitted)} pictures of '{wanted.fit_on}' have the same features, so there is nothing to lay out; "
            "choose different pictures, or fit on another view"
        )


def _check_alike(
    name: str, view: Float[np.ndarray, "row dim"], fit_on: str, fitted: Float[np.ndarray, "image fitted_dim"]
) -> None:
    if view.shape[1] != fitted.shape[1]:
        raise InputError(
            f"features of '{name}' have size {view.shape[1]} and those of '{fit_on}' {fitted.shape[1]}; one map holds "
            "features of one size, such as those of a teacher and its student"
        )
    if len(view) != len(fitted):
        raise InputError(
            f"row i is the same picture in all views, but '{name}' has {len(view)} pictures and '{fit_on}' "
            f"{len(fitted)}; give the same pictures in the same order"
        )


METHODS: dict[str, Callable[[Views, _Wanted], tuple[Places, tuple[float, ...] | None]]] = {"pca": _pca, "umap": _umap}
