"""Which pictures lie together in feature space: `cluster_pictures`, by k-means.

Enters: features of pictures, "image dim". Leaves: `Clusters`: a number for each picture, and a name for each cluster.
Deliberately ignored: any map of two dimensions, which shows more and other clusters than there are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from explorer.data.sets import ImageSet
from explorer.errors import InputError
from explorer.evaluation.rows import as_rows, directions

MOST_CLUSTERS = 12
"""As many as there are colours to tell them apart."""
_STARTS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Clusters:
    """Made by `cluster_pictures`.

    Attributes:
        of: the cluster of each picture; 0 is the largest.
        names: of each cluster: its most frequent class and the share that has it, "fish 80 %"; without labels the
            file name of the picture that is nearest to its centre.
    """

    of: Int[np.ndarray, " image"]
    names: tuple[str, ...]


def cluster_pictures(
    features: Shaped[Any, "image dim"], images: ImageSet, count: int | None = None, seed: int = 0
) -> Clusters:
    """Group pictures by the directions of their centred features, in which distance is the centred cosine.

    That is spherical k-means but for the centres, whose length is left as it is (Dhillon and Modha 2001).

    Args:
        features: of the pictures; those of the clean teacher make clusters that damage can be held against.
        images: the same pictures, for names and labels.
        count: how many clusters, at most as many as there are different features; None for the root of half the number
            of pictures, from 2 to `MOST_CLUSTERS`.
        seed: of the first centres.

    Raises:
        ValueError: features of other pictures, NaN, or a count below 1.
    """
    rows = as_rows(features)
    if len(rows) != len(images):
        raise InputError(f"expected a row of features for each of {len(images)} pictures; got {len(rows)} rows")
    if count is not None and count < 1:
        raise InputError(f"count is a number of clusters, at least 1; got {count}")
    towards = directions(rows - rows.mean(axis=0))
    wanted = min(max(2, round((len(rows) / 2) ** 0.5)), MOST_CLUSTERS) if count is None else count
    found, centres = _k_means(towards, wanted, seed)
    names = tuple(
        _name(towards, np.flatnonzero(found == place), centre, images) for place, centre in enumerate(centres)
    )
    return Clusters(of=found, names=names)


def _k_means(
    towards: Float[np.ndarray, "image dim"], count: int, seed: int
) -> tuple[Int[np.ndarray, " image"], Float[np.ndarray, "cluster dim"]]:
    """The cluster of each picture and the centres, the largest cluster first."""
    from sklearn.cluster import KMeans

    count = min(count, len(np.unique(towards, axis=0)))
    fitted = KMeans(count, n_init=_STARTS, random_state=seed).fit(towards)
    order = np.argsort(-np.bincount(fitted.labels_, minlength=count), kind="stable")
    return np.argsort(order)[fitted.labels_], fitted.cluster_centers_[order]


def _name(
    towards: Float[np.ndarray, "image dim"],
    members: Int[np.ndarray, " member"],
    centre: Float[np.ndarray, " dim"],
    images: ImageSet,
) -> str:
    if images.labels is None:
        nearest = ((towards[members] - centre) ** 2).sum(axis=1).argmin()
        return images.names[members[nearest]].rpartition("/")[2]
    counts = np.bincount(np.asarray(images.labels)[members])
    return f"{images.classes[counts.argmax()]} {100 * counts.max() / len(members):.0f} %"
