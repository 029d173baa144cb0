"""traffic.bpf.c in user space: random conversations in random pieces, against what was put into them."""

import errno
from collections import Counter
from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.layout import Method, Outcome
from tests.bpf.segments import (
    ANSWERS,
    CLOSE_WAIT,
    CLOSED,
    ESTABLISHED,
    FIN_WAIT2,
    LAST_ACK,
    REQUESTS,
    carry,
    losses,
    pieces,
)

NO_BODY = (204, 304)
SETTINGS = settings(derandomize=True, max_examples=400, deadline=None)
LOOKALIKES = [
    b"",
    b"x",
    b"GET /fake HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 500 Fake\r\n\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"GET ",
    b"H",
]


def headers_of(chance):
    some = [
        b"Host: example", b"Cookie: a=b; c=d", b"Content-Type: text/plain", b"Content-Encoding: identity", b"TE: x",
        b"X-Length: 17", b"Connection: keep-alive", b"Accept: " + b"a/b, " * chance.choice([1, 40, 400]), b"Empty:",
        b"X-Folded: one\r\n GET /two HTTP/1.1",
    ]  # fmt: skip
    return [each + b"\r\n" for each in chance.sample(some, chance.randint(0, 5))]


def with_body(chance, first_line, none=False):
    """A message, with a body in any of its forms unless it can have `none`; its length may be said all the same."""
    body = b"".join(chance.choices(LOOKALIKES, k=chance.randint(0, 6)))
    headers, framed = headers_of(chance), b""
    form = chance.choice(["length", "chunks", "nothing"] if none is not None else ["length", "chunks"])
    if form == "length":
        name = chance.choice([b"Content-Length: ", b"content-length:", b"CONTENT-LENGTH:\t "])
        headers.append(name + b"%d\r\n" % len(body))
        framed = body
    elif form == "chunks":
        headers.append(chance.choice([b"Transfer-Encoding: chunked\r\n", b"transfer-encoding: gzip , CHUNKED\r\n"]))
        pieces = [body[at : at + 9] for at in range(0, len(body), 9)]
        framed = b"".join(
            chance.choice([b"%x", b"%X;a=b", b"0%x "]) % len(each) + b"\r\n" + each + b"\r\n" for each in pieces
        )
        framed += b"0\r\n" + chance.choice([b"", b"X-Trailer: GET /t HTTP/1.1\r\n"]) + b"\r\n"
    chance.shuffle(headers)
    return first_line + b"\r\n" + b"".join(headers) + b"\r\n" + (b"" if none else framed)


def conversation(chance):
    """(request, answer, (method, path, status)) of each exchange."""
    for number in range(chance.randint(1, 8)):
        method = chance.choice(["GET", "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH"])
        path = f"/r{number % 3}/{'p' * chance.choice([1, 60])}"
        status = chance.choice([200, 201, 404, 503, *NO_BODY])
        request = with_body(
            chance, f"{method} {path}{chance.choice(['', '?q=1'])} HTTP/1.{chance.randint(0, 1)}".encode()
        )
        bodiless = method == "HEAD" or status in NO_BODY
        answer = with_body(chance, f"HTTP/1.1 {status} {chance.choice(['', 'A Reason'])}".encode(), bodiless or None)
        interim = b"HTTP/1.1 100 Continue\r\n\r\n" if chance.random() < 0.1 else b""
        yield request, interim + answer, (method, path, status)


def play(native, chance, exchanges, early=0):
    """Send them, up to a random number of requests ahead of the answers; what comes at once is cut together.

    :param early: segments that come before the connection has a socket
    """
    asked = told = 0
    while told < len(exchanges):
        ahead = min(len(exchanges), told + chance.randint(1, 8))
        send(native, chance, REQUESTS, b"".join(request for request, _, _ in exchanges[asked:ahead]), early)
        asked = max(asked, ahead)
        early = 0
        upto = chance.randint(told + 1, asked)
        send(native, chance, ANSWERS, b"".join(answer for _, answer, _ in exchanges[told:upto]))
        told = upto


def send(native, chance, direction, data, early=0):
    for number, piece in enumerate(pieces(chance, data)):
        carry(native, direction, piece, early=number < early)


def counts(native):
    """Requests by method, path and status; request and answer bytes."""
    totals, request_bytes, answer_bytes = Counter(), 0, 0
    for index in count():
        entry = native.counted_at(index)
        if not entry:
            return totals, request_bytes, answer_bytes
        key, stats = entry.contents.key, entry.contents.stats
        text = native.text_of(key.route).contents
        totals[Method(key.method).name, text.path[: text.length].decode("latin-1"), key.status] += sum(stats.latency)
        request_bytes += stats.request_bytes
        answer_bytes += stats.response_bytes
    return None


