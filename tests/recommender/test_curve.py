import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.histogram import DELAY, LATENCY, Histogram
from profiles.limit_bank import REQUEST_PARTS, Candidate, LimitBank
from recommender.curve import fit_curve
from recommender.evidence import Evidence, Observation

LIMITS = (0.1, 0.2, 0.4, 0.8)


def bank(*delays):
    """One candidate per (share of the work, its delay in seconds)."""
    work = 1_000_000
    candidates = tuple(
        candidate(limit, {DELAY.bucket_of(delay): int(work * share)} if share else {})
        for limit, (share, delay) in zip(LIMITS, delays, strict=True)
    )
    return LimitBank(10, work, False, 0, 0, candidates)


def candidate(limit, delayed, busy=None):
    return Candidate(limit, 0, 0, Histogram(DELAY, delayed), Histogram(DELAY, busy or {}))


def fit(latency, bank, drift=0.0, cores=0.05, windows=12):
    """The curve of a recording in which every window is the same."""
    one = Observation(latency, bank, cores * 10, 10.0)
    return fit_curve(Evidence.of([one] * windows), drift, [0.5, 0.95])


FIXED = Histogram.of(LATENCY, [0.010] * 1000)


def test_no_delay_adds_nothing():
    curve = fit(FIXED, bank((0, 0), (0, 0), (0, 0), (0, 0)))
    assert all(point.adds[0.95] == 0 for point in curve.points)


def test_a_delay_of_all_work_adds_just_that():
    curve = fit(FIXED, bank((1, 0.010), (0, 0), (0, 0), (0, 0)))
    delay = DELAY.middle_seconds(DELAY.bucket_of(0.010))
    assert curve.points[0].adds[0.95] == pytest.approx(delay / 0.010, rel=0.2)  # within a bucket of 25 %


def test_a_delay_of_work_beyond_the_quantile_does_not_move_it():
    curve = fit(FIXED, bank((0.04, 1.0), (0, 0), (0, 0), (0, 0)))
    assert curve.points[0].adds[0.95] < 0.05
    assert fit(FIXED, bank((0.06, 1.0), (0, 0), (0, 0), (0, 0))).points[0].adds[0.95] > 10


def test_it_agrees_with_drawing_both_at_random():
    chance = np.random.default_rng(1)
    latency = chance.lognormal(np.log(0.01), 0.5, 20_000)
    delays = np.where(chance.random(20_000) < 0.2, chance.exponential(0.02, 20_000), 0.0)
    histogram = Histogram.of(DELAY, map(float, delays))
    counts = {bucket: count for bucket, count in histogram.counts.items() if bucket}
    made = LimitBank(1, 20_000, False, 0, 0, (candidate(0.1, counts), candidate(0.2, {})))
    curve = fit(Histogram.of(LATENCY, map(float, latency)), made)
    together = np.quantile(latency + chance.permutation(delays), 0.95) / np.quantile(latency, 0.95) - 1
    assert curve.points[0].adds[0.95] == pytest.approx(together, abs=0.04)


@given(st.lists(st.tuples(st.floats(0, 0.9), st.floats(0.001, 2)), min_size=4, max_size=4), st.floats(0, 0.3))
def test_more_cpu_never_adds_more_and_the_upper_bound_is_above(delays, drift):
    curve = fit(FIXED, bank(*delays), drift)
    for quantile in (0.5, 0.95):
        adds = [point.adds[quantile] for point in curve.points]
        assert adds == sorted(adds, reverse=True)
        assert all(point.upper_adds[quantile] >= point.adds[quantile] - 1e-12 for point in curve.points)


@given(st.lists(st.tuples(st.floats(0, 0.9), st.floats(0.001, 2)), min_size=4, max_size=4), st.floats(0.01, 3))
def test_a_larger_budget_never_needs_a_larger_limit(delays, budget):
    curve = fit(FIXED, bank(*delays), 0.05)
    tight, loose = (curve.smallest_within(0.95, each, upper=True) for each in (budget, 2 * budget))
    if tight is not None:
        assert loose is not None
        assert loose <= tight


