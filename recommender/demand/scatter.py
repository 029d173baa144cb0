"""What windows do around the line: the share it explains, the tail, each replica, the noise."""

from __future__ import annotations

import math

import numpy as np

from recommender.demand.results import PROBABILITIES, Noise, Replica, Tail, noise_shape
from recommender.demand.rows import Rows
from recommender.demand.stretches import Stretch
from recommender.quantiles import MAD, median, quantile, thinned

_TAIL = 0.95
_TAIL_STEPS = 28  # each takes the slope 1.6 times as near
_GOLDEN = (math.sqrt(5) - 1) / 2


def r_squared(rows: Rows, base: float, cost: float) -> float:
    """Share of the variance of usage that the line explains; at least 0."""
    residual, spread = rows.usage - (base + cost * rows.rate), rows.usage - rows.usage.mean()
    total = float(np.square(spread).sum())
    return max(0.0, 1 - float(np.square(residual).sum()) / total) if total > 0 else 0.0


def tail_of(rows: Rows) -> Tail:
    """Least asymmetric deviations: convex in the slope once the base is the quantile of what is left."""
    rate, usage = thinned(rows.rate), thinned(rows.usage)

    def loss(slope: float) -> float:
        left = usage - slope * rate
        left -= max(0.0, quantile(left, _TAIL))
        return float(_TAIL * left.sum() - np.minimum(left, 0.0).sum())

    busy = rate > 0
    low, high = 0.0, float((usage[busy] / rate[busy]).max()) if busy.any() else 0.0
    inner, outer = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_inner, at_outer = loss(inner), loss(outer)
    for _ in range(_TAIL_STEPS):
        if at_inner <= at_outer:
            high, outer, at_outer = outer, inner, at_inner
            inner = high - _GOLDEN * (high - low)
            at_inner = loss(inner)
        else:
            low, inner, at_inner = inner, outer, at_outer
            outer = low + _GOLDEN * (high - low)
            at_outer = loss(outer)
    slope = (low + high) / 2
    return Tail(_TAIL, max(0.0, quantile(rows.usage - slope * rows.rate, _TAIL)), slope)


def replicas_of(rows: Rows, base: float, cost: float) -> tuple[Replica, ...]:
    """Each instance beside what the line expects of its traffic."""
    windows = np.bincount(rows.instance, minlength=len(rows.names))
    used = np.bincount(rows.instance, rows.usage, len(rows.names))
    expected = np.bincount(rows.instance, base + cost * rows.rate, len(rows.names))
    return tuple(
        Replica(name, int(windows[index]), float(used[index] / expected[index]))
        for index, name in enumerate(rows.names)
        if windows[index] and expected[index] > 0
    )


def noise_of(stretch: Stretch, base: float, cost: float) -> Noise:
    """Residuals of every window of the regime, those that the line does not follow included."""
    rows, line = stretch.rows, stretch.line
    assert line is not None  # pooled gave it one
    fitted = base + cost * rows.rate
    reference = float(fitted.mean())
    residual = (rows.usage - fitted) / noise_shape(fitted, reference, stretch.exponent)
    middle = median(thinned(residual))
    deviation = median(thinned(np.abs(residual - middle))) / MAD
    deviation = deviation or float(np.std(residual)) or np.finfo(float).tiny
    # n windows leave n + 1 places for the next one: the quantile of split conformal prediction
    count = len(residual)
    places = [min(1.0, max(0.0, 0.5 + (share - 0.5) * (count + 1) / count)) for share in PROBABILITIES]
    quantiles = np.quantile(thinned(residual), places) / deviation * line.noise_inflation
    (first, both), (_, last) = line.covariance.tolist()
    return Noise(
        deviation, stretch.exponent, reference, tuple(map(float, quantiles)), (first, both, last), line.freedom
    )
