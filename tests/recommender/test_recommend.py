import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.schema import load_policies
from profiles.parquet import ParquetReader, ParquetWriter
from profiles.rollup import export_store
from profiles.schema import WITHOUT_ENDINGS, Identity, UsageRow, Window
from profiles.sqlite import StoreReader, StoreWriter
from recommender.classify import WorkloadClass
from recommender.history import busiest_rows
from recommender.inputs.store import read_store
from recommender.recommend import recommend, recommend_all
from recommender.recommendation import Verdict
from recommender.resources import RESOURCE_NAMES, format_bytes, format_cores, round_up_bytes, round_up_cores
from reports.document import as_document
from reports.machine import to_json

MEBIBYTE = 2**20
BALANCED = load_policies("balanced")
POLICY = BALANCED[0]


def with_policy(**changes):
    """`latency__limit_adds_percent=5` and the like, on top of balanced."""
    content = POLICY.model_dump()
    for name, value in changes.items():
        group, _, key = name.partition("__")
        content[group][key] = value
    return type(POLICY).model_validate(content)


def applied(history, row):
    """The same history, with the recommended sizes in force at its end."""
    frame = history.frame.copy()
    for name in ("cpu_limit_cores", "cpu_request_cores", "memory_limit_bytes"):
        frame.loc[frame.index[-history.instances :], name] = getattr(row.target, name) or np.nan
    frame.loc[frame.index[-history.instances :], "throttled_periods"] = 0.0
    return dataclasses.replace(history, frame=frame)


def sizes(row):
    return [getattr(row.target, name) for name in RESOURCE_NAMES]


def test_a_cpu_bound_service_gets_all_four_numbers(make_history):
    row = recommend(make_history(latency=0.006), POLICY)
    assert row.verdict is Verdict.RESIZE
    assert row.classification.name is WorkloadClass.CPU_BOUND
    assert all(value is not None for value in sizes(row))
    assert row.target.cpu_request_cores <= row.target.cpu_limit_cores
    assert row.target.memory_request_bytes == round_up_bytes(row.memory.upper_bytes) > 100 * MEBIBYTE
    assert row.target.memory_limit_bytes == round_up_bytes(row.memory.upper_bytes * 1.25)
    assert row.limit_adds <= 0.05
    assert set(row.reasons) == set(RESOURCE_NAMES)


def test_a_short_recording_is_refused_with_the_count(make_history):
    row = recommend(make_history(windows=12), POLICY)
    assert row.verdict is Verdict.REFUSE
    assert set(row.reasons.values()) == {"12 of 30 windows needed"}
    assert row.target == row.current


def test_few_requests_are_refused_with_the_count(make_history):
    row = recommend(make_history(rate=lambda _: 0.4), POLICY)
    assert set(row.reasons.values()) == {"240 of 300 requests needed"}


def test_who_answers_nothing_is_refused(make_history):
    """A deadlock, or everyone gives up: what little it uses then is no size."""
    row = recommend(make_history(rate=lambda _: 0.0, unanswered=4.0), BALANCED[0])
    assert row.verdict is Verdict.REFUSE
    assert "answered none of 240 requests" in row.reasons["cpu_request_cores"]


def test_time_spent_sending_is_said(make_history):
    history = make_history()
    (route,) = history.routes
    sent = dataclasses.replace(route, transfer_seconds_sum=0.8 * route.latency_seconds_sum)
    notes = recommend(dataclasses.replace(history, routes=(sent,)), BALANCED[0]).notes
    assert any(note.startswith("80% of its latency is sending answers") for note in notes)
    assert not any("sending" in note for note in recommend(history, BALANCED[0]).notes)


def test_whether_requests_go_unanswered_is_not_known_where_endings_were_refused(tmp_path):
    """Not known is no zero: neither in the frame, nor in the minutes of an export."""
    web = Identity("local", "host", "Cgroup", "web", "web", "/web")
    writer = StoreWriter(tmp_path / "p.db")
    for number, lost in enumerate(({}, {WITHOUT_ENDINGS: 1})):
        writer.write(Window(1.7e9 + 60 * number, 60.0, 0.0, lost), [], [UsageRow(web, 1.0)])
    writer.close()
    (history,) = read_store(tmp_path / "p.db").histories
    assert history.column("unanswered").tolist() == pytest.approx([0.0, np.nan], nan_ok=True)
    with StoreReader(tmp_path / "p.db") as reader, ParquetWriter(tmp_path / "out", "host") as exported:
        export_store(reader, exported, 60, busiest_rows)
    (container,) = ParquetReader(tmp_path / "out").containers
    assert container.read("usage").column("unanswered").to_pylist() == [0, None]


