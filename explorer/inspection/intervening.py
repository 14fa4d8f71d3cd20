"""Which part of a network carries the damage: parts of a forward pass are replaced, and one sees what becomes of it.

Enters: a backbone, parts (a head, the attention or the perceptron of a block, tokens), and what takes their place:
nothing, noise, the mean over pictures, or what the same network has there for another picture. Leaves: the backbone as
a context, in which it computes with these replacements; and, from `activation_patching`, how much of what damage took
from the embedding comes back with each part of the clean run (Vig et al. 2020, "Causal Mediation Analysis"; Meng et al.
2022, "Locating and Editing Factual Associations in GPT"). The module is not changed, and other threads see nothing.

Zero is a value like any other, and one that a network may never have met there: what follows tells of the shock, too.
Values of another run are ones that the network does take (Zhang & Nanda 2024, "Towards Best Practices of Activation
Patching").
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from explorer.analysis.maps import attention_map
from explorer.errors import InputError, did_you_mean, seed_number
from explorer.evaluation.features import Told
from explorer.models.backbones import Attention, Backbone, CaptureError
from explorer.models.capture import AttentionEdit
from explorer.models.trace import Trace
from explorer.system.precision import doubled

if TYPE_CHECKING:
    import pandas

Kind = Literal["head", "attention", "mlp", "class token", "registers", "patches"]
By = Literal["zero", "mean", "noise", "pictures"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WAYS: tuple[By, ...] = get_args(By)
MOST_BRANCHES = 32
"""So many parts are tried in one forward pass."""
LEAST_LOSS = 1e-3
"""Of a cosine; where damage takes less from the embedding, shares of it say nothing."""
_WHOLE: tuple[Kind, ...] = ("attention", "mlp")


@dataclass(frozen=True)
class Part:
    """A part of a forward pass.

    Attributes:
        kind: "head": what one head of a block gives, before the heads are joined; "attention": all heads of a block at
            once; "mlp": what the block's perceptron gives, before it is added; "class token", "registers" (all tokens
            between the class token and the patches) or "patches": these tokens as the block leaves them.
        layer: the block; negative from the last.
        head: which one, for "head".
        patches: which ones as (row, col), for "patches".

    Raises:
        ValueError: another kind, or one without what belongs to it.
    """

    kind: Kind
    layer: int
    head: int | None = None
    patches: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(
                f"a part is of one of the kinds {', '.join(KINDS)}; got {self.kind!r}{did_you_mean(self.kind, KINDS)}"
            )
        if not all(isinstance(patch, tuple | list) and len(patch) == 2 for patch in self.patches):
            raise InputError(f"patches are given as (row, col), one or several; got {self.patches!r}")
        if (self.head is None) == (self.kind == "head") or bool(self.patches) != (self.kind == "patches"):
            raise InputError(
                f"head is given for the kind 'head' and patches for 'patches', and for no other; got head={self.head} "
                f"and {len(self.patches)} patches for '{self.kind}'"
            )

    def __str__(self) -> str:
        """Such as "head 8.3" or "40 patches after block 8"."""
        if self.kind == "head":
            return f"head {self.layer}.{self.head}"
        if self.kind in ("attention", "mlp"):
            return f"{'perceptron' if self.kind == 'mlp' else 'attention'} of block {self.layer}"
        count = len(self.patches)
        tokens = f"{count} patch{'es' * (count != 1)}" if self.kind == "patches" else self.kind
        return f"{tokens} after block {self.layer}"


@contextmanager
def intervene(
    backbone: Backbone,
    parts: Part | Iterable[Part],
    by: By = "zero",
    pictures: Float[Tensor, "batch 3 height width"] | None = None,
    seed: int = 0,
    attention: Attention = "cls",
) -> Iterator[Backbone]:
    """While the `with` block runs, in this thread, the backbone computes with these parts replaced.

        with ex.intervene(student, ex.Part("head", 8, 3), by="pictures", pictures=clean):
            patched = student.trace(distorted)

    Args:
        parts: one or several. All of them are replaced by what they would be without any replacement.
        by: "zero"; "noise": normal, with the mean and the standard deviation of what it takes the place of, picture by
            picture; "mean": the mean over `pictures`, token by token; "pictures": what the same backbone has there for
            `pictures`, one for each that is traced, or one for all.
        pictures: as `Backbone.trace` takes them, for "mean" and "pictures".
        seed: of the noise; that of picture i depends on (seed, i) alone.
        attention: as the traces inside will be asked for it: it is computed in several ways, which round differently.
            A part that is replaced by itself then changes nothing, bit for bit.

    Raises:
        ValueError: a part that this backbone does not have, `by` of another name, pictures that are missing or not
            needed; or, inside, a batch of another size than `pictures`.
        CaptureError: its heads cannot be reached.
    """
    wanted = [parts] if isinstance(parts, Part | str) else list(parts)
    if not wanted or not all(isinstance(part, Part) for part in wanted):
        raise InputError(f"expected a Part, or several, such as Part('head', 8, 3); got {parts or 'none'}")
    sites = [_site(backbone, part) for part in wanted]
    if by not in WAYS:
        raise InputError(f"by is one of {', '.join(WAYS)}; got {by!r}{did_you_mean(str(by), WAYS)}")
    if (pictures is None) == (by in ("mean", "pictures")):
        needs = "needs pictures, such as the clean ones" if pictures is None else "takes no pictures: leave them out"
        raise InputError(f"by='{by}' {needs}")
    seed = seed_number(seed)
    with _Interception(backbone, _edits(sites, by, _values(backbone, sites, by, pictures, attention), seed)):
        yield backbone


@dataclass(frozen=True, kw_only=True, eq=False)
class ActivationPatching:
    """How much of what damage takes from an embedding comes back with each part of the clean run. Made by
    `activation_patching`.

    A share is (cosine with the part - cosine without) / (1 - cosine without), cosines being those of the embedding with
    the same network's of the clean picture: 1 is everything, and below 0 the part makes it worse. All are NaN where the
    damage takes less than a cosine of `LEAST_LOSS`.

    Attributes:
        heads, attention, mlp: the shares, of each head, of all heads of a block at once, of its perceptron; None for
            what the blocks do not have as one part (see `kinds_of`).
        cosine: without any part of the clean run.
    """

    heads: Float[Tensor, "layer head"]
    attention: Float[Tensor, " layer"] | None
    mlp: Float[Tensor, " layer"] | None
    cosine: float

    def frame(self) -> "pandas.DataFrame":
        """One row for each part: kind, layer, head (-1 for a whole block's), share."""
        import pandas

        rows = [
            ("head", layer, head, share)
            for layer, shares in enumerate(self.heads.tolist())
            for head, share in enumerate(shares)
        ]
        for kind, shares in (("attention", self.attention), ("mlp", self.mlp)):
            rows += [] if shares is None else [(kind, layer, -1, share) for layer, share in enumerate(shares.tolist())]
        return pandas.DataFrame(rows, columns=["kind", "layer", "head", "share"])


@torch.inference_mode()
def activation_patching(
    backbone: Backbone,
    clean: Float[Tensor, "3 height width"],
    distorted: Float[Tensor, "3 height width"],
    progress: Told | None = None,
) -> ActivationPatching:
    """Run the distorted picture with each part of the clean run in turn: every head, the attention and the perceptron
    of every block.

    Parts share the blocks before them, so that it costs about half as many forward passes as there are parts.

    Args:
        clean, distorted: one scene, RGB in [0, 1], of the backbone's image size.
        progress: is told (parts done, parts in all).

    Raises:
        ValueError: pictures that `Backbone.trace` does not take.
        CaptureError: its heads cannot be reached.
    """
    if not isinstance(clean, Tensor) or not isinstance(distorted, Tensor):
        raise InputError(f"expected two pictures as load_image gives them; got {clean!r:.40} and {distorted!r:.40}")
    if distorted.shape != clean.shape:
        raise InputError(f"expected two pictures of one size; got {tuple(clean.shape)} and {tuple(distorted.shape)}")
    layers, whole = range(backbone.depth), [kind for kind in _WHOLE if kind in kinds_of(backbone)]
    parts = [Part("head", layer, head) for layer in layers for head in range(backbone.heads)]
    parts += [Part(kind, layer) for kind in whole for layer in layers]
    sites = [_site(backbone, part) for part in parts]
    found, target = _recorded(backbone, sites, clean[None], None)
    cosines: list[float] = []
    for start in range(0, len(parts), MOST_BRANCHES):
        chosen = slice(start, start + MOST_BRANCHES)
        embeddings = _branched(backbone, distorted, sites[chosen], found[chosen])
        without, *each = F.cosine_similarity(doubled(embeddings), doubled(target)).tolist()
        cosines += each
        if progress is not None:
            progress(len(cosines), len(parts))
    lost = 1 - without if 1 - without >= LEAST_LOSS else torch.nan
    shares = (torch.tensor(cosines, dtype=torch.float64) - without) / lost
    of_heads, *of_blocks = shares.split([len(layers) * backbone.heads, *[len(layers)] * len(whole)])
    found_by_kind = dict(zip(whole, of_blocks, strict=True))
    return ActivationPatching(
        heads=of_heads.reshape(len(layers), backbone.heads),
        attention=found_by_kind.get("attention"),
        mlp=found_by_kind.get("mlp"),
        cosine=without,
    )


def kinds_of(backbone: Backbone) -> tuple[Kind, ...]:
    """The kinds of parts that a backbone has. Parallel attentions in one block are no one part, nor are the perceptrons
    beside them."""
    class_token = backbone.query_kind == "class token"
    lacks = {
        "attention": backbone.reader.calls.per_block > 1,
        "mlp": _mlp(_blocks(backbone)[0]) is None,
        "class token": not class_token,
        "registers": backbone.prefix <= class_token,
    }
    return tuple(kind for kind in KINDS if not lacks.get(kind))


def most_attended(trace: Trace, count: int, layer: int = -1) -> tuple[tuple[int, int], ...]:
    """The patches of the first picture that its own row looks at most, mean of heads, as `Part` takes them.

    Raises:
        ValueError: fewer than one, or more than there are; a block that was not traced, or no attention.
    """
    if not 1 <= count <= trace.grid.patches:
        raise InputError(f"expected 1 to {trace.grid.patches} patches, as many as the grid has; got {count}")
    places = attention_map(trace, layer)[0].flatten().topk(count).indices.tolist()
    return tuple(divmod(place, trace.grid.cols) for place in places)


# Where a part is.


class _Site(NamedTuple):
    """Entries `where` of axis 1 of what is put out at a place of a block: by its n-th call of attention, or by the
    module of this id."""

    layer: int
    place: tuple[Literal["call", "module"], int]
    where: list[int] | slice


def _blocks(backbone: Backbone) -> list[nn.Module]:
    return backbone.reader.blocks_of(backbone.module)


def _mlp(block: nn.Module) -> nn.Module | None:
    found = getattr(block, "mlp", None)
    return found if isinstance(found, nn.Module) else None


def _site(backbone: Backbone, part: Part) -> _Site:
    (layer,) = backbone.blocks(part.layer)
    if part.kind in ("head", "attention"):
        return _site_of_heads(backbone, layer, part.head)
    block = _blocks(backbone)[layer]
    if part.kind == "mlp":
        if (module := _mlp(block)) is None:
            raise InputError(f"the blocks of '{backbone.name}' have no part 'mlp' that can be replaced; take others")
        return _Site(layer, ("module", id(module)), slice(None))
    return _Site(layer, ("module", id(block)), _tokens(backbone, part))


def _site_of_heads(backbone: Backbone, layer: int, head: int | None) -> _Site:
    """Of parallel attentions in one block each is a call, and their heads stand side by side."""
    calls = backbone.reader.calls.per_block
    if head is None:
        if calls > 1:
            raise InputError(f"'{backbone.name}' has {calls} attentions a block: choose heads")
        return _Site(layer, ("call", 0), slice(None))
    if not 0 <= head < backbone.heads:
        raise InputError(f"'{backbone.name}' has the heads 0 to {backbone.heads - 1} in each block; got {head}")
    call, place = divmod(head, backbone.heads // calls)
    return _Site(layer, ("call", call), [place])


def _tokens(backbone: Backbone, part: Part) -> list[int]:
    first = 1 if backbone.query_kind == "class token" else 0
    if part.kind == "patches":
        return [backbone.prefix + backbone.grid.position(row, col) for row, col in part.patches]
    found = list(range(first)) if part.kind == "class token" else list(range(first, backbone.prefix))
    if not found:
        raise InputError(f"'{backbone.name}' has no {part.kind}; it has {backbone.prefix} tokens before its patches")
    return found


# How it is reached.

Edit = Callable[[Tensor], Tensor]
Replacement = Callable[[Tensor, Tensor], None]
"""Takes what is put out and a copy of it, and changes the copy."""
Edits = Mapping[tuple[int, tuple[str, int]], Edit]
"""(block, place in it) -> what becomes of that which is put out there."""


class _Interception:
    """Passes what is put out at chosen places through their edits, in this thread alone, and lets what enters a block
    through `grow`.

    The hooks are torch's for all modules, as `wrapping.BlockOutputs` explains: nothing is left on the backbone's.
    """

    def __init__(self, backbone: Backbone, edits: Edits, grow: Callable[[int, Tensor], Tensor] | None = None) -> None:
        self.blocks = {id(block): layer for layer, block in enumerate(_blocks(backbone))}
        self.edits, self.grow = edits, grow
        self.heads = {layer for layer, (what, _) in edits if what == "call"}
        self.called = backbone.reader.calls.per_block
        self.thread = threading.get_ident()
        self.layer, self.calls = -1, 0

    def __enter__(self) -> None:
        self.attention = AttentionEdit(self._attended)
        self.attention.__enter__()
        self.handles = register_module_forward_pre_hook(self._before), register_module_forward_hook(self._after)

    def __exit__(self, *error: Any) -> None:
        for handle in self.handles:
            handle.remove()
        self.attention.__exit__(*error)

    def _before(self, module: nn.Module, inputs: tuple[Any, ...]) -> Any:
        if threading.get_ident() != self.thread or (layer := self.blocks.get(id(module))) is None:
            return None
        self.layer, self.calls = layer, 0
        return None if self.grow is None else (self.grow(layer, inputs[0]), *inputs[1:])

    def _after(self, module: nn.Module, _inputs: Any, output: Any) -> Any:
        if threading.get_ident() != self.thread:
            return None
        edit = self.edits.get((self.layer, ("module", id(module))))
        if id(module) in self.blocks:
            if self.layer in self.heads and self.calls != self.called:
                raise CaptureError(
                    f"block {self.layer} called F.scaled_dot_product_attention {self.calls} times instead of "
                    f"{self.called}, so that its heads cannot be replaced: nn.MultiheadAttention joins them inside"
                )
            self.layer = -1
        if edit is None:
            return None
        return (edit(output[0]), *output[1:]) if isinstance(output, tuple | list) else edit(output)

    def _attended(self, output: Tensor) -> Tensor:
        edit = self.edits.get((self.layer, ("call", self.calls)))
        self.calls += 1
        return output if edit is None else edit(output)


def _recorded(
    backbone: Backbone, sites: Sequence[_Site], pictures: Tensor, attention: Attention
) -> tuple[list[Tensor], Float[Tensor, "batch dim"]]:
    """What the backbone has at these sites for the pictures, and their embedding."""
    seen: dict[tuple[int, tuple[str, int]], Tensor] = {}

    def noting(place: tuple[int, tuple[str, int]]) -> Edit:
        def note(output: Tensor) -> Tensor:
            return seen.setdefault(place, output)

        return note

    with _Interception(backbone, {(site.layer, site.place): noting((site.layer, site.place)) for site in sites}):
        trace = backbone.trace(pictures, layers=-1 if attention is None else "all", attention=attention)
    return [seen[site.layer, site.place][:, site.where] for site in sites], trace.embedding


def _values(
    backbone: Backbone, sites: Sequence[_Site], by: By, pictures: Tensor | None, attention: Attention
) -> list[Tensor] | list[None]:
    """What takes the place of each site, as far as it comes from pictures."""
    if pictures is None:
        return [None] * len(sites)
    found, _ = _recorded(backbone, sites, pictures, attention)
    return [value.mean(dim=0, keepdim=True) for value in found] if by == "mean" else found


def _edits(sites: Sequence[_Site], by: By, values: Sequence[Tensor | None], seed: int) -> Edits:
    def replacing(number: int, value: Tensor | None) -> Replacement:
        def replace(old: Tensor, changed: Tensor) -> None:
            where = sites[number].where
            own = old[:, where]
            if value is not None and len(value) not in (1, len(own)):
                raise InputError(
                    f"{len(own)} pictures are traced, and pictures holds {len(value)}: give as many, or one"
                )
            if by == "zero":
                changed[:, where] = 0
            else:
                changed[:, where] = _noise(own, (seed, number)) if value is None else value.to(own)

        return replace

    return _by_place(sites, [replacing(number, value) for number, value in enumerate(values)])


def _by_place(sites: Sequence[_Site], replacements: Sequence[Replacement]) -> Edits:
    """One edit of each place, which makes all its replacements in one copy."""
    grouped: dict[tuple[int, tuple[str, int]], list[Replacement]] = {}
    for site, replacement in zip(sites, replacements, strict=True):
        grouped.setdefault((site.layer, site.place), []).append(replacement)

    def editing(of_place: list[Replacement]) -> Edit:
        def edit(output: Tensor) -> Tensor:
            changed = output.clone()
            for replacement in of_place:
                replacement(output, changed)
            return changed

        return edit

    return {place: editing(of_place) for place, of_place in grouped.items()}


def _noise(like: Float[Tensor, "batch ..."], seed: tuple[int, int]) -> Float[Tensor, "batch ..."]:
    generator = torch.Generator().manual_seed(seed[0] + (seed[1] << 32))
    drawn = torch.randn(like.shape, generator=generator).to(like)  # row by row: picture i's does not depend on others
    rest = tuple(range(1, like.ndim))
    return like.mean(dim=rest, keepdim=True) + like.std(dim=rest, keepdim=True) * drawn


# Many parts at once.


def _branched(
    backbone: Backbone, image: Float[Tensor, "3 height width"], sites: Sequence[_Site], values: Sequence[Tensor]
) -> Float[Tensor, "branch dim"]:
    """The embedding of the picture without any replacement, then with each of these in turn.

    The batch grows on the way: a copy of the picture's tokens joins where its site's block begins.
    """
    rows = {number: row for row, number in enumerate(sorted(range(len(sites)), key=lambda n: sites[n].layer), start=1)}

    def replacing(number: int) -> Replacement:
        def replace(_old: Tensor, changed: Tensor) -> None:
            changed[rows[number], sites[number].where] = values[number][0].to(changed)

        return replace

    def grow(layer: int, tokens: Tensor) -> Tensor:
        more = sum(site.layer == layer for site in sites)
        return tokens if not more else torch.cat([tokens, tokens[:1].expand(more, -1, -1)])

    last, reader, module = (backbone.depth - 1,), backbone.reader, backbone.module
    with _Interception(backbone, _by_place(sites, [replacing(number) for number in range(len(sites))]), grow):
        tokens = reader.tokens(module, backbone.normalised(image[None]), last, backbone.prefix)
        embeddings = reader.embedding(module, tokens.final)
    if len(embeddings) != 1 + len(sites):
        raise CaptureError(f"the blocks of '{backbone.name}' do not take their tokens as their first argument")
    return embeddings[[0, *(rows[number] for number in range(len(sites)))]]
