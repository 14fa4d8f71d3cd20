"""`Distortion` as a function of (images, seed, indices): streams, ranges, mixtures, and what stays untouched."""

import math
import pickle

import numpy as np
import pytest
import torch

from explorer.distortions import DISTORTIONS, distortion
from explorer.distortions.parameters import Parameter
from explorer.distortions.randomness import stream_seed, uniform_number

CORRUPTIONS = [name for name, entry in DISTORTIONS.items() if entry.severities and not name.startswith("gaussian")]
SPECS = [
    "none",
    "none(clip=True)",
    "gaussian_noise",
    "gaussian_noise:3",
    "gaussian_blur(kernel=9, sigma=2)",
    "pixel_mask",
    "patch_mask(patch=7)",
    "square_mask(size=12)",
    "gaussian_noise(sigma=0.1..0.3)",
    "gaussian_blur(kernel=3..15, sigma=1..4)",
    "pixel_mask(fraction=0.2..0.9)",
    "patch_mask(fraction=0.2..0.9, patch=4..9)",
    "square_mask(size=4..20)",
    "gaussian_blur(kernel=5, sigma=1) + gaussian_noise(sigma=0.1..0.2) + square_mask(size=9)",
    "none | gaussian_noise | gaussian_blur(kernel=5, sigma=1) + pixel_mask",
    *(f"{name}:2.5" for name in CORRUPTIONS),
    *(f"{name}:1..5" for name in CORRUPTIONS),
    "random_corruption + pixel_mask(fraction=0.1)",
]
STILL = (
    *("defocus_blur", "zoom_blur", "brightness", "contrast", "saturate"),
    *("pixelate", "jpeg_compression"),
)
RANDOM = [spec for spec in SPECS if distortion(spec).stochastic]


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def photos():
    return rand(6, 3, 30, 37)


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        ("gaussian_blur(sigma=3) + pixel_mask", "Gaussian blur 3 + Pixel mask 0.5"),
        ("none | gaussian_noise(sigma=0.1..0.4)", "no damage or Gaussian noise 0.1..0.4"),
        ("fog:1..3", "Fog, severity 1..3"),
    ],
)
def test_what_people_are_told(spec, label):
    assert distortion(spec).label == label


@pytest.mark.parametrize("spec", SPECS)
def test_an_image_alone_equals_itself_in_any_batch(spec, photos):
    d = distortion(spec)
    together = d(photos, seed=5)
    for i in range(6):
        assert torch.equal(d(photos[i : i + 1], seed=5, indices=[i]), together[i : i + 1])
    order = [4, 0, 5, 2]
    assert torch.equal(d(photos[order], seed=5, indices=order), together[order])
    assert torch.equal(d(photos, seed=5, indices=range(6)), together)
    assert torch.equal(d(photos, seed=5, indices=torch.arange(6)), together)
    assert torch.equal(d(photos, seed=5, indices=np.arange(6)), together)


@pytest.mark.parametrize("spec", SPECS)
def test_memory_layout_does_not_matter(spec, photos):
    d = distortion(spec)
    out = d(photos.to(memory_format=torch.channels_last), seed=1)
    assert torch.equal(out, d(photos, seed=1))
    assert out.is_contiguous()


@pytest.mark.parametrize("spec", RANDOM)
def test_seeds_and_indices_make_a_difference(spec):
    images = rand(1, 3, 30, 37).expand(12, 3, 30, 37)
    d = distortion(spec)
    first, second = d(images, seed=0), d(images, seed=1)
    assert not torch.equal(first, second)
    assert any(not torch.equal(first[0], other) for other in first[1:])
    # A seed is no shift of the indices: (seed 0, index 1) is not (seed 1, index 0).
    assert not torch.equal(first[1:], second[:-1])


def test_the_default_seed_is_zero(photos):
    d = distortion("gaussian_noise")
    assert torch.equal(d(photos), d(photos, seed=0))
    assert torch.equal(d(photos, seed=np.int64(3)), d(photos, 3))


def test_streams_never_meet():
    numbers = [0, 1, 2, 2**32, 2**32 + 1, 2**64 - 1]
    streams = [(s, i, p, q) for s in numbers for i in numbers for p in range(3) for q in range(4)]
    assert len({stream_seed(*stream) for stream in streams}) == len(streams)


def test_uniform_numbers_fill_the_unit_interval():
    numbers = np.array([uniform_number(0, index, 0, 1) for index in range(4000)])
    assert 0 <= numbers.min() < 0.01
    assert 0.99 < numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 5 / math.sqrt(12 * 4000)


def test_components_have_streams_of_their_own(photos):
    zeros = torch.zeros_like(photos)
    once = distortion("gaussian_noise(sigma=1)")(zeros)
    twice = distortion("gaussian_noise(sigma=1) + gaussian_noise(sigma=1)")(zeros)
    second = twice - once
    assert abs(torch.corrcoef(torch.stack([once.flatten(), second.flatten()]))[0, 1]) < 5 / math.sqrt(once.numel())
    assert abs(second.std() - 1) < 0.05


