"""Damage that came with a picture: `Given` stands where a `Distortion` would, and names what nobody here has made."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import SupportsIndex

from jaxtyping import Float
from torch import Tensor

from explorer.distortions.pipeline import Distortion, Step
from explorer.errors import InputError


@dataclass(frozen=True, repr=False)
class Given(Distortion):
    """The damage of a picture that was given, and not made here. It is told like a distortion, and cannot be called.

    Attributes:
        shift: (rows, cols) in pixels by which the damaged picture was moved onto the clean one: down and to the right
            where they are above 0. None where nothing was aligned.
        swapped: whether the clean picture looks like the damaged one.
    """

    branches: tuple[tuple[Step, ...], ...] = ()
    shift: tuple[int, int] | None = None
    swapped: bool = False

    @property
    def spec(self) -> str:
        """What stands in the place of a spec; no spec that could be read again."""
        return "your picture"

    @property
    def label(self) -> str:
        return "Your picture's damage"

    def told(self, seed: int) -> str:  # noqa: ARG002  # nothing was drawn
        return ", ".join(part for part in (self.spec, self.moved) if part)

    @property
    def moved(self) -> str:
        """By how much it was moved, in words; empty where it was not aligned."""
        return "" if self.shift is None else _moved(*self.shift)

    def __repr__(self) -> str:
        return f"Given(shift={self.shift})"

    def __call__(
        self,
        images: Float[Tensor, "batch 3 height width"],  # noqa: ARG002
        seed: SupportsIndex = 0,  # noqa: ARG002
        indices: Iterable[SupportsIndex] | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "batch 3 height width"]:
        """Raises ValueError: it is known from its result alone."""
        raise InputError("the damage of a given picture cannot be done to others; give a distortion such as 'fog:3'")


def _moved(rows: int, cols: int) -> str:
    down, right = (
        f"{abs(rows)} px {'down' if rows > 0 else 'up'}",
        f"{abs(cols)} px {'right' if cols > 0 else 'left'}",
    )
    moves = [text for text, pixels in ((down, rows), (right, cols)) if pixels]
    return f"moved {' and '.join(moves)} onto the clean one" if moves else "which lies on the clean one as it is"
