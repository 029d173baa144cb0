"""Kruize: percentiles of 15-minute maxima over a week (its medium term; others are 1 and 15 days).

    CPU      cost: 60th percentile; performance: 98th; of usage and throttled time together
    memory   min(max x 1.2, max + 1.05 x the largest rise within an interval)

The interval's maximum is that of all pods. Where throttled seconds per second were seen, the
caller adds them to the usage. With floors on, the two rules that know the core apply: where no
interval reaches one core the maximum is taken, and at 1m or less there is no answer.

Source: analyzer/recommendations/model (kruize/autotune): its behaviour and constants.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from recommender.baselines.peer import Peer, intervals
from recommender.series import Series

DAYS = 7.0
INTERVAL_SECONDS = 15 * 60.0
COST_PERCENT, PERFORMANCE_PERCENT = 60.0, 98.0
_USAGE_FACTOR, _SPIKE_FACTOR = 1.2, 1.05
_ONE_CORE, _ONE_MILLICORE = 1.0, 0.001


def nearest_rank(percent: float, values: np.ndarray) -> float:
    """The value whose rank is nearest to `percent` (0 to 100) of the way; ties upwards. Shape (n,), n > 0."""
    return float(np.sort(values)[math.floor(percent / 100 * (len(values) - 1) + 0.5)])


def cpu(percent: float, pods: Sequence[Series]) -> float:
    """The percentile of the intervals' maxima, in any unit."""
    return nearest_rank(percent, intervals(pods, INTERVAL_SECONDS)[2])


def cpu_in_cores(percent: float, pods: Sequence[Series]) -> float | None:
    """The same with the rules that know the core; None when idle."""
    largest = intervals(pods, INTERVAL_SECONDS)[2]
    top = float(largest.max())
    cores = top if top < _ONE_CORE else nearest_rank(percent, largest)
    return cores if cores > _ONE_MILLICORE else None


def memory(pods: Sequence[Series]) -> float:
    """The largest value and room for a fifth more, or for the largest rise seen in an interval, if that is less."""
    _, least, largest = intervals(pods, INTERVAL_SECONDS)
    top, spike = float(largest.max()), float((largest - least).max())
    return min(top * _USAGE_FACTOR, top + spike * _SPIKE_FACTOR)


def cpu_rule(percent: float) -> Peer:
    """The rule for a percentile."""
    return Peer(DAYS, 1.0, partial(cpu, percent), deployed=partial(cpu_in_cores, percent))


CPU_COST, CPU_PERFORMANCE = cpu_rule(COST_PERCENT), cpu_rule(PERFORMANCE_PERCENT)
MEMORY = Peer(DAYS, 1.0, memory)
