"""More than a million requests for ever new paths: how many routes, are all counted, does memory stay flat?"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.stand import agent, group, routes
from headroom.demo.host import free_port, wait_for
from profiles.sqlite import StoreReader

REQUESTS = 1_000_000
_SCRIPT = Path(__file__).with_name("ten_shapes.lua")
_CONFIG = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off; keepalive_requests 100000000;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ listen 127.0.0.1:{port}; return 200; }}
    server {{ listen 127.0.0.1:{status}; location = /status {{ stub_status; }} }}
}}
"""


def measure() -> dict[str, object]:
    """nginx under wrk, in pieces of ten seconds until there were enough requests; nginx says how many."""
    port, status = free_port(), free_port()
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert nginx, "deploy/install-packages.sh nginx-light"
    with tempfile.TemporaryDirectory() as name, group("many-paths") as server, group("wrk") as client:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "nginx.conf").write_text(_CONFIG.format(folder=folder, port=port, status=status))
        with agent("10s") as running:
            server.start([nginx, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])
            wait_for(status)
            begin, spent, handled = time.monotonic(), running.cpu_seconds(), 0
            while handled < REQUESTS:
                command = ["wrk", "-t1", "-c16", "-d10s", "-s", str(_SCRIPT), f"http://127.0.0.1:{port}/"]
                client.start(command, piped=True).communicate()
                handled = _handled(status)
            seconds, spent = time.monotonic() - begin, running.cpu_seconds() - spent
            time.sleep(1)
            running.stop()
            return {"handled": handled, "seconds": seconds, "agent_cores": spent / seconds} | _counted(running.store)


def _handled(port: int) -> int:
    """Requests that nginx has handled, this one among them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status") as answer:
        numbers = re.search(r"(\d+) (\d+) (\d+)", answer.read().decode())
    assert numbers is not None
    return int(numbers[3])


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
