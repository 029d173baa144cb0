"""Usage and inventory out of a real Prometheus, against what was put into it."""

import itertools
import math
from itertools import pairwise

import numpy as np
import pytest

from profiles.parts import Part
from recommender.inputs.cadvisor import ANONYMOUS, PERIODS, THROTTLED, look, read_usage
from recommender.inputs.kube_state import read_kube_state
from recommender.inputs.parquet import read_folder
from recommender.inputs.prometheus import Connection, Cost, Prometheus
from recommender.inputs.prometheus_import import import_parts
from recommender.inventory import Autoscaler, Metric
from tests.cluster import tsdb
from tests.cluster.faults import proxy
from tests.cluster.tsdb import END, HOUR, MEBIBYTE, START, needs_prometheus

pytestmark = needs_prometheus
ROW, ROWS = 300, 360
SAMPLES = 500_000


@pytest.fixture(scope="module")
def url():
    with tsdb.prometheus(*tsdb.every_scene()) as address:
        yield address


def asked(url, namespace, start, end, samples=SAMPLES):
    server = Prometheus(Connection(url))
    return read_usage(server, look(server, start, end), namespace, start, end, samples)


@pytest.fixture(scope="module")
def shop(url):
    """Usage of both namespaces of the shop."""
    return {namespace: asked(url, namespace, START, END) for namespace in ("shop", "bank")}


def of(shop, key):
    usage = shop[key[0]]
    place = usage.keys.index(key[1:])
    return usage.cpu_cores[place], usage.cpu_peak_cores[place], usage.memory_bytes[place]


# --- the truth, in plain Python ----------------------------------------------------


def row_at(moment, start=START):
    return math.ceil((moment - start) / ROW) - 1


def true_cpu(readings, start=START, rows=ROWS, every=60):
    """Mean and highest reading of each row; a reading belongs to the row in which it ends."""
    found = [[] for _ in range(rows)]
    for (before, was, _), (moment, counted, _) in itertools.pairwise(readings):
        row, seconds = row_at(moment, start), moment - before
        if 0 <= row < rows and seconds <= 5 * every:
            found[row].append((counted - was if counted >= was else counted, seconds))
    means = [sum(used for used, _ in each) / sum(took for _, took in each) if each else math.nan for each in found]
    return means, [max((used / took for used, took in each), default=math.nan) for each in found]


def true_memory(readings, start=START, rows=ROWS):
    found = [math.nan] * rows
    for moment, _, working_set in readings:
        row = row_at(moment, start)
        if 0 <= row < rows:
            found[row] = working_set if math.isnan(found[row]) else max(found[row], working_set)
    return found


