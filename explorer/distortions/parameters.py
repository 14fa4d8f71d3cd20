"""What an operator is and what may be set on it: `Description` and `Parameter`.

Sliders of a user interface and the checks of a spec read the same ranges. Nothing here touches an image.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real

import numpy as np
from torch import Tensor

from explorer.distortions.randomness import PARAMETER, uniform_number
from explorer.errors import InputError, did_you_mean

Value = int | float | tuple[int | float, int | float]  # a number, or the (low, high) between which images draw theirs
SEVERITY = "severity"  # stands for all parameters of an operator that has severities


def by_severity(**columns: tuple[int | float, ...]) -> dict[int, dict[str, int | float]]:
    """Severity 1, 2, ... -> parameters, from the values of each parameter at these severities."""
    names = list(columns)
    return {
        severity: dict(zip(names, row, strict=True))
        for severity, row in enumerate(zip(*columns.values(), strict=True), start=1)
    }


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """The error for a name that does not exist: lists the valid ones and suggests the nearest."""
    names = list(valid)
    listed = ", ".join(names) or "(it has none)"
    return InputError(f"unknown {kind} '{name}', expected one of: {listed}{did_you_mean(name, names)}")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One number that may be set on an operator.

    Attributes:
        name: how it is written in a spec.
        default: its value where a spec does not say.
        low: the smallest value, itself allowed.
        high: the largest value, itself allowed.
        step: a sensible step of a slider.
        unit: what the number counts.
        description: one sentence for people.
        integer: whole numbers only.
        odd: odd whole numbers only.
    """

    name: str
    default: int | float
    low: int | float
    high: int | float
    step: int | float
    unit: str
    description: str
    integer: bool = False
    odd: bool = False

    @property
    def dtype(self) -> type[np.number]:
        """Of an array of its values."""
        return np.int64 if self.integer else np.float64

    def check(self, value: object, owner: str) -> Value:
        """The value in canonical form: int or float, or (low, high) for a range.

        Raises:
            ValueError: not a number or pair of numbers, or outside of what the parameter allows.
        """
        if not isinstance(value, tuple | list):
            return self._check_number(value, owner)
        if len(value) != 2:
            raise InputError(f"{owner}: a range of {self.name} is a pair (low, high), got {value!r}")
        low, high = (self._check_number(bound, owner) for bound in value)
        if low > high:
            raise InputError(f"{owner}: the range of {self.name} must go from low to high, got {low}..{high}")
        return low if low == high else (low, high)

    def per_image(self, value: Value, seed: int, indices: Sequence[int], position: int, place: int) -> np.ndarray:
        """One value for each image, int64 or float64: repeated, or drawn uniformly from a range."""
        if not isinstance(value, tuple):
            return np.full(len(indices), value, dtype=self.dtype)
        shares = [uniform_number(seed, index, position, PARAMETER + place) for index in indices]
        return np.array([self._between(value, share) for share in shares], dtype=self.dtype)

    def nearest(self, value: float) -> int | float:
        """The value, or the whole or odd number next to it where only such are allowed."""
        if not self.integer:
            return value
        return 2 * math.floor(value / 2) + 1 if self.odd else math.floor(value + 0.5)

    def _between(self, bounds: tuple[int | float, int | float], share: float) -> int | float:
        low, high = bounds
        if not self.integer:
            return min(low + share * (high - low), high)
        allowed = range(int(low), int(high) + 1, 2 if self.odd else 1)
        return allowed[int(share * len(allowed))]

    def _check_number(self, value: object, owner: str) -> int | float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise InputError(f"{owner}: {self.name} must be a number or a range (low, high), got {value!r}")
        number = float(value)
        if not self.low <= number <= self.high:  # also catches nan
            raise InputError(f"{owner}: {self.name} must lie from {self.low} to {self.high} ({self.unit}), got {value}")
        if not self.integer:
            return number + 0.0  # -0.0 becomes 0.0: equal values are written alike
        if not isinstance(value, Integral) and not number.is_integer():
            raise InputError(f"{owner}: {self.name} must be a whole number ({self.unit}), got {value}")
        if self.odd and number % 2 == 0:
            raise InputError(f"{owner}: {self.name} must be odd ({self.unit}), got {value}; {self._odd_hint(number)}")
        return int(number)

    def _odd_hint(self, even: float) -> str:
        near = [int(even) + offset for offset in (-1, 1) if self.low <= even + offset <= self.high]
        return f"use {' or '.join(map(str, near))}"


