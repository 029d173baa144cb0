"""A line through cells: robust, with intervals that know of autocorrelation.

Reference: P. J. Huber, Robust Statistics (1981), 7.6 (covariance).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from recommender.quantiles import MAD, median

MOST_CELLS = 400
HUBER, _BISQUARE = 1.345, 4.685  # 95 % efficient on a normal distribution
LEAST_CELLS = 20  # on either side of a step, in either half of the noise
_MOST_STEPS = 30
_START = 10.0  # median deviations from the median that the first guess looks at
_TOLERANCE = 1e-6
_MOST_MEMORY = 0.98  # autocorrelation at which a recording of any length still tells something
_LEAST_MEMORY = -0.5
_CLIPPED = 1.04  # Tukey's weights take the peaks off the noise, and 4 % of its autocorrelation with them


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """C cells in order of time: weighted means of the rows that follow each other.

    :ivar regressors: (C, p)
    :ivar usage, weight, time: (C,)
    """

    regressors: np.ndarray
    usage: np.ndarray
    weight: np.ndarray
    time: np.ndarray

    def part(self, chosen: np.ndarray | slice) -> Cells:
        """Some of them."""
        return Cells(self.regressors[chosen], self.usage[chosen], self.weight[chosen], self.time[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A fitted line: p parameters.

    :ivar params: (p,)
    :ivar covariance: (p, p), for cells whose noise is an AR(1) process
    :ivar freedom: degrees of freedom that the noise leaves
    :ivar memory: autocorrelation of neighbouring cells' noise
    :ivar noise_inflation: by how much residuals understate the noise
    """

    params: np.ndarray
    covariance: np.ndarray
    freedom: float
    memory: float
    noise_inflation: float

    def half_widths(self, level: float = 0.95) -> np.ndarray:
        """(p,) half the interval of each parameter."""
        spread: np.ndarray = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        return spread * float(stdtrit(self.freedom, (1 + level) / 2))


