"""Kernel counters of requests -> traffic rows.

The kernel counts up for ever; a window is the difference to what was last stored. When a
window cannot be stored the difference simply grows into the next one: nothing is lost.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bpf.layout import Method, RequestKey, RequestStats, Role, RouteText, TrafficLoss
from bpf.loader import BpfObject, load
from collector.routes import RouteNames
from profiles.histogram import LATENCY, Histogram
from profiles.schema import Identity, TrafficRow

_U32 = 1 << 32
_LATENCY_OFFSET = RequestStats.latency.offset
_EMPTY = bytes(ctypes.sizeof(RequestStats))


@dataclass(frozen=True, slots=True)
class RequestDelta:
    """Requests of one kernel key since the last commit."""

    cgroup_id: int
    role: str
    method: str
    route: str
    status: int
    latency: Histogram
    latency_seconds_sum: float
    request_bytes: int
    response_bytes: int


class TrafficCounters:
    """The open traffic object and what was stored of it so far."""

    def __init__(self, kernel: BpfObject) -> None:
        self.kernel = kernel
        self._stored: dict[bytes, bytes] = {}
        self._pending: dict[bytes, bytes] = {}
        self._routes = RouteNames()
        self._lost: dict[str, int] = {}
        self._pending_lost: dict[str, int] = {}

    @classmethod
    def attach(cls, cgroup_root: Path) -> TrafficCounters:
        """Start counting for every socket below `cgroup_root`.

        :raises bpf.loader.KernelRefused: when this kernel does not take the object
        """
        kernel = load("traffic")
        try:
            kernel.attach_cgroup("count_ingress", cgroup_root)
            kernel.attach_cgroup("count_egress", cgroup_root)
        except BaseException:
            kernel.close()
            raise
        for name in ("requests", "routes", "losses"):
            kernel.map(name)
        return cls(kernel)

    def read(self) -> list[RequestDelta]:
        """What changed since the last commit."""
        self._pending = {}
        changed: list[RequestDelta] = []
        for key, value in self.kernel.map("requests").items():
            packed = pack(value)
            before = self._stored.get(key, b"")
            if packed != before:
                self._pending[key] = packed
                changed.append(self._delta(RequestKey.from_buffer_copy(key), unpack(before), value))
        return changed

    def losses(self) -> dict[str, int]:
        """What was lost since the last commit, per reason; only reasons that occurred."""
        counters = self.kernel.map("losses")
        self._pending_lost = {reason.name.lower(): counters.sum_per_cpu(reason) for reason in TrafficLoss}
        grown = {name: count - self._lost.get(name, 0) for name, count in self._pending_lost.items()}
        return {name: count for name, count in grown.items() if count}

    def commit(self) -> None:
        """What was last read is stored: count from there."""
        self._stored.update(self._pending)
        self._lost.update(self._pending_lost)
        self._pending = {}

    def forget(self, is_alive: Callable[[int], bool]) -> None:
        """Drop stored keys of ended cgroups, so that their room in the kernel is free again."""
        for key in [key for key in self._stored if not is_alive(RequestKey.from_buffer_copy(key).cgroup_id)]:
            value = self.kernel.map("requests").get(key)
            if value is None or pack(value) == self._stored[key]:
                self.kernel.map("requests").delete(key)
                del self._stored[key]

    def _delta(self, key: RequestKey, before: bytes, after: bytes) -> RequestDelta:
        old, new = RequestStats.from_buffer_copy(before), RequestStats.from_buffer_copy(after)
        return RequestDelta(
            key.cgroup_id,
            Role(key.role).name.lower(),
            Method(key.method).name,
            self._route(key.route),
            key.status,
            Histogram(LATENCY, differences(before[_LATENCY_OFFSET:], after[_LATENCY_OFFSET:])),
            (new.latency_sum_ns - old.latency_sum_ns) * 1e-9,
            new.request_bytes - old.request_bytes,
            new.response_bytes - old.response_bytes,
        )

    def _route(self, route: int) -> str:
        if not self._routes.knows(route):
            value = self.kernel.map("routes").get(route.to_bytes(8, "little"))
            if value is not None:
                text = RouteText.from_buffer_copy(value)
                path = value[RouteText.path.offset :][: text.length]
                self._routes.learn(route, path, whole=bool(text.whole))
        return self._routes.name(route)


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


def traffic_rows(deltas: Iterable[RequestDelta], identity_of: Callable[[int], Identity | None]) -> Iterator[TrafficRow]:
    """One row per workload instance and template: hashes with the same template are merged.

    :param identity_of: the workload of a cgroup id, or None to leave its requests out
    """
    merged: dict[tuple[Identity, str, str, str, int], list[RequestDelta]] = {}
    for delta in deltas:
        identity = identity_of(delta.cgroup_id)
        if identity is not None:
            key = (identity, delta.role, delta.method, delta.route, delta.status)
            merged.setdefault(key, []).append(delta)
    for (identity, role, method, route, status), parts in merged.items():
        yield TrafficRow(
            identity,
            role,
            "http1",
            False,
            method,
            route,
            status,
            Histogram.merged(LATENCY, (part.latency for part in parts)),
            sum(part.latency_seconds_sum for part in parts),
            sum(part.request_bytes for part in parts),
            sum(part.response_bytes for part in parts),
        )
