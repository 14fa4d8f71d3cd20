"""The corruptions of ImageNet-C against the numbers of the reference package and against independent implementations.

The numbers are those of `imagenet_c_reference.json`; the script of the same name says how they came about.
"""

import json
import math

import numpy as np
import pytest
import scipy.ndimage
import skimage.color
import torch
from imagenet_c_reference import FILE, WITHOUT_CHANCE, measured
from imagenet_c_reference import photos as reference_photos
from PIL import Image

from explorer.distortions import COMMON_CORRUPTIONS, DISTORTIONS, distortion
from explorer.distortions.blur import _neighbours
from explorer.distortions.fields import plasma, reflected, smooth, streaked
from explorer.distortions.randomness import PARAMETER, Draw, uniform_number
from explorer.distortions.relief import FARTHEST, _distance

REFERENCE = json.loads(FILE.read_text(encoding="utf-8"))["values"]
CASES = [(name, severity) for name in REFERENCE for severity in range(1, 6)]
SEEDS = 2
ROUNDING_DB, ROUNDING_MEAN = 0.03, 0.0025  # the reference cuts to 8 bits, glass_blur twice


@pytest.fixture(scope="module")
def pictures():
    return list(reference_photos().values())


@pytest.fixture(scope="module")
def batch(pictures):
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def numbers(pictures, batch):
    """(name, severity) -> PSNR and mean of the ten photos, each [seed, photo], measured once."""
    known = {}

    def look_up(name, severity):
        if (name, severity) not in known:
            seeds = range(1 if name in WITHOUT_CHANCE else SEEDS)
            runs = [_measured(pictures, distortion(f"{name}:{severity}")(batch, seed)) for seed in seeds]
            known[name, severity] = np.moveaxis(np.array(runs), 1, 0)
        return known[name, severity]

    return look_up


def _measured(pictures, images):
    cut = images.mul(255).add(1e-4).to(torch.uint8)  # to 8 bits like the reference, which rounds down
    return measured(pictures, list(cut.permute(0, 2, 3, 1).numpy()))


def draws(count, first=0):
    return Draw([torch.Generator().manual_seed(seed) for seed in range(first, first + count)])


def test_the_reference_holds_all_19():
    assert set(REFERENCE) == {name for name, entry in DISTORTIONS.items() if entry.severities}
    assert set(COMMON_CORRUPTIONS) < set(REFERENCE)
    assert len(COMMON_CORRUPTIONS) == 15
    assert {name for name in REFERENCE if not DISTORTIONS[name].stochastic} == set(WITHOUT_CHANCE)


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_a_severity_is_as_strong_as_the_reference(name, severity, numbers):
    decibel, mean = numbers(name, severity)
    expected = {key: np.array(value) for key, value in REFERENCE[name][str(severity)].items()}
    if name in WITHOUT_CHANCE:
        assert np.abs(decibel[0] - expected["psnr"]).max() < 0.15
        assert (
            np.abs(mean[0] - expected["mean"]).max() < 0.01
        )  # the reference's disc has a sum of 1.01 from radius 8 on
        return
    assert abs(decibel.mean() - expected["psnr"].mean()) < np.ptp(expected["psnr"]) + ROUNDING_DB
    assert abs(mean.mean() - expected["mean"].mean()) < np.ptp(expected["mean"]) + ROUNDING_MEAN


@pytest.mark.parametrize("name", REFERENCE)
def test_severity_grows_where_it_does_in_the_reference(name, numbers):
    """It does not from glass_blur:1 to 2 and 3 to 4, frost:3 to 4, fog:3 to 4, snow:2 to 3 and in saturate."""
    ours = [numbers(name, severity)[0].mean() for severity in range(1, 6)]
    theirs = [np.mean(REFERENCE[name][str(severity)]["psnr"]) for severity in range(1, 6)]
    falls = [
        (before > after)
        for before, after, first, second in zip(ours, ours[1:], theirs, theirs[1:], strict=False)
        if first - second > 0.1
    ]
    assert all(falls)
    assert len(falls) >= {"saturate": 2, "glass_blur": 2, "frost": 3, "fog": 3, "snow": 3}.get(name, 4)


@pytest.mark.parametrize("name", REFERENCE)
def test_between_severities_parameters_move_in_a_straight_line(name):
    entry = DISTORTIONS[name]
    for below in range(1, 5):
        low, high = entry.at_severity(below), entry.at_severity(below + 1)
        between = entry.at_severity(below + 0.25)
        for parameter in entry.parameters:
            expected = 0.75 * low[parameter.name] + 0.25 * high[parameter.name]
            slack = (1 if parameter.odd else 0.5) if parameter.integer else 1e-9
            assert abs(between[parameter.name] - expected) <= slack
            parameter.check(between[parameter.name], name)


