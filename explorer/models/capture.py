"""Reads attention out of a forward pass without touching the model.

A `torch.overrides.TorchFunctionMode` intercepts `F.scaled_dot_product_attention`, where q and k already carry rotary
embedding, normalisation and relative bias; and `nn.MultiheadAttention`, which is asked for its own weights. Enters: any
forward pass run inside of the `with` block. Leaves: softmax rows by call number. Calls that nobody asked for keep the
fused kernel. The mode is local to its thread, and there is nothing to undo: no hooks, no flags, no unfusing. It knows
nothing of layers, grids or models.

Gradient checkpointing computes a part of the model again in the backward pass, after the `with` block. A model's own is
left as it is: what is captured is kept beside it (and `differentiable` makes its reentrant kind give gradients at all).
Ours, `recomputed`, captures in the same way again.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.graph import disable_saved_tensors_hooks, saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointFunction, checkpoint

Rows = Literal["first", "mean", "all"]

_FEW_TOKENS = 128  # beyond, the fused kernel is as quick, and needs less memory


class AttentionCapture(TorchFunctionMode):
    """Collects the attention probabilities of chosen calls of `F.scaled_dot_product_attention`.

    A call of `nn.MultiheadAttention` counts as one.

    Args:
        rows: which query rows are kept: the "first" (O(tokens) memory), the "mean" over the rows from `skip` on,
            or "all" (O(tokens^2)).
        calls: which calls are kept, counted from 0 in the order in which the forward pass makes them; None: every one.
        skip: with rows="mean", how many leading rows (prefix tokens) are left out of the mean.

    Attributes:
        kept: call number -> Float "batch head query token".
        seen: how many calls there were.
    """

    def __init__(self, *, rows: Rows = "first", calls: Collection[int] | None = None, skip: int = 0) -> None:
        super().__init__()
        self.rows = rows
        self.calls = calls
        self.skip = skip
        self.kept: dict[int, Float[Tensor, "batch head query token"]] = {}
        self.seen = 0
        self._stacked: Float[Tensor, "layer batch head query token"] | None = None
        self._again = False  # whether `recomputed` sees to it that the backward pass captures, too

    def __enter__(self) -> "AttentionCapture":
        self._around, _here.capture = _here.capture, self
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        _here.capture = self._around
        super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention and func is not F.multi_head_attention_forward:
            return func(*args, **kwargs)
        call = self.seen
        self.seen += 1
        if self.calls is not None and call not in self.calls:
            return self._uncaptured(func, args, kwargs)
        if self._again or not _checkpointed():
            return self._captured(call, func, args, kwargs)
        func(*args, **kwargs)  # when torch computes this part again, without us, it expects to find what this saves
        with saved_tensors_hooks(_as_it_is, _as_it_is):
            return self._captured(call, func, args, kwargs)

    def _uncaptured(self, func, args, kwargs):  # type: ignore[no-untyped-def]
        if func is F.scaled_dot_product_attention:
            asked = _Call(*args, **kwargs)
            # Part of a checkpoint of torch's own would be computed again without us, by the fused kernel.
            if _sooner_by_hand(asked) and (self._again or not _checkpointed()):
                return _attend(asked)[1]
        return func(*args, **kwargs)

    def _captured(self, call, func, args, kwargs):  # type: ignore[no-untyped-def]
        if func is F.multi_head_attention_forward:
            return self._from_module(call, *args, **kwargs)
        if self.rows != "first":
            asked = _Call(*args, **kwargs)
            place = self._place_of(asked)
            probabilities, output = _attend(asked, place)
            self._keep(call, self._chosen(probabilities), place)
            return output
        self._keep(call, _first_row(_Call(*args, **kwargs)))
        return func(*args, **kwargs)

    def _from_module(self, call: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """`nn.MultiheadAttention` computes inside of one function, which gives its softmax where asked for it."""
        asked, averaged = kwargs.get("need_weights", True), kwargs.get("average_attn_weights", True)
        every = {**kwargs, "need_weights": True, "average_attn_weights": False}
        output, probabilities = F.multi_head_attention_forward(*args, **every)
        assert probabilities is not None
        self._keep(call, self._chosen(probabilities))
        if not asked:
            return output, None
        return output, probabilities.mean(dim=1) if averaged else probabilities

    def stacked(self) -> Float[Tensor, "batch layer head query token"]:
        """All kept calls in their order."""
        if self._stacked is None:
            return torch.stack(list(self.kept.values()), dim=1)
        return self._stacked.transpose(0, 1)

    def _chosen(self, probabilities: Tensor) -> Tensor:
        if self.rows == "mean":
            return _mean_rows(probabilities, self.skip)
        return probabilities if self.rows == "all" else probabilities[:, :, :1]

    def _keep(self, call: int, rows: Float[Tensor, "batch head query token"], place: Tensor | None = None) -> None:
        place = self._place(rows.shape, rows.dtype, rows.device) if place is None else place
        self.kept[call] = rows if place is None or place is rows else place.copy_(rows)

    def _place_of(self, call: "_Call") -> Tensor | None:
        """Where the softmax of a call may be written to at once."""
        if self.rows != "all":
            return None
        query = call.query
        shape = torch.Size((*query.shape[:-1], call.key.shape[-2]))
        return self._place(shape, torch.promote_types(query.dtype, torch.float32), query.device)

    def _place(self, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor | None:
        """Where the next rows end up: stacking afterwards would hold all matrices twice (300 MB at 448 px)."""
        if self.calls is None or torch.is_grad_enabled():  # some blocks may be frozen, and others not
            return None
        if self._stacked is None:
            self._stacked = torch.empty((len(self.calls), *shape), dtype=dtype, device=device)
        return self._stacked[len(self.kept)]


class AttentionEdit(TorchFunctionMode):
    """While it is open, what each call of `F.scaled_dot_product_attention` puts out is passed through `edit`, in this
    thread alone, and whether it is captured or not. Several may be open: the inner one comes first.

    Args:
        edit: takes "batch head query channel" and returns the same shape.
    """

    def __init__(self, edit: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.edit = edit

    def __enter__(self) -> "AttentionEdit":
        self._around = _here.edit
        _here.edit = lambda output: self._around(self.edit(output))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        _here.edit = self._around
        super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        output = func(*args, **(kwargs or {}))
        return self.edit(output) if func is F.scaled_dot_product_attention else output


def outputs_edited() -> bool:
    """Whether an `AttentionEdit` is open in this thread."""
    return _here.edit is not _as_it_is


def recomputed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`function(*args, **kwargs)`, of which nothing is kept for the backward pass, which computes it again (gradient
    checkpointing): the same values and gradients, bit for bit. An `AttentionCapture` that is open holds then, too."""
    if not torch.is_grad_enabled():
        return function(*args, **kwargs)
    return checkpoint(function, *args, use_reentrant=False, context_fn=_both_times, **kwargs)


