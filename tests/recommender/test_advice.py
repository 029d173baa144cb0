import dataclasses

import pytest

from policies.schema import load_policies
from recommender.advice import advice, parallel_cores
from recommender.curve import CurvePoint, HeadroomCurve
from recommender.recommend import recommend

POLICY = load_policies("balanced")[0]


def curve(mean_cores, throttled):
    points = tuple(
        CurvePoint(limit, {0.95: 0.0}, {0.95: 0.0}, throttled, True, {0.95: 0.0}) for limit in (0.1, 0.4, 1.6)
    )
    return HeadroomCurve(points, {0.95: 0.01}, mean_cores, 0.03, True)


def with_bins(history, bins):
    return dataclasses.replace(history, burst_bins=bins)


def test_threads_that_burn_the_quota_together_are_named(make_history):
    history = with_bins(make_history(), {4: 900, 63: 100})  # a tenth of the bins with four CPUs busy
    assert parallel_cores(history) == pytest.approx(4.0)
    (sentence,) = advice(history, curve(0.3, 0.0), 1.0)
    assert "4.0 CPUs at once" in sentence
    assert "a pool of 1" in sentence
    assert advice(history, curve(0.3, 0.0), 8.0) == ()  # the limit is no narrower than that


def test_bursts_far_above_the_mean_ask_for_saved_up_quota(make_history):
    history = with_bins(make_history(), {4: 1000})
    (sentence,) = advice(history, curve(0.05, 0.02), 0.4)
    assert "cpu.max.burst" in sentence
    assert advice(history, curve(0.05, 0.0), 0.4) == ()
    assert advice(history, curve(0.3, 0.02), 0.4) == ()


def test_without_a_curve_or_a_limit_there_is_no_advice(make_history):
    assert advice(make_history(), None, 1.0) == ()
    assert advice(make_history(), curve(0.3, 0.0), None) == ()


def test_it_stands_among_the_notes(make_history):
    history = with_bins(make_history(windows=60), {4: 900, 63: 100})
    row = recommend(history, POLICY)
    assert any("then all wait" in note for note in row.notes)
