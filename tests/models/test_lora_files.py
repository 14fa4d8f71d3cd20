"""peft's adapter files: merged they are what peft computes, and what is not understood is refused."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from explorer import WeightsError, load_backbone
from explorer.models import loading
from explorer.models.architectures import create
from explorer.models.backbones import Backbone
from explorer.models.lora_files import CONFIG, is_adapter, merged, read_config
from explorer.models.weights import LoadedWeights, load_file
from tests.architectures import normalised, peaked

TINY = "vit_tiny_patch16_224"
PROJECTIONS = ["qkv", "attn.proj", "fc1", "fc2"]


def network() -> nn.Module:
    torch.manual_seed(0)
    made = create(TINY, img_size=32, depth=2, embed_dim=64, num_heads=2)
    peaked(made, factor=3.0)
    return made


def trained(folder: Path, model: nn.Module, **options: Any) -> nn.Module:
    """peft's model with an adapter in which every number matters, and its files in the folder."""
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": PROJECTIONS, **options})
    adapted = peft.get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
    adapted.save_pretrained(folder)
    return adapted


def put_in(folder: Path, base: nn.Module) -> tuple[dict[str, Tensor], int]:
    return merged(dict(base.state_dict()), load_file(folder).tensors, read_config(folder))


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True},
    "patterns": {"rank_pattern": {"qkv": 2}, "alpha_pattern": {"mlp.fc1": 3, "qkv": 5}},
    "the patch embedding, too": {"target_modules": [*PROJECTIONS, "patch_embed.proj"]},
    "biases": {"bias": "lora_only"},
    "another start": {"init_lora_weights": "gaussian", "layers_to_transform": [1], "layers_pattern": "blocks"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_merged_it_computes_what_peft_computes(options: dict[str, Any], tmp_path: Path) -> None:
    adapted = trained(tmp_path, network(), **options)
    mine = network()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = mine(images)
        state, left_out = put_in(tmp_path, mine)
        mine.load_state_dict(state)
        torch.testing.assert_close(mine(images), adapted(images), atol=1e-5, rtol=0)
        assert (mine(images) - before).abs().max() > 0.1
    assert left_out == 0


def test_a_model_around_the_backbone_and_its_head(tmp_path: Path) -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.classifier = network(), nn.Linear(64, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.classifier(self.backbone(images))

    adapted = trained(tmp_path, Classifier(), modules_to_save=["classifier"])
    state, left_out = put_in(tmp_path, network())
    assert left_out == 2
    expected = adapted.merge_and_unload().backbone.state_dict()
    assert state.keys() == expected.keys()
    for name in state:
        torch.testing.assert_close(state[name], expected[name], atol=1e-6, rtol=0)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "DoRA": ({"use_dora": True}, "use_dora=True"),
    "PiSSA": ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
    "turned matrices": ({"fan_in_fan_out": True}, "fan_in_fan_out=True"),
    "another method": ({"peft_type": "LOHA"}, "peft_type='LOHA'"),
    "an option of tomorrow": ({"use_wonder": {"strength": 2}}, "use_wonder="),
    "patterns that are more than names": ({"alpha_pattern": {"(a+)+": 2}}, "alpha_pattern="),
}


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED)
def test_options_that_are_not_understood(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    trained(tmp_path, network())
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**config, **change}))
    with pytest.raises(WeightsError, match=f"not understood here .*{said}".replace("(a+)+", ".*")):
        read_config(tmp_path)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"r": 0, "lora_alpha": 1}', '{"r": 4, "lora_alpha": "x"}'])
def test_without_its_rank_and_alpha_nothing_is_guessed(content: str | None, tmp_path: Path) -> None:
    trained(tmp_path, network())
    (tmp_path / CONFIG).unlink()
    if content is not None:
        (tmp_path / CONFIG).write_text(content)
    with pytest.raises(WeightsError, match=f"'{CONFIG}' has to lie beside it"):
        load_backbone(TINY, source=tmp_path / "adapter_model.safetensors")


def test_an_adapter_for_other_weights(tmp_path: Path) -> None:
    trained(tmp_path, network())
    names = load_file(tmp_path).tensors
    config = read_config(tmp_path)
    base = dict(network().state_dict())
    other = {name.replace("blocks.", "encoder.layer."): tensor for name, tensor in names.items()}
    with pytest.raises(
        WeightsError, match=r"changes 16 tensors that they do not have, such as base_model\.model\.encoder"
    ):
        merged(base, other, config)
    with pytest.raises(
        WeightsError, match=r"'blocks.0.attn.proj.weight' has the shapes .* fit the weight's \(64, 64\)"
    ):
        merged(base, {n: t[:, :-1] if "proj.lora_A" in n else t for n, t in names.items()}, config)
    with pytest.raises(WeightsError, match=r"such as base_model\.model\.blocks\.1\.mlp\.fc2\.lora_B\.weight"):
        merged(base, {n: t for n, t in names.items() if not n.endswith("1.mlp.fc2.lora_A.weight")}, config)
    with pytest.raises(WeightsError, match="lora_magnitude_vector"):
        merged(base, {**names, "base_model.model.blocks.0.attn.qkv.lora_magnitude_vector": torch.ones(192)}, config)
    assert is_adapter(names)
    assert not is_adapter(base)


def test_a_backbone_takes_its_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights below come from where they always do; here from a file in place of timm's hub."""
    monkeypatch.setattr(loading, "create", partial(create, depth=2, embed_dim=64, num_heads=2))
    monkeypatch.setattr("explorer.models.architectures.create", loading.create)
    below = LoadedWeights(tensors=dict(network().state_dict()), description="the hub's", sha256="0")
    monkeypatch.setattr(loading, "load_from_hub", lambda *_: below)
    adapted = trained(tmp_path, network())
    loaded = load_backbone(TINY, image_size=32, source=tmp_path, device="cpu")
    assert loaded.source.endswith(", a peft adapter in the hub's)")
    assert loaded.sha256 not in ("0", load_file(tmp_path).sha256)
    check(loaded, adapted)


@pytest.mark.weights
def test_the_pinned_weights_take_an_adapter(s14: Backbone, tmp_path: Path) -> None:
    adapted = trained(tmp_path, create("vit_small_patch14_dinov2", img_size=224))
    adapted.load_state_dict(
        {
            f"base_model.model.{name}".replace(f"{part}.", f"{part}.base_layer."): tensor
            for name, tensor in s14.module.state_dict().items()
            for part in [next((p for p in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2") if f"{p}." in name), "-")]
        },
        strict=False,
    )
    loaded = load_backbone("s14", image_size=224, source=tmp_path, device="cpu")
    assert loaded.sha256 != s14.sha256
    check(loaded, adapted)


def check(loaded: Backbone, reference: nn.Module) -> None:
    height, width = loaded.height_width
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference(normalised(loaded, images))
    torch.testing.assert_close(loaded.trace(images).embedding, expected, atol=1e-4, rtol=0)


def test_the_file_alone_is_found(tmp_path: Path) -> None:
    trained(tmp_path, network())
    assert load_file(tmp_path).description.startswith(tmp_path.name)
    assert (
        safetensors.torch.load_file(tmp_path / "adapter_model.safetensors").keys() == load_file(tmp_path).tensors.keys()
    )
