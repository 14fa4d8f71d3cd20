"""How weights are trained, the same for distillation and for its rival, fine-tuning: learning rates, AdamW's groups.

Enters: numbers of a configuration, parameters. Leaves: learning rates, groups. Precision is `system.precision`, and the
limit of gradients torch's. Imports no torch: a configuration reads its learning rates here, and help a configuration.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

TRAINABLE = "lora:32"
HIGHEST_LR = {"lora": 1e-3, "all": 1e-4, "last": 1e-4}
"""What is trained -> the learning rate after warm-up, where none is asked for."""


ATTENTION, OWN_ATTENTION = 1.0, {"s14": 3.0}
"""The weight of the attention level where none is asked for, and that of a backbone for which it was searched: `s14`
gains from 3 (docs/recipe.md), which is too much for CLIP (docs/results.md)."""


def attention_weight(backbone: str) -> float:
    """That of a backbone's students, by its name."""
    return OWN_ATTENTION.get(backbone, ATTENTION)


def highest_lr(lr: float | None, trainable: str) -> float:
    """The learning rate after warm-up: the one that was asked for, else that of what is trained ("lora:32")."""
    return lr if lr is not None else HIGHEST_LR[trainable.partition(":")[0]]


def lr_at(step: int, steps: int, highest: float, warmup: float) -> float:
    """The learning rate of a step, counted from 1: a linear rise over a share `warmup` of the steps, then half a
    cosine, which would reach 0 at the step after the last one."""
    rising = round(warmup * steps)
    if step <= rising:
        return highest * step / rising
    share = (step - rising - 1) / (steps - rising)
    return highest * (1 + math.cos(math.pi * share)) / 2


def decay_groups(parameters: "Sequence[torch.nn.Parameter]", weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups: matrices and convolutions decay; norms, biases, tokens and position embeddings do not."""
    decayed = [p for p in parameters if p.ndim in (2, 4)]
    others = [p for p in parameters if p.ndim not in (2, 4)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
