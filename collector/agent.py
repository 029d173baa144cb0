"""The agent: every window, read the kernel's counters and the cgroup files, store one window.

    traffic.bpf.o --> TrafficCounters --.        (http2.bpf.o and lifecycle.bpf.o count in its maps)
    cpu.bpf.o ------> CpuCounters -------+--> rows --> StoreWriter
    network.bpf.o --> NetworkCounters ---+
    peers.bpf.o ----> PeerCounters ------+
    drops.bpf.o ----> DropCounters ------+
    cgroups, names -> Groups ------------'    (births.bpf.o tells it of those that come between two walks)

Counters are committed only when the window is stored. A full disk therefore makes the next
window longer and loses nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from bpf.loader import BpfObject, KernelRefused
from collector.births import Births
from collector.cgroups import SYSTEM_ROOT, CgroupTree, find_tree
from collector.counters import KernelCounters
from collector.cpu import CpuCounters
from collector.drops import DropCounters, drop_rows
from collector.footprint import keep_small
from collector.groups import Groups, NameOf
from collector.identity import UNATTRIBUTED
from collector.network import NetworkCounters
from collector.peers import PeerCounters, peer_rows
from collector.program_cost import ProgramCost
from collector.routes import Pattern
from collector.runtimes import Runtimes
from collector.self_cost import SelfCost
from collector.traffic import TrafficCounters, traffic_rows
from profiles.errors import HeadroomError, StoreError, UsageError
from profiles.schema import WITHOUT_ENDINGS, DropRow, Identity, PeerRow, Store, Window
from profiles.sqlite import StoreWriter

log = logging.getLogger("headroom.agent")

_Part = TypeVar(
    "_Part", TrafficCounters, CpuCounters, NetworkCounters, PeerCounters, DropCounters, Births, Runtimes, BpfObject
)

_CLOCK_STEP_SECONDS = 0.5
_PRUNE_EVERY_SECONDS = 3600.0
_LOOK_EVERY_SECONDS = 0.2
_SECONDS_FOR_NAMES = 2.0  # a window may be so much longer
_REST = 20.0  # times as long as the look itself took: it may have had much to do


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What to record and how.

    :ivar bases: cgroups to record, with those below them; all when empty
    :ivar patterns: routes as the user calls them
    :ivar names_pods: an API server tells names, a moment after a pod has come
    :ivar cgroups: most cgroups whose on-CPU time is kept apart (17 KB of kernel memory each)
    """

    window_seconds: float = 10.0
    duration_seconds: float | None = None
    bases: Sequence[str] = ()
    keep_seconds: float = 14 * 86400.0
    patterns: Sequence[Pattern] = ()
    cgroups: int = 256
    names_pods: bool = False
    root: Path = SYSTEM_ROOT


