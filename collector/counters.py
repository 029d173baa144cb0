"""Kernel counters that count up for ever, and how far they are stored.

A window is the difference to what was last committed. One that cannot be stored is not committed, so it
grows into the next: nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from bpf.loader import BpfObject, Map

_CGROUP_ID_BYTES = 8


@dataclass(kw_only=True)
class KernelCounters:
    """The map of one open object whose keys begin with a cgroup's id, and the one of its losses.

    :ivar reasons: names of the losses by their slot
    :ivar kept: what to remember of a value; equal where nothing was counted in between
    :ivar telling_bytes: at the beginning of a value and of what is kept, that change with whatever is counted
    """

    kernel: BpfObject
    counts: Map
    lost: Map
    reasons: Mapping[int, str]
    kept: Callable[[bytes], bytes] = bytes
    telling_bytes: int = 0
    _stored: dict[bytes, bytes] = field(default_factory=dict)
    _pending: dict[bytes, bytes] = field(default_factory=dict)
    _owners: set[int] = field(default_factory=set)  # cgroups that have stored entries
    _quiet: dict[bytes, int] = field(default_factory=dict)  # windows without a change, of keys that may be dropped
    _lost_stored: dict[str, int] = field(default_factory=dict)
    _lost_pending: dict[str, int] = field(default_factory=dict)

    def changed(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Key, what was kept as of the last commit (nothing of a new key) and what is kept now, where they differ."""
        self._pending = {}
        for key, value in self.counts.items():
            before = self._stored.get(key, b"")
            if before and self.telling_bytes and value[: self.telling_bytes] == before[: self.telling_bytes]:
                continue  # most of a node's routes are quiet
            now = self.kept(bytes(value))
            if now != before:
                self._pending[key] = now
                yield key, before, now

    def losses(self) -> dict[str, int]:
        """What was lost since the last commit, per reason; only reasons that occurred."""
        self._lost_pending = {name: self.lost.sum_per_cpu(slot) for slot, name in self.reasons.items()}
        grown = {name: count - self._lost_stored.get(name, 0) for name, count in self._lost_pending.items()}
        return {name: count for name, count in grown.items() if count}

    def commit(self) -> None:
        """What was last read is stored: count from there."""
        self._stored.update(self._pending)
        self._owners.update(map(cgroup_id_of, self._pending))
        self._lost_stored.update(self._lost_pending)
        self._pending = {}

    def forget(self, is_alive: Callable[[int], bool]) -> None:
        """Drop stored entries of ended cgroups, so that their room in the kernel is free again."""
        gone = {owner for owner in self._owners if not is_alive(owner)}
        if not gone:
            return
        self._owners -= gone
        for key in [key for key in self._stored if cgroup_id_of(key) in gone]:
            if not self.remove(key):
                self._owners.add(cgroup_id_of(key))

    def remove_quiet(self, keys: Iterable[bytes], changed: Container[bytes], windows: int) -> None:
        """Of these stored entries, drop those that have not `changed` for so many windows; asked at each commit."""
        self._quiet = {key: 0 if key in changed else self._quiet.get(key, 0) + 1 for key in keys}
        for key in [key for key, quiet in self._quiet.items() if quiet >= windows]:
            self.remove(key)

    def remove(self, key: bytes) -> bool:
        """Drop one stored entry; false when something was counted in it since."""
        value = self.counts.get(key)
        if value is not None and self.kept(value) != self._stored[key]:
            return False
        self.counts.delete(key)
        del self._stored[key]
        return True


def cgroup_id_of(key: bytes) -> int:
    """Whose entry it is."""
    return int.from_bytes(key[:_CGROUP_ID_BYTES], "little")
