"""Memory: how much a container needs, how sure that is, and what moves it.

    rows -> bytes that count -> peaks per day over all replicas -> regime -> trend -> tail -> need

What counts is anonymous memory, the kernel's, and cache in use: the working set. Page cache that
can be dropped is no need, unless the kernel keeps reading it back (refaults).

The peak of the next day is the largest of many, so its tail is a Gumbel distribution; its scale
comes from the daily peaks so far, drawn to a prior that carries most while there are few:

    upper = largest peak x margin, margin from the quantile of 1 - CHANCE of the next day's peak

Restarts: what a container takes in its first ten minutes counts in full, without that tail. A
kill for want of memory is a need of at least x1.2 or +100 MiB until a week has passed without one.

References: E. J. Gumbel (1958), method of moments; OOM bump as in the Vertical Pod Autoscaler.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recommender.history import History
from recommender.leak import MEBIBYTE, LeakVerdict, find_leak, lives_of
from recommender.memory_tail import LEAST_MARGIN, excess_of, regime_of, rising_of, tail_of
from recommender.replicas import Replica, per_period, replicas_of, since
from recommender.series import DAY_SECONDS, Series

CHANCE = 0.03  # of exceeding the tail on the next day; the margins below are added to it
_BLOCKS = 12  # in a period
_FEW = 3  # periods: with fewer, growth is read off within them
_WEEK = 7 * DAY_SECONDS
_OOM_FACTOR, _OOM_STEP_BYTES = 1.2, 100 * 2**20
_KEEP_ABOVE = 0.06  # in log: a size that is too large by less stays
_LEAST_CORRELATION, _LEAST_VARIATION, _LEAST_PAIRS = 0.7, 0.1, 20
_REFAULTS_PER_SECOND = 100.0


@dataclass(frozen=True, slots=True)
class FollowsTraffic:
    """Memory as a line over the request rate.

    :ivar at_highest_bytes: at the highest rate ever seen, with the largest deviation on top
    """

    base_bytes: float
    bytes_per_request_per_second: float
    correlation: float
    highest_rate: float
    at_highest_bytes: float


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """What memory says, over all instances.

    :ivar peak_bytes: highest need of any instance that was seen, page cache left out
    :ivar need_bytes: the peak, or more where the kernel killed for want of memory or traffic was higher once
    :ivar lower_bytes: what the next day's peak exceeds in every second case
    :ivar upper_bytes: the size: need with its uncertainty; no further margin is needed
    :ivar start_up_bytes: highest peak of the first ten minutes after a restart, or None without restarts
    :ivar leak_bytes_per_hour: slope where it leaks, else None
    :ivar days: of history in the regime that counts
    :ivar reasons: what moved the size, in words
    """

    peak_bytes: float
    need_bytes: float
    oom_kills: int
    leak_bytes_per_hour: float | None
    lower_bytes: float
    upper_bytes: float
    start_up_bytes: float | None
    restarts: int
    leak: LeakVerdict
    follows_traffic: FollowsTraffic | None
    days: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kill:
    """An OOM kill: when, and the limit in force, if known."""

    unix_seconds: float
    limit_bytes: float | None = None


def fit_memory(history: History) -> MemoryFit | None:
    """The memory need of one container, or None when its memory was never seen."""
    history = history.whole
    used = _bytes_that_count(history)
    if np.isnan(used).all():
        return None
    killed = np.nan_to_num(history.column("oom_kills"))
    times, limits = history.column("start_unix_seconds"), history.column("memory_limit_bytes")
    kills = [
        Kill(float(times[row]), float(limits[row]) if np.isfinite(limits[row]) else None)
        for row in np.flatnonzero(killed > 0)
        for _ in range(int(killed[row]))
    ]
    served = np.isfinite(history.column("requests")).any() and history.requests > 0
    return memory_need(
        times,
        used,
        instances=history.instance_codes,
        anonymous=history.column("memory_anon_bytes"),
        requests_per_second=history.column("requests_per_second") if served else None,
        kills=kills,
    )


def memory_need(
    unix_seconds: np.ndarray,
    bytes_used: np.ndarray,
    *,
    now: float | None = None,
    instances: np.ndarray | None = None,
    anonymous: np.ndarray | None = None,
    requests_per_second: np.ndarray | None = None,
    started: np.ndarray | None = None,
    deploys: Sequence[float] = (),
    kills: Sequence[Kill] = (),
    horizon_seconds: float = DAY_SECONDS,
    chance: float = CHANCE,
) -> MemoryFit | None:
    """The need of one replica over the next `horizon_seconds`, or None without a reading before `now`.

    :param bytes_used: shape (n,), in any order; NaN and zero are "not seen"
    :param now: what is at or after it is not looked at; by default just after the last reading
    :param instances: labels of the replicas, shape (n,); by default there is one
    :param anonymous: by which a leak is judged; by default the bytes themselves
    :param started: shape (n,), unix seconds at which the reading's container started; without it, a fall tells
    :param deploys: unix seconds at which a new version began
    """
    pods = replicas_of(unix_seconds, bytes_used, now, instances, anonymous, requests_per_second, started)
    if not pods:
        return None
    end = max(float(pod.time[-1]) for pod in pods) if now is None else now
    parts = [[pod.part(each) for each in lives_of(pod.time, pod.used, pod.starts)] for pod in pods]
    begins = min(float(pod.time[0]) for pod in pods)
    born = [life for lives in parts for life in lives if life.time[0] > begins + 2 * life.step]
    reasons: list[str] = []
    deployed = max((each for each in deploys if begins < each <= end - horizon_seconds), default=begins)
    if deployed > begins:
        parts, born = [since(lives, deployed) for lives in parts], [life for life in born if life.time[0] >= deployed]
        reasons.append(f"only the {_span((end - deployed) / DAY_SECONDS)} since the last deploy count")
    peaks, medians = per_period(parts, born, end, horizon_seconds, with_medians=True)
    regime = regime_of(np.log(peaks), np.log(medians), reasons)
    known = np.log(peaks[-regime:])
    in_regime = max(deployed, end - regime * horizon_seconds)
    days = (end - in_regime) / DAY_SECONDS
    rising = rising_of(parts, end, horizon_seconds) if len(known) < _FEW else 0.0
    blocks, _ = per_period(parts, born, end, horizon_seconds / _BLOCKS)
    lower, upper = tail_of(known, days, chance, rising, excess_of(np.log(blocks[-regime * _BLOCKS :])))
    peak = float(peaks[-regime:].max())
    reasons.insert(0, f"peak {_mib(peak)} in {_span(days)}, with what the next day may add {_mib(upper)}")
    start_up = [float(life.used[life.young].max()) for life in born if life.time[0] >= in_regime]
    if start_up and max(start_up) * math.exp(LEAST_MARGIN) > upper:
        upper = max(start_up) * math.exp(LEAST_MARGIN)
        reasons.append(f"{len(start_up)} starts, which take up to {_mib(max(start_up))}")
    peak = max(peak, *start_up) if start_up else peak
    need = peak
    traffic = _follow(pods, in_regime)
    if traffic is not None and traffic.at_highest_bytes > need:
        need = traffic.at_highest_bytes
        upper = max(upper, need * math.exp(LEAST_MARGIN))
        reasons.append(f"memory follows traffic: {_mib(need)} at {traffic.highest_rate:.3g} requests/s, seen before")
    killed = [each for each in kills if each.unix_seconds <= end]
    need, upper = _after_kills(peak, need, upper, killed, end, reasons)
    every = [life for lives in parts for life in lives]
    known = [life for life in every if np.isfinite(life.leaking).any()]  # of some only the working set is known
    leak = find_leak([life.as_life() for life in known or every])
    if leak.leaking:
        reasons.append(leak.evidence)
    return MemoryFit(
        peak,
        need,
        len(killed),
        leak.bytes_per_hour if leak.leaking else None,
        min(lower, need),
        max(upper, need),
        max(start_up) if start_up else None,
        sum(len(lives) - 1 for lives in parts),
        leak,
        traffic,
        days,
        tuple(reasons),
    )


def rule(pods: Sequence[Series], now: float, current: float | None) -> float | None:
    """The request of one replica, as a backtest calls it daily; None without a reading.

    The current size stays where half of the margin is left, where it is too large by little, and
    where memory leaks: a leak is reported, and no size holds it.
    """
    known = [pod.before(now) for pod in pods]
    if not known:
        return None
    fit = memory_need(
        np.concatenate([pod.unix_seconds for pod in known]),
        np.concatenate([pod.values for pod in known]),
        now=now,
        instances=np.repeat(np.arange(len(known)), [len(pod) for pod in known]),
    )
    return None if fit is None else kept(fit, current)


def kept(fit: MemoryFit, current: float | None) -> float:
    """The size to set: the current one where a change is not worth a restart."""
    if current is None:
        return fit.upper_bytes
    enough = math.sqrt(fit.need_bytes * fit.upper_bytes)
    holds = fit.leak.leaking and fit.leak.confidence != "low"
    if holds or enough <= current <= fit.upper_bytes * math.exp(_KEEP_ABOVE):
        return current
    return fit.upper_bytes


def _follow(pods: list[Replica], since: float) -> FollowsTraffic | None:
    """Memory over request rate, by blocks of equal length, where one follows the other."""
    if any(pod.rate is None for pod in pods):
        return None
    rates, used, highest = [], [], 0.0
    for pod in pods:
        rate = pod.rate if pod.rate is not None else np.zeros(0)
        known = np.isfinite(rate)
        highest = max(highest, float(rate[known].max(initial=0.0)))
        rows = np.flatnonzero(known & (pod.time >= since))
        size = max(1, len(rows) // 200)
        first = np.arange(0, len(rows), size)
        if len(first):
            rates.append(np.maximum.reduceat(rate[rows], first))
            used.append(np.maximum.reduceat(pod.used[rows], first))
    if not rates or sum(map(len, rates)) < _LEAST_PAIRS:
        return None
    x, y = np.concatenate(rates), np.concatenate(used)
    if x.mean() <= 0 or x.std() < _LEAST_VARIATION * x.mean() or not y.std():
        return None
    correlation = float(np.corrcoef(x, y)[0, 1])
    if correlation < _LEAST_CORRELATION:
        return None
    slope = correlation * float(y.std() / x.std())
    base = float(y.mean()) - slope * float(x.mean())
    over = float(np.quantile(y - base - slope * x, 0.95))
    return FollowsTraffic(base, slope, correlation, highest, base + slope * highest + over)


def _after_kills(
    peak: float, need: float, upper: float, kills: list[Kill], now: float, reasons: list[str]
) -> tuple[float, float]:
    """A kill proves a need above the peak that was seen; how much above shows in a week without one."""
    if not kills:
        return need, upper
    last = max(kills, key=lambda each: each.unix_seconds)
    limits = [each.limit_bytes for each in kills if each.limit_bytes is not None and each.limit_bytes < 2 * peak]
    reached = max(peak, *limits) if limits else peak  # a limit far above was not what killed it
    if now - last.unix_seconds >= _WEEK:
        reasons.append(f"{len(kills)} OOM kills, none in the last week: {_mib(reached)} was reached")
        return max(need, reached), max(upper, reached * math.exp(LEAST_MARGIN))
    bumped = max(reached * _OOM_FACTOR, reached + _OOM_STEP_BYTES)
    reasons.append(f"{len(kills)} OOM kills at {_mib(reached)}: x1.2 or +100 MiB")
    return max(need, bumped), max(upper, bumped)


def _bytes_that_count(history: History) -> np.ndarray:
    """Per row: the working set, or a higher peak of the window less the cache that can be dropped.

    The kernel's peak is that of the cgroup's whole life, so it counts where it rises.
    """
    working, peak = history.column("memory_working_set_bytes"), history.column("memory_peak_bytes")
    counts = working.copy()
    for code in range(history.instances):
        rows = np.flatnonzero(history.instance_codes == code) if history.instances > 1 else np.arange(len(peak))
        at = rows[_rises(peak[rows])]
        file = np.nan_to_num(history.column("memory_file_bytes")[at])
        file[history.column("refaults")[at] > _REFAULTS_PER_SECOND * history.column("duration_seconds")[at]] = 0.0
        counts[at] = np.fmax(counts[at], peak[at] - file)
    return np.where(np.isnan(counts), peak, counts)


def _rises(values: np.ndarray) -> np.ndarray:
    """Where the first known value is, and each that is higher than all before."""
    known = np.flatnonzero(np.isfinite(values))
    highest = np.maximum.accumulate(values[known])
    return known[np.flatnonzero(np.diff(highest, prepend=-np.inf) > 0)]


def _mib(size: float) -> str:
    return f"{size / MEBIBYTE:.4g} MiB"


def _span(days: float) -> str:
    return f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} h" if days >= 0.1 else f"{days * 1440:.0f} min"
