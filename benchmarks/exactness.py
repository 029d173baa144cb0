"""200,000 requests over 16 keep-alive connections, a tenth of them 404 or 503: are all counted?"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.stand import agent, generate, group, statuses
from headroom.demo.host import free_port, start_nginx

REQUESTS = 200_000


def measure() -> dict[str, object]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, group("nginx-exact") as server, group("generator") as client:
        Path(folder).chmod(0o755)
        start_nginx(server, Path(folder) / "nginx", port)
        with agent() as running:
            sent = generate(client, [str(port), "mixed", str(REQUESTS)])["statuses"]
            running.stop()
            sides = {
                side: {str(status): count for status, count in sorted(statuses(running.store, name, side).items())}
                for name, side in (("nginx-exact", "server"), ("generator", "client"))
            }
    return {
        "requests": REQUESTS,
        "sent_by_status": sent,
        "counted_by_status": sides,
        "exact": all(counted == sent for counted in sides.values()),
    }
