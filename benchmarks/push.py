"""What it costs a node to leave its profiles, and whoever sizes the cluster to gather them.

Rows are those of the recording that ships with headroom (real servers, our agent), given to 100 pods of 20
workloads, an hour of windows on each node.
"""

from __future__ import annotations

import gzip
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import headroom.demo
from profiles.schema import TrafficRow, UsageRow, Window
from profiles.sqlite import StoreReader, StoreWriter

NODES, PODS, WORKLOADS, WINDOWS, WINDOW_SECONDS = 5, 100, 20, 360, 10.0
_START = 1_795_305_600.0
#: Its own peak: ru_maxrss begins with that of the process that started it.
_SCRIPT = """
import pathlib, sys
from headroom.cli import main
try:
    main(sys.argv[1:])
finally:
    print(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""
_Rows = tuple[list[TrafficRow], list[UsageRow]]


def write_node(path: Path, number: int, pods: int = PODS, workloads: int = WORKLOADS) -> None:
    """The store of a node after an hour."""
    recorded = list(_recorded())
    writer = StoreWriter(path)
    for window in range(WINDOWS):
        traffic, usage = [], []
        for pod in range(pods):
            seen, used = recorded[(window + 7 * pod) % len(recorded)]
            chosen = used[pod % len(used)].identity
            workload = f"web-{pod % workloads:02d}"
            of = replace(
                chosen, cluster="prod", namespace="shop", kind="Deployment", workload=workload, container="main",
                instance=f"{workload}-{number}-{pod:03d}",
            )  # fmt: skip
            traffic += [replace(row, identity=of) for row in seen if row.identity == chosen]
            usage += [replace(row, identity=of) for row in used if row.identity == chosen]
        writer.write(Window(_START + WINDOW_SECONDS * window, WINDOW_SECONDS), traffic, usage)
    writer.close()


def _recorded() -> Iterator[_Rows]:
    with tempfile.TemporaryDirectory() as name:
        store = Path(name) / "recording.db"
        packed = Path(headroom.demo.__file__).parent / "recording.db.gz"
        with gzip.open(packed) as source, store.open("wb") as target:
            shutil.copyfileobj(source, target)
        rows: dict[int, _Rows] = defaultdict(lambda: ([], []))
        with StoreReader(store) as reader:
            for window, seen in reader.traffic():
                rows[window][0].append(seen)
            for window, used in reader.usage():
                rows[window][1].append(used)
    yield from (each for each in rows.values() if len(each[1]) == len(max(rows.values(), key=lambda of: len(of[1]))[1]))


def measure() -> dict[str, object]:
    """Seconds of CPU and megabytes, each step in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder, pushes = Path(name), []
        for number in range(NODES):
            store = folder / "node.db"
            write_node(store, number)
            stored = store.stat().st_size
            command = ["push", "--store", str(store), "--to", str(folder / "depot"), "--node", f"n{number}"]
            pushes.append(cost(command))
            store.unlink()
        left = sum(file.stat().st_size for file in (folder / "depot").rglob("*.parquet"))
        until = str(int(_START + WINDOWS * WINDOW_SECONDS))
        pull = ["pull", "--profiles", str(folder / "depot"), "--store", str(folder / "fleet"), "--cluster", "prod"]
        gathered = cost([*pull, "--until", until])
        kept = sum(file.stat().st_size for file in (folder / "fleet").rglob("*.parquet"))
        return {
            "pods_on_a_node": PODS,
            "store_of_an_hour_mb": round(stored / 1e6, 1),
            "push": pushes[-1],
            "left_by_a_node_in_an_hour_mb": round(left / NODES / 1e6, 2),
            "nodes": NODES,
            "gather": gathered,
            "kept_of_all_nodes_mb": round(kept / 1e6, 2),
        }


def cost(arguments: list[str]) -> dict[str, float]:
    """What a command takes, in a process of its own."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([sys.executable, "-c", _SCRIPT, *arguments], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": round(time.monotonic() - begin, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "peak_mib": round(int(done.stdout.split()[-1]) / 1024, 1),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
