"""Recorded cases: what was published, and what our own agent recorded. Labels are from provenance."""

from __future__ import annotations

import gzip
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

import headroom.demo
from profiles.histogram import LATENCY, Histogram
from recommender.evidence import Evidence, Observation
from recommender.history import Container, History, Route, busiest_rows
from recommender.inputs.store import read_store
from tests.recommender.labelled.simulate import bank_for

HERE = Path(__file__).parent
_NEVER_CALLED = "Nezha's load never calls this TrainTicket service: its rate is 0 all day; a JVM that keeps house"
_CALLS_OTHERS = (
    "it answers from other services, one after the other (Nezha's dependency graph, or TrainTicket's source)"
)

#: case -> label, how we know
LABELS: dict[str, tuple[str, str]] = {
    "kruize-costmanagement": ("censored", "throttled in a fifth of its intervals, says its own record"),
    "kruize-eap-app": ("background worker", "a JBoss sample that nobody calls, and that is never off"),
    "kruize-nginx-sample": ("idle", "a sample that nobody calls"),
    "crane-0": ("periodic/batch", "published as the example of a daily period"),
    "crane-6": ("bursty", "documented as bursty: median 0.6, P99 56"),
    "crane-14": ("periodic/batch", "published as an example of a daily period"),
    "nezha-frontend": ("latency-sensitive, IO-bound", _CALLS_OTHERS),
    "nezha-checkoutservice": ("latency-sensitive, IO-bound", _CALLS_OTHERS),
    "nezha-recommendationservice": ("latency-sensitive, IO-bound", _CALLS_OTHERS),
    "nezha-ts-gateway": ("latency-sensitive, IO-bound", _CALLS_OTHERS),
    "nezha-ts-preserve": ("latency-sensitive, IO-bound", _CALLS_OTHERS),
    "nezha-ts-preserve-other": ("latency-sensitive, IO-bound", _CALLS_OTHERS),
    **{
        f"nezha-ts-{name}": ("idle", _NEVER_CALLED)
        for name in (
            "admin-basic-info", "admin-order", "admin-route", "admin-travel", "admin-user", "consign-price",
            "consign", "food-delivery", "rebook", "route-plan", "travel-plan", "wait-order",
        )
    },
}  # fmt: skip
DEMO: dict[str, tuple[str, str]] = {
    "checkout": ("latency-sensitive, CPU-bound", "written to burn CPU in each request"),
    "nginx-gzip": ("latency-sensitive, CPU-bound", "compresses each answer"),
    "leaky": ("leaking", "written to keep what each request brings"),
    "idle": ("idle", "written to sleep"),
}


def recorded() -> Iterator[tuple[str, str, str, History]]:
    """Name, label, provenance and history of every recorded case."""
    frame = pd.read_csv(HERE / "real.csv.gz")
    for case, rows in frame.groupby("case", sort=True):
        label, known_from = LABELS[str(case)]
        yield str(case), label, known_from, _history(str(case), rows.reset_index(drop=True))
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "recorded.db"
        packed = Path(headroom.demo.__file__).parent / "recording.db.gz"
        with gzip.open(packed) as source, store.open("wb") as target:
            shutil.copyfileobj(source, target)
        for history in read_store(store).histories:
            if history.container.workload in DEMO:
                label, known_from = DEMO[history.container.workload]
                yield f"demo-{history.container.workload}", label, known_from, history


def _history(case: str, rows: pd.DataFrame) -> History:
    requests = rows["requests"].fillna(0.0)
    # only P90 was published; of an exponential distribution it is ln 10 means
    mean = (rows["p90_seconds"] / math.log(10)).where(requests > 0)
    frame = pd.DataFrame(
        {
            "window": rows.index.astype(float),
            "start_unix_seconds": rows["start_unix_seconds"].astype(float),
            "duration_seconds": rows["duration_seconds"],
            "instance": f"/{case}",
            "requests": requests,
            "errors": 0.0,
            "requests_per_second": requests / rows["duration_seconds"],
            "p50_seconds": mean * math.log(2),
            "p95_seconds": mean * math.log(20),
            "cpu_cores": rows["cpu_cores"],
            "memory_anon_bytes": rows["memory_anon"],
            "memory_file_bytes": np.nan,
            "memory_working_set_bytes": rows["memory"],
            "memory_peak_bytes": rows["memory"],
            "periods": np.nan,
            "throttled_periods": np.nan,
            "throttled_seconds": rows["throttled_seconds"],
            "oom_kills": 0.0,
            "cpu_pressure_seconds": np.nan,
            "cpu_limit_cores": rows["cpu_limit_cores"].where(rows["cpu_limit_cores"] > 0),
            "cpu_request_cores": rows["cpu_request_cores"].where(rows["cpu_request_cores"] > 0),
            "memory_limit_bytes": rows["memory_limit_bytes"].where(rows["memory_limit_bytes"] > 0),
        }
    )
    seconds = float(rows["duration_seconds"].iloc[0])
    bank = bank_for(float(frame["cpu_cores"].mean()), seconds, round(float(requests.mean())))
    seen = [
        Observation(
            Histogram(LATENCY, {LATENCY.bucket_of(float(each)): int(count)} if count and np.isfinite(each) else {}),
            bank,
            float(cores) * seconds,
            seconds,
        )
        for each, count, cores in zip(mean, requests, frame["cpu_cores"].fillna(0.0), strict=True)
    ]
    merged = Histogram.merged(LATENCY, (each.latency for each in seen))
    total = float((mean * requests).sum())
    routes = (Route("server", "GET", "/", 200, merged, total),) if merged.total else ()
    busiest = busiest_rows(frame["requests_per_second"].to_numpy(), requests.to_numpy())
    return History(
        Container("lab", "labelled", "Deployment", case, case),
        frame,
        Evidence.of(seen),
        Evidence.of([seen[row] for row in busiest]),
        len(busiest),
        {},
        routes,
    )
