"""What patches know: foreground, clusters, matches and labels, carried from one view of a picture to others.

Enters: traces of the same pictures, the reference first (such as the teacher's of the clean ones). Leaves: maps over
the patch grid, and `PatchMatches`. Nothing is learned. Everything is told by directions of patch features (each made
one long), as cosines are: how large they are is deliberately ignored (`explorer.analysis.norms` looks at that).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import normalize

from explorer.analysis.maps import patches_of_one_size, principal_components
from explorer.errors import InputError
from explorer.models.trace import Trace, expect_traces
from explorer.system.precision import outside_autocast

if TYPE_CHECKING:
    import pandas

NEAR = 1
"""So many patches away, along rows and columns, a match is still right."""
_CANDIDATES = 512


@outside_autocast()
def foreground(
    trace: Trace, *others: Trace, layer: int = -1
) -> Float[Tensor, "batch rows cols"] | tuple[Float[Tensor, "batch rows cols"], ...]:
    """How much each patch belongs to the foreground, by the first principal component of the patches of all views.

    `foreground(...) > 0` is the mask (Oquab et al. 2023, DINOv2, figure 1: "thresholding the first PCA component"; Amir
    et al. 2021, "Deep ViT Features as Dense Visual Descriptors", co-segment by clusters of such features). The
    component is fitted on all traces together, each with its own mean subtracted. Deviation from DINOv2, which takes
    one mean: strong damage moves all patches of a view the same way, and then the first component tells clean from
    damaged (under Gaussian noise of 0.3 it called every patch of an owl's picture foreground).

    Of the two signs the foreground is the one with less weight at the border of the first trace's pictures.

    Args:
        trace: the reference, at whose border the sign is settled.
        others: other views, with features of the same size; their grids may be others.
        layer: a block's number; negative from the last traced one.

    Returns:
        Scores in standard deviations of all of them together: one tensor for one trace, a tuple for several.

    Raises:
        ValueError: features of several sizes, or with NaN or infinite values.
    """
    traces = (trace, *others)
    centred = [x - x.mean(dim=(0, 1)) for x in _directions(traces, layer)]
    _, component = principal_components(torch.cat([rearrange(x, "b p d -> (b p) d") for x in centred]), count=1)
    scores = [(x @ component)[..., 0] for x in centred]
    spread = torch.cat([each.flatten() for each in scores]).square().mean().sqrt().clamp_min(1e-12)
    maps = [rearrange(each / spread, "b (r c) -> b r c", r=t.grid.rows) for each, t in zip(scores, traces, strict=True)]
    inside = maps[0][:, 1:-1, 1:-1]
    if maps[0].sum() - inside.sum() > 0:  # the view's mean is 0, so that its border lies above it
        maps = [-each for each in maps]
    return tuple(maps) if others else maps[0]


@outside_autocast()
def patch_clusters(
    trace: Trace, *others: Trace, clusters: int = 6, layer: int = -1
) -> Int[Tensor, "batch rows cols"] | tuple[Int[Tensor, "batch rows cols"], ...]:
    """Which kind of patch stands where: k-means on the reference's patches, by whose centres all views are read.

    The centres are fitted on the first trace alone, so that its clusters stay as they are whatever the others show:
    what moves from one strength of damage to the next is where the damaged patches fall. Numbers go by size in the
    first trace, 0 being the largest cluster; of two of one size the one that comes first, row by row.

    k-means is scikit-learn's (Lloyd's). Its first centres are not drawn but sought, as in the BUILD step of Kaufman and
    Rousseeuw 1990 (chapter 2, PAM, here with squared distances): each is the patch that brings the others nearest to
    their centre, among at most 512 patches that are evenly spread over all. So nothing depends on a seed. On twelve
    photos (ViT-S/14, six clusters) the sum of squares came out 1.5 % above that of the best of ten draws by k-means++;
    a single draw was 4.5 % above it.

    Args:
        trace: the reference, on which the clusters are fitted.
        others: other views, with features of the same size; their grids may be others.
        clusters: how many, from 2 to the number of patches of the reference.
        layer: a block's number; negative from the last traced one.

    Returns:
        Numbers from 0 to clusters - 1, on the CPU: one tensor for one trace, a tuple for several.

    Raises:
        ValueError: clusters out of range; features of several sizes, or with NaN or infinite values.
    """
    traces = (trace, *others)
    views = [rearrange(x, "b p d -> (b p) d").cpu().double() for x in _directions(traces, layer)]
    if not 2 <= clusters <= len(views[0]):
        raise InputError(f"clusters is a number from 2 to {len(views[0])}, the reference's patches; got {clusters}")
    from sklearn.cluster import KMeans

    fitted = KMeans(clusters, init=_build(views[0], clusters).numpy(), n_init=1, tol=0.0).fit(views[0].numpy())
    sizes = np.bincount(fitted.labels_, minlength=clusters)
    firsts = [np.flatnonzero(fitted.labels_ == each).min(initial=len(views[0])) for each in range(clusters)]
    number = torch.from_numpy(np.lexsort((firsts, -sizes)).argsort())
    maps = tuple(
        rearrange(number[fitted.predict(x.numpy())], "(b r c) -> b r c", b=len(t), r=t.grid.rows)
        for x, t in zip(views, traces, strict=True)
    )
    return maps if others else maps[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchMatches:
    """Where patches of one view are found in another one of the same scene. Made by `patch_matches`.

    Attributes:
        points: the patches that were sought, (row, col).
        positions: where the most similar patch of the other view lies, (row, col).
        cosines: of the two.
        right: whether it lies where the scene has it, or one patch beside that, also diagonally.
    """

    points: Int[Tensor, "point 2"]
    positions: Int[Tensor, "batch point 2"]
    cosines: Float[Tensor, "batch point"]
    right: Bool[Tensor, "batch point"]

    @property
    def share_right(self) -> float:
        """Of all points of all pictures, those whose match is right."""
        return float(self.right.float().mean())

    def frame(self) -> "pandas.DataFrame":
        """One row for each picture and point: image, row, col, match_row, match_col, cosine, right."""
        import pandas

        batch, count = self.right.shape
        sought, found = self.points.repeat(batch, 1).cpu(), self.positions.flatten(0, 1).cpu()
        return pandas.DataFrame(
            {
                "image": np.repeat(np.arange(batch), count),
                "row": sought[:, 0],
                "col": sought[:, 1],
                "match_row": found[:, 0],
                "match_col": found[:, 1],
                "cosine": self.cosines.flatten().cpu(),
                "right": self.right.flatten().cpu(),
            }
        )


@outside_autocast()
def patch_matches(
    reference: Trace,
    other: Trace,
    points: Iterable[tuple[int, int]] | None = None,
    layer: int = -1,
    *,
    moved: tuple[float, float] = (0.0, 0.0),
) -> PatchMatches:
    """The most similar patch of another view for many patches of the reference, by cosine (Amir et al. 2021).

    Both show the same scene, so that the right answer is known: the same place. A match counts as right up to one patch
    beside it, along rows, columns or both.

        patch_matches(teacher.trace(clean), student.trace(distorted)).share_right

    Args:
        reference: a trace, such as the teacher's of the clean pictures.
        other: a trace of the same pictures over the same grid.
        points: patches as (row, col), the same in each picture; None: all whose place in `other` lies in the grid.
        layer: a block's number; negative from the last traced one.
        moved: by how many patches (rows, cols) the scene lies further down and to the right in `other`. 0 for damage
            that moves nothing, and for a given picture that was laid onto the clean one (`Comparison.shift`).

    Raises:
        ValueError: traces of other pictures, grids or feature sizes, a block that was not traced, no points, or one
            outside of the grid.
    """
    expect_traces(reference, other)
    if (len(reference), reference.grid) != (len(other), other.grid):
        raise InputError(
            f"matches are sought in the same pictures over the same grid; got {len(reference)} of "
            f"{tuple(reference.grid)} in the reference, and {len(other)} of {tuple(other.grid)}"
        )
    if len(moved) != 2:
        raise InputError(f"moved is how far (rows, cols) the scene lies away, in patches; got {moved!r}")
    sought, searched = _directions((reference, other), layer)
    device, grid = sought.device, reference.grid
    places = torch.cartesian_prod(torch.arange(grid.rows), torch.arange(grid.cols)).to(device)
    expected = places + torch.tensor(moved, device=device)
    if points is None:
        inside = (expected >= -0.5) & (expected < torch.tensor(grid, device=device) - 0.5)
        chosen = inside.all(dim=1).nonzero()[:, 0]
    else:
        chosen = torch.tensor([grid.position_of(point) for point in points], dtype=torch.long, device=device)
    if not len(chosen):
        raise InputError("expected points to match, as (row, col); got none that lies in both pictures")
    best = [(a[chosen] @ b.T).max(dim=1) for a, b in zip(sought, searched, strict=True)]  # one picture's at a time
    found = places[torch.stack([each.indices for each in best])]
    return PatchMatches(
        points=places[chosen],
        positions=found,
        cosines=torch.stack([each.values for each in best]),
        right=((found - expected[chosen]).abs() <= NEAR).all(dim=-1),
    )


@outside_autocast()
def propagate_labels(
    reference: Trace, other: Trace, labels: Iterable[tuple[int, int, int]], layer: int = -1
) -> Int[Tensor, "batch rows cols"]:
    """A few labelled patches of one picture, carried to all patches of others: each takes the nearest one's label.

    Near is by cosine after the mean of the reference's patches was subtracted, as in `evaluate_dense`, where ten
    neighbours vote; of a few clicks the nearest decides. Nothing is learned (Caron et al. 2021, DINO, 4.2.2, carries
    labels like this from frame to frame of a video).

        propagate_labels(teacher.trace(clean), student.trace(distorted), [(8, 10, 1), (0, 0, 0)])

    Args:
        reference: a trace of one picture, such as the teacher's of the clean one; also as `other`, to label all of it.
        other: a trace of any pictures, over any grid.
        labels: (row, col, label) of patches of the reference, with whole numbers as labels; of two for one patch the
            last.
        layer: a block's number; negative from the last traced one.

    Returns:
        The labels, on the CPU.

    Raises:
        ValueError: no labels, or one outside of the grid; a reference of several pictures; features of other sizes, or
            with NaN or infinite values.
    """
    if len(reference) != 1:
        raise InputError(f"labels are of the patches of one picture; got a reference of {len(reference)}: trace[0:1]")
    named = {reference.grid.position(row, col): label for row, col, label in labels}
    if not named:
        raise InputError("expected labels as (row, col, label), such as [(8, 10, 1), (0, 0, 0)]; got none")
    known, rows = (x.cpu().numpy() for x in _directions((reference, other), layer))
    vote = LabelVote(known[0, [*named]], np.array([*named.values()]), known[0].mean(axis=0), neighbours=1)
    told = np.array(vote.classes)[vote.probabilities(rows.reshape(-1, rows.shape[-1])).argmax(axis=1)]
    return rearrange(torch.from_numpy(told), "(b r c) -> b r c", b=len(other), r=other.grid.rows)


class LabelVote:
    """The labels of the nearest labelled patches, by centred cosine.

    In single precision, as there may be many: `explorer.evaluation.probes` would take several times as long.
    """

    def __init__(
        self,
        rows: Float[np.ndarray, "patch dim"],
        labels: Shaped[np.ndarray, " patch"],
        centre: Float[np.ndarray, " dim"],
        neighbours: int,
    ) -> None:
        values, places = np.unique(labels, return_inverse=True)
        self.classes = tuple(values.tolist())
        self.neighbours = min(neighbours, len(rows))
        self.ballots = torch.eye(len(values))[places]
        self.centre = torch.from_numpy(centre)
        self.towards = self._directions(rows).T

    def probabilities(self, rows: Float[np.ndarray, "patch dim"]) -> Float[np.ndarray, "patch class"]:
        """The share of the votes of each of `classes`."""
        nearest = (self._directions(rows) @ self.towards).topk(self.neighbours, dim=1).indices
        return self.ballots[nearest].mean(dim=1).numpy()

    def _directions(self, rows: Float[np.ndarray, "patch dim"]) -> Float[Tensor, "patch dim"]:
        return normalize(torch.from_numpy(rows) - self.centre, dim=1)


def _directions(traces: Iterable[Trace], layer: int) -> list[Float[Tensor, "batch patch dim"]]:
    return [normalize(patches, dim=-1) for patches in patches_of_one_size(traces, layer)]


def _build(rows: Float[Tensor, "patch dim"], count: int) -> Float[Tensor, "cluster dim"]:
    """The patches that k-means begins with."""
    some = rows[:: -(-len(rows) // max(_CANDIDATES, count))]
    if len(some) < count:
        some = rows
    distances = (2 - 2 * some @ some.T).clamp_min(0)
    chosen: list[int] = []
    nearest = torch.full((len(some),), torch.inf, dtype=some.dtype)
    for _ in range(count):
        chosen.append(int(torch.minimum(distances, nearest).sum(dim=1).argmin()))
        nearest = torch.minimum(nearest, distances[chosen[-1]])
    return some[chosen]
