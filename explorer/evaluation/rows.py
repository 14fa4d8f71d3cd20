"""Features of pictures as plain arrays, one row for each picture, and labels that fit them.

Enters: numpy arrays, tensors or lists. Leaves: float64 arrays in one memory layout, on which the last bits of results
depend; or an error that says what is wrong with them.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from explorer.errors import InputError

_TINY = 1e-12


def as_rows(values: Any, name: str = "features") -> Float[np.ndarray, "image dim"]:
    """Features as an array "image dim".

    Args:
        name: what they are called in errors.

    Raises:
        ValueError: other axes, nothing in it, or NaN.
    """
    array = np.asarray(values.detach().cpu().double() if hasattr(values, "detach") else values)
    if array.ndim != 2:
        raise InputError(f"features have two axes, (image, dim); {name} has shape {array.shape}")
    if 0 in array.shape:
        raise InputError(f"there are no pictures, or no features of them: (image, dim) of {name} is {array.shape}")
    array = np.ascontiguousarray(array, dtype=np.float64)
    broken = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(broken):
        raise InputError(
            f"{name} has NaN or infinite values in {len(broken)} of {len(array)} pictures, first in picture "
            f"{broken[0]}; leave these pictures out, or look for what broke the model"
        )
    return array


def as_labels(labels: Iterable[Any], pictures: int) -> tuple[int | str, ...]:
    """One label for each picture, as plain numbers or names.

    Raises:
        ValueError: not one for each picture.
    """
    plain = tuple(label.item() if hasattr(label, "item") else label for label in labels)
    if len(plain) != pictures:
        raise InputError(
            f"labels that do not fit: {len(plain)} labels for {pictures} pictures; give one for each picture"
        )
    return plain


def directions(rows: Float[np.ndarray, "image dim"]) -> Float[np.ndarray, "image dim"]:
    """Each row divided by its length; a row of zeros has no direction and keeps them."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(min=_TINY)
