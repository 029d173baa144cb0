"""Routes by service: their names, and what the kernel is told so that none of them takes all the room.

    key of map `requests` --see--> path, by service --settle--> crowds --> maps `prefixes`, `routes`, `routes_allowed`

A service is whatever shares its routes: the replicas of a workload on this node. An owner, as the kernel has it, is one
of its cgroups, with its role in the highest bit.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Container, Hashable, Sequence
from dataclasses import dataclass, field

from bpf.layout import MOST_ROUTES_PER_OWNER, ROUTE_UNKNOWN, RouteText
from bpf.loader import BpfObject
from collector.crowds import crowds, may_crowd
from collector.routes import Folded, Merges, Pattern, RequestPath
from profiles.schema import OVERFLOW_ROUTE, UNKNOWN_ROUTE

_CGROUP = (1 << 63) - 1
_PRESSED_BELOW = MOST_ROUTES_PER_OWNER // 4  # routes left
_MOST_GONE = 1000  # paths that are remembered though no counter is named by them: an old connection may come back
_SWEEPS = 3  # of texts that no request was counted under, before they go


@dataclass(eq=False)
class _Service:
    """One service in one role.

    :ivar retired: routes whose requests are counted under another one from now on
    :ivar fresh: a route has come since it was last looked at
    """

    name: Hashable
    merges: Merges = field(default_factory=Merges)
    owners: set[int] = field(default_factory=set)
    paths: dict[int, RequestPath] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    retired: set[int] = field(default_factory=set)
    fresh: bool = False
    told: tuple[int, int] = (0, 0)  # prefixes that the kernel knows of: merged, and kept

    @property
    def live(self) -> int:
        """Routes that requests may be counted under."""
        return len(self.paths) - len(self.retired)


class Services:
    """All of a node's, with the maps of ``traffic.bpf.o`` that they steer."""

    def __init__(self, kernel: BpfObject, patterns: Sequence[Pattern] = ()) -> None:
        self._texts, self._prefixes = kernel.map("routes"), kernel.map("prefixes")
        self._brought, self._allowed = kernel.map("routes_brought"), kernel.map("routes_allowed")
        self._patterns, self._asked = patterns, Merges()
        for each in patterns:
            self._asked.add(each)
        self._paths: dict[int, RequestPath] = {}  # shared by services that have a path in common
        self._gone: dict[int, RequestPath] = {}
        self._services: dict[Hashable, _Service] = {}
        self._of: dict[int, _Service] = {}
        self._seen: dict[int, int] = {}  # routes brought, by owner
        self._unused: Counter[int] = Counter()  # sweeps, by route

    def see(self, owner: int, service: Hashable, route: int) -> None:
        """A request of this owner was counted under this route.

        :param service: what its owners have in common
        """
        of = self._join(owner, (service, owner > _CGROUP))
        if route in of.paths or route <= ROUTE_UNKNOWN:
            return
        path = self._paths.get(route) or self._gone.pop(route, None) or self._read(route, of)
        if path is None:
            return
        self._paths[route] = of.paths[route] = path
        of.fresh = True
        for pattern in self._patterns:
            if pattern.matches(path):
                one = Merges()
                one.add(pattern)
                for prefix, shown in one.shown.items():
                    of.merges.merge(prefix, shown, self._asked.kept)

    def name(self, owner: int, route: int) -> str:
        """The template, ``__overflow__`` for a hash without a text, or ``__unknown__``."""
        if route == ROUTE_UNKNOWN:
            return UNKNOWN_ROUTE
        of = self._of[owner]
        if route not in of.names:
            path = of.paths.get(route)
            if path is None:
                return OVERFLOW_ROUTE
            of.names[route] = of.merges.template(path)
        return of.names[route]

    @property
    def have_retired(self) -> bool:
        """Whether there are routes that are no more."""
        return any(of.retired for of in self._services.values())

    def is_retired(self, owner: int, route: int) -> bool:
        """Whether requests come under another route by now."""
        return owner in self._of and route in self._of[owner].retired

    def pressed(self) -> bool:
        """Whether an owner that has hardly any room left has brought further routes since this was asked."""
        before, self._seen = self._seen, {_number(key): _number(value) for key, value in self._brought.items()}
        return any(self._is_pressed(owner) for owner, count in self._seen.items() if count != before.get(owner))

    def settle(self, requests_of: Callable[[Container[int]], Counter[tuple[int, int]]]) -> None:
        """Make one of the children of crowded prefixes.

        :param requests_of: requests so far of these owners, by owner and route; it takes a while
        """
        fresh = [of for of in self._services.values() if of.fresh]
        crowded = [of for of in fresh if may_crowd(map(of.merges.fold, of.paths.values()))]
        requests = requests_of(set().union(*(of.owners for of in crowded))) if crowded else Counter()
        for of in crowded:
            pressed = any(map(self._is_pressed, of.owners))
            for prefix, kept in self._crowds(of, requests, pressed).items():
                of.merges.merge(prefix, self._asked.shown.get(prefix, "*"), {*kept, *self._asked.kept})
        for of in fresh:
            of.fresh = False
            self._apply(of)

    def forget(self, is_alive: Callable[[int], bool], is_used: Callable[[int], bool]) -> None:
        """Drop owners that have ended, and paths that nobody uses any more."""
        for owner in [owner for owner in self._of if not is_alive(owner)]:
            self._leave(owner)
            self._of.pop(owner)
        for route in [route for route in self._paths if not is_used(route)]:
            self._texts.delete(route.to_bytes(8, "little"))
            self._gone[route] = self._paths.pop(route)
            for of in self._services.values():
                of.paths.pop(route, None)
                of.names.pop(route, None)
                of.retired.discard(route)
        for route in list(self._gone)[: max(0, len(self._gone) - _MOST_GONE)]:
            del self._gone[route]

    def sweep(self, is_alive: Callable[[int], bool], is_used: Callable[[int], bool]) -> None:
        """Now and then: give back the room of texts that no request was ever counted under, and of their owners."""
        unused = {_number(key) for key, _ in self._texts.items()} - self._paths.keys()
        self._unused = Counter({route: self._unused[route] + 1 for route in unused if not is_used(route)})
        for route in [route for route, sweeps in self._unused.items() if sweeps >= _SWEEPS]:
            self._texts.delete(route.to_bytes(8, "little"))
        brought = {key: _number(value) for key, value in self._brought.items()}
        for key in brought.keys() | {key for key, _ in self._allowed.items()}:
            if is_alive(_number(key)):
                self._allow(_number(key), brought.get(key, 0))
            else:
                self._brought.delete(key)
                self._allowed.delete(key)

    def _join(self, owner: int, name: Hashable) -> _Service:
        of = self._of.get(owner)
        if of is not None and of.name == name:
            return of
        if of is not None:  # it was not known yet whose it is
            self._leave(owner)
        of = self._of[owner] = self._services.setdefault(name, _Service(name))
        of.owners.add(owner)
        self._mark({owner}, of.merges)
        return of

    def _leave(self, owner: int) -> None:
        of = self._of[owner]
        of.owners.discard(owner)
        for mark in of.merges.marks():
            self._prefixes.delete(_prefix_key(owner, mark))
        if not of.owners:
            self._services.pop(of.name, None)

    def _read(self, route: int, of: _Service) -> RequestPath | None:
        value = self._texts.get(route.to_bytes(8, "little"))
        if value is None:
            return None
        text = RouteText.from_buffer_copy(value)
        path = RequestPath(value[RouteText.path.offset :][: text.length], bool(text.whole))
        merged = zip(path.segments, of.merges.fold(path), strict=True)
        likely = frozenset(place for place, (segment, folded) in enumerate(merged) if segment != folded)
        return RequestPath.under(route, path.text, path.whole, [likely])

    def _crowds(self, of: _Service, requests: Counter[tuple[int, int]], pressed: bool) -> dict[Folded, list[Folded]]:
        counts = [
            (of.merges.fold(path), max(1, sum(requests[owner, route] for owner in of.owners)))
            for route, path in of.paths.items()
        ]
        return crowds(counts, of.merges, pressed, self._asked.kept)

    def _apply(self, of: _Service) -> None:
        """Tell the kernel first what is one, then that it has not seen the routes that are no more."""
        retired = {route for route, path in of.paths.items() if of.merges.fold(path) != path.counted}
        if retired == of.retired and not self._has_new(of):
            return
        of.names.clear()
        self._mark(of.owners, of.merges)
        for route in retired - of.retired:
            self._texts.delete(route.to_bytes(8, "little"))
        of.retired, of.told = retired, (len(of.merges.shown), len(of.merges.kept))
        for owner in of.owners:
            self._allow(owner, _number(self._brought.get(owner.to_bytes(8, "little")) or b""))

    @staticmethod
    def _has_new(of: _Service) -> bool:
        return of.told != (len(of.merges.shown), len(of.merges.kept))

    def _mark(self, owners: set[int], merges: Merges) -> None:
        """What does not fit is merged in names alone: totals are right all the same."""
        with contextlib.suppress(OSError):
            for mark in merges.marks():
                for owner in owners:
                    self._prefixes.put(_prefix_key(owner, mark), bytes(4))

    def _allow(self, owner: int, brought: int) -> None:
        live = self._of[owner].live if owner in self._of else 0
        with contextlib.suppress(OSError):  # full: it keeps what every owner may bring
            left = max(0, MOST_ROUTES_PER_OWNER - live)
            self._allowed.put(owner.to_bytes(8, "little"), (brought + left).to_bytes(4, "little"))

    def _is_pressed(self, owner: int) -> bool:
        key = owner.to_bytes(8, "little")
        allowed, brought = self._allowed.get(key), self._brought.get(key)
        left = (_number(allowed) if allowed else MOST_ROUTES_PER_OWNER) - _number(brought or b"")
        return left < _PRESSED_BELOW


def _number(raw: bytes | memoryview) -> int:
    return int.from_bytes(raw, "little")


def _prefix_key(owner: int, prefix: int) -> bytes:
    return owner.to_bytes(8, "little") + prefix.to_bytes(8, "little")
