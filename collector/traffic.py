"""Kernel counters of requests -> traffic rows.

Of each key only the packed value is kept (collector.counters): thousands of them live at once.
"""

from __future__ import annotations

import ctypes
import struct
from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bpf.layout import Method, Outcome, Protocol, RequestKey, RequestStats, Role, TrafficLoss
from bpf.loader import BpfObject, Map, load
from collector.counters import KernelCounters
from collector.routes import Pattern
from collector.services import Services
from profiles.histogram import LATENCY, Histogram
from profiles.schema import OTHER_METHOD, Identity, TrafficRow

_U32 = 1 << 32
_COUNTING = ("requests", "fresh_stats", "losses", "connections", "kinds_made")
_HTTP2_PROGRAMS = ("http2_ingress_program", "http2_egress_program")
_ROUTES = ("routes", "prefixes", "routes_brought", "routes_allowed")
_SHARED_WITH_HTTP2 = (*_COUNTING, *_HTTP2_PROGRAMS, *_ROUTES, "heads")
_SHARED_WITH_ENDINGS = (*_COUNTING, "conversations")
_OF_HTTP2 = ("http2_connections", *(f"http2_more_{number}" for number in range(1, 5)))
_LATENCY_OFFSET = RequestStats.latency.offset
_EMPTY = bytes(ctypes.sizeof(RequestStats))
_SUMS = struct.Struct("<QQQQ")
_REMOVED = (1).to_bytes(4, "little")  # slot of map `kinds_made`
_COMMITS_PER_SWEEP = 6
_CGROUP = (1 << 63) - 1
_QUIET_WINDOWS = 6  # of a route that is no more, before its room is given back


class Sums(NamedTuple):
    """Over requests; the transfer is what of the latency passed since the answers' first bytes."""

    latency_seconds: float
    transfer_seconds: float
    request_bytes: int
    response_bytes: int


@dataclass(frozen=True, slots=True)
class RequestDelta:
    """Requests of one kernel key since the last commit.

    Thousands of them live at once, so what they count is worked out when it is asked for.

    :ivar before: the packed value as of the last commit, empty for a new key
    :ivar after: the packed value now
    """

    cgroup_id: int
    role: str
    protocol: str
    method: str
    route: str
    status: int
    outcome: str
    before: bytes
    after: bytes

    @property
    def latency(self) -> Histogram:
        """Latency of these requests; its total is their number."""
        old, new = unpack(self.before), unpack(self.after)
        return Histogram(LATENCY, without_moves(differences(old[_LATENCY_OFFSET:], new[_LATENCY_OFFSET:])))

    @property
    def sums(self) -> Sums:
        """What is added up of them."""
        old, new = (_SUMS.unpack_from(each or _EMPTY) for each in (self.before, self.after))
        return Sums((new[0] - old[0]) * 1e-9, (new[1] - old[1]) * 1e-9, new[2] - old[2], new[3] - old[3])


