"""The agent as a process, something to record, and what it stored."""

import http.client
import signal
import subprocess
import sys
import time
from collections import Counter

from headroom.demo.host import PARENT
from profiles.errors import HeadroomError
from profiles.sqlite import StoreReader


def ask(port, number, path="/price/0"):
    """`number` requests over one connection; /price/0 answers 404 at once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for _ in range(number):
        connection.request("GET", path)
        connection.getresponse().read()
    connection.close()


def start(store, *arguments, window="200ms", within=()):
    command = [
        *within,
        sys.executable,
        "-m",
        "headroom",
        "record",
        "--store",
        store,
        "--window",
        window,
        "--cgroup",
        PARENT,
    ]
    before = _windows(store)
    agent = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 20
    while time.monotonic() < end and agent.poll() is None and _windows(store) == before:
        time.sleep(0.05)
    return agent


def end(agent, number=signal.SIGTERM):
    agent.send_signal(number)
    text = agent.communicate(timeout=20)[1]
    return agent.returncode, text


def read(store, what):
    """All (window id, row) of one kind."""
    with StoreReader(store) as reader:
        return list(getattr(reader, what)())


def _windows(store):
    try:
        return len(read(store, "windows"))
    except HeadroomError:
        return 0


def requests(store, workload="test-web"):
    totals = Counter()
    for _, row in read(store, "traffic"):
        if row.identity.workload == workload and row.role == "server":
            totals[row.status] += row.requests
    return totals
