"""One picture of a container's history: lanes above each other over one axis of time.

    requests    /s    ─────╮  ╭───
    errors      /s         ╰──╯
    latency     ms    P50 P95 P99              a rollout, or the kernel's OOM killer, is a line through all lanes:
    CPU         cores                          what moved with what is seen at a glance
    throttled   %
    memory      MiB   with request and limit, now and then

Lanes of which nothing is known, or in which nothing happened, are left out.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from recommender.resources import format_resource
from reports.charts import round_ticks
from reports.path import line_path

WIDTH, _LEFT, _RIGHT = 720, 58, 10
_LANE, _TITLE, _AXIS = 54, 26, 30
_PLOT = WIDTH - _LEFT - _RIGHT
_FINE = 2  # half a pixel
_SERVED = 3  # lanes: requests, errors, latency
_BEYOND = 3.0  # a mark so many times the highest value would flatten the line
_APART, _ASIDE, _LABEL = 12.0, 125, 150  # labels
_TICKS_SECONDS = (
    1,
    2,
    5,
    10,
    30,
    60,
    120,
    300,
    600,
    1800,
    3600,
    7200,
    10800,
    21600,
    43200,
    86400,
    172800,
    604800,
    2419200,
)
_MOST_TICKS = 8
_SIGNS = {"c": "╍", "b thin": "─"}  # as the lines are: who sees fewer colours tells them apart by that
_DAY = 86400
_Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class _Line:
    label: str
    xs: Sequence[float]
    values: _Values
    style: str


@dataclass(frozen=True, slots=True)
class _Mark:
    label: str
    value: float
    style: str


@dataclass(frozen=True, slots=True)
class _Lane:
    """Lines over one axis.

    :ivar scale: from the document's unit to the one that is shown
    """

    title: str
    unit: str
    lines: Sequence[_Line]
    scale: float = 1.0
    marks: Sequence[_Mark] = field(default_factory=tuple)


def over_time(record: Mapping[str, Any], *, served: bool = False) -> str:
    """The picture of one record of :func:`reports.document.report_document`; empty where there is no history.

    :param served: only the lanes that tell how it serves
    """
    timeline = record["timeline"]
    if timeline is None:
        return ""
    lanes = [lane for lane in _lanes(record, timeline)[: _SERVED if served else None] if lane.lines]
    if not lanes:
        return ""
    number = max(len(values) for values in timeline["columns"].values())
    height = len(lanes) * (_LANE + _TITLE) + _AXIS
    parts = [_drawn(lane, place * (_LANE + _TITLE) + _TITLE, number) for place, lane in enumerate(lanes)]
    bottom = height - _AXIS
    parts += [_events(record, timeline, number, bottom), _axis(timeline, number, bottom)]
    label = f"{', '.join(lane.title for lane in lanes)} over time"
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _lanes(record: Mapping[str, Any], timeline: Mapping[str, Any]) -> list[_Lane]:
    columns, latency = timeline["columns"], timeline["latency"]
    begin, step = timeline["start_unix_seconds"], timeline["step_seconds"]
    half = timeline["latency_step_seconds"] / 2
    last = max(len(values) for values in columns.values()) - 1
    moments = [min(max((start + half - begin) / step - 0.5, 0), last) for start in timeline["latency_unix_seconds"]]

    def lines(*wanted: tuple[str, str, str], happened: bool = False) -> list[_Line]:
        known = ((label, columns[name], style) for label, name, style in wanted if name in columns)
        return [
            _Line(label, range(len(values)), values, style)
            for label, values, style in known
            if not happened or any(values)
        ]

    cpu = [("mean", "cpu_cores", "a")]
    if columns.get("cpu_peak_cores") != columns.get("cpu_cores"):
        cpu.append(("highest", "cpu_peak_cores", "b thin"))
    quantiles = [
        _Line(name.upper(), moments, latency[f"{name}_seconds"], style)
        for name, style in (("p50", "a"), ("p95", "b"), ("p99", "c"))
        if any(each is not None for each in latency.get(f"{name}_seconds", ()))
    ]
    said = "Latency" if timeline["latency_of"] == "requests" else "Latency, the highest of its minutes"
    asked = any(columns.get("requests_per_second", ()))
    memory, unit = _bytes_scale(record, columns)
    return [
        _Lane("Requests", "per second", lines(("", "requests_per_second", "a")) if asked else []),
        _Lane(
            "Errors",
            "per second",
            lines(
                ("server", "server_errors_per_second", "bad"),
                ("client", "client_errors_per_second", "a"),
                ("no answer", "unanswered_per_second", "c"),
                happened=True,
            ),
        ),
        _Lane(said, "ms", quantiles, 1000.0),
        _Lane(
            "CPU of one instance",
            "cores",
            lines(*cpu),
            1.0,
            _marks(record, "cpu_request_cores", "cpu_limit_cores", 1.0),
        ),
        _Lane("Throttled", "% of periods", lines(("", "throttled_share", "bad"), happened=True), 100.0),
        _Lane(
            "Memory of one instance",
            unit,
            lines(("highest working set", "memory_working_set_bytes", "a")),
            memory,
            _marks(record, "memory_request_bytes", "memory_limit_bytes", memory),
        ),
        _Lane("Instances", "", lines(("", "instances", "a")) if len(set(columns.get("instances", ()))) > 1 else []),
    ]


def _bytes_scale(record: Mapping[str, Any], columns: Mapping[str, Any]) -> tuple[float, str]:
    highest = max((each for each in columns.get("memory_working_set_bytes", ()) if each is not None), default=0.0)
    highest = max(highest, record["target"]["memory_request_bytes"] or 0.0)
    return (2.0**-30, "GiB") if highest > 2 * 2**30 else (2.0**-20, "MiB")


def _marks(record: Mapping[str, Any], request: str, limit: str, scale: float) -> list[_Mark]:
    """Request and limit as they will be, and as they are where that differs."""
    marks = []
    for what, name in (("request", request), ("limit", limit)):
        now, then = record["current"][name], record["target"][name]
        if then is not None:
            marks.append(_Mark(f"{what} {format_resource(name, then)}", then * scale, what))
        if now is not None and now != then:
            marks.append(_Mark(f"{what} now {format_resource(name, now)}", now * scale, f"{what} now"))
    return marks


def _drawn(lane: _Lane, top: float, number: int) -> str:
    values = [each * lane.scale for line in lane.lines for each in line.values if each is not None]
    highest = max(values, default=0.0)
    seen = [mark for mark in lane.marks if mark.value <= _BEYOND * highest]
    ceiling = round_ticks(max([highest, *(1.05 * mark.value for mark in seen)]) or 1.0, 2)[-1]
    title = f"{html.escape(lane.title)}{_unit(lane.unit)}{_keys(lane.lines)}"
    parts = [
        f'<path class="g" d="M{_LEFT} {top}h{_PLOT}m0 {_LANE // 2}h-{_PLOT}m0 {_LANE // 2}h{_PLOT}"/>',
        f'<text class="t e" x="{_LEFT - 5}" y="{top + 8}">{_number(ceiling, lane.unit)}</text>',
        f'<text class="t e" x="{_LEFT - 5}" y="{top + _LANE}">0</text>',
        f'<text class="h" x="{_LEFT}" y="{top - 6}">{title}</text>',
    ]
    if beyond := [mark.label for mark in lane.marks if mark not in seen]:
        parts.append(
            f'<text class="t e" x="{WIDTH - _RIGHT}" y="{top - 6}">above: {html.escape(", ".join(beyond))}</text>'
        )
    scale = _LANE * _FINE / ceiling
    for line in lane.lines:
        ys = [None if each is None else _LANE * _FINE - each * lane.scale * scale for each in line.values]
        place = f'transform="translate({_LEFT} {top})scale({_PLOT / max(1, number - 1):.4g} {1 / _FINE})"'
        parts.append(f'<path class="l {line.style}" {place} d="{line_path(line.xs, ys)}"/>')
    return "".join(parts) + _drawn_marks(seen, top, ceiling)


def _drawn_marks(marks: Sequence[_Mark], top: float, ceiling: float) -> str:
    """Lines across, each with its label at the right end, further to the left where another one is too close."""
    parts: list[str] = []
    taken: list[tuple[int, float]] = []
    for mark in sorted(marks, key=lambda each: each.value):
        y = top + _LANE * (1 - mark.value / ceiling)
        column = next(
            place for place in range(len(marks)) if all(place != other or abs(y - at) >= _APART for other, at in taken)
        )
        taken.append((column, y))
        parts.append(
            f'<path class="m {mark.style}" d="M{_LEFT} {y:.0f}h{_PLOT}"/>'
            f'<text class="n e {mark.style}" x="{WIDTH - _RIGHT - _ASIDE * column}" y="{y - 2:.0f}">'
            f"{html.escape(mark.label)}</text>"
        )
    return "".join(parts)


def _events(record: Mapping[str, Any], timeline: Mapping[str, Any], number: int, bottom: float) -> str:
    """Lines through all lanes; of some that are close together one label says how many."""
    begin, step = timeline["start_unix_seconds"], timeline["step_seconds"]
    across = _PLOT / max(1, number - 1)
    kills = [place for place, count in enumerate(timeline["columns"].get("oom_kills", ())) if count]
    found = [((time - begin) / step, "rollout", "deploy") for time in record["deployed_unix_seconds"]]
    found += [(float(place), "killed: out of memory", "oom") for place in kills]
    parts: list[str] = []
    labels: list[list[Any]] = []  # x, label, style, how many
    for place, label, style in sorted(found):
        x = _LEFT + min(max(place, 0.0), number - 1) * across
        parts.append(f'<path class="v {style}" d="M{x:.0f} 2V{bottom}"/>')
        room = _LABEL if x <= WIDTH - _LABEL else 2 * _LABEL  # its label is to its left
        if labels and x - labels[-1][0] < room:
            same = labels[-1][1] == label
            labels[-1][1:] = [label if same else "rollouts and kills", "oom", labels[-1][3] + 1]
        else:
            labels.append([x, label, style, 1])
    for x, label, style, count in labels:
        side, shift = (" e", -4) if x > WIDTH - _LABEL else ("", 4)
        times = f" x {count}" if count > 1 else ""
        parts.append(f'<text class="n{side} {style}" x="{x + shift:.0f}" y="{bottom + 10}">{label}{times}</text>')
    return "".join(parts)


def _axis(timeline: Mapping[str, Any], number: int, bottom: float) -> str:
    begin, step = timeline["start_unix_seconds"], timeline["step_seconds"]
    span = max(1, number - 1) * step
    every = next((each for each in _TICKS_SECONDS if span / each <= _MOST_TICKS), _TICKS_SECONDS[-1])
    form = "%d %b" if every >= _DAY else "%H:%M" if every >= 60 else "%H:%M:%S"
    parts, time = [], math.ceil(begin / every) * every
    while time <= begin + span:
        x = _LEFT + (time - begin) / span * _PLOT
        if x < WIDTH - 130:
            parts.append(
                f'<text class="t c" x="{x:.0f}" y="{bottom + 22}">{datetime.fromtimestamp(time, UTC):{form}}</text>'
            )
        time += every
    last = datetime.fromtimestamp(begin + span, UTC)
    parts.append(f'<text class="t e" x="{WIDTH - _RIGHT}" y="{bottom + 22}">{last:%Y-%m-%d} UTC</text>')
    return "".join(parts)


def _number(value: float, unit: str) -> str:
    if unit == "cores" and value < 1:
        return f"{value * 1000:g}m"
    return f"{value:g}"


def _unit(unit: str) -> str:
    return f'<tspan class="u">, {unit}</tspan>' if unit else ""


def _keys(lines: Sequence[_Line]) -> str:
    return "".join(
        f'<tspan class="k {line.style}" dx="10">{_SIGNS.get(line.style, "━")} {line.label}</tspan>'
        for line in lines
        if line.label
    )
