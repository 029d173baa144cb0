"""When a request ends, for its latency and for the limit bank; traffic.bpf.c in user space, with our own clock."""

import ctypes
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf.layout import BIN_NS
from tests.bpf.play import FIRST_BIN, MS, SETTINGS, run_bins, start
from tests.bpf.segments import ANSWERS, REQUESTS, carry, pieces
from tests.bpf.test_http1_stream import BODY, GET, OK, POST, conversation

UNIT_NS = 64
START_NS = (FIRST_BIN + 5) * BIN_NS


def totals(native):
    """(requests, sum of latencies, sum of transfers) over everything that was counted, and requests per bucket."""
    sums, buckets = [0, 0, 0], {}
    index = 0
    while entry := native.counted_at(index):
        stats = entry.contents.stats
        sums = [
            a + b for a, b in zip(sums, (sum(stats.latency), stats.latency_sum_ns, stats.transfer_sum_ns), strict=True)
        ]
        for bucket, count in enumerate(stats.latency):
            if count:
                buckets[bucket] = buckets.get(bucket, 0) + count
        index += 1
    return sums, buckets


def play(native, *steps):
    """(milliseconds since the start, direction, bytes)."""
    native.hang_up()
    for at_ms, direction, data in steps:
        native.at(START_NS + round(at_ms * MS))
        carry(native, direction, data)
    native.at(1)


@pytest.mark.parametrize("request_", [GET, POST + b"1234567"], ids=["plain", "read"])
@pytest.mark.parametrize(
    ("at_ms", "took_ms", "transfer_ms"),
    [
        ([3, 3, 3], 3, 0),
        ([3, 5, 40], 40, 37),
        ([3, 900, 1800], 1800, 1797),
        ([3, 2000, 2001], 3, 0),  # a pause: these are events
        ([3, 700, 2000], 700, 697),
    ],
)
def test_latency_ends_with_the_last_byte(native, request_, at_ms, took_ms, transfer_ms):
    head, *rest = [OK + BODY, BODY, BODY]
    answer = [(at, ANSWERS, part) for at, part in zip(at_ms, [head, *rest], strict=True)]
    play(native, (0, REQUESTS, request_), *answer)
    (requests, latency, transfer), buckets = totals(native)
    assert requests == 1
    assert latency == pytest.approx(took_ms * MS, abs=UNIT_NS)
    assert transfer == pytest.approx(transfer_ms * MS, abs=2 * UNIT_NS)
    assert buckets == {native.latency_bucket_of(took_ms * MS): 1}


@SETTINGS
@given(st.integers(0, 2**32))
def test_any_conversation_takes_from_its_first_byte_to_its_last(native, seed):
    chance = Random(seed)
    now, latency, buckets = START_NS, 0, {}
    native.hang_up()
    for request, answer, _ in conversation(chance):
        begin = None
        for direction, data in ((REQUESTS, request), (ANSWERS, answer)):
            for piece in pieces(chance, data):
                now += chance.choice([0, 1000, chance.randint(0, 40 * MS)])  # a cut status line is no pause
                native.at(now)
                carry(native, direction, piece)
                begin = now if begin is None else begin
        latency += now - begin
        bucket = native.latency_bucket_of(now - begin)
        buckets[bucket] = buckets.get(bucket, 0) + 1
    native.at(1)
    (_, found, _), found_buckets = totals(native)
    assert found_buckets == buckets
    assert found == pytest.approx(latency, abs=8 * UNIT_NS)  # each to the unit


def weights(native, *steps):
    """Open weights by bin after the start, of a server whose bins before the start are closed."""
    state = start(native, [], 2)
    run_bins(native.step, FIRST_BIN, [MS] * 5)
    play(native, *steps)
    open_bins = len(state.open_answers)
    return {n: state.open_answers[(FIRST_BIN + 5 + n) % open_bins] for n in range(open_bins - 2)}


@pytest.mark.parametrize(
    ("at_ms", "bin_"),
    [
        ([3, 5], 0),
        ([13, 15], 1),
        ([13, 25, 31], 3),
        ([13, 35], 1),  # it paused: what was sent then was not worked for then
        ([3, 13], 0),  # the bin of the first is about to be closed
    ],
)
def test_the_bank_weighs_the_moment_of_the_last_byte(native, at_ms, bin_):
    answer = [(at, ANSWERS, OK + BODY if number == 0 else BODY) for number, at in enumerate(at_ms)]
    found = weights(native, (0, REQUESTS, GET), *answer)
    assert found == {n: int(n == bin_) for n in found}


def test_an_answer_after_a_pause_weighs_what_was_done_for_it(native):
    """Before its charge many bins are still open: in none of their slots there is room for it."""
    for pause_bins in range(1, 40):
        state = start(native, [5 * MS], 1)
        run_bins(native.play, FIRST_BIN, [MS])
        native.hang_up()
        now = (FIRST_BIN + pause_bins) * BIN_NS
        for at, direction, data in ((now, REQUESTS, GET), (now + 9 * MS, ANSWERS, OK)):
            native.at(at)
            carry(native, direction, data)
        native.at(1)
        native.run(now, now + 9 * MS)  # over the quota of 5 ms: delayed
        native.run(now + 100 * BIN_NS, now + 100 * BIN_NS + MS)
        assert (state.answers, state.late_answers, state.carried_answers) == (1, 0, 0)
        assert sum(state.limits[0].delayed[1:]) > 0


def test_answers_whose_bin_has_no_work_weigh_the_next_that_has(native):
    """Acknowledgements let the last bytes go when the process sleeps."""
    state = start(native, [], 2)
    native.step(FIRST_BIN, (ctypes.c_uint64 * 1)(MS), 1)
    native.answer(FIRST_BIN + 1, 3)
    run_bins(native.step, FIRST_BIN + 1, [0, 0])
    assert (state.answers, state.carried_answers) == (0, 3)
    native.answer(FIRST_BIN + 3, 1)
    run_bins(native.step, FIRST_BIN + 3, [MS])
    assert (state.answers, state.carried_answers) == (4, 0)


def test_a_weight_that_was_taken_from_a_closed_bin_is_none(native):
    state = start(native, [], 2)
    run_bins(native.step, FIRST_BIN, [MS])
    state.open_answers[(FIRST_BIN + 1) % len(state.open_answers)] = 2**32 - 1
    run_bins(native.step, FIRST_BIN + 1, [MS])
    assert state.answers == 0
