"""Recommendations for a fleet, from a Parquet store: 10,000 containers with 14 days of minutes.

The store is generated (seeded; not counted), then the real command runs on it as its users run it:
wall time, CPU time and memory of the whole process tree. ``python -m benchmarks.fleet --containers 200``
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.special import ndtr

from profiles.histogram import DELAY, LATENCY
from profiles.limit_bank import CANDIDATE_LIMITS_CORES, REQUEST_PARTS, VERSION
from profiles.parquet import CONTAINERS_PER_FILE, ParquetWriter
from profiles.tables import USAGE_NUMBERS
from recommender.history import busiest_rows
from recommender.inputs.parquet_profiles import BANK_HEAD

DAYS = 14
CONTAINERS = 10_000
START = 1_780_000_200  # a whole hour
HOUR, DAY = 3600, 86_400
PERIOD = 6 * HOUR  # of two weeks, as `headroom export` chooses it

#: kind -> share of the containers, share of these that answer requests
KINDS = {
    "diurnal": (0.35, 0.95),
    "bursty": (0.15, 0.9),
    "flat": (0.15, 0.7),
    "idle": (0.15, 0.1),
    "leak": (0.05, 0.8),
    "step": (0.15, 0.9),
}
_LIMITS = np.array(CANDIDATE_LIMITS_CORES)
_EDGES = np.array([LATENCY.lower_seconds(bucket) for bucket in range(LATENCY.buckets + 1)])
_MIDDLES = (_EDGES[:-1] + _EDGES[1:]) / 2
_ENTRY = np.dtype([("bucket", "<u2"), ("count", "<u8")])


@dataclass(frozen=True)
class Minutes:
    """One container as it was: columns by minute."""

    kind: str
    unix_seconds: np.ndarray
    requests: np.ndarray
    cores: np.ndarray
    anonymous: np.ndarray
    cache: np.ndarray
    limit: float | None
    latency: float  # median, in seconds
    deploy: int  # the minute from which it is another instance
    burst: float


def container(number: int, days: int) -> Minutes:
    """The container of that number: the same for the same number, whatever the size of the fleet."""
    chance = np.random.default_rng([20260, number])
    kind = str(chance.choice(list(KINDS), p=[share for share, _ in KINDS.values()]))
    served = chance.random() < KINDS[kind][1]
    minutes = np.arange(days * 1440)
    day = 2 * np.pi * (minutes / 1440 - chance.random())
    week = np.where((minutes // 1440 + chance.integers(7)) % 7 < 5, 1.0, chance.uniform(0.5, 0.9))
    level = {"idle": 0.02}.get(kind, float(np.exp(chance.normal(2.5, 1.2))))  # requests per second
    shape = np.full(len(minutes), 1.0)
    if kind != "flat":
        shape = week * (1 + chance.uniform(0.2, 0.8) * np.sin(day))
    if kind == "bursty":
        starts = np.flatnonzero(chance.random(len(minutes)) < 0.004)
        bursts = np.zeros(len(minutes))
        bursts[starts] = chance.pareto(2.5, len(starts)) + 1
        shape = shape * (1 + np.convolve(bursts, np.exp(-np.arange(15) / 5))[: len(minutes)])
    deploy = int(chance.integers(len(minutes) // 4, 3 * len(minutes) // 4)) if kind == "step" else 0
    shape = shape * np.where(minutes >= deploy, chance.uniform(1.2, 2.0), 1.0) if deploy else shape
    rate = level * shape
    requests = chance.poisson(60 * rate).astype(np.uint32) if served else np.zeros(len(minutes), np.uint32)
    cost = float(np.exp(chance.normal(-5.3, 0.8)))
    base = float(chance.uniform(0.001, 0.05)) if kind != "idle" else 0.001
    drift = np.exp(0.03 * np.sin(minutes / 1440 / 2) + 0.05 * chance.standard_normal(len(minutes)))
    cores = (base + cost * (requests / 60 if served else rate)) * drift
    size = float(np.exp(chance.normal(19.2, 1.0)))
    anonymous = size * (1 + 0.1 * shape / shape.max() + 0.01 * chance.standard_normal(len(minutes)))
    if kind == "leak":
        anonymous = anonymous + size * chance.uniform(0.01, 0.05) * minutes / 1440
    if deploy:
        anonymous[deploy:] *= chance.uniform(0.8, 1.4)
    limit = round(float(cores.max()) * chance.uniform(0.8, 3.0), 2) + 0.05 if chance.random() < 0.6 else None
    cache = np.repeat(size * chance.uniform(0.1, 0.5, days * 24), 60)
    latency = float(np.exp(chance.normal(-4.2, 0.8)))
    pages = [np.floor(each / 4096) * 4096 for each in (anonymous, cache)]
    burst = float(chance.uniform(1.5, 6.0))
    return Minutes(kind, START + 60 * minutes, requests, cores, *pages, limit, latency, deploy, burst)


def tables(of: Minutes, number: int) -> dict[str, dict]:
    """As ``headroom export`` writes it."""
    usage = _usage(of, number)
    if not of.requests.any():
        busiest = np.ones(len(of.requests), bool)
    else:
        busiest = np.zeros(len(of.requests), bool)
        busiest[busiest_rows(of.requests / 60, of.requests)] = True
    return {"usage": usage, "profiles": _profiles(of, busiest), "routes": _routes(of)}


def _usage(of: Minutes, number: int) -> dict:
    rows = len(of.cores)
    load = of.cores / max(float(of.cores.max()), 1e-9)
    names = [f"/kubepods/pod-{number}-a", f"/kubepods/pod-{number}-b"][: 2 if of.deploy else 1]
    first = of.deploy or rows
    codes = pa.array((np.arange(rows) >= first).astype(np.int32))
    throttled = None if of.limit is None else np.where(of.cores * 2 > of.limit, 600 * load**4, 0).astype(np.uint32)
    medians = of.latency * (1 + 0.5 * load**3)
    working_set = of.anonymous + of.cache / 4
    peaks = [np.maximum.accumulate(part) for part in (working_set[:first] + of.cache[:first], working_set[first:])]
    known = {
        "instance": pa.DictionaryArray.from_arrays(codes, pa.array(names)),
        "unix_seconds": of.unix_seconds,
        "duration_seconds": np.full(rows, 60, np.float32),
        "requests": of.requests,
        "errors": np.random.default_rng(number).binomial(of.requests, 0.0005).astype(np.uint32),
        "unanswered": np.zeros(rows, np.uint32),
        "p50_seconds": _bucketed(medians, of.requests),
        "p95_seconds": _bucketed(3 * medians, of.requests),
        "cpu_cores": of.cores.astype(np.float32),
        "cpu_pressure_seconds": (np.round(load * 20) / 100).astype(np.float32),
        "memory_anon_bytes": of.anonymous.astype(np.float32),
        "memory_file_bytes": of.cache.astype(np.float32),
        "memory_working_set_bytes": working_set.astype(np.float32),
        "memory_peak_bytes": np.concatenate(peaks).astype(np.float32),
        "oom_kills": np.zeros(rows, np.uint32),
        "refaults": np.zeros(rows, np.uint32),
    }
    if of.limit is not None:
        known |= {
            "periods": np.full(rows, 600, np.uint32),
            "throttled_periods": throttled,
            "throttled_seconds": (throttled * np.float32(0.05)).astype(np.float32),
            "cpu_limit_cores": np.full(rows, of.limit, np.float32),
            "cpu_request_cores": np.full(rows, of.limit / 2, np.float32),
            "memory_limit_bytes": np.full(rows, 4 * float(of.anonymous.max()), np.float32),
        }
    absent = {name: pa.nulls(rows) for name in USAGE_NUMBERS if name not in known}
    return known | absent


def _bucketed(seconds: np.ndarray, requests: np.ndarray) -> pa.Array:
    values = _MIDDLES[np.clip(np.searchsorted(_EDGES, seconds) - 1, 0, len(_MIDDLES) - 1)]
    return pa.array(values.astype(np.float32), mask=requests == 0)


def _profiles(of: Minutes, busiest: np.ndarray) -> dict:
    group = 2 * ((of.unix_seconds - START) // PERIOD) + busiest
    found, place = np.unique(group, return_inverse=True)
    rows = np.bincount(place)
    requests, cpu = np.bincount(place, of.requests), 60 * np.bincount(place, of.cores)
    mean = cpu / rows / 60
    shares, buckets, sizes = _delays(float(mean.max()), of.burst)
    latency = _latency_shares(of.latency)
    fixed = _LIMITS.astype("<f8").tobytes(), sizes.astype(np.uint8).tobytes() + buckets.astype(np.uint8).tobytes()
    throttled_share = np.minimum(0.9, np.exp(-2 * _LIMITS / (of.burst * mean.max())))
    banks = []
    for index in range(len(found)):
        weight = REQUEST_PARTS * requests[index]
        totals = 600 * rows[index], int(cpu[index] * 1e6), requests[index], weight // 4
        head = np.array((VERSION, len(_LIMITS), 1, *totals), BANK_HEAD)
        throttled = (throttled_share * 600 * rows[index] * mean[index] / mean.max()).astype("<u4")
        half = len(shares)
        counts = np.empty(2 * half, "<u8")
        counts[:half], counts[half:] = shares * weight, shares * weight / 2
        banks.append(
            b"".join(
                (head.tobytes(), fixed[0], throttled.tobytes(), bytes(4 * len(_LIMITS)), fixed[1], counts.tobytes())
            )
        )
    bins = np.array([(index, int(5000 / (index + 1))) for index in range(16)], [("b", "<u2"), ("c", "<u4")]).tobytes()
    return {
        "unix_seconds": START + found // 2 * PERIOD,
        "busiest": pa.array(found % 2 == 1),
        "cpu_limit_cores": pa.nulls(len(found)) if of.limit is None else np.full(len(found), of.limit, np.float32),
        "limit_since_unix_seconds": np.full(len(found), START),
        "rows": rows,
        "seconds": 60.0 * rows,
        "cpu_seconds": cpu,
        "latency": [_packed(np.round(latency * each)) for each in requests],
        "limit_bank": banks,
        "burst_bins": [bins] * len(found),
    }


def _delays(cores: float, burst: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of work by delay for every candidate, twice over: for all requests and for those of busy moments."""
    over = burst * cores / _LIMITS
    share = np.where(over > 0.25, np.exp(-1.5 / over), 0.0)
    middle = np.array([DELAY.bucket_of(0.01 * (1 + each)) for each in over])
    buckets = middle[:, None] + np.arange(-4, 5)
    weights = np.exp(-np.abs(np.arange(-4, 5)) / 2)
    there = (share > 1e-4)[:, None] & (buckets > 0) & (buckets < DELAY.buckets)
    shares = (share[:, None] * weights / weights.sum())[there]
    sizes = there.sum(axis=1)
    return shares, np.tile(buckets[there], 2), np.tile(sizes, 2)


