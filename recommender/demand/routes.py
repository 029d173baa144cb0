"""Cost per route class, where the windows carry ``requests:<route class>``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from recommender.demand.gates import WIDEST, traffic_refusal
from recommender.demand.line import bisquare, fit_line, gather
from recommender.demand.results import RouteCost
from recommender.demand.rows import column_of
from recommender.demand.stretches import Stretch
from recommender.quantiles import MAD, median

_MOST_INFLATION = 10.0  # of the variance of one route class by the others (VIF)
_ROUTE = "requests:"


def routes_of(frame: pd.DataFrame, last: Stretch) -> tuple[RouteCost, ...]:
    """Cost per route class, by least squares that knows no negative cost, where the windows carry the counts."""
    names = sorted(str(name) for name in frame.columns if str(name).startswith(_ROUTE))
    if not names:
        return ()
    position = last.rows.position
    seconds = column_of(frame, "duration_seconds")[position]
    rates = np.column_stack([np.nan_to_num(column_of(frame, name)[position]) / seconds for name in names])
    assert last.line is not None  # pooled gave it one
    residual = last.rows.usage - last.line.params[0] - last.line.params[1] * last.rows.rate
    scale = median(np.abs(residual)) / MAD
    weight = bisquare(residual / (2 * scale)) if scale > 0 else np.ones(len(residual))
    cells = gather(np.column_stack([np.ones(len(rates)), rates]), last.rows.usage, weight, last.rows.time)
    inflation = _variance_inflation(cells.regressors[:, 1:])
    line = fit_line(cells)
    params, halves = line.params, line.half_widths()
    if (params < 0).any():
        params = nnls(cells.regressors * np.sqrt(cells.weight)[:, None], cells.usage * np.sqrt(cells.weight))[0]
    found = []
    for index, name in enumerate(names):
        cost, half, factor = float(params[index + 1]), float(halves[index + 1]), float(inflation[index])
        reason = traffic_refusal(rates[:, index])
        if reason is None and factor >= _MOST_INFLATION:
            reason = f"its traffic moves with the other classes' (VIF {factor:.0f})"
        if reason is None and half > WIDEST * cost:
            reason = "its cost is too small or too uncertain to tell"
        interval = (max(0.0, cost - half), cost + half)
        route = RouteCost(name.removeprefix(_ROUTE), cost, interval, factor, None)
        found.append(
            route if reason is None else replace(route, seconds_per_request=None, interval=None, reason=reason)
        )
    return tuple(found)


def _variance_inflation(rates: np.ndarray) -> np.ndarray:
    """(k,) 1 / (1 - R2) of each column on the others: the diagonal of the inverse correlation; inf when alike."""
    spread = rates.std(axis=0)
    if (spread <= 0).any() or len(rates) <= rates.shape[1]:
        return np.full(rates.shape[1], np.inf)
    centred = (rates - rates.mean(axis=0)) / spread
    correlation = centred.T @ centred / len(rates)
    if np.linalg.cond(correlation) > 1e8:
        return np.full(rates.shape[1], np.inf)
    inflation: np.ndarray = np.diag(np.linalg.inv(correlation))
    return inflation