class Agent:
    """Records until stopped. Use :func:`record` unless you drive the windows yourself."""

    def __init__(self, settings: AgentSettings, store: Store, name_of: NameOf = lambda identity: identity) -> None:
        """Load and attach the objects; one that this kernel refuses is done without.

        :param name_of: what an identity that was read off a cgroup's path is called
        :raises HeadroomError: when there is no cgroup tree, a base does not exist, or the
            kernel takes neither object
        """
        self._settings = settings
        self._store = store
        self._tree = find_tree(settings.root)
        self._bases = _bases(self._tree, settings.bases)
        self._cost = SelfCost()
        self.refused: list[str] = []
        self._cpu = self._attach(lambda: CpuCounters.attach(settings.cgroups))
        bank = self._cpu.kernel.map("cgroup_cpus") if self._cpu else None
        self._traffic = self._attach(lambda: TrafficCounters.attach(_v2_root(self._tree), bank, settings.patterns))
        if self._traffic is None and self._cpu is None:
            raise HeadroomError(f"Nothing can be recorded: {self.refused[0]}.", "headroom doctor explains.")
        self._network = self._attach(NetworkCounters.attach)
        self._drops = self._attach(DropCounters.attach)
        self._peers = self._attach(partial(PeerCounters.attach, self._traffic.kernel)) if self._traffic else None
        self._http2 = self._attach(self._traffic.attach_http2) if self._traffic else None
        self._lifecycle = self._attach(partial(self._traffic.attach_lifecycle, self._http2)) if self._traffic else None
        watching = (self._traffic.kernel if self._traffic else None, self._http2, self._lifecycle)
        others = [each.kernel for each in (self._cpu, self._network, self._peers, self._drops) if each is not None]
        self._programs = ProgramCost([each for each in watching if each is not None], others)
        self._births = self._attach(Births.attach)
        self._runtimes = self._attach(Runtimes.attach)
        self._groups = Groups(self._tree, self._bases, self._births, name_of)
        self._window_start = (time.time(), time.monotonic())
        self._prune_due = time.monotonic()
        self.full = False

    def close_window(self) -> None:
        """Store everything since the last stored window as one window.

        Does not raise when the disk is full: says so, and keeps counting.
        """
        self._groups.see_births()
        wall, monotonic = time.time(), time.monotonic()
        duration = monotonic - self._window_start[1]
        step = wall - self._window_start[0] - duration
        if abs(step) > _CLOCK_STEP_SECONDS:
            log.warning("the clock was moved by %+.1f s; durations come from the monotonic clock", step)
        deltas = self._traffic.read(self._service_of) if self._traffic else []
        cpu = self._cpu.read() if self._cpu else {}
        network = self._network.read() if self._network else None
        self._groups.scan()  # after the counters were read: whose they are has come by then
        stranger = None if self._bases else UNATTRIBUTED
        peers_and_drops = self._network_rows(stranger)
        lost: dict[str, int] = {}
        for counters in self._counters:
            lost |= counters.losses()
        if self._traffic and not self._lifecycle:
            lost |= {WITHOUT_ENDINGS: 1}
        window = Window(
            self._window_start[0],
            duration,
            step if abs(step) > _CLOCK_STEP_SECONDS else 0.0,
            lost,
            self._cost.since_commit(self.map_bytes) | self._programs.since_commit(duration, deltas),
        )
        traffic = traffic_rows(deltas, lambda cgroup_id: self._groups.owners.get(cgroup_id, stranger))
        runtimes = self._runtimes.of(self._groups.owners) if self._runtimes else {}
        usage = self._groups.usage_rows(cpu, network, runtimes)
        try:
            self._store.write(window, traffic, usage, *peers_and_drops)
        except StoreError as error:
            self.full = True
            log.error(  # noqa: TRY400 - an expected failure: a sentence, no traceback
                "%s This window goes on until it can be stored.",
                error.sentence,
            )
            return
        if self.full:
            log.warning("the store takes rows again; the window now stored covers %.0f s", duration)
            self.full = False
        self._window_start = (wall, monotonic)
        self._commit()

    def relieve(self) -> None:
        """Between two windows, a few times a second: see to what cannot wait for the next one."""
        self._programs.tick()
        self._groups.see_births()
        if self._traffic:
            self._traffic.relieve(self._service_of)

    @property
    def awaits_names(self) -> bool:
        """Whether a pod has just come whose name is yet to be told."""
        return self._settings.names_pods and self._groups.awaits_names

    def close(self) -> None:
        """Detach from the kernel."""
        self._programs.close()
        beside = (each.kernel for each in (self._births, self._runtimes) if each is not None)
        for extra in (self._lifecycle, self._http2, *beside):
            if extra is not None:
                extra.close()
        for counters in self._counters:
            counters.kernel.close()

    @property
    def map_bytes(self) -> int:
        """Kernel memory held by the maps."""
        beside = sum(each.kernel.memory_bytes for each in (self._births, self._runtimes) if each is not None)
        return sum(counters.kernel.memory_bytes for counters in self._counters) + beside

    @property
    def _counters(self) -> tuple[KernelCounters, ...]:
        """Those that this kernel took."""
        every = (self._traffic, self._cpu, self._network, self._peers, self._drops)
        return tuple(each for each in every if each is not None)

    def _attach(self, attach: Callable[[], _Part]) -> _Part | None:
        try:
            return attach()
        except KernelRefused as error:
            self.refused.append(str(error))
            log.warning("%s; headroom doctor explains", error)
            return None

    def _service_of(self, cgroup_id: int) -> Hashable | None:
        """What the replicas of a workload have in common; None of a cgroup that is nobody's, or not known yet."""
        of = self._groups.owners.get(cgroup_id)
        return (of.namespace, of.workload, of.container) if of else None

    def _network_rows(self, stranger: Identity | None) -> tuple[Iterable[PeerRow], Iterable[DropRow]]:
        def identity_of(cgroup_id: int) -> Identity | None:
            return self._groups.owners.get(cgroup_id, stranger)

        peers = peer_rows(self._peers.read(), self._peers.owners(), identity_of) if self._peers else ()
        return peers, drop_rows(self._drops.read(), identity_of) if self._drops else ()

    def _commit(self) -> None:
        for counters in self._counters:
            counters.commit()
        self._cost.commit()
        self._programs.commit()
        self._groups.commit()
        for counters in self._counters:
            counters.forget(self._groups.is_alive)
        if time.monotonic() >= self._prune_due:
            self._prune_due = time.monotonic() + _PRUNE_EVERY_SECONDS
            self._store.prune(time.time() - self._settings.keep_seconds)


