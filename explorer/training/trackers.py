"""A run's numbers and maps in other programs while it goes on: `Trackers`, through those of Hugging Face Accelerate.

Enters: the names of trackers, or trackers; each step's numbers, and a picture's attention at each evaluation. Leaves:
what each program keeps, under names and steps that stay the same when a run is resumed. A tracker that fails is left
out from then on, with a warning: no run is lost to it. Deliberately ignored: what is learned, which is the same with
trackers and without.
"""

import importlib.util
import json
import logging
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from explorer.data.image import to_uint8
from explorer.errors import InputError, MissingExtraError, unknown

PROJECT = "vit-explorer"
"""What runs are gathered under, where a program asks for that."""
LOGGED = "trackers.jsonl"
"""The run's name for the trackers, and which steps each of them was given; in the run's folder."""
PICTURE = "attention"
_LEFT_OUT = ("step", "steps", "eta_seconds")  # of a record: the step goes its own way, the others follow from it
_OPACITY = 0.75
_log = logging.getLogger(__name__)

Sight = tuple[Float[Tensor, "3 height width"], Float[Tensor, "rows cols"]]
"""A picture, and where a model looks in it."""


def checked(trackers: str | Sequence[Any]) -> tuple[Any, ...]:
    """The trackers that were asked for, each once.

    Raises:
        ValueError: there is no such tracker.
        ImportError: its package is not installed.
    """
    chosen = (trackers,) if isinstance(trackers, str) else tuple(dict.fromkeys(trackers))
    for one in chosen:
        if not isinstance(one, str):
            if not hasattr(one, "store_init_configuration"):
                raise InputError(
                    f"a tracker is one of the names {', '.join(TRACKERS)}, or one of accelerate.tracking; got "
                    f"{type(one).__name__}"
                )
            continue
        if one not in TRACKERS:
            raise unknown("tracker", one, TRACKERS)
        found = importlib.util.find_spec(one)
        if found is None or found.origin is None:  # a folder of that name, such as they make themselves, is no package
            raise MissingExtraError(f"the tracker '{one}' needs the package {one}", one)
    return chosen


