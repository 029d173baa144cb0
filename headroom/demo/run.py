"""The demo from end to end: servers, load, agent, sizes, patches, report, and the check of it."""

from __future__ import annotations

import asyncio
import gzip
import math
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from headroom.demo.host import PARENT, Group, free_port, start_nginx, start_service
from headroom.demo.load import Call, LoadResult, arrivals, send
from headroom.output import is_terminal, uses_color
from headroom.patching import patches_of, write_patches
from headroom.reporting import document_of
from headroom.sizing import size_store, write_report
from policies.prices import Prices
from profiles.errors import HeadroomError, OutputError
from profiles.sqlite import StoreReader
from reports import document, machine, table
from reports.html import to_html

SECONDS = 60.0
_WAVE_SECONDS = 20.0
_RECORDING = Path(__file__).parent / "recording.db.gz"


@dataclass(frozen=True, slots=True)
class Load:
    """The traffic that one workload of the demo gets: Poisson, its rate a wave."""

    workload: str
    seed: int
    lowest_rate: float
    highest_rate: float
    connections: int
    choose: Callable[[random.Random], tuple[str, str]]

    def calls(self, seconds: float = SECONDS) -> Iterator[Call]:
        """Every request of the load, the same at each call."""
        return arrivals(self.seed, seconds, self.rate, self.choose)

    def rate(self, now: float) -> float:
        """Requests per second at `now`."""
        wave = 0.5 - 0.5 * math.cos(2 * math.pi * now / _WAVE_SECONDS)
        return self.lowest_rate + (self.highest_rate - self.lowest_rate) * wave


def _checkout(chance: random.Random) -> tuple[str, str]:
    if chance.random() < 0.3:
        return "POST", f"/checkout/{chance.randrange(1000)}"
    return "GET", f"/price/{chance.randrange(40)}?currency=EUR"


def _static(chance: random.Random) -> tuple[str, str]:
    return "GET", chance.choices(("/", "/missing", "/maintenance"), (90, 7, 3))[0]


LOADS = (
    Load("checkout", 1, 8, 40, 32, _checkout),
    Load("nginx-static", 2, 60, 200, 8, _static),
    Load("nginx-gzip", 3, 20, 80, 8, lambda _: ("GET", "/catalogue.txt")),
    Load("leaky", 4, 5, 15, 4, lambda chance: ("GET", f"/session/{chance.randrange(10_000)}")),
)
WORKLOADS = (*(load.workload for load in LOADS), "idle")


@contextmanager
def servers() -> Iterator[tuple[dict[str, Group], dict[str, int]]]:
    """All servers of the demo, each in its own cgroup: groups and ports by name."""
    folder = Path(tempfile.mkdtemp(prefix="headroom-demo-"))
    folder.chmod(0o755)  # nginx's worker is another user
    groups: dict[str, Group] = {}
    ports = {name: free_port() for name in WORKLOADS}
    try:
        for name in WORKLOADS:
            groups[name] = Group(name)
            if name.startswith("nginx"):
                start_nginx(groups[name], folder / name, ports[name], gzip=name == "nginx-gzip")
            else:
                start_service(groups[name], name, ports[name])
        yield groups, ports
    finally:
        for group in groups.values():
            group.close()
        shutil.rmtree(folder, ignore_errors=True)


def run_demo(out: Path, seconds: float = SECONDS) -> None:
    """Record real servers under load into `out`, then size them.

    :raises HeadroomError: when servers or agent do not start, or the counts do not agree
    """
    store = out / "profiles.db"
    _clear(out)
    _status(f"starting {len(WORKLOADS)} servers, each in its own cgroup: {', '.join(WORKLOADS)}")
    with servers() as (_, ports):
        agent = _start_agent(store)
        _status(f"recording {seconds:.0f} s of real traffic with eBPF ...")
        try:
            results = asyncio.run(_all_loads(ports, seconds))
            time.sleep(0.5)
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.wait(20)
    _compare_counts(store, results)
    finish(out)


def replay_demo(out: Path, why: str) -> None:
    """The same from the recording that ships with headroom."""
    _clear(out)
    _status(f"cannot record here ({why}); replaying the recording that comes with headroom")
    try:
        with gzip.open(_RECORDING) as packed, (out / "profiles.db").open("wb") as store:
            shutil.copyfileobj(packed, store)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}.", "Give --out another folder.") from error
    finish(out)


def finish(out: Path) -> None:
    """Sizes, patches and report from the store in `out`."""
    recording, rows = size_store(out / "profiles.db", "balanced")
    patches = patches_of(rows)
    write_report(machine.to_json(document.as_document(recording, rows)), out / "recommendations.json")
    write_patches(patches, out / "patches")
    write_report(to_html(document_of(recording, rows, Prices())), out / "report.html")
    click.echo(table.recommendations(rows, terminal=is_terminal(), color=uses_color()))
    click.echo(f"patches:  {out}/patches/*.yaml   (undo: {out}/patches/rollback/)")
    click.echo(f"explain:  headroom explain checkout --store {out}/profiles.db")
    click.echo(f"report:   {(out / 'report.html').resolve()}")


def _status(text: str) -> None:
    click.echo(text, err=True)


async def _all_loads(ports: dict[str, int], seconds: float) -> dict[str, LoadResult]:
    sent = (send(ports[load.workload], load.calls(seconds), load.connections) for load in LOADS)
    return dict(zip((load.workload for load in LOADS), await asyncio.gather(*sent), strict=True))


def _start_agent(store: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "headroom", "record", "--store", str(store), "--window", "1s", "--cgroup", PARENT]
    agent = subprocess.Popen(command, stderr=subprocess.PIPE)
    end = time.monotonic() + 15
    while time.monotonic() < end:  # the first window is its sign of life
        if agent.poll() is not None:
            message = agent.stderr.read().decode() if agent.stderr else ""
            raise HeadroomError(f"The agent did not start: {message.strip()}", "headroom doctor explains.")
        if store.exists() and _has_window(store):
            return agent
        time.sleep(0.1)
    agent.terminate()
    raise HeadroomError("The agent wrote nothing for 15 s.", "headroom doctor explains.")


def _has_window(store: Path) -> bool:
    try:
        StoreReader(store).close()
    except HeadroomError:
        return False
    return True


def _compare_counts(store: Path, results: dict[str, LoadResult]) -> None:
    """The generator knows what it sent; the agent must have counted just that."""
    counted: dict[tuple[str, int], int] = {}
    with StoreReader(store) as reader:
        for _, row in reader.traffic():
            if row.role == "server" and row.answered and row.identity.workload in results:
                key = (row.identity.workload, row.status)
                counted[key] = counted.get(key, 0) + row.requests
    sent = {(name, status): count for name, result in results.items() for status, count in result.statuses.items()}
    total = sum(sent.values())
    if counted != sent:
        different = {key: (sent.get(key, 0), counted.get(key, 0)) for key in sent.keys() | counted.keys()}
        wrong = {key: pair for key, pair in different.items() if pair[0] != pair[1]}
        raise HeadroomError(f"Sent and counted requests differ (sent, counted): {wrong}.", "Please report this.")
    _status(f"sent {total} requests, counted {total}: equal for every workload and status")


def _clear(out: Path) -> None:
    """Remove what an earlier demo left in `out`; nothing else."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in ("profiles.db", "profiles.db-wal", "profiles.db-shm", "recommendations.json", "report.html"):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}.", "Give --out another folder.") from error
