"""The same photo is found again under damage that the library did not make; another photo is not."""

import numpy as np
import pytest
import torch
from torch import Tensor

from explorer.data.registration import SAME_SCENE, look_swapped, shift_between, shifted
from tests.real_damage import DAMAGES, cut

SHIFTS = [(0, 0), (5, -9), (-12, 3), (2, 14)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_same_photo_is_found_where_it_lies(photos: Tensor, damage: str) -> None:
    for number, photo in enumerate(photos[::8]):
        down, right = SHIFTS[number % len(SHIFTS)]
        clean, other = cut(photo, 160), cut(DAMAGES[damage](photo), 160, down, right)
        shift, correlation = shift_between(clean, other)
        assert np.abs(np.subtract(shift, (down, right))).max() <= 2, (damage, number)
        assert correlation > SAME_SCENE + 0.05
        away = torch.tensor(
            [(clean - picture)[:, 16:-16, 16:-16].abs().mean() for picture in (other, shifted(other, shift))]
        )
        assert away[1] <= away[0]


def test_other_photos_are_other_scenes(photos: Tensor) -> None:
    small = [cut(photo, 96) for photo in photos[:30:3]]
    found = [shift_between(a, b)[1] for place, a in enumerate(small) for b in small[place + 1 :]]
    assert len(found) == 45
    assert max(found) < SAME_SCENE


def test_the_correlation_is_numpys_over_the_common_area(photos: Tensor) -> None:
    from explorer.data.registration import _band

    clean, other = cut(photos[0], 64), cut(photos[0], 64, 3, -2).clone()
    other[:, 20:40, 20:40] = 0.5
    (rows, cols), correlation = shift_between(clean, other)
    assert (rows, cols) == (3, -2)
    a, b = _band(clean)[3:, :-2], _band(other)[:-3, 2:]
    assert correlation == pytest.approx(np.corrcoef(a.flatten(), b.flatten())[0, 1], abs=1e-9)


def test_the_blur_is_torchvisions(photos: Tensor) -> None:
    from torchvision.transforms.v2.functional import gaussian_blur

    from explorer.data.registration import _blur

    picture = photos[0, 0, :40, :30].double()
    expected = gaussian_blur(picture[None], [13, 13], [2.5, 2.5])[0]
    torch.testing.assert_close(_blur(40, 2.5, 6) @ picture @ _blur(30, 2.5, 6).T, expected, rtol=0, atol=1e-12)


def test_scikit_image_counts_shifts_alike(photos: Tensor) -> None:
    registration = pytest.importorskip("skimage.registration")
    clean, other = cut(photos[1], 128), cut(photos[1], 128, -6, 4)
    theirs = registration.phase_cross_correlation(clean.mean(0).numpy(), other.mean(0).numpy())[0]
    assert shift_between(clean, other)[0] == tuple(theirs.astype(int)) == (-6, 4)


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-4, 5)])
def test_shifted_moves_down_and_right_and_repeats_the_border(photos: Tensor, shift: tuple[int, int]) -> None:
    rows, cols = shift
    picture = photos[0, :, :20, :30]
    down = np.clip(np.arange(20) - rows, 0, 19)
    right = np.clip(np.arange(30) - cols, 0, 29)
    assert torch.equal(shifted(picture, shift), picture[:, down][:, :, right])


def test_a_flat_picture_is_like_nothing(photos: Tensor) -> None:
    photo = cut(photos[0], 64)
    assert abs(shift_between(photo, torch.full_like(photo, 0.5))[1]) < 0.05


@pytest.mark.parametrize(("damage", "told"), [("dim", 0.6), ("small", 0.8), ("motion", 0), ("jpeg", 0)])
def test_a_pair_that_was_swapped_is_told_by_its_details(photos: Tensor, damage: str, told: float) -> None:
    pairs = [(photo, DAMAGES[damage](photo)) for photo in photos[::8]]
    swapped = [look_swapped(damaged, clean) for clean, damaged in pairs]
    assert np.mean(swapped) >= told
    assert not any(look_swapped(clean, damaged) for clean, damaged in pairs)
