"""Names of other programs: what they call a backbone is the same backbone, and what is no part of it is left out."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from explorer import WeightsError, load_backbone
from explorer.models import architectures, loading
from explorer.models.architectures import create
from explorer.models.backbones import Backbone
from explorer.models.checkpoints import stripped
from explorer.models.dialects import described, hits_of, is_apart
from tests.architectures import FAMILIES, normalised, peaked, skeleton

TINY = "vit_tiny_patch16_224"
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every architecture as it is, but with two blocks of 64 numbers a token."""
    for where in (architectures, loading):
        monkeypatch.setattr(where, "create", partial(create, depth=2, embed_dim=64, num_heads=2))


def opened(name: str, state: State, folder: Path, size: int = 32) -> Backbone:
    safetensors.torch.save_file(
        {n: t.detach().contiguous().clone() for n, t in state.items()}, folder / "w.safetensors"
    )
    return load_backbone(name, image_size=size, source=folder / "w.safetensors", device="cpu")


def module(name: str, size: int = 32) -> nn.Module:
    made = create(name, img_size=size, depth=2, embed_dim=64, num_heads=2)
    peaked(made, factor=3.0)
    return made


def far(backbone: Backbone, reference: Callable[[Tensor], Tensor]) -> float:
    """Largest difference of the embedding."""
    height, width = backbone.height_width
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference(normalised(backbone, images))
    assert expected.abs().max() > 0.5
    return (backbone.trace(images).embedding - expected).abs().max().item()


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


# DINOv2 with registers, as its authors publish it.


@pytest.fixture(scope="module")
def registers() -> tuple[nn.Module, State]:
    """timm's model, and the same weights under the original names; only the positions say what is added to what."""
    made = module("vit_small_patch14_reg4_dinov2", 28)
    state = dict(made.state_dict())
    shift = torch.randn(1, 1, 64, generator=torch.Generator().manual_seed(1))
    original = {name: tensor for name, tensor in state.items() if name.startswith(("blocks.", "norm.", "patch_embed."))}
    original |= {"register_tokens": state["reg_token"], "cls_token": state["cls_token"].clone()}
    original |= {"pos_embed": torch.cat([shift, state["pos_embed"]], dim=1), "mask_token": torch.zeros(1, 64)}
    with torch.no_grad():
        made.cls_token += shift  # type: ignore[operator]
    return made, original


def chunked(state: State) -> State:
    """Chunks, in which blocks keep their numbers: `blocks.1.1.norm1.weight`."""
    return {re.sub(r"^blocks\.(\d+)", lambda m: f"blocks.{m[1]}.{m[1]}", n): t for n, t in state.items()}


def sharded(state: State) -> State:
    names = {
        name: re.sub(r"^(blocks\.\d+\.)", r"_fsdp_wrapped_module.\1_checkpoint_wrapped_module.", name) for name in state
    }
    return {names[name]: tensor for name, tensor in state.items()}


ORIGINALS: dict[str, tuple[Callable[[State], State], str]] = {
    "bare": (dict, "1 other left out"),
    "teacher.backbone.": (
        lambda s: under("teacher.backbone.", s),
        "prefix 'teacher.backbone.' taken off, 1 other left out",
    ),
    "compiled and parallel": (lambda s: under("backbone.module._orig_mod.", s), "prefix 'backbone.module.' taken off"),
    "chunks": (lambda s: under("teacher.backbone.", chunked(s)), "prefix 'teacher.backbone.' taken off"),
    "sharded": (sharded, "1 other left out"),
    "without mask token": (lambda s: under("backbone.", {n: s[n] for n in s if n != "mask_token"}), "taken off\\)$"),
    "heads": (lambda s: {**s, "dino_head.mlp.0.weight": torch.zeros(2), "head.mlp.0.bias": torch.zeros(2)}, "3 others"),
}


@pytest.mark.parametrize(("written", "said"), ORIGINALS.values(), ids=ORIGINALS)
def test_dinov2_with_registers_as_it_is_published(
    written: Callable[[State], State], said: str, registers: tuple[nn.Module, State], tmp_path: Path
) -> None:
    made, original = registers
    loaded = opened("vit_small_patch14_reg4_dinov2", written(original), tmp_path, 28)
    assert re.search(said, loaded.source)
    assert far(loaded, made) <= 1e-6


