"""Untrained models with peaked attention, and what timm itself says about them with fused attention switched off."""

import copy
from typing import Any

import timm
import torch
from timm.layers.config import set_fused_attn
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from explorer.models.architectures import create, patch_of, skeleton
from explorer.models.backbones import Backbone
from explorer.models.loading import _wrap, load_backbone
from explorer.models.trace import Trace
from explorer.models.weights import LoadedWeights

ARCHITECTURES = {  # timm name -> (patch, tokens before the patches)
    "vit_tiny_patch16_224": (16, 1),
    "deit_tiny_distilled_patch16_224": (16, 2),
    "deit3_small_patch16_224": (16, 1),
    "vit_small_patch14_dinov2": (14, 1),
    "vit_small_patch14_reg4_dinov2": (14, 5),
    "vit_small_patch16_dinov3": (16, 5),
    "eva02_tiny_patch14_224": (14, 1),
    "beitv2_base_patch16_224": (16, 1),
    "vit_base_patch16_clip_quickgelu_224": (16, 1),
    "vit_base_patch16_siglip_224": (16, 0),
    "flexivit_small": (16, 1),
    "vit_relpos_small_patch16_224": (16, 0),
    "vit_small_patch16_rope_224": (16, 1),
    "vit_small_patch16_rope_mixed_224": (16, 1),
    "vit_pe_core_tiny_patch16_384": (16, 1),
    "vit_small_r26_s32_224": (32, 1),
}
FAMILIES = {  # what people call it -> one of its names
    "ViT (AugReg, ImageNet)": "vit_tiny_patch16_224",
    "ViT, mean of patches": "vit_base_patch16_gap_224",
    "ViT, shape-optimised": "vit_so150m_patch16_reg4_map_256",
    "ViT, norms after the branches": "vit_base_patch16_rpn_224",
    "ViT, two parallel attentions a block": "vit_small_patch16_18x2_224",
    "ViT, attention beside the perceptron": "vit_base_patch16_xp_224",
    "DeiT": "deit_tiny_patch16_224",
    "DeiT, distilled": "deit_tiny_distilled_patch16_224",
    "DeiT III": "deit3_small_patch16_224",
    "DINO": "vit_small_patch8_224.dino",
    "DINOv2": "vit_small_patch14_dinov2.lvd142m",
    "DINOv2, registers": "vit_small_patch14_reg4_dinov2.lvd142m",
    "DINOv3": "vit_small_patch16_dinov3.lvd1689m",
    "MAE": "vit_base_patch16_224.mae",
    "BEiT": "beit_base_patch16_224",
    "BEiT v2": "beitv2_base_patch16_224",
    "BEiT-3": "beit3_base_patch16_224",
    "EVA": "eva_large_patch14_196",
    "EVA, CLIP": "eva_giant_patch14_clip_224",
    "EVA-02": "eva02_tiny_patch14_224",
    "CLIP": "vit_base_patch32_clip_224.openai",
    "CLIP, QuickGELU": "vit_base_patch16_clip_quickgelu_224.openai",
    "SigLIP": "vit_base_patch16_siglip_224",
    "SigLIP, mean of patches": "vit_base_patch16_siglip_gap_224",
    "AIMv2": "aimv2_large_patch14_224",
    "TIPSv2": "vit_base_patch14_reg1_tipsv2",
    "RADIO": "vit_base_patch16_radio_v3",
    "FlexiViT": "flexivit_small",
    "NaFlex": "naflexvit_base_patch16_gap",
    "NaFlex, attention pooling": "naflexvit_base_patch16_map",
    "NaFlex, SigLIP 2": "naflexvit_base_patch16_siglip",
    "relative position": "vit_relpos_small_patch16_224",
    "relative position, class token": "vit_relpos_base_patch16_cls_224",
    "relative position, shared": "vit_srelpos_small_patch16_224",
    "RoPE": "vit_small_patch16_rope_224",
    "RoPE, mixed": "vit_small_patch16_rope_mixed_224",
    "RoPE, registers": "vit_medium_patch16_rope_reg1_gap_256",
    "Perception Encoder, core": "vit_pe_core_tiny_patch16_384",
    "Perception Encoder, spatial": "vit_pe_spatial_tiny_patch16_512",
    "Sapiens 2": "vit_base_patch16_sapiens2",
    "LingBot": "vit_small_patch16_lingbot",
    "ViT behind a ResNet (R26)": "vit_small_r26_s32_224",
    "ViT behind a ResNet (R50)": "vit_base_r50_s16_224",
    "MobileCLIP": "vit_base_mci_224",
    "ViTamin": "vitamin_small_224",
}
GROUPED = tuple(timm.list_models("vit_*_sapiens2"))
NO_CLASS_TOKEN = ("vit_base_patch16_siglip_224", "vit_relpos_small_patch16_224")
SIZE = (6, 8)
"""Rows and columns: pictures that are not square, and few enough tokens for every architecture to be quick."""


