"""The API view as a page: every route of every workload, and how each workload served over time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from recommender.history import History, Recording
from reports.apis import PROTOCOLS, api_rows_of
from reports.html import Nav, render
from reports.over_time import over_time
from reports.record import rounded, timeline_record


def apis_document(recording: Recording, histories: Sequence[History]) -> dict[str, Any]:
    """Plain data: the routes, each with its statuses, and the timeline of each container that has any."""
    workloads = []
    for history in histories:
        routes = api_rows_of(history, recording.seconds)
        told = timeline_record(history.timeline)
        if routes or history.requests:
            workloads.append(
                {
                    "name": history.container.name,
                    "requests": history.requests,
                    "unanswered": history.unanswered,
                    "by_metrics": history.by_metrics,
                    "routes": _routes(history, recording.seconds),
                    "timeline": told,
                }
            )
    return {
        "start_unix_seconds": recording.start_unix_seconds,
        "end_unix_seconds": recording.end_unix_seconds,
        "seconds": recording.seconds,
        "workloads": workloads,
    }


def _routes(history: History, seconds: float) -> list[dict[str, Any]]:
    statuses: dict[tuple[str, ...], dict[str, int]] = defaultdict(dict)
    for each in api_rows_of(history, seconds, by_status=True):
        statuses[each.role, each.protocol, each.method, each.route][each.status] = each.requests
    return [
        rounded(each.as_record())
        | {
            "protocol": PROTOCOLS[each.protocol],
            "statuses": statuses[each.role, each.protocol, each.method, each.route],
        }
        for each in api_rows_of(history, seconds)
    ]


def to_html(document: Mapping[str, Any], nav: Nav = (), periods: Nav = (), period: str = "/apis") -> str:
    """The page of an :func:`apis_document`.

    :param periods: address and name of the same over other times, where it is served
    :param period: the address of this one
    """
    nothing = dict.fromkeys(("cpu_request_cores", "cpu_limit_cores", "memory_request_bytes", "memory_limit_bytes"))
    pictures = [
        over_time({**each, "current": nothing, "target": nothing, "deployed_unix_seconds": ()}, served=True)
        for each in document["workloads"]
    ]
    protocols = sorted({route["protocol"] for each in document["workloads"] for route in each["routes"]})
    return render(
        "apis.html", document=document, pictures=pictures, protocols=protocols, nav=nav, periods=periods, period=period
    )
