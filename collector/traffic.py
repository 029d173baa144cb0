"""Kernel counters of requests -> traffic rows.

Of each key only the packed value is kept (collector.counters): thousands of them live at once.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bpf.layout import Method, Outcome, Protocol, RequestKey, RequestStats, Role, TrafficLoss
from bpf.loader import BpfObject, Map, load
from collector.counters import KernelCounters
from collector.packed import differences, pack, unpack, without_moves
from collector.routes import Pattern
from collector.services import Services
from profiles.histogram import LATENCY, Histogram
from profiles.schema import OTHER_METHOD, Identity, TrafficRow

_COUNTING = ("requests", "fresh_stats", "losses", "connections", "kinds_made")
_HTTP2_PROGRAMS = ("http2_ingress_program", "http2_egress_program")
_ROUTES = ("routes", "prefixes", "routes_brought", "routes_allowed")
_SHARED_WITH_HTTP2 = (*_COUNTING, *_HTTP2_PROGRAMS, *_ROUTES, "heads")
_SHARED_WITH_LIFECYCLE = (*_COUNTING, "conversations", "early_connections")
_OF_HTTP2 = ("http2_connections", *(f"http2_more_{number}" for number in range(1, 5)))
_LATENCY_OFFSET = RequestStats.latency.offset
_SUMS = struct.Struct("<QQQQ")
_NOTHING = bytes(_SUMS.size)
_CGROUP_ROUTE_ROLE = struct.Struct("<QQ3xB")  # of a RequestKey
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
        old, new = (_SUMS.unpack_from(each or _NOTHING) for each in (self.before, self.after))
        return Sums((new[0] - old[0]) * 1e-9, (new[1] - old[1]) * 1e-9, new[2] - old[2], new[3] - old[3])


@dataclass(kw_only=True)
class TrafficCounters(KernelCounters):
    """The open traffic object and what was stored of it so far."""

    services: Services
    bank: dict[str, Map] = field(default_factory=dict)  # the limit bank's map, by the name it has here
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
        for name in {*_COUNTING, *_SHARED_WITH_HTTP2, *_SHARED_WITH_LIFECYCLE}:
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

    def attach_lifecycle(self, http2: BpfObject | None = None) -> BpfObject:
        """Count also requests that come before their socket, and those whose connection ends before their answer.

        :param http2: whose streams are looked at as well
        :raises bpf.loader.KernelRefused: when this kernel does not take the object; everything else is counted
        """
        shared = {name: self.kernel.map(name) for name in _SHARED_WITH_LIFECYCLE}
        shared |= {name: http2.map(name) for name in _OF_HTTP2} if http2 else {}
        lifecycle = load("lifecycle", shared=shared)
        try:
            lifecycle.attach_tracepoint("follow_connection")
        except BaseException:
            lifecycle.close()
            raise
        return lifecycle

    def read(self, service_of: Callable[[int], Hashable | None] = int) -> list[RequestDelta]:
        """What changed since the last commit.

        :param service_of: what the cgroups of one service have in common; one without any is a service by itself
        """
        changed = list(self.changed())
        for key, _, _ in changed:
            owner, route = _owner_and_route(key)
            service = service_of(owner & _CGROUP)
            self.services.see(owner, owner & _CGROUP if service is None else service, route)
        self.services.settle(self._requests_of)
        return [self._delta(key, before, now) for key, before, now in changed]

    def relieve(self, service_of: Callable[[int], Hashable | None] = int) -> None:
        """Between two windows: make room for routes where one service brings very many.

        :param service_of: as of :meth:`read`; nothing is done for cgroups of which nothing is known yet
        """
        if not self.services.pressed():
            return
        for key, _ in self.counts.items():  # noqa: PERF102 - a map, not a dictionary
            owner, route = _owner_and_route(key)
            if (service := service_of(owner & _CGROUP)) is not None:
                self.services.see(owner, service, route)
        self.services.settle(self._requests_of)

    def commit(self) -> None:
        """What was last read is stored: count from there. Routes that are no more give back their room in time."""
        changed = set(self._pending)
        super().commit()
        if not self.services.have_retired:
            return
        retired = [key for key in self._stored if self.services.is_retired(*_owner_and_route(key))]
        self.remove_quiet(retired, changed, _QUIET_WINDOWS)

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
        used = {_owner_and_route(key) for key in self._stored}
        owners, routes = {owner for owner, _ in used}, {route for _, route in used}

        def lives(owner: int) -> bool:
            return owner in owners or is_alive(owner & _CGROUP)

        self.services.forget(lives, routes.__contains__)
        if sweeps:
            self.services.sweep(lives, routes.__contains__)

    def _requests_of(self, owners: Container[int]) -> Counter[tuple[int, int]]:
        found: Counter[tuple[int, int]] = Counter()
        for key, value in self.counts.items():
            owner, route = _owner_and_route(key)
            if owner in owners:
                found[owner, route] += sum(value[_LATENCY_OFFSET:].cast("I"))
        return found

    def _delta(self, raw: bytes, before: bytes, after: bytes) -> RequestDelta:
        key = RequestKey.from_buffer_copy(raw)
        role, protocol, outcome = (
            each.name.lower() for each in (Role(key.role), Protocol(key.protocol), Outcome(key.outcome))
        )
        method = OTHER_METHOD if key.method == Method.OTHER else Method(key.method).name
        route = self.services.name(*_owner_and_route(raw))
        return RequestDelta(key.cgroup_id, role, protocol, method, route, key.status, outcome, before, after)


def _owner_and_route(raw: bytes) -> tuple[int, int]:
    """Of a key, which is not read as a whole: thousands are looked at at once."""
    cgroup_id, route, role = _CGROUP_ROUTE_ROLE.unpack_from(raw)
    return cgroup_id | role << 63, route


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
