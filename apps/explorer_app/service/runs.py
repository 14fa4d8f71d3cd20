"""Training runs of the app's visitors: one at a time, in the order in which they were asked for. No Gradio in here.

A run lies in a folder of its own (see `students`); one that was stopped, or whose app was killed, can be resumed.
"""

import atexit
import gc
import json
import logging
import math
import os
import shutil
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import explorer as ex
from explorer.errors import InputError, is_for_users
from explorer.models.pairs import read_card, read_pair
from explorer.scenes.common import Payload
from explorer.scenes.inspection import moment_scene, recovery_scene
from explorer.sessions.run import Session
from explorer.system.files import claimed, readable
from explorer_app.service import models, pace, students
from explorer_app.service.cores import CORES, each
from explorer_app.service.errors import in_words
from explorer_app.service.housekeeping import give_memory_back
from explorer_app.service.limits import LIMITS
from explorer_app.service.pictures import (
    CENTRED,
    PHOTOS,
    Selection,
    Source,
    load_pair,
    load_picture,
    picture_set,
    title,
)

SIZES = (112, 224)
STEPS, BATCH = 60, 8
"""Of a run, unless somebody chooses."""
MOST_BESIDE = 3
"""So many runs stand beside one."""
_REMEMBERED = 12  # ended runs, with what was recorded of them
_PROBE = 8
_TIMED_STEP = 3  # the first ones also get things ready
_NICENESS = 5
_ORDER, _ZIP = "order.json", "pictures.zip"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The picture that a student is shown while it learns, and how it is damaged: here, or as its twin is."""

    path: str
    distortion: str
    seed: int
    photo: str | None = None  # its name among the shipped photos: left out of training
    crop: float = CENTRED
    twin: str | None = None
    align: bool = True

    def recovery(self, teacher: ex.Backbone, size: int) -> ex.Recovery:
        """What is recorded of it.

        Raises:
            ValueError: a picture is not there any more, or the two do not fit.
        """
        if self.twin is None:
            return ex.Recovery(teacher, load_picture(self.path, size, self.crop), self.distortion, self.seed)
        clean, distorted, _ = load_pair(self.path, self.twin, size, self.crop, self.align)
        return ex.Recovery(teacher, clean, distorted)


class Run(Session):
    """A visitor's run: what was asked for, how far it is, what was recorded.

    Attributes:
        name: of the student, which `models.load_student` takes once there is a checkpoint.
        note: a sentence about the pictures that it learns from, or nothing.
        called: what its visitor calls the zip file of pictures, if there is one.
        scene: what the recovery view shows that does not change while the student learns.
        beside: names of its visitor's other runs that are shown beside it.
    """

    def __init__(
        self, folder: Path, backbone: str, config: ex.DistillConfig, watched: Watched | None, resumed: bool = False
    ) -> None:
        super().__init__(folder, config, "waiting")
        self.backbone, self.watched, self.resumed = backbone, watched, resumed
        self.name = folder.name
        self.note, self.called = "", _ZIP
        self.scene: Payload = {}
        self.beside: tuple[str, ...] = ()
        self.version = 0
        self.happened = self._tell
        self._scenes: dict[int, tuple[ex.Moment, Payload]] = {}
        self._deadline, self._late = math.inf, ""
        self._changed = threading.Condition()
        self._claim = ExitStack()  # of the folder, until there is a checkpoint

    @property
    def resumable(self) -> bool:
        """Whether it ended before its last step, with a checkpoint to go on from."""
        kept = students.folder_of(self.name) is not None and (self.folder / _ORDER).is_file()
        return kept and self.state in ("stopped", "failed")

    @cached_property
    def learned_from(self) -> str:
        """What its pictures are called, if that is known."""
        order = _order(self.folder)
        if "selected" in order:
            selection = _selection(Path(order["called"]) if "called" in order else order["pictures"], order)
            return f"{len(selection.names)} {title(selection)}"
        return str(order.get("called", order.get("pictures", "not known")))

    @property
    def moments(self) -> list[Payload]:
        """What the recovery view shows of each moment."""
        recorded = list(self.recovery.moments) if self.recovery is not None and self.scene else []
        return [self._scene_of(moment) for moment in recorded]

    def wait(self, version: int, seconds: float) -> int:
        """Until something changed since this version, or the time is over; the version now."""
        with self._changed:
            self._changed.wait_for(lambda: self.version != version, seconds)
            return self.version

    def payload(self, ahead: int = 0) -> Payload:
        """What the recovery view shows.

        Args:
            ahead: how many runs come before this one.
        """
        message = self.message
        if self.state == "waiting":
            message = f"Waiting: {ahead} run{'s' if ahead > 1 else ''} before this one." if ahead else "Starting."
        elif self.state == "running" and not self.history:
            message = "Loading the model and the pictures."
        return {
            "version": 1,
            "run": self.name,
            "key": f"{self.name} {id(self.scene)}",
            "state": self.state,
            "message": " ".join(part for part in (message, self.note) if part) or None,
            "steps": self.config.steps,
            "records": list(self.history),
            "before": self.before,
            "moments": self.moments,
            **self.scene,
        }

    def go_on_from(self, earlier: "Run") -> None:
        """Take over what was recorded of the same run before, if the same picture is watched."""
        if earlier.recovery is not None and earlier.watched == self.watched:
            self.recovery, self.scene = earlier.recovery, earlier.scene

    def keep_order(self, pictures: Source, called: str | None = None) -> None:
        """Make the folder, with what is needed to load the same pictures when the run is resumed.

        Args:
            called: what a zip file was called by its visitor; None for the name that it has.

        Raises:
            OSError: it cannot be written.
        """
        try:
            with students.kept_secret("runs"):
                self._claim.enter_context(claimed(self.folder))
                _keep_order(self.folder, pictures, self.watched, called)
        except OSError:
            self.leave()
            raise

    def leave(self) -> None:
        """Nobody works here any more; a folder without a checkpoint is of no use, but may hold a large zip file."""
        if not self.resumed and students.folder_of(self.name) is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._claim.close()

    # The worker's part.

    def learn(self) -> None:
        """Load what was asked for, and train until the end, a stop, or when the time for one run is over."""
        self._deadline = time.monotonic() + 60 * LIMITS.minutes
        teacher = models.load_backbone(self.backbone, self.config.image_size)
        order = _order(self.folder)
        self.called = order.get("called", _ZIP)
        pictures, self.note = _load(self.folder, order, self.config)
        if self.watched is not None and self.recovery is None:
            size = int(self.config.image_size)  # type: ignore[arg-type]
            recovery = self.watched.recovery(teacher, size)
            self.recovery, self.scene = recovery, recovery_scene(recovery)
            self.happened()
        self.train(teacher, pictures, self.resumed, lambda records: each(records, CORES.spare))

    def take(self, record: ex.Record) -> None:
        """Record a step; there is a checkpoint now."""
        self._claim.close()
        super().take(record)
        if record.step >= _TIMED_STEP:
            pace.remember(self.backbone, self.config, record.images_per_second)
        if time.monotonic() > self._deadline and record.step < record.steps:
            self._late = f"Stopped: here a run may take {LIMITS.minutes:g} minutes. It can be resumed."
            self._stop.set()

    def explained(self) -> str | None:
        """Why it ended, in a sentence that does not tell where this machine keeps its folders."""
        failure, self.failure = self.failure, None  # its traceback would keep the model and the pictures
        if failure is None:
            return self._late or None
        if is_for_users(failure):
            _log.warning("run %s failed", self.name, exc_info=None if isinstance(failure, InputError) else failure)
        told = in_words(failure).replace(f"{self.folder}{os.sep}", "")
        return told.replace(f"'{self.folder}'", "its folder").replace(_ZIP, self.called)

    def _scene_of(self, moment: ex.Moment) -> Payload:
        """Made once: a page asks several times a second."""
        if self._scenes.get(moment.step, (None,))[0] is not moment:
            self._scenes[moment.step] = moment, moment_scene(moment)
        return self._scenes[moment.step][1]

    def _tell(self) -> None:
        with self._changed:
            self.version += 1
            self._changed.notify_all()


class Runs:
    """All runs of this process, and the thread that works on them."""

    def __init__(self) -> None:
        self._waiting: list[Run] = []
        self._current: Run | None = None
        self._known: OrderedDict[str, Run] = OrderedDict()
        self._lock = threading.RLock()
        self._worker: threading.Thread | None = None
        atexit.register(self.close)

    def start(
        self,
        backbone: str,
        config: ex.DistillConfig,
        pictures: Source = PHOTOS,
        watched: Watched | None = None,
        called: str | None = None,
    ) -> Run:
        """Ask for a new run.

        Args:
            called: what a zip file of pictures was called by its visitor; None for the name that it has.

        Raises:
            ValueError: more than visitors may ask for (see `limits`), too many runs wait, or a zip file is not there.
            OSError: the disk is nearly full, or cannot be written to.
        """
        LIMITS.check_backbone(backbone)
        LIMITS.check_run(config)
        self._check_waiting()
        run = Run(students.new_folder(), backbone, config.settled(backbone), watched)
        run.keep_order(pictures, called)
        return self._enter(run)

    def repeat(
        self, name: str, change: Callable[[ex.DistillConfig], ex.DistillConfig], watched: Watched | None = None
    ) -> Run:
        """Ask for a new run with the settings of another one but for a change, beside which it is shown.

        Args:
            watched: the picture that is watched, where it is not known any more which one the other one watched.

        Raises:
            ValueError: there is no such run, it is not known what it learned from, or as for `start`.
            OSError: as for `start`.
        """
        earlier = self.remembered(name)
        order = _order(earlier.folder) if earlier is not None else {}
        if earlier is None or not order:
            raise InputError("it is not known here what this run learned from: set the form, and press Start")
        config, pictures = change(earlier.config), _source(earlier.folder, order)
        run = self.start(earlier.backbone, config, pictures, earlier.watched or watched, order.get("called"))
        run.beside = (name, *earlier.beside)[:MOST_BESIDE]
        return run

    def resume(self, name: str, watched: Watched | None = None) -> Run:
        """Ask for a run to go on from its last checkpoint.

        Raises:
            ValueError: there is no such run, or nothing of it is left to do.
        """
        self._check_waiting()
        folder = students.folder_of(name)
        if folder is None or not (folder / _ORDER).is_file():
            raise InputError("there is no run to be resumed; start a new one")
        card = read_card(folder)
        config = ex.DistillConfig.from_dict(card["config"])
        if card["step"] >= config.steps:
            raise InputError(f"this run is finished, after {config.steps} steps; start a new one")
        with self._lock:
            earlier = self._known.get(name)
            if earlier is not None and not earlier.ended:
                raise InputError("this run is going on already")
            run = Run(folder, card["backbone"], config, watched, resumed=True)
            if earlier is not None:
                run.go_on_from(earlier)
                run.beside = earlier.beside
            return self._enter(run)

    def stop(self, run: Run) -> None:
        """End a run after the step that is being computed, or at once if it has not begun; one that ended stays so."""
        with self._lock:
            if run.ended:
                return
            if run in self._waiting:
                self._waiting.remove(run)
                run.leave()
                run.now("stopped", "Stopped before it began.")
            else:
                run.stop()
            for other in self._waiting:  # their places have changed
                other.now("waiting")

    def ahead(self, run: Run) -> int:
        """How many runs come before this one."""
        with self._lock:
            return self._waiting.index(run) + (self._current is not None) if run in self._waiting else 0

    def find(self, name: str | None) -> Run | None:
        """A run of this process by its name, if it is still remembered."""
        return self._known.get(name or "")

    def remembered(self, name: str) -> Run | None:
        """A run by its name: as it is known here, or else what its folder tells of it; None if it cannot be read."""
        folder = students.folder_of(name)
        known = self._known.get(name)
        if known is not None or folder is None:
            return known
        try:
            card, _, history = read_pair(folder)
            run = Run(folder, card["backbone"], ex.DistillConfig.from_dict(card["config"]), None)
        except ValueError:
            _log.warning("run %s cannot be read", name, exc_info=True)
            return None
        run.history, run.before = list(history), card["metrics"].get("before")
        run.state = "finished" if card["step"] >= run.config.steps else "stopped"
        with self._lock:
            self._known[name] = run
            self._known.move_to_end(name, last=False)  # it can be read again, and is the first to be forgotten
            self._forget()
        return run

    def close(self) -> None:
        """Stop everything, and wait until the checkpoint is written."""
        with self._lock:
            for run in [*self._waiting, *([self._current] if self._current else [])]:
                self.stop(run)
        if self._worker is not None:
            self._worker.join(60)

    def _check_waiting(self) -> None:
        if len(self._waiting) >= LIMITS.waiting:
            raise InputError(f"{LIMITS.waiting} runs are waiting already; try again later")

    def _enter(self, run: Run) -> Run:
        with self._lock:
            self._waiting.append(run)
            self._known[run.name] = run
            self._known.move_to_end(run.name)
            self._forget()
            if self._worker is None or not self._worker.is_alive():
                self._worker = threading.Thread(target=self._work, daemon=True)
                self._worker.start()
        return run

    def _forget(self) -> None:
        """Runs that ended, the first ones first, where there are too many."""
        ended = [name for name, known in self._known.items() if known.ended]
        for name in ended[: max(0, len(self._known) - _REMEMBERED)]:
            del self._known[name]

    def _work(self) -> None:
        _let_others_go_first()
        while True:
            with self._lock:
                if not self._waiting:
                    self._current = self._worker = None
                    return
                self._current = self._waiting.pop(0)
                for other in self._waiting:
                    other.now("waiting")
            self._current.work(self._current.learn)
            gc.collect()
            give_memory_back()


def configuration(distortion: str, steps: int, size: int, **options: Any) -> ex.DistillConfig:
    """A short run: evaluated a dozen times, on few pictures, in bfloat16 where the device computes with it.

    Raises:
        ValueError: something cannot be trained like that.
    """
    given = {"batch_size": BATCH, "probe": _PROBE, "checkpoint_every": 25, "precision": _precision(), **options}
    return ex.DistillConfig(
        distortion=distortion, steps=steps, image_size=size, eval_every=max(1, round(steps / 12)), **given
    )


def _precision() -> str:
    """Processors with bfloat16 instructions train twice as fast with them."""
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return "bfloat16" if fast and not torch.cuda.is_available() else "auto"


def _let_others_go_first() -> None:
    """Whoever looks at something gets the processor before this thread, and before those that compute for it."""
    if sys.platform == "linux":  # where niceness is a thread's own
        own = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, own, os.getpriority(os.PRIO_PROCESS, own) + _NICENESS)


def _order(folder: Path) -> dict[str, Any]:
    """What `_keep_order` wrote; nothing, where a student was brought as a file."""
    file = folder / _ORDER
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _keep_order(folder: Path, pictures: Source, watched: Watched | None, name: str | None) -> None:
    """What is needed to load the same pictures when the run is resumed."""
    called, selected = {}, {}
    if isinstance(pictures, Selection):
        selected = {"selected": pictures.names, "slice": pictures.slice}
        pictures = pictures.of
    if isinstance(pictures, Path):
        called = {"called": name or readable(pictures.name)}
        folder.mkdir()
        shutil.copyfile(pictures, folder / _ZIP)
        pictures = _ZIP
    folder.mkdir(exist_ok=True)
    left_out = [watched.photo] if pictures == PHOTOS and watched is not None and watched.photo else []
    order = {"pictures": pictures, "left_out": left_out, **called, **selected}
    (folder / _ORDER).write_text(json.dumps(order), encoding="utf-8")


def _load(folder: Path, order: dict[str, Any], config: ex.DistillConfig) -> tuple[ex.ImageSet, str]:
    """The pictures of a run, somewhat larger than they are trained at, so that crops need not be enlarged; and what
    there is to say of them.
    """
    size = round(int(config.image_size) * 4 / 3)  # type: ignore[arg-type]
    images, note = picture_set(_source(folder, order), size)
    return images.select(i for i, name in enumerate(images.names) if name not in order["left_out"]), note


def _source(folder: Path, order: dict[str, Any]) -> Source:
    """The pictures of an order: a zip file lies beside it."""
    pictures = folder / _ZIP if order["pictures"] == _ZIP else order["pictures"]
    return _selection(pictures, order) if "selected" in order else pictures


def _selection(of: str | Path, order: dict[str, Any]) -> Selection:
    return Selection(of, tuple(order["selected"]), order["slice"])


RUNS = Runs()
