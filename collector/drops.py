"""Kernel counters of dropped packets -> drop rows, by the kernel's own reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from bpf.kernel_names import enum_names
from bpf.layout import DropKey, DropsLoss
from bpf.loader import BpfObject, KernelRefused, load
from collector.counters import KernelCounters
from profiles.schema import DropRow, Identity

_PREFIX = "SKB_DROP_REASON_"
#: A closing socket's queues are emptied, and the kernel says so: nothing went missing on the way.
_NO_DROPS = {"QUEUE_PURGE"}
_WITHOUT_SOCKET = b"\0"  # `names_socket`: Linux before 6.11


class DropDelta(NamedTuple):
    """Packets dropped since the last commit; cgroup 0: of no socket that the kernel names."""

    cgroup_id: int
    reason: str
    packets: int


@dataclass(kw_only=True)
class DropCounters(KernelCounters):
    """The open object and what was stored of it so far."""

    names: dict[int, str] = field(default_factory=dict)

    @classmethod
    def attach(cls) -> DropCounters:
        """Start counting.

        :raises bpf.loader.KernelRefused: when this kernel does not take the object, or has no reasons (before 5.17)
        """
        try:
            kernel = load("drops")
        except KernelRefused:
            kernel = load("drops", constants=_WITHOUT_SOCKET)
        try:
            kernel.attach_tracepoint("count_drop")
            return cls._of(kernel)
        except BaseException:
            kernel.close()
            raise

    @classmethod
    def _of(cls, kernel: BpfObject) -> DropCounters:
        reasons = {DropsLoss.NO_ENTRY.value: "drops_no_entry"}
        names = {number: name.removeprefix(_PREFIX) for number, name in enum_names("skb_drop_reason").items()}
        return cls(
            kernel=kernel, counts=kernel.map("drops"), lost=kernel.map("drops_losses"), reasons=reasons, names=names
        )

    def read(self) -> list[DropDelta]:
        """What changed since the last commit."""
        found = []
        for raw, before, after in self.changed():
            key = DropKey.from_buffer_copy(raw)
            packets = int.from_bytes(after, "little") - int.from_bytes(before, "little")
            found.append(DropDelta(key.cgroup_id, self.names.get(key.reason, f"reason {key.reason}"), packets))
        return [each for each in found if each.reason not in _NO_DROPS]


def drop_rows(deltas: Iterable[DropDelta], identity_of: Callable[[int], Identity | None]) -> Iterator[DropRow]:
    """Deltas under their workloads' names; those of nobody that is recorded are left out."""
    totals: Counter[tuple[Identity, str]] = Counter()
    for delta in deltas:
        if (identity := identity_of(delta.cgroup_id)) is not None:
            totals[identity, delta.reason] += delta.packets
    return (DropRow(*key, packets) for key, packets in totals.items())