def test_a_range_of_severities_is_drawn_for_each_image(batch):
    together = distortion("fog:2..5")(batch, seed=3)
    for index in range(4):
        severity = 2 + 3 * uniform_number(3, index, 0, PARAMETER)
        alone = distortion(f"fog:{severity!r}")(batch[index : index + 1], seed=3, indices=[index])
        torch.testing.assert_close(alone, together[index : index + 1], atol=1e-6, rtol=0)
    assert distortion("contrast:2..5").stochastic


def test_span_says_between_which_values_a_parameter_lies():
    (step,) = distortion("glass_blur:1.5..4").branches[0]
    assert step.span("iterations") == (1, 3)
    assert step.span("severity") == (1.5, 4)
    assert step.span("radius") is None
    (fixed,) = distortion("fog:2").branches[0]
    assert fixed.span("thickness") == (2, 2)
    assert fixed.span("severity") is None


def test_random_corruption_draws_one_of_fifteen_and_its_severity():
    damage = distortion("random_corruption")
    assert [branch[0].name for branch in damage.branches] == list(COMMON_CORRUPTIONS)
    assert str(damage.branches[0][0]) == "gaussian_noise(severity=1.0..5.0, clip=True)"
    assert damage.stochastic
    some = distortion("none | random_corruption:2 + pixel_mask")
    assert len(some.branches) == 16
    assert [step.name for step in some.branches[15]] == ["jpeg_compression", "pixel_mask"]
    assert distortion(damage.spec) == damage
    grey = torch.full((60, 3, 24, 24), 0.4)
    grey[:, :, :, 12:] = 0.8
    out = damage(grey)
    assert out.min() >= 0
    assert out.max() <= 1
    assert len({tuple(image.flatten().tolist()) for image in out}) > 50


@pytest.mark.parametrize("name", [name for name in REFERENCE if name != "gaussian_blur"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 40), (31, 5), (90, 133)])
def test_pictures_of_any_size_are_fine(name, shape):
    images = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0)) * 3 - 1
    for severity in (1, 4, 5):
        out = distortion(f"{name}(severity={severity})")(images)
        assert out.shape == images.shape
        assert torch.isfinite(out).all()


def test_shot_noise_is_poisson():
    clean = torch.full((2, 3, 128, 128), 0.4)
    counts = distortion("shot_noise", sigma=0.2)(clean).double() * 25
    assert (counts - counts.round()).abs().max() < 1e-4
    share = torch.bincount(counts.round().long().flatten(), minlength=40)[:40] / counts.numel()
    expected = torch.tensor([math.exp(-10) * 10**k / math.factorial(k) for k in range(40)])
    assert (share - expected).abs().max() < 5 * math.sqrt(0.125 / counts.numel())


def test_impulse_noise_hits_each_channel_by_itself():
    out = distortion("impulse_noise", fraction=0.3)(torch.full((2, 3, 128, 128), 0.4))
    bound = 5 * math.sqrt(0.15 / out.numel())
    for value in (0.0, 1.0):
        hit = (out == value).double()
        assert abs(hit.mean() - 0.15) < bound
        assert abs((hit[:, 0] * hit[:, 1]).mean() - 0.15**2) < bound
    assert abs((out == 0.4).double().mean() - 0.7) < bound


def test_speckle_noise_is_proportional():
    images = torch.cat([torch.full((1, 3, 64, 64), value) for value in (0.0, 0.25, 1.0)])
    noise = distortion("speckle_noise", sigma=0.4)(images, indices=[5, 5, 5]) - images
    torch.testing.assert_close(noise[1] * 4, noise[2], atol=1e-6, rtol=0)
    assert abs(noise[2].std() - 0.4) < 0.02
    assert not noise[0].any()


