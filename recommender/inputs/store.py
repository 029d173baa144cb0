"""Read an SQLite store into one :class:`recommender.history.History` per container.

Sums of floats are exact (fsum): the built-in sum differs in the last digit between Pythons.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from profiles.agent_cost import cost_over
from profiles.errors import StoreError
from profiles.histogram import LATENCY, Histogram
from profiles.schema import WITHOUT_ENDINGS, Identity, TrafficRow, UsageRow, Window
from profiles.sqlite import StoreReader
from recommender.evidence import Evidence, Observation, Regime
from recommender.history import Container, History, Recording, Route, busiest_rows
from recommender.latency_steps import LatencySteps, latency_steps

_FROM_USAGE = (
    "memory_anon_bytes",
    "memory_file_bytes",
    "memory_working_set_bytes",
    "memory_peak_bytes",
    "periods",
    "throttled_periods",
    "throttled_seconds",
    "refaults",
    "oom_kills",
    "cpu_pressure_seconds",
    "memory_pressure_seconds",
    "cpu_limit_cores",
    "cpu_request_cores",
    "memory_limit_bytes",
    "tcp_retransmits",
    "tcp_resets_sent",
    "tcp_resets_received",
    "connections_opened",
    "connections_accepted",
    "connections_refused",
    "connections_failed",
    "connections_ended",
    "round_trips_seconds",
    "runtime",
)

_Key = tuple[int, Identity]
_MOST_ROUTES, _LEAST_ROUTE_SHARE = 4, 0.05


def read_store(path: Path, last_seconds: float | None = None) -> Recording:
    """Everything in the store at `path`, or the last so many seconds of it.

    :raises profiles.errors.StoreError: when it cannot be read
    """
    after = _begin_of(path, last_seconds) if last_seconds is not None else -1
    traffic: dict[_Key, list[TrafficRow]] = defaultdict(list)
    with StoreReader(path, after) as reader:
        windows = dict(reader.windows())
        if not windows:  # it was begun anew meanwhile
            raise StoreError(f"{path} was begun anew while it was read.", "Ask again.")
        for window_id, row in reader.traffic():
            traffic[window_id, row.identity].append(row)
        usage = {(window_id, row.identity): row for window_id, row in reader.usage()}
        drops: dict[Container, Counter[str]] = defaultdict(Counter)
        for _, dropped in reader.drops():
            drops[_container(dropped.identity)][dropped.reason] += dropped.packets
    keys: dict[Container, list[_Key]] = defaultdict(list)
    for key in sorted(traffic.keys() | usage.keys()):
        keys[_container(key[1])].append(key)
    histories = tuple(
        replace(_history(container, own, windows, traffic, usage), drops=dict(drops[container]))
        for container, own in sorted(keys.items())
    )
    return Recording(
        histories,
        len(windows),
        min(window.start_unix_seconds for window in windows.values()),
        max(window.start_unix_seconds + window.duration_seconds for window in windows.values()),
        math.fsum(window.duration_seconds for window in windows.values()),
        sum(1 for window in windows.values() if window.clock_step_seconds),
        _lost(windows),
        cost_over(windows.values()),
    )


def _begin_of(path: Path, last_seconds: float) -> int:
    """The id of the window before the first that ends within the last so many seconds."""
    with StoreReader(path) as reader:
        windows = list(reader.windows())
    last, newest = windows[-1]
    since = newest.start_unix_seconds + newest.duration_seconds - last_seconds
    before = (number for number, each in windows if each.start_unix_seconds + each.duration_seconds <= since)
    return min(max(before, default=-1), last - 1)  # a clock that was set back leaves at least the last one


def _history(
    container: Container,
    keys: list[_Key],
    windows: dict[int, Window],
    traffic: dict[_Key, list[TrafficRow]],
    usage: dict[_Key, UsageRow],
) -> History:
    records, observations = [], []
    bursts: Counter[int] = Counter()
    for key in keys:
        window, used = windows[key[0]], usage.get(key)
        came = [row for row in traffic.get(key, ()) if row.role == "server"]
        served = [row for row in came if row.answered]
        requests = sum(row.requests for row in served)
        latency = Histogram.merged(LATENCY, (row.latency for row in served))
        records.append(
            {
                "window": key[0],
                "start_unix_seconds": window.start_unix_seconds,
                "duration_seconds": window.duration_seconds,
                "instance": key[1].instance,
                "requests": requests,
                "errors": sum(row.requests for row in served if row.server_error),
                "client_errors": sum(row.requests for row in served if row.client_error),
                "unanswered": None
                if window.lost.get(WITHOUT_ENDINGS)
                else sum(row.requests for row in came if not row.answered),
                "requests_per_second": requests / window.duration_seconds,
                "p50_seconds": latency.quantile_seconds(0.5),
                "p95_seconds": latency.quantile_seconds(0.95),
                "cpu_cores": used.cpu_seconds / window.duration_seconds if used else None,
                **{name: getattr(used, name, None) for name in _FROM_USAGE},
            }
        )
        observations.append(
            Observation(
                latency,
                used.limit_bank if used else None,
                used.cpu_seconds if used else 0.0,
                window.duration_seconds,
            )
        )
        bursts.update(used.burst_bins if used else {})
    frame = pd.DataFrame.from_records(records)
    numeric = [name for name in frame.columns if name != "instance"]
    frame[numeric] = frame[numeric].astype(float)
    rows = [row for key in keys for row in traffic.get(key, ())]
    frame = frame.assign(**_route_classes(keys, traffic))
    busiest = busiest_rows(frame["requests_per_second"].to_numpy(), frame["requests"].to_numpy())
    return History(
        container,
        frame,
        Evidence.of(observations),
        Evidence.of([observations[row] for row in busiest]),
        len(busiest),
        dict(bursts),
        _routes(rows),
        _regimes(frame, observations),
        latency=_latency_steps(frame, observations),
    )


def _route_classes(keys: list[_Key], traffic: dict[_Key, list[TrafficRow]]) -> dict[str, list[float]]:
    """Requests per row of the few routes that carry most of them, and of the rest: ``requests:<route class>``.

    None where one route has next to all: there is nothing to tell apart.
    """
    counts = [Counter[str]() for _ in keys]
    for place, key in enumerate(keys):
        for row in traffic.get(key, ()):
            if row.role == "server" and row.answered:
                counts[place][f"{row.method} {row.route}"] += row.requests
    total = sum(counts, Counter())
    named = [name for name, count in total.most_common(_MOST_ROUTES) if count >= _LEAST_ROUTE_SHARE * total.total()]
    if len(total) < 2 or not named or total[named[0]] > (1 - _LEAST_ROUTE_SHARE) * total.total():
        return {}
    columns = {f"requests:{name}": [float(each[name]) for each in counts] for name in sorted(named)}
    rest = [float(each.total() - sum(each[name] for name in named)) for each in counts]
    return columns | ({"requests:other": rest} if any(rest) else {})


def _latency_steps(frame: pd.DataFrame, observations: Sequence[Observation]) -> LatencySteps | None:
    starts, buckets, counts = list[float](), list[int](), list[int]()
    for start, each in zip(frame["start_unix_seconds"], observations, strict=True):
        starts += [start] * len(each.latency.counts)
        buckets += each.latency.counts.keys()
        counts += each.latency.counts.values()
    return latency_steps(np.array(starts), np.array(buckets, dtype=int), np.array(counts))


def _regimes(frame: pd.DataFrame, observations: Sequence[Observation]) -> tuple[Regime, ...]:
    """The rows between one change of the CPU limit and the next; none when it never changed."""
    limits = frame["cpu_limit_cores"].fillna(math.inf).to_numpy()
    starts = [0, *(np.flatnonzero(limits[1:] != limits[:-1]) + 1)]
    if len(starts) == 1:
        return ()
    regimes = []
    for begin, end in pairwise([*starts, len(limits)]):
        rows = frame.iloc[begin:end]
        regimes.append(
            Regime(
                None if math.isinf(limits[begin]) else float(limits[begin]),
                float(rows["start_unix_seconds"].iloc[0]),
                Evidence.of(observations[begin:end]),
                float(rows["periods"].sum()),
                float(rows["throttled_periods"].sum()),
            )
        )
    return tuple(regimes)


def _routes(rows: list[TrafficRow]) -> tuple[Route, ...]:
    merged: dict[tuple[str, str, str, int, str, str], list[TrafficRow]] = defaultdict(list)
    for row in rows:
        merged[row.role, row.method, row.route, row.status, row.outcome, row.protocol].append(row)
    return tuple(
        Route(
            *key[:4],
            Histogram.merged(LATENCY, (row.latency for row in parts)),
            math.fsum(row.latency_seconds_sum for row in parts),
            key[4],
            math.fsum(row.transfer_seconds_sum for row in parts),
            key[5],
        )
        for key, parts in sorted(merged.items())
    )


def _container(identity: Identity) -> Container:
    return Container(identity.cluster, identity.namespace, identity.kind, identity.workload, identity.container)


def _lost(windows: dict[int, Window]) -> dict[str, int]:
    lost: Counter[str] = Counter()
    for window in windows.values():
        lost.update(window.lost)
    return dict(sorted(lost.items()))
