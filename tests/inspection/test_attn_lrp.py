"""AttnLRP against its rules, propagated by hand through a model without any autograd."""

import threading
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from explorer.errors import InputError
from explorer.evaluation.probes import fit_on_features
from explorer.inspection.attribution import attribute, attribution
from explorer.inspection.attribution_problem import Settings
from explorer.models.backbones import Backbone
from explorer.models.trace import Grid
from tests.architectures import backbone as architecture
from tests.architectures import normalised, pictures, shallow

PLAIN = ("vit_tiny_patch16_224", "vit_small_patch14_dinov2")  # the second with layer scale


@pytest.fixture(scope="module", params=PLAIN)
def loaded(request: pytest.FixtureRequest) -> Backbone:
    """Three blocks over 3 x 4 patches, float64."""
    return shallow(request.param, grid=(3, 4), depth=3, narrow=True)


@dataclass
class ByHand:
    """Relevance that went to nothing of the picture, by where it went."""

    gamma: float
    lost: dict[str, float] = field(default_factory=dict)

    def lose(self, what: str, relevance: Tensor) -> None:
        self.lost[what] = self.lost.get(what, 0.0) + relevance.sum().item()

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor, relevance: Tensor) -> Tensor:
        """The gamma rule, contribution by contribution, for one token after the other."""
        return torch.stack([self.token(*each, weight, bias, self.gamma) for each in zip(x, relevance, strict=True)])

    def token(self, x: Tensor, relevance: Tensor, weight: Tensor, bias: Tensor, gamma: float) -> Tensor:
        parts = torch.cat([weight * x, bias[:, None]], dim=1)  # of each output j from each input i, and from its bias
        alike = parts * parts.sum(dim=1, keepdim=True) > 0
        parts = torch.where(alike, (1 + gamma) * parts, parts)
        shares = parts * (relevance / parts.sum(dim=1))[:, None]
        self.lose("biases", shares[:, -1])
        return shares[:, :-1].sum(dim=0)

    def norm(self, x: Tensor, norm: nn.LayerNorm, relevance: Tensor) -> Tensor:
        """The deviation is a constant: a linear map of each token."""
        size = x.shape[-1]
        deviation = (x.var(dim=-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
        centring = torch.eye(size, dtype=x.dtype) - torch.full((size, size), 1 / size, dtype=x.dtype)
        rows = [
            self.token(token, part, norm.weight[:, None] * centring / by, norm.bias, 0)
            for token, by, part in zip(x, deviation, relevance, strict=True)
        ]
        return torch.stack(rows)

    def attention(self, x: Tensor, attn: nn.Module, relevance: Tensor) -> Tensor:
        """Equations 13 and 15 of the paper, head by head."""
        parts = rearrange(attn.qkv(x), "t (n h c) -> n h t c", n=3, h=attn.num_heads)
        rows, back = [], []
        for query, key, value in parts.transpose(0, 1):
            rows.append(((query * attn.scale) @ key.T).softmax(dim=-1))
            back.append(rows[-1] @ value)
        heads = torch.cat(back, dim=-1)
        relevance = self.linear(heads, attn.proj.weight, attn.proj.bias, relevance)
        found = torch.zeros_like(parts)
        for head, (query, key, value) in enumerate(parts.transpose(0, 1)):
            a, width = rows[head], value.shape[1]
            of_head = relevance[:, head * width : (head + 1) * width]
            flow = a[:, :, None] * value[None] * (of_head / back[head])[:, None]  # query, token, channel
            found[2, head] = flow.sum(dim=0) / 2
            of_rows = flow.sum(dim=2) / 2
            logits = (query * attn.scale) @ key.T
            of_logits = logits * (of_rows - a * of_rows.sum(dim=-1, keepdim=True))
            self.lose("softmax", of_rows.sum() - of_logits.sum())
            flow = query[:, None] * key[None] * attn.scale * (of_logits / logits)[:, :, None]
            found[0, head], found[1, head] = flow.sum(dim=1) / 2, flow.sum(dim=0) / 2
        return self.linear(x, attn.qkv.weight, attn.qkv.bias, rearrange(found, "n h t c -> t (n h c)"))

    def perceptron(self, x: Tensor, mlp: nn.Module, relevance: Tensor) -> Tensor:
        hidden = mlp.fc1(x)
        through = self.linear(mlp.act(hidden), mlp.fc2.weight, mlp.fc2.bias, relevance)
        return self.linear(x, mlp.fc1.weight, mlp.fc1.bias, through)  # the activation hands it on

    def picture(self, module: nn.Module, x: Tensor, toward: Tensor) -> Tensor:
        """Relevance of every normalised pixel, "3 height width"."""
        patch = module.patch_embed.proj.kernel_size[0]
        seen = rearrange(x, "c (r a) (s b) -> (r s) (c a b)", a=patch, b=patch)
        weight = module.patch_embed.proj.weight.flatten(1)
        patches = seen @ weight.T + module.patch_embed.proj.bias
        tokens = torch.cat([module.cls_token[0], patches]) + module.pos_embed[0]
        first, steps = tokens, []
        for block in module.blocks:
            for norm, part, scale in (
                (block.norm1, block.attn, block.ls1),
                (block.norm2, block.mlp, block.ls2),
            ):
                more = scale(part(norm(tokens)[None])[0])
                steps.append((norm, part, tokens, more))
                tokens = tokens + more
        embedding = module.norm(tokens)[0]
        relevance = torch.zeros_like(tokens)
        relevance[0] = embedding * toward / (embedding.norm() * toward.norm())
        relevance = self.norm(tokens, module.norm, relevance)
        for norm, part, before, more in reversed(steps):
            rule = self.attention if hasattr(part, "qkv") else self.perceptron
            inside = rule(norm(before), part, relevance * more / (before + more))
            relevance = relevance * before / (before + more) + self.norm(before, norm, inside)
        share = relevance / first
        self.lose("positions", module.pos_embed[0] * share)
        self.lose("class token", module.cls_token[0] * share[:1])
        found = self.linear(seen, weight, module.patch_embed.proj.bias, patches * share[1:])
        rows, cols = x.shape[1] // patch, x.shape[2] // patch
        return rearrange(found, "(r s) (c a b) -> c (r a) (s b)", r=rows, s=cols, a=patch, b=patch)


@torch.no_grad()
def by_hand(loaded: Backbone, image: Tensor, toward: Tensor, gamma: float) -> tuple[Tensor, dict[str, float]]:
    rules = ByHand(gamma)
    return rules.picture(loaded.module, normalised(loaded, image[None])[0], toward).sum(dim=0), rules.lost


@pytest.mark.parametrize("gamma", [0.0, 0.25])
def test_it_is_its_rules_and_what_no_pixel_has_is_accounted_for(loaded: Backbone, gamma: float) -> None:
    image, toward = pictures(loaded, 1)[0], loaded.trace(pictures(loaded, 1, seed=9)).embedding[0]
    found = attribution(loaded, image, toward, "attn_lrp", Settings(gamma=gamma))
    expected, lost = by_hand(loaded, image, toward, gamma)
    torch.testing.assert_close(found.heatmap, expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())
    assert expected.std() > 0
    assert found.absorbed == pytest.approx(sum(lost.values()), abs=1e-9)
    assert found.heatmap.sum().item() + sum(lost.values()) == pytest.approx(found.target, abs=1e-9)
    assert found.target == pytest.approx(F.cosine_similarity(loaded.trace(image[None]).embedding, toward[None]).item())
    assert min(abs(value) for value in lost.values()) > 1e-8, "each of them is tested"
    rows, cols = loaded.grid
    torch.testing.assert_close(found.by_patch().sum(), found.heatmap.sum())
    assert found.by_patch().shape == (rows, cols)


def test_towards_itself_it_shares_out_the_whole_cosine(loaded: Backbone) -> None:
    """The cosine with itself is flat; its relevance is not, as lengths are constants."""
    image = pictures(loaded, 1)[0]
    found = attribution(loaded, image, None, "attn_lrp", Settings(gamma=1.0))
    assert found.target == pytest.approx(1)
    expected, _ = by_hand(loaded, image, loaded.trace(image[None]).embedding[0], gamma=1.0)
    torch.testing.assert_close(found.heatmap, expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())


class Linear(nn.Module):
    """Its embedding is a matrix times the picture; all of its 2 x 2 tokens are alike."""

    num_prefix_tokens, global_pool = 0, "avg"

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(5, 3 * 16 * 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.weight, self.norm = nn.Parameter(weight), nn.Identity()

    def forward_intermediates(self, x: Tensor, **_: object) -> tuple[Tensor, list]:
        tokens = (x.flatten(1) @ self.weight.T)[:, None].expand(-1, 4, -1)
        return tokens, [tokens]

    def forward_head(self, x: Tensor, pre_logits: bool = True) -> Tensor:
        return x.mean(dim=1)


def test_of_a_linear_model_it_is_weight_times_value() -> None:
    module, mean, std = Linear(), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    loaded = Backbone(
        name="linear",
        source="made for this test",
        sha256="",
        module=module,
        grid=Grid(2, 2),
        depth=1,
        heads=1,
        dim=5,
        prefix=0,
        image_size=16,
        mean=mean,
        std=std,
        query_kind="mean of patches",
    )
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    toward = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0], dtype=torch.float64)
    values = (image - image.new_tensor(mean)[:, None, None]) / image.new_tensor(std)[:, None, None]
    with torch.no_grad():
        lengths = (module.weight @ values.flatten()).norm() * toward.norm()
        expected = ((toward @ module.weight / lengths).reshape(3, 16, 16) * values).sum(dim=0)
    found = attribution(loaded, image, toward, "attn_lrp")
    torch.testing.assert_close(found.heatmap, expected, rtol=1e-6, atol=1e-9)
    assert found.absorbed == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(found.by_patch()[0, 1], expected[:8, 8:].sum(), rtol=1e-6, atol=1e-9)


def test_towards_a_probe_s_class_its_sum_is_the_logit_but_for_what_is_absorbed(loaded: Backbone) -> None:
    """Relevance is linear in the score: that of a class is that of the direction of its row, by its length."""
    image = pictures(loaded, 1)[0]
    features = torch.randn(12, loaded.dim, generator=torch.Generator().manual_seed(2)).numpy()
    probe = fit_on_features("linear", features, ["cat", "dog", "frog"] * 4)
    scaler, model = probe.estimator[0], probe.estimator[-1]
    row = torch.from_numpy(model.coef_[1] / scaler.scale_)
    found = attribution(loaded, image, (probe, "dog"), "attn_lrp")
    length = loaded.trace(image[None]).embedding.norm() * row.norm()
    torch.testing.assert_close(found.heatmap, length * attribute(loaded, image, row, "attn_lrp"), rtol=1e-6, atol=1e-9)
    assert found.heatmap.sum().item() + found.absorbed == pytest.approx(found.target)


def test_what_has_no_rule_is_refused_by_name_with_what_to_take_instead() -> None:
    hybrid = architecture("vit_small_r26_s32_224", image_size=(64, 96))
    with pytest.raises(InputError, match=r"no rule for 'group_norm', which 'vit_small_r26.*'integrated_gradients' or"):
        attribute(hybrid, pictures(hybrid, 1)[0], torch.ones(hybrid.dim), "attn_lrp")


def test_gradient_checkpointing_changes_nothing(loaded: Backbone) -> None:
    image, toward = pictures(loaded, 1)[0], torch.arange(loaded.dim).double()
    expected = attribute(loaded, image, toward, "attn_lrp")
    loaded.module.set_grad_checkpointing(True)  # type: ignore[operator]
    try:
        assert torch.equal(attribute(loaded, image, toward, "attn_lrp"), expected)
        assert loaded.module.grad_checkpointing
    finally:
        loaded.module.set_grad_checkpointing(False)  # type: ignore[operator]


def test_other_threads_keep_their_gradients(loaded: Backbone) -> None:
    """Saliency and AttnLRP of one model at the same time, each as it is alone."""
    image, toward = pictures(loaded, 1)[0], torch.arange(loaded.dim).double()
    methods = ["attn_lrp", "saliency"] * 3
    expected = {method: attribute(loaded, image, toward, method) for method in set(methods)}
    found: list[tuple[str, Tensor]] = []
    threads = [
        threading.Thread(target=lambda method=method: found.append((method, attribute(loaded, image, toward, method))))
        for method in methods
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(method for method, _ in found) == sorted(methods)
    for method, heatmap in found:  # a thread's sums may be cut in other parts than those of the main one
        most = expected[method].abs().max().item()
        torch.testing.assert_close(heatmap, expected[method], rtol=0, atol=1e-9 * most)
