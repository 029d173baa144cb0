import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender import memory
from recommender.memory import Kill, fit_memory, kept, memory_need
from recommender.runtime import heap_advice
from recommender.series import Series

MEBIBYTE = 2**20
DAY = 86_400.0
START = 1.7e9


def readings(days=10.0, step=300.0):
    return START + np.arange(int(days * DAY / step)) * step


def used_by(times, shape=lambda day: 1 + 0 * day, noise=0.005, seed=1):
    chance = np.random.default_rng(seed)
    return 400 * MEBIBYTE * shape((times - START) / DAY) * (1 + noise * chance.standard_normal(len(times)))


def need(shape=lambda day: 1 + 0 * day, days=10.0, **more):
    times = readings(days)
    return memory_need(times, used_by(times, shape), **more)


def test_a_steady_workload_gets_its_peak_and_a_small_margin():
    fit = need()
    assert fit.need_bytes == fit.peak_bytes
    assert 1.07 <= fit.upper_bytes / fit.peak_bytes <= 1.12
    assert fit.lower_bytes <= fit.upper_bytes
    assert fit.leak_bytes_per_hour is None


def test_the_margin_widens_with_little_history():
    ratios = [fit.upper_bytes / fit.peak_bytes for fit in (need(days=each) for each in (0.5, 1, 3, 12))]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > 1.2


def test_the_margin_widens_where_daily_peaks_differ():
    heights = np.random.default_rng(4).uniform(1.0, 1.6, 10)
    restless = need(lambda day: 1 + (heights[day.astype(int)] - 1) * ((day % 1) > 0.9))
    assert restless.upper_bytes / restless.peak_bytes > need().upper_bytes / need().peak_bytes + 0.05


def test_the_highest_replica_counts_whatever_the_order():
    times = readings()
    both, labels = np.tile(times, 2), np.repeat(["b", "a"], len(times))
    used = np.concatenate([used_by(times), 2 * used_by(times, seed=2)])
    fit = memory_need(both, used, instances=labels)
    assert fit.peak_bytes == used.max()
    order = np.random.default_rng(1).permutation(len(both))
    assert memory_need(both[order], used[order], instances=labels[order]) == fit


def test_what_is_after_now_is_not_looked_at():
    times = readings()
    used = used_by(times)
    now = START + 6 * DAY
    used[times >= now] *= 10
    assert memory_need(times, used, now=now).peak_bytes < 450 * MEBIBYTE


def test_growth_that_is_no_leak_is_sized_for():
    fit = need(lambda day: 1 + 0.6 * (1 - np.exp(-day / 2)), days=3)
    assert not fit.leak.leaking
    assert fit.upper_bytes > 400 * MEBIBYTE * (1 + 0.6 * (1 - math.exp(-2)))


def test_after_a_step_down_the_old_level_is_forgotten_in_three_days():
    times = readings(9)
    used = used_by(times, lambda day: np.where(day < 5, 1.0, 0.6))
    early, late = (memory_need(times, used, now=START + day * DAY) for day in (6.5, 8.9))
    assert early.peak_bytes > 400 * MEBIBYTE
    assert late.peak_bytes < 260 * MEBIBYTE
    assert any("a step down" in reason for reason in late.reasons)


def test_since_a_deploy_it_is_never_below_the_peak():
    times = readings(9)
    used = used_by(times, lambda day: np.where(day < 7, 1.0, 0.6) + 0.3 * ((day > 7.1) & (day < 7.2)))
    fit = memory_need(times, used, deploys=[START + 7 * DAY])
    assert fit.peak_bytes == pytest.approx(0.9 * 400 * MEBIBYTE, rel=0.02)
    assert any("since the last deploy" in reason for reason in fit.reasons)


def test_a_weekend_is_no_step():
    fit = need(lambda day: np.where(day % 7 < 5, 1.0, 0.5), days=7)
    assert fit.peak_bytes > 400 * MEBIBYTE


def test_a_start_up_peak_counts_in_full():
    times = readings()
    used = used_by(times)
    used[1440:1442] *= 1.5
    started = np.where(np.arange(len(times)) < 1440, START, times[1440])
    fit = memory_need(times, used, started=started)
    assert fit.restarts == 1
    assert fit.start_up_bytes == used.max() == fit.peak_bytes
    assert 1.0 < fit.upper_bytes / used.max() < 1.1
    assert any("starts, which take up to" in reason for reason in fit.reasons)


def test_a_kill_asks_for_a_fifth_or_100_mib_until_a_week_has_passed():
    small = need(kills=[Kill(START + 9 * DAY)])
    assert small.need_bytes == pytest.approx(small.peak_bytes + 100 * MEBIBYTE)
    assert small.oom_kills == 1
    times = readings()
    large = memory_need(times, 10 * used_by(times), kills=[Kill(START + 9 * DAY)])
    assert large.need_bytes == pytest.approx(1.2 * large.peak_bytes)
    past = need(kills=[Kill(START + 1 * DAY, 500 * MEBIBYTE)])
    assert past.need_bytes == 500 * MEBIBYTE
    assert past.upper_bytes > 500 * MEBIBYTE


def test_a_kill_at_a_limit_above_the_peak_seen_starts_from_the_limit():
    fit = need(kills=[Kill(START + 9 * DAY, 600 * MEBIBYTE)])
    assert fit.need_bytes == pytest.approx(720 * MEBIBYTE)
    elsewhere = need(kills=[Kill(START + 9 * DAY, 6000 * MEBIBYTE)])  # the node ran out, not this limit
    assert elsewhere.need_bytes < 600 * MEBIBYTE


