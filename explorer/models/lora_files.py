"""peft's adapter files, merged into the weights that they were trained on.

Enters: the tensors of `adapter_model.safetensors`, what `adapter_config.json` beside it says, and the weights of the
backbone. Leaves: the weights of the adapted backbone. peft itself is not run, and options that change what the tensors
mean are refused, known or not. (The adapters of our own students are another matter: `explorer.models.adapters`.)
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from explorer.errors import InputError
from explorer.models.checkpoints import HEADER_BYTES, WeightsError, checkpoint_file
from explorer.models.dialects import hits_of, is_apart
from explorer.models.onnx_weights import StateDict

CONFIG = "adapter_config.json"
_READ = ("peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights")
_WITHOUT_EFFECT = {  # on what the stored tensors mean: these chose which there are, or how they were trained
    *("auto_mapping", "base_model_class", "base_model_name_or_path", "bias", "exclude_modules", "inference_mode"),
    *("layers_pattern", "layers_to_transform", "lora_dropout", "megatron_core", "modules_to_save", "peft_version"),
    *("qalora_group_size", "revision", "runtime_config", "target_modules", "task_type"),
}
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""What `init_lora_weights` may be; others, such as PiSSA, change the weights below the adapter, too."""


def is_adapter(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a peft adapter, by their names."""
    return any(_PART.search(name) for name in tensors) and any(name.startswith("base_model.") for name in tensors)


def read_config(adapter: str | Path) -> dict[str, Any]:
    """What peft wrote beside an adapter file.

    Raises:
        WeightsError: it is missing, damaged, or says what is not understood here.
    """
    file = checkpoint_file(adapter).with_name(CONFIG)
    try:
        if not file.is_file():
            raise InputError("it is missing")
        if file.stat().st_size > HEADER_BYTES:
            raise InputError("it is too large")
        config = json.loads(file.read_text(encoding="utf-8"))
        numbers = [config["r"], config["lora_alpha"]]
        numbers += [*(config.get("rank_pattern") or {}).values(), *(config.get("alpha_pattern") or {}).values()]
        if not all(isinstance(number, int | float) and number > 0 for number in numbers):
            raise InputError("its numbers are not above 0")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"this is a peft adapter, and '{CONFIG}' has to lie beside it, with its rank and alpha "
            f"({type(error).__name__}: {str(error)[:120]}); or merge it with peft's merge_and_unload() and take that"
        ) from error
    odd = [f"{key}={value!r}" for key, value in config.items() if value and key not in {*_READ, *_WITHOUT_EFFECT}]
    odd += [f"alpha_pattern={key!r}" for key in config.get("alpha_pattern") or {} if not re.fullmatch(r"[\w.]+", key)]
    odd += [f"peft_type={config['peft_type']!r}"] if config.get("peft_type", "LORA") != "LORA" else []
    start = config.get("init_lora_weights", True)
    odd += [f"init_lora_weights={start!r}"] if start not in _PLAIN_STARTS else []
    if odd:
        raise WeightsError(
            f"this peft adapter has options that are not understood here ({', '.join(odd)[:200]}); merge it with "
            f"peft's merge_and_unload(), save the model as safetensors and take that"
        )
    return config


def merged(base: StateDict, adapter: StateDict, config: Mapping[str, Any]) -> tuple[StateDict, int]:
    """The weights of a backbone with an adapter in them: W + scale * B A, in W's type, as peft's `merge_and_unload`.

    Also how many of the adapter's tensors were left out: those for a head or another network.

    Args:
        base: the weights that it was trained on, under the names of the modules.
        adapter: under peft's names.
        config: see `read_config`.

    Raises:
        WeightsError: names or shapes are not those of an adapter for these weights.
    """
    targets = {name: _PART.sub(".weight", name).replace(".base_layer.", ".") for name in adapter}
    hits = hits_of(set(targets.values()), base.keys())
    prefix = max(hits, key=lambda each: hits[each], default="")
    state, odd, left_out = dict(base), [], 0
    for name, target in targets.items():
        own, factor = target.removeprefix(prefix), _PART.search(name)
        other = name.replace(*(".lora_A.", ".lora_B.") if ".lora_A." in name else (".lora_B.", ".lora_A."))
        if own == target or is_apart(own) or own in ("head.weight", "head.bias"):
            left_out += 1
        elif own not in base or (factor and other not in adapter):
            odd.append(name)
        elif factor and factor[1] == "A":
            state[own] = _changed(base[own], adapter[name], adapter[other], own, config)
        elif not factor:
            state[own] = adapter[name]  # trained as a whole, as biases are
    if odd or not hits:
        raise WeightsError(
            f"this peft adapter does not fit these weights: it changes {len(odd) or len(adapter)} tensors that they do "
            f"not have, such as {(odd or sorted(adapter))[0][:200]}; if it was trained on a model of another program, "
            f"merge it there with peft's merge_and_unload(), save the model as safetensors and take that"
        )
    return state, left_out


_PART = re.compile(r"\.lora_([AB])(\.default)?\.weight$")


def _changed(weight: Tensor, first: Tensor, second: Tensor, target: str, config: Mapping[str, Any]) -> Tensor:
    rank = first.shape[0] if first.ndim else 0
    fitting = first.shape[1:] == weight.shape[1:] and tuple(second.shape[:2]) == (weight.shape[0], rank)
    if not rank or not fitting or second.numel() != weight.shape[0] * rank:
        raise WeightsError(
            f"the adapter of '{target}' has the shapes {tuple(first.shape)} and {tuple(second.shape)}, which do not "
            f"fit the weight's {tuple(weight.shape)}"
        )
    module = target.removesuffix(".weight")
    own = (alpha for key, alpha in (config.get("alpha_pattern") or {}).items() if f".{module}".endswith(f".{key}"))
    alpha = next(own, config["lora_alpha"])
    scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    change = second.flatten(1).float() @ first.flatten(1).float()
    return (weight.float() + scale * change.view(weight.shape)).to(weight.dtype)
