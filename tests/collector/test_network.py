"""TCP events per cgroup, against the kernel's own counters of a network namespace that nobody else is in."""

import json
import subprocess
import sys
import time

import pytest

from collector.network import NetworkCounters, NetworkDelta
from collector.usage_rows import with_events
from profiles.schema import Identity, UsageRow
from tests.collector.counting import own_cgroup, settle

pytestmark = pytest.mark.kernel

SCRIPT = """
import json, socket, struct, subprocess, time
from pathlib import Path

def link(state):
    subprocess.run(["ip", "link", "set", "lo", state], check=True)

link("up")
listener = socket.create_server(("127.0.0.1", 0))
address = listener.getsockname()

def pair():
    client = socket.create_connection(address)
    return client, listener.accept()[0]

def quiet(number):
    for _ in range(number):
        for end in pair():
            end.close()

def refused(number):
    with socket.create_server(("127.0.0.1", 0)) as other:
        closed = other.getsockname()
    for _ in range(number):
        try:
            socket.create_connection(closed)
        except ConnectionRefusedError:
            pass

def reset(number):
    for _ in range(number):
        client, server = pair()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        server.close()

def sent_again():
    client, server = pair()
    link("down")
    client.sendall(b"x" * 100)
    time.sleep(0.6)
    link("up")
    server.settimeout(20)
    assert server.recv(100)
    client.close()
    server.close()

{actions}
time.sleep(0.2)
lines = [line.split() for line in Path("/proc/self/net/snmp").read_text().splitlines() if line.startswith("Tcp:")]
print(json.dumps(dict(zip(lines[0][1:], map(int, lines[1][1:])))))
"""


def happened(actions):
    """(what was counted of this test's cgroup, what the kernel counted of the namespace)."""
    counters = NetworkCounters.attach()
    try:
        with own_cgroup() as folder:
            identifier = folder.stat().st_ino
            done = subprocess.run(
                ["unshare", "--net", sys.executable, "-c", SCRIPT.replace("{actions}", actions)],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            time.sleep(0.1)
            return counters.read().get(identifier, NetworkDelta()), json.loads(done.stdout)
    finally:
        counters.kernel.close()


def test_connections_and_resets_are_those_of_the_kernel():
    delta, kernel = happened("quiet(20); refused(7); reset(5)")
    assert (delta.connections_accepted, delta.connections_refused) == (25, 7)
    assert delta.connections_accepted == kernel["PassiveOpens"]
    assert delta.connections_opened + delta.connections_refused == kernel["ActiveOpens"]
    assert delta.connections_refused + delta.connections_failed == kernel["AttemptFails"]
    assert delta.tcp_resets_sent == kernel["OutRsts"] - 7  # those of no socket are nobody's
    assert delta.tcp_resets_received == 7 + 5
    assert delta.connections_ended == 2 * 25
    assert 0 < delta.round_trips_seconds / delta.connections_ended < 0.1


def test_segments_sent_again_are_those_of_the_kernel():
    delta, kernel = happened("sent_again()")
    assert kernel["RetransSegs"] >= 1
    assert delta.tcp_retransmits == kernel["RetransSegs"]


def test_quiet_connections_have_nothing_to_say():
    delta, kernel = happened("quiet(3)")
    assert delta.connections_accepted == 3
    assert (delta.tcp_retransmits, delta.tcp_resets_sent, delta.connections_refused) == (0, 0, 0)
    assert kernel["RetransSegs"] == 0


def test_a_window_is_what_came_since_the_last_commit():
    counters = NetworkCounters.attach()
    try:
        with own_cgroup() as folder:
            script = SCRIPT.replace("{actions}", "quiet(2)")
            for _ in range(2):
                subprocess.run(["unshare", "--net", sys.executable, "-c", script], capture_output=True, check=True)
                settle(lambda: counters.read()[folder.stat().st_ino].connections_accepted, 2)
                counters.commit()
            assert folder.stat().st_ino not in counters.read()
            counters.forget(lambda _: False)
            assert counters.losses() == {}
    finally:
        counters.kernel.close()


def test_events_of_groups_below_add_up_and_not_known_is_no_zero():
    row = UsageRow(Identity("local", "host", "Cgroup", "web", "web", "/web"), 1.0)
    assert with_events(row, None).tcp_retransmits is None
    twice = with_events(with_events(row, NetworkDelta(tcp_retransmits=2, round_trips_seconds=0.5)), NetworkDelta(3))
    assert (twice.tcp_retransmits, twice.connections_refused, twice.round_trips_seconds) == (5, 0, 0.5)