def peaked(module: nn.Module, factor: float = 8.0, seed: int = 0) -> None:
    """Make untrained attention far from uniform, and every parameter matter: a wrong map must look wrong.

    At random initialisation a row of attention is nearly 1/N everywhere, so that any row resembles any other.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            queries_and_keys = ("qkv.w", "q_proj.w", "k_proj.w", ".q.w", ".kv.w")
            if ("attn" in name and any(part in name for part in queries_and_keys)) or name.endswith(".in_proj.weight"):
                parameter.mul_(factor)
            elif not parameter.any():  # biases, tables of relative positions
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
            elif name.endswith("gamma") or ".gamma_" in name:  # layer scale starts at 1e-5, which hides the blocks
                parameter.fill_(0.5)


def backbone(name: str, **arguments: Any) -> Backbone:
    """The architecture with random, peaked weights in float64, for 6 x 8 patches unless told otherwise."""
    patch = patch_of(skeleton(name))
    arguments = {"image_size": (SIZE[0] * patch[0], SIZE[1] * patch[1]), "device": "cpu", **arguments}
    loaded = load_backbone(name, source="random", **arguments)
    peaked(loaded.module)
    return loaded.with_module(loaded.module.double())


def shallow(
    name: str, grid: tuple[int, int] = SIZE, depth: int = 2, narrow: bool = False, whole: Any = None
) -> Backbone:
    """The architecture as it is, but for its depth (and four heads where `narrow`): random, peaked weights, float64.

    Args:
        whole: its skeleton, where there is one already.
    """
    whole = whole or skeleton(name)
    patch, heads = patch_of(whole), whole.blocks[0].attn.num_heads if hasattr(whole.blocks[0], "attn") else 0
    size = (grid[0] * patch[0], grid[1] * patch[1])
    arguments: dict[str, Any] = {"img_size": size, "depth": depth}
    if narrow and heads > 4:
        arguments |= {"embed_dim": whole.num_features // heads * 4, "num_heads": 4}
    if name in GROUPED:  # has a list with an entry for every block
        arguments["num_kv_heads"] = [2] * depth
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = create(name, **arguments)
    peaked(module)
    return _wrap(name, module.double(), LoadedWeights(tensors={}, description="random", sha256="-"), size)


def switched(module: nn.Module) -> nn.Module:
    """A copy whose attention is timm's unfused one, without building the model once more."""
    copied = copy.deepcopy(module)
    for part in copied.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False
    return copied


def unfused(loaded: Backbone, **arguments: Any) -> nn.Module:
    """timm's own model with the same weights, whose attention is written out as softmax(q k^T)."""
    set_fused_attn(False)
    try:
        size = loaded.height_width
        module = timm.create_model(loaded.name, num_classes=0, img_size=size, **arguments).eval()
    finally:
        set_fused_attn(True)
    module.load_state_dict(loaded.module.state_dict())
    return module.double()


