"""Does a series have a day or a week in it, and does it grow? Tested before anything is fitted.

    samples -> hourly means, in days of 24 hours counted back from the last sample -> logarithm
            -> is a day like the one before (autocorrelation over 0.3)?  then MSTL for the strength
            -> daily levels less their weekday, holidays left out        -> growth with its interval

Test first: half of the public series have no season, and a season that is fitted where there is none
adds noise to every forecast. The logarithm is of `1 + value / (a tenth of the mean)`, so that growth is
in percent and zeros are no obstacle. An *outlier day* is a single day, or two, far from the days of its
kind (a holiday, an outage, a load test) after which the old level comes back; what stays is a step.

References: Bandara, Hyndman, Bergmeir, MSTL (2021, arXiv:2107.13462), statsmodels.tsa.seasonal.MSTL;
Wang, Smith, Hyndman, Characteristic-based clustering (2006), the strength of a season;
docs/decisions/0009 for the constants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.tsa.seasonal import MSTL

from recommender.series import DAY_SECONDS, Series

HOUR_SECONDS = 3_600.0
#: Lengths of a step that divide a day.
STEPS_SECONDS = (900.0, 1800.0, 3600.0, 7200.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0)
_OFFSET = 0.1  # of the mean: what is added before the logarithm
_LEAST_OFFSET = 1e-200  # so that dividing by it stays finite
LEAST_LIKENESS = 0.3  # autocorrelation at one day, or one week
_LEAST_DAYS, _LEAST_DAYS_WEEKLY = 3, 14
_LIKE_PAIRS = 2 / 3  # of successive days have to be alike: one burst at the same hour twice is no season
_OUTLIER_SPREADS, _OUTLIER_LEAST, _OUTLIER_RUN = 5.0, 0.2, 2
_KNOWN_DAY = 0.5  # share of a day's steps that must be known
_LONGEST_DAYS = 56  # older days say nothing about the present
_STEP_BETTER = 0.7  # rest of the best step over rest of the line; noise around a line gives about 1 and more
_RARELY = 0.01  # growth below this many percent a week is none


@dataclass(frozen=True, slots=True)
class Grid:
    """Whole days of equal steps, counted back from the end of the series; the oldest day is the first row.

    :ivar rows: (days, steps per day) means of the samples of each step, NaN where there is none
    :ivar peaks: (days,) largest sample of each day; NaN where less than half of its steps are known
    :ivar start_unix_seconds: start of the first row
    """

    rows: np.ndarray
    peaks: np.ndarray
    start_unix_seconds: float
    step_seconds: float

    @property
    def end_unix_seconds(self) -> float:
        """Where the forecast begins."""
        return self.start_unix_seconds + len(self.rows) * DAY_SECONDS


@dataclass(frozen=True, slots=True)
class Season:
    """Which seasons there are, with their evidence.

    :ivar enough: whether the history was long enough to tell a day; the weekly answer needs 14 days
    :ivar period_seconds: of the longest season found; None without one
    :ivar daily_likeness, weekly_likeness: autocorrelation at one day, one week; None where not tested
    :ivar daily_strength, weekly_strength: 1 - var(rest) / var(rest + season), 0 to 1; 0 where not found
    :ivar outlier_days_unix_seconds: starts of the days unlike the others of their kind, ascending
    :ivar sentence: all of it in words
    """

    enough: bool
    daily: bool
    weekly: bool
    period_seconds: float | None
    daily_likeness: float | None
    weekly_likeness: float | None
    daily_strength: float
    weekly_strength: float
    outlier_days_unix_seconds: tuple[float, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class Growth:
    """How fast the level moves.

    :ivar percent_per_week: None where it cannot be told
    :ivar interval: its 95 % interval, percent per week; given also when zero is inside, None without two weeks
    :ivar reason: why it is not told; None when it is
    """

    percent_per_week: float | None
    interval: tuple[float, float] | None
    reason: str | None


def gridded(series: Series, step_seconds: float = HOUR_SECONDS) -> Grid:
    """The newest 56 days of a series in equal steps; no rows from less than one day.

    :param step_seconds: at least this; longer where the samples are further apart
    """
    known = series.without_missing()
    wanted = max(step_seconds, min(0.99 * series.step_seconds, DAY_SECONDS))
    step = next(each for each in STEPS_SECONDS if each >= wanted)
    if not len(known):
        return Grid(np.empty((0, round(DAY_SECONDS / step))), np.empty(0), 0.0, step)
    end = float(series.unix_seconds[-1]) + series.step_seconds
    days = min(_LONGEST_DAYS, int((end - float(known.unix_seconds[0]) + 0.01 * series.step_seconds) / DAY_SECONDS))
    start, per_day = end - days * DAY_SECONDS, round(DAY_SECONDS / step)
    part = known.since(start)
    place = np.minimum(((part.unix_seconds - start) / step + 1e-9).astype(int), max(0, days * per_day - 1))
    counts = np.bincount(place, minlength=days * per_day)[: days * per_day]
    sums = np.bincount(place, weights=part.values, minlength=days * per_day)[: days * per_day]
    rows = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).reshape(days, per_day)
    peaks = np.full(days, -np.inf)
    if days:
        np.maximum.at(peaks, place // per_day, part.values)
    full = np.isfinite(rows).mean(axis=1) >= _KNOWN_DAY if days else np.zeros(0, dtype=bool)
    return Grid(rows, np.where(full, peaks, np.nan), start, step)


def logarithm(values: np.ndarray, offset: float) -> np.ndarray:
    """log(1 + value / offset), any shape; growth in percent becomes a slope, zeros stay finite."""
    result: np.ndarray = np.log1p(values / offset)
    return result


def offset_of(rows: np.ndarray) -> float:
    """What the logarithm adds: a tenth of the mean; 1 where nothing was used."""
    known = rows[np.isfinite(rows)]
    return max(_LEAST_OFFSET, _OFFSET * float(known.mean())) if len(known) and known.mean() > 0 else 1.0


def find_season(series: Series) -> Season:
    """Test for a daily and a weekly season, measure their strength, and name the outlier days."""
    grid = gridded(series)
    days = int((np.isfinite(grid.rows).mean(axis=1) >= _KNOWN_DAY).sum()) if len(grid.rows) else 0
    if days < _LEAST_DAYS or grid.step_seconds > DAY_SECONDS / 4:
        why = f"{days} of {_LEAST_DAYS} days needed" if days < _LEAST_DAYS else "samples are over 6 hours apart"
        return Season(False, False, False, None, None, None, 0.0, 0.0, (), f"Season not told: {why}.")
    z = filled(logarithm(grid.rows, offset_of(grid.rows)))
    if float(np.ptp(z)) < 1e-9:
        return Season(True, False, False, None, 0.0, None, 0.0, 0.0, (), f"No season: constant over {days} days.")
    like, pairs = _likeness(z, 1)
    daily = like > LEAST_LIKENESS and pairs >= _LIKE_PAIRS
    weekly_like = _weekly_likeness(z) if len(z) >= _LEAST_DAYS_WEEKLY else None
    weekly = weekly_like is not None and weekly_like > LEAST_LIKENESS
    strengths = _strengths(z, daily, weekly)
    period = 7 * DAY_SECONDS if weekly else DAY_SECONDS if daily else None
    unlike = tuple(float(grid.start_unix_seconds + day * DAY_SECONDS) for day in outlier_days(z))
    return Season(
        True, daily, weekly, period, like, weekly_like, *strengths, unlike,
        _sentence(days, like, weekly_like, (daily, weekly), strengths, len(unlike)),
    )  # fmt: skip


def growth(series: Series) -> Growth:
    """Change of the level per week, over at most 56 days, with its 95 % interval."""
    grid = gridded(series)
    known = int(np.isfinite(grid.peaks).sum())
    if len(grid.rows) < 14 or known < 10:
        return Growth(None, None, f"two weeks are needed, {known} days are known")
    offset = offset_of(grid.rows)
    if not np.nansum(grid.rows):
        return Growth(None, None, "nothing was used")
    slope, half = slope_of(logarithm(grid.rows, offset))
    if not np.isfinite(half):
        return Growth(None, None, "the level moved in one step, which is no growth")
    ratio = 1 + _OFFSET  # the logarithm of 1 + value / offset moves less than that of the value itself
    percent, low, high = (float(100 * np.expm1(7 * ratio * each)) for each in (slope, slope - half, slope + half))
    if low <= 0 <= high or abs(percent) < _RARELY:
        return Growth(None, (low, high), f"inside the noise: between {low:+.1f} and {high:+.1f} % a week")
    return Growth(percent, (low, high), None)


def slope_of(z: np.ndarray) -> tuple[float, float]:
    """Slope per day of (days, steps) logarithms, and half its 95 % interval; weekdays and outlier days left out.

    Least squares on daily means; the interval is widened for the autocorrelation of what is left, as
    `(1 + r) / (1 - r)` with r corrected for its bias in short rows (Kendall 1954: (1 + 4r) / n).
    One step that explains the levels better than a line does is no growth: the interval is then infinite.
    """
    day = np.arange(len(z), dtype=float)
    level = daily_levels(z)
    keep = np.isfinite(level)
    keep[outlier_days(z)] = False
    if keep.sum() < 10:
        return 0.0, float("inf")
    at, y = day[keep], level[keep]
    weekdays = np.eye(7)[(at.astype(int)) % 7] if keep.sum() >= 21 else np.ones((len(at), 1))
    found, *_ = np.linalg.lstsq(np.column_stack([at, weekdays]), y, rcond=None)
    rest = y - np.column_stack([at, weekdays]) @ found
    count = len(y)
    if float(rest @ rest) < 1e-18:
        return float(found[0]), 0.0
    if _is_a_step(y, float(rest @ rest)):
        return float(found[0]), float("inf")
    first = float(rest[1:] @ rest[:-1] / (rest @ rest))
    first = min(0.9, max(0.0, first + (1 + 4 * first) / count))
    freedom = max(2.0, (count - 1 - weekdays.shape[1]) * (1 - first) / (1 + first))
    error = np.sqrt(rest @ rest / freedom / ((at - at.mean()) @ (at - at.mean())))
    return float(found[0]), float(stats.t.ppf(0.975, freedom) * error)


def _is_a_step(level: np.ndarray, rest_of_line: float) -> bool:
    """Whether two levels, with a step at the best place, leave much less than the line does."""
    at = np.arange(2, len(level) - 1)
    total = level @ level - np.array([level[:k].sum() ** 2 / k + level[k:].sum() ** 2 / (len(level) - k) for k in at])
    return bool(total.min() < _STEP_BETTER * rest_of_line)


def outlier_days(z: np.ndarray) -> np.ndarray:
    """Rows of (days, steps) that are far from the days of their kind; runs over two days are steps, not holidays."""
    level = daily_levels(z)
    if np.isfinite(level).sum() < 7:
        return np.empty(0, dtype=int)
    expected = np.array([_like_days(level, day) for day in range(len(level))])
    gap = level - expected
    spread = 1.4826 * float(np.nanmedian(np.abs(gap - np.nanmedian(gap))))
    far = np.abs(gap) > max(_OUTLIER_SPREADS * spread, _OUTLIER_LEAST)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], far.astype(int), [0]])))
    runs = [
        (low, high)
        for low, high in edges.reshape(-1, 2)
        if high - low <= _OUTLIER_RUN and high < len(level) and _stands_out(level, low, high)
    ]
    return np.array([day for low, high in runs for day in range(low, high)], dtype=int)


def _stands_out(level: np.ndarray, low: int, high: int) -> bool:
    """Whether a run differs from the day before or after it; after a step, like days may lie on its other side."""
    beside = level[[each for each in (low - 1, high) if each >= 0]]
    beside = beside[np.isfinite(beside)]
    return bool(len(beside)) and bool(np.abs(beside - np.median(level[low:high])).max() > _OUTLIER_LEAST / 2)


def daily_levels(z: np.ndarray) -> np.ndarray:
    """(days,) means of the rows; NaN where less than half a day is known."""
    known = np.isfinite(z)
    enough = known.mean(axis=1) >= _KNOWN_DAY
    sums = np.where(known, z, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(enough, sums, np.nan)


def filled(z: np.ndarray) -> np.ndarray:
    """(days, steps) without NaN: a hole takes the median of its time of day, moved to its day's level."""
    if np.isfinite(z).all():
        return z
    known = np.isfinite(z).any(axis=0)
    profile = np.full(z.shape[1], np.nan)
    profile[known] = np.nanmedian(z[:, known], axis=0)
    profile = np.where(known, profile, np.nanmedian(z))
    moved = z - profile
    there = np.isfinite(moved).any(axis=1)
    shift = np.zeros(len(z))
    shift[there] = np.nanmedian(moved[there], axis=1)
    return np.where(np.isfinite(z), z, profile + shift[:, None])


