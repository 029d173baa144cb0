import numpy as np
import pytest
from scipy import stats

from recommender.leak import find_leak, lives_of
from recommender.troughs import Life

MEBIBYTE = 2**20
DAY = 86_400.0


def readings(days=14.0, step=300.0):
    return 1.7e9 + np.arange(int(days * DAY / step)) * step


def noise(times, share=0.01, seed=1):
    return 1 + share * np.random.default_rng(seed).standard_normal(len(times))


def age(times):
    return (times - times[0]) / DAY


def memory(shape, times, size=500):
    return size * MEBIBYTE * shape(age(times)) * noise(times)


def verdict(shape, days=14.0, **life):
    times = readings(days)
    return find_leak([Life(times, memory(shape, times), **life)])


def test_one_percent_a_day_is_found_with_its_slope():
    found = verdict(lambda day: 1 + 0.01 * day)
    truth = 0.01 * 500 * MEBIBYTE / 24
    assert found.leaking
    assert found.bytes_per_hour == pytest.approx(truth, rel=0.05)
    assert found.interval[0] <= found.bytes_per_hour <= found.interval[1]
    assert found.interval[0] > 0
    assert found.p_value < 0.01
    assert found.confidence == "medium"
    assert "MiB a day" in found.evidence
    assert "14 days of pod age" in found.evidence


def test_the_slope_is_that_of_scipy():
    times = readings()
    daily = memory(lambda day: 1 + 0.02 * day, times)
    found = find_leak([Life(times, daily)])
    blocks = daily[: len(daily) // 96 * 96].reshape(-1, 96).min(axis=1)[4:]
    assert found.bytes_per_hour == pytest.approx(stats.theilslopes(blocks).slope / 8, rel=0.05)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (lambda day: 1 + 0 * day, ""),
        (lambda day: 1 + 0.3 * np.sin(2 * np.pi * day), ""),
        (lambda day: 1 + 0.5 * (1 - np.exp(-day / 2)), "levelled off"),
        (lambda day: 1 + 0.1 * np.log1p(20 * day), "levelled off"),
        (lambda day: 1 + 0.2 * (day > 7), ""),
        (lambda day: 1 - 0.01 * day, ""),
        (lambda day: 1 + 0.001 * day, "would be called a leak"),
        (lambda day: 0.5 + 0.5 * ((day / 0.2) % 1), ""),
    ],
    ids=["flat", "day and night", "cache that fills", "warm-up", "step", "falls", "tiny", "saw-tooth"],
)
def test_what_is_no_leak_is_not_called_one_and_the_gate_is_named(shape, why):
    found = verdict(shape)
    assert not found.leaking
    assert found.evidence.startswith("no leak: ")
    assert why in found.evidence
    assert found.hours_until(1e12, 0.0) is None


def test_a_leak_below_a_saw_tooth_and_below_day_and_night_is_found():
    assert verdict(lambda day: 0.5 + 0.5 * ((day / 0.2) % 1) + 0.01 * day).leaking
    assert verdict(lambda day: 1 + 0.2 * np.sin(2 * np.pi * day) + 0.01 * day).leaking


def test_a_leak_after_a_warm_up_is_found():
    assert verdict(lambda day: 1 + 0.8 * (1 - np.exp(-day)) + 0.02 * day).leaking


def test_growth_that_traffic_explains_is_no_leak_and_without_traffic_it_is_one():
    times = readings()
    rate = 100 * (1 + 0.05 * age(times)) * (1 + 0.3 * np.sin(2 * np.pi * age(times)))
    used = (300 + rate) * MEBIBYTE * noise(times, 0.002)
    assert not find_leak([Life(times, used, rate)]).leaking
    assert find_leak([Life(times, used)]).leaking


def test_a_leak_under_traffic_is_still_found():
    times = readings()
    rate = 100 * (1 + 0.3 * np.sin(2 * np.pi * age(times)))
    used = (300 + rate + 5 * age(times)) * MEBIBYTE * noise(times, 0.002)
    found = find_leak([Life(times, used, rate)])
    assert found.leaking
    assert found.bytes_per_hour == pytest.approx(5 * MEBIBYTE / 24, rel=0.1)


