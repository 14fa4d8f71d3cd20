"""Interventions against a forward pass that is written out, and against timm's unfused attention; and that nothing of
them is left, here or in other threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import explorer as ex
from explorer.inspection.intervening import KINDS, ActivationPatching, kinds_of
from explorer.models.backbones import CaptureError
from tests.architectures import ARCHITECTURES, FAMILIES, normalised, pictures, shallow, switched
from tests.models.test_wrapping import OwnViT, wrap
from tests.models.test_wrapping import pictures as own_pictures

PARALLEL = FAMILIES["ViT, two parallel attentions a block"]
REGISTERS = "vit_small_patch14_reg4_dinov2"
PATCHES = ((0, 0), (2, 5), (5, 7))


def parts_of(layer: int) -> list[ex.Part]:
    return [
        ex.Part("head", layer, 2),
        ex.Part("attention", layer),
        ex.Part("mlp", layer),
        ex.Part("class token", layer),
        ex.Part("registers", layer),
        ex.Part("patches", layer, patches=PATCHES),
    ]


@pytest.fixture(scope="module")
def registers() -> ex.Backbone:
    return shallow(REGISTERS, depth=3)


def by_hand(loaded: ex.Backbone, images: Tensor, change: Callable[[str, int, Tensor], Tensor]) -> Tensor:
    """A DINOv2 forward pass, written out; `change` is given all that can be replaced: (what, block, values)."""
    module, x = loaded.module, normalised(loaded, images)
    x = module._pos_embed(module.patch_embed(x))  # type: ignore[operator]
    for number, block in enumerate(module.blocks):  # type: ignore[arg-type]
        batch, count, width = x.shape
        q, k, v = (
            block.attn.qkv(block.norm1(x)).reshape(batch, count, 3, loaded.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        )
        heads = change("heads", number, (q @ k.mT / (width // loaded.heads) ** 0.5).softmax(dim=-1) @ v)
        x = x + block.ls1(block.attn.proj(heads.transpose(1, 2).reshape(batch, count, width)))
        x = x + block.ls2(change("mlp", number, block.mlp(block.norm2(x))))
        x = change("tokens", number, x)
    return module.norm(x)[:, 0]  # type: ignore[operator]


WHERE = {
    "head": ("heads", [2]),
    "attention": ("heads", slice(None)),
    "mlp": ("mlp", slice(None)),
    "class token": ("tokens", [0]),
    "registers": ("tokens", [1, 2, 3, 4]),
    "patches": ("tokens", [5 + row * 8 + col for row, col in PATCHES]),
}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_as_a_forward_pass_that_is_written_out(registers: ex.Backbone, kind: str) -> None:
    (part,) = (part for part in parts_of(1) if part.kind == kind)
    images, others = pictures(registers), pictures(registers, seed=1)
    what, where = WHERE[kind]
    kept: dict[str, Tensor] = {}

    def keep(at: str, number: int, values: Tensor) -> Tensor:
        kept.update({at: values} if number == 1 else {})
        return values

    def replacing(new: Tensor) -> Callable[[str, int, Tensor], Tensor]:
        def change(at: str, number: int, values: Tensor) -> Tensor:
            if (at, number) == (what, 1):
                values = values.clone()
                values[:, where] = new
            return values

        return change

    plain = by_hand(registers, images, keep)
    torch.testing.assert_close(registers.trace(images).embedding, plain)
    here = kept[what][:, where].flatten(1)
    moments = here.mean(dim=1), here.std(dim=1)
    by_hand(registers, others, keep)
    there = kept[what][:, where]
    for by, new, given in (
        ("zero", torch.zeros((), dtype=torch.float64), None),
        ("pictures", there, others),
        ("mean", there.mean(dim=0, keepdim=True), others),
    ):
        expected = by_hand(registers, images, replacing(new))
        assert (expected - plain).abs().max() > 1e-3, "it makes no difference: this proves nothing"
        for attention in (None, "cls", "full"):
            with ex.intervene(registers, part, by, given) as changed:
                found = changed.trace(images, attention=attention).embedding
            torch.testing.assert_close(found, expected, msg=f"{part} by {by}, attention={attention}")
    seen: list[Tensor] = []
    with ex.intervene(registers, part, "noise"), _overheard(registers, kind, seen):
        registers.trace(images)
    if kind not in ("head", "attention"):  # what is put in the place of those is not overheard
        drawn = seen[0][:, where].flatten(1)
        torch.testing.assert_close(drawn.mean(dim=1), moments[0], atol=0.1 * float(moments[1].max()) + 0.05, rtol=0.3)
        torch.testing.assert_close(drawn.std(dim=1), moments[1], atol=0, rtol=0.3)


def _overheard(loaded: ex.Backbone, kind: str, seen: list[Tensor]):  # type: ignore[no-untyped-def]
    block = loaded.module.blocks[1]  # type: ignore[index]
    return (block.mlp if kind == "mlp" else block).register_forward_hook(lambda _, __, output: seen.append(output))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224", "vit_base_patch16_siglip_224"])
def test_what_is_replaced_by_itself_changes_nothing_bit_for_bit(name: str) -> None:
    loaded = shallow(name, depth=2, narrow=True)
    loaded = loaded.with_module(loaded.module.float())
    images = pictures(loaded).float()
    for attention in (None, "cls", "full"):
        plain = loaded.trace(images, attention=attention)
        for part in parts_of(1):
            if part.kind == "registers" or (part.kind == "class token" and plain.cls is None):
                continue
            with ex.intervene(loaded, part, "pictures", images, attention=attention):
                same = loaded.trace(images, attention=attention)
            assert torch.equal(same.embedding, plain.embedding), f"{part}, attention={attention}"
            assert torch.equal(same.patches, plain.patches)
            assert plain.attention is None or torch.equal(same.attention, plain.attention)  # type: ignore[arg-type]


@torch.no_grad()
def test_heads_of_parallel_attentions_are_the_maps_that_stand_there() -> None:
    """Their heads are set to zero in timm's own unfused model, whose projections are given none of them."""
    loaded = shallow(PARALLEL, depth=2)
    images = pictures(loaded)
    for head in (1, loaded.heads // 2 + 1):
        with ex.intervene(loaded, ex.Part("head", 1, head)):
            found = loaded.trace(images).embedding
        reference = switched(loaded.module)
        branch, place = divmod(head, loaded.heads // 2)
        attention = reference.blocks[1].attns[branch].attn  # type: ignore[index]
        width = attention.head_dim
        attention.proj.weight[:, place * width : (place + 1) * width] = 0
        x = reference.forward_features(normalised(loaded, images))  # type: ignore[operator]
        torch.testing.assert_close(found, reference.forward_head(x, pre_logits=True))  # type: ignore[operator]


def test_nothing_is_left_and_nobody_else_sees_it(registers: ex.Backbone) -> None:
    images = pictures(registers)
    plain = registers.trace(images)
    before = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in registers.module.modules()]
    with ThreadPoolExecutor(1) as other, ex.intervene(registers, parts_of(0)):
        assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in registers.module.modules()] == before
        elsewhere = other.submit(registers.trace, images).result()
        assert not torch.equal(registers.trace(images).embedding, plain.embedding)
    assert torch.equal(elsewhere.embedding, plain.embedding)
    with pytest.raises(ZeroDivisionError), ex.intervene(registers, parts_of(0)):
        _ = 1 / 0
    assert torch.equal(registers.trace(images).embedding, plain.embedding)
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_an_attribution_that_would_not_see_it_is_refused(registers: ex.Backbone) -> None:
    with ex.intervene(registers, parts_of(0)), pytest.raises(ValueError, match=r"outside of intervene\(\)"):
        ex.attribute(registers, pictures(registers)[0], method="occlusion")


