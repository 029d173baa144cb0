"""From evidence to four numbers: CPU request and limit, memory request and limit.

CPU of a container with latency comes from its headroom curve:

    request   smallest CPU that adds at most the contention budget (all windows)
    limit     smallest CPU whose upper bound adds at most the limit budget, in the windows
              with the highest load; or none, where the policy or the curve says so

Without latency: request = by the price of a minute over it (recommender.price); limit = smallest CPU
that throttles at most the share that the policy allows.

Every number has an interval: what the evidence would also bear. It is wider the less was seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policies.schema import Policy
from recommender.confidence import Confidence
from recommender.curve import MOST_ELASTICITY, SATURATION_RATIO, HeadroomCurve, fit_curve
from recommender.history import History, instance_names
from recommender.memory import MemoryFit
from recommender.price import priced
from recommender.resources import MEBIBYTE
from recommender.series import Series

QUANTILES = (0.5, 0.95, 0.99)
_PRICE_RANGE = 4.0  # bounds of a request without latency: the price divided and multiplied by this


@dataclass(frozen=True, slots=True)
class Sized:
    """A number and the reason for it.

    :ivar value: None when there is none
    :ivar unset: there is none on purpose: a value that is set is to be removed
    :ivar lower, upper: what the evidence would also bear; None where `value` is
    :ivar enough: a current value from here on is not worth raising; None: every one below `value` is
    """

    value: float | None
    reason: str
    unset: bool = False
    lower: float | None = None
    upper: float | None = None
    enough: float | None = None


@dataclass(frozen=True, slots=True)
class Curves:
    """The curve over everything, and over the busiest windows."""

    all_windows: HeadroomCurve
    busiest: HeadroomCurve
    busiest_windows: int


def fit_curves(history: History, policy: Policy, drift: float, model_error: float = 0.0) -> Curves | None:
    """Both curves of a container with traffic, or None without latency or limit bank.

    :param model_error: see :func:`recommender.self_check.model_error`
    """
    quantiles = {*QUANTILES, policy.latency.quantile}
    whole = fit_curve(history.everything, drift, quantiles, model_error)
    if whole is None:
        return None
    busiest = fit_curve(history.busiest, drift, quantiles, model_error)
    return Curves(whole, busiest or whole, history.busiest_windows)


def cpu_from_latency(curves: Curves, policy: Policy, confidence: Confidence) -> tuple[Sized, Sized]:
    """Request and limit of a container whose latency was measured."""
    budget, quantile = policy.latency, policy.latency.quantile
    name = f"P{quantile * 100:g}"
    request = _request(curves.all_windows, policy, name, confidence)
    if policy.cpu.limit == "none":
        risk = "a burst may then take CPU from its neighbours"
        return request, Sized(None, f"policy {policy.name} sets no CPU limit; {risk}", unset=True)
    allowed = budget.limit_adds_percent / 100
    smallest = curves.busiest.smallest_within(quantile, allowed, upper=True)
    if smallest is None:
        largest, at_most = curves.busiest.points[-1].limit_cores, f"+{budget.limit_adds_percent:g} %"
        return request, Sized(None, f"no limit up to {largest:.2g} cores keeps {name} within {at_most}", unset=True)
    limit = max(smallest, request.value or 0.0)
    adds, upper = (curves.busiest.adds_at(limit, quantile, upper=each) for each in (False, True))
    reason = (
        f"smallest limit that adds at most {budget.limit_adds_percent:g} % to {name} in the {curves.busiest_windows} "
        f"busiest windows: +{adds:.1%} predicted, +{upper:.1%} at most"
    )
    if request.value and limit > smallest:
        reason = f"raised to the request; {name} +{adds:.1%} predicted"
    least = curves.busiest.smallest_within(quantile, allowed, upper=False) or limit
    wider = math.exp(confidence.widening)
    return request, Sized(limit, reason, lower=max(min(least, limit), request.value or 0.0), upper=limit * wider)


def cpu_from_usage(history: History, policy: Policy, confidence: Confidence) -> tuple[Sized, Sized]:
    """Request and limit of a container without HTTP requests: there is no latency to go by."""
    request = _priced(history.whole, policy, confidence)
    banks = history.everything.banks
    if policy.cpu.limit == "none":
        return request, Sized(None, f"policy {policy.name} sets no CPU limit", unset=True)
    allowed = policy.cpu.throttled_percent / 100
    if banks is None or not banks.periods.sum():
        return request, Sized(None, "bursts were not measured, so no CPU limit can be told: what is there stays")
    holding = banks.limits_cores[(banks.throttled_share <= allowed) & (banks.limits_cores >= (request.value or 0.0))]
    if not len(holding):
        return request, Sized(None, f"every measured limit throttles over {allowed:.0%} of periods", unset=True)
    limit = float(holding[0])
    if history.unwatched is not None and (peak := float(history.unwatched["cpu_peak_cores"].max())) > limit:
        return request, Sized(None, f"it took {peak:.3g} cores when no agent measured its bursts: what is there stays")
    why = f"smallest limit that throttles at most {allowed:.0%} of its periods"
    return request, Sized(limit, why, lower=limit, upper=limit * math.exp(confidence.widening))


def memory_from_peak(fit: MemoryFit | None, policy: Policy) -> tuple[Sized, Sized]:
    """Request and limit for memory."""
    if fit is None:
        missing = "its memory was not seen (no memory controller on its cgroup)"
        return Sized(None, missing), Sized(None, missing)
    rules = policy.memory
    floor = rules.floor_mebibytes * MEBIBYTE
    wanted = fit.upper_bytes * (1 + rules.margin_percent / 100)
    request = max(wanted, floor)
    why = fit.reasons[0]
    if rules.margin_percent:
        why += f", + {rules.margin_percent:g} %"
    if request == floor:
        why = f"floor of policy {policy.name} (peak {fit.peak_bytes / MEBIBYTE:.1f} MiB)"
    lower = max(floor, min(request, max(fit.peak_bytes, fit.lower_bytes)))
    ratio = rules.limit_ratio
    enough = math.sqrt(fit.need_bytes * fit.upper_bytes)
    return (
        Sized(request, why, lower=lower, upper=request, enough=enough),
        Sized(request * ratio, f"request x {ratio:g}", lower=lower, upper=request * ratio, enough=enough * ratio),
    )


def _request(curve: HeadroomCurve, policy: Policy, name: str, confidence: Confidence) -> Sized:
    budget = policy.latency.request_adds_percent
    smallest = curve.smallest_within(policy.latency.quantile, budget / 100, upper=False)
    upper = curve.smallest_within(policy.latency.quantile, budget / 100, upper=True)
    least = SATURATION_RATIO * curve.mean_cores
    wider = math.exp(confidence.widening)
    if smallest is None:
        why = f"no measured limit keeps {name} within +{budget:g} %: {SATURATION_RATIO} times its mean CPU"
        return Sized(least, why, lower=least, upper=least * wider)
    adds = curve.adds_at(smallest, policy.latency.quantile)
    why = f"smallest CPU that adds at most {budget:g} % to {name} on a full node: +{adds:.1%}"
    if smallest <= curve.points[0].limit_cores:
        why = f"smallest that is measured; adds {adds:.1%} to {name} on a full node"
    elif adds < 0.9 * budget / 100:
        steep = f"below it a percent of CPU moves {name} by more than {MOST_ELASTICITY:g} %"
        near = f"{SATURATION_RATIO} times its mean CPU" if smallest < 1.05 * least else steep
        why = f"smallest that is far enough from saturation ({near}); adds {adds:.1%} to {name} on a full node"
    return Sized(smallest, why, lower=min(smallest, least), upper=max(smallest, upper or smallest) * wider)


def _minutes(history: History) -> list[Series]:
    """CPU of each instance, by the minute.

    Of a longer row the mean and its highest reading are known: that reading is one of its minutes, and
    the others are what is left. On a fleet that is within a percent of the minutes themselves (0023).
    """
    pods = []
    codes = history.instance_codes
    for code, instance in enumerate(instance_names(history.frame)):
        own = codes == code
        times, cores = history.column("start_unix_seconds")[own], history.column("cpu_cores")[own]
        if not len(times):
            continue
        minutes = np.maximum(1, np.rint(history.column("duration_seconds")[own] / 60)).astype(int)
        longer = minutes > 1
        peaks = np.where(longer, np.fmax(history.column("cpu_peak_cores")[own], cores), cores)
        others = np.maximum(0.0, minutes * cores - peaks) / np.maximum(1, minutes - 1)
        first = np.cumsum(minutes) - minutes
        place = np.arange(minutes.sum()) - np.repeat(first, minutes)
        values = np.where(place == 0, np.repeat(peaks, minutes), np.repeat(others, minutes))
        pods.append(Series.of(str(instance), np.repeat(times, minutes) + 60.0 * place, values))
    return pods


def _priced(history: History, policy: Policy, confidence: Confidence) -> Sized:
    pods, end = _minutes(history), float(history.column("start_unix_seconds").max()) + 1.0
    margin = 1 + policy.cpu.margin_percent / 100
    found, price = priced(pods, end), policy.cpu.price_of_minutes_over
    low, request, high = (
        found.best(each) * margin if found else 0.0 for each in (price / _PRICE_RANGE, price, price * _PRICE_RANGE)
    )
    none = "no HTTP request was seen" if history.watched else "no agent watched its requests"
    if history.by_metrics and history.requests:
        none = "its agent's metrics tell requests but no limit bank (push profiles: headroom push)"
    why = f"the least sum of unused CPU and minutes over it; {none}, so no latency to go by"
    if policy.cpu.margin_percent:
        why = f"{why}; + {policy.cpu.margin_percent:g} %"
    return Sized(request, why, lower=min(low, request), upper=max(high, request) * math.exp(confidence.widening))
