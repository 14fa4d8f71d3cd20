"""What other programs call a Vision Transformer's tensors, and what they store beside it.

Enters: tensors under the names of a file. Leaves: the same under names that timm has, or that timm's own checkpoint
filters translate; they come first, and only what they do not know is translated here. Nothing is loaded in here.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field

import torch
from torch import Tensor

from explorer.models.onnx_weights import StateDict


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """Names that are not timm's.

    Attributes:
        label: whose names they are, where they are translated here; "" where timm does it.
        anchor: a name that every file in them has, and has once for each network; "": the architecture's own names are
            looked for.
        home: what timm's translation wants before the names.
        table: patterns of names -> what they become, one after the other.
        finish: the renamed tensors -> those that timm takes.
    """

    label: str = ""
    anchor: str = ""
    home: str = ""
    table: Mapping[str, str] = field(default_factory=dict)
    finish: Callable[[StateDict], StateDict] = dict

    def prefixes(self, names: Iterable[str], expected: Set[str]) -> list[str]:
        """What stands before the names of the networks in these names."""
        if self.anchor:
            found = [name.removesuffix(self.anchor) for name in names if name.endswith(self.anchor)]
            found = [prefix for prefix in found if prefix == "" or prefix.endswith(".")]
        else:
            found = [prefix for prefix, hits in hits_of(names, expected).items() if 2 * hits >= len(expected)]
        return sorted(found, key=len)[:_TRIED]

    def translated(self, tensors: StateDict, expected: Set[str]) -> tuple[StateDict, int]:
        """Tensors without prefix under names that timm may take, and how many were left out."""
        renamed = {self._renamed(name): tensor for name, tensor in tensors.items()}
        # timm tells DINOv2's names by the token that only pretraining needs, and drops it.
        kept = {name: tensor for name, tensor in renamed.items() if name == "mask_token" or not is_apart(name)}
        named = self.finish(kept)
        named = {name: tensor for name, tensor in named.items() if not _is_idle(name, tensor, expected)}
        if "register_tokens" in named:
            named.setdefault("mask_token", named["register_tokens"][:, :1])
        if expected <= named.keys():
            named.pop("mask_token", None)
        left_out = len(tensors) - len(kept) + ("mask_token" in kept)
        return {self.home + name: tensor for name, tensor in named.items()}, left_out

    def _renamed(self, name: str) -> str:
        for pattern, replacement in self.table.items():
            name = re.sub(pattern, replacement, name)
        return name


def hits_of(names: Iterable[str], expected: Set[str]) -> Counter[str]:
    """What stands before expected names -> how many of them are there after it."""
    hits: Counter[str] = Counter()
    longest = max(map(len, expected), default=0)
    for name in names:
        first = max(len(name) - longest, 0)  # a name of some megabytes is not tried from its beginning on
        for start in range(first, len(name)):
            if (start == 0 or name[start - 1] == ".") and name[start:] in expected:
                hits[name[:start]] += 1
    return hits


def _is_idle(name: str, bias: Tensor, expected: Set[str]) -> bool:
    """Whether this is a bias of zeros that timm's DINOv3 does not have; a bias of k alone changes no attention."""
    own = name.replace(".qkv.bias", ".q_bias")
    if not own.endswith(("q_bias", "v_bias")) or name in expected or own in expected:
        return False
    return not bias.any() if own == name else not any(bias.chunk(3)[part].any() for part in (0, -1))


_TRIED = 4  # networks in one file: each costs timm a tenth of a second


def without_wrappers(tensors: StateDict) -> StateDict:
    """Without what wrappers write in the middle of names: compilation, sharding, recomputation, chunks of blocks."""
    names = {name: _CHUNK.sub("blocks.", _WRAPPER.sub("", name)) for name in tensors}
    if len(set(names.values())) < len(names):  # chunks that each begin at 0: which block is which is not said
        return tensors
    return {new: tensors[old] for old, new in names.items()}