@pytest.mark.parametrize(("radius", "sigma"), [(1.0, 0.1), (2.5, 0.5), (6.0, 0.5), (10.0, 1.0)])
def test_defocus_blur_is_a_convolution_with_a_disc(radius, sigma):
    image = torch.rand(3, 30, 41, generator=torch.Generator().manual_seed(1))
    reach = math.ceil(radius) + 2
    place = np.arange(-reach, reach + 1)
    disc = (np.hypot(*np.meshgrid(place, place)) <= radius).astype(float)
    edge = np.exp(-(np.arange(-2, 3) ** 2) / (2 * sigma**2))
    disc = scipy.ndimage.convolve(disc, np.outer(edge, edge) / edge.sum() ** 2, mode="constant")
    expected = np.stack(
        [scipy.ndimage.convolve(one, disc / disc.sum(), mode="mirror") for one in image.double().numpy()]
    )
    out = distortion("defocus_blur", radius=radius, sigma=sigma)(image[None])[0]
    np.testing.assert_allclose(out.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize(("shift", "shape"), [(1, (12, 15)), (2, (17, 14)), (4, (30, 37)), (5, (9, 9))])
def test_glass_blur_copies_neighbours_one_pixel_after_the_other(shift, shape):
    height, width = shape
    found = _neighbours(draws(3), height, width, shift).numpy()
    moves = (draws(3).uniform(2, height, width) * (2 * shift)).long().numpy() - shift
    expected = np.stack([np.arange(height * width)] * 3)
    for image in range(3):
        for row in range(height - shift, shift, -1):
            for col in range(width - shift, shift, -1):
                down, right = moves[image, :, row, col]
                expected[image, row * width + col] = expected[image, (row + down) * width + col + right]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("degrees", [-45.0, 0.0, 20.0, 90.0, -135.0])
def test_a_streak_is_a_weighted_sum_of_moved_pictures(degrees):
    image = torch.rand(1, 2, 20, 30, generator=torch.Generator().manual_seed(2))
    weights = np.exp(-(np.arange(9) ** 2) / (2 * 3.0**2))
    expected = np.zeros(image.shape)
    for i, weight in enumerate(weights / weights.sum()):
        row = math.ceil(i * math.sin(math.radians(degrees)) - 0.5)
        col = math.ceil(i * math.cos(math.radians(degrees)) - 0.5)
        rows, cols = np.clip(np.arange(20) + row, 0, 19), np.clip(np.arange(30) + col, 0, 29)
        expected += weight * image.numpy()[:, :, rows][..., cols]
    np.testing.assert_allclose(streaked(image, 4, 3.0, degrees).numpy(), expected, atol=1e-6)


def test_zoom_blur_averages_enlargements():
    image = torch.rand(3, 60, 45, generator=torch.Generator().manual_seed(3))
    total = image.double().numpy()
    for zoom in (1.0, 1.1, 1.2):
        rows, cols = math.ceil(60 / zoom), math.ceil(45 / zoom)
        top, left = (60 - rows) // 2, (45 - cols) // 2
        part = image.double().numpy()[:, top : top + rows, left : left + cols]
        total = total + scipy.ndimage.zoom(part, (1, zoom, zoom), order=1)[:, :60, :45]
    out = distortion("zoom_blur", zoom=1.2, layers=3)(image[None])[0]
    np.testing.assert_allclose(out.numpy(), total / 4, atol=1e-5)


def test_brightness_and_saturation_are_those_of_hsv(batch):
    image = torch.cat([batch[:1, :, :64, :64], torch.zeros(1, 3, 64, 8), torch.full((1, 3, 64, 8), 0.5)], dim=3)
    hsv = skimage.color.rgb2hsv(image[0].permute(1, 2, 0).double().numpy())
    brighter, coloured = hsv.copy(), hsv.copy()
    brighter[..., 2] = (hsv[..., 2] + 0.3).clip(0, 1)
    coloured[..., 1] = (hsv[..., 1] * 2 + 0.1).clip(0, 1)
    for spec, changed in (("brightness(amount=0.3)", brighter), ("saturate(factor=2, offset=0.1)", coloured)):
        out = distortion(spec)(image)[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(out, skimage.color.hsv2rgb(changed), atol=1e-5)


def test_contrast_keeps_the_mean_of_each_channel(batch):
    out = distortion("contrast", loss=0.7)(batch)
    torch.testing.assert_close(out.mean(dim=(2, 3)), batch.mean(dim=(2, 3)))
    torch.testing.assert_close(out.std(dim=(2, 3)), 0.3 * batch.std(dim=(2, 3)))


@pytest.mark.parametrize("share", [0.6, 0.5, 0.4, 0.25])
def test_pixelation_is_pillows(share, pictures, batch):
    small = Image.fromarray(pictures[0]).resize((int(224 * share),) * 2, Image.Resampling.BOX)
    expected = np.asarray(small.resize((224, 224), Image.Resampling.NEAREST)) / 255
    out = distortion("pixelate", cell=1 / share)(batch[:1])[0].permute(1, 2, 0).numpy()
    assert np.abs(out - expected).max() < 1.01 / 255


def test_jpeg_loses_more_at_lower_quality_and_keeps_a_flat_picture(batch):
    errors = [(distortion("jpeg_compression", compression=c)(batch[:2]) - batch[:2]).pow(2).mean() for c in (2, 50, 90)]
    assert errors == sorted(errors)
    assert errors[0] < 1e-3
    flat = torch.full((1, 3, 33, 21), 128 / 255)
    torch.testing.assert_close(distortion("jpeg_compression")(flat), flat)


def test_an_elastic_shift_is_as_large_as_it_says():
    ramp = torch.arange(224.0).expand(1, 3, 224, 224) / 224
    for images in (ramp, ramp.mT):  # the value says where a pixel came from, away from the border
        out = distortion("elastic_transform", shift=2.0, sigma=2.24)(images.contiguous())
        assert abs(((out - images) * 224)[..., 16:-16, 16:-16].std() - 2.0) < 0.1


def test_plasma_is_the_diamond_square_algorithm():
    """Point by point on a torus, with the same random numbers."""
    stream = draws(1)
    grid, amplitude = np.zeros((1, 1)), 1.0
    while len(grid) < 16:
        side = len(grid)
        noise = (2 * stream.uniform(3, side, side)[0].double().numpy() - 1) * amplitude
        finer = np.zeros((2 * side, 2 * side))
        finer[::2, ::2] = grid
        for kind, (odd_row, odd_col) in enumerate([(1, 1), (0, 1), (1, 0)]):
            near = [(-1, -1), (-1, 1), (1, -1), (1, 1)] if kind == 0 else [(-1, 0), (1, 0), (0, -1), (0, 1)]
            for row in range(side):
                for col in range(side):
                    y, x = 2 * row + odd_row, 2 * col + odd_col
                    around = [finer[(y + down) % (2 * side), (x + right) % (2 * side)] for down, right in near]
                    finer[y, x] = np.mean(around) + noise[kind, row, col]
        grid, amplitude = finer, amplitude / 1.7**2
    expected = (grid - grid.min()) / np.ptp(grid)
    np.testing.assert_allclose(plasma(draws(1), 13, 16, 1.7)[0, 0].numpy(), expected[:13], atol=1e-5)


def test_fog_keeps_the_brightest_value():
    images = torch.rand(3, 3, 40, 50, generator=torch.Generator().manual_seed(4)) * 0.6
    out = distortion("fog", thickness=2.0)(images)
    assert (out.amax(dim=(1, 2, 3)) <= images.amax(dim=(1, 2, 3)) + 1e-6).all()
    assert distortion("fog")(torch.zeros(1, 3, 8, 8)).max() < 1e-6


def test_snow_is_the_same_upside_down(batch):
    black = torch.zeros(1, 3, 60, 80)
    out = distortion("snow", whiten=0.0)(black)
    torch.testing.assert_close(out, out.flip(2, 3))
    assert 0.01 < (out > 0).float().mean() < 0.99


def test_frost_weighs_picture_and_ice():
    images = torch.rand(1, 3, 60, 80, generator=torch.Generator().manual_seed(5))
    ice = distortion("frost", frost=1.0, picture=0.0)(images)
    both = distortion("frost", frost=0.6, picture=0.8)(images)
    torch.testing.assert_close(both, 0.8 * images + 0.6 * ice)
    assert 0 <= ice.min() < ice.max() <= 1


def test_distances_are_euclidean():
    edges = torch.rand(2, 1, 70, 90, generator=torch.Generator().manual_seed(6)) < 0.003
    for one, found in zip(edges, _distance(edges), strict=True):
        expected = scipy.ndimage.distance_transform_edt(~one[0].numpy()).clip(max=FARTHEST)
        np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5)


def test_smoothing_and_borders_are_scipys():
    image = torch.rand(1, 2, 25, 33, generator=torch.Generator().manual_seed(7))
    expected = [
        scipy.ndimage.gaussian_filter(one, 2.3, mode="nearest", truncate=3) for one in image[0].double().numpy()
    ]
    np.testing.assert_allclose(smooth(image, 2.3, truncate=3.0)[0].numpy(), expected, atol=1e-6)
    for margin in (3, 40):
        padded = np.pad(image.numpy(), ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="reflect")
        np.testing.assert_array_equal(reflected(image, margin).numpy(), padded)
