"""A small simulator of a container: arrivals, work, threads, a quota; out comes a History.

    arrivals (Poisson, in batches) -> work (gamma) -> backlog -> run, by threads and by quota a period of 100 ms

Of each window some seconds are simulated in 10 ms bins and stand for all of it. The label of a case is
what was put in, never what came out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from profiles.histogram import DELAY, LATENCY, Histogram
from profiles.limit_bank import CANDIDATE_LIMITS_CORES, REQUEST_PARTS, Candidate, LimitBank
from recommender.evidence import Evidence, Observation
from recommender.history import Container, History, Route, busiest_rows

MEBIBYTE = 2**20
BIN, SAMPLED_SECONDS, TIMEOUT_SECONDS = 0.01, 2.0, 3.0


@dataclass
class Service:
    """What is put in.

    :ivar rate: requests/s of one instance at a time in seconds
    :ivar work: cores of work beside requests, at a time
    :ivar cost, wait: CPU seconds of a request, and seconds it waits for others
    :ivar batch: requests that arrive together
    :ivar fault: share of errors at a time, whatever the resources
    :ivar overload: share of errors per 100 % of waiting
    :ivar born: seconds at which each instance starts; 0 and less: before the recording
    :ivar start_up: extra cores in the first `start_up_seconds` of an instance, and extra MiB
    :ivar counted: whether periods are counted (cgroup) or not (a Prometheus without those metrics)
    """

    windows: int = 120
    seconds: float = 10.0
    rate: Callable[[float], float] = lambda _: 0.0
    work: Callable[[float], float] = lambda _: 0.0
    cost: float = 0.005
    wait: float = 0.0
    batch: int = 1
    threads: int = 4
    limit: float | None = None
    request: float | None = None
    counted: bool = True
    memory: Callable[[float], float] = lambda _: 100.0
    memory_limit: float | None = None
    oom: tuple[float, ...] = ()
    fault: Callable[[float], float] = lambda _: 0.0
    overload: float = 0.0
    neighbours: Callable[[float], float] = lambda _: 0.0
    born: tuple[float, ...] = (0.0,)
    start_up: tuple[float, float] = (0.0, 0.0)
    start_up_seconds: float = 90.0
    probes: bool = False
    kind: str = "Deployment"
    extra: dict[str, float] = field(default_factory=dict)


class _Instance:
    def __init__(self, service: Service, chance: np.random.Generator) -> None:
        self.service, self.chance, self.backlog = service, chance, 0.0

    def run(self, rate: float, work: float) -> tuple[float, float, np.ndarray, float, float, float]:
        """Cores, mean delay, bins, throttled share of periods, share of time waited, share of time-outs."""
        service, bins = self.service, round(SAMPLED_SECONDS / BIN)
        arrived = self.chance.poisson(rate * BIN / service.batch, bins) * service.batch
        demand = np.where(arrived > 0, self.chance.gamma(4 * np.maximum(arrived, 1), service.cost / 4), 0.0)
        demand = demand + work * BIN * self.chance.gamma(20.0, 1 / 20, bins)
        quota = math.inf if service.limit is None else service.limit * 10 * BIN
        used, waiting, throttled, lost, left = np.zeros(bins), 0.0, 0, 0.0, quota
        for at in range(bins):
            if at % 10 == 0:
                left = quota
                stopped = False
            want = self.backlog + demand[at]
            done = min(want, left, service.threads * BIN)
            left, self.backlog, used[at] = left - done, want - done, done
            if self.backlog > 1e-9:
                waiting += 1
                if left <= 1e-12 and not stopped:
                    throttled, stopped = throttled + 1, True
            capacity = min(service.threads, service.limit or math.inf)
            most = TIMEOUT_SECONDS * capacity
            if self.backlog > most:
                lost, self.backlog = lost + self.backlog - most, most
        delay = self.backlog / min(service.threads, service.limit or math.inf) if self.backlog else 0.0
        total = max(float(demand.sum()), 1e-12)
        return used.sum() / SAMPLED_SECONDS, delay, used, throttled / (bins / 10), waiting / bins, lost / total


def simulate(name: str, service: Service, seed: int) -> History:
    """The history of one simulated container."""
    chance = np.random.default_rng(seed)
    rows, observations, bursts = [], [], Counter()
    latency_sum, probes = 0.0, 0
    running = [_Instance(service, chance) for _ in service.born]
    for window in range(service.windows):
        now = window * service.seconds
        for number, instance in enumerate(running):
            age = now - service.born[number]
            if age < 0:
                continue
            young = service.born[number] > 0 and age < service.start_up_seconds
            rate = max(0.0, service.rate(now) * math.exp(0.05 * chance.standard_normal()))
            work = max(0.0, service.work(now) * math.exp(0.05 * chance.standard_normal()))
            work += service.start_up[0] if young else 0.0
            cores, delay, bins, throttled, waited, lost = instance.run(rate, work)
            requests = int(chance.poisson(rate * service.seconds))
            pressure = min(1.0, waited + max(0.0, service.neighbours(now)) + 0.002 * chance.random())
            share = min(0.9, service.fault(now) + service.overload * pressure + lost)
            mean = service.cost + service.wait + delay
            probed = round(service.seconds / 10) if service.probes else 0
            memory = (service.memory(now) + (service.start_up[1] if young else 0.0)) * MEBIBYTE
            memory *= 1 + 0.002 * chance.standard_normal()
            if service.memory_limit is not None:
                memory = min(memory, service.memory_limit * MEBIBYTE)
            rows.append(
                {
                    "window": float(window),
                    "start_unix_seconds": 1.7e9 + now,
                    "duration_seconds": service.seconds,
                    "instance": f"/{name}-{number}",
                    "requests": float(requests + probed),
                    "errors": float(chance.binomial(requests, share)),
                    "requests_per_second": (requests + probed) / service.seconds,
                    "p50_seconds": mean,
                    "p95_seconds": mean * 1.6,
                    "cpu_cores": cores,
                    "memory_anon_bytes": memory,
                    "memory_file_bytes": 0.0,
                    "memory_working_set_bytes": memory,
                    "memory_peak_bytes": memory,
                    "periods": round(service.seconds * 10) if service.limit and service.counted else None,
                    "throttled_periods": (
                        round(service.seconds * 10 * throttled) if service.limit and service.counted else None
                    ),
                    "oom_kills": float(sum(now <= each < now + service.seconds for each in service.oom)),
                    "cpu_pressure_seconds": pressure * service.seconds,
                    "cpu_limit_cores": service.limit,
                    "cpu_request_cores": service.request,
                    "memory_limit_bytes": service.memory_limit and service.memory_limit * MEBIBYTE,
                }
                | service.extra
            )
            latency_sum, probes = latency_sum + requests * mean, probes + probed
            scale = max(1, round(service.seconds / SAMPLED_SECONDS))
            for index, count in Counter((bins[bins > 0] / BIN * 16).astype(int).tolist()).items():
                bursts[index] += count * scale
            observations.append((_latencies(chance, mean, requests), cores))
    frame = pd.DataFrame.from_records(rows)
    numeric = [column for column in frame.columns if column != "instance"]
    frame[numeric] = frame[numeric].astype(float)
    return _history(name, service, frame, observations, bursts, latency_sum, probes)


def _latencies(chance: np.random.Generator, mean: float, requests: int) -> Histogram:
    if not requests:
        return Histogram(LATENCY)
    values = mean * np.exp(0.3 * chance.standard_normal(min(requests, 8)))
    each = max(1, requests // len(values))
    return Histogram(LATENCY, {b: c * each for b, c in Histogram.of(LATENCY, map(float, values)).counts.items()})


def bank_for(cores: float, seconds: float, requests: int, burst: float = 2.0) -> LimitBank:
    """Work that comes at `burst` times its mean: limits below that delay it, the more the lower."""
    work_us, candidates = int(cores * seconds * 1e6), []
    for limit in CANDIDATE_LIMITS_CORES:
        over = max(0.0, burst * cores / limit - 1) if cores else 0.0
        share, bucket = min(1.0, over), DELAY.bucket_of(0.02 * (1 + 10 * over))
        weight = {bucket: int((REQUEST_PARTS * requests or work_us) * share)} if share else {}
        candidates.append(Candidate(limit, round(10 * seconds * share), 0, Histogram(DELAY, weight), Histogram(DELAY)))
    return LimitBank(round(10 * seconds), work_us, requests > 0, requests, 0, tuple(candidates))


def _history(
    name: str,
    service: Service,
    frame: pd.DataFrame,
    observations: list[tuple[Histogram, float]],
    bursts: Counter[int],
    latency_sum: float,
    probes: int,
) -> History:
    mean = float(frame["cpu_cores"].mean())
    bank = bank_for(mean, service.seconds, round(float(frame["requests"].mean())))
    seen = [Observation(each, bank, cores * service.seconds, service.seconds) for each, cores in observations]
    merged = Histogram.merged(LATENCY, (each for each, _ in observations))
    routes = []
    if merged.total:
        routes.append(Route("server", "GET", "/", 200, merged, latency_sum))
    if probes:
        of_probes = Histogram(LATENCY, {LATENCY.bucket_of(0.0005): probes})
        routes.append(Route("server", "GET", "/healthz", 200, of_probes, 0.0005 * probes))
    busiest = busiest_rows(frame["requests_per_second"].to_numpy(), frame["requests"].to_numpy())
    return History(
        Container("lab", "labelled", service.kind, name, name),
        frame,
        Evidence.of(seen),
        Evidence.of([seen[row] for row in busiest]),
        len(busiest),
        dict(bursts),
        tuple(routes),
    )
