import math

import numpy as np
import pytest
from statsmodels.robust.norms import HuberT
from statsmodels.robust.robust_linear_model import RLM

from recommender.demand import DemandFit, cost_drift, fit_demand
from recommender.demand.line import MOST_CELLS, Cells, fit_line, gather, noise_exponent, robust_params
from recommender.demand.regimes import draw_together
from recommender.demand.steps import change_points


def cells_of(count, chance, *, outliers=0.0):
    rate = chance.uniform(5, 60, count)
    usage = 0.05 + 0.005 * rate + 0.02 * chance.standard_normal(count)
    usage += (chance.random(count) < outliers) * 0.5
    return Cells(np.column_stack([np.ones(count), rate]), usage, np.ones(count), np.arange(count, dtype=float))


@pytest.mark.parametrize("outliers", [0.0, 0.1])
def test_the_line_is_that_of_statsmodels(outliers):
    cells = cells_of(300, np.random.default_rng(4), outliers=outliers)
    theirs = RLM(cells.usage, cells.regressors, M=HuberT()).fit()
    ours, scale = robust_params(cells, redescend=False)
    assert ours == pytest.approx(theirs.params, rel=1e-4)
    assert scale == pytest.approx(theirs.scale, rel=1e-3)


def test_its_deviations_are_those_of_statsmodels_where_noise_is_white():
    cells = cells_of(400, np.random.default_rng(5))
    theirs = RLM(cells.usage, cells.regressors, M=HuberT()).fit()
    assert np.sqrt(np.diag(fit_line(cells).covariance)) == pytest.approx(theirs.bse, rel=0.15)


def test_jobs_that_only_add_pull_less_than_in_hubers_fit():
    cells = cells_of(2000, np.random.default_rng(6), outliers=0.1)
    hubers, tukeys = (robust_params(cells, redescend=each)[0][0] for each in (False, True))
    assert abs(tukeys - 0.05) < abs(hubers - 0.05)
    assert tukeys == pytest.approx(0.05, abs=0.003)


def test_memory_in_the_noise_widens_the_interval():
    chance, count = np.random.default_rng(7), 300
    rate = 30 + 20 * np.sin(np.arange(count) / 20)
    widths = []
    for memory in (0.0, 0.8):
        noise = np.zeros(count)
        for index, shock in enumerate(chance.standard_normal(count)):
            noise[index] = memory * noise[index - 1] + math.sqrt(1 - memory**2) * shock
        cells = Cells(np.column_stack([np.ones(count), rate]), 1 + rate / 50 + noise / 10, np.ones(count), rate)
        widths.append(fit_line(cells).half_widths()[1])
    assert widths[1] > 2 * widths[0]  # (1 + 0.8) / (1 - 0.8) = 9 times the variance of a slow regressor


def test_cells_keep_the_means_and_are_few():
    chance, count = np.random.default_rng(8), 5000
    x, y = np.column_stack([np.ones(count), chance.random(count)]), chance.random(count)
    cells = gather(x, y, np.ones(count), np.arange(count, dtype=float))
    assert len(cells.usage) == MOST_CELLS
    assert cells.weight.sum() == count
    assert cells.weight @ cells.usage == pytest.approx(y.sum())


def test_instances_of_one_window_are_one_cell():
    time = np.repeat(np.arange(10.0), 3)
    cells = gather(np.ones((30, 1)), np.arange(30.0), np.ones(30), time)
    assert list(cells.usage) == [3 * window + 1 for window in range(10)]


def test_a_step_is_found_where_it_is_and_noise_has_none():
    chance = np.random.default_rng(9)
    noise = 0.05 * chance.standard_normal(300)
    assert change_points(noise) == []
    (found,) = change_points(noise + 0.2 * (np.arange(300) >= 120))
    assert abs(found - 120) <= 2


def test_two_steps_are_two():
    level = np.repeat([0.0, 0.3, 0.1], 100)
    found = change_points(level + 0.03 * np.random.default_rng(10).standard_normal(300))
    assert len(found) == 2
    assert found == pytest.approx([100, 200], abs=2)


def test_a_slow_trend_is_no_step():
    assert change_points(np.linspace(0, 0.4, 300) + 0.02 * np.random.default_rng(11).standard_normal(300)) == []


def test_noise_with_a_long_memory_is_rarely_a_step():
    chance, alarms = np.random.default_rng(12), 0
    for _ in range(100):
        noise = np.zeros(300)
        for index, shock in enumerate(chance.standard_normal(300)):
            noise[index] = 0.8 * noise[index - 1] + 0.06 * shock
        alarms += bool(change_points(noise))
    assert alarms <= 10


