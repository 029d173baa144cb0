"""HTTP/2 as its two ends write it: frames, header blocks, and a connection that follows a script."""

import struct
from collections import Counter
from itertools import count

from hpack import Encoder

from bpf.layout import Method, Outcome, Protocol
from tests.bpf.segments import ANSWERS, REQUESTS, carry

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, CONFIG, PROMISE, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, HAS_PRIORITY = 1, 4, 8, 0x20
GET = [(":method", "GET"), (":path", "/get"), (":scheme", "http"), (":authority", "x")]
CALL = [(":method", "POST"), (":path", "/a.B/C"), (":scheme", "http"), ("content-type", "application/grpc")]
OK, FAILED = [(":status", "200")], [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "13")]
GOT, CALLED = ("GET", "/get", Protocol.HTTP2), ("POST", "/a.B/C", Protocol.GRPC)


def frame(kind, stream=0, payload=b"", flags=0):
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


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


def call(script, stream, code, *, head=OK):
    script.ask(stream, CALL)
    script.tell(stream, [*head, ("content-type", "application/grpc")], END_HEADERS)
    script.say(ANSWERS, frame(DATA, stream, b"\0\0\0\0\2hi"))
    script.tell(stream, [("grpc-status", str(code))])


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
