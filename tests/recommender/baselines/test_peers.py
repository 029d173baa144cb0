"""KRR, Crane, Kruize, Autopilot and the simple rules: small cases worked out by hand."""

import numpy as np
import pytest

from recommender.baselines import autopilot, crane, krr, kruize, simple
from recommender.baselines.peer import weighted_quantile
from recommender.series import DAY_SECONDS, Series

HOUR, MEBIBYTE = 3600.0, 2**20
NOW = 5e5  # within every rule's look-back from 0


def pod(values, step=60.0, start=0.0, name="web-0"):
    return Series.of(name, start + step * np.arange(len(values)), values)


def test_krr_simple_is_the_largest_95th_percentile_of_any_pod():
    pods = [pod(np.arange(101.0)), pod(np.arange(101.0) / 2)]
    assert krr.CPU_SIMPLE(pods, NOW) == pytest.approx(95)
    assert krr.CPU_SIMPLE(pods[1:], NOW) == pytest.approx(47.5)


def test_krr_simple_limit_pools_the_points_of_all_pods():
    pods = [pod(np.arange(50.0)), pod(np.arange(50.0, 101.0))]
    assert krr.CPU_SIMPLE_LIMIT(pods, NOW) == pytest.approx(66)
    assert krr.CPU_SIMPLE_LIMIT_LIMIT(pods, NOW) == pytest.approx(96)


def test_krr_memory_is_the_peak_and_15_percent_and_an_oom_limit_and_25_percent():
    assert krr.MEMORY([pod([1e9, 2e9]), pod([1e9])], NOW) == pytest.approx(2.3e9)
    assert krr.after_oom(2.3e9, 2e9) == 2.5e9
    assert krr.after_oom(2.3e9, 1e9) == 2.3e9


def test_krr_floors_are_10m_and_100_mebibytes():
    assert krr.CPU_SIMPLE([pod([0.001])], NOW, floors=True) == 0.01
    assert krr.MEMORY([pod([1e6])], NOW, floors=True) == 100 * MEBIBYTE


def test_crane_is_the_99th_percentile_of_decayed_weight_and_15_percent():
    assert crane.CPU([pod(np.arange(100.0, 0, -1), step=1.0)], NOW) == pytest.approx(1.15 * 99)
    # 98 old points weigh as much as 98 / 64 new ones: the peak of six days ago is outside the upper percent
    past = pod([9.0] + [1.0] * 97, step=1.0)
    fresh = Series.of(
        "web-0", [*past.unix_seconds, *(6 * DAY_SECONDS + past.unix_seconds)], [*past.values, *[2.0] * 98]
    )
    assert crane.CPU([fresh], 6.5 * DAY_SECONDS) == pytest.approx(1.15 * 2)


def test_crane_as_it_runs_weighs_by_value_and_does_not_decay():
    # 9 weighs 9 of 106: in its code the peak is inside the upper percent, however old
    series = pod([9.0] + [1.0] * 97, step=HOUR)
    assert crane.CPU_AS_RUN([series], 97 * HOUR, margin=1) == 9
    assert crane.CPU([pod([9.0] + [1.0] * 196, step=1.0)], NOW, margin=1) == 1


@pytest.mark.parametrize(("cores", "expected"), [(0.02, 0.1), (0.13, 0.2), (5.0, 5.1), (500.0, 100.0)])
def test_crane_deployed_returns_the_end_of_a_tenth_of_a_core(cores, expected):
    for rule in (crane.CPU, crane.CPU_AS_RUN):
        assert rule([pod([cores] * 9)], NOW, margin=1, floors=True) == pytest.approx(expected)
        assert rule([pod([cores] * 9)], NOW, margin=1) == cores


def test_crane_deployed_rounds_memory_up_to_100_mebibytes():
    assert crane.MEMORY([pod([30.0 * MEBIBYTE])], NOW, margin=1, floors=True) == 100 * MEBIBYTE


def test_kruize_takes_percentiles_of_quarter_hour_maxima_over_all_pods():
    quiet, loud = np.repeat(np.arange(101.0), 15) / 2, np.repeat(np.arange(101.0), 15) * 0.1
    loud[::15] = np.arange(101.0)  # once in every interval
    pods = [pod(quiet), pod(loud)]
    assert kruize.CPU_COST(pods, NOW) == 60
    assert kruize.CPU_PERFORMANCE(pods, NOW) == 98


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (49, 1), (50, 2), (60, 2), (98, 2), (100, 2)])
def test_kruize_takes_the_nearest_rank_and_rounds_halves_up(percent, expected):
    assert kruize.nearest_rank(percent, np.array([2.0, 1.0])) == expected


def test_kruize_deployed_takes_the_maximum_below_one_core_and_nothing_when_idle():
    small = [pod(np.arange(99.0) / 100, step=900.0)]
    assert kruize.CPU_COST(small, NOW) == pytest.approx(0.59)
    assert kruize.CPU_COST(small, NOW, floors=True) == pytest.approx(0.98)
    assert kruize.CPU_COST([pod([5.0, 6.0, 7.0], step=900.0)], NOW, floors=True) == 6
    assert kruize.CPU_COST([pod([0.001])], NOW, floors=True) is None


@pytest.mark.parametrize(("values", "expected"), [([100, 90, 95], 110.5), ([100, 10, 50], 120), ([100, 100], 100)])
def test_kruize_memory_leaves_room_for_a_fifth_or_for_the_largest_rise(values, expected):
    assert kruize.MEMORY([pod(values)], NOW) == pytest.approx(expected)


def test_autopilot_weighs_by_load_and_age():
    # 19 of the 38 units of load were served at 1 or below: half of it, though 95 % of the time
    load = pod([1.0] * 19 + [19.0], step=1.0)
    assert autopilot.of_load(0.49, 12 * HOUR, [(load.unix_seconds, load.values)]) == 1
    assert autopilot.CPU([load], NOW) == pytest.approx(1.15 * 19)
    # ten half-lives later the old peak is a thousandth of the load
    fresh = Series.of("web-0", [0.0, 120 * HOUR], [19.0, 1.0])
    assert autopilot.CPU([fresh], 121 * HOUR) == pytest.approx(1.15)


def test_autopilot_memory_looks_at_five_minute_peaks_or_at_the_highest():
    values = np.tile([1.0, 1, 1, 1, 2], 200)
    values[0] = 3.0
    assert autopilot.MEMORY([pod(values)], NOW) == pytest.approx(2.3)
    assert autopilot.MEMORY_PEAK([pod(values)], NOW) == pytest.approx(3.45)


def test_simple_rules():
    assert simple.MAXIMUM([pod([1.0, 3.0]), pod([2.0])], NOW) == pytest.approx(3.45)
    assert simple.MEAN_3_SIGMA([pod([1.0, 3.0])], NOW) == pytest.approx(2 + 3 * 1)
    assert simple.current([], NOW, 0.5) == 0.5
    assert simple.current([], NOW, 0.5, margin=2, floors=True) == 1
    assert simple.current([], NOW, None) is None


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.51, 3), (1, 3), (2, 3)])
def test_a_weighted_quantile_is_the_first_value_that_reaches_its_share(share, expected):
    assert weighted_quantile(np.array([3.0, 1.0, 2.0]), np.array([2.0, 1.0, 1.0]), share) == expected
