"""The headroom curve: the latency that each CPU limit would add.

Per candidate limit q the bank holds the histogram of the delay D_q that q would have added
to each unit of work. The latency under q is the measured latency plus an independent draw of
that delay (their convolution), so

    overhead(q) = quantile(L (+) D_q) / quantile(L) - 1

Demand that grows by a factor k meets limit q about as today's demand meets q / k. The upper
bound reads the curve there, with k = 1 + 1.3 sigma, sigma being the drift of CPU per request
(the 90 % point of a normal distribution is 1.28 sigma).

Near saturation nothing is sharp: below 1.6 times the mean CPU there is no point value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from profiles.histogram import Histogram
from profiles.limit_bank import LimitBank

#: Below this many times the mean CPU, added latency cannot be told from a point value.
SATURATION_RATIO = 1.6
_UPPER_SIGMAS = 1.3
# latency buckets are 6 % wide, delay buckets 25 %
_LATENCY_PARTS = 8
_DELAY_PARTS = 4


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What one limit would have added.

    :ivar adds: overhead (0.05 is 5 %) by quantile
    :ivar upper_adds: its upper bound (90 %)
    :ivar throttled_share: share of busy periods of 100 ms that it would have throttled
    """

    limit_cores: float
    adds: dict[float, float]
    upper_adds: dict[float, float]
    throttled_share: float


@dataclass(frozen=True, slots=True)
class HeadroomCurve:
    """The curve over all candidates, ascending.

    :ivar latency_seconds: measured latency by quantile: what the overhead is relative to
    :ivar mean_cores: CPU used while it was measured
    """

    points: tuple[CurvePoint, ...]
    latency_seconds: dict[float, float]
    mean_cores: float
    drift: float

    def smallest_within(self, quantile: float, budget: float, *, upper: bool) -> CurvePoint | None:
        """The smallest limit that adds at most `budget`, and so does every larger one.

        Limits too close to saturation are never chosen. None when no candidate holds.
        """
        chosen = None
        for point in reversed(self.points):
            adds = (point.upper_adds if upper else point.adds)[quantile]
            if adds > budget or point.limit_cores < SATURATION_RATIO * self.mean_cores:
                break
            chosen = point
        return chosen

    def adds_at(self, limit_cores: float, quantile: float, *, upper: bool = False) -> float:
        """Overhead at any limit, linear between candidates in the logarithm of the limit."""
        limits = np.log([point.limit_cores for point in self.points])
        adds = [(point.upper_adds if upper else point.adds)[quantile] for point in self.points]
        return float(np.interp(np.log(limit_cores), limits, adds))


def fit_curve(
    latency: Histogram, bank: LimitBank, mean_cores: float, drift: float, quantiles: Iterable[float]
) -> HeadroomCurve | None:
    """The curve of one container, or None when there is no latency or no work to go by.

    :param mean_cores: CPU used over the same windows
    :param drift: see :func:`recommender.demand.cost_drift`
    """
    if not latency.total or not bank.work_us:
        return None
    wanted = sorted(quantiles)
    values, weights = _points(latency, _LATENCY_PARTS)
    base = _quantiles(values, weights, wanted)
    limits = np.array([candidate.limit_cores for candidate in bank.candidates])
    adds = np.empty((len(limits), len(wanted)))
    for row, candidate in enumerate(bank.candidates):
        if not candidate.delayed_us.counts:
            adds[row] = 0.0
            continue
        delay, share = _points(candidate.delayed_us, _DELAY_PARTS, bank.work_us)
        sums = (values[:, None] + delay[None, :]).ravel()
        adds[row] = _quantiles(sums, (weights[:, None] * share[None, :]).ravel(), wanted) / base - 1
    adds = np.maximum.accumulate(np.maximum(adds, 0.0)[::-1])[::-1]  # more CPU never adds latency
    tighter = np.log(limits / (1 + _UPPER_SIGMAS * drift))
    upper = np.column_stack([_below(tighter, np.log(limits), adds[:, column]) for column in range(len(wanted))])
    return HeadroomCurve(
        tuple(
            CurvePoint(
                float(limits[row]),
                dict(zip(wanted, map(float, adds[row]), strict=True)),
                dict(zip(wanted, map(float, upper[row]), strict=True)),
                bank.throttled_share(candidate),
            )
            for row, candidate in enumerate(bank.candidates)
        ),
        dict(zip(wanted, map(float, base), strict=True)),
        mean_cores,
        drift,
    )


def _below(at: np.ndarray, limits: np.ndarray, adds: np.ndarray) -> np.ndarray:
    """Interpolate; below the smallest candidate continue its slope rather than flatten out."""
    inside = np.interp(at, limits, adds)
    slope = (adds[1] - adds[0]) / (limits[1] - limits[0])
    continued: np.ndarray = np.where(at < limits[0], adds[0] + slope * (at - limits[0]), inside)
    return continued


def _points(histogram: Histogram, parts: int, total: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Values in seconds and their shares, each bucket spread over `parts` values.

    A bucket as one value would make quantiles jump by its width, which is more than a budget.
    What `total` has more than the buckets is at zero.
    """
    layout = histogram.layout
    edges = np.array([[layout.lower_seconds(bucket), layout.lower_seconds(bucket + 1)] for bucket in histogram.counts])
    within = (np.arange(parts) + 0.5) / parts
    values = (edges[:, :1] + (edges[:, 1:] - edges[:, :1]) * within).ravel()
    counts = np.repeat(np.array(list(histogram.counts.values()), dtype=float) / parts, parts)
    if total is not None:
        values = np.append(values, 0.0)
        counts = np.append(counts, max(0.0, total - counts.sum()))
    return values, counts / counts.sum()


def _quantiles(values: np.ndarray, weights: np.ndarray, wanted: list[float]) -> np.ndarray:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    # the smallest value at which the share is reached; 1e-9 forgives rounding in the sum
    index = np.searchsorted(reached, np.array(wanted) - 1e-9)
    chosen: np.ndarray = values[order][np.minimum(index, len(values) - 1)]
    return chosen
