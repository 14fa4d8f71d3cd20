"""Distil: train a student that sees distorted pictures to see what its frozen teacher sees in the clean ones.

Enters: a backbone, pictures, a `DistillConfig`, a folder. Leaves: a `Record` after each step, and in the folder a pair
(see `explorer.pairs`) that is replaced at every checkpoint. Everything random is a function of the seed and of the
number of the step or picture, so that no generator has to be saved: a run that was stopped and resumed ends with the
weights of one that never stopped, bit for bit on a CPU. The models stay in evaluation mode: there is no dropout, which
would disturb targets that are compared patch by patch. Deliberately ignored: what is done with the records, and how
well a student does on labels.
"""

import copy
import json
import logging
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import filelock
import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.utils.data import DataLoader

from explorer import losses
from explorer._replacement import current, finish, replacing
from explorer.adapters import Trainable, prepare, trained_shapes, trained_tensors
from explorer.backbones import Backbone, ImageSize
from explorer.distortions import Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.pairs import CARD, HISTORY, STUDENT, Card, PairError, load_teacher, make_card, read_run, write_pair
from explorer.processes import Processes
from explorer.similarity import ATTENTION_LAYERS, Alignment, alignment
from explorer.targets import Targets
from explorer.trace import Trace
from explorer.views import Batches, Pictures, Stream, Views, collate, whole

OPTIMIZER = "optimizer.safetensors"
_LR = {"lora": 2e-3, "all": 1e-4, "last": 1e-4}
_PROBE_SAMPLES = 1 << 40  # sample numbers of the probe's distortions; no run gets that far
_PROBE_BATCH = 4
_KEPT_REFERENCE_BYTES = 256 << 20
_MAY_CHANGE = ("eval_every", "checkpoint_every", "workers", "cache_gib")  # on resuming: the weights do not depend on it
_log = logging.getLogger(__name__)


class DivergedError(RuntimeError):
    """A loss or a weight is not finite any more. The message names the step and the term."""