def test_registers_are_never_left_out(registers: tuple[nn.Module, State], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="1 unexpected: register_tokens"):
        opened("vit_small_patch14_dinov2", under("backbone.", registers[1]), tmp_path, 28)


# Wrappers, heads, decoders and second networks around timm's own names.


@pytest.fixture(scope="module")
def tiny() -> tuple[nn.Module, State]:
    made = module(TINY)
    return made, dict(made.state_dict())


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.module.", "module._orig_mod.", "visual.trunk.", "base_encoder.", "net.student.encoder.model."]
)
def test_wrappers_in_any_nesting(prefix: str, tiny: tuple[nn.Module, State]) -> None:
    made, state = tiny
    other = {"text.transformer.weight": torch.zeros(2), prefix + "head.mlp.0.weight": torch.zeros(2)}
    found, said = stripped({**under(prefix, state), **other}, made)
    assert found.keys() == state.keys()
    assert all(found[name] is state[name] for name in state)
    assert said == f"prefix '{prefix}' taken off, 2 others left out"


BESIDE = {
    "MAE": (
        "decoder_embed.weight",
        "decoder_blocks.0.norm1.weight",
        "decoder_pos_embed",
        "mask_token",
        "decoder_pred.bias",
    ),
    "DINO": ("head.mlp.0.weight", "head.last_layer.weight_g", "head.last_layer.parametrizations.weight.original0"),
    "MoCo and classifiers": ("predictor.0.weight", "queue_ptr", "fc.weight", "classifier.bias"),
}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_what_is_no_part_of_the_backbone_is_left_out_and_said(
    beside: tuple[str, ...], prefix: str, tiny: tuple[nn.Module, State], tmp_path: Path
) -> None:
    made, state = tiny
    loaded = opened(TINY, under(prefix, {**state, **dict.fromkeys(beside, torch.zeros(2))}), tmp_path)
    assert loaded.source.endswith(f"{len(beside)} others left out)")
    assert far(loaded, made) == 0


@pytest.mark.parametrize("name", ["norm_pre.weight", "reg_token", "blocks.2.norm1.weight", "fc_norm.bias", "foo"])
def test_what_may_be_part_of_a_backbone_is_not_left_out(
    name: str, tiny: tuple[nn.Module, State], tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=f"1 unexpected: {name}$"):
        opened(TINY, under("module.", {**tiny[1], name: torch.zeros(2)}), tmp_path)


@pytest.mark.slow
def test_no_part_of_any_family_counts_as_apart() -> None:
    for name in FAMILIES.values():
        with torch.device("meta"):
            whole = create(name)
        assert [each for each in whole.state_dict() if is_apart(each)] == []


def test_of_student_and_teacher_the_teacher_is_taken(tiny: tuple[nn.Module, State]) -> None:
    made, state = tiny
    student = {name: tensor + 1 for name, tensor in state.items()}
    both = {**under("student.backbone.", student), **under("teacher.backbone.", state)}
    found, said = stripped(both, made)
    assert all(found[name] is state[name] for name in state)
    assert said == f"prefix 'teacher.backbone.' taken off, {len(state)} others left out"
    for first, second in (("base_encoder.", "momentum_encoder."), ("", "ema."), ("teacher.", "teacher_ema.")):
        with pytest.raises(
            WeightsError, match=f"2 networks that fit, with '{first}' and '{second}'.*the one that you mean"
        ):
            stripped({**under(first, state), **under(second, student)}, made)


def test_chunks_that_each_begin_at_0_are_not_guessed(tiny: tuple[nn.Module, State], tmp_path: Path) -> None:
    state = {re.sub(r"^blocks\.(\d+)", lambda m: f"blocks.{m[1]}.0", n): t for n, t in tiny[1].items()}
    with pytest.raises(WeightsError, match="24 missing of 30"):
        opened(TINY, state, tmp_path)


# Other programs' models are the oracle: what they compute is what the loaded backbone computes.

SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 256,
    "image_size": 32,
}


def first(output) -> Tensor:  # type: ignore[no-untyped-def]
    return output.last_hidden_state[:, 0]


