"""The ways of getting attention out of a timm ViT that are measured, all on the very same parameters.

Enters: a `Subject` (backbone and pictures). Leaves: a `Variant`: a function that runs once, and one that finds the
attention maps in what the first returned. Every copy of the model shares its parameters with the backbone.
The plain forward passes get pictures that are normalised already; `Backbone.trace` checks and normalises its own.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from timm.utils import AttentionExtract
from torch import Tensor, nn

import explorer as ex

BASELINE = "plain forward, fused"
CLS = 'trace(attention="cls"), all layers'
FULL = 'trace(attention="full"), all layers'


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A backbone, pictures in [0, 1], and the same pictures as its module wants them."""

    backbone: ex.Backbone
    images: Tensor
    normalised: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Variant:
    """One way: `run` runs it once; `maps` gives the attention of each block, "batch head query token"."""

    run: Callable[[], Any]
    maps: Callable[[Any], list[Tensor]]


def subject(name: str, image_size: int, batch: int) -> Subject:
    """A backbone with seeded random weights and seeded noise as pictures: time depends on neither."""
    backbone = ex.load_backbone(name, image_size=image_size, source="random", device="cpu")
    images = torch.rand(batch, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    return Subject(backbone=backbone, images=images, normalised=(images - mean) / std)


def expected_maps(name: str, depth: int) -> int:
    """How many maps a variant has to return, so that no benchmark praises an empty result."""
    return depth if name in _WITH_MAPS else 0


def checked_maps(name: str, subject: Subject) -> list[Tensor]:
    """The first rows ("batch head token") of the maps that a variant really returns.

    Raises:
        AssertionError: not as many as expected, or not over all tokens, or rows that do not sum to 1.
    """
    variant = build(name, subject)
    with torch.no_grad():
        maps = variant.maps(variant.run())
    backbone = subject.backbone
    tokens = backbone.prefix + backbone.grid.patches
    assert len(maps) == expected_maps(name, backbone.depth), f"{name} returned {len(maps)} maps"
    queries = 1 if name == CLS else tokens
    for attention in maps:
        assert attention.shape == (len(subject.images), backbone.heads, queries, tokens), (name, attention.shape)
        assert torch.allclose(attention.sum(dim=-1), torch.ones(()), atol=1e-4), f"{name}: rows do not sum to 1"
    return [attention[:, :, 0].clone() for attention in maps]


def build(name: str, subject: Subject) -> Variant:
    """A variant, ready to run; everything that is done once (copies, hooks, tracing) is done here."""
    return VARIANTS[name](subject)


def twin(subject: Subject, *, fused: bool) -> nn.Module:
    """A copy of the module with the same parameters, whose attention is fused or written out."""
    module = subject.backbone.module
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    twin = copy.deepcopy(module, shared)
    for block in twin.blocks:  # type: ignore[union-attr]
        assert block.attn.fused_attn
        block.attn.fused_attn = fused
    return twin


def _plain(subject: Subject, *, fused: bool) -> Variant:
    module = twin(subject, fused=fused)

    def run() -> Tensor:
        return module.forward_head(module.forward_features(subject.normalised))  # type: ignore[operator]

    return Variant(run=run, maps=lambda _: [])


def _intermediates(subject: Subject) -> Variant:
    """What timm itself takes to return the tokens of all blocks, without attention."""
    module, every = subject.backbone.module, list(range(subject.backbone.depth))

    def run() -> object:
        return module.forward_intermediates(  # type: ignore[operator]
            subject.normalised, indices=every, return_prefix_tokens=True, norm=True, output_fmt="NLC"
        )

    return Variant(run=run, maps=lambda _: [])


def _trace(subject: Subject, attention: Any) -> Variant:
    return Variant(
        run=lambda: subject.backbone.trace(subject.images, attention=attention),
        maps=lambda trace: [] if trace.attention is None else list(trace.attention.unbind(dim=1)),
    )


def _timm(subject: Subject, *, fused: bool, method: str) -> Variant:
    extract = AttentionExtract(twin(subject, fused=fused), method=method)
    return Variant(run=lambda: extract(subject.normalised), maps=lambda result: list(result.values()))


VARIANTS: Mapping[str, Callable[[Subject], Variant]] = {
    BASELINE: lambda subject: _plain(subject, fused=True),
    "forward_intermediates, fused": _intermediates,
    "trace(attention=None), all layers": lambda subject: _trace(subject, None),
    CLS: lambda subject: _trace(subject, "cls"),
    FULL: lambda subject: _trace(subject, "full"),
    "plain forward, unfused": lambda subject: _plain(subject, fused=False),
    "timm AttentionExtract hook, unfused": lambda subject: _timm(subject, fused=False, method="hook"),
    "timm AttentionExtract fx, unfused": lambda subject: _timm(subject, fused=False, method="fx"),
    "timm AttentionExtract hook, fused": lambda subject: _timm(subject, fused=True, method="hook"),
}
_WITH_MAPS = (CLS, FULL, "timm AttentionExtract hook, unfused", "timm AttentionExtract fx, unfused")
ORACLE = "timm AttentionExtract hook, unfused"