def _like_days(level: np.ndarray, day: int) -> float:
    """Median of the same weekday in the four weeks around, of the neighbours in the two weeks around without those."""
    same = [other for other in range(day % 7, len(level), 7) if other != day and abs(other - day) <= 28]
    if np.isfinite(level[same]).sum() < 2:
        same = [other for other in range(max(0, day - 7), min(len(level), day + 8)) if other != day]
    values = level[same]
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")


def _likeness(z: np.ndarray, lag_days: int) -> tuple[float, float]:
    """Autocorrelation at so many days of what is left without the days' levels; share of pairs that are alike."""
    moved = z - z.mean(axis=1, keepdims=True)
    low, high = np.quantile(moved, [0.02, 0.98])
    moved = np.clip(moved, low, high)
    moved -= moved.mean(axis=1, keepdims=True)
    products = (moved[lag_days:] * moved[:-lag_days]).sum(axis=1)
    power = (moved**2).sum(axis=1)
    scale = float(np.sqrt(power[lag_days:].sum() * power[:-lag_days].sum()))
    return (float(products.sum() / scale), float((products > 0).mean())) if scale > 0 else (0.0, 0.0)


def _weekly_likeness(z: np.ndarray) -> float:
    """Autocorrelation at seven days of hours less their time of day and the running mean of a week."""
    level = z.mean(axis=1)
    weeks = np.convolve(np.pad(level, 3, mode="reflect"), np.ones(7) / 7, mode="valid")
    moved = z - np.median(z - level[:, None], axis=0) - weeks[:, None]
    low, high = np.quantile(moved, [0.02, 0.98])
    moved = np.clip(moved, low, high)
    late, early = moved[7:].ravel(), moved[:-7].ravel()
    scale = float(np.sqrt((late @ late) * (early @ early)))
    return float(late @ early / scale) if scale > 0 else 0.0


