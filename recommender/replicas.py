"""Readings of a container's replicas, and what was highest in each period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recommender.quantiles import median, thinned
from recommender.series import DAY_SECONDS
from recommender.troughs import Life

START_UP_SECONDS = 600.0
_DAYS = 14.0


@dataclass(frozen=True, slots=True, eq=False)
class Replica:
    """Known readings of one replica, or of one of its lives, in order of time."""

    time: np.ndarray
    used: np.ndarray
    leaking: np.ndarray
    rate: np.ndarray | None
    step: float
    starts: Sequence[float] | None

    def part(self, rows: slice) -> Replica:
        """Some of its readings."""
        rate = None if self.rate is None else self.rate[rows]
        return Replica(self.time[rows], self.used[rows], self.leaking[rows], rate, self.step, self.starts)

    @property
    def young(self) -> np.ndarray:
        """Which readings are of the first minutes; the first one is in any case."""
        young: np.ndarray = self.time < self.time[0] + max(START_UP_SECONDS, self.step / 2)
        return young

    def as_life(self) -> Life:
        """What the search for a leak looks at."""
        return Life(self.time, self.leaking, self.rate)


def replicas_of(
    times: np.ndarray,
    used: np.ndarray,
    now: float | None,
    instances: np.ndarray | None,
    anonymous: np.ndarray | None,
    rate: np.ndarray | None,
    started: np.ndarray | None,
) -> list[Replica]:
    """Known readings by replica, of the last fourteen days before `now`, or up to the last one."""
    seen = np.isfinite(times) & np.isfinite(used) & (used > 0)
    if now is not None:
        seen = seen & (times >= now - _DAYS * DAY_SECONDS) & (times < now)
    else:
        last = float(times[seen].max()) if seen.any() else 0.0
        seen = seen & (times > last - _DAYS * DAY_SECONDS)
    leaking = used if anonymous is None or not np.isfinite(anonymous).any() else anonymous
    labels = np.zeros(len(times), dtype=np.int8) if instances is None else instances
    if not np.issubdtype(labels.dtype, np.integer):
        labels = np.unique(labels, return_inverse=True)[1]
    pods = []
    for label in range(int(labels.max()) + 1 if len(labels) else 0):
        rows = np.flatnonzero(seen & (labels == label))
        if not len(rows):
            continue
        steps = np.diff(times[rows])
        if (steps < 0).any():
            rows = rows[np.argsort(times[rows], kind="stable")]
            steps = np.diff(times[rows])
        step = median(thinned(steps)) if len(rows) > 1 else 0.0
        starts = None if started is None else np.unique(started[rows][np.isfinite(started[rows])]).tolist()
        pods.append(Replica(times[rows], used[rows], leaking[rows], None if rate is None else rate[rows], step, starts))
    return pods


def per_period(
    parts: list[list[Replica]], born: list[Replica], end: float, horizon: float, *, with_medians: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The highest value and the highest median of any life, per period up to `end`, oldest first.

    The first minutes of the lives that were `born` meanwhile are left out.
    """
    keys, peaks, medians = [], [], []
    young = {id(life) for life in born}
    for life in (life for lives in parts for life in lives):
        time, used = life.time, life.used
        if id(life) in young and not life.young.all():
            time, used = time[~life.young], used[~life.young]
        longest = max(1, int(np.ceil((end - time[0]) / horizon)))
        period = np.arange(longest, 0, -1)  # period k begins k horizons before the end
        first = np.searchsorted(time, end - period * horizon)
        first[0] = 0
        there = np.diff(first, append=len(time)) > 0
        first = first[there]
        keys.append(period[there])
        peaks.append(np.maximum.reduceat(used, first))
        parted = np.split(used, first[1:]) if with_medians else []
        medians.append(np.array([median(part) for part in parted]) if with_medians else peaks[-1])
    key, place = np.unique(np.concatenate(keys), return_inverse=True)
    highest, middle = np.zeros(len(key)), np.zeros(len(key))
    np.maximum.at(highest, place, np.concatenate(peaks))
    np.maximum.at(middle, place, np.concatenate(medians))
    return highest[::-1], middle[::-1]


def since(lives: list[Replica], start: float) -> list[Replica]:
    """What there is of each life from `start` on."""
    parts = (life.part(slice(int(np.searchsorted(life.time, start)), len(life.time))) for life in lives)
    return [part for part in parts if len(part.time)]
