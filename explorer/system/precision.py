"""Models compute in the precision that is asked for, `autocast`; all else in that of its tensors, `outside_autocast`.

`torch.autocast` is meant for models. Around a whole script it would also turn the convolutions of distortions and the
matrix products of metrics into half precision, where they are wrong by a tenth, or mixed types that torch refuses.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_DEVICES = ("cpu", "cuda", "mps", "xpu")


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """For forward passes: "float32", "bfloat16", or "auto", which is bfloat16 on a GPU that has it."""
    half = precision == "bfloat16"
    if precision == "auto":
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


def doubled(x: torch.Tensor) -> torch.Tensor:
    """In double precision; what lies on a GPU of Apple's, which has none, on the processor."""
    return (x.cpu() if x.device.type == "mps" else x).double()


@contextmanager
def outside_autocast() -> Iterator[None]:
    """While it lasts, autocast is off on every device; as a decorator, while the function runs.

    Not for generators: what they are asked from goes on inside of it between two items.
    """
    on = [device for device in _DEVICES if torch.is_autocast_enabled(device)]
    with ExitStack() as switched_off:
        for device in on:
            switched_off.enter_context(torch.autocast(device, enabled=False))
        if on:  # torch keeps halved weights until the outermost autocast ends: a step of training made them stale
            switched_off.callback(torch.clear_autocast_cache)
        yield
