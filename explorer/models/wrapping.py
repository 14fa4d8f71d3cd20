"""A Vision Transformer of your own behind the same face as timm's: `wrap_backbone`.

Enters: any `nn.Module` that takes normalised pictures and has a list of blocks, each of which maps tokens to tokens
("batch token dim") by global self-attention through `F.scaled_dot_product_attention` or `nn.MultiheadAttention`.
Leaves: a `Backbone`. The module is not changed: what its blocks put out is overheard while `trace` runs. One forward
pass of two grey pictures, when it is wrapped, checks all that was said about it.
"""

import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from explorer.errors import InputError, as_sides
from explorer.models.architectures import is_known
from explorer.models.backbones import Backbone, CaptureError, ImageSize, as_height_width, unwrapped
from explorer.models.capture import AttentionCapture
from explorer.models.readers import Calls, Tokens, norms_of
from explorer.models.trace import Grid
from explorer.models.weights import check_finite, state_digest

Embed = Callable[[nn.Module, Tensor], Tensor]


def wrap_backbone(
    module: nn.Module,
    *,
    blocks: str | Sequence[nn.Module],
    norm: str | nn.Module | None,
    image_size: ImageSize,
    grid: tuple[int, int],
    prefix: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    class_token: bool | None = None,
    embed: Embed | None = None,
    name: str | None = None,
) -> Backbone:
    """Give a Vision Transformer of your own the face of a backbone, for `trace` and all that is built on it.

    Args:
        module: called as `module(pictures)` with normalised pictures of `image_size`; put into evaluation mode, and
            otherwise left as it is (`DataParallel` and the like around it are taken off). Its attention has to go
            through `F.scaled_dot_product_attention` or `nn.MultiheadAttention`, once a block, over all tokens.
        blocks: its transformer blocks in order: the name of the attribute that holds them, such as "encoder.layers", or
            the modules themselves. Each puts out "batch token dim", or a tuple that begins with it.
        norm: the norm after the last block, by name or itself, applied to the tokens of every block; None: there is
            none.
        image_size: pixels, or (height, width): the one size at which it is used.
        grid: rows and columns of patches; they divide the height and the width.
        prefix: how many tokens stand before the patches (class token, registers).
        mean, std: of the pictures that it was trained on, for each channel; applied inside of `trace`.
        class_token: whether the first token is a class token; None: it is if there are prefix tokens.
        embed: `embed(module, tokens)` makes the embedding "batch dim" from the final, normalised tokens
            "batch token dim", of the same dim. Reach layers through the module that is passed: a student brings its
            own. None: the class token, or else the mean of the patches.
        name: what it is called in lists and cards, such as "my-vit-16"; None: its class's name. Not a name of timm's.

    Raises:
        ValueError: what was said does not fit the module.
        CaptureError: its attention cannot be read.
        WeightsError: its weights hold NaN or infinite values.
    """
    module = unwrapped(module)
    name = name or f"own:{type(module).__name__}"
    if not isinstance(name, str) or not (embed is None or callable(embed)):
        raise InputError(f"name is text, and embed a function of (module, tokens); got {name!r} and {embed!r}")
    if is_known(name):
        raise InputError(f"the name '{name}' stands for other weights: give your module another one")
    height, width = as_height_width(image_size)
    rows, cols = _whole_grid(grid, height, width)
    inner = _paths(module, blocks)
    if prefix < 0 or (class_token and not prefix):
        raise InputError(f"prefix counts the tokens before the patches, a class token among them; got {prefix}")
    first = prefix > 0 if class_token is None else class_token
    reader = OwnReader(inner, None if norm is None else _path(module, norm, "norm"), prefix, first, embed)
    check_finite(module, name)
    mean, std = _channels("mean", mean), _channels("std", std)
    trained = module.training
    module.eval()
    try:
        measured = _measure(module, reader, (height, width), prefix + rows * cols)
    except BaseException:
        module.train(trained)
        raise
    digest = state_digest(module.state_dict())
    return Backbone(
        name=name,
        source=f"{type(module).__name__} (own module, SHA-256 {digest[:12]})",
        sha256=digest,
        module=module,
        grid=Grid(rows, cols),
        depth=len(inner),
        heads=measured.heads,
        dim=measured.dim,
        prefix=prefix,
        image_size=height if height == width else (height, width),
        mean=mean,
        std=std,
        query_kind="class token" if first else "mean of patches",
        reader=replace(reader, calls=measured.calls),
    )


