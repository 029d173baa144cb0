"""Record: cycles of one baseline and five limited segments with the same arrivals, in random order.

Bounded in time, and resumable: it goes on where the files of ``data/`` end, always with the server
and shape that have the fewest cycles. A cycle during which the rest of the machine used more than
`MOST_OTHER_CORES` is recorded again, whatever its latencies; nothing else is ever left out.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.closed_loop.bins import RawBins
from benchmarks.closed_loop.segments import DATA, Segment, append, packed, path_of, read, unpacked
from benchmarks.closed_loop.servers import PARENT, SERVERS, Server, running
from benchmarks.closed_loop.shapes import SHAPES
from benchmarks.stand import CLOCK_TICKS
from collector.agent import Agent, AgentSettings
from headroom.demo.host import Group, hierarchies
from profiles.histogram import LATENCY, Histogram
from profiles.schema import DropRow, PeerRow, TrafficRow, UsageRow, Window

SEGMENT_SECONDS = 9.5
WANTED_CYCLES = 32  # of 9.5 s: 304 s per limit
LIMIT_FACTORS = tuple(1.25 * 1.3**step for step in range(5))  # of the CPU used without a limit
MEAN_CORES = {1: 0.25, 2: 0.35}  # by the number of workers
MOST_OTHER_CORES = 0.15
_SETTLE_SECONDS = 0.8


class Capture:
    """In place of a store: keeps the rows of the last window."""

    def __init__(self) -> None:
        self.traffic: list[TrafficRow] = []
        self.usage: list[UsageRow] = []

    def write(
        self,
        window: Window,
        traffic: Iterable[TrafficRow],
        usage: Iterable[UsageRow],
        peers: Iterable[PeerRow] = (),  # noqa: ARG002 - not of interest here
        drops: Iterable[DropRow] = (),  # noqa: ARG002
    ) -> None:
        del window
        self.traffic, self.usage = list(traffic), list(usage)

    def prune(self, before_unix_seconds: float) -> int:
        del before_unix_seconds
        return 0


@dataclass
class Stand:
    """Everything that runs: servers, generator, agent, raw bins."""

    groups: dict[str, Group]
    ports: dict[str, int]
    generator: Any
    agent: Agent
    rows: Capture
    bins: RawBins


@contextlib.contextmanager
def stand() -> Iterator[Stand]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        started = {server.name: stack.enter_context(running(server, folder)) for server in SERVERS}
        generators = Group("generator", PARENT)
        stack.callback(generators.close)
        generator = generators.start([sys.executable, "-m", "benchmarks.closed_loop.generator"], piped=True)
        for top in hierarchies():  # before everything else on the machine, and the generator first
            for path, shares in ((top / PARENT, 50_000), (top / PARENT / "generator", 20_000)):
                if (path / "cpu.shares").exists():
                    (path / "cpu.shares").write_text(str(shares))
                elif (path / "cpu.weight").exists():
                    (path / "cpu.weight").write_text(str(min(10_000, shares // 10)))
        rows = Capture()
        agent = Agent(AgentSettings(bases=[PARENT]), rows)
        stack.callback(agent.close)
        bins = RawBins()
        stack.callback(bins.close)
        groups = {name: group for name, (group, _) in started.items()}
        yield Stand(groups, {name: port for name, (_, port) in started.items()}, generator, agent, rows, bins)


def segment(on: Stand, server: Server, order: dict[str, Any], limit_cores: float | None, position: int) -> Segment:
    """Apply the limit, let it settle, send the load, read every counter."""
    group = on.groups[server.name]
    group.limit_cpu(limit_cores)
    time.sleep(_SETTLE_SECONDS)
    on.agent.close_window()
    before = _machine(), _throttled(group)
    start_ns = on.bins.start(_cgroup_id(group))
    on.generator.stdin.write(json.dumps(order).encode() + b"\n")
    on.generator.stdin.flush()
    answer = json.loads(on.generator.stdout.readline())
    bins = on.bins.read(min((answer["end_ns"] - start_ns) / 1e9, 20.0))
    on.agent.close_window()
    after = _machine(), _throttled(group)
    used = {row.identity.workload: row for row in on.rows.usage}
    busy, steal = (b - a for a, b in zip(before[0], after[0], strict=True))
    latencies = np.array(answer["latencies_us"])
    throttling = [None if a is None or b is None else b - a for a, b in zip(before[1], after[1], strict=True)]
    bank = used[server.name].limit_bank
    seen = Histogram.merged(
        LATENCY,
        (
            row.latency
            for row in on.rows.traffic
            if row.identity.workload == server.name and row.role == "server" and row.answered
        ),
    )
    baseline = limit_cores is None
    return Segment(
        order["cycle"],
        position,
        limit_cores,
        order["seed"],
        order["rate"],
        order["seconds"],
        start_ns,
        answer["start_ns"],
        used[server.name].cpu_seconds,
        len(latencies),
        int((latencies < 0).sum()),
        None if throttling[0] is None else int(throttling[0]),
        None if throttling[1] is None else int(throttling[1]),
        None if throttling[2] is None else throttling[2] / 1e9,
        busy - sum(row.cpu_seconds for row in on.rows.usage),
        steal,
        packed(latencies),
        packed(bins) if baseline else None,
        base64.b64encode(bank.to_bytes()).decode() if baseline and bank else None,
        base64.b64encode(seen.to_bytes()).decode() if baseline and seen.total else None,
    )


def plan(on: Stand, end: float) -> dict[str, dict[str, Any]]:
    """Rate and limits per server: measured once per machine, then kept."""
    file = DATA / "plan.json"
    found: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    for server in SERVERS:
        if server.name in found:
            continue
        _wait_for_quiet(end)
        segment(on, server, _order(on, server, "poisson", 0, 20.0, 3.0), None, 0)
        seen = segment(on, server, _order(on, server, "poisson", 1, 40.0, 8.0), None, 0)
        cost = seen.cpu_seconds / seen.requests
        mean = MEAN_CORES[server.parallel]
        limits = [round(mean * factor, 2) for factor in LIMIT_FACTORS]
        found[server.name] = {"rate": round(mean / cost, 1), "limits_cores": limits}
        print(
            f"{server.name}: {cost * 1e3:.2f} ms a request, {mean / cost:.0f} requests/s, limits {limits}", flush=True
        )
    DATA.mkdir(exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n")
    return found


def cycle(on: Stand, server: Server, shape: str, number: int, planned: dict[str, Any]) -> list[Segment]:
    """One baseline and every limit, in an order of its own, all with the same arrivals."""
    limits: list[float | None] = [None, *planned["limits_cores"]]
    random.Random(f"{server.name} {shape} {number}").shuffle(limits)
    order = _order(on, server, shape, number, planned["rate"], SEGMENT_SECONDS)
    done = [segment(on, server, order, limit, position) for position, limit in enumerate(limits)]
    on.groups[server.name].limit_cpu(None)
    return done


def record(minutes: float) -> None:
    """Record until the time is over or every server and shape has all its cycles."""
    end = time.monotonic() + minutes * 60
    with stand() as on:
        plans = plan(on, end)
        have = {
            (server, shape): 1 + max((each.cycle for each in read(path_of(server.name, shape))), default=-1)
            for server in SERVERS
            for shape in SHAPES
        }
        while time.monotonic() < end and min(have.values()) < WANTED_CYCLES:
            (server, shape), number = min(have.items(), key=lambda entry: entry[1])
            _wait_for_quiet(end)
            done = cycle(on, server, shape, number, plans[server.name])
            seconds = sum(each.seconds for each in done)
            other = sum(each.other_cpu_seconds for each in done) / seconds
            verdict = "kept" if other <= MOST_OTHER_CORES else "once more"
            print(f"{server.name} {shape} {number}: {_line(done)} others {other:.2f} cores: {verdict}", flush=True)
            if other <= MOST_OTHER_CORES:
                append(path_of(server.name, shape), done)
                have[server, shape] = number + 1


def _order(on: Stand, server: Server, shape: str, cycle_number: int, rate: float, seconds: float) -> dict[str, Any]:
    seed = random.Random(f"{server.name} {shape} {cycle_number}").randrange(2**31)
    return {
        "protocol": server.protocol,
        "port": on.ports[server.name],
        "connections": server.connections,
        "shape": shape,
        "seed": seed,
        "cycle": cycle_number,
        "rate": rate,
        "seconds": seconds,
    }


def _line(done: list[Segment]) -> str:
    parts = []
    for each in sorted(done, key=lambda one: one.limit_cores or 99):
        p95 = np.quantile(unpacked(each.latencies_us), 0.95) / 1000
        parts.append(f"{each.limit_cores or 'none'}:{p95:.1f}ms")
    return " ".join(parts)


def _machine() -> tuple[float, float]:
    """Busy and stolen seconds of all processors since boot."""
    user, nice, system, _idle, _wait, irq, softirq, steal = (
        int(field) / CLOCK_TICKS for field in Path("/proc/stat").read_text().split()[1:9]
    )
    return user + nice + system + irq + softirq, steal


def _wait_for_quiet(end: float) -> None:
    """Until the rest of the machine is idle, or the time is over."""
    while time.monotonic() < end:
        before = _machine()[0]
        time.sleep(2.0)
        if (_machine()[0] - before) / 2.0 <= MOST_OTHER_CORES:
            return


def _throttled(group: Group) -> tuple[float | None, float | None, float | None]:
    """Periods, throttled periods and throttled nanoseconds so far."""
    for top in hierarchies():
        file = top / PARENT / group.name / "cpu.stat"
        values = dict(line.split() for line in file.read_text().splitlines()) if file.exists() else {}
        if "nr_periods" in values:
            nanoseconds = values.get("throttled_time") or int(values.get("throttled_usec", 0)) * 1000
            return int(values["nr_periods"]), int(values["nr_throttled"]), int(nanoseconds)
    return None, None, None


def _cgroup_id(group: Group) -> int:
    unified = next(top for top in hierarchies() if (top / "cgroup.controllers").exists())
    return (unified / PARENT / group.name).stat().st_ino
