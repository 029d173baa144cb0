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
from recommender.quantiles import median

_FIRST_SECONDS, _FIRST_SHARE = 180.0, 0.2
_LEAST_LATER, _BORN_AFTER = 5, 2  # windows
_COLUMNS = (
    "start_unix_seconds",
    "duration_seconds",
    "cpu_cores",
    "requests_per_second",
    "memory_anon_bytes",
    "memory_working_set_bytes",
)
_Columns = dict[str, np.ndarray]
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
    columns = {name: frame[name].to_numpy(dtype=float) for name in _COLUMNS if name in frame.columns}
    first = np.full(int(codes.max()) + 1, np.inf)
    np.minimum.at(first, codes, starts)
    ratios = []
    for code in np.flatnonzero(np.isfinite(first) & (first >= windows[_BORN_AFTER])):
        rows = np.flatnonzero(codes == code)
        rows = rows[np.argsort(starts[rows], kind="stable")]
        ratio = _ratios({name: values[rows] for name, values in columns.items()})
        if ratio is not None:
            ratios.append(ratio)
    if not ratios:
        return None
    cpu, memory = (median(np.array([each[place] for each in ratios])) for place in (0, 1))
    return StartUp(len(ratios), cpu, memory)


def _ratios(life: _Columns) -> tuple[float, float] | None:
    time = life["start_unix_seconds"]
    seen = time[-1] - time[0] + float(life["duration_seconds"][-1])
    first = int(np.searchsorted(time, time[0] + min(_FIRST_SECONDS, _FIRST_SHARE * seen)))
    if len(time) - first < _LEAST_LATER:
        return None
    return _cpu(life, first), _memory(life, first)


def _cpu(life: _Columns, first: int) -> float:
    begin, rest = _known(life["cpu_cores"][:first]), _known(life["cpu_cores"][first:])
    if not len(begin) or not len(rest) or begin.mean() < _LEAST_CORES:
        return 1.0
    rates, busier = life["requests_per_second"], 1.0
    early, late = _known(rates[:first]), _known(rates[first:])
    if len(early) and late.sum() > 0:
        busier = max(1.0, float(early.mean()) / max(float(late.mean()), 1e-9))
    return float(begin.mean()) / max(median(rest), 1e-3) / busier


def _memory(life: _Columns, first: int) -> float:
    used = life["memory_anon_bytes"]
    if not np.isfinite(used[first:]).any():
        used = life.get("memory_working_set_bytes", used)
    begin, rest = _known(used[:first]), _known(used[first:])
    if not len(begin) or not len(rest) or begin.max() < _LEAST_BYTES:
        return 1.0
    return float(begin.max()) / max(float(np.quantile(rest, 0.95)), 1.0)


def _known(values: np.ndarray) -> np.ndarray:
    known: np.ndarray = values[np.isfinite(values)]
    return known
