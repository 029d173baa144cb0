"""Workloads as they are now, as ``top`` shows processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from recommender.history import History, Recording

#: What can be sorted by, and how it is called above its column.
COLUMNS = {
    "name": "workload",
    "requests_per_second": "RPS",
    "error_share": "errors",
    "p95_seconds": "P95",
    "cpu_cores": "CPU",
    "throttled_share": "throttled",
    "cpu_headroom_share": "CPU left",
    "memory_bytes": "memory",
    "memory_headroom_share": "memory left",
    "instances": "instances",
}
_WIDE, _FIGURE = 110, 7
_OF_WIDE = ("memory_headroom_share", "instances")
_FEW, _NONE_LEFT = 0.2, 0.05  # of a limit
_MANY_ERRORS, _MUCH_THROTTLED = 0.01, 0.01
_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class TopRow:
    """One container over the last windows. None is "not known", or without a limit.

    :ivar error_share: of requests: the server's errors, and those without an answer
    :ivar cpu_cores, memory_bytes: of all instances
    :ivar cpu_headroom_share, memory_headroom_share: of its limit, what the fullest instance has left
    """

    name: str
    requests_per_second: float | None
    error_share: float | None
    p95_seconds: float | None
    cpu_cores: float | None
    throttled_share: float | None
    cpu_headroom_share: float | None
    memory_bytes: float | None
    memory_headroom_share: float | None
    instances: int

    def as_record(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def top_rows(recording: Recording, by: str) -> list[TopRow]:
    """The largest first; by name the other way round. What is not known comes last."""
    rows = [_row(history) for history in recording.histories]
    if by == "name":
        return sorted(rows, key=lambda row: row.name)
    if by.endswith("headroom_share"):
        return sorted(rows, key=lambda row: (getattr(row, by) is None, getattr(row, by) or 0.0, row.name))
    return sorted(rows, key=lambda row: (getattr(row, by) is None, -(getattr(row, by) or 0.0), row.name))


def cells(row: TopRow) -> list[str]:
    """The row as text under the headings of :data:`COLUMNS`."""
    return [
        "".join(each if each.isprintable() else "?" for each in row.name),
        _shown(row.requests_per_second, lambda value: f"{value:.1f}"),
        _shown(row.error_share, lambda value: f"{value:.1%}"),
        _shown(row.p95_seconds, lambda value: f"{value * 1000:.3g} ms"),
        _shown(row.cpu_cores, lambda value: f"{value * 1000:.0f}m"),
        _shown(row.throttled_share, lambda value: f"{value:.1%}"),
        _shown(row.cpu_headroom_share, lambda value: f"{value:.0%}"),
        _shown(row.memory_bytes, lambda value: f"{value / _MEBIBYTE:.0f} MiB"),
        _shown(row.memory_headroom_share, lambda value: f"{value:.0%}"),
        str(row.instances),
    ]


def screen(rows: Sequence[TopRow], by: str, about: str, most: int, columns: int) -> Group:
    """For a terminal of so many lines and columns; what is dangerous has a colour, and a sign for who sees none."""
    shown = list(COLUMNS) if columns >= _WIDE else [name for name in COLUMNS if name not in _OF_WIDE]
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for name in shown:
        heading = Text(COLUMNS[name], style="reverse" if name == by else "")
        if name == "name":  # it alone is cut where there is little room
            table.add_column(heading, overflow="ellipsis", no_wrap=True, min_width=12, ratio=1)
        else:
            table.add_column(heading, justify="right", no_wrap=True, min_width=max(len(COLUMNS[name]), _FIGURE))
    for row in rows[: max(1, most)]:
        told = dict(zip(COLUMNS, zip(cells(row), _styles(row), strict=True), strict=True))
        table.add_row(*(Text(told[name][0], style=told[name][1]) for name in shown))
    hidden = len(rows) - max(1, most)
    lines = [Text(f"and {hidden} more", style="dim")] if hidden > 0 else []
    return Group(Text(about, style="dim", no_wrap=True, overflow="ellipsis"), table, *lines)


def _row(history: History) -> TopRow:
    frame = history.frame
    seconds = history.seconds or 1.0
    newest = frame[frame["start_unix_seconds"] == frame["start_unix_seconds"].max()]
    failed = float(frame["errors"].sum()) + (history.unanswered or 0)
    asked = history.requests + (history.unanswered or 0)
    cpu, working = history.column("cpu_cores"), newest["memory_working_set_bytes"].to_numpy(dtype=float)
    durations = history.column("duration_seconds")
    return TopRow(
        history.container.name,
        history.requests / seconds if history.watched else None,
        failed / asked if asked else None,
        history.everything.histogram.quantile_seconds(0.95),
        float(np.nansum(cpu * durations)) / seconds if np.isfinite(cpu).any() else None,
        history.throttled_share,
        _left(frame, "cpu_cores", "cpu_limit_cores"),
        float(np.nansum(working)) if np.isfinite(working).any() else None,
        _left(newest, "memory_working_set_bytes", "memory_limit_bytes"),
        int(newest["instance"].nunique()),
    )


def _left(frame: Any, used: str, limit: str) -> float | None:
    left = 1 - frame[used].to_numpy(dtype=float) / frame[limit].to_numpy(dtype=float)
    return float(np.nanmin(left)) if np.isfinite(left).any() else None


def _shown(value: float | None, form: Any) -> str:
    return "-" if value is None else str(form(value))


def _styles(row: TopRow) -> list[str]:
    styles = dict.fromkeys(COLUMNS, "")
    if (row.error_share or 0.0) > _MANY_ERRORS:
        styles["error_share"] = "bold red"
    if (row.throttled_share or 0.0) > _MUCH_THROTTLED:
        styles["throttled_share"] = "bold red"
    for name in ("cpu_headroom_share", "memory_headroom_share"):
        left = getattr(row, name)
        if left is not None and left < _FEW:
            styles[name] = "bold red" if left < _NONE_LEFT else "bold yellow"
    return list(styles.values())
