import numpy as np
import pytest

from profiles.errors import UsageError
from recommender.backtest.replay import Workload, judged_days, oracle, replay
from recommender.backtest.run import OURS, backtest
from recommender.backtest.scores import FrontierPoint, cost_of, frontier_point, pair, scores_of, slack_at, worst
from recommender.series import DAY_SECONDS, Series

STEP = 900.0
PER_DAY = 96


def workload(days, name="web", start=0.0):
    """`days` holds one value per day, or the 96 values of it."""
    values = np.concatenate([np.full(PER_DAY, day) if np.isscalar(day) else day for day in days])
    return Workload(name, (Series.of(name, start + np.arange(len(values)) * STEP, values),))


def constant(value):
    return lambda *_: value


def test_a_rule_sees_only_the_past():
    seen = []

    def rule(pods, now, current):
        seen.append((now, max(pods[0].before(now).unix_seconds)))
        return 1.0

    replay(workload([1, 2, 3, 4]), rule, 1)
    assert seen == [(day * DAY_SECONDS, day * DAY_SECONDS - STEP) for day in (1, 2, 3)]


def test_a_rule_is_told_what_it_said_before():
    said = []
    replay(workload([1] * 4), lambda _, __, current: said.append(current) or float(len(said)), 1)
    assert said == [None, 1.0, 2.0]


def test_scores_of_a_day_that_is_known():
    used = np.full(PER_DAY, 1.0)
    used[:24] = 4.0  # a quarter of the day
    (day,) = replay(workload([1.0, used]), constant(2.0), 1)
    assert day.over == pytest.approx(0.25)
    assert day.waste == pytest.approx(1 - 1.75 / 2)
    assert day.slack == pytest.approx(0.75 * 0.5)
    assert day.excess == pytest.approx(0.25 * 2)
    assert day.step is None


def test_the_oracle_is_never_over_and_wastes_least_of_those():
    chance = np.random.default_rng(3)
    load = workload([chance.lognormal(0, 0.5, PER_DAY) for _ in range(8)])
    best = oracle(load, 3)
    assert all(day.over == 0 for day in best)
    higher = [day for day in replay(load, constant(1e3), 3) if day.over == 0]
    assert all(mine.slack <= other.slack for mine, other in zip(best, higher, strict=True))
    assert scores_of(best, best).regret == 0


def test_a_day_with_too_few_samples_is_left_out_and_counted():
    times = np.arange(4 * PER_DAY) * STEP
    kept = (times < 2 * DAY_SECONDS) | (times >= 2.6 * DAY_SECONDS)
    load = Workload("web", (Series.of("web", times[kept], np.ones(kept.sum())),))
    assert [day.start_unix_seconds for day in replay(load, constant(2.0), 1)] == [DAY_SECONDS, 3 * DAY_SECONDS]
    assert judged_days(load, 1) == (2, 1)


def test_a_series_that_begins_at_noon_or_ends_in_the_morning():
    late = workload([1.0] * 3, start=0.6 * DAY_SECONDS)
    assert len(replay(late, constant(1.0), 1)) == 2  # the last .6 of a day is judged, the first .4 is only seen


def test_changes_and_flips_are_counted():
    said = iter([1.0, 1.05, 2.0, 1.0, 1.0])
    days = replay(workload([1.0] * 6), lambda *_: next(said), 1)
    scores = scores_of(days, oracle(workload([1.0] * 6), 1))
    assert scores.days == 5
    assert scores.days_changed_percent == pytest.approx(40)
    assert scores.days_touched_percent == pytest.approx(60)
    assert scores.flips_percent == pytest.approx(20)


def test_a_rule_without_an_answer_is_said_to_have_none():
    scores = scores_of(replay(workload([1.0] * 4), constant(None), 1), oracle(workload([1.0] * 4), 1))
    assert (scores.days, scores.answered_percent) == (0, 0.0)


def test_ours_against_itself_wins_half_and_saves_nothing():
    days = [day for name in "abc" for day in replay(workload([1.0] * 5, name), constant(2.0), 1)]
    same = pair(days, days)
    assert (same.wins_percent, same.saves, same.interval) == (50.0, 0.0, (0.0, 0.0))
    wasteful = [day.scaled(2.0) for day in days]
    assert pair(days, wasteful).wins_percent == 100.0
    assert pair(days, wasteful).saves > 0


def test_the_frontier_scales_a_margin():
    load = workload([1.0] * 5)
    days, best = replay(load, constant(1.0), 1), oracle(load, 1)
    point = frontier_point(2.0, [day.scaled(2.0) for day in days], best)
    assert (point.slack_percent, point.minutes_over_percent) == (50.0, 0.0)


def test_slack_at_a_share_of_minutes_over():
    points = [FrontierPoint(1, 2.0, 30.0, 0, 0), FrontierPoint(2, 0.4, 60.0, 0, 0), FrontierPoint(3, 0.1, 70.0, 0, 0)]
    assert slack_at(points, 0.5) == 60.0
    assert slack_at(points, 0.05) is None


def test_the_worst_days_cost_most():
    chance = np.random.default_rng(1)
    days = replay(workload([chance.random(PER_DAY) for _ in range(20)]), constant(0.9), 1)
    costs = [cost_of(day) for day in worst(days, 5)]
    assert costs == sorted((cost_of(day) for day in days), reverse=True)[:5]


def test_all_recommenders_stand_side_by_side_and_the_order_of_workloads_does_not_matter():
    chance = np.random.default_rng(2)
    loads = [workload([chance.lognormal(0, 0.3, PER_DAY) for _ in range(6)], name) for name in ("a", "b")]
    one, other = backtest(loads), backtest(loads[::-1])
    assert {"vpa_target", "krr_simple", "crane", "autopilot", "oracle", OURS} <= {each.name for each in one.judged}
    for a, b in zip(one.judged, other.judged, strict=True):
        assert a.scores == b.scores


def test_traces_too_short_to_judge_are_one_sentence():
    with pytest.raises(UsageError, match=r"the longest trace has 2\.0 days, and 3 are to learn from"):
        backtest([workload([1.0, 2.0])])
