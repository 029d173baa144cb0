"""Who is charged with what, on a processor whose scheduler we play; task_clock.h in user space."""

import ctypes

from hypothesis import given
from hypothesis import strategies as st

from tests.bpf.play import MS, SETTINGS

IDLE, TASKS = 0, (1, 2, 3)
#: (what happens, who is put on, how long it ran before by the scheduler's clock, what the host stole meanwhile)
EVENTS = st.tuples(
    st.sampled_from(["switch", "tick", "unseen"]),
    st.integers(0, 3),
    st.integers(0, 12 * MS),
    st.sampled_from([0, 0, 3 * MS]),
)


def charged(native, events):
    """On-CPU time per task by the program, and the monotonic moments of its reports from the clock."""
    native.boot()
    now, stamp, running = 1_000 * MS, 500 * MS, IDLE
    native.switched(now, stamp, IDLE, True)
    found, moments = dict.fromkeys((IDLE, *TASKS), 0), []
    for what, target, ran, stolen in events:
        stamp, now = stamp + ran, now + ran + stolen
        if what == "tick":
            at = ctypes.c_uint64()
            found[running] += native.ticked(now, stamp, ctypes.byref(at))
            moments += [(at.value, now)] if running != IDLE else []
        elif target != running:
            found[running] += native.switched(now, stamp, target, what == "switch")
            running = target
    return found, moments


@SETTINGS
@given(st.lists(EVENTS, max_size=40))
def test_a_task_is_charged_what_the_scheduler_charged_it_and_never_more(native, events):
    found, moments = charged(native, events)
    assert found[IDLE] == 0
    for pid in TASKS:
        assert found[pid] <= native.charged_by_scheduler(pid)
    assert all(at <= now for at, now in moments)


@SETTINGS
@given(st.lists(EVENTS.filter(lambda event: event[0] != "unseen"), max_size=40))
def test_nothing_is_missing_when_every_switch_is_seen(native, events):
    found, _ = charged(native, [*events, ("switch", IDLE, 0, 0)])
    assert {pid: found[pid] for pid in TASKS} == {pid: native.charged_by_scheduler(pid) for pid in TASKS}


def test_who_was_put_on_unseen_is_charged_from_then_on_only(native):
    """Task 1 runs 6 ms; task 2 takes its place unseen and runs 2 ms up to the tick."""
    found, _ = charged(native, [("switch", 1, 0, 0), ("unseen", 2, 6 * MS, 0), ("tick", 0, 2 * MS, 0)])
    assert found[2] == 2 * MS


def test_a_report_of_the_clock_is_dated_by_the_monotonic_clock(native):
    """The host stole 3 ms before the task was put on: the two clocks are that much further apart."""
    _, moments = charged(native, [("tick", 0, 0, 3 * MS), ("switch", 1, 0, 0), ("tick", 0, 4 * MS, 0)])
    assert moments == [(1_007 * MS, 1_007 * MS)]
