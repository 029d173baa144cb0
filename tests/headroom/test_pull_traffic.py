"""What agents tell Prometheus of requests, read back: their own exposition in a real Prometheus, pulled and sized."""

import json
import random
from collections import defaultdict

import numpy as np
import pytest

from collector.metrics import Metrics, gathered
from headroom.cli import main
from profiles.histogram import LATENCY, Histogram
from profiles.schema import Identity, TrafficRow, UsageRow, Window
from recommender.inputs.answers import Samples
from recommender.inputs.cadvisor import ERRORS, REQUESTS, SINCE, _Grid
from recommender.inputs.parquet import read_folder
from tests.cluster import tsdb
from tests.cluster.tsdb import CPU, HOUR, MEBIBYTE, MEMORY, PERIODS, THROTTLED, line, needs_prometheus

pytestmark = [needs_prometheus, pytest.mark.usefixtures("outside_of_any_cluster")]

START, ROW = 1_790_000_100, 300
END = START + 8 * HOUR
WINDOW, SCRAPE, SCRAPED_AT = 10, 30, 7.25
RESTART = START + 5 * HOUR + 130  # of the agent
COST, BASE = 0.004, 0.05
SHOP = Identity("prod", "shop", "Deployment", "web", "app", "web-c6757df8b-m5nts")
PAY = Identity("prod", "shop", "Deployment", "pay", "app", "pay-5b9d8c7f6-x2x7p")
IDLE = Identity("prod", "shop", "Deployment", "idle", "app", "idle-6d7f8b9c5-b4b4b")
CALLER = Identity("prod", "shop", "Deployment", "caller", "app", "caller-7f6d5c4b3-q9q9q")


