"""The questions of a capacity review, answered for one cluster."""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from policies.prices import Prices
from recommender.capacity import (
    MOST_FACTOR,
    Case,
    Rules,
    Shape,
    ZoneLoss,
    case_of,
    most_factor,
    runs_out,
    scaled,
    zone_losses,
)
from recommender.growth import Growth, growth_of, growth_of_workload
from recommender.inventory import Node
from recommender.pods import Pods, pods_of
from recommender.recommendation import Recommendation
from recommender.reserved import HOURS_A_MONTH

_WEEK = 7
_STOPS = 3  # moments ahead that are looked at
_MOST_WORKLOADS = 200  # with a forecast of their own: 20 ms each
_GIBIBYTE = 2**30


@dataclass(frozen=True, slots=True)
class Scenario:
    """What if traffic were so many times as high.

    :ivar days: from now, by when; None where nobody said
    """

    name: str
    factor: float
    days: int | None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    :ivar days: how far ahead, 7 to 90
    :ivar quantile: with which certainty: 0.9 leaves one chance in ten
    :ivar headroom: share of every node that stays free
    :ivar zones: over which workloads are spread; None: as many as the nodes have
    """

    days: int = 84
    quantile: float = 0.9
    headroom: float = 0.1
    zones: int | None = None
    scenarios: tuple[Scenario, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkloadGrowth:
    """What one container's CPU is expected to do by the end: multiples of the highest of the last seven days."""

    name: str
    cores: float
    middle: float
    upper: float
    sentence: str


@dataclass(frozen=True, slots=True)
class ScenarioEnd:
    """When the nodes that are there no longer suffice, if traffic rises evenly until the scenario's day.

    :ivar factor: of traffic, up to which they do
    :ivar days: from now; None where they suffice, or the scenario has no day
    """

    name: str
    factor: float
    days: int | None


@dataclass(frozen=True)
class Review:
    """All answers.

    :ivar shapes: types of nodes that were tried
    :ivar nodes, cores, bytes: that there are
    :ivar daemons_cores, daemons_bytes: what daemons take of every node
    :ivar enough_for: multiple of today's demand up to which the nodes suffice; None without nodes
    :ivar out_middle, out_upper: days until demand exceeds that, in the middle and at the quantile
    :ivar chances: by days ahead, the probability that demand exceeds it
    :ivar growth: of the whole; None where too little was recorded
    :ivar notes: what else the reader should know
    """

    cluster: str
    question: Question
    shapes: tuple[Shape, ...]
    nodes: int
    cores: float
    bytes: float
    daemons_cores: float
    daemons_bytes: float
    cases: tuple[Case, ...]
    enough_for: float | None
    out_middle: int | None
    out_upper: int | None
    chances: tuple[tuple[int, float], ...]
    scenario_ends: tuple[ScenarioEnd, ...]
    zone_losses: tuple[ZoneLoss, ...]
    growth: Growth | None
    workloads: tuple[WorkloadGrowth, ...]
    notes: tuple[str, ...]


def review(
    cluster: str, rows: Sequence[Recommendation], nodes: Sequence[Node], prices: Prices, question: Question
) -> Review:
    """The review of the containers of one cluster on its nodes, and on the types that the price file has."""
    closed, nodes = [node for node in nodes if not node.open], [node for node in nodes if node.open]
    pods, shapes = pods_of(rows), shapes_of(nodes, prices)
    rules = Rules(question.headroom, question.zones or len({node.zone for node in nodes} - {""}) or 1)
    growth = growth_of(rows, question.days)
    enough = most_factor(pods, nodes, rules) if nodes else None
    sized = scaled(pods, 1.0, math.inf)
    return Review(
        cluster,
        question,
        shapes,
        len(nodes),
        sum(node.cores for node in nodes),
        sum(node.memory_bytes for node in nodes),
        sum(each.cores for each in sized if each.is_daemon and each.replicas),
        sum(each.bytes for each in sized if each.is_daemon and each.replicas),
        _cases(pods, shapes, nodes, rules, growth, question),
        enough,
        None if growth is None or enough is None else runs_out(growth, enough, 0.5),
        None if growth is None or enough is None else runs_out(growth, enough, question.quantile),
        _chances(growth, enough, question),
        _scenario_ends(pods, nodes, rules, question),
        zone_losses(sized, nodes, rules),
        growth,
        _workloads(rows, question),
        _notes(pods, nodes, closed, growth, question),
    )