def _both_times() -> tuple[AbstractContextManager, AbstractContextManager]:
    """What is open while such a function is computed at first, and again."""
    capture = _here.capture
    return (nullcontext(), nullcontext()) if capture is None else (_sure(capture), _Again(capture))


@contextmanager
def _sure(capture: AttentionCapture) -> Iterator[None]:
    before, capture._again = capture._again, True
    try:
        yield
    finally:
        capture._again = before


class _Again(AttentionCapture):
    """Computes as `first` does from here on, and keeps nothing."""

    def __init__(self, first: AttentionCapture) -> None:
        super().__init__(rows=first.rows, calls=first.calls, skip=first.skip)
        self.start, self._again = first.seen, True

    def __enter__(self) -> "AttentionCapture":
        self.seen = self.start
        super().__enter__()
        return self

    def _keep(self, call: int, rows: Tensor, place: Tensor | None = None) -> None:
        pass


def _checkpointed() -> bool:
    """Whether somebody's hooks take what is saved for the backward pass, as those of torch's checkpoints do."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    try:
        with disable_saved_tensors_hooks("fails where there are some"):
            return False
    except RuntimeError:
        return True


def _as_it_is(saved: Any) -> Any:
    return saved


@contextmanager
def differentiable() -> Iterator[None]:
    """While it is open, torch's reentrant checkpoints are computed as its other kind, in this thread alone.

    They compute without gradients at first: what is captured inside of them would have none, nothing would where their
    input needs none (the first blocks of a student are often frozen), and `torch.autograd.grad` fails.
    """
    with _LOCK:
        _open.append(None)
        CheckpointFunction.apply = staticmethod(_apply)
    _here.differentiable += 1
    try:
        yield
    finally:
        _here.differentiable -= 1
        with _LOCK:
            _open.pop()
            if not _open:
                del CheckpointFunction.apply


def _apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
    if not _here.differentiable:
        return _REENTRANT(function, preserve_rng_state, *args)
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": preserve_rng_state}
    return checkpoint(function, *args, **options, context_fn=_both_times)


class _Here(threading.local):
    """What is open in this thread."""

    capture: AttentionCapture | None = None
    differentiable = 0
    edit: Callable[[Tensor], Tensor] = staticmethod(_as_it_is)  # of what capturing computes without torch's function


_here = _Here()
_REENTRANT = CheckpointFunction.apply
_LOCK = threading.Lock()
_open: list[None] = []  # `differentiable`, in all threads


def _mean_rows(probabilities: Tensor, skip: int) -> Tensor:
    return probabilities[:, :, skip:].mean(dim=2, keepdim=True)


class _Call(NamedTuple):
    """Arguments of one call of `F.scaled_dot_product_attention`, in torch's order and under its names."""

    query: Float[Tensor, "batch head query channel"]
    key: Float[Tensor, "batch key_head token channel"]
    value: Tensor
    attn_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False


