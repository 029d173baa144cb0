"""How high the next day's peak may be: a Gumbel tail, what is growing, and since when it counts.

References: E. J. Gumbel (1958), method of moments.
"""

from __future__ import annotations

import math

import numpy as np

from recommender.quantiles import median
from recommender.replicas import Replica, per_period

LEAST_MARGIN, _MOST_MARGIN = 0.07, 0.30  # of the largest peak, in log
_PRIOR_FACTOR, _PRIOR_SCALES, _PRIOR_DAYS = 2.0, (0.02, 0.15), 2.0  # of the tail, in log
_UNSEEN = 0.08  # in log, over the days seen: a week-day, a month's end
_EULER = 0.5772156649
_STEP = 0.1  # in log


def regime_of(peaks: np.ndarray, medians: np.ndarray, reasons: list[str]) -> int:
    """How many periods count: those since the last step, of at least three; log peaks and medians, oldest first."""
    for count in range(3, len(peaks) - 1):
        before, after = medians[:-count], medians[-count:]
        fell = float(before.min() - after.max()) > _STEP and float(peaks[:-count].min() - peaks[-count:].max()) > _STEP
        rose = float(after.min() - before.max()) > max(_STEP, float(np.ptp(after)), float(np.ptp(before)))
        if fell or rose:
            reasons.append(f"a step {'down' if fell else 'up'} {count} periods ago: what was before does not count")
            return count
    return len(peaks)


def tail_of(peaks: np.ndarray, days: float, chance: float, rising: float, prior: float) -> tuple[float, float]:
    """Median and upper bound, in bytes, of the next period's peak; from log peaks, oldest first."""
    n, place = len(peaks), np.arange(len(peaks), dtype=float)
    slope = _growth(peaks)
    flat = peaks - slope * place
    spread = float(flat.var(ddof=1)) * 6 / math.pi**2 if n > 1 else 0.0
    scale = math.sqrt((_PRIOR_DAYS * prior**2 + (n - 1) * spread) / (_PRIOR_DAYS + n - 1))
    mode = float(flat.mean()) + slope * n - _EULER * scale
    growth = max(0.0, min(slope, _growth(peaks[-3:])), rising)
    largest = float(peaks.max())
    tail = mode - scale * math.log(-math.log1p(-chance))
    margin = min(_MOST_MARGIN, max(LEAST_MARGIN, tail - largest)) + growth + _UNSEEN / max(0.25, days)
    middle = mode - scale * math.log(math.log(2))
    return math.exp(min(middle, largest + margin)), math.exp(largest + margin)


def excess_of(blocks: np.ndarray) -> float:
    """How far the largest quarter of all two-hour peaks lies above its least, on average: the scale of their tail."""
    count = max(2, len(blocks) // 4)
    top = np.sort(blocks)[-count:]
    return float(np.clip(_PRIOR_FACTOR * (top.mean() - top[0]), *_PRIOR_SCALES))


def rising_of(parts: list[list[Replica]], end: float, horizon: float) -> float:
    """What a first period that rose throughout adds in the next one, in log.

    Its quarters rise by d1, d2, d3; if these shrink by a ratio, so will the next four.
    """
    quarters, _ = per_period(parts, [], end, horizon / 4)
    steps = np.diff(np.log(quarters[-4:]))
    if len(steps) < 3 or (steps <= 0).any():
        return 0.0
    ratio = min(1.0, float(math.sqrt(steps[2] / steps[0])))
    return float(steps[2]) * sum(ratio**each for each in (1, 2, 3, 4))


def _growth(peaks: np.ndarray) -> float:
    """Median of pairwise slopes per period over the last week of periods."""
    last = peaks[-7:]
    if len(last) < 2:
        return 0.0
    earlier, later = np.triu_indices(len(last), 1)
    return median((last[later] - last[earlier]) / (later - earlier))
