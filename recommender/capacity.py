"""A capacity review: how many nodes the pods need now, with the recommended sizes, and when there is more to do.

    pods x demand  --less daemons, headroom; zone by zone-->  packing on a type of node     what is needed
                   --largest first, onto what has most room-->  what finds no place         when it runs out; zones gone

More demand means more replicas where an autoscaler makes them or there are several already, else more CPU for the one
pod, as far as a node is large enough; memory of a pod stays. Workloads are spread evenly over zones.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recommender.growth import Growth
from recommender.inventory import Node
from recommender.packing import Packing, Size, at_least, pack
from recommender.pods import Pods

_RESOURCES = 3  # cores, bytes, pods
#: No larger demand is looked for.
MOST_FACTOR = 8.0
_PRECISION = 0.005
_BUDGET_SECONDS, _NEARLY = 0.7, 1.1  # what is no more than a tenth dearer than the cheapest is packed with care


@dataclass(frozen=True, slots=True)
class Shape:
    """A type of node that could be had, or is there.

    :ivar hour: what one costs an hour
    :ivar there: how many there are
    """

    name: str
    cores: float
    bytes: float
    pods: int
    hour: float
    there: int


@dataclass(frozen=True, slots=True)
class Need:
    """Nodes of one type for one case.

    :ivar nodes: that a packing was found for; None where a pod fits on none of them
    :ivar at_least: fewer cannot be enough
    :ivar month: what they cost
    :ivar too_large: workloads whose pod fits on none of them
    """

    shape: str
    nodes: int | None
    at_least: int
    month: float | None
    too_large: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One demand.

    :ivar days: from now; None for a what-if without a date
    :ivar factor: demand as a multiple of the highest of the last seven days
    :ivar cores, bytes, pods: requested, daemons not counted
    :ivar unplaced: pods for which the nodes that there are have no room; None where none are known
    :ivar needs: by type of node, the cheapest first
    """

    name: str
    days: int | None
    factor: float
    cores: float
    bytes: float
    pods: int
    unplaced: int | None
    needs: tuple[Need, ...]


@dataclass(frozen=True, slots=True)
class ZoneLoss:
    """What happens when a zone goes.

    :ivar nodes: that are left
    :ivar unplaced: pods without room on them, and the workloads that they are of
    :ivar more_nodes: how many more of the most frequent type would do; None where no number does
    """

    zone: str
    nodes: int
    unplaced: int
    workloads: tuple[str, ...]
    more_nodes: int | None


@dataclass(frozen=True, slots=True)
class Rules:
    """How nodes are filled.

    :ivar headroom: share of every node that stays free
    :ivar zones: over which every workload is spread
    """

    headroom: float
    zones: int


def scaled(
    pods: Sequence[Pods], factor: float, most_cores: float, *, now: bool = False, by_requests: bool = False
) -> list[Pods]:
    """The pods when demand is so many times as high.

    :param most_cores: that a pod can have on the largest node
    :param now: with the requests as they are declared, else with the recommended ones
    :param by_requests: it is the traffic that grows: what does not follow requests stays as it is
    """
    found = []
    for each in pods:
        cores, size = (each.cores_now, each.bytes_now) if now else (each.cores, each.bytes)
        more = 1 + (factor - 1) * each.follows_share if by_requests else factor
        replicas = each.replicas
        if each.is_daemon or not replicas:
            more = 1.0
        elif each.most_replicas is not None or replicas > 1:
            wanted = math.ceil(replicas * more - 1e-9)
            replicas, more = max(replicas, min(wanted, each.most_replicas or wanted)), 1.0
        elif more > 1 and cores <= most_cores < cores * more:
            replicas = math.ceil(cores * more / most_cores)
            more /= replicas
        found.append(
            Pods(
                each.workload, replicas, each.cores_now, each.bytes_now, cores * more, size,
                each.most_replicas, each.follows_share, each.without_request,
            )
        )  # fmt: skip
    return found


#: Pods at some demand, by the CPU that one can have at most.
Scaled = Callable[[float], Sequence[Pods]]


