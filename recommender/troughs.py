"""The least memory of a life, block by block: what stays after garbage collection and after the night.

Blocks are eight hours from a week on, longer than a heap takes from one collection to the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recommender.quantiles import median
from recommender.series import DAY_SECONDS

SEASONAL_DAYS = 3.0  # from here on a block is whole hours
SHORT_BLOCKS = 60
_HOUR = 3600.0
_BLOCK_HOURS = np.array([4.0, 8, 12, 24])  # they divide a day
_WEEK_BLOCKS = 24.0  # and no more of them in a week: a block outlasts a cycle of garbage collection
_LAST_READINGS = 3  # of a life may be of its end already, or of the next start
_TRAFFIC_CORRELATION, _TRAFFIC_VARIES = 0.5, 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Life:
    """Memory of one pod from its start, or from when it was first seen.

    :ivar unix_seconds: shape (n,), ascending
    :ivar bytes_used: shape (n,), anonymous memory where it is known; NaN and 0 are "not seen"
    :ivar requests_per_second: shape (n,), or None
    """

    unix_seconds: np.ndarray
    bytes_used: np.ndarray
    requests_per_second: np.ndarray | None = None


def watched(life: Life) -> float:
    """Seconds from its first reading to its last."""
    return float(life.unix_seconds[-1] - life.unix_seconds[0]) if len(life.unix_seconds) else 0.0


def seen(life: Life) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Time, memory and rate of the readings; the last ones may be of the end, or of the next start."""
    there = np.isfinite(life.bytes_used) & (life.bytes_used > 0)
    there[-_LAST_READINGS:] = False
    rate = None if life.requests_per_second is None else life.requests_per_second[there]
    return life.unix_seconds[there], life.bytes_used[there], rate


def block_seconds(days: float, most_blocks: int) -> float:
    """Length of a block, for at most so many of them."""
    if days < SEASONAL_DAYS:
        return days * DAY_SECONDS / min(SHORT_BLOCKS, most_blocks)
    least = 24 * max(days / most_blocks, min(days, 7.0) / _WEEK_BLOCKS)
    fitting = _BLOCK_HOURS[least <= _BLOCK_HOURS]
    return float(fitting[0] if len(fitting) else math.ceil(days / most_blocks) * 24) * _HOUR


def troughs(
    time: np.ndarray, used: np.ndarray, rate: np.ndarray | None, seconds: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Middle of each block that has a reading, its least value, and its mean request rate."""
    block = np.floor((time - time[0]) / seconds * (1 + 1e-12))
    first = np.flatnonzero(np.diff(block, prepend=-1.0) > 0)
    at, least = time[0] + (block[first] + 0.5) * seconds, np.minimum.reduceat(used, first)
    if rate is None:
        return at, least, None
    known = np.isfinite(rate)
    count = np.add.reduceat(known.astype(float), first)
    total = np.add.reduceat(np.where(known, rate, 0.0), first)
    load = np.divide(total, count, out=np.full(len(first), np.nan), where=count > 0)
    return at, least, load if np.isfinite(load).all() else None


def without_traffic(trough: np.ndarray, load: np.ndarray) -> np.ndarray:
    """Less what the request rate explains, by differences: a trend in both is no explanation."""
    if load.mean() <= 0 or load.std() < _TRAFFIC_VARIES * load.mean():
        return trough
    lag = max(1, len(load) // 24)
    change, growth = load[lag:] - load[:-lag], trough[lag:] - trough[:-lag]
    change, growth = change - change.mean(), growth - growth.mean()
    power = float(change @ change)
    if not power or float(change @ growth) < _TRAFFIC_CORRELATION * math.sqrt(power * float(growth @ growth)):
        return trough
    return trough - float(change @ growth) / power * (load - median(load))
