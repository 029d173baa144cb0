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

from policies.schema import Policy
from recommender.curve import SATURATION_RATIO, HeadroomCurve, fit_curve
from recommender.history import History
from recommender.memory import MemoryFit
from recommender.recommendation import MEBIBYTE

QUANTILES = (0.5, 0.95, 0.99)


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
    whole = fit_curve(history.everything, drift, quantiles)
    if whole is None:
        return None
    busiest = fit_curve(history.busiest, drift, quantiles)
    return Curves(whole, busiest or whole, history.busiest_windows)


def cpu_from_latency(curves: Curves, policy: Policy) -> tuple[Sized, Sized]:
    """Request and limit of a container whose latency was measured."""
    budget, quantile = policy.latency, policy.latency.quantile
    name = f"P{quantile * 100:g}"
    request = _request(curves.all_windows, policy, name)
    if policy.cpu.limit == "none":
        risk = "a burst may then take CPU from its neighbours"
        return request, Sized(None, f"policy {policy.name} sets no CPU limit; {risk}", unset=True)
    smallest = curves.busiest.smallest_within(quantile, budget.limit_adds_percent / 100, upper=True)
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
    return request, Sized(limit, reason)


def cpu_from_usage(history: History, policy: Policy) -> tuple[Sized, Sized]:
    """Request and limit of a container without HTTP/1 requests: there is no latency to go by."""
    cores = history.frame["cpu_cores"].dropna()
    request = float(cores.quantile(0.95)) * (1 + policy.cpu.margin_percent / 100)
    why = f"P95 of its CPU + {policy.cpu.margin_percent:g} %; no HTTP/1 request was seen, so no latency to go by"
    banks = history.everything.banks
    if policy.cpu.limit == "none":
        return Sized(request, why), Sized(None, f"policy {policy.name} sets no CPU limit", unset=True)
    allowed = policy.cpu.throttled_percent / 100
    if banks is None or not banks.periods.sum():
        return Sized(request, why), Sized(None, "bursts were not measured: no limit is set")
    holding = banks.limits_cores[(banks.throttled_share <= allowed) & (banks.limits_cores >= request)]
    if not len(holding):
        return Sized(request, why), Sized(
            None, f"every measured limit throttles over {allowed:.0%} of periods", unset=True
        )
    return Sized(request, why), Sized(
        float(holding[0]), f"smallest limit that throttles at most {allowed:.0%} of its periods"
    )


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
    smallest = curve.smallest_within(policy.latency.quantile, budget / 100, upper=False)
    least = SATURATION_RATIO * curve.mean_cores
    if smallest is None:
        return Sized(
            least, f"no measured limit keeps {name} within +{budget:g} %: {SATURATION_RATIO} times its mean CPU"
        )
    adds = curve.adds_at(smallest, policy.latency.quantile)
    if smallest <= curve.points[0].limit_cores:
        return Sized(smallest, f"smallest that is measured; adds {adds:.1%} to {name} on a full node")
    if adds < 0.9 * budget / 100:
        why = f"smallest that is far enough from saturation ({SATURATION_RATIO} times its mean CPU)"
        return Sized(smallest, f"{why}; adds {adds:.1%} to {name} on a full node")
    return Sized(smallest, f"smallest CPU that adds at most {budget:g} % to {name} on a full node: +{adds:.1%}")
