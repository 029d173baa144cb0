"""Does usage repeat itself? Autocorrelation of CPU, and the share of time in which it works.

    windows -> one value a window -> at most 1,024 bins -> autocorrelation at lags of four bins to a third

A period is a peak of the autocorrelation that comes after a trough: usage that only drifts is like
itself at short lags and has no such peak. Three periods have to be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

_LEAST_WINDOWS, _MOST_BINS = 24, 1024
_LEAST_LAG, _PERIODS = 3, 3
_ON = 0.25  # of the way from the low to the high level
_CLEAR = 4.0  # high over low, for on and off to be told apart
_EVEN = 0.5  # coefficient of variation of the runs' lengths, and of what lies between


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How usage repeats itself.

    :ivar repeats: autocorrelation at the period, 0 to 1; 0 where there is no period
    :ivar period_seconds: 0 where there is none
    :ivar phase_ratio: P90 over P10 of the mean course of a period
    :ivar duty: share of windows in which it works; 1 where on and off are not told apart
    :ivar runs: stretches of work that were seen from begin to end
    :ivar even_runs: they are of like length, and come at like distances
    """

    repeats: float
    period_seconds: float
    phase_ratio: float
    duty: float
    runs: int
    even_runs: bool


def rhythm_of(frame: pd.DataFrame) -> Rhythm:
    """The rhythm of CPU, summed over replicas."""
    times, cores = (frame[name].to_numpy(dtype=float) for name in ("start_unix_seconds", "cpu_cores"))
    known = np.isfinite(cores)
    times, cores = times[known], cores[known]
    if (np.diff(times) <= 0).any():
        times, place = np.unique(times, return_inverse=True)
        cores = np.bincount(place, cores)
    if len(cores) < _LEAST_WINDOWS or not np.ptp(cores):
        return Rhythm(0.0, 0.0, 1.0, 1.0, 0, even_runs=False)
    duty, runs, even = _duty(cores)
    per_bin = -(-len(cores) // _MOST_BINS)
    whole = len(cores) // per_bin * per_bin
    binned = cores[:whole].reshape(-1, per_bin).mean(axis=1)
    lag, repeats = _peak(binned)
    if not lag:
        return Rhythm(0.0, 0.0, 1.0, duty, runs, even)
    course = np.array([binned[phase::lag].mean() for phase in range(lag)])
    low, high = np.quantile(course, [0.1, 0.9])
    step = float(np.median(np.diff(times))) * per_bin
    return Rhythm(repeats, lag * step, float(high / max(low, 1e-9)), duty, runs, even)


def _peak(values: np.ndarray) -> tuple[int, float]:
    """Lag and height of the highest peak behind the first trough; (0, 0.0) where there is none."""
    n = len(values)
    spread = values - values.mean()
    power = np.abs(np.fft.rfft(spread, 2 * n)) ** 2
    correlation = np.fft.irfft(power)[:n]
    # unbiased: as many products at every lag
    correlation = correlation / correlation[0] * n / (n - np.arange(n))
    most = n // _PERIODS
    falls = np.flatnonzero(correlation[1:most] < 0.2)
    first = int(falls[0]) + 1 if len(falls) else most
    if first >= most:
        return 0, 0.0
    lag = first + int(np.argmax(correlation[first : most + 1]))
    height = float(np.clip(correlation[lag], 0.0, 1.0))
    return (lag, height) if lag >= _LEAST_LAG else (0, 0.0)


def _duty(cores: np.ndarray) -> tuple[float, int, bool]:
    low, high = np.quantile(cores, 0.05), np.quantile(cores, 0.98)
    if high < _CLEAR * max(low, 1e-6):
        return 1.0, 0, False
    on = cores > low + _ON * (high - low)
    edges = np.diff(on.astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1) + 1, np.flatnonzero(edges == -1) + 1
    if not len(starts) or not len(ends):
        return float(on.mean()), 0, False
    ends = ends[ends > starts[0]]
    count = min(len(starts), len(ends))
    lengths, between = (ends[:count] - starts[:count]).astype(float), np.diff(starts[:count]).astype(float)
    return float(on.mean()), count, count >= 3 and _even(lengths) and _even(between)


def _even(lengths: np.ndarray) -> bool:
    return bool(lengths.std() <= _EVEN * lengths.mean())
