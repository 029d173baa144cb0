"""The limit bank as a row carries it: what each candidate CPU limit would have done.

For every candidate: how many periods the kernel would have counted, and throttled, and a histogram of the
delay that it would have added. It weighs requests (in parts of one: a request answered in a bin got the
delays of that bin's work in proportion) or, where none were seen, work (microseconds of on-CPU time).
What a candidate did not delay is not stored: it is the total less the stored buckets.

Busy moments are kept apart, where much had run just before: what is answered then has mostly waited
already, and is also what a limit delays most. One distribution for all would take the two as unrelated.

Reference: CFS bandwidth control, Documentation/scheduler/sched-bwc.rst of the kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from profiles.histogram import DELAY, Histogram, UnknownLayout

#: Candidates, in cores: four per octave from 50m to 10.8 cores, the same on every node, so
#: that rows of different nodes add up.
CANDIDATE_LIMITS_CORES = tuple(round(0.05 * 2 ** (index / 4), 4) for index in range(32))

#: Requests are counted in parts of one.
REQUEST_PARTS = 256

#: Of the bytes; a reader refuses any other.
VERSION = 4
_HEADER = struct.Struct("<BBBIQQQ")
_NO_DELAY = Histogram(DELAY)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate limit.

    :ivar throttled_periods: periods of 100 ms in which it would have stopped the container
    :ivar backlog_periods: periods, over those of the bank, that only its backlog would have kept active
    :ivar delayed: weight by the delay it would have got; no bucket 0
    :ivar delayed_busy: what of it fell into busy moments
    """

    limit_cores: float
    throttled_periods: int
    backlog_periods: int
    delayed: Histogram
    delayed_busy: Histogram


@dataclass(frozen=True, slots=True)
class LimitBank:
    """All candidates over one window, or over many windows added up.

    :ivar periods: periods of 100 ms with work, and the first one after work: as cpu.stat counts nr_periods
    :ivar work_us: on-CPU time that went through the bank
    :ivar by_request: requests are what weighs, not work
    :ivar requests: requests that were weighed
    :ivar busy_weight: what of the weight fell into busy moments, delayed or not
    """

    periods: int
    work_us: int
    by_request: bool
    requests: int
    busy_weight: int
    candidates: tuple[Candidate, ...]

    @property
    def weight(self) -> int:
        """All that was weighed: parts of requests, or microseconds of work."""
        return self.requests * REQUEST_PARTS if self.by_request else self.work_us

    @classmethod
    def merged(cls, banks: Iterable[LimitBank]) -> LimitBank | None:
        """Sum of `banks`, or None when there are none. As soon as one weighs requests, only those that do count.

        :raises ValueError: when their candidates differ
        """
        parts = list(banks)
        if not parts:
            return None
        limits = [candidate.limit_cores for candidate in parts[0].candidates]
        if any([candidate.limit_cores for candidate in part.candidates] != limits for part in parts):
            raise ValueError("limit banks with different candidates cannot be added")
        weighed = [part for part in parts if part.by_request] or parts
        columns = zip(*(part.candidates for part in parts), strict=True)
        counted = zip(*(part.candidates for part in weighed), strict=True)
        return cls(
            sum(part.periods for part in parts),
            sum(part.work_us for part in parts),
            weighed[0].by_request,
            sum(part.requests for part in weighed),
            sum(part.busy_weight for part in weighed),
            tuple(
                Candidate(
                    column[0].limit_cores,
                    sum(each.throttled_periods for each in column),
                    sum(each.backlog_periods for each in column),
                    Histogram.merged(DELAY, (each.delayed for each in own)),
                    Histogram.merged(DELAY, (each.delayed_busy for each in own)),
                )
                for column, own in zip(columns, counted, strict=True)
            ),
        )

    def to_bytes(self) -> bytes:
        """Totals, then column by column: limits, throttled and backlog periods, numbers of buckets, buckets, counts."""
        limits = self.candidates
        histograms = [each.delayed.counts for each in limits] + [each.delayed_busy.counts for each in limits]
        entries = [(bucket, counts[bucket]) for counts in histograms for bucket in sorted(counts)]
        return b"".join(
            (
                _HEADER.pack(
                    VERSION,
                    len(limits),
                    self.by_request,
                    self.periods,
                    self.work_us,
                    self.requests,
                    self.busy_weight,
                ),
                struct.pack(f"<{len(limits)}d", *(each.limit_cores for each in limits)),
                struct.pack(f"<{len(limits)}I", *(each.throttled_periods for each in limits)),
                struct.pack(f"<{len(limits)}I", *(each.backlog_periods for each in limits)),
                struct.pack(f"<{len(histograms)}B", *map(len, histograms)),
                struct.pack(f"<{len(entries)}B", *(bucket for bucket, _ in entries)),
                struct.pack(f"<{len(entries)}Q", *(count for _, count in entries)),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> LimitBank:
        """The inverse of :meth:`to_bytes`.

        :raises UnknownLayout: when another version of headroom wrote it
        """
        if len(data) < _HEADER.size or data[0] != VERSION:
            raise UnknownLayout(f"unknown limit bank version {data[:1].hex() or '(empty)'}")
        _, number, by_request, periods, work_us, requests, busy = _HEADER.unpack_from(data)
        at = _HEADER.size

        def column(form: str, length: int) -> tuple[Any, ...]:
            nonlocal at
            values = struct.unpack_from(f"<{length}{form}", data, at)
            at += struct.calcsize(f"<{length}{form}")
            return values

        try:
            limits, throttled, backlog = column("d", number), column("I", number), column("I", number)
            sizes = column("B", 2 * number)
            buckets, counts = column("B", sum(sizes)), column("Q", sum(sizes))
        except struct.error as error:
            raise UnknownLayout("limit bank that ends too early") from error
        # the extremes alone: a node's hour has 36,000 banks of a hundred entries each
        if (limits and not (min(limits) > 0 and max(limits) < 1e5)) or (
            buckets and not (min(buckets) > 0 and max(buckets) < DELAY.buckets)
        ):
            raise UnknownLayout("limit bank with a limit or a bucket that cannot be")
        ends = list(accumulate(sizes, initial=0))
        histograms = [
            Histogram(DELAY, dict(zip(buckets[begin:end], counts[begin:end], strict=True)))
            if begin < end
            else _NO_DELAY
            for begin, end in pairwise(ends)
        ]
        columns = zip(limits, throttled, backlog, histograms[:number], histograms[number:], strict=True)
        return cls(periods, work_us, bool(by_request), requests, busy, tuple(Candidate(*each) for each in columns))
