"""Latency over time: exact quantiles of all requests of equal steps, from merged histograms.

A quantile of a step is not the mean of its minutes' quantiles, so the counts are added first. Steps are as long as
it takes for most requests to be among a hundred: a P99 of ten requests is their slowest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from profiles.histogram import LATENCY

QUANTILES = (0.5, 0.95, 0.99)
#: Lengths that divide an hour, a day or a week.
STEPS_SECONDS = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 14_400, 21_600, 43_200, 86_400, 604_800,
)  # fmt: skip
MOST_STEPS = 114  # two weeks by three hours, and what is cut off at both ends
_LEAST_STEPS, _ENOUGH = 12, 100
_ABOUT = 0.99  # a window of 10 s takes a moment longer
_MIDDLES_SECONDS = np.array([LATENCY.middle_seconds(bucket) for bucket in range(LATENCY.buckets)])


@dataclass(frozen=True, slots=True)
class LatencySteps:
    """n steps, in order of time; those without a request are not there.

    :ivar unix_seconds: (n,) their starts
    :ivar quantiles_seconds: (n, 3) at :data:`QUANTILES`; NaN where fewer than one request is above it
    """

    step_seconds: int
    unix_seconds: np.ndarray
    quantiles_seconds: np.ndarray


def step_over(span_seconds: float, least: float) -> int:
    """The shortest round step of which at most 114 cover the span, and that is not shorter than `least` seconds."""
    wanted = max(span_seconds / (MOST_STEPS - 1), least * _ABOUT)
    return next((each for each in STEPS_SECONDS if each >= wanted), STEPS_SECONDS[-1])


def latency_steps(unix_seconds: np.ndarray, buckets: np.ndarray, counts: np.ndarray) -> LatencySteps | None:
    """Quantiles per step; None without a request.

    :param unix_seconds, buckets, counts: (e,) of each entry of the histograms: when its window began, bucket, requests
    """
    if not len(unix_seconds):
        return None
    starts = np.unique(unix_seconds)
    between = float(np.median(np.diff(starts))) if len(starts) > 1 else 1.0
    span = float(starts[-1] - starts[0]) + between
    step = _step(unix_seconds, counts, span, between)
    times, place = np.unique(unix_seconds // step, return_inverse=True)
    cells = np.bincount(place * LATENCY.buckets + buckets, counts, len(times) * LATENCY.buckets)
    reached = np.cumsum(cells.reshape(len(times), LATENCY.buckets), axis=1)
    total = reached[:, -1]
    ranks = np.clip(np.ceil(np.outer(total, QUANTILES) - 1e-9), 1, None)
    places = (reached[:, None, :] < ranks[:, :, None]).sum(axis=2)
    known = total > 0
    if not known.any():
        return None
    found = _MIDDLES_SECONDS[places]
    found[np.outer(total, np.subtract(1, QUANTILES)) < 1 - 1e-9] = np.nan
    return LatencySteps(step, times[known] * step, found[known])


def _step(unix_seconds: np.ndarray, counts: np.ndarray, span: float, between: float) -> int:
    step = step_over(span, between)
    for longer in STEPS_SECONDS:
        if longer <= step or span / longer < _LEAST_STEPS:
            continue
        _, place = np.unique(unix_seconds // step, return_inverse=True)
        together = np.bincount(place, counts)
        if together[together >= _ENOUGH].sum() >= together.sum() / 2:
            break
        step = longer
    return step
