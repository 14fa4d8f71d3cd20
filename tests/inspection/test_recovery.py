"""A recovery records what a backbone really sees, and its animation shows one frame for each moment."""

import io
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from explorer import DistillConfig, Recovery, alignment, attention_map, distill, distortion, load_backbone
from explorer.analysis.similarity import patch_similarity
from explorer.models.backbones import Backbone
from explorer.plots.animation import animate_recovery

NOISE = "gaussian_noise(sigma=0.3)"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("vit_tiny_patch16_224", image_size=(48, 64), source="random", device="cpu")


@pytest.fixture(scope="module")
def other() -> Backbone:
    """A student that differs from its teacher in every weight."""
    return load_backbone("vit_tiny_patch16_224", image_size=(48, 64), source="random", device="cpu", seed=1)


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))


def test_moments_are_what_the_backbones_see(backbone: Backbone, other: Backbone, picture: Tensor) -> None:
    recovery = Recovery(backbone, picture, NOISE, seed=3)
    distorted = distortion(NOISE)(picture[None], seed=3)
    assert torch.equal(recovery.distorted, distorted[0])
    moment = recovery.add(5, other)
    clean, before, after = backbone.trace(picture[None]), backbone.trace(distorted), other.trace(distorted)
    for shown, trace in zip(recovery.attention(), (clean, before, after), strict=True):
        torch.testing.assert_close(shown, attention_map(trace)[0], atol=1e-6, rtol=1e-5)
    for shown, trace in zip(recovery.similarity(1, 2), (clean, before, after), strict=True):
        torch.testing.assert_close(shown, patch_similarity(clean, (1, 2), trace)[0], atol=1e-5, rtol=1e-5)
    assert [each.step for each in recovery.moments] == [0, 5]
    expected = alignment(clean, after).as_dict()
    assert moment.agreement.as_dict() == pytest.approx(expected, abs=1e-5)
    assert recovery.moments[0].agreement.cls_cosine == pytest.approx(alignment(clean, before).cls_cosine, abs=1e-5)
    row, col = recovery.busiest
    assert recovery.attention()[0].max() == recovery.attention()[0, row, col]


def test_a_damaged_picture_may_be_given(backbone: Backbone, other: Backbone, picture: Tensor) -> None:
    distorted = distortion(NOISE)(picture[None], seed=3)[0]
    made, given = Recovery(backbone, picture, NOISE, seed=3), Recovery(backbone, picture, distorted)
    assert (given.distortion.spec, given.view) == ("your picture", "distorted")
    assert torch.equal(made.attention(), given.attention())
    assert torch.equal(made.add(1, other).attention, given.add(1, other).attention)


def test_a_moment_is_not_changed_by_later_steps(backbone: Backbone, picture: Tensor, tmp_path: Path) -> None:
    """The student of a record is the one in training, and what was seen of it is a copy."""
    recovery, seen = Recovery(backbone, picture, NOISE), []
    pictures = picture.expand(6, -1, -1, -1).contiguous()
    config = DistillConfig(steps=3, batch_size=2, image_size=(48, 64), trainable="last:1", probe=1, lr=1e-2)
    for record in distill(backbone, pictures, config, tmp_path / "run"):
        seen.append(recovery.add(record.step, record.student).patches.clone())
    kept = [moment.patches for moment in recovery.moments[1:]]
    assert all(torch.equal(a, b) for a, b in zip(kept, seen, strict=True))
    assert not torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[0], recovery.moments[0].patches), "the first step has changed something"
    assert "student" not in record.as_dict()


def test_steps_come_in_order_and_can_be_taken_back(backbone: Backbone, other: Backbone, picture: Tensor) -> None:
    recovery = Recovery(backbone, picture, NOISE)
    for step in (2, 4, 6):
        recovery.add(step, other)
    with pytest.raises(ValueError, match="step 6 does not come after step 6"):
        recovery.add(6, other)
    recovery.rewind(4)
    assert [moment.step for moment in recovery.moments] == [0, 2, 4]
    recovery.add(5, other)
    recovery.rewind(-1)
    assert [moment.step for moment in recovery.moments] == [0], "the untouched copy stays"


def test_a_patch_outside_of_the_grid(backbone: Backbone, picture: Tensor) -> None:
    with pytest.raises(ValueError, match="rows go from 0 to 2, columns from 0 to 3"):
        Recovery(backbone, picture, NOISE).similarity(3, 0)


@pytest.mark.parametrize("name", ["vit_base_patch16_siglip_224", "vit_relpos_small_patch16_224"])
def test_models_without_a_class_token(name: str) -> None:
    backbone = load_backbone(name, image_size=64, source="random", device="cpu")
    recovery = Recovery(backbone, torch.rand(3, 64, 64), NOISE)
    assert recovery.attention().shape == (2, 4, 4)
    torch.testing.assert_close(recovery.attention().sum(dim=(1, 2)), torch.ones(2), atol=1e-4, rtol=0)


def test_the_animation_has_a_frame_for_each_moment(backbone: Backbone, other: Backbone, picture: Tensor) -> None:
    recovery = Recovery(backbone, picture, NOISE)
    recovery.add(1, backbone)
    recovery.add(7, other)
    film = Image.open(io.BytesIO(animate_recovery(recovery, 1, 1, seconds=1.0)))
    assert film.format == "GIF"
    assert film.info.get("loop") == 0
    frames = [frame.convert("RGB").copy() for frame in ImageSequence.Iterator(film)]
    assert len(frames) == 3
    assert film.size == (792, 428), "panes of 224 x 168, as the picture is 64 x 48"
    student = [frame.crop((570, 30, 780, 374)).tobytes() for frame in frames]
    teacher = [frame.crop((96, 30, 320, 374)).tobytes() for frame in frames]
    assert student[0] == student[1] != student[2], "the same student, then another one"
    assert teacher[0] == teacher[1] == teacher[2]
    with pytest.raises(ValueError, match="seconds"):
        animate_recovery(recovery, seconds=0.0)
