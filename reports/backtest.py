"""A backtest as a table, as a document, and as a page with the frontier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recommender.backtest.replay import Day
from recommender.backtest.run import OURS, Backtest, Judged
from recommender.backtest.scores import cost_of, slack_at, worst
from recommender.price import PRICE
from reports import charts
from reports.table import rows_as_table

_HERE = Path(__file__).parent
_AT_MOST_OVER = (0.5, 1.8)
_SHOWN_OVER = 6.0
_IN_PICTURE = {
    OURS: "a",
    "autopilot": "b",
    "maximum": "c",
    "vpa_target": "d",
    "krr_simple": "e",
    "krr": "e",
    "crane": "f",
}


def to_table(result: Backtest, *, terminal: bool) -> str:
    """Figures per recommender, ours first, and what they mean."""
    rows = [_cells(each, result.resource) for each in result.judged]
    table = rows_as_table(_headings(result), rows, terminal=terminal, color=False)
    return f"{table}\n{_explained(result)}\n"


def as_document(result: Backtest) -> dict[str, Any]:
    """Everything, for machines. Shares are in percent; requests are in the unit of the traces."""
    return {
        "kind": "Backtest",
        "resource": result.resource,
        "warmup_days": result.warmup_days,
        "days_left_out": result.days_left_out,
        "price_of_a_minute_over": PRICE,
        "workloads": [
            {
                "name": each.name,
                "pods": [{"name": pod.name, "days": round(pod.days, 3), "step_seconds": pod.step_seconds}
                         | {"coverage": asdict(pod.coverage)} for pod in each.pods],
            }
            for each in result.workloads
        ],
        "recommenders": {each.name: _judged(each) for each in result.judged},
    }  # fmt: skip


def to_html(result: Backtest, version: str) -> str:
    """One page that needs nothing else."""
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("backtest.html").render(
        style=(_HERE / "page.css").read_text(),
        version=version,
        result=result,
        headings=_headings(result),
        rows=[_cells(each, result.resource) for each in result.judged],
        picture=_picture(result.judged),
        explained=_explained(result),
        worst=[_worst(day) for day in worst(result.judged[0].days)],
        pairs=[(each.name, each.pair) for each in result.judged if each.pair],
        coverage=[(pod, each.name) for each in result.workloads for pod in each.pods],
    )


def _headings(result: Backtest) -> list[str]:
    over = "days over %" if result.resource == "memory" else "days over 5 %"
    return [
        "recommender",
        "waste %",
        "slack %",
        "minutes over %",
        over,
        "days changed %",
        "regret",
        "slack at 0.5 % over",
    ]


def _cells(judged: Judged, resource: str) -> list[str]:
    scores = judged.scores
    at_half = slack_at(judged.frontier, _AT_MOST_OVER[0])
    bad_days = (
        scores.days_over_percent if resource == "memory" else scores.days_over_5_percent
    )  # once over is an OOM kill
    return [
        judged.name,
        f"{scores.waste_percent:.1f}",
        f"{scores.slack_percent:.1f}",
        f"{scores.minutes_over_percent:.2f}",
        f"{bad_days:.1f}",
        f"{scores.days_changed_percent:.1f}",
        f"{scores.regret:.3f}",
        "-" if at_half is None else f"{at_half:.1f}",
    ]


def _judged(judged: Judged) -> dict[str, Any]:
    document: dict[str, Any] = asdict(judged.scores)
    document["pareto"] = [asdict(point) for point in judged.frontier]
    document["slack_percent_at_minutes_over"] = {
        f"{at_most:g}": slack_at(judged.frontier, at_most) for at_most in _AT_MOST_OVER
    }
    document["ours_against_it"] = asdict(judged.pair) if judged.pair else None
    document["by_workload"] = _by_workload(judged.days)
    document["worst_days"] = [_worst(day) for day in worst(judged.days)]
    return document


def _by_workload(days: Sequence[Day]) -> dict[str, dict[str, float]]:
    names = sorted({day.workload for day in days})
    found = {name: [day for day in days if day.workload == name and day.request is not None] for name in names}
    return {
        name: {
            "days": len(own),
            "waste_percent": round(100 * sum(day.waste for day in own) / len(own), 3),
            "slack_percent": round(100 * sum(day.slack for day in own) / len(own), 3),
            "minutes_over_percent": round(100 * sum(day.over for day in own) / len(own), 3),
        }
        for name, own in found.items()
        if own
    }


def _worst(day: Day) -> dict[str, Any]:
    return {
        "workload": day.workload,
        "day": f"{datetime.fromtimestamp(day.start_unix_seconds, UTC):%Y-%m-%d}",
        "request": day.request,
        "largest_use": float(day.used.max()),
        "minutes_over_percent": round(100 * day.over, 3),
        "slack_percent": round(100 * day.slack, 3),
        "cost": round(cost_of(day), 4),
    }


def _picture(judged: Sequence[Judged]) -> str:
    lines = [
        (charts.Line(each.name, [point.slack_percent for point in ordered], _IN_PICTURE[each.name]), xs)
        for each in judged
        if each.name in _IN_PICTURE and each.frontier
        for ordered in [sorted(each.frontier, key=lambda point: point.minutes_over_percent)]
        for xs in [[point.minutes_over_percent for point in ordered]]
    ]
    return charts.frontier_chart(
        "Slack against minutes over, margin swept", lines, _SHOWN_OVER, "minutes over the request (%)", "slack (%)"
    )


def _explained(result: Backtest) -> str:
    days = result.judged[0].scores.days
    left_out = f"; {result.days_left_out} days with under half their samples left out" if result.days_left_out else ""
    return (
        f"{days} days of {len(result.workloads)} workloads judged, after {result.warmup_days} days to learn{left_out}. "
        "Waste: 1 - mean use / request. Slack: what is left of the request, on average. Changed: by more than 10 %. "
        f"Regret: slack + {PRICE:g} x share of minutes over, above the oracle's, who knows each next day's maximum."
    )
