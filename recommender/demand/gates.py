"""What must hold before a cost per request is told: the gates of docs/decisions/0008."""

from __future__ import annotations

import numpy as np

from recommender.demand.line import Line
from recommender.quantiles import quantile, thinned

LEAST_WINDOWS = 20
LEAST_REGIME = 5  # windows, to have a cost of its own
WIDEST = 0.5  # half an interval, as a share of the cost
_LEAST_VARIATION = 0.2  # coefficient of variation of the rate ...
_LEAST_RANGE = 2.0  # ... or ratio of its 95th to its 5th percentile


def traffic_refusal(rate: np.ndarray) -> str | None:
    """Why traffic (n,) in requests/s tells no slope; None when it does."""
    busy = int((rate > 0).sum())
    if busy < LEAST_WINDOWS:
        return f"{busy} of {LEAST_WINDOWS} windows with requests needed"
    thin = thinned(rate)
    low, high = quantile(thin, 0.05), quantile(thin, 0.95)
    if rate.std() < _LEAST_VARIATION * rate.mean() and high < _LEAST_RANGE * max(low, 1e-9):
        return "traffic was too even to tell base load from cost per request"
    return None


def cost_refusal(line: Line) -> str | None:
    """Why the cost of a fitted line is not told; None when it is."""
    cost, half = float(line.params[1]), float(line.half_widths()[1])
    if cost <= 0 or cost - half <= 0:
        return "CPU does not rise with its requests"
    if half > WIDEST * cost:
        return f"cost per request is only known within {half / cost:.0%}"
    return None
