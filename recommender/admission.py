"""What the cluster itself would refuse, or do otherwise with, of a set of recommendations.

LimitRange    a container outside its bounds is refused when a pod is made, hours after the patch
node          a request larger than every node is pending for ever
quality       requests equal to limits make a pod Guaranteed; sizes must not take that away unasked
other hands   a VerticalPodAutoscaler that is on would set the sizes back
quota         raises that do not fit into what a namespace may have leave a rollout half done
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from recommender.inventory import Bounds, Inventory, Quota
from recommender.quality import Quality, Workload, by_workload, workload_of
from recommender.recommendation import Recommendation, Verdict
from recommender.resources import PAIRS, RESOURCE_NAMES, Resources, format_resource, round_down


def admitted(rows: Sequence[Recommendation], inventory: Inventory) -> list[Recommendation]:
    """The same rows, sized so that the cluster takes them, with the reason where that moved a number."""
    bounds: dict[str, list[Bounds]] = defaultdict(list)
    for each in inventory.bounds:
        bounds[each.namespace].append(each)
    quality = by_workload(inventory)
    made = [
        _within(_guaranteed(_vertical(row), quality), bounds[row.container.namespace], inventory)
        if row.container.cluster == inventory.cluster
        else row
        for row in rows
    ]
    for quota in inventory.quotas:
        places = [at for at, row in enumerate(made) if _is_under(row, inventory.cluster, quota)]
        for at, row in zip(places, _within_quota([made[at] for at in places], quota), strict=True):
            made[at] = row
    return [_paired(row, quality) if row.container.cluster == inventory.cluster else row for row in made]


def _paired(row: Recommendation, quality: Mapping[Workload, Quality]) -> Recommendation:
    """After all that: no request above its limit, and what has to be equal is equal, or neither moves."""
    is_guaranteed = quality.get(workload_of(row.container)) == "Guaranteed"
    for request, limit in PAIRS.values():
        asked, most, now = getattr(row.target, request), getattr(row.target, limit), getattr(row.current, request)
        if row.verdict is not Verdict.RESIZE or asked is None:
            continue
        if is_guaranteed and now is not None and now == getattr(row.current, limit) and asked != most:
            row = _with(row, {request: now, limit: now}, "one of the pair cannot move, and they are to stay equal")
        elif most is not None and asked > most:
            row = _with(row, {request: most}, "no more than the limit, which cannot rise")
    return row


def _is_under(row: Recommendation, cluster: str, quota: Quota) -> bool:
    return (row.container.cluster, row.container.namespace) == (cluster, quota.namespace)


def _vertical(row: Recommendation) -> Recommendation:
    mode = row.declared.vertical if row.declared is not None else None
    if mode in (None, "Off"):
        return row
    return replace(row, notes=(*row.notes, f"its VerticalPodAutoscaler is {mode}: it would undo a patch"))


def _guaranteed(row: Recommendation, quality: Mapping[Workload, Quality]) -> Recommendation:
    """Of a pod that is Guaranteed, limits go on being equal to their requests."""
    if quality.get(workload_of(row.container)) != "Guaranteed":
        return row
    for request, limit in PAIRS.values():
        now, then = getattr(row.current, request), getattr(row.target, request)
        equal = now is not None and now == getattr(row.current, limit)
        if row.verdict is Verdict.RESIZE and equal and then is not None:
            least = getattr(row.target, limit)
            both = max(then, now if least is None else least)  # no limit is not to be had, so nothing is cut
            why = "its pod is Guaranteed: request and limit stay equal"
            row = _with(row, {request: both, limit: both}, why)
    return row


def _within(row: Recommendation, bounds: Iterable[Bounds], inventory: Inventory) -> Recommendation:
    for each in bounds:
        if row.verdict is Verdict.RESIZE and each.of == "Container":
            row = _without_limit(_between(row, each), each)
    for resource, (request, _) in PAIRS.items():
        has = [node.cores if resource == "cpu" else node.memory_bytes for node in inventory.nodes]
        largest, value = round_down(request, max(has, default=0.0)), getattr(row.target, request)
        if row.verdict is Verdict.RESIZE and largest and value is not None and value > largest:
            row = _with(row, {request: largest}, f"no node has more than {format_resource(request, largest)} to give")
    return row


def _between(row: Recommendation, bounds: Bounds) -> Recommendation:
    request, limit = PAIRS[bounds.resource]
    for name in (request, limit):
        value = getattr(row.target, name)
        if value is None:
            continue
        most = math.inf if bounds.most is None else round_down(name, bounds.most)
        kept = min(max(value, bounds.least or 0.0), most)
        than = f"{'more' if kept < value else 'less'} than {format_resource(name, kept)}"
        row = _with(row, {name: kept}, f"LimitRange {bounds.name} allows no {than}")
    asked, most = getattr(row.target, request), getattr(row.target, limit)
    if bounds.ratio is not None and asked is not None and most is not None and most > bounds.ratio * asked:
        why = f"LimitRange {bounds.name} wants a limit of at most {bounds.ratio:g} times the request"
        row = _with(row, {request: most / bounds.ratio}, why)
    return row


def _without_limit(row: Recommendation, bounds: Bounds) -> Recommendation:
    """What has no limit is given one by the LimitRange, and refused when that is less than its request."""
    request, limit = PAIRS[bounds.resource]
    if bounds.default_limit is None or getattr(row.target, limit) is not None:
        return row
    given = f"LimitRange {bounds.name} gives {format_resource(limit, bounds.default_limit)} to what has no limit"
    asked = getattr(row.target, request)
    if asked is not None and asked > bounds.default_limit:
        return _with(row, {limit: asked}, f"{given}, less than the request")
    return replace(row, notes=(*row.notes, given))


def _within_quota(rows: list[Recommendation], quota: Quota) -> list[Recommendation]:
    """Raises that do not fit are kept back, in order of their names, until the rest does."""
    for resource, names in PAIRS.items():
        for name, key in zip(names, (f"requests.{resource}", f"limits.{resource}"), strict=True):
            hard = quota.hard.get(key, quota.hard.get(resource) if key.startswith("requests") else None)
            if hard is None:
                continue
            if key.startswith("limits"):
                rows = [_with_limit(row, name, quota) for row in rows]
            free = hard - quota.used.get(key, quota.used.get(resource, 0.0))
            free -= sum(min(0.0, _change(row, name)) for row in rows)
            for place, row in enumerate(rows):
                more = _change(row, name)
                if more <= 0:
                    continue
                if more > free + 1e-9:
                    why = f"quota {quota.name} has no room for more {key}: {format_resource(name, max(0.0, free))} left"
                    rows[place] = _with(row, {name: getattr(row.current, name)}, why)
                else:
                    free -= more
    return rows


def _with_limit(row: Recommendation, name: str, quota: Quota) -> Recommendation:
    """Under a quota on limits every container has to have one."""
    limit = getattr(row.current, name)
    if row.verdict is not Verdict.RESIZE or limit is None or getattr(row.target, name) is not None:
        return row
    row = replace(row, unset=row.unset - {name})
    return _with(row, {name: limit}, f"quota {quota.name} wants a limit of every container")


def _change(row: Recommendation, name: str) -> float:
    """What a recommendation takes more of a quota, over all replicas."""
    if row.verdict is not Verdict.RESIZE or row.declared is None:
        return 0.0
    replicas = row.declared.replicas or row.history.instances or 1
    return replicas * ((getattr(row.target, name) or 0.0) - (getattr(row.current, name) or 0.0))


def _with(row: Recommendation, values: dict[str, float | None], why: str) -> Recommendation:
    moved = {name: value for name, value in values.items() if value != getattr(row.target, name)}
    if not moved:
        return row
    target: Resources = replace(row.target, **moved)
    reasons = row.reasons | {name: f"{why}; {row.reasons[name]}" for name in moved}
    same = all(getattr(target, name) == getattr(row.current, name) for name in RESOURCE_NAMES)
    return replace(row, target=target, reasons=reasons, verdict=Verdict.KEEP if same else Verdict.RESIZE)