def case_of(
    name: str, days: int | None, factor: float, pods: Scaled, shapes: Sequence[Shape], nodes: Sequence[Node],
    rules: Rules, hours: float,
) -> Case:  # fmt: skip
    """The answer for one demand, on each type of node and on the nodes that there are.

    :param hours: of a month
    """
    there = pods(largest(pods(math.inf), [node.cores for node in nodes], rules) if nodes else math.inf)
    own = [each for each in there if not each.is_daemon]
    wanted = {shape: pods(largest(there, [shape.cores], rules)) for shape in shapes}
    quick = [_need(wanted[shape], shape, rules, hours, 0.0) for shape in shapes]
    cheapest = min((need.month for need in quick if need.month is not None), default=0.0)
    needs = [
        _need(wanted[shape], shape, rules, hours, _BUDGET_SECONDS)
        if need.month is not None and need.month <= _NEARLY * cheapest
        else need
        for shape, need in zip(shapes, quick, strict=True)
    ]
    return Case(
        name,
        days,
        factor,
        sum(each.cores * each.replicas for each in own),
        sum(each.bytes * each.replicas for each in own),
        sum(each.replicas for each in own),
        sum(unplaced(there, nodes, rules).values()) if nodes else None,
        tuple(sorted(needs, key=lambda each: (each.month is None, each.month or 0.0, each.shape))),
    )


def unplaced(pods: Sequence[Pods], nodes: Sequence[Node], rules: Rules) -> Counter[str]:
    """Pods by workload that find no room: the largest first, each onto the node with most, as the scheduler does."""
    daemons = _daemons(pods)
    free = np.array([[node.cores, node.memory_bytes, float(node.pods)] for node in nodes]).reshape(
        len(nodes), _RESOURCES
    )
    free = free * np.array([1 - rules.headroom, 1 - rules.headroom, 1.0]) - daemons
    whole = np.maximum(free.max(axis=0, initial=0.0), 1e-9)
    left: Counter[str] = Counter()
    ordered = sorted((each for each in pods if not each.is_daemon), key=lambda each: -max(_needs(each) / whole))
    for each in ordered:
        missing = _put(free, _needs(each), each.replicas, whole)
        if missing:
            left[each.name] += missing
    return left


def most_factor(pods: Sequence[Pods], nodes: Sequence[Node], rules: Rules, *, by_requests: bool = False) -> float:
    """The demand up to which the nodes suffice, as a multiple of today's, at most 8; 0 where nothing fits."""
    most_cores = largest(pods, [node.cores for node in nodes], rules)

    def fits(factor: float) -> bool:
        return not unplaced(scaled(pods, factor, most_cores, by_requests=by_requests), nodes, rules)

    low, high = 0.0, MOST_FACTOR
    if fits(high):
        return high
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def largest(pods: Sequence[Pods], cores: Sequence[float], rules: Rules) -> float:
    """What one pod can have of the largest of nodes with so many cores."""
    return max(cores, default=0.0) * (1 - rules.headroom) - float(_daemons(pods)[0])


def runs_out(growth: Growth, factor: float, quantile: float) -> int | None:
    """The first day on which demand exceeds `factor` with more than the probability left; None if there is none."""
    return next((day for day in range(1, growth.days + 1) if growth.highest(quantile, day) > factor), None)


def zone_losses(pods: Sequence[Pods], nodes: Sequence[Node], rules: Rules) -> tuple[ZoneLoss, ...]:
    """Every zone gone, one at a time; none where fewer than two are known. Nodes of no zone are always left."""
    zones = sorted({node.zone for node in nodes} - {""})
    if len(zones) < 2:
        return ()
    losses = []
    for zone in zones:
        rest = [node for node in nodes if node.zone != zone]
        without = unplaced(pods, rest, rules)
        more = _more_nodes(pods, rest, nodes, rules) if without else 0
        losses.append(ZoneLoss(zone, len(rest), sum(without.values()), tuple(sorted(without)), more))
    return tuple(losses)


