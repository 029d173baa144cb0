"""Steps of a level in autocorrelated noise, by the cumulative sum.

Reference: E. S. Page, Biometrika 41 (1954).
"""

from __future__ import annotations

import math

import numpy as np

from recommender.demand.line import LEAST_CELLS, memory_of
from recommender.quantiles import MAD, median

_LEAST_STEP = 0.05  # smaller steps of the cost are of no use to anyone
_CRITICAL = 1.8  # sup |Brownian bridge| stays under 1.63 in 99 %; searching for the split costs the rest
_SEARCHED = 1.3  # what noise loses to two more levels, which another step would need
_MOST_CHANGES = 3


def change_points(log_ratio: np.ndarray) -> list[int]:
    """Positions at which the level of `log_ratio` (C,) steps: first cells of the new level, ascending.

    The cumulative sum of deviations, over its long-run deviation inside the two parts; a step must also
    explain more than a trend would, be 5 % at least, and leave 20 cells on either side.
    """
    found: list[int] = []
    open_parts = [(0, len(log_ratio))]
    while open_parts and len(found) < _MOST_CHANGES:
        start, end = open_parts.pop(0)
        split = _step(log_ratio[start:end])
        if split is not None:
            found.append(start + split)
            open_parts += [(start, start + split), (start + split, end)]
    return sorted(found)


def _step(log_ratio: np.ndarray) -> int | None:
    count, middle = len(log_ratio), median(log_ratio) if len(log_ratio) else 0.0
    spread = 5 * median(np.abs(log_ratio - middle)) / MAD if count else 0.0
    values = np.clip(log_ratio, middle - spread, middle + spread) if spread > 0 else log_ratio
    split = _best_split(values)
    if split is None:
        return None
    sums = np.cumsum(values - values.mean())
    before, after = values[:split], values[split:]
    step = median(after) - median(before)
    if abs(step) < math.log1p(_LEAST_STEP):
        return None
    noise = np.concatenate([before - before.mean(), after - after.mean()])
    time = np.arange(count) - (count - 1) / 2
    trend = values - values.mean() - time * float(time @ values) / float(time @ time)
    if float(noise @ noise) >= float(trend @ trend):
        return None
    long_run = min(_long_run(noise), _SEARCHED * _long_run(np.concatenate([_levelled(before), _levelled(after)])))
    return split if abs(float(sums[split - 1])) > _CRITICAL * long_run * math.sqrt(count) else None


def _long_run(noise: np.ndarray) -> float:
    """Deviation of the sum of AR(1) noise, per root of their number."""
    memory = memory_of(noise, 2)
    return math.sqrt(float(noise @ noise) / len(noise) * (1 + memory) / (1 - memory))


def _levelled(values: np.ndarray) -> np.ndarray:
    """Values without their level and, where there may be one, without their largest step."""
    split = _best_split(values)
    if split is None:
        levelled: np.ndarray = values - values.mean()
        return levelled
    return np.concatenate([values[:split] - values[:split].mean(), values[split:] - values[split:].mean()])


def _best_split(values: np.ndarray) -> int | None:
    """Where two levels fit best, 20 cells from either end."""
    count = len(values)
    if count < 2 * LEAST_CELLS:
        return None
    sums, at = np.cumsum(values - values.mean())[:-1], np.arange(1, count)
    gain = (np.square(sums) / (at * (count - at)))[LEAST_CELLS - 1 : count - LEAST_CELLS]
    return LEAST_CELLS + int(np.argmax(gain))
