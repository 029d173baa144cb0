import numpy as np
import pytest

from recommender.season import LEAST_LIKENESS, find_season, gridded, growth
from recommender.series import DAY_SECONDS, Series

HOUR = 3600.0


def hourly(z, step=HOUR, start=1.7e9):
    return Series.of("web", start + step * np.arange(len(z)), np.exp(z))


def made(days, day=0.0, week=0.0, per_week=0.0, noise=0.05, seed=1, per_day=24):
    chance = np.random.default_rng(seed)
    at = np.arange(days * per_day) / per_day
    z = day * np.sin(2 * np.pi * at) - week * (np.floor(at) % 7 >= 5) + np.log1p(per_week) * at / 7
    return z + noise * chance.standard_normal(len(at))


def test_a_day_that_comes_again_is_found_and_its_strength_said():
    season = find_season(hourly(made(10, day=0.5)))
    assert (season.enough, season.daily, season.weekly) == (True, True, False)
    assert season.period_seconds == DAY_SECONDS
    assert season.daily_likeness > 0.9
    assert season.daily_strength > 0.9
    assert season.weekly_likeness is None
    assert "the week needs 14 days" in season.sentence


def test_a_week_is_found_beside_the_day():
    season = find_season(hourly(made(28, day=0.4, week=0.6)))
    assert (season.daily, season.weekly, season.period_seconds) == (True, True, 7 * DAY_SECONDS)
    assert season.weekly_likeness > 0.5
    assert min(season.daily_strength, season.weekly_strength) > 0.8
    assert season.outlier_days_unix_seconds == ()  # weekends are no holidays


def test_a_day_is_not_taken_for_a_week():
    found = [find_season(hourly(made(21, day=0.5, seed=seed))) for seed in range(20)]
    assert all(season.daily for season in found)
    assert sum(season.weekly for season in found) <= 1


@pytest.mark.parametrize("memory", [0.0, 0.9, 1.0])
def test_noise_has_no_season(memory):
    wrong = 0
    for seed in range(40):
        steps = 0.05 * np.random.default_rng(seed).standard_normal(10 * 24)
        z = np.zeros(len(steps))
        for place in range(1, len(z)):
            z[place] = memory * z[place - 1] + steps[place]
        wrong += find_season(hourly(z)).daily
    assert wrong <= 2  # one in twenty


def test_one_burst_at_the_same_hour_twice_is_no_season():
    z = made(12, noise=0.01)
    z[[3 * 24 + 5, 4 * 24 + 5]] += 3
    assert not find_season(hourly(z)).daily


@pytest.mark.parametrize("days", [14, 28])
def test_a_holiday_is_an_outlier_day_and_a_step_is_not(days):
    z = made(days, day=0.3)
    z[8 * 24 : 9 * 24] -= 1.0
    assert find_season(hourly(z)).outlier_days_unix_seconds == (1.7e9 + 8 * DAY_SECONDS,)
    assert "1 outlier day." in find_season(hourly(z)).sentence
    stepped = made(days, day=0.3)
    stepped[8 * 24 :] += 1.0
    assert find_season(hourly(stepped)).outlier_days_unix_seconds == ()


def test_too_little_is_said():
    season = find_season(hourly(made(2, day=0.5)))
    assert (season.enough, season.daily, season.period_seconds) == (False, False, None)
    assert season.sentence == "Season not told: 2 of 3 days needed."


@pytest.mark.parametrize("values", [[], [1.0], [np.nan] * 200, [0.0] * 200, [3.0] * 200])
def test_what_has_no_season_to_find_gets_a_plain_answer(values):
    season = find_season(Series.of("web", HOUR * np.arange(len(values)), values))
    assert (season.daily, season.weekly, season.daily_strength) == (False, False, 0.0)
    assert season.sentence.endswith(".")
    assert growth(Series.of("web", HOUR * np.arange(len(values)), values)).percent_per_week is None


def test_the_season_survives_gaps():
    z = made(21, day=0.5, week=0.5)
    there = np.random.default_rng(2).random(len(z)) > 0.3
    there[5 * 24 : 7 * 24] = False
    series = Series.of("web", (HOUR * np.arange(len(z)))[there], np.exp(z)[there])
    season = find_season(series)
    assert season.daily
    assert season.daily_likeness > LEAST_LIKENESS


@pytest.mark.parametrize("per_week", [-0.15, 0.05, 0.20])
def test_growth_is_told_within_its_interval(per_week):
    inside = 0
    for seed in range(20):
        found = growth(hourly(made(28, day=0.4, week=0.3, per_week=per_week, seed=seed)))
        assert found.reason is None
        assert np.sign(found.percent_per_week) == np.sign(per_week)
        assert found.percent_per_week == pytest.approx(100 * per_week, abs=2.5)
        inside += found.interval[0] <= 100 * per_week <= found.interval[1]
    assert inside >= 10  # the offset of the logarithm bends large growth a little


def test_no_growth_is_told_where_there_is_none():
    told = [growth(hourly(made(28, day=0.4, week=0.3, seed=seed))) for seed in range(40)]
    assert sum(found.reason is None for found in told) <= 4
    assert "inside the noise" in next(found.reason for found in told if found.reason)


def test_a_wandering_level_is_rarely_called_growth():
    told = 0
    for seed in range(40):
        levels = np.repeat(np.cumsum(np.random.default_rng(seed).normal(0, 0.05, 28)), 24)
        told += growth(hourly(levels + made(28, seed=seed))).reason is None
    assert told <= 16


def test_a_step_is_no_growth():
    z = made(28, day=0.3)
    z[14 * 24 :] += 0.7
    found = growth(hourly(z))
    assert found.percent_per_week is None
    assert found.reason == "the level moved in one step, which is no growth"


def test_growth_needs_two_weeks():
    assert growth(hourly(made(13, per_week=0.2))).reason == "two weeks are needed, 13 days are known"


def test_growth_does_not_know_the_unit():
    z = made(21, per_week=0.2)
    one, thousand = growth(hourly(z)), growth(hourly(z + np.log(1000)))
    assert one.percent_per_week == pytest.approx(thousand.percent_per_week)


def test_days_are_counted_back_from_the_end():
    series = hourly(np.log(np.arange(1.0, 61.0)))  # two and a half days
    grid = gridded(series)
    assert grid.rows.shape == (2, 24)
    assert grid.rows[-1, -1] == pytest.approx(60)
    assert grid.end_unix_seconds == 1.7e9 + 60 * HOUR
    assert grid.peaks == pytest.approx([36, 60])


def test_steps_are_means_and_peaks_are_samples():
    values = np.tile([1.0, 3.0], 720)
    grid = gridded(Series.of("web", 60.0 * np.arange(1440), values))
    np.testing.assert_allclose(grid.rows, 2.0)
    assert grid.peaks.tolist() == [3.0]


def test_steps_are_no_shorter_than_the_samples():
    assert gridded(hourly(np.zeros(40), step=4 * HOUR)).step_seconds == 6 * HOUR
    assert gridded(hourly(np.zeros(40), step=7 * DAY_SECONDS)).step_seconds == DAY_SECONDS
