"""Weights that lie in ONNX files, under timm's names.

Enters: the bytes of an ONNX file exported from Hugging Face's models, and how its parameters are renamed. Leaves: a
state dictionary that timm loads strictly. The graph is only read for the names in it, and never run.
"""

import re
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

StateDict = dict[str, Tensor]
Rename = Callable[[str], str | None]


def timm_tensors(content: bytes, rename: Rename) -> StateDict:
    """The parameters in an ONNX file, as float32 tensors under timm's names.

    Args:
        content: the file.
        rename: name by module path -> timm's name, or None for a parameter that is left out; q, k and v of a block
            are named `attn.q`, `attn.k`, `attn.v`, and become timm's one matrix here.
    """
    import onnx

    return _join_qkv(_renamed(_onnx_parameters(onnx.load_model_from_string(content).graph), rename))


def rename_clip(name: str) -> str | None:
    """Hugging Face's CLIP vision tower -> timm. The projection into the joint space with text is left out."""
    fixed = {
        "vision_model.embeddings.class_embedding": "cls_token",
        "vision_model.embeddings.patch_embedding.weight": "patch_embed.proj.weight",
        "vision_model.embeddings.position_embedding.weight": "pos_embed",
    }
    if name in fixed:
        return fixed[name]
    name = name.replace("vision_model.pre_layrnorm.", "norm_pre.").replace("vision_model.post_layernorm.", "norm.")
    name = name.replace("vision_model.encoder.layers.", "blocks.").replace(".self_attn.out_proj.", ".attn.proj.")
    name = re.sub(r"\.self_attn\.([qkv])_proj\.", r".attn.\1.", name)
    name = name.replace(".layer_norm1.", ".norm1.").replace(".layer_norm2.", ".norm2.")
    return name if name.startswith(("blocks.", "norm")) else None


def rename_dinov2(name: str) -> str | None:
    """Hugging Face's DINOv2 -> timm. The saliency decoder on top of it is left out."""
    fixed = {
        "backbone.embeddings.cls_token": "cls_token",
        "backbone.embeddings.Concat_6": "pos_embed.class",
        "backbone.embeddings.Reshape_1": "pos_embed.patches",
        "backbone.embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
        "backbone.embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
        "backbone.layernorm.weight": "norm.weight",
        "backbone.layernorm.bias": "norm.bias",
    }
    if name in fixed or not name.startswith("backbone.encoder.layer."):
        return fixed.get(name)
    name = name.replace("backbone.encoder.layer.", "blocks.").replace(".attention.output.dense.", ".attn.proj.")
    name = re.sub(
        r"\.attention\.attention\.(q)uery\.|\.attention\.attention\.(k)ey\.|\.attention\.attention\.(v)alue\.",
        lambda match: f".attn.{match[1] or match[2] or match[3]}.",
        name,
    )
    return re.sub(r"\.layer_scale([12])\.lambda1", r".ls\1.gamma", name)


def _onnx_parameters(graph) -> dict[str, np.ndarray]:  # type: ignore[no-untyped-def]
    """Parameters by the path of their module. An exporter renames what it folds (`onnx::MatMul_1541`): the name of
    the node that uses it tells where it belongs. Quantised matrices are scaled back: q * scale, zero points being 0."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    found = {name: numpy_helper.to_array(tensor) for name, tensor in stored.items() if "::" not in name}
    for node in graph.node:
        folded = next((n for n in node.input if n in stored and "::" in n and not n.endswith("_zero_point")), None)
        path = node.name.strip("/").replace("/", ".")
        if folded is None or path.endswith("_scales_mul"):
            continue
        array = numpy_helper.to_array(stored[folded])
        if node.op_type == "MatMulInteger":
            array = array.astype(np.float32) * numpy_helper.to_array(stored[folded.replace("_quantized", "_scale")])
        if node.op_type.startswith("MatMul"):  # ONNX multiplies x @ W, torch x @ W.T
            path, array = path.split(".MatMul")[0] + ".weight", np.ascontiguousarray(array.T)
        found[path] = array
    return found


def _renamed(parameters: dict[str, np.ndarray], rename: Rename) -> StateDict:
    names = {name: rename(name) for name in parameters}
    return {new: torch.from_numpy(parameters[old].astype(np.float32)) for old, new in names.items() if new is not None}


def _join_qkv(tensors: StateDict) -> StateDict:
    """Concatenate q, k and v of every block to timm's one qkv matrix, and give the tokens timm's shapes."""
    joined = {name: tensor for name, tensor in tensors.items() if not re.search(r"\.attn\.[qkv]\.", name)}
    for name in tensors:
        if ".attn.q." in name:
            parts = [tensors[name.replace(".attn.q.", f".attn.{letter}.")] for letter in "qkv"]
            joined[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat(parts)
    dim = joined["norm.weight"].numel()
    if "pos_embed" not in joined:
        joined["pos_embed"] = torch.cat([joined.pop("pos_embed.class"), joined.pop("pos_embed.patches")], dim=1)
    joined["cls_token"] = joined["cls_token"].reshape(1, 1, dim)
    joined["pos_embed"] = joined["pos_embed"].reshape(1, -1, dim)
    return joined
