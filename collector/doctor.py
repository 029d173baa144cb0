"""What works on this machine: each part is tried, never guessed from a configuration."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from bpf.loader import BpfObject, KernelRefused, load
from collector.births import Births
from collector.cgroups import SYSTEM_ROOT, CgroupTree, find_tree
from collector.cpu import CpuCounters
from collector.drops import DropCounters
from collector.identity import attribute
from collector.network import NetworkCounters
from collector.peers import PeerCounters
from collector.runtimes import Runtimes
from collector.traffic import TrafficCounters
from profiles.check import Check
from profiles.errors import HeadroomError

_TRIAL_CGROUPS = 64
#: Atomic compare-and-swap and global functions that take pointers came with 5.12 and 5.13.
LEAST_KERNEL = (5, 13)

# What each capability is for; nothing else is needed.
CAPABILITIES = {
    "CAP_BPF": (39, "load the programs"),
    "CAP_PERFMON": (38, "attach to the scheduler and to the per-CPU clock"),
    "CAP_NET_ADMIN": (12, "attach to the cgroup's packets"),
}


def examine(root: Path = SYSTEM_ROOT) -> Iterator[Check]:
    """Every check, in an order in which the first failure explains the later ones."""
    yield Check("kernel", "ok", f"{platform.system()} {platform.release()} on {platform.machine()}")
    yield _privileges()
    try:
        tree = find_tree(root)
    except HeadroomError as error:
        yield Check("cgroups", "failed", error.sentence, error.next_step)
        return
    yield _tree(tree)
    unified = tree.unified
    if unified is not None:
        yield _object("traffic", "requests and latency", lambda: TrafficCounters.attach(unified).kernel)
        yield _object("http2", "HTTP/2 and gRPC", lambda: _beside(unified, TrafficCounters.attach_http2), "missing")
        yield _object(
            "lifecycle",
            "requests that come with the handshake, or get no answer",
            lambda: _beside(unified, TrafficCounters.attach_lifecycle),
            "missing",
        )
        yield _object(
            "peers",
            "bytes by peer",
            lambda: _beside(unified, lambda traffic: PeerCounters.attach(traffic.kernel).kernel),
            "missing",
        )
    yield _object("births", "containers that live for seconds", lambda: Births.attach().kernel, "missing")
    yield _object("drops", "dropped packets, by reason", lambda: DropCounters.attach().kernel, "missing")
    yield _object(
        "runtimes", "what executes a program: Go, a JVM, Node ...", lambda: Runtimes.attach().kernel, "missing"
    )
    yield _object("network", "retransmits, resets, connections", lambda: NetworkCounters.attach().kernel, "missing")
    yield _object("cpu", "on-CPU time and the limit bank", lambda: CpuCounters.attach(_TRIAL_CGROUPS).kernel)
    yield _workloads(tree)
    yield _pressure(tree)
    yield Check(
        "blind spots",
        "ok",
        "unix sockets, traffic that sockmap redirects, QUIC; HTTPS comes later",
    )


def _privileges() -> Check:
    effective = 0
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                effective = int(line.split()[1], 16)
    missing = [f"{name} ({why})" for name, (bit, why) in CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        return Check(
            "privileges", "failed", f"missing: {', '.join(missing)}", "Run as root, or give these capabilities."
        )
    return Check("privileges", "ok", "root" if os.geteuid() == 0 else ", ".join(CAPABILITIES))


def _tree(tree: CgroupTree) -> Check:
    if tree.unified is None:
        return Check(
            "cgroups", "missing", "version 1 alone: CPU and memory are read, requests cannot be told apart",
            "Boot with systemd.unified_cgroup_hierarchy=1, or mount a v2 tree at /sys/fs/cgroup/unified.",
        )  # fmt: skip
    return Check("cgroups", "ok", f"{tree.version}, v2 tree at {tree.unified}")


def _object(name: str, what: str, attempt: Callable[[], BpfObject], without: str = "failed") -> Check:
    try:
        attempt().close()
    except KernelRefused as error:
        return Check(f"{name}.bpf.o", without, f"{error}; {what} are not measured", _advice(error))
    return Check(f"{name}.bpf.o", "ok", f"loads and attaches: {what}")


def _beside(unified: Path, attach: Callable[[TrafficCounters], BpfObject]) -> BpfObject:
    """An object that counts in the maps of ``traffic.bpf.o``."""
    traffic = TrafficCounters.attach(unified)
    try:
        return attach(traffic)
    finally:
        traffic.kernel.close()


_COMPILE = "make bpf (needs clang and libbpf-dev)"
_RIGHTS = "Run as root or with the capabilities above; see also kernel.perf_event_paranoid and lockdown."
_ADVICE = {
    "no type information": "A kernel with CONFIG_DEBUG_INFO_BTF=y; requests and latency do without.",
    "libbpf": "apt-get install libbpf1",
    "compiled": _COMPILE,
    "make bpf": _COMPILE,
    "Operation not permitted": _RIGHTS,
    "Permission denied": _RIGHTS,
}


def _advice(error: KernelRefused) -> str:
    text = str(error)
    if _release() < LEAST_KERNEL and "compiled" not in text:
        return f"Linux {'.'.join(map(str, LEAST_KERNEL))} or later: this one's eBPF cannot compare and swap."
    for words, advice in _ADVICE.items():
        if words in text:
            return advice
    return f"The kernel's own words: {error.detail.splitlines()[-1].strip()}" if error.detail else "None is known."


def _release() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])


def _workloads(tree: CgroupTree) -> Check:
    found = set(attribute(tree, tree.walk()).values())
    if not found:
        return Check(
            "workloads", "missing", "no cgroup belongs to a workload",
            "Start one in a cgroup of its own: systemd-run --unit NAME COMMAND.",
        )  # fmt: skip
    memory = sum(1 for each in found if tree.directory(each.instance.lstrip("/"), "memory") is not None)
    return Check("workloads", "ok", f"{len(found)} found, {memory} of them with a memory controller")


def _pressure(tree: CgroupTree) -> Check:
    try:
        if tree.unified is not None and (tree.unified / "cpu.pressure").read_text():
            return Check("pressure", "ok", "PSI is on")
    except OSError:
        pass
    return Check("pressure", "missing", "PSI is off: pressure columns stay empty", "Boot with psi=1 to have them.")


def can_record() -> str | None:
    """Why this machine cannot record traffic, in one sentence; None when it can."""
    try:
        unified = find_tree().unified
        if unified is None:
            return "there is no cgroup v2 tree"
        TrafficCounters.attach(unified).kernel.close()
        load("cpu").close()
    except (KernelRefused, HeadroomError) as error:
        return str(error)
    return None
