"""What all peers share: look back, estimate, add a margin, keep to a floor.

    pods -> samples of the last days -> estimate -> x margin -> floor (only when asked for)

The unit-dependent parts of a peer (floors, fixed bucket sizes, "below one core ...") are off by
default: the public traces have no unit, and a floor hides how a rule behaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recommender.series import DAY_SECONDS, Series

#: From the samples of at least one pod, each with at least one value, to an amount.
Estimate = Callable[[Sequence[Series]], float | None]


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer's rule for the request of one pod; call it with pods, now and the current value.

    :ivar days: how far it looks back
    :ivar margin: factor on the estimate, unless the caller gives another
    :ivar estimate: from samples to an amount, the same in any unit
    :ivar floor: least amount, when floors are on; cores or bytes
    :ivar deployed: the estimate when floors are on, where the peer knows units
    """

    days: float
    margin: float
    estimate: Estimate
    floor: float = 0.0
    deployed: Estimate | None = None

    def __call__(
        self,
        pods: Sequence[Series],
        now: float,
        _current: float | None = None,
        /,
        *,
        margin: float | None = None,
        floors: bool = False,
    ) -> float | None:
        """The request of one pod, in the unit of the series; None without a value in the days before `now`.

        :param now: unix seconds; what is at or after it is not looked at
        """
        known = recent(pods, now, self.days)
        estimate = self.deployed if floors and self.deployed is not None else self.estimate
        amount = estimate(known) if known else None
        if amount is None:
            return None
        amount *= self.margin if margin is None else margin
        return max(amount, self.floor) if floors else amount


def recent(pods: Sequence[Series], now: float, days: float) -> list[Series]:
    """The known samples of the `days` before `now`, by pod; pods without any are left out."""
    parts = [pod.between(now - days * DAY_SECONDS, now).without_missing() for pod in pods]
    return [part for part in parts if len(part)]


def pooled(pods: Sequence[Series]) -> np.ndarray:
    """All values of all pods, ascending, so that the order of pods cannot matter."""
    return np.sort(np.concatenate([pod.values for pod in pods]))


def peak(pods: Sequence[Series]) -> float:
    """The largest value of any pod."""
    return float(max(pod.values.max() for pod in pods))


def weighted_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The smallest value at which `share` (0 to 1) of the weight is reached; both of shape (n,), n > 0."""
    order = np.lexsort((weights, values))  # ties by weight: the same sum in any order of pods
    reached = np.cumsum(weights[order])
    place = int(np.searchsorted(reached, share * reached[-1]))
    return float(values[order][min(place, len(order) - 1)])


def intervals(pods: Sequence[Series], seconds: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, least and largest value of every interval that has a sample, over all pods; ascending."""
    slots = np.floor_divide(np.concatenate([pod.unix_seconds for pod in pods]), seconds)
    values = np.concatenate([pod.values for pod in pods])
    if len(pods) > 1:
        order = np.argsort(slots, kind="stable")
        slots, values = slots[order], values[order]
    first = np.flatnonzero(np.diff(slots, prepend=-np.inf) > 0)
    return slots[first] * seconds, np.minimum.reduceat(values, first), np.maximum.reduceat(values, first)
