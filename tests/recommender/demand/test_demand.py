import numpy as np
import pandas as pd
import pytest
from statsmodels.regression.quantile_regression import QuantReg

from recommender.demand import (
    DemandFit,
    MemoryDemandFit,
    NotIdentifiable,
    cost_drift,
    fit_demand,
    fit_memory_demand,
)


def test_it_finds_base_load_and_cost_per_request(make_history):
    fit = fit_demand(make_history(cost=0.005, base=0.02))
    assert fit.seconds_per_request == pytest.approx(0.005, rel=0.001)
    assert fit.base_cores == pytest.approx(0.02, rel=0.01)
    assert fit.r_squared > 0.999


def test_windows_in_which_something_else_ran_do_not_bend_it(make_history):
    history = make_history(noise=0.02)
    history.frame.loc[::9, "cpu_cores"] += 1.5  # a backup job in every ninth window
    fit = fit_demand(history)
    assert fit.seconds_per_request == pytest.approx(0.005, rel=0.05)


@pytest.mark.parametrize("level", [0.01, 0.05, 0.1])
def test_the_interval_contains_the_truth_as_often_as_it_says(make_history, level):
    hits = 0
    for seed in range(60):
        fit = fit_demand(make_history(noise=level, seed=seed))
        hits += fit.cost_interval[0] <= 0.005 <= fit.cost_interval[1]
    assert hits >= 51  # 95 % of 60 is 57; below 51 would happen once in 200


def test_the_base_load_is_never_negative(make_history):
    history = make_history(base=0.0)
    history.frame["cpu_cores"] -= 0.01
    fit = fit_demand(history)
    assert isinstance(fit, DemandFit)
    assert fit.base_cores == 0.0


def test_even_traffic_is_not_identifiable(make_history):
    fit = fit_demand(make_history(rate=lambda _: 20))
    assert isinstance(fit, NotIdentifiable)
    assert "too even" in fit.reason


def test_few_windows_are_counted_in_the_reason(make_history):
    assert fit_demand(make_history(windows=12)) == NotIdentifiable("12 of 20 windows with requests needed")


def test_cpu_that_does_not_follow_requests_is_not_identifiable(make_history):
    history = make_history()
    chance = np.random.default_rng(3)
    history.frame["cpu_cores"] = chance.uniform(0.1, 0.4, len(history.frame))
    assert isinstance(fit_demand(history), NotIdentifiable)


def test_drift_is_what_the_cost_does_over_time(make_history):
    steady, drifting = make_history(), make_history()
    drifting.frame["cpu_cores"] *= np.linspace(0.8, 1.25, len(drifting.frame))
    assert cost_drift(steady, fit_demand(steady)) == 0.03
    assert 0.08 < cost_drift(drifting, fit_demand(drifting)) < 0.25


def same(one, other):
    return one == other and repr(one) == repr(other)


@pytest.mark.parametrize("factor", [2.0**-10, 2.0**10])
def test_it_scales_with_cpu(make_history, factor):
    history, scaled = (make_history(noise=0.05, windows=200) for _ in range(2))
    scaled.frame["cpu_cores"] *= factor
    one, other = fit_demand(history), fit_demand(scaled)
    assert other.seconds_per_request == pytest.approx(factor * one.seconds_per_request, rel=1e-9)
    assert other.cost_interval == pytest.approx([factor * each for each in one.cost_interval], rel=1e-9)
    assert other.tail.base_cores == pytest.approx(factor * one.tail.base_cores, rel=1e-9)
    assert other.predict(np.array([9.0]))[1] == pytest.approx(factor * one.predict(np.array([9.0]))[1], rel=1e-9)


def test_it_scales_with_traffic(make_history):
    one, other = (make_history(noise=0.05, windows=200) for _ in range(2))
    other.frame["requests_per_second"] *= 1024
    assert fit_demand(other).seconds_per_request == pytest.approx(fit_demand(one).seconds_per_request / 1024, rel=1e-9)


@pytest.mark.parametrize(("base", "cost"), [(20.0, 4.0), (0.0002, 0.00004)])
def test_a_hundred_cores_and_a_millicore_alike(make_history, base, cost):
    fit = fit_demand(make_history(base=base, cost=cost, noise=0.02))
    assert fit.seconds_per_request == pytest.approx(cost, rel=0.05)


def test_the_order_of_rows_and_instances_does_not_matter(make_history):
    history, shuffled = (make_history(noise=0.05, instances=3, windows=150) for _ in range(2))
    order = np.random.default_rng(3).permutation(len(shuffled.frame))
    object.__setattr__(shuffled, "frame", shuffled.frame.iloc[order].reset_index(drop=True))
    assert same(fit_demand(history), fit_demand(shuffled))


