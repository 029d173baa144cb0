"""The vectors are those of VPA's own tests (kubernetes/autoscaler, Apache-2.0), as data."""

import math

import numpy as np
import pytest

from profiles.errors import UsageError
from recommender.baselines import goldilocks, vpa
from recommender.baselines.histogram import Histogram
from recommender.resources import parse_quantity
from recommender.series import DAY_SECONDS, Series

MEBIBYTE = 2**20


@pytest.mark.parametrize(
    ("amount", "interval_minutes", "trust", "expected"),
    [
        (3.14, 1440, 0.00625, 907.46),
        (3.14e9, 1440, 0.00625, 9.0746e11),
        (3.14, 18, 0.5, 4.5216),
        (3.14e9, 18, 0.5, 4.5216e9),
    ],
)
def test_confidence_widens_by_samples_where_they_are_fewer_than_the_days(amount, interval_minutes, trust, expected):
    # nine samples, two minutes apart
    assert vpa.confidence(9, 16 * 60, interval_minutes * 60) == trust
    assert vpa.with_confidence(amount, trust, 0.1, 2) == pytest.approx(expected, rel=1e-12)


def test_confidence_is_the_days_where_samples_are_dense():
    assert vpa.confidence(5 * 1440 * 4, 5 * DAY_SECONDS) == 5


@pytest.mark.parametrize(("hours", "factor"), [(12, 3), (24, 2), (168, 1.142857)])
def test_the_upper_bound_comes_down_with_history(hours, factor):
    assert vpa.with_confidence(1, hours / 24, 1, 1) == pytest.approx(factor, rel=1e-6)


@pytest.mark.parametrize(("minutes", "factor"), [(5, 0.6), (30, 0.9), (60, 0.95)])
def test_the_lower_bound_comes_up_with_history(minutes, factor):
    assert vpa.with_confidence(1, minutes / 1440, 0.001, -2) == pytest.approx(factor, abs=0.015)


def test_without_confidence_the_upper_bound_is_all_there_is_and_the_lower_nothing():
    assert vpa.with_confidence(1, 0, 1, 1) == math.inf
    assert vpa.with_confidence(1, 0, 0.001, -2) == 0
    one = [Series.of("web-0", [0], [1])]
    assert (vpa.CPU_LOWER(one, 60, None, margin=1), vpa.CPU_UPPER(one, 60, None, margin=1)) == (0, 1e11)
    assert vpa.MEMORY_UPPER(one, 60, None, margin=1) == 1e14


def test_percentiles_of_cores_and_bytes_are_within_a_bucket():
    cores = Histogram.of(vpa.CORES.buckets, np.array([1.0, 2, 3]), np.ones(3))
    sizes = Histogram.of(vpa.BYTES.buckets, np.array([1e9, 2e9, 3e9]), np.ones(3))
    assert cores.percentile(0.2) == pytest.approx(1, rel=0.05)
    assert sizes.percentile(0.5) == pytest.approx(2e9, rel=0.05)


@pytest.mark.parametrize(("request_mi", "peak_mi", "needed_mi"), [(1000, 0, 1200), (1, 0, 101), (1000, 3000, 3600)])
def test_an_out_of_memory_kill_adds_a_fifth_or_100_mebibytes(request_mi, peak_mi, needed_mi):
    assert vpa.after_oom(request_mi * MEBIBYTE, peak_mi * MEBIBYTE) == needed_mi * MEBIBYTE


@pytest.mark.parametrize(
    ("limit", "request_", "recommended", "expected"),
    [
        (2, 1, 10, 20),
        (None, 1, 10, None),
        (0, 1, 10, None),
        (2, None, 10, 10),
        (2, 0, 10, 10),
        (2, 1, None, None),
        (2, 1, 0, None),
        (1, 1, 10, 10),
        (2, 1.5, 1, pytest.approx(1.333, abs=0.0005)),
    ],
)
def test_limits_keep_their_ratio_to_the_request(limit, request_, recommended, expected):
    assert vpa.limit_for(request_, limit, recommended) == expected


@pytest.mark.parametrize("text", ["128974848000m", "128.974848M", "128974848", "+128974848", "128974.848k", "123Mi"])
def test_quantities_of_one_size_are_one_number(text):
    assert parse_quantity(text) == 128974848


@pytest.mark.parametrize(
    ("text", "expected"),
    [("129e6", 1.29e8), ("1.29E8", 1.29e8), ("1E", 1e18), ("100m", 0.1), ("250u", 0.00025), (".5", 0.5)],
)
def test_quantities(text, expected):
    assert parse_quantity(text) == expected


@pytest.mark.parametrize("text", ["", "1 Gi", "-1", "1mi", "1e3Mi", "1e999", "٣"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(UsageError, match="quantity"):
        parse_quantity(text)


def test_memory_is_seen_as_one_peak_a_day_dated_at_its_end():
    minutes = np.arange(3 * 1440) * 60.0 + 500
    pod = Series.of("web-0", minutes, np.repeat([1e9, 3e9, 2e9], 1440))
    ends, peaks = vpa.daily_peaks(pod)
    assert peaks.tolist() == [1e9, 3e9, 2e9]
    assert ends.tolist() == [500 + day * DAY_SECONDS for day in (1, 2, 3)]


def test_a_day_without_samples_has_no_peak():
    pod = Series.of("web-0", [0, 60, 2 * DAY_SECONDS + 5], [1.0, 2, 3])
    ends, peaks = vpa.daily_peaks(pod)
    assert (ends.tolist(), peaks.tolist()) == ([DAY_SECONDS, 3 * DAY_SECONDS], [2, 3])


def test_the_target_of_a_constant_load_is_its_buckets_end_and_the_margin():
    days = Series.of("web-0", np.arange(8 * 1440) * 60.0, np.ones(8 * 1440))
    end = vpa.CORES.buckets.start(int(vpa.CORES.buckets.find(np.ones(1))[0]) + 1)
    now = 8 * DAY_SECONDS
    assert vpa.CPU_TARGET([days], now) == pytest.approx(1.15 * end)
    assert vpa.CPU_UPPER([days], now) == pytest.approx(1.15 * end * (1 + 1 / 8), rel=1e-3)
    assert vpa.CPU_LOWER([days], now) == pytest.approx(1.15 * end, rel=1e-3)


def test_floors_hold_up_only_when_asked_for():
    idle = [Series.of("web-0", np.arange(1440) * 60.0, np.zeros(1440))]
    assert vpa.CPU_TARGET(idle, DAY_SECONDS) == pytest.approx(0.0115)
    assert vpa.CPU_TARGET(idle, DAY_SECONDS, floors=True) == 0.025
    assert vpa.MEMORY_TARGET(idle, DAY_SECONDS) == pytest.approx(1.15e7)
    assert vpa.MEMORY_TARGET(idle, DAY_SECONDS, floors=True) == 250 * MEBIBYTE


def test_goldilocks_shows_vpa():
    assert goldilocks.CPU_GUARANTEED is vpa.CPU_TARGET
    assert (goldilocks.CPU_BURSTABLE, goldilocks.CPU_BURSTABLE_LIMIT) == (vpa.CPU_LOWER, vpa.CPU_UPPER)
    assert (goldilocks.MEMORY_BURSTABLE, goldilocks.MEMORY_BURSTABLE_LIMIT) == (vpa.MEMORY_LOWER, vpa.MEMORY_UPPER)
