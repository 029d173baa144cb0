"""Pods come and go while an agent names them: is each request counted, once, and under its own workload?

A server that does what API servers do tells of pods. Each pod is a cgroup as a kubelet makes it, with a process per
container that answers requests, and a group for its sandbox. A hundred stay, and every second one is born that ends
five seconds later. The ids of containers are told late, as kubelets tell them: after they run.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headroom.demo.host import Group, free_port, hierarchies, remove_group
from profiles.agent_cost import cost_over
from profiles.sqlite import StoreReader
from tests.cluster.replay import Replay, api_server

STEADY, SECONDS, LIVES_SECONDS, WORKLOADS = 100, 300.0, 5.0, 20
_TOLD_LATE_SECONDS = 0.4
_PARENT = "headroom-pods"
_QOS = {"Guaranteed": "", "Burstable": "burstable/", "BestEffort": "besteffort/"}
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class _Pod:
    """A pod that runs here."""

    number: int
    containers: int
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    groups: list[Group] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    children: list[int] = field(default_factory=list)
    told: bool = False
    born: float = field(default_factory=time.monotonic)

    @property
    def workload(self) -> str:
        return f"web-{self.number % WORKLOADS:02d}"

    @property
    def name(self) -> str:
        return f"{self.workload}-b994bf9fb-{self.number:05d}"

    def start(self) -> None:
        """Its sandbox, and each container with a process in it."""
        qos = list(_QOS.values())[self.number % 3]
        for place in range(self.containers + 1):
            identifier = random.randbytes(32).hex()
            group = Group(f"kubepods/{qos}pod{self.uid}/{identifier}", parent=_PARENT)
            self.groups.append(group)
            if place:
                self.ids.append(identifier)
                self.ports.append(free_port())
                self.children.append(_serve(group, self.ports[-1]))

    def end(self) -> None:
        for child in self.children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        for group in self.groups:
            group.close()

    def event(self, kind: str) -> dict[str, Any]:
        """What the API server tells of it."""
        names = [f"c{place}" for place in range(self.containers)]
        statuses = [
            {"name": name, "containerID": f"containerd://{identifier}"}
            for name, identifier in zip(names, self.ids, strict=False)
        ]
        owner = {"kind": "ReplicaSet", "name": f"{self.workload}-b994bf9fb", "controller": True, "uid": "1"}
        metadata = {"name": self.name, "namespace": "shop", "uid": self.uid, "ownerReferences": [owner]}
        metadata["labels"] = {"pod-template-hash": "b994bf9fb"}  # type: ignore[assignment]
        spec = {"nodeName": "node1", "containers": [{"name": name} for name in names]}
        each = {"kind": "Pod", "metadata": metadata, "spec": spec}
        return {"type": kind, "object": each | {"status": {"containerStatuses": statuses if self.told else []}}}


def _serve(group: Group, port: int) -> int:
    """A process inside the group that answers every request; its id."""
    listening = socket.socket()
    child = os.fork()
    if child:
        listening.close()
        return child
    try:
        for top in _tops(group):
            (top / "cgroup.procs").write_text(str(os.getpid()))
        with socket.socket() as server:  # of the group that it was made in
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", port))
            server.listen(16)
            while True:
                connection, _ = server.accept()
                with connection:
                    while connection.recv(65_536):
                        connection.sendall(_ANSWER)
    finally:
        os._exit(0)


def _tops(group: Group) -> list[Path]:
    return [top / group.parent / group.name for top in hierarchies()]


def measure(steady: int = STEADY, seconds: float = SECONDS) -> dict[str, object]:
    """All of it; differences by pod and container."""
    sent: Counter[tuple[str, str, str]] = Counter()
    with tempfile.TemporaryDirectory() as name, api_server({"Pod": []}) as server:
        folder, agent = Path(name), None
        (folder / "token").write_text(server.token)
        pods: list[_Pod] = []
        try:
            for number in range(steady):
                _begin(pods, number, server)
            _tell(pods, server, late_seconds=0.0)
            agent = _agent(folder, server.url)
            born = _come_and_go(pods, server, seconds, sent)
            time.sleep(1.0)
            agent.send_signal(signal.SIGTERM)
            agent.communicate(timeout=30)
        finally:
            if agent is not None and agent.poll() is None:
                agent.kill()
                agent.communicate()
            for pod in pods:
                pod.end()
            _clean()
        return _compared(folder / "node.db", sent, born)


def _begin(pods: list[_Pod], number: int, server: Replay) -> None:
    pods.append(_Pod(number, 1 + (number % 4 == 0)))
    server.feed(pods[-1].event("ADDED"))
    pods[-1].start()


def _tell(pods: list[_Pod], server: Replay, late_seconds: float = _TOLD_LATE_SECONDS) -> None:
    """The ids of containers, some time after they run."""
    for pod in pods:
        if not pod.told and time.monotonic() >= pod.born + late_seconds:
            pod.told = True
            server.feed(pod.event("MODIFIED"))


def _come_and_go(pods: list[_Pod], server: Replay, seconds: float, sent: Counter[tuple[str, str, str]]) -> int:
    """One a second is born, and ends; all are asked meanwhile. Returns how many there have been."""
    steady, begin = len(pods), time.monotonic()
    number = steady
    while (now := time.monotonic() - begin) < seconds:
        if number - steady < now:
            _begin(pods, number, server)
            number += 1
        _tell(pods, server)
        for pod in pods[steady:]:
            if time.monotonic() > pod.born + LIVES_SECONDS:
                pods.remove(pod)
                pod.end()
                server.feed(pod.event("DELETED"))
        for pod in (*random.sample(pods[:steady], min(10, steady)), *pods[steady:]):
            _ask(pod, sent)
        time.sleep(0.05)
    return number


def _clean() -> None:
    for top in hierarchies():
        for folder, _, _ in os.walk(top / _PARENT, topdown=False):
            remove_group(Path(folder))


def _agent(folder: Path, url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "headroom", "record", "--store", str(folder / "node.db"), "--window", "10s"]
    api = ["--node", "node1", "--cluster", "prod", "--api-server", url, "--api-token-file", str(folder / "token")]
    agent = subprocess.Popen([*command, "--cgroup", _PARENT, *api], stderr=subprocess.PIPE)
    assert agent.stderr is not None
    while b"counting" not in agent.stderr.readline():
        assert agent.poll() is None
    return agent


def _ask(pod: _Pod, sent: Counter[tuple[str, str, str]]) -> None:
    for place, port in enumerate(pod.ports):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            for _ in range(2):
                connection.request("GET", "/")
                connection.getresponse().read()
                sent[pod.workload, pod.name, f"c{place}"] += 1
        except ConnectionRefusedError:
            continue  # it is not up yet
        finally:
            connection.close()


def _compared(store: Path, sent: Counter[tuple[str, str, str]], pods: int) -> dict[str, object]:
    counted: Counter[tuple[str, str, str]] = Counter()
    others: Counter[str] = Counter()
    with StoreReader(store) as reader:
        for _, row in reader.traffic():
            of = row.identity
            if row.role != "server":
                continue
            if (of.cluster, of.namespace, of.kind) == ("prod", "shop", "Deployment"):
                counted[of.workload, of.instance, of.container] += row.requests
            else:
                others[f"{of.namespace}/{of.kind}/{of.workload}"] += row.requests
        used = {row.identity.instance for _, row in reader.usage()}
        windows = [window for _, window in reader.windows()]
    cost = cost_over(windows)
    wrong = {
        "/".join(key): (sent[key], counted[key]) for key in sent.keys() | counted.keys() if sent[key] != counted[key]
    }
    return {
        "pods": pods,
        "requests": sum(sent.values()),
        "counted": sum(counted.values()),
        "pods_wrong": len(wrong),
        "examples": dict(sorted(wrong.items())[:5]),
        "elsewhere": dict(others.most_common(5)),
        "usage_without_name": sum(not name.startswith("web-") for name in used),
        "agent_mib": round((cost["resident_bytes"] + cost["map_bytes"]) / 2**20, 1),
        "agent_mib_by_minute": [
            [round(window.agent[name] / 2**20, 1) for name in ("resident_bytes", "map_bytes")]
            for window in windows[::6]
        ],
        "agent_core_percent": round(100 * cost["cpu_cores"], 2),
        "lost": dict(sum((Counter(window.lost) for window in windows), Counter())),
    }


if __name__ == "__main__":
    import json

    print(json.dumps(measure(*(float(each) if "." in each else int(each) for each in sys.argv[1:])), indent=2))