def test_the_order_of_components_is_kept(photos):
    masked_last = distortion("gaussian_noise(sigma=1) + pixel_mask(fraction=0.5)")(photos)
    masked_first = distortion("pixel_mask(fraction=0.5) + gaussian_noise(sigma=1)")(photos)
    assert ((masked_last == 0).all(dim=1).sum(dim=(1, 2)) == int(30 * 37 * 0.5)).all()
    assert (masked_first == 0).sum() < 10
    first = distortion("gaussian_blur(kernel=5, sigma=1)")(photos)
    noise = distortion("none + gaussian_blur(kernel=5, sigma=1) + gaussian_noise(sigma=0.5)")(photos) - first
    assert abs(noise.std() - 0.5) < 0.02


def test_none_is_a_copy(photos):
    out = distortion("none")(photos)
    assert torch.equal(out, photos)
    assert out.data_ptr() != photos.data_ptr()
    assert torch.equal(distortion("none(clip=True)")(photos * 3 - 1), (photos * 3 - 1).clamp(0, 1))


def test_clip_is_done_on_request_alone(photos):
    plain = distortion("gaussian_noise", sigma=1.0)(photos)
    clipped = plain.clamp(0, 1)
    assert not torch.equal(plain, clipped)
    assert torch.equal(distortion("gaussian_noise", sigma=1.0, clip=True)(photos), clipped)
    assert torch.equal(distortion("gaussian_noise(sigma=1.0, clip=True)")(photos), clipped)
    assert torch.equal(distortion("gaussian_noise(sigma=1.0, clip=True)", clip=False)(photos), plain)


def test_clip_of_a_chain_is_that_of_its_last_operator(photos):
    d = distortion("gaussian_noise(sigma=2) + gaussian_blur(kernel=3, sigma=1)", clip=True)
    assert d == distortion("gaussian_noise(sigma=2) + gaussian_blur(kernel=3, sigma=1, clip=True)")
    early = distortion("gaussian_noise(sigma=2, clip=True) + gaussian_blur(kernel=3, sigma=1)")
    for one in (d, early):
        assert 0 <= one(photos).min() < one(photos).max() <= 1
    assert not torch.equal(d(photos), early(photos))


@pytest.mark.parametrize(("severity", "sigma"), [(1, 0.08), (2, 0.12), (3, 0.18), (4, 0.26), (5, 0.38)])
def test_a_severity_is_its_parameters_clipped(severity, sigma, photos):
    d = distortion(f"gaussian_noise:{severity}")
    assert torch.equal(d(photos), distortion("gaussian_noise", sigma=sigma)(photos).clamp(0, 1))
    assert distortion(f"gaussian_noise:{severity}", clip=False) == distortion("gaussian_noise", sigma=sigma)


def test_a_range_is_drawn_for_each_image_within_its_ends():
    noise = distortion("gaussian_noise(sigma=0.5..1.5)")(torch.zeros(400, 3, 32, 32))
    sigmas = noise.flatten(1).std(dim=1)
    assert 0.45 < sigmas.min() < 0.55
    assert 1.45 < sigmas.max() < 1.6
    assert abs(sigmas.mean() - 1) < 5 / math.sqrt(12 * 400)


def test_a_range_of_whole_numbers_takes_each_of_them():
    out = distortion("square_mask(size=2..5)")(torch.ones(400, 3, 6, 6))
    counts = torch.bincount((out[:, 0] == 0).sum(dim=(1, 2)), minlength=26)
    assert counts.nonzero()[:, 0].tolist() == [4, 9, 16, 25]
    assert counts.max() < 150


def test_a_range_of_odd_numbers_stays_odd():
    kernel = DISTORTIONS["gaussian_blur"].parameters[0]
    drawn = kernel.per_image((3, 9), seed=0, indices=range(300), position=0, place=0)
    assert drawn.dtype == np.int64
    assert sorted(set(drawn.tolist())) == [3, 5, 7, 9]


def test_a_drawn_value_depends_on_seed_index_position_and_parameter():
    share = Parameter(name="x", default=0.5, low=0, high=1, step=0.1, unit="share", description="A number.")
    draws = [
        share.per_image((0.0, 1.0), seed, [index], position, place)[0]
        for seed in (0, 1) for index in (0, 1) for position in (0, 1) for place in (0, 1)
    ]  # fmt: skip
    assert len(set(draws)) == 16


def test_the_pattern_is_the_same_whether_the_strength_was_drawn_or_fixed():
    zeros = torch.zeros(3, 3, 32, 32)
    fixed, drawn = distortion("gaussian_noise(sigma=1)")(zeros), distortion("gaussian_noise(sigma=0.5..1.5)")(zeros)
    for one, other in zip(fixed, drawn, strict=True):
        torch.testing.assert_close(other / other.std(), one / one.std())


