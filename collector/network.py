"""Kernel counters of TCP events -> their part of the usage rows."""

from __future__ import annotations

from dataclasses import dataclass

from bpf.layout import NetworkCounts, NetworkLoss
from bpf.loader import load
from collector.counters import KernelCounters, cgroup_id_of

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


class NetworkCounters(KernelCounters):
    """The open network object and what was stored of it so far."""

    @classmethod
    def attach(cls) -> NetworkCounters:
        """Start counting.

        :raises bpf.loader.KernelRefused: when this kernel does not take the object
        """
        kernel = load("network")
        try:
            for event in _EVENTS:
                kernel.attach_tracepoint(event)
        except BaseException:
            kernel.close()
            raise
        reasons = {NetworkLoss.NO_ENTRY.value: "network_no_entry"}
        counts, lost = kernel.map("networks"), kernel.map("network_losses")
        return cls(kernel=kernel, counts=counts, lost=lost, reasons=reasons)

    def read(self) -> dict[int, NetworkDelta]:
        """What changed since the last commit, by cgroup id."""
        return {cgroup_id_of(key): _delta(before, now) for key, before, now in self.changed()}


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