def gather(regressors: np.ndarray, usage: np.ndarray, weight: np.ndarray, time: np.ndarray) -> Cells:
    """Cells of rows in order of time: one per window, or at most ``MOST_CELLS`` of equally many rows."""
    if not len(usage):
        return Cells(regressors, usage, weight, time)
    new = np.flatnonzero(np.r_[True, time[1:] != time[:-1]])
    if len(new) == len(usage) and len(new) <= MOST_CELLS:
        return Cells(regressors, usage, weight, time).part(weight > 0)
    if len(new) > MOST_CELLS:
        new = new[np.arange(MOST_CELLS) * len(new) // MOST_CELLS]
    total = np.add.reduceat(weight, new)
    kept = total > 0
    share = np.maximum(total, np.finfo(float).tiny)
    means = np.column_stack([np.add.reduceat(weight * column, new) / share for column in regressors.T])
    return Cells(means, np.add.reduceat(weight * usage, new) / share, total, time[new]).part(kept)


def robust_params(cells: Cells, *, redescend: bool = True, start: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Parameters and scale of the residuals.

    Huber's M-estimator with the median absolute deviation as scale, as RLM of statsmodels, which takes
    6.5 ms where this takes 0.5; then Tukey's bisquare from there, which lets go of what Huber's leaves with
    a constant pull: jobs that only ever add CPU.

    :param start: a line near by, from which it takes fewer steps
    """
    x, y, weight = cells.regressors, cells.usage, cells.weight / cells.weight.mean()
    params = _first_guess(x, y, weight) if start is None else start
    scale, least = 0.0, 1e-10 * median(np.abs(y))
    for _ in range(_MOST_STEPS):
        scaled, scale = _scaled(y - x @ params, weight)
        if scale <= least:
            return params, 0.0
        before, params = params, _weighted(x, y, weight / np.maximum(1.0, scaled / (HUBER * scale)))
        if np.abs(params - before).max() <= _TOLERANCE * np.abs(params).max():
            break
    if not redescend:
        return params, scale
    for _ in range(_MOST_STEPS):
        residual = (y - x @ params) * np.sqrt(weight)
        before, params = params, _weighted(x, y, weight * bisquare(residual / scale))
        if np.abs(params - before).max() <= _TOLERANCE * np.abs(params).max():
            break
    return params, scale


def _first_guess(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """It must not follow what is far off, or thirty steps are not enough to come back."""
    middle = median(y)
    reach = _START * median(np.abs(y - middle))
    return _weighted(x, np.clip(y, middle - reach, middle + reach) if reach > 0 else y, weight)


def bisquare(scaled: np.ndarray) -> np.ndarray:
    """Tukey's weights of residuals in units of their scale."""
    weights: np.ndarray = np.square(np.maximum(0.0, 1.0 - np.square(scaled / _BISQUARE)))
    return weights


def bisquare_draw(scaled: np.ndarray) -> float:
    """By how much a mean under those weights stays nearer to the line than the values it is of; at least 1."""
    inside = np.maximum(0.0, 1.0 - np.square(scaled / _BISQUARE))
    slopes = inside * (1.0 - 5.0 * np.square(scaled / _BISQUARE))
    slope = float(slopes.mean())
    return min(2.0, max(1.0, float(np.square(inside).mean()) / slope)) if slope > 0 else 2.0


def fit_line(
    cells: Cells, noise_shape: np.ndarray | None = None, fitted: tuple[np.ndarray, float, float] | None = None
) -> Line:
    """A robust line and its covariance.

    :param noise_shape: (C,) the deviation of the noise, up to a factor, where it is not the same everywhere
    :param fitted: what :func:`robust_params` said, where it is known, and by how much weights per row drew
        cells to the line
    """
    x, weight = cells.regressors, cells.weight / cells.weight.mean()
    params, scale, drawn = fitted or (*robust_params(cells), 1.0)
    size, count = x.shape[1], len(x)
    if scale == 0.0:
        return Line(params, np.zeros((size, size)), max(1.0, count - size), 0.0, 1.0)
    residual = cells.usage - x @ params
    scaled = residual * np.sqrt(weight) / (scale * _BISQUARE)
    inside = np.maximum(0.0, 1.0 - np.square(scaled))
    slope = max(0.2, float(np.mean(inside * (1.0 - 5.0 * np.square(scaled)) * (inside > 0))))
    pseudo = residual * np.square(inside) / slope * drawn
    shape = np.ones(count) if noise_shape is None else noise_shape
    even = pseudo / shape
    weighted = x * weight[:, None]
    inverse = np.linalg.pinv(weighted.T @ x)
    memory = memory_of(even, size)
    meat = _autocorrelated(weighted * shape[:, None], memory)
    taken = min(float(np.trace(inverse @ _autocorrelated(weighted, memory))), 0.8 * count)
    variance = math.fsum(np.square(even).tolist()) / (count - taken)
    freedom = max(2.0, (count - size) * (1 - memory**2) / (1 + memory**2) - size)
    return Line(params, variance * inverse @ meat @ inverse, freedom, memory, math.sqrt(count / (count - taken)))


def noise_exponent(fitted: np.ndarray, residual: np.ndarray) -> float:
    """The g of deviation ~ fitted ** g, from the halves with the lower and the higher fitted usage; 0 to 1."""
    if len(fitted) < 2 * LEAST_CELLS:
        return 0.0
    middle = median(fitted)
    parts = [np.abs(residual[half]) for half in (fitted <= middle, fitted > middle)]
    levels = [float(fitted[half].mean()) if half.any() else 0.0 for half in (fitted <= middle, fitted > middle)]
    spreads = [median(part) if len(part) else 0.0 for part in parts]
    if min(spreads) <= 0 or min(levels) <= 0 or levels[1] < 1.1 * levels[0]:
        return 0.0
    return float(np.clip(math.log(spreads[1] / spreads[0]) / math.log(levels[1] / levels[0]), 0.0, 1.0))


def memory_of(noise: np.ndarray, params: int) -> float:
    """Autocorrelation at lag one, freed from the bias that p parameters and few cells give it (Marriott, Pope 1954)."""
    total, count = float(noise @ noise), len(noise)
    if total <= 0 or count < 5:
        return 0.0
    raw = float(noise[1:] @ noise[:-1]) / total
    return min(_MOST_MEMORY, max(_LEAST_MEMORY, _CLIPPED * raw + (2 * params + 3 * raw) / count))


def _weighted(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    weighted = x.T * weight
    normal, right = weighted @ x, weighted @ y
    if len(normal) == 2:  # by hand: ten times as fast
        (first, both), (_, last) = normal.tolist()
        determinant = first * last - both * both
        if determinant > 1e-13 * first * last:
            level, slope = right.tolist()
            solved = np.array([last * level - both * slope, first * slope - both * level])
            params: np.ndarray = solved / determinant
            return params
    try:
        params = np.linalg.solve(normal, right)
    except np.linalg.LinAlgError:
        params = np.linalg.pinv(normal) @ right
    return params


def _scaled(residual: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    size = np.abs(residual) * np.sqrt(weight)
    return size, median(size) / MAD


def _autocorrelated(parts: np.ndarray, memory: float) -> np.ndarray:
    """Sum over i, j of parts_i parts_j' memory**|i - j|."""
    running, reach, power = parts.copy(), 1, memory
    while reach < len(parts) and abs(power) > np.finfo(float).eps:  # sums over the last 2, 4, 8... cells
        running[reach:] += power * running[:-reach]
        reach, power = 2 * reach, power * power
    crossed = parts.T @ running
    total: np.ndarray = crossed + crossed.T - parts.T @ parts
    return total
