"""Each number against a loop that spells it out, scipy where it has the same one, and the values known by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from torch import Tensor

from explorer.analysis.metrics import (
    cosine,
    intersection_over_union,
    js_divergence,
    kl_divergence,
    linear_cka,
    top_mass,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return (2 * random(*shape, seed=seed)).softmax(dim=-1)


def test_cosine_against_a_loop() -> None:
    a, b = random(3, 4, 5), random(3, 4, 5, seed=1)
    for item in range(3):
        cosines = [
            float(np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y))
            for x, y in zip(a[item].numpy(), b[item].numpy(), strict=True)
        ]
        assert cosine(a, b)[item].item() == pytest.approx(sum(cosines) / 4, abs=1e-12)


def test_cosine_by_hand() -> None:
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    b = torch.tensor([[5.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert cosine(a, b).tolist() == [1, 0, -1]


@pytest.mark.parametrize("shape", [(3, 7), (3, 2, 4, 7)])
def test_divergences_against_scipy(shape: tuple[int, ...]) -> None:
    a, b = rows(*shape), rows(*shape, seed=1)
    for item in range(3):
        pairs = list(zip(a[item].reshape(-1, 7).numpy(), b[item].reshape(-1, 7).numpy(), strict=True))
        kl = np.mean([entropy(x, y) for x, y in pairs])
        js = np.mean([jensenshannon(x, y) ** 2 for x, y in pairs])
        assert kl_divergence(a, b)[item].item() == pytest.approx(kl, abs=1e-10)
        assert js_divergence(a, b)[item].item() == pytest.approx(js, abs=1e-10)


def test_kl_is_directed_and_js_is_not() -> None:
    a, b = rows(1, 7), rows(1, 7, seed=1)
    assert abs(kl_divergence(a, b) - kl_divergence(b, a)) > 1e-3
    assert js_divergence(a, b).item() == pytest.approx(js_divergence(b, a).item(), abs=1e-12)


def test_divergences_of_disjoint_rows_are_finite() -> None:
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert js_divergence(a, b).item() == pytest.approx(math.log(2), abs=1e-6)
    assert kl_divergence(a, b).item() == pytest.approx(-math.log(1e-12), abs=1e-3)
    assert kl_divergence(a, a).item() == 0


def test_divergences_have_finite_gradients_at_zero_probability() -> None:
    a, b = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
    (kl_divergence(a, b) + js_divergence(a, b)).sum().backward()
    assert b.grad is not None
    assert b.grad.isfinite().all()


@pytest.mark.parametrize("constant", [True, False], ids=["of a constant reference", "of both"])
@pytest.mark.parametrize("shape", [(3, 2, 7), (3, 2, 4, 30_000)], ids=["small", "in parts"])
def test_the_gradient_of_kl_is_that_of_its_definition(constant: bool, shape: tuple[int, ...]) -> None:
    a, b = (rows(*shape, seed=seed).requires_grad_() for seed in (0, 1))
    with torch.no_grad():
        b[0, 0, ..., 2] = 0
        a[1, 1, ..., 3] = 0
    reference = a.detach() if constant else a
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    numbers = kl_divergence(reference, b)
    (numbers * weights).sum().backward()
    found = [None if tensor.grad is None else tensor.grad.clone() for tensor in (a, b)]
    a.grad = b.grad = None
    terms = reference * (reference.clamp_min(1e-12).log() - b.clamp_min(1e-12).log())
    expected = terms.sum(-1).flatten(1).mean(1)
    (expected * weights).sum().backward()
    torch.testing.assert_close(numbers, expected, atol=1e-12, rtol=1e-10)
    assert (found[0] is None) == constant
    for gradient, tensor in zip(found, (a, b), strict=True):
        torch.testing.assert_close(gradient, tensor.grad, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("fraction", [0.1, 0.6, 0.95, 1.0])
def test_top_mass_against_a_loop(fraction: float) -> None:
    maps = rows(4, 30).reshape(4, 5, 6)
    kept = top_mass(maps, fraction)
    for item in range(4):
        flat, total, expected = maps[item].flatten().tolist(), 0.0, set()
        for patch in sorted(range(30), key=lambda p: -flat[p]):
            if total >= fraction * sum(flat) - 1e-12:
                break
            expected.add(patch)
            total += flat[patch]
        assert set(kept[item].flatten().nonzero().flatten().tolist()) == expected


def test_top_mass_stops_at_an_exact_share() -> None:
    assert top_mass(torch.tensor([[[0.4, 0.2, 0.3, 0.1]]]), 0.7).tolist() == [[[True, False, True, False]]]


def test_top_mass_does_not_depend_on_scale() -> None:
    maps = rows(2, 30).reshape(2, 5, 6)
    assert torch.equal(top_mass(maps), top_mass(maps / 1000))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1])
def test_top_mass_refuses_other_fractions(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"above 0 and at most 1; got {fraction}"):
        top_mass(torch.ones(1, 2, 2), fraction)


def test_intersection_over_union() -> None:
    a = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]], [[1, 0, 0, 0]]], dtype=torch.bool)
    b = torch.tensor([[[0, 1, 1, 0]], [[0, 0, 0, 0]], [[0, 1, 0, 0]]], dtype=torch.bool)
    assert intersection_over_union(a, b).tolist() == pytest.approx([1 / 3, 1, 0])


def test_cka_against_the_definition() -> None:
    """Kornblith et al. 2019, eq. 1-4: HSIC with centring matrices."""
    a, b = random(2, 9, 4), random(2, 9, 6, seed=1)
    centring = np.eye(9) - 1 / 9
    for item in range(2):
        k, m = (x[item].numpy() @ x[item].numpy().T for x in (a, b))

        def hsic(first: np.ndarray, second: np.ndarray) -> float:
            return float(np.trace(first @ centring @ second @ centring))

        expected = hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))
        assert linear_cka(a, b)[item].item() == pytest.approx(expected, abs=1e-10)


def test_cka_ignores_rotation_scale_and_shift_and_notices_the_order_of_patches() -> None:
    a = random(1, 9, 4)
    rotation = torch.linalg.qr(random(4, 4, seed=2)).Q
    assert linear_cka(a, 3 * a @ rotation + 5).item() == pytest.approx(1, abs=1e-10)
    assert linear_cka(a, a.flip(1)).item() < 0.9