@SETTINGS
@pytest.mark.parametrize("early", [0, 1, 3])
@given(seed=st.integers(0, 2**32))
def test_any_conversation_in_any_pieces_is_counted_exactly(native, early, seed):
    chance = Random(seed)
    exchanges = list(conversation(chance))
    native.hang_up()
    play(native, chance, exchanges, early)
    totals, request_bytes, answer_bytes = counts(native)
    assert totals == Counter(key for _, _, key in exchanges)
    assert losses(native) == {}
    assert request_bytes == sum(len(request) for request, _, _ in exchanges)
    interim = sum(answer.count(b"HTTP/1.1 100") * 25 for _, answer, _ in exchanges)
    assert (
        sum(len(answer) for _, answer, _ in exchanges) - interim <= answer_bytes <= sum(len(a) for _, a, _ in exchanges)
    )


@SETTINGS
@given(st.integers(0, 2**32))
def test_what_still_waits_when_the_connection_ends_is_counted_too(native, seed):
    chance = Random(seed)
    exchanges = list(conversation(chance))
    answered = chance.randint(0, len(exchanges))
    native.hang_up()
    play(native, chance, exchanges[:answered])
    send(native, chance, REQUESTS, b"".join(request for request, _, _ in exchanges[answered:]))
    native.ended(LAST_ACK, 0)
    totals, request_bytes, _ = counts(native)
    asked = [key for _, _, key in exchanges]
    assert totals == Counter(asked[:answered] + [(*key[:2], 0) for key in asked[answered:]])
    assert request_bytes == sum(len(request) for request, _, _ in exchanges)


@pytest.mark.parametrize(
    ("state", "error", "at_server", "at_client"),
    [
        (LAST_ACK, 0, Outcome.ABORTED, Outcome.RESET),  # the other end closed first
        (CLOSE_WAIT, errno.EPIPE, Outcome.ABORTED, Outcome.RESET),
        (ESTABLISHED, errno.ECONNRESET, Outcome.ABORTED, Outcome.RESET),
        (FIN_WAIT2, 0, Outcome.RESET, Outcome.ABORTED),  # this end did
        (FIN_WAIT2, errno.ECONNRESET, Outcome.RESET, Outcome.ABORTED),
        (ESTABLISHED, 0, Outcome.RESET, Outcome.ABORTED),
        (ESTABLISHED, errno.ETIMEDOUT, Outcome.TIMED_OUT, Outcome.TIMED_OUT),
        (ESTABLISHED, errno.EHOSTUNREACH, Outcome.TIMED_OUT, Outcome.TIMED_OUT),
    ],
)
def test_who_ended_it(native, state, error, at_server, at_client):
    for direction, expected in ((REQUESTS, at_server), (ANSWERS, at_client)):
        native.hang_up()
        carry(native, direction, GET)
        native.ended(state, error)
        assert native.counted_at(0).contents.key.outcome == expected
        assert not native.counted_at(1)


any_bytes = st.one_of(st.binary(min_size=1, max_size=200), st.sampled_from([each for each in LOOKALIKES if each]))


@SETTINGS
@given(st.lists(st.tuples(st.sampled_from([REQUESTS, ANSWERS]), any_bytes), max_size=40))
def test_no_bytes_at_all_make_more_than_was_answered(native, segments):
    native.hang_up()
    for direction, data in segments:
        carry(native, direction, data)
    told = b"".join(data for direction, data in segments if direction == ANSWERS)
    assert sum(counts(native)[0].values()) <= told.count(b"HTTP/1.")


@SETTINGS
@given(st.integers(0, 2**32), st.data())
def test_a_conversation_with_bytes_changed_goes_on(native, seed, data):
    """Whatever it made of the damage, ten plain requests later the connection is counted again."""
    chance = Random(seed)
    native.hang_up()
    for request, answer, _ in conversation(chance):
        for direction, message in ((REQUESTS, request), (ANSWERS, answer)):
            at = data.draw(st.integers(0, len(message) - 1))
            send(native, chance, direction, message[:at] + bytes([data.draw(st.integers(0, 255))]) + message[at + 1 :])
    assert sum(counts(native)[0].values()) < 20


@pytest.mark.parametrize("head", [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\nHost: x\n\n", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
])  # fmt: skip
def test_line_ends_as_lenient_as_servers_take_them(native, head):
    """RFC 9112, 2.2: a bare LF may end a line, empty lines before a request are ignored."""
    for size in range(1, len(head) + 1):
        native.hang_up()
        for at in range(0, len(head), size):
            carry(native, REQUESTS, head[at : at + size])
        carry(native, ANSWERS, b"HTTP/1.1 200 OK\r\n\r\n")
        assert counts(native)[0] == {("GET", "/", 200): 1}, size


