"""Distil: train a student to see in distorted pictures what its frozen teacher sees in the clean ones.

Enters: a backbone, pictures, a `DistillConfig`, a folder. Leaves: a `Record` after each step, and in the folder a pair
(see `explorer.models.pairs`) that is brought up to date at every checkpoint. Everything random is a function of the
seed and of the number of the step or picture, so that no generator has to be saved: a run that was stopped and resumed
ends with the weights of one that never stopped, bit for bit on a CPU. The models stay in evaluation mode: there is no
dropout, which would disturb targets that are compared patch by patch. Deliberately ignored: what is done with the
records, and how well a student does on labels.
"""

import atexit
import copy
import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from jaxtyping import Shaped
from torch import Tensor

from explorer.analysis.similarity import Alignment
from explorer.data.sets import ImageSet
from explorer.data.sources import image_set
from explorer.data.tables import is_table
from explorer.distortions import distortion as parse_distortion
from explorer.distortions.operators import NONE
from explorer.errors import InputError
from explorer.models.adapters import Trainable, prepare
from explorer.models.backbones import Backbone, ImageSize, as_height_width, expect_backbone, identified
from explorer.models.capture import recomputed
from explorer.models.pairs import CARD, Card, PairError, load_teacher, weights_of
from explorer.models.trace import Trace
from explorer.models.weights import WeightsError
from explorer.system.files import behind_links
from explorer.system.malloc import freed_memory_kept
from explorer.system.memory import Parts
from explorer.system.precision import autocast, outside_autocast
from explorer.system.processes import Processes
from explorer.system.replacing import current, finish
from explorer.training import losses
from explorer.training.checkpoint import Checkpoint
from explorer.training.config import LAYER_FIELDS, DistillConfig
from explorer.training.crops import (
    Batches,
    Chosen,
    Pictures,
    Stream,
    Tensors,
    Twins,
    collate,
    loader,
    picture,
    whole,
    with_gradients,
)
from explorer.training.held_out import HeldOut, split
from explorer.training.recipe import decay_groups
from explorer.training.records import CheckpointError, DivergedError, Record, not_finite
from explorer.training.targets import SCRATCH, Targets
from explorer.training.trackers import Trackers, checked
from explorer.version import __version__

_log = logging.getLogger(__name__)
_DECODED_BYTES = 512 << 20  # of training pictures, which come again


