"""What is sized of a container that an agent watched at times, and Prometheus always."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from policies.schema import load_policies
from recommender import guardrails
from recommender.classify import WorkloadClass
from recommender.inventory import Declared
from recommender.memory import fit_memory
from recommender.recommend import recommend, recommend_under
from recommender.recommendation import Verdict
from recommender.size import Sized
from recommender.unwatched import busier_unwatched
from tests.recommender.conftest import MEBIBYTE

BALANCED = load_policies("balanced")
POLICY = BALANCED[0]
DAY = 86400.0
BEGIN = 1.7e9 // 300 * 300  # of what make_history's agent watched, but for some seconds


def others(rows=288, cores=0.1, memory=100 * MEBIBYTE, start=BEGIN - DAY, pod="/web-0", **more):
    """Rows of five minutes, of a time when no agent watched."""
    starts = start + 300 * np.arange(rows)
    unknown = dict.fromkeys(("requests", "errors", "requests_per_second", "memory_anon_bytes"), np.nan)
    used = {"cpu_cores": cores, "cpu_peak_cores": cores, "memory_working_set_bytes": memory}
    of = {"start_unix_seconds": starts, "duration_seconds": 300.0, "instance": pod}
    return pd.DataFrame(of | unknown | used | more, index=range(rows))


@pytest.fixture
def served(make_history):
    """Two watched hours with requests, and what Prometheus saw before, if anything."""

    def made(unwatched=None, windows=120, **settings):
        return dataclasses.replace(make_history(windows=windows, seconds=60.0, **settings), unwatched=unwatched)

    return made


def steady(**settings):
    return {"rate": lambda _: 20.0, "cost": 0.005, "base": 0.0} | settings  # 0.1 cores, always


def declared_as(row):
    resources = {
        "requests": {"cpu": str(row.target.cpu_request_cores), "memory": str(int(row.target.memory_request_bytes))},
        "limits": {"memory": str(int(row.target.memory_limit_bytes))},
    }
    if row.target.cpu_limit_cores is not None:
        resources["limits"]["cpu"] = str(row.target.cpu_limit_cores)
    return Declared(row.container, "main", resources["requests"], resources["limits"])


# --- was it busier -----------------------------------------------------------------------


def test_without_other_rows_nothing_was_busier(served):
    assert busier_unwatched(served()) is None


@pytest.mark.parametrize("cores", [0.0, 0.001, 0.05, 0.1, 0.109])
def test_a_time_that_was_not_busier_raises_nothing(served, cores):
    assert busier_unwatched(served(others(cores=cores), **steady())) is None


@pytest.mark.parametrize("factor", [1.2, 2.0, 5.0])
def test_a_busier_time_is_told_by_how_much_and_when(served, factor):
    cores = np.where(np.arange(288) >= 144, 0.1 * factor, 0.1)
    cores[200] += 1e-6
    found = busier_unwatched(served(others(cores=cores, start=1_790_035_200 - 144 * 300), **steady()))
    assert found.factor == pytest.approx(factor, rel=1e-3)
    assert found.cores == pytest.approx(0.1 * factor, rel=1e-3)
    assert f"x{factor:.2f}" in found.sentence
    assert f"{0.1 * factor:.3g} cores around 2026-09-22 04:40 UTC" in found.sentence


def test_an_hour_is_enough_and_less_is_not(served):
    assert busier_unwatched(served(others(rows=11, cores=1.0), **steady())) is None
    assert busier_unwatched(served(others(rows=12, cores=1.0), **steady())).factor == pytest.approx(10)


@pytest.mark.parametrize("unknown", [slice(None), slice(5, None)])
def test_rows_without_cpu_do_not_count(served, unknown):
    cores = np.full(288, 1.0)
    cores[unknown] = np.nan
    assert busier_unwatched(served(others(cores=cores), **steady())) is None


def test_where_watched_cpu_is_zero_or_unknown_no_factor_is_told(served):
    unwatched = others(cores=1.0)
    assert busier_unwatched(served(unwatched, **steady(cost=0.0))) is None
    history = served(unwatched, **steady())
    assert busier_unwatched(dataclasses.replace(history, frame=history.frame.assign(cpu_cores=np.nan))) is None


def test_some_unknown_rows_change_no_factor(served):
    cores = np.where(np.arange(288) % 3, 0.2, np.nan)
    assert busier_unwatched(served(others(cores=cores), **steady())).factor == pytest.approx(2)


def test_five_minutes_of_ten_second_windows_compare_with_one_row(make_history):
    history = make_history(windows=360, seconds=10.0, **steady())
    history = dataclasses.replace(history, unwatched=others(cores=0.3))
    assert busier_unwatched(history).factor == pytest.approx(3)


def test_it_is_by_instance_and_not_their_sum(served):
    rows = pd.concat([others(cores=0.1, pod=f"/web-{pod}") for pod in range(3)], ignore_index=True)
    assert busier_unwatched(served(rows, **steady())) is None


def test_a_single_row_that_was_high_in_days_is_no_factor(served):
    cores = np.full(2016, 0.1)
    cores[1000] = 3.0
    assert busier_unwatched(served(others(rows=2016, cores=cores, start=BEGIN - 7 * DAY), **steady())) is None


# --- and what comes of it -----------------------------------------------------------------


def test_a_busier_time_raises_both_cpu_sizes_their_bounds_and_says_so(served):
    before, after = (recommend(served(unwatched), POLICY) for unwatched in (None, others(cores=0.4)))
    factor = busier_unwatched(after.history).factor
    assert factor > 2
    for name in ("cpu_request_cores", "cpu_limit_cores"):
        assert getattr(after.uncapped, name) == pytest.approx(factor * getattr(before.uncapped, name), rel=1e-6)
        assert after.reasons[name].startswith(f"x{factor:.2f}, for it was busier when no agent watched it: 0.4 cores")
        assert before.reasons[name] in after.reasons[name]
        for one, other in zip(before.bounds[name], after.bounds[name], strict=True):
            assert one <= other
            assert other == pytest.approx(factor * one, rel=0.05)
    assert after.target.cpu_request_cores <= after.target.cpu_limit_cores
    assert (after.classification.name, after.confidence) == (before.classification.name, before.confidence)
    assert after.curve == before.curve


def test_a_limit_that_is_not_to_be_set_stays_so(served):
    row = recommend(served(others(cores=0.4)), load_policies("safe")[0])
    assert "cpu_limit_cores" in row.unset
    assert row.target.cpu_limit_cores is None
    assert "busier" in row.reasons["cpu_request_cores"]
    assert "busier" not in row.reasons["cpu_limit_cores"]


def test_nothing_is_raised_of_what_is_not_known():
    for sized in (Sized(None, "not known"), Sized(None, "none", unset=True)):
        assert guardrails.raised_for_busier(sized, 2.0, "busier") is sized
    raised = guardrails.raised_for_busier(Sized(1.0, "why", lower=0.5), 2.0, "busier")
    assert raised == Sized(2.0, "busier; of what was watched: why", lower=1.0)


@pytest.mark.parametrize("cores", [0.05, 0.3, 1.0])
def test_what_is_applied_is_not_changed_again(served, cores):
    history = served(others(cores=cores))
    first = recommend_under(history, BALANCED)
    again = recommend_under(history, BALANCED, declared_as(first))
    assert again.verdict is Verdict.KEEP
    assert again.target == again.current == first.target


def test_what_was_nearly_idle_while_watched_is_not_given_hundreds_of_cores(served):
    row = recommend(served(others(cores=1.0), rate=lambda _: 0.3, base=0.0001, cost=0.0005), POLICY)
    assert row.target.cpu_request_cores < 10
    assert row.target.cpu_limit_cores is None  # bursts were not measured


# --- where the agent has seen too little, or no request ----------------------------------------


def test_an_agent_that_has_just_come_does_not_take_the_size_away(served):
    row = recommend_under(served(others(rows=5 * 288, cores=0.2, start=BEGIN - 5 * DAY), windows=3), BALANCED)
    assert row.verdict is Verdict.RESIZE
    assert "sized by its usage alone: its agent has seen 3 of 30 windows needed" in row.notes
    assert 0.2 <= row.target.cpu_request_cores < 0.3
    assert row.target.memory_request_bytes > 100 * MEBIBYTE
    assert (row.limit_adds, row.curve, row.history.watched) == (None, None, False)
    assert row.confidence.reason.startswith("5 days recorded")


def test_too_few_requests_are_sized_by_usage_and_enough_are_not(served):
    row = recommend_under(served(others(cores=0.2), rate=lambda _: 0.03), BALANCED)
    assert any("sized by its usage alone" in note and "of 300 requests needed" in note for note in row.notes)
    assert row.verdict is Verdict.RESIZE
    row = recommend_under(served(others(cores=0.2)), BALANCED)
    assert not any("sized by its usage alone" in note for note in row.notes)
    assert row.curve is not None


def test_without_other_rows_too_little_is_refused_as_ever(served):
    row = recommend_under(served(windows=3), BALANCED)
    assert row.verdict is Verdict.REFUSE
    assert not any("usage alone" in note for note in row.notes)


def test_what_is_refused_is_not_said_to_be_sized(served):
    row = recommend_under(served(others(rows=5), windows=3), BALANCED)
    assert row.verdict is Verdict.REFUSE
    assert not any("sized by its usage" in note for note in row.notes)


def test_the_note_on_what_answered_nothing_is_a_sentence(served):
    row = recommend_under(served(others(), rate=lambda _: 0.0, unanswered=5.0), BALANCED)
    assert not any("has seen it answered" in note for note in row.notes)


def test_what_serves_no_requests_is_priced_by_all_of_its_time(served):
    quiet = {"rate": lambda _: 0.0, "base": 0.1}
    rows = [recommend_under(served(each, **quiet), BALANCED) for each in (None, others(cores=0.5))]
    assert rows[0].target.cpu_request_cores < 0.15
    assert 0.5 <= rows[1].target.cpu_request_cores <= rows[1].target.cpu_limit_cores < 0.7
    assert "no HTTP request was seen" in rows[1].reasons["cpu_request_cores"]
    assert rows[1].confidence.reason.startswith("26 h recorded")


def test_what_worked_while_nobody_watched_is_not_idle(served):
    row = recommend_under(served(others(cores=1.0), rate=lambda _: 0.0, base=0.001), BALANCED)
    assert row.target.cpu_request_cores >= 1.0
    assert row.classification.name is not WorkloadClass.IDLE


def test_the_limit_of_what_serves_no_requests_leaves_room_for_what_only_prometheus_saw(served):
    peaks = np.where(np.arange(288) % 50 == 0, 4.0, 0.3)
    unwatched = others(cores=0.3, cpu_peak_cores=peaks)
    row = recommend(served(unwatched, rate=lambda _: 0.0, base=0.1), POLICY)
    assert "cpu_limit_cores" in row.unset or row.target.cpu_limit_cores is None or row.target.cpu_limit_cores >= 1.0


# --- memory ---------------------------------------------------------------------------------


def test_a_peak_that_only_prometheus_saw_raises_the_memory(served):
    memory = np.full(288, 100.0 * MEBIBYTE)
    memory[100] = 300 * MEBIBYTE
    before, after = (recommend(served(unwatched), POLICY) for unwatched in (others(), others(memory=memory)))
    assert before.target.memory_request_bytes < 200 * MEBIBYTE
    assert after.target.memory_request_bytes > 300 * MEBIBYTE
    assert after.target.memory_limit_bytes > after.target.memory_request_bytes
    assert "peak 300 MiB" in after.reasons["memory_request_bytes"]


def test_a_peak_of_an_instance_that_no_agent_saw_counts(served):
    fit = fit_memory(served(others(memory=400 * MEBIBYTE, pod="/elsewhere")))
    assert fit.peak_bytes == 400 * MEBIBYTE


def test_memory_follows_traffic_although_rates_are_unknown_at_times(served):
    def rising(now):
        return (100 + 20 * (20 + 15 * np.sin(now / 600))) * MEBIBYTE

    settings = {"memory": rising, "rate": lambda now: 20 + 15 * np.sin(now / 600), "windows": 300}
    alone, both = (fit_memory(served(each, **settings)) for each in (None, others(memory=600 * MEBIBYTE)))
    assert both.follows_traffic.highest_rate == pytest.approx(alone.follows_traffic.highest_rate)
    assert both.follows_traffic.correlation == pytest.approx(alone.follows_traffic.correlation, rel=0.05)


def test_every_number_of_memory_is_known_whatever_is_unknown(served):
    for unwatched in (others(), others(pod="/b"), others(memory=np.nan), others(cores=np.nan, oom_kills=np.nan)):
        fit = fit_memory(served(unwatched))
        numbers = [value for value in dataclasses.asdict(fit).values() if isinstance(value, float)]
        assert all(map(math.isfinite, [*numbers, fit.leak.p_value, fit.leak.level_bytes, *fit.leak.interval]))


def test_a_kill_that_only_prometheus_saw_is_a_kill(served):
    kills = np.r_[np.zeros(287), 1]
    fit = fit_memory(served(others(oom_kills=kills, memory_limit_bytes=128.0 * MEBIBYTE)))
    assert (fit.oom_kills, fit.need_bytes) == (1, 228 * MEBIBYTE)


def leaking(now):
    return (100 + now / 600) * MEBIBYTE  # 144 MiB a day


def test_a_leak_that_an_agent_sees_is_seen(served):
    assert fit_memory(served(memory=leaking, windows=2880)).leak.leaking


def test_a_leak_is_seen_although_its_beginning_was_not_watched(served):
    unwatched = others(rows=1440, start=BEGIN - 5 * DAY)
    assert fit_memory(served(unwatched, memory=leaking, windows=2880)).leak.leaking


def test_a_leak_is_seen_beside_an_instance_without_an_agent(served):
    unwatched = others(rows=1440, start=BEGIN - 5 * DAY, pod="/elsewhere")
    assert fit_memory(served(unwatched, memory=leaking, windows=2880)).leak.leaking


@pytest.mark.parametrize(
    "seen",
    [{"oom_kills": 1.0}, {"periods": 3000.0, "throttled_periods": 1000.0}],
    ids=["killed", "throttled"],
)
def test_what_was_short_of_something_unwatched_is_not_cut(served, seen):
    limits = {"cpu_limit_cores": 4.0, "cpu_request_cores": 4.0, "memory_limit_bytes": 4096.0 * MEBIBYTE}
    history = served(others(**seen, **limits), **limits)
    row = recommend(history, POLICY)
    name = "memory_limit_bytes" if "oom_kills" in seen else "cpu_limit_cores"
    assert getattr(row.target, name) >= getattr(row.current, name)
