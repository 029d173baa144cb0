"""Rows from a history: a window of an instance each, in order of time.

    frame  --not seen, censored: left out-->  usable rows, with their revision  --lag-->  rows

Windows that a CPU limit throttled are left out: usage that a limit cut is no evidence of need.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from recommender.demand.gates import LEAST_WINDOWS
from recommender.history import History, instance_names
from recommender.quantiles import median, quantile, thinned
from recommender.revisions import revisions_of

EARLIER = "earlier"  # all revisions before the last eight
_MOST_REGIMES = 8
_CENSORED_SHARE = 0.01  # of periods throttled, as in classify
_STILL_SECONDS = 1800.0  # before the end of all: it runs
_MOST_LAG = 3
_LAG_EVIDENCE = 10.0  # twice the gain in log-likelihood that a lag must bring (BIC: very strong)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Usable rows in order of time, then of instance. All arrays (n,)."""

    time: np.ndarray
    instance: np.ndarray
    rate: np.ndarray
    usage: np.ndarray
    regime: np.ndarray
    position: np.ndarray  # in the frame
    names: tuple[str, ...]  # of instances
    revisions: tuple[str, ...]
    seen: int
    censored: int

    def part(self, chosen: np.ndarray) -> Rows:
        """Some of them."""
        arrays = ("time", "instance", "rate", "usage", "regime", "position")
        return replace(self, **{name: getattr(self, name)[chosen] for name in arrays})


def usable_rows(history: History, column: str, *, censor: bool) -> Rows:
    """Rows with a time, a rate and a usage: a counter that was reset (negative usage) is no usage."""
    time, rate, usage = _columns(history, column)
    usable = _usable(time, rate, usage)
    censored = np.zeros(len(time), dtype=bool)
    if censor:
        throttled, periods = history.column("throttled_periods"), history.column("periods")
        censored = usable & (periods > 0) & (throttled > _CENSORED_SHARE * periods)
    frame = history.frame
    instance, names = history.instance_codes, instance_names(frame)
    position = np.flatnonzero(usable & ~censored)
    chosen: np.ndarray | slice = slice(None) if len(position) == len(time) else position  # no copies where all are
    later = np.diff(time[chosen])
    if (later <= 0).any() and ((later < 0) | (np.diff(instance[chosen]) < 0))[later <= 0].any():
        chosen = position = position[np.lexsort((instance[position], time[position]))]
    regime, revisions = _revisions(history, position)
    return Rows(
        time[chosen],
        instance[chosen],
        rate[chosen],
        usage[chosen],
        regime,
        position,
        tuple(map(str, names)),
        revisions,
        len(frame),
        int(censored.sum()),
    )