@dataclass(frozen=True, kw_only=True)
class Description:
    """An operator: what it is called, what may be set, and the function that does it.

    Attributes:
        name: how it is written in a spec.
        label: a short name for people.
        summary: one sentence, with the source.
        operator: (images, draw, **values per image) -> new images of the same shape; see `operators`.
        parameters: what may be set, in the order of the canonical spec.
        severities: ImageNet-C severity 1..5 -> parameters, None where ImageNet-C has no such corruption.
        stochastic: whether the seed changes the result even with fixed parameters.
        strength: the parameter that says how strong it is, the more the stronger; the first one, unless it is named.
        strengths: seven values of it, from weak to strong, for a sweep.
        own: whether a user registered it, in this process alone; see `own`.
    """

    name: str
    label: str
    summary: str
    operator: Callable[..., Tensor] = field(repr=False)
    parameters: tuple[Parameter, ...] = ()
    severities: Mapping[int, Mapping[str, int | float]] | None = field(default=None, hash=False)
    stochastic: bool = True
    strength: str = ""
    strengths: tuple[int | float, ...] = ()
    own: bool = False

    def __post_init__(self) -> None:
        if not self.strength and self.parameters:
            object.__setattr__(self, "strength", self.parameters[0].name)

    def check(self, given: Mapping[str, object]) -> tuple[tuple[str, Value], ...]:
        """All parameters as (name, value), defaults filled in, in canonical order.

        A severity stands for all parameters: a number becomes theirs, a range stays ("severity", (low, high)), from
        which each image draws one.

        Raises:
            ValueError: an unknown parameter, a value that it does not allow, or parameters beside a severity.
        """
        names = [parameter.name for parameter in self.parameters]
        for name in given:
            if name not in (*names, SEVERITY):
                raise unknown_name(f"parameter of {self.name}", name, [*names, "clip"])
        if SEVERITY in given:
            return self._check_severity(given)
        return tuple((one.name, one.check(given.get(one.name, one.default), self.name)) for one in self.parameters)

    def at_severity(self, severity: int | float) -> Mapping[str, int | float]:
        """The parameters of an ImageNet-C severity; between two of them each moves in a straight line.

        Raises:
            ValueError: ImageNet-C has no such corruption, or the severity is outside of 1 to 5.
        """
        levels = self._severities()
        if not min(levels) <= severity <= max(levels):
            raise InputError(
                f"{self.name}: ImageNet-C severities go from {min(levels)} to {max(levels)}, got {severity}"
            )
        below, share = math.floor(severity), severity - math.floor(severity)
        if not share:
            return levels[below]
        pairs = {one: (levels[below][one.name], levels[below + 1][one.name]) for one in self.parameters}
        return {one.name: one.nearest(low + share * (high - low)) for one, (low, high) in pairs.items()}

    def per_image(
        self, values: Sequence[tuple[str, Value]], seed: int, indices: Sequence[int], position: int
    ) -> dict[str, np.ndarray]:
        """What `check` returned as one array for each parameter, one value per image, ranges drawn."""
        if values and values[0][0] == SEVERITY:
            return self._per_image_severity(values[0][1], seed, indices, position)
        return {
            parameter.name: parameter.per_image(value, seed, indices, position, place)
            for place, (parameter, (_, value)) in enumerate(zip(self.parameters, values, strict=True))
        }

    def _per_image_severity(
        self, bounds: Value, seed: int, indices: Sequence[int], position: int
    ) -> dict[str, np.ndarray]:
        assert isinstance(bounds, tuple)  # a single severity has become parameters
        low, high = bounds
        drawn = [
            self.at_severity(min(low + uniform_number(seed, index, position, PARAMETER) * (high - low), high))
            for index in indices
        ]
        return {one.name: np.array([values[one.name] for values in drawn], dtype=one.dtype) for one in self.parameters}

    def _check_severity(self, given: Mapping[str, object]) -> tuple[tuple[str, Value], ...]:
        others = [name for name in given if name != SEVERITY]
        if others:
            raise InputError(f"{self.name}: a severity sets every parameter; drop {others[0]} or the severity")
        value = given[SEVERITY]
        ends = value if isinstance(value, tuple | list) else (value,)
        if not 1 <= len(ends) <= 2 or any(isinstance(one, bool) or not isinstance(one, Real) for one in ends):
            raise InputError(f"{self.name}: severity must be a number or a range (low, high), got {value!r}")
        checked = [self.at_severity(one) for one in ends]
        if float(ends[0]) > float(ends[-1]):
            raise InputError(
                f"{self.name}: the range of severities must go from low to high, got {ends[0]}..{ends[-1]}"
            )
        if float(ends[0]) == float(ends[-1]):
            return self.check(checked[0])
        return ((SEVERITY, (float(ends[0]), float(ends[1]))),)

    def _severities(self) -> Mapping[int, Mapping[str, int | float]]:
        if self.severities is None:
            example = ", ".join(f"{parameter.name}={parameter.default}" for parameter in self.parameters)
            usage = f"{self.name}({example})" if example else self.name
            raise InputError(f"'{self.name}' is not in ImageNet-C and has no severities; write '{usage}' instead")
        return self.severities
