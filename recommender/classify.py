"""What kind of workload is this? One class, the evidence for it, and how sure we are.

The first rule that holds names the class, so those that forbid a cut come first:

    saturated         throttled in over 1 % of its periods with traffic, or errors that follow resources
    leaking           anonymous memory grows without end
    censored          throttled without traffic to tell what it cost, CPU at its limit, or killed for want of memory
    start-up-heavy    the first minutes of an instance take a multiple of what follows
    idle              no traffic, P99 of CPU under 20m and P95 under 10m
    periodic/batch    no traffic; a Job, on for less than half the time, or usage that repeats itself
    bursty            P99 of CPU over 4 times its mean, and twice what single requests would make of it
    background worker no traffic, none of these
    latency-sensitive CPU-bound: CPU is over half the time of a request; IO-bound: under a fifth

Probes are no traffic. docs/classes.md has each threshold and what it is measured on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from recommender.demand import DemandFit, NotIdentifiable
from recommender.error_patterns import ErrorPattern, follows_resources
from recommender.history import History
from recommender.memory import MemoryFit
from recommender.quantiles import median
from recommender.rhythm import Rhythm, rhythm_of
from recommender.start_up import StartUp, start_up_of

_IDLE_CORES, _IDLE_PEAK_CORES = 0.010, 0.020  # P95, P99
_BURST_INDEX, _BEYOND_SINGLE_REQUESTS = 4.0, 2.0
_CPU_BOUND_SHARE, _IO_BOUND_SHARE = 0.5, 0.2
_THROTTLED_SHARE = 0.01  # of periods
_THROTTLED_WINDOWS = 0.05  # where only the throttled time is known
_AT_LIMIT, _AT_LIMIT_WINDOWS = 0.95, 0.05
_DUTY, _REPEATS, _PHASES_DIFFER = 0.5, 0.5, 1.3
_START_UP_CPU, _START_UP_MEMORY = 3.0, 1.5
_SIXTEENTHS = 16
_BIN_SECONDS = 0.010
_LEAST_QUIET = 10  # windows without requests
_ENOUGH_WINDOWS = 20.0  # with so many, half of the doubt about amounts is gone
_PROBES = frozenset(
    {"health", "healthz", "livez", "readyz", "ready", "live", "liveness", "readiness", "metrics", "ping", "status"}
)
_GRPC_PROBE = "/grpc.health.v1.Health/"


class WorkloadClass(StrEnum):
    """Classes of workloads; the value is what people read, and what a policy selects by."""

    SATURATED = "saturated"
    CENSORED = "censored"
    LEAKING = "leaking"
    START_UP = "start-up-heavy"
    IDLE = "idle"
    CPU_BOUND = "latency-sensitive, CPU-bound"
    IO_BOUND = "latency-sensitive, IO-bound"
    MIXED = "latency-sensitive"
    BURSTY = "bursty"
    PERIODIC = "periodic/batch"
    WORKER = "background worker"
    UNSEEN = "not seen"


#: What these need was not seen, so nothing of theirs is cut.
NEVER_CUT = frozenset({WorkloadClass.SATURATED, WorkloadClass.CENSORED})


@dataclass(frozen=True, slots=True)
class Classification:
    """A class with its evidence.

    :ivar evidence: one sentence with the figures
    :ivar confidence: 0 to 1, from how far the deciding figure is from its threshold, and from how many windows
    :ivar errors: whether errors follow resources; None where it was not asked
    """

    name: WorkloadClass
    evidence: str
    confidence: float = 0.5
    errors: ErrorPattern | None = None

    @property
    def never_cut(self) -> bool:
        """Whether its need was not seen in full, so that no size of it may fall."""
        return self.name in NEVER_CUT or (self.errors is not None and self.errors.follows_resources)


def classify(history: History, demand: DemandFit | NotIdentifiable, memory: MemoryFit | None) -> Classification:
    """The class of one container."""
    errors = follows_resources(history)
    served = traffic(history)
    name, evidence, distance = (
        _short_of_something(history.whole, memory, errors, served)
        or _starting_up(history)
        or (_by_latency(history, demand) if served else _by_usage(history))
    )
    return Classification(name, evidence, _confidence(distance, history.windows), errors)


_Named = tuple[WorkloadClass, str, float]  # with the distance of the deciding figure from its threshold, in log


def _short_of_something(history: History, memory: MemoryFit | None, errors: ErrorPattern, served: int) -> _Named | None:
    throttled = history.throttled_share
    if throttled is not None and throttled > _THROTTLED_SHARE:
        kind = WorkloadClass.SATURATED if served else WorkloadClass.CENSORED
        why = f"its CPU limit throttled it in {throttled:.1%} of its periods"
        return (
            kind,
            why if served else f"{why}, and no request tells what that cost",
            _apart(throttled, _THROTTLED_SHARE),
        )
    if errors.follows_resources:
        return WorkloadClass.SATURATED, errors.evidence, _apart(errors.ratio, 2.0)
    if memory is not None and memory.leak_bytes_per_hour is not None:
        evidence = f"anonymous memory grows steadily, {memory.leak_bytes_per_hour / 2**20:.0f} MiB an hour"
        return WorkloadClass.LEAKING, evidence, _apart(0.01, max(memory.leak.p_value, 1e-4))
    return _censored(history, throttled)


def _censored(history: History, throttled: float | None) -> _Named | None:
    """Usage that a limit cut where no count of throttled periods says so."""
    frame = history.frame
    if throttled is None and "throttled_seconds" in frame.columns:
        known = frame["throttled_seconds"].dropna()
        share = float((known > 0).mean()) if len(known) else 0.0
        if share > _THROTTLED_WINDOWS:
            peak, limit = frame["cpu_cores"].max(), history.latest("cpu_limit_cores")
            beside = f", although its highest CPU is {peak / limit:.0%} of its limit" if limit else ""
            evidence = f"it was throttled in {share:.0%} of its windows{beside}"
            return WorkloadClass.CENSORED, evidence, _apart(share, _THROTTLED_WINDOWS)
    share = _share_at_limit(history.column("cpu_cores"), history.column("cpu_limit_cores"))
    if share > _AT_LIMIT_WINDOWS:
        evidence = f"its CPU is at its limit in {share:.0%} of its windows, so what it needs was not seen"
        return WorkloadClass.CENSORED, evidence, _apart(share, _AT_LIMIT_WINDOWS)
    kills = int(np.nansum(history.column("oom_kills")))
    if kills:
        return WorkloadClass.CENSORED, f"the kernel killed it {kills} times for want of memory", math.log(1 + kills)
    share = _share_at_limit(history.column("memory_anon_bytes"), history.column("memory_limit_bytes"))
    if share > _AT_LIMIT_WINDOWS:
        evidence = f"its anonymous memory is at its limit in {share:.0%} of its windows"
        return WorkloadClass.CENSORED, evidence, _apart(share, _AT_LIMIT_WINDOWS)
    return None


def _starting_up(history: History) -> _Named | None:
    if _is_job(history):  # it does nothing but start
        return None
    found: StartUp | None = start_up_of(history.frame)
    if found is None:
        return None
    if found.cpu_ratio >= _START_UP_CPU:
        what = f"its first minutes take {found.cpu_ratio:.1f} times the CPU of what follows"
        return WorkloadClass.START_UP, f"{what}, in {found.starts} starts", _apart(found.cpu_ratio, _START_UP_CPU)
    if found.memory_ratio >= _START_UP_MEMORY:
        what = f"its first minutes take {found.memory_ratio:.1f} times the memory of what follows"
        distance = _apart(found.memory_ratio, _START_UP_MEMORY)
        return WorkloadClass.START_UP, f"{what}, in {found.starts} starts", distance
    return None


def _by_usage(history: History) -> _Named:
    """The class of what answers no requests."""
    cores = _known(history.column("cpu_cores"))
    high, peak = np.quantile(cores, [0.95, 0.99]).tolist() if len(cores) else (0.0, 0.0)
    none = "no HTTP request but probes seen" if history.requests else "no HTTP request seen"
    if not history.watched:
        none = "its requests were not watched"
    if history.unanswered and not history.requests:
        none = f"none of {history.unanswered} HTTP requests answered"
    if _is_job(history):
        return WorkloadClass.PERIODIC, f"it is a {history.container.kind}", 2.0
    if high < _IDLE_CORES and peak < _IDLE_PEAK_CORES:
        distance = min(_apart(high, _IDLE_CORES), _apart(peak, _IDLE_PEAK_CORES))
        return WorkloadClass.IDLE, f"{none}, and P99 of its CPU is {peak * 1000:.1f}m", distance
    rhythm: Rhythm = rhythm_of(history.frame)
    if rhythm.repeats > _REPEATS and rhythm.phase_ratio > _PHASES_DIFFER:
        every = _span(rhythm.period_seconds)
        evidence = f"{none}, and its CPU repeats itself every {every} (autocorrelation {rhythm.repeats:.2f})"
        return WorkloadClass.PERIODIC, evidence, _apart(rhythm.repeats, _REPEATS)
    if rhythm.runs >= 3 and rhythm.duty < _DUTY and rhythm.even_runs:
        evidence = f"{none}, and it works {rhythm.duty:.0%} of the time, in {rhythm.runs} runs of like length"
        return WorkloadClass.PERIODIC, evidence, _apart(rhythm.duty, _DUTY)
    mean = float(cores.mean()) if len(cores) else 0.0
    index = _bursts(history, mean)
    if index > _BURST_INDEX:
        return (
            WorkloadClass.BURSTY,
            f"{none}, and P99 of its CPU is {index:.0f} times its mean",
            _apart(index, _BURST_INDEX),
        )
    distance = min(_apart(peak, _IDLE_CORES), _apart(max(index, 0.5), _BURST_INDEX), _apart(rhythm.repeats, _REPEATS))
    return WorkloadClass.WORKER, f"{none}, and P99 of its CPU is {peak * 1000:.0f}m", distance


def _bursts(history: History, mean: float) -> float:
    """Burst index by 10 ms bins or by windows, whichever is higher."""
    cores = _known(history.column("cpu_cores"))
    by_window = float(np.quantile(cores, 0.99)) / mean if len(cores) and mean > 0 else 0.0
    by_bin = burst_index(history.burst_bins, history.seconds * history.instances, mean) or 0.0
    # a thread that runs for some milliseconds fills a bin however even the work is
    return max(by_window, by_bin if by_bin * mean > 1.0 else 0.0)


def _by_latency(history: History, demand: DemandFit | NotIdentifiable) -> _Named:
    if history.by_metrics:
        of_instance = float(_known(history.column("requests_per_second")).mean())
        rate = of_instance * len(history.frame) / max(1, history.windows)
        evidence = f"about {rate:.3g} requests/s; whether they wait for CPU cannot be told from metrics"
        return WorkloadClass.MIXED, evidence, 0.0
    cores = _known(history.column("cpu_cores"))
    mean_cores = float(cores.mean()) if len(cores) else 0.0
    served = [route for route in history.routes if route.served]
    seconds = math.fsum(route.latency_seconds_sum - route.transfer_seconds_sum for route in served)
    mean_latency = seconds / history.requests
    cost = demand.seconds_per_request if isinstance(demand, DemandFit) else _cost_by_mean(history)
    share = cost / mean_latency if mean_latency else 0.0
    evidence = f"a request costs {cost * 1e3:.2g} ms of CPU and takes {mean_latency * 1e3:.2g} ms"
    index, least = _burst_and_least(history, cost, mean_cores)
    if index > least:
        evidence = f"it works in bursts of {index:.0f} times its mean CPU; {least:.0f} would be requests one by one"
        return WorkloadClass.BURSTY, evidence, _apart(index, least)
    near = _apart(max(index, 0.5), least)
    if share > _CPU_BOUND_SHARE:
        return WorkloadClass.CPU_BOUND, evidence, min(near, _apart(share, _CPU_BOUND_SHARE))
    if share < _IO_BOUND_SHARE:
        return WorkloadClass.IO_BOUND, evidence, min(near, _apart(share, _IO_BOUND_SHARE))
    distance = min(near, _apart(share, _IO_BOUND_SHARE), _apart(share, _CPU_BOUND_SHARE))
    return WorkloadClass.MIXED, evidence, distance


def _cost_by_mean(history: History) -> float:
    """CPU per request, less what it uses in windows without one, where there are such."""
    cores, requests = history.column("cpu_cores"), history.column("requests")
    quiet = cores[(requests <= 0) & np.isfinite(cores)]
    base = median(quiet) if len(quiet) >= _LEAST_QUIET else 0.0
    busy = np.where(requests > 0, (cores - base) * history.column("duration_seconds"), 0.0)
    seconds = float(np.nansum(busy))
    return max(0.0, seconds) / history.requests


def _burst_and_least(history: History, cost: float, mean: float) -> tuple[float, float]:
    """The burst index, and above what it counts: requests that come one by one (Poisson) have one too."""
    seconds, cores, rates = (history.column(name) for name in ("duration_seconds", "cpu_cores", "requests_per_second"))
    rate = history.requests / max(1e-9, float(seconds.sum()))
    if mean <= 0 or rate <= 0:
        return 0.0, _BURST_INDEX
    index = float(np.quantile(_known(cores), 0.99)) / mean
    expected = rate * median(_known(seconds))
    single = _poisson_quantile(0.99, expected) / expected
    rates = _known(rates)
    storms = float(np.quantile(rates, 0.99)) / float(rates.mean())
    if index > _BURST_INDEX and storms > _BEYOND_SINGLE_REQUESTS * single:  # else it is no traffic that bursts
        return index, _BURST_INDEX
    index = burst_index(history.burst_bins, history.seconds * history.instances, mean) or 0.0
    index = max(index, _half_of_work(history.burst_bins) / mean)
    # a request is seen in the bins that it runs in
    together = _poisson_quantile(0.99, rate * (_BIN_SECONDS + cost))
    single = together * min(1.0, cost / _BIN_SECONDS) / mean
    return index, max(_BURST_INDEX, _BEYOND_SINGLE_REQUESTS * single)


def _poisson_quantile(quantile: float, mean: float) -> int:
    if mean > 200:
        return math.ceil(mean + 2.33 * math.sqrt(mean))
    term = total = math.exp(-mean)
    count = 0
    while total < quantile and count < 1000:
        count += 1
        term *= mean / count
        total += term
    return count


def _apart(value: float, threshold: float) -> float:
    """How far a figure is from its threshold, in log."""
    return abs(math.log(max(value, 1e-9) / threshold))


def _confidence(distance: float, windows: int) -> float:
    """0.5 at the threshold, near 1 far from it and with many windows."""
    sure = 1 - 0.5 * math.exp(-distance / 0.35)
    return round(sure * (1 - 0.5 * math.exp(-windows / _ENOUGH_WINDOWS)), 3)


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.3g} h" if seconds >= 3600 else f"{seconds / 60:.3g} min"


def _is_job(history: History) -> bool:
    return history.container.kind.lower() in {"job", "cronjob"}


def traffic(history: History) -> int:
    """Requests answered, those of probes left out."""
    probes = sum(
        route.latency.total
        for route in history.routes
        if route.served and (_last(route.route) in _PROBES or route.route.startswith(_GRPC_PROBE))
    )
    return max(0, history.requests - probes)


def _last(route: str) -> str:
    """Its last segment."""
    return route.strip("/").rsplit("/", 1)[-1].lower()


def burst_index(burst_bins: Mapping[int, int], seconds: float, mean_cores: float) -> float | None:
    """P99 of CPU over 10 ms bins (those without work included) over the mean CPU."""
    bins = seconds / _BIN_SECONDS
    if not burst_bins or mean_cores <= 0 or bins <= 0:
        return None
    above = 0.01 * bins  # bins that may be higher than P99
    for index in sorted(burst_bins, reverse=True):
        above -= burst_bins[index]
        if above < 0:
            return (index + 0.5) / _SIXTEENTHS / mean_cores
    return 0.0


def _half_of_work(burst_bins: Mapping[int, int]) -> float:
    """CPU of the 10 ms bin at which half of the work is done: it sees bursts of less than 1 % of the time."""
    work = {index: (index + 0.5) / _SIXTEENTHS * count for index, count in burst_bins.items()}
    left = math.fsum(work.values()) / 2
    for index in sorted(work, reverse=True):
        left -= work[index]
        if left <= 0:
            return (index + 0.5) / _SIXTEENTHS
    return 0.0


def _known(values: np.ndarray) -> np.ndarray:
    known: np.ndarray = values[np.isfinite(values)]
    return known


def _share_at_limit(used: np.ndarray, limit: np.ndarray) -> float:
    """Of the windows in which both are known."""
    known = np.isfinite(used) & np.isfinite(limit)
    return float((used[known] >= _AT_LIMIT * limit[known]).mean()) if known.any() else 0.0