def record(
    settings: AgentSettings,
    store_path: Path,
    stop: threading.Event,
    tick: Callable[[float], None],
    around: Callable[[Store], Store] = lambda store: store,
    name_of: NameOf = lambda identity: identity,
) -> None:
    """Record into `store_path` until `stop` is set or the duration is over; always flush last.

    :param tick: called about ten times a second with the seconds recorded so far
    :param name_of: what an identity that was read off a cgroup's path is called
    :param around: makes of the store the one that is written to, as the exporter's
    :raises HeadroomError: when recording cannot start, or rows could not be stored at the end
    """
    keep_small()
    _bases(find_tree(settings.root), settings.bases)  # before a store is made
    store = StoreWriter(store_path)
    agent = None
    try:
        agent = Agent(settings, around(store), name_of)
        log.info("counting, in windows of %g s", settings.window_seconds)
        begin = time.monotonic()
        end = begin + settings.duration_seconds if settings.duration_seconds else float("inf")
        due, look = begin + settings.window_seconds, begin
        while not stop.is_set() and time.monotonic() < end:
            stop.wait(max(0.0, min(due, end, time.monotonic() + 0.1) - time.monotonic()))
            tick(time.monotonic() - begin)
            if time.monotonic() >= look:
                begun = time.monotonic()
                agent.relieve()
                took = time.monotonic() - begun
                look = begun + max(_LOOK_EVERY_SECONDS, _REST * took)
            late = time.monotonic() - due
            if late >= 0 and not (late < _SECONDS_FOR_NAMES and agent.awaits_names):
                agent.close_window()
                due = max(due + settings.window_seconds, time.monotonic())
        agent.close_window()
        if agent.full:
            raise StoreError("The last window could not be stored.", "Free some space; all windows before it are safe.")
    finally:
        if agent is not None:
            agent.close()
        store.close()


def _v2_root(tree: CgroupTree) -> Path:
    if tree.unified is None:
        raise KernelRefused("traffic", "there is no cgroup v2 tree to attach to", 0)
    return tree.unified


def _bases(tree: CgroupTree, wanted: Sequence[str]) -> list[str]:
    """The cgroups to record, below the tree; none for all of it.

    :raises UsageError: when one does not exist
    """
    bases = [tree.relative(path) for path in wanted]
    for path, base in zip(wanted, bases, strict=True):
        if not path.strip() or (base and not any(tree.walk(base))):
            raise UsageError(f"There is no cgroup {path!r}.", "systemd-cgls, or ls below /sys/fs/cgroup, shows them.")
    return bases if all(bases) else []
