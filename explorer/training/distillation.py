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
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from weakref import WeakSet

import numpy as np
import safetensors
import safetensors.torch
import torch
from jaxtyping import Shaped
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from explorer.analysis.similarity import ATTENTION_LAYERS, Alignment, alignment
from explorer.data.sets import ImageSet
from explorer.distortions import distortion as parse_distortion
from explorer.errors import InputError, UserError
from explorer.models.adapters import Trainable, load_trained, prepare, trained_tensors
from explorer.models.backbones import Backbone, ImageSize, as_height_width
from explorer.models.capture import recomputed
from explorer.models.pairs import (
    CARD,
    Card,
    PairError,
    check_teacher,
    load_teacher,
    make_card,
    read_pair,
    weights_of,
    write_pair,
    write_tensors,
)
from explorer.models.trace import Trace
from explorer.models.weights import state_digest
from explorer.system.files import behind_links
from explorer.system.memory import Parts
from explorer.system.precision import outside_autocast
from explorer.system.processes import Processes
from explorer.system.replacing import current, finish, replacing
from explorer.training import losses
from explorer.training.config import LAYER_FIELDS, DistillConfig
from explorer.training.crops import Batches, Pictures, Stream, collate, picture, whole, with_gradients
from explorer.training.targets import SCRATCH, Targets

OPTIMIZER = "optimizer.safetensors"
_PROBE_SAMPLES = 1 << 40  # sample numbers of the probe's distortions; no run gets that far
_PROBE_BATCH = 4
_DECODED_BYTES = 512 << 20  # of training pictures, which come again
_REFERENCE_BYTES = 256 << 20  # the teacher's view of the probe is kept up to this size
# The weights do not depend on these.
_MAY_CHANGE = ("eval_every", "checkpoint_every", "workers", "cache_gib", "checkpointing")
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of a parameter
_log = logging.getLogger(__name__)


class DivergedError(UserError, RuntimeError):
    """A loss, a gradient or a weight is not finite any more. The message names the step and the term."""


