"""history -> models -> sizes -> guardrails -> recommendation, for every container exactly once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from policies.annotations import annotated
from policies.schema import Policy, policy_for
from profiles.schema import ANSWERED
from recommender import guardrails
from recommender.advice import advice
from recommender.classify import Classification, WorkloadClass
from recommender.confidence import Confidence
from recommender.demand import DemandFit, NotIdentifiable
from recommender.history import History, Recording, unseen
from recommender.inventory import Declared
from recommender.models import Models, fit_models
from recommender.recommendation import Recommendation, Verdict
from recommender.resources import PAIRS, RESOURCE_NAMES, Resources
from recommender.runtime import heap_advice
from recommender.self_check import model_error
from recommender.size import Curves, Sized, cpu_from_latency, cpu_from_usage, fit_curves, memory_from_peak
from recommender.unwatched import MOST_FACTOR, busier_unwatched

_CENSORED_SHARE = 0.01
#: Above this share of throttled periods the limit is raised by that much.
_MOSTLY_SENDING = 0.5  # of its latency
_RAISE_BY = ((0.3, 2.0), (0.1, 1.5), (0.0, 1.25))


def recommend_all(recording: Recording, policies: Sequence[Policy]) -> list[Recommendation]:
    """One recommendation per container of the recording, ordered by name."""
    return [recommend_under(history, policies) for history in recording.histories]


def recommend_under(history: History, policies: Sequence[Policy], declared: Declared | None = None) -> Recommendation:
    """The recommendation for one container under the first of the policies that selects it.

    :param declared: what the cluster has, where it was asked
    """
    models, container = fit_models(history), history.container
    names = container.namespace, container.workload, container.container
    priority = declared.priority_class if declared else ""
    policy = policy_for(policies, *names, models.kind.name.value, priority)
    policy, sources, problems = annotated(policy, policies, declared.annotations if declared else {})
    found = _recommend(history, models, policy, declared)
    return replace(found, notes=(*found.notes, *problems), policy_sources=sources)


def without_usage(declared: Declared, policies: Sequence[Policy]) -> Recommendation:
    """What is said of a container that is declared, but of which nothing was recorded: no size."""
    history, of = unseen(declared.container), declared.container
    kind = Classification(WorkloadClass.UNSEEN, _UNSEEN, 1.0)
    names = of.namespace, of.workload, of.container
    policy = policy_for(policies, *names, kind.name.value, declared.priority_class)
    current = declared.resources
    return Recommendation(
        history,
        policy,
        kind,
        Verdict.REFUSE,
        current,
        current,
        Resources(),
        dict.fromkeys(RESOURCE_NAMES, _UNSEEN),
        frozenset(),
        dict.fromkeys(RESOURCE_NAMES, (None, None)),
        (),
        Confidence("low", "nothing recorded", 0.0, "a recording of it"),
        NotIdentifiable(_UNSEEN),
        None,
        None,
        (),
        None,
        declared,
    )


def recommend(history: History, policy: Policy) -> Recommendation:
    """The recommendation for one container under this policy."""
    return _recommend(history, fit_models(history), policy)


def _recommend(history: History, models: Models, policy: Policy, declared: Declared | None = None) -> Recommendation:
    why = _watched_too_little(history, policy)
    if why is None:
        return _by_evidence(history, models, policy, declared)
    usage = history.by_usage()
    found = _by_evidence(usage, fit_models(usage), policy, declared)
    return replace(found, notes=(*found.notes, f"sized by its usage alone: {why}"))


def _by_evidence(history: History, models: Models, policy: Policy, declared: Declared | None) -> Recommendation:
    curves = fit_curves(history, policy, models.drift, model_error(models.checks)) if history.requests else None
    current = _current(history.whole) if declared is None else declared.resources
    sized = _sizes(history, policy, models, curves)
    uncapped = Resources(**{name: each.value for name, each in sized.items()})
    railed = {
        name: _railed(name, each, getattr(current, name), history.whole, policy, models.kind)
        for name, each in sized.items()
    }
    for asked, most in PAIRS.values():
        railed[most] = guardrails.limit_holds(railed[asked], railed[most])
    target = Resources(**{name: each.value for name, each in railed.items()})
    changed = any(getattr(target, name) != getattr(current, name) for name in RESOURCE_NAMES)
    refused = all(each.value is None and not each.unset for each in sized.values())
    limit = target.cpu_limit_cores or current.cpu_limit_cores
    return Recommendation(
        history,
        policy,
        models.kind,
        Verdict.REFUSE if refused else Verdict.RESIZE if changed else Verdict.KEEP,
        current,
        current if refused else target,
        uncapped,
        {name: each.reason for name, each in railed.items()},
        frozenset(name for name, each in railed.items() if each.unset),
        {name: (each.lower, each.upper) for name, each in railed.items()},
        _notes(history, models) + advice(history, curves.busiest if curves else None, limit) + _heap(history, target),
        models.confidence,
        models.demand,
        curves.all_windows if curves else None,
        curves.busiest if curves else None,
        models.checks,
        models.memory,
        declared,
    )


def _sizes(history: History, policy: Policy, models: Models, curves: Curves | None) -> dict[str, Sized]:
    missing = _missing_evidence(history, policy)
    if missing:
        return dict.fromkeys(RESOURCE_NAMES, Sized(None, missing))
    if curves is not None:
        cpu = _cpu_from_curves(history, curves, policy, models)
    elif history.requests and not history.by_metrics:
        cpu = (Sized(None, _NO_BANK), Sized(None, _NO_BANK))
    elif np.isnan(history.column("cpu_cores")).all():
        cpu = (Sized(None, _NO_CPU), Sized(None, _NO_CPU))
    else:
        cpu = cpu_from_usage(history, policy, models.confidence)
    sizes = (*cpu, *memory_from_peak(models.memory, policy))
    if models.kind.name is WorkloadClass.LEAKING:
        leak = f"{models.kind.evidence}: a size would only set the hour of the OOM kill; find the leak first"
        sizes = (*cpu, Sized(None, leak), Sized(None, leak))
    return dict(zip(RESOURCE_NAMES, sizes, strict=True))


def _cpu_from_curves(history: History, curves: Curves, policy: Policy, models: Models) -> tuple[Sized, Sized]:
    request, limit = cpu_from_latency(curves, policy, models.confidence)
    busier = busier_unwatched(history)
    if busier is None:
        return request, limit
    factor, why = busier.factor, busier.sentence
    return guardrails.raised_for_busier(request, factor, why), guardrails.raised_for_busier(limit, factor, why)


_NO_BANK = "the limit bank did not run (see headroom doctor), so no latency can be promised"
_NO_CPU = "its CPU was not seen"
_UNSEEN = "it is declared, but nothing was recorded of it"


def _watched_too_little(history: History, policy: Policy) -> str | None:
    """Why an agent's evidence is passed over, where there is usage enough without it."""
    if history.unwatched is None or _too_few(history.by_usage(), policy):
        return None
    few = _too_few(history, policy)
    if few:
        return f"its agent has seen {few}"
    if history.requests and history.everything.banks is None:
        return "the limit bank did not run beside its agent (see headroom doctor)"
    busier = busier_unwatched(history)
    if history.requests and busier is not None and busier.factor > MOST_FACTOR:
        return f"it was {busier.factor:.0f} times as busy when no agent watched it"
    return None


