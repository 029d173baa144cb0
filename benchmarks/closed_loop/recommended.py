"""The physical check: the recommended CPU limit as a real quota, the same load replayed.

One recording without a limit gives the recommendation. Then segments without and with the
limit alternate, each pair with the same arrivals, and the generator's own P95 is compared.
The noise is what the segments without a limit differ among themselves.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.stand import Agent
from headroom.demo.load import LoadResult, send
from headroom.demo.run import LOADS, servers
from headroom.sizing import find, size_store

RECORD_SECONDS, SEGMENT_SECONDS, PAIRS = 60.0, 20.0, 6


def measure() -> dict[str, object]:
    load = next(each for each in LOADS if each.workload == "checkout")
    with tempfile.TemporaryDirectory() as folder, servers() as (groups, ports):
        port = ports["checkout"]
        agent = Agent(Path(folder) / "profiles.db")
        asyncio.run(send(port, load.calls(RECORD_SECONDS), load.connections))
        agent.stop()
        row = find(size_store(agent.store, "balanced")[1], "checkout")
        limit = row.target.cpu_limit_cores
        if limit is None:
            raise RuntimeError(f"no limit was recommended: {row.reasons['cpu_limit_cores']}")
        pairs = []
        for index in range(PAIRS):
            seeded = replace(load, seed=100 + index)
            order = (None, limit) if index % 2 == 0 else (limit, None)
            measured: dict[float | None, LoadResult] = {}
            for cores in order:
                groups["checkout"].limit_cpu(cores)
                time.sleep(0.3)
                measured[cores] = asyncio.run(send(port, seeded.calls(SEGMENT_SECONDS), load.connections))
            groups["checkout"].limit_cpu(None)
            pairs.append((measured[None], measured[limit]))
    pooled = [_p95([pair[side] for pair in pairs]) for side in (0, 1)]
    baselines = [_p95([pair[0]]) for pair in pairs]
    ratios = [_p95([limited]) / _p95([free]) - 1 for free, limited in pairs]
    noise = statistics.stdev(baselines) / statistics.mean(baselines) / len(pairs) ** 0.5
    adds = pooled[1] / pooled[0] - 1
    budget = row.policy.latency.limit_adds_percent / 100
    return {
        "limit_cores": limit,
        "budget": budget,
        "predicted_adds": row.limit_adds,
        "p95_without_seconds": pooled[0],
        "p95_with_seconds": pooled[1],
        "measured_adds": adds,
        "pair_adds": [round(each, 4) for each in ratios],
        "noise": 2 * noise,
        "inside_budget_plus_noise": adds <= budget + 2 * noise,
    }


def _p95(results: list[LoadResult]) -> float:
    values = sorted(value for result in results for value in result.latencies_seconds)
    return values[int(0.95 * len(values))]
