"""HTTP/2 and gRPC over real sockets: real servers and clients, many streams at once, and frames cut anywhere."""

import asyncio
import re
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest
from hpack import Encoder
from hypercorn.asyncio import serve
from hypercorn.config import Config

from collector.traffic import TrafficCounters
from headroom.demo.host import free_port, wait_for
from profiles.status import GRPC_NAMES
from tests.bpf.http2_wire import CALL, CONFIG, DATA, END_HEADERS, END_STREAM, GET, OK, PREFACE, RESET, frame, plain
from tests.collector.counting import by_protocol, settle
from tests.collector.test_http1_wild import Wire, cuts

pytestmark = pytest.mark.kernel


@pytest.fixture
def expect(counters):
    """Compare with what both ends counted, and with the losses."""

    def check(expected, roles=("server", "client"), losses=None):
        for role in roles:
            settle(lambda role=role: by_protocol(counters, role), Counter(expected))
        assert counters.losses() == (losses or {})

    return check


def tool(name):
    path = shutil.which(name)
    assert path, f"{name} is missing: deploy/install-packages.sh nghttp2-client nghttp2-server curl"
    return path


@contextmanager
def nghttpd(folder):
    port = free_port()
    server = subprocess.Popen(
        [tool("nghttpd"), "--no-tls", "-d", str(folder), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port)
        yield port
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize("at_once", [1, 10, 100])
def test_every_request_of_many_streams(expect, tmp_path, at_once):
    """h2load says what it got; both ends of every connection are seen."""
    (tmp_path / "page").write_text("x" * 3000)
    with nghttpd(tmp_path) as port:
        here = f"http://127.0.0.1:{port}"
        done = subprocess.run(
            [tool("h2load"), "-n", "6000", "-c", "5", "-m", str(at_once), f"{here}/page", f"{here}/users/42?x=1"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    assert re.search(r"status codes: 3000 2xx, 0 3xx, 3000 4xx, 0 5xx", done)
    expect(
        {
            ("http2", "GET", "/page", 200, "answered"): 3000,
            ("http2", "GET", "/users/{id}", 404, "answered"): 3000,
        }
    )


class Service(grpc.GenericRpcHandler):
    """Answers with the status that the method names."""

    def service(self, details):
        name = details.method.rsplit("/", 1)[1]
        if name == "Stream":
            return grpc.unary_stream_rpc_method_handler(lambda _request, _context: (b"x" * 20_000 for _ in range(5)))
        if name == "Slow":
            return grpc.unary_unary_rpc_method_handler(self._slow)
        if name not in GRPC_NAMES:
            return None  # UNIMPLEMENTED

        def answer(request, context):
            context.set_code(list(grpc.StatusCode)[GRPC_NAMES.index(name)])
            return request * 10

        return grpc.unary_unary_rpc_method_handler(answer)

    @staticmethod
    def _slow(_request, context):
        while context.is_active():
            time.sleep(0.01)
        return b""


@contextmanager
def grpc_server():
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


def call(channel, name, number=0, **options):
    """The code that the client got; every call has a header of its own, as tracing makes it."""
    trace = (("traceparent", f"00-{number:032x}-{number:016x}-01"),)
    try:
        if name == "Stream":
            list(channel.unary_stream(f"/pkg.Service/{name}")(b"q", metadata=trace, **options))
        else:
            channel.unary_unary(f"/pkg.Service/{name}")(b"q", metadata=trace, **options)
    except grpc.RpcError as error:
        return error.code().value[0]
    return 0


def calls(expected):
    return {
        ("grpc", "POST", f"/pkg.Service/{name}", code, "answered"): count for (name, code), count in expected.items()
    }


def test_grpc_calls_by_method_and_code(expect):
    got = Counter()
    with grpc_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for number in range(5):
            for name in (*GRPC_NAMES, "Stream", "Unheard"):
                got[name, call(channel, name, number)] += 1
        waiting = [channel.unary_unary("/pkg.Service/OK").future(b"z" * 100) for _ in range(300)]
        got["OK", 0] += sum(each.result() is not None for each in waiting)
    assert len(got) == 19
    expect(calls(got))


def test_segments_of_one_connection_on_two_processors(expect):
    """A burst on a new connection goes on from the processor that takes the acknowledgements: segments pass the hook at
    the same time, and one that is read in the middle of another shifts the table of names."""
    with grpc_server() as port:
        for _ in range(20):
            with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
                waiting = [channel.unary_unary("/pkg.Service/OK").future(b"z" * 100) for _ in range(300)]
                assert all(each.result() for each in waiting)
    expect(calls({("OK", 0): 6000}))


def test_a_call_that_its_client_gives_up(expect):
    with grpc_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        waiting = channel.unary_unary("/pkg.Service/Slow").future(b"q")
        time.sleep(0.2)
        assert waiting.cancel()
        assert call(channel, "OK") == 0
    expect({**calls({("OK", 0): 1}), ("grpc", "POST", "/pkg.Service/Slow", 0, "aborted"): 1})


def test_a_channel_that_is_older_than_the_agent(own_group):
    """Its table began before: counted all the same, and new names are known."""
    with grpc_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for number in range(20):
            call(channel, "OK", number)
        made = TrafficCounters.attach(own_group)
        http2 = made.attach_http2()
        try:
            for number in range(20):
                call(channel, "OK", number)
                assert call(channel, "NOT_FOUND", number) == 5
            settle(lambda: by_protocol(made, "server").total(), 40)
            found = by_protocol(made, "server")
        finally:
            http2.close()
            made.kernel.close()
    assert found["grpc", "POST", "/pkg.Service/NOT_FOUND", 5, "answered"] == 20
    assert (
        sum(count for (_, _, route, _, _), count in found.items() if route in ("__unknown__", "/pkg.Service/OK")) == 20
    )


@contextmanager
def hypercorn():
    """An ASGI application that also takes the upgrade of HTTP/1 connections to HTTP/2."""

    async def application(scope, _receive, send):
        if scope["type"] != "http":
            return
        status = int(scope["path"].rsplit("/", 1)[1])
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 100})

    config, port = Config(), free_port()
    config.bind, config.accesslog, config.errorlog = [f"127.0.0.1:{port}"], None, None
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    serving = serve(application, config, shutdown_trigger=stop.wait)
    thread = threading.Thread(target=loop.run_until_complete, args=(serving,))
    thread.start()
    try:
        wait_for(port)
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def curl(*arguments):
    command = [tool("curl"), "-s", "-o", "/dev/null", "-w", "%{http_version} %{http_code}\n", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]


def test_one_server_of_both_versions_and_the_upgrade_between(expect):
    with hypercorn() as port:
        here = f"http://127.0.0.1:{port}/status"
        assert curl("--http1.1", f"{here}/200")[-1] == "1.1 200"
        assert curl("--http2-prior-knowledge", f"{here}/404")[-1] == "2 404"
        assert curl("--http2", f"{here}/503")[-1] == "2 503"
    expect(
        {
            ("http1", "GET", "/status/{id}", 200, "answered"): 1,
            ("http2", "GET", "/status/{id}", 404, "answered"): 1,
            ("http1", "GET", "/status/{id}", 101, "answered"): 1,  # the 503 came on the upgraded connection
        }
    )


@pytest.mark.parametrize("parts", [2, 3])
def test_a_connection_may_be_cut_at_any_byte(expect, parts):
    client, server = Encoder(), Encoder()
    asked = PREFACE + frame(CONFIG) + plain(client, 1, GET) + plain(client, 3, CALL, END_HEADERS)
    asked += frame(DATA, 3, frame(RESET, 1, bytes(4)), END_STREAM)
    told = frame(CONFIG) + plain(server, 3, OK, END_HEADERS) + plain(server, 1, OK, END_HEADERS)
    told += frame(DATA, 1, b"GET / HTTP/1.1\r\n\r\n", END_STREAM) + plain(server, 3, [("grpc-status", "7")])
    ways = [(segments, [told]) for segments in cuts(asked, parts)] + [
        ([asked], segments) for segments in cuts(told, parts)
    ]
    for asking, telling in ways:
        with Wire() as wire:
            wire.ask(*asking)
            wire.tell(*telling)
    expect(
        {
            ("http2", "GET", "/get", 200, "answered"): len(ways),
            ("grpc", "POST", "/a.B/C", 7, "answered"): len(ways),
        }
    )


def test_both_ends_may_speak_first(expect):
    """At the same moment, on two processors: each makes the socket's first state."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        pairs = [(socket.create_connection(listener.getsockname()), listener.accept()[0]) for _ in range(400)]
    gate = threading.Barrier(2)

    def speak(ends, data):
        for end in ends:
            gate.wait()
            end.sendall(data)

    clients, servers = zip(*pairs, strict=True)
    talkers = [
        threading.Thread(target=speak, args=(clients, PREFACE + frame(CONFIG) + plain(Encoder(), 1, GET))),
        threading.Thread(target=speak, args=(servers, frame(CONFIG))),
    ]
    for each in talkers:
        each.start()
    for each in talkers:
        each.join()
    for client, server in pairs:
        server.sendall(plain(Encoder(), 1, OK))
        client.recv(1000)
        client.close()
        server.close()
    expect({("http2", "GET", "/get", 200, "answered"): 400})


def test_streams_in_flight_when_a_connection_ends(expect):
    with Wire() as wire:
        client, server = Encoder(), Encoder()
        wire.ask(PREFACE + frame(CONFIG), *(plain(client, stream, GET) for stream in range(1, 2 * 50, 2)))
        wire.tell(frame(CONFIG) + plain(server, 1, OK))
    expect(
        {
            ("http2", "GET", "/get", 200, "answered"): 1,
            ("http2", "GET", "/get", 0, "aborted"): 49,
        }
    )