@torch.inference_mode(False)  # gradients are needed, whatever is switched off around
def distill(
    backbone: Backbone,
    images: Pictures | Shaped[Tensor, "picture 3 height width"],
    config: DistillConfig,
    out: str | os.PathLike,
    resume: bool = False,
    trackers: str | Sequence[Any] = (),
) -> Iterator[Record]:
    """Train a student of `backbone`, step by step; training begins when the first record is asked for.

        for record in distill(backbone, images, DistillConfig(steps=100), out="runs/noise"):
            print(record.step, record.losses["loss"])
        pair = load_pair("runs/noise")

    Closing the generator (or leaving the loop and dropping it, or ending the program) stops the run after the current
    step and brings the folder up to date. From the first record on the folder is a loadable pair, whatever happens to
    the process.

    Args:
        backbone: the teacher, which is not changed; the student begins as its copy.
        images: an `ImageSet`, a name or folder that `load_images` takes, a `datasets.Dataset`, any other map-style data
            set of (picture, label), or pictures as one tensor. Pictures are what `load_image` takes (PIL images, uint8,
            floats in [0, 1] …), without normalisation. Of an `ImageSet` with clean twins (`load_images(…, clean=…)`)
            the student sees the damaged pictures and the teacher the clean ones, in crops of the same place; nothing
            aligns them.
        config: what is learned, and how.
        out: the run's folder; it is made.
        resume: go on from the last checkpoint in `out`, if there is one.
        trackers: other programs that are told each step's losses, learning rate, speed and alignment, and at each
            evaluation shown where the teacher looks in the first held-out picture, and where the student does in its
            distorted copy: "tensorboard", "trackio", "wandb", or trackers of `accelerate.tracking`. One that fails is
            left out with a warning. See docs/watching.md.

    Raises:
        ValueError: pictures, backbone and configuration do not fit each other, or not the run to be resumed; or there
            is no such tracker.
        ImportError: a tracker's package is not installed.
        PairError: the pair that the student is to begin as is none, or of another teacher.
        ImageError: a picture is none, or its values are out of range, or the head of its file shows that it is damaged;
            others are met when they are decoded. `load_images(…, on_error="skip")` leaves damaged files out.
        FileExistsError: `out` holds a run, and resume is False.
        BlockingIOError: another run is writing to `out`.
        DivergedError: a loss is not finite; the last checkpoint is the last good student.
        CheckpointError: the folder could not be written; the last checkpoint is still there.
        MemoryError: not even one picture fits. More of them are shared out, with a warning: a step's gradients are
            then summed over parts of its batch.
    """
    expect_backbone(backbone, "teacher")
    if not isinstance(config, DistillConfig):
        raise InputError(f"expected DistillConfig(…) for the config; got {config!r:.80}")
    if not os.fspath(out):
        raise InputError("out is the folder that the run is kept in; got an empty name")
    config, told = config.settled(backbone.name), checked(trackers)
    if isinstance(images, str | os.PathLike) or is_table(images):
        images = image_set(images)
    pictures = Tensors(images) if isinstance(images, Tensor) else images
    if not isinstance(pictures, Sized):
        raise InputError(f"expected pictures that can be counted, such as load_images gives them; got {images!r:.80}")
    if len(pictures) == 0:
        raise InputError("there is no picture to learn from")
    if isinstance(pictures, ImageSet):
        pictures.check()
        if pictures.clean is not None:
            if config.distortion != NONE.name:
                raise InputError(
                    "these pictures are damaged already, and nothing is done to them: DistillConfig(distortion='none') "
                    "(in a command: --distortion none)"
                )
            pictures = Twins(pictures)
    if config.distortion == NONE.name and config.begin is None and not isinstance(pictures, Twins):
        _log.warning(
            "there is nothing to learn: the student begins as its teacher's copy, and both see the same pictures; give "
            "a distortion, or pictures with clean twins (load_images(…, clean=…), in a command --clean)"
        )
    if isinstance(images, Tensor):
        picture(pictures, 0)  # of other data sets a first look might move what they draw
    teacher = _at_size(backbone, config.image_size)
    _check_fit(config, teacher)
    if not resume:
        _check_new(Path(out))
    folder = behind_links(Path(out)) if os.path.islink(out) else Path(out)  # a link to a folder that is not there yet
    records = with_gradients(_locked_run(teacher, pictures, config, folder, resume, told))
    _open.add(records)
    return records


_open: "WeakSet[Generator[Record, None, None]]" = WeakSet()


@atexit.register
def _close_all() -> None:
    """A script may end with a run in its hands: when its variables are cleared, torch is half taken apart already."""
    for records in list(_open):
        with suppress(ValueError):  # it is going on in another thread
            records.close()


def _locked_run(
    teacher: Backbone, pictures: Pictures, config: DistillConfig, out: Path, resume: bool, told: Sequence[Any]
) -> Generator[Record, None, None]:
    processes = Processes()
    if config.batch_size % processes.count:
        raise InputError(f"batch_size={config.batch_size} cannot be shared evenly by {processes.count} processes")
    with processes.lock(out):
        if not resume:
            _check_new(out)  # another run may have begun here since
        run = _Run(teacher.to(processes.placed(teacher.device)), pictures, config, out, processes)
        run.trackers = Trackers(told if processes.first else (), out)
        try:
            with freed_memory_kept():
                yield from run.records()
        finally:
            run.trackers.close()
            run.targets.close()


