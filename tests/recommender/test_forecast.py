import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recommender.forecast import forecast
from recommender.series import DAY_SECONDS, Series

LEVELS = (0.8, 0.95)


def diurnal(days, depth=0.6, noise=0.1, seed=1, per_day=288, week=0.0, per_week=0.0):
    chance = np.random.default_rng(seed)
    at = np.arange(int(days * per_day)) / per_day
    z = depth * np.sin(2 * np.pi * at) - week * (np.floor(at) % 7 >= 5) + np.log1p(per_week) * at / 7
    values = np.exp(z + noise * chance.standard_normal(len(at)))
    return Series.of("web", 1.7e9 + DAY_SECONDS / per_day * np.arange(len(at)), values)


def bytes_of(said):
    peak = said.daily_peak
    arrays = (said.unix_seconds, said.middle, said.lower, said.upper, peak.middle, peak.lower, peak.upper)
    return b"".join(each.tobytes() for each in arrays) + said.sentence.encode()


def assert_whole(said, horizon):
    count = round(horizon * DAY_SECONDS / said.step_seconds)
    levels = len(said.levels)
    assert said.unix_seconds.shape == said.middle.shape == (count,)
    assert said.lower.shape == said.upper.shape == (levels, count)
    assert said.daily_peak.middle.shape == (horizon,)
    assert said.daily_peak.lower.shape == said.daily_peak.upper.shape == (levels, horizon)
    for middle, lower, upper in (
        (said.middle, said.lower, said.upper),
        (said.daily_peak.middle, said.daily_peak.lower, said.daily_peak.upper),
    ):
        assert np.isfinite([middle, *lower, *upper]).all()
        slack = 1e-9 * (1 + np.abs(middle))
        assert (lower >= 0).all()
        assert (lower <= middle + slack).all()
        assert (middle <= upper + slack).all()
        assert (np.diff(lower, axis=0) <= slack).all()  # a higher level is wider
        assert (np.diff(upper, axis=0) >= -slack).all()


@pytest.mark.parametrize("horizon", [1, 7, 30, 90])
def test_it_begins_where_the_series_ends_and_has_every_step(horizon):
    series = diurnal(16)
    said = forecast(series, horizon)
    assert_whole(said, horizon)
    assert said.unix_seconds[0] == series.unix_seconds[-1] + 300
    assert np.allclose(np.diff(said.unix_seconds), 3600)


def test_a_season_is_followed():
    series = diurnal(15, noise=0.05)
    said = forecast(series.before(1.7e9 + 14 * DAY_SECONDS), 1)
    truth = series.since(1.7e9 + 14 * DAY_SECONDS).values.reshape(24, -1).mean(axis=1)
    assert np.abs(said.middle / truth - 1).max() < 0.1
    assert (said.upper[1] / said.lower[1]).mean() < 1.3  # beside 3.3 from night to day


def test_without_a_season_a_simple_model_is_chosen():
    chance = np.random.default_rng(3)
    said = forecast(Series.of("web", 300.0 * np.arange(16 * 288), np.exp(0.3 * chance.standard_normal(16 * 288))))
    assert said.methods[0] in {"last week's level", "last day's level"}
    assert np.ptp(said.middle[:72]) < 1e-9


def test_a_weekend_ahead_is_low_when_weeks_are_known():
    said = forecast(diurnal(26, week=0.8, noise=0.05), 7)  # days 26 and 27 are the last two of their week
    levels = said.middle.reshape(7, 24).mean(axis=1)
    assert levels[:2].max() < 0.7 * levels[2:].min()
    assert said.methods[:2] == ("weekday", "weekday")


def test_told_growth_goes_on():
    series = diurnal(28, per_week=0.15, noise=0.05)
    said = forecast(series, 28)
    levels = said.middle.reshape(28, 24).mean(axis=1)
    assert levels[21] > 1.25 * levels[0]
    assert "no growth told" not in said.sentence


def test_intervals_widen_with_the_days_ahead():
    said = forecast(diurnal(16), 90)
    for lower, upper in ((said.lower, said.upper), (said.daily_peak.lower, said.daily_peak.upper)):
        ratio = (np.log(upper + 0.1) - np.log(lower + 0.1)).reshape(2, 90, -1).mean(axis=2)
        assert (np.diff(ratio[:, 7:], axis=1) > 0).all()
        assert (ratio[:, 89] > 1.15 * ratio[:, 0]).all()


def test_the_same_series_gives_the_same_bytes():
    assert bytes_of(forecast(diurnal(16), 30)) == bytes_of(forecast(diurnal(16), 30))


def test_what_comes_later_does_not_matter():
    series = diurnal(16)
    changed = Series.of(
        "web", series.unix_seconds, np.where(series.unix_seconds > 1.7e9 + 10 * DAY_SECONDS, 99, series.values)
    )
    now = 1.7e9 + 10 * DAY_SECONDS
    assert bytes_of(forecast(series.before(now))) == bytes_of(forecast(changed.before(now)))


def test_the_unit_does_not_matter():
    series = diurnal(10)
    one, bytes_ = forecast(series), forecast(Series.of("web", series.unix_seconds, 2.0**30 * series.values))
    np.testing.assert_allclose(bytes_.upper, 2.0**30 * one.upper, rtol=1e-9)


