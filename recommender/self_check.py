"""The product's own promise, checked: what was predicted for a limit, and what came of it.

Whenever the CPU limit of a container was changed, the recording before the change predicts what the new
limit does, and the recording under it says what it did. Demand may have changed meanwhile by a factor
g; it meets limit q about as the old demand meets q / g, so the old curve is read there.

The largest error of the checks widens the interval of every later prediction: with n checks the chance
that the next error is larger is 1 / (n + 1) (split conformal).

Reference: V. Vovk et al., Algorithmic Learning in a Random World (2005).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from recommender.curve import fit_curve
from recommender.evidence import Regime

_QUANTILE = 0.95
_LEAST_REQUESTS = 200
_LEAST_SECONDS = 60.0
_LEAST_PERIODS = 100
_LOOSER = 1.05  # a limit is only predicted from a recording under a looser one


@dataclass(frozen=True, slots=True)
class Check:
    """One prediction and what came of it.

    :ivar latency_ratio: measured P95 under the limit over the predicted one
    :ivar throttled_error: measured share of throttled periods less the predicted one
    """

    start_unix_seconds: float
    limit_cores: float
    predicted_adds: float
    measured_adds: float
    latency_ratio: float
    throttled_error: float


def self_check(regimes: Sequence[Regime], drift: float) -> tuple[Check, ...]:
    """A check per change to a tighter limit, in order of time."""
    checks = []
    for before, after in pairwise(regimes):
        check = _check(before, after, drift)
        if check is not None:
            checks.append(check)
    return tuple(checks)


def model_error(checks: Sequence[Check]) -> float:
    """Half-width that the interval needs, in logarithms of the latency; 0 without checks."""
    return max((abs(math.log(check.latency_ratio)) for check in checks), default=0.0)


def _check(before: Regime, after: Regime, drift: float) -> Check | None:
    limit = after.limit_cores
    if limit is None or (before.limit_cores is not None and before.limit_cores < _LOOSER * limit):
        return None
    long_enough = min(before.evidence.seconds.sum(), after.evidence.seconds.sum()) >= _LEAST_SECONDS
    known = min(before.evidence.latency.sum(), after.evidence.latency.sum()) >= _LEAST_REQUESTS
    if not long_enough or not known or after.periods < _LEAST_PERIODS:
        return None
    curve = fit_curve(before.evidence, drift, [_QUANTILE])
    measured = after.evidence.histogram.quantile_seconds(_QUANTILE)
    if curve is None or measured is None or not curve.mean_cores:
        return None
    growth = after.evidence.mean_cores / curve.mean_cores
    predicted = curve.adds_at(limit / growth, _QUANTILE)
    base = curve.latency_seconds[_QUANTILE]
    return Check(
        after.start_unix_seconds,
        limit,
        predicted,
        measured / base - 1,
        measured / (base * (1 + predicted)),
        after.throttled_periods / after.periods - curve.throttled_at(limit / growth),
    )
