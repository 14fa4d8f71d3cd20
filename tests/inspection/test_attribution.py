"""Attributions against their definitions, on models small enough to write the definition out."""

import math
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import explorer
from explorer.distortions import distortion
from explorer.evaluation.predicting import probe_of
from explorer.evaluation.probes import fit_on_features
from explorer.inspection.attribution import Attribution, attribute, attribute_views, attribution
from explorer.inspection.attribution_methods import METHODS
from explorer.inspection.attribution_problem import Settings
from explorer.inspection.attribution_quality import Quality, quality
from explorer.models.backbones import Backbone
from explorer.models.loading import load_backbone
from explorer.models.trace import Grid
from tests.architectures import ARCHITECTURES, normalised, peaked, pictures, unfused
from tests.architectures import backbone as architecture
from tests.nightly import left

READ_BY_CLASS_TOKEN = {
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_base_patch16_clip_quickgelu_224",
    "flexivit_small",
    "vit_small_patch16_rope_224",
    "vit_small_patch16_rope_mixed_224",
    "vit_small_r26_s32_224",
}


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    """ViT-Ti over 3 x 4 patches, float64."""
    return architecture("vit_tiny_patch16_224", image_size=(48, 64))


@pytest.fixture(scope="module")
def picture(tiny: Backbone) -> Tensor:
    return pictures(tiny, 1)[0]


@pytest.fixture(scope="module")
def other(tiny: Backbone) -> Tensor:
    """The embedding of another picture, "dim"."""
    return tiny.trace(pictures(tiny, 1, seed=9)).embedding[0]


def cosine(loaded: Backbone, images: Tensor, toward: Tensor) -> Tensor:
    """The score as timm's own model gives it."""
    embedding = loaded.module(normalised(loaded, images))
    return (embedding @ toward) / (embedding.norm(dim=1) * toward.norm())


# Each method against its definition.


def test_integrated_gradients_add_up_to_the_change_of_the_score() -> None:
    loaded = load_backbone("vit_tiny_patch16_224", image_size=(48, 64), source="random", device="cpu")
    loaded = loaded.with_module(loaded.module.double())
    image, toward = pictures(loaded, 1)[0], loaded.trace(pictures(loaded, 1, seed=9)).embedding[0]
    lost = []
    for steps in (2, 8, 32):
        found = attribution(loaded, image, toward, settings=Settings(steps=steps, baseline="black"))
        with torch.no_grad():
            change = (
                cosine(loaded, image[None], toward) - cosine(loaded, torch.zeros_like(image)[None], toward)
            ).item()
        assert found.target - found.baseline_target == pytest.approx(change, abs=1e-9)
        assert found.completeness == pytest.approx(found.heatmap.sum().item() - change, abs=1e-9)
        lost.append(abs(found.heatmap.sum().item() - change))
    assert abs(change) > 0.01
    assert lost[0] > 10 * lost[1] > 10 * lost[2]
    assert lost[2] < 1e-4 * abs(change)


def test_integrated_gradients_are_the_integral(tiny: Backbone, picture: Tensor, other: Tensor) -> None:
    baseline = torch.full_like(picture, 0.25)
    found = attribute(tiny, picture, other, steps=5, internal_batch_size=2, baseline=baseline)
    nodes, weights = np.polynomial.legendre.leggauss(5)
    total = torch.zeros_like(picture)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        x = (baseline + node * (picture - baseline))[None].requires_grad_()
        total += weight * torch.autograd.grad(cosine(tiny, x, other).sum(), x)[0][0]
    torch.testing.assert_close(found, (total * (picture - baseline)).sum(dim=0), rtol=1e-5, atol=1e-9)


def test_saliency_is_the_largest_gradient_over_colours(tiny: Backbone, picture: Tensor, other: Tensor) -> None:
    x = picture[None].clone().requires_grad_()
    by_hand = torch.autograd.grad(cosine(tiny, x, other).sum(), x)[0][0].abs().amax(dim=0)
    torch.testing.assert_close(attribute(tiny, picture, other, method="saliency"), by_hand)


