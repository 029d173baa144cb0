"""Days -> figures per recommender; frontier; ours against each, paired by workload."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recommender.backtest.replay import Day
from recommender.price import PRICE

_CHANGE = 0.10
_DAY_OVER = 0.05
_BOOTSTRAPS = 2000
_SEED = 7


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over all judged days of all workloads; shares in percent.

    :ivar waste_percent: one less mean use over request; can be negative
    :ivar slack_percent: what is left of the request, on average over the minutes
    :ivar minutes_over_percent: minutes with more use than request
    :ivar days_over_5_percent: days with more than 5 % of such minutes
    :ivar days_over_percent: days with any
    :ivar days_changed_percent: days on which the request changed by more than 10 %
    :ivar days_touched_percent: days on which it changed at all
    :ivar flips_percent: days with a change of more than 10 % against the direction of the one before
    :ivar drift_per_day: mean of the absolute change of the logarithm
    :ivar regret: mean cost above the oracle's, cost being slack + price x share over
    :ivar answered_percent: days with an answer
    """

    days: int
    answered_percent: float
    waste_percent: float
    slack_percent: float
    minutes_over_percent: float
    days_over_percent: float
    days_over_5_percent: float
    days_changed_percent: float
    days_touched_percent: float
    flips_percent: float
    drift_per_day: float
    regret: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Ours against another, by workload.

    :ivar wins_percent: workloads in which ours costs less (ties count half)
    :ivar saves: mean cost of the other less ours, with its 95 % bootstrap interval over workloads
    """

    wins_percent: float
    saves: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """One setting of a rule's margin, or of our price."""

    setting: float
    minutes_over_percent: float
    slack_percent: float
    waste_percent: float
    days_changed_percent: float


def scores_of(days: Sequence[Day], oracle: Sequence[Day]) -> Scores:
    """Figures of one rule; `oracle` holds the same days."""
    answered = [day for day in days if day.request is not None]
    best = {(day.workload, day.start_unix_seconds): cost_of(day) for day in oracle}
    regrets = [cost_of(day) - best[day.workload, day.start_unix_seconds] for day in answered]
    steps = [day.step or 0.0 for day in answered]
    over = np.array([day.over for day in answered])
    changed = np.abs(np.expm1(steps)) > _CHANGE
    return Scores(
        len(answered),
        _percent(len(answered) / len(days)) if days else 0.0,
        _percent(_mean([day.waste for day in answered])),
        _percent(_mean([day.slack for day in answered])),
        _percent(_mean(over)),
        _percent(_mean(over > 0)),
        _percent(_mean(over > _DAY_OVER)),
        _percent(_mean(changed)),
        _percent(_mean(np.array(steps) != 0)),
        _percent(_flips(answered) / len(answered)) if answered else 0.0,
        round(_mean(np.abs(steps)), 4),
        round(_mean(regrets), 4),
    )


def frontier_point(setting: float, days: Sequence[Day], oracle: Sequence[Day]) -> FrontierPoint:
    """Where a setting lies."""
    scores = scores_of(days, oracle)
    return FrontierPoint(
        setting,
        scores.minutes_over_percent,
        scores.slack_percent,
        scores.waste_percent,
        scores.days_changed_percent,
    )


def slack_at(points: Sequence[FrontierPoint], minutes_over_percent: float) -> float | None:
    """The least slack of a setting that is over at most so long; None when none is."""
    holding = [point.slack_percent for point in points if point.minutes_over_percent <= minutes_over_percent]
    return min(holding, default=None)


def pair(ours: Sequence[Day], other: Sequence[Day]) -> Pair:
    """Ours against another over the same workloads."""
    mine, theirs = _cost_by_workload(ours), _cost_by_workload(other)
    names = sorted(mine.keys() & theirs.keys())
    saved = np.array([theirs[name] - mine[name] for name in names])
    if not len(saved):
        return Pair(0.0, 0.0, (0.0, 0.0))
    wins = float((saved > 0).mean() + 0.5 * (saved == 0).mean())
    draws = np.random.default_rng(_SEED).integers(len(saved), size=(_BOOTSTRAPS, len(saved)))
    low, high = np.quantile(saved[draws].mean(axis=1), [0.025, 0.975])
    return Pair(_percent(wins), round(float(saved.mean()), 4), (round(float(low), 4), round(float(high), 4)))


def worst(days: Sequence[Day], number: int = 10) -> list[Day]:
    """The days that cost most."""
    return sorted((day for day in days if day.request is not None), key=lambda day: (-cost_of(day), day.workload))[
        :number
    ]


def cost_of(day: Day) -> float:
    """What a day costs: slack, and minutes over at the price that our rule puts on them."""
    return day.slack + PRICE * day.over


def _cost_by_workload(days: Sequence[Day]) -> dict[str, float]:
    costs: dict[str, list[float]] = defaultdict(list)
    for day in days:
        if day.request is not None:
            costs[day.workload].append(cost_of(day))
    return {name: _mean(values) for name, values in costs.items()}


def _flips(days: Sequence[Day]) -> int:
    """Changes of more than 10 % that go against the last one of the same workload."""
    flips = 0
    last: dict[str, float] = {}
    for day in days:
        step = day.step or 0.0
        if abs(np.expm1(step)) <= _CHANGE:
            continue
        flips += last.get(day.workload, 0.0) * step < 0
        last[day.workload] = step
    return flips


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _percent(share: float) -> float:
    return round(100 * share, 3)
