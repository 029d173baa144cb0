"""What the kernel counted, for comparison with what was sent."""

import time
from collections import Counter


def counted(counters, role):
    """Requests by method, route and status; status 0 is one without an answer."""
    totals = Counter()
    for delta in counters.read():
        if delta.role == role:
            totals[delta.method, delta.route, delta.status] += delta.latency.total
    return totals


def settle(look, expected, seconds=2.0):
    """Wait until `look()` is as expected: a connection's end takes a moment to reach the other side."""
    end = time.monotonic() + seconds
    while look() != expected and time.monotonic() < end:
        time.sleep(0.01)
    assert look() == expected
