"""Loading, refusing, tracing: the model is left as it was, and what cannot be done is said clearly."""

import hashlib
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from timm.layers import DropPath, use_fused_attn
from timm.layers.config import set_fused_attn
from timm.utils import ModelEmaV2, ModelEmaV3
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from explorer import CaptureError, UnsupportedModelError, WeightsError, compare, load_backbone
from explorer.inspection.attribution import attribute
from explorer.models.backbones import Backbone
from explorer.models.weights import state_digest
from tests.architectures import backbone, normalised, pictures, unfused

TINY = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return backbone(TINY)


def condition(module: nn.Module) -> tuple[object, ...]:
    """Everything about a model that looking at it could change."""
    state = module.state_dict()
    content = hashlib.sha256(b"".join(state[name].numpy().tobytes() for name in state)).hexdigest()
    hooks = [
        len(hooks)
        for part in module.modules()
        for hooks in (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
    ]
    flags = [(part.training, getattr(part, "fused_attn", None)) for part in module.modules()]
    gradients = [(p.requires_grad, p.grad is None) for p in module.parameters()]
    return content, hooks, flags, gradients, use_fused_attn(), len(_get_current_function_mode_stack())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("attention", ["cls", "full", None])
def test_model_is_left_as_it_was(tiny: Backbone, attention: str | None, training: bool) -> None:
    tiny.module.train(training)
    before, random = condition(tiny.module), torch.get_rng_state()
    tiny.trace(pictures(tiny), attention=attention)  # type: ignore[arg-type]
    assert condition(tiny.module) == before
    assert torch.equal(torch.get_rng_state(), random)
    tiny.module.eval()


def test_model_is_left_as_it_was_after_an_error_inside(tiny: Backbone) -> None:
    expected = tiny.trace(pictures(tiny)).attention

    def fail(*_: object) -> None:
        raise KeyError("inside")

    handle = tiny.module.blocks[5].register_forward_pre_hook(fail)  # type: ignore[index,operator,union-attr]
    before, grad = condition(tiny.module), torch.is_grad_enabled()
    with pytest.raises(KeyError, match="inside"):
        tiny.trace(pictures(tiny))
    assert condition(tiny.module) == before
    assert torch.is_grad_enabled() == grad
    handle.remove()
    again = tiny.trace(pictures(tiny)).attention
    assert again is not None
    assert expected is not None
    assert torch.equal(again, expected)


@pytest.mark.parametrize("attention", ["cls", "full"])
def test_unfused_attention_raises_and_is_never_empty(tiny: Backbone, attention: str) -> None:
    slow = tiny.with_module(unfused(tiny))
    with pytest.raises(CaptureError, match=r"12 blocks, but called .* 0 times.*fused_attn=False"):
        slow.trace(pictures(tiny), attention=attention)  # type: ignore[arg-type]
    torch.testing.assert_close(slow.trace(pictures(tiny), attention=None).cls, tiny.trace(pictures(tiny)).cls)


def test_one_unfused_block_raises_too() -> None:
    mixed = backbone(TINY)
    mixed.module.blocks[3].attn.fused_attn = False  # type: ignore[index,union-attr]
    with pytest.raises(CaptureError, match="11 times"):
        mixed.trace(pictures(mixed))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("all", tuple(range(12))),
        (3, (3,)),
        (-1, (11,)),
        ([0, -2], (0, 10)),
        ((5, 5, -7), (5,)),
        (range(8, 12), (8, 9, 10, 11)),
    ],
)
def test_chosen_layers_are_those_of_the_whole_trace(tiny: Backbone, layers, expected: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    whole = tiny.trace(pictures(tiny), attention="full")
    part = tiny.trace(pictures(tiny), layers=layers, attention="full")
    assert part.layers == expected
    for name in ("attention", "patches", "cls"):
        torch.testing.assert_close(getattr(part, name), getattr(whole, name)[:, list(expected)], atol=1e-9, rtol=0)
    torch.testing.assert_close(part.embedding, whole.embedding)


@pytest.mark.parametrize("layers", [12, -13, [0, 12], [], "last", True, 1.5, [0.0]])
def test_layers_that_do_not_exist(tiny: Backbone, layers, unchecked: None) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises((ValueError, TypeError), match=r"blocks 0 to 11|must be 'all'|not iterable"):
        tiny.trace(pictures(tiny), layers=layers)


def test_intermediate_tokens_are_the_blocks_outputs_after_the_final_norm(tiny: Backbone) -> None:
    seen: list[Tensor] = []
    handle = tiny.module.blocks[4].register_forward_hook(lambda _, __, out: seen.append(out))  # type: ignore[index,union-attr]
    trace = tiny.trace(pictures(tiny), layers=4)
    handle.remove()
    expected = tiny.module.norm(seen[0])  # type: ignore[operator]
    torch.testing.assert_close(trace.patches[:, 0], expected[:, 1:], atol=1e-9, rtol=0)
    assert trace.cls is not None
    torch.testing.assert_close(trace.cls[:, 0], expected[:, 0], atol=1e-9, rtol=0)


def test_registers_are_no_patches() -> None:
    model = backbone("vit_small_patch14_reg4_dinov2")
    trace = model.trace(pictures(model))
    tokens = model.module.forward_features(normalised(model, pictures(model)))  # type: ignore[operator]
    assert (model.prefix, trace.prefix, trace.patches.shape[2], tokens.shape[1]) == (5, 5, 48, 53)
    torch.testing.assert_close(trace.patches[:, -1], tokens[:, 5:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("grad", [True, False])
def test_grad_is_what_was_asked_for(tiny: Backbone, grad: bool) -> None:
    trace = tiny.trace(pictures(tiny), grad=grad)
    for tensor in (trace.embedding, trace.cls, trace.patches, trace.attention):
        assert tensor is not None
        assert tensor.requires_grad == grad


def with_dropout(module: nn.Module) -> None:
    module.blocks[3].attn.proj_drop.p = 0.1  # type: ignore[index, union-attr]


def with_drop_path(module: nn.Module) -> None:
    module.blocks[0].drop_path1 = DropPath(0.1)  # type: ignore[index]


def with_batch_norm(module: nn.Module) -> None:
    module.patch_embed.norm = nn.BatchNorm1d(4)  # type: ignore[union-attr]


@pytest.mark.parametrize("change", [with_dropout, with_drop_path, with_batch_norm])
def test_a_module_in_training_mode_is_told_unless_it_is_trained(change) -> None:  # type: ignore[no-untyped-def]
    model = load_backbone(TINY, source="random", image_size=32, device="cpu")
    images = torch.rand(1, 3, 32, 32)
    expected = model.trace(images).patches
    model.module.train()
    assert torch.equal(model.trace(images).patches, expected), "nothing in it is random"
    change(model.module)
    for look in (
        model.trace,
        lambda x: compare(model, x[0], "none"),
        lambda x: attribute(model, x, method="occlusion"),
    ):
        with pytest.raises(ValueError, match=r"training mode.*backbone.module.eval\(\)"):
            look(images)
    assert model.module.training, "it is the user's"
    assert model.trace(images, grad=True).embedding.requires_grad
    model.module.eval()
    model.trace(images)


def test_what_is_made_in_inference_mode_can_be_differentiated(tiny: Backbone) -> None:
    with torch.inference_mode():
        model = load_backbone(TINY, source="random", image_size=32, device="cpu")
        images = torch.rand(1, 3, 32, 32)
        trace = model.trace(images, grad=True)
        assert torch.is_inference_mode_enabled()
    trace.embedding.square().sum().backward()
    assert model.module.blocks[0].attn.qkv.weight.grad.abs().max() > 0


@pytest.mark.parametrize("around", [nn.DataParallel, torch.compile, lambda m: nn.DataParallel(torch.compile(m))])
def test_what_only_runs_a_module_is_taken_off(tiny: Backbone, around) -> None:  # type: ignore[no-untyped-def]
    model = tiny.with_module(around(tiny.module))
    assert model.module is tiny.module
    same_backbone(model, tiny)


@pytest.mark.parametrize("average", [torch.optim.swa_utils.AveragedModel, ModelEmaV2, ModelEmaV3])
def test_what_averages_a_module_is_taken_off(tiny: Backbone, average: type) -> None:
    averaged = average(nn.DataParallel(tiny.module))
    model = tiny.with_module(averaged)
    assert model.module is averaged.module.module
    same_backbone(model, tiny)


def same_backbone(model: Backbone, tiny: Backbone) -> None:
    images = pictures(tiny, 1)
    assert torch.equal(model.trace(images).patches, tiny.trace(images).patches)
    assert state_digest(model.module.state_dict()) == state_digest(tiny.module.state_dict())


def test_bfloat16_autocast_keeps_the_softmax_in_float32(tiny: Backbone) -> None:
    model = load_backbone(TINY, source="random", image_size=(96, 128), device="cpu")
    images = pictures(tiny).float()
    with torch.autocast("cpu", torch.bfloat16):
        row, full = (model.trace(images, attention=kind).attention for kind in ("cls", "full"))  # type: ignore[arg-type]
    exact = model.trace(images).attention
    assert row is not None
    assert full is not None
    assert exact is not None
    assert row.dtype == full.dtype == torch.float32
    torch.testing.assert_close(full.sum(-1), torch.ones_like(full[..., 0]), atol=1e-6, rtol=0)
    assert 0 < (row - exact).abs().max() < 1e-3  # the blocks before did run in bfloat16


def test_pictures_of_a_batch_do_not_influence_each_other(tiny: Backbone) -> None:
    images = pictures(tiny, 3)
    alone = tiny.trace(images[1:2]).attention
    together = tiny.trace(images).attention
    assert alone is not None
    assert together is not None
    torch.testing.assert_close(together[1:2], alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 96, 128, dtype=torch.uint8), r"96 x 128 px; got torch.uint8.*divide uint8 by 255"),
        ([[0.5]], "got list"),
        (torch.zeros(3, 96, 128), r"got shape \(3, 96, 128\). Add the batch axis"),
        (torch.zeros(1, 1, 96, 128), r"got shape \(1, 1, 96, 128\)"),
        (torch.zeros(1, 96, 128, 3), r"got shape \(1, 96, 128, 3\)"),
        (torch.zeros(1, 3, 128, 96), r"got 128 x 96 px.*image_size=\(128, 96\)"),
        (torch.zeros(0, 3, 96, 128), "empty batch"),
        (torch.full((1, 3, 96, 128), torch.nan), "got values from nan to nan"),
        (torch.full((1, 3, 96, 128), 255.0), "got values from 255 to 255"),
    ],
)
def test_pictures_that_are_refused(tiny: Backbone, images, message: str, unchecked: None) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        tiny.trace(images)


