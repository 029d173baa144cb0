"""The real programs on this kernel: what they count against what was really sent."""

import contextlib
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from bpf import loader
from bpf.layout import CgroupCpu
from collector.cgroups import find_tree
from collector.cpu import CpuCounters
from collector.packed import without_moves
from collector.traffic import TrafficCounters, traffic_rows
from headroom.demo.host import Group, hierarchies
from profiles.schema import Identity
from tests.collector.counting import counted

pytestmark = pytest.mark.kernel

IDENTITY = Identity("local", "host", "Cgroup", "web", "web", "/web")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self):
        length = int(self.headers.get("Content-Length", 0))
        if self.headers.get("Expect"):
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.rfile.read(length)
        status = int(self.path.rsplit("/", 1)[-1].partition("?")[0] or 200)
        time.sleep({"slow": 0.02, "slower": 4.0}.get(self.path.split("/")[1], 0))
        body = b"HTTP/1.1 500 in a body" * 10
        self.wfile.write(f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        self.wfile.write(body)  # a segment of its own that looks like a status line

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_HEAD = answer  # noqa: N815


class Server6(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


@contextlib.contextmanager
def serve(kind=http.server.ThreadingHTTPServer, address="127.0.0.1"):
    server = kind((address, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def receive(connection, statuses=1):
    """Read whole answers: a head and 220 bytes of body each."""
    data = b""
    while data.count(b"\r\n\r\n") < statuses or len(data.rpartition(b"\r\n\r\n")[2]) < 220:
        data += connection.recv(65536)
    return data


@pytest.mark.parametrize(("kind", "address"), [(http.server.ThreadingHTTPServer, "127.0.0.1"), (Server6, "::1")])
def test_every_request_is_counted_once_at_each_end(counters, kind, address):
    sent = Counter()
    with serve(kind, address) as port, socket.create_connection((address, port)) as connection:
        for number, method in enumerate(("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "POST") * 5):
            status = (200, 404, 503)[number % 3]
            connection.sendall(f"{method} /r/{status} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            receive(connection)
            sent[method, "/r/{id}", status] += 1
        assert counted(counters, "server") == sent
        assert counted(counters, "client") == sent
    assert counters.losses() == {}


def test_a_request_that_comes_with_the_handshake_is_counted(counters):
    with serve() as port:
        for _ in range(20):
            with socket.socket() as connection:
                # the last acknowledgement of the handshake waits for data to go with
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
                connection.connect(("127.0.0.1", port))
                connection.sendall(b"GET /first/200 HTTP/1.1\r\nHost: x\r\n\r\n")
                receive(connection)
                connection.sendall(b"GET /second/200 HTTP/1.1\r\nHost: x\r\n\r\n")
                receive(connection)
    assert counted(counters, "server") == {("GET", "/first/{id}", 200): 20, ("GET", "/second/{id}", 200): 20}
    assert counters.losses() == {}


def test_a_body_that_looks_like_a_request_is_not_counted(counters):
    body = b"GET /fake/200 HTTP/1.1\r\n\r\n" * 40
    with serve() as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /real/200 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        time.sleep(0.05)  # the body goes in a segment of its own
        connection.sendall(body)
        receive(connection)
        assert counted(counters, "server") == {("POST", "/real/{id}", 200): 1}
        (delta,) = [each for each in counters.read() if each.role == "server"]
        assert delta.sums.request_bytes > len(body)


def test_an_interim_answer_does_not_end_the_request(counters):
    with serve() as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /slow/201 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(b"ok")
        receive(connection)
    (delta,) = [each for each in counters.read() if each.role == "server"]
    assert (delta.status, delta.latency.total) == (201, 1)
    assert 0.02 <= delta.sums.latency_seconds < 2


def test_latency_contains_what_the_server_took(counters):
    with serve() as port, socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(10):
            connection.sendall(b"GET /slow/200 HTTP/1.1\r\nHost: x\r\n\r\n")
            receive(connection)
    for delta in counters.read():
        assert 0.019 < delta.latency.quantile_seconds(0.05) < 2, delta.role


def test_query_strings_do_not_leave_the_kernel(counters):
    with serve() as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /q/200?token=hunter2 HTTP/1.1\r\nHost: x\r\n\r\n")
        receive(connection)
    assert ("GET", "/q/{id}", 200) in counted(counters, "server")
    everything = b"".join(value for _, value in counters.kernel.map("routes").items())
    assert b"/q/200" in everything
    assert b"hunter2" not in everything


def test_other_protocols_make_no_request(counters):
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as one, listener.accept()[0] as other:
        for data in (b"GET key-of-a-cache\r\n", b"*1\r\n$4\r\nPING\r\n", os.urandom(5000), b"HTTP/2 200 nothing\r\n"):
            one.sendall(data)
            other.sendall(b"+PONG\r\n" + data)
            time.sleep(0.01)
    assert counters.read() == []


def test_an_answer_to_a_request_that_was_not_seen_is_a_counted_loss(own_group):
    with serve() as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /slower/200 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.05)
        late = TrafficCounters.attach(own_group)
        try:
            receive(connection)
            losses = late.losses()  # one at each end, and one more for each body that looks like an answer
            assert set(losses) == {"response_without_request"}
            assert losses["response_without_request"] >= 2
            assert late.read() == []
            connection.sendall(b"GET /slow/200 HTTP/1.1\r\nHost: x\r\n\r\n")
            receive(connection)
            assert counted(late, "server") == {("GET", "/slow/{id}", 200): 1}  # the connection is taken up
        finally:
            late.kernel.close()


def test_a_window_that_was_not_stored_goes_on_in_the_next(counters):
    totals = []
    with serve() as port, socket.create_connection(("127.0.0.1", port)) as connection:
        for stored in (False, True, True):
            connection.sendall(b"GET /n/200 HTTP/1.1\r\nHost: x\r\n\r\n")
            receive(connection)
            totals.append(sum(counted(counters, "server").values()))
            if stored:
                counters.commit()
    assert totals == [1, 2, 1]
    assert counters.read() == []


def test_an_answer_that_goes_on_in_the_next_window(counters):
    """It is one request, of the window it was counted in; what comes later are bytes and time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    rows, seen = [], {"server": [], "client": []}
    with client, server:
        client.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n")
        for _ in range(3):
            time.sleep(0.05)
            server.sendall(b"x" * 1000)
            time.sleep(0.01)
            for delta in counters.read():
                seen[delta.role].append((delta.latency.total, *delta.sums))
            rows += traffic_rows(counters.read(), lambda _: IDENTITY)
            counters.commit()
    for windows in seen.values():
        assert [requests for requests, *_ in windows] == [1, 0, 0]
        assert sum(latency for _, latency, *_ in windows) == pytest.approx(0.17, abs=0.1)
        assert all(transfer >= 0.045 for _, _, transfer, *_ in windows)
        assert [received for *_, received in windows][1:] == [1000, 1000]
    assert [row.requests for row in rows if row.role == "server"] == [1, 0, 0]


def test_requests_that_left_their_bucket_are_not_counted_again():
    """Two of an earlier window went from 5 to 9; new are one at 9 and one at 5."""
    assert without_moves({5: 2**32 - 1, 9: 3}) == {9: 2}
    assert without_moves({5: 2**32 - 2, 8: 1, 9: 1}) == {}
    assert without_moves({5: 1, 9: 4}) == {5: 1, 9: 4}
    assert without_moves({5: 2**32 - 1, 6: 1, 300: 1}) == {300: 1}  # a new one that is slow stays


def test_ended_groups_leave_the_map_but_no_count_behind(counters):
    with serve() as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /n/200 HTTP/1.1\r\nHost: x\r\n\r\n")
        receive(connection)
        assert counters.read()
        counters.commit()
        counters.forget(lambda _: False)
        assert list(counters.kernel.map("requests").items()) == []
        connection.sendall(b"GET /n/200 HTTP/1.1\r\nHost: x\r\n\r\n")
        receive(connection)
        assert sum(counted(counters, "server").values()) == 1


BURN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass\n"


NAP = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: time.sleep(0.0003)\n"


def charged_seconds(group):
    """CPU time of `group` as the kernel reports it: what quota is charged with."""
    for top in hierarchies():
        folder = top / "headroom-demo" / group.name
        if (folder / "cpuacct.usage").exists():
            return int((folder / "cpuacct.usage").read_text()) * 1e-9
        stat = folder / "cpu.stat"
        if stat.exists() and stat.read_text().startswith("usage_usec"):
            return int(stat.read_text().split()[1]) * 1e-6
    raise AssertionError("no CPU accounting")


@pytest.mark.parametrize(("code", "least_seconds"), [(BURN, 0.9), (NAP, 0.03)], ids=["hog", "thousands of wake-ups"])
def test_on_cpu_time_is_what_the_kernel_charges(code, least_seconds):
    """Also where the host of a virtual machine takes time away, and where waking up is most of the work."""
    group = Group("test-charged")
    counters = CpuCounters.attach(64)
    try:
        process = group.start([sys.executable, "-S", "-c", code.format(seconds=1.0)])
        identifier = (find_tree().unified / "headroom-demo" / "test-charged").stat().st_ino
        process.wait()
        delta = counters.read()[identifier]
        assert delta.cpu_seconds > least_seconds
        # Less the first moments, before the child moved itself into the group.
        assert delta.cpu_seconds == pytest.approx(charged_seconds(group), rel=0.01, abs=0.01)
        assert delta.limit_bank.work_us * 1e-6 == pytest.approx(delta.cpu_seconds, abs=0.04)  # open bins
    finally:
        counters.kernel.close()
        group.close()


def test_the_bank_sees_what_a_hog_does():
    group = Group("test-cpu")
    counters = CpuCounters.attach(64)
    try:
        group.start([sys.executable, "-S", "-c", BURN.format(seconds=1.0)]).wait()
        identifier = (find_tree().unified / "headroom-demo" / "test-cpu").stat().st_ino
        delta = counters.read()[identifier]
        throttled = [each.throttled_periods for each in delta.limit_bank.candidates]
        assert throttled == sorted(throttled, reverse=True)
        assert throttled[0] > 5
        assert 80 <= sum(delta.burst_bins.values()) <= 160
    finally:
        counters.kernel.close()
        group.close()


def test_from_its_first_answer_on_a_bank_weighs_requests_and_nothing_of_before():
    """The kernel begins its histograms anew; one that is read in that very moment is no bank."""
    counters = CpuCounters.attach(64)
    try:
        of_group = (1).to_bytes(8, "little")
        banks = []
        for answers, delayed in ((0, 1000), (5, 300), (9, 500), (9, 100)):
            state = CgroupCpu(oncpu_ns=1 + answers + delayed, work_us=9000 + answers, answers=answers)
            state.limits[3].delayed[7] = delayed
            counters.kernel.map("cgroup_cpus").put(of_group, bytes(state))
            banks.append(counters.read()[1].limit_bank)
            counters.commit()
    finally:
        counters.kernel.close()
    assert banks.pop() is None
    told = [(bank.by_request, bank.requests, bank.candidates[3].delayed.counts) for bank in banks]
    assert told == [(False, 0, {7: 1000}), (True, 5, {7: 300}), (True, 4, {7: 200})]


def test_one_thread_is_never_two_processors():
    """Also between the scheduler's ticks, which is where its clock stands while a thread runs without a system call."""
    group = Group("test-one-thread")
    counters = CpuCounters.attach(64)
    try:
        group.start([sys.executable, "-S", "-c", "for _ in range(40_000_000): pass"]).wait()
        identifier = (find_tree().unified / "headroom-demo" / "test-one-thread").stat().st_ino
        entry = counters.kernel.map("cgroup_cpus").get(identifier.to_bytes(8, "little"))
        delta = counters.read()[identifier]
        assert delta.cpu_seconds > 0.3
        assert CgroupCpu.from_buffer_copy(entry).parallel == 1
        over = sum(count for sixteenth, count in delta.burst_bins.items() if sixteenth > 16)
        assert over <= 0.02 * sum(delta.burst_bins.values())
    finally:
        counters.kernel.close()
        group.close()


def test_a_full_map_is_a_counted_loss():
    groups = [Group(f"test-full-{number}") for number in range(6)]
    kernel = CpuCounters.attach(2)
    try:
        for group in groups:
            group.start([sys.executable, "-S", "-c", BURN.format(seconds=0.05)]).wait()
        assert kernel.losses()["cpu_no_entry"] > 0
    finally:
        kernel.kernel.close()
        for group in groups:
            group.close()


def test_an_object_that_was_not_compiled_is_refused_with_the_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(loader, "_HERE", tmp_path)
    with pytest.raises(loader.KernelRefused, match="make bpf"):
        loader.load("traffic")


def test_a_header_and_its_mirror_that_drifted_apart_are_refused(monkeypatch):
    monkeypatch.setitem(loader.VALUE_BYTES, "cpu", {"cgroup_cpus": 8})
    with pytest.raises(loader.KernelRefused, match=r"cgroup_cpus has \d+ bytes, not 8"):
        loader.load("cpu")


def test_a_program_that_the_kernel_refuses_is_one_sentence(monkeypatch, tmp_path):
    source = tmp_path / "traffic.bpf.c"
    source.write_text('__attribute__((section("cgroup_skb/ingress"), used)) int f(void *c) { return *(int *)0; }\n')
    subprocess.run(
        ["clang", "-g", "-O2", "-target", "bpf", "-w", "-c", source, "-o", source.with_suffix(".o")], check=True
    )
    monkeypatch.setattr(loader, "_HERE", tmp_path)
    monkeypatch.setitem(loader.VALUE_BYTES, "traffic", {})
    with pytest.raises(loader.KernelRefused, match=r"this kernel refuses traffic\.bpf\.o: loading it") as caught:
        loader.load("traffic")
    assert caught.value.detail


def test_the_layouts_have_the_sizes_the_issue_allows():
    assert len(bytes(CgroupCpu())) < 17_000  # times 256 groups: 4.3 MB
