"""How far a share of right answers carries, and which of two is ahead: `bootstrap_interval`, `compare_paired`.

Enters: for each test picture whether it was classified rightly (or how often, over several seeds). Leaves: intervals
over the choice of test pictures. Two classifiers of the same pictures are compared picture by picture: their difference
is known much better than either of them, for what is hard for one is mostly hard for both. Deliberately ignored: where
the answers come from, and how training differs from seed to seed.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped

from explorer.errors import InputError

Verdict = Literal["ahead", "level", "behind"]


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """One classifier against another one on the same pictures. Made by `compare_paired`.

    Attributes:
        difference: of the shares of right answers, the first minus the second.
        low, high: the interval of the difference.
    """

    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """ "ahead" where the whole interval is above 0, "behind" where it is below, else "level"."""
        return "ahead" if self.low > 0 else "behind" if self.high < 0 else "level"


def bootstrap_interval(
    right: Shaped[Any, " picture"], level: float = 0.95, *, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Between which values the mean over pictures lies: the percentile bootstrap (Efron 1979).

    Args:
        right: a number for each picture: whether its class was found; or how often, as a share of several seeds.
        level: share of such intervals that hold the mean over all pictures there are.
        resamples: how often as many pictures are drawn with replacement.
        seed: of these draws; with the same number of pictures and seed, the same pictures are drawn.

    Raises:
        ValueError: no pictures, NaN, a level that is not between 0 and 1, or no resamples.
    """
    values = _values(right)
    if not 0 < level < 1 or resamples < 1:
        raise InputError(f"level lies between 0 and 1, and resamples is at least 1; got {level} and {resamples}")
    means = (resamples_of(len(values), resamples, seed) @ values / len(values)).round(
        12
    )  # 0 is 0, also a sum of thirds
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def compare_paired(
    first: Shaped[Any, " picture"],
    second: Shaped[Any, " picture"],
    level: float = 0.95,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedDifference:
    """Whether the first of two classifiers is ahead of the second, from their answers to the same pictures.

    Args:
        first, second: as in `bootstrap_interval`, picture i the same in both.
        level, resamples, seed: as there.

    Raises:
        ValueError: as there, or different numbers of pictures.
    """
    ours, theirs = _values(first), _values(second)
    if len(ours) != len(theirs):
        raise InputError(f"expected answers to the same pictures; got {len(ours)} and {len(theirs)}")
    difference = ours - theirs
    low, high = bootstrap_interval(difference, level, resamples=resamples, seed=seed)
    return PairedDifference(difference=float(difference.mean()), low=low, high=high)


@lru_cache(maxsize=2)  # many rows are measured on the same pictures
def resamples_of(pictures: int, resamples: int, seed: int) -> Float[np.ndarray, "resample picture"]:
    """How often each picture is drawn, where as many as there are are drawn with replacement."""
    return np.random.default_rng(seed).multinomial(pictures, [1 / pictures] * pictures, resamples).astype(np.float64)


def _values(right: Any) -> Float[np.ndarray, " picture"]:
    values = np.asarray(right, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InputError(
            f"expected one finite number for each picture, of at least one picture; got shape {values.shape}"
        )
    return values