def test_unknown_kind_of_attention(tiny: Backbone, unchecked: None) -> None:
    with pytest.raises(ValueError, match="'cls', 'full' or None; got 'all'"):
        tiny.trace(pictures(tiny), attention="all")  # type: ignore[arg-type]


REFUSED = {
    "resnet50": "no attention",
    "vgg11": "no attention",
    "convnext_tiny": "no attention",
    "swin_tiny_patch4_window7_224": "windows",
    "cait_xxs24_224": "across heads",
    "xcit_nano_12_p16_224": "across channels",
    "convit_tiny": "gated",
    "crossvit_tiny_240": "two token grids",
    "volo_d1_224": "neighbourhoods",
    "tiny_vit_5m_224": "windows",
    "hiera_tiny_224": "shrinks",
    "mixer_b16_224": "no attention",
    "samvit_base_patch16": "windows",
    "maxvit_tiny_tf_224": "grids that shrink",
    "tnt_s_patch16_224": "two grids",
    "qwen3_vit_88m": "wrap_backbone",
    "vit_dwee_patch16_reg1_gap_256": "difference of two softmax maps",
    "vit_dpwee_patch16_reg1_gap_256": "difference of two softmax maps",
    "nfnet_f7": "no attention",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("source", ["auto", "random"])
@pytest.mark.parametrize("name", REFUSED)
def test_other_architectures_are_refused_before_weights_are_fetched(name: str, source: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"'{name}' is not supported: .*{REFUSED[name]}.*s14, clip-b16"):
        load_backbone(name, source=source)


@pytest.mark.parametrize(
    ("name", "near"),
    [("s-14", "s14"), ("clip-b-16", "clip-b16"), ("vit_tiny_patch16_244", TINY), ("abracadabra", "Known")],
)
def test_unknown_names_bring_a_suggestion(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"unknown backbone '{name}'.*{near}.*aliases s14, clip-b16"):
        load_backbone(name)


@pytest.mark.parametrize("size", [225, (224, 230), 8, (0, 224), -224, (224, 224, 3), "224", 224.0])
def test_sizes_that_do_not_fit(size, unchecked: None) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"multiples of its patch size|whole number of pixels"):
        load_backbone(TINY, source="random", image_size=size)


