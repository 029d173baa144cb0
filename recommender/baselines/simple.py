"""What people do without a tool: the peak and a margin, mean and three deviations, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from recommender.baselines.peer import Peer, peak, pooled
from recommender.series import Series

DAYS = 7.0
_DEVIATIONS = 3.0


def mean_and_deviations(pods: Sequence[Series]) -> float:
    """Mean of all points of all pods, plus three (population) standard deviations."""
    values = pooled(pods)
    return float(values.mean() + _DEVIATIONS * values.std())


def current(
    _pods: Sequence[Series],
    _now: float,
    current: float | None = None,
    /,
    *,
    margin: float = 1.0,
    floors: bool = False,  # noqa: ARG001 - every rule takes it; there is nothing here to hold up
) -> float | None:
    """What is set now, times a margin; None where nothing is."""
    return None if current is None else current * margin


MAXIMUM = Peer(DAYS, 1.15, peak)
MEAN_3_SIGMA = Peer(DAYS, 1.0, mean_and_deviations)
