"""Restoring: pictures come nearer to their originals, operator by operator, and what cannot be undone is refused; and
what is restored by somebody who was told nothing."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from explorer import distortion, load_images
from explorer.baselines.restoration import (
    RESTORED,
    RESTORERS,
    _gaussian,
    edge_width,
    noise_level,
    restore,
    restore_blind,
    restored_pair,
    scatter,
)
from explorer.cli.parts import RESTORED as NAMED
from explorer.evaluation.embedding import embed_pair
from explorer.inspection.comparison import compare
from tests.small import network, picture_set

GAINS = {  # dB that every one of the photos gains at least
    "gaussian_noise(sigma=0.1)": 4.0,
    "gaussian_noise(sigma=0.3)": 8.0,
    "gaussian_blur(kernel=21, sigma=5)": 2.0,
    "gaussian_blur(kernel=9, sigma=1)": 5.0,
    "pixel_mask(fraction=0.75)": 12.0,
    "pixel_mask(fraction=0.99)": 6.0,
    "patch_mask(fraction=0.5)": 8.0,
    "square_mask(size=56)": 6.0,
    "gaussian_noise(sigma=0.1) + patch_mask(fraction=0.25)": 8.0,
    "gaussian_blur(kernel=21, sigma=5) + gaussian_noise(sigma=0.1)": 2.0,
    "gaussian_blur(kernel=9, sigma=1) + pixel_mask(fraction=0.5) + square_mask(size=20)": 8.0,
}
MASKS = [spec for spec in GAINS if "mask" in spec and "+" not in spec]


@pytest.fixture(scope="module")
def small() -> Tensor:
    """Three photos of three classes, "3 3 112 112"."""
    photos = load_images("photos", size=112)
    return photos.select([photos.labels.index(label) for label in (1, 5, 8)]).stack()


def psnr(images: Tensor, clean: Tensor) -> Tensor:
    """In dB, one for each picture."""
    return -10 * ((images.clamp(0, 1) - clean) ** 2).mean(dim=(1, 2, 3)).log10()


@pytest.mark.parametrize(("spec", "gain"), GAINS.items())
def test_pictures_come_nearer_to_the_originals(small: Tensor, spec: str, gain: float) -> None:
    damaged = distortion(spec)(small, seed=1)
    assert (psnr(restore(damaged, spec), small) - psnr(damaged, small)).min() > gain


def test_every_operator_that_can_be_undone_is_tested_here() -> None:
    assert {step.name for spec in GAINS for step in distortion(spec).branches[0]} == set(RESTORERS)


@pytest.mark.parametrize("spec", MASKS)
def test_what_a_mask_left_stays_as_it_is(small: Tensor, spec: str) -> None:
    damaged = distortion(spec)(small)
    restored = restore(damaged, spec)
    missing = (damaged == 0).all(dim=1, keepdim=True).expand_as(damaged)
    assert torch.equal(restored[~missing], damaged[~missing])
    assert (restored[missing] > 0).float().mean() > 0.99


@pytest.mark.parametrize("spec", ["patch_mask(fraction=0.5, patch=7)", "square_mask(size=30)"])
def test_areas_are_filled_with_means_of_their_neighbours(small: Tensor, spec: str) -> None:
    damaged = distortion(spec)(small[:1].double())
    filled = restore(damaged, spec)[0].numpy()
    rows, cols = np.nonzero((damaged[0] == 0).all(dim=0).numpy())
    assert len(rows) > 500
    for row, col in zip(rows, cols, strict=True):
        around = [(row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)]
        mean = np.mean([filled[:, r, c] for r, c in around if 0 <= r < 112 and 0 <= c < 112], axis=0)
        np.testing.assert_allclose(filled[:, row, col], mean, atol=1e-9)


@pytest.mark.parametrize(("kernel", "sigma"), [(21, 5.0), (9, 1.0)])
def test_the_kernel_is_what_the_blur_does_to_one_bright_pixel(kernel: int, sigma: float) -> None:
    bright = torch.zeros(1, 3, 61, 61, dtype=torch.float64)
    bright[..., 30, 30] = 1
    spread = distortion("gaussian_blur", kernel=kernel, sigma=sigma)(bright)[0, 0].numpy()
    reach = slice(30 - kernel // 2, 31 + kernel // 2)
    np.testing.assert_allclose(_gaussian(kernel, sigma), spread[reach, reach], rtol=1e-5)


def test_the_borders_are_deblurred_as_well_as_the_middle(small: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without regularisation the blur is inverted exactly, up to the last row: its model of the borders is right."""
    monkeypatch.setattr("explorer.baselines.restoration._BALANCE", 1e-14)
    damaged = distortion("gaussian_blur(kernel=9, sigma=1)")(small[..., :90, :].double())
    restored = restore(damaged, "gaussian_blur(kernel=9, sigma=1)")
    assert (damaged - small[..., :90, :]).abs().max() > 0.1
    torch.testing.assert_close(restored, small[..., :90, :].double(), atol=1e-4, rtol=0)


