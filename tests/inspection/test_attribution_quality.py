"""Deletion, insertion and the pointing game against loops over patches; the rest of `quality` is tested with the
attributions (tests/inspection/test_attribution.py)."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.inspection.attribution import Attribution, attribution
from explorer.inspection.attribution_problem import Settings
from explorer.inspection.attribution_quality import points_at, quality, removal_curves
from explorer.models.backbones import Backbone
from tests.architectures import backbone as architecture
from tests.architectures import pictures, shallow

ROWS, COLS, PATCH = 3, 4, 16


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    """Three blocks of ViT-Ti over 3 x 4 patches, float64."""
    return shallow("vit_tiny_patch16_224", grid=(ROWS, COLS), depth=3)


@pytest.fixture(scope="module")
def explained(tiny: Backbone) -> Attribution:
    """Towards something between its embedding and another picture's: there is a score to lose."""
    toward = tiny.trace(pictures(tiny, 1)).embedding[0] + tiny.trace(pictures(tiny, 1, seed=9)).embedding[0]
    return attribution(tiny, pictures(tiny, 1)[0], toward, "saliency", Settings(baseline="blur"))


def with_map(explained: Attribution, values: list[list[float]]) -> Attribution:
    return replace(explained, heatmap=torch.tensor(values, dtype=torch.float64))


MAPS = {
    "signed": [[0.5, -2.0, 0.1, 3.0], [-0.3, 1.0, -4.0, 0.0], [2.0, -0.1, 0.7, -1.0]],
    "ties": [[1.0, 0.0, 1.0, 0.0], [0.0, 2.0, 2.0, 0.0], [1.0, 0.0, 0.0, -1.0]],
    "flat": [[0.0] * COLS] * ROWS,
}


def by_hand(tiny: Backbone, explained: Attribution, counts: list[int]) -> tuple[list[float], list[float]]:
    """Hide, and show alone, the first so many patches, one picture after the other."""
    assert isinstance(explained.toward, Tensor)
    values = explained.heatmap.flatten().tolist()
    order = sorted(range(ROWS * COLS), key=lambda patch: (-values[patch], patch))  # of equal ones the first
    from explorer.inspection.attribution_problem import _blurred

    clean, blank = explained.image, _blurred(explained.image[None])[0]

    def score(picture: Tensor) -> float:
        return F.cosine_similarity(tiny.trace(picture[None]).embedding, explained.toward[None]).item()

    top, bottom = score(clean), score(blank)
    curves: tuple[list[float], list[float]] = [], []
    for count in counts:
        hidden, shown = clean.clone(), blank.clone()
        for patch in order[:count]:
            row, col = PATCH * (patch // COLS), PATCH * (patch % COLS)
            place = (slice(None), slice(row, row + PATCH), slice(col, col + PATCH))
            hidden[place], shown[place] = blank[place], clean[place]
        for curve, picture in zip(curves, (hidden, shown), strict=True):
            curve.append((score(picture) - bottom) / (top - bottom))
    return curves


@pytest.mark.parametrize("steps", [1, 5, 12, 100])
@pytest.mark.parametrize("name", MAPS)
def test_curves_are_a_loop_over_patches(tiny: Backbone, explained: Attribution, name: str, steps: int) -> None:
    mapped = with_map(explained, MAPS[name])
    counts = {1: [0, 12], 5: [0, 2, 5, 7, 10, 12]}.get(steps, list(range(13)))
    found = removal_curves(tiny, mapped, steps)
    deletion, insertion = by_hand(tiny, mapped, counts)
    np.testing.assert_allclose(found.shares, np.array(counts) / 12, rtol=1e-6)
    np.testing.assert_allclose(found.deletion, deletion, atol=1e-9)
    np.testing.assert_allclose(found.insertion, insertion, atol=1e-9)
    assert found.deletion_area == pytest.approx(np.trapezoid(deletion, np.array(counts) / 12))
    assert found.insertion_area == pytest.approx(np.trapezoid(insertion, np.array(counts) / 12))
    assert steps == 1 or found.deletion_area != pytest.approx(found.insertion_area)


def test_they_begin_and_end_at_picture_and_baseline(tiny: Backbone, explained: Attribution) -> None:
    found = removal_curves(tiny, explained, 4)
    assert (found.shares[0], found.shares[-1]) == (0, 1)
    assert found.deletion[[0, -1]].tolist() == found.insertion[[-1, 0]].tolist() == [1, 0]


def test_no_pass_is_larger_than_the_internal_batch(tiny: Backbone, explained: Attribution) -> None:
    alone = replace(explained, settings=replace(explained.settings, internal_batch_size=1))
    sizes: list[int] = []
    tiny.module.patch_embed.proj.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))  # type: ignore[union-attr,operator]
    try:
        found = removal_curves(tiny, alone, 4)
    finally:
        tiny.module.patch_embed.proj._forward_hooks.clear()  # type: ignore[union-attr]
    assert set(sizes) == {1}
    torch.testing.assert_close(found.deletion, removal_curves(tiny, explained, 4).deletion)


