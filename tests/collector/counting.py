"""What the kernel counted, for comparison with what was sent."""

from collections import Counter


def counted(counters, role):
    totals = Counter()
    for delta in counters.read():
        if delta.role == role:
            totals[delta.method, delta.route, delta.status] += delta.latency.total
    return totals
