"""Conformal intervals: how wide a forecast has to be, from its own errors and from what is usual.

References: V. Vovk et al., Algorithmic Learning in a Random World (2005); I. Gibbs, E. Candes, Adaptive
Conformal Inference Under Distribution Shift (2021).
"""

from __future__ import annotations

import numpy as np
from scipy import stats

LEAST_ORIGINS = 3
_USUAL_WEIGHT_DAYS = 4.0  # what series in general say counts as much as so many days of its own
_USUAL_FREEDOM = 3.0  # Student's t of errors over their mean absolute value, series in general
USUAL_WIDENING, _LEAST_WIDENING = 0.2, 0.05  # the power of the days ahead with which the width grows
_MOST_MISS = 2.0  # times what was asked: a good past narrows an interval by so much
_ADAPTING = 0.05  # gamma of Gibbs and Candes, per day
_LEAST_ERROR = 0.002
_MEAN_OF_T = 2 * 3**0.5 / np.pi  # mean of the absolute value of Student's t with three degrees of freedom


def offsets_of(errors: np.ndarray, level: float, usual: float, independent: float) -> tuple[float, float]:
    """Lower and upper end less the middle: own quantiles, mixed with Student's t of the usual width.

    :param independent: how many of a day's errors count as independent; below one, days overlap
    """
    tail, count = (1 - level) / 2, max(1.0, independent * len(errors))
    weight = len(errors) / (len(errors) + _USUAL_WEIGHT_DAYS / min(1.0, independent))
    own = float(np.nanmean(np.abs(errors))) if len(errors) else 0.0
    to_quantile = float(stats.t.ppf(1 - tail, _USUAL_FREEDOM)) / _MEAN_OF_T
    width = to_quantile * max(_LEAST_ERROR, weight * own + (1 - weight) * usual)
    low, high = np.nanquantile(errors, _ranks(tail, count)) if len(errors) else (0.0, 0.0)
    if tail * (count + 1) < 1:  # beyond the largest error seen
        low, high = min(float(low), -to_quantile * own), max(float(high), to_quantile * own)
    return (
        min(0.0, weight * float(low) - (1 - weight) * width),
        max(0.0, weight * float(high) + (1 - weight) * width),
    )


def _ranks(tail: float, count: float) -> tuple[float, float]:
    """Where in `count` errors the one lies that the next exceeds with probability `tail`: conformal, 0 to 1."""
    rank = min(0.5, max(0.0, (tail * (count + 1) - 1) / max(1.0, count - 1)))
    return rank, 1 - rank


def adapted_level(errors: np.ndarray, level: float, usual: float, independent: float) -> float:
    """The level to ask for, so that past days would have been inside as often as `level` says."""
    miss = aim = 1 - level
    for day in range(LEAST_ORIGINS, len(errors)):
        low, high = offsets_of(errors[:day], 1 - miss, usual, independent)
        row = errors[day][np.isfinite(errors[day])]
        outside = float(((row < low) | (row > high)).mean())
        miss = min(_MOST_MISS * aim, max(aim / 4, miss + _ADAPTING * (aim - outside)))
    return 1 - miss


def widening(one: np.ndarray, seven: np.ndarray, days: int) -> float:
    """The power of the days ahead with which the width grows: own errors and the usual; 0.5 is a random walk."""
    near, far = (float(np.nanmean(np.abs(each))) if len(each) else 0.0 for each in (one, seven))
    if not near or not far:
        return USUAL_WIDENING
    own = min(0.5, max(0.0, float(np.log(far / near) / np.log(days))))
    weight = len(seven) / (len(seven) + 2 * _USUAL_WEIGHT_DAYS)
    return max(_LEAST_WIDENING, weight * own + (1 - weight) * USUAL_WIDENING)


def usual_factors(levels: tuple[float, ...]) -> np.ndarray:
    """What a usual mean absolute error is multiplied by, for the two-sided interval at each level."""
    factors: np.ndarray = stats.t.ppf((1 + np.array(levels)) / 2, _USUAL_FREEDOM) / _MEAN_OF_T
    return factors