def test_without_a_score_to_lose_there_are_no_shares(tiny: Backbone, explained: Attribution) -> None:
    blank = replace(explained, settings=Settings(baseline=explained.image))
    found = removal_curves(tiny, blank, 3)
    assert math.isnan(found.deletion_area)
    assert math.isnan(found.insertion_area)
    assert found.deletion.isnan().all()
    assert abs(found.fall) < 1e-9


def test_where_the_baseline_has_more_of_the_score_no_area_is_the_better_one(
    tiny: Backbone, explained: Attribution
) -> None:
    """Then hiding what speaks for the target moves the score away from the baseline's."""
    assert isinstance(explained.toward, Tensor)
    against = attribution(tiny, explained.image, -explained.toward, "saliency", explained.settings)
    up, down = removal_curves(tiny, explained, 4), removal_curves(tiny, against, 4)
    rising, falling = sorted((up, down), key=lambda curves: curves.fall)
    assert rising.fall == pytest.approx(-falling.fall)
    assert math.isfinite(falling.deletion_area)
    assert math.isnan(rising.deletion_area)
    assert math.isnan(rising.insertion_area)
    assert up.fall == pytest.approx(explained.target - explained.baseline_target)


def test_progress_is_told_to_its_end(tiny: Backbone, explained: Attribution) -> None:
    said: list[tuple[int, int]] = []
    removal_curves(tiny, explained, 5, lambda *told: said.append(told))
    assert said == [(number, 5) for number in range(1, 6)]
    for samples, steps, cuts in ((3, 4, 4), (9, 100, 12), (16, 1, 1)):  # squares are tried 8 at a time
        said.clear()
        quality(tiny, explained, samples=samples, neighbours=2, steps=steps, progress=lambda *told: said.append(told))
        total = samples + 2 * cuts + 2
        assert said[-1] == (total, total)
        assert [done for done, _ in said] == sorted(done for done, _ in said)
        assert {of for _, of in said} == {total}


def test_quality_has_the_areas_of_its_steps(tiny: Backbone, explained: Attribution) -> None:
    judged, curves = quality(tiny, explained, samples=1, neighbours=1, steps=6), removal_curves(tiny, explained, 6)
    assert (judged.deletion, judged.insertion) == (curves.deletion_area, curves.insertion_area)
    assert judged.deletion != removal_curves(tiny, explained, 3).deletion_area


def test_a_map_that_knows_the_patches_that_matter_wins(tiny: Backbone, explained: Attribution) -> None:
    """Occlusion's own order falls sooner, and comes back sooner, than its reverse."""
    settings = Settings(baseline="black")
    right = attribution(tiny, explained.image, explained.toward, "occlusion", settings)
    wrong = replace(right, heatmap=-right.heatmap)
    good, bad = (removal_curves(tiny, each, 12) for each in (right, wrong))
    assert good.deletion_area < bad.deletion_area
    assert good.insertion_area > bad.insertion_area


def test_what_does_not_fit_is_refused(tiny: Backbone, explained: Attribution) -> None:
    for steps in (0, -3):
        with pytest.raises(ValueError, match=f"at least 1; got {steps}"):
            removal_curves(tiny, explained, steps)
        with pytest.raises(ValueError, match="samples, neighbours and steps are at least 1"):
            quality(tiny, explained, steps=steps)
    other = architecture("vit_tiny_patch16_224", image_size=(32, 32))
    with pytest.raises(ValueError, match=r"size=\(32, 32\)|size=32"):
        removal_curves(other, explained)


# The pointing game.


def test_the_highest_patch_points_at_what_covers_half_of_it(explained: Attribution) -> None:
    mapped = with_map(explained, MAPS["signed"])  # its highest patch: row 0, column 3; its lowest: row 1, column 2
    mask = torch.zeros(ROWS * PATCH, COLS * PATCH, dtype=torch.bool)
    assert not points_at(mapped, mask)
    mask[PATCH : 2 * PATCH, 2 * PATCH : 3 * PATCH] = True
    assert not points_at(mapped, mask), "the lowest is not pointed at, however far from 0"
    mask[: PATCH // 2, 3 * PATCH :] = True
    assert points_at(mapped, mask), "half of the patch"
    mask[0, -1] = False
    assert not points_at(mapped, mask), "a pixel less"
    assert points_at(mapped, torch.ones_like(mask))


def test_a_map_over_pixels_points_by_its_patches(explained: Attribution) -> None:
    """One bright pixel is not a bright patch."""
    pixels = torch.zeros(ROWS * PATCH, COLS * PATCH, dtype=torch.float64)
    pixels[20:32, 0:16], pixels[0, 63] = 1.0, 50.0
    mask = pixels == 1
    assert points_at(replace(explained, heatmap=pixels), mask)
    pixels[0, 63] = 500.0
    assert not points_at(replace(explained, heatmap=pixels), mask)


def test_a_mask_of_another_size_is_refused(explained: Attribution) -> None:
    with pytest.raises(ValueError, match=r"\(48, 64\) px; got \(3, 4\)"):
        points_at(explained, torch.ones(ROWS, COLS, dtype=torch.bool))
