"""Routes with their requests, rate, errors and latency: the API view as a table."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from profiles.histogram import LATENCY, Histogram
from profiles.schema import ANSWERED
from profiles.status import GRPC, HTTP1, HTTP2, is_error, is_server_error, name_of
from recommender.history import History, Recording, Route


@dataclass(frozen=True, slots=True)
class ApiRow:
    """One route (or, by status, one route and status, or outcome without one) of one container.

    :ivar requests: with and without an answer; the shares are of them
    :ivar error_share: answers of 400 and above, of gRPC all but OK
    :ivar server_error_share: those of them that are the server's fault
    :ivar unanswered_share: the connection ended first: aborted, reset, timed out; None where that was not counted
    :ivar p50_seconds, p95_seconds: to the last byte of the answer; None when there was none
    :ivar first_byte_seconds: mean time to the first byte of the answer
    """

    workload: str
    role: str
    protocol: str
    method: str
    route: str
    status: str
    requests: int
    requests_per_second: float
    error_share: float
    server_error_share: float
    unanswered_share: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    first_byte_seconds: float | None

    def as_record(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


#: As people read them.
PROTOCOLS = {HTTP1: "HTTP/1", HTTP2: "HTTP/2", GRPC: "gRPC"}

HEADINGS = (
    "workload",
    "side",
    "protocol",
    "method",
    "route",
    "status",
    "requests",
    "RPS",
    "errors",
    "server errors",
    "no answer",
    "P50",
    "P95",
)


def api_rows(recording: Recording, *, by_status: bool = False) -> list[ApiRow]:
    """All routes of the recording, the busiest first within a workload."""
    return [row for each in recording.histories for row in api_rows_of(each, recording.seconds, by_status=by_status)]


def api_rows_of(history: History, seconds: float, *, by_status: bool = False) -> list[ApiRow]:
    """Those of one container, over so many seconds."""
    groups: dict[tuple[str, str, str, str, str], list[Route]] = defaultdict(list)
    for route in (each for each in history.routes if each.latency.total):
        status = "all"
        if by_status:
            status = (
                name_of(route.protocol, route.status) if route.outcome == ANSWERED else route.outcome.replace("_", " ")
            )
        groups[route.role, route.protocol, route.method, route.route, status].append(route)
    made = [_row(history, seconds, *key, parts) for key, parts in groups.items()]
    return sorted(
        made, key=lambda row: (row.role != "server", -row.requests, row.route, row.method, row.status, row.protocol)
    )


def cells(row: ApiRow) -> list[str]:
    """The row as text under :data:`HEADINGS`."""
    return [
        row.workload, row.role, PROTOCOLS[row.protocol], row.method, row.route, row.status, str(row.requests),
        f"{row.requests_per_second:.1f}",
        f"{row.error_share:.1%}", f"{row.server_error_share:.1%}",
        "-" if row.unanswered_share is None else f"{row.unanswered_share:.1%}",
        *("-" if each is None else milliseconds(each) for each in (row.p50_seconds, row.p95_seconds)),
    ]  # fmt: skip


def milliseconds(seconds: float) -> str:
    """Three significant digits, in milliseconds."""
    return f"{seconds * 1000:.3g} ms"


def _row(
    history: History,
    seconds: float,
    role: str,
    protocol: str,
    method: str,
    route: str,
    status: str,
    parts: Sequence[Route],
) -> ApiRow:
    answered = [part for part in parts if part.outcome == ANSWERED]
    latency = Histogram.merged(LATENCY, (part.latency for part in answered))
    total = sum(part.latency.total for part in parts)
    first_byte = math.fsum(part.latency_seconds_sum - part.transfer_seconds_sum for part in answered)
    failed = [
        sum(part.latency.total for part in answered if fails(part.protocol, part.status))
        for fails in (is_error, is_server_error)
    ]
    return ApiRow(
        history.container.name,
        role,
        protocol,
        method,
        route,
        status,
        total,
        total / seconds,
        failed[0] / total,
        failed[1] / total,
        None if history.unanswered is None else 1 - latency.total / total,
        latency.quantile_seconds(0.5),
        latency.quantile_seconds(0.95),
        first_byte / latency.total if latency.total else None,
    )
