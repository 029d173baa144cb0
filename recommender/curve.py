"""The headroom curve: the latency that each CPU limit would add.

Per candidate limit q the bank holds the histogram of the delay D_q that q would have added to
each request, once for busy moments and once for the rest. What is answered in busy moments has mostly
waited already: the slowest requests, as many as the bank weighed there, get delays of busy moments, the
others those of the rest. Within each of the two the delay is an independent draw (a convolution), so

    P(latency under q <= x) = b P(L_slow + D_busy <= x) + (1 - b) P(L_quick + D_rest <= x)
    overhead(q) = its quantile / quantile(L) - 1

The upper bound (90 %) puts three errors together:

    demand    CPU per request drifts by sigma. Demand that grows by a factor k meets limit q about
              as today's meets q / k, so the curve is read at q / (1 + 1.3 sigma)
    sampling  the recording is one of many that could have been made: jackknife over its blocks
    model     what the closed loop still finds between prediction and real quota

Near saturation nothing is sharp: a point is only given as one where q is at least 1.6 times
the mean CPU and a percent of CPU moves latency by at most three.

References: B. Efron, The Jackknife (1982); docs/decisions/0005 for the measured errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from profiles.histogram import DELAY, LATENCY
from recommender.evidence import Banks, Evidence

#: Below this many times the mean CPU, added latency cannot be told from a point value.
SATURATION_RATIO = 1.6
MOST_ELASTICITY = 3.0
_UPPER_SIGMAS = 1.3
_UPPER_SHARE = 0.9
_ANYTHING = 20.0  # logarithm of a factor that bounds nothing
_HOPELESS = 0.9  # times the mean CPU: below it the backlog only grows
_DELAY_PARTS = 2  # delay buckets are 25 % wide
_BISECTIONS = 14  # of the logarithm
_AROUND = 0.06  # about a latency bucket to each side
_LATENCY_EDGES = np.array([LATENCY.lower_seconds(bucket) for bucket in range(LATENCY.buckets + 1)])
_DELAY_EDGES = np.array([DELAY.lower_seconds(bucket) for bucket in range(DELAY.buckets + 1)])


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What one limit would have added.

    :ivar adds: overhead (0.05 is 5 %) by quantile
    :ivar upper_adds: its upper bound (90 %)
    :ivar throttled_share: share of periods of 100 ms that it would have throttled, as nr_throttled over nr_periods
    :ivar sharp: far enough from saturation for `adds` to be a point value
    :ivar deviation: standard deviation of the logarithm of the factor by quantile, but for the drift
    """

    limit_cores: float
    adds: dict[float, float]
    upper_adds: dict[float, float]
    throttled_share: float
    sharp: bool
    deviation: dict[float, float]


