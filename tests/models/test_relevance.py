"""The rules of AttnLRP, one by one: what goes in, what comes out, and that nothing is left behind."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers import RmsNorm, SwiGLU, SwiGLUPacked
from timm.layers.activations import QuickGELU
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from explorer.models.relevance import NoRuleError, RelevanceRules
from tests.architectures import ARCHITECTURES, normalised, pictures, shallow
from tests.nightly import left


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relevance(function, relevance_out: Tensor, *inputs: Tensor, gamma: float = 0.0) -> list[Tensor]:
    """Of each input, where the function's output has this relevance."""
    asking = [each.clone().requires_grad_() for each in inputs]
    with RelevanceRules(gamma):
        output = function(*asking)
    torch.testing.assert_close(output, function(*inputs))
    slopes = torch.autograd.grad(output, asking, relevance_out / output.detach())
    return [each.detach() * slope for each, slope in zip(asking, slopes, strict=True)]


def without_biases(module: nn.Module) -> nn.Module:
    for parameter in module.double().parameters():
        parameter.requires_grad_(False)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
    return module


@pytest.mark.parametrize(
    "function",
    [F.gelu, F.silu, torch.sigmoid, torch.tanh, QuickGELU(), nn.SiLU(inplace=True), lambda x: x * x.sigmoid()],
)
def test_an_activation_hands_on_all_of_its_relevance(function) -> None:
    x, given = drawn(4, 5), drawn(4, 5, seed=1)
    kept = x.clone()
    found = relevance(lambda x: function(x * 1), given, x)[0]
    torch.testing.assert_close(found, given)
    assert torch.equal(x, kept)


def test_where_an_activation_is_nothing_it_has_no_relevance() -> None:
    x = torch.tensor([0.0, -2.0, 3.0], requires_grad=True)
    with RelevanceRules(gamma=0.0):
        F.relu(x).sum().backward()
    assert torch.equal(x.grad, torch.tensor([0.0, 0.0, 1.0]))


@pytest.mark.parametrize(
    "function", [torch.matmul, lambda x, y: x @ y, torch.bmm, lambda x, y: torch.einsum("bij,bjk->bik", x, y)]
)
def test_a_product_gives_each_factor_half(function) -> None:
    x, y, given = drawn(2, 3, 4), drawn(2, 4, 5, seed=1), drawn(2, 3, 5, seed=2)
    each = x[:, :, :, None] * y[:, None] * (given / (x @ y))[:, :, None]  # batch, row, inner, col
    of_x, of_y = relevance(function, given, x, y)
    torch.testing.assert_close(of_x, each.sum(dim=3) / 2)
    torch.testing.assert_close(of_y, each.sum(dim=1) / 2)
    alone = relevance(lambda x: function(x, y), given, x)[0]
    torch.testing.assert_close(alone, each.sum(dim=3))


@pytest.mark.parametrize("gamma", [0.0, 0.25, 10.0])
def test_weights_favour_what_has_the_sign_of_the_sum(gamma: float) -> None:
    x, weight, bias, given = drawn(1, 4), drawn(3, 4, seed=1), drawn(3, seed=2), drawn(1, 3, seed=3)
    expected = torch.zeros(1, 4, dtype=torch.float64)
    for j in range(3):
        parts = [weight[j, i] * x[0, i] for i in range(4)] + [bias[j]]
        parts = [part * (1 + gamma) if part * sum(parts) > 0 else part for part in parts]
        for i in range(4):
            expected[0, i] += parts[i] / sum(parts) * given[0, j]
    torch.testing.assert_close(relevance(lambda x: F.linear(x, weight, bias), given, x, gamma=gamma)[0], expected)
    as_pixels = relevance(
        lambda x: F.conv2d(x, weight.reshape(3, 1, 2, 2), bias=bias, stride=2),
        given.reshape(1, 3, 1, 1),
        x.reshape(1, 1, 2, 2),
        gamma=gamma,
    )[0]
    torch.testing.assert_close(as_pixels.reshape(1, 4), expected)


