"""The operators against formulas, exact counts and a naive convolution; and the promises of their table."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch

from explorer.distortions import DISTORTIONS, distortion
from explorer.distortions.parameters import Description, Parameter


@pytest.fixture
def photos():
    """Four pictures without a single zero, so that a zero afterwards is the mask's."""
    return torch.rand(4, 3, 40, 56, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1


def test_noise_has_the_moments_of_its_formula():
    clean = torch.full((4, 3, 128, 128), 0.5)
    noise = (distortion("gaussian_noise", sigma=0.3)(clean) - clean).double() / 0.3
    count = noise.numel()
    assert abs(noise.mean()) < 5 / math.sqrt(count)
    assert abs(noise.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs((noise**4).mean() - 3) < 5 * math.sqrt(96 / count)  # var of z^4 is 105 - 9


def test_noise_is_independent_between_pixels_channels_and_images():
    noise = distortion("gaussian_noise", sigma=1.0)(torch.zeros(4, 3, 64, 64))
    flat = noise.flatten(0, 1).flatten(1)
    assert (torch.corrcoef(flat) - torch.eye(12)).abs().max() < 5 / math.sqrt(flat.shape[1])
    for shifted in (noise[..., 1:] * noise[..., :-1], noise[..., 1:, :] * noise[..., :-1, :]):
        assert abs(shifted.mean()) < 5 / math.sqrt(shifted.numel())


def test_noise_scales_with_sigma_and_is_not_clipped(photos):
    weak, strong = (distortion("gaussian_noise", sigma=sigma)(photos) - photos for sigma in (0.25, 1.0))
    torch.testing.assert_close(4 * weak, strong, atol=2e-6, rtol=0)
    assert (photos + strong).min() < 0 < 1 < (photos + strong).max()
    assert torch.equal(distortion("gaussian_noise", sigma=0)(photos), photos)


def test_every_dtype_meets_the_same_noise(photos):
    d = distortion("gaussian_noise", sigma=0.3)
    torch.testing.assert_close(d(photos.double()).float(), d(photos), atol=1e-6, rtol=0)
    torch.testing.assert_close(d(photos.half()).float(), d(photos.half().float()), atol=1e-3, rtol=1e-3)


def naive_blur(image, kernel, sigma):
    """Separable convolution in float64, one output pixel at a time along each axis, borders reflected."""
    radius = kernel // 2
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    out = image.double().numpy()
    for axis in (1, 2):
        moved = np.moveaxis(out, axis, 0)
        last = len(moved) - 1
        result = np.zeros_like(moved)
        for place in range(last + 1):
            for offset, tap in zip(range(-radius, radius + 1), taps, strict=True):
                source = abs(place + offset)
                result[place] += tap * moved[source if source <= last else 2 * last - source]
        out = np.moveaxis(result, 0, axis)
    return torch.from_numpy(out)


@pytest.mark.parametrize(("kernel", "sigma"), [(1, 3.0), (5, 0.7), (21, 5.0), (37, 9.0), (79, 20.0)])
def test_blur_equals_a_naive_separable_convolution(photos, kernel, sigma):
    blurred = distortion("gaussian_blur", kernel=kernel, sigma=sigma)(photos)
    for image, result in zip(photos, blurred, strict=True):
        torch.testing.assert_close(result.double(), naive_blur(image, kernel, sigma), atol=2e-6, rtol=0)


def test_blur_takes_rows_and_columns_alike(photos):
    d = distortion("gaussian_blur", kernel=11, sigma=2.0)
    torch.testing.assert_close(d(photos.mT).mT, d(photos), atol=1e-6, rtol=0)


def test_blur_refuses_a_kernel_that_cannot_be_reflected():
    assert distortion("gaussian_blur", kernel=39)(torch.rand(1, 3, 20, 30)).shape == (1, 3, 20, 30)
    with pytest.raises(ValueError, match=r"41 px reaches 20 px .* 20x30 px \(height x width\).*use kernel=39 or less"):
        distortion("gaussian_blur", kernel=41)(torch.rand(1, 3, 20, 30))


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.29, 0.5, 0.9, 1.0])
def test_pixel_mask_zeroes_the_exact_count_in_all_channels(photos, fraction):
    out = distortion("pixel_mask", fraction=fraction)(photos)
    zero = out == 0
    assert torch.equal(zero[:, 0], zero.all(dim=1))
    assert torch.equal(zero[:, 0], zero.any(dim=1))
    assert zero[:, 0].sum(dim=(1, 2)).tolist() == [int(40 * 56 * fraction)] * 4
    assert torch.equal(out[~zero], photos[~zero])


def test_pixel_mask_hides_every_place_equally_often():
    hidden = distortion("pixel_mask", fraction=0.5)(torch.ones(2000, 3, 3, 4))[:, 0] == 0
    assert (hidden.double().mean(dim=0) - 0.5).abs().max() < 5 * math.sqrt(0.25 / 2000)


@pytest.mark.parametrize(("fraction", "patch"), [(0.5, 14), (0.5, 8), (0.37, 5), (1.0, 16), (0.9, 56), (0.0, 14)])
def test_patch_mask_zeroes_whole_cells_and_the_exact_count(photos, fraction, patch):
    zero = distortion("patch_mask", fraction=fraction, patch=patch)(photos) == 0
    counts = []
    for image in zero:
        cells = [image[:, r : r + patch, c : c + patch] for r in range(0, 40, patch) for c in range(0, 56, patch)]
        assert all(cell.all() or not cell.any() for cell in cells)
        counts.append(sum(bool(cell.all()) for cell in cells))
    assert counts == [int(math.ceil(40 / patch) * math.ceil(56 / patch) * fraction)] * 4


