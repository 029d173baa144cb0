"""Bytes by peer, against what was sent."""

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from collector.identity import UNATTRIBUTED
from collector.peers import PeerCounters, PeerDelta, peer_rows
from collector.traffic import TrafficCounters
from profiles.schema import Identity
from tests.collector.counting import own_cgroup, settle

WEB, DB, SIDE = (Identity("c", "shop", "Deployment", name, name, f"/{name}") for name in ("web", "db", "side"))


@contextlib.contextmanager
def watching(**options):
    """The counters of this test's cgroup."""
    with own_cgroup() as folder:
        traffic = TrafficCounters.attach(folder)
        peers = PeerCounters.attach(traffic.kernel, **options)
        try:
            yield peers, folder.stat().st_ino
        finally:
            peers.kernel.close()
            traffic.kernel.close()


def found(peers, cgroup):
    """(connections, sent, received) by role, kind, address and port."""
    return {
        (each.role, each.kind, each.address, each.port): (each.connections, each.sent_bytes, each.received_bytes)
        for each in peers.read()
        if each.cgroup_id == cgroup
    }


def carry(sender, receiver, number):
    sender.sendall(os.urandom(number))
    while number:
        number -= len(receiver.recv(number))


@pytest.mark.kernel
@pytest.mark.parametrize("family", ["127.0.0.1", "::1", "mapped"])
@pytest.mark.parametrize("ends", ["client first", "server first", "reset", "open"])
def test_bytes_of_both_ends_are_those_that_were_sent(family, ends):
    chance, sums = Random(7), Counter()
    address = "::1" if family == "::1" else "127.0.0.1"
    own = "::" if family == "mapped" else address
    kind = socket.AF_INET if family == "127.0.0.1" else socket.AF_INET6
    with watching() as (peers, cgroup), contextlib.ExitStack() as held:
        listener = held.enter_context(socket.create_server((own, 0), family=kind, dualstack_ipv6=family == "mapped"))
        port = listener.getsockname()[1]
        for _ in range(10):
            client = held.enter_context(socket.create_connection((address, port)))
            server = held.enter_context(listener.accept()[0])
            for _ in range(3):
                up, down = chance.choice([1, 1000, 300_000]), chance.choice([0, 1, 70_000])
                carry(client, server, up)
                carry(server, client, down)
                sums["up"] += up
                sums["down"] += down
                peers.read()  # as a window that could not be stored
            if ends == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if ends != "open":
                for end in (client, server) if ends != "server first" else (server, client):
                    end.close()
        expected = {
            ("server", "address", address, port): (10, sums["down"], sums["up"]),
            ("client", "address", address, port): (10, sums["up"], sums["down"]),
        }
        settle(lambda: found(peers, cgroup), expected)
        peers.commit()
        assert found(peers, cgroup) == {}
        assert peers.owners()[address, port] == {cgroup}
        assert ("127.0.0.1", 0) not in peers.owners()
        assert peers.losses() == {}


@pytest.mark.kernel
def test_a_connection_that_is_older_counts_from_the_first_look():
    """On a port below those that clients get, since who opened it is not known."""
    with own_cgroup() as folder, contextlib.ExitStack() as held:
        listener = held.enter_context(low_listener())
        port = listener.getsockname()[1]
        client = held.enter_context(socket.create_connection(listener.getsockname()))
        server = held.enter_context(listener.accept()[0])
        carry(client, server, 1000)
        traffic = TrafficCounters.attach(folder)
        held.callback(traffic.kernel.close)
        peers = PeerCounters.attach(traffic.kernel)
        held.callback(peers.kernel.close)
        carry(client, server, 200)
        assert found(peers, folder.stat().st_ino) == {}
        carry(client, server, 30)
        assert found(peers, folder.stat().st_ino) == {
            ("client", "address", "127.0.0.1", port): (1, 30, 0),
            ("server", "address", "127.0.0.1", port): (1, 0, 30),
        }
        assert ("127.0.0.1", port) not in peers.owners()  # which would be a guess


def low_listener():
    for port in range(20_000, 30_000):
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
    raise AssertionError("no port is free")


def meet(held, number):
    """One connection to a listener of its own, and that many bytes."""
    listener = held.enter_context(socket.create_server(("127.0.0.1", 0)))
    client = held.enter_context(socket.create_connection(listener.getsockname()))
    carry(client, held.enter_context(listener.accept()[0]), number)


@pytest.mark.kernel
def test_peers_that_the_table_cannot_take_are_the_others():
    with watching(most_peers=2) as (peers, cgroup), contextlib.ExitStack() as held:
        for number in range(5):
            meet(held, 10**number)
        rows = found(peers, cgroup)
        sums = Counter()
        for (role, *_), (connections, sent, received) in rows.items():
            sums[role, "connections"] += connections
            sums[role, "bytes"] += sent + received
        assert sums == {(role, "connections"): 5 for role in ("server", "client")} | {
            (role, "bytes"): 11111 for role in ("server", "client")
        }
        assert {key for key in rows if key[1] == "others"} == {
            (role, "others", "others", 0) for role in ("server", "client")
        }
        assert set(peers.losses()) == {"peers_not_apart"}


@pytest.mark.kernel
def test_peers_that_are_long_quiet_give_back_their_room(monkeypatch):
    monkeypatch.setattr("collector.peers._QUIET_WINDOWS", 2)
    with watching(most_peers=4) as (peers, cgroup):
        for _ in range(10):
            with contextlib.ExitStack() as held:
                meet(held, 100)
            for _ in range(4):
                rows = found(peers, cgroup)
                assert {kind for _, kind, *_ in rows} <= {"address"}
                peers.commit()
                peers.forget(lambda _: True)
        assert list(peers.counts.items()) == []
        assert peers.losses() == {}
        assert peers.owners()
        monkeypatch.setattr("collector.peers._HOME_SECONDS", 0)
        peers.forget(lambda _: True)
        assert peers.owners() == {}


