"""Do errors follow resources? Only those that do may block a cut, or ask for more.

    windows -> share of bad answers -> by throttling, CPU wait, memory pressure, load -> gates -> verdict

Bad is a server error (5xx, gRPC's like UNAVAILABLE), and a request that got none. For each driver the windows of
its upper quarter are compared with those of its lower half. Errors follow it if all of these hold:

    matters     the share is twice as high or more, by 0.1 % of the answers or more, with 10 bad ones or more
    certain     one-sided p < 0.01, by permuting blocks of time (errors come in episodes, so single
                windows are no independent witnesses); seeded, so that the same input gives the same answer
    returns     the share is higher in two separate episodes of the driver or more, by answers in two thirds of them;
                with one episode alone, the share has to rise and fall with the driver

A share is per answer, so that more requests alone explain nothing. A driver that only goes along with
load is told from load by comparing within thirds of the load. A fault that comes and goes by itself (a
bad release, an exception, a dependency that is down) passes none of these gates.

References: P. I. Good, Permutation, Parametric, and Bootstrap Tests of Hypotheses (2005), ch. 9, blocks;
P. J. Huber's demand model is beside this one, in demand/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from recommender.history import History

_LEAST_WINDOWS = 20
_LEAST_BAD = 10
_LEAST_RATIO, _LEAST_RISE = 2.0, 0.001
_UPPER, _LOWER = 0.75, 0.5  # quantiles of the driver
_LEAST_UPPER = 5  # windows
_SIGNIFICANCE, _SEED = 0.01, 20240
_PERMUTATIONS, _LEAST_PERMUTATIONS, _MOST_CELLS = 999, 299, 2_000_000  # cells: long histories in bounded time
_LEAST_EPISODES, _RETURNS, _GAP = 2, 2 / 3, 2
_LEAST_BLOCKS = 8
_MOST_WINDOWS = 2000  # of longer histories neighbours are taken together: errors come in episodes
_DOSE = 0.5  # rank correlation within one episode
_BEYOND_LOAD = 1.5  # ratio that has to be left within thirds of the load
_VARIES = 0.05  # of the driver: its range over its mean


class Driver(StrEnum):
    """What errors may follow; the value is what people read."""

    THROTTLING = "throttling"
    CPU_WAIT = "CPU wait"
    MEMORY = "memory pressure"
    LOAD = "load"


#: Which resource to give more of.
_REMEDY = {Driver.THROTTLING: "cpu", Driver.CPU_WAIT: "cpu", Driver.MEMORY: "memory", Driver.LOAD: "cpu and memory"}


@dataclass(frozen=True, slots=True)
class ErrorPattern:
    """The verdict.

    :ivar follows_resources: a cut is blocked
    :ivar driver: what they follow, or None
    :ivar asks_for: ``cpu``, ``memory``, ``cpu and memory``, or None
    :ivar bad, answers: server errors and requests without an answer, of all requests
    :ivar share_high, share_low: share of bad answers where the driver is high, and where it is low
    :ivar p_value: one-sided; 1 where no comparison was made
    :ivar windows: that were compared
    :ivar evidence: one sentence with the figures
    """

    follows_resources: bool
    driver: Driver | None
    asks_for: str | None
    bad: int
    answers: int
    share_high: float
    share_low: float
    p_value: float
    windows: int
    evidence: str

    @property
    def ratio(self) -> float:
        """How many times as many of the answers are bad where the driver is high; at most 1000."""
        return min(1000.0, self.share_high / max(self.share_low, 1e-9)) if self.share_high else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """Per window, in order of time, all of shape (n,): bad answers, all of them, rate, and a driver."""

    bad: np.ndarray
    answers: np.ndarray
    load: np.ndarray
    driver: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class _Windows:
    """Rows with answers, by window.

    :ivar rows: (rows,) whether it counts
    :ivar place: of each that counts, its window
    :ivar bad, answers, load: (n,)
    """

    rows: np.ndarray
    place: np.ndarray
    bad: np.ndarray
    answers: np.ndarray
    load: np.ndarray


def follows_resources(history: History) -> ErrorPattern:
    """Whether the errors of one container follow its resources."""
    rows = _known(history)
    bad, answers = _answers(rows)
    total, of = round(float(bad.sum())), round(float(answers.sum()))
    if total < _LEAST_BAD:
        return _no(total, of, 0, "no request failed" if not total else f"{total} of {of} requests failed")
    best: ErrorPattern | None = None
    windows = _windows(rows, bad, answers, answers > 0)
    for driver, values in _drivers(rows, answers):
        known = windows.rows & np.isfinite(values)
        same = windows if known.sum() == windows.rows.sum() else _windows(rows, bad, answers, known)
        found = _compared(driver, _counts(same, answers, values), total, of)
        if found.follows_resources:
            return found
        if best is None or found.p_value < best.p_value:
            best = found
    if best is None:
        return _no(total, of, 0, f"{total} of {of} requests failed, and nothing was seen that they could follow")
    return best


_COLUMNS = (
    "start_unix_seconds",
    "duration_seconds",
    "requests",
    "errors",
    "unanswered",
    "periods",
    "throttled_periods",
    "cpu_pressure_seconds",
    "memory_pressure_seconds",
    "memory_working_set_bytes",
    "memory_limit_bytes",
)
_Columns = dict[str, np.ndarray]


def _known(history: History) -> _Columns:
    """The columns that say anything, of the rows whose requests are known, in order of time."""
    columns = {name: history.column(name) for name in _COLUMNS if name in history.frame.columns}
    usable = np.isfinite(columns["requests"]) & (columns["duration_seconds"] > 0)
    start = columns["start_unix_seconds"]
    if not usable.all() or (np.diff(start) < 0).any():
        order = np.flatnonzero(usable)
        order = order[np.argsort(start[order], kind="stable")]
        columns = {name: values[order] for name, values in columns.items()}
    return {name: values for name, values in columns.items() if np.isfinite(values).any()}


def _answers(rows: _Columns) -> tuple[np.ndarray, np.ndarray]:
    """What went badly and all there was, per row; ``requests`` are the answered ones."""
    requests = np.maximum(np.nan_to_num(rows.get("requests", np.zeros(0))), 0)
    bad = np.clip(np.nan_to_num(rows["errors"]), 0, requests) if "errors" in rows else np.zeros(len(requests))
    if "unanswered" in rows:
        more = np.maximum(np.nan_to_num(rows["unanswered"]), 0)
        bad, requests = bad + more, requests + more
    return bad, requests


def _drivers(rows: _Columns, answers: np.ndarray) -> Iterator[tuple[Driver, np.ndarray]]:
    """What was seen and varies, the most telling first; per row."""
    seconds, none = rows["duration_seconds"], np.zeros(len(answers))
    if "periods" in rows and "throttled_periods" in rows:
        periods = rows["periods"]
        yield Driver.THROTTLING, np.divide(rows["throttled_periods"], periods, out=none.copy(), where=periods > 0)
    if "cpu_pressure_seconds" in rows:
        yield Driver.CPU_WAIT, rows["cpu_pressure_seconds"] / seconds
    if "memory_pressure_seconds" in rows:
        yield Driver.MEMORY, rows["memory_pressure_seconds"] / seconds
    if "memory_working_set_bytes" in rows and "memory_limit_bytes" in rows:
        limit = rows["memory_limit_bytes"]
        full = np.divide(rows["memory_working_set_bytes"], limit, out=none.copy(), where=limit > 0)
        if float(np.nanmax(full)) > 0.9:  # with room to spare it is no pressure
            yield Driver.MEMORY, full
    yield Driver.LOAD, answers / seconds


def _windows(rows: _Columns, bad: np.ndarray, answers: np.ndarray, known: np.ndarray) -> _Windows:
    """Sums over the replicas of a window."""
    start, of = rows["start_unix_seconds"][known], answers[known]
    place = np.cumsum(np.diff(start, prepend=start[:1]) > 0)  # rows are in order of time
    place //= max(1, len(place) // _MOST_WINDOWS)
    load = np.bincount(place, of / rows["duration_seconds"][known])
    return _Windows(known, place, np.bincount(place, bad[known]), np.bincount(place, of), load)


def _counts(windows: _Windows, answers: np.ndarray, driver: np.ndarray) -> _Counts:
    """The driver of a window weighs each replica by its answers."""
    weighed = np.bincount(windows.place, driver[windows.rows] * answers[windows.rows])
    return _Counts(windows.bad, windows.answers, windows.load, weighed / np.maximum(windows.answers, 1e-12))


def _compared(driver: Driver, counts: _Counts, total: int, of: int) -> ErrorPattern:
    """The gates, one after the other."""
    n, name = len(counts.bad), driver.value
    head = f"{total} of {of} requests failed"
    parts = _parts(counts.driver) if n >= _LEAST_WINDOWS else None
    if parts is None:
        few = f"{n} of {_LEAST_WINDOWS} windows needed to tell what they follow"
        return _no(total, of, n, f"{head}; {few if n < _LEAST_WINDOWS else f'{name} was too even to tell'}")
    high, low = parts
    share_high, share_low = _share(counts, high), _share(counts, low)
    figures = f"{share_high:.2%} of the requests fail where {name} is high, {share_low:.2%} where it is low"
    beside = (share_high, share_low)
    if counts.bad[high].sum() < _LEAST_BAD or share_high - share_low < _LEAST_RISE or _ratio(*beside) < _LEAST_RATIO:
        return _no(total, of, n, f"{head}; they do not follow {name}: {figures}", beside)
    p_value = _p_value(counts, high, low)
    if p_value >= _SIGNIFICANCE:
        return _no(total, of, n, f"{head}; {figures}, which chance may show (p = {p_value:.2g})", beside, p_value)
    if not _returns(counts, high, share_low):
        return _no(total, of, n, f"{head}; {figures}, but not each time it is high", beside, p_value)
    if driver is not Driver.LOAD and _within_load(counts) < _BEYOND_LOAD:
        why = f"{head}; {figures}, but no longer at the same load"
        return _no(total, of, n, why, beside, p_value)
    return ErrorPattern(
        True, driver, _REMEDY[driver], total, of, *beside, p_value, n, f"errors rise with {name}: {figures}"
    )


def _no(
    total: int, of: int, n: int, why: str, shares: tuple[float, float] = (0.0, 0.0), p_value: float = 1.0
) -> ErrorPattern:
    return ErrorPattern(False, None, None, total, of, *shares, p_value, n, why)


def _parts(driver: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Where the driver is high, and where it is low; None where it hardly varies."""
    if np.ptp(driver) <= _VARIES * abs(float(driver.mean())) or np.ptp(driver) <= 0:
        return None
    middle, upper = np.quantile(driver, [_LOWER, _UPPER])
    low = driver <= middle
    high = driver > middle if upper <= middle else driver >= upper  # mostly zero: what is not
    least = min(_LEAST_UPPER, max(2, len(driver) // 10))
    return (high, low) if high.sum() >= least and low.sum() >= _LEAST_UPPER else None


def _share(counts: _Counts, rows: np.ndarray) -> float:
    answers = float(counts.answers[rows].sum())
    return float(counts.bad[rows].sum()) / answers if answers else 0.0


def _ratio(high: float, low: float) -> float:
    return high / low if low > 0 else np.inf


def _p_value(counts: _Counts, high: np.ndarray, low: np.ndarray) -> float:
    """Chance of so large a difference when blocks of errors fall anywhere in time."""
    n = len(counts.bad)
    troubled = counts.bad / np.maximum(counts.answers, 1) > counts.bad.sum() / counts.answers.sum()
    length = min(max(2, round(_mean_run(high)), round(_mean_run(troubled))), n // _LEAST_BLOCKS)
    chance = np.random.default_rng(_SEED)
    share = counts.bad / counts.answers
    weights = counts.answers * high / (counts.answers @ high) - counts.answers * low / (counts.answers @ low)
    times = int(np.clip(_MOST_CELLS // n, _LEAST_PERMUTATIONS, _PERMUTATIONS))
    block = (np.arange(n) + chance.integers(length, size=(times, 1))) // length
    keys = chance.random((times, int(block.max()) + 1))
    order = np.argsort(np.take_along_axis(keys, block, axis=1), axis=1, kind="stable")
    above = int((share[order] @ weights >= share @ weights - 1e-12).sum())
    return (1 + above) / (1 + times)


def _runs(rows: np.ndarray, gap: int = 0) -> list[slice]:
    """Stretches of true, those with at most `gap` false between them taken as one."""
    places = np.flatnonzero(rows)
    if not len(places):
        return []
    cuts = np.flatnonzero(np.diff(places) > gap + 1) + 1
    return [slice(int(part[0]), int(part[-1]) + 1) for part in np.split(places, cuts)]


def _mean_run(rows: np.ndarray) -> float:
    runs = _runs(rows)
    return float(np.mean([run.stop - run.start for run in runs])) if runs else 1.0


def _returns(counts: _Counts, high: np.ndarray, share_low: float) -> bool:
    """Whether errors come back each time; the episodes are weighed alike."""
    episodes = _runs(high, _GAP)
    if len(episodes) < _LEAST_EPISODES:
        rows = counts.driver > np.quantile(counts.driver, _LOWER)  # its rise and fall as well
        share, driver = counts.bad[rows] / counts.answers[rows], counts.driver[rows]
        return len(share) >= 2 * _LEAST_UPPER and _rank_correlation(driver, share) >= _DOSE
    answers = np.array([counts.answers[episode].sum() for episode in episodes])
    shares = np.array([counts.bad[episode].sum() for episode in episodes]) / answers
    risen = shares > share_low + _LEAST_RISE / 2
    return bool(risen.sum() >= _LEAST_EPISODES and answers[risen].sum() >= _RETURNS * answers.sum())


def _within_load(counts: _Counts) -> float:
    """Ratio of the shares at the same load: Mantel-Haenszel over thirds of the load that have both parts."""
    parts = _parts(counts.driver)
    if parts is None:
        return 1.0
    high, low = parts
    third = np.digitize(counts.load, np.quantile(counts.load, [1 / 3, 2 / 3]))
    above, below = 0.0, 0.0
    for each in range(3):
        here = third == each
        n_high, n_low = counts.answers[here & high].sum(), counts.answers[here & low].sum()
        if n_high > 0 and n_low > 0:
            above += counts.bad[here & high].sum() * n_low / (n_high + n_low)
            below += counts.bad[here & low].sum() * n_high / (n_high + n_low)
    if above + below == 0:  # the driver moves with the load alone: nothing to set against it
        return np.inf
    return float(above / max(below, 0.5))


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    first, second = (pd.Series(each).rank().to_numpy() for each in (one, other))
    if not np.ptp(first) or not np.ptp(second):
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
