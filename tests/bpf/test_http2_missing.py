"""http2.bpf.c in user space: what it never saw, what comes late, and bytes that mean nothing."""

from collections import Counter
from random import Random

import pytest
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.layout import ROUTE_UNKNOWN, Protocol
from tests.bpf.http2_traffic import End, exchange, noise, shuffled
from tests.bpf.http2_wire import (
    CALLED,
    CONFIG,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOT,
    HEADERS,
    OK,
    PING,
    PREFACE,
    Script,
    call,
    counts,
    frame,
    plain,
)
from tests.bpf.segments import ANSWERS, LAST_ACK, REQUESTS, carry, losses

SETTINGS = settings(derandomize=True, max_examples=150, deadline=None)
POST_LARGE = [(":method", "POST"), (":path", "/large"), (":scheme", "http")]
any_bytes = st.one_of(
    st.binary(min_size=1, max_size=200),
    st.sampled_from([PREFACE, frame(CONFIG), frame(HEADERS, 1, b"\x82\x84\x86", 5), frame(HEADERS, 1, b"\x88", 5)]),
)


def test_an_older_connection_is_joined_and_only_names_that_went_by_are_missing(native):
    script = Script(native, begins=False)
    script.client.encode(GET)  # what went by before: both tables know it
    script.server.encode(OK)
    for stream in (101, 103):
        script.ask(stream)
        script.tell(stream)
    script.ask(105, [(":method", "GET"), (":path", "/new"), (":scheme", "http")])
    script.tell(105, [(":status", "201")])
    script.ask(107, [(":method", "GET"), (":path", "/new"), (":scheme", "http")])
    script.tell(107, [(":status", "201")])
    unknown = ("GET", ROUTE_UNKNOWN, Protocol.HTTP2, 200)
    assert counts(native) == {unknown: 2, ("GET", "/new", Protocol.HTTP2, 201): 2}
    assert native.spoke_http2()


def test_an_older_connection_whose_first_fields_are_in_the_table(native):
    script = Script(native, begins=False)
    call = [(":path", "/p"), (":authority", "x"), (":method", "POST"), (":scheme", "http")]
    script.client.encode(call)
    for stream in (5, 7):
        script.ask(stream, call)
        script.tell(stream)
    assert counts(native) == {("POST", ROUTE_UNKNOWN, Protocol.HTTP2, 200): 2}
    assert losses(native) == {"FIELD_UNKNOWN": 2}  # their paths


def test_an_older_connection_whose_answers_are_seen_first(native):
    script = Script(native, begins=False)
    script.tell(99)
    script.ask(101)
    script.tell(101)
    assert counts(native) == {(*GOT, 200): 1}
    assert losses(native) == {"RESPONSE_WITHOUT_REQUEST": 1}


def test_a_gap_within_data_costs_nothing(native):
    script = Script(native)
    script.ask(1)
    whole = plain(script.server, 1, OK, END_HEADERS) + frame(DATA, 1, b"x" * 5000, END_STREAM)
    script.say(ANSWERS, whole[:1000])
    script.say(ANSWERS, whole[3000:], gap=2000)
    assert counts(native) == {(*GOT, 200): 1}


def test_after_a_gap_names_in_the_table_are_unknown_and_new_ones_are_not(native):
    script = Script(native, at_client=True)
    script.ask(1)
    script.tell(1)
    missed = plain(script.client, 3, [(":method", "GET"), (":path", "/missed"), (":scheme", "http")])
    script.say(script.requests, plain(script.client, 5, GET), gap=len(missed))
    script.tell(5)
    script.tell(3)
    for stream in (7, 9):
        script.ask(stream, [(":method", "GET"), (":path", "/new"), (":scheme", "http")])
        script.tell(stream)
    new, unknown = ("GET", "/new", Protocol.HTTP2, 200), ("GET", ROUTE_UNKNOWN, Protocol.HTTP2, 200)
    assert counts(native) == {(*GOT, 200): 1, unknown: 1, new: 2}
    assert losses(native) == {"SEQUENCE_GAP": 1, "RESPONSE_WITHOUT_REQUEST": 1, "FIELD_UNKNOWN": 1}


@SETTINGS
@given(st.integers(0, 2**32))
def test_segments_that_come_late_or_twice_are_read_in_order(native, seed):
    """Of requests that come in: what a lost or an overtaken packet looks like at a server."""
    chance = Random(seed)
    script, client = Script(native), End(chance)
    expected, data = Counter(), b""
    for number in range(20):
        key, fields, has_body = exchange(chance, number)
        data += client.message(2 * number + 1, fields, ends=not has_body)
        data += client.body(2 * number + 1, True) if has_body else b""
        expected[*key[:2], Protocol.HTTP2, 204] += 1
    for at, part in shuffled(chance, data, 3):
        native.segment_at(part, len(part), REQUESTS, at)
    for number in range(20):
        script.tell(2 * number + 1, [(":status", "204"), ("content-type", "text/plain")])
    assert counts(native) == expected
    assert losses(native) == {}