_WRAPPER = re.compile(r"(?:(?<=\.)|^)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_CHUNK = re.compile(r"(?:(?<=\.)|^)blocks\.\d+\.(?=\d+\.)")  # DINOv2's chunks keep the numbers of their blocks


def is_apart(name: str) -> bool:
    """Whether a name, without prefix, is that of a head, a decoder or a training aid: no part of any backbone.

    A linear classifier under timm's own name is no case of this: `load_backbone` knows what a model calls its own.
    """
    return _APART.match(name) is not None and name not in ("head.weight", "head.bias")


_APART = re.compile(
    r"((\w+_)?heads?|head_\w+|decoder\w*|mask_token|fc|classifier\w*|lm_head|last_layer|prototypes|projector|predictor"
    r"|projection|proj|pooler|queue\w*|logit_scale|logit_bias)(\.|$)"
)


def described(names: Iterable[str]) -> str | None:
    """What a file that is no Vision Transformer of timm's holds, as far as its names tell; None: they tell nothing."""
    text = "\n".join(names)
    return next((what for pattern, what in _FORMATS.items() if re.search(pattern, text, re.MULTILINE)), None)


# What is to be done after names have been changed.


def _finish_vit(tensors: StateDict) -> StateDict:
    """Matrices that Hugging Face holds apart, and the attention pooling of SigLIP."""
    named = _joined(_joined(tensors, "attn", "qkv", "qkv"), "mlp", ("gate_proj", "up_proj"), "w12")
    if "attn_pool.in_proj_weight" in named and "attn_pool.latent" in named:
        for kind in ("weight", "bias"):
            query, rest = named.pop(f"attn_pool.in_proj_{kind}").tensor_split([named["attn_pool.latent"].shape[-1]])
            named |= {f"attn_pool.q.{kind}": query, f"attn_pool.kv.{kind}": rest}
    return _with_axes(named)


def _finish_dinov3(tensors: StateDict) -> StateDict:
    """timm has DINOv3 in the shape of EVA."""
    up = ".mlp.fc1_x." if "blocks.0.mlp.fc1_g.weight" in tensors else ".mlp.fc1."
    return _joined({name.replace(".mlp.up_proj.", up): t for name, t in tensors.items()}, "attn", "qkv", "qkv")


def _joined(tensors: StateDict, part: str, pieces: Iterable[str], whole: str) -> StateDict:
    """Matrices that timm has as one, such as those of q, k and v, put together; left alone where one of them lacks."""
    joined = dict(tensors)
    for name in tensors:
        before, found, kind = name.rpartition(f".{part}.{next(iter(pieces))}.")
        names = [f"{before}.{part}.{piece}.{kind}" for piece in pieces]
        if found and all(each in joined for each in names):
            joined[f"{before}.{part}.{whole}.{kind}"] = torch.cat([joined.pop(each) for each in names])
    return joined


def _with_axes(tensors: StateDict) -> StateDict:
    """Tokens and positions as 'batch token dim'."""
    flat = {name: tensor for name, tensor in tensors.items() if name in ("cls_token", "pos_embed")}
    return {**tensors, **{name: tensor.reshape(1, -1, tensor.shape[-1]) for name, tensor in flat.items()}}


_HUGGING_FACE = {  # in files, and in the memory of newer versions
    r"^embeddings\.patch_embeddings?(\.projection)?\.": "patch_embed.proj.",
    r"^embeddings\.(cls_token|class_embedding)$": "cls_token",
    r"^embeddings\.position_embeddings?(\.weight)?$": "pos_embed",
    r"^embeddings\.distillation_token$": "dist_token",
    r"^embeddings\.(register_tokens|mask_token)$": r"\1",
    r"^(encoder\.|model\.)?layers?\.(\d+)\.": r"blocks.\2.",
    r"^(blocks\.\d+)\.(self_attn|attention)\.(attention\.)?([qkv])(uery|ey|alue|_proj)\.": r"\1.attn.\4.",
    r"^(blocks\.\d+)\.(self_attn\.out_proj|attention\.o_proj|attention\.output\.dense)\.": r"\1.attn.proj.",
    r"^(blocks\.\d+)\.(layernorm_before|layer_norm1)\.": r"\1.norm1.",
    r"^(blocks\.\d+)\.(layernorm_after|layer_norm2)\.": r"\1.norm2.",
    r"^(blocks\.\d+)\.intermediate\.dense\.": r"\1.mlp.fc1.",
    r"^(blocks\.\d+)\.output\.dense\.": r"\1.mlp.fc2.",
    r"^(blocks\.\d+\.mlp)\.weights_in\.": r"\1.w12.",
    r"^(blocks\.\d+\.mlp)\.(weights_out|down_proj)\.": r"\1.w3.",
    r"^(blocks\.\d+)\.layer_scale([12])\.lambda1$": r"\1.ls\2.gamma",
    r"^(post_)?layernorm\.": "norm.",
    r"^pre_layrnorm\.": "norm_pre.",
    r"^head\.probe$": "attn_pool.latent",
    r"^head\.attention\.in_proj_": "attn_pool.in_proj_",
    r"^head\.attention\.out_proj\.": "attn_pool.proj.",
    r"^head\.layernorm\.": "attn_pool.norm.",
    r"^head\.mlp\.(fc[12])\.": r"attn_pool.mlp.\1.",
}
_DINOV3 = {
    **{pattern: name for pattern, name in _HUGGING_FACE.items() if "down_proj" not in pattern},
    r"^register_tokens$": "reg_token",
    r"^(blocks\.\d+)\.ls([12])\.gamma$": r"\1.gamma_\2",
    r"^(blocks\.\d+\.attn)\.([qv])\.bias$": r"\1.\2_bias",
    r"^(blocks\.\d+\.mlp)\.gate_proj\.": r"\1.fc1_g.",
    r"^(blocks\.\d+\.mlp)\.down_proj\.": r"\1.fc2.",
}
_TORCHVISION = {
    r"^class_token$": "cls_token",
    r"^conv_proj\.": "patch_embed.proj.",
    r"^encoder\.pos_embedding$": "pos_embed",
    r"^encoder\.ln\.": "norm.",
    r"^encoder\.layers\.encoder_layer_(\d+)\.": r"blocks.\1.",
    r"\.ln_([12])\.": r".norm\1.",
    r"\.self_attention\.in_proj_": ".attn.qkv.",
    r"\.self_attention\.out_proj\.": ".attn.proj.",
    r"\.mlp\.(0|linear_1)\.": ".mlp.fc1.",
    r"\.mlp\.(3|linear_2)\.": ".mlp.fc2.",
}
DIALECTS = (
    Dialect(),  # DINOv2 with registers, DINOv3, EVA, DeiT III, NaFlex …
    Dialect(anchor="patch_embed.projection.weight"),  # Sapiens 2
    Dialect(anchor="preprocessor.patchifier.proj.weight"),  # AIMv2
    Dialect(anchor="conv1.weight", home="visual."),  # OpenAI's CLIP, open_clip, Perception Encoder
    Dialect(anchor="vision_embed.proj.weight", home="beit3."),
    Dialect(anchor="patch_generator.embedder.weight", home="radio_model.model."),
    Dialect(anchor="patch_emb.0.block.conv.weight", home="image_encoder.model."),  # MobileCLIP
    *(
        Dialect(label="Hugging Face's", anchor=anchor, table=table, finish=finish)
        for anchor, table, finish in (
            ("embeddings.patch_embeddings.projection.weight", _HUGGING_FACE, _finish_vit),
            ("embeddings.patch_embedding.weight", _HUGGING_FACE, _finish_vit),
            ("embeddings.patch_embeddings.weight", _DINOV3, _finish_dinov3),
        )
    ),
    Dialect(label="torchvision's", anchor="conv_proj.weight", table=_TORCHVISION, finish=_with_axes),
)
_FORMATS = {  # of names, one a line; the first that is found tells
    r"(^|\.)(exp_avg|exp_avg_sq|momentum_buffer)(\.|$)|^optimizer\.": "the state of an optimizer, not a model",
    r"\.(qweight|qzeros|weight_scale|weight_scale_inv|absmax|quant_map|quant_state\.\S+|SCB|_scale)$": (
        "quantised weights; save the model in full precision, dequantised, and take that"
    ),
    r"^lora_(unet|te\d?)_": "an adapter for Stable Diffusion",
    r"(^|\.)lora_[AB]\.|lora_(down|up)\.weight$": "a LoRA adapter that is not in peft's format",
    r"^model\.diffusion_model\.": "a full Stable Diffusion checkpoint",
    r"(^|\.)(down_blocks\.\d+\.(resnets|attentions)|double_blocks\.\d|transformer_blocks\.\d)": (
        "diffusers' names for a network that makes pictures"
    ),
    r"(^|\.)(prompt_encoder|mask_decoder)\.": "a Segment Anything checkpoint",
    r"(^|\.)encoder\.stages\.\d+\.layers\.\d+\.dwconv\.": "Hugging Face's names for ConvNeXt",
    r"(^|\.)stages\.\d+\.(blocks\.)?\d+\.(conv_dw|dwconv)\.": "the names of a ConvNeXt",
    r"\.attention\.self\.relative_position_bias_table$": "Hugging Face's names for a Swin Transformer",
    r"(^|\.)layers\.\d+\.blocks\.\d+\.attn\.": "the names of a Swin Transformer",
    r"(^|\.)(encoder\.layer|blocks)\.\d+\.lambda_1$": "Hugging Face's names for BEiT",
    r"(^|\.)encoder\.stages\.\d+\.layers\.\d+\.layer\.": "Hugging Face's names for a ResNet",
    r"(^|\.)layer1\.0\.conv1\.weight$": "the names of a ResNet",
    r"(^|\.)embeddings\.word_embeddings\.|(^|\.)(model\.)?embed_tokens\.weight$|(^|\.)wte\.weight$": (
        "the weights of a language model"
    ),
    r"(^|\.)layers\.\d+\.(ln1|ffn\.layers\.\d)": "OpenMMLab's names for a Vision Transformer",
    r"(^|\.)Transformer/|(^|\.)encoderblock_\d": "big_vision's names for a Vision Transformer",
}