GET, POST = b"GET /get HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /post HTTP/1.1\r\nContent-Length: 7\r\n\r\n"
OK, BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n", b"b" * 1000


def script(native, *steps, **settings):
    """Segments in order; a request is what begins a step with a method, or follows one that did."""
    native.hang_up()
    for direction, data, *flags in steps:
        carry(native, direction, data, **dict.fromkeys(flags, True))
    return counts(native)[0], losses(native)


def test_a_plain_request_while_the_answer_before_still_goes_on(native):
    """It is pipelined, and neither end of the connection has a length to go by."""
    counted, lost = script(
        native,
        (REQUESTS, GET), (ANSWERS, OK), (ANSWERS, BODY), (REQUESTS, GET), (ANSWERS, BODY), (ANSWERS, BODY),
        (ANSWERS, OK), (ANSWERS, BODY * 3), (REQUESTS, GET), (ANSWERS, OK + BODY * 3),
    )  # fmt: skip
    assert (counted, lost) == ({("GET", "/get", 200): 3}, {})


def test_a_missed_answer_between_plain_requests_does_not_shift_the_others(native):
    for first in ([], [(REQUESTS, GET), (ANSWERS, OK)]):
        steps = [*first, (REQUESTS, GET), (ANSWERS, BODY, "gap")]
        for status in (b"201", b"202", b"203"):
            steps += [(REQUESTS, GET), (ANSWERS, OK.replace(b"200", status)), (ANSWERS, BODY * 3)]
        counted, lost = script(native, *steps)
        expected = {("GET", "/get", status): 1 for status in (201, 202, 203)} | (
            {("GET", "/get", 200): 1} if first else {}
        )
        assert (counted, lost) == (expected, {"SEQUENCE_GAP": 1, "UNANSWERED": 1})
        native.ended(LAST_ACK, 0)
        assert counts(native)[0] == expected


def test_a_request_whose_answer_may_have_been_missed_is_a_loss_and_not_aborted(native):
    assert script(native, (REQUESTS, POST + b"x" * 7), (ANSWERS, BODY, "gap")) == ({}, {"SEQUENCE_GAP": 1})
    native.ended(LAST_ACK, 0)
    assert (counts(native)[0], losses(native)) == ({}, {"SEQUENCE_GAP": 1, "UNANSWERED": 1})


@pytest.mark.parametrize("asked", [b"PROPFIND / HTTP/1.1\r\nDepth: 1\r\n\r\n", b"the rest of a request"])
def test_what_is_no_request_of_ours_adds_nothing_to_the_one_before(native, asked):
    counted, lost = script(
        native, (REQUESTS, GET), (ANSWERS, OK), (REQUESTS, asked), (ANSWERS, OK.replace(b"200", b"207"))
    )
    assert (counted, lost) == ({("GET", "/get", 200): 1}, {"RESPONSE_WITHOUT_REQUEST": 1})
    assert native.counted_at(0).contents.stats.response_bytes == len(OK)


def test_a_connection_ends_once(native):
    script(native, (REQUESTS, POST), (REQUESTS, GET))
    for state in (ESTABLISHED, CLOSED, LAST_ACK):
        native.ended(state, 0)
    assert counts(native)[0].total() == 1  # the GET is the POST's body


def test_a_missed_answer_costs_one_request_not_the_connection(native):
    steps = [(REQUESTS, POST + b"x" * 7), (ANSWERS, BODY, "gap")]
    for _ in range(5):
        steps += [(REQUESTS, POST + b"x" * 7), (ANSWERS, OK + BODY * 3)]
    assert script(native, *steps) == ({("POST", "/post", 200): 5}, {"SEQUENCE_GAP": 1, "UNANSWERED": 1})


@pytest.mark.parametrize("missing", [1, 5, 26, 27])
@pytest.mark.parametrize("chunked", [False, True])
def test_what_is_missing_of_a_body_costs_nothing(native, missing, chunked):
    """A segment that others overtook, as when a sender changes its processor: only how long a body is counts."""
    body = b"GET /fake HTTP/1.1\r\n\r\n12345"
    coding = b"Transfer-Encoding: chunked\r\n\r\n1b\r\n" if chunked else b"Content-Length: 27\r\n\r\n"
    after = b"\r\n0\r\n\r\n" if chunked else b""
    put, get = b"PUT /a HTTP/1.1\r\n" + coding, b"GET /b HTTP/1.1\r\n\r\n"
    ok, no = b"HTTP/1.1 200 OK\r\n" + coding, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
    native.hang_up()
    for direction, head, following in ((REQUESTS, put, get), (ANSWERS, ok, no)):
        carry(native, direction, head)
        carry(native, direction, body[missing:] + after + following, gap=missing)
    assert (counts(native)[0], losses(native)) == ({("PUT", "/a", 200): 1, ("GET", "/b", 404): 1}, {})
    asked, told = counts(native)[1:]
    assert asked == sum(map(len, (put, body, after, get)))
    assert told == sum(map(len, (ok, body, after, no)))


