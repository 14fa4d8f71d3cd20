"""What may be chosen for a training: types, how they are read from a command line, and checks that name the field.

Enters: words or values. Leaves: values, or an error that says what the field takes. Needs no torch, so that a command's
help answers at once.
"""

import math
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from explorer.errors import InputError, seed_number, whole_number

Blocks = int | Sequence[int]
Rows = Literal["all", "own"]
Views = int | Literal["fixed", "fresh"]
Precision = Literal["auto", "float32", "bfloat16"]
ATTENTION_LAYERS = PATCH_LAYERS = 4


def block_numbers(chosen: Blocks, depth: int) -> list[int]:
    """Block numbers from 0, of a model of `depth` blocks."""
    return list(range(depth))[-chosen:] if isinstance(chosen, int) else [number % depth for number in chosen]


def read_parts(text: str, kind: Callable[[str], Any], expected: str) -> tuple[Any, ...]:
    """Parts with commas between them."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"expected {expected}, got {text!r}") from None


read_numbers = partial(read_parts, kind=int, expected="whole numbers such as 0,5,11")
read_area = partial(read_parts, kind=float, expected="two numbers such as 0.4,1")


def read_blocks(text: str) -> int | tuple[int, ...]:
    """ "4", so many of the last blocks; "0,5,11", block numbers."""
    numbers = read_numbers(text)
    return numbers if "," in text else numbers[0]


def read_limit(text: str) -> float | None:
    """A number, or "none"."""
    try:
        return None if text == "none" else float(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a number, or none, got {text!r}") from None


def read_views(text: str) -> int | str:
    """ "fresh", "fixed" or a number."""
    return int(text) if text.isdigit() else text


def check_weights(weights: dict[str, float]) -> None:
    """Raises ValueError unless all weights are finite and not negative, and one of them is above 0."""
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise InputError(f"the weight of '{name}' is a number, 0 (off) or above; got {weight!r}")
    if not any(weights.values()):
        raise InputError(f"nothing to learn: one of the weights {', '.join(weights)} has to be above 0")


def check_views(views: object, area: object) -> None:
    """Raises ValueError for no such kind of views, or an area out of range; see `explorer.training.crops.Stream`."""
    if views not in ("fixed", "fresh") and (type(views) is not int or views < 1):
        raise InputError(
            f"views must be 'fresh', 'fixed', or how many crops each picture has, at least 1; got {views!r}"
        )
    valid = isinstance(area, tuple) and len(area) == 2 and all(isinstance(one, int | float) for one in area)
    if not valid or not 0 < area[0] <= area[1] <= 1:  # type: ignore[index]
        raise InputError(f"area is the smallest and largest share of a picture, within (0, 1]; got {area!r}")


def settle_whole(config: object, lowest: Mapping[str, int]) -> None:
    """Turns these fields of a frozen dataclass, and its seed, into ints; raises ValueError where that cannot be."""
    for name, low in lowest.items():
        object.__setattr__(config, name, whole_number(name, getattr(config, name), low))
    object.__setattr__(config, "seed", seed_number(config.seed, 63))  # type: ignore[attr-defined]


def check_number(name: str, value: object, positive: bool = False, below: float = math.inf) -> None:
    """Raises ValueError unless it is a number from 0 on, or above 0, and below `below`."""
    valid = isinstance(value, int | float) and not isinstance(value, bool)
    if not valid or not 0 <= value < below or (positive and value == 0):  # type: ignore[operator]
        bound = "above 0" if positive else "0 or above"
        raise InputError(
            f"{name} is a number, {bound}{f' and below {below:g}' if below < math.inf else ''}; got {value!r}"
        )


def check_word(name: str, value: object, words: Sequence[object]) -> None:
    """Raises ValueError unless it is one of the words, and of their type."""
    if value not in words or type(value) is not type(words[0]):
        raise InputError(f"{name} must be one of {', '.join(map(repr, words))}; got {value!r}")


def check_blocks(name: str, value: object) -> None:
    """Raises ValueError unless it is how many of the last blocks, or block numbers."""
    if isinstance(value, tuple):
        check_numbers(name, value)
    elif type(value) is not int or value < 1:
        raise InputError(f"{name} is how many of the last blocks, at least 1, or block numbers; got {value!r}")


def check_numbers(name: str, value: object, low: int | None = None) -> None:
    """Raises ValueError unless these are different whole numbers, from `low` on."""
    whole = isinstance(value, tuple) and all(type(one) is int and (low is None or one >= low) for one in value)
    if not whole or not 0 < len(set(value)) == len(value):  # type: ignore[call-overload,arg-type]
        raise InputError(f"{name} are different whole numbers, such as (0, 3); got {value!r}")


def check_size(size: object) -> None:
    """Raises ValueError unless it is a number of pixels, or (height, width)."""
    sides = size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise InputError(f"image_size is a number of pixels, or (height, width); got {size!r}")
