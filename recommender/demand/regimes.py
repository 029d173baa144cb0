"""Regimes of one workload beside each other: pooled, and told.

A regime whose traffic is too short or too even borrows its base load from the others, and the cost of each is
drawn towards the others' as far as they do not differ for certain (empirical Bayes).

Reference: R. DerSimonian and N. Laird, Controlled Clinical Trials 7 (1986).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from recommender.demand.gates import LEAST_REGIME
from recommender.demand.line import Line, fit_line, gather
from recommender.demand.results import Regime
from recommender.demand.rows import Rows
from recommender.demand.stretches import Stretch


def pooled(stretches: list[Stretch]) -> list[Stretch] | str:
    """Every regime with a line; costs drawn together. A reason when no regime can be told."""
    told = [index for index, each in enumerate(stretches) if each.refusal is None]
    if not told:
        return next(each.refusal for each in reversed(stretches) if each.refusal)
    lines = []
    for index, each in enumerate(stretches):
        nearest = min(told, key=lambda other: (abs(other - index), other))
        lender = stretches[nearest].line
        assert lender is not None  # told
        line = each.line if index in told else _borrowing(each.rows, lender)
        if line is not None:
            lines.append((each, line))
    if len(lines) == 1:
        return [replace(lines[0][0], line=lines[0][1])]
    costs = np.array([line.params[1] for _, line in lines])
    deviations = np.array([math.sqrt(max(line.covariance[1, 1], 0.0)) for _, line in lines])
    drawn = np.exp(draw_together(np.log(costs), deviations / costs))
    result = []
    for (each, line), cost in zip(lines, drawn, strict=True):
        # a new cost keeps the line where its windows are
        base = line.params[0] + (line.params[1] - cost) * float(each.rows.rate.mean())
        result.append(replace(each, line=replace(line, params=np.array([base, cost]))))
    return result


def regimes_of(stretches: list[Stretch]) -> tuple[Regime, ...]:
    """Every regime, with how its cost changed against the one before."""
    regimes: list[Regime] = []
    before: tuple[float, float] | None = None
    for each in stretches:
        assert each.line is not None  # pooled gave each one
        cost, half = float(each.line.params[1]), float(each.line.half_widths()[1])
        change, interval = None, None
        if before is not None:
            log_ratio = math.log(cost / before[0])
            wide = math.hypot(half / cost, before[1] / before[0])
            change, interval = math.expm1(log_ratio), (math.expm1(log_ratio - wide), math.expm1(log_ratio + wide))
        start = float(each.rows.time[0])
        bounds = (max(0.0, cost - half), cost + half)
        regimes.append(Regime(each.name, start, len(each.rows.usage), cost, bounds, change, interval, each.deploy))
        before = (cost, half)
    return tuple(regimes)


def regime_notes(stretches: list[Stretch], rows: Rows) -> list[str]:
    """What a reader should know of the regimes: one too short to be told, and every change of the cost for certain."""
    newest = rows.revisions[int(rows.regime.max())]
    notes = []
    if len(rows.revisions) > 1 and newest not in {each.name for each in stretches} and stretches[-1].name != "all":
        notes.append(f"{newest} has too few windows: the cost is that of {stretches[-1].name}")
    return notes + [
        f"{'release ' if each.deploy else ''}{each.name}: {each.change:+.0%} CPU per request"
        for each in regimes_of(stretches)
        if each.change_interval and not each.change_interval[0] <= 0 <= each.change_interval[1]
    ]


def draw_together(values: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Values (R,) drawn towards their mean as far as they do not differ for certain (DerSimonian and Laird)."""
    if len(values) < 2 or not (deviations > 0).all():
        return values
    weights = 1 / np.square(deviations)
    centre = float(weights @ values) / float(weights.sum())
    heterogeneity = float(weights @ np.square(values - centre))
    between = (heterogeneity - (len(values) - 1)) / float(weights.sum() - np.square(weights).sum() / weights.sum())
    between = max(0.0, between)
    weights = 1 / (np.square(deviations) + between)
    centre = float(weights @ values) / float(weights.sum())
    own = between / (between + np.square(deviations))
    drawn: np.ndarray = centre + own * (values - centre)
    return drawn


def _borrowing(rows: Rows, lender: Line) -> Line | None:
    """The line of a regime that cannot tell its base load: another's base, its own cost."""
    served = rows.part(rows.rate > 0)
    base, base_variance = max(0.0, float(lender.params[0])), float(lender.covariance[0, 0])
    if len(served.usage) < LEAST_REGIME:
        return None
    cells = gather(served.rate[:, None], served.usage - base, np.ones(len(served.rate)), served.time)
    line = fit_line(cells)
    if line.params[0] <= 0:
        return None
    cost_variance = float(line.covariance[0, 0]) + base_variance / float(served.rate.mean()) ** 2
    both = -base_variance / float(served.rate.mean())
    covariance = np.array([[base_variance, both], [both, cost_variance]])
    params = np.array([base, float(line.params[0])])
    return replace(line, params=params, covariance=covariance, freedom=min(line.freedom, lender.freedom))
