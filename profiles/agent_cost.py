"""What observing cost: sums per window, as the agent stores them; figures over a recording, as reports show them.

Windows in which programs in the kernel were timed have further sums: ``program_seconds`` and, of those that look at
requests, ``request_program_seconds``; ``requests`` counted at either end, ``served`` of them at a server, and the
latency of these, ``served_seconds``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from profiles.schema import Window

_MEANS = ("cpu_cores", "program_cores", "program_seconds_per_request", "latency_share")
_PEAKS = ("resident_bytes", "map_bytes")


def cost_over(windows: Iterable[Window]) -> dict[str, float]:
    """``cpu_cores``, ``resident_bytes`` and ``map_bytes``, and what the programs took where they were timed.

    ``latency_share`` is that of a request's latency at its server, both ends being watched on average.
    """
    known = [window for window in windows if window.agent]
    if not known:
        return {}
    costs = [window.agent for window in known]
    timed = [window for window in known if "program_seconds" in window.agent]
    found = {"cpu_cores": _ratio(costs, "cpu_seconds", math.fsum(window.duration_seconds for window in known))}
    found |= {name: max(cost[name] for cost in costs) for name in _PEAKS}
    if not timed:
        return found
    seconds, costs = math.fsum(window.duration_seconds for window in timed), [window.agent for window in timed]
    found["program_cores"] = _ratio(costs, "program_seconds", seconds)
    requests, served = (math.fsum(cost[name] for cost in costs) for name in ("requests", "served"))
    latency_seconds = math.fsum(cost["served_seconds"] for cost in costs)
    if requests:
        found["program_seconds_per_request"] = _ratio(costs, "request_program_seconds", requests)
    if requests and served and latency_seconds:
        found["latency_share"] = found["program_seconds_per_request"] / (latency_seconds / served)
    return found


def merged_cost(parts: Iterable[tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    """Of several recordings, each with its seconds: means by time, and the highest memory."""
    known = [(seconds, cost) for seconds, cost in parts if cost]
    found = {}
    for name in (*_MEANS, *_PEAKS):
        values = [(seconds, cost[name]) for seconds, cost in known if name in cost]
        if values and name in _PEAKS:
            found[name] = max(value for _, value in values)
        elif values:
            found[name] = math.fsum(s * value for s, value in values) / math.fsum(s for s, _ in values)
    return found


def _ratio(costs: Iterable[Mapping[str, float]], name: str, over: float) -> float:
    return math.fsum(cost[name] for cost in costs) / over
