"""What a training run tells: a `Record` after each step, and the two errors of its own."""

import math
from dataclasses import dataclass, fields
from typing import Any

from explorer.analysis.similarity import Alignment
from explorer.errors import UserError
from explorer.models.backbones import Backbone


class DivergedError(UserError, RuntimeError, FloatingPointError):
    """A loss, a gradient or a weight is not finite any more. The message names the step and the term."""


class CheckpointError(OSError):
    """A checkpoint could not be written (such as on a full disk); the one before it is still there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """What happened in one step.

    Attributes:
        step, steps: this step, counted from 1, and how many there are.
        losses: each level before its weight, and "loss", their weighted sum; means over the step's pictures.
        lr: learning rate.
        images_per_second: over the last steps, without the time that whoever takes the records spends.
        eta_seconds: how long the remaining steps will take at this pace.
        alignment: of the student on the distorted probe pictures with the teacher on the clean ones; None between
            evaluations.
        student: the student as it is now, not a copy: the next step changes it. Between two steps it may be shown
            pictures of the run's size, see `explorer.Recovery`.
    """

    step: int
    steps: int
    losses: dict[str, float]
    lr: float
    images_per_second: float
    eta_seconds: float
    alignment: Alignment | None = None
    student: Backbone

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, as they are written to the history; alignment as its averages."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "student"}
        return {**values, "alignment": self.alignment.as_json() if self.alignment else None}


def not_finite(losses: dict[str, float]) -> str | None:
    """Which loss is not finite, in words; None where all are."""
    names = [*(name for name in losses if name != "loss"), "loss"]  # their sum last: a level says more
    return next((f"the loss term '{one}' is {losses[one]}" for one in names if not math.isfinite(losses[one])), None)
