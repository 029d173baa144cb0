"""The fits themselves: CPU and memory against traffic, and how far the cost of a request drifts."""

from __future__ import annotations

import math

import numpy as np

from recommender.demand.gates import traffic_refusal
from recommender.demand.regimes import pooled, regime_notes, regimes_of
from recommender.demand.results import DemandFit, MemoryDemandFit, NotIdentifiable
from recommender.demand.routes import routes_of
from recommender.demand.rows import in_time, lagged_best, usable_rows
from recommender.demand.scatter import noise_of, r_squared, replicas_of, tail_of
from recommender.demand.stretches import fit_stretch, stretches_of, through_origin
from recommender.history import History

_UNKNOWN_DRIFT = 0.2


def fit_demand(history: History) -> DemandFit | NotIdentifiable:
    """Fit the demand of one container, or say why it cannot be told.

    Revisions are told by the frame's ``revision`` (a string: image or pod template), else by the names of its pods; the
    frame may carry ``requests:<route class>``.
    """
    rows = usable_rows(history, "cpu_cores", censor=True)
    cut = f"its limit throttled {rows.censored} of {rows.seen} windows, which are no evidence of need"
    if not len(rows.usage):
        return NotIdentifiable(cut if rows.censored else "its CPU was not seen", rows.censored)
    if not rows.rate.any():
        return NotIdentifiable(traffic_refusal(rows.rate) or "")
    rows, lag = lagged_best(rows)
    stretches = pooled(stretches_of(rows))
    if isinstance(stretches, str):
        return NotIdentifiable(f"{stretches}; {cut}" if rows.censored else stretches, rows.censored)
    last = stretches[-1]
    assert last.line is not None  # pooled refuses otherwise
    (base, cost), (base_half, cost_half) = last.line.params.tolist(), last.line.half_widths().tolist()
    if base < 0:
        base, cost, cost_half = through_origin(last, cost, cost_half)
    notes = [cut] * bool(rows.censored) + regime_notes(stretches, rows)
    routes = routes_of(history.frame, last)
    return DemandFit(
        base,
        (max(0.0, last.line.params[0].item() - base_half), max(0.0, last.line.params[0].item() + base_half)),
        cost,
        (max(0.0, cost - cost_half), cost + cost_half),
        r_squared(last.rows, base, cost),
        len(rows.usage),
        tail_of(last.rows),
        lag,
        len(rows.usage) / rows.seen,
        rows.censored,
        regimes_of(stretches),
        replicas_of(last.rows, base, cost),
        routes,
        noise_of(last, base, cost),
        tuple(notes),
    )


def fit_memory_demand(history: History) -> MemoryDemandFit | NotIdentifiable:
    """Fit the anonymous memory of one container to its traffic, or say why it cannot be told."""
    rows = usable_rows(history, "memory_anon_bytes", censor=False)
    if not len(rows.usage):
        rows = usable_rows(history, "memory_working_set_bytes", censor=False)
    if not len(rows.usage):
        return NotIdentifiable("its memory was not seen")
    rows = rows.part(rows.regime == rows.regime[-1])
    fitted = fit_stretch("all", rows, None, deploy=False)
    if fitted.line is None or fitted.refusal:
        return NotIdentifiable((fitted.refusal or "").replace("CPU", "memory").replace("cost per", "memory per"))
    (base, slope), (base_half, half) = fitted.line.params.tolist(), fitted.line.half_widths().tolist()
    if base < 0:
        base, slope, half = through_origin(fitted, slope, half)
    return MemoryDemandFit(
        base,
        (max(0.0, base - base_half), max(0.0, base + base_half)),
        slope,
        (max(0.0, slope - half), slope + half),
        r_squared(rows, base, slope),
        len(rows.usage),
        len(rows.usage) / rows.seen,
    )


def cost_drift(history: History, fit: DemandFit | NotIdentifiable, blocks: int = 8) -> float:
    """How far CPU for the same traffic wanders: deviation of its logarithm over blocks of time.

    On a shared machine the same request costs now more, now less; the latency that a limit
    adds reacts to that about three times as strongly. At least 3 %, our best machine's figure.
    A deploy is not drift: only the latest revision counts. A step that nothing explains is.
    """
    time, rate, cores = in_time(history, "cpu_cores")
    if not len(cores):
        return _UNKNOWN_DRIFT
    if isinstance(fit, DemandFit):
        since = max((each.start_unix_seconds for each in fit.regimes if each.deploy), default=-math.inf)
        rate, cores = rate[time >= since], cores[time >= since]
        expected = fit.cores_at(rate)
    elif rate.sum() > 0:
        expected = rate * (cores.sum() / rate.sum())
    else:
        expected = np.full(len(cores), max(cores.mean(), 1e-9))
    parts = [part for part in np.array_split(np.arange(len(cores)), blocks) if len(part)]
    ratios = [cores[part].sum() / expected[part].sum() for part in parts if expected[part].sum() > 0]
    logs = [float(np.log(ratio)) for ratio in ratios if ratio > 0]
    return max(0.03, float(np.std(logs))) if len(logs) > 1 else _UNKNOWN_DRIFT
