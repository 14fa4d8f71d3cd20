"""A run's folder: a pair that is brought up to date, and beside it the optimizer's state, to go on exactly from there.

Enters: teacher, student, optimizer. Leaves: a folder with all of its files, or with all of those before; or student and
optimizer as they were when it was written. Deliberately ignored: when it is time for that.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from explorer.distortions import distortion
from explorer.errors import InputError
from explorer.models.adapters import Trainable, load_trained, trained_tensors
from explorer.models.backbones import Backbone
from explorer.models.pairs import (
    CARD,
    Card,
    PairError,
    check_teacher,
    make_card,
    pair_folder,
    read_pair,
    write_pair,
    write_tensors,
)
from explorer.models.weights import state_digest
from explorer.system.replacing import current, replacing
from explorer.training.config import DistillConfig
from explorer.training.records import CheckpointError, DivergedError

OPTIMIZER = "optimizer.safetensors"
# The weights do not depend on these.
_MAY_CHANGE = ("eval_every", "checkpoint_every", "workers", "cache_gib", "checkpointing")
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of a parameter
_log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Checkpoint:
    """The last checkpoint of a run.

    Attributes:
        out: the run's folder.
        teacher, config: of the run.
        data: which pictures it learns from.
        student: what is written, and read into; its weights may have changed meanwhile.
        optimizer: of the student's parameters.
        step: after which it was written; -1: it was not.
    """

    out: Path
    teacher: Backbone
    config: DistillConfig
    data: Card
    student: Backbone
    optimizer: torch.optim.Optimizer
    step: int = -1

    def write(self, step: int, metrics: Card, history: list[dict[str, Any]]) -> None:
        """Bring the folder up to date: all of its files, or none.

        Raises:
            CheckpointError: the files could not be written; the folder keeps those before.
        """
        damage, config = distortion(self.config.distortion), self.config.as_dict()
        tensors = trained_tensors(self.student.module, Trainable.parse(self.config.trainable))
        card = make_card(self.teacher, damage, config=config, metrics=metrics, step=step, data=self.data)
        moments = {
            f"{kind}/{name}": self.optimizer.state[parameter][kind].detach().cpu()
            for name, parameter in self.student.module.named_parameters()
            if parameter in self.optimizer.state
            for kind in _MOMENTS
        }
        try:
            with replacing(self.out) as part:
                write_pair(part, tensors, card, history)
                write_tensors(moments, part / OPTIMIZER, like=part / CARD, sha256=state_digest(moments))
        except (OSError, SafetensorError) as error:  # safetensors reports a full disk as its own error
            reason = getattr(error, "strerror", None) or str(error)
            advice = "free some space and start again"
            if self.step >= 0:
                advice = f"The one of step {self.step} is still there: free some space and resume the run"
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written to '{self.out}' ({reason}). {advice}"
            ) from error

    def read(self) -> tuple[int, Card, list[dict[str, Any]]]:
        """Student and optimizer as they were: the step, the metrics and the history until then.

        Raises:
            ValueError: the folder holds another run.
            PairError: it is damaged, or of another teacher.
        """
        card, tensors, history = read_pair(self.out)
        check_teacher(card, self.teacher)
        begun = DistillConfig.from_dict(card["config"])  # a field that was added since has its default
        _check_same("config", begun.as_dict(), self.config.as_dict(), _MAY_CHANGE)
        _check_same("pictures", card["data"], self.data, may_differ=("begun_from",))
        self.data = card["data"]
        load_trained(self.student.module, Trainable.parse(self.config.trainable), tensors)
        self.step = card["step"]
        self._read_optimizer()
        _log.info("going on with '%s' after step %d", self.out, self.step)
        return self.step, card["metrics"], list(history)

    def begin_as(self, pair: str | os.PathLike) -> None:
        """The student as another pair's; whose, the data of all later checkpoints say.

        Raises:
            PairError: there is no such pair, or it is damaged, or of another teacher.
            ValueError: it was trained in another way.
        """
        card, tensors, history = read_pair(pair_folder(pair))
        check_teacher(card, self.teacher)
        if card["trainable"] != self.config.trainable:
            raise InputError(
                f"begin='{pair}' was trained with trainable='{card['trainable']}', and this run with "
                f"'{self.config.trainable}': take the same"
            )
        load_trained(self.student.module, Trainable.parse(self.config.trainable), tensors)
        said = ("student_sha256", "step", "distortion", "image_size", "config", "data")
        measured = [record for record in history if record["alignment"] is not None]
        self.data = {**self.data, "begun_from": {**{name: card[name] for name in said}, "history": measured}}

    def diverged(self, what: str) -> DivergedError:
        """The error that what is broken ends the run with, and where the last good student is."""
        return DivergedError(
            f"{what}; training was stopped. The last good student is the one of step {self.step} in '{self.out}'. "
            f"Try a lower lr (it was {self.config.highest_lr:g}), a longer warmup, or a lower grad_clip"
        )

    def _read_optimizer(self) -> None:
        file = current(self.out, OPTIMIZER)
        try:
            with safetensors.safe_open(file, framework="pt") as opened:
                digest = (opened.metadata() or {}).get("sha256")
            moments: dict[str, Tensor] = safetensors.torch.load_file(file)
            if state_digest(moments) != digest:
                raise SafetensorError("it is not as it was written")
        except (OSError, SafetensorError) as error:
            raise PairError(
                f"'{self.out}' cannot be resumed: {OPTIMIZER} is missing or damaged ({error}). Its student of step "
                f"{self.step} is whole, and can be loaded; start a new run in another folder"
            ) from error
        for name, parameter in self.student.module.named_parameters():
            found = {kind: moments[f"{kind}/{name}"] for kind in _MOMENTS if f"{kind}/{name}" in moments}
            if not found:
                continue
            if len(found) < len(_MOMENTS) or found["exp_avg"].shape != parameter.shape or found["step"] != self.step:
                raise PairError(f"'{self.out}' cannot be resumed: {OPTIMIZER} does not fit the student ('{name}')")
            # AdamW keeps its step count on the CPU
            self.optimizer.state[parameter] = {
                kind: value if kind == "step" else value.to(parameter) for kind, value in found.items()
            }


def _check_same(what: str, before: Card, now: Card, may_differ: Sequence[str] = ()) -> None:
    names = [name for name in {**before, **now} if name not in may_differ and before.get(name) != now.get(name)]
    if names:
        changes = "; ".join(f"{name} was {before.get(name)!r:.200} and is {now.get(name)!r:.200}" for name in names[:5])
        raise InputError(
            f"the run cannot be resumed with other {what}: {changes}. Start a new run in another folder; begin=… (in a "
            f"command --begin) lets its student begin as this one's"
        )
