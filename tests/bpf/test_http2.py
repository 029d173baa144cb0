"""http2.bpf.c in user space: random conversations of many streams in random pieces, against what was put into them."""

import struct
from collections import Counter
from itertools import count
from random import Random

import pytest
from hpack import Encoder, HeaderTuple, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.layout import ROUTE_UNKNOWN, Method, Outcome, Protocol, TrafficLoss

REQUESTS, ANSWERS = 0, 1  # INGRESS and EGRESS at the server's end
SETTINGS = settings(derandomize=True, max_examples=150, deadline=None)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, CONFIG, PROMISE, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, HAS_PRIORITY = 1, 4, 8, 0x20
LAST_ACK = 9


def frame(kind, stream=0, payload=b"", flags=0):
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def noise(chance):
    """Frames that are no message's."""
    return chance.choice(
        [
            b"",
            frame(PING, 0, b"GET / HT"),
            frame(WINDOW, 0, b"\0\1\0\0"),
            frame(CONFIG, 0, b"\0\3\0\0\0\x80" * chance.randint(0, 3)),
            frame(WINDOW, 2 * chance.randint(0, 9) + 1, b"\0\1\0\0"),
            frame(PRIORITY, 2 * chance.randint(0, 9) + 1, b"\0\0\0\0\1"),
            frame(0x10, 0, b"u=1, i"),
            frame(0xBE, 0, frame(HEADERS, 1, b"\x82\x84", END_HEADERS)),
        ]
    )


class End:
    """One end's encoder, with the whims of real ones."""

    def __init__(self, chance):
        self.chance, self.encoder = chance, Encoder()
        if chance.random() < 0.2:
            self.encoder.header_table_size = chance.choice([0, 64, 200, 4096])

    def block(self, fields):
        """Header fields as a block: texts plain or coded, in the table or not."""
        kinds = [HeaderTuple, HeaderTuple, NeverIndexedHeaderTuple]
        if self.chance.random() < 0.05:
            self.encoder.header_table_size = self.chance.choice([0, 100, 4096])
        return self.encoder.encode(
            [self.chance.choice(kinds)(*each) for each in fields], huffman=self.chance.random() < 0.8
        )

    def message(self, stream, fields, *, ends, block=None):
        """A header block as frames: padded, with a priority, in several parts."""
        chance, flags, head, tail = self.chance, END_STREAM if ends else 0, b"", b""
        data = self.block(fields) if block is None else block
        if chance.random() < 0.2:
            tail = bytes(chance.choice([0, 1, 40]))
            head, flags = bytes([len(tail)]), flags | PADDED
        if chance.random() < 0.2:
            head, flags = head + b"\x80\0\0\1\xff", flags | HAS_PRIORITY
        parts = [data]
        while chance.random() < 0.2:
            at = chance.randint(0, len(parts[-1]))
            parts[-1:] = [parts[-1][:at], parts[-1][at:]]
        kinds = [HEADERS] + [CONTINUATION] * (len(parts) - 1)
        payloads = [head + parts[0] + tail, *parts[1:]]
        flagged = [flags] + [0] * (len(parts) - 1)
        flagged[-1] |= END_HEADERS
        return b"".join(map(frame, kinds, [stream] * len(parts), payloads, flagged))

    def body(self, stream, ends):
        """Data, some of which looks like frames."""
        inside = [b"", b"x" * 30, frame(HEADERS, 99, b"\x82\x84", END_HEADERS | END_STREAM), b"y" * 3000]
        parts = [self.chance.choice(inside) for _ in range(self.chance.randint(1, 3))]
        frames = [frame(DATA, stream, part) for part in parts]
        if ends:
            frames[-1] = frame(DATA, stream, parts[-1], END_STREAM)
        return b"".join(frames)


def some_headers(chance):
    names = ["user-agent", "te", "accept", "x-long-name-of-a-header", "traceparent", "grpc-timeout", "cookie", "date"]
    texts = ["trailers", "*/*", f"00-{chance.getrandbits(128):032x}-01", "1S", "x" * 200, "", "Tue, 1 Apr 2025"]
    return [(name, chance.choice(texts)) for name in chance.sample(names, chance.randint(0, 5))]


def exchange(chance, number):
    """((method, path, protocol), request's fields, body follows)."""
    if chance.random() < 0.5:
        path = f"/pkg.Service/{chance.choice(['Get', 'List', 'Put'])}"
        kind = chance.choice(["application/grpc", "application/grpc+proto"])
        fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
        return ("POST", path, Protocol.GRPC), [*fields, ("content-type", kind), *some_headers(chance)], True
    method = chance.choice(["GET", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "PROPFIND"])
    path = chance.choice(["/", "/index.html", f"/r{number % 3}/{'p' * chance.choice([1, 60])}", "/a?b=c&d", "/~@{|}"])
    fields = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "x"), *some_headers(chance)]
    name = method if method in Method.__members__ else "OTHER"
    return (name, path.partition("?")[0], Protocol.HTTP2), fields, method in ("POST", "PUT")