@given(st.lists(st.tuples(st.floats(0, 0.9), st.floats(0.001, 2)), min_size=4, max_size=4))
def test_it_does_not_depend_on_the_unit_of_work(delays):
    one = bank(*delays)
    tenfold = LimitBank.merged([one] * 10)
    for a, b in zip(fit(FIXED, one).points, fit(FIXED, tenfold).points, strict=True):
        assert a.adds == pytest.approx(b.adds, abs=1e-6)


def test_a_limit_close_to_saturation_is_never_chosen():
    free = bank((0, 0), (0, 0), (0, 0), (0, 0))
    assert fit(FIXED, free, cores=0.2).smallest_within(0.95, 0.05, upper=False) == pytest.approx(0.32)
    assert fit(FIXED, free, cores=0.6).smallest_within(0.95, 0.05, upper=False) is None


def test_without_latency_or_work_there_is_no_curve():
    free = bank((0, 0), (0, 0), (0, 0), (0, 0))
    assert fit(Histogram(LATENCY), free) is None
    assert fit(FIXED, LimitBank(0, 0, False, 0, 0, free.candidates)) is None


def test_delays_weigh_by_requests_where_the_bank_saw_them():
    bucket, free = DELAY.bucket_of(0.5), candidate(0.2, {})
    of_requests = LimitBank(10, 1_000_000, True, 1000, 0, (candidate(0.1, {bucket: REQUEST_PARTS * 20}), free))
    of_work = LimitBank(10, 1_000_000, False, 0, 0, (candidate(0.1, {bucket: 900_000}), free))
    seen = fit(FIXED, of_requests)
    assert seen.by_request
    assert seen.points[0].adds[0.95] < 0.05  # nine tenths of the work, but one request in fifty
    unseen = fit(FIXED, of_work)
    assert not unseen.by_request
    assert unseen.points[0].adds[0.95] > 10
    one, other = (Observation(FIXED, each, 0.5, 10.0) for each in (of_requests, of_work))
    both = fit_curve(Evidence.of([one, other] * 12), 0.0, [0.95])
    assert both.points[0].adds[0.95] == pytest.approx(seen.points[0].adds[0.95], abs=1e-6)


def crowded(delays_of_busy, delays_of_rest, busy=0.25):
    """A bank of 100,000 requests with one candidate, by the share of each delay within busy moments and the rest."""
    requests = 100_000
    of_busy = {bucket: int(REQUEST_PARTS * requests * busy * share) for bucket, share in delays_of_busy.items()}
    of_rest = {bucket: int(REQUEST_PARTS * requests * (1 - busy) * share) for bucket, share in delays_of_rest.items()}
    total = {bucket: of_busy.get(bucket, 0) + of_rest.get(bucket, 0) for bucket in {**of_busy, **of_rest}}
    candidates = (candidate(0.1, total, of_busy), candidate(0.2, {}))
    return LimitBank(10, 10**8, True, requests, int(REQUEST_PARTS * requests * busy), candidates)


def test_delays_of_busy_moments_meet_the_slowest_requests():
    """A quarter of the answers is slow, and a tenth of all are delayed: the slow ones, the others, or any."""
    latency = Histogram.of(LATENCY, [0.010] * 750 + [0.100] * 250)
    bucket = DELAY.bucket_of(0.1)
    slow, quick, either = (
        fit(latency, crowded(*shares)).points[0].adds[0.95]
        for shares in (({bucket: 0.4}, {}), ({}, {bucket: 0.4 / 3}), ({bucket: 0.1}, {bucket: 0.1}))
    )
    assert slow == pytest.approx(1.0, abs=0.25)  # 0.2 s at P95, the delay's bucket is 25 % wide
    assert quick == pytest.approx(0.0, abs=0.15)
    assert quick <= either < slow