@dataclass(frozen=True)
class OwnReader:
    """Runs a module of somebody's own and overhears its blocks.

    Attributes:
        blocks, norm: dotted names in the module, so that copies of it (students) are read alike.
        prefix: tokens before the patches.
        class_token: whether the first of them is one.
        embed: as in `wrap_backbone`.
        calls: of attention, as they were counted.
        wrapped: marks this wrapping, in caches of what it computed.
    """

    blocks: tuple[str, ...]
    norm: str | None
    prefix: int
    class_token: bool
    embed: Embed | None
    calls: Calls = field(default_factory=Calls)
    wrapped: str = field(default_factory=lambda: uuid.uuid4().hex)

    def blocks_of(self, module: nn.Module) -> list[nn.Module]:
        """The module's blocks in their order."""
        return [module.get_submodule(path) for path in self.blocks]

    def tokens(self, module: nn.Module, x: Tensor, blocks: tuple[int, ...], prefix: int) -> Tokens:
        """Run normalised pictures through the module."""
        with BlockOutputs(self.blocks_of(module)) as outputs:
            module(x)
        seen = outputs.in_order(self.blocks)
        norm = nn.Identity() if self.norm is None else module.get_submodule(self.norm)
        normed = {number: norm(seen[number]) for number in {*blocks, len(seen) - 1}}
        parts = slice(prefix), slice(prefix, None)
        before, after = (torch.stack([normed[number][:, part] for number in blocks], dim=1) for part in parts)
        norms = norms_of(torch.stack([seen[number] for number in blocks], dim=1))
        return Tokens(normed[len(seen) - 1], before, after, norms)

    def embedding(self, module: nn.Module, final: Tensor) -> Tensor:
        """The global embedding."""
        if self.embed is not None:
            return self.embed(module, final)
        return final[:, 0] if self.class_token else final[:, self.prefix :].mean(dim=1)

    def pooling(self, module: nn.Module) -> str:  # noqa: ARG002  (a reader's)
        """ "token" where the embedding is the class token itself."""
        return "token" if self.class_token and self.embed is None else "own"

    def pool(self, module: nn.Module, tokens: Tensor) -> Tensor:
        """Never asked for: an own pooling is a part of `embed`."""
        raise NotImplementedError


