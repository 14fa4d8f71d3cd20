"""What of a student is trained: a low-rank adapter, everything, or its last blocks; and how that travels.

Enters: a timm module and a choice in text ("lora:8" | "all" | "last:2"). Leaves: the same module with some of its
parameters made trainable, the tensors that training changed, and a module with such tensors put in. Low-rank adapters
(Hu et al. 2021, LoRA) are peft's; only putting a finished adapter in is done here, since that is one product of two
matrices, and importing peft takes four seconds.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from explorer.errors import InputError
from explorer.models.building import seeded
from explorer.system.precision import outside_autocast

PROJECTIONS = ("qkv", "q_proj", "k_proj", "v_proj", "proj", "fc1", "fc2", "fc1_g", "fc1_x", "w12", "w3")
_ADAPTER = ".lora_{}.weight"
_EXAMPLES = "'lora:8' (a low-rank adapter of rank 8), 'all' (every parameter) or 'last:2' (the last two blocks)"


@dataclass(frozen=True)
class Trainable:
    """A choice of what is trained.

    Attributes:
        kind: "lora", "all" or "last".
        count: the adapter's rank, or the number of blocks; 0 for "all".
    """

    kind: Literal["lora", "all", "last"]
    count: int = 0

    @classmethod
    def parse(cls, text: object) -> "Trainable":
        """From text.

        Raises:
            ValueError: the text is none of the three forms.
        """
        match = re.fullmatch(r"(?:(lora|last):([1-9]\d{0,3})|all)", text) if isinstance(text, str) else None
        if match is None:
            raise InputError(f"trainable must be {_EXAMPLES}; got {text!r}")
        return cls("all") if match[1] is None else cls("lora" if match[1] == "lora" else "last", int(match[2]))

    def __str__(self) -> str:
        return self.kind if self.kind == "all" else f"{self.kind}:{self.count}"


def prepare(module: nn.Module, trainable: Trainable, seed: int = 0) -> nn.Module:
    """Make the chosen parameters of `module` trainable and the others fixed, in place; the module keeps its type.

    Args:
        seed: of a low-rank adapter's first factor; the second begins at zero, so that nothing changes at first.

    Raises:
        ValueError: the module has fewer blocks, or smaller matrices, than were chosen.
    """
    if trainable.kind == "lora":
        return _with_adapter(module, trainable.count, seed)
    names = set(trained_shapes(module, trainable))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in names)
    return module


def trained_tensors(module: nn.Module, trainable: Trainable) -> dict[str, Tensor]:
    """What training changed in a module made by `prepare`: copies on the CPU, named as in `trained_shapes`."""
    state = _state(module)
    names = (
        [name for name in state if ".lora_" in name] if trainable.kind == "lora" else trained_shapes(module, trainable)
    )
    return {name: state[name].detach().cpu().contiguous().clone() for name in names}


def trained_shapes(module: nn.Module, trainable: Trainable) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that such a student of the (untouched) module consists of."""
    if trainable.kind == "lora":
        return _adapter_shapes(module, trainable.count)
    state = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if trainable.kind == "all":
        return state
    if not isinstance(getattr(module, "blocks", None), nn.ModuleList | nn.Sequential):
        raise InputError(
            f"trainable='{trainable}' needs a model whose blocks are held in `blocks`, as timm's; use 'all'"
        )
    depth = len(module.blocks)  # type: ignore[arg-type]
    if trainable.count > depth:
        raise InputError(f"trainable='{trainable}', but the model has {depth} blocks")
    chosen = tuple(f"blocks.{number}." for number in range(depth - trainable.count, depth))
    return {
        name: shape for name, shape in state.items() if name.startswith((*chosen, "norm.", "fc_norm.", "attn_pool."))
    }


@torch.no_grad()
def load_trained(module: nn.Module, trainable: Trainable, tensors: dict[str, Tensor]) -> nn.Module:
    """The reverse of `trained_tensors`: into a module made by `prepare`, in place, to go on training it.

    Raises:
        ValueError: names or shapes are not exactly those that such a student has.
    """
    state = _state(module)
    _check(trained_shapes(module, trainable), tensors, trainable)
    for name, tensor in tensors.items():
        state[name].copy_(tensor)
    return module


