"""Was it busier when no agent watched it? Then a size that comes from what was watched is raised by as much.

    P99 of CPU by five minutes and instance, unwatched  /  the same, watched

With twice the traffic on twice the CPU nobody waits longer than before: queues only gain from size. So the factor
bounds what the busier time would have needed for the same latency, until an agent has seen such a time itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from recommender.history import History, instance_codes

_ROW_SECONDS = 300.0
_QUANTILE = 0.99
_LEAST_TIMES = 12  # an hour
#: Beyond it what was watched does not stand for what was not.
MOST_FACTOR = 4.0
_LEAST_FACTOR = 1.1  # less is noise


@dataclass(frozen=True, slots=True)
class Busier:
    """How much busier, and when it was busiest."""

    factor: float
    cores: float
    unix_seconds: float

    @property
    def sentence(self) -> str:
        """Why a size is raised."""
        when = datetime.fromtimestamp(self.unix_seconds, UTC)
        return (
            f"x{self.factor:.2f}, for it was busier when no agent watched it: {self.cores:.3g} cores around "
            f"{when:%Y-%m-%d %H:%M} UTC"
        )


def busier_unwatched(history: History) -> Busier | None:
    """How much; None where it was not, or too little is known of either."""
    if history.unwatched is None:
        return None
    watched, other = _by_five_minutes(history.frame), _by_five_minutes(history.unwatched)
    if not len(watched[0]) or len(np.unique(other[0])) < _LEAST_TIMES:
        return None
    seen, before = float(np.quantile(watched[1], _QUANTILE)), float(np.quantile(other[1], _QUANTILE))
    if seen <= 0 or before < _LEAST_FACTOR * seen:
        return None
    highest = int(other[1].argmax())
    return Busier(before / seen, float(other[1][highest]), float(other[0][highest]))


def _by_five_minutes(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Begin and mean cores of each five minutes of each instance of which at least half was seen."""
    numbers = frame[["start_unix_seconds", "duration_seconds", "cpu_cores"]].to_numpy(dtype=float)
    known = np.isfinite(numbers[:, 2])
    begins, seconds, cores = numbers[known].T
    codes = instance_codes(frame)[known]
    begins = begins // _ROW_SECONDS * _ROW_SECONDS
    keys, place = np.unique(np.column_stack([begins, codes]), axis=0, return_inverse=True)
    time = np.bincount(place.ravel(), seconds, len(keys))
    work = np.bincount(place.ravel(), seconds * cores, len(keys))
    enough = time >= _ROW_SECONDS / 2
    return keys[enough, 0], work[enough] / time[enough]
