"""What the measurements share: the real agent as a process, and the generator in its own cgroup."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from headroom.demo.host import PARENT, Group
from profiles.histogram import LATENCY, Histogram
from profiles.schema import TrafficRow
from profiles.sqlite import StoreReader

_What = TypeVar("_What", int, str)

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
#: Public traces: what lies beside the checkout, or where HEADROOM_DATA says.
DATA = Path(os.environ.get("HEADROOM_DATA", Path(__file__).parents[2] / "shared" / "data"))


class Agent:
    """``headroom record`` as its users run it."""

    def __init__(self, store: Path, window: str = "1s", *, everything: bool = False) -> None:
        scope = [] if everything else ["--cgroup", PARENT]
        command = [sys.executable, "-m", "headroom", "record", "--store", str(store), "--window", window, *scope]
        said = store.with_suffix(".log")
        with said.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log)
        self.store = store
        while "counting" not in said.read_text():
            if self.process.poll() is not None:
                raise RuntimeError(f"the agent did not start: {said.read_text()}")
            time.sleep(0.05)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def stop(self) -> None:
        self.process.terminate()
        if self.process.wait(30):
            raise RuntimeError("the agent failed")


@contextmanager
def agent(window: str = "1s", *, everything: bool = False) -> Iterator[Agent]:
    with tempfile.TemporaryDirectory() as folder:
        running = Agent(Path(folder) / "profiles.db", window, everything=everything)
        try:
            yield running
        finally:
            if running.process.poll() is None:
                running.stop()


@contextmanager
def group(name: str) -> Iterator[Group]:
    made = Group(name)
    try:
        yield made
    finally:
        made.close()


def statuses(store: Path, workload: str, role: str) -> Counter[int]:
    """Requests by status that the agent counted for a workload's side."""
    return _requests_by(attrgetter("status"), store, workload, role)


def routes(store: Path, workload: str, role: str) -> Counter[str]:
    """Requests by route that the agent counted for a workload's side."""
    return _requests_by(attrgetter("route"), store, workload, role)


def _requests_by(what: Callable[[TrafficRow], _What], store: Path, workload: str, role: str) -> Counter[_What]:
    counted: Counter[_What] = Counter()
    with StoreReader(store) as reader:
        for _, row in reader.traffic():
            if row.identity.workload == workload and row.role == role:
                counted[what(row)] += row.requests
    return counted


def latency(store: Path, workload: str, role: str) -> Histogram:
    with StoreReader(store) as reader:
        of_workload = (row for _, row in reader.traffic() if row.identity.workload == workload)
        rows = [row for row in of_workload if row.role == role and row.answered]
    return Histogram.merged(LATENCY, (row.latency for row in rows))


def generate(in_group: Group, arguments: list[str]) -> dict[str, object]:
    """Run benchmarks/generator.py inside a cgroup and return what it saw."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        process = in_group.start([sys.executable, "-m", "benchmarks.generator", file.name, *arguments])
        if process.wait(300):
            raise RuntimeError("the generator failed")
        result: dict[str, object] = json.loads(Path(file.name).read_text())
        return result
