"""What weighs in the bank, and which of it falls into busy moments; cpu.bpf.c in user space."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf.layout import REQUEST_PARTS
from tests.bpf.play import FIRST_BIN, MS, SETTINGS, candidates, played, run_bins, start, stepped, workloads


def answered(native, quotas, bins, first=FIRST_BIN):
    """Bin by bin; each is (on-CPU time, requests answered)."""
    state = start(native, quotas, 2)
    run_bins(native.step, first - 1, [0])  # before it, there is no entry to count answers in
    for number, (used, answers) in enumerate(bins, first):
        native.answer(number, answers)
        run_bins(native.step, number, [used])
    return state


@SETTINGS
@given(workloads(idle=200), st.integers(0, 3))
def test_what_is_busy_is_part_of_the_whole(native, workload, answers):
    cpus, first, used = workload
    quotas = candidates(cpus)
    state = answered(native, quotas, [(each, answers) for each in used], first)
    weight = state.answers * REQUEST_PARTS or state.work_us
    assert state.busy_weight <= weight
    for index in range(len(quotas)):
        whole, busy = (np.array(list(each)) for each in (state.limits[index].delayed, state.limits[index].delayed_busy))
        assert (busy <= whole).all()
        assert busy.sum() <= state.busy_weight
        assert whole.sum() <= weight


def test_work_weighs_until_the_first_answer_and_requests_from_then_on(native):
    hog = [(10 * MS, 0)] * 20
    state = answered(native, [50 * MS], hog)
    of_work = sum(state.limits[0].delayed)
    assert of_work == pytest.approx(sum(used for used, _ in hog) / 1000, rel=0.3)  # nearly all waits
    state = answered(native, [50 * MS], [*hog, *[(10 * MS, 2)] * 20])
    assert sum(state.limits[0].delayed) == pytest.approx(20 * 2 * REQUEST_PARTS, rel=0.1)  # of work none is left
    assert state.busy_weight <= state.answers * REQUEST_PARTS


def bursts_between_steady_work(answers=1):
    """2 ms of every bin, and once in a while 8 whole bins on two CPUs; each as often answered as it works."""
    steady, burst = [(2 * MS, answers)] * 92, [(20 * MS, 10 * answers)] * 8
    return (steady + burst) * 20


@pytest.mark.parametrize("answers", [0, 1], ids=["work", "requests"])
def test_the_end_of_a_burst_is_busy_and_steady_work_is_not(native, answers):
    """Under 1.2 cores only bursts are delayed, and with them what comes right after."""
    bins = bursts_between_steady_work(answers)
    state = answered(native, [120 * MS], bins)
    whole, busy = (sum(each) for each in (state.limits[0].delayed, state.limits[0].delayed_busy))
    assert whole > 0
    assert busy > 0.8 * whole
    in_bursts = 8 * 20 / (92 * 2 + 8 * 20)
    weight = state.answers * REQUEST_PARTS or state.work_us
    assert 0.5 * in_bursts < state.busy_weight / weight < 1.15 * in_bursts  # and a few bins after


def test_work_that_never_varies_has_no_busy_moments(native):
    state = answered(native, [10 * MS], [(3 * MS, 1)] * 500)
    assert sum(state.limits[0].delayed) > 0
    assert state.busy_weight <= 10 * REQUEST_PARTS  # the very first bins, before there is a mean


@SETTINGS
@given(workloads(idle=200))
def test_a_gap_taken_at_once_is_forgotten_like_idle_bins_one_by_one(native, workload):
    cpus, first, used = workload
    at_once = played(native, candidates(cpus), cpus, used, first)
    recent, mean = at_once.recent_ns, at_once.mean_recent_ns
    state = stepped(native, candidates(cpus), cpus, used, first)
    assert (recent, mean) == (state.recent_ns, state.mean_recent_ns)
