"""Segments that a network loses, overtakes or doubles, as the kernel's own TCP receives them."""

import json
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from hpack import Encoder

from tests.bpf.http2_traffic import shuffled
from tests.bpf.http2_wire import CALL, CONFIG, END_HEADERS, GET, OK, PREFACE, frame, plain
from tests.collector.counting import by_protocol, settle

pytestmark = pytest.mark.kernel


@contextmanager
def peer():
    """Sends orders to raw_tcp.py, which runs in a network namespace of its own."""
    command = ["unshare", "--net", sys.executable, str(Path(__file__).with_name("raw_tcp.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def order(what):
            process.stdin.write(json.dumps(what.hex() if isinstance(what, bytes) else what) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "ok\n"

        yield order
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.mark.parametrize("seed", range(5))
def test_http2_is_counted_exactly_whatever_the_order(counters, seed):
    """Calls whose names are in the table: a segment that is read too early would shift it for ever."""
    chance, client, server = Random(seed), Encoder(), Encoder()
    expected = Counter()
    with peer() as order:
        order([[0, (PREFACE + frame(CONFIG)).hex()]])
        order(frame(CONFIG))
        for turn in range(10):
            asked, told = b"", b""
            for stream in range(1 + 40 * turn, 41 + 40 * turn, 2):
                fields = CALL if chance.random() < 0.5 else GET
                asked += plain(client, stream, [*fields, ("traceparent", f"{chance.getrandbits(128):032x}")])
                if fields is CALL:
                    told += plain(server, stream, OK, END_HEADERS) + plain(server, stream, [("grpc-status", "5")])
                    expected["grpc", "POST", "/a.B/C", 5, "answered"] += 1
                else:
                    told += plain(server, stream, OK)
                    expected["http2", "GET", "/get", 200, "answered"] += 1
            order([[at, part.hex()] for at, part in shuffled(chance, asked, 3) if part])
            order(told)
        settle(lambda: by_protocol(counters, "server"), expected)
    assert counters.losses() == {}


def test_http1_requests_that_come_twice_are_counted_once(counters):
    asked = b"GET /get HTTP/1.1\r\nHost: x\r\n\r\n"
    with peer() as order:
        for _ in range(20):
            order([[0, asked.hex()], [0, asked.hex()], [0, asked[:10].hex()]])
            order(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        settle(lambda: by_protocol(counters, "server"), Counter({("http1", "GET", "/get", 200, "answered"): 20}))
    assert counters.losses() == {}


@pytest.mark.parametrize("seed", range(3))
def test_http1_bodies_are_skipped_whatever_the_order(counters, seed):
    """Uploads full of requests, of a stated length and in chunks: of a body only how long it is counts."""
    chance, body = Random(seed), b"GET /fake HTTP/1.1\r\n\r\n" * 700
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:9000], body[9000:]))
    with peer() as order:
        for turn in range(20):
            if turn % 2:
                head, rest = b"POST /up HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body), body
            else:
                head, rest = b"POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", chunked + b"0\r\n\r\n"
            cuts = [*range(1000, 8000, 1000), 10_000, *range(11_000, len(rest) - 1000, 1000)]  # a chunk ends near 9,000
            parts = [(at, rest[at:end]) for at, end in zip([0, *cuts], [*cuts, len(rest)], strict=True)]
            middle = slice(1, -1) if turn % 2 else slice(10, -1)
            late = parts[middle]
            at = chance.randrange(len(late) - 1)
            late[at : at + 2] = late[at : at + 2][::-1]
            parts[middle] = late
            order([[0, head.hex()], *([len(head) + at, part.hex()] for at, part in parts)])
            order(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        settle(lambda: by_protocol(counters, "server"), Counter({("http1", "POST", "/up", 200, "answered"): 20}))
    assert counters.losses() == {}
