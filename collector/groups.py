"""The cgroups being recorded: which there are, whose they are, and what their files say.

    births.bpf.o --as they come--.
                                 +--> groups --under their workload's name--> usage rows, owners of counters
    walk of the tree --windows---'

A walk alone would miss what comes and ends between two of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from collector.births import Births
from collector.cgroups import Cgroup, CgroupTree
from collector.cpu import CpuDelta
from collector.identity import attribute, identify, is_below, pod_of
from collector.network import NetworkDelta
from collector.usage import GroupFiles, GroupReading, locate, read_group
from collector.usage_rows import usage_row, with_events, with_subgroup
from profiles.schema import Identity, Runtime, UsageRow

_NAMED_WITHIN_SECONDS = 5.0

#: What a cgroup's identity is called; None for what is nobody's.
NameOf = Callable[[Identity], Identity | None]


@dataclass
class _Group:
    """A cgroup being recorded, and its files as of the last stored window."""

    identity: Identity
    files: GroupFiles
    born: float = field(default_factory=time.monotonic)
    stored: GroupReading = field(default_factory=GroupReading)
    pending: GroupReading | None = None
    ended: bool = False  # as of the last stored window


class Groups:
    """All that are recorded.

    One that ended stays for one window more: what it did between the reading of the counters and that of its files
    is in the next.
    """

    def __init__(self, tree: CgroupTree, bases: Sequence[str], births: Births | None, name_of: NameOf) -> None:
        """Walk the tree; what is there counts from now on, not from its birth."""
        self._tree, self._bases, self._births, self._name_of = tree, bases, births, name_of
        self._groups: dict[Cgroup, _Group] = {}
        self._known: set[Identity] = set()
        self._alive: set[int | None] = set()
        self._present: set[int | None] = set()
        #: Workload by the cgroup's id.
        self.owners: dict[int, Identity] = {}
        self.scan()
        for group in self._groups.values():
            group.stored = read_group(group.files) or GroupReading()

    def scan(self) -> None:
        """Take up groups that came."""
        self.see_births()
        present = list(self._tree.walk())
        before, self._present = self._present, {cgroup.id for cgroup in present} | {self._tree.root_id}
        self._alive = before | self._present  # one that a walk misses while others come and go has not ended
        for cgroup, identity in attribute(self._tree, present, self._bases).items():
            self._take(cgroup, identity)
        self._name()

    def see_births(self) -> None:
        """Take up containers and units that came since; a few microseconds each, between two walks."""
        born = self._births.read() if self._births else []
        for cgroup in born:
            identity = identify(cgroup.path, self._bases)
            # whether a named group is a workload shows only when the tree is walked
            if identity is not None and identity.kind != "Cgroup" and is_below(cgroup.path, self._bases):
                self._take(cgroup, identity)
        if born:
            self._name()

    @property
    def awaits_names(self) -> bool:
        """Whether a pod's container is so young that its name may be yet to be told."""
        since = time.monotonic() - _NAMED_WITHIN_SECONDS
        young = (group.identity for group in self._groups.values() if group.born > since and pod_of(group.identity))
        return any((named := self._name_of(identity)) is not None and pod_of(named) for identity in young)

    def usage_rows(
        self,
        cpu: Mapping[int, CpuDelta],
        network: Mapping[int, NetworkDelta] | None,
        runtimes: Mapping[int, Runtime],
    ) -> list[UsageRow]:
        """One row per workload instance; groups inside one container, and its earlier lives, are added up."""
        rows: dict[Identity, UsageRow] = {}
        since = time.monotonic() - _NAMED_WITHIN_SECONDS
        for group in self._groups.values():
            group.pending = read_group(group.files)
        # of a container that was restarted, the life that goes on says how much memory it has
        for cgroup, group in sorted(self._groups.items(), key=lambda entry: entry[1].pending is None):
            identity = self._name_of(group.identity)
            if identity is None:
                continue
            delta = cpu.get(cgroup.id) if cgroup.id is not None else None
            events = network.get(cgroup.id or 0, NetworkDelta()) if network is not None else None
            is_unnamed = group.born > since and pod_of(identity) is not None
            if (group.ended or is_unnamed) and delta is None and events in (None, NetworkDelta()):
                continue  # it ended in the window before; or it came while this one is closed
            runtime = runtimes.get(cgroup.id or 0)
            if identity not in rows:
                rows[identity] = with_events(usage_row(identity, group.stored, group.pending, delta, runtime), events)
                continue
            if rows[identity].runtime is None and runtime is not None:
                rows[identity] = replace(rows[identity], runtime=runtime)
            rows[identity] = with_events(rows[identity], events)
            if delta is not None:
                rows[identity] = with_subgroup(rows[identity], delta)
        return list(rows.values())

    def commit(self) -> None:
        """What was last read is stored: count from there."""
        for cgroup, group in list(self._groups.items()):
            if group.pending is not None:
                group.stored = group.pending
            elif not group.ended:
                group.ended = True
            else:
                del self._groups[cgroup]
        self._known = {group.identity for group in self._groups.values()}

    def is_alive(self, cgroup_id: int) -> bool:
        """Whether a group of that id was there at the last two walks."""
        return cgroup_id in self._alive

    def _take(self, cgroup: Cgroup, identity: Identity) -> None:
        if cgroup in self._groups:
            return
        # the files of the instance's own group cover those below it
        path = cgroup.path if identity in self._known else identity.instance.lstrip("/")
        self._known.add(identity)
        self._groups[cgroup] = _Group(identity, locate(self._tree, path))

    def _name(self) -> None:
        named: Iterable[tuple[int | None, Identity | None]] = (
            (cgroup.id, self._name_of(each.identity)) for cgroup, each in self._groups.items()
        )
        self.owners = {number: identity for number, identity in named if number is not None and identity is not None}
