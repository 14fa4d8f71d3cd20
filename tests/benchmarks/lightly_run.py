"""Distillation by `lightly-train`, run by the python of its own environment, see `lightly`.

Enters: a JSON file with the folder of photos, the weights that teacher and student begin with, and the settings.
Leaves, in the same folder, "student.safetensors" under timm's names, "head.safetensors", the linear head between its
class token and the teacher's, and "told.json": when each step ended, and memory. The model is the package's own DINOv2,
whose global embedding is the class token; of a timm ViT the package takes the mean of the patches. Python's -I has to
be given: the folder of this file holds another module of the name `lightly`.
"""

import json
import math
import os
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightly_train import pretrain
from lightly_train._models.dinov2_vit.dinov2_vit_package import DINOV2_VIT_PACKAGE
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

sys.path.append(str(Path(__file__).parent))  # last: see above
from memory import high_water, settled

MODEL = "vits14-noreg"
ONLY_THERE = "mask_token"  # not used without masks


def main(file: Path) -> None:
    """Train, and write what came out beside the file."""
    task = json.loads(file.read_text(encoding="utf-8"))
    student, weights = _student(task), file.with_name("teacher.pth")
    torch.save(student.state_dict(), weights)
    _check_same(student, task)
    if task["noise"]:
        scale = task["noise"] / torch.tensor(task["std"]).view(3, 1, 1)
        student.patch_embed.register_forward_pre_hook(partial(_noisy, scale))
    start, ticks = settled(), [time.perf_counter()]
    register_optimizer_step_post_hook(lambda *_: ticks.append(time.perf_counter()))
    _pretrain(task, student, weights, file.parent / "run")
    assert student.training, "no noise and no drop path otherwise"
    told = {"ticks": ticks, "start_mib": start, "peak_mib": high_water(), "threads": torch.get_num_threads()}
    told["versions"] = {name: version(name) for name in ("lightly-train", "torch")}
    save_file({k: v for k, v in student.state_dict().items() if k != ONLY_THERE}, file.with_name("student.safetensors"))
    kept = torch.load(file.parent / "run" / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
    head = {name: kept[f"student_projection_head_global.{name}"] for name in ("weight", "bias")}
    save_file(head, file.with_name("head.safetensors"))
    file.with_name("told.json").write_text(json.dumps(told), encoding="utf-8")


def _student(task: dict[str, Any]) -> nn.Module:
    drop_path = {} if task["drop_path"] is None else {"drop_path_rate": task["drop_path"]}
    options = {"img_size": task["image_size"], **drop_path}
    module = DINOV2_VIT_PACKAGE.get_model(MODEL, model_args=options, load_weights=False)
    module.load_state_dict({**load_file(task["weights"]), ONLY_THERE: module.mask_token.data})
    return module


def _pretrain(task: dict[str, Any], student: nn.Module, weights: Path, out: Path) -> None:
    """Everything that is not named here is the package's default."""
    size = task["image_size"]
    pretrain(
        out=out,
        data=task["photos"],
        model=student,
        method="distillation",
        method_args={
            "teacher": f"dinov2/{MODEL}",
            "teacher_args": {"img_size": size},
            "teacher_weights": str(weights),
        },
        epochs=math.ceil(task["steps"] / (len(os.listdir(task["photos"])) // task["batch"])),
        batch_size=task["batch"],
        num_workers=0,
        devices=1,
        accelerator="cpu",
        precision="32-true",
        float32_matmul_precision="highest",
        callbacks={"model_checkpoint": {"every_n_train_steps": task["steps"], "save_weights_only": True}},
        transform_args={"image_size": (size, size), "normalize": {"mean": task["mean"], "std": task["std"]}},
        trainer_args={"max_steps": task["steps"]},
    )


@torch.no_grad()
def _check_same(module: nn.Module, task: dict[str, Any]) -> None:
    """Of one picture both programs' models give the same embedding of the class token."""
    size = task["image_size"]
    picture = torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size)
    difference = (module.eval()(picture)[0] - torch.tensor(task["embedding"])).abs().max()
    assert difference < 1e-3, f"not the same model: embeddings differ by up to {difference}"
    module.train()  # Lightning trains a module in the mode that it comes in


def _noisy(scale: Tensor, module: nn.Module, inputs: tuple[Tensor]) -> Tensor | None:
    """Gaussian noise for the student alone, on pictures that are normalised already."""
    return inputs[0] + scale * torch.randn_like(inputs[0]) if module.training else None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