class _Run:
    """One training run: the student, what it learns from, and how far it is."""

    def __init__(
        self, teacher: Backbone, pictures: Pictures, config: DistillConfig, out: Path, processes: Processes
    ) -> None:
        self.teacher, self.config, self.out, self.processes = teacher, config, out, processes
        self.damage = parse_distortion(config.distortion)
        self.traced = config.traced(teacher.depth)
        held_out, training = split(len(pictures), config.probe)
        chosen = Chosen(pictures, held_out)
        probe = [whole(chosen[place][0], teacher.height_width) for place in range(len(chosen))]
        self.held_out = HeldOut(torch.stack(probe), teacher, config)
        keep = 0 if config.workers else _DECODED_BYTES  # each worker would keep its own
        views = config.views, config.area, config.seed
        self.stream = Stream(Chosen(pictures, training, keep), teacher.height_width, *views)
        repeats = config.steps * config.accumulate * config.batch_size > (self.stream.slots or math.inf)
        keeps = repeats and teacher.device.type == "cpu"  # a GPU computes them sooner than they are copied to it
        bound = int(config.cache_gib * (1 << 30))
        self.targets = Targets(self._see_clean, self.stream.slots if keeps else None, bound, out)
        self.student = _student(teacher, config)
        self.parameters = [p for p in self.student.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(decay_groups(self.parameters, config.weight_decay))
        self.checkpoint = Checkpoint(
            out=out,
            teacher=teacher,
            config=config,
            data=_described(pictures, held_out, training),
            student=self.student,
            optimizer=self.optimizer,
        )
        self.parts = _parts(config)
        self.step, self.history, self.metrics = 0, list[dict[str, Any]](), Card()
        self.sound = True  # False while the weights are being changed
        self.trackers = Trackers((), out)

    def records(self) -> Iterator[Record]:
        """The remaining steps. However they end, the folder holds the last good student."""
        config, seconds = self.config, deque[float](maxlen=20)
        self._begin()
        try:
            batches = self._batches()
            while self.step < config.steps:
                start = time.perf_counter()
                record = self._learn(batches, seconds)
                if self._due(config.eval_every):
                    record = replace(record, alignment=self._measured())
                    seconds[-1] = time.perf_counter() - start
                if self._due(config.checkpoint_every):
                    self._save()
                self._tell(record.as_dict(), record.alignment is not None)
                yield record
        except (DivergedError, CheckpointError):
            raise
        except BaseException:  # a stop (GeneratorExit), Ctrl-C, a damaged picture, too little memory
            if self.sound:
                self._save()
            raise

    def _begin(self) -> None:
        """From the checkpoint in the folder if there is one, else from nothing, with a first checkpoint."""
        there = current(self.out, CARD).is_file()
        self.processes.wait()  # before the first process writes one
        if self.processes.first:
            finish(self.out)
            for left in self.out.glob(f"{SCRATCH}*"):  # of a run that was killed
                shutil.rmtree(left, ignore_errors=True)
        self.processes.wait()
        if there:
            self.step, self.metrics, self.history = self.checkpoint.read()
            if self.step and self._due(self.config.eval_every) and self.history[-1]["alignment"] is None:
                self._measured()  # it was stopped while this was being done
                self.checkpoint.step = -1
                self._save()
        else:
            if self.config.begin is not None:
                self.checkpoint.begin_as(self.config.begin)
            self.metrics["before"] = self.held_out.alignment(self.student).as_json()
            self._save()
        about = {"backbone": self.teacher.name, "weights": self.teacher.source, "version": __version__}
        self.trackers.start({**self.config.as_dict(), **about}, resumed=there)
        if self.step == 0:
            self._tell({"alignment": self.metrics["before"]}, True)
        else:  # it may have been stopped between a step and telling it; nothing is told twice
            self._tell(self.history[-1], self.history[-1]["alignment"] is not None)

    def _measured(self) -> Alignment:
        """How held-out pictures agree after this step, which its record and the card say from now on."""
        measured = self.held_out.alignment(self.student)
        self.metrics["after"] = self.history[-1]["alignment"] = measured.as_json()
        return measured

    def _tell(self, values: Mapping[str, Any], evaluated: bool) -> None:
        """What the trackers are told after a step."""
        if self.trackers:
            self.trackers.log(self.step, values, self.held_out.first(self.student) if evaluated else ())

    @outside_autocast()
    def _save(self) -> None:
        """No broken student replaces a good one."""
        if self.checkpoint.step == self.step:
            return
        if self.step and (fault := self.held_out.fault(self.student)):
            raise self.checkpoint.diverged(f"after step {self.step}: {fault}")
        if self.processes.first:
            self.checkpoint.write(self.step, self.metrics, self.history)
        self.checkpoint.step = self.step

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.steps

    def _batches(self) -> Iterator[tuple[Tensor, list[int], list[int]]]:
        first, end = (step * self.config.accumulate for step in (self.step, self.config.steps))
        share = Batches(first, end, self.config.batch_size, self.processes.rank, self.processes.count)
        return iter(loader(self.stream, share, collate, self.config.workers, self.teacher.device))

    @outside_autocast()
    def _learn(self, batches: Iterator[tuple[Tensor, list[int], list[int]]], seconds: deque[float]) -> Record:
        """One update of the weights, and its record in the history, with the losses before it."""
        start = time.perf_counter()
        totals: dict[str, Tensor] = {}
        for _ in range(self.config.accumulate):
            clean, samples, slots = next(batches)
            learned = self.parts(partial(self._gradients, clean, samples, slots), len(samples))
            for _part, terms in learned:
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0) + value
        means = torch.stack(list(totals.values()))
        self.processes.mean_([means, *(p.grad for p in self.parameters if p.grad is not None)])
        numbers = dict(zip(totals, means.tolist(), strict=True))
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.grad_clip or math.inf))
        fault = not_finite(numbers) or (None if math.isfinite(norm) else f"the gradient's norm is {norm}")
        if fault:
            raise self.checkpoint.diverged(f"step {self.step + 1}: {fault}")
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr_at(self.step + 1)
        self.sound = False
        self.optimizer.step()
        self.step += 1
        seconds.append(time.perf_counter() - start)
        record = self._recorded(numbers, sum(seconds) / len(seconds))
        self.history.append(record.as_dict())
        self.sound = True  # not before: a checkpoint has a record of each of its steps
        self.optimizer.zero_grad(set_to_none=True)
        return record

    def _recorded(self, losses: dict[str, float], pace: float) -> Record:
        """What is told of this step, at so many seconds a step."""
        return Record(
            step=self.step,
            steps=self.config.steps,
            losses=losses,
            lr=self.config.lr_at(self.step),
            images_per_second=self.config.batch_size * self.config.accumulate / pace,
            eta_seconds=(self.config.steps - self.step) * pace,
            alignment=None,
            student=self.student,
        )

    def _gradients(self, clean: Tensor, samples: list[int], slots: list[int], part: slice) -> dict[str, Tensor]:
        """A part's share of the losses; its gradients are added to those before, all of them or, on an error, none."""
        share = (part.stop - part.start) / len(samples) / self.config.accumulate
        before = [parameter.grad for parameter in self.parameters]
        self.optimizer.zero_grad(set_to_none=True)
        try:
            shown = clean[part].to(self.teacher.device, non_blocking=True)
            terms = self._terms(shown, samples[part], slots[part])
            (terms["loss"] * share).backward()
        except BaseException:
            for parameter, kept in zip(self.parameters, before, strict=True):
                parameter.grad = kept
            raise
        for parameter, kept in zip(self.parameters, before, strict=True):
            if kept is not None:
                parameter.grad = kept if parameter.grad is None else kept.add_(parameter.grad)
        return {name: value.detach() * share for name, value in terms.items()}

    def _terms(self, shown: Tensor, samples: list[int], slots: list[int]) -> dict[str, Tensor]:
        clean, damaged = shown[:, :3].contiguous(), shown[:, -3:].contiguous()  # the same three without twins
        reference = self.targets(clean, slots)
        distorted = self.damage(damaged, seed=self.config.seed, indices=samples)
        self.student.check_mode()  # whoever took the last record may have changed it
        with autocast(self.config.precision, self.teacher.device):
            seen = self.student.trace(distorted, **self.traced, grad=True)
        return losses.combine(reference, seen, **self.config.levels(self.teacher.depth))

    def _see_clean(self, clean: Tensor) -> Trace:
        with autocast(self.config.precision, self.teacher.device):
            return self.teacher.trace(clean, **self.traced)


