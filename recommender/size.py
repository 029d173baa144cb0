"""From evidence to four numbers: CPU request and limit, memory request and limit.

CPU of a container with latency comes from its headroom curve:

    request   smallest CPU that adds at most the contention budget (all windows)
    limit     smallest CPU whose upper bound adds at most the limit budget, in the windows
              with the highest load; or none, where the policy or the curve says so

Without latency: request = P95 of CPU with a margin; limit = smallest CPU that throttles at
most the share that the policy allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.schema import Policy
from recommender.curve import SATURATION_RATIO, HeadroomCurve, fit_curve
from recommender.history import History
from recommender.memory import MemoryFit
from recommender.recommendation import MEBIBYTE

QUANTILES = (0.5, 0.95, 0.99)
_BUSIEST_SHARE = 0.1
_LEAST_REQUESTS_IN_BUSIEST = 100


@dataclass(frozen=True, slots=True)
class Sized:
    """A number and the reason for it.

    :ivar value: None when there is none
    :ivar unset: there is none on purpose: a value that is set is to be removed
    """

    value: float | None
    reason: str
    unset: bool = False


@dataclass(frozen=True, slots=True)
class Curves:
    """The curve over everything, and over the busiest windows."""

    all_windows: HeadroomCurve
    busiest: HeadroomCurve
    busiest_windows: int


def fit_curves(history: History, policy: Policy, drift: float) -> Curves | None:
    """Both curves of a container with traffic, or None without latency or limit bank."""
    quantiles = {*QUANTILES, policy.latency.quantile}
    everything = np.arange(len(history.frame))
    whole = _curve(history, everything, drift, quantiles)
    if whole is None:
        return None
    busiest = _busiest(history)
    return Curves(whole, _curve(history, busiest, drift, quantiles) or whole, len(busiest))


def cpu_from_latency(curves: Curves, policy: Policy) -> tuple[Sized, Sized]:
    """Request and limit of a container whose latency was measured."""
    budget, quantile = policy.latency, policy.latency.quantile
    name = f"P{quantile * 100:g}"
    request = _request(curves.all_windows, policy, name)
    if policy.cpu.limit == "none":
        risk = "a burst may then take CPU from its neighbours"
        return request, Sized(None, f"policy {policy.name} sets no CPU limit; {risk}", unset=True)
    point = curves.busiest.smallest_within(quantile, budget.limit_adds_percent / 100, upper=True)
    if point is None:
        largest, at_most = curves.busiest.points[-1].limit_cores, f"+{budget.limit_adds_percent:g} %"
        return request, Sized(None, f"no limit up to {largest:.2g} cores keeps {name} within {at_most}", unset=True)
    limit = max(point.limit_cores, request.value or 0.0)
    adds, upper = (curves.busiest.adds_at(limit, quantile, upper=each) for each in (False, True))
    reason = (
        f"smallest limit that adds at most {budget.limit_adds_percent:g} % to {name} in the {curves.busiest_windows} "
        f"busiest windows: +{adds:.1%} predicted, +{upper:.1%} at most"
    )
    if request.value and limit > point.limit_cores:
        reason = f"raised to the request; {name} +{adds:.1%} predicted"
    return request, Sized(limit, reason)


def cpu_from_usage(history: History, policy: Policy) -> tuple[Sized, Sized]:
    """Request and limit of a container without HTTP/1 requests: there is no latency to go by."""
    cores = history.frame["cpu_cores"].dropna()
    request = float(cores.quantile(0.95)) * (1 + policy.cpu.margin_percent / 100)
    why = f"P95 of its CPU + {policy.cpu.margin_percent:g} %; no HTTP/1 request was seen, so no latency to go by"
    bank = history.bank_of(np.arange(len(history.frame)))
    if policy.cpu.limit == "none":
        return Sized(request, why), Sized(None, f"policy {policy.name} sets no CPU limit", unset=True)
    allowed = policy.cpu.throttled_percent / 100
    if bank is None or not bank.periods:
        return Sized(request, why), Sized(None, "bursts were not measured: no limit is set")
    holding = [
        each.limit_cores
        for each in bank.candidates
        if bank.throttled_share(each) <= allowed and each.limit_cores >= request
    ]
    if not holding:
        return Sized(request, why), Sized(
            None, f"every measured limit throttles over {allowed:.0%} of periods", unset=True
        )
    return Sized(request, why), Sized(holding[0], f"smallest limit that throttles at most {allowed:.0%} of its periods")


def memory_from_peak(fit: MemoryFit | None, policy: Policy) -> tuple[Sized, Sized]:
    """Request and limit for memory."""
    if fit is None:
        missing = "its memory was not seen (no memory controller on its cgroup)"
        return Sized(None, missing), Sized(None, missing)
    rules = policy.memory
    request = max(fit.need_bytes * (1 + rules.margin_percent / 100), rules.floor_mebibytes * MEBIBYTE)
    why = f"peak {fit.peak_bytes / MEBIBYTE:.0f} MiB + {rules.margin_percent:g} %"
    if fit.oom_kills:
        peak = f"{fit.peak_bytes / MEBIBYTE:.0f} MiB"
        why = f"{fit.oom_kills} OOM kills at {peak}: x1.2 or +100 MiB, then + {rules.margin_percent:g} %"
    elif request == rules.floor_mebibytes * MEBIBYTE:
        why = f"floor of policy {policy.name} (peak {fit.peak_bytes / MEBIBYTE:.1f} MiB)"
    return Sized(request, why), Sized(request * rules.limit_ratio, f"request x {rules.limit_ratio:g}")


def _request(curve: HeadroomCurve, policy: Policy, name: str) -> Sized:
    budget = policy.latency.request_adds_percent
    point = curve.smallest_within(policy.latency.quantile, budget / 100, upper=False)
    if point is None:
        request = SATURATION_RATIO * curve.mean_cores
        return Sized(
            request, f"no measured limit keeps {name} within +{budget:g} %: {SATURATION_RATIO} times its mean CPU"
        )
    adds = curve.adds_at(point.limit_cores, policy.latency.quantile)
    smaller = [each.limit_cores for each in curve.points if each.limit_cores < point.limit_cores]
    if not smaller or smaller[-1] < SATURATION_RATIO * curve.mean_cores:
        why = f"smallest at {SATURATION_RATIO} times its mean CPU or more" if smaller else "smallest that is measured"
        return Sized(point.limit_cores, f"{why}; adds {adds:.1%} to {name} on a full node")
    return Sized(
        point.limit_cores, f"smallest CPU that adds at most {budget:g} % to {name} on a full node: +{adds:.1%}"
    )


def _busiest(history: History) -> np.ndarray:
    """Positions of the tenth of rows with the highest rate; more while they hold too few requests."""
    rates, requests = history.frame["requests_per_second"].to_numpy(), history.frame["requests"].to_numpy()
    order = np.argsort(-rates, kind="stable")
    enough = int(np.searchsorted(np.cumsum(requests[order]), _LEAST_REQUESTS_IN_BUSIEST)) + 1
    return np.sort(order[: max(enough, round(len(order) * _BUSIEST_SHARE), 1)])


def _curve(history: History, rows: np.ndarray, drift: float, quantiles: set[float]) -> HeadroomCurve | None:
    bank = history.bank_of(rows)
    if bank is None:
        return None
    chosen = history.frame.iloc[rows]
    seconds = float(chosen["duration_seconds"].sum())
    cores = float((chosen["cpu_cores"] * chosen["duration_seconds"]).sum()) / seconds
    return fit_curve(history.latency_of(rows), bank, cores, drift, quantiles)
