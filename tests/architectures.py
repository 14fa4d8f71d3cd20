"""Untrained models with peaked attention, and what timm itself says about them with fused attention switched off."""

from typing import Any

import timm
import torch
from timm.layers.config import set_fused_attn
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from explorer.backbones import Backbone, load_backbone

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
            if "attn" in name and any(part in name for part in ("qkv.w", "q_proj.w", "k_proj.w", ".q.w", ".kv.w")):
                parameter.mul_(factor)
            elif not parameter.any():  # biases, tables of relative positions
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
            elif name.endswith("gamma") or ".gamma_" in name:  # layer scale starts at 1e-5, which hides the blocks
                parameter.fill_(0.5)


def backbone(name: str, **arguments: Any) -> Backbone:
    """The architecture with random, peaked weights in float64, for 6 x 8 patches unless told otherwise."""
    patch, _ = ARCHITECTURES[name]
    arguments = {"image_size": (SIZE[0] * patch, SIZE[1] * patch), "device": "cpu", **arguments}
    loaded = load_backbone(name, source="random", **arguments)
    peaked(loaded.module)
    return loaded.with_module(loaded.module.double())


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
    seen: list[Tensor] = []
    handles = [
        block.attn.attn_drop.register_forward_hook(lambda _, __, output: seen.append(output))
        for block in module.blocks  # type: ignore[union-attr]
    ]
    module.forward_features(x)  # type: ignore[operator]
    for handle in handles:
        handle.remove()
    return seen


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
