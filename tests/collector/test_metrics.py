"""What Prometheus is told: the same numbers as are stored, in a form that promtool and Prometheus take."""

import http.client
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from collector.exporter import Exporter, ExportingStore
from collector.metrics import BOUNDARIES_SECONDS, Metrics, gathered
from profiles.errors import StoreError, UsageError
from profiles.histogram import LATENCY, Histogram
from profiles.schema import OVERFLOW_ROUTE, Identity, TrafficRow, UsageRow, Window

WEB = Identity("local", "host", "Cgroup", "web", "web", "/system.slice/web.service")
POD = Identity("local", "shop", "Deployment", 'ca"rt\\\n', "main", "cart-1")
WINDOW = Window(1_700_000_000.0, 10.0, 0.0, {"pipelined": 2}, {"cpu_seconds": 0.1, "resident_bytes": 5, "map_bytes": 7})
LINE = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")


def row(seconds=(0.003, 0.2, 20.0), route="/users/{id}", status=200, identity=WEB, role="server", outcome="answered"):
    latency = Histogram.of(LATENCY, seconds)
    return TrafficRow(
        identity, role, "http1", False, "GET", route, status, latency, sum(seconds), 70, 700, outcome, 0.0
    )


def told(metrics):
    """Value by name and labels, in the order of the text."""
    values = {}
    for line in "".join(metrics.text()).splitlines():
        if not line.startswith("#"):
            match = LINE.match(line)
            values[match["name"], match["labels"] or ""] = float(match["value"])
    return values


def add(metrics, *rows, usage=(), window=WINDOW):
    metrics.add(window, [gathered(each) for each in rows], usage)


def of(values, name, *labels):
    """The values of one metric whose labels contain all of `labels`."""
    return [
        value for (found, inside), value in values.items() if found == name and all(each in inside for each in labels)
    ]


def test_a_histogram_is_cumulative_and_has_opentelemetrys_boundaries():
    metrics = Metrics("1", 20_000)
    add(metrics, row(), row(status=503))
    add(metrics, row())
    values = told(metrics)
    name = "http_server_request_duration_seconds"
    buckets = of(values, f"{name}_bucket", 'http_response_status_code="200"')
    assert len(buckets) == len(BOUNDARIES_SECONDS) + 1
    assert buckets == [2, 2, 2, 2, 2, 2, *[4] * 8, 6]
    assert of(values, f"{name}_count", 'http_response_status_code="200"') == [6]
    assert of(values, f"{name}_sum", 'http_response_status_code="200"') == [pytest.approx(2 * 20.203)]
    assert of(values, f"{name}_count", 'error_type="503"', 'http_response_status_code="503"') == [3]


@pytest.mark.parametrize("seconds", [0.0049, 0.0052, 0.0999, 0.101, 9.5, 10.7])
def test_every_request_is_in_its_bucket_but_for_half_a_bucket_of_the_store(seconds):
    metrics = Metrics("1", 20_000)
    add(metrics, row([seconds]))
    buckets = of(told(metrics), "http_server_request_duration_seconds_bucket")
    place = sum(1 for boundary in BOUNDARIES_SECONDS if boundary < seconds)
    assert buckets == [0] * place + [1] * (len(buckets) - place)


def test_a_request_without_an_answer_has_a_kind_of_error_and_no_status():
    metrics = Metrics("1", 20_000)
    add(metrics, row(status=0, outcome="aborted"), row(status=404, role="client"), row(status=404))
    text = "".join(metrics.text())
    assert 'error_type="aborted"' in text
    assert 'status_code="0"' not in text
    values = told(metrics)
    assert of(values, "http_client_request_duration_seconds_count", 'error_type="404"') == [3]
    assert of(values, "http_server_request_duration_seconds_count", 'error_type="404"') == []


def test_routes_past_the_most_series_are_told_together_and_none_is_lost():
    metrics = Metrics("1", most_series=17 * 10)
    for number in range(50):
        add(metrics, row(route=f"/r{number}", identity=(WEB, POD)[number % 2]))
    values = told(metrics)
    counts = of(values, "http_server_request_duration_seconds_count")
    assert len(counts) == 10 + 2  # one more of each instance
    assert sum(counts) == 150
    assert sum(of(values, "http_server_request_duration_seconds_count", OVERFLOW_ROUTE)) == 120
    assert of(values, "headroom_overflowed_requests_total") == [120]
    assert of(values, "headroom_series") == [12 * 17]