def test_an_idle_service_gets_the_floor(no_traffic):
    row = recommend(no_traffic(base=0.0001), POLICY)
    assert row.classification.name is WorkloadClass.IDLE
    assert row.target.cpu_request_cores == 0.010
    assert "floor of policy balanced" in row.reasons["cpu_request_cores"]


def test_a_worker_without_requests_is_sized_by_its_usage(no_traffic):
    row = recommend(no_traffic(base=0.3), POLICY)
    assert row.classification.name is WorkloadClass.WORKER
    assert row.target.cpu_request_cores == 0.335  # 0.3, and as much as its tail may wander
    assert "no HTTP request was seen" in row.reasons["cpu_request_cores"]


def test_a_leak_is_reported_and_not_sized_away(make_history):
    row = recommend(make_history(memory=lambda now: 100 * MEBIBYTE + now * 0.2 * MEBIBYTE), POLICY)
    assert row.classification.name is WorkloadClass.LEAKING
    assert (row.target.memory_request_bytes, row.target.memory_limit_bytes) == (None, None)
    assert "find the leak first" in row.reasons["memory_limit_bytes"]
    assert row.target.cpu_request_cores is not None


@pytest.mark.parametrize(
    "memory",
    [
        lambda now: 100 * MEBIBYTE * (1 - np.exp(-now / 40)) + 50 * MEBIBYTE,  # warm-up
        lambda now: 100 * MEBIBYTE + 10 * MEBIBYTE * np.sin(now / 50),  # follows traffic
        lambda now: 100 * MEBIBYTE + now * 100,  # real, and 60 KB in all
        lambda now: (100 + 60 * (now > 300)) * MEBIBYTE,  # one step
    ],
    ids=["warm-up", "wave", "tiny", "step"],
)
def test_growth_that_is_no_leak_is_not_called_one(make_history, memory):
    assert recommend(make_history(memory=memory), POLICY).classification.name is not WorkloadClass.LEAKING


def test_a_throttled_workload_is_never_cut(make_history):
    history = make_history(periods=100.0, throttled_periods=20.0, cpu_limit_cores=2.0, cpu_request_cores=1.0)
    row = recommend(history, POLICY)
    assert row.classification.name is WorkloadClass.SATURATED
    assert row.target.cpu_limit_cores >= 2.0
    assert row.target.cpu_request_cores >= 1.0
    assert row.target.cpu_limit_cores == 3.0  # a fifth of its periods: half as much again
    assert "x1.5 first, then record again" in row.reasons["cpu_limit_cores"]
    assert "need was not seen" in row.reasons["cpu_request_cores"]


def test_an_oom_kill_asks_for_more_and_is_never_cut(make_history):
    row = recommend(make_history(oom_kills=1.0, memory_limit_bytes=1000.0 * MEBIBYTE), POLICY)
    assert row.memory.need_bytes == 200 * MEBIBYTE  # 100 + 100
    assert row.target.memory_limit_bytes == 1000 * MEBIBYTE
    assert any("OOM kills" in note for note in row.notes)


def test_no_limit_where_the_policy_wants_none_and_its_risk_is_said(make_history):
    row = recommend(make_history(cpu_limit_cores=1.0), load_policies("safe")[0])
    assert row.target.cpu_limit_cores is None
    assert "cpu_limit_cores" in row.unset
    assert "neighbours" in row.reasons["cpu_limit_cores"]


def test_a_store_without_the_limit_bank_promises_no_latency(make_history):
    history = make_history()
    history = dataclasses.replace(
        history,
        everything=dataclasses.replace(history.everything, banks=None),
        busiest=dataclasses.replace(history.busiest, banks=None),
    )
    row = recommend(history, POLICY)
    assert (row.target.cpu_request_cores, row.target.cpu_limit_cores) == (None, None)
    assert "limit bank did not run" in row.reasons["cpu_limit_cores"]