# Parts of a run.


def _described(pictures: Pictures, held_out: list[int], training: list[int]) -> Card:
    own = pictures if isinstance(pictures, ImageSet | Twins) else None  # names and sizes of others may be anything
    names = [str(name) for name in (range(len(pictures)) if own is None else own.names)]
    twins = {"twins": True} if isinstance(pictures, Twins) else {}
    source = pictures.damaged if isinstance(pictures, Twins) else pictures
    witness = source.reader.witness(source.keys) if isinstance(source, ImageSet) else None
    witness = source.witness() if isinstance(source, Tensors) else witness
    seen = {} if witness is None else {"witness_sha256": witness}
    return {
        **twins,
        "pictures": len(training),
        "names_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        "size": json.loads(json.dumps(None if own is None else own.size)),
        "probe": [names[index] for index in held_out],
        "held_out": held_out != training,
        **seen,
    }


def _student(teacher: Backbone, config: DistillConfig) -> Backbone:
    module: Any = prepare(copy.deepcopy(teacher.module).eval(), Trainable.parse(config.trainable), config.seed)
    switched_on = getattr(module, "grad_checkpointing", False)
    if switched_on:  # timm's own; ours gives the same student to the last bit
        module.grad_checkpointing = False
    if config.checkpointing or (switched_on and not config.compile):
        for block in teacher.reader.blocks_of(module):
            block.forward = partial(recomputed, block.forward)
    if config.compile:
        module.forward_intermediates = torch.compile(module.forward_intermediates)
    return teacher.with_module(module)