def status_of(chance, key):
    return chance.choice([0, 0, 0, 5, 13, 14] if key[2] is Protocol.GRPC else [200, 201, 204, 304, 404, 429, 500, 503])


def answer(chance, end, stream, key, status):
    """Frames of an answer, each encoded when it is its turn: others' come between."""
    if chance.random() < 0.1:
        yield end.message(stream, [(":status", "103"), ("link", "x")], ends=False)
    if key[2] is Protocol.GRPC:
        head = [(":status", "200"), ("content-type", "application/grpc"), *some_headers(chance)]
        trailers = [("grpc-status", str(status)), *some_headers(chance)]
        if chance.random() < 0.2:
            yield end.message(stream, head + trailers, ends=True)
            return
        yield end.message(stream, head, ends=False)
        yield end.body(stream, False)
        yield end.message(stream, trailers, ends=True)
        return
    fields = [(":status", str(status)), ("content-type", "text/html"), *some_headers(chance)]
    form = chance.choice(["bare", "body", "trailers", "late end"])
    yield end.message(stream, fields, ends=form == "bare")
    if form != "bare":
        yield end.body(stream, form == "body")
    if form == "trailers":
        yield end.message(stream, [("x-checksum", "7")], ends=True)
    if form == "late end":
        yield frame(DATA, stream, b"", END_STREAM)


def pieces(chance, data):
    size = chance.choice([len(data), 1400, 100, 20, 3, 1])
    while data:
        length = chance.randint(1, max(1, size))
        yield data[:length]
        data = data[length:]


class Wire:
    """What the two ends send, in order, in random pieces."""

    def __init__(self, native, chance):
        self.native, self.chance = native, chance
        self.waiting = {REQUESTS: b"", ANSWERS: b""}
        self.sent = Counter()

    def put(self, direction, data):
        """Send now, or with what follows."""
        self.waiting[direction] += data
        if self.chance.random() < 0.5:
            self.flush(direction)

    def flush(self, direction):
        data, self.waiting[direction] = self.waiting[direction], b""
        self.sent[direction] += len(data)
        for piece in pieces(self.chance, data):
            carry(self.native, direction, piece)


def carry(native, direction, data, *, gap=0):
    native.segment(data, len(data), direction, False, gap)


def greet(wire):
    wire.native.hang_up()
    wire.put(REQUESTS, PREFACE + frame(CONFIG, 0, b"\0\3\0\0\0\x64"))
    wire.put(ANSWERS, frame(CONFIG) + frame(CONFIG, flags=1))


def play(native, chance, number, most_at_once=20):
    """That many requests, some at a time; what they should be counted as, and what is still open."""
    wire, client, server = Wire(native, chance), End(chance), End(chance)
    greet(wire)
    expected, flying, asked = Counter(), {}, 0
    while asked < number or flying:
        if asked < number and len(flying) < most_at_once and chance.random() < 0.5:
            stream, asked = 2 * asked + 1, asked + 1
            key, fields, has_body = exchange(chance, asked)
            wire.put(REQUESTS, client.message(stream, fields, ends=not has_body))
            if has_body:
                wire.put(REQUESTS, client.body(stream, True) + noise(chance))
            wire.flush(REQUESTS)
            status = status_of(chance, key)
            expected[*key, status] += 1
            flying[stream] = answer(chance, server, stream, key, status)
        elif flying:
            stream = chance.choice(list(flying))
            part = next(flying[stream], None)
            if part is None:
                del flying[stream]
            else:
                wire.put(ANSWERS, part + noise(chance))
    wire.flush(ANSWERS)
    return expected


def counts(native, outcome=Outcome.ANSWERED):
    """Requests by method, path, protocol and status."""
    totals = Counter()
    for index in count():
        entry = native.counted_at(index)
        if not entry:
            return totals
        key, stats = entry.contents.key, entry.contents.stats
        if key.outcome == outcome:
            text = native.text_of(key.route)
            path = text.contents.path[: text.contents.length].decode("latin-1") if text else key.route
            totals[Method(key.method).name, path, Protocol(key.protocol), key.status] += sum(stats.latency)
    return None


def losses(native):
    return {reason.name: native.lost_by(reason) for reason in TrafficLoss if native.lost_by(reason)}


