"""The same traffic, the same counts, whatever the kernel: runs here, and in VMs (``make test-kernels``).

The programs are attached once: under emulation a verifier takes seconds.
"""

import socket
import struct
import sys
import time
from collections import Counter

import pytest
from hpack import Encoder

from collector.cgroups import find_tree
from collector.cpu import CpuCounters
from collector.drops import DropCounters
from collector.peers import PeerCounters
from collector.traffic import TrafficCounters
from headroom.demo.host import Group
from tests.bpf.http2_wire import CALL, CONFIG, DATA, END_HEADERS, GET, OK, PREFACE, RESET, frame, plain
from tests.collector.counting import by_protocol, outcomes, own_cgroup, settle
from tests.collector.test_drops import refused
from tests.collector.test_http1_wild import FAKE_ANSWER, FAKE_REQUEST, Wire, answer, chunked, cuts, posted, request
from tests.collector.test_kernel import BURN, charged_seconds

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def attached():
    with own_cgroup() as folder:
        counters = TrafficCounters.attach(folder)
        http2 = counters.attach_http2()
        lifecycle = counters.attach_lifecycle(http2)
        yield counters
        lifecycle.close()
        http2.close()
        counters.kernel.close()


@pytest.fixture
def expect(attached):
    """Compare with what both ends counted since the test began, and with the losses."""
    attached.read()
    attached.losses()
    attached.commit()

    def check(expected):
        with_outcome = Counter({key if len(key) == 4 else (*key, "answered"): n for key, n in expected.items()})
        for role in ("server", "client"):
            settle(lambda role=role: outcomes(attached, role), with_outcome, 20.0)
        assert attached.losses() == {}

    return check


def test_plain_requests_by_status(expect):
    with Wire() as wire:
        for number in range(60):
            wire.ask(request(path=b"/users/%d" % number))
            wire.tell(answer((200, 404, 503)[number % 3]))
    expect({("GET", "/users/{id}", status): 20 for status in (200, 404, 503)})


def test_http2_and_grpc_with_a_hundred_streams_at_once_and_cut_anywhere(expect, attached):
    client, server = Encoder(), Encoder()
    asked, told = PREFACE + frame(CONFIG), frame(CONFIG)
    for stream in range(1, 2 * 100, 2):
        asked += plain(client, stream, CALL if stream % 4 == 1 else [*GET, ("x-trace", str(stream))])
    for stream in range(2 * 100 - 1, 0, -2):
        told += plain(server, stream, OK, END_HEADERS) + frame(DATA, stream, b"x" * 10)
        told += plain(server, stream, [("grpc-status", "5")] if stream % 4 == 1 else [("x-end", "1")])
    for size in (7, 61, 1000):
        with Wire() as wire:
            wire.ask(*(asked[at : at + size] for at in range(0, len(asked), size)))
            wire.tell(*(told[at : at + size] for at in range(0, len(told), size)))
    expect({("GET", "/get", 200): 150, ("POST", "/a.B/C", 5): 150})
    assert {key[0] for key in by_protocol(attached, "server") if key[1] == "POST"} == {"grpc"}


def test_as_many_streams_at_once_as_every_kernel_has_room_for(expect):
    """Before 6.8 a socket may keep 20 KB: sixteen streams, and two tables of 128."""
    client, server = Encoder(), Encoder()
    streams = range(1, 2 * 272, 2)
    asked = b"".join(plain(client, stream, GET) for stream in streams)
    told = b"".join(plain(server, stream, OK) for stream in streams)
    with Wire() as wire:
        wire.ask(PREFACE + frame(CONFIG), asked)
        wire.tell(frame(CONFIG), told)
    expect({("GET", "/get", 200): 272})


def test_streams_in_flight_when_the_connection_ends(expect):
    with Wire() as wire:
        client = Encoder()
        wire.ask(PREFACE + frame(CONFIG), *(plain(client, stream, GET) for stream in range(1, 2 * 40, 2)))
        wire.tell(frame(CONFIG) + frame(RESET, 1, bytes(4)))
    expect({("GET", "/get", 0, "reset"): 1, ("GET", "/get", 0, "aborted"): 39})


def test_ipv6(expect):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        server, _ = listener.accept()
    with client, server:
        for _ in range(5):
            client.sendall(request())
            server.recv(1000)
            server.sendall(answer())
            client.recv(1000)
    expect({("GET", "/plain", 200): 5})


@pytest.mark.parametrize("message", [request(), posted(FAKE_REQUEST, b"/plain", b"GET")])
def test_a_request_cut_at_any_byte(expect, message):
    ways = list(cuts(message))
    with Wire() as wire:
        for segments in ways:
            wire.ask(*segments)
            wire.tell(answer())
    expect({("GET", "/plain", 200): len(ways)})


def test_an_answer_cut_at_any_byte(expect):
    ways = list(cuts(answer(404, FAKE_ANSWER)))
    with Wire() as wire:
        for segments in ways:
            wire.ask(posted(b"x"))
            wire.tell(*segments)
    expect({("POST", "/posted", 404): len(ways)})


