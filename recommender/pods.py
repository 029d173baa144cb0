"""Recommendations -> pods to be put on nodes: containers of a workload together, times its replicas."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from recommender.demand import DemandFit
from recommender.history import AT_TIMES
from recommender.quality import Workload, workload_of
from recommender.recommendation import Recommendation
from recommender.resources import Resources

_DAEMON = "DaemonSet"
_DAY, _RECENT_DAYS = 86_400.0, 7
_HARDLY = 0.05  # of a step: one pod takes over from another


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods of one workload.

    :ivar replicas: the most that there were at once
    :ivar cores_now, bytes_now: what one requests as it is declared
    :ivar cores, bytes: what one requests with the recommended sizes
    :ivar most_replicas: that an autoscaler makes; None without one
    :ivar follows_share: share of its CPU that follows its requests: 1 is all of it
    :ivar without_request: containers that request nothing, now and with the recommended sizes, of CPU or of memory
    """

    workload: Workload
    replicas: int
    cores_now: float
    bytes_now: float
    cores: float
    bytes: float
    most_replicas: int | None
    follows_share: float
    without_request: int

    @property
    def autoscaled(self) -> bool:
        """Whether more demand means more of them."""
        return self.most_replicas is not None

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
    end = max((timeline.end_unix_seconds for row in rows if (timeline := row.history.timeline)), default=0.0)
    return [_pods(workload, own, end) for workload, own in sorted(together.items())]


def _pods(workload: Workload, rows: Sequence[Recommendation], end: float) -> Pods:
    cores_now, bytes_now = _of_pod(rows, [row.current for row in rows])
    wanted = [_then(row) for row in rows]
    cores, size = _of_pod(rows, wanted)
    scalers = [row.declared.autoscaler for row in rows if row.declared is not None and row.declared.autoscaler]
    return Pods(
        workload,
        max(_replicas(row, end) for row in rows),
        cores_now,
        bytes_now,
        cores,
        size,
        scalers[0].most_replicas if scalers else None,
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
    """As the scheduler counts it: all that run together, or what runs before them beside the sidecars started by then.

    Reference: KEP-753, sidecar containers.
    """
    found = []
    for name in ("cpu_request_cores", "memory_request_bytes"):
        values = [(*_role(row), getattr(of, name) or 0.0) for row, of in zip(rows, each, strict=True)]
        sidecars = [(position, value) for role, position, value in values if role == "sidecar"]
        first = [
            value + sum(beside for other, beside in sidecars if other < position)
            for role, position, value in values
            if role == "init"
        ]
        found.append(max(sum(value for role, _, value in values if role != "init"), max(first, default=0.0)))
    return found[0], found[1]


def _role(row: Recommendation) -> tuple[str, int]:
    """With its place in its list."""
    return (row.declared.role, row.declared.position or 0) if row.declared is not None else ("main", 0)


def _replicas(row: Recommendation, end: float) -> int:
    """The most of the last seven days; none of what ended before the last day, unless it is declared."""
    timeline, of = row.history.timeline, row.declared
    declared = (of.replicas or 0) if of is not None else 0
    if timeline is None:
        return declared
    if timeline.end_unix_seconds < end - _DAY and row.container.kind not in AT_TIMES:
        return declared
    counts = timeline.columns.get("instances", ())
    since = (end - _RECENT_DAYS * _DAY - timeline.start_unix_seconds) / timeline.step_seconds
    seen = [each for place, each in enumerate(counts) if each is not None and place >= since]
    return math.ceil(max(seen) - _HARDLY) if seen else declared


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