def test_memory_that_was_not_seen_gets_no_number(make_history):
    blank = dict.fromkeys(("memory_peak_bytes", "memory_working_set_bytes", "memory_anon_bytes"))
    row = recommend(make_history(**blank), POLICY)
    assert row.target.memory_request_bytes is None
    assert "not seen" in row.reasons["memory_request_bytes"]


bounded = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
shapes = st.fixed_dictionaries(
    {
        "cost": st.floats(0.0005, 0.03),
        "base": st.floats(0, 0.5),
        "latency": st.floats(0.001, 0.5),
        "noise": st.floats(0, 0.2),
        "instances": st.integers(1, 3),
        "seed": st.integers(0, 1000),
    }
)


@bounded
@given(shapes)
def test_recommending_again_after_applying_changes_nothing(make_history, shape):
    history = make_history(windows=35, **shape)
    first = recommend(history, POLICY)
    second = recommend(applied(history, first), POLICY)
    for name in ("cpu_request_cores", "cpu_limit_cores", "memory_limit_bytes"):
        assert getattr(second.target, name) == getattr(first.target, name), (name, second.reasons[name])


def test_raising_a_limit_that_cuts_is_said_once(make_history):
    history = make_history(periods=100.0, throttled_periods=20.0, cpu_limit_cores=2.0, cpu_request_cores=1.0)
    first = recommend(history, POLICY)
    assert recommend(applied(history, first), POLICY).target == first.target


@bounded
@given(shapes, st.floats(1, 50))
def test_a_larger_budget_never_asks_for_more(make_history, shape, budget):
    history = make_history(windows=35, **shape)
    tight, loose = (
        recommend(history, with_policy(latency__limit_adds_percent=each, latency__request_adds_percent=each))
        for each in (budget, 2 * budget)
    )
    assert loose.target.cpu_request_cores <= tight.target.cpu_request_cores
    if tight.target.cpu_limit_cores is not None:
        assert loose.target.cpu_limit_cores <= tight.target.cpu_limit_cores


@given(st.floats(0.0001, 200))
def test_cpu_is_never_rounded_down(cores):
    assert cores <= round_up_cores(cores) + 1e-8
    assert round_up_cores(round_up_cores(cores)) == round_up_cores(cores)
    assert format_cores(round_up_cores(cores)) == format_cores(round_up_cores(round_up_cores(cores)))


@given(st.floats(1, 2**45))
def test_memory_is_never_rounded_down(size):
    assert size <= round_up_bytes(size) + 2
    assert round_up_bytes(round_up_bytes(size)) == round_up_bytes(size)


@pytest.mark.parametrize(
    ("cores", "text"), [(0.0101, "11m"), (0.1, "100m"), (0.3, "300m"), (1.0, "1"), (2.5, "2500m"), (None, None)]
)
def test_cpu_quantities(cores, text):
    assert format_cores(cores) == text


@pytest.mark.parametrize(("size", "text"), [(2**20, "1Mi"), (2**20 + 1, "2Mi"), (2**31, "2Gi"), (None, None)])
def test_memory_quantities(size, text):
    assert format_bytes(size) == text


def test_every_recorded_workload_appears_once_with_a_size_or_a_reason(recorded):
    rows = recommend_all(read_store(recorded), BALANCED)
    names = [row.container.workload for row in rows]
    assert names == ["checkout", "idle", "leaky", "nginx-gzip", "nginx-static"]
    for row in rows:
        for name in RESOURCE_NAMES:
            assert row.reasons[name]
    kinds = {row.container.workload: row.classification.name for row in rows}
    assert kinds["checkout"] is WorkloadClass.CPU_BOUND
    assert kinds["leaky"] is WorkloadClass.LEAKING
    assert kinds["idle"] is WorkloadClass.IDLE


def test_the_same_input_gives_the_same_bytes(recorded):
    texts = {
        to_json(as_document(store, recommend_all(store, BALANCED)))
        for store in (read_store(recorded), read_store(recorded))
    }
    assert len(texts) == 1
