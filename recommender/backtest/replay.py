"""Rolling origin: at every UTC midnight a rule sees what came before, and the next day judges it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recommender.baselines import Rule
from recommender.series import DAY_SECONDS, Series

#: A day is judged when at least this share of its samples is there.
LEAST_DAY_COVERAGE = 0.5


@dataclass(frozen=True, slots=True)
class Workload:
    """One thing that gets one request: the series of its pods, in one unit."""

    name: str
    pods: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Day:
    """One judged day of one workload under one rule.

    :ivar request: what the rule said at its start; None where it had no answer
    :ivar previous: what it said the day before
    :ivar used: (n,) all samples of all pods
    """

    workload: str
    start_unix_seconds: float
    request: float | None
    previous: float | None
    used: np.ndarray

    @property
    def over(self) -> float:
        """Share of minutes in which more than the request was used."""
        return float((self.used > self._request + 1e-12).mean())

    @property
    def waste(self) -> float:
        """One less mean use over request; negative where use is above it."""
        return float(1 - self.used.mean() / self._request) if self._request else 0.0

    @property
    def slack(self) -> float:
        """Mean of what is left of the request, over the request."""
        return float(np.maximum(self._request - self.used, 0.0).mean() / self._request) if self._request else 0.0

    @property
    def excess(self) -> float:
        """Mean of what is used above the request, in the unit of the series."""
        return float(np.maximum(self.used - self._request, 0.0).mean())

    @property
    def step(self) -> float | None:
        """Logarithm of the request over that of the day before; None on the first day."""
        if not self.previous or not self.request:
            return None
        return float(np.log(self.request / self.previous))

    @property
    def _request(self) -> float:
        return self.request if self.request is not None else 0.0

    def scaled(self, factor: float) -> Day:
        """As a rule with another margin would have it."""
        return replace(
            self,
            request=None if self.request is None else self.request * factor,
            previous=None if self.previous is None else self.previous * factor,
        )


def replay(workload: Workload, rule: Rule, warmup_days: int) -> list[Day]:
    """Every judged day after the warm-up, in order."""
    days: list[Day] = []
    said: float | None = None
    for start, used, judged in _midnights(workload, warmup_days):
        previous, said = said, rule(workload.pods, start, said)
        if judged:
            days.append(Day(workload.name, start, said, previous, used))
    return days


def oracle(workload: Workload, warmup_days: int) -> list[Day]:
    """The best constant of each day, by one who has seen it: its largest sample."""
    days: list[Day] = []
    said: float | None = None
    for start, used, judged in _midnights(workload, warmup_days):
        previous, said = said, float(used.max()) if len(used) else said
        if judged:
            days.append(Day(workload.name, start, said, previous, used))
    return days


def judged_days(workload: Workload, warmup_days: int) -> tuple[int, int]:
    """How many days are judged, and how many are left out for want of samples."""
    verdicts = [judged for start, _, judged in _midnights(workload, 0)]
    first = max(0, warmup_days - 1)
    return sum(verdicts[first:]), len(verdicts[first:]) - sum(verdicts[first:])


def _midnights(workload: Workload, warmup_days: int) -> Iterator[tuple[float, np.ndarray, bool]]:
    """(start, samples of the day, whether it is judged) of every day but the first."""
    start = min(pod.unix_seconds[0] for pod in workload.pods if len(pod))
    end = max(pod.unix_seconds[-1] for pod in workload.pods if len(pod))
    first = np.floor(start / DAY_SECONDS)
    if start - first * DAY_SECONDS > 0.5 * DAY_SECONDS:
        first += 1  # half a day is no day to begin with
    for number in range(1, int(np.floor(end / DAY_SECONDS) - first) + 1):
        now = float((first + number) * DAY_SECONDS)
        parts = [pod.between(now, now + DAY_SECONDS) for pod in workload.pods]
        used = np.concatenate([part.known for part in parts])
        yield now, used, number >= warmup_days and _coverage(parts) >= LEAST_DAY_COVERAGE


def _coverage(parts: Sequence[Series]) -> float:
    """Known samples over what the pods that were there could have had; the fullest pod's whole day at least."""
    steps = [part.step_seconds for part in parts if part.step_seconds]
    if not steps:
        return 0.0
    return max(len(part.known) * part.step_seconds for part in parts) / DAY_SECONDS
