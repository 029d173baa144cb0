"""A capacity review as plain data, as a table and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from recommender.capacity import MOST_FACTOR
from recommender.review import Review
from reports import charts
from reports.html import Nav, render

HEADINGS = ("demand", "factor", "cores", "GiB", "pods", "without room", "cheapest nodes", "at least", "a month")
_GIBIBYTE = 2**30


def as_document(review: Review, currency: str, version: str) -> dict[str, Any]:
    """Everything; numbers of a forecast to five digits."""
    document = asdict(review)
    growth = review.growth
    document["growth"] = None
    if growth is not None:
        document["growth"] = {
            "middle": _short(growth.middle),
            "upper": _short(
                np.array([growth.highest(review.question.quantile, day + 1) for day in range(growth.days)])
            ),
            "expected": _short(np.array([growth.highest(0.5, day + 1) for day in range(growth.days)])),
            "past_days": [float(day) for day in growth.past_days],
            "past": _short(growth.past),
            "sentence": growth.sentence,
        }
    return {"version": 1, "headroom": version, "currency": currency, **document}


def rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line per demand and type of node, for CSV."""
    own = ("name", "days", "factor", "cores", "bytes", "pods", "unplaced")
    return [
        {name: case[name] for name in own} | {name: need[name] for name in ("shape", "nodes", "at_least", "month")}
        for case in document["cases"]
        for need in case["needs"]
    ]


def cells(case: Mapping[str, Any], currency: str) -> list[str]:
    """A demand as text under :data:`HEADINGS`."""
    need = case["needs"][0]
    fits = need["nodes"] is not None
    return [
        case["name"],
        f"{case['factor']:.2f}",
        f"{case['cores']:.1f}",
        f"{case['bytes'] / _GIBIBYTE:.1f}",
        str(case["pods"]),
        "-" if case["unplaced"] is None else str(case["unplaced"]),
        f"{need['nodes']} x {need['shape']}" if fits else "none is large enough",
        str(need["at_least"]) if fits else "-",
        f"{need['month']:,.0f} {currency}" if fits else "-",
    ]


def sentences(document: Mapping[str, Any]) -> list[str]:
    """What the figures say, in words."""
    question = document["question"]
    said = []
    enough = document["enough_for"]
    if enough is not None:
        said.append(_suffice(document))
        for case_days, chance in document["chances"]:
            if chance > 1 - question["quantile"] and enough >= 1:
                more = "one in two or more" if chance >= 0.5 else f"{chance:.0%}"
                said.append(f"the chance that they do not suffice by day {case_days} is {more}")
                break
    for each in document["scenario_ends"] if enough is not None and enough >= 1 else ():
        when = f"; rising evenly, that is on day {each['days']}" if each["days"] is not None else ""
        said.append(f"{each['name']}: the nodes suffice for traffic x {_factor(each['factor'])}{when}")
    for loss in document["zone_losses"] if enough is not None and enough >= 1 else ():
        if loss["unplaced"]:
            names = ", ".join(loss["workloads"][:5]) + (" and others" if len(loss["workloads"]) > 5 else "")
            said.append(
                f"without zone {loss['zone']} {loss['unplaced']} pods find no room ({names}); "
                + (
                    "no number of further nodes would do"
                    if loss["more_nodes"] is None
                    else f"{loss['more_nodes']} more nodes in the others would do"
                )
            )
        else:
            said.append(f"without zone {loss['zone']} every pod finds room on the {loss['nodes']} nodes that are left")
    return said + list(document["notes"])


def to_html(document: Mapping[str, Any], nav: Nav = ()) -> str:
    """The page."""
    growth = document["growth"]
    picture = ""
    if growth is not None:
        picture = charts.forecast_chart(
            "Demand for CPU: daily peaks, and the highest until then",
            (growth["past_days"], growth["past"]),
            growth["expected"],
            growth["upper"],
            f"P{document['question']['quantile'] * 100:g}",
            document["enough_for"],
        )
    return render("plan.html", document=document, picture=picture, sentences=sentences(document), nav=nav)


def _suffice(document: Mapping[str, Any]) -> str:
    enough, days = document["enough_for"], document["question"]["days"]
    if enough < 1:
        return f"the {document['nodes']} nodes do not suffice now, but for {enough:.2f} times the last week's peak"
    percent = f"{document['question']['quantile'] * 100:g} %"
    text = f"the {document['nodes']} nodes suffice for {_factor(enough)} times the demand of the last week's peak"
    if document["growth"] is None:
        return text
    if document["out_upper"] is None:
        return f"{text}: for the next {days} days, with {percent} certainty"
    if document["out_upper"] == 1:
        return f"{text}: with {percent} certainty not even tomorrow"
    out = f"{text}: with {percent} certainty before day {document['out_upper']}"
    return out if document["out_middle"] is None else f"{out}; as expected before day {document['out_middle']}"


def _factor(value: float) -> str:
    return f"{value:g} or more" if value >= MOST_FACTOR else f"{value:.2f}"


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]