@SETTINGS
@given(st.integers(0, 2**32))
def test_any_streams_in_any_pieces_are_counted_exactly(native, seed):
    chance = Random(seed)
    assert play(native, chance, chance.randint(1, 30)) == counts(native)
    assert losses(native) == {}


@pytest.mark.parametrize("at_once", [1, 16, 17, 100, 250, 528])
def test_as_many_streams_at_once_as_servers_allow(native, at_once):
    """Sixteen have a place from the start; further ones make room."""
    ends = End(Random(1)), End(Random(2))
    wire = Wire(native, Random(3))
    greet(wire)
    for turn in range(3):
        streams = [2 * number + 1 for number in range(turn * at_once, (turn + 1) * at_once)]
        for stream in streams:
            wire.put(REQUESTS, ends[0].message(stream, GET, ends=True))
        wire.flush(REQUESTS)
        for stream in Random(turn).sample(streams, at_once):
            wire.put(ANSWERS, ends[1].message(stream, [(":status", "200")], ends=True))
        wire.flush(ANSWERS)
    assert counts(native) == {("GET", "/get", Protocol.HTTP2, 200): 3 * at_once}
    assert losses(native) == {}


def test_more_than_that_is_a_counted_loss(native):
    ends, wire = (End(Random(1)), End(Random(2))), Wire(native, Random(3))
    greet(wire)
    for stream in range(1, 2 * 2000, 2):
        wire.put(REQUESTS, ends[0].message(stream, GET, ends=True))
    wire.flush(REQUESTS)
    for stream in range(1, 2 * 2000, 2):
        wire.put(ANSWERS, ends[1].message(stream, OK, ends=True))
    wire.flush(ANSWERS)
    lost = losses(native)
    assert counts(native).total() + lost["PIPELINED"] == 2000
    assert set(lost) == {"PIPELINED"}
    assert lost["PIPELINED"] == 2000 - 528


GET = [(":method", "GET"), (":path", "/get"), (":scheme", "http"), (":authority", "x")]
CALL = [(":method", "POST"), (":path", "/a.B/C"), (":scheme", "http"), ("content-type", "application/grpc")]
OK, FAILED = [(":status", "200")], [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "13")]
GOT, CALLED = ("GET", "/get", Protocol.HTTP2), ("POST", "/a.B/C", Protocol.GRPC)


def plain(encoder, stream, fields, flags=END_STREAM | END_HEADERS):
    return frame(HEADERS, stream, encoder.encode(fields), flags)


class Script:
    """Both ends of a connection, a frame at a time."""

    def __init__(self, native, *, begins=True, at_client=False):
        self.native, self.client, self.server = native, Encoder(), Encoder()
        self.requests, self.answers = (ANSWERS, REQUESTS) if at_client else (REQUESTS, ANSWERS)
        native.hang_up()
        if begins:
            self.say(self.requests, PREFACE + frame(CONFIG))
            self.say(self.answers, frame(CONFIG))

    def say(self, direction, data, gap=0):
        carry(self.native, direction, data, gap=gap)

    def ask(self, stream, fields=GET, flags=END_STREAM | END_HEADERS):
        self.say(self.requests, plain(self.client, stream, fields, flags))

    def tell(self, stream, fields=OK, flags=END_STREAM | END_HEADERS):
        self.say(self.answers, plain(self.server, stream, fields, flags))


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


def test_an_older_connection_is_joined_and_only_names_that_went_by_are_missing(native):
    script = Script(native, begins=False)
    before = [script.client.encode(GET), script.server.encode(OK)]
    assert before
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


def shuffled(chance, data, most_late):
    """Segments as (place, bytes): some come late, after the next few, and some come twice."""
    segments, at = [], 0
    while at < len(data):
        length = chance.choice([1, 30, 500, 1448])
        segments.append((at, data[at : at + length]))
        at += length
    order = []
    while segments:
        late, following = segments[:1], segments[1 : 1 + chance.randint(0, most_late)]
        segments = segments[1 + len(following) :]
        order += [*following, *late] if sum(len(part) for _, part in following) <= 4096 else [*late, *following]
        order += chance.sample(order, min(len(order), chance.choice([0, 0, 1])))
    return order


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


def test_every_byte_of_a_path_is_decoded(native):
    for byte in range(1, 256):
        if byte in b" ?\r\n/":  # ends a path, or is part of its form
            continue
        script = Script(native)
        path = b"/a" + bytes([byte]) * 3 + b"~z"
        coded = script.client.huffman_coder.encode(path)
        block = b"\x82\x86\x04" + bytes([0x80 | len(coded)]) + coded
        script.say(REQUESTS, frame(HEADERS, 1, block, END_STREAM | END_HEADERS))
        script.tell(1)
        assert counts(native) == {("GET", path.decode("latin-1"), Protocol.HTTP2, 200): 1}