def shapes_of(nodes: Sequence[Node], prices: Prices) -> tuple[Shape, ...]:
    """The types that the price file has, and those that are there: without a price of their own at general rates."""
    alike: dict[tuple[str, float, float, int], list[Node]] = defaultdict(list)
    for node in nodes:  # what a node can give differs by some pages
        unlike = () if node.type else (float(f"{node.cores:.2g}"), float(f"{node.memory_bytes:.2g}"), node.pods)
        alike[(node.type, *unlike) if unlike else (node.type, 0.0, 0.0, 0)].append(node)
    by_type = Counter(node.type for node in nodes)
    shapes = [
        Shape(each.name, each.cores, each.memory_bytes, each.pods, each.hour, by_type[each.name])
        for each in prices.nodes
    ]
    known = {each.name for each in prices.nodes}
    for (name, *_), own in sorted(alike.items()):
        if name not in known:
            cores, size = min(node.cores for node in own), min(node.memory_bytes for node in own)
            most, count = min(node.pods for node in own), len(own)
            hour = cores * prices.core_hour + size / _GIBIBYTE * prices.gib_hour
            shapes.append(Shape(name or f"{cores:g} cores, {size / _GIBIBYTE:.3g} GiB", cores, size, most, hour, count))
    return tuple(shapes)


def _cases(
    pods: Sequence[Pods], shapes: Sequence[Shape], nodes: Sequence[Node], rules: Rules, growth: Growth | None,
    question: Question,
) -> tuple[Case, ...]:  # fmt: skip
    def case(name: str, days: int | None, factor: float, **how: bool) -> Case:
        wanted = functools.partial(scaled, pods, factor, **how)
        return case_of(name, days, factor, wanted, shapes, nodes, rules, HOURS_A_MONTH)

    cases = [
        case("now, as requested", 0, 1.0, now=True),
        case("now, recommended sizes", 0, 1.0),
    ]
    if growth is not None:
        for days in _stops(question.days):
            for quantile in sorted({0.5, question.quantile}):
                label = "expected" if quantile == 0.5 else f"P{quantile * 100:g}"
                factor = max(1.0, growth.highest(quantile, days))  # nobody plans for less than there was
                cases.append(case(f"until day {days}, {label}", days, factor))
    what_if = (case(each.name, each.days, each.factor, by_requests=True) for each in question.scenarios)
    return (*cases, *what_if)


def _stops(days: int) -> list[int]:
    return sorted({max(1, days * place // _STOPS) for place in range(1, _STOPS + 1)})


def _chances(growth: Growth | None, enough: float | None, question: Question) -> tuple[tuple[int, float], ...]:
    if growth is None or enough is None:
        return ()
    return tuple((days, growth.chance_above(enough, days)) for days in _stops(question.days))


def _scenario_ends(
    pods: Sequence[Pods], nodes: Sequence[Node], rules: Rules, question: Question
) -> tuple[ScenarioEnd, ...]:
    if not nodes or not question.scenarios:
        return ()
    enough = most_factor(pods, nodes, rules, by_requests=True)
    found = []
    for each in question.scenarios:
        days = None
        if each.days is not None and each.factor > max(enough, 1.0) and enough < MOST_FACTOR:
            days = max(0, int((enough - 1) / (each.factor - 1) * each.days))
        found.append(ScenarioEnd(each.name, enough, days))
    return tuple(found)


def _workloads(rows: Sequence[Recommendation], question: Question) -> tuple[WorkloadGrowth, ...]:
    """The largest, by CPU."""
    ordered = sorted(rows, key=lambda row: -_cores(row))
    found = []
    for row in ordered[:_MOST_WORKLOADS]:
        growth = growth_of_workload(row, question.days)
        if growth is not None:
            middle, upper = (growth.highest(each, question.days) for each in (0.5, question.quantile))
            found.append(WorkloadGrowth(row.container.name, _cores(row), middle, upper, growth.sentence))
    return tuple(found)


def _cores(row: Recommendation) -> float:
    """Used by all instances, on average."""
    timeline = row.history.timeline
    return timeline.mean("cpu_cores") * row.history.mean_instances if timeline else 0.0


def _notes(
    pods: Sequence[Pods], nodes: Sequence[Node], closed: Sequence[Node], growth: Growth | None, question: Question
) -> tuple[str, ...]:
    notes = []
    if closed:
        notes.append(f"{len(closed)} nodes are cordoned, tainted or not ready, and not counted")
    without = sum(each.without_request for each in pods)
    if without:
        notes.append(
            f"{without} containers request no CPU or no memory: what they lack counts as nothing, and goes anywhere"
        )
    gone = sum(1 for each in pods if not each.replicas)
    if gone:
        notes.append(f"{gone} workloads have no pod, and are not in it")
    if growth is not None:
        factor = max(1.0, growth.highest(question.quantile, question.days))
        bound = sum(1 for each in pods if each.most_replicas and math.ceil(each.replicas * factor) > each.most_replicas)
        if bound:
            notes.append(
                f"{bound} workloads would need more replicas than their autoscaler makes: it is counted to its most"
            )
        notes.append(
            "what was never seen is in no forecast: of 22 public series of machines, 5 had such a jump in a week"
        )
    if growth is None:
        notes.append("no demand is forecast: too little was recorded, or nothing used")
    unzoned = sum(not node.zone for node in nodes)
    if unzoned:
        notes.append(f"of {unzoned} of {len(nodes)} nodes no zone is known: they count as left when a zone goes")
    return tuple(notes)
