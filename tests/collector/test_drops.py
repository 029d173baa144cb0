"""Dropped packets by the kernel's reason, against what arrived."""

import contextlib
import socket

import pytest

from bpf.kernel_names import enum_names
from bpf.loader import load
from collector.drops import DropCounters, DropDelta, drop_rows
from profiles.schema import DropRow, Identity
from tests.collector.counting import own_cgroup, settle

WEB = Identity("c", "shop", "Deployment", "web", "web", "/web")


def overflow(number):
    """So many datagrams to a socket that has room for few; how many did not arrive."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4000)
        receiver.bind(("127.0.0.1", 0))
        for _ in range(number):
            sender.sendto(b"x" * 500, receiver.getsockname())
        receiver.setblocking(False)
        arrived = 0
        with contextlib.suppress(BlockingIOError):
            while receiver.recv(1000):
                arrived += 1
        return number - arrived


def refused(number):
    """Attempts to connect where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        closed = other.getsockname()
    for _ in range(number):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(closed)


@pytest.mark.kernel
def test_what_did_not_arrive_is_what_was_dropped():
    with own_cgroup() as folder:
        cgroup = folder.stat().st_ino
        counters = DropCounters.attach()
        try:
            dropped = overflow(100)
            assert dropped > 50
            settle(lambda: [each for each in counters.read() if each.cgroup_id], [(cgroup, "SOCKET_RCVBUFF", dropped)])
            counters.commit()
            refused(5)
            settle(lambda: sum(each.packets for each in counters.read() if each.reason == "NO_SOCKET") >= 5, True)
            assert {each.cgroup_id for each in counters.read()} == {0}
            assert counters.losses() == {}
        finally:
            counters.kernel.close()


@pytest.mark.kernel
def test_connections_that_open_and_end_drop_nothing():
    with own_cgroup() as folder:
        counters = DropCounters.attach()
        try:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                for _ in range(20):
                    with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
                        client.sendall(b"x" * 1000)
                        server.recv(1000, socket.MSG_WAITALL)
            assert [each for each in counters.read() if each.cgroup_id == folder.stat().st_ino] == []
        finally:
            counters.kernel.close()


@pytest.mark.kernel
def test_a_kernel_that_names_no_socket():
    """Before 6.11 the tracepoint has one argument less; what came in is then nobody's."""
    with own_cgroup(), load("drops", constants=b"\0") as drops:
        drops.attach_tracepoint("count_drop")
        assert overflow(100) > 50
        assert {int.from_bytes(key[:8], "little") for key, _ in drops.map("drops").items()} == {0}


def test_numbers_have_the_running_kernel_s_names():
    names = enum_names("skb_drop_reason")
    assert names[1] == "SKB_CONSUMED"
    assert "SKB_DROP_REASON_SOCKET_RCVBUFF" in names.values()
    assert enum_names("no_such_enum") == {}


def test_rows_are_the_workloads():
    deltas = [DropDelta(1, "NO_SOCKET", 2), DropDelta(2, "NO_SOCKET", 3), DropDelta(0, "NO_SOCKET", 9)]
    assert list(drop_rows(deltas, {1: WEB, 2: WEB}.get)) == [DropRow(WEB, "NO_SOCKET", 5)]
