"""More than a million requests for ever new paths: how many routes, are all counted, does memory stay flat?"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.counted_nginx import CountedNginx
from benchmarks.stand import agent, group, routes
from profiles.sqlite import StoreReader

REQUESTS = 1_000_000
_SCRIPT = Path(__file__).with_name("ten_shapes.lua")


def measure() -> dict[str, object]:
    """nginx under wrk, in pieces of ten seconds until there were enough requests; nginx says how many."""
    with (
        tempfile.TemporaryDirectory() as name,
        group("many-paths") as server,
        group("wrk") as client,
        agent("10s") as running,
    ):
        nginx = CountedNginx(server, Path(name))
        begin, spent, handled = time.monotonic(), running.cpu_seconds(), 0
        while handled < REQUESTS:
            command = ["wrk", "-t1", "-c16", "-d10s", "-s", str(_SCRIPT), f"http://127.0.0.1:{nginx.port}/"]
            client.start(command, piped=True).communicate()
            handled = nginx.handled()
        seconds, spent = time.monotonic() - begin, running.cpu_seconds() - spent
        time.sleep(1)
        running.stop()
        return {"handled": handled, "seconds": seconds, "agent_cores": spent / seconds} | _counted(running.store)


def _counted(store: Path) -> dict[str, object]:
    found = routes(store, "many-paths", "server")
    with StoreReader(store) as reader:
        memory = [cost.agent["resident_bytes"] + cost.agent["map_bytes"] for _, cost in reader.windows()]
    return {
        "counted": found.total(),
        "routes": len(found),
        "overflow": found["__overflow__"],
        "first_mib": memory[0] / 2**20,
        "last_mib": memory[-1] / 2**20,
        "by_route": dict(found.most_common()),
    }
