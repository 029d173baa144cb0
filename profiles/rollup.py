"""An SQLite store, rolled up into a Parquet store: windows of 10 s to rows of a minute.

The store is read twice, in order of time: first what is small, from which the busiest rows are
known, then the heavy columns, which are added up by period, the busiest rows apart. What is in
memory is a few numbers per minute and instance, and the heavy columns of one period.

Of a minute counts are sums, memory is its highest (page cache its last), limits are those last
in force. A wall clock that was set back does not make two minutes one: time then goes on from
where the window before ended.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from profiles.agent_cost import cost_over
from profiles.histogram import LATENCY, Histogram
from profiles.parquet import ParquetWriter
from profiles.periods import PeriodRow, Stretch
from profiles.schema import HOST_NAMESPACE, WITHOUT_ENDINGS, Identity, TrafficRow, UsageRow, Window
from profiles.sqlite import StoreReader
from profiles.tables import IDENTITY, SCHEMAS, USAGE_NUMBERS, Key

#: Heavy columns are kept by the shortest of these that makes at most `_MOST_PERIODS` of a recording:
#: two weeks by six hours. That leaves at least twelve, which an interval is made from (recommender.evidence).
PERIODS_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 21600, 86400)
_MOST_PERIODS = 72
_DAY = 86400

_SUMS = ("periods", "throttled_periods", "oom_kills", "refaults", "cpu_pressure_seconds", "throttled_seconds")
_HIGHEST = ("memory_anon_bytes", "memory_working_set_bytes", "memory_peak_bytes")
_LAST = ("memory_file_bytes", "cpu_limit_cores", "cpu_request_cores", "memory_limit_bytes", "runtime")

#: Positions of the busiest rows, from requests per second and requests.
Busiest = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(slots=True)
class _Minute:
    """One row in the making."""

    seconds: float = 0.0
    errors: int = 0
    client_errors: int = 0
    unanswered: int | None = 0
    cpu_seconds: float = 0.0
    cpu_known_seconds: float = 0.0
    cpu_peak_cores: float = 0.0
    latency: list[Histogram] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)

    def add(self, window: Window, served: list[TrafficRow], usage: UsageRow | None) -> None:
        self.seconds += window.duration_seconds
        self.latency.extend(row.latency for row in served if row.answered)
        self.errors += sum(row.requests for row in served if row.answered and row.server_error)
        self.client_errors += sum(row.requests for row in served if row.answered and row.client_error)
        if self.unanswered is not None:
            self.unanswered += sum(row.requests for row in served if not row.answered)
        if window.lost.get(WITHOUT_ENDINGS):
            self.unanswered = None
        if usage is None:
            return
        self.cpu_seconds += usage.cpu_seconds
        self.cpu_known_seconds += window.duration_seconds
        self.cpu_peak_cores = max(self.cpu_peak_cores, usage.cpu_seconds / window.duration_seconds)
        for names, combined in ((_SUMS, _sum), (_HIGHEST, max), (_LAST, _last)):
            for name in names:
                value = getattr(usage, name)
                if value is not None:
                    self.numbers[name] = combined(self.numbers[name], value) if name in self.numbers else value

    def columns(self) -> dict[str, float | None]:
        latency = Histogram.merged(LATENCY, self.latency)
        return self.numbers | {
            "duration_seconds": self.seconds,
            "requests": latency.total,
            "errors": self.errors,
            "client_errors": self.client_errors,
            "unanswered": self.unanswered,
            "p50_seconds": latency.quantile_seconds(0.5),
            "p95_seconds": latency.quantile_seconds(0.95),
            "cpu_cores": self.cpu_seconds / self.cpu_known_seconds if self.cpu_known_seconds else None,
            "cpu_peak_cores": self.cpu_peak_cores if self.cpu_known_seconds else None,
        }


_Route = tuple[str, str, str, str, int, str]  # role, protocol, method, route, status, outcome


@dataclass(slots=True)
class _Usage:
    """Rows of one container: columns of numbers, NaN for "not known"."""

    instances: list[str] = field(default_factory=list)
    unix_seconds: array[int] = field(default_factory=lambda: array("q"))
    numbers: dict[str, array[float]] = field(default_factory=lambda: {name: array("d") for name in USAGE_NUMBERS})

    def append(self, instance: str, minute: int, row: Mapping[str, float | None]) -> None:
        self.instances.append(instance)
        self.unix_seconds.append(minute)
        for name, column in self.numbers.items():
            value = row.get(name)
            column.append(math.nan if value is None else value)

    def busiest(self, choose: Busiest) -> frozenset[tuple[str, int]]:
        requests, seconds = (np.array(self.numbers[name]) for name in ("requests", "duration_seconds"))
        return frozenset((self.instances[row], self.unix_seconds[row]) for row in choose(requests / seconds, requests))

    def stretches(self) -> dict[int, Stretch]:
        """By minute, the CPU limit in force (the largest of its instances) and since when it is."""
        largest: dict[int, float] = {}
        for minute, limit in zip(self.unix_seconds, self.numbers["cpu_limit_cores"], strict=True):
            cores = math.inf if math.isnan(limit) else limit
            largest[minute] = max(largest.get(minute, 0.0), cores)
        made: dict[int, Stretch] = {}
        last = None
        for minute, cores in largest.items():
            last = last if last is not None and last[1] == cores else (minute, cores)
            made[minute] = last
        return made

    def table(self) -> dict[str, Any]:
        made: dict[str, Any] = {"instance": self.instances, "unix_seconds": self.unix_seconds}
        for name, column in self.numbers.items():
            values = np.array(column)
            made[name] = pa.array(values, mask=np.isnan(values)).cast(SCHEMAS["usage"].field(name).type, safe=False)
        return made


_Moment = tuple[float, Window, dict[Identity, tuple[list[TrafficRow], UsageRow | None]]]


def export_store(
    reader: StoreReader,
    writer: ParquetWriter,
    every: int,
    choose: Busiest,
    period: int | None = None,
    begin: float = -math.inf,
    node: str = "",
) -> tuple[int, int]:
    """Roll `reader` up to rows of `every` seconds; returns the numbers of containers and rows.

    :param choose: which rows are the busiest (recommender.history.busiest_rows)
    :param period: seconds by which heavy columns are kept; by default it fits the length of the recording
    :param begin: unix seconds that no row is before, where a clock was set back since an earlier export
    :param node: put before the instances of the host's own units, which are called the same on every node
    :raises profiles.errors.StoreError: when one cannot be read, or the other not written
    """
    usage = _usage(reader, every, begin, node)
    minutes = {minute for each in usage.values() for minute in each.unix_seconds}
    span = max(minutes) - min(minutes) + every if minutes else every
    period = period or next(
        (each for each in (every, *PERIODS_SECONDS) if not each % every and span <= _MOST_PERIODS * each), _DAY
    )
    split = {key: (each.busiest(choose), each.stretches()) for key, each in usage.items()}
    profiles, routes = _heavy(reader, every, period, split, begin, node)
    for key in sorted(usage):
        tables = {"usage": usage[key].table(), "profiles": _columns("profiles", profiles[key])}
        writer.write(key, tables | {"routes": _columns("routes", routes[key])})
    writer.finish([_recording(reader, len(minutes))])
    return len(usage), sum(len(each.instances) for each in usage.values())


def _usage(reader: StoreReader, every: int, begin: float, node: str) -> dict[Key, _Usage]:
    usage: dict[Key, _Usage] = defaultdict(_Usage)
    for minute, moments in itertools.groupby(
        _moments(reader, begin, node, heavy=False), lambda each: _floor(each[0], every)
    ):
        rows: dict[Identity, _Minute] = defaultdict(_Minute)
        for _, window, found in moments:
            for identity, (traffic, used) in found.items():
                rows[identity].add(window, [row for row in traffic if row.role == "server"], used)
        for identity in sorted(rows):
            usage[_key(identity)].append(identity.instance, minute, rows[identity].columns())
    return dict(usage)


def _heavy(
    reader: StoreReader,
    every: int,
    period: int,
    split: Mapping[Key, tuple[frozenset[tuple[str, int]], dict[int, Stretch]]],
    begin: float,
    node: str,
) -> tuple[dict[Key, list[dict[str, Any]]], dict[Key, list[dict[str, Any]]]]:
    profiles: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    routes: dict[Key, dict[_Route, tuple[Counter[int], list[float], list[float]]]] = defaultdict(dict)
    for start, moments in itertools.groupby(_moments(reader, begin, node), lambda each: _floor(each[0], period)):
        open_rows: dict[tuple[Key, bool, Stretch], PeriodRow] = {}
        for time, window, found in moments:
            for identity, (traffic, used) in found.items():
                key, minute = _key(identity), (identity.instance, _floor(time, every))
                busiest, stretches = split[key]
                row = open_rows.setdefault((key, minute in busiest, stretches[minute[1]]), PeriodRow())
                row.minutes.add(minute)
                row.seconds.append(window.duration_seconds)
                answered = (each for each in traffic if each.role == "server" and each.answered)
                row.add_latency(Histogram.merged(LATENCY, (each.latency for each in answered)))
                if used is not None:
                    row.cpu_seconds.append(used.cpu_seconds)
                    row.bursts.update(used.burst_bins)
                    row.add_bank(used.limit_bank)
                for each in traffic:
                    of = (each.role, each.protocol, each.method, each.route, each.status, each.outcome)
                    counts, seconds, transfer = routes[key].setdefault(of, (Counter(), [], []))
                    counts.update(each.latency.counts)
                    seconds.append(each.latency_seconds_sum)
                    transfer.append(each.transfer_seconds_sum)
        for (key, busy, stretch), row in sorted(open_rows.items(), key=lambda each: each[0]):
            profiles[key].append(row.columns(start, busy, stretch))
    by_route = {
        key: [
            dict(zip(("role", "protocol", "method", "route", "status", "outcome"), of, strict=True))
            | {"latency": Histogram(LATENCY, counts).to_bytes()}
            | {"latency_seconds_sum": math.fsum(seconds), "transfer_seconds_sum": math.fsum(transfer)}
            for of, (counts, seconds, transfer) in sorted(routes[key].items())
        ]
        for key in split
    }
    return profiles, by_route


def _moments(reader: StoreReader, begin: float, node: str, *, heavy: bool = True) -> Iterator[_Moment]:
    """Windows in order, with their rows by instance, and their start on a clock that is never set back."""
    windows = dict(reader.windows())
    rows = heapq.merge(
        ((window, each.identity, each) for window, each in reader.traffic()),
        ((window, each.identity, each) for window, each in reader.usage(heavy=heavy)),
        key=lambda each: each[0],
    )
    at = begin
    for number, together in itertools.groupby(rows, lambda each: each[0]):
        window = windows[number]
        at = max(at, window.start_unix_seconds)
        found: dict[Identity, tuple[list[TrafficRow], UsageRow | None]] = {}
        for _, known, row in together:
            is_hosts = node and known.namespace == HOST_NAMESPACE
            identity = replace(known, instance=f"{node}{known.instance}") if is_hosts else known
            traffic, used = found.get(identity, ([], None))
            if isinstance(row, TrafficRow):
                traffic.append(row)
            elif isinstance(row, UsageRow):
                used = row
            found[identity] = traffic, used
        yield at, window, found
        at += window.duration_seconds


def _recording(reader: StoreReader, minutes: int) -> dict[str, Any]:
    windows = [window for _, window in reader.windows()]
    seconds = math.fsum(window.duration_seconds for window in windows)
    lost: Counter[str] = Counter()
    for window in windows:
        lost.update(window.lost)
    return {
        "start_unix_seconds": min(window.start_unix_seconds for window in windows),
        "end_unix_seconds": max(window.start_unix_seconds + window.duration_seconds for window in windows),
        "seconds": seconds,
        "windows": minutes,
        "clock_steps": sum(1 for window in windows if window.clock_step_seconds),
        "lost": json.dumps(dict(sorted(lost.items()))),
        "agent": json.dumps(cost_over(windows)),
    }


def _columns(table: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: [row[name] for row in rows] for name in SCHEMAS[table].names if name not in IDENTITY}


def _key(identity: Identity) -> Key:
    return identity.cluster, identity.namespace, identity.kind, identity.workload, identity.container


def _floor(seconds: float, every: int) -> int:
    return int(seconds // every) * every


def _sum(before: float, value: float) -> float:
    return before + value


def _last(_: float, value: float) -> float:
    return value