class CheckpointError(OSError):
    """A checkpoint could not be written (such as on a full disk); the one before it is still there."""


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """What is learned, from what, and how. All of it is checked when it is made.

    Attributes:
        distortion: a spec (see `explorer.distortion`) or a `Distortion`; ranges and mixtures are drawn for each picture.
        cls, patch, attention: weights of the three levels; 0 switches a level off. See `explorer.losses`.
        contrastive, cls_mse, patch_mse: weights of other forms, for comparison.
        attention_layers, patch_layers: so many of the last blocks, or block numbers.
        rows: which attention rows are aligned: "all", or the picture's "own".
        heads: which attention heads are aligned; None: all.
        steps: updates of the weights.
        batch_size: pictures in each forward pass (over all processes together).
        accumulate: forward passes for each update.
        lr: the highest learning rate; None: 2e-3 for an adapter, 1e-4 for anything else.
        warmup: share of the steps in which the learning rate rises from 0; then it falls to 0 along a cosine.
        weight_decay: of AdamW, on matrices. It pulls towards zero, not towards the teacher: 0 by default.
        grad_clip: the largest norm of the gradient; None: no limit.
        trainable: "lora:8" (adapter of rank 8), "all", or "last:2" (the last two blocks and the final norm).
        image_size: pixels a side, or (height, width).
        views: "fresh", a new random crop and flip at every visit; K, so many for each picture, which repeat; "fixed",
            the pictures as they are. With the latter two the teacher's targets are computed once and kept.
        area: the smallest and largest share of a picture that a crop covers. Load pictures somewhat larger than
            `image_size` (or with size=None), so that crops need not be enlarged.
        cache_gib: kept targets may take this much memory, in GiB; beyond it they go to a file in the run's folder.
        precision: "auto" (bfloat16 autocast on an accelerator that has it), "float32" or "bfloat16".
        compile: use torch.compile for the student.
        probe: pictures held out of training for `Record.alignment`; at most a fifth of them, at least one.
        eval_every: alignment is measured every so many steps, and at the last one.
        checkpoint_every: the folder is brought up to date every so many steps, and at the end or a stop.
        workers: processes that decode pictures; 0: none but this one.
        seed: of everything random, from 0 to 2**63 - 1.
    """

    distortion: str | Distortion = "gaussian_noise(sigma=0.3)"
    cls: float = 1.0
    patch: float = 1.0
    attention: float = 1.0
    contrastive: float = 0.0
    cls_mse: float = 0.0
    patch_mse: float = 0.0
    attention_layers: losses.Blocks = losses.ATTENTION_LAYERS
    patch_layers: losses.Blocks = 1
    rows: losses.Rows = "all"
    heads: Sequence[int] | None = None
    steps: int = 100
    batch_size: int = 16
    accumulate: int = 1
    lr: float | None = None
    warmup: float = 0.1
    weight_decay: float = 0.0
    grad_clip: float | None = 1.0
    trainable: str = "lora:8"
    image_size: ImageSize = 224
    views: Views = "fresh"
    area: tuple[float, float] = (0.4, 1.0)
    cache_gib: float = 2.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    probe: int = 16
    eval_every: int = 10
    checkpoint_every: int = 50
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        # Held in one form, whatever they were given in, so that equal configurations are equal.
        object.__setattr__(self, "distortion", parse_distortion(self.distortion).spec)
        for name in ("attention_layers", "patch_layers", "heads", "area", "image_size"):
            value = getattr(self, name)
            if isinstance(value, Sequence) and not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))
        _check_config(self)

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each level, by name."""
        return {name: getattr(self, name) for name in losses.LEVELS}

    @property
    def highest_lr(self) -> float:
        """The learning rate after warm-up."""
        return self.lr if self.lr is not None else _LR[Trainable.parse(self.trainable).kind]

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 1: linear warm-up, then half a cosine down to 0 (at steps + 1)."""
        rising = round(self.warmup * self.steps)
        if step <= rising:
            return self.highest_lr * step / rising
        share = (step - rising - 1) / max(1, self.steps - rising)
        return self.highest_lr * (1 + math.cos(math.pi * share)) / 2

    def as_dict(self) -> dict[str, Any]:
        """All fields, as they are written to JSON."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """What happened in one step.

    Attributes:
        step, steps: this step, counted from 1, and how many there are.
        losses: each level before its weight, and "loss", their weighted sum; means over the step's pictures.
        lr: learning rate.
        images_per_second: over the last steps, without the time that whoever takes the records spends.
        eta_seconds: how long the remaining steps will take at this pace.
        alignment: of the student on the distorted probe pictures with the teacher on the clean ones; None between
            evaluations.
    """

    step: int
    steps: int
    losses: dict[str, float]
    lr: float
    images_per_second: float
    eta_seconds: float
    alignment: Alignment | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, as they are written to the history; alignment as its averages."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**values, "alignment": self.alignment.as_dict() if self.alignment else None}


def distill(
    backbone: Backbone,
    images: Pictures | Float[Tensor, "picture 3 height width"],
    config: DistillConfig,
    out: str | os.PathLike,
    resume: bool = False,
) -> Iterator[Record]:
    """Train a student of `backbone`, step by step; nothing happens until the first record is asked for.

        for record in distill(backbone, images, DistillConfig(steps=100), out="runs/noise"):
            print(record.step, record.losses["loss"])
        pair = load_pair("runs/noise")

    Closing the generator (or leaving the loop and dropping it) stops the run after the current step and brings the
    folder up to date. The folder is a loadable pair from before the first step on, whatever happens to the process.

    Args:
        backbone: the teacher, which is not changed; the student begins as its copy.
        images: an `ImageSet`, any other map-style data set of (picture, label), or pictures as one tensor; RGB, [0, 1].
        config: what is learned, and how.
        out: the run's folder; it is made.
        resume: go on from the last checkpoint in `out`, if there is one.

    Raises:
        ValueError: pictures, backbone and configuration do not fit each other, or the run to be resumed.
        FileExistsError: `out` holds a run, and resume is False.
        DivergedError: a loss is not finite; the last checkpoint is the last good student.
        CheckpointError: the folder could not be written; the last checkpoint is still there.
    """
    pictures = [(image, None) for image in images] if isinstance(images, Tensor) else images
    teacher = _at_size(backbone, config.image_size)
    _check_blocks(config, teacher)
    if len(pictures) == 0:
        raise ValueError("there is no picture to learn from")
    return _locked_run(teacher, pictures, config, Path(out), resume)


def _locked_run(
    teacher: Backbone, pictures: Pictures, config: DistillConfig, out: Path, resume: bool
) -> Iterator[Record]:
    processes = Processes()
    with processes.lock(out):
        run = _Run(processes.placed(teacher), pictures, config, out, processes)
        try:
            run.begin(resume)
            yield from run.records()
        finally:
            run.targets.close()


class _Run:
    """One training run: the student, its optimizer, and what is needed to write and resume both."""

    def __init__(
        self, teacher: Backbone, pictures: Pictures, config: DistillConfig, out: Path, processes: Processes
    ) -> None:
        self.teacher, self.config, self.out, self.processes = teacher, config, out, processes
        self.trainable = Trainable.parse(config.trainable)
        self.damage = parse_distortion(config.distortion)
        held_out, training = _split(len(pictures), config)
        self.data = {"pictures": len(pictures), "probe": _names(pictures, held_out), "held_out": held_out != training}
        self.stream = Stream(_Chosen(pictures, training), teacher.height_width, config.views, config.area, config.seed)
        self.probe_clean = torch.stack([whole(pictures[index][0], teacher.height_width) for index in held_out])
        self.student = teacher.with_module(
            prepare(copy.deepcopy(teacher.module).eval(), self.trainable, config.seed)
        )
        if config.compile:
            self.student.module.forward_intermediates = torch.compile(self.student.module.forward_intermediates)
        named = [(name, p) for name, p in self.student.module.named_parameters() if p.requires_grad]
        self.parameters: dict[str, nn.Parameter] = dict(named)
        self.optimizer = torch.optim.AdamW(_decay_groups(named, config.weight_decay), lr=config.highest_lr)
        self.layers = _layers_to_trace(config, teacher.depth)
        self.attends = config.attention > 0
        repeats = config.steps * config.accumulate * config.batch_size > (self.stream.slots or math.inf)
        bound = int(config.cache_gib * (1 << 30))
        self.targets = Targets(self._clean_trace, self.stream.slots if repeats else None, bound, out)
        self.step = 0
        self.saved_step = -1
        self.history: list[dict[str, Any]] = []
        self.metrics: Card = {}
        self.references: list[Trace] = []
        self.sound = True  # whether the student is what it was after step `self.step`, and that was a good one

    # Beginning, going on, ending.

    def begin(self, resume: bool) -> None:
        """Start from nothing, or from the checkpoint in the folder; write the first checkpoint."""
        there = current(self.out, CARD).is_file()
        if there and not resume:
            raise FileExistsError(
                f"'{self.out}' holds a run already; go on with resume=True, or choose another folder for a new one"
            )
        if there:
            self._resume()
            return
        self.metrics["before"] = self.evaluate().as_dict()
        self.save()

    def records(self) -> Iterator[Record]:
        """The remaining steps. However they end, the folder holds the last good student."""
        try:
            yield from self._steps()
            self.save()
        except (DivergedError, CheckpointError):
            raise
        except BaseException:  # a stop (GeneratorExit), Ctrl-C, a damaged picture, too little memory: nothing is lost
            if self.sound:
                self.save()
            raise

    def _steps(self) -> Iterator[Record]:
        config = self.config
        first, end = (step * config.accumulate for step in (self.step, config.steps))
        share = Batches(first, end, config.batch_size, self.processes.rank, self.processes.count)
        batches = iter(
            DataLoader(self.stream, batch_sampler=share, collate_fn=collate, num_workers=config.workers)
        )
        seconds: deque[float] = deque(maxlen=20)
        while self.step < config.steps:
            start = time.perf_counter()
            terms = self._learn(batches)
            due = self.step % config.eval_every == 0 or self.step == config.steps
            measured = self.evaluate() if due else None
            if measured is not None:
                self.metrics["after"] = measured.as_dict()
            if self.step % config.checkpoint_every == 0 and self.step < config.steps:
                self.save(self._record(terms, seconds, start, measured))
            record = self._record(terms, seconds, start, measured)
            self.history.append(record.as_dict()) if not self._noted() else None
            yield record