@pytest.mark.parametrize("queries", [True, False])
def test_attention_is_two_products_and_the_gradient_of_the_softmax(queries: bool) -> None:
    """Fused as written out; a query of the model's own, as attention pooling has, takes nothing."""
    query, key, value = (drawn(1, 2, 5, 3, seed=seed) for seed in range(3))
    given = drawn(1, 2, 5, 3, seed=3)

    def written_out(*inputs: Tensor) -> Tensor:
        q, k, v = inputs if queries else (query, *inputs)
        return ((q * 3**-0.5) @ k.mT).softmax(dim=-1) @ v

    def fused(*inputs: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(*(inputs if queries else (query, *inputs)))

    inputs = (query, key, value) if queries else (key, value)
    expected = relevance(written_out, given, *inputs)
    for one, other in zip(relevance(fused, given, *inputs), expected, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(expected[-1].sum(), given.sum() / 2)
    if queries:
        torch.testing.assert_close(expected[0].sum(), expected[1].sum())


@pytest.mark.parametrize("norm", [nn.LayerNorm(6), nn.RMSNorm(6), RmsNorm(6)])
def test_the_deviation_of_a_norm_is_a_constant(norm: nn.Module) -> None:
    x, given = drawn(4, 6) + 0.7, drawn(4, 6, seed=1)
    with torch.no_grad():
        norm.double().weight.copy_(drawn(6, seed=2))
    norm = without_biases(norm)
    output = norm(x)
    centred = x - x.mean(dim=1, keepdim=True) if isinstance(norm, nn.LayerNorm) else x
    scale = norm.weight * (output / (centred * norm.weight))
    slope = given / output * scale
    slope = slope - slope.mean(dim=1, keepdim=True) if isinstance(norm, nn.LayerNorm) else slope
    found = relevance(norm, given, x)[0]
    torch.testing.assert_close(found, x * slope)
    torch.testing.assert_close(found.sum(dim=1), given.sum(dim=1))


@pytest.mark.parametrize("gate", [SwiGLU, SwiGLUPacked])
def test_gates_lose_nothing(gate) -> None:
    torch.manual_seed(0)
    module = without_biases(gate(6, 8, 4))
    given = drawn(3, 4, seed=1)
    found = relevance(module, given, drawn(3, 6))[0]
    torch.testing.assert_close(found.sum(dim=1), given.sum(dim=1))


def test_a_cosine_is_shared_out_as_an_inner_product() -> None:
    x, y = drawn(2, 5), drawn(1, 5, seed=1)
    expected = x * y / (x.norm(dim=1, keepdim=True) * y.norm())
    found = relevance(lambda x: F.cosine_similarity(x, y, dim=1), F.cosine_similarity(x, y), x)[0]
    torch.testing.assert_close(found, expected)


def test_only_where_relevance_comes_a_rule_is_needed() -> None:
    x = drawn(3, 4).requires_grad_()
    with RelevanceRules(gamma=0.0):
        aside, output = x.exp(), x * 2
        refused = (x.exp() + x).sum()
    torch.autograd.grad(output.sum(), x)
    with pytest.raises(NoRuleError, match="no rule for 'exp'"):
        torch.autograd.grad(refused, x)
    assert aside.requires_grad


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.div(1, x),
        lambda x: x / x.sum(),
        lambda x: (x * 1).mul_(x),
        lambda x: torch.einsum("i,i,i", x, x, x),
    ],
)
def test_products_and_quotients_without_a_rule_are_refused(function) -> None:
    x = drawn(4).requires_grad_()
    with RelevanceRules(gamma=0.0), pytest.raises(NoRuleError, match="from the picture"):
        function(x)


def test_attention_inside_of_one_function_is_refused() -> None:
    module, x = nn.MultiheadAttention(4, 2, batch_first=True).double(), drawn(1, 3, 4).requires_grad_()
    with RelevanceRules(gamma=0.0):
        output = module(x, x, x)[0].sum()
    with pytest.raises(NoRuleError, match="no rule for 'multi_head_attention_forward'"):
        torch.autograd.grad(output, x)


def test_what_would_be_computed_again_without_the_rules_is_refused() -> None:
    x = drawn(4).requires_grad_()
    with RelevanceRules(gamma=0.0), pytest.raises(NoRuleError, match="gradient checkpointing"):
        checkpoint(F.gelu, x, use_reentrant=False)


def test_it_ends_with_the_block() -> None:
    x = drawn(3, 4).requires_grad_()
    expected = torch.autograd.grad(F.gelu(x).sum(), x)[0]
    with RelevanceRules(gamma=0.0):
        other = torch.autograd.grad(F.gelu(x).sum(), x)[0]
    assert torch.equal(torch.autograd.grad(F.gelu(x).sum(), x)[0], expected)
    assert not torch.allclose(other, expected)


@pytest.mark.parametrize("name", left(ARCHITECTURES, to_the_night=[name for name in ARCHITECTURES if "_base_" in name]))
def test_a_model_has_the_same_values(name: str) -> None:
    loaded = shallow(name, grid=(2, 2))
    for parameter in loaded.module.parameters():
        parameter.requires_grad_(False)
    x = normalised(loaded, pictures(loaded, 1)).requires_grad_()
    with RelevanceRules(gamma=0.25):
        found = loaded.module(x)
    torch.testing.assert_close(found, loaded.module(x))
