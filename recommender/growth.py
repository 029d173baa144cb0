"""How much more a cluster will ask for: forecasts of its CPU, of each workload and of all together.

The whole is forecast by itself: the sum of all upper bounds would say that every workload has its worst day at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recommender.forecast import Forecast, forecast
from recommender.history import AT_TIMES
from recommender.recommendation import Recommendation
from recommender.series import DAY_SECONDS, Series

#: Two-sided, so that each end is a quantile: 60 to 99.9 %.
_LEVELS = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998)
_RECENT_DAYS = 7
_WIDER = 1.15  # peaks of 3-hour means, against those of samples: docs/decisions/0030
_LEAST_SHARE, _MOST_SHARE = 0.2, 10.0


@dataclass(frozen=True)
class Growth:
    """Demand of the next days, as a multiple of the highest of the last seven.

    :ivar days: how many
    :ivar middle: (days,) daily peaks
    :ivar quantiles: ascending, above one half, of each day by itself
    :ivar upper: (quantiles, days)
    :ivar past_days, past: daily peaks so far, in days from now (below zero), in the same unit
    :ivar sentence: what it rests on
    """

    days: int
    middle: np.ndarray
    quantiles: tuple[float, ...]
    upper: np.ndarray
    past_days: np.ndarray
    past: np.ndarray
    sentence: str

    def highest(self, quantile: float, days: int) -> float:
        """The multiple that no peak of the first so many days exceeds, with that probability, 0.5 to 0.99.

        Peaks of different days are neither the same nor independent: n days count as their square root.
        """
        each_day = quantile ** (1 / math.sqrt(days))
        known = np.vstack([self.middle, self.upper])[:, :days]
        return max(float(np.interp(each_day, (0.5, *self.quantiles), column)) for column in known.T)

    def chance_above(self, multiple: float, days: int) -> float:
        """Probability that a peak of the first so many days is higher."""
        known = np.maximum.accumulate(np.vstack([self.middle, self.upper])[:, :days], axis=0)
        places = (0.5, *self.quantiles)
        below = min(float(np.interp(multiple, column, places, left=0.0)) for column in known.T)
        return 1.0 - math.pow(below, math.sqrt(days))


def growth_of(rows: Sequence[Recommendation], days: int) -> Growth | None:
    """Of the CPU of all `rows` together; None where nothing was recorded.

    Of those that are there now: what has gone asks for nothing any more, and what came lately is no growth, so its time
    before is filled with its own level.
    """
    used = {place: found for place, row in enumerate(rows) if (found := _used(row))}
    if not used:
        return None
    step = max(_step_of(rows[place]) for place in used)
    begin = min(found[0][0] for found in used.values()) // step
    end = max(found[-1][0] for found in used.values()) // step
    total = np.zeros(int(end - begin) + 1)
    there = np.zeros(len(total), dtype=bool)
    for place, found in used.items():
        values = np.full(len(total), np.nan)
        at = np.array([start // step - begin for start, _ in found], dtype=int)
        counts = np.bincount(at, minlength=len(total))
        sums = np.bincount(at, [cores for _, cores in found], len(total))
        values[counts > 0] = sums[counts > 0] / counts[counts > 0]
        runs_at_times = rows[place].container.kind in AT_TIMES
        if (len(total) - 1 - at.max()) * step > (_RECENT_DAYS if runs_at_times else 1) * DAY_SECONDS:
            continue
        there |= counts > 0
        total += np.where(np.isnan(values), 0.0 if runs_at_times else np.nanmean(values), values)
    starts = (begin + np.arange(len(total))) * step
    return _growth(Series.of("all", starts[there], total[there]), days)


def growth_of_workload(row: Recommendation, days: int) -> Growth | None:
    """Of one container's CPU over its instances."""
    used = _used(row)
    return _growth(Series.of(row.container.name, *map(list, zip(*used, strict=True))), days) if used else None


def _used(row: Recommendation) -> list[tuple[float, float]]:
    """Starts of steps, and cores of all instances; steps that are not known are not there."""
    timeline = row.history.timeline
    if timeline is None or "cpu_cores" not in timeline.columns:
        return []
    together = zip(timeline.columns["cpu_cores"], timeline.columns["instances"], strict=True)
    return [
        (timeline.start_unix_seconds + place * timeline.step_seconds, cores * count)
        for place, (cores, count) in enumerate(together)
        if cores is not None and count is not None
    ]


def _step_of(row: Recommendation) -> float:
    assert row.history.timeline is not None
    return row.history.timeline.step_seconds


def _growth(series: Series, days: int) -> Growth | None:
    if len(series.known) < 2:
        return None
    ahead = forecast(series, days, _LEVELS)
    if not len(ahead.daily_peak.middle):
        return None
    end = float(series.unix_seconds[-1]) + series.step_seconds
    back = np.floor((series.unix_seconds - end) / DAY_SECONDS).astype(int)
    past_days = np.unique(back)
    past = np.array([np.nanmax(series.values[back == day]) for day in past_days])
    recent = float(past[past_days >= -_RECENT_DAYS].max())
    if not recent:
        return None
    middle, upper = _multiples(ahead, recent)
    return Growth(
        days, middle, tuple((1 + level) / 2 for level in _LEVELS), upper, past_days, past / recent, ahead.sentence
    )


def _multiples(ahead: Forecast, recent: float) -> tuple[np.ndarray, np.ndarray]:
    middle = ahead.daily_peak.middle / recent
    upper = np.maximum(middle, middle + _WIDER * (ahead.daily_peak.upper / recent - middle))
    return np.clip(middle, _LEAST_SHARE, _MOST_SHARE), np.clip(upper, _LEAST_SHARE, _MOST_SHARE)