@pytest.mark.kernel
def test_a_socket_that_is_used_twice_counts_twice():
    with watching() as (peers, cgroup), socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.socket() as client:
            for number in (100_000, 50_000):
                client.connect(listener.getsockname())
                with listener.accept()[0] as server:
                    carry(client, server, number)
                peers.read()
                unconnect(client)
            expected = {
                (role, "address", "127.0.0.1", port): (2, *numbers)
                for role, numbers in {"client": (150_000, 0), "server": (0, 150_000)}.items()
            }
            settle(lambda: found(peers, cgroup), expected)


def unconnect(client):
    """connect(2) with AF_UNSPEC, which the socket module does not know."""
    assert ctypes.CDLL(None).connect(client.fileno(), bytes(16), 16) == 0


@pytest.mark.kernel
def test_a_look_that_fails_costs_nothing(monkeypatch, caplog):
    with watching() as (peers, cgroup), contextlib.ExitStack() as held:
        meet(held, 100)
        look = peers.look
        peers.look = lambda: (_ for _ in ()).throw(OSError(24, "Too many open files"))
        assert found(peers, cgroup) == {}
        assert "could not be looked at" in caplog.text
        peers.look = look
        assert len(found(peers, cgroup)) == 2


SCRIPT = """
import socket, subprocess

def ip(*words):
    subprocess.run(["ip", *words], check=True)

def talk(listener, origin, number):
    with socket.create_connection(listener.getsockname(), source_address=(origin, 0)) as client:
        with listener.accept()[0] as server:
            client.sendall(b"x" * number)
            assert len(server.recv(number)) == number

ip("link", "set", "lo", "up")
addresses = ["9.9.9.9", "9.9.9.10", "10.1.2.3", "172.16.0.9", "192.168.1.1", "100.64.0.1"]
for each in addresses + ["10.0.0.1"]: ip("addr", "add", each + "/32", "dev", "lo")
with socket.create_server(("10.0.0.1", 8080)) as listener:
    for each in addresses:
        talk(listener, each, 100)
with socket.create_server(("9.9.9.9", 443)) as listener:
    talk(listener, "10.0.0.1", 7)
"""


@pytest.mark.kernel
def test_the_internet_s_clients_are_one_and_its_servers_are_kept_apart():
    with watching() as (peers, cgroup):
        subprocess.run(["unshare", "--net", sys.executable, "-c", SCRIPT], check=True)
        private = ("10.1.2.3", "172.16.0.9", "192.168.1.1", "100.64.0.1")
        expected = {("server", "address", each, 8080): (1, 0, 100) for each in private} | {
            ("server", "internet", "internet", 8080): (2, 0, 200),
            ("client", "address", "10.0.0.1", 8080): (6, 600, 0),
            ("server", "address", "10.0.0.1", 443): (1, 0, 7),
            ("client", "address", "9.9.9.9", 443): (1, 7, 0),
        }
        settle(lambda: found(peers, cgroup), expected)
        peers.owners()
        peers.commit()
        peers.forget(lambda _: False)
        assert peers.owners() == {}
        assert list(peers.counts.items()) == []


def delta(cgroup, role, address, port, *numbers, kind="address"):
    return PeerDelta(cgroup, role, kind, address, port, *(numbers or (1, 10, 20)))


def test_peers_of_this_node_have_their_names():
    owners = {("10.0.0.5", 5432): {2}, ("10.0.0.5", 0): {2, 3}, ("10.0.0.1", 0): {1}, ("127.0.0.1", 80): {1}}
    deltas = [
        delta(1, "client", "10.0.0.5", 5432), delta(1, "client", "10.0.0.5", 9999),
        delta(2, "server", "10.0.0.1", 5432),
        delta(2, "server", "10.0.0.5", 5432), delta(3, "client", "127.0.0.1", 80), delta(9, "client", "10.0.0.1", 80),
        delta(1, "server", "internet", 80, kind="internet"),
    ]  # fmt: skip
    rows = list(peer_rows(deltas, owners, {1: WEB, 2: DB, 3: SIDE}.get))
    assert [(row.identity, row.role, row.kind, row.peer, row.port) for row in rows] == [
        (WEB, "client", "workload", "shop/db/db", 5432),
        (WEB, "client", "address", "10.0.0.5", 9999),  # where nobody of this node answers
        (DB, "server", "workload", "shop/web/web", 5432),
        (DB, "server", "address", "10.0.0.5", 5432),
        (SIDE, "client", "workload", "shop/web/web", 80),
        (WEB, "server", "internet", "internet", 80),
    ]


def test_what_belongs_to_no_workload_is_no_name():
    (row,) = peer_rows([delta(1, "client", "10.0.0.5", 80)], {("10.0.0.5", 80): {7}}, {1: WEB, 7: UNATTRIBUTED}.get)
    assert (row.kind, row.peer) == ("address", "10.0.0.5")


def test_cgroups_of_one_instance_add_up():
    deltas = [delta(1, "client", "10.0.0.5", 80, 1, 2, 3), delta(4, "client", "10.0.0.5", 80, 10, 20, 30)]
    (row,) = peer_rows(deltas, {}, {1: WEB, 4: WEB}.get)
    assert (row.connections, row.sent_bytes, row.received_bytes) == (11, 22, 33)
