"""Routes in the kernel: many paths become few, every request is counted, and nobody takes the room of others."""

import socket
import threading
from collections import Counter
from contextlib import contextmanager
from random import Random

import pytest

from bpf.layout import MOST_ROUTES_PER_OWNER
from collector.routes import Pattern
from collector.traffic import TrafficCounters
from profiles.schema import OVERFLOW_ROUTE
from tests.collector.counting import counted, settle

pytestmark = pytest.mark.kernel


@contextmanager
def connection():
    """A client's end; a server answers every request on the other."""

    def serve(end):
        with end:
            while asked := end.recv(1 << 16):
                end.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * asked.count(b"GET "))

    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server = threading.Thread(target=serve, args=(listener.accept()[0],))
        server.start()
        yield client
        client.shutdown(socket.SHUT_WR)
        server.join()


def ask(client, paths):
    for path in paths:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def window(counters, service_of=int):
    """Requests by route as the server saw them, and commit."""
    found = Counter()
    for delta in counters.read(service_of):
        if delta.role == "server":
            found[delta.route] += delta.latency.total
    counters.commit()
    counters.forget(lambda _: True)
    return found


def word(chance):
    return "".join(chance.choices("abcdefghijklmnop", k=8))


def ten_shapes(chance):
    """Paths as applications have them; a new name nearly every time."""
    return chance.choice(
        [
            lambda: f"/users/{word(chance)}",
            lambda: f"/users/{word(chance)}/orders",
            lambda: f"/shops/{word(chance)}/items/{chance.randint(1, 9999)}",
            lambda: f"/files/{word(chance)}.pdf",
            lambda: f"/deep/down/here/{word(chance)}/x",
            lambda: f"/tags/{word(chance)}",
            lambda: f"/search/{word(chance)}/{word(chance)}",
            lambda: f"/pages/{word(chance)}/edit",
            lambda: f"/{word(chance)}/{word(chance)}/issues/{chance.randint(1, 9999)}",
            lambda: f"/rpc/Method{chance.choice('ABCDEFGHIJKLMNOPQRSTUVWX')}",
        ]
    )()


def test_ever_new_paths_become_a_few_routes_and_all_are_counted(counters):
    chance, routes, total = Random(1), Counter(), 0
    with connection() as client:
        for _ in range(10):
            paths = [ten_shapes(chance) for _ in range(1000)]
            for at in range(0, 1000, 100):
                ask(client, paths[at : at + 100])
                counters.relieve()
            found = window(counters)
            assert found.total() == 1000
            routes, total = routes + found, total + 1000
    methods = {f"/rpc/Method{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWX"}
    assert methods <= set(routes)
    assert len(routes) <= 50
    assert routes.total() == total
    assert set(routes) - methods >= {
        "/users/*",
        "/users/*/orders",
        "/shops/*/items/{id}",
        "/*/*/issues/{id}",
        "/tags/*",
    }
    assert set(counters.losses()) <= {"route_overflow"}
    assert len(list(counters.counts.items())) < 200, "room of routes that are no more is given back"
    assert len(list(counters.kernel.map("routes").items())) <= len(routes)


def test_a_service_that_never_repeats_a_path_leaves_room_for_others(counters):
    """Nothing to see a pattern in: each segment is new, and there is nobody who would merge."""
    chance = Random(2)
    with connection() as client:
        ask(client, (f"/{word(chance)}" for _ in range(1500)))
    ways = Counter(delta.route == OVERFLOW_ROUTE for delta in counters.read() if delta.role == "server")
    assert ways[False] <= 2 * MOST_ROUTES_PER_OWNER  # what the client's end has brought, the server's need not
    totals = Counter()
    for delta in counters.read():
        totals[delta.role] += delta.latency.total
    assert totals == {"server": 1500, "client": 1500}


def test_the_user_s_patterns_reach_the_kernel(own_group):
    counters = TrafficCounters.attach(
        own_group, patterns=[Pattern.parse("/users/{name}"), Pattern.parse("/users/me"), Pattern.parse("/x/{y}/z")]
    )
    try:
        with connection() as client:
            ask(client, ["/users/anna", "/users/me", "/x/1/z"])
            window(counters)
            ask(client, [f"/users/{letter}nna" for letter in "bcdefgh"] + ["/users/me", "/x/abc/z", "/x/abc"])
            settle(
                lambda: counted(counters, "server"),
                Counter(
                    {
                        ("GET", "/users/{name}", 200): 7,
                        ("GET", "/users/me", 200): 1,
                        ("GET", "/x/{y}/z", 200): 1,
                        ("GET", "/x/{y}", 200): 1,
                    }
                ),
            )
            keys = {key[8:16] for key, _ in counters.counts.items() if key[19] == 0}
            assert len(keys) == 5, "anna, {name}, me, /x/{y}/z, /x/{y}"
    finally:
        counters.kernel.close()


def test_replicas_of_one_service_learn_from_each_other(counters):
    chance = Random(3)
    with connection() as client:
        ask(client, (f"/users/{word(chance)}" for _ in range(300)))
        assert set(window(counters, lambda _: "shop")) == {"/users/*"}
    owner = int.from_bytes(next(iter(counters.counts.items()))[0][:8], "little")
    newcomer = owner + 1_000_000
    counters.services.see(newcomer, "shop", 2)
    marked = Counter(int.from_bytes(key[:8], "little") for key, _ in counters.kernel.map("prefixes").items())
    assert marked[newcomer] == marked[owner] > 0
    counters.services.forget(lambda cgroup: cgroup != newcomer, lambda _: True)
    assert newcomer not in {int.from_bytes(key[:8], "little") for key, _ in counters.kernel.map("prefixes").items()}
