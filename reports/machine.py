"""Recommendations for machines: JSON, YAML, CSV. Every number of the report is in here."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import yaml

from recommender.curve import HeadroomCurve
from recommender.demand import DemandFit
from recommender.history import History, Recording
from recommender.recommendation import Recommendation
from recommender.resources import RESOURCE_NAMES, Resources, format_resource

FORMAT_VERSION = 1


def as_document(recording: Recording, recommendations: Sequence[Recommendation]) -> dict[str, Any]:
    """Everything, as plain data: seconds, cores, bytes; a share of 0.05 is 5 %."""
    return {
        "version": FORMAT_VERSION,
        "recording": {
            "start_unix_seconds": recording.start_unix_seconds,
            "seconds": recording.seconds,
            "windows": recording.windows,
            "clock_steps": recording.clock_steps,
            "lost": dict(recording.lost),
            "agent": dict(recording.agent),
        },
        "recommendations": [as_record(each) for each in recommendations],
    }


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
            "requests": each.history.requests,
            "server_errors": int(each.history.frame["errors"].sum()),
            "unanswered": each.history.unanswered,
        },
        "latency_seconds": {f"p{q * 100:g}": seconds for q, seconds in _latency(each.history).items()},
        "demand": _demand(each),
        "memory": None if each.memory is None else asdict(each.memory),
        "checks": [asdict(check) for check in each.checks],
        "curve": _curve(each.curve, quantile),
        "busiest_curve": _curve(each.busiest_curve, quantile),
    }


def to_json(document: Any) -> str:
    """Stable text: same document, same bytes."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def to_yaml(document: Any) -> str:
    """The same as YAML."""
    return yaml.safe_dump(json.loads(json.dumps(document, allow_nan=False)), sort_keys=False, allow_unicode=True)


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per row, nested values under dotted names; lists are left to JSON."""
    flat = [dict(_flat(row)) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _flat(row: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in row.items():
        if isinstance(value, Mapping):
            pairs.extend(_flat(value, f"{prefix}{name}."))
        elif not isinstance(value, list):
            pairs.append((prefix + name, value))
    return pairs


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
