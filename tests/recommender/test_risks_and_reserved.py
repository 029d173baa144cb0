"""What is dangerous about the sizes in force, what requests reserve, and what that costs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.prices import NodeType, Prices, load_prices
from policies.schema import load_policies
from policies.strict_yaml import PolicyError
from recommender.history import Container
from recommender.inventory import Declared, Node
from recommender.recommend import recommend, without_usage
from recommender.reserved import HOURS_A_MONTH, Rates, Reserved, rates_of, reserved_of
from recommender.resources import Resources
from recommender.risks import risks_of

BALANCED = load_policies("balanced")
MEBIBYTE, GIBIBYTE = 2**20, 2**30
RATES = Rates("USD", 0.03, 0.004, 0, 0)


def row_of(history, current=(), target=(), uncapped=None, unset=(), **more):
    """A recommendation with these sizes, each as (request, limit, request, limit)."""
    row = recommend(history, BALANCED[0])
    now, then = Resources(*current), Resources(*target)
    needed = then if uncapped is None else Resources(*uncapped)
    return replace(row, current=now, target=then, uncapped=needed, unset=frozenset(unset), **more)


def kinds(row):
    return [(risk.kind, risk.removed) for risk in risks_of(row)]


def in_memory(now, then, needed, unset=()):
    return {
        "current": (None, None, 64 * MEBIBYTE, now and now * MEBIBYTE),
        "target": (None, None, 64 * MEBIBYTE, then and then * MEBIBYTE),
        "uncapped": (None, None, 64 * MEBIBYTE, needed and needed * MEBIBYTE),
        "unset": unset,
    }


@pytest.mark.parametrize(
    ("kills", "sizes", "told"),
    [
        (0, in_memory(128, 256, 256), [("out of memory", True)]),
        (0, in_memory(256, 256, 256), []),
        (0, in_memory(256, 128, 128), []),
        (0, in_memory(None, 256, 256), []),
        (0, in_memory(128, 128, 256), []),  # a guardrail holds it
        (0, in_memory(128, None, 256, ("memory_limit_bytes",)), [("out of memory", True)]),
        (0, in_memory(128, None, None), []),
        (2, in_memory(128, 256, 256), [("out of memory", True)]),
        (2, in_memory(128, 128, 128), [("out of memory", False)]),
        (2, in_memory(128, None, None), [("out of memory", False)]),
        (2, in_memory(None, 256, 256), [("out of memory", False)]),  # it was the node that had no more
        (2, in_memory(128, None, 256, ("memory_limit_bytes",)), [("out of memory", True)]),
    ],
)
def test_memory_is_a_risk_if_it_was_killed_or_may_be(make_history, kills, sizes, told):
    history = make_history(windows=10)
    history.frame.loc[3, "oom_kills"] = float(kills)
    assert kinds(row_of(history, **sizes)) == told


def test_the_sentence_says_how_often_and_how_much(make_history):
    history = make_history(windows=10)
    row = row_of(history, **in_memory(128, 256, 200))
    assert [risk.sentence for risk in risks_of(row)] == ["its limit is 128Mi, and it may need 200Mi"]
    for kills, times in ((1.0, "once"), (3.0, "3 times")):
        killed = make_history(windows=10)
        killed.frame.loc[0, "oom_kills"] = kills
        (risk,) = risks_of(row_of(killed, **in_memory(128, 256, 200)))
        assert risk.sentence == f"the kernel killed it {times} for want of memory"


@pytest.mark.parametrize(
    ("throttled", "now", "then", "unset", "told"),
    [
        (0, 50.0, 60.0, (), []),
        (1, 50.0, 60.0, (), []),
        (2, 50.0, 60.0, (), [("throttled", True)]),
        (2, 50.0, 50.0, (), [("throttled", False)]),
        (2, 50.0, 40.0, (), [("throttled", False)]),
        (2, 50.0, None, (), [("throttled", False)]),
        (2, 50.0, None, ("cpu_limit_cores",), [("throttled", True)]),
    ],
)
def test_more_than_one_in_a_hundred_periods_is_throttled(make_history, throttled, now, then, unset, told):
    history = make_history(windows=10, periods=100.0, throttled_periods=float(throttled))
    memory = (64 * MEBIBYTE, 64 * MEBIBYTE)
    assert kinds(row_of(history, (1.0, now, *memory), (1.0, then, *memory), unset=unset)) == told


def test_a_limit_or_request_is_a_risk_if_it_adds_more_than_the_policy_allows(make_history):
    memory = (64 * MEBIBYTE, 64 * MEBIBYTE)
    row = recommend(make_history(latency=0.006), BALANCED[0])
    good = (row.target.cpu_request_cores, row.target.cpu_limit_cores)
    low = (0.6 * good[0], 0.6 * good[1])
    slow = replace(row, current=Resources(*low, *memory), target=Resources(*good, *memory))
    assert slow.adds_at_limit(low[1]) > 0.05
    assert slow.adds_at_request(low[0]) > 0.25
    assert kinds(slow) == [("slow under its limit", True), ("slow on a full node", True)]
    assert all(risk.sentence.endswith(" to P95") for risk in risks_of(slow))
    kept = replace(slow, target=slow.current)
    assert kinds(kept) == [("slow under its limit", False), ("slow on a full node", False)]
    without = replace(slow, target=Resources(good[0], None, *memory), unset=frozenset({"cpu_limit_cores"}))
    assert kinds(without) == [("slow under its limit", True), ("slow on a full node", True)]
    assert kinds(replace(slow, current=slow.target)) == []


def test_without_a_memory_request_it_is_evicted_first(make_history):
    history = make_history(windows=10)
    pod = replace(history, container=Container("c", "shop", "Deployment", "web", "app"))
    sizes = ((1.0, None, None, None), (1.0, None, float(MEBIBYTE), None))
    assert kinds(row_of(pod, *sizes)) == [("first to be evicted", True)]
    assert kinds(row_of(pod, sizes[0], sizes[0])) == [("first to be evicted", False)]
    assert kinds(row_of(pod, sizes[1], sizes[1])) == []
    assert kinds(row_of(pod, (1.0, None, None, 2.0 * GIBIBYTE), (1.0, None, None, 2.0 * GIBIBYTE))) == []
    assert kinds(row_of(history, *sizes)) == []  # the host's own


def test_risks_are_told_with_the_worst_first(make_history):
    history = make_history(windows=10, periods=100.0, throttled_periods=50.0)
    history.frame.loc[3, "oom_kills"] = 1.0
    row = row_of(
        replace(history, container=Container("c", "shop", "Deployment", "web", "app")),
        (None, 0.5, None, None), (None, 1.0, None, None),
    )  # fmt: skip
    assert [kind for kind, _ in kinds(row)] == ["out of memory", "throttled", "first to be evicted"]


def reserved(now, then, replicas=3.0):
    return Reserved(replicas, now[0], then[0], now[1], then[1])


def test_money_is_what_is_freed_times_its_price():
    one = reserved((6.0, 12.0 * GIBIBYTE), (2.0, 14.0 * GIBIBYTE))
    assert (one.cores_freed, one.bytes_freed) == (4.0, -2.0 * GIBIBYTE)
    assert one.month_saves(RATES) == pytest.approx((4 * 0.03 - 2 * 0.004) * 730)
    assert HOURS_A_MONTH == 730


def test_what_reserved_nothing_before_or_will_reserve_nothing_counts_nowhere():
    assert reserved((None, None), (2.0, 1.0)).month_saves(RATES) is None
    assert reserved((2.0, None), (None, None)).month_saves(RATES) is None
    half = reserved((2.0, None), (1.0, float(GIBIBYTE)))
    assert (half.bytes_freed, half.month_saves(RATES)) == (None, pytest.approx(0.03 * 730))
    assert reserved((2.0, None), (2.0, None)).month_saves(RATES) == 0


def test_requests_are_reserved_by_every_replica(make_history):
    history = make_history(windows=10, instances=3)
    sizes = ((1.0, 2.0, 64.0 * MEBIBYTE, None), (0.5, 2.0, 32.0 * MEBIBYTE, None))
    own = reserved_of(row_of(history, *sizes))
    assert (own.replicas, own.cores_before, own.cores_after) == (3.0, 3.0, 1.5)
    assert (own.bytes_before, own.bytes_after) == (192.0 * MEBIBYTE, 96.0 * MEBIBYTE)


@pytest.mark.parametrize(("replicas", "wanted"), [(4, 4.0), (0, 0.0), (None, 0.0)])
def test_what_was_never_seen_reserves_by_what_is_declared(replicas, wanted):
    declared = Declared(Container("c", "shop", "Deployment", "web", "app"), "main", {"cpu": "2"}, {}, replicas)
    own = reserved_of(without_usage(declared, BALANCED))
    assert (own.replicas, own.cores_before, own.cores_freed) == (wanted, 2 * wanted, 0.0)
    assert own.bytes_before is None


def as_kind(history, kind, frame=None):
    container = Container("c", "shop", kind, "web", "app")
    return replace(history, container=container, frame=history.frame if frame is None else frame)


@pytest.mark.parametrize(
    ("kind", "mean"), [("Deployment", 1.0), ("StatefulSet", 1.0), ("Job", 0.25), ("CronJob", 0.25)]
)
def test_between_the_runs_of_a_job_there_is_none_of_it(make_history, kind, mean):
    """Of a deployment nobody looked then; five minutes in each twenty, and the last run ends it."""
    history = make_history(windows=65, seconds=60.0)
    runs = history.frame[np.arange(65) % 20 < 5]
    own = as_kind(history, kind, runs.reset_index(drop=True))
    assert own.mean_instances == pytest.approx(mean if mean == 1 else 20 / 65)


def test_instances_that_come_and_go_count_by_their_time(make_history):
    history = as_kind(make_history(windows=20, seconds=60.0, instances=2), "Deployment")
    grown = history.frame[(history.frame["instance"] == "/web-0") | (history.frame["window"] >= 10)]
    assert as_kind(history, "Deployment", grown.reset_index(drop=True)).mean_instances == pytest.approx(1.5)
    assert as_kind(history, "Deployment", history.frame.iloc[:0]).mean_instances == 0


def test_rows_of_five_minutes_beside_rows_of_one_are_another_instance(make_history):
    history = as_kind(make_history(windows=20, seconds=60.0), "Deployment")
    longer = history.frame.iloc[::5].assign(duration_seconds=300.0, instance="b")
    assert replace(history, unwatched=longer).mean_instances == pytest.approx(2.0)


def test_what_is_kept_without_rows_has_its_replicas_still(make_history):
    history = as_kind(make_history(windows=20, instances=2), "CronJob")
    assert history.without_rows().mean_instances == history.mean_instances == pytest.approx(2.0)


TYPES = (
    NodeType(name="big", hour=0.40, cores=8, memory="32Gi"),
    NodeType(name="small", hour=0.05, cores=2, memory="2048Mi"),
)


@given(st.lists(st.tuples(st.sampled_from(["big", "small", "other", ""]), st.floats(0.5, 64), st.floats(1, 256))))
def test_nodes_cost_by_their_types_and_others_the_general_rate(nodes):
    """A node type's price is split in the ratio of the general ones: its whole capacity costs its price."""
    prices = Prices(core_hour=0.03, gib_hour=0.005, nodes=TYPES)
    known = {each.name: prices.rates_of(each.name) for each in TYPES}
    for each in TYPES:
        core, gib = known[each.name]
        assert each.cores * core + each.memory_bytes / GIBIBYTE * gib == pytest.approx(each.hour)
        assert core / gib == pytest.approx(0.03 / 0.005)
    found = rates_of(
        prices, [Node(str(at), cores, gib * GIBIBYTE, kind) for at, (kind, cores, gib) in enumerate(nodes)]
    )
    assert (found.nodes, found.priced_nodes) == (len(nodes), sum(kind in known for kind, _, _ in nodes))
    cost = [known.get(kind, (0.03, 0.005)) for kind, _, _ in nodes]
    if nodes:
        total = sum(cores * rate for (_, cores, _), (rate, _) in zip(nodes, cost, strict=True))
        assert found.core_hour * sum(cores for _, cores, _ in nodes) == pytest.approx(total)
        total = sum(gib * rate for (_, _, gib), (_, rate) in zip(nodes, cost, strict=True))
        assert found.gib_hour * sum(gib for _, _, gib in nodes) == pytest.approx(total)
    else:
        assert (found.core_hour, found.gib_hour, found.currency) == (0.03, 0.005, "USD")