def _heap(history: History, target: Resources) -> tuple[str, ...]:
    """A heap with a limit of its own has to know of the container's."""
    runtime, limit = history.runtime, target.memory_limit_bytes
    found = heap_advice(runtime.name.lower(), limit) if runtime is not None and limit is not None else None
    if found is None:
        return ()
    said = f"set {found.setting} with this one" if found.setting else found.reason
    return (f"{_HEAPS[found.runtime]} heap has a limit of its own: {said}",)


_HEAPS = {"jvm": "the JVM's", "go": "Go's", "node": "Node's"}


def _missing_evidence(history: History, policy: Policy) -> str | None:
    if history.unanswered and not history.requests and history.windows >= policy.evidence.windows:
        return f"it answered none of {history.unanswered} requests: what it needs cannot be told from that"
    return _too_few(history, policy)


def _too_few(history: History, policy: Policy) -> str | None:
    if history.windows < policy.evidence.windows:
        return f"{history.windows} of {policy.evidence.windows} windows needed"
    if 0 < history.requests < policy.evidence.requests and not history.by_metrics:
        return f"{history.requests} of {policy.evidence.requests} requests needed"
    return None


def _railed(
    name: str, sized: Sized, current: float | None, history: History, policy: Policy, kind: Classification
) -> Sized:
    if sized.value is None:  # "none on purpose" removes; "not known" leaves everything as it is
        return sized if sized.unset else Sized(current, sized.reason)
    sized = guardrails.at_least_floor(name, sized, policy)
    throttled = history.throttled_share
    if name.startswith("cpu") and throttled is not None and throttled > _CENSORED_SHARE:
        why = f"its limit cut its usage in {throttled:.1%} of periods, so its need was not seen"
        if name == "cpu_limit_cores":
            factor = next(factor for share, factor in _RAISE_BY if throttled > share)
            reason = f"{why}: x{factor:g} first, then record again"
            sized = guardrails.raised_first(sized, _cutting_limit(history), factor, reason)
        sized = guardrails.never_cut(sized, current, f"{why}; raise the limit first")
    if name.startswith("memory") and np.nansum(history.column("oom_kills")) > 0:
        sized = guardrails.never_cut(sized, current, "the kernel killed it for want of memory")
    if kind.never_cut:
        sized = guardrails.never_cut(sized, current, f"{kind.name.value}: {kind.evidence}")
    return guardrails.keep_unless_worth_it(guardrails.rounded_up(name, sized), current, policy)


