"""The ways of `rivals`: ours, and those of two packages where they are installed, all on the very same parameters."""

import gc
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from rivals import BASELINE
from torch import Tensor, nn
from variants import Subject, subject, twin

import explorer as ex

if os.environ.get("RIVALS"):
    sys.path.append(os.environ["RIVALS"])

__all__ = ["MISSING", "WAYS", "checked", "subject"]
PACKAGES = {"fast-vit-rollout": "fast_vit_rollout", "daam-timm-vit": "daam"}
MISSING = [package for package, module in PACKAGES.items() if find_spec(module) is None]
ROLLOUT = 'rollout(trace(attention="full"))'
CLS = 'trace(attention="cls"), all blocks'


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """`run` runs it once; `compared` gives what of its result is compared with ours, and what ours is there.

    Attributes:
        module: the model that it works on, whose hooks are counted.
        maps: how many maps the result holds.
    """

    run: Callable[[], Any]
    module: nn.Module
    maps: Callable[[Any], int]
    compared: Callable[[Any], Tensor] | None = None
    ours: Callable[[], Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a way gave: a problem in the package's own words, or maps and their largest difference from ours."""

    hooks: int
    problem: str | None = None
    maps: int = 0
    difference: float | None = None


def checked(name: str, seen: Subject) -> Checked:
    """Run a way once, before any clock starts."""
    way = WAYS[name](seen)
    try:
        result = way.run()
    except RuntimeError as error:
        return Checked(problem=f"none: {str(error).partition('.')[0]}", hooks=_hooks(way.module))
    difference = None
    if way.compared is not None and way.ours is not None:
        theirs, ours = way.compared(result), way.ours()
        assert theirs.shape == ours.shape, (name, theirs.shape, ours.shape)
        difference = float((theirs - ours).abs().max())
    maps, module = way.maps(result), way.module
    del way, result
    gc.collect()
    return Checked(maps=maps, difference=difference, hooks=_hooks(module))


def _hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


@torch.no_grad()
def _our_rollout(seen: Subject) -> Tensor:
    return ex.rollout(seen.backbone.trace(seen.images, attention="full"))


def _our_rows(seen: Subject) -> Tensor:
    """The class token's attention, "batch layer head token"."""
    return seen.backbone.trace(seen.images, attention="cls").own_rows()


def _plain(seen: Subject) -> Way:
    module = seen.backbone.module

    @torch.no_grad()
    def run() -> Tensor:
        return module.forward_head(module.forward_features(seen.normalised))  # type: ignore[operator]

    return Way(run=run, module=module, maps=lambda _: 0)


def _rollout(seen: Subject) -> Way:
    return Way(run=lambda: _our_rollout(seen), module=seen.backbone.module, maps=len)


def _rows(seen: Subject) -> Way:
    run = lambda: seen.backbone.trace(seen.images, attention="cls")  # noqa: E731
    return Way(run=run, module=seen.backbone.module, maps=lambda trace: trace.attention.shape[1])


def _gradient(seen: Subject) -> Way:
    """Towards the way from the baseline to the picture's own embedding."""

    def run() -> Tensor:
        return ex.attribute(seen.backbone, seen.images[0], method="gradient_attention")

    return Way(run=run, module=seen.backbone.module, maps=lambda _: 1)


def _gradient_toward(seen: Subject) -> Way:
    """Towards an embedding that is known, such as the clean teacher's."""
    toward = torch.randn(seen.backbone.dim, generator=torch.Generator().manual_seed(0))

    def run() -> Tensor:
        return ex.attribute(seen.backbone, seen.images[0], toward, method="gradient_attention")

    return Way(run=run, module=seen.backbone.module, maps=lambda _: 1)


def _fast_rollout(seen: Subject, *, fused: bool, discard: float) -> Way:
    from fast_vit_rollout.vit_rollout import ViTAttentionRollout

    module, backbone = twin(seen, fused=fused), seen.backbone
    explain = ViTAttentionRollout(module, head_fusion="mean", discard_ratio=discard)
    return Way(
        run=lambda: explain(seen.normalised),
        module=module,
        maps=len,
        compared=lambda result: result[:, 0, backbone.prefix :].reshape(-1, *backbone.grid),
        ours=lambda: _our_rollout(seen),
    )


def _daam(seen: Subject) -> Way:
    from daam import DAAM

    module = twin(seen, fused=True)

    def run() -> tuple[Any, list[Tensor]]:
        with DAAM(module) as explain:
            return explain(seen.normalised, mode="feature"), explain._a

    return Way(
        run=run,
        module=module,
        maps=lambda result: result[0].maps.shape[1],
        compared=lambda result: torch.stack([rows[:, :, 0] for rows in result[1]], dim=1),
        ours=lambda: _our_rows(seen),
    )


_FAST: dict[str, Callable[[Subject], Way]] = {
    "fast-vit-rollout, unfused": lambda seen: _fast_rollout(seen, fused=False, discard=0.0),
    "fast-vit-rollout, unfused, its default": lambda seen: _fast_rollout(seen, fused=False, discard=0.9),
    "fast-vit-rollout, on the default fused model": lambda seen: _fast_rollout(seen, fused=True, discard=0.0),
}
WAYS: Mapping[str, Callable[[Subject], Way]] = {
    BASELINE: _plain,
    ROLLOUT: _rollout,
    **({} if "fast-vit-rollout" in MISSING else _FAST),
    CLS: _rows,
    'attribute(method="gradient_attention")': _gradient,
    'attribute(toward=embedding, method="gradient_attention")': _gradient_toward,
    **({} if "daam-timm-vit" in MISSING else {"daam-timm-vit": _daam}),
}
