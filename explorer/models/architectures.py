"""Which of timm's architectures are supported, and why the others are not: `list_backbones`, `check_supported`.

Enters: a name or a module. Leaves: names, facts that `Backbone` needs, or an `UnsupportedModelError` with the reason.
Supported is global self-attention over one token grid that goes through `F.scaled_dot_product_attention`. The built
module decides, so that a newer timm's models are judged as they are. Lists go by the file of timm that a model is
defined in, and by the few odd ones in those files: nothing is built for them. docs/backbones.csv shows, and
tests/models/test_architectures.py checks, that both say the same.
"""

from fnmatch import fnmatch
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from explorer.errors import InputError, did_you_mean
from explorer.models.readers import Calls
from explorer.models.trace import QueryKind
from explorer.models.weights import ALIASES
from explorer.system.late import Late

if TYPE_CHECKING:
    import timm
else:
    timm = Late("timm")  # takes as long as torch itself, torchvision included, which it brings along


class UnsupportedModelError(InputError):
    """The model has no global self-attention over one token grid; the message says why, and what to use instead."""


def list_backbones(filter: str = "", pretrained: bool = False) -> list[str]:
    """Names that `load_backbone` takes: the aliases, then timm's.

    Args:
        filter: a pattern such as "*dinov2*" or "clip-*"; upper and lower case are one, and "" lets all through.
        pretrained: only those with weights, under their full names such as "vit_small_patch14_dinov2.lvd142m"; those of
            aliases come from the package registry, timm's from its hub.
    """
    names = timm.list_models(pretrained=pretrained)
    supported = [name for name in names if reason_against(name) is None]
    pattern = filter.lower() or "*"
    return [name for name in [*ALIASES, *supported] if fnmatch(name.lower(), pattern)]


def is_known(name: str) -> bool:
    """Whether a name is an alias or timm's, so that `load_backbone` may find its weights; other names stand for modules
    that were wrapped.
    """
    return name in ALIASES or timm.is_model(name)


def architecture_of(name: str) -> str:
    """The timm name behind an alias or a timm name.

    Raises:
        ValueError: it is neither; names that are near are suggested.
    """
    if not isinstance(name, str):
        raise InputError(f"a backbone has a name, such as 's14'; got {name!r:.80}")
    if name in ALIASES:
        return ALIASES[name].architecture
    if timm.is_model(name):
        return name
    known = [*ALIASES, *timm.list_models()]
    hint = did_you_mean(name, known, 3, str) or did_you_mean(name.partition(".")[0], known, 3, str)
    raise InputError(
        f"unknown backbone '{name}'{hint or '.'} Known are the aliases {', '.join(ALIASES)}, "
        f"and the names of list_backbones()"
    )


def reason_against(architecture: str) -> str | None:
    """Why a timm name is not supported, as far as its name and timm's file tell; None: nothing speaks against it."""
    plain = architecture.partition(".")[0]
    home = timm.model_entrypoint(plain).__module__.rpartition(".")[2]
    odd = next((reason for pattern, reason in _ODD.items() if fnmatch(plain, pattern)), None)
    return odd if home in _HOMES else _REFUSED.get(home, _NOT_PLAIN)


def check_supported(architecture: str) -> nn.Module:
    """Tells in milliseconds whether an architecture is supported, before weights are fetched, and returns its skeleton.

    Raises:
        UnsupportedModelError: it is not.
    """
    plain = architecture.partition(".")[0]
    home = timm.model_entrypoint(plain).__module__.rpartition(".")[2]
    if home in _REFUSED:
        raise UnsupportedModelError(_refusal(architecture, _REFUSED[home]))
    module = skeleton(architecture)
    reason = reason_against_module(module)
    if reason is not None:
        raise UnsupportedModelError(_refusal(architecture, reason))
    return module


def reason_against_module(module: nn.Module) -> str | None:
    """Why a built model is not supported; None: it is."""
    blocks = getattr(module, "blocks", None)
    if not isinstance(module, _classes()) or not isinstance(blocks, nn.Sequential | nn.ModuleList):
        return _NOT_PLAIN
    if any(
        isinstance(part, timm.layers.DiffAttention) or type(part).__name__.startswith("Diff")
        for part in blocks.modules()
    ):
        return _DIFFERENCE
    odd = next((type(block).__name__ for block in blocks if not _attentions(block)), None)
    return f"its {odd} holds no attention that can be read" if odd is not None else None


def skeleton(architecture: str) -> nn.Module:
    """The architecture without storage."""
    with torch.device("meta"), Unfilled():
        return create(architecture)


def create(architecture: str, **arguments: Any) -> nn.Module:
    """A timm model without classifier, in evaluation mode, whose attention can be read.

    timm reads its flag for fused attention while a model is built. It is the whole process's: callers on several
    threads take turns.
    """
    fused, experimental = timm.layers.use_fused_attn(), timm.layers.use_fused_attn(experimental=True)
    timm.layers.config.set_fused_attn(True)  # only fused attention can be read later
    try:
        return timm.create_model(architecture, num_classes=0, **arguments).eval()
    finally:
        timm.layers.config.set_fused_attn(fused, experimental=experimental)


class Unfilled(TorchFunctionMode):
    """While it lasts, parameters are not drawn: for a model whose weights are loaded over them at once.

    Drawing them takes longer than loading them. Buffers, which no weights need to bring, are filled as ever.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Leaves out what would only fill a parameter."""
        kwargs = kwargs or {}
        if func in _FILLS:
            filled = args[0] if args else kwargs["tensor"]
            if isinstance(filled, nn.Parameter):
                return filled
        return func(*args, **kwargs)