def _parts(config: DistillConfig) -> Parts:
    if config.compares_pictures:
        advice = "its contrastive term compares the pictures of a batch with each other: take a smaller batch_size"
        return Parts("a training step", advice, smallest=config.batch_size)
    advice = "take checkpointing=True, a smaller image_size, fewer attention_layers, rows='own' or 'bfloat16'"
    return Parts("a training step", advice)


def _at_size(backbone: Backbone, size: ImageSize) -> Backbone:
    """The backbone at the size that is trained at; built anew from the same weights where it has another."""
    if backbone.height_width == as_height_width(size):
        return backbone
    try:
        weights = weights_of(identified(backbone)) | {"image_size": as_height_width(size)}  # no resampled random ones
        return load_teacher(backbone.name, weights, size, backbone.device)
    except (PairError, WeightsError) as error:
        raise InputError(
            f"the configuration says image_size={size}, but the backbone was loaded at {backbone.image_size} px, and "
            f"these weights cannot be found by its name; load it at that size, or DistillConfig(image_size=…)"
        ) from error


# Checks.


def _check_new(out: Path) -> None:
    if current(out, CARD).is_file():
        raise FileExistsError(
            f"'{out}' holds a run already; go on with resume=True, or choose another folder for a new one"
        )


def _check_fit(config: DistillConfig, teacher: Backbone) -> None:
    for name in LAYER_FIELDS:
        chosen = getattr(config, name)
        numbers = [chosen] if isinstance(chosen, int) else chosen
        low, high = (1, teacher.depth) if isinstance(chosen, int) else (-teacher.depth, teacher.depth - 1)
        if not all(low <= number <= high for number in numbers):
            raise InputError(
                f"{name}={chosen!r}, but '{teacher.name}' has {teacher.depth} blocks (0 to {teacher.depth - 1})"
            )
    if config.compile and teacher.reader.wrapped is not None:
        raise InputError(f"compile=True is for timm's models; '{teacher.name}' is a module of your own: compile=False")
    if config.heads is not None and max(config.heads) >= teacher.heads:
        raise InputError(f"heads={config.heads!r}, but '{teacher.name}' has the heads 0 to {teacher.heads - 1}")