def _cutting_limit(history: History) -> float | None:
    """The largest limit under which it was throttled."""
    cut = history.column("throttled_periods") > _CENSORED_SHARE * history.column("periods")
    limits = history.column("cpu_limit_cores")[cut]
    limits = limits[np.isfinite(limits)]
    return float(limits.max()) if len(limits) else None


def _current(history: History) -> Resources:
    """What is in force: the last values seen. A host has no memory request."""
    return Resources(
        history.latest("cpu_request_cores"),
        history.latest("cpu_limit_cores"),
        None,
        history.latest("memory_limit_bytes"),
    )


def _sending_share(history: History) -> float:
    """Of the latency of its answers, what passed between their first byte and their last."""
    served = [route for route in history.routes if route.served]
    total = math.fsum(route.latency_seconds_sum for route in served)
    return math.fsum(route.transfer_seconds_sum for route in served) / total if total else 0.0


def _outcomes(history: History) -> str:
    counts = Counter[str]()
    for route in history.routes:
        if route.role == "server" and route.outcome != ANSWERED:
            counts[route.outcome.replace("_", " ")] += route.latency.total
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())


def _notes(history: History, models: Models) -> tuple[str, ...]:
    notes = []
    errors = int(np.nansum(history.column("errors")))
    if errors:
        notes.append(f"{errors} of {history.requests} answers were server errors")
    if history.unanswered:
        outcomes = _outcomes(history)
        notes.append(f"{history.unanswered} requests got no answer" + (f": {outcomes}" if outcomes else ""))
    sending = _sending_share(history)
    if sending > _MOSTLY_SENDING:
        notes.append(
            f"{sending:.0%} of its latency is sending answers, as fast as clients take them: the budget is of that"
        )
    pattern = models.kind.errors
    if pattern is not None and pattern.follows_resources:
        notes.append(f"{pattern.evidence}: give it more {pattern.asks_for}")
    if isinstance(models.demand, NotIdentifiable) and history.requests:
        notes.append(f"cost per request not told: {models.demand.reason}")
    if isinstance(models.demand, DemandFit):
        notes.extend(models.demand.notes)
    throttled = history.throttled_share
    if throttled is not None and throttled > _CENSORED_SHARE:
        notes.append("raise the CPU limit first, record again, then size")
    if models.memory is not None:
        notes.extend(models.memory.reasons[1:])  # the first one is the size's own
    return tuple(notes)
