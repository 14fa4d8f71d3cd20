"""The frozen results of a forward pass: `Grid` (the patches' rows and columns) and `Trace` (what was seen inside).

Everything downstream (maps, similarities, losses, plots) consumes these two types and nothing else of a model.
A `Trace` knows neither the model nor the pictures that it came from.
"""

from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from explorer.errors import InputError, as_whole

QueryKind = Literal["class token", "attention pooling", "mean of patches"]


class Grid(NamedTuple):
    """The token grid of a picture, in patches: (rows, cols), row 0 at the top."""

    rows: int
    cols: int

    @property
    def patches(self) -> int:
        """How many patches the grid has."""
        return self.rows * self.cols

    def position_of(self, patch: tuple[int, int]) -> int:
        """`position` of a patch that is given as (row, col).

        Raises:
            ValueError: it is not, or lies outside of the grid.
        """
        try:
            row, col = patch
        except (TypeError, ValueError):
            raise InputError(f"a patch is given as (row, col), such as (0, 1); got {patch!r:.80}") from None
        return self.position(row, col)

    def position(self, row: int, col: int) -> int:
        """Position of a patch in the token order (row by row).

        Raises:
            ValueError: the patch lies outside of the grid.
        """
        whole = as_whole(row) is not None and as_whole(col) is not None
        if not whole or not (0 <= row < self.rows and 0 <= col < self.cols):
            raise InputError(
                f"patch (row={row}, col={col}) lies outside of the grid: "
                f"rows go from 0 to {self.rows - 1}, columns from 0 to {self.cols - 1}"
            )
        return row * self.cols + col


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """What a backbone showed of a batch of pictures. Made by `Backbone.trace`.

    Attributes:
        embedding: the global embedding, after the model's final norm (class token) or its own pooling.
        cls: the class token after each traced block, with the model's final norm applied; None without class token.
        patches: the patch tokens after each traced block, with the model's final norm applied.
        attention: attention probabilities (softmax rows, float32 where computed under autocast), or None.
            `query` is 1 for attention="cls" and all tokens for attention="full"; `token` counts prefix tokens too.
        layers: the block that each entry of the layer axis came from.
        grid: rows and columns of the patches.
        prefix: how many tokens stand before the patches (class, distillation, register tokens).
        norms: the L2 norm of every token, those before the patches first, after each traced block and before the
            model's final norm; outside of autograd. None where somebody made the trace without.
        query_kind: what the one row of attention="cls" is: the class token's row; the row of the model's attention
            pooling; or, for models that average their patches, the mean of all rows.
    """

    embedding: Float[Tensor, "batch dim"]
    cls: Float[Tensor, "batch layer dim"] | None
    patches: Float[Tensor, "batch layer patch dim"]
    attention: Float[Tensor, "batch layer head query token"] | None
    layers: tuple[int, ...]
    grid: Grid
    prefix: int
    norms: Float[Tensor, "batch layer token"] | None = None
    query_kind: QueryKind = "class token"

    def __len__(self) -> int:
        return self.embedding.shape[0]

    def position(self, layer: int) -> int:
        """Where `layer` stands on the layer axis: a block's number, or a negative index from the last traced one.

        Raises:
            ValueError: that block was not traced.
        """
        if layer < 0 and -layer <= len(self.layers):
            return len(self.layers) + layer
        if layer in self.layers:
            return self.layers.index(layer)
        raise InputError(
            f"layer {layer} was not traced; this trace holds the blocks {list(self.layers)} "
            f"(negative numbers count from the last of them)"
        )

    @property
    def has_own_rows(self) -> bool:
        """Whether `own_rows` can be had."""
        if self.attention is None:
            return False
        return self.attention.shape[3] == 1 or self.query_kind != "attention pooling"

    def own_rows(self) -> Float[Tensor, "batch layer head token"]:
        """The picture's own attention row in each traced block: the row that `query_kind` names.

        Raises:
            ValueError: no attention was traced; or it is the full attention of a model that pools by attention, where
                the pooling's row is not among the blocks' rows.
        """
        if self.attention is None:
            raise InputError("this trace holds no attention: trace(images, attention='cls') or 'full' keeps it")
        if self.attention.shape[3] == 1 or self.query_kind == "class token":
            return self.attention[:, :, :, 0]
        if self.query_kind == "mean of patches":
            return self.attention[:, :, :, self.prefix :].mean(dim=3)
        raise InputError(
            "this model has no class token and pools by attention: trace(images, attention='cls') holds the pooling's "
            "row, attention='full' only those of the patches"
        )

    def __getitem__(self, index: slice) -> "Trace":
        """The same trace for a slice of the batch."""
        if not isinstance(index, slice):
            raise TypeError(
                f"a Trace is indexed by a slice, such as trace[0:1], which keeps the batch axis; got {index!r}"
            )
        return self._map(lambda tensor: tensor[index])

    def detach(self) -> "Trace":
        """The same trace outside of autograd."""
        return self._map(lambda tensor: tensor.detach())

    def to(self, device: object) -> "Trace":
        """The same trace on another device or in another precision (anything that `Tensor.to` takes)."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, function) -> "Trace":  # type: ignore[no-untyped-def]
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **{name: function(tensor) for name, tensor in tensors.items()})


def expect_traces(*given: object) -> None:
    """Refuse what is no trace.

    Raises:
        ValueError: there is such a one.
    """
    for one in given:
        if not isinstance(one, Trace):
            raise InputError(f"expected a Trace, as backbone.trace(images) gives it; got {type(one).__name__}")
