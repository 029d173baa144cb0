"""One recommendation as plain data, and what is drawn of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from recommender.curve import HeadroomCurve
from recommender.demand import DemandFit
from recommender.history import History
from recommender.recommendation import Recommendation
from recommender.resources import RESOURCE_NAMES, Resources, format_resource
from recommender.risks import risks_of
from recommender.timeline import Timeline

_FIT_POINTS, _FIT_LEVEL = 6, 0.95


def as_record(each: Recommendation) -> dict[str, Any]:
    """One recommendation as plain data."""
    container, quantile = each.container, each.policy.latency.quantile
    return {
        "cluster": container.cluster,
        "namespace": container.namespace,
        "kind": container.kind,
        "workload": container.workload,
        "container": container.container,
        "verdict": each.verdict.value,
        "class": each.classification.name.value,
        "class_evidence": each.classification.evidence,
        "confidence": each.confidence.level,
        "confidence_reason": each.confidence.reason,
        "confidence_missing": each.confidence.missing,
        "runtime": None if each.history.runtime is None else each.history.runtime.name.lower(),
        "policy": each.policy.name,
        "current": _resources(each.current),
        "target": _resources(each.target),
        "lower_bound": _resources(Resources(**{name: bound[0] for name, bound in each.bounds.items()})),
        "upper_bound": _resources(Resources(**{name: bound[1] for name, bound in each.bounds.items()})),
        "uncapped": asdict(each.uncapped),
        "reasons": dict(each.reasons),
        "notes": list(each.notes),
        "predicted": {
            "quantile": quantile,
            "limit_adds": each.limit_adds,
            "request_adds": each.request_adds,
            "limit_budget": each.policy.latency.limit_adds_percent / 100,
            "request_budget": each.policy.latency.request_adds_percent / 100,
        },
        "evidence": {
            "windows": each.history.windows,
            "seconds": each.history.seconds,
            "instances": each.history.instances,
            "oom_kills": each.history.oom_kills,
            "throttled_share": each.history.throttled_share,
            "requests": each.history.requests,
            "server_errors": int(each.history.frame["errors"].sum()),
            "unanswered": each.history.unanswered,
        },
        "latency_seconds": {f"p{q * 100:g}": seconds for q, seconds in _latency(each.history).items()},
        "demand": _demand(each),
        "risks": [asdict(risk) for risk in risks_of(each)],
        "memory": None if each.memory is None else asdict(each.memory),
        "checks": [asdict(check) for check in each.checks],
        "curve": _curve(each.curve, quantile),
        "busiest_curve": _curve(each.busiest_curve, quantile),
    }


def rounded(record: Mapping[str, Any]) -> dict[str, Any]:
    """Six significant digits: half a page of routes would else be digits that nobody measured."""
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in record.items()}


def _resources(resources: Resources) -> dict[str, Any]:
    values = asdict(resources)
    return values | {"quantities": {name: format_resource(name, values[name]) for name in RESOURCE_NAMES}}


def _latency(history: History) -> dict[float, float]:
    merged = history.everything.histogram
    quantiles = {q: merged.quantile_seconds(q) for q in (0.5, 0.95, 0.99)}
    return {q: seconds for q, seconds in quantiles.items() if seconds is not None}


def _curve(curve: HeadroomCurve | None, quantile: float) -> list[dict[str, float]]:
    return [
        {
            "limit_cores": point.limit_cores,
            "adds": point.adds[quantile],
            "upper_adds": point.upper_adds[quantile],
            "throttled_share": point.throttled_share,
        }
        for point in (curve.points if curve else ())
    ]


def _demand(each: Recommendation) -> dict[str, Any]:
    if not isinstance(each.demand, DemandFit):
        return {"reason": each.demand.reason}
    return asdict(each.demand)


def timeline_record(timeline: Timeline | None) -> dict[str, Any] | None:
    """Plain data; None where there is no history."""
    if timeline is None:
        return None
    return (
        asdict(timeline)
        | {
            name: {column: list(values) for column, values in getattr(timeline, name).items()}
            for name in ("columns", "latency")
        }
        | {"latency_unix_seconds": list(timeline.latency_unix_seconds)}
    )


def fit_record(row: Recommendation) -> dict[str, list[float]] | None:
    """The line of the demand and its interval, at a few rates up to the highest seen of one instance."""
    timeline = row.history.timeline
    if not isinstance(row.demand, DemandFit) or timeline is None:
        return None
    rates, instances = (timeline.columns.get(name, ()) for name in ("requests_per_second", "instances"))
    known = [rate / count for rate, count in zip(rates, instances, strict=False) if rate is not None and count]
    if not known or not max(known):
        return None
    at = np.linspace(0.0, max(known), _FIT_POINTS)
    low, high = row.demand.predict(at, _FIT_LEVEL)
    lines = {"requests_per_second": at, "cores": row.demand.cores_at(at), "lower_cores": low, "upper_cores": high}
    return {name: [float(f"{value:.5g}") for value in values] for name, values in lines.items()}
