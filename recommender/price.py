"""CPU request from usage alone, by the price of a minute over it.

    R* = argmin_R   1 - E min(u, R) / R   +   price * P(u > R)

The first term is what of the request is not used, the second what it costs to be over it, where
a container has to live on what its neighbours leave. One price holds for all containers, so
that minutes over are spent where they save most: a fixed percentile spends the same on a flat
series, where the last percent costs nothing, as on a bursty one, where it costs a multiple.

E and P are over the last fourteen days, recent days weighing more. Tomorrow's tail is not today's:
P is blurred by as much as the series' own tail wanders from day to day. The request moves only when
the objective gains enough to be worth the change. Constants: docs/decisions/0007.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recommender.series import DAY_SECONDS, Series

#: One percent of minutes over is worth so many percent of the request.
PRICE = 8.0
_WINDOW_DAYS = 14
_HALF_LIFE_DAYS = 3.0
_MOST_OVER = 0.05  # never planned for, whatever it saves
_COUNTS_AS_CHANGE = 0.10
_GAIN_TO_RAISE, _GAIN_TO_LOWER = 0.15, 0.20
_RAISE_FURTHER = 1.05  # so that a raise need not be repeated
_LEAST_COVERAGE = 0.02  # of the fullest day
_TAIL = 0.98  # the quantile whose wandering from day to day is the blur
_USUAL_WANDER, _WEIGHT_OF_USUAL_DAYS = 0.03, 2.0
_LEAST_WANDER, _MOST_WANDER, _MOST_STEP = 0.01, 0.10, 0.2
_GRID_STEP = 0.01  # of the logarithm of the request


@dataclass(frozen=True, slots=True)
class Priced:
    """The objective over candidate requests.

    :ivar requests: (n,) ascending, in the unit of the series
    :ivar over: (n,) expected share of minutes over each
    :ivar unused: (n,) expected share of each that is not used
    :ivar wander: standard deviation of the tail's logarithm from day to day
    """

    requests: np.ndarray
    over: np.ndarray
    unused: np.ndarray
    wander: float

    def best(self, price: float) -> float:
        """The request that costs least."""
        return float(self.requests[int(np.argmin(self.objective(price)))])

    def objective(self, price: float) -> np.ndarray:
        """(n,) what each request costs; those that are over too often are out of the question."""
        forbidden = np.where(self.over > _MOST_OVER, 9.0 + self.over, 0.0)
        cost: np.ndarray = self.unused + price * self.over + forbidden
        return cost


@dataclass(frozen=True, slots=True)
class _Day:
    values: np.ndarray  # ascending
    weight: float


def priced(pods: Sequence[Series], now: float) -> Priced | None:
    """The objective from what was used in the days before `now` (unix seconds); None without any use."""
    days = _days(pods, now)
    top = max((float(day.values[-1]) for day in days), default=0.0)
    if top <= 0:
        return None
    middle = float(np.quantile(np.concatenate([day.values for day in days]), 0.3))
    low = max(middle, top * 1e-4) / 2
    requests = np.exp(np.arange(np.log(low), np.log(2 * top), _GRID_STEP))
    weights = np.array([day.weight for day in days])
    over, served = np.zeros(len(requests)), np.zeros(len(requests))
    for day, weight in zip(days, weights / weights.sum(), strict=True):
        below = np.searchsorted(day.values, requests, side="right")
        used = np.concatenate([[0.0], np.cumsum(day.values)])[below]
        over += weight * (1 - below / len(day.values))
        served += weight * (used + (len(day.values) - below) * requests) / len(day.values)
    wander = _wander(days)
    return Priced(requests, _blurred(over, wander), 1 - served / requests, wander)


def request_by_price(pods: Sequence[Series], now: float, current: float | None, price: float = PRICE) -> float | None:
    """The request of one pod; a :data:`recommender.baselines.Rule`.

    None without data and without a current value; the current value where nothing was used.
    """
    held = current if current is not None and np.isfinite(current) and current > 0 else None
    found = priced(pods, now)
    if found is None:
        return held if held is not None else 0.0 if any(len(pod.before(now).known) for pod in pods) else None
    cost = found.objective(price)
    best = int(np.argmin(cost))
    wanted = float(found.requests[best])
    if held is None:
        return wanted
    gain = _cost_at(held, found, cost) - float(cost[best])
    if abs(wanted / held - 1) <= _COUNTS_AS_CHANGE or gain <= (_GAIN_TO_RAISE if wanted > held else _GAIN_TO_LOWER):
        return held
    return wanted * (_RAISE_FURTHER if wanted > held else 1.0)


def _days(pods: Sequence[Series], now: float) -> list[_Day]:
    """The days before `now`, newest first; a day with gaps weighs less, one with next to nothing is left out."""
    by_age: dict[float, list[np.ndarray]] = defaultdict(list)
    for pod in pods:
        part = pod.between(now - _WINDOW_DAYS * DAY_SECONDS, now).without_missing()
        ages = np.floor((now - part.unix_seconds - 1e-9) / DAY_SECONDS)
        changes = np.flatnonzero(np.diff(ages)) + 1  # samples are in order of time
        for values, age in zip(
            np.split(part.values, changes), ages[np.r_[0, changes]] if len(ages) else (), strict=False
        ):
            by_age[float(age)].append(values)
    found = sorted(by_age)
    groups = [np.sort(np.concatenate(by_age[age])) for age in found]
    fullest = max((len(group) for group in groups), default=0)
    return [
        _Day(group, len(group) / fullest * 0.5 ** (age / _HALF_LIFE_DAYS))
        for age, group in zip(found, groups, strict=True)
        if len(group) > _LEAST_COVERAGE * fullest
    ]


def _wander(days: Sequence[_Day]) -> float:
    """How far the tail moves from one day to the next, drawn towards the usual where few days are known."""
    tails = np.log([max(float(np.quantile(day.values, _TAIL)), 1e-12) for day in days])
    steps = np.clip(np.abs(np.diff(tails)), 0.0, _MOST_STEP)
    known = len(steps) * (1.05 * float(np.median(steps))) ** 2 if len(steps) else 0.0
    usual = _WEIGHT_OF_USUAL_DAYS * _USUAL_WANDER**2
    mixed = float(np.sqrt((usual + known) / (_WEIGHT_OF_USUAL_DAYS + len(steps))))
    return min(_MOST_WANDER, max(_LEAST_WANDER, mixed))


def _blurred(over: np.ndarray, wander: float) -> np.ndarray:
    """Convolved with a normal distribution of the logarithm of the request."""
    reach = int(3 * wander / _GRID_STEP)
    offsets = np.arange(-reach, reach + 1) * _GRID_STEP
    kernel = np.exp(-0.5 * (offsets / wander) ** 2)
    smooth: np.ndarray = np.convolve(np.pad(over, reach, mode="edge"), kernel / kernel.sum(), mode="valid")
    return smooth


def _cost_at(request: float, found: Priced, cost: np.ndarray) -> float:
    if request > found.requests[-1]:  # nothing is over it; all that is above the grid is not used
        return float(1 - (1 - cost[-1]) * found.requests[-1] / request)
    place = round(float(np.log(request / found.requests[0])) / _GRID_STEP)
    return float(cost[min(len(cost) - 1, max(0, place))])
