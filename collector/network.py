"""Kernel counters of TCP events -> their part of the usage rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bpf.layout import NetworkCounts, NetworkLoss
from bpf.loader import BpfObject, load

_EVENTS = ("count_retransmit", "count_reset_sent", "count_reset_received", "count_connection")


@dataclass(frozen=True, slots=True)
class NetworkDelta:
    """What happened to the TCP sockets of one cgroup since the last commit.

    :ivar connections_refused, connections_failed: attempts that the other end refused, and that nobody answered
    :ivar connections_ended: closed; `round_trips_seconds` is the sum of their smoothed round trips
    """

    tcp_retransmits: int = 0
    tcp_resets_sent: int = 0
    tcp_resets_received: int = 0
    connections_opened: int = 0
    connections_accepted: int = 0
    connections_refused: int = 0
    connections_failed: int = 0
    connections_ended: int = 0
    round_trips_seconds: float = 0.0


class NetworkCounters:
    """The open network object and what was stored of it so far."""

    def __init__(self, kernel: BpfObject) -> None:
        self.kernel = kernel
        self._stored: dict[bytes, bytes] = {}
        self._pending: dict[bytes, bytes] = {}
        self._lost = self._pending_lost = 0

    @classmethod
    def attach(cls) -> NetworkCounters:
        """Start counting.

        :raises bpf.loader.KernelRefused: when this kernel does not take the object
        """
        kernel = load("network")
        try:
            for event in _EVENTS:
                kernel.attach_tracepoint(event)
            for name in ("networks", "network_losses"):
                kernel.map(name)
        except BaseException:
            kernel.close()
            raise
        return cls(kernel)

    def read(self) -> dict[int, NetworkDelta]:
        """What changed since the last commit, by cgroup id."""
        self._pending = {}
        changed: dict[int, NetworkDelta] = {}
        for key, value in self.kernel.map("networks").items():
            before = self._stored.get(key, b"")
            if value != before:
                self._pending[key] = value
                changed[int.from_bytes(key, "little")] = _delta(before, value)
        return changed

    def losses(self) -> dict[str, int]:
        """Events that could not be counted since the last commit."""
        self._pending_lost = self.kernel.map("network_losses").sum_per_cpu(NetworkLoss.NO_ENTRY)
        grown = self._pending_lost - self._lost
        return {"network_no_entry": grown} if grown else {}

    def commit(self) -> None:
        """What was last read is stored: count from there."""
        self._stored.update(self._pending)
        self._lost = self._pending_lost
        self._pending = {}

    def forget(self, is_alive: Callable[[int], bool]) -> None:
        """Drop stored entries of ended cgroups."""
        for key in [key for key in self._stored if not is_alive(int.from_bytes(key, "little"))]:
            self.kernel.map("networks").delete(key)
            del self._stored[key]


def _delta(before: bytes, after: bytes) -> NetworkDelta:
    old = NetworkCounts.from_buffer_copy(before) if before else NetworkCounts()
    new = NetworkCounts.from_buffer_copy(after)
    grown = {name: getattr(new, name) - getattr(old, name) for name, *_ in NetworkCounts._fields_}
    return NetworkDelta(
        grown["retransmits"],
        grown["resets_sent"],
        grown["resets_received"],
        grown["opened"],
        grown["accepted"],
        grown["refused"],
        grown["failed"],
        grown["ended"],
        grown["round_trip_us"] * 1e-6,
    )