@pytest.mark.parametrize("values", [[], [1.0], [np.nan] * 50])
def test_without_two_samples_there_is_no_forecast_and_the_reason(values):
    said = forecast(Series.of("web", 60.0 * np.arange(len(values)), values))
    assert len(said.middle) == len(said.daily_peak.middle) == 0
    assert said.lower.shape == (2, 0)
    assert said.sentence == f"No forecast: {1 if values == [1.0] else 0} of 2 samples needed."


@pytest.mark.parametrize("days", [0.01, 0.5, 1.0, 1.5])
def test_a_short_past_is_said_and_its_interval_holds_the_day_so_far(days):
    series = diurnal(days)
    said = forecast(series, 7)
    assert_whole(said, 7)
    assert said.origins == 0
    assert "a daily season needs 3 days" in said.sentence
    assert said.step_seconds == 900
    assert said.lower[1, 0] < np.median(series.values) < said.upper[1, 0]
    assert said.daily_peak.upper[1, 0] > series.values.max()


@pytest.mark.parametrize("days", [0.5, 1, 2, 20])
def test_all_zero_stays_zero_and_says_so(days):
    said = forecast(Series.of("web", 300.0 * np.arange(days * 288), np.zeros(int(days * 288))))
    assert_whole(said, 7)
    assert not said.upper.any()
    assert not said.daily_peak.upper.any()


def test_a_constant_is_forecast_with_a_narrow_interval():
    said = forecast(Series.of("web", 300.0 * np.arange(20 * 288), np.full(20 * 288, 3.0)))
    np.testing.assert_allclose(said.middle, 3.0)
    assert said.upper[1].max() < 3.6
    assert said.sentence == "Constant over 20 days; what could change it was not seen."


def test_gaps_and_missing_values_are_no_obstacle():
    series = diurnal(16, noise=0.05)
    values = series.values.copy()
    values[np.random.default_rng(2).random(len(values)) < 0.2] = np.nan
    there = np.ones(len(values), dtype=bool)
    there[4 * 288 : 7 * 288 + 100] = False
    holed = forecast(Series.of("web", series.unix_seconds[there], values[there]))
    assert_whole(holed, 7)
    np.testing.assert_allclose(holed.middle, forecast(series).middle, rtol=0.15)


def test_samples_that_end_in_nothing_known_still_forecast_from_the_end():
    series = diurnal(10)
    values = series.values.copy()
    values[-400:] = np.nan
    said = forecast(Series.of("web", series.unix_seconds, values))
    assert_whole(said, 7)
    assert said.unix_seconds[0] == series.unix_seconds[-1] + 300


@pytest.mark.parametrize("step_hours", [1, 5, 24, 168])
def test_coarse_samples_get_coarse_steps(step_hours):
    values = np.exp(0.1 * np.random.default_rng(1).standard_normal(60))
    said = forecast(Series.of("web", 3600.0 * step_hours * np.arange(60), values), 7)
    assert_whole(said, 7)
    assert said.step_seconds >= min(step_hours, 24) * 3600


def test_other_levels_are_possible_and_come_in_order():
    said = forecast(diurnal(10), 3, levels=(0.99, 0.5))
    assert said.levels == (0.5, 0.99)
    assert_whole(said, 3)


@pytest.mark.parametrize(("horizon", "levels"), [(0, LEVELS), (91, LEVELS), (7, ()), (7, (0.0,)), (7, (80,))])
def test_what_cannot_be_meant_is_refused(horizon, levels):
    with pytest.raises(ValueError, match=r"horizon|Levels"):
        forecast(diurnal(3), horizon, levels)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.just(0.0), st.floats(0, 1e12), st.just(float("nan"))), min_size=0, max_size=200),
    st.sampled_from([60.0, 3600.0, 20_000.0]),
)
@example([5e-324, 5e-324], 60.0)  # too small to divide by
def test_whatever_comes_in_the_answer_is_whole_or_says_why(values, step):
    said = forecast(Series.of("web", step * np.arange(len(values)), values), 2)
    assert said.sentence
    if len(said.middle):
        assert_whole(said, 2)


def test_next_day_intervals_hold_what_came():
    inside = []
    for seed in range(12):
        series = diurnal(17, noise=0.3, seed=seed)
        for day in (6, 9, 12, 16):
            now = 1.7e9 + day * DAY_SECONDS
            said = forecast(series.before(now), 1)
            truth = series.between(now, now + DAY_SECONDS).values
            steps, peak = truth.reshape(24, -1).mean(axis=1), truth.max()
            inside.append(
                [((low <= steps) & (steps <= high)).mean() for low, high in zip(said.lower, said.upper, strict=True)]
                + [
                    float(low <= peak <= high)
                    for low, high in zip(said.daily_peak.lower[:, 0], said.daily_peak.upper[:, 0], strict=True)
                ]
            )
    steps_80, steps_95, peaks_80, peaks_95 = np.mean(inside, axis=0)
    assert steps_80 == pytest.approx(0.80, abs=0.05)
    assert steps_95 == pytest.approx(0.95, abs=0.05)
    assert peaks_80 == pytest.approx(0.80, abs=0.15)  # 48 days
    assert peaks_95 > 0.85


def test_sixteen_days_of_minutes_take_a_third_of_a_second():
    series = diurnal(16, per_day=1440)
    forecast(series)
    start = time.process_time()
    forecast(series, 90)
    assert time.process_time() - start < 0.3
