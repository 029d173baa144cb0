"""What is known of one container: its windows as a frame, its histograms beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from profiles.histogram import Histogram
from profiles.schema import ANSWERED, Runtime
from profiles.status import HTTP1
from recommender.evidence import Evidence, Regime
from recommender.latency_steps import LatencySteps
from recommender.timeline import Timeline, timeline_of

_BUSIEST_SHARE = 0.1
_LEAST_REQUESTS_IN_BUSIEST = 100
_FIGURES = (
    "windows", "seconds", "requests", "unanswered", "instances", "runtime", "throttled_share", "oom_kills",
    "mean_instances",
)  # fmt: skip
#: Kinds whose pods end by themselves.
AT_TIMES = ("Job", "CronJob")
_OF_REQUESTS = ("client_errors", "unanswered", "p50_seconds", "p95_seconds")


@dataclass(frozen=True, slots=True, order=True)
class Container:
    """The thing that gets a size: an identity without its instances."""

    cluster: str
    namespace: str
    kind: str
    workload: str
    container: str

    @property
    def name(self) -> str:
        """``namespace/workload/container``."""
        return f"{self.namespace}/{self.workload}/{self.container}"

    def is_called(self, name: str) -> bool:
        """Whether a person may mean it by `name`: as a whole, by workload, or by two of its three parts."""
        shorter = (self.workload, f"{self.workload}/{self.container}", f"{self.namespace}/{self.workload}")
        return name == self.name or name in shorter


@dataclass(frozen=True)
class History:
    """Everything recorded of one container.

    :ivar frame: one row per window and instance, in order of time: ``start_unix_seconds``,
        ``duration_seconds``, ``instance``, ``requests`` (answered), ``errors`` (the server's),
        ``client_errors``, ``unanswered``,
        ``requests_per_second``, ``p50_seconds`` and ``p95_seconds`` of latency, ``cpu_cores``, the memory columns of
        the contract in bytes, ``periods``, ``throttled_periods``, ``oom_kills``, ``cpu_limit_cores``,
        ``cpu_request_cores``, ``memory_limit_bytes``
    :ivar everything: latency and limit bank over all rows
    :ivar busiest: the same over the rows with the highest load, see :func:`busiest_rows`
    :ivar busiest_windows: how many rows those are
    :ivar burst_bins: 10 ms bins by sixteenths of one CPU, over everything
    :ivar routes: requests, errors and latency per protocol, method, route, status and outcome, over everything
    :ivar drops: packets that the node's kernel dropped, by its own reason, over everything
    :ivar regimes: the stretches under one CPU limit each, when there was more than one
    :ivar watched: whether an agent counted its requests; without one, no request means nothing
    :ivar by_metrics: they are known from its agent's metrics alone: no latency profile, no limit bank, and NaN where
        it told none
    :ivar unwatched: of a container that was watched at times, rows of usage as in `frame` from when it was not;
        what it was asked then is not known. None where there are none
    :ivar latency: its quantiles over time; None where no latency profile tells them
    """

    container: Container
    frame: pd.DataFrame
    everything: Evidence
    busiest: Evidence
    busiest_windows: int
    burst_bins: Mapping[int, int]
    routes: tuple[Route, ...]
    regimes: tuple[Regime, ...] = ()
    drops: Mapping[str, int] = field(default_factory=dict)
    watched: bool = True
    by_metrics: bool = False
    unwatched: pd.DataFrame | None = None
    latency: LatencySteps | None = None

    @cached_property
    def whole(self) -> History:
        """The same with `unwatched` rows in its frame; their requests are NaN."""
        if self.unwatched is None:
            return self
        both = pd.concat([self.frame, self.unwatched], ignore_index=True)
        both["instance"] = both["instance"].astype(str)
        both = both.sort_values(["start_unix_seconds", "instance"], kind="stable", ignore_index=True)
        starts = both["start_unix_seconds"].to_numpy(dtype=float)
        ends = starts + both["duration_seconds"].to_numpy(dtype=float)
        reached = np.maximum.accumulate(np.concatenate([[-np.inf], ends[:-1]]))
        made = replace(self, frame=both, unwatched=None)
        # rows of a minute lie within rows of five minutes of other instances
        vars(made)["seconds"] = float(np.maximum(0.0, ends - np.maximum(starts, reached)).sum())
        return made

    def by_usage(self) -> History:
        """Its usage at all times, as if no agent had ever watched it."""
        frame, nothing = self.whole.frame.copy(), Evidence.of([])
        frame[["requests", "errors", "requests_per_second"]] = 0.0
        frame = frame.drop(columns=[name for name in _OF_REQUESTS if name in frame.columns])
        return History(self.container, frame, nothing, nothing, 0, {}, (), watched=False)

    @cached_property
    def windows(self) -> int:
        """Number of windows, whatever the number of instances."""
        starts = self.column("start_unix_seconds")
        steps = np.diff(starts)
        if (steps < 0).any():
            steps = np.diff(np.sort(starts))
        return int(np.count_nonzero(steps)) + bool(len(starts))

    @cached_property
    def seconds(self) -> float:
        """Time recorded."""
        if self.windows == len(self.frame):
            return float(self.frame["duration_seconds"].sum())
        starts, seconds = self.column("start_unix_seconds"), self.column("duration_seconds")
        if (np.diff(starts) < 0).any():
            order = np.argsort(starts, kind="stable")
            starts, seconds = starts[order], seconds[order]
        first = np.flatnonzero(np.diff(starts, prepend=-1.0))
        return float(np.fmax.reduceat(seconds, first).sum())

    @cached_property
    def requests(self) -> int:
        """Requests answered."""
        return int(self.frame["requests"].sum())

    @cached_property
    def unanswered(self) -> int | None:
        """Requests whose connection ended before an answer; None where that was not counted."""
        values = self.column("unanswered")
        return int(np.nansum(values)) if np.isfinite(values).any() else None

    @cached_property
    def instances(self) -> int:
        """Number of instances seen."""
        return int(self.frame["instance"].nunique())

    @cached_property
    def runtime(self) -> Runtime | None:
        """What executes it, as last seen; None where nobody looked."""
        number = self.whole.latest("runtime")
        return next((each for each in Runtime if each == number), None)

    @cached_property
    def timeline(self) -> Timeline | None:
        """All of it in equal steps of time; None where nothing was recorded."""
        return timeline_of(self.whole.frame, self.latency)

    @cached_property
    def mean_instances(self) -> float:
        """How many there were at once while there were any; of a Job, between its runs as well. 0 without a row."""
        own = self.whole
        seconds = own.seconds
        if self.container.kind in AT_TIMES and len(own.frame):
            starts, lasted = own.column("start_unix_seconds"), own.column("duration_seconds")
            seconds = float((starts + lasted).max() - starts.min())
        return float(own.column("duration_seconds").sum()) / seconds if seconds else 0.0

    @cached_property
    def oom_kills(self) -> int | None:
        """How often the kernel killed it for want of memory; None where that was not counted."""
        values = self.column("oom_kills")
        return int(np.nansum(values)) if np.isfinite(values).any() else None

    @cached_property
    def throttled_share(self) -> float | None:
        """Share of periods in which the limit in force stopped it; None without a limit."""
        periods = float(np.nansum(self.column("periods")))
        return float(np.nansum(self.column("throttled_periods"))) / periods if periods else None

    @cached_property
    def instance_codes(self) -> np.ndarray:
        """Per row of the frame the instance's place among the instances, by name."""
        return instance_codes(self.frame)

    def column(self, name: str) -> np.ndarray:
        """A column of the frame as floats, NaN where it is not known; all NaN where there is no such column.

        Not to be written to: it is kept, since every model asks for the same ones.
        """
        kept = self._columns
        if name not in kept:
            there = name in self.frame.columns
            kept[name] = self.frame[name].to_numpy(dtype=float) if there else np.full(len(self.frame), np.nan)
        return kept[name]

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        """All columns of numbers at once: each look-up by name costs more than a view of one block."""
        numbers = self.frame.select_dtypes("number")
        return dict(zip(numbers.columns, numbers.to_numpy(dtype=float).T, strict=True))

    def without_rows(self, *, drawn: bool = False) -> History:
        """Its figures without what they were made from: a few kilobytes, of which a fleet fits in memory.

        The frame is one row with the sums of ``requests`` and ``errors``, the evidence the latency of everything.

        :param drawn: with its timeline and its routes
        """
        of = self.everything
        sums = {name: [float(self.frame[name].sum())] for name in ("requests", "errors")}
        latency = Evidence(of.latency.sum(axis=0)[None], None, of.cpu_seconds.sum()[None], of.seconds.sum()[None])
        made = replace(
            self,
            frame=pd.DataFrame(sums),
            everything=latency,
            busiest=latency,
            routes=self.routes if drawn else (),
            regimes=(),
            unwatched=None,
        )
        kept = {name: getattr(self, name) for name in (*_FIGURES, *(("timeline",) if drawn else ()))}
        vars(made).update(kept)  # as cached_property stores them
        return made

    def latest(self, column: str) -> float | None:
        """The last known value of a column, or None."""
        values = self.column(column)
        known = np.flatnonzero(~np.isnan(values))
        return float(values[known[-1]]) if len(known) else None


@dataclass(frozen=True, slots=True)
class Route:
    """Requests of one protocol, method, route, status and outcome, as one side saw them."""

    role: str
    method: str
    route: str
    status: int
    latency: Histogram
    latency_seconds_sum: float
    outcome: str = ANSWERED
    transfer_seconds_sum: float = 0.0
    protocol: str = HTTP1

    @property
    def served(self) -> bool:
        """Answered by this container."""
        return self.role == "server" and self.outcome == ANSWERED


@dataclass(frozen=True, slots=True)
class Recording:
    """One store, read.

    :ivar windows: of all nodes together
    :ivar seconds: that any node recorded
    :ivar lost: what the agent could not count, per reason
    :ivar agent: the agent's own cost: ``cpu_cores``, ``resident_bytes``, ``map_bytes``
    """

    histories: tuple[History, ...]
    windows: int
    start_unix_seconds: float
    end_unix_seconds: float
    seconds: float
    clock_steps: int
    lost: Mapping[str, int]
    agent: Mapping[str, float]


def unseen(container: Container) -> History:
    """Of a container of which nothing was recorded: no rows."""
    numbers = ("start_unix_seconds", "duration_seconds", "requests", "errors", "requests_per_second", "cpu_cores")
    frame = pd.DataFrame({name: np.empty(0) for name in numbers} | {"instance": np.empty(0, dtype=object)})
    nothing = Evidence.of([])
    return History(container, frame, nothing, nothing, 0, {}, (), watched=False)


def instance_codes(frame: pd.DataFrame) -> np.ndarray:
    """Per row the place of its instance among them, by name; ten times as fast as sorting their names."""
    column = frame["instance"]
    if isinstance(column.dtype, pd.CategoricalDtype) and column.cat.categories.is_monotonic_increasing:
        codes: np.ndarray = column.cat.codes.to_numpy()
        return codes
    return pd.factorize(column, sort=True)[0]


def instance_names(frame: pd.DataFrame) -> tuple[str, ...]:
    """The instances in the order of their codes."""
    column = frame["instance"]
    if isinstance(column.dtype, pd.CategoricalDtype) and column.cat.categories.is_monotonic_increasing:
        return tuple(map(str, column.cat.categories))
    return tuple(map(str, np.sort(column.unique().astype(str))))


def busiest_rows(requests_per_second: np.ndarray, requests: np.ndarray) -> np.ndarray:
    """Positions of the tenth of rows with the highest rate; more while they hold too few requests."""
    order = np.argsort(-requests_per_second, kind="stable")
    enough = int(np.searchsorted(np.cumsum(requests[order]), _LEAST_REQUESTS_IN_BUSIEST)) + 1
    return np.sort(order[: max(enough, round(len(order) * _BUSIEST_SHARE), 1)])
