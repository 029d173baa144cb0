"""Who talks to whom over TCP, and how much: the network as a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from profiles.schema import PeerRow

HEADINGS = ("workload", "side", "peer", "port", "connections", "sent", "received", "sent/s", "received/s")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@dataclass(frozen=True, slots=True)
class PeerSum:
    """One container and one of its peers.

    :ivar role: ``server`` where the peer opened the connections
    :ivar kind: profiles.schema.PeerKind
    :ivar sent_bytes, received_bytes: TCP payload, each byte once
    """

    workload: str
    role: str
    kind: str
    peer: str
    port: int
    connections: int
    sent_bytes: int
    received_bytes: int
    sent_bytes_per_second: float
    received_bytes_per_second: float

    def as_record(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def peer_sums(rows: Iterable[PeerRow], seconds: float) -> list[PeerSum]:
    """Over all windows and instances; within a workload and side the one with the most bytes first.

    :param seconds: that were recorded
    """
    sums: dict[tuple[str, str, str, str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        of = sums[row.identity.name, row.role, row.kind, row.peer, row.port]
        for place, number in enumerate((row.connections, row.sent_bytes, row.received_bytes)):
            of[place] += number
    made = [
        PeerSum(*key, connections, sent, received, sent / seconds, received / seconds)
        for key, (connections, sent, received) in sums.items()
    ]
    return sorted(
        made,
        key=lambda each: (
            each.workload, each.role != "server", -each.sent_bytes - each.received_bytes, each.peer, each.port
        ),
    )  # fmt: skip


def cells(row: PeerSum) -> list[str]:
    """The row as text under :data:`HEADINGS`."""
    return [
        row.workload, row.role, row.peer, str(row.port or "-"), f"{row.connections:,}",
        in_bytes(row.sent_bytes), in_bytes(row.received_bytes),
        in_bytes(row.sent_bytes_per_second), in_bytes(row.received_bytes_per_second),
    ]  # fmt: skip


def in_bytes(number: float) -> str:
    """Three significant digits, in the largest unit of 1,024 that leaves one before the point."""
    unit = 0
    while number >= 999.5 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.3g} {_UNITS[unit]}"
