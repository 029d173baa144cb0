"""Requests that come before their connection has a socket: where a server wants it only with its first segment."""

import contextlib
import socket
import time

import pytest

from tests.collector.counting import outcomes, settle

pytestmark = pytest.mark.kernel
REQUEST = b"POST /early HTTP/1.1\r\nContent-Length: 30\r\n\r\nGET /fake HTTP/1.1\r\n\r\n12345678"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
FAMILIES = {"IPv4": (socket.AF_INET, "127.0.0.1"), "IPv6": (socket.AF_INET6, "::1"), "mapped": (socket.AF_INET6, "::")}


@contextlib.contextmanager
def deferring(family="IPv4"):
    """A listener as Apache's, and where to reach it."""
    kind, address = FAMILIES[family]
    with socket.create_server((address, 0), family=kind, backlog=1000, dualstack_ipv6=address == "::") as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        yield listener, ("127.0.0.1" if address == "::" else address, listener.getsockname()[1])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("piece", [9, 60, len(REQUEST)])
def test_a_first_request_that_gets_no_answer(counters, family, piece):
    with deferring(family) as (listener, address):
        for _ in range(5):
            with socket.create_connection(address) as client:
                client.sendall(REQUEST[:piece])
                with listener.accept()[0] as server:
                    server.recv(1000)
                    if piece < len(REQUEST):
                        client.sendall(REQUEST[piece:])
                        server.recv(1000)
                    client.shutdown(socket.SHUT_WR)
                    time.sleep(0.02)
    expected = {("POST", "/early", 0, "aborted"): 5}
    settle(lambda: outcomes(counters, "server"), expected)
    assert counters.losses() == {}


def test_many_slow_first_requests_at_once(counters):
    """More of them than are kept in mind without a socket; each has its socket from its first segment on."""
    number = 600
    with deferring() as (listener, address), contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(socket.create_connection(address)) for _ in range(number)]
        for client in clients:
            client.sendall(REQUEST[:40])
        servers = [open_ones.enter_context(listener.accept()[0]) for _ in range(number)]
        for client in clients:
            client.sendall(REQUEST[40:])
        for server in servers:
            server.setblocking(True)
            while len(server.recv(1000, socket.MSG_PEEK)) < len(REQUEST):
                time.sleep(0.001)
            server.sendall(ANSWER)
        for client in clients:
            client.recv(1000)
    for role in ("server", "client"):
        settle(lambda role=role: outcomes(counters, role), {("POST", "/early", 200, "answered"): number})
    assert counters.losses() == {}
