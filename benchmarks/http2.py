"""HTTP/2 with 1, 10 and 100 streams at once in each connection: are all requests counted, and what does one cost?"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.stand import group
from bpf.loader import enable_run_statistics
from collector.traffic import TrafficCounters
from headroom.demo.host import PARENT, Group, free_port, hierarchies, wait_for

REQUESTS, CONNECTIONS, AT_ONCE = 100_000, 4, (1, 10, 100)


def measure() -> dict[str, object]:
    """nghttpd under h2load; both ends are watched."""
    missing = [name for name in ("nghttpd", "h2load") if shutil.which(name) is None]
    assert not missing, f"deploy/install-packages.sh nghttp2-server nghttp2-client: {missing} missing"
    top = next(each for each in hierarchies() if (each / "cgroup.controllers").exists())
    port, statistics = free_port(), enable_run_statistics()
    try:
        with tempfile.TemporaryDirectory() as folder, group("nghttpd") as server, group("h2load") as client:
            Path(folder).chmod(0o755)
            (Path(folder) / "page").write_text("x" * 500)
            server.start(["nghttpd", "--no-tls", "-d", folder, str(port)])
            wait_for(port)
            counters = TrafficCounters.attach(top / PARENT)
            http2 = counters.attach_http2()
            try:
                return {str(at_once): _run(counters, client, port, at_once) for at_once in AT_ONCE}
            finally:
                http2.close()
                counters.kernel.close()
    finally:
        os.close(statistics)


def _run(counters: TrafficCounters, client: Group, port: int, at_once: int) -> dict[str, float]:
    before = _spent_ns(counters)
    counters.read()
    counters.losses()
    counters.commit()
    where = [f"http://127.0.0.1:{port}/{path}" for path in ("page", "absent/42?x=1")]
    command = ["h2load", "-n", str(REQUESTS), "-c", str(CONNECTIONS), "-m", str(at_once), *where]
    output, _ = client.start(command, piped=True).communicate()
    said = re.search(r"status codes: (\d+) 2xx, \d+ 3xx, (\d+) 4xx", output.decode())
    assert said is not None, output
    time.sleep(0.2)
    counted: Counter[tuple[str, int]] = Counter()
    for delta in counters.read():
        counted[delta.role, delta.status] += delta.latency.total
    got = {200: int(said[1]), 404: int(said[2])}
    return {
        "requests": REQUESTS,
        "exact": all(counted[role, status] == got[status] for role in ("server", "client") for status in got),
        "lost": sum(counters.losses().values()),
        "program_ns_per_request_and_end": (_spent_ns(counters) - before) / REQUESTS / 2,
    }


def _spent_ns(counters: TrafficCounters) -> int:
    return sum(spent for spent, _ in counters.kernel.run_statistics().values())
