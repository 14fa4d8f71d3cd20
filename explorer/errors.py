"""What people did or met, as errors that say what was expected, what came, and how to mend it.

All that this project raises on purpose is a `UserError`; what the operating system says (`OSError`) and that memory
does not suffice are for people, too. Whoever shows errors tells these in one line. Any other exception is a bug, and is
told as one.
"""

import operator
from collections.abc import Callable, Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something that whoever uses the library did or met, and can mend; the message says how."""


class InputError(UserError, ValueError):
    """A value that does not fit; the message says what was expected, and what came."""


class MissingExtraError(UserError, ImportError):
    """An optional dependency is not installed; the message says which, and how to install it.

    Args:
        what: the part of a sentence that names what is needed for what, such as "this figure needs plotly".
        extra: the extra of this project that brings it.
        instead: what to do without it.
    """

    def __init__(self, what: str, extra: str, instead: str = "") -> None:
        super().__init__(f'{what}, which is not installed: pip install "vit-explorer[{extra}]"{instead}')


def is_for_users(error: BaseException) -> bool:
    """Whether the message says what to mend; anything else is a bug."""
    return isinstance(error, UserError | OSError | MemoryError)


def one_line(error: BaseException) -> str:
    """The message as one line; of a bug, that it is one."""
    told = " ".join(str(error).split()) or type(error).__name__
    if is_for_users(error):
        return told
    return f"this is a bug in vit-explorer, not a mistake of yours ({type(error).__name__}: {told}); please report it"


def as_whole(value: object) -> int | None:
    """A whole number, NumPy's too, as an int; None for anything else, True and False among it."""
    try:
        return None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def as_sides(value: object) -> tuple[int, int] | None:
    """Two whole numbers above 0, such as (rows, cols), as ints; None for anything else."""
    sides = [as_whole(side) or 0 for side in value] if isinstance(value, tuple | list) else []
    return (sides[0], sides[1]) if len(sides) == 2 and min(sides) > 0 else None


def whole_number(name: str, value: object, low: int = 0, bits: int | None = None) -> int:
    """The value as an int, where it is a whole number (NumPy's, too), at least `low`, and fits into so many bits.

    Raises:
        InputError: it is not; the message calls it `name`.
    """
    number = as_whole(value)
    if number is None or number < low or (bits is not None and number >> bits):
        allowed = f", at least {low}" if bits is None else f" from {low} to 2**{bits} - 1"
        raise InputError(f"{name} is a whole number{allowed}; got {value!r}")
    return number


def seed_number(value: object, bits: int = 64) -> int:
    """A seed as an int; raises as `whole_number`."""
    return whole_number("seed", value, bits=bits)


def did_you_mean(name: str, valid: Iterable[str], count: int = 1, show: Callable[[str], str] = repr) -> str:
    """ "; did you mean 'noise'?" where there are names like it, else nothing."""
    near = get_close_matches(name, list(valid), n=count)
    return f"; did you mean {' or '.join(map(show, near))}?" if near else ""


def unknown(what: str, name: str, valid: Iterable[str]) -> InputError:
    """The error for a name that does not exist: suggests the nearest, and lists all that there are."""
    names = list(valid)
    hint = did_you_mean(name, names, show=str) or ";"
    return InputError(f"unknown {what} '{name}'{hint} There are: {', '.join(names)}")
