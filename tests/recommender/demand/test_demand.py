import numpy as np
import pytest

from recommender.demand import DemandFit, NotIdentifiable, cost_drift, fit_demand


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
