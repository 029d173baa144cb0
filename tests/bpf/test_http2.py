"""http2.bpf.c in user space: random conversations of many streams in random pieces, and messages one by one."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.layout import Outcome, Protocol
from tests.bpf.http2_traffic import play
from tests.bpf.http2_wire import (
    CALL,
    CALLED,
    CONFIG,
    DATA,
    END_HEADERS,
    END_STREAM,
    FAILED,
    GET,
    GOT,
    OK,
    PREFACE,
    PROMISE,
    RESET,
    Script,
    counts,
    frame,
    plain,
)
from tests.bpf.segments import ANSWERS, LAST_ACK, REQUESTS, carry, losses

SETTINGS = settings(derandomize=True, max_examples=150, deadline=None)


@SETTINGS
@given(st.integers(0, 2**32))
def test_any_streams_in_any_pieces_are_counted_exactly(native, seed):
    chance = Random(seed)
    assert play(native, chance, chance.randint(1, 30)) == counts(native)
    assert losses(native) == {}


@pytest.mark.parametrize("cut", range(1, 24 + 9 + 9))
def test_a_beginning_cut_at_any_byte(native, cut):
    script = Script(native, begins=False)
    data = PREFACE + frame(CONFIG) + plain(script.client, 1, GET)
    for piece in (data[:cut], data[cut : cut + 3], data[cut + 3 :]):
        script.say(REQUESTS, piece)
    script.tell(1)
    assert counts(native) == {(*GOT, 200): 1}
    assert losses(native) == {}


@pytest.mark.parametrize("code", range(17))
def test_every_status_of_grpc(native, code):
    script = Script(native)
    for stream in (1, 3):  # the second time out of the table
        script.ask(stream, CALL)
        script.tell(stream, OK, END_HEADERS)
        script.say(ANSWERS, frame(DATA, stream, b"\0\0\0\0\2hi"))
        script.tell(stream, [("grpc-status", str(code))])
    assert counts(native) == {(*CALLED, code): 2}


@pytest.mark.parametrize("code", ["", "x", "1x", "17", "99", "0000", "-1", "\xff"])
def test_a_status_of_grpc_that_is_none_is_unknown_as_its_clients_take_it(native, code):
    script = Script(native)
    script.ask(1, CALL)
    script.tell(1, [*OK, ("content-type", "application/grpc"), ("grpc-status", code)])
    assert counts(native) == {(*CALLED, 2): 1}


@pytest.mark.parametrize("status", ["2xx", "\xff\xff\xff", "2000", "", "-20"])
def test_a_status_that_is_none_is_no_answer(native, status):
    """It has been stored as one once, and nobody could read the store any more."""
    script = Script(native)
    script.ask(1)
    script.tell(1, [(":status", status)])
    assert counts(native) == {}
    assert losses(native) == {"UNANSWERED": 1}


def test_an_answer_that_is_not_grpc_s_is_counted_by_its_own_status(native):
    """What a proxy says when nobody is behind it."""
    script = Script(native)
    script.ask(1, CALL)
    script.tell(1, [(":status", "503"), ("content-type", "text/html")])
    assert counts(native) == {("POST", "/a.B/C", Protocol.HTTP2, 503): 1}


def test_streams_that_end_without_an_answer(native):
    script = Script(native)
    for stream in (1, 3, 5, 7, 9, 11):
        script.ask(stream, CALL if stream in (7, 11) else GET)
    script.say(REQUESTS, frame(RESET, 1, b"\0\0\0\x08"))
    script.say(ANSWERS, frame(RESET, 3, b"\0\0\0\x07"))
    script.tell(5, OK, END_HEADERS)
    script.tell(7, OK, END_HEADERS)
    script.say(ANSWERS, frame(RESET, 5, b"\0\0\0\x02"))  # it had begun, so it was answered
    script.say(ANSWERS, frame(RESET, 7, b"\0\0\0\x02"))  # its status would have come at the end
    script.tell(5)  # nobody's any more
    assert counts(native) == {(*GOT, 200): 1}
    assert counts(native, Outcome.ABORTED) == {(*GOT, 0): 1}
    assert counts(native, Outcome.RESET) == {(*GOT, 0): 1, (*CALLED, 0): 1}
    native.ended(LAST_ACK, 0)
    assert counts(native, Outcome.ABORTED) == {(*GOT, 0): 2, (*CALLED, 0): 1}
    native.ended(LAST_ACK, 0)
    assert counts(native, Outcome.ABORTED).total() == 3


def test_an_answer_under_way_when_the_connection_ends_was_one(native):
    script = Script(native)
    for stream in range(1, 2 * 40, 2):
        script.ask(stream)
        script.tell(stream, OK, END_HEADERS)
    native.ended(LAST_ACK, 0)
    assert counts(native) == {(*GOT, 200): 40}


def test_latency_is_to_the_last_byte_and_no_pause_is_in_it(native):
    script = Script(native)
    second = 10**9
    native.at(second)
    script.ask(1)
    native.at(second + 10**7)
    script.tell(1, OK, END_HEADERS)
    native.at(second + 3 * 10**7)
    script.say(ANSWERS, frame(DATA, 1, b"x" * 100))
    native.at(60 * second)
    script.say(ANSWERS, frame(DATA, 1, b"an event", END_STREAM))
    stats = native.counted_at(0).contents.stats
    assert (stats.latency_sum_ns, stats.transfer_sum_ns) == (3 * 10**7, 2 * 10**7)
    assert stats.response_bytes == 1 + 100 + 8


def test_an_upgrade_from_http1(native):
    script = Script(native, begins=False)
    script.say(REQUESTS, b"GET /up HTTP/1.1\r\nUpgrade: h2c\r\n\r\n")
    script.say(ANSWERS, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n")
    script.say(REQUESTS, PREFACE + frame(CONFIG))
    script.say(ANSWERS, frame(CONFIG))
    script.tell(1)  # the answer to the request above, which was counted with its 101
    script.ask(3)
    script.tell(3)
    assert counts(native) == {("GET", "/up", Protocol.HTTP1, 101): 1, (*GOT, 200): 1}
    assert losses(native) == {}


def test_what_a_server_pushes_belongs_to_the_table_and_is_no_request(native):
    script = Script(native)
    script.ask(1)
    promise = (2).to_bytes(4, "big") + script.server.encode([(":path", "/pushed"), ("x-new", "entry")])
    script.say(ANSWERS, frame(PROMISE, 1, promise, END_HEADERS))
    script.tell(2, [(":status", "299")])
    script.tell(1, [(":status", "299")])
    assert (counts(native), losses(native)) == ({(*GOT, 299): 1}, {})


def test_a_call_that_ends_without_a_status_is_unknown_as_its_client_says(native):
    script = Script(native)
    script.ask(1, CALL)
    script.tell(1, [*OK, ("content-type", "application/grpc")], END_HEADERS)
    script.say(ANSWERS, frame(DATA, 1, b"half", END_STREAM))
    assert counts(native) == {(*CALLED, 2): 1}


def test_a_call_that_works_after_its_head_was_sent_has_all_of_its_latency(native):
    script = Script(native)
    native.at(10**9)
    script.ask(1, CALL)
    script.tell(1, [*OK, ("content-type", "application/grpc")], END_HEADERS)
    native.at(6 * 10**9)
    script.say(ANSWERS, frame(DATA, 1, b"\0\0\0\0\2hi"))
    script.tell(1, [("grpc-status", "0")])
    assert native.counted_at(0).contents.stats.latency_sum_ns == 5 * 10**9


def test_another_protocol_with_lengths_in_front_leaves_no_requests(native):
    """HBase's answers: a length, a header's length of 5, and numbers that grow."""
    native.hang_up()
    for number in range(2000):
        call_id = 16384 + number
        header = bytes([8, call_id & 0x7F | 0x80, call_id >> 7 & 0x7F | 0x80, call_id >> 14])
        carry(native, REQUESTS, (30).to_bytes(4, "big") + bytes([5]) + header + bytes(25))
        carry(native, ANSWERS, (30).to_bytes(4, "big") + bytes([5]) + header + bytes(25))
    native.ended(LAST_ACK, 0)
    assert (counts(native), counts(native, Outcome.ABORTED)) == ({}, {})


def test_what_began_like_the_preface_and_was_not_goes_on_as_http1(native):
    native.hang_up()
    carry(native, REQUESTS, b"PR")
    carry(native, REQUESTS, b"OPFIND /x HTTP/1.1\r\nHost: example.org\r\nDepth: 1\r\n\r\n")
    carry(native, ANSWERS, b"HTTP/1.1 207 Multi-Status\r\nContent-Length: 0\r\n\r\n")
    for _ in range(5):
        carry(native, REQUESTS, b"GET /get HTTP/1.1\r\nHost: x\r\n\r\n")
        carry(native, ANSWERS, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert counts(native)["GET", "/get", Protocol.HTTP1, 200] >= 4


def test_an_upgrade_whose_answer_is_under_way_when_the_preface_comes(native):
    script = Script(native, begins=False)
    script.say(REQUESTS, b"GET /up HTTP/1.1\r\nUpgrade: h2c\r\n\r\n")
    script.say(ANSWERS, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n")
    told = (
        frame(CONFIG)
        + plain(script.server, 1, OK, END_HEADERS)
        + frame(DATA, 1, Random(1).randbytes(16384), END_STREAM)
    )
    script.say(ANSWERS, told[:1448])
    script.say(REQUESTS, PREFACE + frame(CONFIG))
    for at in range(1448, len(told), 1448):
        script.say(ANSWERS, told[at : at + 1448])
    for stream in (3, 5, 7):
        script.ask(stream, CALL)
        script.tell(stream, FAILED)
    assert counts(native)[(*CALLED, 13)] == 3


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [
        ("application/grpc", Protocol.GRPC),
        ("application/grpc+json", Protocol.GRPC),
        ("application/grpc;x", Protocol.GRPC),
        ("application/grpc-web+proto", Protocol.HTTP2),
    ],
)
def test_what_is_grpc(native, kind, protocol):
    script = Script(native)
    script.ask(1, [*CALL[:3], ("content-type", kind)])
    script.tell(1, [*OK, ("content-type", kind)])
    assert {key[2] for key in counts(native)} == {protocol}