class BlockOutputs:
    """Overhears what chosen modules put out, in this thread alone, while the `with` block runs.

    The hook is torch's for all modules: one on the blocks themselves would be seen by other threads that copy them.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        self.numbers = {id(block): number for number, block in enumerate(blocks)}
        self.seen: list[tuple[int, Any]] = []
        self.thread = threading.get_ident()

    def __enter__(self) -> "BlockOutputs":
        self.handle = register_module_forward_hook(self._note)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.handle.remove()

    def _note(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        if threading.get_ident() == self.thread and id(module) in self.numbers:
            self.seen.append((self.numbers[id(module)], output))

    def in_order(self, names: Sequence[str]) -> list[Tensor]:
        """One output of each block.

        Raises:
            CaptureError: they were not called once each, one after the other.
        """
        order = [number for number, _ in self.seen]
        if order != list(range(len(names))):
            raise CaptureError(
                f"expected each of the {len(names)} blocks to be called once, in their order; the forward pass called "
                f"{len(order)} times: {', '.join(names[number] for number in order[:6]) or 'none'}. Name the blocks in "
                f"the order in which they run"
            )
        return [output[0] if isinstance(output, tuple | list) else output for _, output in self.seen]


@dataclass(frozen=True)
class _Measured:
    heads: int
    dim: int
    calls: Calls


def _measure(module: nn.Module, reader: OwnReader, size: tuple[int, int], tokens: int) -> _Measured:
    """What one forward pass of two pictures shows, checked against what was said."""
    example = next(module.parameters(), torch.zeros(()))
    pictures = example.new_zeros(2, 3, *size)
    with torch.no_grad(), _CountedCalls(reader.blocks_of(module)) as counted:
        module(pictures)
    states = counted.in_order(reader.blocks)
    expected = f"two pictures and {tokens} tokens ({reader.prefix} before the patches)"
    for path, state in zip(reader.blocks, states, strict=True):
        shape = tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
        if not isinstance(state, Tensor) or state.ndim != 3 or state.shape[:2] != (2, tokens):
            raise InputError(
                f"block '{path}' should put out 'batch token dim', here {expected}; got {shape}. Are grid, prefix and "
                f"image_size right, and is the batch the first axis?"
            )
    calls = _calls(counted, reader.blocks, tokens)
    with torch.no_grad():
        embedding = reader.embedding(module, reader.tokens(module, pictures, (0,), reader.prefix).final)
    dim = states[0].shape[2]
    got = tuple(embedding.shape) if isinstance(embedding, Tensor) else type(embedding).__name__
    if got != (2, dim):
        raise InputError(f"embed(module, tokens) should give 'batch dim', here (2, {dim}) for two pictures; got {got}")
    return _Measured(counted.capture.kept[calls.before].shape[1], dim, calls)


class _CountedCalls(BlockOutputs):
    """Also notes how many calls of attention there had been when each block was done."""

    def __enter__(self) -> "_CountedCalls":
        self.capture = AttentionCapture(rows="first")
        self.capture.__enter__()
        self.counts: list[int] = []
        super().__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        self.capture.__exit__(kind, error, trace)

    def _note(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        super()._note(module, _inputs, output)
        if threading.get_ident() == self.thread and id(module) in self.numbers:
            self.counts.append(self.capture.seen)


def _calls(counted: _CountedCalls, names: tuple[str, ...], tokens: int) -> Calls:
    """The calls of attention by block: exactly one each, over all tokens."""
    kept = counted.capture.kept
    if not counted.capture.seen:
        raise CaptureError(
            "no block called F.scaled_dot_product_attention (or nn.MultiheadAttention), so that their attention cannot "
            "be read. Where it is written out, `softmax(q @ k.transpose(-2, -1) * scale) @ v`, write "
            "F.scaled_dot_product_attention(q, k, v, scale=scale) instead: the same numbers, and faster; "
            "of a model of transformers, load it with attn_implementation='sdpa'"
        )
    ends = counted.counts
    before = max(ends[0] - 1, 0)
    within = [ends[0] - before, *(end - start for start, end in pairwise(ends))]
    for path, count, end in zip(names, within, ends, strict=True):
        if count != 1:
            raise CaptureError(f"block '{path}' called attention {count} times; expected one self-attention a block")
        if kept[end - 1].shape[0] != 2 or kept[end - 1].shape[-1] != tokens:
            raise CaptureError(
                f"block '{path}' attends over {kept[end - 1].shape[-1]} tokens; expected all {tokens}: attention "
                f"inside of windows, or to other tokens, gives no map of the picture"
            )
    return Calls(1, before, counted.capture.seen - ends[-1])


def _paths(module: nn.Module, blocks: str | Sequence[nn.Module]) -> tuple[str, ...]:
    if isinstance(blocks, str):
        path = _path(module, blocks, "blocks")
        held = module.get_submodule(path)
        if not isinstance(held, nn.ModuleList | nn.Sequential) or not len(held):
            raise InputError(
                f"blocks='{blocks}' should name a list of blocks (nn.ModuleList or nn.Sequential); it is a "
                f"{type(held).__name__}. Or pass the blocks themselves: blocks=[...]"
            )
        return tuple(f"{path}.{name}" for name, _ in held.named_children())
    paths = tuple(_path(module, block, "blocks") for block in blocks)
    if not paths or len(set(paths)) != len(paths):
        raise InputError(f"blocks should be one or more different modules; got {len(paths)}, {len(set(paths))} of them")
    return paths


def _path(module: nn.Module, part: str | nn.Module, what: str) -> str:
    names = {name: inner for name, inner in module.named_modules() if name}
    if isinstance(part, str):  # also as it was called inside of what is taken off
        for name in (part, *map(part.removeprefix, ("module.", "_orig_mod.", "base_model.model."))):
            if name in names:
                return name
    found = next((name for name, inner in names.items() if inner is part), None)
    if found is None:
        children = ", ".join(name for name, _ in module.named_children())
        raise InputError(
            f"{what}: {type(module).__name__} holds no {part if isinstance(part, str) else type(part).__name__!r}; its "
            f"parts are {children or 'none'}"
        )
    return found


def _whole_grid(grid: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    sides = as_sides(grid)
    if sides is None or height % sides[0] or width % sides[1]:
        raise InputError(f"grid is (rows, cols) of patches, which divide {height} x {width} px; got {grid!r}")
    return sides


def _channels(what: str, values: Sequence[float]) -> tuple[float, float, float]:
    numbers = [float(value) for value in values] if isinstance(values, Iterable) and not isinstance(values, str) else []
    if len(numbers) != 3 or not all(0 <= value <= 1 for value in numbers) or (what == "std" and 0 in numbers):
        raise InputError(f"{what} is one number for each of red, green and blue, of pixels from 0 to 1; got {values!r}")
    red, green, blue = numbers
    return red, green, blue
