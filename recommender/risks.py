"""What is dangerous about the sizes in force, and whether the target ends it. Facts and predictions, no scores."""

from __future__ import annotations

from dataclasses import dataclass

from profiles.schema import HOST_NAMESPACE
from recommender.recommendation import Recommendation
from recommender.resources import format_resource

_THROTTLED_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Risk:
    """One of them.

    :ivar kind: ``out of memory``, ``throttled``, ``slow under its limit``, ``slow on a full node`` or
        ``first to be evicted``
    :ivar sentence: with the figures
    :ivar removed: whether the target ends it
    """

    kind: str
    sentence: str
    removed: bool


def risks_of(row: Recommendation) -> tuple[Risk, ...]:
    """All that are known, the worst first."""
    found = [_memory(row), _throttled(row), _limit(row), _request(row), _unreserved(row)]
    return tuple(risk for risk in found if risk is not None)


def _memory(row: Recommendation) -> Risk | None:
    name = "memory_limit_bytes"
    limit, target, needed = (
        row.current.memory_limit_bytes,
        row.target.memory_limit_bytes,
        row.uncapped.memory_limit_bytes,
    )
    higher = limit is not None and (name in row.unset or (target is not None and target > limit))
    if kills := row.history.oom_kills:
        times = "once" if kills == 1 else f"{kills} times"
        return Risk("out of memory", f"the kernel killed it {times} for want of memory", higher)
    if limit is None or needed is None or needed <= limit or not higher:
        return None
    return Risk(
        "out of memory",
        f"its limit is {format_resource(name, limit)}, and it may need {format_resource(name, needed)}",
        True,
    )


def _throttled(row: Recommendation) -> Risk | None:
    share, limit, target = row.history.throttled_share, row.current.cpu_limit_cores, row.target.cpu_limit_cores
    if share is None or share <= _THROTTLED_SHARE:
        return None
    removed = "cpu_limit_cores" in row.unset or (limit is not None and target is not None and target > limit)
    return Risk("throttled", f"its CPU limit stopped it in {share:.1%} of periods", removed)


def _limit(row: Recommendation) -> Risk | None:
    adds, after = row.adds_at_limit(row.current.cpu_limit_cores), row.limit_adds
    unset = "cpu_limit_cores" in row.unset
    budget = row.policy.latency.limit_adds_percent / 100
    return _slow(row, "slow under its limit", "its CPU limit", adds, 0.0 if unset else after, budget)


def _request(row: Recommendation) -> Risk | None:
    adds, after = row.adds_at_request(row.current.cpu_request_cores), row.request_adds
    budget = row.policy.latency.request_adds_percent / 100
    return _slow(row, "slow on a full node", "on a full node its CPU request", adds, after, budget)


def _slow(
    row: Recommendation, kind: str, what: str, adds: float | None, after: float | None, budget: float
) -> Risk | None:
    """What adds more than its budget; ended where the target is known to stay inside."""
    if adds is None or adds <= budget:
        return None
    return Risk(kind, f"{what} adds {_percent(adds)} to {_quantile(row)}", after is not None and after <= budget)


def _unreserved(row: Recommendation) -> Risk | None:
    """Of a host's own cgroups nothing is ever evicted."""
    of = row.current
    if (
        row.container.namespace == HOST_NAMESPACE
        or of.memory_request_bytes is not None
        or of.memory_limit_bytes is not None
    ):
        return None
    removed = row.target.memory_request_bytes is not None
    return Risk("first to be evicted", "it has no memory request", removed)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share <= 1 else "over 100%"


def _quantile(row: Recommendation) -> str:
    return f"P{row.policy.latency.quantile * 100:g}"
