"""HTTP/1.x as it is in the wild, over real sockets: cut anywhere, pipelined, with bodies that look like messages."""

import socket
from collections import Counter

import pytest

from tests.collector.counting import counted

pytestmark = pytest.mark.kernel

FAKE_REQUEST = b"GET /fake/1 HTTP/1.1\r\nHost: x\r\n\r\n"
FAKE_ANSWER = b"HTTP/1.1 500 Fake\r\nContent-Length: 0\r\n\r\n"


def request(method=b"GET", path=b"/plain", *headers, body=b""):
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: x", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def posted(body, path=b"/posted", method=b"POST"):
    return request(method, path, b"Content-Type: text/plain", b"Content-Length: %d" % len(body), body=body)


def answer(status=200, body=b"ok", *headers):
    lines = [b"HTTP/1.1 %d Some Reason" % status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks, trailers=b""):
    return b"".join(b"%x;name=value\r\n%s\r\n" % (len(each), each) for each in chunks) + b"0\r\n" + trailers + b"\r\n"


class Wire:
    """Both ends of a connection. What one sends has arrived as a segment of its own before the next is sent."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            self.server, _ = listener.accept()
        for end in (self.client, self.server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.server.close()

    def ask(self, *segments):
        self._carry(self.client, self.server, segments)

    def tell(self, *segments):
        self._carry(self.server, self.client, segments)

    @staticmethod
    def _carry(source, target, segments):
        for segment in filter(None, segments):
            source.sendall(segment)
            arrived = 0
            while arrived < len(segment):
                arrived += len(target.recv(len(segment) - arrived))


@pytest.fixture
def expect(counters):
    """Compare with what both ends counted, and with the losses."""

    def check(expected, losses=None):
        assert counted(counters, "server") == Counter(expected)
        assert counted(counters, "client") == Counter(expected)
        assert counters.losses() == (losses or {})

    return check


def cuts(data, parts=2):
    """Every way to send `data` in two segments, or in three where the third begins 5 bytes after the second."""
    for at in range(1, len(data) - (5 if parts == 3 else 0)):
        yield [data[:at], data[at:]] if parts == 2 else [data[:at], data[at : at + 5], data[at + 5 :]]


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("message", [request(path=b"/users/42?q=1"), posted(FAKE_REQUEST, b"/users/42")])
def test_a_request_may_be_cut_at_any_byte(expect, message, parts):
    ways = list(cuts(message, parts))
    with Wire() as kept:
        for segments in ways:
            kept.ask(*segments)
            kept.tell(answer())
    for segments in ways:
        with Wire() as fresh:
            fresh.ask(*segments)
            fresh.tell(answer())
    method = message.split()[0].decode()
    expect({(method, "/users/{id}", 200): 2 * len(ways)})


@pytest.mark.parametrize("plain", [True, False])
def test_an_answer_may_be_cut_at_any_byte(expect, plain):
    ways = list(cuts(answer(404, FAKE_ANSWER)))
    message = request() if plain else posted(b"x")
    for segments in ways:
        with Wire() as wire:
            wire.ask(message)
            wire.tell(*segments)
            wire.ask(message)
            wire.tell(answer(201))
    key = ("GET", "/plain") if plain else ("POST", "/posted")
    expect({(*key, 404): len(ways), (*key, 201): len(ways)})


def test_a_pipeline_byte_by_byte(expect):
    asked = request() + posted(FAKE_REQUEST * 2) + request(b"HEAD", b"/head") + request(path=b"/last")
    told = (
        answer(200, FAKE_ANSWER)
        + answer(201, FAKE_ANSWER)
        + b"HTTP/1.1 204 None\r\nContent-Length: 500\r\n\r\n"
        + answer(404)
    )
    with Wire() as wire:
        wire.ask(*(asked[at : at + 1] for at in range(len(asked))))
        wire.tell(*(told[at : at + 1] for at in range(len(told))))
    expect(
        {("GET", "/plain", 200): 1, ("POST", "/posted", 201): 1, ("HEAD", "/head", 204): 1, ("GET", "/last", 404): 1}
    )


def test_a_pipeline_in_one_segment_each_way(expect):
    with Wire() as wire:
        for _ in range(5):
            wire.ask(request() * 3 + posted(FAKE_REQUEST) + request(path=b"/end"))
            wire.tell(answer(200, FAKE_ANSWER) * 3 + answer(500) + answer(301))
    expect({("GET", "/plain", 200): 15, ("POST", "/posted", 500): 5, ("GET", "/end", 301): 5})


def test_requests_that_follow_before_the_first_answer(expect):
    with Wire() as wire:
        for _ in range(5):
            wire.ask(request(), request(path=b"/two"), request(path=b"/three"))
            wire.tell(answer(200))
            wire.ask(request(path=b"/four"))
            wire.tell(answer(201), answer(202, FAKE_ANSWER) + answer(203))
            wire.ask(request(path=b"/five"))
            wire.tell(answer(204, b""))
    expect({("GET", path, status): 5 for path, status in zip(
        ("/plain", "/two", "/three", "/four", "/five"), range(200, 205), strict=True)})  # fmt: skip


@pytest.mark.parametrize("headers", [
    b"Content-Length: %d", b"content-length:%d", b"CONTENT-LENGTH:   %d  ",
    b"Cookie: a=b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: keep-alive",
])  # fmt: skip
def test_a_body_is_not_read_however_its_length_is_written(expect, headers):
    body = FAKE_REQUEST * 50
    with Wire() as wire:
        for _ in range(3):
            wire.ask(request(b"PUT", b"/put", headers % len(body)), body[:33], body[33:])
            wire.tell(answer())
            wire.ask(request(b"PUT", b"/put", headers % len(body), body=body))
            wire.tell(answer())
    expect({("PUT", "/put", 200): 6})


@pytest.mark.parametrize("coding", [b"Transfer-Encoding: chunked", b"transfer-encoding: gzip, Chunked"])
def test_chunks_that_look_like_messages(expect, coding):
    asked = request(b"POST", b"/chunks", coding) + chunked(
        FAKE_REQUEST, FAKE_REQUEST * 9, trailers=b"X: GET / HTTP/1.1\r\n"
    )
    told = b"HTTP/1.1 200 OK\r\n" + coding + b"\r\n\r\n" + chunked(FAKE_ANSWER, FAKE_ANSWER * 9)
    with Wire() as wire:
        for size in (1000, 400, 17, 3):
            wire.ask(*(asked[at : at + size] for at in range(0, len(asked), size)))
            wire.tell(*(told[at : at + size] for at in range(0, len(told), size)))
            wire.ask(request())
            wire.tell(answer())
    expect({("POST", "/chunks", 200): 4, ("GET", "/plain", 200): 4})


def test_answers_without_a_body_whatever_their_length_says(expect):
    long = b"HTTP/1.1 %d Some\r\nContent-Length: 5000\r\n\r\n"
    with Wire() as wire:
        wire.ask(request(b"HEAD") * 2 + request() * 2)
        wire.tell(long % 200 + long % 404 + long % 304 + long % 204)
        wire.ask(request(path=b"/after"))
        wire.tell(answer())
    expect({("HEAD", "/plain", 200): 1, ("HEAD", "/plain", 404): 1, ("GET", "/plain", 304): 1,
            ("GET", "/plain", 204): 1, ("GET", "/after", 200): 1})  # fmt: skip


@pytest.mark.parametrize("together", [True, False])
def test_interim_answers(expect, together):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    with Wire() as wire:
        for message in (request(), posted(b"body")):
            wire.ask(message)
            wire.tell(interim + answer(201)) if together else wire.tell(interim, answer(201))
    expect({("GET", "/plain", 201): 1, ("POST", "/posted", 201): 1})


@pytest.mark.parametrize("message", [request(), posted(b"x", b"/plain")])
def test_an_upgraded_connection_is_no_request_any_more(expect, message):
    with Wire() as wire:
        wire.ask(message)
        wire.tell(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
        wire.ask(FAKE_REQUEST)
        wire.tell(FAKE_ANSWER)
    expect({(message.split()[0].decode(), "/plain", 101): 1})


def test_a_tunnel_is_one_request_and_a_refused_one_is_none(expect):
    with Wire() as wire:
        wire.ask(request(b"CONNECT", b"host:443"))
        wire.tell(answer(403, b""))
        wire.ask(request(b"CONNECT", b"host:443"))
        wire.tell(b"HTTP/1.1 200 Connected\r\n\r\n")
        wire.ask(FAKE_REQUEST)
        wire.tell(FAKE_ANSWER)
    expect({("CONNECT", "host:443", 403): 1, ("CONNECT", "host:443", 200): 1})


def test_an_answer_up_to_the_connections_end(expect):
    with Wire() as wire:
        wire.ask(posted(b"x"))
        wire.tell(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", FAKE_ANSWER, FAKE_ANSWER)
    expect({("POST", "/posted", 200): 1})


def test_more_waiting_requests_than_are_kept_in_mind_are_a_counted_loss(expect):
    with Wire() as wire:
        wire.ask(request() * 20)
        wire.tell(answer() * 20)
    expect({("GET", "/plain", 200): 16}, {"pipelined": 8, "response_without_request": 8})


@pytest.mark.parametrize("cookie_bytes", [800, 1200, 5000, 12_000])
def test_long_heads(expect, cookie_bytes):
    cookie = b"Cookie: " + b"c" * cookie_bytes
    with Wire() as wire:
        for _ in range(3):
            wire.ask(request(b"GET", b"/long", cookie))
            wire.tell(answer(200, b"ok", b"Set-" + cookie))
    expect({("GET", "/long", 200): 3})


def test_bytes_are_counted_to_the_last_one(counters):
    with Wire() as wire:
        messages = [request(), posted(b"x" * 3000), request(path=b"/plain") * 3, posted(b"y" * 10)]
        told = [answer(200, b"z" * 5000), answer(), answer() * 3, answer(200, b"w" * 9)]
        for ask, tell in zip(messages, told, strict=True):
            wire.ask(ask[:50], ask[50:]) if b"POST" in ask else wire.ask(ask)
            wire.tell(tell)
        wire.ask(request())
        wire.tell(answer())
    for role in ("server", "client"):
        sums = [delta.sums for delta in counters.read() if delta.role == role]
        assert sum(each.request_bytes for each in sums) == sum(map(len, messages)) + len(request())
        assert sum(each.response_bytes for each in sums) == sum(map(len, told)) + len(answer())
