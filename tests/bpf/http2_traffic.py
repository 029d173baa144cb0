"""Random HTTP/2 conversations, with the whims of real ends, and what they should be counted as."""

from collections import Counter

from hpack import Encoder, HeaderTuple, NeverIndexedHeaderTuple

from bpf.layout import Method, Protocol
from tests.bpf.http2_wire import (
    CONFIG,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    WINDOW,
    frame,
)  # fmt: skip
from tests.bpf.segments import ANSWERS, REQUESTS, carry, pieces


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


def shuffled(chance, data, most_late):
    """Segments as (place, bytes): some late, some twice, some with the end of the one before."""
    segments, at = [], 0
    while at < len(data):
        length = chance.choice([1, 30, 500, 1448])
        begin = max(0, at - chance.choice([0, 0, 0, 1, 20, 2000]))
        segments.append((begin, data[begin : at + length]))
        at += length
    order = []
    while segments:
        late, following = segments[:1], segments[1 : 1 + chance.randint(0, most_late)]
        segments = segments[1 + len(following) :]
        order += [*following, *late] if sum(len(part) for _, part in following) <= 4096 else [*late, *following]
        order += chance.sample(order, min(len(order), chance.choice([0, 0, 1])))
    return order
