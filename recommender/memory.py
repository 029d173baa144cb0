"""Memory: the peak, whether it leaks, and whether the kernel had to kill.

A leak shows as growth that is steady (Mann-Kendall test on the anonymous memory), larger than
noise (lower bound of the Theil-Sen slope above zero), that matters (more than a tenth of the
median over the recording) and that lasts (the second half grows too, so it is no warm-up).

References: H. Theil (1950), P. K. Sen (1968); H. B. Mann (1945), M. G. Kendall (1975).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from recommender.history import History

_LEAST_WINDOWS = 20
_SIGNIFICANCE = 0.01
_RISE_OF_MEDIAN = 0.1
_SECOND_HALF_SHARE = 0.4
_OOM_FACTOR, _OOM_STEP_BYTES = 1.2, 100 * 2**20


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """What the memory columns say, over all instances.

    :ivar peak_bytes: highest working set of any instance
    :ivar need_bytes: the peak, or more where the kernel killed for want of memory
    :ivar leak_bytes_per_hour: slope of anonymous memory where it leaks, else None
    """

    peak_bytes: float
    need_bytes: float
    oom_kills: int
    leak_bytes_per_hour: float | None


def fit_memory(history: History) -> MemoryFit | None:
    """The memory need of one container, or None when its memory was never seen."""
    frame = history.frame
    peaks = frame["memory_peak_bytes"].fillna(frame["memory_working_set_bytes"]).dropna()
    if peaks.empty:
        return None
    kills = int(frame["oom_kills"].fillna(0).sum())
    peak = float(peaks.max())
    need = max(peak * _OOM_FACTOR, peak + _OOM_STEP_BYTES) if kills else peak
    slopes = [_leak_per_second(rows) for _, rows in frame.groupby("instance", sort=True)]
    leaks = [slope for slope in slopes if slope is not None]
    return MemoryFit(peak, need, kills, max(leaks) * 3600 if leaks else None)


def _leak_per_second(rows: object) -> float | None:
    known = rows.dropna(subset=["memory_anon_bytes"])  # type: ignore[attr-defined]
    time, anon = known["start_unix_seconds"].to_numpy(), known["memory_anon_bytes"].to_numpy()
    if len(anon) < _LEAST_WINDOWS or np.ptp(anon) == 0:
        return None
    time = time - time[0]
    significant = stats.kendalltau(time, anon).pvalue < _SIGNIFICANCE
    slope, _, low, _ = stats.theilslopes(anon, time)
    half = len(anon) // 2
    later = stats.theilslopes(anon[half:], time[half:])[0]
    rises = slope * time[-1] > _RISE_OF_MEDIAN * float(np.median(anon))
    if significant and low > 0 and rises and later > _SECOND_HALF_SHARE * slope:
        return float(slope)
    return None
