"""The limit bank as a row carries it: what each candidate CPU limit would have done.

For every candidate: in how many periods it would have throttled, and the histogram of the
delay that it would have added, weighted by work (microseconds of on-CPU time). Work that no
candidate delayed is not stored: it is `work_us` less the stored buckets.

Reference: CFS bandwidth control, Documentation/scheduler/sched-bwc.rst of the kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from profiles.histogram import DELAY, Histogram, UnknownLayout

#: Candidates, in cores: four per octave from 50m to 10.8 cores, the same on every node, so
#: that rows of different nodes add up.
CANDIDATE_LIMITS_CORES = tuple(round(0.05 * 2 ** (index / 4), 4) for index in range(32))

PERIOD_SECONDS = 0.1

_VERSION = 1
_HEADER = struct.Struct("<BBIQ")
_LIMIT = struct.Struct("<dIH")
_BUCKET = struct.Struct("<HQ")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate limit.

    :ivar throttled_periods: periods of 100 ms in which it would have stopped the container
    :ivar delayed_us: work by the delay it would have got; no bucket 0
    """

    limit_cores: float
    throttled_periods: int
    delayed_us: Histogram


@dataclass(frozen=True, slots=True)
class LimitBank:
    """All candidates over one window, or over many windows added up.

    :ivar periods: periods of 100 ms in which there was work
    :ivar work_us: on-CPU time that went through the bank
    """

    periods: int
    work_us: int
    candidates: tuple[Candidate, ...]

    def throttled_share(self, candidate: Candidate) -> float:
        """Share of its periods that `candidate` would have throttled.

        A backlog can outlast the work: then it throttles in periods without work as well.
        """
        return candidate.throttled_periods / max(1, self.periods, candidate.throttled_periods)

    @classmethod
    def merged(cls, banks: Iterable[LimitBank]) -> LimitBank | None:
        """Sum of `banks`, or None when there are none.

        :raises ValueError: when their candidates differ
        """
        parts = list(banks)
        if not parts:
            return None
        limits = [candidate.limit_cores for candidate in parts[0].candidates]
        if any([candidate.limit_cores for candidate in part.candidates] != limits for part in parts):
            raise ValueError("limit banks with different candidates cannot be added")
        columns = zip(*(part.candidates for part in parts), strict=True)
        return cls(
            sum(part.periods for part in parts),
            sum(part.work_us for part in parts),
            tuple(
                Candidate(
                    column[0].limit_cores,
                    sum(each.throttled_periods for each in column),
                    Histogram.merged(DELAY, (each.delayed_us for each in column)),
                )
                for column in columns
            ),
        )

    def to_bytes(self) -> bytes:
        """A version, the totals, then each candidate with its buckets."""
        parts = [_HEADER.pack(_VERSION, len(self.candidates), self.periods, self.work_us)]
        for each in self.candidates:
            counts = each.delayed_us.counts
            parts.append(_LIMIT.pack(each.limit_cores, each.throttled_periods, len(counts)))
            parts.extend(_BUCKET.pack(bucket, counts[bucket]) for bucket in sorted(counts))
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> LimitBank:
        """The inverse of :meth:`to_bytes`.

        :raises UnknownLayout: when another version of headroom wrote it
        """
        if len(data) < _HEADER.size or data[0] != _VERSION:
            raise UnknownLayout(f"unknown limit bank version {data[:1].hex() or '(empty)'}")
        _, number, periods, work_us = _HEADER.unpack_from(data)
        at, candidates = _HEADER.size, []
        for _ in range(number):
            limit_cores, throttled, buckets = _LIMIT.unpack_from(data, at)
            at += _LIMIT.size
            end = at + buckets * _BUCKET.size
            counts = dict(_BUCKET.iter_unpack(data[at:end]))
            if not 0 < limit_cores < 1e5 or any(bucket >= DELAY.buckets for bucket in counts):
                raise UnknownLayout("limit bank with a limit or a bucket that cannot be")
            candidates.append(Candidate(limit_cores, throttled, Histogram(DELAY, counts)))
            at = end
        return cls(periods, work_us, tuple(candidates))
