"""Crane: the 99th percentile of a week, and 15 %.

Its configuration asks for a decaying histogram (half-life 24 h for CPU, 48 h for memory), and so
its rule is quoted; that is :data:`CPU` and :data:`MEMORY`. Its code builds a histogram that does
not decay, and weighs every sample by its value: that is :data:`CPU_AS_RUN` and
:data:`MEMORY_AS_RUN`. The two differ, so both are compared with.

Its buckets are linear: 0.1 core up to 100, 100 MiB up to 100,000 MiB. On a trace without a unit
they would cut small values to one bucket and large ones to the last, so they are used with
floors on; else the percentile is exact.

Source: pkg/recommendation/recommender/resource and pkg/prediction/percentile (gocrane/crane).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from recommender.baselines.histogram import Histogram, LinearBuckets, decay_weights, reference_time
from recommender.baselines.peer import Peer, weighted_quantile
from recommender.series import Series

DAYS = 7.0
MARGIN = 1.15
SHARE = 0.99
CPU_HALF_LIFE_SECONDS, MEMORY_HALF_LIFE_SECONDS = 24 * 3600.0, 48 * 3600.0
CORES = LinearBuckets(100.0, 0.1, 1e-10)
BYTES = LinearBuckets(100_000 * 2.0**20, 100 * 2.0**20, 1e-10)
_LEAST_WEIGHT = 1e-5


def by_age(half_life_seconds: float, pods: Sequence[Series]) -> list[np.ndarray]:
    """Weights by age, one array per pod: half at each half-life."""
    times = [pod.unix_seconds for pod in pods]
    reference = reference_time(times, half_life_seconds)
    return [decay_weights(each, half_life_seconds, reference) for each in times]


def by_value(pods: Sequence[Series]) -> list[np.ndarray]:
    """Weights by value, one array per pod, at least 0.00001."""
    return [np.maximum(pod.values, _LEAST_WEIGHT) for pod in pods]


def exact(half_life_seconds: float | None, pods: Sequence[Series]) -> float:
    """The 99th percentile by age, or by value without a half-life."""
    weights = by_value(pods) if half_life_seconds is None else by_age(half_life_seconds, pods)
    return weighted_quantile(np.concatenate([pod.values for pod in pods]), np.concatenate(weights), SHARE)


def bucketed(buckets: LinearBuckets, half_life_seconds: float | None, pods: Sequence[Series]) -> float:
    """The same, read off the peer's buckets: the end of one."""
    weights = by_value(pods) if half_life_seconds is None else by_age(half_life_seconds, pods)
    parts = [Histogram.of(buckets, pod.values, each) for pod, each in zip(pods, weights, strict=True)]
    return Histogram.merged(parts).percentile(SHARE)


def rule(buckets: LinearBuckets, half_life_seconds: float | None) -> Peer:
    """Its rule for one resource; without a half-life, as its code runs."""
    return Peer(DAYS, MARGIN, partial(exact, half_life_seconds), deployed=partial(bucketed, buckets, half_life_seconds))


CPU, CPU_AS_RUN = rule(CORES, CPU_HALF_LIFE_SECONDS), rule(CORES, None)
MEMORY, MEMORY_AS_RUN = rule(BYTES, MEMORY_HALF_LIFE_SECONDS), rule(BYTES, None)
