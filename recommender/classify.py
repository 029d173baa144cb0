"""What kind of workload is this? One class, the evidence for it, and how sure we are.

The classes and their thresholds are those of docs/decisions/0003; the first rule that holds
names the class, so the ones that forbid a cut come first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from recommender.demand import DemandFit, NotIdentifiable
from recommender.history import History
from recommender.memory import MemoryFit

_IDLE_CORES = 0.010
_BURST_INDEX = 4.0
_CPU_BOUND_SHARE, _IO_BOUND_SHARE = 0.5, 0.2
_THROTTLED_SHARE = 0.01
_SIXTEENTHS = 16


class WorkloadClass(StrEnum):
    """Classes of workloads; the value is what people read."""

    SATURATED = "saturated"
    LEAKING = "leaking"
    IDLE = "idle"
    CPU_BOUND = "latency-sensitive, CPU-bound"
    IO_BOUND = "latency-sensitive, IO-bound"
    MIXED = "latency-sensitive"
    BURSTY = "bursty"
    WORKER = "background worker"


@dataclass(frozen=True, slots=True)
class Classification:
    """A class with its evidence.

    :ivar evidence: one sentence with the figures
    """

    name: WorkloadClass
    evidence: str


def classify(history: History, demand: DemandFit | NotIdentifiable, memory: MemoryFit | None) -> Classification:
    """The class of one container."""
    throttled = throttled_share(history)
    if throttled is not None and throttled > _THROTTLED_SHARE:
        return Classification(WorkloadClass.SATURATED, f"its CPU limit throttled it in {throttled:.1%} of its periods")
    if memory is not None and memory.leak_bytes_per_hour is not None:
        return Classification(
            WorkloadClass.LEAKING,
            f"anonymous memory grows steadily, {memory.leak_bytes_per_hour / 2**20:.0f} MiB an hour",
        )
    cores = history.frame["cpu_cores"].dropna()
    peak = float(cores.quantile(0.99)) if len(cores) else 0.0
    if not history.requests:
        if peak < _IDLE_CORES:
            return Classification(
                WorkloadClass.IDLE, f"no HTTP/1 request seen, and P99 of its CPU is {peak * 1000:.1f}m"
            )
        return Classification(WorkloadClass.WORKER, f"no HTTP/1 request seen, and P99 of its CPU is {peak * 1000:.0f}m")
    return _by_latency(history, demand, float(cores.mean()) if len(cores) else 0.0)


def _by_latency(history: History, demand: DemandFit | NotIdentifiable, mean_cores: float) -> Classification:
    index = burst_index(history.burst_bins, history.seconds * history.instances, mean_cores)
    seconds = math.fsum(route.latency_seconds_sum for route in history.routes if route.role == "server")
    mean_latency = seconds / history.requests
    if isinstance(demand, DemandFit):
        cost = demand.seconds_per_request
    else:
        cost = float((history.frame["cpu_cores"] * history.frame["duration_seconds"]).sum()) / history.requests
    share = cost / mean_latency if mean_latency else 0.0
    evidence = f"a request costs {cost * 1e3:.2g} ms of CPU and takes {mean_latency * 1e3:.2g} ms"
    if share > _CPU_BOUND_SHARE:
        return Classification(WorkloadClass.CPU_BOUND, evidence)
    if index is not None and index > _BURST_INDEX:
        return Classification(WorkloadClass.BURSTY, f"P99 of its 10 ms bins is {index:.0f} times its mean CPU")
    return Classification(WorkloadClass.IO_BOUND if share < _IO_BOUND_SHARE else WorkloadClass.MIXED, evidence)


def burst_index(burst_bins: Mapping[int, int], seconds: float, mean_cores: float) -> float | None:
    """P99 of CPU over 10 ms bins (those without work included) over the mean CPU."""
    bins = seconds / 0.010
    if not burst_bins or mean_cores <= 0 or bins <= 0:
        return None
    above = 0.01 * bins  # bins that may be higher than P99
    for index in sorted(burst_bins, reverse=True):
        above -= burst_bins[index]
        if above < 0:
            return (index + 0.5) / _SIXTEENTHS / mean_cores
    return 0.0


def throttled_share(history: History) -> float | None:
    """Share of periods in which the limit in force stopped it; None without a limit."""
    periods = history.frame["periods"].sum()
    return float(history.frame["throttled_periods"].sum() / periods) if periods else None