def test_pictures_need_not_be_square(small: Tensor) -> None:
    oblong = small[..., :70, :]
    for spec in ("gaussian_blur(kernel=21, sigma=5)", "patch_mask(fraction=0.5)"):
        damaged = distortion(spec)(oblong)
        assert (psnr(restore(damaged, spec), oblong) > psnr(damaged, oblong)).all()


def test_a_chain_is_undone_backwards(small: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(name: str) -> Callable[..., np.ndarray]:
        return lambda picture, values, noise: (seen.append((name, values, noise)), picture)[1]

    for name in RESTORERS:
        monkeypatch.setitem(RESTORERS, name, spy(name))
    restore(small[:1], "gaussian_blur(kernel=5) + gaussian_noise(sigma=0.3) + gaussian_noise(sigma=0.4) + patch_mask")
    assert [name for name, _, _ in seen] == ["patch_mask", "gaussian_noise", "gaussian_noise", "gaussian_blur"]
    assert seen[1][1] == {"sigma": 0.4}
    assert [noise for _, _, noise in seen] == [0, 0, 0.4, pytest.approx(0.5)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_results_are_new_pictures_of_the_same_type_in_range(small: Tensor, dtype: torch.dtype) -> None:
    damaged = distortion("gaussian_noise(sigma=0.5)")(small[:1]).to(dtype)
    before = damaged.clone()
    for spec in ("gaussian_noise(sigma=0.5)", "none", "none(clip=True)", "pixel_mask"):
        restored = restore(damaged, spec)
        assert (restored.dtype, restored.shape) == (dtype, damaged.shape)
        assert restored.is_contiguous()
        assert 0 <= restored.min() <= restored.max() <= 1
        assert torch.equal(damaged, before)


def test_no_noise_no_change_and_nothing_left_stays_black(small: Tensor) -> None:
    assert torch.equal(restore(small, "gaussian_noise(sigma=0)"), small)
    assert restore(small[:0], "pixel_mask").shape == (0, 3, 112, 112)
    for spec in ("pixel_mask(fraction=1)", "patch_mask(fraction=1)", "square_mask(size=112)"):
        assert not restore(torch.zeros_like(small[:1]), spec).any()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gaussian_noise | gaussian_blur", "one fixed distortion"),
        ("gaussian_noise(sigma=0.1..0.3)", "one fixed distortion"),
        ("pixel_mask + gaussian_noise", "'gaussian_noise' comes after 'pixel_mask'"),
        ("gaussian_blur(kernel=101, sigma=9)", "52 px a side or more; got 32 x 40 px"),
        ("sepia", "unknown distortion 'sepia'"),
    ],
)
def test_what_cannot_be_undone_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        restore(torch.rand(1, 3, 32, 40), spec)


def test_an_operator_without_restorer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RESTORERS, "gaussian_blur")
    with pytest.raises(ValueError, match="'gaussian_blur' cannot be undone; these can: gaussian_noise, pixel_mask"):
        restore(torch.rand(1, 3, 32, 32), "gaussian_noise + gaussian_blur")


@pytest.mark.usefixtures("unchecked")
def test_a_single_picture_is_no_batch() -> None:
    with pytest.raises(ValueError, match="batch 3 height width"):
        restore(torch.rand(3, 32, 32), "pixel_mask")


def test_without_scikit_image_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r'pip install "vit-explorer\[baselines\]"'):
        restore(torch.rand(1, 3, 32, 32), "gaussian_noise")


# Told nothing.

BLIND_GAINS = {  # dB that the photos gain at least in the mean
    "gaussian_noise(sigma=0.1)": 6.0,
    "gaussian_noise(sigma=0.5)": 11.0,
    "gaussian_noise(sigma=0.3) + none(clip=True)": 8.0,
    "pixel_mask(fraction=0.1)": 20.0,
    "pixel_mask(fraction=0.9)": 16.0,
    "gaussian_blur(kernel=21, sigma=5)": 1.5,
    "gaussian_blur(kernel=37, sigma=9)": 1.0,
    "gaussian_noise(sigma=0.1) + pixel_mask(fraction=0.5)": 12.0,
}


@pytest.mark.parametrize(("spec", "gain"), BLIND_GAINS.items())
def test_nobody_has_to_tell_what_the_damage_was(small: Tensor, spec: str, gain: float) -> None:
    damaged = distortion(spec)(small, seed=1)
    assert (psnr(restore_blind(damaged), small) - psnr(damaged, small)).mean() > gain


def test_each_picture_is_judged_by_itself(small: Tensor) -> None:
    noisy, masked = (distortion(spec)(small, seed=1) for spec in ("gaussian_noise(sigma=0.3)", "pixel_mask"))
    mixed = restore_blind(torch.stack([noisy[0], small[1], masked[2]]))
    alone = [restore_blind(noisy[:1])[0], small[1], restore(masked, "pixel_mask")[2]]
    torch.testing.assert_close(mixed, torch.stack(alone), rtol=0, atol=0)