def test_sizes_and_grids() -> None:
    square, wide = (load_backbone(TINY, source="random", image_size=size) for size in (64, (64, 96)))
    assert (square.image_size, square.height_width, square.grid) == (64, (64, 64), (4, 4))
    assert (wide.image_size, wide.height_width, wide.grid) == ((64, 96), (64, 96), (4, 6))
    assert load_backbone(TINY, source="random").image_size == 224
    assert (wide.depth, wide.heads, wide.dim, wide.prefix, wide.query_kind) == (12, 3, 192, 1, "class token")


def test_random_weights_are_seeded_named_and_leave_the_generator_alone() -> None:
    before = torch.get_rng_state()
    a, b, c = (load_backbone(TINY, source="random", image_size=64, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert a.sha256 == b.sha256 == state_digest(a.module.state_dict())
    assert a.sha256 != c.sha256
    assert a.source == "random weights (seed 0), untrained"
    assert not a.module.training


@pytest.mark.parametrize(("fused", "experimental"), [(False, False), (True, False), (True, True)])
def test_timm_flag_is_respected_outside_and_overruled_inside(fused: bool, experimental: bool) -> None:
    set_fused_attn(fused, experimental=experimental)
    try:
        model = load_backbone(TINY, source="random", image_size=64)
        assert (use_fused_attn(), use_fused_attn(experimental=True)) == (fused, experimental)
    finally:
        set_fused_attn(True)
    assert model.trace(torch.rand(1, 3, 64, 64)).attention is not None


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """A file as timm's hub holds them: with a classifier."""
    torch.manual_seed(0)
    state = timm.create_model(TINY).state_dict()
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    safetensors.torch.save_file(state, path)
    return path, state


def test_own_file_by_path_gives_timm_s_own_outputs(own: tuple[Path, dict[str, Tensor]]) -> None:
    path, state = own
    loaded = load_backbone(TINY, source=path, device="cpu")
    assert loaded.source.startswith("own.safetensors (own file, SHA-256 ")
    assert loaded.sha256 == state_digest(state)
    assert loaded.sha256[:12] in loaded.source
    reference = timm.create_model(TINY, num_classes=0).eval()
    reference.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith("head.")})
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    expected = reference((images - torch.tensor(loaded.mean).view(3, 1, 1)) / torch.tensor(loaded.std).view(3, 1, 1))
    torch.testing.assert_close(loaded.trace(images).embedding, expected, atol=1e-5, rtol=0)


