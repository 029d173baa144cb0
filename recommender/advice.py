"""The better cure, where more CPU is not it.

    burst      the container is stopped for short bursts although its mean is far below its limit:
               quota saved up in quiet periods would carry it through (cpu.max.burst, Linux 5.14)
    threads    several threads burn the quota at once and then all stop: a pool no larger than the
               limit spends the same CPU without the stop
    none       no limit at all, where every limit costs latency and the node has room

References: Documentation/scheduler/sched-bwc.rst of the kernel, "Burst feature".
"""

from __future__ import annotations

import math

from recommender.curve import HeadroomCurve
from recommender.history import History

_SIXTEENTHS = 16
_FAR_ABOVE_MEAN = 4.0
_PARALLEL_SHARE = 0.02  # of bins with work
_PARALLEL_CORES = 1.5


def advice(history: History, curve: HeadroomCurve | None, limit_cores: float | None) -> tuple[str, ...]:
    """Sentences, or none. `limit_cores` is what is in force, or what is advised."""
    if curve is None or limit_cores is None or not curve.mean_cores:
        return ()
    said = []
    cores = parallel_cores(history)
    if cores is not None and limit_cores < cores:
        threads = max(1, math.floor(limit_cores))
        said.append(
            f"its threads run on {cores:.1f} CPUs at once and spend {limit_cores * 100:.0f} ms of quota in "
            f"{limit_cores / cores * 100:.0f} ms, then all wait: a pool of {threads} would not"
        )
    if limit_cores > _FAR_ABOVE_MEAN * curve.mean_cores and curve.throttled_at(limit_cores / 2) > 0.005:
        said.append(
            f"its bursts, not its mean of {curve.mean_cores * 1000:.0f}m, ask for this limit: "
            "cpu.max.burst (Linux 5.14) would let it save quota for them"
        )
    return tuple(said)


def parallel_cores(history: History) -> float | None:
    """CPUs that are busy at once in the busiest bins, if that is more than one and happens often enough."""
    total = sum(history.burst_bins.values())
    high = sum(count for index, count in history.burst_bins.items() if index >= _PARALLEL_CORES * _SIXTEENTHS)
    if not total or high < _PARALLEL_SHARE * total:
        return None
    left = 0.5 * _PARALLEL_SHARE * total
    for index in sorted(history.burst_bins, reverse=True):
        left -= history.burst_bins[index]
        if left <= 0:
            return (index + 1) / _SIXTEENTHS
    return None
