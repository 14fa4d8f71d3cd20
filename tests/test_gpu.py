"""On a GPU: what the library computes there is what it computes on the CPU, and too little memory is no end.

Left out where there is none. Everything else in these tests runs on either.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import explorer as ex
from explorer.models.backbones import Backbone

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

NAME = "vit_tiny_patch16_224"
NOISE = "gaussian_noise(sigma=0.3)"
BLUR = "gaussian_blur(kernel=9, sigma=2)"  # draws nothing: alike on every device
METHODS = ("integrated_gradients", "saliency", "occlusion", "gradient_attention", "attn_lrp")


@pytest.fixture(scope="module", autouse=True)
def full_precision() -> None:
    """Products of matrices in float32, as torch does them unless it is told otherwise."""
    assert not torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = False  # of the patch embedding; on by default


@pytest.fixture(scope="module")
def cpu() -> Backbone:
    return ex.load_backbone(NAME, source="random", device="cpu")


@pytest.fixture(scope="module")
def gpu() -> Backbone:
    chosen = ex.load_backbone(NAME, source="random")
    assert chosen.device.type == "cuda", "auto takes it"
    return chosen


def settings(**changes: Any) -> ex.DistillConfig:
    small: dict[str, Any] = {"steps": 8, "batch_size": 16, "probe": 4, "eval_every": 4, "lr": 2e-3}
    return ex.DistillConfig(**{**small, "checkpoint_every": 4, **changes})


def losses(teacher: Backbone, pictures: Any, out: Path, **changes: Any) -> list[float]:
    return [record.losses["loss"] for record in ex.distill(teacher, pictures, settings(**changes), out)]


def close(a: Any, b: Any, atol: float) -> None:
    torch.testing.assert_close(torch.as_tensor(a).cpu().float(), torch.as_tensor(b).cpu().float(), atol=atol, rtol=0)


@pytest.mark.parametrize("attention", ["cls", "full"])
def test_a_trace_is_that_of_the_cpu(cpu: Backbone, gpu: Backbone, photos: Tensor, attention: Any) -> None:
    here, there = (backbone.trace(photos[:4], attention=attention) for backbone in (cpu, gpu))
    assert there.embedding.device.type == "cuda"
    close(here.embedding, there.embedding, 1e-4)
    close(here.attention, there.attention, 1e-5)
    close(here.patches, there.patches, 1e-3)


def test_a_comparison_is_that_of_the_cpu(cpu: Backbone, gpu: Backbone, photo: Tensor) -> None:
    here, there = (ex.compare(backbone, photo[0], BLUR) for backbone in (cpu, gpu))
    for view, values in here.maps().items():
        close(values, there.maps()[view], 1e-5)
    numbers = [each.alignments["student"].as_dict() for each in (here, there)]
    assert numbers[1] == pytest.approx(numbers[0], abs=1e-4)


def test_features_are_those_of_the_cpu(cpu: Backbone, gpu: Backbone, tmp_path: Path) -> None:
    few = ex.load_images("photos", size=224, limit=12)
    here, there = (ex.embed(backbone, few, BLUR, cache=tmp_path / backbone.device.type) for backbone in (cpu, gpu))
    close(np.array(here.embedding), np.array(there.embedding), 1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_an_attribution_is_that_of_the_cpu(cpu: Backbone, gpu: Backbone, photo: Tensor, method: Any) -> None:
    toward = cpu.trace(photo.flip(-1)).embedding[0]
    here, there = (ex.attribute(backbone, photo[0], toward, method) for backbone in (cpu, gpu))
    scale = float(here.abs().max())
    close(here / scale, there / scale, 2e-2)


@pytest.mark.parametrize(
    "changes", [{}, {"trainable": "all", "lr": 2e-4}, {"compile": True}, {"checkpointing": True}], ids=str
)
def test_a_student_learns(gpu: Backbone, photos: Tensor, tmp_path: Path, changes: dict[str, Any]) -> None:
    """In bfloat16, which "auto" takes here."""
    seen = losses(gpu, photos, tmp_path / "run", views="fixed", steps=24, **changes)
    assert np.mean(seen[-4:]) < 0.9 * np.mean(seen[:4])
    pair = ex.load_pair(tmp_path / "run", teacher=gpu)
    assert pair.student.device.type == "cuda"


def test_the_first_step_is_that_of_the_cpu(cpu: Backbone, gpu: Backbone, photos: Tensor, tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 1, "distortion": BLUR, "precision": "float32"}
    here, there = (losses(each, photos, tmp_path / each.device.type, **options) for each in (cpu, gpu))
    assert there == pytest.approx(here, rel=1e-3)


def test_a_stopped_run_goes_on(gpu: Backbone, photos: Tensor, tmp_path: Path) -> None:
    whole = losses(gpu, photos, tmp_path / "whole")
    records = ex.distill(gpu, photos, settings(), tmp_path / "parts")
    first = [next(records).losses["loss"] for _ in range(5)]
    records.close()  # type: ignore[attr-defined]
    rest = [record.losses["loss"] for record in ex.distill(gpu, photos, settings(), tmp_path / "parts", resume=True)]
    assert first + rest == pytest.approx(whole, rel=1e-2)  # bfloat16, and sums in any order


def test_a_student_of_the_gpu_is_the_same_on_the_cpu(
    cpu: Backbone, gpu: Backbone, photos: Tensor, tmp_path: Path
) -> None:
    losses(gpu, photos, tmp_path / "run")
    here, there = (ex.load_pair(tmp_path / "run", teacher=each).student for each in (cpu, gpu))
    close(here.trace(photos[:2]).embedding, there.trace(photos[:2]).embedding, 1e-3)


def test_too_little_memory_is_shared_out(
    gpu: Backbone, photos: Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Torch's allocator may take little more than now, and really fails."""
    options: dict[str, Any] = {"steps": 2, "batch_size": 28, "probe": 2, "precision": "float32"}
    with caplog.at_level(logging.WARNING), limited(700):
        parts = losses(gpu, photos, tmp_path / "parts", **options)
    assert "a training step with 28 pictures needs more memory than there is: going on with 14" in caplog.text
    assert parts == pytest.approx(losses(gpu, photos, tmp_path / "whole", **options), rel=1e-3)
    caplog.clear()
    many = ex.load_images("photos", size=224, limit=128)
    with caplog.at_level(logging.WARNING), limited(100):
        large = ex.embed(gpu, many, batch_size=128, cache=False)
    assert "going on with 64" in caplog.text
    close(np.array(large.embedding), np.array(ex.embed(gpu, many, batch_size=8, cache=False).embedding), 1e-3)


@contextmanager
def limited(mebibytes: int) -> Iterator[None]:
    """So many MiB more than what is reserved now."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (mebibytes << 20)) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
