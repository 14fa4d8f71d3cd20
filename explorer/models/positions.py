"""In which grid the positions of stored weights stand, and how they come to another one: `Positions`.

Enters: tensors under timm's names, the architecture's skeleton, grids of patches. Leaves: a grid, and the tensors of
another. A table of positions does not tell its shape: 144 of them are 12 x 12, 8 x 18 or 9 x 16, and timm takes them
for a square. Deliberately ignored: models whose table keeps its shape (NaFlexViT), or that have none (rotary ones).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from explorer.models.checkpoints import WeightsError
from explorer.models.trace import Grid

_ABSOLUTE, _RELATIVE = "pos_embed", "relative_position_bias_table"
_WITHOUT_ANTIALIASING = ("flexi", "radio")  # timm resamples these two bilinearly


def holds_positions(names: Iterable[str]) -> bool:
    """Whether there are tensors among these, under timm's names, that belong to one grid of patches."""
    return any(name.rpartition(".")[2] in (_ABSOLUTE, _RELATIVE) for name in names)


@dataclass(frozen=True, kw_only=True)
class Positions:
    """The positions in a file.

    Attributes:
        tensors: the file's.
        architecture, whole: the timm name, and its skeleton.
        native: the grid that the skeleton is made for.
        exact: whether all names are timm's; other programs may count a class token among the positions, or not.
    """

    tensors: Mapping[str, Tensor]
    architecture: str
    whole: nn.Module
    native: Grid
    exact: bool

    def fits(self, grid: Grid) -> bool:
        """Whether there are as many positions as such a grid has."""
        spare = {name: (_count(tensor) - _expected(name, grid), extra) for name, tensor, extra in self._stored()}
        return all(found == extra or (not self.exact and found in (0, 1)) for found, extra in spare.values())

    def grid(self, wanted: Grid) -> Grid | None:
        """The one of the architecture's own grid and the wanted one that they fit; None: there are no positions.

        Raises:
            WeightsError: they fit neither, or both: somebody has to say which grid it is.
        """
        if not self._stored():
            return None
        fitting = [grid for grid in dict.fromkeys((self.native, wanted)) if self.fits(grid)]
        if len(fitting) == 1:
            return fitting[0]
        grids = [f"{grid.rows} x {grid.cols}" for grid in dict.fromkeys((self.native, wanted))]
        found = f"fit both {' and '.join(grids)} patches" if fitting else f"do not make {' or '.join(grids)} patches"
        raise WeightsError(
            f"{self._misfit()}, which {found}. A file does not tell the shape of its grid: say it, load_backbone(..., "
            f"grid=(rows, cols)), or name a model of the size that it was trained at"
        )

    def check(self, grid: Grid) -> None:
        """Refuse a grid that was said and cannot be.

        Raises:
            WeightsError: there are more positions, or fewer; or not all names are timm's, so that it has to be square.
        """
        if not self.fits(grid):
            raise WeightsError(f"{self._misfit()}, and grid={tuple(grid)} was said to be theirs")
        if self._stored() and not self.exact and grid.rows != grid.cols:
            raise WeightsError(
                f"these weights do not fit '{self.architecture}': their names are not timm's, and then a grid that is "
                f"not square, {tuple(grid)}, cannot be resampled; give them timm's names"
            )

    def moved(self, old: Grid, new: Grid) -> dict[str, Tensor]:
        """The tensors of positions, resampled as timm does it; none where timm itself will do it right, which it does
        from a square of another number of positions.
        """
        square = old.rows == old.cols and (old == self.native or old.patches != self.native.patches)
        if (square and old.patches != new.patches) or not self.exact:
            return {}
        antialias = not any(word in self.architecture for word in _WITHOUT_ANTIALIASING)
        return {
            name: _absolute(tensor, extra, old, new, antialias)
            if name == _ABSOLUTE
            else _relative(tensor, extra, old, new)
            for name, tensor, extra in self._stored()
        }

    def _stored(self) -> list[tuple[str, Tensor, int]]:
        """Names and tensors with an entry for each position, and how many others they have (class token …)."""
        return [
            (name, self.tensors[name], _count(own) - _expected(name, self.native))
            for name, own in self.whole.state_dict().items()
            if ((name == _ABSOLUTE and own.ndim == 3) or (name.endswith(_RELATIVE) and own.ndim == 2))
            and name in self.tensors
            and self.tensors[name].ndim == own.ndim
        ]

    def _misfit(self) -> str:
        name, tensor, extra = self._stored()[0]
        return f"these weights do not fit '{self.architecture}': '{name}' holds {_count(tensor) - extra} positions"


def _absolute(tensor: Tensor, extra: int, old: Grid, new: Grid, antialias: bool) -> Tensor:
    """Those of the prefix tokens stand first, and stay."""
    if old == new:
        return tensor
    table = rearrange(tensor[:, extra:].float(), "1 (r c) d -> 1 d r c", r=old.rows)
    table = F.interpolate(table, size=tuple(new), mode="bicubic" if antialias else "bilinear", antialias=antialias)
    return torch.cat([tensor[:, :extra], rearrange(table, "1 d r c -> 1 (r c) d").to(tensor.dtype)], dim=1)


def _relative(tensor: Tensor, extra: int, old: Grid, new: Grid) -> Tensor:
    """An entry for each distance in rows and columns; those of the class token stand last, and stay."""
    count, heads = len(tensor) - extra, tensor.shape[1]
    table = rearrange(tensor[:count], "(r c) h -> h r c", r=2 * old.rows - 1)
    shape = (heads, 2 * new.rows - 1, 2 * new.cols - 1)
    from timm.layers import resize_rel_pos_bias_table  # late: see `architectures`

    table = resize_rel_pos_bias_table(table, new_window_size=tuple(new), new_bias_shape=shape)
    return torch.cat([rearrange(table, "h r c -> (r c) h"), tensor[count:]])


def _count(tensor: Tensor) -> int:
    return tensor.shape[-2]


def _expected(name: str, grid: Grid) -> int:
    return grid.patches if name == _ABSOLUTE else (2 * grid.rows - 1) * (2 * grid.cols - 1)