def test_several_at_once_and_one_inside_of_another(registers: ex.Backbone) -> None:
    images, others = pictures(registers), pictures(registers, seed=1)
    first, second = ex.Part("head", 1, 0), ex.Part("head", 1, 3)
    with ex.intervene(registers, [first, second], "pictures", others):
        together = registers.trace(images)
    with ex.intervene(registers, first, "pictures", others), ex.intervene(registers, second, "pictures", others):
        nested = registers.trace(images, attention="full")
    torch.testing.assert_close(nested.embedding, together.embedding)


def test_noise_of_a_picture_depends_on_its_place_and_the_seed_alone(registers: ex.Backbone) -> None:
    images = pictures(registers)
    found = []
    for batch, seed in ((images, 0), (images[:1], 0), (images[:1], 1)):
        with ex.intervene(registers, ex.Part("mlp", 0), "noise", seed=seed):
            found.append(registers.trace(batch).embedding[0])
    torch.testing.assert_close(found[0], found[1])
    assert (found[0] - found[2]).abs().max() > 1e-3


def test_gradients_pass_through_it(registers: ex.Backbone) -> None:
    images = pictures(registers).requires_grad_()
    with ex.intervene(registers, ex.Part("patches", 0, patches=PATCHES)):
        registers.trace(images, grad=True).embedding[:, 0].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def one_by_one(loaded: ex.Backbone, clean: Tensor, distorted: Tensor, part: ex.Part) -> float:
    target = loaded.trace(clean).embedding
    without = F.cosine_similarity(loaded.trace(distorted).embedding, target).item()
    with ex.intervene(loaded, part, "pictures", clean):
        found = F.cosine_similarity(loaded.trace(distorted).embedding, target).item()
    return (found - without) / (1 - without)


