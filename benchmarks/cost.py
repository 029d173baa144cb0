"""What observing costs: program time per request, the limit bank, memory, and CPU while idle."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.stand import agent, generate, group
from bpf.layout import RequestStats
from bpf.loader import enable_run_statistics, load
from collector.cpu import CpuCounters
from headroom.demo.host import PARENT, Group, free_port, hierarchies, start_nginx
from profiles.sqlite import StoreReader

GROUPS, SERVERS, ROUTES = 100, 8, 250
_IDLE_SECONDS = 40


def programs(rounds: int = 5) -> dict[str, float]:
    """Median of each figure over several runs: the machine is shared."""
    runs = [_programs(seconds=4) for _ in range(rounds)]
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def _programs(seconds: int) -> dict[str, float]:
    """nginx at saturation; the traffic programs watch its cgroup alone: the server's side."""
    port = free_port()
    statistics = enable_run_statistics()
    try:
        with tempfile.TemporaryDirectory() as name, group("nginx-cost") as server:
            Path(name).chmod(0o755)
            start_nginx(server, Path(name) / "nginx", port)
            top = next(each for each in hierarchies() if (each / "cgroup.controllers").exists())
            with load("traffic") as traffic, CpuCounters.attach(256).kernel as cpu:
                for program in ("count_ingress", "count_egress"):
                    traffic.attach_cgroup(program, top / PARENT / "nginx-cost")
                before = _switches()
                begin = time.monotonic()
                wrk = shutil.which("wrk")
                assert wrk is not None, "deploy/install-packages.sh wrk"
                subprocess.run(
                    [wrk, "-t1", "-c16", f"-d{seconds}s", f"http://127.0.0.1:{port}/"], check=True, capture_output=True
                )
                wall = time.monotonic() - begin
                requests = sum(
                    sum(RequestStats.from_buffer_copy(value).latency) for _, value in traffic.map("requests").items()
                )
                spent = {name: run for each in (traffic, cpu) for name, run in each.run_statistics().items()}
                switches = (_switches() - before) / wall
    finally:
        os.close(statistics)
    bank_ns = spent["charge_switch"][0] + spent["charge_clock"][0]
    return {
        "program_ns_per_request": (spent["count_ingress"][0] + spent["count_egress"][0]) / requests,
        "ingress_ns_per_packet": spent["count_ingress"][0] / spent["count_ingress"][1],
        "egress_ns_per_packet": spent["count_egress"][0] / spent["count_egress"][1],
        "requests_per_second": requests / wall,
        "limit_bank_core_percent": bank_ns / 1e7 / wall,
        "switches_per_second": switches,
        "ns_per_switch": spent["charge_switch"][0] / max(1, spent["charge_switch"][1]),
        "ns_per_tick": spent["charge_clock"][0] / max(1, spent["charge_clock"][1]),
    }


def footprint() -> dict[str, float]:
    """100 groups with a process each, 8 of them servers with 250 routes each, then silence."""
    groups = [Group(f"pod-{index}") for index in range(GROUPS)]
    try:
        for each in groups[SERVERS:]:
            each.start(["/bin/sh", "-c", "while :; do sleep 1; done"])
        with tempfile.TemporaryDirectory() as name, group("generator") as client:
            Path(name).chmod(0o755)
            ports = [free_port() for _ in groups[:SERVERS]]
            for port, server in zip(ports, groups, strict=False):
                start_nginx(server, Path(name) / str(port), port)
            with agent("10s", everything=True) as running:
                for number, port in enumerate(ports):
                    generate(client, [str(port), "routes", str(ROUTES), str(number * ROUTES)])
                time.sleep(12)  # a window with all of them has been stored
                before, begin = running.cpu_seconds(), time.monotonic()
                time.sleep(_IDLE_SECONDS)
                idle = (running.cpu_seconds() - before) / (time.monotonic() - begin)
                running.stop()
                return {"agent_idle_core_percent": 100 * idle, **_memory(running.store)}
    finally:
        for each in groups:
            each.close()


def _memory(store: Path) -> dict[str, float]:
    with StoreReader(store) as reader:
        costs = [window.agent for _, window in reader.windows()]
        routes = len({row.route for _, row in reader.traffic()})
    resident, maps = (max(cost[name] for cost in costs) / 2**20 for name in ("resident_bytes", "map_bytes"))
    return {
        "agent_memory_mib": resident + maps,
        "resident_mib": resident,
        "maps_mib": maps,
        "routes": routes,
        "groups": GROUPS,
    }


def _switches() -> int:
    line = next(each for each in Path("/proc/stat").read_text().splitlines() if each.startswith("ctxt"))
    return int(line.split()[1])
