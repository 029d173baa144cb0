"""Recommendations as plain data: what ``-o json`` prints, and what every page is drawn from.

    recommendations  ->  document  ->  JSON, CSV, page, Markdown, metrics, and the difference to the last one

A page knows nothing but the document, so that each of its numbers is in the JSON output. Units are in the names; a
share of 0.05 is 5 %.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np

from recommender.autoscaler import Retarget
from recommender.curve import HeadroomCurve
from recommender.demand import DemandFit
from recommender.history import Container, History, Recording
from recommender.recommendation import Recommendation, Verdict
from recommender.reserved import HOURS_A_MONTH, Rates, Reserved, reserved_of
from recommender.resources import RESOURCE_NAMES, Resources, format_resource
from recommender.risks import risks_of
from recommender.timeline import Timeline
from reports.apis import api_rows_of
from reports.patch import Patch
from reports.table import remarks

FORMAT_VERSION = 1
#: With more containers than this each is told more briefly.
FEW = 150
_ROUTES_OF_FEW, _ROUTES_OF_MANY = 12, 3
_FIT_POINTS, _FIT_LEVEL = 6, 0.95
_CHANGES_MOST = 8
_MANY, _MANY_SHARE = 4, 0.2


def as_document(recording: Recording, recommendations: Sequence[Recommendation]) -> dict[str, Any]:
    """Everything, as plain data: seconds, cores, bytes; a share of 0.05 is 5 %."""
    return {
        "version": FORMAT_VERSION,
        "recording": {
            "start_unix_seconds": recording.start_unix_seconds,
            "seconds": recording.seconds,
            "windows": recording.windows,
            "end_unix_seconds": recording.end_unix_seconds,
            "clock_steps": recording.clock_steps,
            "lost": dict(recording.lost),
            "agent": dict(recording.agent),
            "agent_bytes": sum(
                recording.agent[name] for name in ("resident_bytes", "map_bytes") if name in recording.agent
            ),
        },
        "recommendations": [as_record(each) for each in recommendations],
    }


def as_record(each: Recommendation) -> dict[str, Any]:
    """One recommendation as plain data."""
    container, quantile = each.container, each.policy.latency.quantile
    return {
        "cluster": container.cluster,
        "namespace": container.namespace,
        "kind": container.kind,
        "workload": container.workload,
        "container": container.container,
        "verdict": each.verdict.value,
        "class": each.classification.name.value,
        "class_evidence": each.classification.evidence,
        "confidence": each.confidence.level,
        "confidence_reason": each.confidence.reason,
        "confidence_missing": each.confidence.missing,
        "runtime": None if each.history.runtime is None else each.history.runtime.name.lower(),
        "policy": each.policy.name,
        "current": _resources(each.current),
        "target": _resources(each.target),
        "lower_bound": _resources(Resources(**{name: bound[0] for name, bound in each.bounds.items()})),
        "upper_bound": _resources(Resources(**{name: bound[1] for name, bound in each.bounds.items()})),
        "uncapped": asdict(each.uncapped),
        "reasons": dict(each.reasons),
        "notes": list(each.notes),
        "predicted": {
            "quantile": quantile,
            "limit_adds": each.limit_adds,
            "request_adds": each.request_adds,
            "limit_budget": each.policy.latency.limit_adds_percent / 100,
            "request_budget": each.policy.latency.request_adds_percent / 100,
        },
        "evidence": {
            "windows": each.history.windows,
            "seconds": each.history.seconds,
            "instances": each.history.instances,
            "oom_kills": each.history.oom_kills,
            "throttled_share": each.history.throttled_share,
            "requests": each.history.requests,
            "server_errors": int(each.history.frame["errors"].sum()),
            "unanswered": each.history.unanswered,
        },
        "latency_seconds": {f"p{q * 100:g}": seconds for q, seconds in _latency(each.history).items()},
        "demand": _demand(each),
        "risks": [asdict(risk) for risk in risks_of(each)],
        "memory": None if each.memory is None else asdict(each.memory),
        "checks": [asdict(check) for check in each.checks],
        "curve": _curve(each.curve, quantile),
        "busiest_curve": _curve(each.busiest_curve, quantile),
    }


def report_document(
    recording: Recording,
    rows: Sequence[Recommendation],
    patches: Mapping[Container, Patch],
    rates: Rates,
    version: str,
    targets: Sequence[Retarget] = (),
) -> dict[str, Any]:
    """:func:`as_document` with what a report has beside it: money, history, routes, patches.

    :param patches: where there is one
    :param version: of headroom
    :param targets: of autoscalers, that change with the requests
    """
    reserved = [reserved_of(row) for row in rows]
    most_routes = _ROUTES_OF_FEW if len(rows) <= FEW else _ROUTES_OF_MANY
    names = _names(rows)
    records = [
        as_record(row)
        | {
            "name": names[row.container],
            "remarks": remarks(row),
            "reserved": asdict(own) | {"cores_freed": own.cores_freed, "bytes_freed": own.bytes_freed},
            "month_saves": own.month_saves(rates),
            "timeline": timeline_record(row.history.timeline),
            "fit": _fit(row),
            "why": _why(row),
            **_routes(row.history, recording.seconds, most_routes),
            "deployed_unix_seconds": _deployed(row, recording),
            **_patch(patches.get(row.container)),
        }
        for row, own in zip(rows, reserved, strict=True)
    ]
    _say_patches_once(records)
    return as_document(recording, rows) | {
        "headroom": version,
        "prices": asdict(rates) | {"hours_a_month": HOURS_A_MONTH},
        "summary": _summary(rows, reserved, records),
        "policies": sorted({row.policy.name for row in rows}),
        "common": _common(records),
        "skipped": _skipped(records),
        "autoscalers": [asdict(each) for each in targets],
        "recommendations": records,
    }


def _names(rows: Sequence[Recommendation]) -> dict[Container, str]:
    """As short as they are one container's: with kind or cluster where there are several of a name."""
    containers = [row.container for row in rows]
    short = Counter(each.name for each in containers)
    longer = Counter((each.cluster, each.name) for each in containers)
    clusters = {each.cluster for each in containers}
    found = {}
    for each in containers:
        name = each.name
        if short[name] > 1:
            name = f"{each.cluster}/{name}" if len(clusters) > 1 else name
            name = f"{name} ({each.kind})" if longer[each.cluster, each.name] > 1 else name
        found[each] = name
    return found


