"""What must hold for every container, whatever its numbers."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.schema import load_policies
from profiles.histogram import DELAY, LATENCY, Histogram
from profiles.limit_bank import CANDIDATE_LIMITS_CORES, REQUEST_PARTS, Candidate, LimitBank
from recommender.curve import fit_curve
from recommender.evidence import Evidence, Observation
from recommender.recommend import recommend
from reports.machine import to_json
from reports.record import as_record

POLICY = load_policies("balanced")[0]
bounded = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 10_000)


def observations(seed, windows=24, octaves=0):
    """Random windows; `octaves` makes every latency and every delay 2^octaves times as long."""
    chance = np.random.default_rng(seed)
    made = []
    for _ in range(windows):
        requests = int(chance.integers(20, 200))
        latencies = 0.004 * chance.lognormal(0, 0.5, requests)
        counts = {LATENCY.bucket_of(float(each)) + octaves * LATENCY.per_octave: 0 for each in latencies}
        for each in latencies:
            counts[LATENCY.bucket_of(float(each)) + octaves * LATENCY.per_octave] += 1
        candidates, busy = [], float(chance.uniform(0.1, 0.4))
        share = float(chance.uniform(0.2, 0.9))
        for limit in CANDIDATE_LIMITS_CORES:
            share *= float(chance.uniform(0.3, 0.9))
            bucket = int(chance.integers(12, 28)) + octaves * DELAY.per_octave
            parts = {bucket: int(REQUEST_PARTS * requests * share)} if share > 0.01 else {}
            crowded = {bucket: int(count * min(1, 2 * busy)) for bucket, count in parts.items()}
            candidates.append(Candidate(limit, 0, 0, Histogram(DELAY, parts), Histogram(DELAY, crowded)))
        bank = LimitBank(10, 50_000, True, requests, int(REQUEST_PARTS * requests * busy), tuple(candidates))
        made.append(Observation(Histogram(LATENCY, counts), bank, 0.05, 1.0))
    return made


def curve(made, drift=0.05):
    return fit_curve(Evidence.of(made), drift, [0.5, 0.95, 0.99])


@bounded
@given(seeds, st.randoms(use_true_random=False))
def test_the_order_of_windows_does_not_move_the_curve(seed, shuffler):
    made = observations(seed)
    mixed = list(made)
    shuffler.shuffle(mixed)
    for one, other in zip(curve(made).points, curve(mixed).points, strict=True):
        assert one.adds == pytest.approx(other.adds, rel=1e-9, abs=1e-9)
        assert one.throttled_share == other.throttled_share


@bounded
@given(seeds)
def test_a_window_split_in_two_is_the_same_window(seed):
    made = observations(seed)
    halves = [
        Observation(Histogram(LATENCY), each.bank, each.cpu_seconds, each.seconds / 2) if half else
        Observation(each.latency, None, 0.0, each.seconds / 2)
        for each in made for half in (0, 1)
    ]  # fmt: skip
    for one, other in zip(curve(made).points, curve(halves).points, strict=True):
        assert one.adds == pytest.approx(other.adds, rel=1e-9, abs=1e-9)


@bounded
@given(seeds, st.integers(1, 4))
def test_a_slower_clock_changes_no_overhead(seed, octaves):
    for one, other in zip(
        curve(observations(seed)).points, curve(observations(seed, octaves=octaves)).points, strict=True
    ):
        assert one.adds == pytest.approx(other.adds, rel=0.01, abs=0.002)


@bounded
@given(seeds, st.floats(0.01, 1.0), st.floats(1, 5))
def test_a_larger_budget_never_needs_a_larger_limit(seed, budget, factor):
    found = curve(observations(seed))
    for upper in (False, True):
        tight, loose = (found.smallest_within(0.95, each, upper=upper) for each in (budget, budget * factor))
        if tight is not None:
            assert loose is not None
            assert loose <= tight + 1e-9


@bounded
@given(seeds, st.floats(0.01, 1.0))
def test_the_limit_for_a_budget_keeps_it_and_every_larger_one_does(seed, budget):
    found = curve(observations(seed))
    limit = found.smallest_within(0.95, budget, upper=True)
    if limit is not None:
        for larger in (1.0, 1.1, 1.5, 3.0):
            assert found.adds_at(limit * larger, 0.95, upper=True) <= budget + 1e-9


@bounded
@given(seeds, st.floats(0.0, 0.2), st.floats(0.0, 0.2))
def test_more_drift_never_narrows_the_bound(seed, drift, more):
    one, other = (curve(observations(seed), each) for each in (drift, drift + more))
    for a, b in zip(one.points, other.points, strict=True):
        assert a.upper_adds[0.95] <= b.upper_adds[0.95] + 1e-9


@bounded
@given(seeds)
def test_quantiles_of_latency_ascend(seed):
    latency = curve(observations(seed)).latency_seconds
    assert latency[0.5] <= latency[0.95] <= latency[0.99]


@bounded
@given(st.floats(1.05, 6), seeds)
def test_more_traffic_never_needs_less(make_history, growth, seed):
    def sized(factor):
        rate = lambda now: factor * (20 + 10 * np.sin(now / 60))  # noqa: E731
        return recommend(make_history(windows=60, rate=rate, seed=seed), POLICY).target

    less, more = sized(1.0), sized(growth)
    assert less.cpu_request_cores <= more.cpu_request_cores
    if less.cpu_limit_cores is not None and more.cpu_limit_cores is not None:
        assert less.cpu_limit_cores <= more.cpu_limit_cores


@bounded
@given(st.floats(1.05, 20), seeds)
def test_more_memory_used_never_needs_less(make_history, growth, seed):
    def sized(factor):
        memory = lambda now: factor * 2e8 * (1 + 0.1 * np.sin(now / 40))  # noqa: E731
        return recommend(make_history(windows=60, memory=memory, seed=seed), POLICY).target

    assert sized(1.0).memory_request_bytes <= sized(growth).memory_request_bytes


@bounded
@given(seeds)
def test_the_same_input_gives_the_same_bytes(make_history, seed):
    texts = {to_json(as_record(recommend(make_history(windows=40, noise=0.1, seed=seed), POLICY))) for _ in range(2)}
    assert len(texts) == 1


@pytest.mark.parametrize(("cost", "base"), [(2.5, 1.0), (1e-6, 1e-4)], ids=["a hundred cores", "a millicore"])
def test_very_large_and_very_small_workloads(make_history, cost, base):
    row = recommend(make_history(windows=60, cost=cost, base=base, latency=max(0.002, cost)), POLICY)
    used = row.history.frame["cpu_cores"].mean()
    assert row.target.cpu_request_cores is None or row.target.cpu_request_cores >= min(used, 0.010)
    assert all(row.reasons.values())