def rate(moment):
    """Requests a second: a wave, and another height every ten minutes."""
    return round(20 + 15 * np.sin((moment - START) / 3000) + 5 * ((moment // 600) % 3))


def is_short(moment):
    """Whether the limit of `pay` stops it: when much is asked."""
    return rate(moment) > 35


def traffic(moment, chance):
    """What the agent counted in the window that begins at `moment`."""
    count = rate(moment) * WINDOW
    latency = Histogram.of(LATENCY, (chance.uniform(0.002, 0.02) for _ in range(count)))
    failed = Histogram.of(LATENCY, [0.001] * (count // 5 if is_short(moment) else 0))
    yield _row(SHOP, 200, latency, 0.011 * count)
    yield _row(PAY, 200, latency, 0.011 * count)
    yield _row(PAY, 503, failed, 0.001 * failed.total)
    yield _row(CALLER, 200, latency, 0.011 * count, role="client")
    if moment % 600 == 0:
        yield _row(SHOP, 0, Histogram.of(LATENCY, [0.5]), 0.5, outcome="aborted")


def _row(identity, status, latency, seconds, role="server", outcome="answered"):
    return TrafficRow(identity, role, "http1", False, "GET", "/", status, latency, seconds, 0, 0, outcome)


def told():
    """The exposition of an agent that is restarted once, by scrape; and what it counted, by row."""
    chance, metrics, lines = random.Random(3), Metrics("1", 20_000), []
    answered, latency = defaultdict(int), defaultdict(list)
    usage = [UsageRow(each, 0.1) for each in (SHOP, PAY, IDLE, CALLER)]
    scrape = START - HOUR + SCRAPED_AT
    for moment in range(START - HOUR - START % WINDOW, END + HOUR, WINDOW):
        if RESTART <= moment < RESTART + WINDOW:
            metrics = Metrics("1", 20_000)
        rows = list(traffic(moment, chance))
        metrics.add(Window(moment, WINDOW), [gathered(each) for each in rows], usage)
        answered[moment // ROW] += rows[0].requests
        latency[moment // ROW].append(rows[0].latency)
        while scrape < moment + 2 * WINDOW:  # before the next window is stored
            lines += [f"{text} {scrape:.3f}" for text in exposed(metrics)]
            scrape += SCRAPE
    return lines, answered, latency


def exposed(metrics):
    for text in "".join(metrics.text()).splitlines():
        if text.startswith("headroom_server_"):
            yield text


def usage():
    """cAdvisor's counters of the same pods."""
    cpu, periods, throttled = BASE * HOUR, 0, 0
    for moment in range(START - HOUR, END + HOUR, SCRAPE):
        cpu += SCRAPE * (BASE + COST * rate(moment))
        periods += 10 * SCRAPE
        throttled += 4 * SCRAPE if is_short(moment) else 0
        for each in (SHOP, PAY, IDLE, CALLER):
            of = {"namespace": "shop", "pod": each.instance, "container": "app"}
            yield line(CPU, of | {"cpu": "total"}, cpu if each in (SHOP, PAY) else cpu / 1000, moment + 4.5)
            yield line(MEMORY, of, 90.0 * MEBIBYTE, moment + 4.5)
        of = {"namespace": "shop", "pod": PAY.instance, "container": "app"}
        yield line(PERIODS, of, float(periods), moment + 4.5)
        yield line(THROTTLED, of, float(throttled), moment + 4.5)


def owners():
    told = []
    for each in (SHOP, PAY, IDLE, CALLER):
        of = {"namespace": "shop", "pod": each.instance}
        told.append(("kube_pod_owner", of | {"owner_kind": "StatefulSet", "owner_name": each.workload}, 1))
        told.append(("kube_pod_container_info", of | {"container": "app"}, 1))
        labels = of | {"container": "app", "resource": "cpu"}
        told.append(("kube_pod_container_resource_requests", labels, 0.9))
    return tsdb.repeated(told, START - HOUR, END + HOUR, 240)


@pytest.fixture(scope="module")
def pulled(tmp_path_factory):
    """The store, and by row what was answered and how fast."""
    lines, answered, latency = told()
    store = tmp_path_factory.mktemp("store")
    with tsdb.prometheus([*usage(), *owners(), *lines]) as url, pytest.raises(SystemExit) as caught:
        main(["pull", "--prometheus", url, "--store", str(store), "--until", str(END), "--days", str(8 / 24)])
    assert caught.value.code == 0
    return store, answered, latency


@pytest.fixture(scope="module")
def histories(pulled):
    return {each.container.workload: each for each in read_folder(pulled[0]).histories}


def test_requests_of_a_row_are_those_that_were_answered_in_it(pulled, histories):
    _, answered, _ = pulled
    frame = histories["web"].frame
    rows = {int(start): count for start, count in zip(frame["start_unix_seconds"], frame["requests"], strict=True)}
    assert len(rows) == 96
    begun_again = RESTART // ROW * ROW
    assert np.isnan(rows.pop(begun_again)), "what was counted before the restart is not known"
    for start, count in rows.items():
        late = 2 * SCRAPE * 60  # what comes between the last scrape and the row's end is in the next one
        assert count == pytest.approx(answered[start // ROW], abs=late)
    assert sum(rows.values()) == pytest.approx(sum(answered[start // ROW] for start in rows), rel=0.002)


def test_quantiles_of_a_row_are_exactly_those_of_its_five_minutes(pulled, histories):
    _, _, latency = pulled
    frame = histories["web"].frame
    checked = 0
    for start, p50, p95 in zip(frame["start_unix_seconds"], frame["p50_seconds"], frame["p95_seconds"], strict=True):
        if start // ROW in (RESTART // ROW, RESTART // ROW - 1):
            continue  # the new agent has not seen all of the first, nor told the one before
        whole = Histogram.merged(LATENCY, latency[int(start) // ROW])
        assert (p50, p95) == (
            pytest.approx(whole.quantile_seconds(0.5), rel=1e-6),
            pytest.approx(whole.quantile_seconds(0.95), rel=1e-6),
        )
        checked += 1
    assert checked == 94


def rows_of(*agents):
    """What is known of a pod's rows where each of the agents told (seconds, requests, since)."""
    grid = _Grid(0, 4)
    labels = {"service_instance_id": "db-0", "k8s_container_name": "db"}
    for told in agents:
        times, requests, since = (np.array(each, dtype=float) for each in zip(*told, strict=True))
        grid.add(REQUESTS, [Samples(labels, times, requests)])
        grid.add(ERRORS, [Samples(labels, times, requests / 10)])
        grid.add(SINCE, [Samples(labels, times, since)])
    found = grid.usage().optional
    return found[REQUESTS][0], found[ERRORS][0]


@pytest.mark.parametrize(
    "agents",
    [
        # begun anew at 310 s, and then more than before
        [[(0, 0, -50), (300, 1000, -50), (600, 2900, 310), (900, 5900, 310), (1200, 8900, 310)]],
        # begun anew just before the row, which nobody has scraped yet when the row begins
        [[(0, 0, -50), (300, 1000, -50), (600, 2500, 295), (900, 5500, 295), (1200, 8500, 295)]],
        # moved to another node at 310 s; the first agent tells what it knew for a while
        [
            [(0, 0, -50), (300, 1000, -50), (600, 1010, -50)],
            [(600, 2900, 310), (900, 5900, 310), (1200, 8900, 310)],
        ],
    ],
    ids=["begun anew", "just before", "moved"],
)
def test_of_a_row_in_which_counting_began_nothing_is_known(agents):
    requests, errors = rows_of(*agents)
    assert requests[[0, 2, 3]].tolist() == [1000, 3000, 3000]
    assert errors[[0, 2, 3]].tolist() == [100, 300, 300]
    assert np.isnan([requests[1], errors[1]]).all()


def test_errors_and_requests_without_an_answer_are_told_apart(histories):
    assert float(histories["pay"].frame["errors"].sum()) > 0
    assert float(histories["web"].frame["errors"].sum()) == 0
    assert histories["web"].unanswered == pytest.approx(48, abs=2)


def test_who_was_watched_and_asked_nothing_was_asked_nothing(histories):
    for workload in ("idle", "caller"):  # a client's requests are not its own
        history = histories[workload]
        assert history.watched
        assert history.requests == 0
        assert np.nansum(history.frame["requests"]) == 0


def sized(run, store):
    code, out, err = run("recommend", "--store", store, "-o", "json")
    assert code == 0, err
    return {each["workload"]: each for each in json.loads(out)["recommendations"]}


def test_a_cost_per_request_and_a_class_come_of_it_but_no_promise_of_latency(run, pulled):
    web = sized(run, pulled[0])["web"]
    assert web["class"] == "latency-sensitive"
    assert web["demand"]["seconds_per_request"] == pytest.approx(COST, rel=0.05)
    why = web["reasons"]["cpu_request_cores"]
    assert "its agent's metrics tell requests but no limit bank" in why
    assert web["target"]["cpu_request_cores"] > 0


def test_errors_that_come_with_throttling_keep_a_size_from_falling(run, pulled):
    pay = sized(run, pulled[0])["pay"]
    assert pay["class"] == "saturated"


def test_apis_has_no_routes_and_does_not_say_that_nothing_was_asked(run, pulled):
    code, out, err = run("apis", "--store", pulled[0])
    assert (code, out.count("\n")) == (0, 1)
    assert "requests are known from metrics alone" in err
    assert "no HTTP requests were seen" not in err


def test_explain_says_where_requests_are_known_from(run, pulled):
    code, out, _ = run("explain", "shop/web/app", "--store", pulled[0])
    assert code == 0
    assert "requests as its agent's metrics tell them" in out
    assert "P95" in out
