"""The vectors are those of VPA's own tests (kubernetes/autoscaler, Apache-2.0), as data."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.baselines.histogram import ExponentialBuckets, Histogram, LinearBuckets, decaying

HOUR = 3600.0
ONE_TO_FOUR = np.array([1.0, 2, 3, 4])
TENS = LinearBuckets(10, 1)
CORES = ExponentialBuckets(1000, 0.01, 1.05, 1e-4)


def test_empty_is_zero_at_any_percentile():
    empty = Histogram.of(TENS, np.array([]), np.array([]))
    assert [empty.percentile(share) for share in (-0.5, 0, 0.5, 1, 1.5)] == [0] * 5


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0, 2), (0.1, 2), (0.2, 3), (0.3, 3), (0.4, 4), (0.5, 4), (0.6, 4), (0.7, 5), (0.8, 5), (0.9, 5), (1, 5)],
)
def test_linear_percentiles(share, expected):
    assert Histogram.of(TENS, ONE_TO_FOUR, ONE_TO_FOUR).percentile(share) == expected
    # nothing decays when all happens at once
    at_once = Histogram.of(TENS, ONE_TO_FOUR, ONE_TO_FOUR * 2.0**-7)
    assert at_once.percentile(share) == expected


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0, 2), (0.02, 2), (0.03, 3), (0.10, 3), (0.11, 4), (0.34, 4), (0.35, 5), (1, 5)],
)
def test_decaying_percentiles(share, expected):
    times = 1234567890 + HOUR * np.arange(4)
    parts = [
        decaying(TENS, [(times[i : i + 1], ONE_TO_FOUR[i : i + 1])], HOUR, ONE_TO_FOUR[i] * 2.0 ** (i - 3))
        for i in range(4)
    ]
    assert Histogram.merged(parts).percentile(share) == expected
    # and with all weights at once: value i is there i times
    repeated = np.repeat(np.arange(4), [1, 2, 3, 4])
    at_once = decaying(TENS, [(times[repeated], ONE_TO_FOUR[repeated])], HOUR)
    assert at_once.percentile(share) == expected


def test_a_large_weight_is_almost_but_not_quite_gone_after_20_half_lives():
    times = np.array([0.0] * 1000 + [20 * HOUR])
    histogram = decaying(TENS, [(times, np.array([2.0] * 1000 + [1.0]))], HOUR)
    assert (histogram.percentile(0.999), histogram.percentile(1)) == (2, 3)


def test_after_101_half_lives_nothing_is_left():
    assert decaying(TENS, [(np.array([0, 101 * HOUR]), np.array([2.0, 1]))], HOUR).percentile(1) == 2


def test_out_of_bounds_is_the_first_or_the_last_filled_bucket():
    tenths = LinearBuckets(1, 0.1)
    histogram = Histogram.of(tenths, np.array([0.1, 0.2]), np.array([0.1, 0.2]))
    assert [histogram.percentile(share) for share in (-0.1, 1.1)] == pytest.approx([0.2, 0.3], rel=1e-15)
    histogram = Histogram.of(tenths, np.array([0.1, 0.2, 0, 1]), np.array([0.1, 0.2, 0.1, 0.2]))
    assert [histogram.percentile(share) for share in (-0.1, 1.1)] == pytest.approx([0.1, 1.0], rel=1e-15)


def one_by_one(times, values, half_life, weight, shares):
    """The same, sample by sample and bucket by bucket, in the most obvious way."""
    starts = [0.01 * (1.05**n - 1) / 0.05 for n in range(CORES.count)]
    buckets = [0.0] * CORES.count
    for when, value in zip(times, values, strict=True):
        place = max(n for n, start in enumerate(starts) if start <= value)
        buckets[place] += weight * 2 ** ((when - times[0]) / half_life)
    ends = []
    for share in shares:
        reached = 0.0
        for n, held in enumerate(buckets):
            reached += held
            if reached >= share * sum(buckets):
                ends.append(starts[n + 1])
                break
    return ends


@pytest.mark.parametrize("seed", range(5))
def test_all_at_once_is_the_same_as_one_by_one(seed):
    chance = np.random.default_rng(seed)
    times, values = np.cumsum(chance.integers(30, 9000, 300)), chance.gamma(0.7, 1.0, 300)
    shares = [0.05, 0.5, 0.9, 0.95, 0.99]
    histogram = decaying(CORES, [(times, values)], 24 * HOUR, 0.1)
    assert [histogram.percentile(share) for share in shares] == pytest.approx(
        one_by_one(times, values, 24 * HOUR, 0.1, shares), rel=1e-12
    )


def test_merging_adds():
    one, two = (Histogram.of(TENS, np.array(values), np.ones(2)) for values in ([1, 2], [2, 3]))
    assert Histogram.merged([one, two]).weights.tolist() == [0, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="different buckets"):
        Histogram.merged([one, Histogram.of(CORES, np.ones(1), np.ones(1))])


@pytest.mark.parametrize(
    ("values", "weights", "total", "whole"),
    [
        ([], [], 0, {}),
        ([1], [1], 1, {1: 10_000}),
        ([1, 2], [1, 100_000], 100_001, {2: 10_000}),
        ([1, 2, 3], [1, 10_000, 50], 10_051, {1: 1, 2: 10_000, 3: 50}),
    ],
)
def test_checkpoints(values, weights, total, whole):
    histogram = Histogram.of(TENS, np.array(values), np.array(weights))
    assert histogram.checkpoint() == (total, whole)
    restored = Histogram.restored(TENS, total, whole)
    assert restored.weights.sum() == pytest.approx(total)
    assert restored.percentile(0.9) == histogram.percentile(0.9)


def test_a_checkpoint_spreads_its_total_over_the_buckets():
    assert Histogram.restored(TENS, 6, {0: 1, 1: 2}).weights[:3].tolist() == [2, 4, 0]


@pytest.mark.parametrize(("total", "whole"), [(1, {-1: 1}), (1, {99: 1}), (-1, {})])
def test_what_is_no_checkpoint_is_refused(total, whole):
    with pytest.raises(ValueError, match="Not a checkpoint"):
        Histogram.restored(TENS, total, whole)


def test_weights_near_nothing_do_not_empty_a_restored_histogram():
    histogram = Histogram.of(TENS, np.array([1, 2]), np.array([1e-15, 1e-11 - 1e-15]))
    assert Histogram.restored(TENS, *histogram.checkpoint()).percentile(0.5) == 3


@given(st.floats(0, 999))
def test_a_value_lies_in_its_bucket(value):
    bucket = int(CORES.find(np.array([value]))[0])
    assert CORES.start(bucket) <= value * (1 + 1e-9) + 1e-12
    assert value <= CORES.start(bucket + 1) * (1 + 1e-9)


def test_the_last_bucket_takes_what_is_larger_and_its_start_is_returned():
    assert CORES.start(CORES.count - 1) >= 1000
    assert Histogram.of(CORES, np.array([1e300]), np.ones(1)).percentile(0.5) == CORES.start(CORES.count - 1)
    assert Histogram.of(TENS, np.array([1e300]), np.ones(1)).percentile(0.5) == 10


def test_16_days_of_minutes_take_less_than_10_ms():
    times, values = np.arange(23_040) * 60.0, np.random.default_rng(1).gamma(2, 0.3, 23_040)
    took = []
    for _ in range(5):
        start = time.process_time()
        decaying(CORES, [(times, values)], 24 * HOUR, 0.1).percentile(0.9)
        took.append(time.process_time() - start)
    assert min(took) < 0.010