def test_a_mixture_takes_each_branch_equally_often_and_exactly():
    images = rand(600, 3, 8, 8) + 0.1
    names = ["gaussian_noise(sigma=0.2)", "none", "pixel_mask(fraction=0.5) + gaussian_blur(kernel=3, sigma=1)"]
    branches = [distortion(name)(images, seed=3) for name in names]
    mixed = distortion(" | ".join(names))(images, seed=3)
    taken = torch.stack([(mixed == branch).flatten(1).all(dim=1) for branch in branches])
    assert (taken.sum(dim=0) == 1).all()
    assert (taken.sum(dim=1) - 200).abs().max() < 5 * math.sqrt(600 * 2 / 9)


def test_the_branch_is_not_tied_to_the_drawn_strength():
    spec = "gaussian_noise(sigma=0.5..1.5) | none"
    sigmas = distortion(spec)(torch.zeros(600, 3, 16, 16)).flatten(1).std(dim=1)
    assert abs(sigmas[sigmas > 0].mean() - 1) < 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("spec", SPECS)
def test_shape_dtype_and_device_are_kept(spec, dtype, photos):
    images = (photos * 1.5 - 0.25).to(dtype)  # a clip done in place would show
    before = images.clone()
    out = distortion(spec)(images)
    assert (out.shape, out.dtype, out.device) == (images.shape, dtype, images.device)
    assert torch.isfinite(out).all()
    assert torch.equal(images, before)
    out.zero_()
    assert torch.equal(images, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_keeps_the_same_promises(photos):
    images = photos.cuda()
    for d in map(distortion, SPECS):
        out = d(images, seed=2)
        assert out.device == images.device
        assert torch.equal(d(images[2:3], seed=2, indices=[2]), out[2:3])


@pytest.mark.parametrize("spec", SPECS)
def test_an_empty_batch_stays_empty(spec):
    assert distortion(spec)(torch.rand(0, 3, 30, 37)).shape == (0, 3, 30, 37)


@pytest.mark.parametrize("spec", SPECS)
def test_global_random_state_is_neither_read_nor_moved(spec, photos):
    torch.manual_seed(1)
    np.random.seed(1)
    expected = distortion(spec)(photos)
    torch.manual_seed(2)
    np.random.seed(2)
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert torch.equal(distortion(spec)(photos), expected)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == before_numpy).all()


@pytest.mark.parametrize("spec", ["none", "gaussian_noise", "pixel_mask", "patch_mask", "none | gaussian_noise:1"])
def test_a_picture_of_one_pixel_is_fine(spec):
    assert distortion(spec)(torch.rand(2, 3, 1, 1)).shape == (2, 3, 1, 1)


@pytest.mark.parametrize("spec", SPECS)
def test_it_survives_pickling(spec, photos):
    d = distortion(spec)
    again = pickle.loads(pickle.dumps(d))
    assert again == d
    assert torch.equal(again(photos, seed=4), d(photos, seed=4))


def test_stochastic_says_whether_a_seed_can_matter():
    still = ["none", "gaussian_blur", "gaussian_blur:2 + none"]
    assert not any(distortion(spec).stochastic for spec in still)
    assert not any(distortion(f"{name}:2.5").stochastic for name in STILL)
    assert len(RANDOM) == len(SPECS) - 3 - len(STILL)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "expected float images.*got torch.uint8"),
        (
            torch.zeros(3, 8, 8),
            r"shape \(batch, 3, height, width\), got \(3, 8, 8\); add the batch axis with image\[None\]",
        ),
        (torch.zeros(1, 1, 8, 8), r"got \(1, 1, 8, 8\)"),
        (torch.zeros(1, 8, 8, 3), r"got \(1, 8, 8, 3\)"),
        (torch.zeros(1, 3, 0, 8), r"got \(1, 3, 0, 8\)"),
        (np.zeros((1, 3, 8, 8)), "expected a torch tensor.*got ndarray"),
    ],
)
def test_wrong_images_are_refused(images, message, without_type_checks):
    with pytest.raises(ValueError, match=message):
        distortion("gaussian_noise")(images)


@pytest.mark.parametrize("seed", [-1, 0.5, True, "0", None, 2**64, torch.tensor(0.5), np.array([1, 2])])
def test_a_wrong_seed_is_refused(seed, photos, without_type_checks):
    with pytest.raises(ValueError, match=r"seed is a whole number from 0 to 2\*\*64 - 1; got"):
        distortion("gaussian_noise")(photos, seed=seed)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 1], "one index for each of the 6 images, got 2"),
        ([0, 1, 2, 3, 4, -5], r"an index is a whole number from 0 to 2\*\*64 - 1; got -5"),
        ([0, 1, 2, 3, 4, 0.5], r"an index is a whole number from 0 to 2\*\*64 - 1; got 0.5"),
        ([0, 1, 2, 3, 4, 2**64], "an index is a whole number .*; got 18446744073709551616"),
        (7, "indices must be a sequence"),
        (torch.tensor(7), "indices must be a sequence"),
    ],
)
def test_wrong_indices_are_refused(indices, message, photos, without_type_checks):
    with pytest.raises(ValueError, match=message):
        distortion("gaussian_noise")(photos, indices=indices)
