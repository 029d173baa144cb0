"""The agent as a process: which of its parts are there, and what the network's give."""

import json
import shutil
import subprocess
import sys
import time
from collections import Counter

import pytest

from headroom.demo.host import Group, free_port, wait_for
from tests.collector.recording import ask, end, read, requests, start

pytestmark = pytest.mark.kernel


def test_who_talks_to_whom_is_stored(tmp_path, web):
    """Both workloads are on this node, so each end has the other's name; the command says the same."""
    _, port = web
    store, caller = tmp_path / "host.db", Group("test-caller")
    try:
        agent = start(store)
        script = f"from tests.collector.recording import ask; ask({port}, 30)"
        caller.start([sys.executable, "-c", script]).wait(20)
        time.sleep(0.3)
        assert end(agent)[0] == 0
    finally:
        caller.close()
    names = {row.identity.workload: row.identity.name for _, row in read(store, "peers")}
    out = [row for _, row in read(store, "peers") if row.identity.workload == "test-caller"]
    into = [row for _, row in read(store, "peers") if row.identity.workload == "test-web"]
    assert {(row.role, row.kind, row.peer, row.port) for row in out} == {
        ("client", "workload", names["test-web"], port)
    }
    assert {(row.role, row.port) for row in into} == {("server", port)}
    for rows in (out, into):
        assert sum(row.connections for row in rows) == 1
    assert sum(row.sent_bytes for row in out) == sum(row.received_bytes for row in into) > 30 * 50
    assert sum(row.received_bytes for row in out) == sum(row.sent_bytes for row in into) > 30 * 50
    command = [sys.executable, "-m", "headroom", "peers", "--store", store, "--workload", "test-caller", "-o", "json"]
    (said,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert (said["peer"], said["connections"]) == (names["test-web"], 1)
    assert said["sent_bytes"] == sum(row.sent_bytes for row in out)


def test_a_kernel_without_type_information_counts_the_same_requests(tmp_path, web):
    """Two agents on the same traffic, one of which sees no types: what needs them is missing, and said."""
    (tmp_path / "none").mkdir()
    hidden = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /sys/kernel/btf && exec "$@"', str(tmp_path / "none")]
    stores, port = [tmp_path / "with.db", tmp_path / "without.db"], free_port()
    h2 = Group("test-h2")
    try:
        h2.start([shutil.which("nghttpd"), "--no-tls", "-d", str(tmp_path), str(port)])
        wait_for(port)
        agents = [start(stores[0]), start(stores[1], within=hidden)]
        for path in ("/price/0", "/price/1", "/users/7", "/none"):
            ask(web[1], 25, path)
        load = [
            "h2load",
            "-n",
            "500",
            "-c",
            "2",
            "-m",
            "10",
            f"http://127.0.0.1:{port}/a",
            f"http://127.0.0.1:{port}/b",
        ]
        subprocess.run(load, capture_output=True, check=True)
        time.sleep(0.3)
        texts = [end(agent)[1] for agent in agents]
    finally:
        h2.close()
    counted = [
        {workload: requests(store, workload) for workload in ("test-web", "test-h2")} | {"rows": rows_of(store)}
        for store in stores
    ]
    assert counted[0] == counted[1]
    assert counted[0]["test-web"].total() == 100
    assert counted[0]["test-h2"].total() == 500
    assert "type information" not in texts[0]
    assert "this kernel refuses cpu.bpf.o: loading it: it has no type information (BTF)" in texts[1]
    assert read(stores[0], "peers")
    assert not read(stores[1], "peers")
    assert all(window.lost.get("windows_without_endings") for _, window in read(stores[1], "windows"))


def rows_of(store):
    """Requests by everything that tells them apart, but for their time."""
    totals = Counter()
    for _, row in read(store, "traffic"):
        key = (row.identity, row.role, row.protocol, row.method, row.route, row.status, row.outcome)
        totals[key] += row.requests
        totals[(*key, "bytes")] += row.request_bytes + row.response_bytes
    return totals
