"""One measured quantity of one pod over time, and what was wrong with it when it came in.

Every store, export and trace ends up in this form before a model or a baseline sees it. What is
repaired on the way (order, duplicates, impossible values) is counted in :class:`Coverage`, so
that nothing is silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

DAY_SECONDS = 86_400.0
_GAP_STEPS = 1.5  # a spacing longer than this many usual steps lacks at least one sample


@dataclass(frozen=True, slots=True)
class Coverage:
    """What came in, and what :meth:`Series.of` did to it. Counts of samples, but for `share`.

    :ivar samples: distinct times that were kept, with a value or without
    :ivar missing: values that came in as NaN
    :ivar duplicates: samples dropped because another had the same time; the larger value was kept
    :ivar negative: values below zero, turned into NaN
    :ivar infinite: infinite values, turned into NaN
    :ivar out_of_order: samples that were earlier than the one before them
    :ivar gaps: spacings longer than one and a half steps
    :ivar share: known values of those that an unbroken series over the same span would have, 0 to 1
    """

    samples: int
    missing: int
    duplicates: int
    negative: int
    infinite: int
    out_of_order: int
    gaps: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Samples of one pod; the arrays cannot be written to. Build it with :meth:`of`.

    :ivar unix_seconds: shape (n,), float64, strictly ascending
    :ivar values: shape (n,), float64, NaN where missing, else at least 0; CPU in cores, memory in
        bytes, or any other unit
    :ivar step_seconds: median spacing; 0 with fewer than two samples
    :ivar coverage: of the series as it came in; a part of it (:meth:`between`) keeps that of the whole
    """

    name: str
    unix_seconds: np.ndarray
    values: np.ndarray
    step_seconds: float
    coverage: Coverage

    @classmethod
    def of(cls, name: str, unix_seconds: Sequence[float] | np.ndarray, values: Sequence[float] | np.ndarray) -> Series:
        """Samples in any order, repaired; :attr:`coverage` says what was done.

        :raises ValueError: when times and values are not two rows of one length, or a time is not finite
        """
        times, found = np.array(unix_seconds, dtype=np.float64), np.array(values, dtype=np.float64)
        if times.ndim != 1 or times.shape != found.shape:
            raise ValueError(f"{name}: {times.shape} times and {found.shape} values; they must be rows of one length.")
        if not np.isfinite(times).all():
            raise ValueError(f"{name}: {np.count_nonzero(~np.isfinite(times))} times are not finite.")
        missing, infinite, below = np.isnan(found), np.isinf(found), found < 0
        found[infinite | below] = np.nan
        steps, duplicates = np.diff(times), 0
        out_of_order = int(np.count_nonzero(steps < 0))
        if (steps <= 0).any():
            order = np.argsort(times, kind="stable")
            times, found = times[order], found[order]
            first = np.flatnonzero(np.diff(times, prepend=-np.inf) > 0)
            duplicates = len(times) - len(first)
            times, found = times[first], np.fmax.reduceat(found, first)
            steps = np.diff(times)
        step = float(np.median(steps)) if len(steps) else 0.0
        slots = 1 + float(times[-1] - times[0]) / step if len(steps) else float(len(times))
        known = np.count_nonzero(~np.isnan(found))
        coverage = Coverage(
            samples=len(times),
            missing=int(np.count_nonzero(missing)),
            duplicates=duplicates,
            negative=int(np.count_nonzero(below & ~infinite)),
            infinite=int(np.count_nonzero(infinite)),
            out_of_order=out_of_order,
            gaps=int(np.count_nonzero(steps > _GAP_STEPS * step)),
            share=min(1.0, float(known) / slots) if slots else 0.0,
        )
        times.setflags(write=False)
        found.setflags(write=False)
        return cls(name, times, found, step, coverage)

    def __len__(self) -> int:
        return len(self.unix_seconds)

    def before(self, now: float) -> Series:
        """The samples earlier than `now`, in unix seconds; a view, not a copy."""
        return self._part(0, int(np.searchsorted(self.unix_seconds, now)))

    def since(self, start: float) -> Series:
        """The samples at or after `start`, in unix seconds; a view, not a copy."""
        return self._part(int(np.searchsorted(self.unix_seconds, start)), len(self))

    def between(self, start: float, end: float) -> Series:
        """The samples from `start` to before `end`, in unix seconds; a view, not a copy."""
        low, high = np.searchsorted(self.unix_seconds, [start, end])
        return self._part(int(low), max(int(low), int(high)))

    def without_missing(self) -> Series:
        """The samples that have a value; the same object where all have one."""
        there = ~np.isnan(self.values)
        return self if there.all() else replace(self, unix_seconds=self.unix_seconds[there], values=self.values[there])

    @property
    def known(self) -> np.ndarray:
        """The values that are there, in order of time; shape (at most n,)."""
        known: np.ndarray = self.values[~np.isnan(self.values)]
        return known

    @property
    def days(self) -> float:
        """From the first sample to the end of the last one's step: 1,440 one-minute samples are one day."""
        if not len(self):
            return 0.0
        return float(self.unix_seconds[-1] - self.unix_seconds[0] + self.step_seconds) / DAY_SECONDS

    def _part(self, low: int, high: int) -> Series:
        return replace(self, unix_seconds=self.unix_seconds[low:high], values=self.values[low:high])
