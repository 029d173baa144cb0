"""What was stored since the agent started, as Prometheus reads it.

    rows that were stored --> gathered --> counters by labels --> text

Names and boundaries are OpenTelemetry's (semantic conventions of HTTP and RPC, in Prometheus form); ours begin with
``headroom_``. The store keeps the finer histogram. A text is made line by line, since the one of a node with
thousands of routes is megabytes.
"""

from __future__ import annotations

import itertools
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from collector.exposition import Labels, head, inside, metric, number, whose
from collector.served import Answers, Served
from profiles.agent_cost import cost_over
from profiles.histogram import LATENCY
from profiles.schema import (
    ANSWERED,
    OTHER_METHOD,
    OVERFLOW_ROUTE,
    Identity,
    TrafficRow,
    UsageRow,
    Window,
)
from profiles.status import GRPC, HTTP2, is_error, is_server_error, name_of

#: OpenTelemetry's boundaries for the duration of HTTP requests and RPC calls.
BOUNDARIES_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

_SERIES_PER_HISTOGRAM = len(BOUNDARIES_SECONDS) + 3  # buckets, +Inf, sum, count
_FORGET_AFTER_WINDOWS = 30  # without a row of the instance: it has ended
_PLACE = tuple(bisect_left(BOUNDARIES_SECONDS, LATENCY.middle_seconds(bucket)) for bucket in range(LATENCY.buckets))
_LES = (*(f"{boundary:g}" for boundary in BOUNDARIES_SECONDS), "+Inf")

_TOTALS = (
    ("cpu_seconds", "On-CPU time, as the scheduler charges it."),
    ("periods", "Periods of the CPU quota."),
    ("throttled_periods", "Periods in which the CPU quota ran out."),
    ("oom_kills", "Processes ended by the OOM killer."),
    ("tcp_retransmits", "TCP segments sent again."),
    ("tcp_resets_sent", "TCP resets sent."),
    ("tcp_resets_received", "TCP resets received."),
    ("connections_opened", "TCP connections opened."),
    ("connections_accepted", "TCP connections accepted."),
    ("connections_refused", "TCP connections that the other end refused."),
    ("connections_failed", "TCP connections that nobody answered."),
)

_OVERFLOWED: dict[bool, Labels] = {
    False: (("http_request_method", OTHER_METHOD), ("http_route", OVERFLOW_ROUTE)),
    True: (("rpc_system_name", "grpc"), ("rpc_method", OVERFLOW_ROUTE)),
}
_Key = tuple[Identity, str, bool, Labels]  # whose, role, gRPC, and the rest
_FAMILIES = {
    ("server", False): "http_server_request_duration_seconds",
    ("client", False): "http_client_request_duration_seconds",
    ("server", True): "rpc_server_call_duration_seconds",
    ("client", True): "rpc_client_call_duration_seconds",
}


@dataclass(slots=True)
class Duration:
    """A histogram in the making: counts up to each boundary and past the last, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * len(_LES))
    seconds: float = 0.0

    def add(self, other: Duration) -> None:
        """Add `other` to it."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds


@dataclass(frozen=True, slots=True)
class Gathered:
    """What is kept of a traffic row until its window is stored."""

    identity: Identity
    role: str
    is_rpc: bool
    labels: Labels
    duration: Duration
    request_bytes: int
    response_bytes: int
    answers: Answers | None  # of a server


def gathered(row: TrafficRow) -> Gathered:
    """The part of `row` that is told."""
    duration = Duration(seconds=row.latency_seconds_sum)
    for bucket, count in row.latency.counts.items():
        duration.counts[_PLACE[bucket]] += count
    is_rpc = row.protocol == GRPC
    status = "rpc_response_status_code" if is_rpc else "http_response_status_code"
    labels = (*_what(row), *_ending(row, status))
    answers = Answers.of(row) if row.role == "server" else None
    return Gathered(row.identity, row.role, is_rpc, labels, duration, row.request_bytes, row.response_bytes, answers)


