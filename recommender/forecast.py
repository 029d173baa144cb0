"""What a series will use in the next days, with intervals that say how often they are wrong.

    days of hourly means and daily peaks, as logarithms; growth taken out where it is told
      -> candidates: last hours, last day, last week, time of day, weekday, STL ...
      -> rolling origin over the past: each candidate forecasts each past day from the days before it
      -> the candidate with the smallest errors, next day and seven days ahead apart
      -> interval = quantiles of its own past errors, mixed with those of series in general where the
         past is short, their level adapted to how often it missed (adaptive conformal inference)

A season that is not there loses to the plain median here, so that no test of one is needed.

References: Gibbs, Candes, Adaptive conformal inference under distribution shift (2021, arXiv:2106.00170);
Cleveland et al., STL (1990), statsmodels.tsa.seasonal.STL; docs/decisions/0009 for the constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from statsmodels.tsa.seasonal import STL

from recommender.conformal import LEAST_ORIGINS, USUAL_WIDENING, adapted_level, offsets_of, usual_factors, widening
from recommender.season import STEPS_SECONDS, Grid, filled, gridded, logarithm, offset_of, slope_of
from recommender.series import DAY_SECONDS, Series

LONGEST_HORIZON_DAYS = 90
_FAR = 7  # days ahead of which a second candidate is chosen ...
_FAR_FROM = 4  # ... and used from this day on
_WINDOW, _ORIGINS = 7, 21
_MODEL_DAYS = 28  # that STL and the slope look at
_SIMPLER = 0.03  # a candidate further down the list has to be better by this much
_DAMPING = 0.98  # of growth per day: 90 days count as 42
_USUAL_ERROR_STEPS, _USUAL_ERROR_PEAKS = 0.75, 1.2  # next day's mean absolute error over last week's deviation
_OVER_TIME_OF_DAY = 1.6  # deviation from the time of day that counts as one from the week's median
_USUAL_DRIFT_STEPS, _USUAL_DRIFT_PEAKS = 0.03, 0.08  # the least usual error, while the past is short
_INDEPENDENT_STEPS, _FAR_PART = 3.0, 0.4  # errors of a day that count; those seven days ahead overlap
_SHORT_DRIFT = 0.12  # mean absolute error of the level, as logarithm, where there is less than two days


@dataclass(frozen=True, slots=True)
class Peaks:
    """The largest sample of each day ahead: day i begins i times 24 hours after the forecast does.

    :ivar middle: (days,) in the unit of the series
    :ivar lower, upper: (levels, days)
    """

    middle: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@dataclass(frozen=True, slots=True)
class Forecast:
    """Means of equal steps ahead; empty arrays where nothing can be said, and :attr:`sentence` says why.

    :ivar unix_seconds: (n,) starts of the steps; the first is the end of the last sample's step
    :ivar middle: (n,) in the unit of the series
    :ivar levels: ascending, 0 to 1: the share of steps that each interval should contain
    :ivar lower, upper: (levels, n); at least 0; as logarithms they widen, or stay, with every day ahead
    :ivar daily_peak: of the samples, not of the steps
    :ivar methods: the candidates chosen for the next days, from the fourth day on, and for peaks
    :ivar origins: past days that judged them; 0 when the past was too short for any
    :ivar sentence: what it rests on, and what is missing
    """

    step_seconds: float
    unix_seconds: np.ndarray
    middle: np.ndarray
    levels: tuple[float, ...]
    lower: np.ndarray
    upper: np.ndarray
    daily_peak: Peaks
    methods: tuple[str, str, str]
    origins: int
    sentence: str


def forecast(series: Series, horizon_days: int = 7, levels: Sequence[float] = (0.8, 0.95)) -> Forecast:
    """The days after the last sample. The same series gives the same bytes.

    :param horizon_days: 1 to 90 days
    :param levels: each between 0 and 1
    :raises ValueError: when the horizon or a level is outside its range
    """
    if not 1 <= horizon_days <= LONGEST_HORIZON_DAYS:
        raise ValueError(f"A horizon of {horizon_days} days; it must be 1 to {LONGEST_HORIZON_DAYS}.")
    wanted = tuple(sorted({float(level) for level in levels}))
    if not wanted or not all(0 < level < 1 for level in wanted):
        raise ValueError(f"Levels {tuple(levels)}; each must be between 0 and 1.")
    grid = gridded(series)
    if len(series.known) < 2:
        return _nothing(wanted, grid.step_seconds, f"No forecast: {len(series.known)} of 2 samples needed.")
    if np.isfinite(grid.peaks).sum() < 2:
        return _short(series, horizon_days, wanted)
    return _rolled(grid, horizon_days, wanted)


@dataclass(frozen=True, slots=True)
class _Chosen:
    name: str
    errors: np.ndarray  # (origins, steps)
    centres: np.ndarray  # (7, steps): of the next seven days


def _rolled(grid: Grid, horizon: int, levels: tuple[float, ...]) -> Forecast:
    offset, begins = offset_of(grid.rows), (grid.end_unix_seconds, grid.step_seconds)
    first = int(np.flatnonzero(np.isfinite(grid.peaks))[0])
    z, peaks = (logarithm(each[first:], offset) for each in (grid.rows, grid.peaks[:, None]))
    if float(np.nanmax(peaks)) == 0:
        sentence = f"Nothing was used in {len(z)} days; what would begin cannot be told."
        none = np.zeros((len(levels), 2, horizon))
        parts = [(np.zeros((horizon, z.shape[1])), none), (np.zeros((horizon, 1)), none)]
        return _finished(begins, levels, parts, 1.0, ("zero", "zero", "zero"), 0, sentence)
    slopes = {day: _told_slope(z[:day]) for day in range(max(1, len(z) - _ORIGINS - _FAR), len(z) + 1)}
    near, far, peak, far_peak = (
        _choose(each, slopes, lead) for each, lead in ((z, 1), (z, _FAR), (peaks, 1), (peaks, _FAR))
    )
    far = far if len(far.errors) >= LEAST_ORIGINS else replace(far, name=near.name)
    growth = slopes[len(z)] * np.cumsum(np.concatenate([[0.0], _DAMPING ** np.arange(1, horizon)]))
    error = 0.0 if not slopes[len(z)] else slope_of(z[-_MODEL_DAYS:])[1] / 2
    usual = max(_USUAL_DRIFT_STEPS, _USUAL_ERROR_STEPS * _deviation(z))
    usual_peak = max(_USUAL_DRIFT_PEAKS, _USUAL_ERROR_PEAKS * _deviation(peaks))
    parts = [
        _joined(near, far, growth, error, levels, usual),
        _joined(peak, far_peak, growth, error, levels, usual_peak),
    ]
    origins = len(near.errors)
    sentence = (
        f"From {int(np.isfinite(grid.peaks).sum())} days: {near.name} for the next days, {far.name} from day "
        f"{_FAR_FROM}, {peak.name} for peaks; judged on {origins} past {'day' if origins == 1 else 'days'}"
        f"{'' if slopes[len(z)] else ', no growth told'}."
    )
    if len(z) < 14:
        sentence += f" A weekly season needs 14 days; {len(z)} are there."
    if float(np.ptp(peaks[np.isfinite(peaks)])) == 0 and float(np.nanstd(z)) < 1e-9:
        sentence = f"Constant over {len(z)} days; what could change it was not seen."
    return _finished(begins, levels, parts, offset, (near.name, far.name, peak.name), origins, sentence)


def _told_slope(z: np.ndarray) -> float:
    if len(z) < 14:
        return 0.0
    slope, half = slope_of(z[-_MODEL_DAYS:])
    return slope if abs(slope) > half else 0.0


def _centres(past: np.ndarray, leads: Sequence[int]) -> dict[str, np.ndarray]:
    """What each candidate says of the days ahead, simplest first: (leads, steps) each.

    :param past: (days, steps) without NaN
    """
    count, steps = past.shape
    week = past[-_WINDOW:]
    profile = np.median(week, axis=0)
    last = float(np.median(past[-1]))
    shifted = profile + 0.7 * (last - float(np.median(profile)))
    rows = {"time of day": profile, "time of day at the last day's level": shifted, "last day": past[-1]}
    if steps > 1:
        rows = {
            "last week's level": np.full(steps, float(np.median(week))),
            "last day's level": np.full(steps, last),
            "last hours": np.full(steps, float(np.median(past[-1, -max(1, steps // 8) :]))),
        } | rows
    found = {name: np.tile(row, (len(leads), 1)) for name, row in rows.items()}
    if count >= _WINDOW:
        found["weekday"] = np.array([_same_weekday(past, lead) for lead in leads])
    if count >= 4 and steps >= 4:
        jump = max(1, steps // 6)
        fit = STL(
            past[-_MODEL_DAYS:].ravel(), period=steps, seasonal_jump=jump, trend_jump=jump, low_pass_jump=jump
        ).fit()
        found["STL"] = np.tile(np.asarray(fit.seasonal)[-steps:] + float(fit.trend[-1]), (len(leads), 1))
    return found


def _same_weekday(past: np.ndarray, lead: int) -> np.ndarray:
    """Median of the last three days seven, fourteen ... days before the day that is `lead` ahead."""
    newest = len(past) - 7 + (lead - 1) % 7
    row: np.ndarray = np.median(past[list(range(newest, -1, -7))[:3]], axis=0)
    return row


def _choose(z: np.ndarray, slopes: Mapping[int, float], lead: int) -> _Chosen:
    """The candidate with the smallest errors on past days that are `lead` days after their origin."""
    errors: dict[str, list[np.ndarray]] = {}
    names: list[str] = []
    for origin in range(max(1, len(z) - lead + 1 - _ORIGINS), len(z) - lead + 1):
        truth = z[origin + lead - 1]
        if np.isfinite(truth).mean() < 0.5 or not np.isfinite(z[:origin]).any():
            continue
        names = []
        for name, centre in _centres(_level_now(z[:origin], slopes[origin]), [lead]).items():
            errors.setdefault(name, []).append(truth - centre[0] - slopes[origin] * (lead - 1))
            names.append(name)
    now = _centres(_level_now(z, slopes[len(z)]), range(1, 8))
    simplest = next(iter(now))
    if not errors:
        return _Chosen(simplest, np.empty((0, z.shape[1])), now[simplest])
    best, least = simplest, np.inf
    base = np.array([np.nanmean(np.abs(row)) for row in errors[simplest]])
    for place, name in enumerate(now):
        rows = errors.get(name, [])
        if len(rows) < min(LEAST_ORIGINS, len(base)):
            continue
        ratio = float(np.mean([np.nanmean(np.abs(row)) for row in rows])) / max(float(base[-len(rows) :].mean()), 1e-12)
        if ratio * (1 + _SIMPLER * (place > 0)) < least:
            best, least = name, ratio
    return _Chosen(best, np.array(errors[best]), now[best])


def _level_now(past: np.ndarray, slope: float) -> np.ndarray:
    """Past days as they would be at the level of the first day ahead."""
    now: np.ndarray = filled(past) + slope * np.arange(len(past), 0, -1)[:, None]
    return now


def _deviation(z: np.ndarray) -> float:
    """Mean absolute deviation of the last week from its median, or from its time of day where that is less."""
    week = filled(z)[-_WINDOW:]
    plain = float(np.abs(week - np.median(week)).mean())
    if week.shape[1] == 1 or len(week) < 3:
        return plain
    by_time = float(np.abs(week - np.median(week, axis=0)).mean()) * len(week) / (len(week) - 1)
    return min(plain, _OVER_TIME_OF_DAY * by_time)


def _joined(
    one: _Chosen, seven: _Chosen, growth: np.ndarray, slope_error: float, levels: tuple[float, ...], usual: float
) -> tuple[np.ndarray, np.ndarray]:
    """Middle (days, steps) and offsets (levels, 2, days) of both candidates, as logarithms."""
    days = np.arange(1, len(growth) + 1)
    independent = _INDEPENDENT_STEPS if one.centres.shape[1] > 1 else 1.0
    far_independent = _FAR_PART * independent
    use_far = len(seven.errors) >= LEAST_ORIGINS
    middle = np.array([(seven if use_far and day >= _FAR_FROM else one).centres[(day - 1) % 7] for day in days])
    power = widening(one.errors, seven.errors, _FAR)
    offsets = np.empty((len(levels), 2, len(days)))
    for place, level in enumerate(levels):
        asked = adapted_level(one.errors, level, usual, independent)
        ends = np.array(offsets_of(one.errors, asked, usual, independent))[:, None] * days**power
        if use_far:
            wide = usual * _FAR**power
            asked = adapted_level(seven.errors, level, wide, far_independent)
            far = np.array(offsets_of(seven.errors, asked, wide, far_independent))
            ends = np.where(days >= _FAR_FROM, far[:, None] * np.maximum(1.0, days / _FAR) ** power, ends)
        grown = stats.norm.ppf((1 + level) / 2) * slope_error * (days - 1)
        offsets[place] = np.array([[-1.0], [1.0]]) * np.maximum.accumulate(np.hypot(ends, grown), axis=1)
    offsets[:, 0] = np.minimum.accumulate(offsets[:, 0], axis=0)
    offsets[:, 1] = np.maximum.accumulate(offsets[:, 1], axis=0)
    return middle + growth[:, None], offsets


def _short(series: Series, horizon: int, levels: tuple[float, ...]) -> Forecast:
    """Less than two days: the level so far, its quantiles, and the drift that series in general have."""
    known = series.without_missing()
    start = float(known.unix_seconds[0])
    end = float(series.unix_seconds[-1]) + series.step_seconds
    step = next(each for each in STEPS_SECONDS if each >= min(0.99 * series.step_seconds, DAY_SECONDS))
    place = ((known.unix_seconds - start) / step + 1e-9).astype(int)
    counts = np.bincount(place)
    means = np.bincount(place, weights=known.values)[counts > 0] / counts[counts > 0]
    offset = offset_of(means)
    z = logarithm(means, offset)
    steps, days = round(DAY_SECONDS / step), np.arange(horizon)
    drift = usual_factors(levels) * _SHORT_DRIFT
    drift = drift[:, None] * (1 + days) ** USUAL_WIDENING
    centre = float(np.median(z))
    own = np.array([np.quantile(z - centre, [(1 - level) / 2, (1 + level) / 2]) for level in levels])
    points = np.stack([-np.hypot(own[:, :1], drift), np.hypot(own[:, 1:], drift)], axis=1)
    peak = float(logarithm(known.values.max(), offset))
    largest = np.stack([-drift, np.hypot(drift, 0.5 * own[:, 1:])], axis=1)
    if not known.values.any():
        points, largest = np.zeros_like(points), np.zeros_like(largest)
    parts = [(np.full((horizon, steps), centre), points), (np.full((horizon, 1), peak), largest)]
    sentence = (
        f"From {(end - start) / DAY_SECONDS:.1f} days, all at one level: a daily season needs 3 days, a weekly one and "
        "growth 14; the interval is that of series in general."
    )
    return _finished(
        (end, step), levels, parts, offset, ("level so far", "level so far", "largest so far"), 0, sentence
    )


def _finished(
    begins: tuple[float, float],
    levels: tuple[float, ...],
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    offset: float,
    methods: tuple[str, str, str],
    origins: int,
    sentence: str,
) -> Forecast:
    """Back from logarithms; a peak is not below the steps of its day.

    :param begins: unix seconds, and seconds per step
    :param parts: of steps and of peaks: middles (days, steps) and offsets (levels, 2, days)
    """
    (middle, ends), (peak, peak_ends) = parts
    horizon, steps = middle.shape
    start, step = begins
    values, low, high = (
        _back(each, offset) for each in (middle, middle + ends[:, 0, :, None], middle + ends[:, 1, :, None])
    )
    peaks, peak_low, peak_high = (_back(peak[:, 0] + each, offset) for each in (0.0, peak_ends[:, 0], peak_ends[:, 1]))
    least = values.max(axis=1)
    daily = Peaks(np.maximum(peaks, least), peak_low, np.maximum(peak_high, least))
    return Forecast(
        step, start + step * np.arange(horizon * steps), values.ravel(), levels,
        low.reshape(len(levels), -1), high.reshape(len(levels), -1), daily, methods, origins, sentence,
    )  # fmt: skip


def _back(z: np.ndarray, offset: float) -> np.ndarray:
    values: np.ndarray = np.maximum(0.0, offset * np.expm1(np.minimum(z, 50.0)))
    return values


def _nothing(levels: tuple[float, ...], step: float, sentence: str) -> Forecast:
    none, rows = np.empty(0), np.empty((len(levels), 0))
    return Forecast(
        step, none, none, levels, rows, rows, Peaks(none, rows, rows), ("none", "none", "none"), 0, sentence
    )