def _first_row(call: _Call) -> Float[Tensor, "batch head query token"]:
    """The first query's row alone; the output of all queries stays with the fused kernel."""
    mask = call.attn_mask
    if mask is not None and mask.shape[-2] > 1:
        mask = mask[..., :1, :]
    return _probabilities(call._replace(query=call.query[..., :1, :], attn_mask=mask))


def _sooner_by_hand(call: _Call) -> bool:
    """In training with bfloat16, the backward pass of torch's fused kernel for CPUs takes thrice as long on so few
    tokens (S/14 at 112 px: 65) as the plain products."""
    query = call.query
    few = query.dtype == torch.bfloat16 and max(query.shape[-2], call.key.shape[-2]) <= _FEW_TOKENS
    return few and query.device.type == "cpu" and query.requires_grad and torch.is_grad_enabled()


def _attend(call: _Call, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """All rows, in `out` if need be, and the output made from them, so that a backward pass goes through one softmax
    alone."""
    probabilities = _probabilities(call, out)
    weights = F.dropout(probabilities, call.dropout_p) if call.dropout_p > 0 else probabilities
    value = _repeat_heads(call.value, call.query) if call.enable_gqa else call.value
    return probabilities, _here.edit(weights.to(value.dtype) @ value)


def _probabilities(call: _Call, out: Tensor | None = None) -> Float[Tensor, "batch head query token"]:
    """softmax(q k^T * scale + mask) as torch documents it, in float32 at least (autocast would take bfloat16)."""
    device = call.query.device.type
    if not torch.is_autocast_enabled(device):
        return _softmax(call, out)
    with torch.autocast(device, enabled=False):
        return _softmax(call, out)


def _softmax(call: _Call, out: Tensor | None) -> Float[Tensor, "batch head query token"]:
    query, key, mask = call.query, call.key, call.attn_mask
    if query.dtype.itemsize < torch.float32.itemsize:
        query, key = query.float(), key.float()
    key = _repeat_heads(key, query) if call.enable_gqa else key
    logits = (query * (query.shape[-1] ** -0.5 if call.scale is None else call.scale)) @ key.mT
    if call.is_causal:
        rows, cols = logits.shape[-2:]
        mask = torch.ones(rows, cols, dtype=torch.bool, device=logits.device).tril()
    if mask is None:
        return torch.softmax(logits, dim=-1, out=out)
    if mask.dtype != torch.bool:
        return torch.softmax(logits + mask.to(logits.dtype), dim=-1, out=out)
    blind = ~mask.any(dim=-1, keepdim=True)  # such rows are zero in torch's kernels; a bare softmax makes NaN
    return logits.masked_fill(~mask & ~blind, -torch.inf).softmax(dim=-1).masked_fill(blind, 0.0)


def _repeat_heads(tensor: Tensor, like: Tensor) -> Tensor:
    """Grouped-query attention: every key and value head serves several query heads."""
    return tensor.repeat_interleave(like.shape[-3] // tensor.shape[-3], dim=-3)
