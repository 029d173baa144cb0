"""Recommendations -> pods to be put on nodes: containers of a workload together, times its replicas."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from recommender.demand import DemandFit
from recommender.quality import Workload, workload_of
from recommender.recommendation import Recommendation
from recommender.resources import Resources

_DAEMON = "DaemonSet"


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods of one workload.

    :ivar replicas: the most that there were at once
    :ivar cores_now, bytes_now: what one requests as it is declared
    :ivar cores, bytes: what one requests with the recommended sizes
    :ivar autoscaled: more demand means more of them; else each requests more CPU
    :ivar follows_share: share of its CPU that follows its requests: 1 is all of it
    :ivar without_request: containers that request nothing, now and with the recommended sizes, of CPU or of memory
    """

    workload: Workload
    replicas: int
    cores_now: float
    bytes_now: float
    cores: float
    bytes: float
    autoscaled: bool
    follows_share: float
    without_request: int

    @property
    def is_daemon(self) -> bool:
        """Whether there is one on every node."""
        return self.workload[1] == _DAEMON

    @property
    def name(self) -> str:
        """``namespace/workload``."""
        return f"{self.workload[2]}/{self.workload[3]}"


def pods_of(rows: Sequence[Recommendation]) -> list[Pods]:
    """In order of their workloads' names."""
    together: dict[Workload, list[Recommendation]] = defaultdict(list)
    for row in rows:
        together[workload_of(row.container)].append(row)
    return [_pods(workload, own) for workload, own in sorted(together.items())]


def _pods(workload: Workload, rows: Sequence[Recommendation]) -> Pods:
    cores_now, bytes_now = _of_pod(rows, [row.current for row in rows])
    wanted = [_then(row) for row in rows]
    cores, size = _of_pod(rows, wanted)
    first = rows[0].declared
    return Pods(
        workload,
        max(map(_replicas, rows)),
        cores_now,
        bytes_now,
        cores,
        size,
        first is not None and first.autoscaler is not None,
        _follows(rows),
        sum(each.cpu_request_cores is None or each.memory_request_bytes is None for each in wanted),
    )


def _then(row: Recommendation) -> Resources:
    """What will be requested: the target, and where there is none what there is."""
    now, target = row.current, row.target
    cores, size = (
        then if then is not None else (None if name in row.unset else before)
        for name, then, before in (
            ("cpu_request_cores", target.cpu_request_cores, now.cpu_request_cores),
            ("memory_request_bytes", target.memory_request_bytes, now.memory_request_bytes),
        )
    )
    return Resources(cpu_request_cores=cores, memory_request_bytes=size)


def _of_pod(rows: Sequence[Recommendation], each: Sequence[Resources]) -> tuple[float, float]:
    """As the scheduler counts it: all that run together, or the largest that runs before them."""
    found = []
    for name in ("cpu_request_cores", "memory_request_bytes"):
        values = [(row, getattr(of, name) or 0.0) for row, of in zip(rows, each, strict=True)]
        first = [value for row, value in values if _role(row) == "init"]
        found.append(max(sum(value for row, value in values if _role(row) != "init"), max(first, default=0.0)))
    return found[0], found[1]


def _role(row: Recommendation) -> str:
    return row.declared.role if row.declared is not None else "main"


def _replicas(row: Recommendation) -> int:
    timeline = row.history.timeline
    seen = [each for each in (timeline.columns.get("instances", ()) if timeline else ()) if each is not None]
    declared = row.declared.replicas if row.declared is not None else None
    return math.ceil(max(seen) - 0.05) if seen else declared or 0


def _follows(rows: Sequence[Recommendation]) -> float:
    """By the fitted demand, weighed with CPU; what answers requests and has no fit follows wholly, else not at all."""
    weights = [row.history.timeline.mean("cpu_cores") if row.history.timeline else 0.0 for row in rows]
    shares = [_follows_alone(row, weight) for row, weight in zip(rows, weights, strict=True)]
    total = sum(weights)
    return sum(weight * share for weight, share in zip(weights, shares, strict=True)) / total if total else max(shares)


def _follows_alone(row: Recommendation, mean_cores: float) -> float:
    if isinstance(row.demand, DemandFit) and mean_cores:
        return min(1.0, max(0.0, 1 - row.demand.base_cores / mean_cores))
    return 1.0 if row.history.requests else 0.0
