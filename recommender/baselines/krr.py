"""KRR (Kubernetes Resource Recommender): plain percentiles of two weeks.

    simple         CPU request: the largest of the pods' 95th percentiles; no limit
    simple_limit   CPU request and limit: the 66th and 96th percentile of all points of all pods
    both           memory request and limit: the largest value x 1.15

Percentiles interpolate linearly, as Prometheus' ``quantile_over_time`` and numpy do. The peer
refuses with fewer than 100 points, reads a point every 75 s, and rounds up to 1m and 1 MiB;
here one point is enough, points are as given, and nothing is rounded.

Source: robusta_krr/strategies and robusta_krr/core (robusta-dev/krr): its behaviour and constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from recommender.baselines.peer import Peer, peak, pooled
from recommender.series import Series

DAYS = 14.0
MEMORY_MARGIN = 1.15
OOM_FACTOR = 1.25
FLOOR_CORES, FLOOR_BYTES = 0.010, 100 * 2.0**20


def largest_percentile(percent: float, pods: Sequence[Series]) -> float:
    """The largest of the pods' percentiles; `percent` from 0 to 100."""
    return max(float(np.percentile(pod.values, percent)) for pod in pods)


def pooled_percentile(percent: float, pods: Sequence[Series]) -> float:
    """The percentile of all points of all pods; `percent` from 0 to 100."""
    return float(np.percentile(pooled(pods), percent))


CPU_SIMPLE = Peer(DAYS, 1.0, partial(largest_percentile, 95.0), floor=FLOOR_CORES)
CPU_SIMPLE_LIMIT = Peer(DAYS, 1.0, partial(pooled_percentile, 66.0), floor=FLOOR_CORES)
CPU_SIMPLE_LIMIT_LIMIT = Peer(DAYS, 1.0, partial(pooled_percentile, 96.0), floor=FLOOR_CORES)
MEMORY = Peer(DAYS, MEMORY_MARGIN, peak, floor=FLOOR_BYTES)


def after_oom(recommended_bytes: float, killed_limit_bytes: float) -> float:
    """With its OOM option: never below the limit at which a container was killed, plus a quarter."""
    return max(recommended_bytes, killed_limit_bytes * OOM_FACTOR)
