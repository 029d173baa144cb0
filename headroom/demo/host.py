"""Processes in cgroups of their own, on v2, v1 and hybrid trees, and nginx to run in one.

A socket belongs to the cgroup it was made in, so a server is started inside its group: the
child moves itself there before it executes the program.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from profiles.errors import HeadroomError

PARENT = "headroom-demo"
_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000


def hierarchies() -> list[Path]:
    """Every mounted hierarchy in which a group gets usage, limits or an id."""
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    names = ("unified", "cpu", "cpuacct", "cpu,cpuacct", "memory")
    return sorted({(_ROOT / name).resolve() for name in names if (_ROOT / name).is_dir()})


@dataclass
class Group:
    """A cgroup below `parent` with the processes that were started in it."""

    name: str
    parent: str = PARENT
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for top in hierarchies():
            try:
                (top / self.parent / self.name).mkdir(parents=True, exist_ok=True)
                if top == _ROOT:  # v2: controllers are handed down level by level
                    for level in (top, top / self.parent):
                        (level / "cgroup.subtree_control").write_text("+cpu +memory")
            except OSError as error:
                raise HeadroomError(
                    f"Cannot make a cgroup below {top}: {error.strerror}.", "Run as root on a writable cgroup tree."
                ) from error

    def start(self, command: Sequence[str], *, piped: bool = False) -> subprocess.Popen[bytes]:
        """Run `command` inside the group, in silence or with pipes to its input and output."""
        procs = [str(top / self.parent / self.name / "cgroup.procs") for top in hierarchies()]
        join = 'for file; do [ "$file" = -- ] && break; echo $$ > "$file"; shift; done; shift; exec "$@"'
        process = subprocess.Popen(
            ["/bin/sh", "-c", join, "sh", *procs, "--", *command],
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def limit_cpu(self, cores: float | None) -> None:
        """Set or remove the CPU quota, with CFS's default period of 100 ms."""
        quota = -1 if cores is None else round(cores * _PERIOD_US)
        for top in hierarchies():
            folder = top / self.parent / self.name
            if (folder / "cpu.max").exists():
                (folder / "cpu.max").write_text(f"{'max' if quota < 0 else quota} {_PERIOD_US}")
            elif (folder / "cpu.cfs_quota_us").exists():
                (folder / "cpu.cfs_quota_us").write_text(str(quota))

    def close(self) -> None:
        """End what was started here, by process id, and remove the group."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for top in hierarchies():
            remove_group(top / self.parent / self.name)
            with contextlib.suppress(OSError):  # not empty: another group is still there
                (top / self.parent).rmdir()


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int, seconds: float = 10.0) -> None:
    """Wait until `port` takes connections.

    :raises HeadroomError: when it does not in time
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise HeadroomError(f"Nothing listens on port {port} after {seconds:.0f} s.", "See the server's own log.")


def start_nginx(group: Group, folder: Path, port: int, *, gzip: bool = False) -> None:
    """Nginx with a page, a text of 40 KB, and /maintenance (503)."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise HeadroomError("nginx is not installed.", "make packages installs it.")
    (folder / "html").mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    (folder / "html" / "index.html").write_text("<h1>headroom</h1>\n")
    words = random.Random(7)
    text = " ".join(words.choice(("limit", "request", "burst", "quota", "period", "share")) for _ in range(6500))
    (folder / "html" / "catalogue.txt").write_text(text)
    template = (Path(__file__).parent / "nginx.conf").read_text()
    for name, value in {
        "name": group.name,
        "folder": str(folder),
        "port": str(port),
        "gzip": "on" if gzip else "off",
    }.items():
        template = template.replace("{{" + name + "}}", value)
    (folder / "nginx.conf").write_text(template)
    group.start([binary, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")])
    wait_for(port)


def start_service(group: Group, name: str, port: int) -> None:
    """One of the services of ``services.py``."""
    group.start([sys.executable, str(Path(__file__).parent / "services.py"), name, str(port)])
    wait_for(port)


def remove_group(folder: Path) -> None:
    """Remove an empty cgroup; the kernel takes a moment after its last process."""
    for _ in range(50):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
