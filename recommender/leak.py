"""Does memory leak? Growth with the age of a pod that is steady, that matters and that lasts.

    samples -> least value by block -> less what traffic explains -> less the time of day -> gates

The least value is what stays after garbage collection and after the night, so it is what leaks;
blocks are eight hours from a week on, longer than a heap takes from one collection to the next.
A life of a pod rises only if all of these hold:

    significant   Mann-Kendall, its variance corrected for autocorrelation, one-sided p < 0.01
    certain       lower bound (95 %, two-sided) of the Theil-Sen slope above zero
    matters       rise while it was watched: 50 % of the median within a day, 10 % in three days,
                  3.5 % in a week, then 0.5 % a day: what is young warms up
    stands out    that rise is more than 2.5 times the scatter around the slope
    lasts         the second half rises at 0.4 of the slope or more, two of three thirds rise; under ten
                  days the last third at 0.6 of the first: a cache that fills levels off, a step is flat
    straight      a logarithm does not leave less than half of the squares that a line leaves

What rose and levelled off in two weeks is looked at once more in its second half
alone, and has to rise by half as much again.

With several lives (replicas, restarts), all are tested together as in the regional Kendall test,
and at least half of those that were watched long enough have to rise on their own (then p < 0.1 each).

References: H. B. Mann (1945), M. G. Kendall (1975); H. Theil (1950), P. K. Sen (1968);
K. H. Hamed, A. R. Rao, J. Hydrology 204 (1998), the correction for autocorrelation;
D. R. Helsel, L. M. Frans, Environ. Sci. Technol. 40 (2006), the regional test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import ndtr, ndtri

from recommender.quantiles import median
from recommender.series import DAY_SECONDS

MEBIBYTE = 2**20
_HOUR = 3600.0
_LEAST_BLOCKS, _SHORT_BLOCKS, _MOST_BLOCKS = 20, 60, 180
_SEASONAL_DAYS = 3.0  # from here on the time of day is taken out
_RATES = (("day", DAY_SECONDS), ("hour", 3600.0), ("minute", 60.0))  # none is told of longer than was watched
_BLOCK_HOURS = np.array([4.0, 8, 12, 24])  # they divide a day
_SIGNIFICANCE, _SIGNIFICANCE_OF_MANY, _LEVEL = 0.01, 0.1, 0.95
_WATCHED_DAYS, _LEAST_RISE = np.log([1.0, 3.0, 7.0, 28.0]), np.log([0.5, 0.1, 0.035, 0.14])
_WEEK_BLOCKS = 24.0  # and no more of them in a week: a block outlasts a cycle of garbage collection
_LEAST_OF_A_LIFE, _LEAST_DAYS_OF_A_LIFE = 0.025, 2.0  # of several, together a week or more
_SCATTERS = 2.5
_LASTING, _STEADY = 0.4, 0.1
_YOUNG_DAYS, _YOUNG_LASTING = 10.0, 0.6
_AGAIN_DAYS, _AGAIN = 13.0, 1.5  # it is looked at a second time: more has to be seen
_BENDS = 0.5
_BEND_SHARES = (0.03, 0.3)  # of the life, at which a logarithm bends
_LEAST_TROUGHS = 6
_BY_CHANCE = "the growth is no more than its fluctuation may show by chance"
_LEVELLED, _STEPPED = "it rose and levelled off", "it rose in steps"
_YOUNG_SHARE = 0.08  # of a life: it starts up then, and fills its caches
_RESTART_FALL, _RESTART_LEVEL = 0.3, 0.8
_MOST_RESTARTS_A_DAY = 1.0  # more such falls than that are garbage collections, not restarts
_MOST_LIVES = 6
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


@dataclass(frozen=True, slots=True)
class LeakVerdict:
    """What the test says, with its evidence.

    :ivar bytes_per_hour: Theil-Sen slope, whether it leaks or not
    :ivar interval: of the slope, 95 %
    :ivar p_value: one-sided, corrected for autocorrelation
    :ivar confidence: ``low`` under a week of age, ``high`` where two lives or more agree, else ``medium``
    :ivar level_bytes: median of the troughs
    :ivar evidence: one sentence with the figures, or the gate at which it stopped
    """

    leaking: bool
    bytes_per_hour: float
    interval: tuple[float, float]
    p_value: float
    confidence: str
    level_bytes: float
    evidence: str

    def hours_until(self, limit_bytes: float, used_bytes: float) -> float | None:
        """Hours until the limit is reached at this slope, or None where it does not leak."""
        return max(0.0, limit_bytes - used_bytes) / self.bytes_per_hour if self.leaking else None


@dataclass(frozen=True, slots=True, eq=False)
class _Tested:
    """One life after the test: the Kendall score with its variance, all pairwise slopes, and the gates."""

    score: float
    variance: float
    slopes: np.ndarray
    slope: float
    level: float
    days: float
    stopped_at: str


def find_leak(lives: Sequence[Life]) -> LeakVerdict:
    """The verdict over all lives of one container; the last and longest six are looked at."""
    longest = sorted(lives, key=_watched)[-_MOST_LIVES:]
    least = _watched(longest[-1]) / 2 if longest else 0.0
    chosen = [life for life in longest if _watched(life) >= least]
    blocks = max(2 * _LEAST_BLOCKS, round(_MOST_BLOCKS / math.sqrt(max(1, len(chosen)))))
    pooled_days = math.fsum(_watched(life) for life in chosen) / DAY_SECONDS
    tested = [each for life in chosen if (each := _test(life, blocks, pooled_days)) is not None]
    if not tested:
        seen = f"fewer than {_LEAST_BLOCKS} readings of a pod"
        return LeakVerdict(False, 0.0, (0.0, 0.0), 1.0, "low", 0.0, f"not tested for leaks: {seen}")
    score, variance = math.fsum(each.score for each in tested), math.fsum(each.variance for each in tested)
    slopes = np.concatenate([each.slopes for each in tested])
    p_value, (low, slope, high) = _p_value(score, variance), _sen(slopes, variance)
    level, days = median(np.array([each.level for each in tested])), max(each.days for each in tested)
    rising = [each for each in tested if not each.stopped_at]
    leaking = 2 * len(rising) >= len(tested) and p_value < _SIGNIFICANCE and low > 0
    confidence = "high" if len(rising) > 1 and days >= 7 else "medium" if days >= 7 else "low"
    if leaking:
        unit, seconds = next((each for each in _RATES if days * DAY_SECONDS >= each[1]), _RATES[-1])
        evidence = (
            f"its least memory rises by {slope * seconds / MEBIBYTE:.3g} MiB a {unit} "
            f"({low * seconds / MEBIBYTE:.3g} to {high * seconds / MEBIBYTE:.3g}; "
            f"{slope * seconds / level:.1%} of {level / MEBIBYTE:.3g} MiB), steadily over {_age(days)} of pod age"
            + (f" and in {len(rising)} of {len(tested)} lives" if len(tested) > 1 else "")
        )
    else:
        stops = [each.stopped_at for each in tested if each.stopped_at]
        evidence = f"no leak: {stops[-1] if stops else 'its lives do not agree'}"
    hourly = slope * _HOUR, (low * _HOUR, high * _HOUR)
    return LeakVerdict(leaking, *hourly, p_value, confidence, level, evidence)


def lives_of(unix_seconds: np.ndarray, bytes_used: np.ndarray, starts: Sequence[float] | None = None) -> list[slice]:
    """Split one series where its container started anew.

    Starts that are known are taken as such. Else a fall by 30 % between two neighbours is one, to
    below 80 % of the usual for three readings (a burst ends at the usual), if there is not more than
    one a day (a heap that is collected falls more often).
    """
    if not len(unix_seconds):
        return []
    if starts is not None:
        cuts = np.searchsorted(unix_seconds, np.sort(np.asarray(starts, dtype=float)))
    else:
        falls = np.flatnonzero(bytes_used[1:] < (1 - _RESTART_FALL) * bytes_used[:-1]) + 1
        days = (unix_seconds[-1] - unix_seconds[0]) / DAY_SECONDS
        cuts = falls if len(falls) <= max(1.0, _MOST_RESTARTS_A_DAY * days) else falls[:0]
        stays = [
            bytes_used[cut : cut + 3].max() < _RESTART_LEVEL * median(bytes_used[max(0, cut - 100) : cut])
            for cut in cuts
        ]
        cuts = cuts[np.array(stays, dtype=bool)]
    edges = np.unique(np.concatenate([[0], cuts, [len(unix_seconds)]]))
    return [slice(int(low), int(high)) for low, high in pairwise(edges)]


def _watched(life: Life) -> float:
    return float(life.unix_seconds[-1] - life.unix_seconds[0]) if len(life.unix_seconds) else 0.0


def _test(life: Life, most_blocks: int, pooled_days: float) -> _Tested | None:
    there = np.isfinite(life.bytes_used) & (life.bytes_used > 0)
    time, used = life.unix_seconds[there], life.bytes_used[there]
    if len(time) < _LEAST_BLOCKS:
        return None
    rate = None if life.requests_per_second is None else life.requests_per_second[there]
    days = float(time[-1] - time[0]) / DAY_SECONDS
    at, trough, load = _troughs(time, used, rate, _block_seconds(days, most_blocks))
    old = at >= at[0] + _YOUNG_SHARE * (at[-1] - at[0])
    whole = _score(at[old], trough[old], None if load is None else load[old], days, max(days, pooled_days))
    if whole is None or whole.stopped_at not in (_LEVELLED, _STEPPED) or days < _AGAIN_DAYS:
        return whole
    late = at >= time[-1] - days * DAY_SECONDS / 2
    half = _score(at[late], trough[late], None if load is None else load[late], days / 2, days / 2)
    if half is None or half.stopped_at:
        return whole
    return half if half.slope * half.days * DAY_SECONDS >= _AGAIN * _least_rise(half.days) * half.level else whole


def _score(at: np.ndarray, trough: np.ndarray, load: np.ndarray | None, days: float, watched: float) -> _Tested | None:
    if len(at) < _LEAST_TROUGHS:
        return None
    if np.ptp(trough) == 0:
        return _flat(trough, days)
    raw, explained = trough, False
    if load is not None:
        trough = _without_traffic(trough, load)
        explained = trough is not raw
    if days >= _SEASONAL_DAYS:
        trough = _without_time_of_day(at, trough)
    earlier, later = np.triu_indices(len(at), 1)
    rises, spans = trough[later] - trough[earlier], at[later] - at[earlier]
    slopes = rises / spans
    slope = median(slopes)
    residual = trough - slope * (at - at[0])
    score = float(np.sign(rises).sum())
    variance = _variance(trough, residual)
    level = median(raw)
    low = _sen(slopes, variance)[0]
    stopped = _stopped(at, trough, residual, slope, low if days >= watched else slope, level, days, watched)
    if not stopped and _p_value(score, variance) >= (_SIGNIFICANCE if days >= watched else _SIGNIFICANCE_OF_MANY):
        stopped = _BY_CHANCE
    if stopped and explained and slope < _slope(at, raw) / 2:
        stopped = "the growth follows traffic"
    return _Tested(score, variance, slopes, slope, level, days, stopped)


def _flat(trough: np.ndarray, days: float) -> _Tested:
    zero = np.zeros(1)
    return _Tested(0.0, 1.0, zero, 0.0, median(trough), days, "its memory does not change")


def _stopped(
    at: np.ndarray,
    trough: np.ndarray,
    residual: np.ndarray,
    slope: float,
    low: float,
    level: float,
    days: float,
    watched: float,
) -> str:
    """The first gate that does not hold, in words; empty where all hold."""
    if low <= 0:
        return _BY_CHANCE
    rise = slope * float(at[-1] - at[0])
    least = _least_rise(days)
    if watched > days >= _LEAST_DAYS_OF_A_LIFE and watched >= math.exp(_WATCHED_DAYS[2]):
        least = max(_LEAST_OF_A_LIFE, _least_rise(watched) * days / watched)
    if rise < least * level:
        return f"it rose by {rise / level:.1%} in {_age(days)}; {least:.0%} would be called a leak"
    scatter = 1.4826 * median(np.abs(residual - median(residual)))
    if rise < _SCATTERS * scatter:
        return f"it rose by {rise / level:.1%}, and fluctuates by {scatter / level:.1%}"
    parts = np.array_split(np.arange(len(at)), 3)
    thirds = [_slope(at[part], trough[part]) for part in parts]
    late = _slope(at[len(at) // 2 :], trough[len(at) // 2 :])
    fills = late < _LASTING * slope or (days < _YOUNG_DAYS and thirds[2] < _YOUNG_LASTING * thirds[0])
    if fills or _bends(at - at[0] + _YOUNG_SHARE * (at[-1] - at[0]), trough):
        return _LEVELLED
    if sorted(thirds)[1] < _STEADY * slope:
        return _STEPPED
    return ""


def _bends(age: np.ndarray, trough: np.ndarray) -> bool:
    """Whether a logarithm leaves less than half of the squares that a straight line leaves."""
    line, *curves = (
        1 - np.corrcoef(each, trough)[0, 1] ** 2
        for each in (age, *(np.log1p(age / (share * age[-1])) for share in _BEND_SHARES))
    )
    return bool(min(curves) < _BENDS * line)


def _least_rise(days: float) -> float:
    """Share of the median by which memory has to rise in so many days."""
    return math.exp(float(np.interp(math.log(max(days, 1e-9)), _WATCHED_DAYS, _LEAST_RISE)))


def _block_seconds(days: float, most_blocks: int) -> float:
    if days < _SEASONAL_DAYS:
        return days * DAY_SECONDS / min(_SHORT_BLOCKS, most_blocks)
    least = 24 * max(days / most_blocks, min(days, 7.0) / _WEEK_BLOCKS)
    fitting = _BLOCK_HOURS[least <= _BLOCK_HOURS]
    return float(fitting[0] if len(fitting) else math.ceil(days / most_blocks) * 24) * _HOUR


def _troughs(
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


def _without_traffic(trough: np.ndarray, load: np.ndarray) -> np.ndarray:
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


def _without_time_of_day(at: np.ndarray, trough: np.ndarray) -> np.ndarray:
    """Less the median, by time of day, of what is left beside a straight line."""
    line = np.polyval(np.polyfit(at - at[0], trough, 1), at - at[0])
    rest, slot = trough - line, np.round(at % DAY_SECONDS).astype(np.int64)
    out = trough.copy()
    for each in np.unique(slot):
        out[slot == each] -= median(rest[slot == each])
    return out


def _slope(at: np.ndarray, values: np.ndarray) -> float:
    earlier, later = np.triu_indices(len(at), 1)
    return median((values[later] - values[earlier]) / (at[later] - at[earlier])) if len(at) > 1 else 0.0


def _variance(values: np.ndarray, residual: np.ndarray) -> float:
    """Variance of Kendall's score without trend: ties, and autocorrelation of the ranks beside the trend."""
    n = len(values)
    _, ties = np.unique(values, return_counts=True)
    plain = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    ranks = np.argsort(np.argsort(residual, kind="stable"), kind="stable") - (n - 1) / 2
    lags = np.arange(1, n)
    correlation = np.correlate(ranks, ranks, "full")[n:] / float(ranks @ ranks)
    correlation[np.abs(correlation) < ndtri(0.975) / math.sqrt(n)] = 0.0
    weights = (n - lags) * (n - lags - 1.0) * (n - lags - 2.0)
    return plain * max(1.0, 1 + 2 / (n * (n - 1.0) * (n - 2.0)) * float(weights @ correlation))


def _p_value(score: float, variance: float) -> float:
    """One-sided: growth. The score moves in steps of two, hence the correction by one."""
    return float(ndtr(-max(0.0, score - 1) / math.sqrt(variance))) if variance > 0 and score > 0 else 1.0


def _sen(slopes: np.ndarray, variance: float) -> tuple[float, float, float]:
    """Lower bound, median and upper bound of pairwise slopes, by Sen's ranks."""
    half = float(ndtri((1 + _LEVEL) / 2)) * math.sqrt(variance) / 2
    middle = (len(slopes) - 1) / 2
    shares = np.clip(np.array([middle - half, middle, middle + half]) / max(1, len(slopes) - 1), 0, 1)
    low, middle, high = (float(each) for each in np.quantile(slopes, shares))
    return low, middle, high


def _age(days: float) -> str:
    return f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} h" if days >= 0.1 else f"{days * 1440:.0f} min"
