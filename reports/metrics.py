"""Recommendations as metrics, for dashboards and alerts: Prometheus' text format, names as promlint wants them.

One series per container and number. What is not known has no series: no zero, no NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from collector.exposition import Labels, metric
from recommender.resources import RESOURCE_NAMES

_ABOUT = ("verdict", "class", "confidence")
_LABELS = ("cluster", "namespace", "kind", "workload", "container")
_WHAT = dict(zip(RESOURCE_NAMES, ("CPU request", "CPU limit", "memory request", "memory limit"), strict=True))
_Value = Callable[[Mapping[str, Any]], float | None]
_OF_CONTAINERS: tuple[tuple[str, str, _Value], ...] = (
    *(
        (f"recommendation_{name}", f"Recommended {what}.", lambda each, name=name: each["target"][name])
        for name, what in _WHAT.items()
    ),
    *(
        (f"current_{name}", f"{what[0].upper()}{what[1:]} in force.", lambda each, name=name: each["current"][name])
        for name, what in _WHAT.items()
    ),
    (
        "recommendation_limit_added_latency_ratio",
        "Latency that the recommended CPU limit is predicted to add, at the policy's quantile.",
        lambda each: each["predicted"]["limit_adds"],
    ),
    (
        "recommendation_latency_budget_ratio",
        "Latency that a CPU limit may add by policy.",
        lambda each: each["predicted"]["limit_budget"],
    ),
    ("recommendation_replicas", "Replicas at once, on average.", lambda each: each["reserved"]["replicas"]),
    (
        "recommendation_risks",
        "Dangers of the sizes in force.",
        lambda each: float(len(each["risks"])),
    ),
)


def to_metrics(document: Mapping[str, Any]) -> str:
    """The text of :func:`reports.document.report_document`'s recommendations."""
    records, summary, prices = (document[name] for name in ("recommendations", "summary", "prices"))
    blocks = [
        _gauge(name, text, {_own(each): found for each in records if (found := value(each)) is not None})
        for name, text, value in _OF_CONTAINERS
    ]
    about: dict[Labels, float] = {(*_own(each), *((name, str(each[name])) for name in _ABOUT)): 1.0 for each in records}
    blocks.append(_gauge("recommendation_info", "What to do with each container, and how sure that is.", about))
    if summary["month_saves"] is not None:
        saves: dict[Labels, float] = {
            (("currency", prices["currency"]),): summary["month_saves"] / prices["hours_a_month"]
        }
        blocks.append(_gauge("recommendation_hourly_savings", "Money an hour that all of them save.", saves))
    until: dict[Labels, float] = {(): document["recording"]["end_unix_seconds"]}
    blocks.append(_gauge("recommendation_recorded_until_timestamp_seconds", "End of what they rest on.", until))
    return "".join(blocks)


def _gauge(name: str, text: str, values: dict[Labels, float]) -> str:
    return metric(f"headroom_{name}", "gauge", text, values)


def _own(record: Mapping[str, Any]) -> Labels:
    return tuple((name, str(record[name])) for name in _LABELS)
