"""Latency and limit bank of one container as arrays, in blocks of time.

Blocks are what an interval is made from: leaving one out at a time shows how much the answer
hangs on any of them (the jackknife). They follow each other in time, so that requests that
were slow together stay together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from profiles.histogram import DELAY, LATENCY, Histogram
from profiles.limit_bank import REQUEST_PARTS, LimitBank

#: Enough for an interval, few enough to be long beside a burst.
BLOCKS = 12


@dataclass(frozen=True, slots=True)
class Observation:
    """One window of one instance, as a store holds it."""

    latency: Histogram
    bank: LimitBank | None
    cpu_seconds: float
    seconds: float


@dataclass(frozen=True)
class Banks:
    """Limit banks by block. B blocks, L candidate limits, D buckets of delay.

    :ivar limits_cores: (L,) ascending
    :ivar periods: (B, L) periods of 100 ms that the kernel would have counted under the candidate
    :ivar throttled: (B, L) periods that the candidate would have throttled
    :ivar work: (B,) what the delays weigh, delayed or not: requests, or microseconds of work
    :ivar busy: (B,) what of it fell into busy moments
    :ivar delayed: (B, L, D) the weight by delay; bucket 0 is empty
    :ivar delayed_busy: (B, L, D) what of it fell into busy moments
    :ivar by_request: the weight is requests
    """

    limits_cores: np.ndarray
    periods: np.ndarray
    throttled: np.ndarray
    work: np.ndarray
    busy: np.ndarray
    delayed: np.ndarray
    delayed_busy: np.ndarray
    by_request: bool

    @property
    def throttled_share(self) -> np.ndarray:
        """(L,) share of periods throttled, as nr_throttled over nr_periods of cpu.stat."""
        throttled = self.throttled.sum(axis=0)
        share: np.ndarray = throttled / np.maximum(1, np.maximum(throttled, self.periods.sum(axis=0)))
        return share


@dataclass(frozen=True)
class Evidence:
    """B blocks.

    :ivar latency: (B, buckets of LATENCY) requests
    :ivar banks: None when no limit bank ran
    :ivar cpu_seconds, seconds: (B,) on-CPU time, and time recorded, summed over instances
    """

    latency: np.ndarray
    banks: Banks | None
    cpu_seconds: np.ndarray
    seconds: np.ndarray

    @property
    def mean_cores(self) -> float:
        """CPU used per instance."""
        seconds = float(self.seconds.sum())
        return float(self.cpu_seconds.sum()) / seconds if seconds else 0.0

    @cached_property
    def histogram(self) -> Histogram:
        """Latency over everything."""
        counts = self.latency.sum(axis=0)
        return Histogram(LATENCY, {int(bucket): int(counts[bucket]) for bucket in np.flatnonzero(counts)})

    @classmethod
    def of(cls, observations: Sequence[Observation]) -> Evidence:
        """Arrays of `observations`, which follow each other in time."""
        blocks = np.array_split(np.arange(len(observations)), min(BLOCKS, max(1, len(observations))))
        parts = [[observations[index] for index in block] for block in blocks]
        latency = np.zeros((len(parts), LATENCY.buckets))
        for block, part in enumerate(parts):
            merged = Histogram.merged(LATENCY, (each.latency for each in part))
            latency[block, list(merged.counts)] = list(merged.counts.values())
        return cls(
            latency,
            _banks([[each.bank for each in part if each.bank is not None] for part in parts]),
            np.array([math.fsum(each.cpu_seconds for each in part) for part in parts]),
            np.array([math.fsum(each.seconds for each in part) for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Regime:
    """A stretch of recording under one CPU limit.

    :ivar limit_cores: in force; None for no limit
    :ivar periods, throttled_periods: of the quota, as the kernel counted them
    """

    limit_cores: float | None
    start_unix_seconds: float
    evidence: Evidence
    periods: float
    throttled_periods: float


def _banks(parts: Iterable[Sequence[LimitBank]]) -> Banks | None:
    merged = [LimitBank.merged(part) for part in parts]
    known = [bank for bank in merged if bank is not None]
    if not known:
        return None
    by_request = any(bank.by_request for bank in known)
    limits = np.array([candidate.limit_cores for candidate in known[0].candidates])
    shape = (len(merged), len(limits))
    work, busy = np.zeros(len(merged)), np.zeros(len(merged))
    periods, throttled = np.zeros(shape), np.zeros(shape)
    delayed, delayed_busy = np.zeros((2, *shape, DELAY.buckets))
    for block, bank in enumerate(merged):
        if bank is None:
            continue
        weighed = bank.by_request == by_request
        if weighed:
            work[block], busy[block] = bank.weight, bank.busy_weight
        for index, candidate in enumerate(bank.candidates):
            periods[block, index] = bank.periods + candidate.backlog_periods
            throttled[block, index] = candidate.throttled_periods
            if weighed:
                for into, histogram in ((delayed, candidate.delayed), (delayed_busy, candidate.delayed_busy)):
                    into[block, index, list(histogram.counts)] = list(histogram.counts.values())
    one = REQUEST_PARTS if by_request else 1
    return Banks(limits, periods, throttled, work / one, busy / one, delayed / one, delayed_busy / one, by_request)
