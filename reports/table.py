"""Tables for people, on a terminal or in a pipe."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recommender.recommendation import Recommendation, Verdict
from recommender.resources import RESOURCE_NAMES, format_resource

_PIPE_COLUMNS = 160
_LEAST_COLUMNS = 130
_MANY = 10  # workloads with the same remark
_HEADINGS = ("CPU request", "CPU limit", "mem request", "mem limit")
_COLOURS = {Verdict.RESIZE: "green", Verdict.KEEP: "dim", Verdict.REFUSE: "yellow"}


def recommendations(rows: Sequence[Recommendation], *, terminal: bool, color: bool) -> str:
    """Current -> target of every container, what the limit would add, and why there is no number."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("workload", "class"):
        table.add_column(heading, overflow="fold")
    for heading in (*_HEADINGS, "limit adds"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("confidence")
    for row in rows:
        cells = [_change(row, name) for name in RESOURCE_NAMES]
        table.add_row(
            Text(row.container.name), row.classification.name.value, *cells, adds(row), row.confidence.level,
            style=_COLOURS[row.verdict] if row.verdict is not Verdict.RESIZE else "",
        )  # fmt: skip
    below = [Text(line) for line in _together(rows)]
    return _render([table, *([Text(), *below] if below else [])], terminal=terminal, color=color)


def rows_as_table(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, terminal: bool, color: bool) -> str:
    """A plain table; numbers align right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        numeric = bool(rows) and all(_is_number(row[index]) for row in rows)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return _render([table], terminal=terminal, color=color)


def adds(row: Recommendation) -> str:
    """What the recommended limit adds at the policy's quantile."""
    predicted = row.limit_adds
    return "-" if predicted is None else f"P{row.policy.latency.quantile * 100:g} {overhead(predicted)}"


def overhead(share: float) -> str:
    """Added latency; past a doubling only that, since there the model is no longer sharp."""
    return f"{share:+.1%}" if share <= 1 else "over +100 %"


def remarks(row: Recommendation) -> list[str]:
    """Notes, and the reason for each number that is missing; each reason once."""
    missing: dict[str, list[str]] = {}
    for name, heading in zip(RESOURCE_NAMES, _HEADINGS, strict=True):
        if getattr(row.uncapped, name) is None:
            missing.setdefault(row.reasons[name], []).append(heading)
    lines = [f"no {' and '.join(headings)}: {reason}" for reason, headings in missing.items()]
    return lines + list(row.notes)


def _together(rows: Sequence[Recommendation]) -> list[str]:
    """The remarks of all rows; one that many have stands there once."""
    said = {row.container.name: remarks(row) for row in rows}
    often = Counter(line for lines in said.values() for line in lines)
    common = [f"{count} workloads: {line}" for line, count in often.items() if count >= _MANY]
    return common + [f"{name}: {line}" for name, lines in said.items() for line in lines if often[line] < _MANY]


def _change(row: Recommendation, name: str) -> str:
    before, after = (format_resource(name, getattr(each, name)) for each in (row.current, row.target))
    if before == after:
        return after or "-"
    return f"{before or '-'} -> {after or '-'}"


def _is_number(cell: object) -> bool:
    text = str(cell).strip()
    return text == "-" or text.replace("%", "").replace(".", "").replace(",", "").replace("-", "0").strip().isdigit()


def _render(parts: Sequence[Any], *, terminal: bool, color: bool) -> str:
    out = io.StringIO()
    # a narrow terminal wraps lines; a table squeezed into it would lose digits
    width = max(shutil.get_terminal_size().columns, _LEAST_COLUMNS) if terminal else _PIPE_COLUMNS
    console = Console(file=out, width=width, force_terminal=color, no_color=not color, highlight=False, soft_wrap=False)
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