def test_position_embedding_is_resampled_to_the_size(own: tuple[Path, dict[str, Tensor]]) -> None:
    path, state = own
    loaded = load_backbone(TINY, source=str(path), image_size=(96, 128), device="cpu")
    stored = state["pos_embed"]
    grid = stored[:, 1:].reshape(1, 14, 14, 192).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, (6, 8), mode="bicubic", antialias=True).permute(0, 2, 3, 1).reshape(1, 48, 192)
    resampled = loaded.module.state_dict()["pos_embed"]
    torch.testing.assert_close(resampled[:, 1:], expected, atol=1e-6, rtol=0)
    assert torch.equal(resampled[:, :1], stored[:, :1])


MISFITS = {
    "empty": (lambda s: {}, "no tensor of a backbone"),
    "a head alone": (lambda s: {"head.weight": s["head.weight"]}, "no tensor of a backbone"),
    "one missing": (
        lambda s: {n: t for n, t in s.items() if n != "blocks.3.mlp.fc1.bias"},
        "1 missing of 150: blocks.3.mlp.fc1.bias$",
    ),
    "one too many": (lambda s: {**s, "foo": torch.zeros(3)}, "1 unexpected: foo$"),
    "wrong shape": (
        lambda s: {**s, "blocks.0.attn.qkv.weight": torch.zeros(3, 3)},
        r"1 of another shape: blocks.0.attn.qkv.weight \(3 x 3 instead of 576 x 192\)$",
    ),
    "all of it": (
        lambda s: {"foo": torch.zeros(3), **{n: t[:1] for n, t in s.items() if "norm1" not in n}},
        r"24 missing of 150: .*norm1.bias.* and 20 more; 1 unexpected: foo; 124 of another shape: .* and 120 more$",
    ),
    "whole numbers": (
        lambda s: {**s, "norm.weight": torch.zeros(192, dtype=torch.int8)},
        r"1 not floating-point numbers: norm.weight \(torch.int8\)",
    ),
    "other patches": (
        lambda s: {**s, "patch_embed.proj.weight": torch.zeros(192, 3, 8, 8)},
        r"192 x 3 x 8 x 8 instead of 192 x 3 x 16 x 16",
    ),
    "grey pictures": (lambda s: {**s, "patch_embed.proj.weight": torch.zeros(192, 1, 16, 16)}, "192 x 1 x 16 x 16"),
    "positions": (lambda s: {**s, "pos_embed": torch.zeros(1, 190, 192)}, "do not fit"),
    "a prefix, and one missing": (
        lambda s: {f"module.{n}": t for n, t in s.items() if n != "norm.bias"},
        "150 missing of 150",
    ),
}