def pictures(loaded: Backbone, count: int = 2, seed: int = 0) -> Tensor:
    """Seeded pictures of the backbone's size, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, *loaded.height_width, generator=generator, dtype=torch.float64)


def normalised(loaded: Backbone, images: Tensor) -> Tensor:
    """What the model is fed: (x - mean) / std of each channel."""
    channels = [(images[:, c] - loaded.mean[c]) / loaded.std[c] for c in range(3)]
    return torch.stack(channels, dim=1)


def timm_attention(module: nn.Module, x: Tensor) -> list[Tensor]:
    """The softmax of each block, seen by hooks on timm's unfused attention: "batch head query token" each."""
    seen: list[list[Tensor]] = [[] for _ in module.blocks]  # type: ignore[union-attr]
    handles = [
        part.register_forward_hook(lambda _, __, output, maps=maps: maps.append(output))
        for block, maps in zip(module.blocks, seen, strict=True)  # type: ignore[arg-type]
        for name, part in block.named_modules()
        if name.endswith("attn_drop")
    ]
    module.forward_features(x)  # type: ignore[operator]
    for handle in handles:
        handle.remove()
    return [torch.cat(maps, dim=1) for maps in seen]  # parallel attentions: side by side, as heads


class Softmaxes(TorchFunctionMode):
    """Every softmax that a forward pass computes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        output = func(*args, **(kwargs or {}))
        if func in (Tensor.softmax, torch.softmax, torch.nn.functional.softmax):
            self.seen.append(output)
        return output


def differences(loaded: Backbone) -> tuple[float, float]:
    """How far maps, and tokens and embedding, of a backbone are from timm's own unfused ones, at most."""
    reference = switched(loaded.module)
    images = pictures(loaded)
    x = normalised(loaded, images)
    with torch.no_grad():
        expected = torch.stack(timm_attention(reference, x), dim=1)
        tokens = reference.forward_features(x)  # type: ignore[operator]
        embedding = reference.forward_head(tokens, pre_logits=True)  # type: ignore[operator]
    full, row = loaded.trace(images, attention="full"), loaded.trace(images, attention="cls")
    assert full.attention is not None
    assert row.attention is not None
    count = loaded.prefix + loaded.grid.patches
    assert full.attention.shape == (2, loaded.depth, loaded.heads, count, count) == expected.shape
    assert expected.amax(dim=-1).mean() > 3 / count, "rows are nearly uniform: this proves nothing"
    rows = own_row(loaded, reference, tokens, expected)
    maps = [(full.attention - expected).abs().max(), (row.attention[:, -1:] - rows).abs().max()]
    seen = torch.cat([tokens[:, : loaded.prefix], full.patches[:, -1]], dim=1)
    outputs = [(seen - tokens).abs().max(), (full.embedding - embedding).abs().max(), _cls_difference(full, tokens)]
    return max(map(float, maps)), max(map(float, outputs))


def own_row(loaded: Backbone, reference: nn.Module, tokens: Tensor, maps: Tensor) -> Tensor:
    """The last block's row that stands for the picture: "batch 1 head 1 token"."""
    if loaded.query_kind == "class token":
        return maps[:, -1:, :, :1]
    if loaded.query_kind == "mean of patches":
        return maps[:, -1:, :, loaded.prefix :].mean(dim=3, keepdim=True)
    with Softmaxes() as softmaxes:
        reference.forward_head(tokens)  # type: ignore[operator]
    (pooling,) = softmaxes.seen
    blind = loaded.prefix + loaded.grid.patches - pooling.shape[-1]  # prefix tokens that the pooling leaves out
    return torch.nn.functional.pad(pooling, (blind, 0))[:, None]


def _cls_difference(trace: Trace, tokens: Tensor) -> Tensor:
    return torch.zeros(()) if trace.cls is None else (trace.cls[:, -1] - tokens[:, 0]).abs().max()