def test_busy_moments_agree_with_drawing_both_at_random():
    chance = np.random.default_rng(3)
    latency = np.sort(chance.lognormal(np.log(0.01), 0.5, 40_000))
    is_busy = np.arange(40_000) >= 30_000  # the slowest quarter
    delays = np.where(chance.random(40_000) < np.where(is_busy, 0.5, 0.05), chance.exponential(0.02, 40_000), 0.0)
    of = [Histogram.of(DELAY, map(float, delays[chosen])).counts for chosen in (is_busy, ~is_busy)]
    shares = [
        {bucket: count / n for bucket, count in counts.items() if bucket}
        for counts, n in zip(of, (1e4, 3e4), strict=True)
    ]
    curve = fit(Histogram.of(LATENCY, map(float, latency)), crowded(*shares))
    for quantile in (0.5, 0.95):
        together = np.quantile(latency + delays, quantile) / np.quantile(latency, quantile) - 1
        assert curve.points[0].adds[quantile] == pytest.approx(together, abs=0.05)


@pytest.mark.parametrize("busy", [0.0, 1.0])
def test_where_all_moments_are_alike_nothing_is_kept_apart(busy):
    bucket = DELAY.bucket_of(0.02)
    apart = crowded({bucket: 0.3}, {bucket: 0.3}, busy)
    together = LimitBank(
        10, 10**8, True, 100_000, 0, (candidate(0.1, apart.candidates[0].delayed.counts), apart.candidates[1])
    )
    assert fit(FIXED, apart).points[0].adds == pytest.approx(fit(FIXED, together).points[0].adds, rel=1e-3)


def test_a_recording_that_varies_is_less_sure_than_one_that_does_not():
    def observation(share):
        return Observation(FIXED, bank((share, 0.02), (0, 0), (0, 0), (0, 0)), 0.5, 10.0)

    even = fit_curve(Evidence.of([observation(0.055)] * 12), 0.0, [0.95]).points[0]
    uneven = fit_curve(Evidence.of([observation(0.0), observation(0.11)] * 6), 0.0, [0.95]).points[0]
    assert even.adds == pytest.approx(uneven.adds, abs=1e-6)
    assert uneven.upper_adds[0.95] > even.upper_adds[0.95] + 0.05


def test_one_window_alone_bounds_nothing():
    point = fit(FIXED, bank((0.5, 0.02), (0, 0), (0, 0), (0, 0)), windows=1).points[0]
    assert point.upper_adds[0.95] > 1e6


def test_between_candidates_the_limit_is_interpolated_and_still_holds():
    curve = fit(FIXED, bank((0.9, 0.1), (0.2, 0.003), (0, 0), (0, 0)), cores=0.01)
    limit = curve.smallest_within(0.95, 0.05, upper=False)
    assert 0.2 < limit < 0.4
    assert curve.adds_at(limit, 0.95) <= 0.05 + 1e-9


def test_the_jackknife_agrees_with_a_block_bootstrap():
    chance = np.random.default_rng(4)

    def block():
        slow = float(chance.lognormal(0, 0.15))
        latency = Histogram.of(LATENCY, map(float, 0.01 * slow * chance.lognormal(0, 0.4, 400)))
        share = float(np.clip(chance.normal(0.15, 0.04), 0.02, 0.4))
        return Observation(latency, bank((share, 0.02), (0, 0), (0, 0), (0, 0)), 0.5, 10.0)

    blocks = [block() for _ in range(12)]
    point = fit_curve(Evidence.of(blocks), 0.0, [0.95]).points[0]
    jackknife = np.log((1 + point.upper_adds[0.95]) / (1 + point.adds[0.95])) / 1.363  # t, 11 degrees, 90 %
    factors = []
    for _ in range(150):
        drawn = [blocks[index] for index in chance.integers(12, size=12)]
        factors.append(np.log1p(fit_curve(Evidence.of(drawn), 0.0, [0.95]).points[0].adds[0.95]))
    assert jackknife == pytest.approx(np.std(factors), rel=0.35)


def test_the_interval_holds_the_point_and_widens_with_its_level():
    curve = fit(FIXED, bank((0.9, 0.1), (0.2, 0.003), (0.05, 0.001), (0, 0)), drift=0.05)
    for limit in (0.15, 0.2, 0.3):
        middle = curve.adds_at(limit, 0.95)
        (low80, high80), (low95, high95) = (curve.interval(limit, 0.95, level) for level in (0.8, 0.95))
        assert low95 <= low80 <= middle <= high80 <= high95