def test_the_same_input_gives_the_same_bytes(make_history):
    assert same(*(fit_demand(make_history(noise=0.05, windows=900)) for _ in range(2)))


def test_everything_is_per_pod(make_history):
    fit = fit_demand(make_history(instances=4, noise=0.02))
    assert fit.seconds_per_request == pytest.approx(0.005, rel=0.03)
    assert [each.name for each in fit.replicas] == ["/web-0", "/web-1", "/web-2", "/web-3"]


def test_a_replica_that_costs_more_stands_out(make_history):
    history = make_history(instances=4, noise=0.02)
    history.frame.loc[history.frame["instance"] == "/web-2", "cpu_cores"] *= 1.5
    ratios = {each.name: each.usage_ratio for each in fit_demand(history).replicas}
    assert ratios["/web-2"] == pytest.approx(1.5 * ratios["/web-0"], rel=0.03)


def test_windows_that_a_limit_cut_are_no_evidence(make_history):
    history = make_history(windows=120, noise=0.02)
    frame = history.frame
    cut = frame["requests_per_second"] > 30
    frame["periods"], frame["throttled_periods"] = 100.0, np.where(cut, 2.0, 1.0)
    frame.loc[cut, "cpu_cores"] = 0.15  # the limit
    fit = fit_demand(history)
    assert fit.seconds_per_request == pytest.approx(0.005, rel=0.05)
    assert fit.censored_windows == cut.sum()
    assert fit.coverage == pytest.approx(1 - cut.mean())
    assert f"its limit throttled {cut.sum()} of 120 windows, which are no evidence of need" in fit.notes


def test_a_container_that_is_always_cut_has_no_demand_to_see(make_history):
    fit = fit_demand(make_history(periods=100.0, throttled_periods=50.0))
    assert fit == NotIdentifiable("its limit throttled 60 of 60 windows, which are no evidence of need", 60)


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_cpu_that_comes_later_is_found(make_history, lag):
    history = make_history(windows=200, rate=lambda now: 30 + 20 * np.sin(now**1.3), noise=0.02)
    history.frame["cpu_cores"] = history.frame["cpu_cores"].shift(lag)
    fit = fit_demand(history)
    assert fit.lag_windows == lag
    assert fit.seconds_per_request == pytest.approx(0.005, rel=0.02)


def test_a_gap_is_no_neighbour_of_a_lag(make_history):
    history = make_history(windows=200, rate=lambda now: 30 + 20 * np.sin(now**1.3), noise=0.02)
    frame = history.frame
    frame["cpu_cores"] = frame["cpu_cores"].shift(1)
    object.__setattr__(history, "frame", frame.drop(index=range(80, 120)).reset_index(drop=True))
    fit = fit_demand(history)
    assert (fit.lag_windows, fit.windows) == (1, 153)  # the one without CPU, and three before each of the two parts
    assert fit.seconds_per_request == pytest.approx(0.005, rel=0.02)


def test_what_is_not_a_number_is_left_out_and_counted(make_history):
    history = make_history(windows=100, noise=0.01)
    frame = history.frame
    frame.loc[[3, 4], "cpu_cores"] = np.nan
    frame.loc[5, "cpu_cores"] = np.inf
    frame.loc[6, "cpu_cores"] = -3.0  # a counter that was reset
    frame.loc[7, "requests_per_second"] = np.nan
    fit = fit_demand(history)
    assert (fit.windows, fit.coverage) == (95, 0.95)
    assert fit.seconds_per_request == pytest.approx(0.005, rel=0.02)


def test_a_reset_that_wraps_around_does_not_bend_it(make_history):
    history = make_history(windows=100, noise=0.01)
    history.frame.loc[40, "cpu_cores"] = 2.0**64 / 1e9
    assert fit_demand(history).seconds_per_request == pytest.approx(0.005, rel=0.02)


def test_no_cpu_one_window_constant_cpu_and_no_traffic_have_reasons(make_history, no_traffic):
    blind, still = make_history(), make_history()
    blind.frame["cpu_cores"], still.frame["cpu_cores"] = np.nan, 0.2
    assert fit_demand(blind) == NotIdentifiable("its CPU was not seen")
    assert fit_demand(still) == NotIdentifiable("CPU does not rise with its requests")
    assert fit_demand(make_history(windows=1)) == NotIdentifiable("1 of 20 windows with requests needed")
    assert fit_demand(no_traffic()) == NotIdentifiable("0 of 20 windows with requests needed")


