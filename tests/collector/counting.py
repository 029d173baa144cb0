"""What the kernel counted, for comparison with what was sent."""

import contextlib
import os
import time
from collections import Counter
from pathlib import Path

from collector.cgroups import find_tree


@contextlib.contextmanager
def own_cgroup():
    """A cgroup that this process is in meanwhile: others' traffic is not seen there."""
    top = find_tree().unified
    home = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    folder = top / f"test-traffic-{os.getpid()}"
    folder.mkdir()
    (folder / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield folder
    finally:
        (top / home[3:].lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
        folder.rmdir()


def counted(counters, role):
    """Requests by method, route and status; status 0 is one without an answer."""
    totals = Counter()
    for delta in counters.read():
        if delta.role == role:
            totals[delta.method, delta.route, delta.status] += delta.latency.total
    return totals


def outcomes(counters, role):
    """Requests by method, route, status and outcome."""
    totals = Counter()
    for each in counters.read():
        if each.role == role:
            totals[each.method, each.route, each.status, each.outcome] += each.latency.total
    return totals


def by_protocol(counters, role):
    """Requests by protocol, method, route, status and outcome."""
    totals = Counter()
    for each in counters.read():
        if each.role == role:
            totals[each.protocol, each.method, each.route, each.status, each.outcome] += each.latency.total
    return totals


def settle(look, expected, seconds=2.0):
    """Wait until `look()` is as expected: a connection's end takes a moment to reach the other side."""
    end = time.monotonic() + seconds
    while look() != expected and time.monotonic() < end:
        time.sleep(0.01)
    found = look()
    assert found == expected, f"{found} instead of {expected}"