def test_pipelines_and_bodies(expect):
    with Wire() as wire:
        for _ in range(5):
            body = chunked(FAKE_REQUEST, b"x" * 500, trailers=b"GET: /trailer HTTP/1.1\r\n")
            wire.ask(
                request() * 3
                + request(b"PUT", b"/put", b"Transfer-Encoding: chunked", body=body)
                + posted(FAKE_REQUEST * 20)
            )
            wire.tell(answer(200, FAKE_ANSWER) * 3 + answer(500) + answer(201, b"y" * 30000))
    expect({("GET", "/plain", 200): 15, ("PUT", "/put", 500): 5, ("POST", "/posted", 201): 5})


def test_answers_without_a_body(expect):
    with Wire() as wire:
        wire.ask(request(b"HEAD", b"/head"))
        wire.tell(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        wire.ask(posted(b"x"))
        wire.tell(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 None\r\n\r\n")
        wire.ask(request())
        wire.tell(b"HTTP/1.1 304 Same\r\nContent-Length: 5000\r\n\r\n")
        wire.ask(request(b"GET", b"/chat", b"Upgrade: websocket"))
        wire.tell(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        wire.ask(FAKE_REQUEST)
        wire.tell(FAKE_ANSWER)
    expect(
        {("HEAD", "/head", 200): 1, ("POST", "/posted", 204): 1, ("GET", "/plain", 304): 1, ("GET", "/chat", 101): 1}
    )


def test_a_request_with_the_handshake(expect):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(10):
            with socket.socket() as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
                client.connect(listener.getsockname())
                client.sendall(request())
                with listener.accept()[0] as server:
                    server.recv(1000)
                    server.sendall(answer())
                    client.recv(1000)
    expect({("GET", "/plain", 200): 10})


def test_a_server_that_takes_connections_with_their_first_segment_only(expect):
    """It passes the listening socket: a head in two pieces, a pipeline, a body that looks like a request."""
    body = posted(FAKE_REQUEST * 50, b"/plain", b"GET")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
        for first, then, answers in [
            (request()[:9], request()[9:], 1),
            (request() * 3, b"", 3),
            (body[:120], body[120:], 1),
        ]:
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(first)
                with listener.accept()[0] as server:
                    server.recv(10_000)
                    if then:
                        client.sendall(then)
                        time.sleep(0.1)
                        server.recv(10_000)
                    server.sendall(answer() * answers)
                    client.recv(1000)
    expect({("GET", "/plain", 200): 5})


@pytest.mark.parametrize(("ends_first", "outcome"), [("client", "aborted"), ("server", "reset")])
@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
def test_requests_without_an_answer(expect, ends_first, outcome, reset):
    for message in (request(), posted(b"x", b"/plain", b"GET")):
        with Wire() as wire:
            wire.ask(message)
            first = getattr(wire, ends_first)
            if reset:
                first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            first.close()
            time.sleep(0.1)
    expect({("GET", "/plain", 0, outcome): 2})


def test_latency_goes_to_the_last_byte(attached, expect):
    with Wire() as wire:
        wire.ask(request())
        wire.tell(answer(200, b"x" * 1000)[:-500])
        time.sleep(0.2)
        wire.tell(b"x" * 500)
    for delta in attached.read():
        assert 0.19 < delta.sums.transfer_seconds <= delta.sums.latency_seconds < 5
    expect({("GET", "/plain", 200): 1})


def test_bytes_by_peer(attached):
    """Of a connection that is open, of one that has ended, and of neither twice."""
    peers = PeerCounters.attach(attached.kernel)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            for _ in range(3):
                with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
                    client.sendall(b"x" * 5000)
                    assert len(server.recv(5000, socket.MSG_WAITALL)) == 5000
                    peers.read()
            expected = {"client": (3, 15_000, 0), "server": (3, 0, 15_000)}
            settle(lambda: by_peer(peers, port), expected, 20.0)
        assert peers.losses() == {}
    finally:
        peers.kernel.close()


def by_peer(peers, port):
    rows = [each for each in peers.read() if each.port == port]
    return {each.role: (each.connections, each.sent_bytes, each.received_bytes) for each in rows}


def test_dropped_packets_by_reason():
    """Attempts to connect where nobody listens: those of no socket, whichever the reason's number."""
    counters = DropCounters.attach()
    try:
        refused(5)
        settle(lambda: sum(each.packets for each in counters.read() if each.reason == "NO_SOCKET") >= 5, True, 20.0)
        assert counters.losses() == {}
    finally:
        counters.kernel.close()


def test_on_cpu_time_and_the_bank():
    group = Group("test-conformance")
    counters = CpuCounters.attach(64)
    try:
        group.start([sys.executable, "-S", "-c", BURN.format(seconds=2.0)]).wait()
        identifier = next(find_tree().unified.glob("**/test-conformance")).stat().st_ino
        delta = counters.read()[identifier]
        assert delta.cpu_seconds == pytest.approx(charged_seconds(group), rel=0.02)
        throttled = [each.throttled_periods for each in delta.limit_bank.candidates]
        assert throttled == sorted(throttled, reverse=True)
        assert throttled[0] > 10
        assert counters.losses() == {}
    finally:
        counters.kernel.close()
        group.close()
