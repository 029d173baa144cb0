"""How fast memory grows with the age of a pod, over all of its lives at once.

    troughs of each life, over their median  =  level of the life + slope x age + a warm-up that fades + noise

Generalised least squares with the noise's autocorrelation (D. Cochrane, G. H. Orcutt, J. Am. Stat. Assoc. 44
(1949)). One slope for all lives sees what each of them is too short to show; and a level of its own for each
leaves out what restarts do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from recommender.quantiles import median
from recommender.series import DAY_SECONDS
from recommender.troughs import SHORT_BLOCKS, Life, block_seconds, seen, troughs, watched, without_traffic

_LEAST_OF_A_LIFE, _LEAST_OF_ALL = 4, 12  # blocks
_WARM_SHARES = np.geomspace(0.01, 0.2, 12)  # of the highest age, in which a warm-up fades by e
_BEND_SHARES = (0.003, 0.01, 0.03, 0.1, 0.3)  # at which a logarithm bends
_SAME_START_SECONDS = 6 * 3600.0  # of a rollout
_MOST_MEMORY = 0.95  # autocorrelation


@dataclass(frozen=True, slots=True)
class Ageing:
    """Growth with age.

    :ivar slope: share of the level, per day
    :ivar deviation: of the slope
    :ivar freedom: degrees of freedom
    :ivar bends: a logarithm of the age explains it as well: it may come to rest
    """

    slope: float
    deviation: float
    freedom: int
    bends: bool

    @property
    def sigmas(self) -> float:
        """The slope in units of its deviation."""
        return self.slope / max(self.deviation, 1e-12)

    @property
    def p_value(self) -> float:
        """One-sided: of so much growth by chance."""
        return float(stdtr(self.freedom, -self.sigmas))

    def interval(self, level: float) -> tuple[float, float]:
        """Of the slope, two-sided."""
        half = self.deviation * float(stdtrit(self.freedom, (1 + level) / 2))
        return self.slope - half, self.slope + half


def ageing_of(lives: Sequence[Life], begin: float) -> Ageing | None:
    """The growth with age that the lives have in common, or None where too little was seen.

    :param begin: unix seconds from which on anything was seen: a life that began later warmed up
    """
    seconds = block_seconds(max(map(watched, lives), default=0.0) / DAY_SECONDS, SHORT_BLOCKS)
    course = [(*_course(life, seconds), life.unix_seconds[0] > begin + seconds) for life in lives]
    known = [each for each in course if len(each[0]) >= _LEAST_OF_A_LIFE]
    if sum(len(age) for age, *_ in known) < _LEAST_OF_ALL:
        return None
    age, values = (np.concatenate([each[place] for each in known]) for place in (0, 1))
    life = np.repeat(np.arange(len(known)), [len(each[0]) for each in known])
    born = np.array([each[2] for each in known])
    levels = (life[:, None] == np.arange(len(known))).astype(float)
    fading = [np.exp(-age / (share * age.max())) for share in _WARM_SHARES]
    groups = [group for group in (born[life], ~born[life]) if group.any()]
    # what was there from the beginning may be of any age: it warmed up as well, or did not
    warming = [[], *([group] for group in groups), *([groups] if len(groups) > 1 else [])]
    fits = [
        _fit(np.column_stack([levels, *(group * each for group in chosen), age]), values, life)
        for chosen in warming
        for each in (fading if chosen else fading[:1])
    ]
    slope, deviation, freedom, left = _averaged(fits)
    by_logarithm = (np.column_stack([levels, np.log1p(age / (share * age.max()))]) for share in _BEND_SHARES)
    bends = min(_squares(design, values) for design in by_logarithm) <= left
    shared = math.sqrt(len(lives) / generations_of(lives))  # what moves one replica moves them all
    return Ageing(slope, shared * deviation, freedom, bends)


def generations_of(lives: Sequence[Life]) -> int:
    """How many lives follow each other: replicas that started at the same time are one."""
    starts = np.sort([float(life.unix_seconds[0]) for life in lives])
    return 1 + int(np.count_nonzero(np.diff(starts) > _SAME_START_SECONDS))


def _course(life: Life, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Age in days of each block but the first, and its trough over their median."""
    time, used, rate = seen(life)
    if len(time) < _LEAST_OF_A_LIFE:
        return np.zeros(0), np.zeros(0)
    at, trough, load = troughs(time, used, rate, seconds)
    if load is not None:
        trough = without_traffic(trough, load)
    return (at[1:] - time[0]) / DAY_SECONDS, trough[1:] / median(trough)


@dataclass(frozen=True, slots=True)
class _Fit:
    """The slope beside one warm-up, and the squares that plain least squares leave."""

    slope: float
    variance: float
    freedom: int
    squares: float
    rows: int


def _averaged(fits: Sequence[_Fit]) -> tuple[float, float, int, float]:
    """Slope, deviation, degrees of freedom and least squares over warm-ups, each weighed by how well it fits.

    K. P. Burnham, D. R. Anderson, Model Selection and Multimodel Inference (2002), 4.3: which warm-up it is
    adds to the doubt about the slope.
    """
    least = min(fit.squares for fit in fits)
    scores = np.array([fit.rows * math.log(max(fit.squares, 1e-12)) - fit.freedom * math.log(fit.rows) for fit in fits])
    weights = np.exp((scores.min() - scores) / 2)  # by BIC
    weights /= weights.sum()
    slope = math.fsum(weight * fit.slope for weight, fit in zip(weights, fits, strict=True))
    deviation = math.fsum(
        weight * math.hypot(math.sqrt(fit.variance), fit.slope - slope)
        for weight, fit in zip(weights, fits, strict=True)
    )
    return slope, deviation, min(fit.freedom for fit in fits), least


def _fit(design: np.ndarray, values: np.ndarray, life: np.ndarray) -> _Fit:
    """The slope is the parameter of the last column; rows of a life follow each other."""
    follows = np.flatnonzero(np.diff(life, prepend=-1) == 0)
    rest, freedom = values - design @ (np.linalg.pinv(design) @ values), max(1, len(values) - design.shape[1])
    power = float(rest @ rest)
    raw = float(rest[follows] @ rest[follows - 1]) / power if power > 0 else 0.0
    memory = min(_MOST_MEMORY, max(0.0, raw + design.shape[1] / len(follows)))  # a fit takes some of it away
    whitened, target = design.copy(), values.copy()
    whitened[follows] -= memory * design[follows - 1]
    target[follows] -= memory * values[follows - 1]
    inverse = np.linalg.pinv(whitened)
    params = inverse @ target
    variance = float(np.square(target - whitened @ params).sum()) / freedom * float(inverse[-1] @ inverse[-1])
    return _Fit(float(params[-1]), variance, freedom, power, len(values))


def _squares(design: np.ndarray, values: np.ndarray) -> float:
    return float(np.square(values - design @ (np.linalg.pinv(design) @ values)).sum())