@dataclass(frozen=True, slots=True)
class HeadroomCurve:
    """The curve over all candidates, ascending.

    :ivar latency_seconds: measured latency by quantile: what the overhead is relative to
    :ivar mean_cores: CPU used while it was measured
    :ivar drift: sigma of CPU per request
    :ivar by_request: delays are weighted by requests, not by work
    """

    points: tuple[CurvePoint, ...]
    latency_seconds: dict[float, float]
    mean_cores: float
    drift: float
    by_request: bool

    def smallest_within(self, quantile: float, budget: float, *, upper: bool) -> float | None:
        """The smallest limit in cores that adds at most `budget`, as every larger one does.

        Between candidates by interpolation, which the curve, being convex, stays below. Limits
        too close to saturation are never chosen. None when no candidate holds.
        """
        chosen, fails = None, None
        for point in reversed(self.points):
            adds = (point.upper_adds if upper else point.adds)[quantile]
            if adds > budget or not point.sharp:
                fails = point
                break
            chosen = point
        if chosen is None or fails is None:
            return chosen.limit_cores if chosen else None
        low, high = ((each.upper_adds if upper else each.adds)[quantile] for each in (fails, chosen))
        least = SATURATION_RATIO * self.mean_cores
        if not fails.sharp and fails.limit_cores >= least:  # too elastic to be read between
            return chosen.limit_cores
        share = max(0.0, low - budget) / (low - high) if low > high else 0.0
        between = fails.limit_cores * (chosen.limit_cores / fails.limit_cores) ** share
        return float(min(chosen.limit_cores, max(least, between)))

    def adds_at(self, limit_cores: float, quantile: float, *, upper: bool = False) -> float:
        """Overhead at any limit, linear between candidates in the logarithm of the limit."""
        limits = np.log([point.limit_cores for point in self.points])
        adds = [(point.upper_adds if upper else point.adds)[quantile] for point in self.points]
        return float(np.interp(np.log(limit_cores), limits, adds))

    def interval(self, limit_cores: float, quantile: float, level: float) -> tuple[float, float]:
        """The overhead's two-sided interval: drift moves where the curve is read, the rest its height."""
        reach = float(ndtri((1 + level) / 2))
        limits = np.log([point.limit_cores for point in self.points])
        spread = reach * np.interp(np.log(limit_cores), limits, [point.deviation[quantile] for point in self.points])
        shift = 1 + reach * self.drift
        middle, loose, tight = (
            np.log1p(self.adds_at(cores, quantile)) for cores in (limit_cores, limit_cores * shift, limit_cores / shift)
        )
        low, high = middle - np.hypot(middle - loose, spread), middle + np.hypot(tight - middle, spread)
        return max(0.0, float(np.expm1(low))), float(np.expm1(high))

    def throttled_at(self, limit_cores: float) -> float:
        """Share of periods throttled at any limit, likewise."""
        limits = np.log([point.limit_cores for point in self.points])
        return float(np.interp(np.log(limit_cores), limits, [point.throttled_share for point in self.points]))


def fit_curve(
    evidence: Evidence, drift: float, quantiles: Iterable[float], model_error: float = 0.0
) -> HeadroomCurve | None:
    """The curve of one container, or None when there is no latency or no work to go by.

    :param drift: see :func:`recommender.demand.cost_drift`
    :param model_error: half-width, in logarithms, that the self-check asks for (recommender.self_check)
    """
    banks = evidence.banks
    if banks is None or not evidence.latency.sum() or not banks.work.sum():
        return None
    wanted = sorted(quantiles)
    base, logs, deviations = _factors(evidence, banks, wanted)
    limits = np.log(banks.limits_cores)
    logs = np.maximum.accumulate(np.maximum(logs, 0.0)[::-1])[::-1]  # more CPU never adds latency
    tighter = limits - np.log(1 + _UPPER_SIGMAS * drift)
    degrees = max(1, len(evidence.latency) - 1)
    spread = np.minimum(stdtrit(degrees, _UPPER_SHARE) * deviations, _ANYTHING)
    model = model_error * np.minimum(1.0, logs / 0.02)  # where nothing is delayed no error of the model can show
    widened = logs + np.hypot(spread, model)
    widened = np.maximum.accumulate(widened[::-1])[::-1]
    upper = np.column_stack([_below(tighter, limits, widened[:, column]) for column in range(len(wanted))])
    elastic = -np.gradient(logs[:, int(np.argmin(np.abs(np.array(wanted) - 0.95)))], limits)
    sharp = (banks.limits_cores >= SATURATION_RATIO * evidence.mean_cores) & (elastic <= MOST_ELASTICITY)
    rows = zip(
        banks.limits_cores.tolist(),
        np.expm1(logs).tolist(),
        np.expm1(upper).tolist(),
        banks.throttled_share.tolist(),
        sharp.tolist(),
        np.minimum(np.hypot(deviations, model), _ANYTHING).tolist(),
        strict=True,
    )

    def by_quantile(values: list[float]) -> dict[float, float]:
        return dict(zip(wanted, values, strict=True))

    points = tuple(
        CurvePoint(cores, by_quantile(adds), by_quantile(at_most), throttled, is_sharp, by_quantile(deviation))
        for cores, adds, at_most, throttled, is_sharp, deviation in rows
    )
    latency = dict(zip(wanted, map(float, base), strict=True))
    return HeadroomCurve(points, latency, evidence.mean_cores, drift, banks.by_request)


