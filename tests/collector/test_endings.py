"""Requests that never get an answer, over real sockets: who ended it, as both ends see it."""

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.collector.counting import outcomes, settle
from tests.collector.test_http1_wild import Wire, answer, posted, request

pytestmark = pytest.mark.kernel

SERVE = """
import socket
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    connection, _ = listener.accept()
    connection.recv(1000)
    print("asked", flush=True)
    connection.recv(1000)
"""

UNREACHABLE = """
import socket, struct, subprocess
from tests.collector.test_http1_wild import Wire, request
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with Wire() as wire:
    wire.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
    subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
    wire.client.sendall(request())
    try:
        wire.client.recv(1)
        print("answered")
    except OSError as error:
        print(error.errno)
"""


def at_both_ends(counters, expected):
    for role in ("server", "client"):
        settle(lambda role=role: outcomes(counters, role), expected)


def drop(end):
    """Close with a reset."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


@pytest.mark.parametrize("message", [request(path=b"/plain"), posted(b"a body", b"/plain", b"GET")])
@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize(("ends_first", "outcome"), [("client", "aborted"), ("server", "reset")])
def test_both_ends_agree_on_who_ended_it(counters, message, reset, ends_first, outcome):
    for _ in range(5):
        with Wire() as wire:
            wire.ask(message)
            first = getattr(wire, ends_first)
            drop(first) if reset else first.close()
            time.sleep(0.01)
    at_both_ends(counters, {("GET", "/plain", 0, outcome): 5})
    assert counters.losses() == {}


def test_it_waited_until_the_end(counters):
    with Wire() as wire:
        wire.ask(request())
        time.sleep(0.1)
    time.sleep(0.05)
    deltas = counters.read()
    assert len(deltas) == 2
    for delta in deltas:
        assert 0.095 <= delta.latency.quantile_seconds(0.5) < 2
        assert delta.sums[1:] == (0, len(request()), 0)


def test_half_closed_is_not_ended(counters):
    """A client may say that it sends no more, and wait."""
    with Wire() as wire:
        wire.ask(request())
        wire.client.shutdown(socket.SHUT_WR)
        time.sleep(0.01)
        wire.tell(answer())
    at_both_ends(counters, {("GET", "/plain", 200, "answered"): 1})


def test_what_waits_behind_an_answer(counters):
    with Wire() as wire:
        wire.ask(request() * 3 + posted(b"half of it")[:-5])
        wire.tell(answer())
    expected = {
        ("GET", "/plain", 200, "answered"): 1,
        ("GET", "/plain", 0, "aborted"): 2,
        ("POST", "/posted", 0, "aborted"): 1,
    }
    at_both_ends(counters, expected)


@pytest.mark.parametrize(
    "told",
    [answer(), answer(200, b"x" * 100)[:-50], b"HTTP/1.1 200 OK\r\n\r\nup to the end"],
    ids=["whole", "cut short", "until closed"],
)
def test_an_answer_that_began_is_an_answer(counters, told):
    with Wire() as wire:
        wire.ask(request())
        wire.tell(told)
        wire.server.close()
    time.sleep(0.05)
    at_both_ends(counters, {("GET", "/plain", 200, "answered"): 1})


@pytest.mark.parametrize(
    "sent", [b"GET key-of-a-cache\r\n", b"PUT 0 100\r\nbody", b"*1\r\n$4\r\nPING\r\n", b"GET / HTTP/1.1\r\nHost"]
)
def test_what_is_no_whole_request_makes_none(counters, sent):
    """Other protocols, and a head that never came to its end: half of one is counted, with its first line."""
    with Wire() as wire:
        wire.ask(sent)
    time.sleep(0.05)
    at_both_ends(counters, {("GET", "/", 0, "aborted"): 1} if b"HTTP" in sent else {})


def test_a_tunnel_and_an_idle_connection_end_quietly(counters):
    with Wire() as wire:
        wire.ask(request(b"GET", b"/chat", b"Upgrade: websocket"))
        wire.tell(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        wire.ask(b"GET /not-a-request HTTP/1.1\r\n\r\n")
    with Wire():
        pass
    time.sleep(0.05)
    at_both_ends(counters, {("GET", "/chat", 101, "answered"): 1})


def test_a_connection_that_is_refused_is_no_request(counters):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    assert counters.read() == []


def test_a_server_that_is_killed_resets(counters):
    """As a worker that hangs, or the OOM killer's choice."""
    server = subprocess.Popen([sys.executable, "-S", "-c", SERVE], stdout=subprocess.PIPE, text=True)
    try:
        with socket.create_connection(("127.0.0.1", int(server.stdout.readline()))) as client:
            client.sendall(request())
            assert server.stdout.readline() == "asked\n"
            server.send_signal(signal.SIGKILL)
            server.wait()
            assert client.recv(100) == b""
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    at_both_ends(counters, {("GET", "/plain", 0, "reset"): 1})


def test_a_peer_that_is_not_to_be_reached_any_more_times_out(counters):
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", UNREACHABLE],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    assert done.stdout.strip() == str(errno.ETIMEDOUT), done.stderr
    settle(lambda: outcomes(counters, "client"), {("GET", "/plain", 0, "timed_out"): 1})


def test_hundreds_of_connections_that_end_at_any_moment(counters):
    """Whatever happens, a request is counted once at each end."""
    asked = 0
    for number in range(500):
        with Wire() as wire:
            wire.ask(request())
            asked += 1
            if number % 3:
                wire.tell(answer())
            if number % 3 == 2:
                wire.ask(posted(b"x"))
                asked += 1
            (wire.client if number % 2 else wire.server).close()
    for role in ("server", "client"):
        settle(lambda role=role: outcomes(counters, role).total(), asked)
    assert counters.losses() == {}