_FILLS = {getattr(torch.Tensor, name) for name in ("uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_")}
_FILLS |= {nn.init.kaiming_uniform_, nn.init.kaiming_normal_, nn.init.uniform_, nn.init.normal_}


# What of a model differs from family to family.


def heads_of(module: Any) -> int:
    """Attention heads of a block; those of parallel attentions together."""
    return sum(attention.num_heads for attention in _attentions(module.blocks[0]))


def calls_of(module: Any) -> Calls:
    """Which calls of attention the model makes."""
    return Calls(per_block=len(_attentions(module.blocks[0])))


def query_kind_of(module: nn.Module) -> QueryKind:
    """Which row stands for the whole picture."""
    holders = (module, getattr(module, "embeds", None))  # NaFlexVit keeps its tokens in its embedding
    if any(getattr(holder, "cls_token", None) is not None for holder in holders):
        return "class token"
    return "attention pooling" if getattr(module, "attn_pool", None) is not None else "mean of patches"


def patch_of(module: Any) -> tuple[int, int]:
    """Height and width of a patch in pixels, a convolutional stem included."""
    if isinstance(module, timm.models.naflexvit.NaFlexVit):
        height, width = module.embeds.patch_size
    else:
        height, width = module.patch_embed.feat_ratio(as_scalar=False)
    return int(height), int(width)


def _attentions(block: Any) -> list[Any]:
    """The attention modules of a block, in the order in which they are called."""
    if isinstance(block, timm.models.vision_transformer.ParallelScalingBlock):
        return [block]  # attends by itself
    if isinstance(block, timm.models.vision_transformer.ParallelThingsBlock):
        return [branch.attn for branch in block.attns]
    return [block.attn] if hasattr(block, "attn") else []


def _refusal(architecture: str, reason: str) -> str:
    return (
        f"'{architecture}' is not supported: {reason}. Needed is global self-attention over one token grid, as in ViT, "
        f"DeiT, DINOv2, DINOv3, BEiT, EVA-02, CLIP or SigLIP: list_backbones() names them, and the aliases "
        f"{', '.join(ALIASES)} need no model hub"
    )


@cache
def _classes() -> tuple[type[nn.Module], ...]:
    return (
        timm.models.vision_transformer.VisionTransformer,
        timm.models.vision_transformer_relpos.VisionTransformerRelPos,
        timm.models.beit.Beit,
        timm.models.eva.Eva,
        timm.models.naflexvit.NaFlexVit,
    )


_HOMES = (
    "vision_transformer",
    "vision_transformer_hybrid",
    "vision_transformer_relpos",
    "deit",
    "beit",
    "eva",
    "naflexvit",
    "vitamin",
)
_NOT_PLAIN = "it is not one of timm's plain Vision Transformers"
_DIFFERENCE = "its attention is the difference of two softmax maps"
_ODD = {"vit_dwee_*": _DIFFERENCE, "vit_dpwee_*": _DIFFERENCE, "vit_dlittle_*": _DIFFERENCE}

_CONVOLUTIONS = "it is a convolutional network and has no attention over a token grid"
_WINDOWS = "its attention stays inside of windows, so that no token looks at the whole picture"
_SHRINKS = "its token grid shrinks from stage to stage"
_MIXES = "it mixes convolution stages with attention on grids that shrink"
_NO_ATTENTION = "it mixes tokens by other means and has no attention"
_ENCODER = (
    "it is the encoder of a language model, without final norm and embedding of the picture; wrap_backbone takes such "
    "modules if they are told how to make one"
)
_REFUSED_FOR = {  # reason -> the files of timm whose models it holds for
    _CONVOLUTIONS: "byobnet convmixer convnext cspnet cspnext densenet dla dpn efficientnet fasternet ghostnet "
    "hardcorenas hgnet hrnet inception_next inception_resnet_v2 inception_v3 inception_v4 lcnetv2 mambaout mobilenetv3 "
    "nasnet nfnet pnasnet rdnet regnet repghost repvit res2net resnest resnet resnetv2 rexnet selecsls senet sknet "
    "starnet tresnet vgg vovnet xception xception_aligned",
    _WINDOWS: "gcvit hieradet_sam2 nest swin_transformer swin_transformer_v2 swin_transformer_v2_cr tiny_vit twins "
    "vision_transformer_sam",
    _SHRINKS: "coat davit hiera levit metaformer mvitv2 pit pvt_v2 visformer",
    _MIXES: "byoanet cpubone csatv2 edgenext efficientformer efficientformer_v2 efficientvit_mit efficientvit_msra "
    "fastvit iformer lowformer maxxvit mobilenetv5 mobilevit nextvit shvit swiftformer",
    _NO_ATTENTION: "efficientvim focalnet mlp_mixer sequencer",
    _ENCODER: "deepseek_vit gemma4_vit qwen3_vit",
    "it mixes attention across heads, and its class token looks only in the last blocks": "cait",
    "its positional and content attention are gated together outside of softmax": "convit",
    "it has two token grids of different size": "crossvit",
    "it attends inside of patches and between them, on two grids, and outside of fused attention": "tnt",
    "its outlook attention covers neighbourhoods, not the whole picture": "volo",
    "it attends across channels, not across tokens": "xcit",
}
_REFUSED = {home: reason for reason, homes in _REFUSED_FOR.items() for home in homes.split()}
