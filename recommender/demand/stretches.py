"""Rows cut into stretches of one regime each, and a line through each stretch.

    rows  --revisions, steps-->  stretches;  each  --robust weights-->  cells (<= 400, in order of time)  -->  line

A regime is a stretch in which a request costs the same: a revision (image or pod template), or what lies
between two steps of the cost that no revision explains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np

from recommender.demand.gates import LEAST_REGIME, LEAST_WINDOWS, cost_refusal, traffic_refusal
from recommender.demand.line import (
    HUBER,
    MOST_CELLS,
    Cells,
    Line,
    bisquare,
    bisquare_draw,
    fit_line,
    gather,
    noise_exponent,
    robust_params,
)
from recommender.demand.results import noise_shape
from recommender.demand.rows import EARLIER, Rows
from recommender.demand.steps import change_points
from recommender.quantiles import MAD, median, thinned

_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples, modulo 1, fall into no rhythm


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """One regime while it is fitted."""

    name: str
    deploy: bool
    rows: Rows
    line: Line | None
    refusal: str | None
    exponent: float


def stretches_of(rows: Rows) -> list[Stretch]:
    """Regimes in order of time: by revision, and within each by the steps that it does not explain."""
    found: list[Stretch] = []
    several = len(set(rows.revisions)) > 1
    for code, name in enumerate(rows.revisions):
        own = rows.part(rows.regime == code) if several else rows
        if not len(own.usage):
            continue
        starts, line = _steps(own)
        edges = [-math.inf, *starts, math.inf]
        for index, (start, end) in enumerate(pairwise(edges)):
            part = own.part((own.time >= start) & (own.time < end)) if starts else own
            stamp = datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%d %H:%M") if index else ""
            label = f"changed at {stamp} UTC" if index else name
            found.append(fit_stretch(label, part, None if starts else line, deploy=several and not index))
    whole = found if len(found) == 1 else [each for each in found if len(each.rows.usage) >= LEAST_REGIME]
    if any(each.refusal is None for each in whole) and [each.name for each in whole] != [EARLIER]:
        return whole
    return found if len(found) == 1 else [fit_stretch("all", rows, None, deploy=False)]


def fit_stretch(name: str, rows: Rows, start: np.ndarray | None, *, deploy: bool) -> Stretch:
    """A line through the rows of one regime, or why there is none.

    :param start: a line through these rows, where it is known
    """
    refusal = traffic_refusal(rows.rate)
    if len(rows.usage) < LEAST_REGIME:
        return Stretch(name, deploy, rows, None, refusal, 0.0)
    cells, robust = _cells(rows, start, redescend=True)
    if len(cells.usage) < LEAST_REGIME or np.ptp(cells.regressors[:, 1]) <= 0:
        return Stretch(name, deploy, rows, None, refusal or "traffic was too even to tell", 0.0)
    fitted = cells.regressors @ robust[0]
    exponent = noise_exponent(fitted, cells.usage - fitted)
    line = fit_line(cells, noise_shape(fitted, float(np.mean(fitted)), exponent), robust)
    return Stretch(name, deploy, rows, line, refusal or cost_refusal(line), exponent)


def through_origin(stretch: Stretch, cost: float, half: float) -> tuple[float, float, float]:
    """No base load, and the cost that goes with that."""
    cells, _ = _cells(stretch.rows, None, redescend=True)
    line = fit_line(replace(cells, regressors=cells.regressors[:, 1:]))
    at_origin = float(line.params[0])
    return (0.0, at_origin, half) if at_origin > 0 else (0.0, cost, half)


def _cells(rows: Rows, start: np.ndarray | None, *, redescend: bool) -> tuple[Cells, tuple[np.ndarray, float, float]]:
    """Cells, in which windows far from the line weigh little or nothing, with what :func:`fit_line` takes.

    :param start: a line through these rows, where it is known: it spares a pass
    """
    count = len(rows.usage)
    one = np.ones(count)
    regressors = np.column_stack([one, rows.rate])
    if count <= MOST_CELLS and len(rows.names) == 1:
        cells = Cells(regressors, rows.usage, one, rows.time)
        return cells, (*robust_params(cells, redescend=redescend), 1.0)
    cells, drawn, scale = _sample(rows), 1.0, 0.0
    params = robust_params(cells, redescend=False)[0] if start is None else start
    for _ in range(2 if redescend and start is None else 1):
        residual = np.abs(rows.usage - (params[0] + params[1] * rows.rate))
        scale = median(thinned(residual)) / MAD
        if scale <= 0:  # most windows lie on the line
            weight = (residual <= 0).astype(float)
        else:
            weight = bisquare(residual / scale) if redescend else 1 / np.maximum(1.0, residual / (HUBER * scale))
        drawn = bisquare_draw(thinned(residual) / scale) if scale > 0 else 1.0
        cells = gather(regressors, rows.usage, weight, rows.time)
        params, scale = robust_params(cells, redescend=redescend, start=params)
    return cells, (params, scale, drawn)


def _sample(rows: Rows) -> Cells:
    """At most ``MOST_CELLS`` rows, one from each stretch of time, at places that no rhythm of the load follows."""
    count = len(rows.usage)
    chosen = np.arange(count)
    if count > MOST_CELLS:
        edges = np.arange(MOST_CELLS + 1) * count // MOST_CELLS
        within = np.modf(np.arange(MOST_CELLS) * _GOLDEN)[0]
        chosen = edges[:-1] + (within * np.diff(edges)).astype(int)
    regressors = np.column_stack([np.ones(len(chosen)), rows.rate[chosen]])
    return Cells(regressors, rows.usage[chosen], np.ones(len(chosen)), rows.time[chosen])


def _steps(rows: Rows) -> tuple[list[float], np.ndarray | None]:
    """Times at which the cost of a request steps, and the line through everything."""
    if len(rows.usage) < 2 * LEAST_WINDOWS or traffic_refusal(rows.rate):
        return [], None
    cells, (params, *_) = _cells(rows, None, redescend=False)
    fitted = np.maximum(cells.regressors @ params, 1e-3 * float(cells.usage.mean()))
    ratio = np.log(np.maximum(cells.usage, 1e-3 * fitted) / fitted)
    return [float(cells.time[position]) for position in change_points(ratio)], params
