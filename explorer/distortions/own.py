"""A distortion of your own: `register_distortion` makes a name of specs out of a function.

Enters: a function of one picture, a generator and plain numbers. Leaves: an entry in `DISTORTIONS`, so that specs,
configurations, sweeps and pairs take its name like any other. The entry lives as long as the process: each process and
machine that meets the name registers the function again. Code is never stored; what is stored beside a student, in its
card, is what the function says of itself and what it does to a test picture (`own_record`), so that a name that is not
known elsewhere, or stands for something else there, is refused with the reason (`check_own`).
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from explorer.distortions.batching import per_image
from explorer.distortions.operators import DISTORTIONS, NONE, RANDOM_CORRUPTION
from explorer.distortions.parameters import SEVERITY, Description, Parameter
from explorer.distortions.pipeline import Distortion
from explorer.distortions.randomness import Draw
from explorer.errors import InputError
from explorer.system.precision import outside_autocast

Picture = Callable[..., Float[Tensor, "3 height width"]]
Bounds = tuple[int | float, int | float, int | float]  # default, smallest, largest

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TEST_SIZE, _CELLS = 64, 4  # the test picture's side in pixels; its result is kept as means of 4 x 4 cells
_SAME = 0.02  # in pixel values: other processors and versions of torch stay far below
_SWEEP = 7


def register_distortion(
    function: Picture,
    parameters: Mapping[str, Bounds] | None = None,
    *,
    name: str | None = None,
    stochastic: bool = True,
) -> Description:
    """Make a distortion of your own known by name, in this process.

        def scratches(picture, generator, count):
            "White lines from top to bottom."
            columns = torch.randint(picture.shape[2], (count,), generator=generator, device=picture.device)
            picture[:, :, columns] = 1.0
            return picture

        register_distortion(scratches, {"count": (20, 0, 200)})
        damage = distortion("scratches(count=5..40) + gaussian_noise(sigma=0.1)")

    The function is tried on test pictures at once.

    Args:
        function: (picture "3 height width", torch.Generator, **numbers) -> the damaged picture, of the same shape. The
            picture is float RGB, meant for [0, 1], and a copy that may be written to. All chance has to come from the
            generator, which is on the picture's device and is seeded for each picture by itself. The first line of its
            docstring says what it does.
        parameters: a name -> (default, smallest, largest); whole numbers where all three are. The first one is the
            strength of the distortion, which grows with it.
        name: how it is written in specs; None for the function's own name. A name of your own may be registered
            again, and then stands for the new function.
        stochastic: whether the seed changes the result.

    Returns:
        Its entry in `DISTORTIONS`.

    Raises:
        ValueError: a name that cannot be used, bounds that are none, or a function that does not do as described.
    """
    called = getattr(function, "__name__", "") if name is None else name
    _check_name(called)
    known = tuple(_parameter(called, one, bounds) for one, bounds in (parameters or {}).items())
    entry = Description(
        name=called,
        label=called.replace("_", " ").capitalize(),
        summary=((function.__doc__ or "").strip().splitlines() or ["(not described)"])[0],
        operator=_operator(called, function),
        parameters=known,
        stochastic=stochastic,
        strengths=_strengths(known[0]) if known else (),
        own=True,
    )
    _try(entry)
    DISTORTIONS[called] = entry
    return entry


def own_record(damage: Distortion) -> dict[str, dict[str, Any]]:
    """What a pair's card keeps of the distortions that were registered: name -> summary, and what it does to a test
    picture at its defaults (means of 4 x 4 cells of each channel, in pixel values)."""
    return {entry.name: {"summary": entry.summary, "test": _test(entry)} for entry in damage.own}


def check_own(record: object) -> None:
    """Whether the distortions of a card are known here, and do what they did where the card was written.

    Raises:
        ValueError: one of them is not, or does something else; or this is no such record.
    """
    if not isinstance(record, dict):
        raise InputError(f"'own_distortions' should be a dictionary; got {record!r:.200}")
    for name, known in record.items():
        summary, before = (known.get("summary"), known.get("test")) if isinstance(known, dict) else (None, None)
        if not isinstance(summary, str) or not _is_test(before):
            raise InputError(f"'own_distortions' should have a summary and a test of {name!r:.80}")
        entry = DISTORTIONS.get(name)
        if entry is None:
            raise InputError(
                f"the student was trained with '{name:.80}' ({summary!r:.200}), a distortion of its maker's own, which "
                f"is not known here: register the function that was used, with register_distortion, then load again"
            )
        if not np.allclose(_test(entry), before, atol=_SAME):
            raise InputError(
                f"what is registered here as '{name}' ({entry.summary!r:.200}) changes the test picture in another way "
                f"than the '{name}' ({summary!r:.200}) that the student was trained with: register that one"
            )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(f"a distortion's name is made of letters, digits and underscores; got {name!r}: pass name=…")
    taken = name in (NONE.name, RANDOM_CORRUPTION) or (name in DISTORTIONS and not DISTORTIONS[name].own)
    if taken:
        raise InputError(f"'{name}' is a distortion of the library and keeps its meaning; pass another name=…")


def _parameter(owner: str, name: str, bounds: Bounds) -> Parameter:
    if not _NAME.fullmatch(name) or name in (SEVERITY, "clip"):
        raise InputError(f"{owner}: {name!r} cannot be the name of a parameter; 'severity' and 'clip' are taken")
    three = isinstance(bounds, tuple | list) and len(bounds) == 3
    if not three or not all(isinstance(one, int | float) and math.isfinite(one) for one in bounds):
        raise InputError(f"{owner}: {name} is given as three numbers (default, smallest, largest); got {bounds!r}")
    default, low, high = bounds
    if not low < high:
        raise InputError(f"{owner}: the smallest {name} has to lie below the largest; got {low} and {high}")
    whole = all(isinstance(one, int) and not isinstance(one, bool) for one in bounds)
    made = Parameter(
        name=name,
        default=default,
        low=low,
        high=high,
        step=1 if whole else (high - low) / 100,
        unit="as it was registered",
        description=f"{name} of {owner}.",
        integer=whole,
    )
    made.check(default, owner)
    return made


def _strengths(strength: Parameter) -> tuple[int | float, ...]:
    """Values for a sweep, from the smallest to the largest."""
    return tuple(dict.fromkeys(strength.nearest(float(v)) for v in np.linspace(strength.low, strength.high, _SWEEP)))


def _operator(name: str, function: Picture) -> Callable[..., Tensor]:
    def operator(images: Tensor, draw: Draw, **values: int | float) -> Tensor:
        out = function(images[0].clone(), draw.generators[0], **values)
        if not isinstance(out, Tensor) or out.shape != images.shape[1:]:
            got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
            raise InputError(f"'{name}' must return a picture of the shape {tuple(images.shape[1:])}; it gave {got}")
        return out.to(images)[None]

    return per_image(operator)


def _try(entry: Description) -> None:
    """Raises ValueError unless the function does twice the same to a picture, and leaves numbers."""
    try:
        once, again = _on_test_picture(entry), _on_test_picture(entry)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"'{entry.name}' failed on a picture (3, {_TEST_SIZE}, {_TEST_SIZE}) with its defaults: "
            f"{type(error).__name__}: {error}; it is called as function(picture, generator, **parameters)"
        ) from error
    if not torch.isfinite(once).all():
        raise InputError(f"'{entry.name}' turns a picture of pixel values from 0 to 1 into NaN or infinite values")
    if not torch.equal(once, again):
        raise InputError(
            f"'{entry.name}' gave two results for one seed: take all random numbers from the generator that is passed, "
            f"such as torch.rand(3, generator=generator)"
        )
    if not entry.stochastic and not torch.equal(once, _on_test_picture(entry, seed=1)):
        raise InputError(f"'{entry.name}' gave another result for another seed: leave stochastic=True")


@outside_autocast()
def _on_test_picture(entry: Description, seed: int = 0) -> Float[Tensor, "1 3 height width"]:
    """The operator at its defaults on waves of all brightnesses, different in each channel; on the CPU."""
    place = torch.linspace(0, 1, _TEST_SIZE)
    rows, cols = place[:, None], place[None, :]
    waves = [0.5 + 0.5 * torch.sin(7 * (rows + channel * cols) + channel) for channel in range(3)]
    values = {one.name: np.array([one.default], dtype=one.dtype) for one in entry.parameters}
    draw = Draw.for_images(seed, [0], 0, torch.device("cpu"))
    return entry.operator(torch.stack(waves)[None], draw, **values)


def _test(entry: Description) -> list[float]:
    means = F.adaptive_avg_pool2d(_on_test_picture(entry), _CELLS).flatten()
    return [round(value, 4) for value in means.tolist()]


def _is_test(values: object) -> TypeGuard[list[float]]:
    if not isinstance(values, list) or len(values) != 3 * _CELLS**2:
        return False
    return all(isinstance(one, int | float) for one in values)
