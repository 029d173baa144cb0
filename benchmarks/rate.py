"""As many requests a second as this machine does, for a minute: are all counted, at both ends?"""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.counted_nginx import CountedNginx
from benchmarks.stand import agent, group, routes
from profiles.sqlite import StoreReader

SECONDS, CONNECTIONS = 60, 64


def measure() -> dict[str, object]:
    """nginx under wrk in one piece; nginx says how many it handled, wrk how many answers it got."""
    with (
        tempfile.TemporaryDirectory() as name,
        group("at-most") as server,
        group("wrk-at-most") as client,
        agent("10s") as running,
    ):
        nginx = CountedNginx(server, Path(name))
        spent = running.cpu_seconds()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", f"http://127.0.0.1:{nginx.port}/"]
        said, _ = client.start(command, piped=True).communicate()
        spent = running.cpu_seconds() - spent
        handled = nginx.handled() - 1  # but for this question
        time.sleep(1)
        running.stop()
        answers = re.search(r"(\d+) requests in", said.decode())
        assert answers, said
        counted = {
            "server": routes(running.store, "at-most", "server")["/"],
            "client": routes(running.store, "wrk-at-most", "client")["/"],
        }
        return {
            "seconds": SECONDS,
            "handled": handled,
            "answers": int(answers[1]),
            "counted": counted,
            "agent_cores": spent / SECONDS,
        } | _cost(running.store)


def _cost(store: Path) -> dict[str, object]:
    lost: Counter[str] = Counter()
    most = Counter[str]()
    with StoreReader(store) as reader:
        for _, window in reader.windows():
            lost.update(window.lost)
            most |= Counter({name: window.agent[name] for name in ("resident_bytes", "map_bytes")})
    return {"lost": dict(lost), "resident_mib": most["resident_bytes"] / 2**20, "maps_mib": most["map_bytes"] / 2**20}
