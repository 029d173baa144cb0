"""The agent as a process: windows, ends, full disks, groups that come and go."""

import contextlib
import http.client
import http.server
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from collector.agent import Agent, AgentSettings
from headroom.demo.host import PARENT, Group, free_port, start_service
from profiles.schema import Runtime
from profiles.sqlite import StoreWriter
from tests.collector.recording import ask, end, read, requests, start

pytestmark = pytest.mark.kernel


def test_a_request_without_an_answer_is_stored_and_said(tmp_path, web):
    store = tmp_path / "p.db"
    agent = start(store)
    ask(web[1], 25)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", web[1])) as connection:
            connection.sendall(b"POST /price/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
            time.sleep(0.05)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    time.sleep(0.1)
    assert end(agent)[0] == 0
    outcomes = Counter()
    for _, row in read(store, "traffic"):
        if row.identity.workload == "test-web" and row.role == "server":
            outcomes[row.outcome] += row.requests
    assert outcomes == {"answered": 25, "aborted": 3}
    command = [sys.executable, "-m", "headroom", "recommend", "--store", str(store)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "3 requests got no answer: 3 aborted" in said


def test_prometheus_is_told_what_is_stored(tmp_path, web):
    store, port = tmp_path / "p.db", free_port()
    agent = start(store, "--metrics", str(port))
    ask(web[1], 25)
    time.sleep(1.5)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    assert end(agent)[0] == 0
    assert requests(store) == {404: 25}
    (count,) = re.findall(
        r'^http_server_request_duration_seconds_count\{(.*service_name="test-web".*)\} 25$', text, re.MULTILINE
    )
    assert 'http_request_method="GET"' in count
    assert 'http_response_status_code="404"' in count
    with pytest.raises(OSError):  # noqa: PT011 - refused
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_cleanly_after_a_last_flush(tmp_path, web, number):
    agent = start(tmp_path / "p.db", window="300ms")
    ask(web[1], 25)
    code, text = end(agent, number)
    assert code == 0, text
    assert requests(tmp_path / "p.db") == {404: 25}
    assert "Traceback" not in text


def test_a_killed_agent_loses_at_most_the_open_window(tmp_path, web):
    agent = start(tmp_path / "p.db")
    ask(web[1], 25)
    time.sleep(0.6)  # the window with them is closed
    agent.kill()
    agent.communicate()
    assert requests(tmp_path / "p.db") == {404: 25}
    again = start(tmp_path / "p.db")
    ask(web[1], 5)
    assert end(again)[0] == 0
    assert requests(tmp_path / "p.db") == {404: 30}


def test_the_duration_ends_it(tmp_path, web):
    agent = start(tmp_path / "p.db", "--duration", "1s")
    assert agent.wait(20) == 0
    agent.stderr.close()
    seconds = sum(window.duration_seconds for _, window in read(tmp_path / "p.db", "windows"))
    assert 0.9 < seconds < 3


def test_usage_has_cpu_memory_and_the_limit_in_force(tmp_path, web):
    group, port = web
    group.limit_cpu(0.5)
    agent = start(tmp_path / "p.db")
    ask(port, 200, "/price/1")
    assert end(agent)[0] == 0
    rows = [row for _, row in read(tmp_path / "p.db", "usage") if row.identity.workload == "test-web"]
    assert sum(row.cpu_seconds for row in rows) > 0.1
    assert {row.cpu_limit_cores for row in rows} == {0.5}
    assert {row.runtime for row in rows} == {Runtime.PYTHON}
    assert max(row.memory_anon_bytes for row in rows) > 2**20
    assert sum(row.periods for row in rows) > 0
    assert (
        sum(row.limit_bank.work_us for row in rows if row.limit_bank) > 100_000
    )  # None: it did not run in that window


def test_a_group_that_ends_is_recorded_to_its_end(tmp_path, web):
    group, port = web
    agent = start(tmp_path / "p.db", window="1s")
    ask(port, 20)
    group.close()
    code, text = end(agent)
    assert code == 0, text
    assert requests(tmp_path / "p.db") == {404: 20}
    assert any(row.ended for _, row in read(tmp_path / "p.db", "usage"))


def test_a_group_that_comes_later_is_recorded(tmp_path, web):
    agent = start(tmp_path / "p.db")
    late = Group("test-late")
    try:
        port = free_port()
        start_service(late, "idle", port)
        ask(port, 7, "/")
        time.sleep(0.5)
        assert end(agent)[0] == 0
    finally:
        late.close()
    assert requests(tmp_path / "p.db", "test-late") == {200: 7}


def test_only_the_named_groups_are_recorded(tmp_path, web):
    """A server in no group of ours must not turn up."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_: None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    agent = start(tmp_path / "p.db")
    ask(server.server_port, 3, "/nothing")
    ask(web[1], 3)
    assert end(agent)[0] == 0
    server.shutdown()
    thread.join()
    server.server_close()
    assert {row.identity.workload for _, row in read(tmp_path / "p.db", "traffic")} == {"test-web"}


def test_a_cgroup_that_does_not_exist_is_said_before_anything_starts(tmp_path):
    command = [sys.executable, "-m", "headroom", "record", "--store", tmp_path / "p.db", "--cgroup", "no/such"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "There is no cgroup 'no/such'." in done.stderr
    assert "next:" in done.stderr
    assert not (tmp_path / "p.db").exists()


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_loses_no_row_and_counting_goes_on(small_disk, web, caplog):
    store = small_disk / "p.db"
    writer = StoreWriter(store)
    agent = Agent(AgentSettings(bases=[PARENT]), writer)
    try:
        ask(web[1], 10)
        agent.close_window()
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        for _ in range(3):
            ask(web[1], 10)
            agent.close_window()
        assert agent.full
        assert "No room left" in caplog.text
        assert requests(store) == {404: 10}
        filler.unlink()
        ask(web[1], 10)
        agent.close_window()
        assert not agent.full
        assert requests(store) == {404: 50}
        windows = [window for _, window in read(store, "windows")]
        assert len(windows) == 2
    finally:
        agent.close()
        writer.close()


def test_a_group_that_a_walk_misses_once_has_not_ended(tmp_path, web, monkeypatch):
    """Directories that come and go meanwhile can hide one; its counters must not be removed while it counts."""
    agent = Agent(AgentSettings(bases=[PARENT]), StoreWriter(tmp_path / "profiles.db"))
    try:
        ask(web[1], 5)
        agent.close_window()
        kinds = len(list(agent._traffic.counts.items()))
        kind = type(agent._tree)
        walk = kind.walk
        monkeypatch.setattr(kind, "walk", lambda *where: (each for each in walk(*where) if "test-web" not in each.path))
        agent.close_window()
        assert len(list(agent._traffic.counts.items())) == kinds > 0
        agent.close_window()
        assert len(list(agent._traffic.counts.items())) < kinds
    finally:
        agent.close()


def test_what_a_group_did_while_a_window_was_closed_is_its_own(tmp_path, web):
    """It answers after the counters were read, and is gone before its files are."""
    group, port = web
    store = StoreWriter(tmp_path / "p.db")
    agent = Agent(AgentSettings(bases=[PARENT]), store)
    try:
        ask(port, 5)
        scan = agent._groups.scan

        def scan_late():
            if group.processes[0].poll() is None:
                ask(port, 2)
                group.close()
            scan()

        agent._groups.scan = scan_late
        for _ in range(4):
            agent.close_window()
        assert not agent._groups.owners
    finally:
        agent.close()
        store.close()
    assert requests(tmp_path / "p.db") == {404: 7}
    used = Counter(window for window, row in read(tmp_path / "p.db", "usage") if row.identity.workload == "test-web")
    assert set(used.values()) == {1}
    assert len(used) <= 2


def test_between_two_windows_it_makes_room_for_new_paths(tmp_path, web):
    """In one window of ever new paths: more than there is room for, slower than it looks."""
    chance = Random(6)
    command = [sys.executable, "-m", "headroom", "record", "--store", tmp_path / "p.db", "--window", "1h"]
    agent = subprocess.Popen([*command, "--cgroup", PARENT], stderr=subprocess.PIPE, text=True)
    assert "counting" in agent.stderr.readline()
    for _ in range(12):
        for _ in range(100):
            ask(web[1], 1, "/users/" + "".join(chance.choices("abcdefghijklmnop", k=8)))
        time.sleep(0.3)
    assert end(agent)[0] == 0
    routes = Counter()
    for _, row in read(tmp_path / "p.db", "traffic"):
        if row.identity.workload == "test-web" and row.role == "server":
            routes[row.route] += row.requests
    assert len(read(tmp_path / "p.db", "windows")) == 1
    assert routes == {"/users/*": 1200}


def test_a_clock_step_moves_no_duration(tmp_path, web, monkeypatch, caplog):
    writer = StoreWriter(tmp_path / "p.db")
    agent = Agent(AgentSettings(bases=[PARENT]), writer)
    try:
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() - 3600)
        agent.close_window()
    finally:
        agent.close()
        writer.close()
    ((_, window),) = read(tmp_path / "p.db", "windows")
    assert 0 < window.duration_seconds < 10
    assert window.clock_step_seconds == pytest.approx(-3600, abs=1)
    assert "clock was moved" in caplog.text


def test_without_privileges_it_says_so(tmp_path):
    """As nobody, from a copy that nobody can read."""
    folder = Path("/tmp") / f"headroom-test-{os.getpid()}"  # tmp_path is not open to others
    shutil.copytree(Path(__file__).parents[2] / "bpf", folder / "bpf")
    code = "from collector.doctor import can_record; print(can_record())"
    try:
        folder.chmod(0o755)
        for name in ("collector", "profiles"):
            shutil.copytree(Path(__file__).parents[2] / name, folder / name)
        setpriv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
        python = shutil.which("python3", path="/usr/bin:/bin")
        if (
            python is None
            or subprocess.run([*setpriv, python, "-c", "import enum; enum.StrEnum"], check=False).returncode
        ):
            python = sys.executable
        done = subprocess.run([*setpriv, python, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(folder)
    assert "this kernel refuses traffic.bpf.o" in done.stdout, done.stderr