def test_patch_mask_hides_every_cell_equally_often():
    hidden = distortion("patch_mask", fraction=0.5, patch=2)(torch.ones(2000, 3, 4, 6))[:, 0, ::2, ::2] == 0
    assert (hidden.double().mean(dim=0) - 0.5).abs().max() < 5 * math.sqrt(0.25 / 2000)


@pytest.mark.parametrize("size", [1, 17, 40])
def test_square_mask_is_one_square_fully_inside(photos, size):
    zero = distortion("square_mask", size=size)(photos) == 0
    for image in zero:
        rows, cols = image[0].any(dim=1).nonzero()[:, 0], image[0].any(dim=0).nonzero()[:, 0]
        top, left = int(rows[0]), int(cols[0])
        square = torch.zeros(3, 40, 56, dtype=torch.bool)
        square[:, top : top + size, left : left + size] = True
        assert int(square[0].sum()) == size**2
        assert torch.equal(image, square)


def test_square_mask_takes_every_possible_place_equally_often():
    zero = distortion("square_mask", size=3)(torch.ones(3000, 3, 5, 6))[:, 0] == 0
    starts = zero.flatten(1).int().argmax(dim=1)
    counts = torch.bincount(starts, minlength=30).reshape(5, 6)
    assert counts[3:].sum() == counts[:, 4:].sum() == 0
    assert (counts[:3, :4] - 250).abs().max() < 5 * math.sqrt(250)


def test_square_mask_refuses_a_square_that_does_not_fit(photos):
    with pytest.raises(ValueError, match=r"41 px does not fit into a picture of 40x56 px .*use size=40 or less"):
        distortion("square_mask", size=41)(photos)


def test_masks_overwrite_what_is_not_a_number():
    assert torch.equal(
        distortion("pixel_mask", fraction=1.0)(torch.full((1, 3, 8, 8), torch.nan)), torch.zeros(1, 3, 8, 8)
    )


def test_gradients_pass_to_the_pixels_that_remain(photos):
    images = photos.clone().requires_grad_()
    out = distortion("gaussian_noise(sigma=0.1) + pixel_mask(fraction=0.5, clip=True)")(images)
    out.sum().backward()
    assert torch.equal(images.grad, ((out.detach() > 0) & (out.detach() < 1)).float())


@pytest.mark.parametrize("name", DISTORTIONS)
def test_the_table_describes_every_operator(name):
    description = DISTORTIONS[name]
    assert description.name == name
    assert description.label
    assert description.summary.endswith(".")
    assert pickle.loads(pickle.dumps(description)) == description
    with pytest.raises(dataclasses.FrozenInstanceError):
        description.name = "other"
    for parameter in description.parameters:
        assert parameter.low <= parameter.default <= parameter.high
        assert parameter.step > 0
        assert parameter.unit
        assert parameter.description.endswith(".")
        assert parameter.integer or not parameter.odd
        for bound in (parameter.low, parameter.default, parameter.high):
            assert parameter.check(bound, name) == bound


@pytest.mark.parametrize("name", DISTORTIONS)
@pytest.mark.parametrize("side", [224, 448])
def test_the_defaults_change_a_picture_of_any_usual_size(name, side):
    images = torch.full((1, 3, side, side), 0.5)
    images[..., : side // 2] = 1.0
    out = distortion(name)(images)
    assert out.shape == images.shape
    assert not torch.equal(out, images)


def test_the_severities_are_those_of_imagenet_c():
    noise, blur = DISTORTIONS["gaussian_noise"].severities, DISTORTIONS["gaussian_blur"].severities
    assert [noise[s]["sigma"] for s in range(1, 6)] == [0.08, 0.12, 0.18, 0.26, 0.38]
    assert [blur[s]["sigma"] for s in range(1, 6)] == [1, 2, 3, 4, 6]
    assert [blur[s]["kernel"] // 2 for s in range(1, 6)] == [int(4 * sigma + 0.5) for sigma in (1, 2, 3, 4, 6)]


def test_another_operator_is_one_function_and_one_entry(monkeypatch, photos):
    def brightness(images, draw, amount):
        return images + torch.as_tensor(amount, dtype=images.dtype)[:, None, None, None]

    amount = Parameter(name="amount", default=0.1, low=0, high=1, step=0.1, unit="pixel value", description="Added.")
    entry = Description(
        name="brightness", label="Brightness", summary="Adds.", operator=brightness, parameters=(amount,),
        severities={1: {"amount": 0.1}}, stochastic=False,
    )  # fmt: skip
    monkeypatch.setitem(DISTORTIONS, "brightness", entry)
    assert torch.equal(distortion("brightness", amount=0.2)(photos), photos + 0.2)
    assert torch.equal(distortion("brightness:1")(photos), (photos + 0.1).clamp(0, 1))
    drawn = distortion("brightness(amount=0.2..0.4)")(photos) - photos
    assert len(drawn[:, 0, 0, 0].unique()) == 4
