"""`DistillationMonitor`: a student learns while its view of one picture recovers beside the teacher's.

Enters: what `explorer.distill` takes, and a picture. Leaves: the records, the recovery and the pair. The training goes
on in a thread, so that other cells can be run meanwhile.
"""

import logging
import tempfile
import threading
import time
from pathlib import Path

import ipywidgets
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from explorer.data.image import Source
from explorer.errors import one_line
from explorer.inspection.recovery import Moment, Recovery
from explorer.models.backbones import Backbone
from explorer.models.pairs import Pair, PairError, load_pair
from explorer.scenes.inspection import moment_scene, recovery_scene
from explorer.sessions.run import MOMENTS, State, Training
from explorer.training.config import DistillConfig
from explorer.training.crops import Pictures
from explorer.training.records import Record
from explorer.widgets.base import Explorer, View
from explorer.widgets.pictures import plot_run

SLOTS = MOMENTS + 2
_REST_SECONDS = 0.25
_log = logging.getLogger(__name__)


class DistillationMonitor(Explorer):
    """Start and stop a training, and watch it: curves, and what the student makes of one picture.

        monitor = DistillationMonitor(backbone, images, DistillConfig(steps=60), watch="owl.jpg", out="runs/owl")
        monitor.start()  # or press Start
        monitor.wait()   # in another cell, or not at all: the kernel is free
        monitor.pair

    Interrupting the kernel in `wait` stops the run after the current step. Stopping, closing the widget, running its
    cell again and ending the kernel do the same; `out` is then a loadable pair, and `start` goes on from there.

    Args:
        backbone: the teacher.
        images: as in `explorer.distill`.
        config: what is learned, and how.
        watch: the picture that the student is shown while it learns, of any size; None for curves alone.
        out: the run's folder; None for a new one among the system's temporary files.

    Raises:
        ValueError: the picture cannot be read, or the backbone cannot be loaded at the size of the configuration.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: Pictures | Float[Tensor, "picture 3 height width"],
        config: DistillConfig,
        watch: Source | None = None,
        out: str | Path | None = None,
    ) -> None:
        self.out = Path(tempfile.mkdtemp(prefix="vit-explorer-run-"), "pair") if out is None else Path(out)
        self._training = Training(backbone, images, config, self.out, watch)
        self._start = ipywidgets.Button(button_style="primary", layout={"width": "96px"})
        self._stop = ipywidgets.Button(description="Stop", layout={"width": "76px"})
        view = View("recoveryview", slots=SLOTS)
        self._shown: list[Moment | None] = [None] * SLOTS
        self._pushed, self._push_lock = 0.0, threading.Lock()
        super().__init__(view, [])
        self.children = [ipywidgets.HBox([self._start, self._stop, _summary(config, self.out)]), view]
        view.layout.flex = "1 1 auto"
        if self.recovery is not None:
            view.scene = recovery_scene(self.recovery)
        self._training.happened = self._happened
        self._start.on_click(lambda _: self.start(resume=True if self._training.resumable else None))
        self._stop.on_click(lambda _: self.stop())
        self._push()

    @property
    def records(self) -> list[Record]:
        """One for each step that was made here."""
        return list(self._training.records)

    @property
    def recovery(self) -> Recovery | None:
        """How the student came to see the watched picture; None if none is watched."""
        return self._training.recovery

    @property
    def state(self) -> State:
        """How the run stands."""
        return self._training.state

    @property
    def error(self) -> str | None:
        """What is shown inside as being wrong."""
        return self.view.error

    @property
    def pair(self) -> Pair:
        """Teacher and student as they were at the last checkpoint.

        Raises:
            PairError: there is no checkpoint yet.
        """
        try:
            return load_pair(self.out, teacher=self._training.teacher)
        except PairError as error:
            if self._training.history:
                raise
            raise PairError(f"there is no student in '{self.out}' yet: start the run, and wait for a record") from error

    def start(self, resume: bool | None = None) -> None:
        """Begin to train, in the background; or go on from the last checkpoint.

        Args:
            resume: whether to go on with a run in `out`; None: if it was begun by this widget.
        """
        if not self._closed:
            self._training.start(resume)

    def stop(self) -> None:
        """End the run after the step that is being computed."""
        self._training.stop()

    def wait(self, timeout: float | None = None) -> None:
        """Until the run has ended, or so many seconds are over. A kernel interrupt stops the run.

        Raises:
            Exception: what ended the run, if it failed.
        """
        try:
            ended = self._training.wait(timeout)
        except KeyboardInterrupt:
            self.stop()
            self._training.wait()
            raise
        if ended and self._training.failure is not None:
            raise self._training.failure

    def close(self) -> None:
        """Stop the run, wait until its folder is up to date, and take the widget off the page."""
        self._closed = True
        if "_training" in vars(self):  # else it could not be made at all
            self.stop()
            self._training.wait()
        super().close()

    def _happened(self) -> None:
        """Called by the run, many times a second: what is shown follows a few times a second."""
        if self._closed:
            return
        if self._training.going_on and time.monotonic() - self._pushed < _REST_SECONDS:
            return
        try:
            self._push()
        except Exception:  # what is shown must not end what is learned
            _log.exception("the run in '%s' could not be shown", self.out)

    def _push(self) -> None:
        training = self._training
        with self._push_lock, self.view.hold_sync():
            self._push_moments()
            self.view.payload = {
                "version": 1,
                "run": self.out.name,
                "key": str(id(training)),
                "state": None if training.state == "ready" else training.state,
                "message": self._message(),
                "steps": training.config.steps,
                "records": list(training.history),
                "before": training.before,
            }
            self.view.error = None if training.failure is None else one_line(training.failure)
            self._pushed = time.monotonic()
        going_on = training.going_on
        self._start.disabled, self._stop.disabled = going_on or training.state == "finished", not going_on
        self._start.description = "Resume" if not going_on and training.resumable else "Start"

    def _push_moments(self) -> None:
        """Each moment is sent once, in a slot of its own; where there are too few slots, the last is for the newest."""
        moments = [] if self.recovery is None else self.recovery.moments
        moments = [*moments[: SLOTS - 1], *moments[SLOTS - 1 :][-1:]]
        for place in range(SLOTS):
            moment = moments[place] if place < len(moments) else None
            if moment is not self._shown[place]:
                self._shown[place] = moment
                setattr(self.view, f"moment_{place}", None if moment is None else moment_scene(moment))

    def _message(self) -> str | None:
        if self._training.state == "running" and not self._training.history:
            return "Looking at the pictures for the first time."
        return None

    def _picture(self) -> Figure:
        return plot_run(self._training.history, self.recovery)

    def _words(self) -> str:
        config, last = self._training.config, self._training.history[-1:]
        loss = f", loss {last[0]['losses']['loss']:.3f}" if last else ""
        return f"a student learns {config.distortion}: {self.state}, step {self._training.step} of {config.steps}{loss}"


def _summary(config: DistillConfig, out: Path) -> ipywidgets.Widget:
    text = f"{config.distortion} · {config.steps} steps of {config.batch_size} pictures · {config.trainable} · {out}"
    return ipywidgets.Label(text, layout={"flex": "1 1 auto", "min_width": "0"})