class CheckpointError(OSError):
    """A checkpoint could not be written (such as on a full disk); the one before it is still there."""


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
        student: the student as it is now, not a copy: the next step changes it. Between two steps it may be shown
            pictures of the run's size, see `explorer.Recovery`.
    """

    step: int
    steps: int
    losses: dict[str, float]
    lr: float
    images_per_second: float
    eta_seconds: float
    alignment: Alignment | None = None
    student: Backbone

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, as they are written to the history; alignment as its averages."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "student"}
        return {**values, "alignment": self.alignment.as_json() if self.alignment else None}


@torch.inference_mode(False)  # gradients are needed, whatever is switched off around
def distill(
    backbone: Backbone,
    images: Pictures | Shaped[Tensor, "picture 3 height width"],
    config: DistillConfig,
    out: str | os.PathLike,
    resume: bool = False,
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
        images: an `ImageSet`, any other map-style data set of (picture, label), or pictures as one tensor. Pictures are
            what `load_image` takes (PIL images, uint8, floats in [0, 1] …), without normalisation.
        config: what is learned, and how.
        out: the run's folder; it is made.
        resume: go on from the last checkpoint in `out`, if there is one.

    Raises:
        ValueError: pictures, backbone and configuration do not fit each other, or not the run to be resumed.
        ImageError: a picture is none, or its values are out of range, or the head of its file shows that it is damaged;
            others are met when they are decoded. `load_images(…, on_error="skip")` leaves damaged files out.
        FileExistsError: `out` holds a run, and resume is False.
        BlockingIOError: another run is writing to `out`.
        DivergedError: a loss is not finite; the last checkpoint is the last good student.
        CheckpointError: the folder could not be written; the last checkpoint is still there.
        MemoryError: not even one picture fits. More of them are shared out, with a warning: a step's gradients are
            then summed over parts of its batch.
    """
    pictures = _Tensors(images) if isinstance(images, Tensor) else images
    if len(pictures) == 0:
        raise InputError("there is no picture to learn from")
    if isinstance(pictures, ImageSet):
        pictures.check()
    if isinstance(images, Tensor):
        picture(pictures, 0)  # of other data sets a first look might move what they draw
    teacher = _at_size(backbone, config.image_size)
    _check_fit(config, teacher)
    if current(Path(out), CARD).is_file() and not resume:
        raise FileExistsError(
            f"'{out}' holds a run already; go on with resume=True (--resume), or choose another folder for a new one"
        )
    folder = behind_links(Path(out)) if os.path.islink(out) else Path(out)  # a link to a folder that is not there yet
    records = with_gradients(_locked_run(teacher, pictures, config, folder))
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
    teacher: Backbone, pictures: Pictures, config: DistillConfig, out: Path
) -> Generator[Record, None, None]:
    processes = Processes()
    if config.batch_size % processes.count:
        raise InputError(f"batch_size={config.batch_size} cannot be shared evenly by {processes.count} processes")
    with processes.lock(out):
        run = _Run(teacher.to(processes.placed(teacher.device)), pictures, config, out, processes)
        try:
            run.begin()
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
        held_out, training = _split(len(pictures), config.probe)
        self.data = _described(pictures, held_out, training)
        keep = 0 if config.workers else _DECODED_BYTES  # each worker would keep its own
        probe, training_set = _Chosen(pictures, held_out), _Chosen(pictures, training, keep)
        self.probe = torch.stack([whole(probe[place][0], teacher.height_width) for place in range(len(probe))])
        self.stream = Stream(training_set, teacher.height_width, config.views, config.area, config.seed)
        repeats = config.steps * config.accumulate * config.batch_size > (self.stream.slots or math.inf)
        keeps = repeats and teacher.device.type == "cpu"  # a GPU computes them sooner than they are copied to it
        bound = int(config.cache_gib * (1 << 30))
        self.targets = Targets(self._see_clean, self.stream.slots if keeps else None, bound, out)
        self.student = _student(teacher, self.trainable, config)
        self.parameters = {n: p for n, p in self.student.module.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(_decay_groups(self.parameters, config.weight_decay))
        self.layers = _traced(config, teacher.depth)
        self.parts = _parts(config)
        self.step, self.saved = 0, -1
        self.history: list[dict[str, Any]] = []
        self.metrics: Card = {}
        self.references: list[Trace] = []
        self.sound = True  # False while the weights are being changed

    # Beginning and ending.

    def begin(self) -> None:
        """From the checkpoint in the folder if there is one, else from nothing, with a first checkpoint."""
        there = current(self.out, CARD).is_file()
        self.processes.wait()  # before the first process writes one
        if self.processes.first:
            finish(self.out)
            for left in self.out.glob(f"{SCRATCH}*"):  # of a run that was killed
                shutil.rmtree(left, ignore_errors=True)
        self.processes.wait()
        if there:
            self._resume()
            return
        self.metrics["before"] = self.evaluate().as_json()
        self.save()

    def records(self) -> Iterator[Record]:
        """The remaining steps. However they end, the folder holds the last good student."""
        try:
            yield from self._steps()
        except (DivergedError, CheckpointError):
            raise
        except BaseException:  # a stop (GeneratorExit), Ctrl-C, a damaged picture, too little memory
            if self.sound:
                self.save()
            raise

    @outside_autocast()
    def save(self) -> None:
        """Bring the folder up to date: all of its files, or none.

        Raises:
            DivergedError: the student is broken; the folder keeps the one before.
            CheckpointError: the files could not be written; the folder keeps those before.
        """
        if self.saved == self.step:
            return
        self._check_student()
        if self.processes.first:
            try:
                with replacing(self.out) as part:
                    self._write(part)
            except (OSError, SafetensorError) as error:  # safetensors reports a full disk as its own error
                raise CheckpointError(self._unwritten(error)) from error
        self.saved = self.step

    def _write(self, folder: Path) -> None:
        tensors = trained_tensors(self.student.module, self.trainable)
        config = self.config.as_dict()
        card = make_card(self.teacher, self.damage, config=config, metrics=self.metrics, step=self.step, data=self.data)
        write_pair(folder, tensors, card, self.history)
        moments = {
            f"{kind}/{name}": self.optimizer.state[parameter][kind].detach().cpu()
            for name, parameter in self.parameters.items()
            if parameter in self.optimizer.state
            for kind in _MOMENTS
        }
        write_tensors(moments, folder / OPTIMIZER, like=folder / CARD, sha256=state_digest(moments))

    def _unwritten(self, error: Exception) -> str:
        reason = getattr(error, "strerror", None) or str(error)
        kept = f"The one of step {self.saved} is still there: " if self.saved >= 0 else ""
        advice = "free some space and resume the run" if self.saved >= 0 else "free some space and start again"
        return f"the checkpoint of step {self.step} could not be written to '{self.out}' ({reason}). {kept}{advice}"

    def _resume(self) -> None:
        card, tensors, history = read_pair(self.out)
        check_teacher(card, self.teacher)
        _check_same("config", card["config"], self.config.as_dict(), _MAY_CHANGE)
        _check_same("pictures", card["data"], self.data)
        load_trained(self.student.module, self.trainable, tensors)
        self._resume_optimizer(card["step"])
        self.step = self.saved = card["step"]
        self.metrics, self.history = card["metrics"], list(history)
        _log.info("going on with '%s' after step %d", self.out, self.step)

    def _resume_optimizer(self, step: int) -> None:
        try:
            moments = _moments(current(self.out, OPTIMIZER))
        except (OSError, SafetensorError) as error:
            raise PairError(
                f"'{self.out}' cannot be resumed: {OPTIMIZER} is missing or damaged ({error}). Its student of step "
                f"{step} is whole, and can be loaded; start a new run in another folder"
            ) from error
        for name, parameter in self.parameters.items():
            found = {kind: moments[f"{kind}/{name}"] for kind in _MOMENTS if f"{kind}/{name}" in moments}
            if not found:
                continue
            if len(found) < len(_MOMENTS) or found["exp_avg"].shape != parameter.shape or found["step"] != step:
                raise PairError(f"'{self.out}' cannot be resumed: {OPTIMIZER} does not fit the student ('{name}')")
            # AdamW keeps its step count on the CPU
            self.optimizer.state[parameter] = {
                kind: value if kind == "step" else value.to(parameter) for kind, value in found.items()
            }

    # One step.

    def _steps(self) -> Iterator[Record]:
        config = self.config
        batches = self._batches()
        seconds: deque[float] = deque(maxlen=20)
        while self.step < config.steps:
            start = time.perf_counter()
            terms = self._learn(batches)
            measured = self.evaluate() if self._due(config.eval_every) else None
            if measured is not None:
                self.metrics["after"] = measured.as_json()
            seconds.append(time.perf_counter() - start)
            record = self._record(terms, sum(seconds) / len(seconds), measured)
            self.history.append(record.as_dict())
            if self._due(config.checkpoint_every):
                self.save()
            yield record

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.steps

    def _batches(self) -> Iterator[tuple[Tensor, list[int], list[int]]]:
        first, end = (step * self.config.accumulate for step in (self.step, self.config.steps))
        share = Batches(first, end, self.config.batch_size, self.processes.rank, self.processes.count)
        loader = DataLoader(
            self.stream,
            batch_sampler=share,
            collate_fn=collate,
            num_workers=self.config.workers,
            pin_memory=self.teacher.device.type == "cuda",
            generator=torch.Generator(),  # else the loader would move the global one
        )
        return iter(loader)

    @outside_autocast()
    def _learn(self, batches: Iterator[tuple[Tensor, list[int], list[int]]]) -> dict[str, float]:
        """One update of the weights; the losses before it."""
        totals: dict[str, Tensor] = {}
        for _ in range(self.config.accumulate):
            clean, samples, slots = next(batches)
            learned = self.parts(partial(self._gradients, clean, samples, slots), len(samples))
            for _part, terms in learned:
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0) + value
        numbers, norm = self._agreed(totals)
        self._check_terms(numbers, f"step {self.step + 1}")
        if not math.isfinite(norm):
            raise DivergedError(self._diverged(f"step {self.step + 1}: the gradient's norm is {norm}"))
        lr = self.config.lr_at(self.step + 1)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.sound = False
        self.optimizer.step()
        self.step += 1
        self.sound = True
        self.optimizer.zero_grad(set_to_none=True)
        return numbers

    def _gradients(self, clean: Tensor, samples: list[int], slots: list[int], part: slice) -> dict[str, Tensor]:
        """A part's share of the losses; its gradients are added to those before, all of them or, on an error, none."""
        share = (part.stop - part.start) / len(samples) / self.config.accumulate
        before = [parameter.grad for parameter in self.parameters.values()]
        self.optimizer.zero_grad(set_to_none=True)
        try:
            shown = clean[part].to(self.teacher.device, non_blocking=True)
            terms = self._terms(shown, samples[part], slots[part])
            (terms["loss"] * share).backward()
        except BaseException:
            for parameter, kept in zip(self.parameters.values(), before, strict=True):
                parameter.grad = kept
            raise
        for parameter, kept in zip(self.parameters.values(), before, strict=True):
            if kept is not None:
                parameter.grad = kept if parameter.grad is None else kept.add_(parameter.grad)
        return {name: value.detach() * share for name, value in terms.items()}

    def _terms(self, clean: Tensor, samples: list[int], slots: list[int]) -> dict[str, Tensor]:
        config = self.config
        reference = self.targets(clean, slots)
        distorted = self.damage(clean, seed=config.seed, indices=samples)
        self.student.check_mode()  # whoever took the last record may have changed it
        with self._autocast():
            seen = self.student.trace(distorted, self.layers, self._attention, grad=True)
        return losses.combine(
            reference,
            seen,
            **config.weights,
            patch_layers=_blocks(config.patch_layers, self.teacher.depth),
            attention_layers=_blocks(config.attention_layers, self.teacher.depth),
            rows=config.rows,
            heads=config.heads,
        )

    def _see_clean(self, clean: Tensor) -> Trace:
        with self._autocast():
            return self.teacher.trace(clean, self.layers, self._attention)

    @property
    def _attention(self) -> Literal["cls", "full"] | None:
        return None if self.config.attention == 0 else "full" if self.config.rows == "all" else "cls"

    def _autocast(self) -> torch.autocast:
        device = self.teacher.device
        half = self.config.precision == "bfloat16"
        if self.config.precision == "auto":
            half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)

    def _agreed(self, totals: dict[str, Tensor]) -> tuple[dict[str, float], float]:
        """Losses and gradients as means over the processes, and the gradient's norm, limited."""
        stacked = torch.stack(list(totals.values()))
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        self.processes.mean_([stacked, *gradients])
        limit = math.inf if self.config.grad_clip is None else self.config.grad_clip
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), limit))
        return dict(zip(totals, stacked.tolist(), strict=True)), norm

    def _record(self, terms: dict[str, float], seconds: float, measured: Alignment | None) -> Record:
        return Record(
            step=self.step,
            steps=self.config.steps,
            losses=terms,
            lr=self.config.lr_at(self.step),
            images_per_second=self.config.batch_size * self.config.accumulate / seconds,
            eta_seconds=(self.config.steps - self.step) * seconds,
            alignment=measured,
            student=self.student,
        )

    # Measuring.

    @outside_autocast()
    def evaluate(self) -> Alignment:
        """How well the student on the distorted probe pictures agrees with the teacher on the clean ones."""
        indices = range(_PROBE_SAMPLES, _PROBE_SAMPLES + len(self.probe))
        parts = []
        for number, start in enumerate(range(0, len(self.probe), _PROBE_BATCH)):
            clean = self.probe[start : start + _PROBE_BATCH].to(self.teacher.device)
            distorted = self.damage(clean, seed=self.config.seed, indices=indices[start : start + _PROBE_BATCH])
            seen = self.student.trace(distorted, self._probe_layers, self._probe_attention)
            parts.append(alignment(self._reference(number, clean), seen))
        return _joined(parts)

    def _reference(self, number: int, clean: Tensor) -> Trace:
        """The teacher's trace of one group of probe pictures; kept if all of them together are small."""
        if number < len(self.references):
            return self.references[number]
        trace = self.teacher.trace(clean, self._probe_layers, self._probe_attention)
        size = trace.patches.nbytes + (trace.attention.nbytes if trace.attention is not None else 0)
        if number == len(self.references) and size * len(self.probe) / len(clean) <= _REFERENCE_BYTES:
            self.references.append(trace)
        return trace

    @property
    def _probe_layers(self) -> range:
        return range(max(0, self.teacher.depth - ATTENTION_LAYERS), self.teacher.depth)

    @property
    def _probe_attention(self) -> Literal["cls", "full"]:
        return "full" if self.config.rows == "all" else "cls"

    def _check_terms(self, terms: dict[str, float], when: str) -> None:
        names = [*(name for name in terms if name != "loss"), "loss"]  # their sum last: a level says more
        bad = next((name for name in names if not math.isfinite(terms[name])), None)
        if bad is not None:
            raise DivergedError(self._diverged(f"{when}: the loss term '{bad}' is {terms[bad]}"))

    def _check_student(self) -> None:
        """No broken student replaces a good one: finite weights, and finite losses on a few probe pictures."""
        if self.step == 0:
            return
        broken = next((n for n, p in self.parameters.items() if not torch.isfinite(p).all()), None)
        if broken is not None:
            raise DivergedError(self._diverged(f"after step {self.step}: '{broken}' is not finite"))
        few = self.probe[:_PROBE_BATCH]
        attends = float(self.config.attention > 0)
        both = (self.teacher, self.student)  # grad=True leaves NaN to the losses, whose names say more
        traces = [backbone.trace(few, self.layers, self._attention, grad=True).detach() for backbone in both]
        terms = losses.combine(*traces, attention=attends, attention_layers=1, rows=self.config.rows)
        self._check_terms({name: value.item() for name, value in terms.items()}, f"after step {self.step}")

    def _diverged(self, what: str) -> str:
        return (
            f"{what}; training was stopped. The last good student is the one of step {self.saved} in '{self.out}'. "
            f"Try a lower lr (it was {self.config.highest_lr:g}), a longer warmup, or a lower grad_clip"
        )


