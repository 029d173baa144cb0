"""history -> models -> sizes -> guardrails -> recommendation, for every container exactly once."""

from __future__ import annotations

from collections.abc import Sequence

from policies.schema import Policy, policy_for
from recommender import guardrails
from recommender.classify import Classification, WorkloadClass, classify, throttled_share
from recommender.demand import DemandFit, NotIdentifiable, cost_drift, fit_demand
from recommender.history import History, Recording
from recommender.memory import MemoryFit, fit_memory
from recommender.recommendation import RESOURCE_NAMES, Recommendation, Resources, Verdict
from recommender.size import Curves, Sized, cpu_from_latency, cpu_from_usage, fit_curves, memory_from_peak

_HOUR = 3600.0
_CENSORED_SHARE = 0.01


def recommend_all(recording: Recording, policies: Sequence[Policy]) -> list[Recommendation]:
    """One recommendation per container of the recording, ordered by name."""
    return [
        recommend(
            history,
            policy_for(policies, history.container.namespace, history.container.workload, history.container.container),
        )
        for history in recording.histories
    ]


def recommend(history: History, policy: Policy) -> Recommendation:
    """The recommendation for one container under one policy."""
    demand, memory = fit_demand(history), fit_memory(history)
    kind = classify(history, demand, memory)
    curves = fit_curves(history, policy, cost_drift(history, demand)) if history.requests else None
    current = _current(history)
    sized = _sizes(history, policy, kind, memory, curves)
    uncapped = Resources(**{name: each.value for name, each in sized.items()})
    railed = {name: _railed(name, each, getattr(current, name), history, policy) for name, each in sized.items()}
    target = Resources(**{name: each.value for name, each in railed.items()})
    changed = any(getattr(target, name) != getattr(current, name) for name in RESOURCE_NAMES)
    refused = all(each.value is None and not each.unset for each in sized.values())
    confidence, why = _confidence(history)
    return Recommendation(
        history,
        policy,
        kind,
        Verdict.REFUSE if refused else Verdict.RESIZE if changed else Verdict.KEEP,
        current,
        current if refused else target,
        uncapped,
        {name: each.reason for name, each in railed.items()},
        frozenset(name for name, each in railed.items() if each.unset),
        _notes(history, kind, demand, memory),
        confidence,
        why,
        demand,
        curves.all_windows if curves else None,
        curves.busiest if curves else None,
        memory,
    )


def _sizes(
    history: History, policy: Policy, kind: Classification, memory: MemoryFit | None, curves: Curves | None
) -> dict[str, Sized]:
    missing = _missing_evidence(history, policy)
    if missing:
        return dict.fromkeys(RESOURCE_NAMES, Sized(None, missing))
    if curves is not None:
        cpu = cpu_from_latency(curves, policy)
    elif history.requests:
        cpu = (Sized(None, _NO_BANK), Sized(None, _NO_BANK))
    elif history.frame["cpu_cores"].isna().all():
        cpu = (Sized(None, _NO_CPU), Sized(None, _NO_CPU))
    else:
        cpu = cpu_from_usage(history, policy)
    sizes = (*cpu, *memory_from_peak(memory, policy))
    if kind.name is WorkloadClass.LEAKING:
        leak = f"{kind.evidence}: a size would only set the hour of the OOM kill; find the leak first"
        sizes = (*cpu, Sized(None, leak), Sized(None, leak))
    return dict(zip(RESOURCE_NAMES, sizes, strict=True))


_NO_BANK = "the limit bank did not run (see headroom doctor), so no latency can be promised"
_NO_CPU = "its CPU was not seen"


def _missing_evidence(history: History, policy: Policy) -> str | None:
    if history.windows < policy.evidence.windows:
        return f"{history.windows} of {policy.evidence.windows} windows needed"
    if 0 < history.requests < policy.evidence.requests:
        return f"{history.requests} of {policy.evidence.requests} requests needed"
    return None


def _railed(name: str, sized: Sized, current: float | None, history: History, policy: Policy) -> Sized:
    if sized.value is None:  # "none on purpose" removes; "not known" leaves everything as it is
        return sized if sized.unset else Sized(current, sized.reason)
    sized = guardrails.rounded_up(name, guardrails.at_least_floor(name, sized, policy))
    throttled = throttled_share(history)
    if name.startswith("cpu") and throttled is not None and throttled > _CENSORED_SHARE:
        why = f"its limit cut its usage in {throttled:.1%} of periods, so its need was not seen; raise the limit first"
        sized = guardrails.never_cut(sized, current, why)
    if name.startswith("memory") and history.frame["oom_kills"].fillna(0).sum() > 0:
        sized = guardrails.never_cut(sized, current, "the kernel killed it for want of memory")
    return guardrails.keep_if_close(sized, current, policy)


def _current(history: History) -> Resources:
    """What is in force: the last values seen. A host has no memory request."""
    return Resources(
        history.latest("cpu_request_cores"),
        history.latest("cpu_limit_cores"),
        None,
        history.latest("memory_limit_bytes"),
    )


def _confidence(history: History) -> tuple[str, str]:
    """By the time seen: a day has a peak and a trough, a week its weekend."""
    hours = history.seconds / _HOUR
    if hours < 24:
        seen = f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.0f} h"
        return "low", f"{seen} recorded: right for this load, but it has seen no daily peak"
    if hours < 7 * 24:
        return "medium", f"{hours / 24:.0f} days recorded: no whole week yet"
    return "high", f"{hours / 24:.0f} days recorded"


def _notes(
    history: History, kind: Classification, demand: DemandFit | NotIdentifiable, memory: MemoryFit | None
) -> tuple[str, ...]:
    notes = []
    errors = int(history.frame["errors"].sum())
    if errors:
        notes.append(f"{errors} of {history.requests} answers were server errors (5xx)")
    if isinstance(demand, NotIdentifiable) and history.requests:
        notes.append(f"cost per request not told: {demand.reason}")
    if kind.name is WorkloadClass.SATURATED:
        notes.append("raise the CPU limit first, record again, then size")
    if memory is not None and memory.oom_kills:
        notes.append(f"{memory.oom_kills} OOM kills while recorded")
    return tuple(notes)
