"""The report: one HTML file that needs nothing else, from mail or from a CI artefact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recommender.demand import DemandFit
from recommender.history import Container, History, Recording
from recommender.recommendation import Recommendation
from recommender.resources import RESOURCE_NAMES, format_resource
from reports import charts
from reports.apis import HEADINGS, api_rows, cells
from reports.patch import Patch
from reports.table import adds, remarks

_HERE = Path(__file__).parent
_LABELS = dict(zip(RESOURCE_NAMES, ("CPU request", "CPU limit", "memory request", "memory limit"), strict=True))


def to_html(
    recording: Recording, rows: Sequence[Recommendation], patches: Mapping[Container, Patch], version: str
) -> str:
    """The page.

    :param patches: where there is one
    """
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    routes = api_rows(recording, by_status=True)
    by_workload = {
        row.container.name: [cells(each)[1:] for each in routes if each.workload == row.container.name] for row in rows
    }
    return environment.get_template("page.html").render(
        style=(_HERE / "page.css").read_text(),
        version=version,
        recording=recording,
        started=f"{datetime.fromtimestamp(recording.start_unix_seconds, UTC):%Y-%m-%d %H:%M} UTC",
        policies=", ".join(sorted({row.policy.name for row in rows})),
        counts=Counter(row.verdict.value for row in rows) | Counter(resize=0, keep=0, refuse=0),
        requests=_requests(rows),
        rows=[
            _row(index, row, patches.get(row.container), by_workload[row.container.name])
            for index, row in enumerate(rows)
        ],
        route_headings=HEADINGS[1:],
        agent=_agent(recording),
        lost=", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in recording.lost.items()),
    )


def _requests(rows: Sequence[Recommendation]) -> str:
    """A sum of zeros would say that nobody asked; without an agent it is not known."""
    watched = [row.history.requests for row in rows if row.history.watched]
    return f"{sum(watched):,}" if watched or not rows else "-"


def _row(index: int, row: Recommendation, patch: Patch | None, routes: Sequence[Sequence[str]]) -> dict[str, Any]:
    sizes = []
    for name in RESOURCE_NAMES:
        before, after = (format_resource(name, getattr(each, name)) or "-" for each in (row.current, row.target))
        sizes.append({"name": _LABELS[name], "before": before, "after": after, "reason": row.reasons[name]})
    return {
        "anchor": f"w{index}",
        "name": row.container.name,
        "kind": row.classification.name.value,
        "evidence": _sentence(row.classification.evidence),
        "confidence": row.confidence.level,
        "confidence_reason": _sentence(row.confidence.reason),
        "remarks": remarks(row),
        "changes": [
            line["after"] if line["before"] == line["after"] else f"{line['before']} → {line['after']}"
            for line in sizes
        ],
        "adds": adds(row),
        "sizes": sizes,
        "demand": _demand(row),
        "charts": _charts(row),
        "routes": routes,
        "patch": patch.patch if patch else None,
        "rollback": patch.rollback if patch else None,
    }


def _charts(row: Recommendation) -> list[str]:
    """The pictures that fit: a workload without requests has no traffic, latency or curve."""
    history = row.history
    made = [_headroom(row)] if row.curve else []
    frame = history.frame.groupby("start_unix_seconds", sort=True)
    start = history.frame["start_unix_seconds"].sort_values().unique()
    if not len(start):
        return []
    seconds = list(start - start[0])
    if history.requests:
        made.append(_traffic(seconds, history))
        made.append(_latency(seconds, history))
    cores = list(frame["cpu_cores"].sum(min_count=1))
    marks = _size_marks(row, ("cpu_request_cores", "cpu_limit_cores"), 1.0)
    made.append(charts.time_chart("CPU", "cores", seconds, [charts.Line("used", cores)], marks))
    if isinstance(row.demand, DemandFit):
        known = history.frame.dropna(subset=["cpu_cores", "requests_per_second"])
        fit = (row.demand.base_cores, row.demand.seconds_per_request)
        made.append(
            charts.scatter_chart("CPU per request", list(known["requests_per_second"]), list(known["cpu_cores"]), fit)
        )
    made.append(_memory(row, seconds, frame))
    return made


def _headroom(row: Recommendation) -> str:
    assert row.curve is not None
    assert row.busiest_curve is not None
    quantile = row.policy.latency.quantile
    marks = [
        charts.Mark(f"{label} {format_resource(name, value)}", value, style)
        for label, name, value, style in (
            ("current limit", "cpu_limit_cores", row.current.cpu_limit_cores, "current"),
            ("request", "cpu_request_cores", row.target.cpu_request_cores, "request"),
            ("limit", "cpu_limit_cores", row.target.cpu_limit_cores, "limit"),
        )
        if value is not None and not (label == "current limit" and value == row.target.cpu_limit_cores)
    ]
    points = row.curve.points
    return charts.curve_chart(
        f"Headroom: what a CPU limit adds to P{quantile * 100:g}",
        [point.limit_cores for point in points],
        [point.adds[quantile] for point in points],
        [point.adds[quantile] for point in row.busiest_curve.points],
        [point.upper_adds[quantile] for point in row.busiest_curve.points],
        row.policy.latency.limit_adds_percent / 100,
        marks,
    )


def _traffic(seconds: Sequence[float], history: History) -> str:
    frame = history.frame.groupby("start_unix_seconds", sort=True)
    duration = frame["duration_seconds"].max()
    wanted = [("requests", "requests", "a")]
    wanted += [("errors", "server errors", "bad")] if history.frame["errors"].sum() else []
    wanted += [("unanswered", "no answer", "b")] if history.unanswered else []
    lines = []
    for column, label, style in wanted:
        known = frame[column].count() == frame[column].size()  # of every instance: a sum of some would be a dip
        values = (frame[column].sum() / duration).where(known)
        lines.append(charts.Line(label, [None if np.isnan(each) else each for each in values], style))
    return charts.time_chart("Traffic", "per second", seconds, lines)


def _latency(seconds: Sequence[float], history: History) -> str:
    worst = history.frame.groupby("start_unix_seconds", sort=True)[["p50_seconds", "p95_seconds"]].max()
    lines = []
    for name, style in (("P50", "a"), ("P95", "b")):
        values = worst[f"{name.lower()}_seconds"]
        lines.append(charts.Line(name, [None if np.isnan(v) else v * 1000 for v in values], style))
    return charts.time_chart("Latency", "ms", seconds, lines)


def _memory(row: Recommendation, seconds: Sequence[float], frame: Any) -> str:
    mebibyte = 2**20
    lines = [
        charts.Line("working set", list(frame["memory_working_set_bytes"].max() / mebibyte)),
        charts.Line("anonymous", list(frame["memory_anon_bytes"].max() / mebibyte), "b"),
    ]
    marks = _size_marks(row, ("memory_request_bytes", "memory_limit_bytes"), 1 / mebibyte)
    return charts.time_chart("Memory", "MiB", seconds, lines, marks)


def _size_marks(row: Recommendation, names: tuple[str, str], scale: float) -> list[charts.Mark]:
    marks = []
    for name, style in zip(names, ("request", "limit"), strict=True):
        value = getattr(row.target, name)
        if value is not None:
            marks.append(charts.Mark(f"{style} {format_resource(name, value)}", value * scale, style))
    return marks


def _demand(row: Recommendation) -> str | None:
    if not isinstance(row.demand, DemandFit):
        return None
    fit = row.demand
    low, high = (each * 1e3 for each in fit.cost_interval)
    return (
        f"Demand: {fit.base_cores * 1000:.0f}m at rest, and {fit.seconds_per_request * 1e3:.3g} ms of CPU per request "
        f"(95 % interval {low:.3g} to {high:.3g} ms; R² {fit.r_squared:.2f} over {fit.windows} windows)."
    )


def _agent(recording: Recording) -> str:
    if not recording.agent:
        return "The agent's own cost was not recorded."
    cost = recording.agent
    mebibytes = (cost["resident_bytes"] + cost["map_bytes"]) / 2**20
    text = f"The agent itself used {cost['cpu_cores']:.1%} of a core and {mebibytes:.0f} MiB, kernel maps included"
    if "program_cores" not in cost:
        return f"{text}."
    text += f"; its programs in the kernel {cost['program_cores']:.1%} of a core"
    if "latency_share" in cost:
        microseconds = cost["program_seconds_per_request"] * 1e6
        text += f", {microseconds:.1f} µs per request and end, which is {cost['latency_share']:.1%} of the mean latency"
    return f"{text}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
