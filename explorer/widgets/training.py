"""One training run in a thread: started, stopped, watched, resumed. No widget in here.

Enters: what `explorer.distill` takes, and a picture to be watched. Leaves: records, a `Recovery`, and a folder that is
a loadable pair from the first checkpoint on, however the run ends.
"""

import atexit
import logging
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal
from weakref import WeakSet

from jaxtyping import Float
from torch import Tensor

from explorer.data.image import Source, load_image
from explorer.errors import is_for_users
from explorer.inspection.recovery import Recovery
from explorer.models.backbones import Backbone, as_height_width
from explorer.models.pairs import CARD, load_teacher, read_card, read_pair, weights_of
from explorer.system.replacing import current
from explorer.training.config import DistillConfig
from explorer.training.crops import Pictures
from explorer.training.distillation import distill
from explorer.training.records import Record

State = Literal["ready", "running", "stopping", "stopped", "finished", "failed"]
MOMENTS = 48
"""At most so many moments are recorded in one run, one more at its end and one before it."""
_LAST_SECONDS = 20.0
_log = logging.getLogger(__name__)


class Training:
    """A run that somebody watches. Its thread writes, everybody may read.

    Attributes:
        state: how it stands.
        failure: what ended it, if it failed.
        records: of all steps that were made here.
        history: the same as plain numbers, with those that were made before it was resumed.
        before: alignment of the held-out pictures at step 0; None as long as it is not known.
        recovery: how the student came to see the watched picture, or None.
        happened: is called in the run's thread after each step, and when the state has changed.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: Pictures | Float[Tensor, "picture 3 height width"],
        config: DistillConfig,
        out: Path,
        watch: Source | None = None,
    ) -> None:
        self.images, self.config, self.out = images, config, out
        self.teacher = _at_size(backbone, config)
        self.state: State = "ready"
        self.failure: Exception | None = None
        self.records: list[Record] = []
        self.history: list[dict[str, Any]] = []
        self.before: dict[str, float | None] | None = None
        self.recovery: Recovery | None = None
        self.happened: Callable[[], None] = lambda: None
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._ended.set()
        self._lock = threading.Lock()
        if watch is not None:
            picture = load_image(watch, self.teacher.height_width)
            self.recovery = Recovery(self.teacher, picture, config.distortion)

    @property
    def going_on(self) -> bool:
        """Whether there is work under way."""
        return self.state in ("running", "stopping")

    @property
    def step(self) -> int:
        """The last step that was made."""
        return int(self.history[-1]["step"]) if self.history else 0

    @property
    def resumable(self) -> bool:
        """Whether the folder holds a run that has not come to its end."""
        if not current(self.out, CARD).is_file():
            return False
        try:
            card = read_card(self.out)
        except ValueError:
            return False
        return bool(card["step"] < card["config"]["steps"])

    def start(self, resume: bool | None = None) -> None:
        """Begin, or go on from the last checkpoint; nothing happens while it goes on already.

        Args:
            resume: None for whether it was begun here before.
        """
        with self._lock:
            if self.going_on:
                return
            begun = self.state != "ready" and current(self.out, CARD).is_file()
            self._stop.clear()
            self.failure = None
            self.state = "running"
            goes_on = begun if resume is None else resume
            self._ended.clear()
            _living.add(self)
            threading.Thread(target=self._work, args=(goes_on,), name="vit-explorer run", daemon=True).start()
        self.happened()

    def stop(self) -> None:
        """End after the step that is being computed; `wait` returns when the folder is up to date."""
        self._stop.set()
        if self.state == "running":
            self.state = "stopping"
            self.happened()

    def wait(self, seconds: float | None = None) -> bool:
        """Until the run has ended, or the time is over; whether it has ended."""
        return self._ended.wait(seconds)  # not `Thread.join`, which takes a thread for ended after an interrupt

    # The thread's part.

    def _work(self, resume: bool) -> None:
        state: State = "failed"
        try:
            self._train(resume)
            state = "finished" if self.step >= self.config.steps else "stopped"
        except Exception as error:
            self.failure = error
            if not is_for_users(error):
                _log.exception("the run in '%s' failed", self.out)
        finally:
            self.state = state
            self.happened()
            self._ended.set()

    def _train(self, resume: bool) -> None:
        if resume and current(self.out, CARD).is_file():
            card, _, history = read_pair(self.out)
            self.history, self.before = list(history), card["metrics"].get("before")
            self.records = [record for record in self.records if record.step <= card["step"]]
            if self.recovery is not None:
                self.recovery.rewind(card["step"])
            self.happened()
        run = distill(self.teacher, self.images, self.config, self.out, resume=resume)
        with closing(run) as records:  # type: ignore[type-var]
            if self._stop.is_set():
                return
            for record in records:
                self._take(record)
                if self._stop.is_set():
                    return

    def _take(self, record: Record) -> None:
        every = -(-self.config.steps // MOMENTS)
        last = record.step == record.steps or self._stop.is_set()
        if self.recovery is not None and (last or record.step % every == 0):
            self.recovery.add(record.step, record.student)
        if self.before is None:
            self.before = read_card(self.out)["metrics"].get("before")
        self.records.append(record)
        self.history.append(record.as_dict())
        self.happened()


def _at_size(backbone: Backbone, config: DistillConfig) -> Backbone:
    """The backbone at the size that is trained at."""
    if backbone.height_width == as_height_width(config.image_size):
        return backbone
    return load_teacher(backbone.name, weights_of(backbone), config.image_size, backbone.device)


_living: "WeakSet[Training]" = WeakSet()


def _end_all() -> None:
    """The kernel ends: let every run write its last checkpoint."""
    running = [training for training in _living if training.going_on]
    for training in running:
        training.stop()
    for training in running:
        training.wait(_LAST_SECONDS)


atexit.register(_end_all)