def test_general_prices_of_zero_split_nothing():
    prices = Prices(core_hour=0, gib_hour=0, nodes=TYPES)
    assert prices.rates_of("big") is None
    assert rates_of(prices, [Node("a", 4, GIBIBYTE, "big")]).core_hour == 0
    assert Prices(core_hour=0, gib_hour=0.004, nodes=TYPES).rates_of("big") == (0, pytest.approx(0.40 / 32))
    assert rates_of(Prices(), [Node("a", 0.0, 0.0, "")]).core_hour == 0.03


GOOD = "version: 1\ncurrency: EUR\ncore_hour: 0.028\nnodes:\n  - {name: m6i, hour: 0.2, cores: 3.92, memory: 14.1Gi}\n"


def test_a_price_file_is_read_and_what_it_leaves_out_is_the_default(tmp_path):
    (tmp_path / "prices.yaml").write_text(GOOD)
    prices = load_prices(tmp_path / "prices.yaml")
    assert (prices.currency, prices.core_hour, prices.gib_hour) == ("EUR", 0.028, 0.004)
    assert (prices.nodes[0].memory_bytes, prices.nodes[0].pods) == (pytest.approx(14.1 * GIBIBYTE), 110)
    assert load_prices(None) == Prices()


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (GOOD + "core_hours: 1\n", 6, "unknown key 'core_hours'"),
        (GOOD + "core_hour: 1\n", 6, "'core_hour' is given twice"),
        (GOOD + "  - {name: m6i, hour: 1, cores: 1, memory: 1Gi}\n", 4, "node type 'm6i' stands there twice"),
        (GOOD + "  - {name: x, hour: 1, cores: 1, memory: 1Gi, disk: 1}\n", 6, "unknown key 'disk'"),
        (GOOD + "  - {name: x, hour: -1, cores: 1, memory: 1Gi}\n", 6, "nodes.1.hour: "),
        (GOOD + "  - {name: x, hour: 1, cores: 0, memory: 1Gi}\n", 6, "nodes.1.cores: "),
        (GOOD + "  - {name: x, hour: 1, cores: 1, memory: 1G}\n", 6, "nodes.1.memory: "),
        (GOOD + "  - {name: x, hour: 1, cores: 1}\n", 6, "nodes.1.memory: is missing"),
        ("version: 1\n\ncore_hour: -0.1\n", 3, "core_hour: input should be greater than or equal to 0"),
        ("version: 1\ncore_hour: .nan\n", 2, "core_hour: "),
        ("version: 1\ncore_hour: .inf\n", 2, "core_hour: "),
        ("currency: Euro\n", 1, "currency: "),
        ("version: 2\n", 1, "version: must be one of the values in the example"),
        ("version: 1\nnodes: [\n", 3, "not valid YAML"),
        ("- 1\n", 1, "the file: must be a mapping"),
        ("", 1, "the file: must be a mapping"),
    ],
)
def test_a_wrong_price_file_is_refused_with_its_line(tmp_path, text, line, said):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_prices(path)
    assert f"{path}, line {line}: " in caught.value.sentence
    assert said in caught.value.sentence
    assert caught.value.next_step


def test_a_price_file_that_cannot_be_read_is_said_so(tmp_path):
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        load_prices(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PolicyError, match="is not a text file"):
        load_prices(tmp_path / "binary.yaml")
