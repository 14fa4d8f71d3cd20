"""NaN and infinite values: refused where weights are loaded, an error where a model makes them, and never drawn."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from explorer import (
    CaptureError,
    PairError,
    WeightsError,
    alignment,
    attribute,
    compare,
    distortion,
    embed,
    load_backbone,
    load_pair,
    metrics,
    pca_rgb,
)
from explorer.inspection.comparison import Comparison, assemble
from explorer.inspection.recovery import Recovery
from explorer.models.backbones import Backbone
from explorer.models.pairs import make_card, write_pair
from explorer.models.weights import first_broken
from explorer.plots.panes import plot_panes
from explorer.scenes import inspection as scene
from tests.analysis.test_maps import made
from tests.models.test_wrapping import OwnViT, wrap
from tests.small import NOISE, SIZE, network, picture_set

TINY = "vit_tiny_patch16_224"
broken_by = pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf], ids=str)


@pytest.fixture(scope="module")
def sound() -> Backbone:
    return network(0)


def changed(backbone: Backbone, change: Callable[[nn.Module], object]) -> Backbone:
    """A copy of a backbone whose module was changed after it was loaded."""
    module = copy.deepcopy(backbone.module)
    with torch.no_grad():
        change(module)
    return backbone.with_module(module)


def pictures(count: int = 2, side: int = SIZE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


# Where weights are loaded.


@pytest.mark.parametrize(
    ("name", "value"), [("blocks.3.mlp.fc1.weight", torch.nan), ("pos_embed", torch.inf), ("norm.bias", -torch.inf)]
)
def test_a_checkpoint_is_refused_by_its_first_broken_tensor(
    sound: Backbone, tmp_path: Path, name: str, value: float
) -> None:
    state = {key: tensor.clone() for key, tensor in sound.module.state_dict().items()}
    state[name].view(-1)[-1] = value
    safetensors.torch.save_file(state, tmp_path / "mine.safetensors")
    for size in (SIZE, 2 * SIZE):
        with pytest.raises(WeightsError, match=rf"broken: '{name}' holds NaN or infinite .*mine\.safetensors"):
            load_backbone(TINY, image_size=size, source=tmp_path / "mine.safetensors", device="cpu", grid=(2, 2))


def test_what_does_not_fit_into_single_precision_is_broken(sound: Backbone, tmp_path: Path) -> None:
    state = {key: tensor.double() for key, tensor in sound.module.state_dict().items()}
    state["norm.weight"][0] = 1e300
    safetensors.torch.save_file(state, tmp_path / "wide.safetensors")
    with pytest.raises(WeightsError, match=r"'norm\.weight'"):
        load_backbone(TINY, image_size=SIZE, source=tmp_path / "wide.safetensors", device="cpu")


def test_what_is_left_out_may_be_broken(sound: Backbone, tmp_path: Path) -> None:
    state = {**sound.module.state_dict(), "head.weight": torch.full((10, 192), torch.nan), "head.bias": torch.zeros(10)}
    safetensors.torch.save_file(state, tmp_path / "head.safetensors")
    loaded = load_backbone(TINY, image_size=SIZE, source=tmp_path / "head.safetensors", device="cpu")
    assert torch.equal(loaded.trace(pictures()).embedding, sound.trace(pictures()).embedding)


def test_a_student_is_refused(sound: Backbone, tmp_path: Path) -> None:
    card = make_card(sound, distortion(NOISE), config={"trainable": "all"}, metrics={}, step=1, data={})
    state = {key: tensor.clone() for key, tensor in sound.module.state_dict().items()}
    state["norm.weight"][0] = torch.nan
    write_pair(tmp_path, state, card, [])
    with pytest.raises(PairError, match=r"'norm\.weight' holds"):
        load_pair(tmp_path, teacher=sound)


@broken_by
def test_an_own_module_is_refused(value: float) -> None:
    module = OwnViT()
    with torch.no_grad():
        module.layers[1].mlp[0].weight[0, 0] = value  # type: ignore[index,union-attr]
    with pytest.raises(WeightsError, match=r"'layers\.1\.mlp\.0\.weight' holds NaN or infinite values \(own:OwnViT"):
        wrap(module)


def test_masks_are_no_broken_weights() -> None:
    module = OwnViT()
    module.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))
    module.register_buffer("count", torch.tensor(3))
    module.register_buffer("nothing", torch.zeros(0))
    wrap(module)
    assert module.mask is not None
    for value in (torch.nan, torch.inf):
        module.mask[0, 0] = value  # type: ignore[operator]
        assert first_broken(module) == "mask"


# Where a model makes them.


def overflowing(module: nn.Module) -> None:
    module.blocks[5].mlp.fc2.weight.mul_(1e38).mul_(100)  # type: ignore[union-attr,index,operator]
    module.blocks[5].mlp.fc2.weight.clamp_(-3e38, 3e38)  # type: ignore[union-attr,index,operator]


@pytest.mark.parametrize("layers", ["all", -1, [2, 7]])
@pytest.mark.parametrize("attention", ["cls", "full", None])
def test_an_overflow_names_its_block(sound: Backbone, layers: object, attention: object) -> None:
    with pytest.raises(CaptureError, match=f"'{TINY}' computed values that are not finite, from block 5 on"):
        changed(sound, overflowing).trace(pictures(), layers=layers, attention=attention)  # type: ignore[arg-type]


def test_half_precision_overflows_where_bfloat16_does_not(sound: Backbone) -> None:
    def large(module: nn.Module) -> None:
        module.blocks[2].mlp.fc2.bias.fill_(7e4)  # type: ignore[union-attr,index,operator]

    narrow = changed(changed(sound, lambda module: module.half()), lambda module: None)
    assert narrow.trace(pictures()).embedding.isfinite().all()
    wide = changed(sound, large)
    assert changed(wide, lambda module: module.bfloat16()).trace(pictures()).embedding.isfinite().all()
    with torch.autocast("cpu", dtype=torch.float16), pytest.raises(CaptureError, match=r"block 2 on.*float16 ends at"):
        changed(sound, lambda module: module.blocks[2].mlp.fc2.weight.fill_(2e4)).trace(pictures())  # type: ignore
    with pytest.raises(CaptureError, match=r"weights are broken \(first 'blocks\.2\.mlp\.fc2\.bias'\)"):
        changed(wide, lambda module: module.half()).trace(pictures())


def test_one_broken_patch_is_enough(sound: Backbone) -> None:
    """The class token, and with it the embedding, may be sound: nothing attends to what the last block leaves."""

    def last(module: nn.Module) -> None:
        spoil = torch.zeros(1, 5, 1)
        spoil[0, 3] = torch.nan
        module.blocks[-1].register_forward_hook(lambda _, __, out: out + spoil)  # type: ignore[union-attr,index]

    with pytest.raises(CaptureError, match="from block 11 on"):
        changed(sound, last).trace(pictures(), attention=None)


def test_an_embedding_by_itself() -> None:
    backbone = wrap(OwnViT(), embed=lambda module, tokens: tokens[:, 0] / (tokens[:, 0] * 0).abs().amax())
    with pytest.raises(CaptureError, match="in its embedding alone"):
        backbone.trace(torch.rand(1, 3, 32, 48))


def test_weights_that_broke_later_are_named(sound: Backbone) -> None:
    damaged = changed(sound, lambda module: module.norm.weight.fill_(torch.nan))  # type: ignore[union-attr,operator]
    for work in (
        lambda: compare(damaged, pictures()[0], NOISE),
        lambda: compare(sound, pictures()[0], NOISE, damaged),
        lambda: attribute(damaged, pictures()[0], method="occlusion"),
        lambda: Recovery(damaged, pictures()[0], NOISE),
    ):
        with pytest.raises(CaptureError, match=r"weights are broken \(first 'norm\.weight'\)"):
            work()


def test_broken_features_are_not_kept(sound: Backbone, tmp_path: Path) -> None:
    images = picture_set(tmp_path / "pictures", per_class=1)
    with pytest.raises(CaptureError, match="from block 5 on"):
        embed(changed(sound, overflowing), images, cache=tmp_path / "kept")
    assert not list((tmp_path / "kept").glob("*/about.json"))


def test_a_loss_may_see_them(sound: Backbone) -> None:
    """Training notices by its loss, and a step that scales gradients passes over them."""
    trace = changed(sound, overflowing).trace(pictures(), grad=True)
    assert trace.embedding.isnan().any()
    assert trace.embedding.requires_grad


@pytest.mark.parametrize("fill", [0.0, 1.0, 0.5])
def test_what_is_only_dull_goes_on(sound: Backbone, fill: float) -> None:
    even = changed(sound, lambda module: [block.attn.qkv.weight.zero_() for block in module.blocks])  # type: ignore
    nothing = changed(sound, lambda module: [parameter.zero_() for parameter in module.parameters()])
    patch = load_backbone(TINY, image_size=16, source="random", device="cpu")
    for backbone in (sound, even, nothing, patch):
        seen = compare(backbone, torch.full((3, *backbone.height_width), fill), "none")
        assert seen.alignments["teacher"].attention_js == pytest.approx(0, abs=1e-6)
        json.dumps([scene.attention_scene(seen), scene.patch_scene(seen)], allow_nan=False)


# Numbers and maps.


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_number_of_what_is_not_finite_is_none(value: float) -> None:
    """That of the other picture stays what it was."""
    a, b = made(0), made(1)
    assert b.attention is not None
    spoilt = replace(b, **{name: getattr(b, name).clone() for name in ("embedding", "patches", "attention")})
    for name in ("embedding", "patches", "attention"):
        getattr(spoilt, name)[0] = value
    exact = alignment(a, b).per_image
    for first, second in ((a, spoilt), (spoilt, a), (spoilt, spoilt)):
        numbers = alignment(first, second)
        for name, values in numbers.per_image.items():
            assert not values[0].isfinite(), name
            if first is a:
                assert values[1] == exact[name][1]
        assert not any(map(np.isfinite, numbers.as_dict().values()))  # type: ignore[arg-type]
        assert set(numbers.as_json().values()) == {None}
    with pytest.raises(ValueError, match="the patches hold NaN or infinite"):
        pca_rgb(a, spoilt)


def test_numbers_that_are_finite_are_sent_as_they_are() -> None:
    numbers = alignment(made(0), made(1))
    assert numbers.as_json() == numbers.as_dict()
    bare = alignment(replace(made(0), attention=None), made(1))
    assert bare.as_json() == bare.as_dict()
    assert bare.as_json()["attention_js"] is None
    assert alignment(made(0), made(0)).as_json()["attention_js"] == 0


@broken_by
def test_no_set_of_patches_holds_the_mass_of_nan(value: float) -> None:
    maps = torch.ones(2, 3, 4)
    maps[1, 2, 3] = value
    with pytest.raises(ValueError, match="the maps hold NaN or infinite values"):
        metrics.top_mass(maps)
    assert metrics.top_mass(torch.zeros(1, 3, 4), 1.0).all()  # nothing at all is still a map


def seen(sound: Backbone, **spoilt: float) -> Comparison:
    """A comparison whose distorted view was spoilt by hand: no model gives such a trace."""
    whole = compare(sound, pictures()[0], "none")
    trace = whole.views["teacher_distorted"].trace
    tensors = {name: getattr(trace, name).clone() for name in spoilt}
    for name, value in spoilt.items():
        tensors[name].view(-1)[-1] = value
    views = {name: whole.views[name] for name in ("teacher_clean", "teacher_distorted")}
    views["teacher_distorted"] = replace(views["teacher_distorted"], trace=replace(trace, **tensors))
    return assemble(whole.clean, whole.distorted, views, whole.distortion, 0)


@broken_by
def test_no_map_of_nan_reaches_the_browser(sound: Backbone, value: float) -> None:
    for broken, draw in (
        (seen(sound, attention=value), scene.attention_scene),
        (seen(sound, patches=value), scene.patch_scene),
    ):
        with pytest.raises(ValueError, match=r"NaN (or|and) infinite values"):
            draw(broken)
    moment = Recovery(sound, pictures()[0], "none").reference
    for name in ("attention", "patches"):
        tensor = getattr(moment, name).clone()
        tensor[-1, -1] = value
        with pytest.raises(ValueError, match="NaN and infinite values cannot be drawn"):
            scene.moment_scene(replace(moment, **{name: tensor}))


@broken_by
def test_numbers_of_nan_are_sent_as_null(sound: Backbone, value: float) -> None:
    broken = seen(sound, embedding=value)
    numbers = json.loads(json.dumps([scene.attention_scene(broken)["numbers"], broken.numbers()], allow_nan=False))
    assert numbers[0]["teacher"]["cls_cosine"] is None
    assert numbers[1]["teacher"]["cls_cosine"] is None
    assert numbers[0]["teacher"]["patch_cosine"] == pytest.approx(1)


def test_panes_have_the_scale_of_what_is_finite() -> None:
    picture, lost = pictures(1)[0], torch.full((2, 2), torch.nan)
    known = torch.tensor([[0.1, torch.nan], [torch.inf, 0.7]])
    for panes in ({"lost": (picture, lost), "known": (picture, known)}, {"known": (picture, known)}):
        assert plot_panes(panes).axes[-1].get_ylim() == pytest.approx((0, 0.7))
    assert plot_panes({"lost": (picture, lost)}).axes[-1].get_ylim() == (0, 1)