def _latency_shares(median: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        cumulative = ndtr((np.log(_EDGES) - np.log(median)) / 0.6)
    shares: np.ndarray = np.diff(cumulative)
    return shares


def _packed(counts: np.ndarray) -> bytes:
    buckets = np.flatnonzero(counts)
    entries = np.empty(len(buckets), _ENTRY)
    entries["bucket"], entries["count"] = buckets, counts[buckets]
    return b"\x01\x00" + entries.tobytes()


def _routes(of: Minutes) -> dict:
    total = int(of.requests.sum())
    rows = [
        (f"/api/{name}", status, share * error)
        for name, share in (("items", 0.6), ("items/{id}", 0.3), ("cart", 0.1))
        for status, error in ((200, 0.998), (500, 0.002))
        if total * share * error >= 1
    ]
    latency = _latency_shares(of.latency)
    return {
        "role": ["server"] * len(rows),
        "protocol": ["http1"] * len(rows),
        "method": ["GET"] * len(rows),
        "route": [name for name, _, _ in rows],
        "status": [status for _, status, _ in rows],
        "outcome": ["answered"] * len(rows),
        "transfer_seconds_sum": [0.0] * len(rows),
        "latency": [_packed(np.round(latency * total * share)) for _, _, share in rows],
        "latency_seconds_sum": [1.2 * of.latency * total * share for _, _, share in rows],
    }


def _write_part(part: int, folder: Path, containers: int, days: int) -> int:
    numbers = range(part * CONTAINERS_PER_FILE, min(containers, (part + 1) * CONTAINERS_PER_FILE))
    rows = 0
    with ParquetWriter(folder, f"fleet{part:04d}") as writer:
        for number in numbers:
            of = container(number, days)
            key = ("fleet", f"team-{number // 200:03d}", "Deployment", f"app-{number:05d}", "main")
            writer.write(key, tables(of, number))
            rows += len(of.cores)
        writer.finish([_recording(days)] if part == 0 else [])
    return rows


def _recording(days: int) -> dict:
    seconds = float(days * DAY)
    whole = {"seconds": seconds, "windows": days * 1440, "clock_steps": 0, "lost": "{}", "agent": "{}"}
    return {"start_unix_seconds": float(START), "end_unix_seconds": START + seconds} | whole


def generate(folder: Path, containers: int, days: int = DAYS) -> int:
    """Write the store, on two cores; returns its rows of usage."""
    parts = range(-(-containers // CONTAINERS_PER_FILE))
    write = partial(_write_part, folder=folder, containers=containers, days=days)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        return sum(pool.map(write, parts))


def run(folder: Path, output: str = "table") -> dict[str, float]:
    """The command on that store: wall seconds, CPU seconds, highest memory of the process tree."""
    command = [sys.executable, "-m", "headroom", "recommend", "--store", str(folder), "-o", output]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as out, subprocess.Popen(command, stdout=out) as process:
        peak, shared, processes = 0.0, 0.0, 1
        while process.poll() is None:
            tree = _tree(process.pid)
            peak = max(peak, sum(_resident_mib(each, "Pss") for each in tree))
            shared = max(shared, sum(_resident_mib(each, "Rss") for each in tree))
            processes = max(processes, len(tree))
            time.sleep(0.1)
        seconds = time.perf_counter() - begin
        if process.returncode:
            raise RuntimeError(f"headroom recommend ended with {process.returncode}")
        lines = out.seek(0) or sum(1 for _ in out)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mib": peak,
        "peak_sum_of_rss_mib": shared,
        "processes": processes,
        "lines": lines,
    }


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in _tree(int(child)))]


