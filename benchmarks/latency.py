"""Our latency beside the load generator's and the server's own, of the same run.

service     wrk, 2 connections against a service that costs CPU: wrk's P50 and P95 beside ours, both ends
saturated   wrk, 16 connections against nginx as fast as it goes
proxied     open loop through nginx to a service that costs CPU: the generator's, nginx's log
            ($request_time, resolution 1 ms) and ours at nginx
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from benchmarks.stand import agent, generate, group, latency
from headroom.demo.host import Group, free_port, start_nginx, start_service, wait_for

_SCRIPT = """
done = function(summary, latency, requests)
  local file = io.open("%s", "w")
  file:write(latency:percentile(50), " ", latency:percentile(95), " ", summary.requests, "\\n")
  file:close()
end
"""
QUANTILES = {"p50": 0.5, "p95": 0.95}


def saturated() -> dict[str, object]:
    """nginx as fast as one core of wrk can ask: answers wait in the socket until wrk comes round to them."""
    with tempfile.TemporaryDirectory() as name, group("nginx-wrk") as server:
        port = free_port()
        Path(name).chmod(0o755)
        start_nginx(server, Path(name) / "nginx", port)
        return _beside_wrk("nginx-wrk", port, "/", connections=16)


def service() -> dict[str, object]:
    """A service whose requests take milliseconds, two at a time: wrk's own work hardly counts."""
    with group("price") as server:
        port = free_port()
        start_service(server, "checkout", port)
        return _beside_wrk("price", port, "/price/1", connections=2)


def _beside_wrk(workload: str, port: int, path: str, connections: int, seconds: int = 15) -> dict[str, object]:
    with group("wrk") as client, agent() as running:
        seen = ask_with_wrk(client, port, path, connections, seconds)
        running.stop()
        ours = {"client": _ours(running.store, "wrk", "client"), "server": _ours(running.store, workload, "server")}
    theirs = {name: seen[f"{name}_seconds"] for name in QUANTILES}
    return {"requests_per_second": seen["requests_per_second"], "wrk_seconds": theirs, **_compared(theirs, ours)}


def ask_with_wrk(client: Group, port: int, path: str, connections: int, seconds: int) -> dict[str, float]:
    """Requests per second, P50 and P95 as wrk saw them."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("wrk is not installed: deploy/install-packages.sh wrk")
    with tempfile.TemporaryDirectory() as name:
        script, result = Path(name) / "wrk.lua", Path(name) / "wrk.txt"
        script.write_text(_SCRIPT % result)
        command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}{path}"]
        client.start(command, piped=True).communicate()
        p50, p95, requests = (float(each) for each in result.read_text().split())
    return {"requests_per_second": requests / seconds, "p50_seconds": p50 / 1e6, "p95_seconds": p95 / 1e6}


def proxied(seconds: int = 40) -> dict[str, object]:
    front, back = free_port(), free_port()
    with (
        tempfile.TemporaryDirectory() as name,
        group("nginx-proxy") as server,
        group("checkout") as service,
        group("generator") as client,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        start_service(service, "checkout", back)
        start_nginx(server, folder / "nginx", free_port())  # writes the configuration ...
        server.processes[-1].terminate()
        server.processes[-1].wait()
        configuration = (folder / "nginx" / "nginx.conf").read_text()
        log = folder / "nginx" / "time.log"
        proxy = (
            f"upstream back {{ server 127.0.0.1:{back}; keepalive 64; }}\n"
            f"log_format time '$request_time';\n"
            f"server {{ listen 127.0.0.1:{front}; access_log {log} time;\n"
            f"  location / {{ proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Connection ''; }} }}\n"
        )
        configuration = re.sub(r"    server \{.*\n\}\n", lambda _: proxy + "}\n", configuration, flags=re.DOTALL)
        (folder / "nginx" / "nginx.conf").write_text(configuration)  # ... which becomes a proxy's
        nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        assert nginx is not None
        server.start(
            [
                nginx,
                "-p",
                str(folder / "nginx"),
                "-e",
                str(folder / "e.log"),
                "-c",
                str(folder / "nginx" / "nginx.conf"),
            ]
        )
        wait_for(front)
        with agent() as running:
            seen = generate(client, [str(front), "checkout", str(seconds)])
            running.stop()
            ours = {
                "server": _ours(running.store, "nginx-proxy", "server"),
                "client": _ours(running.store, "generator", "client"),
            }
        logged = sorted(float(line) for line in log.read_text().split())
    own = sorted(seen["latencies_seconds"])  # type: ignore[call-overload]
    theirs = {name: own[int(quantile * len(own))] for name, quantile in QUANTILES.items()}
    return {
        "requests": len(own),
        "generator_seconds": theirs,
        "nginx_log_seconds": {name: logged[int(quantile * len(logged))] for name, quantile in QUANTILES.items()},
        **_compared(theirs, ours),
    }


def _ours(store: Path, workload: str, side: str) -> dict[str, float]:
    merged = latency(store, workload, side)
    return {name: merged.quantile_seconds(quantile) or 0.0 for name, quantile in QUANTILES.items()}


def _compared(theirs: dict[str, float], ours: dict[str, dict[str, float]]) -> dict[str, object]:
    return {
        "ours_seconds": ours,
        "difference_percent": {
            side: {name: round(100 * (value[name] / theirs[name] - 1), 1) for name in QUANTILES}
            for side, value in ours.items()
        },
    }
