"""What may not happen to a number on its way out: floors, saturated workloads, small changes.

Each rail is a function from a number and its reason to a number and its reason, so the last
one that moved a number is the one that the report names.
"""

from __future__ import annotations

import math

from policies.schema import Policy
from recommender.recommendation import round_up_bytes, round_up_cores
from recommender.size import Sized


def at_least_floor(name: str, sized: Sized, policy: Policy) -> Sized:
    """No CPU below the policy's floor."""
    floor = policy.cpu.floor_millicores / 1000
    if sized.value is None or not name.startswith("cpu") or sized.value >= floor:
        return sized
    return Sized(floor, f"floor of policy {policy.name} (else {sized.value * 1000:.1f}m: {sized.reason})")


def rounded_up(name: str, sized: Sized) -> Sized:
    """To a round quantity, never down."""
    if sized.value is None:
        return sized
    return Sized(round_up_cores(sized.value) if name.startswith("cpu") else round_up_bytes(sized.value), sized.reason)


def never_cut(sized: Sized, current: float | None, why: str) -> Sized:
    """A workload that is short of something keeps at least what it has."""
    if current is None or sized.value is None or sized.value >= current:
        return sized
    return Sized(current, f"not cut: {why}")


def keep_if_close(sized: Sized, current: float | None, policy: Policy) -> Sized:
    """A change within the policy's band is not worth a restart."""
    band = policy.stability.keep_within_percent / 100
    if sized.value is None or current is None or sized.value == current:
        return sized
    if abs(math.log(sized.value / current)) <= math.log1p(band):
        return Sized(current, f"within {band:.0%} of the current value; {sized.reason}")
    return sized
