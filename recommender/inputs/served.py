"""How a workload served lately, from the agents' own metrics in Prometheus: requests, errors, latency."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from recommender.inputs.prometheus import Prometheus

_DURATION = "http_server_request_duration_seconds"
_WINDOWS = 30  # before, to see how much it varies by itself
_LEAST_SCRAPES = 4  # in a window
_LEAST_KNOWN = 10  # of them with requests enough
_LEAST_REQUESTS = 300.0  # P95 of fewer is made of fifteen
_MORE_ERRORS = 0.01


@dataclass(frozen=True, slots=True)
class Served:
    """Windows of one length that follow each other, n of them; NaN where there was no request.

    :ivar requests, latency_seconds, error_share: (n,), of all pods; latency at the quantile asked for; an error is what
        the agents call one: an answer that says so, or none
    """

    requests: np.ndarray
    latency_seconds: np.ndarray
    error_share: np.ndarray


@dataclass(frozen=True, slots=True)
class Usual:
    """The worst that was usual before, in windows of one length."""

    quantile: float
    window_seconds: int
    latency_seconds: float
    error_share: float

    @staticmethod
    def is_judged(now: Served) -> bool:
        """Whether the last window had requests enough."""
        return bool(len(now.requests) and now.requests[-1] >= _LEAST_REQUESTS)

    def broken_by(self, now: Served, adds_percent: float) -> str | None:
        """Why the last window is worse than the budget allows; None where it is not, or had too few requests."""
        if not self.is_judged(now):
            return None
        errors, latency = float(now.error_share[-1]), float(now.latency_seconds[-1])
        if errors > self.error_share + _MORE_ERRORS:
            return f"{errors:.1%} of its requests fail, and {self.error_share:.1%} did at most"
        if latency > self.latency_seconds * (1 + adds_percent / 100):
            what = f"P{self.quantile * 100:g} is {latency * 1000:.3g} ms"
            return f"{what}, and was {self.latency_seconds * 1000:.3g} ms at most; {adds_percent:g} % more is allowed"
        return None


def served(
    prometheus: Prometheus,
    namespace: str,
    workload: str,
    until: float,
    window_seconds: int,
    quantile: float,
    windows: int = 1,
) -> Served:
    """How it served in windows of which the last ends `until`.

    :raises profiles.errors.HeadroomError: when there is no complete answer
    """
    of = _matchers(namespace, workload)
    begin = until - (windows - 1) * window_seconds

    def total(metric: str, *more: str, by: str = "") -> str:
        return f"sum {by}(increase({prometheus.select(metric, *of, *more)}[{window_seconds}s]))"

    def values(query: str) -> np.ndarray:
        made = np.full(windows, np.nan)
        for series in prometheus.over(query, begin, until, window_seconds)[:1]:
            place = np.rint((series.unix_seconds - begin) / window_seconds).astype(int)
            made[place] = series.values
        return made

    requests = values(total(f"{_DURATION}_count"))
    errors = np.nan_to_num(values(total(f"{_DURATION}_count", 'error_type!=""')))
    latency = values(f"histogram_quantile({quantile}, {total(f'{_DURATION}_bucket', by='by (le) ')})")
    return Served(requests, latency, errors / np.maximum(np.nan_to_num(requests), 1e-9))


def _matchers(namespace: str, workload: str) -> tuple[str, str]:
    return f"k8s_namespace_name={json.dumps(namespace)}", f"service_name={json.dumps(workload)}"


def _scrapes(prometheus: Prometheus, namespace: str, workload: str, until: float, window_seconds: int) -> float:
    selector = prometheus.select(f"{_DURATION}_count", *_matchers(namespace, workload))
    found = prometheus.at(f"max(count_over_time({selector}[{window_seconds}s]))", until)
    return float(found[0].values[-1]) if found else 0.0


def usual(prometheus: Prometheus, namespace: str, workload: str, until: float, quantile: float) -> Usual | None:
    """The worst of the hour before `until` by two minutes, or of a longer time; None where requests are too few.

    :raises profiles.errors.HeadroomError: when there is no complete answer
    """
    for window_seconds in (120, 600):
        if _scrapes(prometheus, namespace, workload, until, window_seconds) < _LEAST_SCRAPES:
            continue  # what is between two scrapes would be in no window
        found = served(prometheus, namespace, workload, until, window_seconds, quantile, _WINDOWS)
        known = (found.requests >= _LEAST_REQUESTS) & np.isfinite(found.latency_seconds)
        if np.count_nonzero(known) >= _LEAST_KNOWN:
            latency, errors = found.latency_seconds[known].max(), found.error_share[known].max()
            return Usual(quantile, window_seconds, float(latency), float(errors))
    return None