@dataclass(kw_only=True)
class TrafficCounters(KernelCounters):
    """The open traffic object and what was stored of it so far."""

    services: Services
    bank: dict[str, Map] = field(default_factory=dict)  # the limit bank's map, by the name it has here
    _quiet: dict[bytes, int] = field(default_factory=dict)  # windows, by key of a route that is no more
    _removed: int = 0
    _commits: int = 0

    @classmethod
    def attach(
        cls, cgroup_root: Path, cgroup_cpus: Map | None = None, patterns: Sequence[Pattern] = ()
    ) -> TrafficCounters:
        """Start counting for every socket below `cgroup_root`.

        :param cgroup_cpus: the limit bank's map, which then weighs its delays by requests
        :param patterns: routes as the user calls them
        :raises bpf.loader.KernelRefused: when this kernel does not take the object
        """
        bank = {"shared_cgroup_cpus": cgroup_cpus} if cgroup_cpus else {}
        kernel = load("traffic", shared=bank)
        try:
            kernel.attach_cgroup("count_ingress", cgroup_root)
            kernel.attach_cgroup("count_egress", cgroup_root)
        except BaseException:
            kernel.close()
            raise
        for name in {*_COUNTING, *_SHARED_WITH_HTTP2, *_SHARED_WITH_ENDINGS, "early_connections"}:
            kernel.map(name)
        reasons = {reason.value: reason.name.lower() for reason in TrafficLoss}
        counts, lost = kernel.map("requests"), kernel.map("losses")
        return cls(
            kernel=kernel,
            counts=counts,
            lost=lost,
            reasons=reasons,
            kept=pack,
            telling_bytes=_LATENCY_OFFSET,  # sums: no request without a byte
            bank=bank,
            services=Services(kernel, patterns),
        )

    def attach_http2(self) -> BpfObject:
        """Count also requests of HTTP/2 and gRPC connections.

        :raises bpf.loader.KernelRefused: when the kernel does not take the object; everything else is counted
        """
        http2 = load("http2", shared=self.bank | {name: self.kernel.map(name) for name in _SHARED_WITH_HTTP2})
        try:
            for direction in ("ingress", "egress"):
                http2.call_from(self.kernel.map(f"http2_{direction}_program"), f"http2_{direction}")
        except BaseException:
            http2.close()
            raise
        return http2

    def attach_endings(self, http2: BpfObject | None = None) -> BpfObject:
        """Count also requests whose connection, or stream, ends before their answer.

        :param http2: whose streams are looked at as well
        :raises bpf.loader.KernelRefused: when this kernel does not take the object; everything else is counted
        """
        shared = {name: self.kernel.map(name) for name in _SHARED_WITH_ENDINGS}
        shared |= {name: http2.map(name) for name in _OF_HTTP2} if http2 else {}
        endings = load("endings", shared=shared)
        try:
            endings.attach_tracepoint("end_connection")
        except BaseException:
            endings.close()
            raise
        return endings

    def read(self, service_of: Callable[[int], Hashable] = int) -> list[RequestDelta]:
        """What changed since the last commit.

        :param service_of: what the cgroups of one service have in common; each is one for itself by default
        """
        changed = [(RequestKey.from_buffer_copy(key), before, now) for key, before, now in self.changed()]
        for key, _, _ in changed:
            self.services.see(_owner_of(key), service_of(key.cgroup_id), key.route)
        self.services.settle(self._requests_of)
        return [self._delta(key, before, now) for key, before, now in changed]

    def relieve(self, service_of: Callable[[int], Hashable] = int) -> None:
        """Between two windows: make room for routes where one service brings very many.

        :param service_of: as of :meth:`read`; None for a cgroup that came since
        """
        if not self.services.pressed():
            return
        for raw, _ in self.counts.items():  # noqa: PERF102 - a map, not a dictionary
            key = RequestKey.from_buffer_copy(raw)
            if (service := service_of(key.cgroup_id)) is not None:
                self.services.see(_owner_of(key), service, key.route)
        self.services.settle(self._requests_of)

    def commit(self) -> None:
        """What was last read is stored: count from there. Routes that are no more give back their room in time."""
        changed = set(self._pending)
        super().commit()
        if not self.services.have_retired:
            return
        retired = {key for key in self._stored if self.services.is_retired(*_route_of(key))}
        self._quiet = {key: 0 if key in changed else self._quiet.get(key, 0) + 1 for key in retired}
        for key in [key for key, windows in self._quiet.items() if windows >= _QUIET_WINDOWS]:
            self.remove(key)

    def remove(self, key: bytes) -> bool:
        """Drop one stored entry; false when something was counted in it since."""
        gone = super().remove(key)
        self._removed += gone
        return gone

    def forget(self, is_alive: Callable[[int], bool]) -> None:
        """Drop what is kept of ended cgroups, and of routes that nobody uses any more."""
        super().forget(is_alive)
        self._commits += 1
        sweeps = self._commits % _COMMITS_PER_SWEEP == 0
        if not self._removed and not sweeps:
            return
        removed = self.kernel.map("kinds_made")
        before = int.from_bytes(removed.get(_REMOVED) or b"", "little")
        removed.put(_REMOVED, (before + self._removed).to_bytes(8, "little"))
        self._removed = 0
        used = {_route_of(key) for key in self._stored}
        owners, routes = {owner for owner, _ in used}, {route for _, route in used}

        def lives(owner: int) -> bool:
            return owner in owners or is_alive(owner & _CGROUP)

        self.services.forget(lives, routes.__contains__)
        if sweeps:
            self.services.sweep(lives, routes.__contains__)

    def _requests_of(self, owners: set[int]) -> Counter[int]:
        found: Counter[int] = Counter()
        for key, value in self.counts.items():
            owner, route = _route_of(key)
            if owner in owners:
                found[route] += sum(value[_LATENCY_OFFSET:].cast("I"))
        return found

    def _delta(self, key: RequestKey, before: bytes, after: bytes) -> RequestDelta:
        role, protocol, outcome = (
            each.name.lower() for each in (Role(key.role), Protocol(key.protocol), Outcome(key.outcome))
        )
        method = OTHER_METHOD if key.method == Method.OTHER else Method(key.method).name
        route = self.services.name(_owner_of(key), key.route)
        return RequestDelta(key.cgroup_id, role, protocol, method, route, key.status, outcome, before, after)


