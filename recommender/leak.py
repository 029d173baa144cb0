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

Several lives are tested together as in the regional Kendall test. Replicas of one age: at least half of
those that were watched long enough have to rise on their own (then p < 0.1 each). Lives after each other
(restarts, deploys) are too short for that: their common slope over age has to be 2.5 times its deviation,
beside a warm-up (recommender.ageing). From two weeks on, 4 times its deviation is enough for a single one
too: noise that wanders for days, and a cache that filled first, stop it at the gates.

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

from recommender.ageing import Ageing, ageing_of, generations_of
from recommender.quantiles import median
from recommender.series import DAY_SECONDS
from recommender.troughs import SEASONAL_DAYS, Life, block_seconds, seen, troughs, watched, without_traffic

MEBIBYTE = 2**20
_HOUR = 3600.0
_LEAST_BLOCKS, _MOST_BLOCKS = 20, 180
_RATES = (("day", DAY_SECONDS), ("hour", 3600.0), ("minute", 60.0))  # none is told of longer than was watched
_SIGNIFICANCE, _SIGNIFICANCE_OF_MANY, _LEVEL = 0.01, 0.1, 0.95
_WATCHED_DAYS, _LEAST_RISE = np.log([1.0, 3.0, 7.0, 28.0]), np.log([0.5, 0.1, 0.035, 0.14])
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
_SIGMAS_OF_MANY, _SIGMAS_OF_ONE = 2.5, 4.0  # of the slope over age; one life may as well have stepped
_AGEING_DAYS = 13.0  # of one life: a cache that fills for three days looks straight in ten


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
    longest = sorted(lives, key=watched)[-_MOST_LIVES:]
    least = watched(longest[-1]) / 2 if longest else 0.0
    chosen = [life for life in longest if watched(life) >= least]
    blocks = max(2 * _LEAST_BLOCKS, round(_MOST_BLOCKS / math.sqrt(max(1, len(chosen)))))
    pooled_days = math.fsum(watched(life) for life in chosen) / DAY_SECONDS
    tested = [each for life in chosen if (each := _test(life, blocks, pooled_days)) is not None]
    if not tested:
        seen = f"fewer than {_LEAST_BLOCKS} readings of a pod"
        return LeakVerdict(False, 0.0, (0.0, 0.0), 1.0, "low", 0.0, f"not tested for leaks: {seen}")
    score, variance = math.fsum(each.score for each in tested), math.fsum(each.variance for each in tested)
    slopes = np.concatenate([each.slopes for each in tested])
    p_value, (low, slope, high) = _p_value(score, variance), _sen(slopes, variance)
    level, days = median(np.array([each.level for each in tested])), max(each.days for each in tested)
    stopped = "" if p_value < _SIGNIFICANCE and low > 0 else _BY_CHANCE
    begin = min(float(life.unix_seconds[0]) for life in lives)
    if generations_of(chosen) > 1:
        stopped = stopped or _too_slow(ageing_of(chosen, begin), _SIGMAS_OF_MANY, pooled_days)
    else:
        stops = [each.stopped_at for each in tested if each.stopped_at]
        stopped = stops[-1] if 2 * len(stops) > len(tested) else stopped
        if stopped and days >= _AGEING_DAYS and slope * DAY_SECONDS > level * _least_rise(days) / days / 2:
            ageing = ageing_of(chosen, begin)
            if ageing is not None and not _too_slow(ageing, _SIGMAS_OF_ONE, days):
                stopped, p_value = "", ageing.p_value
                low, slope, high = (each * level / DAY_SECONDS for each in _in_order(ageing))
    confidence = "high" if len(tested) > 1 and days >= 7 else "medium" if days >= 7 else "low"
    evidence = f"no leak: {stopped}" if stopped else _growth((low, slope, high), level, days, len(tested))
    hourly = slope * _HOUR, (low * _HOUR, high * _HOUR)
    return LeakVerdict(not stopped, *hourly, p_value, confidence, level, evidence)


def _too_slow(ageing: Ageing | None, sigmas: float, days: float) -> str:
    """Why growth over all lives is no leak; empty where it is one."""
    if ageing is None or ageing.sigmas < sigmas:
        return _BY_CHANCE
    if ageing.bends:
        return _LEVELLED
    least = _least_rise(days) / days
    rising = f"it rises by {ageing.slope:.2%} a day of age; {least:.2%} would be called a leak"
    return rising if ageing.slope < least else ""


def _in_order(ageing: Ageing) -> tuple[float, float, float]:
    low, high = ageing.interval(_LEVEL)
    return low, ageing.slope, high


def _growth(per_second: tuple[float, float, float], level: float, days: float, lives: int) -> str:
    """The evidence for a leak: bytes per second with their interval, in words."""
    unit, seconds = next((each for each in _RATES if days * DAY_SECONDS >= each[1]), _RATES[-1])
    low, slope, high = (each * seconds for each in per_second)
    return (
        f"its least memory rises by {slope / MEBIBYTE:.3g} MiB a {unit} "
        f"({low / MEBIBYTE:.3g} to {high / MEBIBYTE:.3g}; {slope / level:.1%} of {level / MEBIBYTE:.3g} MiB), "
        f"steadily over {_age(days)} of pod age" + (f" in {lives} lives" if lives > 1 else "")
    )


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


def _test(life: Life, most_blocks: int, pooled_days: float) -> _Tested | None:
    time, used, rate = seen(life)
    if len(time) < _LEAST_BLOCKS:
        return None
    days = float(time[-1] - time[0]) / DAY_SECONDS
    at, trough, load = troughs(time, used, rate, block_seconds(days, most_blocks))
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
        trough = without_traffic(trough, load)
        explained = trough is not raw
    if days >= SEASONAL_DAYS:
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
