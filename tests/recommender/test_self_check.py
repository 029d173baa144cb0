import numpy as np
import pytest

from profiles.histogram import DELAY, LATENCY, Histogram
from profiles.limit_bank import REQUEST_PARTS, Candidate, LimitBank
from recommender.curve import fit_curve
from recommender.evidence import Evidence, Observation, Regime
from recommender.self_check import model_error, self_check

LIMITS = (0.1, 0.2, 0.4, 0.8)


def evidence(latency, delay_at_02=0.02, cores=0.05, requests=100, windows=12):
    """Every window alike: `latency` seconds each; 0.2 cores delay a tenth of the requests."""
    delayed = {0.1: 0.5, 0.2: 0.1}
    candidates = tuple(
        Candidate(
            limit,
            round(50 * delayed.get(limit, 0)),
            0,
            Histogram(
                DELAY,
                {DELAY.bucket_of(delay_at_02): round(REQUEST_PARTS * requests * delayed[limit])}
                if limit in delayed
                else {},
            ),
            Histogram(DELAY),
        )
        for limit in LIMITS
    )
    spread = np.exp(0.2 * np.random.default_rng(1).standard_normal(requests))
    histogram = Histogram.of(LATENCY, map(float, latency * spread))
    one = Observation(histogram, LimitBank(50, 100_000, True, requests, 0, candidates), cores * 10, 10.0)
    return Evidence.of([one] * windows)


def regime(limit, latency, throttled=0.0, **settings):
    return Regime(limit, 0.0, evidence(latency, **settings), 1000.0, 1000.0 * throttled)


FREE = regime(None, 0.010)


def predicted_at_02():
    return fit_curve(FREE.evidence, 0.05, [0.95]).adds_at(0.2, 0.95)


def test_a_prediction_that_came_true_has_no_error():
    held = regime(0.2, 0.010 * (1 + predicted_at_02()), throttled=0.1)
    (check,) = self_check([FREE, held], 0.05)
    assert check.limit_cores == 0.2
    assert check.latency_ratio == pytest.approx(1, abs=0.05)
    assert check.throttled_error == pytest.approx(0, abs=1e-6)
    assert model_error([check]) < 0.05


def test_one_that_did_not_is_published_and_widens_the_interval():
    broken = regime(0.2, 0.010 * (1 + predicted_at_02()) * 1.5, throttled=0.4)
    checks = self_check([FREE, broken], 0.05)
    assert checks[0].latency_ratio == pytest.approx(1.5, rel=0.05)
    assert checks[0].throttled_error == pytest.approx(0.3, abs=1e-6)
    narrow, wide = (fit_curve(FREE.evidence, 0.05, [0.95], error) for error in (0.0, model_error(checks)))
    assert wide.adds_at(0.2, 0.95) == narrow.adds_at(0.2, 0.95)
    assert wide.adds_at(0.2, 0.95, upper=True) > narrow.adds_at(0.2, 0.95, upper=True) + 0.1
    assert wide.points[-1].upper_adds[0.95] == 0  # nothing is delayed there, so nothing can be wrong


def test_growth_of_demand_is_no_error_of_the_model():
    grown = regime(0.4, 0.010 * (1 + predicted_at_02()), throttled=0.1, cores=0.1)
    (check,) = self_check([FREE, grown], 0.05)
    assert check.latency_ratio == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    "after",
    [
        regime(None, 0.010),  # no limit: nothing was predicted
        regime(0.2, 0.010, requests=5),
        regime(0.2, 0.010, windows=2),
        Regime(0.2, 0.0, FREE.evidence, 10.0, 0.0),
    ],
    ids=["no limit", "few requests", "too short", "few periods"],
)
def test_what_proves_nothing_is_no_check(after):
    assert self_check([FREE, after], 0.05) == ()


def test_a_looser_limit_is_not_predicted_from_a_tighter_one():
    assert self_check([regime(0.2, 0.010), regime(0.4, 0.010)], 0.05) == ()
    assert len(self_check([regime(0.8, 0.010), regime(0.2, 0.010)], 0.05)) == 1
