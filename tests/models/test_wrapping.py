"""Modules of one's own: the maps are those of attention that is written out, and what does not fit is said."""

import copy
import math
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks
from torch.utils.checkpoint import checkpoint

from explorer import CaptureError, DistillConfig, compare, distill, embed, load_images, load_pair, wrap_backbone
from explorer.inspection.attribution import attribute
from explorer.models.backbones import Backbone
from explorer.models.pairs import PairError
from tests.small import picture_folder

SIZE, GRID, DIM, HEADS, DEPTH = (32, 48), (4, 6), 32, 4, 3
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Block(nn.Module):
    """Pre-norm attention and perceptron; the attention as a person would write it, in one of three ways."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.before, self.between = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.attention = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Linear(2 * DIM, DIM))
        self.map: Tensor | None = None
        with torch.no_grad():
            self.attention.in_proj_weight[: 2 * DIM] *= 5  # untrained attention is uniform: any row resembles any other

    def attend(self, x: Tensor) -> Tensor:
        if self.kind == "module":
            return self.attention(x, x, x, need_weights=False)[0]
        qkv = F.linear(x, self.attention.in_proj_weight, self.attention.in_proj_bias)
        q, k, v = qkv.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        if self.kind == "fused":
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            self.map = (q @ k.transpose(2, 3) / math.sqrt(DIM // HEADS)).softmax(dim=3)
            out = self.map @ v
        return self.attention.out_proj(out.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.before(x))
        return x + self.mlp(self.between(x))


class OwnViT(nn.Module):
    """A plain ViT as one writes it: class token (or none), learned positions, blocks, norm, classifier."""

    def __init__(self, kind: str = "fused", prefix: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, DIM, 8, 8)
        self.first = nn.Parameter(torch.randn(1, prefix, DIM))
        self.positions = nn.Parameter(torch.randn(1, prefix + GRID[0] * GRID[1], DIM))
        self.layers = nn.ModuleList(Block(kind) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.patch(pictures).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


def wrap(module: nn.Module, **changes: Any) -> Backbone:
    said = {"blocks": "layers", "norm": "norm", "image_size": SIZE, "grid": GRID, "prefix": 1, "mean": MEAN, "std": STD}
    return wrap_backbone(module, **{**said, **changes})


def pictures(count: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def written_out(module: OwnViT, images: Tensor) -> tuple[Tensor, Tensor]:
    """Maps "batch layer head query token" and normed tokens of the last block, from attention that is written out."""
    plain = OwnViT("written out", prefix=module.first.shape[1])
    plain.load_state_dict(module.state_dict())
    tokens: list[Tensor] = []
    plain.norm.register_forward_hook(lambda _, __, output: tokens.append(output))
    x = images.to(module.first.dtype)
    mean, std = (torch.tensor(values, dtype=x.dtype)[:, None, None] for values in (MEAN, STD))
    plain.to(x.dtype).eval()((x - mean) / std)
    return torch.stack([block.map for block in plain.layers], dim=1), tokens[0]  # type: ignore[misc]


@pytest.mark.parametrize("prefix", [1, 3, 0])
@pytest.mark.parametrize("kind", ["fused", "module"])
def test_maps_and_tokens_are_those_of_attention_that_is_written_out(kind: str, prefix: int) -> None:
    module = OwnViT(kind, prefix).double()
    backbone = wrap(module, prefix=prefix)
    maps, tokens = written_out(module, pictures())
    assert maps.amax(dim=-1).mean() > 5 / maps.shape[-1], "rows are nearly uniform: this proves nothing"
    full, row = backbone.trace(pictures(), attention="full"), backbone.trace(pictures())
    own = maps[:, :, :, :1] if prefix else maps.mean(dim=3, keepdim=True)
    torch.testing.assert_close(full.attention, maps, atol=1e-6, rtol=0)
    torch.testing.assert_close(row.attention, own, atol=1e-6, rtol=0)
    torch.testing.assert_close(row.patches[:, -1], tokens[:, prefix:], atol=1e-5, rtol=0)
    expected = tokens[:, 0] if prefix else tokens.mean(dim=1)
    torch.testing.assert_close(row.embedding, expected, atol=1e-5, rtol=0)
    assert (row.grid, row.prefix, row.cls is None) == (GRID, prefix, prefix == 0)
    assert (backbone.depth, backbone.heads, backbone.dim) == (DEPTH, HEADS, DIM)
    part = backbone.trace(pictures(), layers=[1], attention="full")
    torch.testing.assert_close(part.attention, maps[:, 1:2], atol=1e-6, rtol=0)


def test_gradients_are_those_of_attention_that_is_written_out() -> None:
    module = OwnViT("module")
    ours, theirs = pictures().requires_grad_(), pictures().requires_grad_()
    attention = wrap(module).trace(ours, grad=True).attention
    assert attention is not None
    (a,) = torch.autograd.grad(attention.square().sum(), ours)
    (b,) = torch.autograd.grad(written_out(module, theirs)[0][:, :, :, 0].square().sum(), theirs)
    assert b.abs().max() > 1e-3
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_torchvision_s_vit() -> None:
    from torchvision.models.vision_transformer import VisionTransformer

    module = VisionTransformer(32, 8, 2, 4, 32, 64).eval()
    backbone = wrap(module, blocks="encoder.layers", norm="encoder.ln", image_size=32, grid=(4, 4))
    images = torch.rand(1, 3, 32, 32)
    x = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    trace = backbone.trace(images, attention="full")
    torch.testing.assert_close(module.heads(trace.embedding), module(x), atol=1e-5, rtol=0)
    assert trace.attention is not None
    assert trace.attention.shape == (1, 2, 4, 17, 17)


@pytest.mark.parametrize(
    ("around", "blocks"),
    [
        (nn.DataParallel, "layers"),
        (nn.DataParallel, "module.layers"),
        pytest.param(torch.compile, "layers", marks=pytest.mark.slow),
        pytest.param(torch.compile, "_orig_mod.layers", marks=pytest.mark.slow),
    ],
)
def test_what_only_runs_a_module_is_taken_off(around: Any, blocks: str) -> None:
    module = OwnViT()
    backbone = wrap(around(module), blocks=blocks)
    assert backbone.module is module
    assert (backbone.name, backbone.sha256) == ("own:OwnViT", wrap(module).sha256)
    seen, expected = (one.trace(pictures(), attention="full") for one in (backbone, wrap(module)))
    assert seen.attention is not None
    assert expected.attention is not None
    assert torch.equal(seen.attention, expected.attention)


def test_the_module_is_left_as_it_was_and_other_threads_do_not_mix() -> None:
    module = OwnViT()
    backbone = wrap(module, name="mine")
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    alone = [backbone.trace(pictures(seed=seed)).patches for seed in range(4)]
    seen: dict[int, list[Tensor]] = {}

    def work(seed: int) -> None:
        seen[seed] = [backbone.trace(pictures(seed=seed)).patches for _ in range(5)]
        copy.deepcopy(module)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(found) == 5 for found in seen.values())
    for seed, found in seen.items():  # to rounding: how a product is summed may depend on where its memory lies
        torch.testing.assert_close(torch.stack(found), alone[seed].expand(5, *alone[seed].shape), atol=1e-5, rtol=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert not any(part._forward_hooks for part in module.modules())
    assert not _global_forward_hooks
    assert (backbone.name, backbone.module is module) == ("mine", True)


class Windows(OwnViT):
    def forward(self, pictures: Tensor) -> Tensor:
        x = self.patch(pictures).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x.reshape(-1, 6, DIM)).reshape(len(pictures), -1, DIM)
        return x


class Recurrent(OwnViT):
    def forward(self, pictures: Tensor) -> Tensor:
        x = self.patch(pictures).flatten(2).transpose(1, 2)
        for _ in range(2):
            for layer in self.layers:
                x = layer(x)
        return x


MISFITS: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "written out": (
        lambda: OwnViT("written out"),
        {},
        CaptureError,
        r"no block called .*write F.scaled_dot_product_attention\(q, k, v",
    ),
    "windows": (Windows, {"prefix": 0}, ValueError, r"block 'layers.0' should put out .*24 tokens.*got \(8, 6, 32\)"),
    "twice": (Recurrent, {"prefix": 0}, CaptureError, "3 blocks to be called once.*called 6 times"),
    "prefix": (OwnViT, {"prefix": 0}, ValueError, r"24 tokens \(0 before.*got \(2, 25, 32\)"),
    "grid": (OwnViT, {"grid": (2, 6)}, ValueError, "13 tokens"),
    "no grid": (OwnViT, {"grid": (5, 6)}, ValueError, r"divide 32 x 48 px; got \(5, 6\)"),
    "no such blocks": (OwnViT, {"blocks": "blocks"}, ValueError, "holds no 'blocks'; its parts are patch, layers"),
    "no list": (OwnViT, {"blocks": "norm"}, ValueError, "should name a list of blocks"),
    "no such norm": (OwnViT, {"norm": nn.LayerNorm(3)}, ValueError, "holds no 'LayerNorm'"),
    "embedding": (OwnViT, {"embed": lambda module, tokens: tokens}, ValueError, "should give 'batch dim'"),
    "std": (OwnViT, {"std": (0.0, 1.0, 1.0)}, ValueError, "std is one number for each"),
    "name": (OwnViT, {"name": "s14"}, ValueError, "'s14' stands for other weights"),
    "class token": (OwnViT, {"prefix": 0, "class_token": True}, ValueError, "a class token among them; got 0"),
}


@pytest.mark.parametrize(("make", "said", "kind", "message"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_said(make: Any, said: dict[str, Any], kind: type[Exception], message: str) -> None:
    module = make()
    with pytest.raises(kind, match=message):
        wrap(module, **said)
    assert not _global_forward_hooks
    assert module.training, "it is left as it was"


def test_blocks_by_themselves_an_own_pooling_and_a_stem_with_attention() -> None:
    module = OwnViT()
    module.patch = nn.Sequential(module.patch, Stem())  # type: ignore[assignment]
    backbone = wrap(module, blocks=list(module.layers), embed=lambda model, tokens: model.norm(tokens.mean(dim=1)))
    trace = backbone.trace(pictures(), attention="full")
    assert trace.embedding.shape == (2, DIM)
    assert trace.attention is not None
    assert trace.attention.shape == (2, DEPTH, HEADS, 25, 25)
    torch.testing.assert_close(trace.attention.sum(-1), torch.ones(2, DEPTH, HEADS, 25), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="does not make its embedding from the class token"):
        attribute(backbone, pictures(1), trace.embedding[1], method="gradient_attention")


class Stem(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + F.scaled_dot_product_attention(x, x, x)


def test_compare_embed_attribute_distill_and_load(tmp_path: Path) -> None:
    backbone = wrap(OwnViT(), name="mine")
    seen = compare(backbone, pictures(1)[0], "gaussian_noise(sigma=0.3)")
    assert seen.views["teacher_clean"].trace.layers == tuple(range(DEPTH))
    heat = attribute(backbone, pictures(1), backbone.trace(pictures(1, 5)).embedding[0], method="gradient_attention")
    assert heat.shape == GRID
    images = load_images(picture_folder(tmp_path / "pictures", 2), size=SIZE)
    found = embed(backbone, images)
    expected = backbone.trace(images.stack(), attention=None).embedding
    torch.testing.assert_close(torch.as_tensor(found.embedding), expected, atol=1e-4, rtol=0)

    said: dict[str, Any] = {"distortion": "gaussian_noise(sigma=0.3)", "steps": 2, "batch_size": 2, "image_size": SIZE}
    said |= {"attention_layers": 2, "patch_layers": 2}
    records = list(distill(backbone, images, DistillConfig(trainable="all", **said), out=tmp_path / "run"))
    assert [record.step for record in records][-1] == 2
    pair = load_pair(tmp_path / "run", teacher=backbone)
    student, teacher = (side.trace(pictures(), attention="full").attention for side in (pair.student, backbone))
    assert student is not None
    assert not torch.equal(student, teacher)
    with pytest.raises(PairError, match=r"'mine' is neither an alias.*wrap_backbone"):
        load_pair(tmp_path / "run")
    for trainable, message in (("lora:2", "no matrix of this model"), ("last:1", "held in `blocks`")):
        with pytest.raises(ValueError, match=message):
            list(distill(backbone, images, DistillConfig(trainable=trainable, **said), out=tmp_path / trainable))


class Checkpointed(OwnViT):
    """Computes its blocks again in the backward pass, as people write it."""

    reentrant: bool | None = None

    def forward(self, pictures: Tensor) -> Tensor:
        for layer in self.layers:  # by hand, since OwnViT calls them plainly
            layer.forward = partial(self.call, type(layer).forward, layer)
        return super().forward(pictures)

    def call(self, function: Any, *args: Any) -> Tensor:
        return function(*args) if self.reentrant is None else checkpoint(function, *args, use_reentrant=self.reentrant)


@pytest.mark.parametrize("attention", ["cls", "full", None])
@pytest.mark.parametrize("kind", ["fused", "module"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_blocks_give_the_same_gradients(reentrant: bool, kind: str, attention: Any) -> None:
    """Of whatever kind; what goes into the first block needs no gradient, as in many students."""

    def learned(way: bool | None) -> tuple[Any, dict[str, Tensor]]:
        module = Checkpointed(kind).double()
        module.reentrant = way
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name.startswith("layers"))
        seen = wrap(module).trace(pictures(), attention=attention, grad=True)
        loss = seen.embedding.square().mean() + seen.patches.square().mean()
        (loss if attention is None else loss + 100 * seen.attention.square().mean()).backward()
        return seen.attention, {name: p.grad for name, p in module.named_parameters() if p.grad is not None}

    (maps, plain), (again, gradients) = learned(None), learned(reentrant)
    assert attention is None or torch.equal(maps, again)
    assert plain.keys() == gradients.keys()
    assert plain["layers.0.attention.in_proj_weight"].abs().max() > 1e-6
    for name, gradient in plain.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_blocks_are_explained_and_learned_from(reentrant: bool, tmp_path: Path) -> None:
    heats, losses = [], []
    for way in (None, reentrant):
        module = Checkpointed()
        module.reentrant = way
        backbone = wrap(module)
        heats.append(attribute(backbone, pictures()[0], toward=torch.ones(DIM), method="gradient_attention"))
        short: dict[str, Any] = {"steps": 2, "batch_size": 2, "probe": 1, "attention_layers": 2, "patch_layers": 2}
        config = DistillConfig(image_size=SIZE, trainable="all", **short)
        losses += [[record.losses["loss"] for record in distill(backbone, pictures(4), config, tmp_path / str(way))]]
    assert heats[0].std() > 0
    torch.testing.assert_close(heats[1], heats[0], rtol=1e-4, atol=0)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
