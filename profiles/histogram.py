"""Log-linear histograms that merge by adding.

A value in units of a layout falls into one of `per_octave` linear buckets, or from there on
into one of `per_octave` buckets of its octave [2^k, 2^(k+1)):

    units   0 1 2 .. 15 | 16 17 .. 31 | 32 34 .. 62 | 64 68 ...      (per_octave = 16)

A quantile is the middle of its bucket, so its relative error is at most half a bucket over
the bucket's lower edge, 1/(2 per_octave): 3.2 % for latency. Counts are integers; merging
across windows, pods and nodes is exact and its order does not matter.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_ENTRY = struct.Struct("<HQ")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the buckets lie.

    :ivar version: written with every histogram; a reader refuses one it does not know
    :ivar unit_seconds: width of the linear buckets
    """

    name: str
    version: int
    unit_seconds: float
    per_octave: int
    buckets: int

    def bucket_of(self, seconds: float) -> int:
        """Index of the bucket that holds `seconds`; the last one is open to the right."""
        units = max(0, int(seconds / self.unit_seconds * (1 + 1e-12)))  # 1984e-9 is 31 units of 64e-9
        if units < self.per_octave:
            return units
        shift = units.bit_length() - self.per_octave.bit_length()
        index = shift * self.per_octave + (units >> shift)
        return min(index, self.buckets - 1)

    def lower_seconds(self, bucket: int) -> float:
        """Lower edge of `bucket`."""
        if bucket < self.per_octave:
            return bucket * self.unit_seconds
        shift = bucket // self.per_octave - 1
        return ((bucket % self.per_octave + self.per_octave) << shift) * self.unit_seconds

    def middle_seconds(self, bucket: int) -> float:
        """Middle of `bucket`, the value that stands for all in it."""
        return (self.lower_seconds(bucket) + self.lower_seconds(bucket + 1)) / 2

    @property
    def relative_error(self) -> float:
        """Largest relative error of a quantile above the linear buckets."""
        return 1 / (2 * self.per_octave)


#: Latency of requests: 64 ns units, up to 68.7 s. As in ``bpf/traffic_layout.h``.
LATENCY = Layout("latency", 1, 64e-9, 16, 432)
#: Delay that a candidate limit adds: 131 us units, up to 8.6 s. As in ``bpf/cpu_layout.h``.
DELAY = Layout("delay", 1, 131072e-9, 4, 60)

_LAYOUTS = {(1, 0): LATENCY, (1, 1): DELAY}
_CODES = {layout.name: code for code, layout in _LAYOUTS.items()}


class UnknownLayout(ValueError):
    """A histogram was written with a layout that this version does not know."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts per bucket; empty buckets are not stored."""

    layout: Layout
    counts: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, layout: Layout, values_seconds: Iterable[float]) -> Histogram:
        """The histogram of `values_seconds`."""
        counts: dict[int, int] = {}
        for value in values_seconds:
            bucket = layout.bucket_of(value)
            counts[bucket] = counts.get(bucket, 0) + 1
        return cls(layout, counts)

    @classmethod
    def merged(cls, layout: Layout, parts: Iterable[Histogram]) -> Histogram:
        """Sum of `parts`, which all have `layout`; empty when there are none.

        :raises ValueError: when a part has another layout
        """
        counts: dict[int, int] = {}
        for part in parts:
            if part.layout != layout:
                raise ValueError(f"cannot add a {part.layout.name} histogram to a {layout.name} histogram")
            for bucket, count in part.counts.items():
                counts[bucket] = counts.get(bucket, 0) + count
        return cls(layout, counts)

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram.merged(self.layout, (self, other))

    @property
    def total(self) -> int:
        """Number of values."""
        return sum(self.counts.values())

    def quantile_seconds(self, quantile: float) -> float | None:
        """The value at `quantile` (0 to 1, nearest rank), or None when the histogram is empty."""
        total = self.total
        if not total:
            return None
        rank = max(1, min(total, -int(-quantile * total // 1)))
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return self.layout.middle_seconds(bucket)
        raise AssertionError("ranks end at the total")

    def to_bytes(self) -> bytes:
        """Layout version and kind, then (bucket, count) of every bucket that is not empty."""
        entries = (_ENTRY.pack(bucket, self.counts[bucket]) for bucket in sorted(self.counts) if self.counts[bucket])
        return bytes(_CODES[self.layout.name]) + b"".join(entries)

    @classmethod
    def from_bytes(cls, data: bytes) -> Histogram:
        """The inverse of :meth:`to_bytes`.

        :raises UnknownLayout: when another version of headroom wrote it
        """
        layout = _LAYOUTS.get((data[0], data[1])) if len(data) >= 2 else None
        if layout is None or (len(data) - 2) % _ENTRY.size:
            raise UnknownLayout(f"unknown histogram layout {data[:2].hex() or '(empty)'}")
        counts = dict(_ENTRY.iter_unpack(data[2:]))
        if any(bucket >= layout.buckets for bucket in counts):
            raise UnknownLayout(f"{layout.name} histogram with a bucket past its last")
        return cls(layout, counts)
