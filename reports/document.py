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

from recommender.autoscaler import Retarget
from recommender.history import Container, History, Recording
from recommender.recommendation import Recommendation, Verdict
from recommender.reserved import HOURS_A_MONTH, Rates, Reserved, reserved_of
from recommender.resources import RESOURCE_NAMES
from reports.apis import api_rows_of
from reports.patch import Patch
from reports.record import as_record, fit_record, rounded, timeline_record
from reports.table import remarks

FORMAT_VERSION = 1
#: With more containers than this each is told more briefly.
FEW = 150
_ROUTES_OF_FEW, _ROUTES_OF_MANY = 12, 3
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
            "fit": fit_record(row),
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
