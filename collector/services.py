"""Routes by service: their names, and what the kernel is told so that none of them takes all the room.

    key of map `requests` --see--> path, by service --settle--> crowds --> maps `prefixes`, `routes`, `routes_allowed`

A service is whatever shares its routes: the replicas of a workload on this node. An owner, as the kernel has it, is one
of its cgroups, with its role in the highest bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from bpf.layout import MOST_ROUTES_PER_OWNER, ROUTE_UNKNOWN, RouteText
from bpf.loader import BpfObject, Map
from collector.crowds import ALWAYS_APART, children_of, crowd
from collector.routes import ONE_OF_MANY, Folded, Merges, Pattern, RequestPath, route_hash
from profiles.schema import OVERFLOW_ROUTE, UNKNOWN_ROUTE

_CGROUP = (1 << 63) - 1
_PRESSED = 3 / 4  # of the routes that are allowed


@dataclass
class _Service:
    """One service in one role.

    :ivar retired: routes whose requests are counted under another one from now on
    :ivar fresh: a route has come since it was last looked at
    """

    owners: set[int] = field(default_factory=set)
    paths: dict[int, RequestPath] = field(default_factory=dict)
    merges: Merges = field(default_factory=Merges)
    names: dict[int, str] = field(default_factory=dict)
    retired: set[int] = field(default_factory=set)
    fresh: bool = False

    @property
    def folded(self) -> dict[int, Folded]:
        """Its routes as they are counted from now on."""
        return {route: self.merges.fold(path) for route, path in self.paths.items()}


class Services:
    """All of a node's, with the maps of ``traffic.bpf.o`` that they steer."""

    def __init__(self, kernel: BpfObject, patterns: Sequence[Pattern] = ()) -> None:
        self._texts, self._prefixes = kernel.map("routes"), kernel.map("prefixes")
        self._brought, self._allowed = kernel.map("routes_brought"), kernel.map("routes_allowed")
        self._patterns = patterns
        self._paths: dict[int, RequestPath] = {}  # shared by services that have a path in common
        self._services: dict[Hashable, _Service] = {}
        self._of: dict[int, _Service] = {}
        self._seen: dict[bytes, bytes] = {}  # routes brought, by owner

    def see(self, owner: int, service: Hashable, route: int) -> None:
        """A request of this owner was counted under this route.

        :param service: what its owners have in common
        """
        of = self._of.get(owner)
        if of is None:
            of = self._of[owner] = self._services.setdefault((service, owner > _CGROUP), _Service())
            of.owners.add(owner)
            self._mark({owner}, of.merges.marks())
        if route in of.paths or route <= ROUTE_UNKNOWN:
            return
        path = self._paths.get(route) or self._read(route)
        if path is None:
            return
        self._paths[route] = of.paths[route] = path
        of.fresh = True
        for pattern in self._patterns:
            if pattern.matches(path):
                of.merges.add(pattern)
                self._apply(of)

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
        return route in self._of[owner].retired if owner in self._of else False

    def pressed(self) -> bool:
        """Whether an owner that has hardly any room left has brought further routes since this was asked."""
        before, self._seen = self._seen, {key: bytes(value) for key, value in self._brought.items()}
        grown = [int.from_bytes(key, "little") for key, value in self._seen.items() if value != before.get(key)]
        return any(map(self._is_pressed, grown))

    def settle(self, requests_of: Callable[[set[int]], Counter[int]]) -> None:
        """Make one of the children of crowded prefixes.

        :param requests_of: requests by route of these owners, so far
        """
        for of in self._services.values():
            if not of.fresh:
                continue
            of.fresh = False
            found = children_of(Counter(of.folded.values())).values()
            if not any(len(children.keys() - {ONE_OF_MANY}) > ALWAYS_APART for children in found):
                continue
            requests = requests_of(of.owners)
            pressed = any(map(self._is_pressed, of.owners))
            while crowded := crowd(_requests(of.folded, requests), of.merges.shown, pressed):
                prefix, outstanding = crowded
                of.merges.shown[prefix] = "*"
                of.merges.kept.update((*prefix, segment) for segment in outstanding)
                self._apply(of)

    def forget(self, is_alive: Callable[[int], bool], is_used: Callable[[int], bool]) -> None:
        """Drop owners whose cgroup has ended, and paths that nobody uses any more."""
        for owner in [owner for owner in self._of if not is_alive(owner & _CGROUP)]:
            of = self._of.pop(owner)
            of.owners.discard(owner)
            for mark in of.merges.marks():
                self._prefixes.delete(_prefix_key(owner, mark))
            for counts in (self._brought, self._allowed):
                counts.delete(owner.to_bytes(8, "little"))
        self._services = {name: of for name, of in self._services.items() if of.owners}
        for route in [route for route in self._paths if not is_used(route)]:
            self._texts.delete(route.to_bytes(8, "little"))
            del self._paths[route]
            for of in self._services.values():
                of.paths.pop(route, None)
                of.names.pop(route, None)
                of.retired.discard(route)

    def _read(self, route: int) -> RequestPath | None:
        value = self._texts.get(route.to_bytes(8, "little"))
        if value is None:
            return None
        text = RouteText.from_buffer_copy(value)
        return RequestPath(value[RouteText.path.offset :][: text.length], bool(text.whole))

    def _apply(self, of: _Service) -> None:
        """Tell the kernel first what is one, then that it has not seen the routes that are no more."""
        of.names.clear()
        self._mark(of.owners, of.merges.marks())
        retired = {route for route, folded in of.folded.items() if route_hash(folded) != route}
        for route in retired - of.retired:
            self._texts.delete(route.to_bytes(8, "little"))
        of.retired |= retired
        left = max(0, MOST_ROUTES_PER_OWNER - len(of.paths.keys() - of.retired))
        for owner in of.owners:
            allowed = _count(self._brought, owner) + left
            self._allowed.put(owner.to_bytes(8, "little"), allowed.to_bytes(4, "little"))

    def _mark(self, owners: set[int], marks: Iterable[int]) -> None:
        for mark in marks:
            for owner in owners:
                self._prefixes.put(_prefix_key(owner, mark), bytes(4))

    def _is_pressed(self, owner: int) -> bool:
        allowed = _count(self._allowed, owner) or MOST_ROUTES_PER_OWNER
        left = allowed - _count(self._brought, owner)
        return left < (1 - _PRESSED) * MOST_ROUTES_PER_OWNER


def _requests(paths: dict[int, Folded], requests: Counter[int]) -> Counter[Folded]:
    counts: Counter[Folded] = Counter()
    for route, folded in paths.items():
        counts[folded] += max(1, requests[route])
    return counts


def _count(counts: Map, owner: int) -> int:
    return int.from_bytes(counts.get(owner.to_bytes(8, "little")) or b"", "little")


def _prefix_key(owner: int, prefix: int) -> bytes:
    return owner.to_bytes(8, "little") + prefix.to_bytes(8, "little")
