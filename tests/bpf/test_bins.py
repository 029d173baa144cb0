"""cpu.bpf.c: on-CPU time into bins and periods, and the buckets of both histograms."""

from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bpf.layout import (
    BIN_NS,
    BURST_BUCKETS,
    DELAY_BUCKETS,
    LATENCY_BUCKETS,
    LATENCY_UNIT_SHIFT,
)
from profiles.histogram import DELAY, LATENCY
from tests.bpf.play import FIRST_BIN, MS, SETTINGS, candidates, gaps_of, played, run_bins, start, stepped, workloads
from tests.bpf.quota import (
    BINS_PER_PERIOD,
    Quota,
    counted_periods,
    worked_periods,
)


@SETTINGS
@given(workloads(idle=200))
def test_work_periods_and_bursts_add_up_to_the_input(native, workload):
    cpus, first, used = workload
    state = played(native, candidates(cpus), cpus, used, first)
    run_bins(native.play, first + len(used), [0] * 20)  # ends the last period
    assert state.oncpu_ns == sum(used)
    assert state.work_us * 1000 == sum(used)
    assert state.periods == sum(counted_periods(worked_periods(first, [*used, *[0] * 20])[:-1]))
    bursts = [0] * BURST_BUCKETS
    for each in filter(None, used):
        bursts[min(each * 16 // BIN_NS, BURST_BUCKETS - 1)] += 1
    assert list(state.bursts) == bursts


@SETTINGS
@given(
    st.lists(st.tuples(st.integers(0, 30 * MS), st.integers(1, 45 * MS)), min_size=1, max_size=40),
    st.integers(0, BIN_NS - 1),
)
@example([(0, BIN_NS)], 0)
@example([(0, 1)], BIN_NS - 1)
@example([(8 * BIN_NS, 4 * BIN_NS)] * 5, 0)
def test_no_nanosecond_is_lost_between_the_switch_and_the_bank(native, intervals, phase):
    """work_us alone drops a part of a microsecond per bin."""
    state, now = start(native, [50 * MS], 4, 0), FIRST_BIN * BIN_NS + phase
    for idle, busy in intervals:
        native.run(now + idle, now + idle + busy)
        now += idle + busy
    run_bins(native.play, now // BIN_NS + 1, [0] * 20)
    total = sum(busy for _, busy in intervals)
    assert state.oncpu_ns == total
    assert not any(state.open_ns)
    assert 0 <= total - state.work_us * 1000 < 1000 * sum(state.bursts)


@SETTINGS
@given(workloads(idle=120))
def test_periods_of_a_limit_are_those_that_the_kernel_would_count(native, workload):
    """Work or a backlog keeps the quota's timer going, and it stops after one idle period."""
    cpus, first, used = workload
    quotas = candidates(cpus)
    for function in (played, stepped):
        state = function(native, quotas, cpus, [*used, 0], first)  # past a period's end: that one is closed
        for index, quota in enumerate(quotas):
            rule, behind = Quota(quota, cpus), {}
            for number, each in enumerate([*used, 0], first):
                behind.setdefault(number // BINS_PER_PERIOD, rule.backlog > 0)
                rule.bin(number, each)
            worked = worked_periods(first, [*used, 0])
            active = [work or owing for work, owing in zip(worked, behind.values(), strict=True)][:-1]
            counted = state.periods + state.limits[index].backlog_periods
            allowed = gaps_of(used) if function is played else 0  # a gap lends no slack
            assert abs(counted - sum(counted_periods(active))) <= allowed, (function, index)


def test_time_is_split_at_the_end_of_a_bin(native):
    state = start(native, [50 * MS], 1, 0)
    native.run(FIRST_BIN * BIN_NS + 8 * MS, (FIRST_BIN + 1) * BIN_NS + 3 * MS)
    assert {number: state.open_ns[number % 8] for number in (FIRST_BIN, FIRST_BIN + 1)} == {
        FIRST_BIN: 2 * MS,
        FIRST_BIN + 1: 3 * MS,
    }
    assert state.next_bin == FIRST_BIN - 1


def test_a_late_report_reaches_back_over_whole_bins(native):
    """The scheduler's ticks are 4 ms apart and the clock's 10 ms: one report can hold 12 ms or more."""
    state = start(native, [50 * MS], 1, 0)
    native.run((FIRST_BIN - 1) * BIN_NS - MS, FIRST_BIN * BIN_NS + 2 * MS)
    assert [state.open_ns[number % 8] for number in range(FIRST_BIN - 2, FIRST_BIN + 1)] == [MS, 10 * MS, 2 * MS]
    assert state.oncpu_ns == 13 * MS


@pytest.mark.parametrize("cpus", [1, 2, 8])
def test_parallel_is_the_most_cpus_busy_in_a_bin_and_never_falls(native, cpus):
    state = start(native, [50 * MS], cpus, 0)
    levels = [1, 5 * MS, 10 * MS, 11 * MS - 1, 11 * MS, 3 * MS, 21 * MS, 0, 100 * MS, 1 * MS]
    busy = [(each + 9 * MS) // BIN_NS for each in levels]  # less than a tenth of a bin is no second CPU
    seen = []
    for number, each in enumerate(levels, FIRST_BIN):
        run_bins(native.step, number, [each])
        seen.append(state.parallel)
    assert seen == list(accumulate((min(each, cpus) for each in busy), max))


# --- buckets ---------------------------------------------------------------------------


def units_around_every_edge(layout):
    edges = {round(layout.lower_seconds(bucket) / layout.unit_seconds) for bucket in range(layout.buckets + 1)}
    return sorted({edge + step for edge in edges for step in (-1, 0, 1) if edge + step >= 0})


def test_delay_buckets_are_those_of_the_layout(native):
    top = 1 << 30  # what drain_delay answers at most, and the last value of its type
    for units in {*range(1 << 10), *units_around_every_edge(DELAY), top - 1, top, 2 * top - 1}:
        assert native.delay_bucket_of(units) == DELAY.bucket_of((units + 0.5) * DELAY.unit_seconds), units


def test_latency_buckets_are_those_of_the_layout(native):
    for units in {*range(1 << 10), *units_around_every_edge(LATENCY)}:
        for nanoseconds in (units * 64, units * 64 + 63):
            expected = LATENCY.bucket_of((units + 0.5) * LATENCY.unit_seconds)
            assert native.latency_bucket_of(nanoseconds) == expected, nanoseconds


@SETTINGS
@given(st.integers(0, 64).flatmap(lambda bits: st.integers(0, (1 << bits) - 1)))
def test_buckets_agree_over_the_whole_range(native, value):
    units = value >> LATENCY_UNIT_SHIFT
    assert native.latency_bucket_of(value) == LATENCY.bucket_of((units + 0.5) * LATENCY.unit_seconds)
    units = value % (1 << 32)
    assert native.delay_bucket_of(units) == DELAY.bucket_of((units + 0.5) * DELAY.unit_seconds)


def test_the_last_bucket_is_open(native):
    assert native.latency_bucket_of(2**64 - 1) == LATENCY_BUCKETS - 1
    assert native.delay_bucket_of(2**32 - 1) == DELAY_BUCKETS - 1
