import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf import layout
from profiles.histogram import DELAY, LATENCY, Histogram, UnknownLayout
from profiles.limit_bank import CANDIDATE_LIMITS_CORES, REQUEST_PARTS, Candidate, LimitBank

counts = st.dictionaries(st.integers(1, 59), st.integers(1, 2**40), max_size=8)
histograms = st.builds(Histogram, st.just(DELAY), counts)
banks = st.builds(
    LimitBank,
    st.integers(0, 2**31),
    st.integers(0, 2**50),
    st.booleans(),
    st.integers(0, 2**50),
    st.integers(0, 2**50),
    st.tuples(
        *(st.builds(Candidate, st.just(cores), st.integers(0, 2**31), st.integers(0, 2**31), histograms, histograms)
          for cores in (0.1, 0.2))
    ),
)  # fmt: skip


@given(banks)
def test_bytes_keep_everything(bank):
    assert LimitBank.from_bytes(bank.to_bytes()) == bank


@given(banks, banks, banks)
def test_the_order_of_merging_does_not_matter(a, b, c):
    assert LimitBank.merged([a, b, c]) == LimitBank.merged([c, LimitBank.merged([b, a])])


def test_once_requests_are_weighed_work_is_not():
    """Of a bank of work its periods, its throttling and its CPU time still count."""

    def bank(requests, weight):
        of = Candidate(0.1, 2, 1, Histogram(DELAY, {5: weight}), Histogram(DELAY, {5: weight // 2}))
        return LimitBank(3, 1000, requests > 0, requests, weight, (of,))

    both = LimitBank.merged([bank(0, 900), bank(10, 80)])
    assert (both.periods, both.work_us, both.requests, both.busy_weight) == (6, 2000, 10, 80)
    (candidate,) = both.candidates
    assert (candidate.throttled_periods, candidate.backlog_periods) == (4, 2)
    assert (candidate.delayed.counts, candidate.delayed_busy.counts) == ({5: 80}, {5: 40})
    assert (bank(0, 900).weight, bank(10, 80).weight) == (1000, 10 * REQUEST_PARTS)


def test_nothing_merges_to_nothing():
    assert LimitBank.merged([]) is None


def test_banks_with_other_candidates_do_not_add():
    one, other = (
        LimitBank(1, 1, True, 1, 0, (Candidate(cores, 0, 0, Histogram(DELAY), Histogram(DELAY)),))
        for cores in (0.1, 0.2)
    )
    with pytest.raises(ValueError, match="different candidates"):
        LimitBank.merged([one, other])


def test_an_unknown_version_is_refused():
    with pytest.raises(UnknownLayout):
        LimitBank.from_bytes(b"\x09" + bytes(20))


@given(banks, st.integers(1, 200))
def test_a_bank_cut_short_is_refused(bank, cut):
    data = bank.to_bytes()
    with pytest.raises(UnknownLayout):
        LimitBank.from_bytes(data[: max(0, len(data) - cut)])


def test_candidates_fit_the_kernel_and_ascend():
    assert len(CANDIDATE_LIMITS_CORES) <= layout.MAX_LIMITS
    assert list(CANDIDATE_LIMITS_CORES) == sorted(CANDIDATE_LIMITS_CORES)


def test_kernel_and_contract_agree_on_both_histograms():
    assert (LATENCY.unit_seconds, LATENCY.buckets) == (2**layout.LATENCY_UNIT_SHIFT * 1e-9, layout.LATENCY_BUCKETS)
    assert (DELAY.unit_seconds, DELAY.buckets) == (
        pytest.approx(2**layout.DELAY_UNIT_SHIFT * 1e-9),
        layout.DELAY_BUCKETS,
    )