def expect_patching(found: ActivationPatching, loaded: ex.Backbone, clean: Tensor, distorted: Tensor) -> None:
    for layer in range(loaded.depth):
        for head in range(loaded.heads):
            expected = one_by_one(loaded, clean, distorted, ex.Part("head", layer, head))
            assert found.heads[layer, head].item() == pytest.approx(expected, abs=1e-6)


def test_patching_is_each_part_on_its_own(registers: ex.Backbone) -> None:
    clean, distorted = pictures(registers).split(1)
    told: list[tuple[int, int]] = []
    found = ex.activation_patching(registers, clean[0], distorted[0], lambda *each: told.append(each))
    count = registers.depth * (registers.heads + 2)
    assert told[-1] == (count, count)
    expect_patching(found, registers, clean, distorted)
    assert found.attention is not None
    assert found.mlp is not None
    for layer in range(registers.depth):
        for kind, shares in (("attention", found.attention), ("mlp", found.mlp)):
            assert shares[layer].item() == pytest.approx(
                one_by_one(registers, clean, distorted, ex.Part(kind, layer)),  # type: ignore[arg-type]
                abs=1e-6,
            )
    frame = found.frame().set_index(["kind", "layer", "head"])["share"]
    assert frame["head", 2, 1] == found.heads[2, 1]
    assert frame["mlp", 1, -1] == found.mlp[1]
    assert len(frame) == count


def test_everything_comes_back_with_all_that_the_class_token_is_made_from(registers: ex.Backbone) -> None:
    clean, distorted = pictures(registers).split(1)
    last = registers.depth - 1
    assert one_by_one(registers, clean, distorted, ex.Part("class token", last)) == pytest.approx(1)
    every = tuple((row, col) for row in range(6) for col in range(8))
    parts = [ex.Part("class token", 0), ex.Part("registers", 0), ex.Part("patches", 0, patches=every)]
    with ex.intervene(registers, parts, "pictures", clean):
        torch.testing.assert_close(registers.trace(distorted).embedding, registers.trace(clean).embedding)


def test_parallel_attentions_are_patched_head_by_head() -> None:
    loaded = shallow(PARALLEL, narrow=True)
    assert kinds_of(loaded) == ("head", "class token", "patches")
    clean, distorted = pictures(loaded).split(1)
    found = ex.activation_patching(loaded, clean[0], distorted[0])
    assert found.attention is None
    assert found.mlp is None
    assert set(found.frame()["kind"]) == {"head"}
    expect_patching(found, loaded, clean, distorted)


def test_where_nothing_is_lost_no_share_is_told(registers: ex.Backbone) -> None:
    clean = pictures(registers)[0]
    found = ex.activation_patching(registers, clean, clean)
    assert found.cosine == pytest.approx(1)
    assert found.heads.isnan().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_patching_on_many_architectures(name: str) -> None:
    loaded = shallow(name)
    clean, distorted = pictures(loaded).split(1)
    expect_patching(ex.activation_patching(loaded, clean[0], distorted[0]), loaded, clean, distorted)