def test_what_shows_no_damage_is_left_alone(small: Tensor) -> None:
    enlarged = torch.nn.functional.interpolate(small[..., ::4, ::4], size=112, mode="bicubic").clamp(0, 1)
    flat = torch.full((1, 3, 112, 112), 0.4)
    for pictures in (small, enlarged, flat, torch.zeros_like(flat), small[:0], small[..., :16, :40]):
        assert torch.equal(restore_blind(pictures), pictures)


def test_black_areas_are_taken_for_black_things(small: Tensor) -> None:
    dark = distortion("square_mask(size=56)")(small)
    assert torch.equal(restore_blind(dark), dark)


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.3, 0.5])
def test_the_sigma_of_noise_is_found(small: Tensor, sigma: float) -> None:
    noisy = distortion("gaussian_noise", sigma=sigma)(small, seed=2)
    for picture in noisy.permute(0, 2, 3, 1).double().numpy():
        assert noise_level(picture) == pytest.approx(sigma, rel=0.05)


def test_noise_is_measured_as_scikit_image_does() -> None:
    """Its estimate takes every second detail, so that it agrees up to chance. Grey pictures: no channels to compare."""
    grey = np.random.default_rng(0).normal(0.5, 0.2, (256, 256))
    assert noise_level(np.stack([grey, grey[::-1], grey[:, ::-1]], axis=-1)) == pytest.approx(0.2, rel=0.02)
    assert noise_level(np.repeat(grey[..., None], 3, axis=-1)) == 0  # equal channels: nothing is left of it


@pytest.mark.parametrize("sigma", [4.0, 6.0, 9.0])
def test_the_width_of_a_step_is_found(sigma: float) -> None:
    step = torch.zeros(1, 3, 112, 112)
    step[..., 50:] = 1
    blurred = distortion("gaussian_blur", kernel=2 * round(4 * sigma) + 1, sigma=sigma)(step)
    assert edge_width(blurred[0].permute(1, 2, 0).double().numpy()) == pytest.approx(sigma, rel=0.1)


def test_scattered_pixels_are_told_from_areas(small: Tensor) -> None:
    half, square = (distortion(spec)(small[:1])[0] for spec in ("pixel_mask(fraction=0.5)", "square_mask(size=56)"))
    assert scatter(half.permute(1, 2, 0).double().numpy()) == pytest.approx(1, abs=0.05)
    assert scatter(square.permute(1, 2, 0).double().numpy()) < 0.05


@pytest.mark.usefixtures("unchecked")
def test_what_is_too_small_or_no_batch_is_refused_by_the_blind_too() -> None:
    with pytest.raises(ValueError, match="16 px a side or more; got 15 x 40 px"):
        restore_blind(torch.rand(1, 3, 15, 40))
    with pytest.raises(ValueError, match="batch 3 height width"):
        restore_blind(torch.rand(3, 32, 32))


# In a student's place.


def test_it_sees_what_the_teacher_sees_in_restored_pictures(small: Tensor) -> None:
    teacher = network(0)
    pictures = torch.nn.functional.interpolate(small, size=teacher.height_width, mode="area")
    damaged = distortion("gaussian_noise(sigma=0.3)")(pictures, seed=0)
    blind, told = (restored_pair(teacher, spec) for spec in (None, "gaussian_noise(sigma=0.3)"))
    for pair, mended in ((blind, restore_blind(damaged)), (told, restore(damaged, "gaussian_noise(sigma=0.3)"))):
        assert pair.teacher is teacher
        assert torch.equal(pair.student.trace(damaged).embedding, teacher.trace(mended).embedding)
        assert not torch.equal(pair.student.trace(damaged).embedding, teacher.trace(damaged).embedding)
    assert len({teacher.sha256, blind.student.sha256}) == 2
    with pytest.raises(ValueError, match="no gradient"):
        blind.student.trace(damaged.requires_grad_(), grad=True)
    with pytest.raises(ValueError, match="cannot be undone"):
        restored_pair(teacher, "fog:3")


def test_it_stands_beside_students(tmp_path: Path) -> None:
    """Its features are kept apart from its teacher's, which has the same weights."""
    teacher, images = network(0), picture_set(tmp_path / "some", per_class=2)
    pair = restored_pair(teacher)
    students = {"learned": network(1), RESTORED: pair.student}
    compared = compare(teacher, images.stack([0])[0], "gaussian_noise(sigma=0.5)", students)
    assert compared.students == ("learned", RESTORED)
    assert compared.weights[2].endswith("on restored pictures")
    for cache in (False, tmp_path / "cache", tmp_path / "cache"):
        views = embed_pair(pair, images, "gaussian_noise(sigma=0.5)", cache=cache).features
        damaged = distortion("gaussian_noise(sigma=0.5)")(images.stack(), seed=0)
        for view, backbone in (("teacher_distorted", teacher), ("student_distorted", pair.student)):
            expected = backbone.trace(damaged).embedding.numpy()
            np.testing.assert_allclose(views[view], expected, atol=1e-4)
    assert NAMED == RESTORED
