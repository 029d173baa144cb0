"""What may not happen to a number on its way out: floors, saturated workloads, small changes.

Each rail is a function from a number and its reason to a number and its reason, so the last
one that moved a number is the one that the report names.
"""

from __future__ import annotations

import math
from dataclasses import replace

from policies.schema import Policy
from recommender.resources import round_up_bytes, round_up_cores
from recommender.size import Sized


def at_least_floor(name: str, sized: Sized, policy: Policy) -> Sized:
    """No CPU below the policy's floor."""
    floor = policy.cpu.floor_millicores / 1000
    if sized.value is None or not name.startswith("cpu") or sized.value >= floor:
        return sized
    reason = f"floor of policy {policy.name} (else {sized.value * 1000:.1f}m: {sized.reason})"
    return Sized(floor, reason, lower=floor, upper=max(floor, sized.upper or floor))


def rounded_up(name: str, sized: Sized) -> Sized:
    """To a round quantity, never down."""
    if sized.value is None:
        return sized
    return replace(sized, value=round_up_cores(sized.value) if name.startswith("cpu") else round_up_bytes(sized.value))


def raised_first(sized: Sized, limit: float | None, factor: float, why: str) -> Sized:
    """A limit that cut usage is raised before anything is concluded from it."""
    if limit is None or sized.value is None or sized.value >= limit * factor:
        return sized
    return Sized(limit * factor, why, lower=limit * factor, upper=limit * factor)


def raised_for_busier(sized: Sized, factor: float, why: str) -> Sized:
    """What was watched was not its busiest time."""
    if sized.value is None:
        return sized
    lower, upper = (None if each is None else each * factor for each in (sized.lower, sized.upper))
    return replace(
        sized,
        value=sized.value * factor,
        reason=f"{why}; of what was watched: {sized.reason}",
        lower=lower,
        upper=upper,
    )


def never_cut(sized: Sized, current: float | None, why: str) -> Sized:
    """A workload that is short of something keeps at least what it has."""
    if current is None:
        return sized
    if sized.unset or (sized.value is not None and sized.value >= current):
        return sized
    return Sized(current, f"not cut: {why}", lower=current, upper=current)


def limit_holds(request: Sized, limit: Sized) -> Sized:
    """A limit that is not below its request: the API server refuses such a pair."""
    if request.value is None or limit.value is None or limit.value >= request.value:
        return limit
    return replace(limit, value=request.value, reason=f"raised to the request; {limit.reason}")


def keep_unless_worth_it(sized: Sized, current: float | None, policy: Policy) -> Sized:
    """No change inside the policy's band, and no cut while the evidence bears the current value as well."""
    band = policy.stability.keep_within_percent / 100
    if sized.value is None or not current or sized.value == current:
        return sized
    if abs(math.log(sized.value / current)) <= math.log1p(band):
        return replace(sized, value=current, reason=f"within {band:.0%} of the current value; {sized.reason}")
    if sized.enough is not None and sized.enough <= current < sized.value:
        return replace(sized, value=current, reason=f"the current value leaves half of the margin; {sized.reason}")
    if sized.value < current <= (sized.upper or 0.0):
        kept = "kept: what was seen so far does not prove that less is enough"
        return replace(sized, value=current, reason=f"{kept}; {sized.reason}")
    return sized
