"""The Vertical Pod Autoscaler: percentiles of a decaying histogram, a margin, and bounds by confidence.

    CPU:     every sample weighs 0.1      -+
    memory:  one peak per pod and day      +-> histogram -> percentile -> x confidence -> x margin -> floor
             weighs 1, dated at its end   -+

One estimator serves both resources. The bounds are wide while there is little history: the
upper is multiplied by 1 + 1/confidence, the lower by (1 + 0.001/confidence)^-2; the confidence is
the days covered, or the days' worth of one-minute samples, whichever is less. The peer counts CPU
samples for both resources; here each counts its own. It also cuts amounts to whole millicores and
bytes, which traces without a unit do not allow.

Source: vertical-pod-autoscaler/pkg/recommender/{logic,model} (kubernetes/autoscaler): its behaviour and constants.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from recommender.baselines.histogram import ExponentialBuckets, decaying
from recommender.baselines.peer import Peer
from recommender.series import DAY_SECONDS, Series

Bound = Literal["target", "lower", "upper"]

DAYS = 8.0
MARGIN = 1.15
HALF_LIFE_SECONDS = DAY_SECONDS
OOM_FACTOR, OOM_STEP_BYTES = 1.2, 100 * 2.0**20
_EPSILON = 1e-4  # a thousandth of the least sample weight

#: Percentile, and the multiplier and exponent of the confidence.
_BOUNDS: dict[Bound, tuple[float, float, float]] = {
    "target": (0.9, 0.0, 1.0),
    "lower": (0.5, 0.001, -2.0),
    "upper": (0.95, 1.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class Resource:
    """What differs between CPU and memory.

    :ivar floor: least amount of a pod; the peer divides it by the number of containers
    :ivar most: what is returned where the confidence is zero and the bound would be infinite
    """

    buckets: ExponentialBuckets
    sample_weight: float
    daily_peaks: bool
    floor: float
    most: float


CORES = Resource(ExponentialBuckets(1000.0, 0.01, 1.05, _EPSILON), 0.1, daily_peaks=False, floor=0.025, most=1e11)
BYTES = Resource(ExponentialBuckets(1e12, 1e7, 1.05, _EPSILON), 1.0, daily_peaks=True, floor=250 * 2.0**20, most=1e14)


def confidence(samples: int, lifespan_seconds: float, interval_seconds: float = DAY_SECONDS) -> float:
    """Days of history: by the clock, or by samples at one a minute, whichever is less.

    :param lifespan_seconds: from the first sample of any pod to the last of any
    :param interval_seconds: what counts as one unit of confidence, a day by default
    """
    return min(lifespan_seconds / interval_seconds, samples / (interval_seconds / 60))


def with_confidence(amount: float, trust: float, multiplier: float, exponent: float) -> float:
    """``amount * (1 + multiplier / trust) ^ exponent``; at no trust infinite, or 0 for a negative exponent."""
    if multiplier == 0:
        return amount
    if trust <= 0:
        return math.inf if exponent > 0 else 0.0
    return float(amount * (1 + multiplier / trust) ** exponent)


def daily_peaks(pod: Series) -> tuple[np.ndarray, np.ndarray]:
    """End and largest value of every 24 h that has samples, counted from the pod's first sample; no NaN in it."""
    day = np.floor_divide(pod.unix_seconds - pod.unix_seconds[0], DAY_SECONDS)
    first = np.flatnonzero(np.diff(day, prepend=-1.0) > 0)
    return pod.unix_seconds[0] + (day[first] + 1) * DAY_SECONDS, np.maximum.reduceat(pod.values, first)


def estimate(resource: Resource, bound: Bound, pods: Sequence[Series]) -> float:
    """A bound of one pod's request without margin and floor; cores or bytes.

    :param pods: at least one, each with at least one value and none missing
    """
    share, multiplier, exponent = _BOUNDS[bound]
    samples = [daily_peaks(pod) if resource.daily_peaks else (pod.unix_seconds, pod.values) for pod in pods]
    histogram = decaying(resource.buckets, samples, HALF_LIFE_SECONDS, resource.sample_weight)
    first, last = min(pod.unix_seconds[0] for pod in pods), max(pod.unix_seconds[-1] for pod in pods)
    trust = confidence(sum(len(pod) for pod in pods), float(last - first))
    return min(with_confidence(histogram.percentile(share), trust, multiplier, exponent), resource.most)


def rule(resource: Resource, bound: Bound) -> Peer:
    """The rule that sets a pod's request to one of the bounds."""
    return Peer(DAYS, MARGIN, partial(estimate, resource, bound), floor=resource.floor)


CPU_TARGET, CPU_LOWER, CPU_UPPER = rule(CORES, "target"), rule(CORES, "lower"), rule(CORES, "upper")
MEMORY_TARGET, MEMORY_LOWER, MEMORY_UPPER = rule(BYTES, "target"), rule(BYTES, "lower"), rule(BYTES, "upper")


def after_oom(request_bytes: float, peak_bytes: float = 0.0) -> float:
    """The sample that an out-of-memory kill adds: the larger of request and peak, plus 20 % or 100 MiB."""
    used = max(request_bytes, peak_bytes)
    return max(used * OOM_FACTOR, used + OOM_STEP_BYTES)


def limit_for(request: float | None, limit: float | None, recommended: float | None) -> float | None:
    """The limit that keeps its ratio to the request; None where none is to be set.

    No limit stays no limit. A limit without a request counts as equal to it, as in Kubernetes.
    Zero counts as not set. Any unit, the same for all three.
    """
    if not limit or not recommended:
        return None
    return recommended * limit / request if request else recommended