@pytest.mark.parametrize("length", [111, 112, 113, 127, 128, 129, 200, 5000])
@pytest.mark.parametrize("huffman", [True, False])
def test_a_long_path_is_cut_and_said_so(native, length, huffman):
    script = Script(native)
    fields = [(":method", "GET"), (":path", "/" + "p" * (length - 1)), (":scheme", "http")]
    for stream in (1, 3):
        script.say(REQUESTS, frame(HEADERS, stream, script.client.encode(fields, huffman=huffman), 5))
        script.tell(stream)
    assert counts(native).total() == 2
    text = native.text_of(native.counted_at(0).contents.key.route).contents
    assert (bool(text.whole), text.length) == (length < 112, min(length, 112))


def call(script, stream, code, *, head=OK):
    script.ask(stream, CALL)
    script.tell(stream, [*head, ("content-type", "application/grpc")], END_HEADERS)
    script.say(ANSWERS, frame(DATA, stream, b"\0\0\0\0\2hi"))
    script.tell(stream, [("grpc-status", str(code))])


def test_a_status_out_of_a_part_of_the_table_that_was_missed_is_not_taken_for_success(native):
    script = Script(native)
    call(script, 1, 0)
    call(script, 3, 13)
    script.say(ANSWERS, frame(PING, 0, bytes(8)), gap=17)
    for stream in range(5, 205, 2):
        call(script, stream, 13 if stream % 4 == 1 else 0)
    assert counts(native) == {(*CALLED, 0): 1, (*CALLED, 13): 1, (*CALLED, 200): 100}
    assert losses(native) == {"SEQUENCE_GAP": 1, "FIELD_UNKNOWN": 100}


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


POST_LARGE = [(":method", "POST"), (":path", "/large"), (":scheme", "http")]


@pytest.mark.parametrize("frames", [1000, 1100, 30_000])
def test_more_frames_in_a_segment_than_one_call_reads(native, frames):
    script = Script(native)
    call(script, 1, 14)
    script.ask(3, CALL)
    script.tell(3, [*OK, ("content-type", "application/grpc")], END_HEADERS)
    script.say(ANSWERS, frame(DATA, 3, b"\0\0\0\0\0") * frames)
    script.tell(3, [("grpc-status", "14")])
    for stream in (5, 7):
        call(script, stream, 14)
    assert counts(native) == {(*CALLED, 14): 4}
    assert losses(native) == {}


def test_more_frames_in_a_segment_than_all_calls_read_is_a_counted_loss(native):
    script = Script(native)
    script.say(ANSWERS, frame(PING, 0, bytes(8)) * 40_000)
    assert losses(native) == {"LONG_SEGMENT": 1}


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


def test_an_entry_that_is_larger_than_the_table_empties_it(native):
    script = Script(native)
    script.ask(1)  # its path goes into the table
    script.tell(1)
    large = b"\x40\x01x\x7f" + bytes([0x80 | (5000 - 127) & 0x7F, (5000 - 127) >> 7]) + b"v" * 5000
    known = b"\x82\x86\x04\x04/two" + large
    script.say(REQUESTS, frame(HEADERS, 3, known, END_STREAM | END_HEADERS))
    script.say(REQUESTS, frame(HEADERS, 5, b"\x82\x86\x44\x06/three", END_STREAM | END_HEADERS))
    script.say(REQUESTS, frame(HEADERS, 7, b"\x82\x86\xbe", END_STREAM | END_HEADERS))
    for stream in (3, 5, 7):
        script.tell(stream)
    paths = Counter({path: total for (_, path, _, _), total in counts(native).items()})
    assert paths == {"/get": 1, "/two": 1, "/three": 2}


any_bytes = st.one_of(
    st.binary(min_size=1, max_size=200),
    st.sampled_from([PREFACE, frame(CONFIG), frame(HEADERS, 1, b"\x82\x84\x86", 5), frame(HEADERS, 1, b"\x88", 5)]),
)


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


@SETTINGS
@given(st.binary(min_size=1, max_size=400))
def test_no_header_block_keeps_the_next_request_from_being_counted(native, block):
    script = Script(native)
    script.say(REQUESTS, frame(HEADERS, 1, block, END_STREAM | END_HEADERS))
    script.tell(1)
    script.ask(3)
    script.tell(3)
    assert counts(native).total() == 2