@pytest.mark.parametrize(("patch", "window"), [(None, 16), (24, 24)])
def test_occlusion_is_a_loop_over_windows(
    tiny: Backbone, picture: Tensor, other: Tensor, patch: int | None, window: int
) -> None:
    found = attribute(tiny, picture, other, method="occlusion", baseline="mean", patch=patch, internal_batch_size=5)
    grey = picture.mean(dim=(1, 2))
    expected = torch.zeros(48, 64, dtype=torch.float64)
    with torch.no_grad():
        whole = cosine(tiny, picture[None], other)
        for top in range(0, 48, window):
            for left in range(0, 64, window):
                hidden = picture.clone()
                hidden[:, top : top + window, left : left + window] = grey[:, None, None]
                fall = whole - cosine(tiny, hidden[None], other)
                expected[top : top + window, left : left + window] = fall
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)  # Captum keeps float32


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "vit_small_patch14_reg4_dinov2"]
)
def test_gradient_attention_is_the_rule_of_its_paper_on_unfused_attention(name: str) -> None:
    patch, prefix = ARCHITECTURES[name]
    loaded = architecture(name, image_size=(3 * patch, 4 * patch))
    image = pictures(loaded, 1)
    toward = loaded.trace(pictures(loaded, 1, seed=9)).embedding[0]
    found = attribute(loaded, image, toward, method="gradient_attention")
    expected = relevance(unfused(loaded), normalised(loaded, image), toward)
    rows = (0, 1) if "distilled" in name else (0,)
    by_paper = np.mean([expected[row, prefix:] for row in rows], axis=0).reshape(3, 4)
    np.testing.assert_allclose(found.numpy(), by_paper, rtol=1e-9)
    assert by_paper.std() > 0.01 * by_paper.mean() > 0


