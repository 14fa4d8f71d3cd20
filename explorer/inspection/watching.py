"""Anybody's training of a Vision Transformer, followed on one picture: `AttentionWatch`.

Enters: a model that is being trained, by whatever loop, and a picture. Leaves: a `Recovery`, which the page, the
animation and the recovery view show. The model is looked at where it is, without a copy, and its training goes on as if
nobody had looked. Deliberately ignored: losses, data, and what the model is trained for.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from explorer.data.image import Source, load_image
from explorer.distortions import Distortion
from explorer.distortions.operators import NONE
from explorer.errors import InputError, is_for_users, whole_number
from explorer.inspection.recovery import Moment, Recovery
from explorer.models.backbones import Backbone, ImageSize
from explorer.models.loading import backbone_of
from explorer.system.precision import outside_autocast
from explorer.system.processes import is_first

MOMENTS = 64
"""Beyond so many moments, every second one is forgotten."""
_SHARDED = ("DTensor", "ShardedTensor")
_log = logging.getLogger(__name__)


class LightningHooks:
    """What Lightning calls of a callback, by the same names; neither of its packages is imported.

    All that is not written here does nothing: Lightning has some forty hooks, and versions add to them.
    """

    state_key = _legacy_state_key = "vit_explorer.AttentionWatch"

    def __getattr__(self, name: str) -> Any:
        if name in ("setup", "teardown") or name.startswith("on_"):
            return _nothing
        raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")

    def state_dict(self) -> dict[str, Any]:
        """Nothing is put into Lightning's checkpoints."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing is read from them."""


class AttentionWatch(LightningHooks):
    """Records where a model looks in one picture, and what resembles what, while anybody's loop trains it.

        watch = AttentionWatch(model, "cat.jpg", every=100)
        for pictures, labels in loader:
            loss = criterion(model(pictures), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            watch.step()
        save_page(watch.recovery, "training.html")

    `watch.step()` counts by itself; `watch(step)` takes your own number. Lightning takes it as a callback:
    `Trainer(callbacks=[watch])`. The reference is the model as it is when the watch is made, on the clean picture; that
    is step 0, too, and all later steps are measured against it.

    The training is left as it is. A look is one forward pass of one picture, without gradients, outside of autocast,
    in evaluation mode; each part of the model is in its own mode again afterwards, and torch's random numbers go on
    where they were. The model's own hooks run, as in any forward pass. A watch never ends a training: what goes wrong
    is logged and kept in `failure`, and nothing more is recorded. Of several processes, the first one records.

    Args:
        model: a `Backbone`; or one of timm's plain Vision Transformers, also in `DistributedDataParallel`,
            `torch.compile`, torch's `AveragedModel`, timm's `ModelEmaV3`, or a `PeftModel`. A module of your own is
            wrapped first: `wrap_backbone`, after which `module.train()` is up to you. Parameters that are sharded over
            processes (FSDP) cannot be looked at.
        picture: what `load_image` takes; it is cut to the model's image size.
        every: steps from one moment to the next. Beyond 64 moments every second one is forgotten, and `every` doubles.
        distortion: what damages the picture that the model sees, such as "gaussian_noise(sigma=0.3)"; None: nothing.
        seed: of the distortion.
        teacher: another model that is the reference instead, of the same image size, grid and number of blocks.
        image_size: of a timm model that takes several (`dynamic_img_size=True`); None: the one that it was built for.

    Attributes:
        recovery: what was recorded.
        every: as above.
        failure: what ended the recording, or None.

    Raises:
        ValueError: a model that cannot be looked at, or a teacher that does not fit it.
        CaptureError: the model's attention cannot be read.
        ImageError: the picture is none.
    """

    def __init__(
        self,
        model: Backbone | nn.Module,
        picture: Source,
        *,
        every: int = 50,
        distortion: str | Distortion | None = None,
        seed: int = 0,
        teacher: Backbone | nn.Module | None = None,
        image_size: ImageSize | None = None,
    ) -> None:
        self.every = whole_number("every", every, 1)
        self.failure: Exception | None = None
        self._model = _backbone(model, image_size)
        reference = self._model if teacher is None else _backbone(teacher, image_size)
        if reference.height_width != self._model.height_width:
            raise InputError(
                f"the teacher sees pictures of {reference.image_size} px and the model {self._model.image_size} px: "
                f"load the teacher at the model's size"
            )
        called = ("model at the start", "model") if teacher is None else ("teacher", "model")
        with _left_alone(self._model.module), _left_alone(reference.module):
            self.recovery = Recovery(
                reference,
                load_image(picture, self._model.height_width),
                NONE.name if distortion is None else distortion,
                seed,
                student=self._model,
                called=called,
            )
        self._seen = 0

    def __call__(self, step: int) -> Moment | None:
        """Tell the watch that a step of the training is over; it looks if that is due.

        Args:
            step: its number, counted from 1 over all epochs; some may be left out.

        Returns:
            What was recorded, or None.
        """
        due = step // self.every != self._seen // self.every or step < self._seen
        self._seen = step
        return self.record(step) if due else None

    def step(self) -> Moment | None:
        """The same, by the watch's own count."""
        return self(self._seen + 1)

    def record(self, step: int | None = None) -> Moment | None:
        """Look now, whatever `every` says: at the end of a training, say.

        Args:
            step: its number; None: that of the last one that the watch was told of.

        Returns:
            What was recorded; None where this step is there already, or after a failure.
        """
        step = self._seen if step is None else step
        known = step == self.recovery.moments[-1].step
        if known or self.failure is not None or not is_first():
            return None
        try:
            moment = self._look(step)
        except Exception as error:
            self.failure = error
            _log.warning(
                "the watched picture is not recorded any more: %s: %s",
                type(error).__name__,
                error,
                exc_info=not is_for_users(error),
            )
            return None
        if len(self.recovery.moments) > MOMENTS:
            del self.recovery.moments[1::2]
            self.every *= 2
        return moment

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Lightning's, after each batch; a step may take several."""
        if trainer.global_step != self._seen:
            self(trainer.global_step)

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        """Lightning's, at the end, which is recorded, too."""
        self.record(trainer.global_step)

    def _look(self, step: int) -> Moment:
        last = self.recovery.moments[-1].step
        if step < last:
            raise InputError(
                f"step {step} does not come after step {last}: count on from epoch to epoch, or let watch.step() "
                f"count; another training takes another AttentionWatch"
            )
        with _left_alone(self._model.module):
            return self.recovery.add(step, self._model)


def _nothing(*_: Any, **__: Any) -> None:
    """A hook."""


def _backbone(model: Backbone | nn.Module, image_size: ImageSize | None) -> Backbone:
    return model if isinstance(model, Backbone) else backbone_of(model, image_size)


@contextmanager
def _left_alone(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode, without gradients; afterwards all is as it was, and so are torch's generators."""
    modes = [(part, part.training) for part in module.modules()]
    first = next(module.parameters())
    if type(first).__name__ in _SHARDED:
        raise InputError("this model's parameters are sharded over processes, so that one alone cannot look at it")
    kind, number = first.device.type, first.device.index
    devices = [number] if kind in ("cuda", "xpu") else []
    with torch.random.fork_rng(devices, device_type=kind if devices else "cuda"), torch.no_grad(), outside_autocast():
        try:
            for part, _ in modes:
                part.training = False  # not eval(), which modules may have written anew
            yield
        finally:
            for part, training in modes:
                part.training = training
