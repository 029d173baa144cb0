"""What observing adds to an application: unobserved, observed by us and by a tracer of the classic shape, in turns.

service     one request after the other to a service of 1 ms of CPU: P50 and P95
saturated   nginx as fast as it goes: requests a second

The agent and the tracer (``anchor/``) watch the whole machine, so both ends of every request. Each round has one run of
each, in the six orders by turns, and gives ratios to its own unobserved run; reported are the medians of the rounds,
with the order statistics around them that hold the true median with 95 %.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import timeit
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import permutations
from math import comb
from pathlib import Path
from typing import Any

from benchmarks.latency import ask_with_wrk
from benchmarks.stand import agent, group
from headroom.demo.host import free_port, start_nginx, wait_for

ROUNDS, SECONDS = 24, 3  # a multiple of six: the orders of three
_SERVICE_SECONDS = 0.001
_HERE = Path(__file__).parent

Watcher = Callable[[], AbstractContextManager[object]]


def measure(rounds: int = ROUNDS, seconds: int = SECONDS) -> dict[str, object]:
    """Both applications."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        _compile(folder)
        watchers: dict[str, Watcher] = {
            "unobserved": nullcontext,
            "headroom": lambda: agent("10s", everything=True),
            "anchor": lambda: _anchor(folder),
        }
        with group("one-ms") as server, group("wrk-one-ms") as client:
            port = free_port()
            server.start([sys.executable, "-m", "benchmarks.overhead", str(port)])
            wait_for(port)
            service = _in_turns(watchers, lambda: ask_with_wrk(client, port, "/", 1, seconds), rounds)
        with group("nginx-overhead") as server, group("wrk-overhead") as client:
            port = free_port()
            start_nginx(server, folder / "nginx", port)
            saturated = _in_turns(watchers, lambda: ask_with_wrk(client, port, "/", 16, seconds), rounds)
    return {"rounds": rounds, "service": service, "saturated": saturated}


def _in_turns(
    watchers: Mapping[str, Watcher], run: Callable[[], Mapping[str, float]], rounds: int
) -> dict[str, object]:
    """Each figure of the unobserved runs, and for each watcher its ratio to them."""
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in watchers}
    orders = list(permutations(watchers))
    for number in range(rounds):
        for name in orders[number % len(orders)]:
            with watchers[name]():
                found[name].append(run())
    bare = found.pop("unobserved")
    result: dict[str, object] = {"unobserved": {each: statistics.median(run[each] for run in bare) for each in bare[0]}}
    for name, runs in found.items():
        ratios = {each: [run[each] / before[each] for run, before in zip(runs, bare, strict=True)] for each in bare[0]}
        result[name] = {each: _median_and_interval(values) for each, values in ratios.items()}
    return result


def _median_and_interval(values: list[float]) -> dict[str, float]:
    """The values between which the true median lies with 95 % (binomial: no distribution is assumed)."""
    order, tail, rank = sorted(values), 0.0, 0
    while (tail := tail + comb(len(order), rank) / 2 ** len(order)) <= 0.025:
        rank += 1
    return {"median": statistics.median(order), "low": order[max(0, rank - 1)], "high": order[-max(1, rank)]}


def _compile(folder: Path) -> None:
    clang = shutil.which("clang")
    assert clang, "deploy/install-packages.sh clang"
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    include = f"-I/usr/include/{machine}-linux-gnu"
    kernel = [clang, "-g", "-O2", "-target", "bpf", "-mcpu=v3", include, "-c", str(_HERE / "anchor/tracer.bpf.c")]
    subprocess.run([*kernel, "-o", str(folder / "tracer.bpf.o")], check=True)
    subprocess.run([clang, "-O2", str(_HERE / "anchor/reader.c"), "-lbpf", "-o", str(folder / "reader")], check=True)


@contextmanager
def _anchor(folder: Path) -> Iterator[None]:
    if not Path("/sys/kernel/tracing/events").exists():
        subprocess.run(["mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing"], check=True)
    tracer = subprocess.Popen([folder / "reader", folder / "tracer.bpf.o"], stdout=subprocess.PIPE, text=True)
    assert tracer.stdout is not None
    try:
        if tracer.stdout.readline() != "tracing\n":
            raise RuntimeError("the tracer did not start")
        yield
    finally:
        tracer.terminate()
        events = tracer.communicate(timeout=30)[0]
    if not int(events):
        raise RuntimeError("the tracer saw nothing")


def _serve(port: int) -> None:
    """A service of 1 ms of CPU: as many rounds of a hash as take that long here and now."""
    took = min(timeit.repeat(lambda: hashlib.pbkdf2_hmac("sha256", b"a", b"b", 1000), number=10, repeat=20)) / 10
    rounds = round(1000 * _SERVICE_SECONDS / took)

    def answer(end: socket.socket) -> None:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while end.recv(4096):
            hashlib.pbkdf2_hmac("sha256", b"a", b"b", rounds)
            end.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


def shown(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what, measured, aim) of each figure."""
    rows = []
    for application, figure, what, aim in (
        ("service", "p50_seconds", "a service of 1 ms, P50", "+1 % at most"),
        ("service", "p95_seconds", "a service of 1 ms, P95", "+1 % at most"),
        ("saturated", "requests_per_second", "nginx at saturation, requests a second", "-6 % at most"),
    ):
        ours, anchor = (results[application][watcher][figure] for watcher in ("headroom", "anchor"))
        text = "; ".join(
            f"{100 * (each['median'] - 1):+.1f} % ({100 * (each['low'] - 1):+.1f} to {100 * (each['high'] - 1):+.1f})"
            for each in (ours, anchor)
        )
        rows.append((f"{what}, both ends observed; by a classic tracer", text, aim))
    return rows


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