# Parts of a run.


def _moments(file: Path) -> dict[str, Tensor]:
    with safetensors.safe_open(file, framework="pt") as opened:
        digest = (opened.metadata() or {}).get("sha256")
    tensors = safetensors.torch.load_file(file)
    if state_digest(tensors) != digest:
        raise SafetensorError("it is not as it was written")
    return tensors


class _Tensors(Dataset):
    """Pictures in one tensor as a data set."""

    def __init__(self, images: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"expected pictures as a tensor 'picture 3 height width'; got shape {tuple(images.shape)}")
        self.images = images.detach().cpu()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, None]:
        return self.images[index], None


class _Chosen(Dataset):
    """Some pictures of a data set.

    Args:
        keep: how many bytes of decoded pictures are kept for their next visits; of an `ImageSet` alone, for any other
            data set may hand out something else each time.
    """

    def __init__(self, pictures: Pictures, indices: list[int], keep: int = 0) -> None:
        self.pictures, self.indices = pictures, indices
        self.room = keep if isinstance(pictures, ImageSet) else 0
        self.kept: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        if index in self.kept:
            return self.kept[index]
        chosen = self.indices[index]
        own = not isinstance(self.pictures, ImageSet)
        item = (picture(self.pictures, chosen), None) if own else self.pictures[chosen]
        if self.room > 0 and item[0].nbytes <= self.room:
            self.room -= item[0].nbytes
            self.kept[index] = item
        return item