def _factors(evidence: Evidence, banks: Banks, wanted: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Base latency (Q,), log factor (L, Q), and the factor's jackknife deviation (L, Q).

    R recordings: the whole one, then each with one block left out. P values of delay.
    """
    levels, counts = np.array(wanted), evidence.latency
    several = len(counts) > 1
    left_out = counts.sum(axis=0) - counts
    several = several and bool((left_out.sum(axis=1) > 0).all())
    cumulative = _cumulative(np.vstack([counts.sum(axis=0)[None], left_out]) if several else counts.sum(axis=0)[None])
    base = np.interp(levels, cumulative[0], _LATENCY_EDGES)
    shape = (len(banks.limits_cores), len(levels))
    logs, deviations = np.zeros(shape), np.zeros(shape)
    delays_at_all = banks.delayed.sum(axis=(0, 2)) > 0
    hopeless = delays_at_all & (banks.limits_cores < _HOPELESS * evidence.mean_cores)
    logs[hopeless] = _ANYTHING
    delayed = np.flatnonzero(delays_at_all & ~hopeless)
    if not len(delayed):
        return base, logs, deviations
    buckets = np.flatnonzero(banks.delayed[:, delayed].sum(axis=(0, 1)))
    delays = _delay_points(buckets)
    weights = _weights(banks, delayed, buckets, several)
    latency = _quantiles(levels, base, cumulative[0], delays, weights)
    logs[delayed] = np.log(latency / base)
    if not several:
        deviations[delayed] = np.inf
        return base, logs, deviations
    moved = _shift(levels, latency, cumulative, delays, weights)
    moved -= _shift(levels, base[None], cumulative, delays, weights.without_delay())
    deviations[delayed] = _jackknife(moved)
    return base, logs, deviations


def _cumulative(counts: np.ndarray) -> np.ndarray:
    """(R, edges) distribution functions at the edges of the latency buckets, strictly rising."""
    shares = np.cumsum(counts, axis=1) / counts.sum(axis=1, keepdims=True)
    edges = np.column_stack([np.zeros(len(shares)), shares])
    tilted: np.ndarray = edges + np.arange(edges.shape[1]) * 1e-12  # so that it can be inverted
    return tilted


def _delay_points(buckets: np.ndarray) -> np.ndarray:
    """(P,) each bucket spread over a few values, and no delay at all; in seconds."""
    within = (np.arange(_DELAY_PARTS) + 0.5) / _DELAY_PARTS
    low, high = _DELAY_EDGES[buckets], _DELAY_EDGES[buckets + 1]
    return np.append((low[:, None] + (high - low)[:, None] * within).ravel(), 0.0)


@dataclass(frozen=True, slots=True)
class _Weights:
    """Shares of all requests by delay. R recordings, L limits, P values of delay.

    :ivar busy: (R,) share of requests in busy moments
    :ivar by_delay: (2, R, L, P) of the rest and of busy moments: each sums up to its share
    """

    busy: np.ndarray
    by_delay: np.ndarray

    def without_delay(self) -> _Weights:
        """The same requests under no limit."""
        none = np.zeros((2, len(self.busy), 1, self.by_delay.shape[3]))
        none[0, :, 0, -1], none[1, :, 0, -1] = 1 - self.busy, self.busy
        return _Weights(self.busy, none)

    def reached(self, latency: np.ndarray, recordings: slice) -> np.ndarray:
        """(R, L, Q) the distribution function of latency plus delay.

        :param latency: (R or 1, L, Q, P) that of latency alone, at each point less each delay
        """
        busy = self.busy[recordings, None, None, None]
        quick = np.minimum(latency / np.maximum(1 - busy, 1e-9), 1.0)
        slow = np.clip((latency - (1 - busy)) / np.maximum(busy, 1e-9), 0.0, 1.0)
        rest, crowded = self.by_delay[:, recordings]
        both: np.ndarray = np.einsum("rlqp,rlp->rlq", quick, rest) + np.einsum("rlqp,rlp->rlq", slow, crowded)
        return both


def _weights(banks: Banks, limits: np.ndarray, buckets: np.ndarray, leave_out: bool) -> _Weights:
    """What is not delayed is at zero, the last value of delay."""
    chosen = np.ix_(np.arange(len(banks.work)), limits, buckets)
    in_busy = np.minimum(banks.delayed_busy[chosen], banks.delayed[chosen])
    parts = np.stack([banks.delayed[chosen] - in_busy, in_busy])
    totals, busy, work = parts.sum(axis=1)[:, None], np.array([banks.busy.sum()]), np.array([banks.work.sum()])
    if leave_out:
        totals = np.concatenate([totals, totals - parts], axis=1)
        busy, work = np.append(busy, busy - banks.busy), np.append(work, work - banks.work)
    share = np.clip(busy / np.maximum(work, 1e-9), 0.0, 1.0)
    shares = totals / np.maximum(work, 1e-9)[:, None, None]
    whole = np.stack([1 - share, share])[:, :, None, None]
    none = np.maximum(0.0, whole - shares.sum(axis=3, keepdims=True))
    weights = np.concatenate([np.repeat(shares / _DELAY_PARTS, _DELAY_PARTS, axis=3), none], axis=3)
    weights *= whole / np.maximum(weights.sum(axis=3, keepdims=True), 1e-12)
    return _Weights(share, weights)


def _quantiles(
    levels: np.ndarray, base: np.ndarray, cumulative: np.ndarray, delays: np.ndarray, weights: _Weights
) -> np.ndarray:
    """(L, Q) quantiles of latency plus delay, by bisection between the latency and it plus the longest delay."""
    low = np.broadcast_to(base, (weights.by_delay.shape[2], len(base))).copy()
    high = low + delays.max()
    for _ in range(_BISECTIONS):
        middle = np.sqrt(low * high)
        at = np.interp(middle[:, :, None] - delays, _LATENCY_EDGES, cumulative)
        reached = weights.reached(at[None], slice(0, 1))[0]
        low, high = np.where(reached < levels, middle, low), np.where(reached < levels, high, middle)
    result: np.ndarray = np.sqrt(low * high)
    return result


def _shift(
    levels: np.ndarray, at: np.ndarray, cumulative: np.ndarray, delays: np.ndarray, weights: _Weights
) -> np.ndarray:
    """(R - 1, L, Q) by how much, in logarithms, each left-out recording moves the quantiles `at` (L, Q).

    To first order: what its distribution function is short of the level, over the density there.
    """
    here = at[:, :, None] - delays
    index = np.clip(np.searchsorted(_LATENCY_EDGES, here, side="right") - 1, 0, len(_LATENCY_EDGES) - 2)
    share = np.clip((here - _LATENCY_EDGES[index]) / np.diff(_LATENCY_EDGES)[index], 0.0, 1.0)
    share[here < 0] = 0.0
    values = cumulative[1:, index] * (1 - share) + cumulative[1:, index + 1] * share
    exact = weights.reached(values, slice(1, None))
    around = [
        weights.reached(
            np.interp(at[:, :, None] * (1 + step) - delays, _LATENCY_EDGES, cumulative[0])[None], slice(0, 1)
        )[0]
        for step in (-_AROUND, _AROUND)
    ]
    density = np.maximum((around[1] - around[0]) / (2 * _AROUND), 1e-4)  # per unit of the logarithm
    moved: np.ndarray = (levels - exact) / density
    return moved


def _jackknife(moved: np.ndarray) -> np.ndarray:
    """Standard deviation from what leaving each block out moves; blocks come first."""
    centred = moved - moved.mean(axis=0)
    deviation: np.ndarray = np.sqrt((len(moved) - 1) / len(moved) * (centred**2).sum(axis=0))
    return deviation


def _below(at: np.ndarray, limits: np.ndarray, adds: np.ndarray) -> np.ndarray:
    """Interpolate; below the smallest candidate continue its slope rather than flatten out."""
    inside = np.interp(at, limits, adds)
    slope = (adds[1] - adds[0]) / (limits[1] - limits[0])
    continued: np.ndarray = np.where(at < limits[0], adds[0] + slope * (at - limits[0]), inside)
    return continued
