"""Kernel counters of bytes by peer -> peer rows, with the peer's workload where it runs on this node."""

from __future__ import annotations

import logging
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from bpf.layout import HomeKey, PeerBytes, PeerFamily, PeerKey, PeersLoss
from bpf.loader import BpfObject, Map, load
from collector.counters import KernelCounters, cgroup_id_of
from collector.identity import UNATTRIBUTED
from profiles.schema import Identity, PeerKind, PeerRow

log = logging.getLogger("headroom.peers")

MOST_PEERS = 16384  # peers_layout.h
_QUIET_WINDOWS = 30  # before a peer's room is given back
_HOME_SECONDS = 600
_REMOVED = (1).to_bytes(4, "little")  # slot of map `peers_made`
_ROLES = ("server", "client")  # enum role


@dataclass(frozen=True, slots=True)
class PeerDelta:
    """What one cgroup exchanged with one peer since the last commit.

    :ivar address: the peer's, as text; ``internet`` for all public ones that came to a server, ``others`` where the
        table of peers was full
    :ivar port: of the server's end
    """

    cgroup_id: int
    role: str
    kind: PeerKind
    address: str
    port: int
    connections: int
    sent_bytes: int
    received_bytes: int


@dataclass(kw_only=True)
class PeerCounters(KernelCounters):
    """The open object and what was stored of it so far."""

    look: Callable[[], None]
    homes: Map
    _removed: int = 0

    @classmethod
    def attach(cls, traffic: BpfObject, most_peers: int = MOST_PEERS) -> PeerCounters:
        """Start counting.

        :param traffic: the open traffic object: the sockets that it has seen payload of are looked at
        :param most_peers: on this node that are kept apart
        :raises bpf.loader.KernelRefused: when this kernel does not take the object
        """
        connections = traffic.map("connections")
        kernel = load("peers", shared={"connections": connections}, constants=most_peers.to_bytes(4, "little"))
        try:
            look = kernel.attach_iterator("look_at_open", connections)
            kernel.attach_tracepoint("look_at_ends")
        except BaseException:
            kernel.close()
            raise
        reasons = {each.value: f"peers_{each.name.lower()}" for each in PeersLoss}
        counts, lost, homes = (kernel.map(name) for name in ("peers", "peers_losses", "homes"))
        return cls(kernel=kernel, counts=counts, lost=lost, reasons=reasons, look=look, homes=homes)

    def read(self) -> list[PeerDelta]:
        """What changed since the last commit; connections that are open are looked at first."""
        try:
            self.look()
        except OSError as error:  # TCP goes on counting: the next look has it
            log.warning("open connections could not be looked at in this window: %s", error.strerror)
        return [_delta(key, before, now) for key, before, now in self.changed()]

    def owners(self) -> dict[tuple[str, int], set[int]]:
        """Cgroups of this node by address, and port where they answer there; with port 0 by address alone."""
        found: dict[tuple[str, int], set[int]] = defaultdict(set)
        for raw, _ in self.homes.items():  # noqa: PERF102 - a map, not a dictionary
            key = HomeKey.from_buffer_copy(raw)
            found[_address(key.family, bytes(key.address)), socket.ntohs(key.port)].add(key.cgroup_id)
        return found

    def commit(self) -> None:
        """What was last read is stored: count from there. Peers that have long been quiet give back their room."""
        changed = set(self._pending)
        super().commit()
        self.remove_quiet(self._stored, changed, _QUIET_WINDOWS)

    def remove(self, key: bytes) -> bool:
        """Drop one stored entry; false when something was counted in it since."""
        gone = super().remove(key)
        if gone and PeerKey.from_buffer_copy(key).family != PeerFamily.ANYBODY:
            self._removed += 1
            self.kernel.map("peers_made").put(_REMOVED, self._removed.to_bytes(8, "little"))
        return gone

    def forget(self, is_alive: Callable[[int], bool]) -> None:
        """Drop what is kept of ended cgroups, and addresses that were not used for long."""
        super().forget(is_alive)
        oldest = time.monotonic_ns() - _HOME_SECONDS * 10**9
        for raw, used in list(self.homes.items()):
            if int.from_bytes(used, "little") < oldest or not is_alive(cgroup_id_of(raw)):
                self.homes.delete(raw)


def peer_rows(
    deltas: Iterable[PeerDelta],
    owners: Mapping[tuple[str, int], set[int]],
    identity_of: Callable[[int], Identity | None],
) -> Iterator[PeerRow]:
    """Deltas under their workloads' names; those of nobody that is recorded are left out.

    :param identity_of: whose a cgroup is
    """
    totals: dict[tuple[Identity, str, PeerKind, str, int], list[int]] = {}
    for delta in deltas:
        identity = identity_of(delta.cgroup_id)
        if identity is None:
            continue
        kind, peer = _peer(delta, owners, identity_of)
        sums = totals.setdefault((identity, delta.role, kind, peer, delta.port), [0, 0, 0])
        for place, number in enumerate((delta.connections, delta.sent_bytes, delta.received_bytes)):
            sums[place] += number
    return (PeerRow(*key, *sums) for key, sums in totals.items())


def _peer(
    delta: PeerDelta,
    owners: Mapping[tuple[str, int], set[int]],
    identity_of: Callable[[int], Identity | None],
) -> tuple[PeerKind, str]:
    """The peer's workload, if it is one of this node's; else its address."""
    if delta.kind != "address":
        return delta.kind, delta.address
    at = (delta.address, delta.port if delta.role == "client" else 0)
    owning = {identity_of(owner) for owner in owners.get(at, set())}
    names = {each.name if each and each != UNATTRIBUTED else None for each in owning}
    if len(names) == 1 and (name := names.pop()):
        return "workload", name
    return "address", delta.address


def _delta(raw: bytes, before: bytes, after: bytes) -> PeerDelta:
    key, now = PeerKey.from_buffer_copy(raw), PeerBytes.from_buffer_copy(after)
    old = PeerBytes.from_buffer_copy(before) if before else PeerBytes()
    kind: PeerKind = "address"
    if key.family == PeerFamily.INTERNET:
        kind, address = "internet", "internet"
    elif key.family == PeerFamily.ANYBODY:
        kind, address = "others", "others"
    else:
        address = _address(key.family, bytes(key.address))
    return PeerDelta(
        key.cgroup_id,
        _ROLES[key.role],
        kind,
        address,
        socket.ntohs(key.port),
        now.connections - old.connections,
        now.sent - old.sent,
        now.received - old.received,
    )


def _address(family: int, raw: bytes) -> str:
    six = family == PeerFamily.IPV6
    return socket.inet_ntop(socket.AF_INET6 if six else socket.AF_INET, raw if six else raw[:4])
