"""Bootstrap intervals agree with SciPy's, cover the truth as often as they say, and pairs are told apart."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from explorer.evaluation.intervals import PairedDifference, bootstrap_interval, compare_paired

RIGHT = np.random.default_rng(0).random(300) < 0.7


def test_it_is_the_percentile_bootstrap_of_scipy() -> None:
    for level in (0.8, 0.95):
        theirs = bootstrap(
            (RIGHT,), np.mean, confidence_level=level, n_resamples=10_000, method="percentile", rng=1, vectorized=True
        ).confidence_interval
        assert bootstrap_interval(RIGHT, level) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_the_difference_is_that_of_scipy_with_pairs() -> None:
    other = np.where(np.random.default_rng(1).random(300) < 0.8, RIGHT, ~RIGHT)
    theirs = bootstrap(
        (RIGHT, other),
        lambda a, b, axis=-1: a.mean(axis=axis) - b.mean(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=10_000,
        rng=2,
    ).confidence_interval
    found = compare_paired(RIGHT, other)
    assert found.difference == pytest.approx(RIGHT.mean() - other.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    drawn = np.random.default_rng(3).random((300, 200)) < 0.6
    intervals = [bootstrap_interval(right, resamples=500) for right in drawn]
    assert 0.91 < np.mean([low <= 0.6 <= high for low, high in intervals]) < 0.98


def test_pairs_are_told_apart_where_intervals_of_each_overlap() -> None:
    better = RIGHT.copy()
    better[np.flatnonzero(~RIGHT)[:10]] = True
    assert bootstrap_interval(better)[0] < bootstrap_interval(RIGHT)[1]
    assert compare_paired(better, RIGHT).verdict == "ahead"
    assert compare_paired(RIGHT, better).verdict == "behind"
    assert compare_paired(RIGHT, RIGHT) == PairedDifference(difference=0.0, low=0.0, high=0.0)
    assert compare_paired(RIGHT, RIGHT).verdict == "level"


def test_shares_of_several_seeds_count_and_the_same_seed_gives_the_same() -> None:
    shares = np.random.default_rng(4).integers(0, 4, 50) / 3
    assert bootstrap_interval(shares) == bootstrap_interval(shares)
    assert bootstrap_interval(shares, resamples=50) != bootstrap_interval(shares, resamples=50, seed=1)
    assert bootstrap_interval(np.ones(3)) == (1, 1)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("right", [[], [[True]], [0.5, float("nan")]])
def test_what_is_no_answer_is_refused(right: list) -> None:
    with pytest.raises(ValueError, match="one finite number for each picture"):
        bootstrap_interval(right)


@pytest.mark.usefixtures("unchecked")
def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="level lies between 0 and 1"):
        bootstrap_interval(RIGHT, 95.0)
    with pytest.raises(ValueError, match="resamples is at least 1"):
        bootstrap_interval(RIGHT, resamples=0)
    with pytest.raises(ValueError, match="the same pictures; got 300 and 299"):
        compare_paired(RIGHT, RIGHT[1:])
