"""How a module is read in one forward pass: `Reader`, and `TimmReader` for timm's own models.

Enters: a module and normalised pictures. Leaves: tokens after chosen blocks, the embedding, and which calls of
attention belong to which block. Reading attention itself is `capture`'s business.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Tokens(NamedTuple):
    """What a forward pass leaves: the final tokens, and for every chosen block its prefix and its patch tokens, all
    with the model's final norm applied; and how large they were before it (see `norms_of`).
    """

    final: Float[Tensor, "batch token dim"]
    prefix: Float[Tensor, "batch layer prefix dim"]
    patches: Float[Tensor, "batch layer patch dim"]
    norms: Float[Tensor, "batch layer token"]


def norms_of(*parts: Float[Tensor, "batch layer _ dim"]) -> Float[Tensor, "batch layer token"]:
    """The L2 norm of each token, outside of autograd; parts follow each other."""
    return torch.cat([torch.linalg.vector_norm(part.detach(), dim=-1) for part in parts], dim=2)


@dataclass(frozen=True)
class Calls:
    """Which calls of attention a forward pass makes.

    Attributes:
        per_block: of each block; the maps of parallel attentions in a block stand side by side, as further heads.
        before, after: those of a stem before the blocks, and of a pooling after them.
    """

    per_block: int = 1
    before: int = 0
    after: int = 0

    def of(self, blocks: Sequence[int]) -> tuple[int, ...]:
        """The numbers of the calls that these blocks make."""
        first = [self.before + block * self.per_block for block in blocks]
        return tuple(number + beside for number in first for beside in range(self.per_block))

    def total(self, depth: int) -> int:
        """How many calls a model with so many blocks makes."""
        return self.before + depth * self.per_block + self.after


@runtime_checkable
class Reader(Protocol):
    """What `Backbone.trace` has to know of a kind of module."""

    @property
    def calls(self) -> Calls:
        """Which calls of attention `tokens` makes."""

    @property
    def wrapped(self) -> str | None:
        """None for timm's models; for a module of somebody's own a mark that no other wrapping has, since its weights
        alone do not tell what it computes.
        """

    def blocks_of(self, module: nn.Module) -> list[nn.Module]:
        """The module's blocks in their order."""

    def tokens(self, module: nn.Module, x: Tensor, blocks: tuple[int, ...], prefix: int) -> Tokens:
        """Run normalised pictures through the module."""

    def embedding(self, module: nn.Module, final: Tensor) -> Tensor:
        """The global embedding, "batch dim", from the final tokens."""

    def pooling(self, module: nn.Module) -> str:
        """What it is made from: "token", or another word for what else."""

    def pool(self, module: nn.Module, tokens: Tensor) -> Tensor:
        """The module's attention pooling, where it has one."""


@dataclass(frozen=True)
class TimmReader:
    """Reads timm's models through their own `forward_intermediates` and `forward_head`."""

    calls: Calls = field(default_factory=Calls)

    @property
    def wrapped(self) -> None:
        """timm's models are what their names and weights say."""

    def blocks_of(self, module: nn.Module) -> list[nn.Module]:
        """The module's blocks in their order."""
        return list(module.blocks)  # type: ignore[arg-type]

    def tokens(self, module: nn.Module, x: Tensor, blocks: tuple[int, ...], prefix: int) -> Tokens:
        """Run normalised pictures through the module."""
        model: Any = module
        final, intermediates = model.forward_intermediates(
            x, indices=list(blocks), return_prefix_tokens=prefix > 0, norm=False, output_fmt="NLC"
        )
        pairs = [pair if isinstance(pair, tuple) else (pair, pair[:, :0]) for pair in intermediates]
        after, before = (torch.stack(part, dim=1) for part in zip(*pairs, strict=True))
        normed = model.norm(before), model.norm(after)  # as norm=True would, but for all blocks at once
        return Tokens(final, *normed, norms_of(before, after))

    def embedding(self, module: nn.Module, final: Tensor) -> Tensor:
        """The global embedding."""
        return module.forward_head(final, pre_logits=True)  # type: ignore[operator]

    def pooling(self, module: nn.Module) -> str:
        """timm's word for it."""
        return str(getattr(module, "global_pool", "token"))

    def pool(self, module: nn.Module, tokens: Tensor) -> Tensor:
        """The module's attention pooling."""
        model: Any = module
        return model.pool(tokens) if hasattr(model, "pool") else model._pool(tokens)  # NaFlexVit has the second alone
