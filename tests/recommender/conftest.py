"""Histories made to measure: what they say is known, so what must come out is too."""

import numpy as np
import pandas as pd
import pytest

from profiles.histogram import DELAY, LATENCY, Histogram
from profiles.limit_bank import CANDIDATE_LIMITS_CORES, REQUEST_PARTS, Candidate, LimitBank
from recommender.evidence import Evidence, Observation
from recommender.history import Container, History, Route, busiest_rows

MEBIBYTE = 2**20


def bank_for(cores, seconds, requests, burst=2.0):
    """Work that comes at `burst` times its mean: limits below that delay it, the more the lower."""
    work_us = int(cores * seconds * 1e6)
    candidates = []
    for limit in CANDIDATE_LIMITS_CORES:
        over = max(0.0, burst * cores / limit - 1) if cores else 0.0
        share = min(1.0, over)
        bucket = DELAY.bucket_of(0.02 * (1 + 10 * over))
        weight = {bucket: int((REQUEST_PARTS * requests or work_us) * share)} if share else {}
        candidates.append(Candidate(limit, round(10 * seconds * share), 0, Histogram(DELAY, weight), Histogram(DELAY)))
    return LimitBank(round(10 * seconds), work_us, requests > 0, requests, 0, tuple(candidates))


@pytest.fixture
def make_history():
    def make(
        windows=60,
        seconds=10.0,
        rate=lambda now: 20 + 15 * np.sin(now / 60),
        cost=0.005,
        base=0.02,
        latency=0.010,
        noise=0.0,
        memory=lambda now: 100 * MEBIBYTE + 0 * now,
        errors=0,
        instances=1,
        seed=1,
        **columns,
    ):
        chance = np.random.default_rng(seed)
        rows, observations = [], []
        for window in range(windows):
            for instance in range(instances):
                now = window * seconds
                requests = round(max(0.0, float(rate(now))) * seconds)
                cores = (base + cost * requests / seconds) * float(np.exp(noise * chance.standard_normal()))
                working_set = float(memory(now))
                rows.append(
                    {
                        "window": window,
                        "start_unix_seconds": 1.7e9 + now,
                        "duration_seconds": seconds,
                        "instance": f"/web-{instance}",
                        "requests": float(requests),
                        "errors": float(errors),
                        "requests_per_second": requests / seconds,
                        "cpu_cores": cores,
                        "memory_anon_bytes": working_set,
                        "memory_file_bytes": 0.0,
                        "memory_working_set_bytes": working_set,
                        "memory_peak_bytes": working_set,
                        "periods": None,
                        "throttled_periods": None,
                        "oom_kills": 0.0,
                        "cpu_limit_cores": None,
                        "cpu_request_cores": None,
                        "memory_limit_bytes": None,
                    }
                    | columns
                )
                values = latency * np.exp(0.3 * chance.standard_normal(min(requests, 50)))
                histogram = Histogram.of(LATENCY, map(float, values)) if requests else Histogram(LATENCY)
                scale = requests / max(1, histogram.total)
                histogram = Histogram(LATENCY, {b: max(1, round(c * scale)) for b, c in histogram.counts.items()})
                observations.append(
                    Observation(histogram, bank_for(cores, seconds, requests), cores * seconds, seconds)
                )
        frame = pd.DataFrame.from_records(rows)
        numeric = [name for name in frame.columns if name != "instance"]
        frame[numeric] = frame[numeric].astype(float)
        merged = Histogram.merged(LATENCY, (each.latency for each in observations))
        routes = (Route("server", "GET", "/", 200, merged, latency * merged.total),) if merged.total else ()
        bursts = {4: 10}
        frame["p50_seconds"] = frame["p95_seconds"] = latency
        busiest = busiest_rows(frame["requests_per_second"].to_numpy(), frame["requests"].to_numpy())
        return History(
            Container("local", "host", "Cgroup", "web", "web"),
            frame,
            Evidence.of(observations),
            Evidence.of([observations[row] for row in busiest]),
            len(busiest),
            bursts,
            routes,
        )

    return make


@pytest.fixture
def no_traffic(make_history):
    return lambda **settings: make_history(rate=lambda _: 0.0, **settings)