class Trackers:
    """The trackers of one run, in the one process that tells.

    Args:
        chosen: what `checked` gave; none in the other processes.
        out: the run's folder.
    """

    def __init__(self, chosen: Sequence[Any], out: Path) -> None:
        self._chosen, self._out = chosen, out
        self._open: list[Any] = []
        self._last: dict[str, int] = {}  # the last step that each of them was given

    def __bool__(self) -> bool:
        return bool(self._open)

    def start(self, config: Mapping[str, Any], resumed: bool) -> None:
        """Open them, and tell what the run is about.

        Args:
            config: of the run; what is no number, text or truth value is told as JSON.
            resumed: whether it goes on, in the place where it was.
        """
        if not self._chosen:
            return
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # Accelerate's trackers ask it who they are
        name, self._last = self._read() if resumed else (None, {})
        if name is None:
            name = f"{self._out.resolve().name}-{secrets.token_hex(4)}"
            self._note({"run": name}, "w")
        told = {key: value if isinstance(value, _PLAIN) else json.dumps(value) for key, value in config.items()}
        for one in self._chosen:
            kind = one if isinstance(one, str) else one.name
            make = partial(TRACKERS[one], LOGGER_TYPE_TO_CLASS[one], self._out, name, told) if kind is one else None
            self._try(kind, partial(self._begin, one, make, None if kind in self._last else told))

    def log(self, step: int, values: Mapping[str, Any], seen: Sequence[Sight] = ()) -> None:
        """Tell a step's numbers, and what is seen after it.

        Args:
            step: nothing is told twice of the same step.
            values: by name; what they hold themselves is told as "losses/cls".
            seen: pictures with maps, side by side under one colour scale; none: no picture is told.
        """
        numbers = dict(_flat(values))
        pixels = side_by_side(seen) if seen else None
        given = []
        for tracker in list(self._open):
            if step <= self._last.get(tracker.name, -1):
                continue
            if self._try(tracker.name, partial(_send, tracker, step, numbers, pixels)):
                self._last[tracker.name] = step
                given.append(tracker.name)
            else:
                self._open.remove(tracker)
        if given:
            self._note({"step": step, "to": given})

    def close(self) -> None:
        """Let them write what they hold."""
        while self._open:
            tracker = self._open.pop()
            self._try(tracker.name, tracker.finish)

    def _begin(self, tracker: Any, make: Callable[[], Any] | None, config: dict[str, Any] | None) -> None:
        tracker = tracker if make is None else make()
        tracker.start()
        if config is not None:
            tracker.store_init_configuration(config)
        self._open.append(tracker)

    def _try(self, name: str, work: Callable[[], Any]) -> bool:
        try:
            with redirect_stdout(sys.stderr):  # they greet
                work()
        except Exception as error:  # anything may go wrong in them: no network, nobody logged in, a full disk
            _log.warning(
                "the tracker '%s' failed, and the run goes on without it: %s: %s", name, type(error).__name__, error
            )
            return False
        return True

    def _read(self) -> tuple[str | None, dict[str, int]]:
        name, last = None, dict[str, int]()
        with suppress(OSError):
            for line in (self._out / LOGGED).read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):  # the last line of a process that was killed
                    entry = json.loads(line)
                    name = entry.get("run", name)
                    last |= dict.fromkeys(entry.get("to", ()), entry.get("step", 0))
        return name, last

    def _note(self, entry: dict[str, Any], mode: str = "a") -> None:
        with suppress(OSError), (self._out / LOGGED).open(mode, encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def side_by_side(seen: Sequence[Sight]) -> UInt8[np.ndarray, "height both 3"]:
    """Maps over their grey pictures, from left to right, under one colour scale from 0."""
    from matplotlib import colormaps

    highest = max(float(values.max()) for _, values in seen) or 1.0
    shown = []
    for picture, values in seen:
        spread = F.interpolate(values[None, None].float(), picture.shape[1:], mode="nearest-exact")[0, 0]
        heat = colormaps["viridis"](spread.numpy() / highest)[..., :3]
        grey = to_uint8(picture) @ np.array([0.299, 0.587, 0.114]) / 255  # luma, ITU-R BT.601
        shown.append(_OPACITY * heat + (1 - _OPACITY) * grey[..., None])
    return np.round(255 * np.concatenate(shown, axis=1)).astype(np.uint8)


def _flat(values: Mapping[str, Any], path: str = "") -> list[tuple[str, float]]:
    """Numbers by their whole names; what is not known is left out."""
    pairs: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{path}{name}/")
        elif value is not None and name not in _LEFT_OUT:
            pairs.append((f"{path}{name}", float(value)))
    return pairs


def _send(tracker: Any, step: int, numbers: dict[str, float], pixels: np.ndarray | None) -> None:
    """Numbers and picture; Accelerate's tracker for trackio has no `log_images`, but trackio has pictures."""
    told: dict[str, Any] = dict(numbers)
    if pixels is not None and tracker.name == "trackio":
        import trackio

        told[PICTURE] = trackio.Image(pixels)
    tracker.log(told, step=step)
    if pixels is not None and hasattr(tracker, "log_images"):
        form = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
        tracker.log_images({PICTURE: pixels[None]}, step=step, **form)


# How each program is told which run this is, and where it writes.


def _tensorboard(made: Callable[..., Any], out: Path, _name: str, _config: Any) -> Any:
    return made("tensorboard", out)


def _trackio(made: Callable[..., Any], _out: Path, name: str, config: dict[str, Any]) -> Any:
    return made(PROJECT, name=name, resume="allow", config=config)  # later it takes none, and forgets the one before


def _wandb(made: Callable[..., Any], out: Path, name: str, _config: Any) -> Any:
    folder = os.environ.get("WANDB_DIR", str(out))
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    return made(project, name=name, id=name, resume="allow", dir=folder)


_PLAIN = (bool, int, float, str, type(None))
TRACKERS: dict[str, Callable[..., Any]] = {"trackio": _trackio, "tensorboard": _tensorboard, "wandb": _wandb}