def _split(count: int, probe: int) -> tuple[list[int], list[int]]:
    """Held out and training; the same whatever the seed, so that runs can be compared. One picture is both."""
    if count == 1:
        return [0], [0]
    held_out = sorted(np.random.default_rng(0).permutation(count)[: min(probe, max(1, count // 5))].tolist())
    return held_out, sorted(set(range(count)) - set(held_out))


def _described(pictures: Pictures, held_out: list[int], training: list[int]) -> Card:
    names = [str(name) for name in getattr(pictures, "names", range(len(pictures)))]
    return {
        "pictures": len(training),
        "names_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        "size": json.loads(json.dumps(getattr(pictures, "size", None))),
        "probe": [names[index] for index in held_out],
        "held_out": held_out != training,
    }


def _student(teacher: Backbone, trainable: Trainable, config: DistillConfig) -> Backbone:
    module: Any = prepare(copy.deepcopy(teacher.module).eval(), trainable, config.seed)
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
    if config.contrastive:
        advice = "its contrastive term compares the pictures of a batch with each other: take a smaller batch_size"
        return Parts("a training step", advice, smallest=config.batch_size)
    advice = "take checkpointing=True, a smaller image_size, fewer attention_layers, rows='own' or 'bfloat16'"
    return Parts("a training step", advice)


def _decay_groups(parameters: dict[str, nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and convolutions decay; norms, biases, tokens and position embeddings do not."""
    decayed = [p for p in parameters.values() if p.ndim in (2, 4)]
    others = [p for p in parameters.values() if p.ndim not in (2, 4)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _blocks(chosen: losses.Blocks, depth: int) -> list[int]:
    """Block numbers, from 0."""
    return list(range(depth))[-chosen:] if isinstance(chosen, int) else [number % depth for number in chosen]


def _traced(config: DistillConfig, depth: int) -> list[int]:
    """The blocks that the levels need between them."""
    needed = {depth - 1}
    if config.patch or config.patch_mse:
        needed |= set(_blocks(config.patch_layers, depth))
    if config.attention:
        needed |= set(_blocks(config.attention_layers, depth))
    return sorted(needed)


def _joined(parts: list[Alignment]) -> Alignment:
    """One alignment of all pictures from those of groups."""
    per_image = {name: torch.cat([part.per_image[name] for part in parts]) for name in parts[0].per_image}
    averages = {name: float(values.mean()) for name, values in per_image.items()}
    return replace(parts[0], **averages, per_image=per_image)


def _at_size(backbone: Backbone, size: ImageSize) -> Backbone:
    """The backbone at the size that is trained at; built anew from the same weights where it has another."""
    if backbone.height_width == as_height_width(size):
        return backbone
    try:
        weights = {**weights_of(backbone), "image_size": as_height_width(size)}  # random ones are not resampled here
        return load_teacher(backbone.name, weights, size, backbone.device)
    except PairError as error:
        raise InputError(
            f"the configuration says image_size={size}, but the backbone was loaded at {backbone.image_size} px, and "
            f"these weights cannot be found by its name; load it at that size, or DistillConfig(image_size=…)"
        ) from error


# Checks.


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


def _check_same(what: str, before: Card, now: Card, may_differ: Sequence[str] = ()) -> None:
    names = [name for name in {**before, **now} if name not in may_differ and before.get(name) != now.get(name)]
    if names:
        changes = "; ".join(f"{name} was {before.get(name)!r:.200} and is {now.get(name)!r:.200}" for name in names[:5])
        raise InputError(f"the run cannot be resumed with other {what}: {changes}. Start a new run in another folder")