def test_a_module_of_ones_own() -> None:
    loaded = wrap(OwnViT())
    clean, distorted = own_pictures().split(1)
    expect_patching(ex.activation_patching(loaded, clean[0], distorted[0]), loaded, clean, distorted)
    joined = wrap(OwnViT("module"))
    with pytest.raises(CaptureError, match="heads cannot be replaced"), ex.intervene(joined, ex.Part("head", 0, 0)):
        joined.trace(clean)
    with ex.intervene(joined, ex.Part("class token", 2), "pictures", clean):
        torch.testing.assert_close(joined.trace(distorted).embedding, joined.trace(clean).embedding)


def test_the_most_attended_patches(registers: ex.Backbone) -> None:
    trace = registers.trace(pictures(registers))
    flat = ex.attention_map(trace)[0].flatten()
    chosen = ex.most_attended(trace, 5)
    assert sorted(row * 8 + col for row, col in chosen) == sorted(flat.argsort(descending=True)[:5].tolist())
    with pytest.raises(ValueError, match="1 to 48 patches"):
        ex.most_attended(trace, 49)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("haed", 0, 1), "one of the kinds head, attention, .*got 'haed'; did you mean 'head'"),
        (("head", 0), "got head=None and 0 patches for 'head'"),
        (("patches", 0), "got head=None and 0 patches for 'patches'"),
        (("mlp", 0, 1), "got head=1 and 0 patches for 'mlp'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_parts_that_there_are_not(arguments: tuple, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ex.Part(*arguments)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((ex.Part("head", 3, 0),), "has the blocks 0 to 2"),
        ((ex.Part("head", 0, 6),), "has the heads 0 to 5"),
        ((ex.Part("patches", 0, patches=((6, 0),)),), "outside of the grid"),
        (([],), "got none"),
        ((ex.Part("mlp", 0), "zeros"), "by is one of zero, mean, noise, pictures; got 'zeros'; did you mean 'zero'"),
        ((ex.Part("mlp", 0), "mean"), "needs pictures"),
        ((ex.Part("mlp", 0), "zero", torch.zeros(1, 3, 84, 112)), "takes no pictures"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_refused(registers: ex.Backbone, arguments: tuple, told: str) -> None:
    with pytest.raises(ValueError, match=told), ex.intervene(registers, *arguments):
        pass


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused_for_other_models(registers: ex.Backbone) -> None:
    images = pictures(registers)
    some = torch.cat([images, images])[:3]
    with pytest.raises(ValueError, match="2 pictures are traced, and pictures holds 3"):  # noqa: SIM117
        with ex.intervene(registers, ex.Part("mlp", 0), "pictures", some):
            registers.trace(images)
    with pytest.raises(ValueError, match="two pictures of one size"):
        ex.activation_patching(registers, images[0], images[0, :, :-14])
    pooled = shallow("vit_base_patch16_siglip_224", narrow=True)
    with pytest.raises(ValueError, match="has no class token"), ex.intervene(pooled, ex.Part("class token", 0)):
        pass
    parallel = shallow(PARALLEL)
    with pytest.raises(ValueError, match="2 attentions a block"), ex.intervene(parallel, ex.Part("attention", 0)):
        pass
    with pytest.raises(ValueError, match="no part 'mlp'"), ex.intervene(parallel, ex.Part("mlp", 0)):
        pass


@pytest.mark.slow
@pytest.mark.weights
def test_the_real_weights(s14: ex.Backbone, photos: Tensor) -> None:
    """Through the float32 kernels, whole maps beside it."""
    noisy = ex.distortion("gaussian_noise(sigma=0.3)")(photos[:1], seed=0)
    part = ex.Part("head", 8, 3)
    target = s14.trace(photos[:1]).embedding
    with ex.intervene(s14, part, "pictures", photos[:1]):
        full, row = s14.trace(noisy, attention="full"), s14.trace(noisy)
    torch.testing.assert_close(full.embedding, row.embedding, atol=1e-4, rtol=1e-4)
    without = F.cosine_similarity(s14.trace(noisy).embedding, target)
    share = (F.cosine_similarity(row.embedding, target) - without) / (1 - without)
    found = ex.activation_patching(s14, photos[0], noisy[0])
    assert found.heads[8, 3].item() == pytest.approx(share.item(), abs=1e-4)
