"""One training run that somebody watches: begun, stopped, resumed. Nothing in here knows a widget or a page.

Enters: what `explorer.distill` takes, and a picture to be watched. Leaves: records, a `Recovery`, and a folder that is
a loadable pair from the first checkpoint on, however the run ends.
"""

import atexit
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal
from weakref import WeakSet

from jaxtyping import Float
from torch import Tensor

from explorer.data.image import Source, load_image
from explorer.errors import is_for_users, one_line
from explorer.inspection.recovery import Recovery
from explorer.models.backbones import Backbone, as_height_width, identified
from explorer.models.pairs import CARD, load_teacher, read_card, read_pair, weights_of
from explorer.system.replacing import current
from explorer.training.config import DistillConfig
from explorer.training.crops import Pictures
from explorer.training.distillation import distill
from explorer.training.records import Record

State = Literal["ready", "waiting", "running", "stopping", "stopped", "finished", "failed"]
MOMENTS = 48
"""At most so many moments are recorded in one run, one more at its end and one before it."""
_LAST_SECONDS = 20.0
_log = logging.getLogger(__name__)


class Session:
    """How far a run is, and what was recorded. One thread works on it, everybody may read.

    Attributes:
        folder, config: of the run.
        state, message: how it stands, and a sentence about it (why it failed) or None.
        failure: what ended it, if it failed.
        history: a dictionary for each step, as in the pair's history, with those that were made before it was resumed.
        before: alignment of the held-out pictures at step 0; None as long as it is not known.
        recovery: how the student came to see the watched picture, or None.
        happened: is called by whoever works, after each step and when the state has changed.
    """

    def __init__(self, folder: Path, config: DistillConfig, state: State = "ready") -> None:
        self.folder, self.config = folder, config
        self.state: State = state
        self.message: str | None = None
        self.failure: Exception | None = None
        self.history: list[dict[str, Any]] = []
        self.before: dict[str, float | None] | None = None
        self.recovery: Recovery | None = None
        self.happened: Callable[[], None] = lambda: None
        self._stop = threading.Event()
        self._turn = threading.Lock()  # of whoever changes the state

    @property
    def going_on(self) -> bool:
        """Whether there is work under way."""
        return self.state in ("running", "stopping")

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in ("stopped", "finished", "failed")

    @property
    def step(self) -> int:
        """The last step that was made."""
        return int(self.history[-1]["step"]) if self.history else 0

    def stop(self) -> None:
        """End after the step that is being computed."""
        self._stop.set()
        with self._turn:  # the run may end at this very moment
            heeded = self.state == "running"
            if heeded:
                self.state, self.message = "stopping", None
        if heeded:
            self.happened()

    def now(self, state: State, message: str | None = None) -> None:
        """Change the state, and tell whoever watches."""
        with self._turn:
            self.state, self.message = state, message
        self.happened()

    # For the thread that works.

    def work(self, learn: Callable[[], None]) -> None:
        """Learn until the end, a stop or an error, which is kept. Never raises an `Exception`.

        Args:
            learn: makes ready what is needed, and calls `train`.
        """
        if not self.going_on:
            self.now("running")
        state: State = "failed"
        try:
            learn()
            state = "finished" if self.step >= self.config.steps else "stopped"
        except Exception as error:
            self.failure = error
            if not is_for_users(error):
                _log.exception("the run in '%s' failed", self.folder)
        finally:
            self.leave()
            self.now(state, self.explained())

    def train(
        self,
        teacher: Backbone,
        images: Pictures | Float[Tensor, "picture 3 height width"],
        resume: bool,
        paced: Callable[[Iterable[Record]], Iterator[Record]] = iter,
    ) -> None:
        """Go on from the last checkpoint, or begin, until the end or a stop.

        Args:
            resume: as for `explorer.distill`.
            paced: hands on the records, when it is time for the next step.
        """
        if resume and current(self.folder, CARD).is_file():
            card, _, history = read_pair(self.folder)
            self.history, self.before = list(history), card["metrics"].get("before")
            self.rewind(card["step"])
            self.happened()
        with closing(distill(teacher, images, self.config, self.folder, resume=resume)) as records:  # type: ignore[type-var]
            if self._stop.is_set():
                return
            for record in paced(records):
                self.take(record)
                if self._stop.is_set():
                    return

    def rewind(self, step: int) -> None:
        """Forget what was recorded after this step."""
        if self.recovery is not None:
            self.recovery.rewind(step)

    def take(self, record: Record) -> None:
        """Record a step."""
        every = -(-self.config.steps // MOMENTS)
        last = record.step == record.steps or self._stop.is_set()
        if self.recovery is not None and (last or record.step % every == 0):
            self.recovery.add(record.step, record.student)
        if self.before is None:
            self.before = read_card(self.folder)["metrics"].get("before")
        self.history.append(record.as_dict())
        self.happened()

    def leave(self) -> None:
        """Nobody works here any more."""

    def explained(self) -> str | None:
        """Why it ended, in a sentence."""
        return None if self.failure is None else one_line(self.failure)


class Training(Session):
    """A run with a thread of its own.

    Attributes:
        teacher, images: what it learns from.
        records: of all steps that were made here.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: Pictures | Float[Tensor, "picture 3 height width"],
        config: DistillConfig,
        folder: Path,
        watch: Source | None = None,
    ) -> None:
        super().__init__(folder, config.settled(backbone.name))
        self.teacher, self.images = _at_size(backbone, config), images
        self.records: list[Record] = []
        self._ended = threading.Event()
        self._ended.set()
        self._lock = threading.Lock()
        if watch is not None:
            picture = load_image(watch, self.teacher.height_width)
            self.recovery = Recovery(self.teacher, picture, config.distortion)

    @property
    def resumable(self) -> bool:
        """Whether the folder holds a run that has not come to its end."""
        if not current(self.folder, CARD).is_file():
            return False
        try:
            card = read_card(self.folder)
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
            begun = self.state != "ready" and current(self.folder, CARD).is_file()
            self._stop.clear()
            self.failure = None
            self.state = "running"
            goes_on = begun if resume is None else resume
            self._ended.clear()
            _living.add(self)
            threading.Thread(target=self._run, args=(goes_on,), name="vit-explorer run", daemon=True).start()
        self.happened()

    def wait(self, seconds: float | None = None) -> bool:
        """Until the run has ended, or the time is over; whether it has ended."""
        return self._ended.wait(seconds)  # not `Thread.join`, which takes a thread for ended after an interrupt

    def rewind(self, step: int) -> None:
        """Forget what was recorded after this step."""
        self.records = [record for record in self.records if record.step <= step]
        super().rewind(step)

    def take(self, record: Record) -> None:
        """Record a step."""
        self.records.append(record)
        super().take(record)

    def _run(self, resume: bool) -> None:
        try:
            self.work(lambda: self.train(self.teacher, self.images, resume))
        finally:
            self._ended.set()


def _at_size(backbone: Backbone, config: DistillConfig) -> Backbone:
    """The backbone at the size that is trained at."""
    if backbone.height_width == as_height_width(config.image_size):
        return backbone
    return load_teacher(backbone.name, weights_of(identified(backbone)), config.image_size, backbone.device)


_living: "WeakSet[Training]" = WeakSet()


def _end_all() -> None:
    """The kernel ends: let every run write its last checkpoint."""
    running = [training for training in _living if training.going_on]
    for training in running:
        training.stop()
    for training in running:
        training.wait(_LAST_SECONDS)


atexit.register(_end_all)
