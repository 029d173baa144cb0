"""Autopilot's moving-window recommender: percentiles weighted by age and by load.

    weight of a sample = 2^(-age / half-life) x its value

so that "95 % of the load, not of the time, was served below". CPU: 95th percentile, half-life
12 h. Memory: 98th percentile of 5-minute peaks, half-life 48 h, or the peak for jobs that must
not be killed. The margin is 10 to 15 %; 15 % here. Two weeks are looked at (a CPU sample that old
weighs 2^-28); the paper leaves the window of its peak open. Not built: its last step, the largest
answer of the past hour, which changes nothing where answers are asked for once a day.

Source: K. Rzadca et al., Autopilot: workload autoscaling at Google, EuroSys 2020, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recommender.baselines.histogram import decay_weights, reference_time
from recommender.baselines.peer import Peer, intervals, peak, weighted_quantile
from recommender.series import Series

DAYS = 14.0
MARGIN = 1.15
CPU_HALF_LIFE_SECONDS, MEMORY_HALF_LIFE_SECONDS = 12 * 3600.0, 48 * 3600.0
CPU_SHARE, MEMORY_SHARE = 0.95, 0.98
_PEAK_SECONDS = 300.0


def of_load(share: float, half_life_seconds: float, samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """The value up to which `share` (0 to 1) of the decayed load was; (unix seconds, values) of each pod."""
    reference = reference_time([times for times, _ in samples], half_life_seconds)
    weights = [values * decay_weights(times, half_life_seconds, reference) for times, values in samples]
    return weighted_quantile(np.concatenate([values for _, values in samples]), np.concatenate(weights), share)


def cpu(pods: Sequence[Series]) -> float:
    """95 % of the load, by sample."""
    return of_load(CPU_SHARE, CPU_HALF_LIFE_SECONDS, [(pod.unix_seconds, pod.values) for pod in pods])


def memory(pods: Sequence[Series]) -> float:
    """98 % of the load, by 5-minute peak of each pod."""
    parts = [intervals([pod], _PEAK_SECONDS) for pod in pods]
    return of_load(MEMORY_SHARE, MEMORY_HALF_LIFE_SECONDS, [(start, largest) for start, _, largest in parts])


CPU = Peer(DAYS, MARGIN, cpu)
MEMORY = Peer(DAYS, MARGIN, memory)
MEMORY_PEAK = Peer(DAYS, MARGIN, peak)