def _what(row: TrafficRow) -> Labels:
    if row.protocol == GRPC:
        return (("rpc_system_name", "grpc"), ("rpc_method", row.route.lstrip("/")))
    version = (("network_protocol_version", "2"),) if row.protocol == HTTP2 else ()  # of HTTP/1 it is not known which
    return (("http_request_method", row.method), ("http_route", row.route), *version)


def _ending(row: TrafficRow, name: str) -> Labels:
    """Status and kind of error; a request without an answer has only the latter."""
    if row.outcome != ANSWERED:
        return (("error_type", row.outcome),)
    fails, said = is_server_error if row.role == "server" else is_error, name_of(row.protocol, row.status)
    return ((name, said), ("error_type", said)) if fails(row.protocol, row.status) else ((name, said),)


class Metrics:
    """Counters by labels. One thread adds a window, another reads the text."""

    def __init__(self, version: str, most_series: int) -> None:
        """Start from zero.

        :param most_series: of histograms; what comes past it is counted under the route ``__overflow__``,
            of which each instance and role has one
        """
        self._lock = threading.Lock()
        self._version = version
        self._most = most_series // _SERIES_PER_HISTOGRAM
        self._durations: dict[_Key, Duration] = {}
        self._bytes: Counter[tuple[Identity, str, str]] = Counter()
        self._usage: Counter[tuple[Identity, str]] = Counter()
        self._working_set: dict[Identity, int] = {}
        self._seen: dict[Identity, int] = {}
        self._served = Served()
        self._lost: Counter[str] = Counter()
        self._windows = 0
        #: When a window was stored last, on the monotonic clock.
        self.last_window: float | None = None
        #: The same of one that was to be stored; and whether it was refused.
        self.last_try: float | None = None
        self.is_refused = False
        self._overflowed = 0
        self._agent: dict[str, float] = {"cpu_seconds": 0.0}
        self._programs: dict[str, float] = {}

    def add(self, window: Window, traffic: Iterable[Gathered], usage: Iterable[UsageRow]) -> None:
        """Count a window that was stored."""
        with self._lock:
            self._windows += 1
            self.last_window = time.monotonic()
            self._served.begin(window)
            for row in traffic:
                self._seen[row.identity] = self._windows
                self._count(row)
            for used in usage:
                self._seen[used.identity] = self._windows
                self._served.see(used.identity)
                self._use(used)
            self._served.end(window)
            self._lost.update(window.lost)
            cpu_seconds = self._agent["cpu_seconds"] + window.agent.get("cpu_seconds", 0.0)
            if "program_seconds" in window.agent:
                self._programs = cost_over([window])
            self._agent = dict(window.agent) | {"cpu_seconds": cpu_seconds}
            self._forget()

    def text(self) -> Iterator[str]:
        """The exposition, a few lines at a time: each histogram whole."""
        with self._lock:
            durations = list(self._durations)
            gauges = "".join(self._small())
        yield gauges
        for (role, is_rpc), name in _FAMILIES.items():
            keys = [key for key in durations if key[1:3] == (role, is_rpc)]
            what = f"gRPC {role} calls" if is_rpc else f"HTTP {role} requests"
            if keys or not is_rpc:
                yield head(name, "histogram", f"Duration of {what}, to the last byte of the answer.")
            for key in keys:
                with self._lock:
                    found = self._durations.get(key)
                    counts, seconds = (list(found.counts), found.seconds) if found else (None, 0.0)
                if counts:
                    yield _histogram(name, whose(key[0]) + key[3], counts, seconds)

    def _count(self, row: Gathered) -> None:
        key: _Key = (row.identity, row.role, row.is_rpc, row.labels)
        if key not in self._durations and len(self._durations) >= self._most:
            labels = _OVERFLOWED[row.is_rpc]
            key = (row.identity, row.role, row.is_rpc, labels)
            self._overflowed += sum(row.duration.counts)
        self._durations.setdefault(key, Duration()).add(row.duration)
        self._bytes[row.identity, row.role, "request"] += row.request_bytes
        self._bytes[row.identity, row.role, "response"] += row.response_bytes
        if row.answers is not None:
            self._served.add(row.identity, row.answers)

    def _use(self, row: UsageRow) -> None:
        for name, _ in _TOTALS:
            value = getattr(row, name)
            if value is not None:
                self._usage[row.identity, name] += value
        if row.memory_working_set_bytes is not None:
            self._working_set[row.identity] = row.memory_working_set_bytes

    def _forget(self) -> None:
        gone = {who for who, last in self._seen.items() if self._windows - last >= _FORGET_AFTER_WINDOWS}
        if not gone:
            return
        self._durations = {key: value for key, value in self._durations.items() if key[0] not in gone}
        self._bytes = Counter({key: value for key, value in self._bytes.items() if key[0] not in gone})
        self._usage = Counter({key: value for key, value in self._usage.items() if key[0] not in gone})
        self._working_set = {who: value for who, value in self._working_set.items() if who not in gone}
        self._seen = {who: last for who, last in self._seen.items() if who not in gone}
        self._served.forget(gone)

    def _small(self) -> Iterator[str]:
        """Everything but the histograms."""
        yield metric("headroom_build_info", "gauge", "Version of the agent.", {(("version", self._version),): 1})
        yield metric("headroom_windows_total", "counter", "Windows stored.", {(): self._windows})
        agent = self._agent
        yield metric(
            "headroom_agent_cpu_seconds_total", "counter", "CPU time of the agent.", {(): agent["cpu_seconds"]}
        )
        for name, what in (("resident", "Resident memory"), ("map", "Kernel memory of the maps")):
            value = agent.get(f"{name}_bytes", 0)
            yield metric(f"headroom_agent_{name}_bytes", "gauge", f"{what} of the agent.", {(): value})
        if self._programs:
            what = "Cores that the agent's programs in the kernel take, as last sampled."
            yield metric("headroom_program_cores", "gauge", what, {(): self._programs["program_cores"]})
        if "program_seconds_per_request" in self._programs:
            what = "Time of these programs per request and end, as last sampled."
            per_request = self._programs["program_seconds_per_request"]
            yield metric("headroom_program_seconds_per_request", "gauge", what, {(): per_request})
        lost: dict[Labels, float] = {(("reason", reason),): count for reason, count in sorted(self._lost.items())}
        yield metric("headroom_lost_total", "counter", "What could not be counted, by reason.", lost)
        series = len(self._durations) * _SERIES_PER_HISTOGRAM
        yield metric("headroom_series", "gauge", "Series of histograms told.", {(): series})
        overflow = "Requests told without their route, for want of series."
        yield metric("headroom_overflowed_requests_total", "counter", overflow, {(): self._overflowed})
        for direction in ("request", "response"):
            told = {
                (*whose(who), ("role", role)): count
                for (who, role, which), count in self._bytes.items()
                if which == direction
            }
            what = f"Bytes of HTTP {direction}s, heads and bodies."
            yield metric(f"headroom_http_{direction}_bytes_total", "counter", what, told)
        for name, what in _TOTALS:
            used = {whose(who): value for (who, which), value in self._usage.items() if which == name}
            yield metric(f"headroom_{name}_total", "counter", what, used)
        memory = {whose(who): value for who, value in self._working_set.items()}
        yield metric("headroom_memory_working_set_bytes", "gauge", "Memory that cannot be taken back at once.", memory)
        if not self.is_refused:  # else counters stand still although much may be asked
            yield from self._served.text()


def _histogram(name: str, labels: Labels, counts: list[int], seconds: float) -> str:
    within = inside(labels)
    lines = [
        f'{name}_bucket{{{within},le="{le}"}} {total}\n'
        for le, total in zip(_LES, itertools.accumulate(counts), strict=True)
    ]
    total = sum(counts)
    return "".join(lines) + f"{name}_sum{{{within}}} {number(seconds)}\n{name}_count{{{within}}} {total}\n"
