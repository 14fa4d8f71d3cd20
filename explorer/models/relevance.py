"""The rules of AttnLRP for a forward pass, without touching the model: input x gradient becomes relevance.

Enters: a forward pass, and the score made from it, run inside of a `with` block. Leaves: the same values, whose
backward pass hands on relevance: at any place of the model input x gradient is the part of the score that comes from
there (Achtibat et al. 2024, "AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers"). Softmax
(Proposition 3.1), sums, means and what only moves values keep their own gradient. A `TorchFunctionMode` changes that of
the others at the functions that compute them: it is local to its thread and leaves nothing behind. It knows nothing of
modules: a function without a rule is told of if relevance comes to it, and only then.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import disable_saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from explorer.errors import InputError


class NoRuleError(InputError):
    """Relevance came to a function for which AttnLRP has no rule."""


class RelevanceRules(TorchFunctionMode):
    """While it is open, what this thread computes has the gradients of AttnLRP's rules.

    - Layers with weights: the gamma rule, which favours what has the sign of the sum.
    - A product of two factors that both come from the picture (queries and keys, attention and values, gates): half of
      its relevance goes to each (Proposition 3.3).
    - Norms: the deviation is a constant, and what is left of them linear (Proposition 3.4). The lengths in a cosine
      are constants, too, so that its relevance starts as that of a logit: an inner product.
    - Activations hand all of their relevance on (their identity rule).

    Parameters are constants: they must not ask for a gradient.

    Args:
        gamma: of the gamma rule, from 0 up; 0 is the epsilon rule (with an epsilon of 0), plain input x gradient.

    Raises:
        NoRuleError: in the backward pass, if relevance comes to a function of another kind; or in the forward pass, if
            a part of it will be computed again (gradient checkpointing), then without these rules.
    """

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs, name = kwargs or {}, getattr(func, "__name__", str(func))
        if name in _RULES and _asking((args, kwargs)):
            _check_kept()
            if self.gamma and name in _WEIGHTED and len(_asking((args, kwargs))) == 1:
                return self._weighted(func, args, kwargs)
            return _RULES[name](func, *args, **kwargs)
        output = func(*args, **kwargs)
        if name not in _LINEAR and name not in _RULES:
            for each in _asking(output):
                each.register_hook(partial(_refuse, name))
        return output

    def _weighted(self, func, args, kwargs):  # type: ignore[no-untyped-def]
        """R_i = sum over j of (c_ij + gamma c_ij') R_j / (sum over i of the same), where c_ij = x_i w_ij, and c_ij' is
        c_ij where it has the sign of z_j, the sum of c_ij, and 0 elsewhere: (c_ij + sign(z_j) |c_ij|) / 2."""
        values = func(*args, **kwargs)
        sizes = func(*tree_map_only(Tensor, torch.abs, args), **tree_map_only(Tensor, torch.abs, kwargs))
        half = self.gamma / 2
        return _Identity.apply((1 + half) * values + half * values.detach().sign() * sizes, values.detach())


def _asking(nested: Any) -> list[Tensor]:
    return [each for each in tree_leaves(nested) if isinstance(each, Tensor) and each.requires_grad]


def _refuse(name: str, _: Tensor | None = None) -> None:
    raise NoRuleError(f"AttnLRP has no rule for '{name}'")


def _check_kept() -> None:
    try:
        with disable_saved_tensors_hooks("fails where there are some"):
            return
    except RuntimeError:
        raise NoRuleError("AttnLRP needs what gradient checkpointing does not keep") from None


class _Scaled(torch.autograd.Function):
    """Itself; its gradient is multiplied."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        return slopes[0] * ctx.factor, None


class _Identity(torch.autograd.Function):
    """The values f(x), each of which hands all of its relevance on to its x: the gradient is f(x) / x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(x, values)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        x, values = ctx.saved_tensors
        return slopes[0] * torch.where(x == 0, 0, values / x), None


def _scaled(x: Any, factor: float) -> Any:
    return _Scaled.apply(x, factor) if isinstance(x, Tensor) and x.requires_grad else x


def _activation(func: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    with torch.no_grad():
        values = func(x.clone(), *args, **kwargs)  # it may work in place
    return _Identity.apply(x, values)


def _product(func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """Linear in one factor; of two each gets half."""
    factors = len(_asking(args))
    if factors < 2:
        return func(*args, **kwargs)
    if factors > 2 or func.__name__ in _IN_PLACE:
        _refuse(f"{func.__name__} of {factors} factors from the picture")
    return func(*(_scaled(each, 0.5) for each in args), **kwargs)


def _quotient(func: Callable[..., Tensor], x: Any, y: Any, **kwargs: Any) -> Tensor:
    if _asking(y):
        _refuse("division by what comes from the picture")
    return func(x, y, **kwargs)


def _attention(
    func: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """Two products: of queries and keys, whose half goes through the softmax, and of attention and values. Where only
    one side comes from the picture (attention pooling has a query of its own), it gets all."""
    looks = query.requires_grad or key.requires_grad
    share = 0.5 if looks and value.requires_grad else 1.0
    each = share * (0.5 if query.requires_grad and key.requires_grad else 1.0)
    return func(_scaled(query, each), _scaled(key, each), _scaled(value, share), *args, **kwargs)


def _layer_norm(
    _: Callable[..., Tensor],
    x: Tensor,
    shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    dims = tuple(range(-len(shape), 0))
    return _normed(x - x.mean(dims, keepdim=True), dims, weight, eps) + (0 if bias is None else bias)


def _rms_norm(
    _: Callable[..., Tensor], x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    return _normed(x, tuple(range(-len(shape), 0)), weight, torch.finfo(x.dtype).eps if eps is None else eps)


def _normed(x: Tensor, dims: tuple[int, ...], weight: Tensor | None, eps: float) -> Tensor:
    scale = (x.detach().square().mean(dims, keepdim=True) + eps).rsqrt()
    return x * scale * (1 if weight is None else weight)


def _constant(func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    return func(*args, **kwargs).detach()


def _cosine(_: Callable[..., Tensor], x: Tensor, y: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    lengths = (each.detach().norm(dim=dim).clamp_min(eps) for each in (x, y))
    return (x * y).sum(dim=dim) / (next(lengths) * next(lengths))


_WEIGHTED = ("linear", "conv1d", "conv2d")
_IN_PLACE = ("mul_", "__imul__", "__imatmul__")
_PRODUCTS = (*_WEIGHTED, "matmul", "__matmul__", "__rmatmul__", "bmm", "einsum", "mul", "__mul__", "__rmul__")
_ACTIVATIONS = ("gelu", "silu", "relu", "sigmoid", "sigmoid_", "hardswish", "tanh")
_RULES: dict[str, Callable[..., Tensor]] = {
    "scaled_dot_product_attention": _attention,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "rsqrt": _constant,  # of norms that are written out
    "cosine_similarity": _cosine,
    **dict.fromkeys((*_PRODUCTS, *_IN_PLACE), _product),
    **dict.fromkeys(("div", "__truediv__", "__itruediv__", "div_"), _quotient),
    **dict.fromkeys(_ACTIVATIONS, _activation),
}
_OWN_GRADIENT = """
    add add_ __add__ __radd__ __iadd__ sub sub_ __sub__ __rsub__ __isub__ neg __neg__ sum mean softmax dropout
    avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d pad roll flip reshape view view_as flatten unflatten permute
    transpose swapaxes movedim unbind chunk split tensor_split narrow select index_select __getitem__ __get__ cat
    concat stack expand expand_as repeat repeat_interleave squeeze unsqueeze contiguous clone to float double type
    type_as where masked_fill requires_grad_
"""
_LINEAR = set(_OWN_GRADIENT.split())
