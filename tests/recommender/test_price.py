import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender.price import priced, request_by_price
from recommender.series import DAY_SECONDS, Series

STEP = 300.0
PER_DAY = 288
NOW = 10 * DAY_SECONDS


def pods(*days, name="web"):
    values = np.concatenate(days)
    return [Series.of(name, NOW - len(values) * STEP + np.arange(len(values)) * STEP, values)]


def noisy(days, seed=1, level=1.0, spread=0.2):
    chance = np.random.default_rng(seed)
    return pods(*(level * chance.lognormal(0, spread, PER_DAY) for _ in range(days)))


def test_a_flat_series_gets_little_more_than_it_uses():
    request = request_by_price(pods(*[np.full(PER_DAY, 0.5)] * 7), NOW, None)
    assert 0.5 < request < 0.6


def test_a_rare_and_high_peak_is_not_paid_for_but_a_frequent_one_is():
    def with_peaks(share):
        day = np.full(PER_DAY, 1.0)
        day[: int(share * PER_DAY)] = 20.0
        return request_by_price(pods(*[day] * 7), NOW, None)

    assert with_peaks(0.02) < 2
    assert with_peaks(0.2) > 19


@given(st.floats(1e-4, 1e4), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_it_scales_with_the_unit(factor, seed):
    one = request_by_price(noisy(5, seed), NOW, None)
    scaled = request_by_price(noisy(5, seed, level=factor), NOW, None)
    assert scaled == pytest.approx(one * factor, rel=0.011)  # a step of the grid


@given(st.integers(0, 50), st.floats(1, 100), st.floats(1, 10))
@settings(max_examples=25, deadline=None)
def test_a_higher_price_never_asks_for_less(seed, price, factor):
    series = noisy(6, seed, spread=0.6)
    assert request_by_price(series, NOW, None, price) <= request_by_price(series, NOW, None, price * factor)


@given(st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_applying_it_changes_nothing(seed):
    series = noisy(6, seed, spread=0.5)
    request = request_by_price(series, NOW, None)
    assert request_by_price(series, NOW, request) == request


@given(st.permutations(range(4)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_pods_does_not_matter(order):
    four = [noisy(5, seed)[0] for seed in range(4)]
    assert request_by_price([four[index] for index in order], NOW, None) == request_by_price(four, NOW, None)


def test_what_comes_later_is_not_seen():
    series = noisy(8)
    early = NOW - 2 * DAY_SECONDS
    assert request_by_price(series, early, None) == request_by_price([series[0].before(early)], early, None)


def test_a_step_up_is_followed_the_next_day_and_a_step_down_only_after_days():
    low, high = np.full(PER_DAY, 1.0), np.full(PER_DAY, 2.0)
    assert request_by_price(pods(low, low, low, low, high), NOW, 1.05) > 2.0
    assert request_by_price(pods(high, high, high, high, low), NOW, 2.1) == 2.1


@pytest.mark.parametrize(
    ("values", "current", "expected"),
    [
        ([], None, None),
        ([np.nan] * 5, None, None),
        ([np.nan] * 5, 3.0, 3.0),
        ([0.0] * 500, None, 0.0),
        ([0.0] * 500, 3.0, 3.0),
    ],
)
def test_without_use_there_is_the_current_value_or_none(values, current, expected):
    assert request_by_price(pods(np.array(values, dtype=float)), NOW, current) == expected


@pytest.mark.parametrize("current", [np.nan, np.inf, -1.0, 0.0])
def test_a_current_value_that_cannot_be_is_not_used(current):
    series = noisy(4)
    assert request_by_price(series, NOW, current) == request_by_price(series, NOW, None)


def test_one_sample_gaps_and_hundred_cores():
    assert request_by_price(pods(np.array([100.0])), NOW, None) > 100
    day = np.full(PER_DAY, 1e-3)
    day[10:200] = np.nan
    assert 1e-3 < request_by_price(pods(day, day), NOW, None) < 1.3e-3


def test_expected_minutes_over_are_those_of_the_past_where_nothing_wanders():
    day = np.linspace(0, 1, PER_DAY)
    found = priced(pods(*[day] * 10), NOW)
    at = np.searchsorted(found.requests, 0.97)
    assert found.over[at] == pytest.approx(0.03, abs=0.01)
