"""CPU as base load plus cost per request, by robust regression.

    cpu_cores = base_cores + seconds_per_request * requests_per_second

Huber's M-estimator (statsmodels RLM) weighs down windows in which something else ran. Both
parameters are at least zero: a fit that says otherwise is refitted without the parameter, or
refused. The gates are those of docs/decisions/0003: a slope needs traffic that varies.

Reference: P. J. Huber, Robust Statistics (1981); statsmodels.robust.robust_linear_model.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from statsmodels.robust.norms import HuberT
from statsmodels.robust.robust_linear_model import RLM
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from recommender.history import History

_LEAST_WINDOWS = 20
_UNKNOWN_DRIFT = 0.2
_LEAST_VARIATION = 0.2  # coefficient of variation of the rate ...
_LEAST_RANGE = 2.0  # ... or ratio of its 95th to its 5th percentile


@dataclass(frozen=True, slots=True)
class DemandFit:
    """A fitted demand.

    :ivar base_cores: load without traffic, with its 95 % interval
    :ivar seconds_per_request: CPU time per request, with its 95 % interval
    :ivar r_squared: share of the variance of CPU that it explains
    """

    base_cores: float
    base_interval: tuple[float, float]
    seconds_per_request: float
    cost_interval: tuple[float, float]
    r_squared: float
    windows: int

    def cores_at(self, requests_per_second: np.ndarray) -> np.ndarray:
        """Fitted CPU."""
        return self.base_cores + self.seconds_per_request * requests_per_second


@dataclass(frozen=True, slots=True)
class NotIdentifiable:
    """Why there is no fit."""

    reason: str


def fit_demand(history: History) -> DemandFit | NotIdentifiable:
    """Fit the demand of one container, or say why it cannot be told."""
    frame = history.frame.dropna(subset=["cpu_cores"])
    rate, cores = frame["requests_per_second"].to_numpy(), frame["cpu_cores"].to_numpy()
    refusal = _refusal(rate) if len(rate) else "its CPU was not seen"
    if refusal:
        return NotIdentifiable(refusal)
    (base, cost), intervals = _robust(cores, np.column_stack([np.ones_like(rate), rate]))
    if base < 0:  # the line through the origin
        (cost,), (interval,) = _robust(cores, rate[:, None])
        base, intervals = 0.0, np.array([[0.0, 0.0], interval])
    low, high = (float(each) for each in intervals[1])
    if cost <= 0 or low <= 0:
        return NotIdentifiable("CPU does not rise with its requests")
    if (high - low) / 2 > cost / 2:
        return NotIdentifiable(f"cost per request is only known within {(high - low) / 2 / cost:.0%}")
    residual, spread = cores - (base + cost * rate), cores - cores.mean()
    return DemandFit(
        float(base),
        (max(0.0, float(intervals[0][0])), max(0.0, float(intervals[0][1]))),
        float(cost),
        (low, high),
        max(0.0, float(1 - (residual @ residual) / (spread @ spread))),
        len(frame),
    )


def _robust(cores: np.ndarray, regressors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and their 95 % intervals; a perfect fit has intervals without width."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it says that the fit is perfect
        result = RLM(cores, regressors, M=HuberT()).fit()
    params, intervals = np.asarray(result.params), np.asarray(result.conf_int())
    return params, np.where(np.isfinite(intervals), intervals, params[:, None])


def _refusal(rate: np.ndarray) -> str | None:
    busy = int((rate > 0).sum())
    if busy < _LEAST_WINDOWS:
        return f"{busy} of {_LEAST_WINDOWS} windows with requests needed"
    low, high = np.quantile(rate, [0.05, 0.95])
    if rate.std() < _LEAST_VARIATION * rate.mean() and high < _LEAST_RANGE * max(low, 1e-9):
        return "traffic was too even to tell base load from cost per request"
    return None


def cost_drift(history: History, fit: DemandFit | NotIdentifiable, blocks: int = 8) -> float:
    """How far CPU for the same traffic wanders: deviation of its logarithm over blocks of time.

    On a shared machine the same request costs now more, now less; the latency that a limit
    adds reacts to that about three times as strongly. At least 3 %, our best machine's figure.
    """
    frame = history.frame.dropna(subset=["cpu_cores"])
    rate, cores = frame["requests_per_second"].to_numpy(), frame["cpu_cores"].to_numpy()
    if not len(cores):
        return _UNKNOWN_DRIFT
    expected = fit.cores_at(rate) if isinstance(fit, DemandFit) else np.full(len(cores), max(cores.mean(), 1e-9))
    if not isinstance(fit, DemandFit) and rate.sum() > 0:
        expected = rate * (cores.sum() / rate.sum())
    parts = [part for part in np.array_split(np.arange(len(cores)), blocks) if len(part)]
    ratios = [cores[part].sum() / expected[part].sum() for part in parts if expected[part].sum() > 0]
    logs = [float(np.log(ratio)) for ratio in ratios if ratio > 0]
    return max(0.03, float(np.std(logs))) if len(logs) > 1 else _UNKNOWN_DRIFT
