"""What is learned, from what, and how: `DistillConfig`.

One frozen value, checked when it is made, that is written into every pair's card. Nothing here touches a model.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from explorer.distortions import Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.distortions.parameters import unknown_name
from explorer.errors import InputError
from explorer.models.adapters import Trainable
from explorer.models.backbones import ImageSize
from explorer.training import losses
from explorer.training.crops import Views, check_views

LAYER_FIELDS = ("attention_layers", "patch_layers")
_LR = {"lora": 2e-3, "all": 1e-4, "last": 1e-4}


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """What is learned, from what, and how. All of it is checked when it is made.

    Attributes:
        distortion: a spec (see `explorer.distortion`) or a `Distortion`; ranges and mixtures are drawn per picture.
        cls, patch, attention: weights of the three levels; 0 switches a level off. See `explorer.training.losses`.
        contrastive, cls_mse, patch_mse: weights of other forms, for comparison.
        attention_layers, patch_layers: so many of the last blocks, or block numbers.
        rows: which attention rows are aligned: "all", or the picture's "own".
        heads: which attention heads are aligned; None: all.
        steps: updates of the weights.
        batch_size: pictures in each forward pass, over all processes together.
        accumulate: forward passes for each update.
        lr: the highest learning rate; None: 2e-3 for an adapter, 1e-4 for anything else.
        warmup: share of the steps in which the learning rate rises from 0; then it falls to 0 along a cosine.
        weight_decay: of AdamW, on matrices. It pulls towards zero, not towards the teacher: 0 by default.
        grad_clip: the largest norm of the gradient; None: no limit.
        trainable: "lora:8" (adapter of rank 8), "all", or "last:2" (the last two blocks and the final norm).
        image_size: pixels a side, or (height, width).
        views: "fresh", a new random crop and flip at every visit; K, so many for each picture, which repeat; "fixed",
            the pictures as they are. With the latter two the teacher's targets are computed once and kept (on a CPU;
            a GPU computes them again sooner than they are copied to it).
        area: the smallest and largest share of a picture that a crop covers. Load pictures somewhat larger than
            `image_size` (or with size=None), so that crops need not be enlarged.
        cache_gib: kept targets may take this much memory, in GiB; beyond it they go to a file in the run's folder.
        precision: "auto" (bfloat16 autocast on a GPU that has it), "float32" or "bfloat16".
        compile: use torch.compile for the student.
        checkpointing: keep nothing of the student's blocks for the backward pass but what goes in, and compute them
            again there: less memory for one more forward pass (docs/settings.md), and the very same student. Not with
            `compile`.
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
    checkpointing: bool = False
    probe: int = 16
    eval_every: int = 10
    checkpoint_every: int = 50
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        # Held in one form, whatever they were given in, so that equal configurations are equal.
        object.__setattr__(self, "distortion", parse_distortion(self.distortion).spec)
        for name in ("attention_layers", "patch_layers", "heads", "area", "image_size"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        _check(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DistillConfig":
        """From what `as_dict` gave, such as the config in a pair's card.

        Raises:
            ValueError: an unknown or a bad field.
        """
        known = [one.name for one in fields(cls)]
        for name in values:
            if name not in known:
                raise unknown_name("field of DistillConfig", name, known)
        held: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in values.items()}
        return cls(**held)

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each level, by name."""
        return {name: getattr(self, name) for name in losses.LEVELS}

    @property
    def highest_lr(self) -> float:
        """The learning rate after warm-up."""
        return self.lr if self.lr is not None else _LR[Trainable.parse(self.trainable).kind]

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 1: a linear warm-up, then half a cosine, which would reach 0 at the
        step after the last one."""
        rising = round(self.warmup * self.steps)
        if step <= rising:
            return self.highest_lr * step / rising
        share = (step - rising - 1) / (self.steps - rising)
        return self.highest_lr * (1 + math.cos(math.pi * share)) / 2

    def as_dict(self) -> dict[str, Any]:
        """All fields, as they are written to JSON."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


def _check(config: DistillConfig) -> None:
    losses.check_weights(config.weights)
    Trainable.parse(config.trainable)
    for name, lowest in _WHOLE.items():
        _check_whole(name, getattr(config, name), lowest)
    for name, (low, high) in _RANGES.items():
        _check_number(name, getattr(config, name), low, high)
    for name, words in _WORDS.items():
        _check_word(name, getattr(config, name), words)
    for name in LAYER_FIELDS:
        _check_blocks(name, getattr(config, name))
    if config.heads is not None:
        _check_numbers("heads", config.heads, low=0)
    _check_size(config.image_size)
    check_views(config.views, config.area)
    if config.seed >= 1 << 63:
        raise InputError(f"seed is a whole number from 0 to 2**63 - 1; got {config.seed}")
    if config.compile and config.checkpointing:
        raise InputError(
            "compile and checkpointing exclude each other: torch cannot compile blocks whose attention it "
            "computes again; choose one of them"
        )
    if config.contrastive and config.batch_size < 2:
        raise InputError("contrastive compares the pictures of a batch with each other: batch_size must be at least 2")


_WHOLE = {"steps": 1, "batch_size": 1, "accumulate": 1, "probe": 1, "eval_every": 1, "checkpoint_every": 1}
_WHOLE |= {"workers": 0, "seed": 0}
_RANGES: dict[str, tuple[float, float]] = {
    "lr": (0.0, math.inf),
    "grad_clip": (0.0, math.inf),
    "weight_decay": (-1.0, math.inf),
}
_RANGES |= {"warmup": (-1.0, 1.0), "cache_gib": (-1.0, math.inf)}
_WORDS = {"rows": ("all", "own"), "precision": ("auto", "float32", "bfloat16"), "compile": (True, False)}
_WORDS |= {"checkpointing": (True, False)}


def _check_whole(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(f"{name} is a whole number, at least {low}; got {value!r}")


def _check_number(name: str, value: object, low: float, high: float) -> None:
    """Above `low` (from 0 on where it is -1) and below `high`; None where the field's meaning has one."""
    if value is None and name in ("lr", "grad_clip"):
        return
    valid = isinstance(value, int | float) and not isinstance(value, bool)
    if not valid or not low < value < high or value < 0:  # type: ignore[operator]
        bound = "above 0" if low == 0 else "0 or above"
        raise InputError(
            f"{name} is a number, {bound}{f' and below {high:g}' if high < math.inf else ''}; got {value!r}"
        )


def _check_word(name: str, value: object, words: Sequence[object]) -> None:
    if value not in words or type(value) is not type(words[0]):
        raise InputError(f"{name} must be one of {', '.join(map(repr, words))}; got {value!r}")


def _check_blocks(name: str, value: object) -> None:
    if isinstance(value, tuple):
        _check_numbers(name, value)
    elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is how many of the last blocks, at least 1, or block numbers; got {value!r}")


def _check_numbers(name: str, value: object, low: int | None = None) -> None:
    whole = isinstance(value, tuple) and all(type(one) is int and (low is None or one >= low) for one in value)
    if not whole or not 0 < len(set(value)) == len(value):  # type: ignore[call-overload,arg-type]
        raise InputError(f"{name} are different whole numbers, such as (0, 3); got {value!r}")


def _check_size(size: object) -> None:
    sides = size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise InputError(f"image_size is a number of pixels, or (height, width); got {size!r}")