@torch.no_grad()
@outside_autocast()
def put_in(module: nn.Module, trainable: Trainable, tensors: dict[str, Tensor]) -> nn.Module:
    """Change an untouched module into the student that `tensors` describe, in place; adapters are merged into weights.

    Raises:
        ValueError: names or shapes are not exactly those that such a student has.
    """
    _check(trained_shapes(module, trainable), tensors, trainable)
    state = module.state_dict()  # shares its storage with the module
    if trainable.kind != "lora":
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
        return module
    for path in _projections(module):
        weight = state[f"{path}.weight"]
        first, second = (tensors[path + _ADAPTER.format(factor)].to(weight) for factor in "AB")
        weight += second @ first  # scaled by alpha / rank = 1, see `_with_adapter`
    return module


def save_for_peft(tensors: dict[str, Tensor], folder: Path, base_model: str | None = None) -> None:
    """Write an adapter as `peft.PeftModel.from_pretrained(base, folder)` reads it.

    Args:
        tensors: as `trained_tensors` gives those of a low-rank adapter.
        folder: is made.
        base_model: the name of the weights that it belongs to on a model hub, if they have one.
    """
    folder.mkdir()
    paths = sorted({name.partition(".lora_")[0] for name in tensors})
    config = _peft_config(tensors[paths[0] + _ADAPTER.format("A")].shape[0], paths)
    config.base_model_name_or_path, config.inference_mode = base_model, True
    config.save_pretrained(folder)
    named = {f"base_model.model.{name}": tensor.float() for name, tensor in tensors.items()}
    (folder / "adapter_model.safetensors").write_bytes(safetensors.torch.save(named, {"format": "pt"}))


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name.replace(".default.", "."): tensor for name, tensor in module.state_dict().items()}


def _with_adapter(module: nn.Module, rank: int, seed: int) -> nn.Module:
    from peft import inject_adapter_in_model

    _adapter_shapes(module, rank)
    config = _peft_config(rank, _projections(module))
    with seeded(seed):
        inject_adapter_in_model(config, module)
    return module.eval()


def _peft_config(rank: int, paths: list[str]) -> Any:
    from peft import LoraConfig

    # alpha = rank: the adapter's change is B A, unscaled, whatever the rank.
    return LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", target_modules=paths)


def _adapter_shapes(module: nn.Module, rank: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in _projections(module):
        linear: Any = module.get_submodule(path)  # or peft's layer around it, which tells the same sizes
        if rank > min(linear.in_features, linear.out_features):
            raise InputError(
                f"an adapter of rank {rank} is no smaller than '{path}', {linear.out_features} x {linear.in_features}; "
                f"choose a lower rank, or trainable='all'"
            )
        shapes[path + _ADAPTER.format("A")] = (rank, linear.in_features)
        shapes[path + _ADAPTER.format("B")] = (linear.out_features, rank)
    return shapes


def _projections(module: nn.Module) -> list[str]:
    """The matrices in the blocks that an adapter is added to; never the patch embedding's `proj`."""
    found = [
        name.removesuffix(".base_layer")
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear)
        and name.startswith("blocks.")
        and name.removesuffix(".base_layer").rpartition(".")[2] in PROJECTIONS
        and not _bypassed(module, name)
    ]
    if not found:
        raise InputError(
            f"no matrix of this model can take an adapter (`blocks` holds none of {', '.join(PROJECTIONS)}); use 'all'"
        )
    return found


def _bypassed(module: nn.Module, name: str) -> bool:
    """BEiT and EVA with separate biases multiply by `qkv.weight` and never call `qkv`: an adapter would do nothing."""
    attention = module.get_submodule(name.removesuffix(".base_layer").rpartition(".")[0])
    separate = getattr(attention, "qkv_bias_separate", False)
    return name.rpartition(".")[2] == "qkv" and getattr(attention, "q_bias", None) is not None and not separate


def _check(expected: dict[str, tuple[int, ...]], tensors: dict[str, Tensor], trainable: Trainable) -> None:
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        raise InputError(
            f"these tensors are no student trained as '{trainable}' of this model: "
            f"{len(missing)} missing ({', '.join(missing[:3]) or 'none'}), "
            f"{len(extra)} unknown ({', '.join(extra[:3]) or 'none'})"
        )
    for name, shape in expected.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise InputError(
                f"'{name}' should hold floats of the shape {shape}; got {tensor.dtype} {tuple(tensor.shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise InputError(f"'{name}' holds values that are not finite: this student is broken")