@pytest.mark.parametrize(
    ("prefix", "others", "said"),
    [
        ("module.", {}, r"prefix 'module.' taken off\)$"),
        (
            "teacher.backbone.",
            {"student.backbone.norm.bias": torch.ones(192), "teacher.head.weight": torch.ones(3)},
            r"prefix 'teacher.backbone.' taken off, 2 others left out\)$",
        ),
    ],
)
def test_a_common_prefix_is_taken_off_and_said(own, prefix: str, others, said: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path, state = own
    safetensors.torch.save_file({**others, **{prefix + n: t for n, t in state.items()}}, tmp_path / "p.safetensors")
    plain, prefixed = (
        load_backbone(TINY, source=file, image_size=64, device="cpu") for file in (path, tmp_path / "p.safetensors")
    )
    assert re.search(said, prefixed.source)
    assert "taken off" not in plain.source
    assert state_digest(plain.module.state_dict()) == state_digest(prefixed.module.state_dict())


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [224, 96])
@pytest.mark.parametrize(("change", "message"), MISFITS.values(), ids=MISFITS)
def test_files_that_do_not_fit(
    own: tuple[Path, dict[str, Tensor]], change, message: str, size: int, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "misfit.safetensors"
    safetensors.torch.save_file(change(own[1]), path)
    with pytest.raises(WeightsError, match=message) as error:
        load_backbone(TINY, source=path, image_size=size)
    assert f"do not fit '{TINY}'" in str(error.value)
    assert str(error.value).count("do not fit") == 1
    assert len(str(error.value)) < 2000


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("TIMM_FUSED_ATTN") is not None, reason="TIMM_FUSED_ATTN is set here already")
def test_timm_s_environment_variable_does_not_empty_the_maps() -> None:
    script = (
        "import torch, explorer; b = explorer.load_backbone('vit_tiny_patch16_224', source='random', image_size=32)\n"
        "assert b.trace(torch.rand(1, 3, 32, 32)).attention.shape == (1, 12, 3, 1, 5)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "TIMM_FUSED_ATTN": "0"})


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.parametrize("name", ["s14", "clip_b16"])
def test_a_flipped_photo_is_nearer_to_its_original_than_any_other(
    name: str, photos: Tensor, request: pytest.FixtureRequest
) -> None:
    model: Backbone = request.getfixturevalue(name)
    originals, flipped = (
        torch.cat([model.trace(x, layers=-1, attention=None).embedding for x in batch.split(8)])
        for batch in (photos, photos.flip(3))
    )
    others = F.cosine_similarity(originals[:, None], originals[None], dim=-1).fill_diagonal_(-1).amax(dim=1)
    own = F.cosine_similarity(originals, flipped, dim=-1)
    assert len(photos) >= 30
    assert (own > others).all()
    assert others.max() < 0.999  # no photo is there twice


@pytest.mark.weights
@pytest.mark.parametrize(("name", "size"), [("s14", (16, 16)), ("clip_b16", (14, 14))])
def test_real_attention_equals_timm_unfused(
    name: str, size: tuple[int, int], photo: Tensor, request: pytest.FixtureRequest
) -> None:
    model: Backbone = request.getfixturevalue(name)
    set_fused_attn(False)
    architecture = "vit_small_patch14_dinov2" if name == "s14" else "vit_base_patch16_clip_quickgelu_224"
    reference = timm.create_model(architecture, num_classes=0, img_size=224).eval()
    set_fused_attn(True)
    reference.load_state_dict(model.module.state_dict())
    seen: list[Tensor] = []
    for block in reference.blocks:
        block.attn.attn_drop.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        expected = reference(normalised(model, photo))
    full, row = model.trace(photo, attention="full"), model.trace(photo)
    assert full.grid == size
    assert full.attention is not None
    assert row.attention is not None
    torch.testing.assert_close(full.attention, torch.stack(seen, dim=1), atol=1e-5, rtol=0)
    torch.testing.assert_close(row.attention, full.attention[:, :, :, :1], atol=1e-5, rtol=0)
    torch.testing.assert_close(full.embedding, expected, atol=1e-4, rtol=0)


@pytest.mark.weights
@pytest.mark.parametrize("size", [224, 336, 448, (224, 336)])
def test_s14_at_other_sizes(size: int | tuple[int, int], s14: Backbone) -> None:
    model = load_backbone("s14", image_size=size, device="cpu")
    height, width = model.height_width
    trace = model.trace(torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)), layers=-1)
    assert trace.grid == (height // 14, width // 14)
    assert trace.attention is not None
    assert trace.attention.shape[-1] == 1 + trace.grid.patches
    assert (model.sha256, model.source) == (s14.sha256, s14.source)
    blocks = [name for name in s14.module.state_dict() if name != "pos_embed"]
    assert all(torch.equal(s14.module.state_dict()[name], model.module.state_dict()[name]) for name in blocks)


def test_the_weights_are_held_once(tmp_path: Path) -> None:
    """timm keeps what a model was loaded from, and copies of the model copy that, too."""
    file = tmp_path / "tiny.safetensors"
    safetensors.torch.save_file(load_backbone(TINY, source="random", device="cpu").module.state_dict(), file)
    loaded = load_backbone(TINY, source=file, device="cpu")
    weights = sum(tensor.nbytes for tensor in loaded.module.state_dict().values())
    assert len(pickle.dumps(loaded.module)) < 1.1 * weights