def highest(columns):
    """Of several series of one container, row by row."""
    return [max((each for each in row if not math.isnan(each)), default=math.nan) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize("key", tsdb.shop_series(), ids="/".join)
def test_rows_are_mean_highest_reading_and_highest_working_set(shop, key):
    told = [made for _, made in tsdb.shop_series()[key]]
    mean, peak, memory = of(shop, key)
    np.testing.assert_allclose(mean, highest([true_cpu(made)[0] for made in told]), rtol=1e-6)
    np.testing.assert_allclose(peak, highest([true_cpu(made)[1] for made in told]), rtol=1e-6)
    np.testing.assert_array_equal(memory, highest([true_memory(made) for made in told]))


def test_every_container_is_there_once_and_nothing_else_is(shop):
    found = [(namespace, *key) for namespace, usage in shop.items() for key in usage.keys]
    assert sorted(found) == sorted(tsdb.shop_series())


def test_the_pod_as_a_whole_and_its_pause_container_are_not_counted(shop):
    """They use a hundred times as much, so that not even a row of theirs could hide."""
    for usage in shop.values():
        assert np.nanmax(usage.cpu_peak_cores) < 1
        assert np.nanmax(usage.memory_bytes) <= 200 * MEBIBYTE


def test_a_counter_that_began_again_from_zero_gives_neither_a_negative_nor_a_huge_rate(shop):
    mean, peak, _ = of(shop, ("shop", tsdb.WEB[1], "app"))
    for moment in tsdb.RESTARTS:
        assert 0 <= mean[row_at(moment)] <= peak[row_at(moment)] < 1
    assert not np.isnan(mean).any()


def test_what_happened_in_a_long_gap_is_unknown_and_not_zero(shop):
    first, last = (row_at(moment) for moment in tsdb.GAP)
    mean, peak, memory = of(shop, ("shop", "cart-0", "cart"))
    for column in (mean, peak, memory):
        assert np.isnan(column[first + 1 : last]).all()
        assert not np.isnan(column[[first - 1, last + 1]]).any()
    assert np.nanmax(peak) < 1


def test_what_happened_in_a_short_gap_is_known_from_the_counter(shop):
    mean, _, _ = of(shop, ("shop", "cart-0", "cart"))
    assert not np.isnan(mean[[row_at(moment) for moment in tsdb.SHORT_GAP]]).any()


def test_two_jobs_and_a_pair_of_prometheus_are_not_added_up(shop):
    mean, peak, memory = of(shop, ("bank", "ledger-0", "ledger"))
    assert 0.27 < mean.min() <= peak.max() < 0.33
    assert memory.max() < 101 * MEBIBYTE


def test_labels_that_hold_our_own_marks_are_read(url):
    server = Prometheus(Connection(url))
    found = server.at(f'{tsdb.CPU}{{pod="odd-0",container="odd"}}[1h]', END)
    assert [len(each.values) for each in found] == [60]
    assert {name: found[0].labels[name] for name in tsdb.ODD} == tsdb.ODD


# --- optional columns --------------------------------------------------------------


def as_of_row_ends(moments, start=START):
    """The last value before the end of each row, if it is not older than five minutes."""
    found = []
    for row in range(ROWS):
        end = start + ROW * (row + 1)
        known = [value for moment, value in moments if end - ROW < moment <= end]
        found.append(known[-1] if known else math.nan)
    return found


def test_the_anonymous_part_and_the_periods_of_the_limit_are_read_where_they_are_told(shop):
    usage, key = shop["shop"], (tsdb.WEB[0], "app")
    place = usage.keys.index(key)
    told = tsdb.shop_periods()
    rss = [(moment, memory / 2) for moment, _, memory in tsdb.shop_series()["shop", *key][0][1]]
    wanted = {ANONYMOUS: rss, PERIODS: [each[:2] for each in told], THROTTLED: [(at, last) for at, _, last in told]}
    assert sorted(usage.optional) == sorted(wanted)
    for metric, moments in wanted.items():
        found = usage.optional[metric][place]
        if metric == ANONYMOUS:
            np.testing.assert_array_equal(found, as_of_row_ends(moments))
        else:
            np.testing.assert_array_equal(found[1:], grown(as_of_row_ends(moments)))
            assert found[0] > 0  # what was told before it is asked for, too
        others = np.delete(usage.optional[metric], place, axis=0)
        assert np.isnan(others).all()


def grown(counter):
    return [later - before if later >= before else later for before, later in pairwise(counter)]


def test_what_nobody_tells_is_not_asked_for(url):
    with proxy(url) as before:
        usage = asked(before.url, "fast", tsdb.OFTEN_START, tsdb.OFTEN_END)
    assert usage.optional == {}
    assert len([query for query in before.queries() if PERIODS in query]) == 1


# --- how often it is scraped -------------------------------------------------------


def test_scraped_every_15_s_rates_of_minutes_are_asked_for_and_the_pair_is_not_added_up(url):
    start, end = tsdb.OFTEN_START, tsdb.OFTEN_END
    with proxy(url) as before:
        usage = asked(before.url, "fast", start, end)
    assert [query for query in before.queries() if query.startswith("rate(")]
    rows = range(36)
    true = [(tsdb.smooth_counter(600 + ROW * (row + 1)) - tsdb.smooth_counter(600 + ROW * row)) / ROW for row in rows]
    assert usage.keys == (("api-0", "api"),)
    np.testing.assert_allclose(usage.cpu_cores[0], true, rtol=0.01)
    np.testing.assert_allclose(usage.cpu_peak_cores[0], true, rtol=0.02)
    assert (usage.cpu_peak_cores >= usage.cpu_cores).all()


def test_scraped_every_60_s_raw_counters_are_asked_for(url):
    with proxy(url) as before:
        server = Prometheus(Connection(before.url))
        source = look(server, START, END)
        read_usage(server, source, "bank", START, END, SAMPLES)
    assert set(source.scrape_seconds.values()) == {60.0}
    assert not [query for query in before.queries() if "rate(" in query]
    assert [query for query in before.queries() if query.startswith(tsdb.CPU) and 'namespace="bank"' in query]


def test_a_namespace_that_is_scraped_less_often_than_the_others_is_known_too(url):
    usage = asked(url, "slow", tsdb.MIXED_START, tsdb.MIXED_END)
    assert usage.keys == (("batch-0", "batch"),)
    assert not np.isnan(usage.memory_bytes).any()
    np.testing.assert_allclose(usage.cpu_cores[0], 0.03, rtol=0.2)


# --- who is there --------------------------------------------------------------------


def test_series_are_counted_by_namespace(url):
    assert look(Prometheus(Connection(url)), START, END).series == {"bank": 4, "shop": 4}


def test_where_there_is_no_cadvisor_there_are_no_series(url):
    start = START - 100 * tsdb.DAY
    assert look(Prometheus(Connection(url)), start, start + HOUR).series == {}


def test_a_namespace_in_which_all_that_ran_is_one_short_job_is_found(url):
    assert "night" in look(Prometheus(Connection(url)), tsdb.RARE_START, tsdb.RARE_END).series


def test_containers_that_belong_to_no_pod_are_left_out(url):
    source = look(Prometheus(Connection(url)), tsdb.STRAY_START, tsdb.STRAY_END)
    assert source.series == {"day": 1}
    assert set(source.scrape_seconds.values()) == {60.0}


# --- in how many queries ---------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 300, 5000])
@pytest.mark.parametrize("namespace", ["shop", "bank"])
def test_in_however_many_queries_it_is_asked_it_comes_out_the_same(url, shop, namespace, samples):
    begin, hours = START + 9 * HOUR, 6  # around both gaps
    cost = Cost()
    server = Prometheus(Connection(url), cost)
    source = look(server, START, END)
    often = read_usage(server, source, namespace, begin, begin + hours * HOUR, samples)
    once = read_usage(server, source, namespace, begin, begin + hours * HOUR, SAMPLES)
    assert cost.queries > {1: 200, 300: 15, 5000: 10}[samples]
    assert sorted(often.keys) == sorted(once.keys)
    order = [often.keys.index(key) for key in once.keys]
    for name in ("cpu_cores", "cpu_peak_cores", "memory_bytes"):
        assert getattr(often, name)[order].tobytes() == getattr(once, name).tobytes(), name
    for metric, values in once.optional.items():
        assert often.optional[metric][order].tobytes() == values.tobytes(), metric


def test_no_answer_holds_many_more_samples_than_are_asked_for(url):
    server = Prometheus(Connection(url))
    source, most = look(server, START, END), []
    ask = server._ask

    def counted(asking):
        found = ask(asking)
        most.append(sum(len(each.values) for each in found))
        return found

    server._ask = counted
    read_usage(server, source, "bank", START, END, 2000)
    assert max(most) <= 2000 * 1.1


# --- what is declared -------------------------------------------------------------------


@pytest.fixture(scope="module")
def declared(url):
    return read_kube_state(Prometheus(Connection(url)), "prod", END)


def key_of(each):
    return each.container.namespace, each.container.kind, each.container.workload, each.container.container


def test_every_container_of_kube_state_metrics_is_declared_once_under_its_workload(declared):
    assert tuple(sorted(map(key_of, declared.containers))) == tsdb.SHOP_CONTAINERS
    assert {each.container.cluster for each in declared.containers} == {"prod"}
    assert declared.owners["shop", tsdb.WEB[0]] == ("Deployment", "web")
    assert declared.owners["shop", "tick-29919525-6lvfs"] == ("CronJob", "tick")


def test_requests_limits_and_replicas_are_those_of_most_pods(declared):
    app = next(each for each in declared.containers if key_of(each) == ("shop", "Deployment", "web", "app"))
    assert app.requests == {"cpu": "250m", "memory": str(256 * MEBIBYTE)}
    assert app.limits == {"memory": str(512 * MEBIBYTE)}
    assert app.replicas == 3
    assert app.resources.cpu_limit_cores is None


def test_the_autoscaler_is_known_with_its_target_and_only_to_its_workload(declared):
    scalers = {key_of(each)[2]: each.autoscaler for each in declared.containers}
    wanted = Autoscaler("web-scaler", 2, 9, (Metric("Resource", "cpu", None, 70),))
    assert scalers.pop("web") == wanted
    assert set(scalers.values()) == {None}


def test_a_pod_that_lived_ten_minutes_and_is_gone_belongs_to_its_deployment(url, shop, declared, tmp_path):
    assert tsdb.GONE[:2] not in declared.owners
    assert declared.owner_of(*tsdb.GONE[:2]) == ("Deployment", "web")
    mean, _, _ = of(shop, tsdb.GONE)
    assert np.flatnonzero(~np.isnan(mean)).tolist() == [36, 37, 38]
    source = look(Prometheus(Connection(url)), START, END)
    part = Part("prometheus", "prod", "shop", START, START + 6 * HOUR)
    list(import_parts(lambda cost: Prometheus(Connection(url), cost), tmp_path, declared, source, [part], SAMPLES))
    frames = {
        (each.container.workload, each.container.container): each.frame for each in read_folder(tmp_path).histories
    }
    app = frames["web", "app"]
    assert sorted(set(app["instance"])) == sorted((*tsdb.WEB[:2], tsdb.GONE[1]))
    gone = app[app["instance"] == tsdb.GONE[1]]
    assert gone["start_unix_seconds"].tolist() == [START + ROW * row for row in (36, 37, 38)]
    assert gone["cpu_request_cores"].isna().all()
    assert (app[app["instance"] == tsdb.WEB[0]]["cpu_request_cores"] == 0.25).all()


def test_what_a_real_kube_state_metrics_told_is_read(url):
    found = read_kube_state(Prometheus(Connection(url)), "prod", tsdb.RECORDED_END)
    declared = {key_of(each): each for each in found.containers}
    assert tuple(sorted(declared)) == tsdb.RECORDED_CONTAINERS
    app = declared["shop", "Deployment", "web", "app"]
    assert app.requests == {"cpu": "200m", "memory": "67108864"}
    assert app.limits == {"cpu": "500m", "memory": "134217728"}
    assert app.replicas == 2
    assert app.autoscaler == Autoscaler("web", 2, 5, (Metric("Resource", "cpu", None, 900),))
    assert declared["shop", "CronJob", "tick", "c"].resources.cpu_request_cores == 0.05
    assert declared["shop", "StatefulSet", "db", "db"].autoscaler is None


def test_what_a_real_cadvisor_told_is_read(url):
    usage = asked(url, "shop", tsdb.RECORDED_START, tsdb.RECORDED_END)
    assert sorted(usage.keys) == [
        ("agent-s5ngh", "agent"),
        ("db-0", "db"),
        ("oomer-64f5847bf-4qszp", "o"),
        ("web-c6757df8b-m5nts", "app"),
        ("web-c6757df8b-m5nts", "sidecar"),
        ("web-c6757df8b-xrb9c", "app"),
        ("web-c6757df8b-xrb9c", "sidecar"),
    ]
    np.testing.assert_allclose(usage.cpu_cores, 0.01, rtol=1e-6)
    assert set(usage.memory_bytes[usage.keys.index(("db-0", "db"))]) == {42283008.0}
    assert np.nanmax(usage.optional[PERIODS]) == 0  # it was told once


def test_without_kube_state_metrics_there_is_no_inventory(url):
    assert read_kube_state(Prometheus(Connection(url)), "prod", tsdb.OFTEN_END) is None