def test_more_missing_than_a_body_is_a_loss(native):
    put = b"PUT /a HTTP/1.1\r\nContent-Length: 27\r\n\r\n"
    native.hang_up()
    carry(native, REQUESTS, put)
    carry(native, REQUESTS, GET, gap=28)
    carry(native, ANSWERS, OK + BODY * 3)
    assert losses(native) == {"SEQUENCE_GAP": 1}


def test_an_answer_whose_length_was_missed_does_not_last_for_ever(native):
    """Its head had none, so it goes on to the connection's end; but there is another request."""
    endless = b"HTTP/1.1 200 OK\r\n\r\n"
    steps = [(REQUESTS, POST + b"x" * 7), (ANSWERS, endless), (ANSWERS, BODY)]
    for _ in range(3):
        steps += [(REQUESTS, POST + b"x" * 7), (ANSWERS, OK + BODY * 3)]
    assert script(native, *steps) == ({("POST", "/post", 200): 4}, {})


@pytest.mark.parametrize("filler", [0, 1, 70, 75, 76, 300, 1024 - 54, 1024 - 53, 3000])
def test_only_what_is_not_plain_is_read(native, filler):
    """A head in one segment of up to 1,024 bytes is not; reading costs a nanosecond a byte."""
    head = b"GET /long HTTP/1.1\r\nAccept: */*\r\nX: " + b"x" * filler + b"\r\nLast: header\r\n\r\n"
    assert script(native, (REQUESTS, head), (ANSWERS, OK + BODY * 3)) == ({("GET", "/long", 200): 1}, {})
    assert native.was_read() == (len(head) > 1024)


def test_a_body_announced_far_behind_the_path(native):
    """The head before it is as long, and has none: nothing of that may be left."""
    announced = b"Content-Length: %d\r\n" % len(GET)
    far = b"X: " + b"x" * 300 + b"\r\n"
    without = b"GET /far HTTP/1.1\r\n" + far + b"X-Announced-No: 30\r\n\r\n"
    head = b"PUT /far HTTP/1.1\r\n" + far + announced + b"\r\n"
    assert len(head) == len(without)
    answer = ANSWERS, OK + BODY * 3
    steps = [(REQUESTS, without), answer, (REQUESTS, head), (REQUESTS, GET), answer] * 2
    assert script(native, *steps) == ({("GET", "/far", 200): 2, ("PUT", "/far", 200): 2}, {})


@pytest.mark.parametrize("body", [b'{"a":1}', b"Page=12"])
def test_the_request_after_an_early_one_with_a_body(native, body):
    """It came with the handshake, before the connection's own state could be made."""
    steps = [(REQUESTS, POST, "early"), (REQUESTS, body), (ANSWERS, OK + BODY * 3)]
    steps += [(REQUESTS, POST + body), (ANSWERS, OK + BODY * 3)] * 3
    assert script(native, *steps) == ({("POST", "/post", 200): 4}, {})


def test_what_an_earlier_connection_of_the_same_ends_left_is_not_taken_over(native):
    """Its first segment came before its socket, and then it ended: the next one has other numbers."""
    for left in (GET, GET[:9], POST):
        native.hang_up()
        carry(native, REQUESTS, left, early=True)
        carry(native, REQUESTS, GET, early=True, gap=0x7000_0000)
        carry(native, ANSWERS, OK + BODY * 3)
        assert counts(native)[0] == {("GET", "/get", 200): 1}
        native.hang_up()
        carry(native, REQUESTS, left, early=True)
        carry(native, REQUESTS, GET, gap=0x7000_0000)
        carry(native, ANSWERS, OK + BODY * 3)
        assert counts(native)[0] == {("GET", "/get", 200): 1}


@pytest.mark.parametrize(
    "packet", [b"\n\0\0\0\3SELECT 1", b"\r\0\0\0\3SELECT 1;;;", b"GETSET key value\r\n", b"P" * 3000]
)
def test_what_is_not_http_is_not_read_to_its_end(native, packet):
    steps = [(REQUESTS, packet), (ANSWERS, b"\1\0\0\1\1" * 100)] * 3
    assert script(native, *steps, (REQUESTS, GET), (ANSWERS, OK)) == ({("GET", "/get", 200): 1}, {})