def relevance(module: nn.Module, x: Tensor, toward: Tensor) -> np.ndarray:
    """R of Chefer et al. 2021 (equations 5 and 6), head by head, with hooks on timm's written-out softmax."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    for block in module.blocks:  # type: ignore[union-attr]
        block.attn.attn_drop.register_forward_hook(keep)
    F.cosine_similarity(module(x), toward[None]).sum().backward()
    tokens = seen[0].shape[-1]
    total = np.eye(tokens)
    for attention in seen:
        assert attention.grad is not None
        heads = attention.shape[1]
        mean = np.zeros((tokens, tokens))
        for head in range(heads):
            product = attention.grad[0, head].numpy() * attention[0, head].detach().numpy()
            mean += np.where(product > 0, product, 0) / heads
        total = total + mean @ total
    return total


# What they find.


class Window(nn.Module):
    """A model that looks at one patch of its 4 x 4 alone: only there do tokens carry anything to the class token."""

    num_prefix_tokens, global_pool = 1, "token"

    def __init__(self, row: int, col: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        self.norm = nn.Identity()
        weight = torch.zeros(16)
        weight[4 * row + col] = 1
        self.register_buffer("weight", weight)

    def forward_intermediates(self, x: Tensor, **_: object) -> tuple[Tensor, list]:
        colours = F.avg_pool2d(x, 8).flatten(2).transpose(1, 2) * self.weight[:, None]
        patches = F.pad(colours, (1, 0))
        tokens = torch.cat([self.cls_token.expand(len(x), 1, 4), patches], dim=1)
        values = tokens[:, None]
        tokens = tokens + F.scaled_dot_product_attention(values * 0, values * 0, values)[:, 0]
        return tokens, [(tokens[:, 1:], tokens[:, :1])]

    def forward_head(self, x: Tensor, pre_logits: bool = True) -> Tensor:
        return x[:, 0]


def window(row: int, col: int) -> Backbone:
    return Backbone(
        name="window",
        source="made for this test",
        sha256="",
        module=Window(row, col),
        grid=Grid(4, 4),
        depth=1,
        heads=1,
        dim=4,
        prefix=1,
        image_size=32,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        query_kind="class token",
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", [(0, 3), (2, 1)])
def test_every_method_finds_the_only_patch_that_matters(method: str, place: tuple[int, int]) -> None:
    toward = torch.tensor([0.0, 1.0, 1.0, 1.0])
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(3)) * 0.5 + 0.5
    found = attribution(window(*place), image, toward, method, Settings(baseline="black")).by_patch()
    assert found.shape == (4, 4)
    assert found[place] > 0
    found[place] = 0
    assert not found.any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("given", [True, False])
def test_a_constant_model_is_explained_by_nothing(tiny: Backbone, picture: Tensor, method: str, given: bool) -> None:
    constant = architecture("vit_tiny_patch16_224", image_size=(48, 64))
    with torch.no_grad():
        constant.module.norm.weight.zero_()  # type: ignore[union-attr,operator]
        constant.module.norm.bias.fill_(0.5)  # type: ignore[union-attr,operator]
    toward = torch.arange(constant.dim, dtype=torch.float64) if given else None
    found = attribution(constant, picture, toward, method, Settings(steps=4))
    assert not found.heatmap.any()
    assert found.target == found.baseline_target
    assert quality(constant, found, samples=2, neighbours=1).infidelity == 0


# Towards a probe.


@pytest.mark.parametrize("names", [("cat", "dog"), ("cat", "dog", "frog")])
def test_a_probe_s_score_is_scikit_learn_s(tiny: Backbone, picture: Tensor, names: tuple[str, ...]) -> None:
    features = np.random.default_rng(0).normal(size=(12, tiny.dim)) * 3 + 1
    labels = [names[number % len(names)] for number in range(12)]
    probe = fit_on_features("linear", features, labels)
    embedding = tiny.trace(picture[None]).embedding.numpy()
    expected = np.atleast_1d(probe.estimator.decision_function(embedding)[0])
    expected = np.array([-expected[0], expected[0]]) if len(names) == 2 else expected
    for place, label in enumerate(names):
        found = attribution(tiny, picture, (probe, label), "saliency")
        assert found.target == pytest.approx(expected[place])
        assert label in found.towards
        assert found.heatmap.min() >= 0 < found.heatmap.max()


def test_only_linear_probes_and_their_own_classes(tiny: Backbone, picture: Tensor) -> None:
    features, labels = np.random.default_rng(0).normal(size=(8, tiny.dim)), ["cat", "dog"] * 4
    with pytest.raises(ValueError, match="kind 'linear'; got 'knn'"):
        attribute(tiny, picture, (fit_on_features("knn", features, labels), "cat"))
    with pytest.raises(ValueError, match="no class 'cart'; did you mean 'cat'"):
        attribute(tiny, picture, (fit_on_features("linear", features, labels), "cart"))
    with pytest.raises(ValueError, match=f"features of size 3.*has {tiny.dim}"):
        attribute(tiny, picture, (fit_on_features("linear", features[:, :3], labels), "cat"))


def test_towards_a_class_of_a_probe_of_pictures(tiny: Backbone, picture: Tensor) -> None:
    features = np.random.default_rng(0).normal(size=(9, tiny.dim))
    probe = probe_of(tiny, features, ["cat", "dog", "frog"] * 3)
    found = attribution(tiny, picture, (probe, "dog"), "saliency")
    expected = attribution(tiny, picture, (probe.probe, "dog"), "saliency")
    assert torch.equal(found.heatmap, expected.heatmap)
    assert found.towards == "probe's score for 'dog'"
    scores = probe.probe.estimator.decision_function(tiny.trace(picture[None]).embedding.numpy())[0]
    assert found.target == pytest.approx(scores[1])
    assert quality(tiny, found, samples=2, neighbours=1).infidelity >= 0


def test_the_student_s_view_goes_towards_the_class_of_its_own_probe(tiny: Backbone, picture: Tensor) -> None:
    features = np.random.default_rng(0).normal(size=(2, 9, tiny.dim))
    names = ["cat", "dog", "frog"] * 3
    teacher, student = (probe_of(tiny, rows, names) for rows in features)
    toward, own = (teacher, "dog"), (student, "dog")
    views = attribute_views(tiny, tiny, picture, "none", toward, "saliency", student_toward=own)
    expected = {"teacher_clean": toward, "teacher_distorted": toward, "student_distorted": own}
    for name, goal in expected.items():
        assert torch.equal(views[name].heatmap, attribute(tiny, picture, goal, "saliency"))
    assert views["student_distorted"].target != pytest.approx(views["teacher_distorted"].target)
    damaged = picture.flip(-1)
    alone = attribute_views(tiny, tiny, None, damaged, toward, "saliency", student_toward=own)
    assert list(alone) == ["teacher_distorted", "student_distorted"]
    for name, view in alone.items():
        assert torch.equal(view.heatmap, attribute(tiny, damaged, expected[name], "saliency"))


def test_without_a_clean_picture_damage_is_a_picture_and_the_goal_is_given(tiny: Backbone, picture: Tensor) -> None:
    toward = tiny.trace(picture[None]).embedding[0]
    for damage, goal in (("none", toward), (picture, None)):
        with pytest.raises(ValueError, match="without a clean picture damage is the damaged picture itself"):
            attribute_views(tiny, tiny, None, damage, goal, "saliency")


# Towards itself.


def test_where_the_cosine_is_flat_one_gradient_is_refused_and_none_measures_from_the_baseline(
    tiny: Backbone, picture: Tensor
) -> None:
    own = tiny.trace(picture[None]).embedding
    for method in ("saliency", "gradient_attention"):
        with pytest.raises(ValueError, match=r"1 and flat.*toward=None.*'integrated_gradients'.*'occlusion'"):
            attribute(tiny, picture, own, method=method)
    black = tiny.trace(torch.zeros_like(picture)[None]).embedding
    expected = attribute(tiny, picture, own - black, method="saliency")
    torch.testing.assert_close(attribute(tiny, picture, method="saliency", baseline="black"), expected)
    assert attribution(tiny, picture, method="occlusion").target == pytest.approx(1)
    torch.testing.assert_close(
        attribute(tiny, picture, method="occlusion"), attribute(tiny, picture, own, method="occlusion")
    )


# Views and quality.


@pytest.mark.parametrize("method", METHODS)
def test_views_are_three_attributions_towards_the_clean_teacher(tiny: Backbone, picture: Tensor, method: str) -> None:
    student = architecture("vit_tiny_patch16_224", image_size=(48, 64), seed=1)
    settings = Settings(steps=3)
    views = attribute_views(tiny, student, picture, "gaussian_noise(sigma=0.3)", None, method, settings, seed=5)
    assert list(views) == ["teacher_clean", "teacher_distorted", "student_distorted"]
    distorted = distortion("gaussian_noise(sigma=0.3)")(picture[None], seed=5)[0]
    toward = views["teacher_clean"].toward
    if method in ("integrated_gradients", "occlusion", "attn_lrp"):
        torch.testing.assert_close(toward, tiny.trace(picture[None]).embedding[0])
    for name, loaded, seen in (("teacher_distorted", tiny, distorted), ("student_distorted", student, distorted)):
        assert torch.equal(views[name].image, seen)
        assert torch.equal(views[name].heatmap, attribution(loaded, seen, toward, method, settings).heatmap)
    assert {view.towards for view in views.values()} == {views["teacher_clean"].towards}
    assert "clean teacher" in views["teacher_clean"].towards
    given = attribute_views(tiny, student, picture, distorted, None, method, settings)
    assert all(torch.equal(given[name].heatmap, view.heatmap) for name, view in views.items())


def test_the_seed_of_the_views_is_that_of_the_distortion(tiny: Backbone, picture: Tensor) -> None:
    def saliency(seed: int) -> Tensor:
        views = attribute_views(tiny, tiny, picture, "pixel_mask(fraction=0.5)", method="saliency", seed=seed)
        return views["teacher_distorted"].heatmap

    assert torch.equal(saliency(1), saliency(1))
    assert not torch.equal(saliency(1), saliency(2))


def test_infidelity_knows_a_perfect_map_from_a_useless_one() -> None:
    """The window's score falls only with its own patch: a map of that patch foretells everything."""
    loaded, toward = window(1, 2), torch.tensor([-1.0, 0.2, 0.2, 0.2])
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(3)) * 0.5 + 0.5
    perfect = attribution(loaded, image, toward, "occlusion", Settings(baseline="black"))
    elsewhere = perfect.heatmap.roll(8, dims=1)
    useless = Attribution(**{**vars(perfect), "heatmap": elsewhere})
    good, bad = (quality(loaded, one, samples=24, neighbours=1) for one in (perfect, useless))
    assert good.infidelity < 1e-9
    assert bad.unexplained > 0.3
    assert bad.infidelity > 1e4 * good.infidelity


