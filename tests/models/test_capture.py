"""Captured attention against a formula, and against timm's own unfused attention on many architectures."""

import math
import shutil
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointFunction, checkpoint

from explorer.models.backbones import Backbone
from explorer.models.capture import AttentionCapture, differentiable, recomputed
from tests.architectures import (
    ARCHITECTURES,
    NO_CLASS_TOKEN,
    SIZE,
    Softmaxes,
    backbone,
    normalised,
    pictures,
    shallow,
    timm_attention,
    unfused,
)

PATCHES = SIZE[0] * SIZE[1]


def naive(query: Tensor, key: Tensor, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """softmax(q k^T * scale + mask), one number at a time."""
    batch, heads, rows, channels = query.shape
    probabilities = torch.zeros(batch, heads, rows, key.shape[2], dtype=query.dtype)
    for b in range(batch):
        for h in range(heads):
            for r in range(rows):
                logits = []
                for t in range(key.shape[2]):
                    logit = sum(query[b, h, r, c].item() * key[b, h, t, c].item() for c in range(channels))
                    logit *= 1 / math.sqrt(channels) if scale is None else scale
                    if mask is not None:
                        entry = mask.expand(batch, heads, rows, key.shape[2])[b, h, r, t].item()
                        logit = (logit if entry else -math.inf) if mask.dtype == torch.bool else logit + entry
                    logits.append(logit)
                powers = [math.exp(logit - max(logits)) for logit in logits]
                probabilities[b, h, r] = torch.tensor([power / sum(powers) for power in powers], dtype=query.dtype)
    return probabilities


def random_qkv(heads: int = 4, key_heads: int = 4, rows: int = 5, tokens: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (2, heads, rows, 8), (2, key_heads, tokens, 8), (2, key_heads, tokens, 8)
    q, k, v = (2 * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return q, k, v


MASKS = {
    "none": None,
    "boolean": torch.rand(5, 7, generator=torch.Generator().manual_seed(1)) > 0.4,
    "boolean, per head": torch.rand(2, 4, 5, 7, generator=torch.Generator().manual_seed(2)) > 0.4,
    "float": 3 * torch.randn(5, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64),
    "float, per head": 3 * torch.randn(1, 4, 5, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64),
    "float, one row for all": torch.randn(2, 1, 1, 7, generator=torch.Generator().manual_seed(5), dtype=torch.float64),
}


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_masks_and_scale(mask: Tensor | None, scale: float | None) -> None:
    q, k, v = random_qkv()
    expected, plain = naive(q, k, mask, scale), F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
    for rows, wanted in (("all", expected), ("first", expected[:, :, :1]), ("mean", expected[:, :, 2:].mean(2, True))):
        with AttentionCapture(rows=rows, skip=2) as capture:
            output = F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
        torch.testing.assert_close(capture.kept[0], wanted, atol=1e-12, rtol=0)
        torch.testing.assert_close(output, plain, atol=1e-12, rtol=0)


def test_causal() -> None:
    q, k, v = random_qkv(rows=7)
    expected = naive(q, k, torch.ones(7, 7, dtype=torch.bool).tril())
    with AttentionCapture(rows="all") as capture:
        output = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(capture.kept[0], expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(output, F.scaled_dot_product_attention(q, k, v, is_causal=True), atol=1e-12, rtol=0)
    with AttentionCapture() as capture:
        F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(capture.kept[0], expected[:, :, :1], atol=1e-12, rtol=0)


def test_grouped_queries() -> None:
    q, k, v = random_qkv(key_heads=2)
    expected = naive(q, k[:, [0, 0, 1, 1]])
    with AttentionCapture(rows="all") as capture:
        output = F.scaled_dot_product_attention(query=q, key=k, value=v, enable_gqa=True)
    torch.testing.assert_close(capture.kept[0], expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(output, F.scaled_dot_product_attention(q, k, v, enable_gqa=True), atol=1e-12, rtol=0)


def test_a_row_that_may_look_at_nothing_is_zero_as_in_torch() -> None:
    q, k, v = (x.requires_grad_() for x in random_qkv())
    mask = torch.ones(5, 7, dtype=torch.bool)
    mask[0] = False
    with AttentionCapture(rows="all") as capture:
        output = F.scaled_dot_product_attention(q, k, v, mask)
    assert torch.equal(capture.kept[0][:, :, 0], torch.zeros(2, 4, 7, dtype=torch.float64))
    torch.testing.assert_close(output, F.scaled_dot_product_attention(q, k, v, mask), atol=1e-12, rtol=0)
    output.sum().backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("tokens", [7, 200])
def test_calls_that_nobody_asked_for_give_the_same_in_training_with_bfloat16(tokens: int) -> None:
    exact = [x.requires_grad_() for x in random_qkv(rows=tokens, tokens=tokens)]
    F.scaled_dot_product_attention(*exact).square().sum().backward()
    rounded = [x.detach().bfloat16().requires_grad_() for x in exact]
    with AttentionCapture(calls=()):
        output = F.scaled_dot_product_attention(*rounded)
    assert (output.grad_fn.name() == "ScaledDotProductFlashAttentionForCpuBackward0") == (tokens == 200)
    output.float().square().sum().backward()
    for one, other in zip(exact, rounded, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert (one.grad - other.grad).norm() < 0.02 * one.grad.norm()


def test_calls_that_nobody_asked_for_may_be_computed_again_by_torch() -> None:
    tensors = [x.detach().bfloat16().requires_grad_() for x in random_qkv()]
    with AttentionCapture(calls=()):
        output = checkpoint(F.scaled_dot_product_attention, *tensors, use_reentrant=False)
    output.float().square().sum().backward()  # torch refuses where the second time saves other tensors
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in tensors)


def test_dropout_falls_on_the_output_and_not_on_the_map() -> None:
    q, k, v = random_qkv()
    ones = torch.ones_like(v)
    with AttentionCapture(rows="all") as capture, torch.random.fork_rng():
        torch.manual_seed(0)
        output = F.scaled_dot_product_attention(q, k, ones, dropout_p=0.5)
    torch.testing.assert_close(capture.kept[0], naive(q, k), atol=1e-12, rtol=0)
    assert output.std() > 0.1  # without dropout every output is 1
    assert abs(output.mean() - 1) < 0.2  # what is kept is scaled up


def test_only_chosen_calls_are_kept_and_all_are_counted() -> None:
    q, k, v = random_qkv()
    with AttentionCapture(calls=(1, 3)) as capture:
        for number in range(5):
            F.scaled_dot_product_attention(q + number, k, v)
    assert capture.seen == 5
    assert sorted(capture.kept) == [1, 3]
    torch.testing.assert_close(capture.kept[3], naive(q + 3, k)[:, :, :1], atol=1e-12, rtol=0)


def test_other_functions_and_what_follows_the_block_are_untouched() -> None:
    q, k, v = random_qkv()
    with AttentionCapture() as capture:
        torch.softmax(q, dim=-1)
        F.linear(q, torch.ones(3, 8, dtype=torch.float64))
    F.scaled_dot_product_attention(q, k, v)
    assert capture.seen == 0
    assert capture.kept == {}


def test_softmax_stays_in_float32_under_autocast() -> None:
    q, k, v = (x.float() for x in random_qkv())
    with torch.autocast("cpu", torch.bfloat16), AttentionCapture(rows="all") as capture:
        F.scaled_dot_product_attention(q, k, v)
    assert capture.kept[0].dtype == torch.float32
    torch.testing.assert_close(capture.kept[0], naive(q, k), atol=1e-6, rtol=0)


def test_half_precision_is_computed_in_float32() -> None:
    q, k, v = (x.bfloat16() for x in random_qkv())
    with AttentionCapture(rows="all") as capture:
        output = F.scaled_dot_product_attention(q, k, v)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(capture.kept[0], naive(q.float(), k.float()), atol=1e-6, rtol=0)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> Backbone:
    return shallow(request.param, depth=3)


@pytest.fixture(scope="module")
def reference(model: Backbone) -> nn.Module:
    return unfused(model, depth=model.depth)


def test_full_attention_equals_timm_unfused(model: Backbone, reference: nn.Module) -> None:
    images = pictures(model)
    expected = torch.stack(timm_attention(reference, normalised(model, images)), dim=1)
    trace = model.trace(images, attention="full")
    assert trace.attention is not None
    tokens = ARCHITECTURES[model.name][1] + PATCHES
    assert tuple(trace.attention.shape) == (2, model.depth, model.heads, tokens, tokens)
    assert expected.amax(dim=-1).mean(dim=(0, 2, 3)).min() > 5 / tokens, "rows are nearly uniform: this proves nothing"
    torch.testing.assert_close(trace.attention, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(trace.attention.sum(-1), torch.ones_like(trace.attention[..., 0]), atol=1e-6, rtol=0)


def test_own_row_equals_timm_unfused(model: Backbone, reference: nn.Module) -> None:
    images = pictures(model)
    trace = model.trace(images, attention="cls")
    assert trace.attention is not None
    expected = torch.stack(timm_attention(reference, normalised(model, images)), dim=1)
    if trace.query_kind == "class token":
        torch.testing.assert_close(trace.attention, expected[:, :, :, :1], atol=1e-6, rtol=0)
    elif trace.query_kind == "mean of patches":
        torch.testing.assert_close(trace.attention, expected.mean(dim=3, keepdim=True), atol=1e-6, rtol=0)
    else:
        with Softmaxes() as softmaxes:
            reference.forward_head(reference.forward_features(normalised(model, images)))  # type: ignore[operator]
        assert len(softmaxes.seen) == model.depth + 1
        assert softmaxes.seen[-1].max() > 5 / PATCHES
        torch.testing.assert_close(trace.attention[:, -1], softmaxes.seen[-1], atol=1e-6, rtol=0)
    assert (trace.query_kind == "class token") == (model.name not in NO_CLASS_TOKEN)


def test_embedding_and_tokens_equal_timm(model: Backbone, reference: nn.Module) -> None:
    images = pictures(model)
    tokens = reference.forward_features(normalised(model, images))  # type: ignore[operator]
    expected = reference.forward_head(tokens, pre_logits=True)  # type: ignore[operator]
    prefix = ARCHITECTURES[model.name][1]
    for attention in ("cls", "full", None):
        trace = model.trace(images, attention=attention)
        torch.testing.assert_close(trace.embedding, expected, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(trace.patches[:, -1], tokens[:, prefix:], atol=1e-6, rtol=1e-6)
        if model.name in NO_CLASS_TOKEN:
            assert trace.cls is None
        else:
            assert trace.cls is not None
            torch.testing.assert_close(trace.cls[:, -1], tokens[:, 0], atol=1e-6, rtol=1e-6)
        assert trace.prefix == model.prefix == prefix
        assert trace.grid == SIZE


@pytest.mark.parametrize("attention", ["cls", "full"])
def test_gradients_equal_timm_unfused(model: Backbone, reference: nn.Module, attention: str) -> None:
    if attention == "cls" and model.name in NO_CLASS_TOKEN:
        pytest.skip("no class token: its own row is compared above, and all rows in the other case")
    ours, theirs = (pictures(model, 1).requires_grad_() for _ in range(2))
    captured = model.trace(ours, attention=attention, grad=True).attention
    assert captured is not None
    expected = torch.stack(timm_attention(reference, normalised(model, theirs)), dim=1)
    expected = expected[:, :, :, :1] if attention == "cls" else expected
    weights = torch.rand(captured.shape, generator=torch.Generator().manual_seed(0), dtype=captured.dtype)
    (a,) = torch.autograd.grad((captured * weights).sum(), ours)
    (b,) = torch.autograd.grad((expected * weights).sum(), theirs)
    assert b.abs().max() > 1e-3, "no gradient to speak of: this proves nothing"
    torch.testing.assert_close(a, b, atol=1e-6 * float(b.abs().max()), rtol=0)


def test_two_threads_get_their_own_maps() -> None:
    models = [backbone("vit_tiny_patch16_224"), backbone("deit_tiny_distilled_patch16_224")]
    jobs = [(model, pictures(model, 1, seed)) for seed in range(2) for model in models]
    alone = [model.trace(images, attention="full").attention for model, images in jobs]
    together: list[list[Tensor]] = [[] for _ in jobs]
    start = threading.Barrier(len(jobs))

    def work(number: int) -> None:
        start.wait()
        model, images = jobs[number]
        together[number] = [model.trace(images, attention="full").attention for _ in range(3)]  # type: ignore[misc]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, results in zip(alone, together, strict=True):
        assert len(results) == 3
        assert all(torch.allclose(result, expected, atol=1e-12) for result in results)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("c++") is None, reason="no C++ compiler")
@pytest.mark.parametrize(("attention", "compiler"), [("cls", "inductor"), ("full", "aot_eager")])
def test_compiled_module_shows_the_same_maps(attention: str, compiler: str, unchecked: None) -> None:
    plain = backbone("vit_tiny_patch16_224")
    images = pictures(plain)
    expected = plain.trace(images, attention=attention)
    plain.module.forward_intermediates = torch.compile(  # type: ignore[assignment]
        plain.module.forward_intermediates, backend=compiler
    )
    compiled = plain.trace(images, attention=attention)
    assert compiled.attention is not None
    torch.testing.assert_close(compiled.attention, expected.attention, atol=1e-6, rtol=0)
    torch.testing.assert_close(compiled.embedding, expected.embedding, atol=1e-6, rtol=1e-6)
    other = pictures(plain, seed=1)
    again, fresh = plain.trace(other, attention=attention), backbone("vit_tiny_patch16_224").trace(other)
    assert again.attention is not None
    assert fresh.attention is not None
    torch.testing.assert_close(again.attention[:, :, :, :1], fresh.attention, atol=1e-6, rtol=0)


def test_frozen_and_trained_blocks_together() -> None:
    """Where only some blocks are trained, all rows are kept, and those of the trained ones are differentiable."""
    model = backbone("vit_tiny_patch16_224", image_size=32)
    for name, parameter in model.module.named_parameters():
        parameter.requires_grad_(name.startswith("blocks.11."))
    images = pictures(model)
    for kind in ("cls", "full"):
        plain = model.trace(images, attention=kind).attention  # type: ignore[arg-type]
        seen = model.trace(images, attention=kind, grad=True).attention  # type: ignore[arg-type]
        assert plain is not None
        assert seen is not None
        assert torch.allclose(seen, plain, atol=1e-6)
        model.module.zero_grad()
        seen.square().sum().backward()
        assert model.module.blocks[11].attn.qkv.weight.grad.abs().max() > 0  # type: ignore[index,union-attr]


# Gradient checkpointing: blocks are computed again in the backward pass, after the capture.


def learned_from(model: Backbone, attention: str) -> list[Tensor]:
    """Maps and features, and the gradients of all of them for the pictures and for every parameter."""
    images, parameters = pictures(model).requires_grad_(), list(model.module.parameters())
    seen = model.trace(images, layers=(0, 2), attention=attention, grad=True)  # type: ignore[arg-type]
    assert seen.attention is not None
    weights = torch.rand(seen.attention.shape, generator=torch.Generator().manual_seed(0))
    loss = (seen.attention * weights).sum() + seen.patches.square().mean() + seen.embedding.square().mean()
    gradients = torch.autograd.grad(loss, [images, *parameters], allow_unused=True)
    return [seen.attention, seen.patches, *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize(
    ("name", "reentrant", "attention"),
    [
        ("vit_tiny_patch16_224", False, "cls"),
        ("vit_tiny_patch16_224", False, "full"),
        ("vit_tiny_patch16_224", True, "cls"),
        ("eva02_tiny_patch14_224", False, "cls"),
        ("vit_relpos_small_patch16_224", False, "cls"),
    ],
)
def test_checkpointed_blocks_of_timm_change_nothing(
    name: str, reentrant: bool, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timm.layers.config._USE_REENTRANT_CKPT", reentrant)
    model = shallow(name, depth=3)
    plain = learned_from(model, attention)
    model.module.set_grad_checkpointing(True)  # type: ignore[operator]
    assert all(map(torch.equal, plain, learned_from(model, attention)))
    assert model.module.grad_checkpointing is True


def attend(qkv: Tensor) -> Tensor:
    q, k, v = qkv.unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4).sin()
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).exp()


@pytest.mark.parametrize("rows", ["first", "mean", "all"])
def test_what_is_recomputed_is_captured_in_the_same_way(rows: str) -> None:
    """Also with calls before it, and a call inside that nobody asked for; and it is really computed twice."""
    counted: list[int] = []

    def part(x: Tensor) -> Tensor:
        counted.append(1)
        return attend(torch.cat([attend(x), x[..., 8:]], dim=-1))

    def twice(function: object) -> list[Tensor]:
        x = torch.rand(2, 5, 24, generator=torch.Generator().manual_seed(0)).requires_grad_()
        with AttentionCapture(rows=rows, calls=(0, 2)) as capture:  # type: ignore[arg-type]
            first = torch.cat([attend(x), x[..., 8:]], dim=-1)
            out = recomputed(part, first) if function is recomputed else part(first)
        assert capture.seen == 3
        loss = out.sum() + sum(kept.square().sum() for kept in capture.kept.values())
        assert isinstance(loss, Tensor)
        gradients = [torch.autograd.grad(loss, x, retain_graph=True)[0] for _ in range(2)]
        return [out, *capture.kept.values(), *gradients]

    plain = twice(None)
    assert len(counted) == 1
    assert all(map(torch.equal, plain, twice(recomputed)))
    assert len(counted) == 1 + 1 + 2


def test_reentrant_checkpoints_of_other_threads_are_left() -> None:
    """Theirs is torch's own, while here it is the other kind, and afterwards everywhere."""
    before, kinds = CheckpointFunction.apply, []

    def kind() -> None:
        x = torch.ones(2, requires_grad=True)
        kinds.append(type(checkpoint(torch.sin, x, use_reentrant=True).grad_fn).__name__)

    with differentiable():
        kind()
        with differentiable():
            other = threading.Thread(target=kind)
            other.start()
            other.join()
        kind()
    kind()
    assert kinds == ["SinBackward0", "CheckpointFunctionBackward", "SinBackward0", "CheckpointFunctionBackward"]
    assert CheckpointFunction.apply == before