def test_what_does_not_differ_for_certain_is_drawn_together():
    close = draw_together(np.array([1.0, 1.1]), np.array([0.2, 0.2]))
    assert close == pytest.approx([1.05, 1.05])
    apart = draw_together(np.array([1.0, 2.0]), np.array([0.05, 0.05]))
    assert apart == pytest.approx([1.0, 2.0], abs=0.01)
    assert draw_together(np.array([3.0]), np.array([1.0])) == pytest.approx([3.0])


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_the_noise_tells_how_it_grows(exponent):
    fitted = np.linspace(1, 10, 4000)
    found = noise_exponent(fitted, fitted**exponent * np.random.default_rng(13).standard_normal(4000))
    assert found == pytest.approx(exponent, abs=0.1)


def deployed(make_history, change=0.18, revision=True, at=0.5, **settings):
    history = make_history(**({"windows": 240, "noise": 0.02} | settings))
    frame = history.frame
    after = frame["start_unix_seconds"] >= frame["start_unix_seconds"].quantile(at)
    frame.loc[after, "cpu_cores"] += change * 0.005 * frame.loc[after, "requests_per_second"]
    if revision:
        frame["revision"] = np.where(after, "v2", "v1")
    return history


def test_a_release_says_what_it_costs(make_history):
    fit = fit_demand(deployed(make_history))
    first, second = fit.regimes
    assert (first.name, second.name) == ("v1", "v2")
    assert (first.change, second.deploy) == (None, True)
    assert second.change == pytest.approx(0.18, abs=0.03)
    assert second.change_interval[0] < 0.18 < second.change_interval[1]
    assert fit.seconds_per_request == second.seconds_per_request == pytest.approx(0.0059, rel=0.02)
    assert any(note.startswith("release v2: +1") and note.endswith("CPU per request") for note in fit.notes)


def test_a_release_that_changes_nothing_is_not_blamed(make_history):
    fit = fit_demand(deployed(make_history, change=0.0))
    low, high = fit.regimes[1].change_interval
    assert low < 0 < high
    assert not any("release" in note for note in fit.notes)


def test_a_step_without_a_revision_is_a_change_and_no_deploy(make_history):
    fit = fit_demand(deployed(make_history, change=0.4, revision=False))
    assert len(fit.regimes) == 2
    assert fit.regimes[1].name.startswith("changed at 2023-11-14 22:3")
    assert not fit.regimes[1].deploy
    assert fit.seconds_per_request == pytest.approx(0.007, rel=0.02)


def test_a_release_with_few_windows_borrows_the_base_load(make_history):
    fit = fit_demand(deployed(make_history, change=0.4, at=0.95))
    assert fit.regimes[-1].windows == 12
    assert fit.seconds_per_request == pytest.approx(0.007, rel=0.1)
    assert fit.base_cores == pytest.approx(0.02, abs=0.015)


def test_a_release_with_next_to_no_windows_is_said(make_history):
    fit = fit_demand(deployed(make_history, at=0.99))
    assert [each.name for each in fit.regimes] == ["v1"]
    assert "v2 has too few windows: the cost is that of v1" in fit.notes


def test_pods_of_two_revisions_may_run_at_once(make_history):
    history = make_history(windows=120, instances=2, noise=0.02)
    new = history.frame["instance"] == "/web-1"
    history.frame["revision"] = np.where(new, "v2", "v1")
    history.frame.loc[new, "cpu_cores"] += 0.5 * 0.005 * history.frame.loc[new, "requests_per_second"]
    costs = {each.name: each.seconds_per_request for each in fit_demand(history).regimes}
    assert costs == pytest.approx({"v1": 0.005, "v2": 0.0075}, rel=0.03)


def test_a_revision_per_window_is_one_regime(make_history):
    history = make_history(noise=0.02)
    history.frame["revision"] = [f"v{row}" for row in range(len(history.frame))]
    fit = fit_demand(history)
    assert isinstance(fit, DemandFit)
    assert [each.name for each in fit.regimes] == ["all"]


def test_a_deploy_is_no_drift_but_a_step_that_nothing_explains_is(make_history):
    told, untold = (deployed(make_history, change=0.6, revision=each) for each in (True, False))
    assert cost_drift(told, fit_demand(told)) == 0.03
    assert cost_drift(untold, fit_demand(untold)) > 0.1
