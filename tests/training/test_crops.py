"""Views that teacher and student share: order, crops and flips, each a function of seed, picture and visit."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from explorer.training.crops import Batches, Stream, collate, crop, whole

AREA = (0.4, 1.0)


def ramps(count: int = 5, height: int = 40, width: int = 60) -> TensorDataset:
    """Pictures that tell row (green), column (blue) and number (red)."""
    rows, cols = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return TensorDataset(torch.stack([torch.stack([torch.full_like(rows, i / 10), rows, cols]) for i in range(count)]))


def number(view: Tensor) -> int:
    return round(view[0].mean().item() * 10)


def test_every_picture_once_an_epoch_in_a_new_order() -> None:
    stream = Stream(ramps(), (32, 32), "fresh", AREA, seed=0)
    epochs = [[number(stream[5 * epoch + place].image) for place in range(5)] for epoch in range(4)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_view_depends_on_its_number_and_the_seed_alone() -> None:
    first, again, other = (Stream(ramps(), (32, 32), "fresh", AREA, seed=seed) for seed in (0, 0, 1))
    expected = [first[n].image for n in range(12)]
    assert all(torch.equal(again[n].image, expected[n]) for n in reversed(range(12)))
    assert not any(torch.equal(other[n].image, expected[n]) for n in range(12))


@pytest.mark.parametrize(("views", "slots"), [("fixed", 5), (1, 5), (3, 15), ("fresh", None)])
def test_views_repeat_as_often_as_they_should(views: int | str, slots: int | None) -> None:
    stream = Stream(ramps(), (32, 32), views, AREA, seed=0)  # type: ignore[arg-type]
    assert stream.slots == slots
    seen: dict[int, Tensor] = {}
    different = []
    for n in range(30):
        view = stream[n]
        if slots is not None:
            assert torch.equal(seen.setdefault(view.slot, view.image), view.image)
        if not any(torch.equal(view.image, one) for one in different):
            different.append(view.image)
    assert len(different) == (slots or 30)
    assert slots is None or sorted(seen) == list(range(slots))


def test_a_fixed_view_is_the_picture() -> None:
    stream = Stream(ramps(height=32, width=32), (32, 32), "fixed", AREA, seed=0)
    view = stream[0]
    assert torch.equal(view.image, ramps(height=32, width=32)[view.slot][0])


def test_the_whole_picture_is_cut_in_its_middle() -> None:
    image = ramps()[0][0]
    view = whole(image, (20, 20))
    assert view.shape == (3, 20, 20)
    assert view[1].mean().item() == pytest.approx(0.5, abs=0.01)
    assert view[2, 0, 0].item() == pytest.approx(1 / 6, abs=0.02)  # 40 of 60 columns are kept
    assert view[2, 0, -1].item() == pytest.approx(5 / 6, abs=0.02)


def test_crops_cover_the_wanted_area_and_flip_half_of_the_time() -> None:
    image, shares, flips = ramps(height=60, width=60)[0][0], [], []
    for index in range(300):
        view = crop(image, (30, 30), AREA, np.random.default_rng(index))
        assert view.shape == (3, 30, 30)
        assert view.min() >= 0
        assert view.max() <= 1
        spans = [abs((line[-1] - line[0]).item()) * 30 / 29 for line in (view[1, :, 15], view[2, 15])]
        shares.append(spans[0] * spans[1])
        flips.append(bool(view[2, 15, -1] < view[2, 15, 0]))
        assert view[1, -1, 15] > view[1, 0, 15], "turned upside down"
    assert min(shares) > 0.35
    assert max(shares) > 0.9
    assert min(shares) < 0.5
    assert 100 < sum(flips) < 200


def test_batches_are_shared_without_overlap() -> None:
    alone = list(Batches(3, 6, 8))
    shares = [list(Batches(3, 6, 8, rank, 2)) for rank in (0, 1)]
    assert alone[0] == list(range(24, 32))
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == alone
    assert len(Batches(3, 6, 8)) == 3


def test_collate() -> None:
    stream = Stream(ramps(), (32, 32), 2, AREA, seed=0)
    images, samples, slots = collate([stream[n] for n in (4, 9)])
    assert images.shape == (2, 3, 32, 32)
    assert samples == [4, 9]
    assert slots == [stream[4].slot, stream[9].slot]
