"""Routes in the kernel: many paths become few, every request is counted, and nobody takes the room of others."""

import socket
import threading
from collections import Counter
from contextlib import contextmanager
from random import Random

import pytest

from bpf.layout import MOST_ROUTES_PER_OWNER
from collector.routes import Pattern, route_hash
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
            paths = [ten_shapes(chance) for _ in range(2000)]
            for at in range(0, 2000, 100):
                ask(client, paths[at : at + 100])
                counters.relieve()
            found = window(counters)
            assert found.total() == 2000
            routes, total = routes + found, total + 2000
    methods = {f"/rpc/Method{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWX"}
    assert methods <= set(routes)
    assert len(routes) <= 50
    assert routes.total() == total
    assert routes[OVERFLOW_ROUTE] == 0, "there was a look before the room was taken"
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


def test_requests_are_not_added_up_where_no_crowd_can_be(counters, monkeypatch):
    """It takes a pass over the whole map: at the start of an agent every service of the node is new."""
    asked = []
    monkeypatch.setattr(counters, "_requests_of", lambda owners: asked.append(owners) or Counter())
    with connection() as client:
        ask(client, [f"/{shape}/{letter}" for shape in ("users", "tags") for letter in "abcdefghij"])
        window(counters)
        assert not asked
        ask(client, [f"/{letter}{letter}" for letter in "abcdefghijklmnopqrs"])
        window(counters, lambda _: "shop")
        assert len(asked) == 1, "one pass for the server's end and the client's"


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


@contextmanager
def counting(own_group, *patterns):
    made = TrafficCounters.attach(own_group, patterns=[Pattern.parse(each) for each in patterns])
    try:
        yield made
    finally:
        made.kernel.close()


def test_the_first_of_the_many_does_not_give_them_its_name(own_group):
    """``me`` keeps its name, but its path is the first under the hash of all others, as it was when they became one."""
    with counting(own_group, "/users/{name}", "/users/me") as counters, connection() as client:
        ask(client, ["/users/anna"])
        assert window(counters) == {"/users/{name}": 1}
        for mark in list(counters.kernel.map("prefixes").items()):  # as if it had not been told of me yet
            counters.kernel.map("prefixes").delete(mark[0])
        owner = next(int.from_bytes(key[:8], "little") for key, _ in counters.counts.items() if key[19] == 0)
        users = route_hash((b"", b"users", b"")).to_bytes(8, "little")
        for each in (owner, owner | 1 << 63):
            counters.kernel.map("prefixes").put(each.to_bytes(8, "little") + users, bytes(4))
        ask(client, ["/users/me", *(f"/users/{letter}ob" for letter in "abcdefg")])
        assert window(counters) == {"/users/{name}": 8}


def test_a_word_of_a_pattern_keeps_its_name_though_it_comes_last(own_group):
    with counting(own_group, "/users/{name}", "/users/me") as counters, connection() as client:
        ask(client, ["/users/anna"])
        window(counters)
        ask(client, ["/users/bob", *["/users/me"] * 9])
        assert window(counters) == {"/users/{name}": 1, "/users/me": 9}


def test_a_crowd_leaves_a_word_of_a_pattern_alone(own_group):
    with counting(own_group, "/users/me") as counters, connection() as client:
        ask(client, (f"/users/{word(Random(seed))}" for seed in range(200)))
        assert set(window(counters)) == {"/users/*"}
        ask(client, ["/users/anna", *["/users/me"] * 9])
        assert window(counters) == {"/users/*": 1, "/users/me": 9}


def test_when_the_kernel_takes_no_more_prefixes_names_are_merged_all_the_same(counters, monkeypatch):
    def refuse(_key, _value):
        raise OSError(7, "Argument list too long")

    monkeypatch.setattr(counters.services._prefixes, "put", refuse)
    with connection() as client:
        for seed in range(2):
            chance = Random(seed)
            ask(client, (f"/users/{word(chance)}" for _ in range(200)))
            assert window(counters) == {"/users/*": 200}


def test_room_of_requests_that_nobody_answers_is_given_back(counters):
    chance = Random(4)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server, _ = listener.accept()
        with server:
            for _ in range(1200):
                client.sendall(f"GET /{word(chance)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                server.recv(1000)
                server.sendall(b"-ERR unknown command\r\n")
                client.recv(1000)
    counters.read()
    counters.commit()
    texts = counters.kernel.map("routes")
    assert len(list(texts.items())) > 900
    for _ in range(40):
        counters.read()
        counters.commit()
        counters.forget(lambda _: True)
    assert len(list(texts.items())) <= 2
    with connection() as client:
        ask(client, ["/health"])
    assert window(counters)["/health"] == 1


def test_an_old_connection_comes_back_by_its_name(counters):
    """Its path is not in the kernel's table any more, which keeps the hash with the connection."""
    with connection() as client:
        ask(client, ["/users/anna"])
        window(counters)
        with connection() as other:
            ask(other, (f"/users/{word(Random(seed))}" for seed in range(200)))
        for _ in range(12):
            window(counters)
        assert not any(
            key[8:16] == route_hash((b"", b"users", b"anna")).to_bytes(8, "little")
            for key, _ in counters.counts.items()
        )
        ask(client, ["/users/anna"])
        assert window(counters) == {"/users/*": 1}


def test_what_a_removed_kind_took_is_room_again(counters):
    chance = Random(5)
    with connection() as client:
        for _ in range(3):
            ask(client, (f"/users/{word(chance)}" for _ in range(200)))
            window(counters)
    for _ in range(12):
        window(counters)
    made, removed = (
        int.from_bytes(counters.kernel.map("kinds_made").get(slot.to_bytes(4, "little")), "little") for slot in (0, 1)
    )
    assert removed > 300
    assert made - removed == len(list(counters.counts.items()))


def test_a_route_that_is_no_more_stays_while_it_is_asked_for(counters):
    with connection() as client:
        ask(client, ["/users/anna"])
        with connection() as other:
            ask(other, (f"/users/{word(Random(seed))}" for seed in range(200)))
        window(counters)
        for _ in range(12):
            ask(client, ["/users/anna"])
            assert window(counters) == {"/users/*": 1}
    hashes = {key[8:16] for key, _ in counters.counts.items()}
    assert route_hash((b"", b"users", b"anna")).to_bytes(8, "little") in hashes


def test_a_cgroup_whose_workload_becomes_known_later_moves_there(counters):
    with connection() as client:
        ask(client, ["/a/b"])
        counters.relieve(lambda _: None)
        window(counters)
        window(counters, lambda _: "shop")
        ask(client, ["/a/b"])
        window(counters, lambda _: "shop")
    assert {name for name, _ in counters.services._services} == {"shop"}


def test_an_ended_service_leaves_nothing_behind(counters):
    with connection() as client:
        ask(client, (f"/users/{word(Random(seed))}" for seed in range(200)))
    window(counters)
    counters.forget(lambda _: False)
    for _ in range(12):
        counters.read()
        counters.commit()
        counters.forget(lambda _: False)
    for name in ("prefixes", "routes_brought", "routes_allowed", "routes", "requests"):
        assert list(counters.kernel.map(name).items()) == []
    assert not counters.services._services
    assert not counters.services._paths