def _more_nodes(pods: Sequence[Pods], rest: Sequence[Node], nodes: Sequence[Node], rules: Rules) -> int | None:
    usual = Counter((node.type, node.cores, node.memory_bytes, node.pods) for node in nodes).most_common(1)[0][0]

    def suffice(number: int) -> bool:
        extra = [Node(f"extra-{place}", usual[1], usual[2], usual[0], "", usual[3]) for place in range(number)]
        return not unplaced(pods, [*rest, *extra], rules)

    low, high = 0, max(1, len(nodes))
    if not suffice(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffice(middle) else (middle, high)
    return high


def _need(pods: Sequence[Pods], shape: Shape, rules: Rules, hours: float, budget_seconds: float) -> Need:
    room = np.array([shape.cores, shape.bytes, float(shape.pods)])
    room = np.maximum(room * np.array([1 - rules.headroom, 1 - rules.headroom, 1.0]) - _daemons(pods), 0.0)
    own = [each for each in pods if not each.is_daemon and each.replicas]
    misfits = tuple(sorted(each.name for each in own if (_needs(each) > room + 1e-9).any()))
    if misfits:
        return Need(shape.name, None, 0, None, misfits)
    zones = [
        tuple(Size(needs, count) for needs, count in sorted(sizes.items())) for sizes in _by_zone(own, rules, room)
    ]
    packings = [_packed(sizes, tuple(map(float, room)), budget_seconds) for sizes in zones]
    together = Counter[tuple[float, ...]]()
    for each in own:
        together[tuple(map(float, _needs(each)))] += each.replicas
    bound = at_least([Size(needs, count) for needs, count in together.items()], list(room))
    number = sum(packing.number for packing in packings)
    if rules.zones == 1:
        bound = max(bound, packings[0].at_least)
    return Need(shape.name, number, bound, number * shape.hour * hours, ())


@functools.lru_cache(maxsize=512)
def _packed(sizes: tuple[Size, ...], room: tuple[float, ...], budget_seconds: float) -> Packing:
    """Zones, and demands that differ by nothing, are packed once."""
    return pack(sizes, room, budget_seconds)


def _by_zone(pods: Sequence[Pods], rules: Rules, room: np.ndarray) -> list[Counter[tuple[float, ...]]]:
    """How many of each size every zone has: replicas evenly, those left over where least is yet."""
    sizes = [Counter[tuple[float, ...]]() for _ in range(rules.zones)]
    filled = np.zeros(rules.zones)
    for each in sorted(pods, key=lambda own: (-max(_needs(own) / np.maximum(room, 1e-9)), own.name)):
        needs = tuple(map(float, _needs(each)))
        share = max(_needs(each) / np.maximum(room, 1e-9))
        counts = np.full(rules.zones, each.replicas // rules.zones)
        counts[np.argsort(filled, kind="stable")[: each.replicas % rules.zones]] += 1
        filled += counts * share
        for zone, count in enumerate(counts):
            if count:
                sizes[zone][needs] += int(count)
    return sizes


def _daemons(pods: Sequence[Pods]) -> np.ndarray:
    """What those that are on every node take of each."""
    found = [_needs(each) for each in pods if each.is_daemon and each.replicas]
    return np.sum(found, axis=0) if found else np.zeros(_RESOURCES)


def _needs(each: Pods) -> np.ndarray:
    return np.array([each.cores, each.bytes, 1.0])


def _put(free: np.ndarray, need: np.ndarray, number: int, whole: np.ndarray) -> int:
    """Put so many pods of one size onto the nodes, spread over those with most room; returns how many are left."""
    left = number
    while left and len(free):
        asked = need > 0
        room = np.floor((free[:, asked] + 1e-9) / need[asked]).min(axis=1)
        fits = np.flatnonzero(room >= 1)
        if not len(fits):
            break
        order = fits[np.argsort(-(free[fits] / whole).min(axis=1), kind="stable")][:left]
        free[order] -= need
        left -= len(order)
    return left