def test_who_has_ended_is_forgotten_and_others_are_not():
    metrics = Metrics("1", 20_000)
    add(metrics, row(), row(identity=POD), usage=[UsageRow(WEB, 1.0), UsageRow(POD, 2.0, memory_working_set_bytes=9)])
    for _ in range(40):
        add(metrics, usage=[UsageRow(WEB, 1.0)])
    text = "".join(metrics.text())
    assert "cart" not in text
    values = told(metrics)
    assert of(values, "http_server_request_duration_seconds_count") == [3]  # a quiet route stays
    assert of(values, "headroom_cpu_seconds_total") == [41.0]
    assert of(values, "headroom_windows_total") == [41]


def test_the_agents_own_cost_and_losses_add_up():
    metrics = Metrics("1", 20_000)
    for _ in range(3):
        add(metrics)
    values = told(metrics)
    assert of(values, "headroom_agent_cpu_seconds_total") == [pytest.approx(0.3)]
    assert of(values, "headroom_lost_total", "pipelined") == [6]
    assert (of(values, "headroom_agent_resident_bytes"), of(values, "headroom_agent_map_bytes")) == ([5], [7])


class Full:
    """A store whose disk is full at first."""

    def __init__(self):
        self.refusals = 1

    def write(self, window, traffic, usage, peers=(), drops=()):  # noqa: ARG002
        del window, usage
        assert len(list(traffic)) == 1
        if self.refusals:
            self.refusals -= 1
            raise StoreError("No room.", "Make some.")

    def prune(self, before_unix_seconds):
        return int(before_unix_seconds)


def test_a_window_that_was_not_stored_is_told_when_it_is():
    metrics = Metrics("1", 20_000)
    store = ExportingStore(Full(), metrics)
    with pytest.raises(StoreError):
        store.write(WINDOW, iter([row()]), iter([UsageRow(WEB, 1.0)]))
    assert of(told(metrics), "headroom_windows_total") == [0]
    store.write(WINDOW, iter([row()]), iter([UsageRow(WEB, 1.0)]))
    assert of(told(metrics), "http_server_request_duration_seconds_count") == [3]
    assert store.prune(5.0) == 5


@pytest.fixture
def served():
    metrics = Metrics("1", 20_000)
    add(metrics, row(), row(identity=POD, role="client"), usage=[UsageRow(WEB, 1.0, periods=3, throttled_periods=1)])
    exporter = Exporter(metrics, "127.0.0.1", 0)
    yield metrics, exporter.port
    exporter.close()


def ask(port, text):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(text)
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def test_it_answers_metrics_and_nothing_else(served):
    metrics, port = served
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert answer.read().decode() == "".join(metrics.text())
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/../etc/passwd")
    assert ask(port, b"POST /metrics HTTP/1.1\r\n\r\n").startswith("HTTP/1.1 405")
    assert ask(port, b"nonsense\r\n\r\n").startswith("HTTP/1.1 405")
    assert ask(port, b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"x" * 100_000 + b"\r\n\r\n") is not None
    assert ask(port, b"HEAD /metrics HTTP/1.1\r\n\r\n").endswith("\r\n\r\n")