def test_infidelity_by_hand(tiny: Backbone, picture: Tensor, other: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    found = attribution(tiny, picture, other, "occlusion", Settings(baseline="black", internal_batch_size=3))
    squares = [(0, 0), (1, 2), (2, 3), (2, 0), (0, 3), (1, 1), (0, 2)]
    left = iter([number for place in squares for number in (1, *place)])  # side, row, column
    monkeypatch.setattr("explorer.inspection.attribution_quality._draw", lambda *_: next(left))
    measured = quality(tiny, found, samples=len(squares), neighbours=1)
    foretold, fell = [], []
    for row, col in squares:
        hidden = picture.clone()
        hidden[:, 16 * row : 16 * (row + 1), 16 * col : 16 * (col + 1)] = 0
        with torch.no_grad():
            fell.append((cosine(tiny, picture[None], other) - cosine(tiny, hidden[None], other)).item())
        foretold.append(found.by_patch()[row, col].item())
    a, b = np.array(foretold), np.array(fell)
    np.testing.assert_allclose(a, b, rtol=1e-5)  # occlusion of exactly these patches
    assert measured.infidelity < 1e-12
    shuffled = Attribution(**{**vars(found), "heatmap": found.heatmap.roll(16, dims=1)})
    left = iter([number for place in squares for number in (1, *place)])
    monkeypatch.setattr("explorer.inspection.attribution_quality._draw", lambda *_: next(left))
    measured = quality(tiny, shuffled, samples=len(squares), neighbours=1)
    c = np.array([shuffled.by_patch()[place].item() for place in squares])
    beta = (c @ b) / (c @ c)
    assert measured.infidelity == pytest.approx(np.mean((beta * c - b) ** 2))
    assert measured.unexplained == pytest.approx(np.mean((beta * c - b) ** 2) / np.mean(b**2))


def test_quality_has_a_seed_and_sensitivity_is_the_largest_relative_change(
    tiny: Backbone, picture: Tensor, other: Tensor
) -> None:
    found = attribution(tiny, picture, other, "saliency")
    first = quality(tiny, found, samples=3, neighbours=3, seed=4)
    assert first == quality(tiny, found, samples=3, neighbours=3, seed=4)
    assert first != quality(tiny, found, samples=3, neighbours=3, seed=5)
    generator, changes = torch.Generator().manual_seed(4), []
    for _ in range(3):
        noise = 0.02 * (2 * torch.rand(1, *picture.shape, generator=generator, dtype=torch.float64) - 1)
        moved = attribute(tiny, picture + noise, other, method="saliency")
        changes.append(((moved - found.heatmap).norm() / found.heatmap.norm()).item())
    assert first.sensitivity == pytest.approx(max(changes))


@pytest.mark.parametrize(
    ("unexplained", "words"), [(0.0, "most"), (0.3, "most"), (0.31, "some"), (0.9, "little"), (1.0, "nothing")]
)
def test_a_verdict_says_how_much_a_map_explains(unexplained: float, words: str) -> None:
    judged = Quality(infidelity=1.0, unexplained=unexplained, sensitivity=0.1)
    assert judged.verdict == f"explains {words} of the score"


def test_a_verdict_on_a_map_that_does_not_hold_still() -> None:
    judged = Quality(infidelity=0.1, unexplained=0.2, sensitivity=1.5)
    assert judged.verdict == "explains most of the score, and changes completely under noise that nobody sees"


# All architectures, and what is left behind.


@pytest.mark.parametrize("name", left(ARCHITECTURES, to_the_night=[name for name in ARCHITECTURES if "_base_" in name]))
def test_every_architecture_is_explained_or_refused_with_the_reason(name: str) -> None:
    patch, _ = ARCHITECTURES[name]
    loaded = load_backbone(name, image_size=(2 * patch, 3 * patch), source="random", device="cpu")
    peaked(loaded.module, factor=4.0)
    image, toward = pictures(loaded, 1)[0].float(), torch.arange(loaded.dim).float()
    for method in METHODS:
        if method == "gradient_attention" and name not in READ_BY_CLASS_TOKEN:
            with pytest.raises(
                ValueError, match=r"class token but by.*pooling.*'integrated_gradients' or.*'occlusion'"
            ):
                attribute(loaded, image, toward, method=method)
            continue
        if method == "attn_lrp" and name == "vit_small_r26_s32_224":
            with pytest.raises(ValueError, match=r"no rule for 'group_norm'.*'integrated_gradients' or.*'occlusion'$"):
                attribute(loaded, image, toward, method=method)
            continue
        found = attribute(loaded, image, toward, method=method, steps=2)
        assert found.shape == ((2, 3) if method == "gradient_attention" else image.shape[1:])
        assert found.isfinite().all()
        assert found.any()


@pytest.mark.parametrize("method", METHODS)
def test_the_backbone_stays_as_it_was(tiny: Backbone, picture: Tensor, other: Tensor, method: str) -> None:
    before = {name: (id(one), one.clone(), one.requires_grad) for name, one in tiny.module.named_parameters()}
    attribute(tiny, picture, other, method=method, steps=2)
    for name, parameter in tiny.module.named_parameters():
        same, value, wanted = before[name]
        assert id(parameter) == same
        assert torch.equal(parameter, value)
        assert parameter.requires_grad is wanted is True
        assert parameter.grad is None
    assert all(not one._forward_hooks and not one._forward_pre_hooks for one in tiny.module.modules())
    assert not picture.requires_grad


def test_it_works_without_gradients_around_it_and_in_many_threads(
    tiny: Backbone, picture: Tensor, other: Tensor
) -> None:
    expected = attribute(tiny, picture, other, method="saliency")
    results: list[Tensor] = []

    @torch.no_grad()
    def work() -> None:
        results.append(attribute(tiny, picture, other, method="saliency"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [torch.equal(result, expected) for result in results] == [True] * 4
    assert all(parameter.requires_grad for parameter in tiny.module.parameters())


class Widest(nn.Module):
    """Passes pictures on and remembers the largest batch."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.batches = inner, []

    def __deepcopy__(self, _: dict) -> "Widest":
        return self

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward_intermediates(self, x: Tensor, **arguments: object) -> object:
        self.batches.append(len(x))
        return self.inner.forward_intermediates(x, **arguments)  # type: ignore[operator]


@pytest.mark.parametrize("method", METHODS)
def test_it_works_in_inference_mode_and_on_what_comes_from_it(
    tiny: Backbone, picture: Tensor, other: Tensor, method: str
) -> None:
    expected = attribute(tiny, picture, other, method=method, steps=4)
    with torch.inference_mode():
        within = attribute(tiny, picture, other, method=method, steps=4)
        views = attribute_views(tiny, tiny, picture, "none", other, method, Settings(steps=4))
        assert torch.is_inference_mode_enabled()
        module = architecture("vit_tiny_patch16_224", image_size=(48, 64)).module
        module.load_state_dict(tiny.module.state_dict())
        for part in module.modules():  # as if all of it had been made here
            for name, parameter in part._parameters.items():
                part._parameters[name] = parameter if parameter is None else nn.Parameter(parameter.clone())
        copies = picture.clone(), other.clone()
    assert next(module.parameters()).is_inference()
    later = attribute(tiny.with_module(module), *copies, method=method, steps=4)
    assert copies[0].is_inference()
    assert copies[1].is_inference()
    for found in (within, later, views["student_distorted"].heatmap):
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_no_pass_is_larger_than_the_internal_batch(tiny: Backbone, picture: Tensor, other: Tensor, method: str) -> None:
    watched = Widest(tiny.module)
    loaded = tiny.with_module(watched)
    found = attribution(loaded, picture, other, method, Settings(steps=7, internal_batch_size=3))
    assert max(watched.batches) == 3
    quality(loaded, found, samples=7, neighbours=1)
    assert max(watched.batches) == 3
    whole = attribute(tiny, picture, other, method=method, steps=7, internal_batch_size=100)
    torch.testing.assert_close(found.heatmap, whole)


# Bad input.


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused(tiny: Backbone, picture: Tensor, other: Tensor) -> None:
    refusals: list[tuple[str, tuple, dict]] = [
        ("did you mean 'saliency'", (picture, other, "salience"), {}),
        ("one picture is explained at a time; got a batch of 2", (picture.expand(2, 3, 48, 64), other), {}),
        (r"size=\(48, 64\)", (picture[:, :32], other), {}),
        ("of torch.uint8", ((picture * 255).byte(), other), {}),
        ("got values from", (picture * float("nan"), other), {}),
        (r"embeddings of size 192; toward has the shape \(3,\)", (picture, other[:3]), {}),
        (r"embeddings of size 192; toward has the shape \(2, 192\)", (picture, other.expand(2, -1)), {}),
        ("NaN or infinite", (picture, other * float("inf")), {}),
        (r"toward is an embedding, \(probe, label\) or None; got str", (picture, "cat"), {}),
        ("steps is a whole number, at least 1; got 0", (picture, other), {"steps": 0}),
        ("internal_batch_size is a whole", (picture, other), {"internal_batch_size": 0}),
        ("gamma is a finite number from 0 up; got -0.5", (picture, other), {"gamma": -0.5}),
        ("gamma is a finite number from 0 up; got inf", (picture, other), {"gamma": math.inf}),
        ("the occlusion window, has 49 px", (picture, other, "occlusion"), {"patch": 49}),
        ("baseline must be 'mean', 'black', 'blur' or a picture; got 'white'", (picture, other), {"baseline": "white"}),
        ("the baseline is a picture of the same size", (picture, other), {"baseline": picture[:, :3]}),
    ]
    for message, arguments, options in refusals:
        with pytest.raises(ValueError, match=message):
            attribute(tiny, *arguments, **options)
    with pytest.raises(ValueError, match="at least 1"):
        quality(tiny, attribution(tiny, picture, other, "saliency"), samples=0)


def test_attention_that_would_not_fit_is_refused(
    tiny: Backbone, picture: Tensor, other: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explorer.inspection.attribution_methods.FULL_ATTENTION_BYTES", 1000)
    with pytest.raises(ValueError, match="smaller image size"):
        attribute(tiny, picture, other, method="gradient_attention")


def test_without_captum_those_run_that_do_not_need_it(tiny: Backbone, picture: Tensor, other: Tensor) -> None:
    code = (
        "import sys; sys.modules['captum'] = None\n"
        "import torch, explorer as ex\n"
        "b = ex.load_backbone('vit_tiny_patch16_224', image_size=32, source='random', device='cpu')\n"
        "for method in ('gradient_attention', 'attn_lrp'):\n    ex.attribute(b, torch.rand(3, 32, 32), method=method)\n"
        "try:\n    ex.attribute(b, torch.rand(3, 32, 32))\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 'pip install "vit-explorer[attribution]"' in done.stdout


def test_it_is_public() -> None:
    assert explorer.attribute is attribute
    assert explorer.Attribution is Attribution
    assert all(METHODS.values())