HUGGING_FACE = {  # model, its options, timm's name, its embedding in the model's output
    "ViT": ("ViT", {**SMALL, "layer_norm_eps": 1e-6}, TINY, first),
    "DINOv2": ("Dinov2", {**SMALL, "image_size": 28, "patch_size": 14}, "vit_small_patch14_dinov2", first),
    "DINOv2, registers": (
        "Dinov2WithRegisters",
        {**SMALL, "image_size": 28, "patch_size": 14},
        "vit_small_patch14_reg4_dinov2",
        first,
    ),
    "DINOv3": (
        "DINOv3ViT",
        {**SMALL, "num_register_tokens": 4, "layer_norm_eps": 1e-5},
        "vit_small_patch16_dinov3_qkvb",
        lambda output: output.last_hidden_state[:, 5:].mean(dim=1),
    ),
    "DINOv3, gated": (
        "DINOv3ViT",
        {**SMALL, "num_register_tokens": 4, "query_bias": False, "value_bias": False, "use_gated_mlp": True}
        | {"hidden_act": "silu", "layer_norm_eps": 1e-5},
        "vit_small_plus_patch16_dinov3",
        lambda output: output.last_hidden_state[:, 5:].mean(dim=1),
    ),
    "DeiT, distilled": (
        "DeiT",
        {**SMALL, "layer_norm_eps": 1e-6},
        "deit_tiny_distilled_patch16_224",
        lambda output: output.last_hidden_state[:, :2].mean(dim=1),
    ),
    "CLIP": (
        "CLIPVision",
        {**SMALL, "patch_size": 16},
        "vit_base_patch16_clip_quickgelu_224",
        lambda output: output.pooler_output,
    ),
    "SigLIP": (
        "SiglipVision",
        {**SMALL, "patch_size": 16, "hidden_act": "gelu"},
        "vit_base_patch16_siglip_224",
        lambda output: output.pooler_output,
    ),
}


@pytest.mark.parametrize("prefix", ["", "module.vit."])
@pytest.mark.parametrize(("kind", "options", "name", "embedding"), HUGGING_FACE.values(), ids=HUGGING_FACE)
def test_hugging_face_s_names(kind: str, options, name: str, embedding, prefix: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    transformers = pytest.importorskip("transformers")
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**options)).eval()
    loosened(model)
    if prefix:  # as files have them; bare as newer versions hold them in memory
        model.save_pretrained(tmp_path)
        state = under(prefix, safetensors.torch.load_file(tmp_path / "model.safetensors"))
    else:
        state = model.state_dict()
    loaded = opened(name, state, tmp_path, options.get("image_size", 32))
    assert "Hugging Face's names translated" in loaded.source
    assert ("prefix 'module.vit.' taken off" in loaded.source) == bool(prefix)
    assert far(loaded, lambda images: embedding(model(images))) <= 1e-5


def test_torchvision_s_names(tmp_path: Path) -> None:
    model = torchvision.models.VisionTransformer(
        image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=64, mlp_dim=256, num_classes=4
    ).eval()
    loosened(model)
    model.heads = nn.Sequential()  # its own forward ends at the class token
    state = {**model.state_dict(), "heads.head.weight": torch.zeros(4, 64), "heads.head.bias": torch.zeros(4)}
    loaded = opened(TINY, state, tmp_path)
    assert "torchvision's names translated, 2 others left out" in loaded.source
    assert far(loaded, model) <= 1e-5


def loosened(model: nn.Module) -> None:
    """Every parameter matters: none is 0 or 1 any more."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def test_open_clip_s_names(tmp_path: Path) -> None:
    """timm translates them, where they begin with `visual.`; the projection into CLIP's joint space is left out."""
    made = module("vit_base_patch32_clip_quickgelu_224", 64)
    swaps = {"patch_embed.proj": "conv1", "norm_pre": "ln_pre", "blocks.": "transformer.resblocks."}
    swaps |= {".norm1": ".ln_1", ".norm2": ".ln_2", "qkv.": "in_proj_", "attn.proj": "attn.out_proj"}
    swaps |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "pos_embed": "positional_embedding"}
    original: State = {"proj": torch.zeros(64, 32)}
    for name, tensor in made.state_dict().items():
        for ours, theirs in swaps.items():
            name = name.replace(ours, theirs)
        name = re.sub(r"^norm\.", "ln_post.", name.replace("cls_token", "class_embedding"))
        original[name] = tensor.squeeze() if name in ("class_embedding", "positional_embedding") else tensor
    text = {"transformer.resblocks.0.ln_1.weight": torch.zeros(32), "logit_scale": torch.zeros(())}
    whole = {**under("visual.", original), **text}
    for state, said in (
        (whole, r"prefix 'visual.' taken off, 3 others left out\)$"),
        (under("model.module.", whole), r"prefix 'model.module.visual.' taken off, 3 others left out\)$"),
        (original, r", 1 other left out\)$"),
    ):
        loaded = opened("vit_base_patch32_clip_quickgelu_224", state, tmp_path, 64)
        assert re.search(said, loaded.source)
        assert far(loaded, made) <= 1e-6