def ask_for(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_it_is_ready_while_windows_are_stored_and_healthy_while_they_are_closed():
    metrics = Metrics("1", 20_000)
    exporter = Exporter(metrics, "127.0.0.1", 0, patience_seconds=0.3)
    try:
        assert ask_for(exporter.port, "/readyz") == (503, "no window yet\n")
        assert ask_for(exporter.port, "/healthz") == (200, "ok\n")
        time.sleep(0.4)
        assert ask_for(exporter.port, "/healthz")[1].startswith("no window was closed for")
        disk = Full()
        disk.refusals = 0
        ExportingStore(disk, metrics).write(WINDOW, iter([row()]), [])
        assert [ask_for(exporter.port, path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
        time.sleep(0.4)
        disk.refusals = 1
        with pytest.raises(StoreError):
            ExportingStore(disk, metrics).write(WINDOW, iter([row()]), [])
        # a full disk: it counts on, so ending it would lose what it has not stored
        assert [ask_for(exporter.port, path)[0] for path in ("/healthz", "/readyz")] == [200, 503]
    finally:
        exporter.close()


def test_who_hangs_up_or_says_nothing_stops_nobody(served):
    _, port = served
    for _ in range(20):
        socket.create_connection(("127.0.0.1", port)).close()
    assert "headroom_windows_total" in ask(port, b"GET /metrics HTTP/1.0\r\n\r\n")


def test_an_address_in_use_is_said(served):
    with pytest.raises(UsageError, match="cannot be served at 127"):
        Exporter(Metrics("1", 20_000), "127.0.0.1", served[1])


def test_promtool_finds_nothing_to_say(served):
    metrics, _ = served
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH")
    done = subprocess.run(
        [promtool, "check", "metrics"], input="".join(metrics.text()), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_prometheus_scrapes_it(served, tmp_path):
    """The real one, with hostile label values."""
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("prometheus is not on PATH")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "prometheus.yml").write_text(
        "scrape_configs:\n- job_name: headroom\n  scrape_interval: 1s\n"
        f"  static_configs:\n  - targets: ['127.0.0.1:{served[1]}']\n"
    )
    command = [
        prometheus, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    query = f"http://127.0.0.1:{port}/api/v1/query?query=http_client_request_duration_seconds_count"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            answer, end = "", time.monotonic() + 30
            while '"value"' not in answer and time.monotonic() < end:
                time.sleep(0.5)
                try:
                    answer = urllib.request.urlopen(query).read().decode()
                except OSError:
                    continue
        finally:
            process.terminate()
    assert r'"service_name":"ca\"rt\\\n"' in answer
    assert '"3"]' in answer


def at(unix_seconds):
    return Window(unix_seconds, 10.0)


def quantiles(metrics):
    return of(told(metrics), "headroom_server_latency_seconds", "quantile")


def test_quantiles_are_of_the_last_full_five_minutes_and_of_no_older_ones():
    metrics, noon = Metrics("1", 20_000), 1_700_000_100.0
    add(metrics, row((7.0,)), window=at(noon - 10))
    assert quantiles(metrics) == [], "of those five minutes the agent has seen ten seconds"
    add(metrics, row((0.1,) * 19 + (0.9,)), window=at(noon))
    assert quantiles(metrics) == []
    add(metrics, row((5.0,)), window=at(noon + 300))
    assert quantiles(metrics) == [pytest.approx(0.1, rel=0.04), pytest.approx(0.1, rel=0.04)]
    add(metrics, window=at(noon + 600))
    assert quantiles(metrics) == [pytest.approx(5.0, rel=0.04), pytest.approx(5.0, rel=0.04)]
    add(metrics, row((1.0,)), window=at(noon + 900))
    assert quantiles(metrics) == [], "nothing was asked in those five minutes"
    add(metrics, window=at(noon + 1800))
    assert quantiles(metrics) == [], "what was asked before a gap is old"


def test_quantiles_are_told_as_soon_as_the_five_minutes_are_over():
    metrics, noon = Metrics("1", 20_000), 1_700_000_100.0
    add(metrics, window=at(noon - 10))
    add(metrics, row((0.1,)), window=at(noon))
    add(metrics, row((0.1,)), window=at(noon + 290))
    assert len(quantiles(metrics)) == 2


def test_a_window_that_took_long_is_of_no_row_and_counting_begins_anew():
    metrics, noon = Metrics("1", 20_000), 1_700_000_100.0
    add(metrics, row(), window=at(noon))
    assert of(told(metrics), "headroom_server_since_timestamp_seconds") == [noon]
    add(metrics, row(), row(), window=Window(noon + 10, 3600.0))
    values = told(metrics)
    assert of(values, "headroom_server_latency_seconds_count") == [0]
    assert of(values, "headroom_server_since_timestamp_seconds") == [noon + 3610]
    add(metrics, row(), window=at(noon + 3610))
    assert of(told(metrics), "headroom_server_latency_seconds_count") == [3]


def test_while_windows_cannot_be_stored_nothing_is_said_of_requests():
    metrics = Metrics("1", 20_000)
    add(metrics, row())
    metrics.is_refused = True
    assert of(told(metrics), "headroom_server_latency_seconds_count") == []
    assert of(told(metrics), "headroom_windows_total") == [1]


def test_answers_errors_and_what_got_no_answer_are_told_of_servers_alone():
    metrics = Metrics("1", 20_000)
    add(metrics, row(status=503), row(), row(status=404), row(outcome="reset"), row(role="client", identity=POD))
    values = told(metrics)
    web = 'service_name="web"'
    assert of(values, "headroom_server_latency_seconds_count", web) == [9]
    assert of(values, "headroom_server_latency_seconds_sum", web) == [pytest.approx(3 * 20.203)]
    assert of(values, "headroom_server_errors_total", web) == [3]
    assert of(values, "headroom_server_unanswered_total", web) == [3]
    assert of(values, "headroom_server_latency_seconds_count", "k8s_container_name") == []
    add(metrics, usage=[UsageRow(POD, 0.1)])
    assert of(told(metrics), "headroom_server_latency_seconds_count", "k8s_container_name") == [0]