def _strengths(z: np.ndarray, daily: bool, weekly: bool) -> tuple[float, float]:
    per_day = z.shape[1]
    periods = [per_day] * daily + [7 * per_day] * weekly
    z = z if not weekly or len(z) > 14 else np.vstack([z, z[-7:-6]])  # MSTL wants more than two cycles
    if not periods:
        return 0.0, 0.0
    jump = max(1, per_day // 6)
    fast = {"seasonal_jump": jump, "trend_jump": jump, "low_pass_jump": jump}
    result = MSTL(z.ravel(), periods=periods, stl_kwargs=fast).fit()
    seasonal = np.asarray(result.seasonal).reshape(len(z.ravel()), -1)
    rest = np.asarray(result.resid)
    found = [_strength(rest, seasonal[:, column]) for column in range(seasonal.shape[1])]
    return (found[0] if daily else 0.0), (found[-1] if weekly else 0.0)


def _strength(rest: np.ndarray, season: np.ndarray) -> float:
    both = float(np.var(rest + season))
    return min(1.0, max(0.0, 1 - float(np.var(rest)) / both)) if both > 0 else 0.0


def _sentence(
    days: int,
    like: float,
    weekly_like: float | None,
    found: tuple[bool, bool],
    strengths: tuple[float, float],
    unlike: int,
) -> str:
    if weekly_like is None:
        week = f"the week needs {_LEAST_DAYS_WEEKLY} days"
    else:
        week = f"a week is {'' if found[1] else 'not '}like the one before ({weekly_like:.2f}"
        week += f", strength {strengths[1]:.0%})" if found[1] else ")"
    day = f"A day is {'' if found[0] else 'not '}like the one before (autocorrelation {like:.2f}"
    day += f", strength {strengths[0]:.0%})" if found[0] else f", {LEAST_LIKENESS} needed)"
    outliers = f"; {unlike} outlier {'day' if unlike == 1 else 'days'}" if unlike else ""
    return f"{day}, {week}; over {days} days{outliers}."