def test_biases_that_timm_would_leave_out_are_told(tmp_path: Path) -> None:
    """The original DINOv3 holds one bias for q, k and v; timm has an architecture with and one without it."""
    name = "vit_small_patch16_dinov3"
    made = module(name)
    original = {
        n.replace("gamma_", "ls").replace("reg_token", "storage_tokens"): t for n, t in made.state_dict().items()
    }
    original = {re.sub(r"\.(ls\d)$", r".\1.gamma", n): t for n, t in original.items()}
    biases = {f"blocks.{number}.attn.qkv.bias": torch.zeros(192) for number in range(2)}
    biases["blocks.1.attn.qkv.bias"][64:128] = 1.0  # k's: softmax does not see it
    assert far(opened(name, under("backbone.", {**original, **biases}), tmp_path), made) <= 1e-6
    biases["blocks.1.attn.qkv.bias"][-1] = 1e-3
    with pytest.raises(
        WeightsError, match=r"1 biases of q and v that it lacks, such as blocks\.1\.attn\.qkv\.bias.*qkvb"
    ):
        opened(name, {**original, **biases}, tmp_path)


# What is no Vision Transformer is told by its format.

TOLD = {
    "encoder.stages.0.layers.0.dwconv.weight": "Hugging Face's names for ConvNeXt",
    "swin.encoder.layers.0.blocks.0.attention.self.relative_position_bias_table": "Hugging Face's names for a Swin",
    "resnet.encoder.stages.0.layers.0.layer.0.convolution.weight": "Hugging Face's names for a ResNet",
    "beit.encoder.layer.0.lambda_1": "Hugging Face's names for BEiT",
    "layer1.0.conv1.weight": "the names of a ResNet",
    "model.diffusion_model.input_blocks.0.0.weight": "a full Stable Diffusion checkpoint",
    "state.0.exp_avg": "the state of an optimizer",
    "blocks.0.attn.qkv.weight_scale": "quantised weights",
    "lora_unet_down_blocks_0.lora_up.weight": "an adapter for Stable Diffusion",
    "bert.embeddings.word_embeddings.weight": "the weights of a language model",
}


@pytest.mark.parametrize(("name", "what"), TOLD.items(), ids=TOLD.values())
def test_formats_are_told(name: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"do not fit '{TINY}': the file holds {what}") as error:
        opened(TINY, {name: torch.zeros(2), "x": torch.zeros(2)}, tmp_path)
    assert len(str(error.value)) < 200
    assert described(skeleton(TINY).state_dict()) is None


def test_hugging_face_s_beit_is_told_though_most_of_its_names_are_known(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.BeitModel(transformers.BeitConfig(**{**SMALL, "patch_size": 16})).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="the file holds Hugging Face's names for BEiT"):
        load_backbone(TINY, image_size=32, source=tmp_path)


@pytest.mark.timeout(20)
def test_names_that_are_made_to_take_long() -> None:
    state = {
        "a." * 500_000 + "norm.weight": torch.zeros(1),
        **{f"{n}.conv1.weight": torch.zeros(1) for n in range(2000)},
    }
    asked: list[State] = []
    assert stripped(state, skeleton(TINY), lambda tensors: bool(asked.append(tensors))) == (state, "")
    assert len(asked) <= 4
    assert hits_of(["x.norm.weight", "xnorm.weight", "norm.weight"], {"norm.weight"}) == {"x.": 1, "": 1}


def test_shapes_that_cannot_be_put_together_are_no_traceback(tmp_path: Path) -> None:
    names = ("patch_embeddings.projection.weight", "cls_token", "position_embeddings", "register_tokens")
    with pytest.raises(WeightsError, match="do not fit"):
        opened(TINY, {f"embeddings.{name}": torch.zeros(()) for name in names}, tmp_path)