def test_what_never_comes_is_not_waited_for_without_end(native):
    script = Script(native)
    script.ask(1)
    script.say(REQUESTS, plain(script.client, 5, GET), gap=len(plain(Encoder(), 3, GET)))
    script.tell(5)
    assert counts(native) == {}  # it waits
    for _ in range(10):
        script.say(REQUESTS, frame(PING, 0, bytes(8)) * 50)
    script.ask(7, [(":method", "GET"), (":path", "/new"), (":scheme", "http")])
    script.tell(7)
    assert counts(native)["GET", "/new", Protocol.HTTP2, 200] == 1
    assert losses(native)["SEQUENCE_GAP"] == 1


@SETTINGS
@given(st.integers(0, 2**32))
def test_any_disorder_at_all_leaves_the_connection_readable(native, seed):
    chance = Random(seed)
    script = Script(native)
    data = b"".join(plain(script.client, 2 * number + 1, GET) + noise(chance) for number in range(100))
    segments = [(at, data[at : at + 700]) for at in range(0, len(data), 700)]
    chance.shuffle(segments)
    for at, part in segments[: chance.randint(0, len(segments))]:
        native.segment_at(part, len(part), REQUESTS, at)
    for number in range(12):  # more than is held
        part = frame(PING, 0, bytes(8)) * 30
        native.segment_at(part, len(part), REQUESTS, len(data) + number * len(part))
    after = len(data) + 12 * len(part)
    last = plain(Encoder(), 301, [(":method", "GET"), (":path", "/last"), (":scheme", "http")])
    native.segment_at(last, len(last), REQUESTS, after)
    script.tell(301)
    assert counts(native) == {("GET", "/last", Protocol.HTTP2, 200): 1}


def test_answers_missed_in_a_gap_are_a_loss_and_not_aborted(native):
    script = Script(native)
    script.ask(1)
    script.ask(3)
    missed = plain(script.server, 1, OK)
    script.say(ANSWERS, plain(script.server, 3, OK), gap=len(missed))
    native.ended(LAST_ACK, 0)
    assert (counts(native), losses(native)) == ({(*GOT, 200): 1}, {"SEQUENCE_GAP": 1, "UNANSWERED": 1})


def test_slots_of_answers_that_were_missed_are_taken_over(native):
    script = Script(native)
    for stream in range(1, 2 * 1500, 2):
        script.ask(stream)
        if stream == 1:
            script.say(ANSWERS, frame(PING, 0, bytes(8)), gap=1)
    for stream in range(2 * 1500 + 1, 2 * 1600, 2):
        script.ask(stream)
        script.tell(stream)
    assert counts(native) == {(*GOT, 200): 100}
    assert set(losses(native)) == {"SEQUENCE_GAP", "UNANSWERED"}


def test_a_status_out_of_a_part_of_the_table_that_was_missed_is_not_taken_for_success(native):
    script = Script(native)
    call(script, 1, 0)
    call(script, 3, 13)
    script.say(ANSWERS, frame(PING, 0, bytes(8)), gap=17)
    for stream in range(5, 205, 2):
        call(script, stream, 13 if stream % 4 == 1 else 0)
    assert counts(native) == {(*CALLED, 0): 1, (*CALLED, 13): 1, (*CALLED, 200): 100}
    assert losses(native) == {"SEQUENCE_GAP": 1, "FIELD_UNKNOWN": 100}


@pytest.mark.parametrize("direction", [REQUESTS, ANSWERS])
@pytest.mark.parametrize("seed", range(6))
def test_a_gap_within_a_large_body_costs_that_request_and_no_other(native, direction, seed):
    """Random bytes look like frames: the reading goes on only where one is likely."""
    chance, script = Random(seed), Script(native)
    body = b"".join(frame(DATA, 1, chance.randbytes(16384)) for _ in range(60)) + frame(DATA, 1, b"", END_STREAM)
    script.ask(1, POST_LARGE, END_HEADERS)
    if direction == ANSWERS:
        script.say(REQUESTS, frame(DATA, 1, b"", END_STREAM))
        script.tell(1, OK, END_HEADERS)
    segments = [body[at : at + 1448] for at in range(0, len(body), 1448)]
    for number, segment in enumerate(segments):
        if not 200 <= number < 212:
            script.say(direction, segment, gap=12 * 1448 if number == 212 else 0)
    if direction == REQUESTS:
        script.tell(1)
    new = [(":method", "GET"), (":path", "/after"), (":scheme", "http")]
    for stream in range(3, 203, 2):
        script.ask(stream, new)
        script.tell(stream, [(":status", "201")])
    assert counts(native)["GET", "/after", Protocol.HTTP2, 201] == 100
    assert counts(native).total() <= 101


@SETTINGS
@given(
    st.lists(
        st.tuples(st.sampled_from([REQUESTS, ANSWERS]), any_bytes, st.sampled_from([0, 0, 0, 1, 100])), max_size=40
    )
)
def test_no_bytes_at_all_make_more_than_was_answered(native, segments):
    native.hang_up()
    for direction, data, gap in segments:
        carry(native, direction, data, gap=gap)
    native.ended(LAST_ACK, 0)
    told = sum(len(data) for direction, data, _ in segments)
    assert counts(native).total() <= told // 20
    assert all(status < 1000 for *_, status in counts(native))
