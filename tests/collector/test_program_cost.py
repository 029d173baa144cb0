"""Our programs in the kernel are timed now and then."""

import socket
import time

import pytest

from collector import program_cost
from collector.program_cost import ProgramCost

pytestmark = pytest.mark.kernel


def ask(times):
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server, _ = listener.accept()
        with server:
            for _ in range(times):
                client.sendall(b"GET /cost HTTP/1.1\r\nHost: x\r\n\r\n")
                server.recv(1000)
                server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                client.recv(1000)


def test_a_sample_says_what_a_request_costs(counters, monkeypatch):
    monkeypatch.setattr(program_cost, "_SAMPLE_SECONDS", 0.2)
    cost = ProgramCost([counters.kernel], [])
    begin = time.monotonic()
    assert cost.since_commit(1.0, []) == {}
    while not (sums := cost.since_commit(time.monotonic() - begin, counters.read())):
        assert time.monotonic() - begin < 10
        cost.tick()
        ask(50)
    assert sums["requests"] == 2 * sums["served"] > 100
    assert sums["program_seconds"] == sums["request_program_seconds"]
    assert 100e-9 < sums["request_program_seconds"] / sums["requests"] < 50e-6
    assert 0 < sums["served_seconds"] < time.monotonic() - begin
    cost.commit()
    assert cost.since_commit(1.0, []) == {}


def test_without_the_privilege_it_is_not_known(counters, monkeypatch, caplog):
    def refuse():
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(program_cost, "enable_run_statistics", refuse)
    cost = ProgramCost([counters.kernel], [])
    monkeypatch.setattr(cost, "_due", 0.0)
    for _ in range(3):
        cost.tick()
    assert cost.since_commit(1.0, []) == {}
    assert caplog.text.count("is not known") == 1
