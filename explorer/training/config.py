"""What is learned, from what, and how: `DistillConfig`.

One frozen value, checked when it is made, that is written into every pair's card. Each field says what its help on a
command line is, and how it is read there. Nothing here touches a model; torch is loaded when a value is made, not
before, so that help answers at once.
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, get_args

from explorer.errors import InputError
from explorer.training import choices, recipe
from explorer.training.choices import (
    ATTENTION_LAYERS,
    PATCH_LAYERS,
    Blocks,
    Precision,
    Rows,
    Views,
    block_numbers,
    read_area,
    read_blocks,
    read_limit,
    read_numbers,
    read_views,
)

if TYPE_CHECKING:
    import explorer.distortions

LAYER_FIELDS = ("attention_layers", "patch_layers")
_RATES = [f"{recipe.HIGHEST_LR[kind]:.0e}".replace("e-0", "e-") for kind in ("lora", "all")]


def _option(read: Callable[[str], Any], text: str) -> dict[str, Any]:
    """How a command line reads a field, and its help, to which the default is added."""
    return {"read": read, "help": text}


def _level(what: str) -> dict[str, Any]:
    """The same for the weight of a level, the function of that name in `explorer.training.losses`."""
    return {**_option(float, f"weight of {what}"), "level": True}


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """What is learned, from what, and how. All of it is checked when it is made.

    The defaults are the best that a search for short runs found (docs/recipe.md).

    Attributes:
        distortion: a spec (see `explorer.distortion`) or a `Distortion`; ranges and mixtures are drawn per picture.
            "none" for pictures that are damaged already, and have clean twins.
        cls, patch, attention: weights of the three levels; 0 switches a level off. See `explorer.training.losses`. The
            attention of None is the one for the backbone, `explorer.training.recipe.attention_weight`.
        contrastive, cls_mse, patch_mse: weights of other forms, for comparison.
        attention_layers, patch_layers: so many of the last blocks, or block numbers.
        rows: which attention rows are aligned: "all", or the picture's "own".
        heads: which attention heads are aligned; None: all.
        steps: updates of the weights.
        batch_size: pictures in each forward pass, over all processes together.
        accumulate: forward passes for each update.
        lr: the highest learning rate; None: the one for what is trained, `explorer.training.recipe.HIGHEST_LR`.
        warmup: share of the steps in which the learning rate rises from 0; then it falls to 0 along a cosine.
        weight_decay: of AdamW, on matrices. It pulls towards zero, not towards the teacher.
        grad_clip: the largest norm of the gradient; None: no limit.
        trainable: "lora:32" (adapter of rank 32), "all", or "last:2" (the last two blocks and the final norm).
        begin: a pair, by its name or its run's folder, whose student this one begins as, instead of its teacher's copy.
            It was made from the same weights with the same `trainable`, at any image size (with "all": at this one).
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

    distortion: "str | explorer.distortions.Distortion" = field(
        default="gaussian_noise(sigma=0.3)",
        metadata=_option(str, "what damages them; a..b draws between, | one of several"),
    )
    cls: float = field(default=1.0, metadata=_level("the global embedding"))
    patch: float = field(default=1.0, metadata=_level("the patch features"))
    attention: float | None = field(
        default=None,
        metadata=_level(f"the attention maps; {recipe.OWN_ATTENTION['s14']:g} for s14, else {recipe.ATTENTION:g}"),
    )
    contrastive: float = field(default=0.0, metadata=_level("InfoNCE between embeddings"))
    cls_mse: float = field(default=0.0, metadata=_level("the squared difference of embeddings"))
    patch_mse: float = field(default=0.0, metadata=_level("the squared difference of patch features"))
    attention_layers: Blocks = field(
        default=ATTENTION_LAYERS,
        metadata=_option(read_blocks, "so many of the last blocks, or block numbers such as 0,5,11"),
    )
    patch_layers: Blocks = field(
        default=PATCH_LAYERS, metadata=_option(read_blocks, "so many of the last blocks, or block numbers")
    )
    rows: Rows = field(
        default="all", metadata=_option(str, "attention rows that are aligned: all, or the picture's own")
    )
    heads: Sequence[int] | None = field(
        default=None,
        metadata=_option(read_numbers, "attention heads that are aligned, such as 0,3; all unless given"),
    )
    steps: int = field(default=100, metadata=_option(int, "updates of the weights"))
    batch_size: int = field(default=16, metadata=_option(int, "pictures in a forward pass"))
    accumulate: int = field(default=1, metadata=_option(int, "forward passes for each update"))
    lr: float | None = field(
        default=None,
        metadata=_option(float, "highest learning rate; {} for lora and {} else unless given".format(*_RATES)),
    )
    warmup: float = field(default=0.1, metadata=_option(float, "share of the steps in which the learning rate rises"))
    weight_decay: float = field(default=0.0, metadata=_option(float, "of AdamW"))
    grad_clip: float | None = field(
        default=1.0, metadata=_option(read_limit, "largest norm of the gradient; none: no limit")
    )
    trainable: str = field(default=recipe.TRAINABLE, metadata=_option(str, "lora:RANK, all, or last:BLOCKS"))
    begin: str | os.PathLike | None = field(
        default=None, metadata=_option(str, "a pair (its name, or its folder) whose student this one begins as")
    )
    image_size: int | tuple[int, int] = 224
    views: Views = field(
        default="fresh",
        metadata=_option(read_views, "fresh: new crops at each visit; a number: so many per picture; fixed: none"),
    )
    area: tuple[float, float] = field(
        default=(0.4, 1.0),
        metadata=_option(read_area, "smallest and largest share of a picture that a crop covers"),
    )
    cache_gib: float = field(
        default=2.0, metadata=_option(float, "memory for the teacher's targets where views repeat, in GiB")
    )
    precision: Precision = field(default="auto", metadata=_option(str, "auto, float32 or bfloat16"))
    compile: bool = field(default=False, metadata=_option(bool, "compile the student"))
    checkpointing: bool = field(
        default=False,
        metadata=_option(bool, "compute the student's blocks again in the backward pass: less memory, more time"),
    )
    probe: int = field(default=16, metadata=_option(int, "pictures held out to measure agreement on"))
    eval_every: int = field(default=10, metadata=_option(int, "measure agreement every so many steps"))
    checkpoint_every: int = field(default=50, metadata=_option(int, "save every so many steps"))
    workers: int = field(default=0, metadata=_option(int, "processes that decode pictures"))
    seed: int = field(default=0, metadata=_option(int, "of everything random"))

    def __post_init__(self) -> None:
        from explorer.distortions import distortion

        # Held in one form, whatever they were given in, so that equal configurations are equal.
        object.__setattr__(self, "distortion", distortion(self.distortion).spec)
        for name in ("attention_layers", "patch_layers", "heads", "area", "image_size"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if isinstance(self.image_size, tuple) and len(self.image_size) == 2 and len({*self.image_size}) == 1:
            object.__setattr__(self, "image_size", self.image_size[0])
        if isinstance(self.begin, os.PathLike):
            object.__setattr__(self, "begin", os.fspath(self.begin))
        _check(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DistillConfig":
        """From what `as_dict` gave, such as the config in a pair's card.

        Raises:
            ValueError: an unknown or a bad field.
        """
        from explorer.distortions.parameters import unknown_name

        known = [one.name for one in fields(cls)]
        for name in values:
            if name not in known:
                raise unknown_name("field of DistillConfig", name, known)
        held: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in values.items()}
        return cls(**held)

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each level, by name."""
        found = {one.name: getattr(self, one.name) for one in fields(self) if "level" in one.metadata}
        return {name: recipe.ATTENTION if weight is None else weight for name, weight in found.items()}

    def settled(self, backbone: str) -> "DistillConfig":
        """The same, with what is left to the backbone, by its name, filled in."""
        return self if self.attention is not None else replace(self, attention=recipe.attention_weight(backbone))

    @property
    def highest_lr(self) -> float:
        """The learning rate after warm-up."""
        return recipe.highest_lr(self.lr, self.trainable)

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 1: a linear warm-up, then half a cosine, which would reach 0 at the
        step after the last one."""
        return recipe.lr_at(step, self.steps, self.highest_lr, self.warmup)

    @property
    def compares_pictures(self) -> bool:
        """Whether a level compares the pictures of a batch with each other, so that a step cannot share them out."""
        return self.contrastive > 0

    def levels(self, depth: int) -> dict[str, Any]:
        """The arguments of `explorer.losses.combine` for a model of `depth` blocks."""
        numbers = {name: block_numbers(getattr(self, name), depth) for name in LAYER_FIELDS}
        return {**self.weights, **numbers, "rows": self.rows, "heads": self.heads}

    def traced(self, depth: int) -> dict[str, Any]:
        """What the levels need between them: the arguments of `Backbone.trace` for a model of `depth` blocks."""
        needed = {depth - 1}
        if self.patch or self.patch_mse:
            needed |= set(block_numbers(self.patch_layers, depth))
        if self.weights["attention"]:
            needed |= set(block_numbers(self.attention_layers, depth))
        attention = None if self.weights["attention"] == 0 else "full" if self.rows == "all" else "cls"
        return {"layers": sorted(needed), "attention": attention}

    def as_dict(self) -> dict[str, Any]:
        """All fields, as they are written to JSON."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


def _check(config: DistillConfig) -> None:
    from explorer.models.adapters import Trainable

    choices.check_weights(config.weights)
    Trainable.parse(config.trainable)
    positive = ("steps", "batch_size", "accumulate", "probe", "eval_every", "checkpoint_every")
    choices.settle_whole(config, {**dict.fromkeys(positive, 1), "workers": 0})
    for name in ("lr", "grad_clip"):
        if getattr(config, name) is not None:
            choices.check_number(name, getattr(config, name), positive=True)
    for name, below in {"warmup": 1.0, "weight_decay": math.inf, "cache_gib": math.inf}.items():
        choices.check_number(name, getattr(config, name), below=below)
    choices.check_word("rows", config.rows, get_args(Rows))
    choices.check_word("precision", config.precision, get_args(Precision))
    for name in ("compile", "checkpointing"):
        choices.check_word(name, getattr(config, name), (True, False))
    for name in LAYER_FIELDS:
        choices.check_blocks(name, getattr(config, name))
    if config.heads is not None:
        choices.check_numbers("heads", config.heads, low=0)
    if not isinstance(config.begin, str | None) or config.begin == "":
        raise InputError(f"begin is the name or the folder of a pair, or None; got {config.begin!r}")
    choices.check_size(config.image_size)
    choices.check_views(config.views, config.area)
    if config.compile and config.checkpointing:
        raise InputError(
            "compile and checkpointing exclude each other: torch cannot compile blocks whose attention it "
            "computes again; choose one of them"
        )
    if config.compares_pictures and config.batch_size < 2:
        raise InputError("contrastive compares the pictures of a batch with each other: batch_size must be at least 2")