def test_a_day_is_too_young_for_growth_that_a_warm_up_shows():
    assert not verdict(lambda day: 1 + 0.3 * day, days=0.8).leaking
    steep = verdict(lambda day: 1 + 2 * day, days=0.8)
    assert steep.leaking
    assert steep.confidence == "low"


def test_two_replicas_that_agree_raise_the_confidence_and_one_of_three_is_not_enough():
    times = readings()
    leaky, stable = (memory(lambda day, slope=slope: 1 + slope * day, times) for slope in (0.02, 0.0))
    both = find_leak([Life(times, leaky), Life(times, leaky * 1.01)])
    assert both.leaking
    assert both.confidence == "high"
    assert "of pod age in 2 lives" in both.evidence
    assert not find_leak([Life(times, leaky), Life(times, stable), Life(times, stable)]).leaking


def test_a_leak_that_restarts_hide_is_seen_by_age():
    times = readings(15)
    used = memory(lambda day: 1 + 0.05 * (day % 5), times)
    parts = lives_of(times, used, [times[0] + 5 * DAY, times[0] + 10 * DAY])
    assert len(parts) == 3
    assert find_leak([Life(times[part], used[part]) for part in parts]).leaking
    assert not find_leak([Life(times, used)]).leaking


def test_hours_until_the_limit():
    found = verdict(lambda day: 1 + 0.02 * day)
    assert found.hours_until(740 * MEBIBYTE, 640 * MEBIBYTE) == pytest.approx(240, rel=0.05)
    assert found.hours_until(500 * MEBIBYTE, 640 * MEBIBYTE) == 0.0


@pytest.mark.parametrize("count", [0, 1, 2, 19])
def test_few_readings_are_not_tested(count):
    times = readings()[:count]
    found = find_leak([Life(times, np.full(count, 1e8))])
    assert not found.leaking
    assert "not tested" in found.evidence
    assert not find_leak([]).leaking


def test_constant_memory_missing_readings_and_zeros():
    times = readings()
    assert "does not change" in find_leak([Life(times, np.full(len(times), 1e8))]).evidence
    assert not find_leak([Life(times, np.full(len(times), np.nan))]).leaking
    holes = memory(lambda day: 1 + 0.02 * day, times)
    holes[::3], holes[1::50] = np.nan, 0.0
    holes[1000:1600] = np.nan
    assert find_leak([Life(times, holes)]).leaking


def test_a_gap_of_days_does_not_hide_a_leak_or_make_one():
    times = readings(20)
    there = (age(times) < 6) | (age(times) > 14)
    for slope in (0.02, 0.0):
        used = memory(lambda day, slope=slope: 1 + slope * day, times)
        assert find_leak([Life(times[there], used[there])]).leaking is (slope > 0)


def test_lives_are_split_where_memory_falls_and_stays_low():
    times = readings(10)
    used = memory(lambda day: 1 + 0 * day, times)
    used[1000:1100] *= np.linspace(0.3, 1, 100)
    assert lives_of(times, used) == [slice(0, 1000), slice(1000, len(times))]


def test_bursts_dips_and_saw_teeth_are_no_restarts():
    times = readings(10)
    flat = memory(lambda day: 1 + 0 * day, times)
    burst, dip = flat.copy(), flat.copy()
    burst[500:520] *= 2
    dip[700] *= 0.2
    teeth = memory(lambda day: 0.4 + 0.6 * ((day / 0.2) % 1), times)
    for used in (burst, dip, teeth):
        assert len(lives_of(times, used)) == 1
    assert lives_of(times[:0], flat[:0]) == []


def test_the_false_positive_rate_on_noise_that_remembers():
    times = readings(14, 3600)
    said = 0
    for seed in range(60):
        steps = np.random.default_rng(seed).standard_normal(len(times))
        wander = np.zeros(len(times))
        for index in range(1, len(times)):
            wander[index] = 0.97 * wander[index - 1] + 0.24 * steps[index]
        said += find_leak([Life(times, 5e8 * np.exp(0.03 * wander))]).leaking
    assert said <= 2