def test_the_tail_is_the_quantile_regression_of_statsmodels(make_history):
    history = make_history(windows=300, noise=0.1)
    rate, cores = (history.frame[name].to_numpy() for name in ("requests_per_second", "cpu_cores"))
    theirs = QuantReg(cores, np.column_stack([np.ones(300), rate])).fit(q=0.95).params
    tail = fit_demand(history).tail
    assert tail.cores_at(np.array([5.0, 35.0])) == pytest.approx(
        theirs[0] + theirs[1] * np.array([5.0, 35.0]), rel=0.02
    )
    assert 0.945 <= np.mean(cores <= tail.cores_at(rate) * (1 + 1e-9)) <= 0.955


def test_predictions_hold_what_they_say_on_windows_to_come(make_history):
    history = make_history(windows=1500, noise=0.1)
    frame = history.frame
    object.__setattr__(history, "frame", frame.iloc[:900])
    fit, later = fit_demand(history), frame.iloc[900:]
    for level in (0.8, 0.95):
        low, high = fit.predict(later["requests_per_second"].to_numpy(), level)
        inside = np.mean((later["cpu_cores"] >= low) & (later["cpu_cores"] <= high))
        assert inside == pytest.approx(level, abs=0.05)


def test_predictions_widen_with_the_level_and_are_never_negative(make_history):
    fit = fit_demand(make_history(noise=0.3, windows=200))
    rates = np.linspace(0, 100, 11)
    (low, high), (lower, higher) = fit.predict(rates, 0.5), fit.predict(rates, 0.99)
    assert (lower <= low).all()
    assert (higher >= high).all()
    assert (lower >= 0).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit.predict(rates, 1.0)


def with_routes(make_history, share):
    history = make_history(windows=200)
    frame, chance = history.frame, np.random.default_rng(5)
    part = np.clip(share + 0.25 * chance.standard_normal(200), 0, 1) if share else np.full(200, 0.5)
    frame["requests:read"], frame["requests:write"] = frame["requests"] * part, frame["requests"] * (1 - part)
    per_second = frame[["requests:read", "requests:write"]].to_numpy() / 10.0
    frame["cpu_cores"] = 0.02 + per_second @ [0.002, 0.008] + 0.002 * chance.standard_normal(200)
    return history


def test_classes_of_routes_have_their_own_cost(make_history):
    read, write = fit_demand(with_routes(make_history, 0.5)).routes
    assert (read.name, write.name) == ("read", "write")
    assert read.seconds_per_request == pytest.approx(0.002, rel=0.15)
    assert write.seconds_per_request == pytest.approx(0.008, rel=0.1)
    assert read.interval[0] < 0.002 < read.interval[1]
    assert read.variance_inflation < 10


def test_classes_that_move_together_are_not_told_apart(make_history):
    read, _ = fit_demand(with_routes(make_history, 0)).routes
    assert read.seconds_per_request is None
    assert "moves with the other classes'" in read.reason


def test_without_counts_per_class_it_says_so(make_history):
    fit = fit_demand(make_history())
    assert fit.routes == ()
    assert fit.routes == ()


def test_memory_that_comes_with_traffic(make_history):
    history = make_history(windows=120)
    chance = np.random.default_rng(6)
    rate = history.frame["requests_per_second"]
    history.frame["memory_anon_bytes"] = 1e8 + 2e6 * rate + 1e6 * chance.standard_normal(120)
    fit = fit_memory_demand(history)
    assert isinstance(fit, MemoryDemandFit)
    assert fit.base_bytes == pytest.approx(1e8, rel=0.02)
    assert fit.rate_interval[0] < 2e6 < fit.rate_interval[1]


def test_memory_that_does_not_follow_traffic_is_not_told(make_history):
    assert fit_memory_demand(make_history()) == NotIdentifiable("memory does not rise with its requests")


def test_fourteen_days_of_minutes_are_fitted_whole(make_history):
    count = 20_160
    at, chance = np.arange(count), np.random.default_rng(7)
    rate = 40 + 30 * np.sin(2 * np.pi * at / 1440)
    history = make_history(windows=1)
    columns = {"start_unix_seconds": 1.7e9 + 60.0 * at, "duration_seconds": 60.0, "instance": "/a"}
    usage = 0.05 + 0.005 * rate + 0.02 * chance.standard_normal(count) + 0.4 * (chance.random(count) < 0.03)
    frame = pd.DataFrame(columns | {"requests_per_second": rate, "cpu_cores": np.maximum(usage, 0)})
    object.__setattr__(history, "frame", frame)
    fit = fit_demand(history)
    assert (fit.windows, len(fit.regimes)) == (count, 1)
    assert fit.seconds_per_request == pytest.approx(0.005, rel=0.005)
    assert 1.0005 < fit.cost_interval[1] / fit.cost_interval[0] < 1.01