def test_memory_that_follows_traffic_is_sized_for_the_highest_rate_seen():
    times = readings()
    day = (times - START) / DAY
    rate = 50 + 30 * np.sin(2 * np.pi * day)
    rate[:600] *= 2  # before the deploy, when memory per request was another
    used = (200 + 2 * rate) * MEBIBYTE * (1 + 0.002 * np.random.default_rng(1).standard_normal(len(times)))
    fit = memory_need(times, used, requests_per_second=rate, deploys=[START + 4 * DAY])
    assert fit.follows_traffic.bytes_per_request_per_second == pytest.approx(2 * MEBIBYTE, rel=0.05)
    assert fit.follows_traffic.highest_rate == pytest.approx(160, rel=0.01)
    assert fit.need_bytes == pytest.approx(520 * MEBIBYTE, rel=0.03)
    assert fit.peak_bytes < 370 * MEBIBYTE
    flat = memory_need(times, used_by(times), requests_per_second=rate)
    assert flat.follows_traffic is None


def test_a_leak_is_reported_and_the_current_size_stays():
    times = readings(14)
    used = used_by(times, lambda day: 1 + 0.02 * day)
    fit = memory_need(times, used)
    assert fit.leak_bytes_per_hour == pytest.approx(8 * MEBIBYTE / 24, rel=0.1)
    assert kept(fit, 300 * MEBIBYTE) == 300 * MEBIBYTE
    assert fit.leak.evidence in fit.reasons


def test_page_cache_is_no_need_unless_it_is_read_back(make_history):
    history = make_history(
        memory_working_set_bytes=100.0 * MEBIBYTE,
        memory_file_bytes=800.0 * MEBIBYTE,
        memory_peak_bytes=900.0 * MEBIBYTE,
    )
    assert fit_memory(history).peak_bytes == 100 * MEBIBYTE
    read_back = dataclasses.replace(history, frame=history.frame.assign(refaults=1e5))
    assert fit_memory(read_back).peak_bytes == 900 * MEBIBYTE


def test_a_peak_between_two_readings_counts(make_history):
    history = make_history()
    history.frame.loc[30:, "memory_peak_bytes"] = 180.0 * MEBIBYTE
    assert fit_memory(history).peak_bytes == 180 * MEBIBYTE


def test_a_history_without_memory_has_no_fit(make_history):
    assert fit_memory(make_history(memory_working_set_bytes=None, memory_peak_bytes=None)) is None


def test_bad_input():
    times = readings(3)
    used = used_by(times)
    clean = memory_need(times, used)
    dirty = used.copy()
    dirty[5::7], dirty[6::70] = np.nan, 0.0
    dirty[100:300] = np.nan
    fit = memory_need(times, dirty)
    assert fit.peak_bytes <= clean.peak_bytes
    assert fit.upper_bytes == pytest.approx(clean.upper_bytes, rel=0.05)
    assert memory_need(times, np.full(len(times), np.nan)) is None
    assert memory_need(times[:0], used[:0]) is None
    assert memory_need(times, used, now=START) is None


def test_one_reading_has_a_size_with_a_wide_margin():
    fit = memory_need(np.array([START]), np.array([1e8]))
    assert fit.peak_bytes == 1e8
    assert 1.2e8 < fit.upper_bytes < 2e8
    constant = memory_need(readings(), np.full(len(readings()), 1e8))
    assert 1.06e8 < constant.upper_bytes < 1.11e8


def test_the_rule_keeps_a_size_that_will_do():
    times = readings()
    pods = [Series.of("a", times, used_by(times)), Series.of("b", times, used_by(times, seed=2))]
    now = START + 9 * DAY
    first = memory.rule(pods, now, None)
    assert memory.rule(pods, now, first) == first
    assert memory.rule(pods, now, first * 1.03) == first * 1.03
    assert memory.rule(pods, now, first * 1.5) == first
    assert memory.rule(pods, now, first * 0.8) == first
    assert memory.rule(pods, START, None) is None
    assert memory.rule([], now, None) is None


@given(st.integers(1, 60), st.floats(0.1, 8), st.floats(0, 0.5), st.integers(0, 1000))
def test_lower_peak_need_and_upper_are_in_order_and_scale(count, days, spread, seed):
    chance = np.random.default_rng(seed)
    times = START + np.sort(chance.uniform(0, days * DAY, count))
    used = 1e9 * np.exp(spread * chance.standard_normal(count))
    fit, double = memory_need(times, used), memory_need(times, 2 * used)
    assert fit.lower_bytes <= fit.upper_bytes
    assert fit.peak_bytes <= fit.need_bytes <= fit.upper_bytes
    assert double.upper_bytes == pytest.approx(2 * fit.upper_bytes)


@pytest.mark.parametrize(
    ("runtime", "mebibytes", "setting"),
    [
        ("jvm", 1024, "-XX:MaxRAMPercentage=75.0 (or -Xmx768m; a -Xmx that is set wins)"),
        ("JVM", 256, "-XX:MaxRAMPercentage=50.0 (or -Xmx128m; a -Xmx that is set wins)"),
        ("go", 1000, "GOMEMLIMIT=900MiB"),
        ("node", 2048, "NODE_OPTIONS=--max-old-space-size=1536"),
        ("jvm", 128, ""),
    ],
)
def test_heap_and_limit_go_together(runtime, mebibytes, setting):
    advice = heap_advice(runtime, mebibytes * MEBIBYTE)
    assert advice.setting == setting
    assert advice.heap_bytes < mebibytes * MEBIBYTE
    assert advice.reason
    assert advice.source


def test_other_runtimes_have_no_heap_limit():
    assert heap_advice("cpython", 1e9) is None
