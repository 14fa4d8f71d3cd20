"""Distortions of a user's own: seeded like the library's, welcome wherever those are, and clear where they are not."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import explorer as ex
from explorer.distortions.operators import DISTORTIONS
from explorer.models.pairs import CARD, PairError, read_card
from explorer.system.files import asset_path
from tests.small import network, picture_set


def scratches(picture: Tensor, generator: torch.Generator, count: int) -> Tensor:
    """White lines from top to bottom.

    Not a part of the summary.
    """
    columns = torch.randint(picture.shape[2], (count,), generator=generator)
    picture[:, :, columns] = 1.0
    return picture


def darker(picture: Tensor, _generator: torch.Generator, share: float) -> Tensor:
    return picture * (1 - share)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    before = dict(DISTORTIONS)
    ex.register_distortion(scratches, {"count": (4, 0, 30)})
    yield
    DISTORTIONS.clear()
    DISTORTIONS.update(before)


@pytest.fixture
def pictures() -> Tensor:
    return 0.9 * torch.rand(5, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def test_it_is_the_function_seeded_for_each_picture(pictures: Tensor) -> None:
    damage, kept = ex.distortion("scratches(count=7)"), pictures.clone()
    out = damage(pictures, seed=3)
    white = (out == 1.0).all(dim=1).all(dim=1)
    assert ((white.sum(dim=1) > 0) & (white.sum(dim=1) <= 7)).all()
    assert torch.equal(out[~white[:, None, None].expand_as(out)], pictures[~white[:, None, None].expand_as(out)])
    assert len({tuple(row.tolist()) for row in white}) == len(pictures), "every picture draws its own lines"
    assert torch.equal(damage(pictures[2:3], 3, [2]), out[2:3])
    assert not torch.equal(damage(pictures, seed=4), out)
    assert torch.equal(pictures, kept), "the function may write to its picture, which is a copy"


def test_it_stands_beside_the_others_in_specs(pictures: Tensor) -> None:
    ex.register_distortion(darker, {"share": (0.5, 0.0, 1.0)}, name="dusk", stochastic=False)
    chain = ex.distortion("dusk(share=0.25) + gaussian_noise(sigma=0.1)")
    assert ex.distortion(chain.spec) == chain
    noise = chain(torch.zeros_like(pictures), seed=1)
    torch.testing.assert_close(chain(pictures, seed=1), 0.75 * pictures + noise)
    assert not ex.distortion("dusk").stochastic
    assert ex.distortion("dusk(share=0..1)").stochastic
    assert ex.distortion("scratches").stochastic
    assert [entry.name for entry in ex.distortion("scratches | dusk + scratches").own] == ["scratches", "dusk"]
    with pytest.raises(ValueError, match=r"count must lie from 0 to 30 \(as it was registered\), got 31"):
        ex.distortion("scratches(count=31)")
    assert ex.DISTORTIONS["scratches"].summary == "White lines from top to bottom."


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (scratches, {"parameters": {"count": (40, 0, 30)}}, "scratches: count must lie from 0 to 30 .* got 40"),
        (scratches, {"parameters": {"count": 4}}, r"given as three numbers \(default, smallest, largest\); got 4"),
        (scratches, {"parameters": {"clip": (4, 0, 30)}}, "'clip' cannot be the name of a parameter"),
        (scratches, {"name": "gaussian_noise"}, "'gaussian_noise' is a distortion of the library"),
        (scratches, {"name": "none"}, "'none' is a distortion of the library"),
        (lambda picture, _: picture, {}, r"letters, digits and underscores; got '<lambda>': pass name="),
        (lambda picture, _: picture[:, ::2], {"name": "half"}, r"of the shape \(3, 64, 64\); it gave shape \(3, 32"),
        (lambda picture, _: picture.numpy(), {"name": "array"}, r"of the shape \(3, 64, 64\); it gave ndarray"),
        (lambda picture, _: picture / 0, {"name": "broken"}, "NaN or infinite"),
        (lambda picture, _: picture + torch.rand(1), {"name": "wild"}, "two results for one seed: take all random"),
        (
            lambda picture, draw: picture + torch.rand(1, generator=draw),
            {"name": "still", "stochastic": False},
            "another result for another seed: leave stochastic=True",
        ),
    ],
)
def test_what_cannot_be_registered(function, arguments: dict, message: str, without_type_checks: None) -> None:
    before = set(DISTORTIONS)
    with pytest.raises(ValueError, match=message):
        ex.register_distortion(function, **arguments)
    assert set(DISTORTIONS) == before


def test_features_under_it_are_never_kept(tmp_path: Path) -> None:
    images, backbone = picture_set(tmp_path / "pictures"), network(0)
    first = ex.embed(backbone, images, "scratches", cache=tmp_path / "kept").embedding
    ex.register_distortion(lambda picture, _, count: 0 * picture + count, {"count": (4, 0, 30)}, name="scratches")
    assert not (ex.embed(backbone, images, "scratches", cache=tmp_path / "kept").embedding == first).any(axis=1).all()


def test_a_student_of_it(tmp_path: Path) -> None:
    images, teacher = picture_set(tmp_path / "pictures"), network(0)
    config = ex.DistillConfig(
        distortion="scratches(count=1..9)", steps=1, batch_size=2, image_size=32, trainable="last:1"
    )
    run = tmp_path / "run"
    assert len([*ex.distill(teacher, images, config, out=run)]) == 1
    pair = ex.load_pair(run, teacher=teacher)
    assert pair.distortion.spec == "scratches(count=1..9)"
    assert set(read_card(run)["own_distortions"]) == {"scratches"}
    assert ex.sweep(pair, images[:4], "scratches", values=(0, 5)).trained_range == (1, 9)

    del DISTORTIONS["scratches"]
    with pytest.raises(PairError, match=r"trained with 'scratches' \('White lines.*not known here: register the fun"):
        ex.load_pair(run, teacher=teacher)
    ex.register_distortion(darker, {"share": (0.5, 0.0, 1.0)}, name="scratches")
    with pytest.raises(PairError, match=r"another way than the 'scratches' \('White lines from top to bottom\.'\)"):
        ex.load_pair(run, teacher=teacher)
    ex.register_distortion(scratches, {"count": (4, 0, 30)})
    assert ex.load_pair(run, teacher=teacher).card == pair.card


@pytest.mark.parametrize("record", [[], {"scratches": 3}, {"scratches": {"summary": "x", "test": ["0"] * 48}}])
def test_a_tampered_record(tmp_path: Path, record: object) -> None:
    card = json.loads((asset_path("pairs") / "s14-noise" / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**card, "own_distortions": record}))
    with pytest.raises(PairError, match="'own_distortions' should"):
        read_card(tmp_path)


def test_cards_of_the_librarys_distortions_say_nothing_of_own_ones() -> None:
    assert all("own_distortions" not in read_card(name) for name in ex.list_pairs())
