"""Five real servers, each in a cgroup of its own: nginx, gunicorn, Node, PostgreSQL, Redis."""

from __future__ import annotations

import asyncio
import os
import pwd
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.closed_loop.clients import Redis
from benchmarks.closed_loop.shapes import WEIGHTS
from headroom.demo.host import Group, free_port, wait_for

_HERE = Path(__file__).parent
#: Not the demo's: both may run at once.
PARENT = "headroom-loop"


@dataclass(frozen=True, slots=True)
class Server:
    """How to start one and how to talk to it.

    :ivar parallel: workers that can be on a CPU at once
    """

    name: str
    protocol: str
    connections: int
    parallel: int
    start: Callable[[Group, Path, int], None]


def _nginx(group: Group, folder: Path, port: int) -> None:
    """One worker that compresses texts of 90, 280 and 560 KB."""
    (folder / "work").mkdir(parents=True)
    words = ("limit", "request", "burst", "quota", "period", "share", "headroom", "latency")
    chance = random.Random(7)
    for units in WEIGHTS:
        (folder / "work" / str(units)).write_text(" ".join(chance.choice(words) for _ in range(units * 14000)))
    (folder / "nginx.conf").write_text(f"""
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; user root;
events {{ worker_connections 512; }}
http {{
    access_log off; default_type text/plain; keepalive_requests 100000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    gzip on; gzip_comp_level 6; gzip_types text/plain;
    server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}""")
    binary = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    group.start(
        [binary or "nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    )


def _gunicorn(group: Group, folder: Path, port: int) -> None:
    options = ["-w", "2", "-k", "gthread", "--threads", "8", "--keep-alive", "600", "-b", f"127.0.0.1:{port}"]
    module = [sys.executable, "-m", "gunicorn", "--chdir", str(_HERE), "--worker-tmp-dir", str(folder), *options]
    group.start([*module, "wsgi:app"])


def _node(group: Group, folder: Path, port: int) -> None:
    del folder
    group.start(["node", str(_HERE / "node_server.js"), str(port)])


def _postgres(group: Group, folder: Path, port: int) -> None:
    """pgbench's tables at scale 5: 500,000 accounts."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))
    user = pwd.getpwnam("postgres")
    os.chown(folder, user.pw_uid, user.pw_gid)
    as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run(
        [*as_user, binaries / "initdb", "-D", folder / "data", "-A", "trust", "-U", "postgres"], **quiet, check=True
    )
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": folder,
        "shared_buffers": "256MB",
        "max_parallel_workers_per_gather": 0,
        "jit": "off",
        "autovacuum": "off",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    group.start([*as_user, str(binaries / "postgres"), "-D", str(folder / "data"), *map(str, options)])
    target = ["-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
    while subprocess.run([binaries / "pg_isready", "-q", *target], check=False).returncode:
        time.sleep(0.2)
    subprocess.run([binaries / "pgbench", *target, "-i", "-q", "-s", "5", "postgres"], **quiet, check=True)


def _redis(group: Group, folder: Path, port: int) -> None:
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    group.start(["redis-server", *options])
    wait_for(port)

    async def fill() -> None:
        client = Redis(port)
        await client.connect()
        for units in WEIGHTS:
            await client.fill(units, units * 12_000)
        client.close()

    asyncio.run(fill())


SERVERS = (
    Server("nginx", "http", 32, 1, _nginx),
    Server("gunicorn", "http", 16, 2, _gunicorn),
    Server("node", "http", 32, 1, _node),
    Server("postgres", "postgres", 8, 2, _postgres),
    Server("redis", "redis", 16, 1, _redis),
)


@contextmanager
def running(server: Server, folder: Path) -> Iterator[tuple[Group, int]]:
    """The server in a group of its name, and its port."""
    group = Group(server.name, PARENT)
    try:
        place = folder / server.name
        place.mkdir(parents=True)
        folder.chmod(0o755)
        place.chmod(0o755)
        port = free_port()
        server.start(group, place, port)
        wait_for(port, 20)
        yield group, port
    finally:
        group.close()
