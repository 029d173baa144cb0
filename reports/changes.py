"""Two documents -> what came between: what is new, what was applied, what came of it, what regressed.

A container is compared with itself: the steps of its timeline after the last report with those before it. Worse is
what exceeds nine in ten of the steps before, in the median of those after, so that one bad hour is no regression.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from recommender.resources import RESOURCE_NAMES

Document = Mapping[str, Any]
_KEY = ("cluster", "namespace", "kind", "workload", "container")
_LABELS = dict(zip(RESOURCE_NAMES, ("CPU request", "CPU limit", "memory request", "memory limit"), strict=True))
_LEAST_STEPS = 3
_WORSE_BY = 1.05  # in the scale of the figure: a percent more is no news
_MORE = {"error_share": 0.01, "throttled_share": 0.01}  # by so much, where the figure is a share
_SAME = 1e-6


def changes_since(last: Document, now: Document) -> dict[str, Any]:
    """Plain data: names, and sentences about them. Both are of :func:`reports.document.report_document`."""
    before = {_key(each): each for each in last["recommendations"]}
    after = {_key(each): each for each in now["recommendations"]}
    both = [(before[key], each) for key, each in after.items() if key in before]
    since = last["recording"]["end_unix_seconds"]
    applied = [(old, new, done) for old, new in both if (done := _applied(old, new))]
    return {
        "since_unix_seconds": since,
        "new": [_name(each) for key, each in after.items() if key not in before],
        "gone": [_name(each) for key, each in before.items() if key not in after],
        "applied": [{"name": _name(new), "sentence": _came_of(old, new, done, since)} for old, new, done in applied],
        "regressed": [
            {"name": _name(new), "sentence": worse} for old, new in both if (worse := _worse(old, new, since))
        ],
        "advice": [_name(new) for old, new in both if _other_advice(old, new)],
    }


def _key(record: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(record[name] for name in _KEY)


def _name(record: Mapping[str, Any]) -> str:
    return str(record["name"])


def _applied(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The numbers that were advised to change, and now are as advised."""
    if old["verdict"] != "resize":
        return []
    return [
        name
        for name in RESOURCE_NAMES
        if not _same(old["current"][name], old["target"][name]) and _same(new["current"][name], old["target"][name])
    ]


def _other_advice(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return any(not _same(old["target"][name], new["target"][name]) for name in RESOURCE_NAMES)


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= _SAME * max(abs(one), abs(other))


def _came_of(old: Mapping[str, Any], record: Mapping[str, Any], done: Sequence[str], since: float) -> str:
    quantities = record["current"]["quantities"]
    what = ", ".join(f"{_LABELS[name]} {quantities[name] or 'none'}" for name in done)
    return f"was applied ({what}); since then {_worse(old, record, since) or _unchanged(record, since)}"


def _unchanged(record: Mapping[str, Any], since: float) -> str:
    found = [label for label, _, _, _ in _compared(record, since)]
    return f"{' and '.join(found)} are as before" if found else "too little was recorded to tell"


def _worse(old: Mapping[str, Any], record: Mapping[str, Any], since: float) -> str | None:
    sentences = [
        sentence
        for label, before, after, share in _compared(record, since)
        if (sentence := _is_worse(label, before, after, share))
    ]
    kills = _kills(old, record, since)
    if kills:
        sentences.append(f"the kernel killed it {'once' if kills == 1 else f'{kills} times'} for want of memory")
    return "; ".join(sentences) or None


def _is_worse(label: str, before: Sequence[float], after: Sequence[float], share: float | None) -> str | None:
    usual = statistics.quantiles(before, n=10, method="inclusive")[-1]
    now = statistics.median(after)
    if now <= (usual * _WORSE_BY if share is None else usual + share):
        return None
    if share is None:
        return f"{label} is {now * 1000:.3g} ms, and was {usual * 1000:.3g} ms at most in nine of ten steps before"
    return f"{label} is {now:.1%}, and was {usual:.1%} at most in nine of ten steps before"


def _compared(record: Mapping[str, Any], since: float) -> list[tuple[str, list[float], list[float], float | None]]:
    """Of each figure that is known on both sides of the moment: label, steps before, steps after, and the scale."""
    timeline = record["timeline"]
    if timeline is None:
        return []
    step, begin, columns = timeline["step_seconds"], timeline["start_unix_seconds"], timeline["columns"]
    starts = [begin + step * place for place in range(max(map(len, columns.values()), default=0))]
    asked, failed = (columns.get(name) for name in ("requests_per_second", "server_errors_per_second"))
    errors = None
    if asked and failed:
        errors = [
            None if not rate or wrong is None else wrong / rate for rate, wrong in zip(asked, failed, strict=True)
        ]
    known = [
        (
            "P95",
            timeline["latency_unix_seconds"],
            timeline["latency"].get("p95_seconds"),
            None,
            timeline["latency_step_seconds"],
        ),
        ("the share of server errors", starts, errors, _MORE["error_share"], step),
        ("the share of throttled periods", starts, columns.get("throttled_share"), _MORE["throttled_share"], step),
    ]
    found = []
    for label, times, values, share, length in known:
        pairs = [(time, value) for time, value in zip(times, values or (), strict=False) if value is not None]
        before = [value for time, value in pairs if time + length <= since]
        after = [value for time, value in pairs if time >= since]
        if len(before) >= _LEAST_STEPS and len(after) >= _LEAST_STEPS:
            found.append((label, before, after, share))
    return found


def _kills(old: Mapping[str, Any], record: Mapping[str, Any], since: float) -> int:
    """Since then; those of the step that it falls into only where there are more in all than there were."""
    timeline = record["timeline"]
    if timeline is None:
        return 0
    step, begin = timeline["step_seconds"], timeline["start_unix_seconds"]
    before, now = (each["evidence"].get("oom_kills") or 0 for each in (old, record))
    earliest = since - step if now > before else since
    counts = timeline["columns"].get("oom_kills", ())
    found = ((begin + step * place, count or 0) for place, count in enumerate(counts))
    return int(sum(count for start, count in found if start >= since or start > earliest))