def _why(row: Recommendation) -> str:
    """The reason in one line: of the first number that changes, or of there being none."""
    if row.verdict is Verdict.KEEP:
        return "right as it is"
    if row.verdict is Verdict.RESIZE:
        changed = [name for name in RESOURCE_NAMES if getattr(row.current, name) != getattr(row.target, name)]
        return row.reasons[(changed or RESOURCE_NAMES)[0]]
    return (remarks(row) or list(row.reasons.values()))[0]


def rounded(record: Mapping[str, Any]) -> dict[str, Any]:
    """Six significant digits: half a page of routes would else be digits that nobody measured."""
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in record.items()}


def _routes(history: History, seconds: float, most: int) -> dict[str, Any]:
    """Those with most requests."""
    rows = api_rows_of(history, seconds)
    return {
        "routes": [rounded(each.as_record()) for each in rows[:most]],
        "routes_more": max(0, len(rows) - most),
    }


def _common(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What is said of many containers, so that it is said first."""
    said = Counter(remark for each in records for remark in dict.fromkeys(each["remarks"]))
    least = max(_MANY, _MANY_SHARE * len(records))
    return [{"sentence": remark, "containers": count} for remark, count in said.most_common() if count >= least]


def _skipped(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Containers without a size, by their place among all, under the reason."""
    found: dict[str, list[int]] = defaultdict(list)
    for place, each in enumerate(records):
        if each["verdict"] == Verdict.REFUSE.value:
            found[each["why"]].append(place)
    return [{"sentence": why, "containers": places} for why, places in found.items()]


def _say_patches_once(records: Sequence[dict[str, Any]]) -> None:
    """Containers of one workload share its patch; it stands with the first of them."""
    seen = set()
    for each in records:
        if each["patch"] is not None:
            known = (*(each[name] for name in ("cluster", "namespace", "kind", "workload")), each["patch_name"])
            if known in seen:
                each["patch"] = each["rollback"] = None
            seen.add(known)


def _summary(
    rows: Sequence[Recommendation], reserved: Sequence[Reserved], records: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Sums over all containers. A sum of nothing known is None."""
    verdicts = Counter(row.verdict for row in rows)
    watched = [row.history.requests for row in rows if row.history.watched]
    risks = list(chain.from_iterable(each["risks"] for each in records))
    saved = [each["month_saves"] for each in records if each["month_saves"] is not None]
    by_money = sorted(
        (place for place, each in enumerate(records) if each["month_saves"]),
        key=lambda place: -abs(records[place]["month_saves"]),
    )
    return {
        "containers": len(rows),
        "workloads": len(
            {
                (row.container.cluster, row.container.namespace, row.container.kind, row.container.workload)
                for row in rows
            }
        ),
        **{verdict.value: verdicts[verdict] for verdict in Verdict},
        "requests": sum(watched) if watched else None,
        "cores_before": _sum(each.cores_before for each in reserved),
        "cores_after": _sum(each.cores_after for each in reserved),
        "bytes_before": _sum(each.bytes_before for each in reserved),
        "bytes_after": _sum(each.bytes_after for each in reserved),
        "cores_freed": _sum(each.cores_freed for each in reserved),
        "bytes_freed": _sum(each.bytes_freed for each in reserved),
        "cores_newly_reserved": _sum(each.cores_after for each in reserved if each.cores_before is None),
        "bytes_newly_reserved": _sum(each.bytes_after for each in reserved if each.bytes_before is None),
        "month_saves": sum(saved) if saved else None,
        "month_freed": sum(each for each in saved if each > 0) if saved else None,
        "month_added": -sum(each for each in saved if each < 0) if saved else None,
        "risks_removed": sum(each["removed"] for each in risks),
        "risks_left": sum(not each["removed"] for each in risks),
        "changes_most": by_money[:_CHANGES_MOST],
        "classes": dict(sorted(Counter(each["class"] for each in records).items())),
    }


def _resources(resources: Resources) -> dict[str, Any]:
    values = asdict(resources)
    return values | {"quantities": {name: format_resource(name, values[name]) for name in RESOURCE_NAMES}}


def _latency(history: History) -> dict[float, float]:
    merged = history.everything.histogram
    quantiles = {q: merged.quantile_seconds(q) for q in (0.5, 0.95, 0.99)}
    return {q: seconds for q, seconds in quantiles.items() if seconds is not None}


def _curve(curve: HeadroomCurve | None, quantile: float) -> list[dict[str, float]]:
    return [
        {
            "limit_cores": point.limit_cores,
            "adds": point.adds[quantile],
            "upper_adds": point.upper_adds[quantile],
            "throttled_share": point.throttled_share,
        }
        for point in (curve.points if curve else ())
    ]


def _demand(each: Recommendation) -> dict[str, Any]:
    if not isinstance(each.demand, DemandFit):
        return {"reason": each.demand.reason}
    return asdict(each.demand)


def timeline_record(timeline: Timeline | None) -> dict[str, Any] | None:
    """Plain data; None where there is no history."""
    if timeline is None:
        return None
    return (
        asdict(timeline)
        | {
            name: {column: list(values) for column, values in getattr(timeline, name).items()}
            for name in ("columns", "latency")
        }
        | {"latency_unix_seconds": list(timeline.latency_unix_seconds)}
    )


def _fit(row: Recommendation) -> dict[str, list[float]] | None:
    """The line of the demand and its interval, at a few rates up to the highest seen of one instance."""
    timeline = row.history.timeline
    if not isinstance(row.demand, DemandFit) or timeline is None:
        return None
    rates, instances = (timeline.columns.get(name, ()) for name in ("requests_per_second", "instances"))
    known = [rate / count for rate, count in zip(rates, instances, strict=False) if rate is not None and count]
    if not known or not max(known):
        return None
    at = np.linspace(0.0, max(known), _FIT_POINTS)
    low, high = row.demand.predict(at, _FIT_LEVEL)
    lines = {"requests_per_second": at, "cores": row.demand.cores_at(at), "lower_cores": low, "upper_cores": high}
    return {name: [float(f"{value:.5g}") for value in values] for name, values in lines.items()}


def _deployed(row: Recommendation, recording: Recording) -> list[float]:
    """When versions were rolled out while it was recorded."""
    times = row.declared.deployed_unix_seconds if row.declared is not None else ()
    return [time for time in times if recording.start_unix_seconds <= time <= recording.end_unix_seconds]


def _patch(patch: Patch | None) -> dict[str, str | None]:
    """Without its comments: the reasons stand beside it."""
    if patch is None:
        return dict.fromkeys(("patch", "rollback", "patch_name", "patch_command"))
    return {
        "patch": _bare(patch.patch),
        "rollback": _bare(patch.rollback),
        "patch_name": f"{patch.name}.{patch.suffix}",
        "patch_command": patch.command,
    }


def _bare(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def _sum(values: Any) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) if known else None