def _resident_mib(pid: int, kind: str) -> float:
    """Memory of a process: of Pss, a page that n processes share is an n-th of a page; of Rss a whole one in each."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = re.search(rf"^{kind}: +([0-9]+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def measure(containers: int = CONTAINERS, folder: Path | None = None) -> dict[str, float]:
    """Generate and run; the store goes afterwards, unless `folder` says where to keep it."""
    with tempfile.TemporaryDirectory(prefix="headroom-fleet-") as temporary:
        store = folder or Path(temporary)
        begin = time.perf_counter()
        rows = generate(store, containers)
        generated = time.perf_counter() - begin
        size = sum(each.stat().st_size for each in store.rglob("*.parquet"))
        result = run(store)
    cores = min(2, len(os.sched_getaffinity(0)))
    return {"containers": containers, "days": DAYS, "rows": rows, "cores": cores} | {
        **{name: round(value, 1) for name, value in result.items()},
        "store_gib": round(size / 2**30, 2),
        "generation_seconds": round(generated, 1),
        "milliseconds_per_container": round(1000 * result["cpu_seconds"] / containers, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=CONTAINERS)
    parser.add_argument("--keep", type=Path, help="folder in which the store stays")
    options = parser.parse_args()
    print(json.dumps(measure(options.containers, options.keep), indent=2))


if __name__ == "__main__":
    main()
