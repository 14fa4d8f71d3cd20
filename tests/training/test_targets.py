"""Kept targets are the teacher's own, wherever they lie, and each is computed once."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from explorer import load_backbone, losses
from explorer.models.backbones import Backbone
from explorer.models.trace import Trace
from explorer.training.targets import Targets

SLOTS = [[0, 1, 2], [3, 1, 4], [4, 4, 0], [2, 3, 1]]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("vit_tiny_patch16_224", image_size=32, source="random", device="cpu")


@pytest.fixture(scope="module")
def views() -> Tensor:
    return torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def teacher(backbone: Backbone) -> Callable[[Tensor], Trace]:
    return lambda images: backbone.trace(images, layers=(10, 11), attention="full")


@pytest.mark.parametrize(("bound", "place"), [(1 << 30, "memory"), (0, "disk")])
def test_kept_targets(tmp_path: Path, teacher: Callable, views: Tensor, bound: int, place: str) -> None:
    targets = Targets(teacher, 5, bound, tmp_path)
    for slots in SLOTS:
        trace, expected = targets(views[slots], slots), teacher(views[slots])
        assert trace.layers == (10, 11)
        for name in ("embedding", "patches", "attention"):
            torch.testing.assert_close(getattr(trace, name), getattr(expected, name), atol=1e-5, rtol=1e-4)
    assert targets.place == place
    assert targets.computed == 5
    assert bool(list(tmp_path.iterdir())) == (place == "disk")
    targets.close()
    assert not list(tmp_path.iterdir())


def test_a_target_does_not_depend_on_its_neighbours(tmp_path: Path, teacher: Callable, views: Tensor) -> None:
    alone, together = Targets(teacher, 5, 1 << 30, tmp_path), Targets(teacher, 5, 1 << 30, tmp_path)
    for slot in (3, 0, 4, 2, 1):
        alone(views[[slot]], [slot])
    a, b = (targets(views, list(range(5))) for targets in (alone, together))
    assert torch.equal(a.attention, b.attention)  # type: ignore[arg-type]
    assert torch.equal(a.patches, b.patches)


def test_gradients_are_those_without_a_cache(
    tmp_path: Path, backbone: Backbone, teacher: Callable, views: Tensor
) -> None:
    student = load_backbone("vit_tiny_patch16_224", image_size=32, source="random", device="cpu", seed=1)
    cached, gradients = Targets(teacher, 5, 1 << 30, tmp_path), []
    cached(views[[2, 0, 1]], [2, 0, 1])
    for targets in (cached, Targets(teacher, None, 0, tmp_path)):
        seen = student.trace(views[:3] + 0.1, layers=(10, 11), attention="full", grad=True)
        loss = losses.combine(targets(views[:3], [0, 1, 2]), seen, attention_layers=2)["loss"]
        gradients.append(torch.autograd.grad(loss, student.module.blocks[0].attn.qkv.weight)[0])  # type: ignore[index]
    assert cached.computed == 3
    assert gradients[0].abs().max() > 1e-5
    torch.testing.assert_close(*gradients, atol=1e-7, rtol=1e-4)


def test_nothing_is_kept_of_views_that_do_not_repeat(tmp_path: Path, teacher: Callable, views: Tensor) -> None:
    targets = Targets(teacher, None, 1 << 30, tmp_path)
    for _ in range(2):
        targets(views[:2], [-1, -1])
    assert targets.computed == 4


def test_a_disk_that_is_too_small(
    tmp_path: Path, teacher: Callable, views: Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    targets = Targets(teacher, 5, 0, tmp_path)
    assert torch.equal(targets(views[:2], [0, 1]).embedding, teacher(views[:2]).embedding)
    assert targets.place == "off"
    assert "computed anew in each step" in caplog.text
    assert not list(tmp_path.iterdir())
