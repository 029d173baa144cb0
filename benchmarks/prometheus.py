"""``recommend --prometheus`` on a fleet in a real Prometheus: what it costs both sides, and how right it is.

``python -m benchmarks.prometheus --url http://127.0.0.1:9090 --until TIME --objects objects.json --truth truth``

The server tells its own CPU time; nothing else may ask it meanwhile. The truth is a folder with a Parquet
file per container (``time``, ``pod``, ``cpu_cores``) that goes on after `until`, as ../shared/fleet makes it.
Peers are our own re-implementations (recommender.baselines) on the same minutes.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.fleet import _resident_mib, _tree
from recommender.baselines import CPU, with_floors
from recommender.series import Series

_NEXT_HOURS = 6
_ROUNDS = 3


def server_seconds(url: str) -> float:
    """CPU time of the server so far, by its own account."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(r"^process_cpu_seconds_total (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def run(url: str, store: Path, more: Sequence[str]) -> dict[str, Any]:
    """One run of the command: seconds, memory of its processes, what it asked, what the server spent."""
    command = [sys.executable, "-m", "headroom", "recommend", "--prometheus", url, "--store", str(store), *more]
    before, begin, peak = server_seconds(url), time.perf_counter(), 0.0
    with (
        tempfile.TemporaryFile() as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True) as process,
    ):
        while process.poll() is None:
            peak = max(peak, sum(_resident_mib(each, "Pss") for each in _tree(process.pid)))
            time.sleep(0.5)  # a look at the memory of a process stops it for a moment
        seconds = time.perf_counter() - begin
        said = process.stderr.read() if process.stderr else ""
        if process.returncode:
            raise RuntimeError(said)
    asked = re.search(r"([0-9]+) queries, ([0-9.]+) M samples, ([0-9]+) MB in ([0-9.]+) s", said)
    assert asked is not None, said
    names = ("queries", "returned_millions", "megabytes", "pull_seconds")
    return {
        "seconds": round(seconds, 1),
        "peak_mib": round(peak),
        "server_cpu_seconds": round(server_seconds(url) - before, 1),
        **dict(zip(names, map(float, asked.groups()), strict=True)),
    }


def sizes(store: Path, policy: str) -> dict[tuple[str, str, str], float]:
    """CPU requests by namespace, workload and container."""
    command = [sys.executable, "-m", "headroom", "recommend", "--store", str(store), "--policy", policy, "-o", "json"]
    rows = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["recommendations"]
    return {(row["namespace"], row["workload"], row["container"]): row["target"]["cpu_request_cores"] for row in rows}


def score(
    truth: Path,
    until: float,
    size_of: Callable[[tuple[str, str, str], list[Series]], float],
    without: set[tuple[str, str]],
) -> dict[str, float]:
    """Cores reserved, and percent of minutes above them in the week before `until` and the hours after it."""
    cores, past, ahead = 0.0, [], []
    for path in sorted((truth / "series").glob("*.parquet")):
        namespace, workload, container = path.stem.split("_", 2)
        if (namespace, workload) in without:
            continue
        table = pq.read_table(path)
        pods = table.column("pod").to_numpy(zero_copy_only=False)
        times = table.column("time").to_numpy().astype("datetime64[s]").astype(float)
        used = table.column("cpu_cores").to_numpy()
        lately = (times >= until - 7 * 86400) & (times < until)
        after = (times >= until) & (times < until + 3600 * _NEXT_HOURS)
        names = np.unique(pods)
        series = [Series.of(name, times[lately & (pods == name)], used[lately & (pods == name)]) for name in names]
        size = size_of((namespace, workload, container), series)
        cores += size * len(names)
        past.append(float((used[lately] > size).mean()))
        ahead.append(float((used[after] > size).mean()))
    percents = {"over_week_percent": 100 * np.mean(past), "over_next_hours_percent": 100 * np.mean(ahead)}
    return {"cores": round(cores)} | {name: round(float(value), 2) for name, value in percents.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--until", type=int, required=True)
    parser.add_argument("--objects", type=Path)
    parser.add_argument("--truth", type=Path)
    options = parser.parse_args()
    more = ["--days", "7", *(["--objects", str(options.objects)] if options.objects else [])]
    result: dict[str, Any] = {"until": options.until, "first": [], "second": []}
    with tempfile.TemporaryDirectory(prefix="headroom-prometheus-") as temporary:
        for number in range(_ROUNDS):
            store = Path(temporary) / str(number)
            result["first"].append(run(options.url, store, [*more, "--until", str(options.until)]))
            result["second"].append(run(options.url, store, [*more, "--until", str(options.until + 600)]))
        if options.truth:
            # the store of the first round, without what came after `until`
            store = Path(temporary) / "judged"
            run(options.url, store, [*more, "--until", str(options.until)])
            objects = json.loads(options.objects.read_text())["items"] if options.objects else []
            scaled = {
                (each["metadata"]["namespace"], each["spec"]["scaleTargetRef"]["name"])
                for each in objects
                if each.get("kind") == "HorizontalPodAutoscaler"
            }
            for policy in ("lean", "balanced", "safe"):
                of = sizes(store, policy)
                result[policy] = score(options.truth, options.until, lambda key, _, of=of: of[key], scaled)
            for name in ("krr_simple", "vpa_target", "autopilot"):
                rule = with_floors(CPU[name])
                result[name] = score(
                    options.truth,
                    options.until,
                    lambda _, pods, rule=rule: rule(pods, float(options.until), None) or 0.0,
                    scaled,
                )
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
