"""What the first minutes of an instance take, beside the rest of its life.

An instance was born while we looked if it is first seen after the recording began; what was there from
the beginning may be of any age. Its first minutes are at most three, and at most a fifth of what was
seen of it. CPU that requests explain is no start-up: the ratio is divided by that of the request rates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from recommender.history import instance_codes

_FIRST_SECONDS, _FIRST_SHARE = 180.0, 0.2
_LEAST_LATER, _BORN_AFTER = 5, 2  # windows
_LEAST_CORES, _LEAST_BYTES = 0.05, 32 * 2**20  # less is no burden, whatever the ratio


@dataclass(frozen=True, slots=True)
class StartUp:
    """First minutes over the rest, the middle of all starts seen.

    :ivar cpu_ratio: mean CPU of the first minutes over the median of what follows
    :ivar memory_ratio: highest memory of the first minutes over P95 of what follows
    """

    starts: int
    cpu_ratio: float
    memory_ratio: float


def start_up_of(frame: pd.DataFrame) -> StartUp | None:
    """The start-up of one container's instances, or None where no start was seen."""
    starts, codes = frame["start_unix_seconds"].to_numpy(dtype=float), instance_codes(frame)
    if not codes.any():  # one instance, which was there from the beginning
        return None
    windows = np.unique(starts)
    if len(windows) <= _BORN_AFTER + _LEAST_LATER:
        return None
    first = np.full(int(codes.max()) + 1, np.inf)
    np.minimum.at(first, codes, starts)
    ratios = []
    for code in np.flatnonzero(np.isfinite(first) & (first >= windows[_BORN_AFTER])):
        life = frame[codes == code].sort_values("start_unix_seconds", kind="stable")
        ratio = _ratios(life)
        if ratio is not None:
            ratios.append(ratio)
    if not ratios:
        return None
    cpu, memory = (float(np.median([each[place] for each in ratios])) for place in (0, 1))
    return StartUp(len(ratios), cpu, memory)


def _ratios(life: pd.DataFrame) -> tuple[float, float] | None:
    time = life["start_unix_seconds"].to_numpy(dtype=float)
    seen = time[-1] - time[0] + float(life["duration_seconds"].iloc[-1])
    young = time < time[0] + min(_FIRST_SECONDS, _FIRST_SHARE * seen)
    first, later = life[young], life[~young]
    if len(later) < _LEAST_LATER:
        return None
    return _cpu(first, later), _memory(first, later)


def _cpu(first: pd.DataFrame, later: pd.DataFrame) -> float:
    begin, rest = first["cpu_cores"].mean(), later["cpu_cores"].median()
    if not np.isfinite(begin) or not np.isfinite(rest) or begin < _LEAST_CORES:
        return 1.0
    busier = 1.0
    if later["requests_per_second"].sum() > 0:
        busier = max(1.0, first["requests_per_second"].mean() / max(later["requests_per_second"].mean(), 1e-9))
    return float(begin / max(rest, 1e-3) / busier)


def _memory(first: pd.DataFrame, later: pd.DataFrame) -> float:
    column = "memory_anon_bytes" if later["memory_anon_bytes"].notna().any() else "memory_working_set_bytes"
    begin, rest = first[column].max(), later[column].quantile(0.95)
    if not np.isfinite(begin) or not np.isfinite(rest) or begin < _LEAST_BYTES:
        return 1.0
    return float(begin / max(rest, 1.0))
