"""What happened to a container over time, in at most 114 equal steps: what a report draws.

Rates are sums over instances; CPU and memory are of one instance, since sizes are: the mean, and the highest.
A step of which more than a tenth was not watched has no rate: a sum of some instances would look like a dip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recommender.latency_steps import QUANTILES, LatencySteps, step_over

_MOSTLY, _LONG = 0.95, 1.5
_WATCHED = 0.9  # of a step's instance-seconds
_RATES = {
    "requests_per_second": "requests",
    "server_errors_per_second": "errors",
    "client_errors_per_second": "client_errors",
    "unanswered_per_second": "unanswered",
}
_LATENCY = tuple(f"p{quantile * 100:g}_seconds" for quantile in QUANTILES)


@dataclass(frozen=True, slots=True)
class Timeline:
    """n steps. None is "not known".

    :ivar columns: by name n values each: ``requests_per_second``, ``server_errors_per_second``,
        ``client_errors_per_second``, ``unanswered_per_second``; ``cpu_cores`` and ``cpu_peak_cores`` of one
        instance, mean and highest; ``throttled_share`` of periods; ``memory_working_set_bytes``, the highest;
        ``instances``; ``oom_kills``. What was never known is not there
    :ivar latency_step_seconds: of `latency`, whose steps begin at `latency_unix_seconds`
    :ivar latency: by name ``p50_seconds``, ``p95_seconds``, ``p99_seconds``
    :ivar latency_of: ``requests``: of all requests of the step; ``rows``: the highest of its rows, where that is all
    """

    start_unix_seconds: float
    step_seconds: int
    columns: Mapping[str, tuple[float | None, ...]]
    latency_step_seconds: int
    latency_unix_seconds: tuple[float, ...]
    latency: Mapping[str, tuple[float | None, ...]]
    latency_of: str

    @property
    def end_unix_seconds(self) -> float:
        """Of its last step."""
        return self.start_unix_seconds + self.step_seconds * max(map(len, self.columns.values()), default=0)

    def mean(self, name: str) -> float:
        """Of a column over the steps in which it is known; 0 where it never is."""
        known = [each for each in self.columns.get(name, ()) if each is not None]
        return math.fsum(known) / len(known) if known else 0.0


def timeline_of(frame: pd.DataFrame, latency: LatencySteps | None) -> Timeline | None:
    """The rows of one container, as :class:`recommender.history.History` has them; None when there are none."""
    if not len(frame):
        return None
    rows = _Rows(frame)
    columns = {name: rows.rate(of) for name, of in _RATES.items()}
    columns |= {
        "cpu_cores": rows.mean("cpu_cores"),
        "cpu_peak_cores": rows.highest("cpu_peak_cores", "cpu_cores"),
        "throttled_share": rows.ratio("throttled_periods", "periods"),
        "memory_working_set_bytes": rows.highest("memory_working_set_bytes"),
        "instances": rows.instances(),
        "oom_kills": rows.total("oom_kills"),
    }
    told = {name: _plain(values) for name, values in columns.items() if np.isfinite(values).any()}
    return Timeline(rows.begin, rows.step, told, *_latency_of(rows, latency))


def _latency_of(
    rows: _Rows, steps: LatencySteps | None
) -> tuple[int, tuple[float, ...], dict[str, tuple[float | None, ...]], str]:
    if steps is not None:
        values = {name: _plain(steps.quantiles_seconds[:, place]) for place, name in enumerate(_LATENCY)}
        return steps.step_seconds, tuple(map(float, steps.unix_seconds)), values, "requests"
    highest = {name: rows.highest(name) for name in _LATENCY}
    known = {name: _plain(values) for name, values in highest.items() if np.isfinite(values).any()}
    starts = tuple(rows.begin + rows.step * place for place in range(rows.number)) if known else ()
    return rows.step, starts, known, "rows"


class _Rows:
    """The rows of a frame, put into steps."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        starts, self._seconds = (
            frame[name].to_numpy(dtype=float) for name in ("start_unix_seconds", "duration_seconds")
        )
        first, last = float(starts.min()), float((starts + self._seconds).max())
        self.step = step_over(last - first, least=_usual(self._seconds))
        self.begin = float(first // self.step * self.step)
        starts = self._cut(starts)
        self._place = ((starts - self.begin) // self.step).astype(int)
        self.number = int(self._place.max()) + 1
        order = np.argsort(starts, kind="stable")
        ends = (starts + self._seconds)[order]
        reached = np.maximum.accumulate(np.concatenate([[-np.inf], ends[:-1]]))
        fresh = np.maximum(0.0, ends - np.maximum(starts[order], reached))
        self._covered = np.bincount(self._place[order], fresh, self.number)

    def _cut(self, starts: np.ndarray) -> np.ndarray:
        """Rows much longer than a step, which others have, into pieces of one step; returns where all begin."""
        first = (starts - self.begin) // self.step
        last = (starts + self._seconds - self.begin) / self.step
        pieces = np.where(self._seconds > _LONG * self.step, np.ceil(last - 1e-9) - first, 1).astype(int)
        self._row = np.repeat(np.arange(len(starts)), pieces)
        within = np.arange(len(self._row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        begins = np.where(within == 0, starts[self._row], self.begin + (first[self._row] + within) * self.step)
        is_cut = pieces[self._row] > 1
        ends = (starts + self._seconds)[self._row]
        stops = np.where(is_cut, np.minimum(ends, self.begin + (first[self._row] + within + 1) * self.step), ends)
        self._share = (stops - begins) / self._seconds[self._row]
        self._seconds = stops - begins
        return begins

    def _column(self, name: str) -> np.ndarray:
        if name in self._frame.columns:
            values: np.ndarray = self._frame[name].to_numpy(dtype=float)[self._row]
            return values
        return np.full(len(self._row), np.nan)

    def _count(self, name: str) -> np.ndarray:
        """A column of counts, each piece with its share of them."""
        counts: np.ndarray = self._column(name) * self._share
        return counts

    def _sum(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        return np.bincount(self._place[known], values[known], self.number).astype(float)

    def rate(self, name: str) -> np.ndarray:
        """Per second, over all instances."""
        values = self._count(name)
        known = np.isfinite(values)
        share = _over(self._sum(self._seconds, known), self._sum(self._seconds, np.ones_like(known)))
        rate = _over(self._sum(values, known), share * self._covered)
        return np.where(share >= _WATCHED, rate, np.nan)

    def mean(self, name: str) -> np.ndarray:
        """Of one instance."""
        values = self._column(name)
        known = np.isfinite(values)
        return _over(self._sum(values * self._seconds, known), self._sum(self._seconds, known))

    def highest(self, *names: str) -> np.ndarray:
        """Of any row; the second name where the first is not known."""
        values = self._column(names[0])
        for name in names[1:]:
            values = np.where(np.isfinite(values), values, self._column(name))
        found = np.full(self.number, -np.inf)
        known = np.isfinite(values)
        np.maximum.at(found, self._place[known], values[known])
        return np.where(np.isfinite(found), found, np.nan)

    def ratio(self, name: str, of: str) -> np.ndarray:
        """Of two counts."""
        values, whole = self._count(name), self._count(of)
        known = np.isfinite(values) & np.isfinite(whole)
        return _over(self._sum(values, known), self._sum(whole, known))

    def total(self, name: str) -> np.ndarray:
        """Of a count; what happened in a row that was cut is told of its beginning."""
        values = np.where(np.diff(self._row, prepend=-1) > 0, self._column(name), np.nan)
        known = np.isfinite(values)
        counted = self._sum(np.ones(len(values)), known)
        return np.where(counted > 0, self._sum(values, known), np.nan)

    def instances(self) -> np.ndarray:
        """How many there were at once, on average."""
        return _over(self._sum(self._seconds, np.ones(len(self._seconds), dtype=bool)), self._covered)


def _usual(seconds: np.ndarray) -> float:
    """The length that rows have, the longer ones where rows of several lengths are mixed: by time, not by number."""
    ordered = np.sort(seconds)
    reached = np.cumsum(ordered)
    return float(ordered[np.searchsorted(reached, _MOSTLY * reached[-1])])


def _over(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(values, by, out=np.full(len(values), np.nan), where=by > 0)
    return ratio


def _plain(values: np.ndarray) -> tuple[float | None, ...]:
    """Five significant digits: a picture has no more, and a document of a fleet is a third as long."""
    return tuple(None if not np.isfinite(each) else float(f"{each:.5g}") for each in values)