def in_time(history: History, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time, rate and usage of the same rows, whatever a limit cut, in order of time."""
    time, rate, usage = _columns(history, column)
    usable = _usable(time, rate, usage)
    if not usable.all():
        time, rate, usage = time[usable], rate[usable], usage[usable]
    if (np.diff(time) < 0).any():
        order = np.lexsort((history.instance_codes[usable], time))
        time, rate, usage = time[order], rate[order], usage[order]
    return time, rate, usage


def _columns(history: History, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return history.column("start_unix_seconds"), history.column("requests_per_second"), history.column(column)


def _usable(time: np.ndarray, rate: np.ndarray, usage: np.ndarray) -> np.ndarray:
    usable: np.ndarray = (rate >= 0) & (rate < np.inf) & (usage >= 0) & (usage < np.inf) & np.isfinite(time)
    return usable


def _revisions(history: History, position: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """The revision of each row, as a place among their names, and the names in order of time: the last eight."""
    frame, by_instance = history.frame, revisions_of(history)
    if "revision" in frame.columns:
        codes, known = pd.factorize(frame["revision"])
    elif by_instance is not None:
        of_instances, known = pd.factorize(pd.Index(by_instance))
        codes = of_instances[history.instance_codes]
    else:
        return np.zeros(len(position), dtype=int), ("all",)
    names = [*map(str, known), "unknown"]  # -1, the last, where none is given
    codes = np.where(codes < 0, len(known), codes)
    codes, names = _lives(codes, names, history.column("start_unix_seconds"))
    codes = codes[position]
    in_time = np.unique(codes)
    rank = np.zeros(len(names), dtype=int)
    rank[in_time] = np.arange(len(in_time))
    revision, revisions = rank[codes], tuple(names[index] for index in in_time)
    too_many = len(revisions) - _MOST_REGIMES
    if too_many > 0:
        revision = np.maximum(revision - too_many, 0)
        revisions = (EARLIER, *revisions[too_many + 1 :])
    return revision, revisions


def _lives(codes: np.ndarray, names: list[str], times: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Numbered by when they came, but the one that runs last, though it may have come first (a rollback).

    What that one did before others that are gone had gone is a life of its own: ``b994bf9fb, before``.
    """
    present, place = np.unique(codes, return_inverse=True)
    if not len(present):
        return codes, names
    first, last = np.full(len(present), np.inf), np.full(len(present), -np.inf)
    np.minimum.at(first, place, times)
    np.maximum.at(last, place, times)
    end = last.max() - _STILL_SECONDS
    runs = last >= end
    newest = int(np.argmax(np.where(runs, first, -np.inf)))  # of two that run: a rollout
    gone = last[~runs & (last > first[newest] + _STILL_SECONDS)]
    before = (place == newest) & (times <= gone.max(initial=-np.inf))
    lives = [(first[at], names[present[at]], place == at) for at in range(len(present)) if at != newest]
    if before.any():
        lives.append((first[newest], f"{names[present[newest]]}, before", before))
    lives.sort(key=lambda life: life[0])
    made = np.full(len(codes), len(lives))
    for number, (_, _, rows) in enumerate(lives):
        made[rows] = number
    return made, [*(name for _, name, _ in lives), names[present[newest]]]


def lagged_best(rows: Rows) -> tuple[Rows, int]:
    """Rows with the rate of the window that their usage follows; a lag needs very strong evidence."""
    count = len(rows.usage)
    if count < 2 * LEAST_WINDOWS:
        return rows, 0
    order = np.arange(count)
    if len(rows.names) > 1:  # sixteen bits are sorted by counting
        narrow = rows.instance.astype(np.int16) if len(rows.names) < 2**15 else rows.instance
        order = np.argsort(narrow, kind="stable")
    time, instance = rows.time[order], rows.instance[order]
    step = median(thinned(np.diff(time)))

    def whole(at: np.ndarray) -> np.ndarray:
        """Those with as many windows of the same instance right before them."""
        same = instance[at] == instance[at - _MOST_LAG]
        found: np.ndarray = at[same & (time[at] - time[at - _MOST_LAG] < (_MOST_LAG + 0.5) * step)]
        return found

    thin = whole(thinned(np.arange(_MOST_LAG, count)))
    if step <= 0 or len(thin) < LEAST_WINDOWS:
        return rows, 0
    usage = _calmed(rows.usage[order[thin]])
    rates = [_calmed(rows.rate[order[thin - lag]]) for lag in range(_MOST_LAG + 1)]
    unexplained = [_unexplained(usage, rate) for rate in rates]
    lag = int(np.argmin(unexplained))
    gain = len(thin) * math.log(max(unexplained[0], 1e-12) / max(unexplained[lag], 1e-12))
    if lag == 0 or gain < _LAG_EVIDENCE or unexplained[lag] > 0.9 * unexplained[0]:
        return rows, 0
    at, shifted = whole(np.arange(_MOST_LAG, count)), rows.rate.copy()
    shifted[order[at]] = rows.rate[order[at - lag]]
    return replace(rows, rate=shifted).part(np.sort(order[at])), lag


def column_of(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column as floats, NaN where it says nothing or is not there."""
    if name not in frame.columns:
        return np.full(len(frame), np.nan)
    return frame[name].to_numpy(dtype=float, na_value=np.nan)


def _calmed(values: np.ndarray) -> np.ndarray:
    calmed: np.ndarray = np.clip(values, quantile(values, 0.02), quantile(values, 0.98))
    return calmed


def _unexplained(usage: np.ndarray, rate: np.ndarray) -> float:
    usage, rate = usage - usage.mean(), rate - rate.mean()
    total, spread, both = float(usage @ usage), float(rate @ rate), float(usage @ rate)
    return 1.0 - both**2 / (total * spread) if total > 0 and spread > 0 and both > 0 else 1.0