def _owner_of(key: RequestKey) -> int:
    return int(key.cgroup_id) | int(key.role) << 63


def _route_of(raw: bytes) -> tuple[int, int]:
    """Owner and route of a key."""
    key = RequestKey.from_buffer_copy(raw)
    return _owner_of(key), int(key.route)


def pack(value: bytes) -> bytes:
    """A value of map ``requests`` without the zeros before and behind its buckets in use.

    Most routes use a tenth of the buckets; snapshots of thousands of keys are what the agent's
    memory goes to.
    """
    body = value[_LATENCY_OFFSET:].rstrip(b"\0")
    start = len(body) - len(body.lstrip(b"\0"))
    return value[:_LATENCY_OFFSET] + start.to_bytes(2, "little") + body[start:]


def unpack(packed: bytes) -> bytes:
    """The inverse of :func:`pack`; all zeros for nothing."""
    if not packed:
        return _EMPTY
    start = int.from_bytes(packed[_LATENCY_OFFSET : _LATENCY_OFFSET + 2], "little")
    return (packed[:_LATENCY_OFFSET] + bytes(start) + packed[_LATENCY_OFFSET + 2 :]).ljust(len(_EMPTY), b"\0")


def differences(before: bytes, after: bytes) -> dict[int, int]:
    """Growth per index of two arrays of 32-bit counters that may wrap; zeros are left out."""
    if before == after:
        return {}
    old, new = array("I", before), array("I", after)
    return {index: (b - a) % _U32 for index, (a, b) in enumerate(zip(old, new, strict=True)) if a != b}


def without_moves(counts: dict[int, int]) -> dict[int, int]:
    """Without the requests of earlier windows whose answers went on in this one.

    They have left the bucket they were stored in for a longer one, taken to be the next that has grown: they stay
    where they were.
    """
    left = {bucket: _U32 - count for bucket, count in counts.items() if count >> 31}
    if not left:
        return counts
    grown = {bucket: count for bucket, count in sorted(counts.items()) if not count >> 31}
    for start in sorted(left, reverse=True):
        for bucket in [bucket for bucket in grown if bucket > start]:
            moved = min(left[start], grown[bucket])
            left[start] -= moved
            grown[bucket] -= moved
    return {bucket: count for bucket, count in grown.items() if count}


def traffic_rows(deltas: Iterable[RequestDelta], identity_of: Callable[[int], Identity | None]) -> Iterator[TrafficRow]:
    """One row per workload instance and template: hashes with the same template are merged.

    :param identity_of: the workload of a cgroup id, or None to leave its requests out
    """
    merged: dict[tuple[Identity, str, str, str, str, int, str], list[RequestDelta]] = {}
    for delta in deltas:
        identity = identity_of(delta.cgroup_id)
        if identity is not None:
            key = (identity, delta.role, delta.protocol, delta.method, delta.route, delta.status, delta.outcome)
            merged.setdefault(key, []).append(delta)
    for (identity, role, protocol, method, route, status, outcome), parts in merged.items():
        latency = Histogram.merged(LATENCY, (part.latency for part in parts))
        sums = Sums(*map(sum, zip(*(part.sums for part in parts), strict=True)))
        yield TrafficRow(
            identity,
            role,
            protocol,
            False,
            method,
            route,
            status,
            latency,
            sums.latency_seconds,
            sums.request_bytes,
            sums.response_bytes,
            outcome,
            sums.transfer_seconds,
        )
