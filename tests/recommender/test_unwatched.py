"""Rows of an agent and of Prometheus in one store: whose time is whose, and how long a row is."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from profiles.parquet import ParquetReader, ParquetWriter
from profiles.tables import USAGE_NUMBERS
from recommender.inputs.parquet import Repairs, read_history

KEY = ("c", "shop", "Deployment", "web", "app")
ROWS = "start_unix_seconds", "duration_seconds"
RECORDING = {
    "start_unix_seconds": 0.0,
    "end_unix_seconds": 1e6,
    "seconds": 1e6,
    "windows": 1,
    "clock_steps": 0,
    "lost": "{}",
    "agent": "{}",
}


def of_agent(starts, seconds=60.0, pod="a", cores=1.0, requests=7):
    starts = list(starts)
    rows = len(starts)
    return {
        "instance": [pod] * rows,
        "unix_seconds": starts,
        "duration_seconds": [seconds] * rows if np.isscalar(seconds) else list(seconds),
        "requests": [requests] * rows,
        "errors": [0] * rows,
        "cpu_cores": [cores] * rows,
        "cpu_peak_cores": [cores] * rows,
        "memory_working_set_bytes": [1e8] * rows,
        "memory_anon_bytes": [9e7] * rows,
    }


def of_prometheus(starts, seconds=300.0, pod="a", cores=1.0):
    made = of_agent(starts, seconds, pod, cores)
    return made | dict.fromkeys(("requests", "errors", "memory_anon_bytes"), [None] * len(made["unix_seconds"]))


def stored(folder, *files):
    """Each file a list of parts, whose rows follow each other in it."""
    for number, parts in enumerate(files):
        joined = {name: [value for part in parts for value in part[name]] for name in parts[0]}
        nothing = dict.fromkeys(USAGE_NUMBERS, pa.nulls(len(joined["unix_seconds"])))
        with ParquetWriter(folder, f"file{number}") as writer:
            writer.write(KEY, {"usage": nothing | joined})
            writer.finish([RECORDING])
    (found,) = ParquetReader(folder).containers
    return found


def split(folder, *files):
    """(pod, start) of the agent's rows, and of the others; None where there are none."""
    history = read_history(stored(folder, *files), Repairs())
    return times(history.frame), None if history.unwatched is None else times(history.unwatched)


def times(frame, pod=None):
    found = list(zip(frame["instance"].astype(str), frame["start_unix_seconds"].astype(int), strict=True))
    return found if pod is None else [start for name, start in found if name == pod]


def seconds_of(frame):
    """As (pod, second), each as often as a row is there for it."""
    names = frame["instance"].astype(str)
    columns = (names, *(frame[name].to_numpy().astype(int) for name in ROWS))
    return [(pod, start + each) for pod, start, length in zip(*columns, strict=True) for each in range(length)]


# --- one source alone ---------------------------------------------------------------


def test_rows_of_agents_alone_are_all_watched(tmp_path):
    history = read_history(stored(tmp_path, [of_agent(range(0, 600, 60))]), Repairs())
    assert (history.watched, history.unwatched, history.requests) == (True, None, 70)
    assert times(history.frame, "a") == list(range(0, 600, 60))
    assert history.whole is history
    assert list(history.frame["requests_per_second"]) == [7 / 60] * 10


def test_rows_of_prometheus_alone_count_no_request_and_nobody_watched(tmp_path):
    history = read_history(stored(tmp_path, [of_prometheus(range(0, 3000, 300))]), Repairs())
    assert (history.watched, history.unwatched, history.requests) == (False, None, 0)
    assert times(history.frame, "a") == list(range(0, 3000, 300))
    assert history.whole is history
    assert (history.frame[["requests", "errors", "requests_per_second"]] == 0.0).all(axis=None)
    again = history.by_usage()
    of_requests = ["client_errors", "unanswered", "p50_seconds", "p95_seconds"]
    pd.testing.assert_frame_equal(again.frame, history.frame.drop(columns=of_requests))


# --- both ------------------------------------------------------------------------


def test_a_row_that_ends_where_the_agent_begins_and_one_that_begins_where_it_ends_stay(tmp_path):
    agent = [of_agent(range(300, 600, 60))]
    before_and_after = [of_prometheus([0, 600])]
    watched, others = split(tmp_path, agent, before_and_after)
    assert [start for _, start in watched] == list(range(300, 600, 60))
    assert others == [("a", 0), ("a", 600)]


@pytest.mark.parametrize("begin", [10, 60, 240, 298])
def test_a_row_in_which_the_agent_began_is_left_out(tmp_path, begin):
    _, others = split(tmp_path, [of_agent(range(begin, begin + 600, 60))], [of_prometheus([-300, 0, 1200])])
    assert others == [("a", -300), ("a", 1200)]


@pytest.mark.parametrize("last", [2, 30, 250])
def test_a_row_in_which_the_agent_ended_is_left_out(tmp_path, last):
    _, others = split(tmp_path, [of_agent([10, 600], [600 - 10, last])], [of_prometheus([599, 900])])
    assert others == [("a", 900)]


def test_a_second_of_overlap_is_none(tmp_path):
    _, others = split(tmp_path, [of_agent([299, 359], [60, 242])], [of_prometheus([0, 600])])
    assert others == [("a", 0), ("a", 600)]


def test_a_row_in_a_gap_of_the_agent_stays_and_one_that_reaches_out_of_it_goes(tmp_path):
    agent = of_agent([*range(10, 600, 60), *range(1510, 2100, 60)])
    _, others = split(tmp_path, [agent], [of_prometheus([300, 600, 900, 1200, 1500, 1800])])
    assert others == [("a", 900), ("a", 1200)]


def test_a_row_in_which_the_agent_saw_one_minute_of_five_is_left_out(tmp_path):
    watched, others = split(tmp_path, [of_agent([130])], [of_prometheus([0])])
    assert (watched, others) == ([("a", 130)], None)


def test_a_long_row_of_the_agent_that_began_long_ago_still_covers(tmp_path):
    agent = of_agent([10, 70], [1000, 60])
    _, others = split(tmp_path, [agent], [of_prometheus([600, 900, 1200])])
    assert others == [("a", 1200)]


def test_another_instance_at_the_same_time_stays(tmp_path):
    agent = [of_agent(range(10, 900, 60), pod="b")]
    others = [of_prometheus([0, 300, 600], pod="a"), of_prometheus([0, 300, 600], pod="b")]
    watched, others = split(tmp_path, agent, [*others, of_prometheus([0, 300, 600], pod="c")])
    assert {pod for pod, _ in watched} == {"b"}
    assert others == [(pod, start) for start in (0, 300, 600) for pod in "ac"]


def test_an_instance_that_was_watched_in_the_middle_of_its_life(tmp_path):
    files = [of_agent(range(3010, 6000, 60))], [of_prometheus(range(0, 9000, 300))]
    history = read_history(stored(tmp_path, *files), Repairs())
    assert history.watched
    assert times(history.unwatched, "a") == [*range(0, 3000, 300), *range(6300, 9000, 300)]
    whole = history.whole
    assert np.all(np.diff(whole.frame["start_unix_seconds"]) > 0)
    assert len(whole.frame) == len(history.frame) + len(history.unwatched)
    assert whole.requests == history.requests == 50 * 7
    assert (whole.instances, whole.unwatched) == (1, None)


def test_by_usage_nobody_ever_watched(tmp_path):
    files = [of_agent(range(3010, 6000, 60))], [of_prometheus(range(0, 9000, 300))]
    history = read_history(stored(tmp_path, *files), Repairs())
    as_if = history.by_usage()
    assert (as_if.watched, as_if.unwatched, as_if.requests, as_if.unanswered) == (False, None, 0, None)
    assert as_if.everything.histogram.total == 0
    assert len(as_if.frame) == len(history.whole.frame)
    assert history.requests == 350, "the one it came from is as it was"
    assert history.whole.frame["requests"].isna().sum() == len(history.unwatched)


def test_files_that_repeat_each_other_in_any_order_say_what_one_says(tmp_path):
    agent, others = of_agent(range(3010, 6000, 60)), of_prometheus(range(0, 9000, 300))
    back = {name: values[::-1] for name, values in agent.items()}
    once = split(tmp_path / "once", [agent], [others])
    repairs = Repairs()
    history = read_history(stored(tmp_path / "twice", [others], [back], [agent], [others], [others]), repairs)
    assert (times(history.frame), times(history.unwatched)) == once
    assert repairs["rows_duplicated"] == 50 + 2 * 30
    assert repairs["rows_out_of_order"] == 49


def test_rows_of_both_in_one_file_are_told_apart(tmp_path):
    watched, others = split(tmp_path, [of_prometheus([0]), of_agent([310]), of_prometheus([600])])
    assert (watched, others) == ([("a", 310)], [("a", 0), ("a", 600)])


@st.composite
def mixtures(draw, offset):
    """Files of both; the agent's minutes begin `offset` seconds after those of Prometheus'."""
    pods = st.sampled_from("ab")
    minute, five = st.integers(0, 40), st.integers(0, 8)
    agent = draw(st.dictionaries(st.tuples(pods, minute), st.integers(5, 60), min_size=1, max_size=25))
    others = draw(st.sets(st.tuples(pods, five), min_size=1, max_size=12))
    parts = [of_agent([60 * at + offset], seconds, pod) for (pod, at), seconds in agent.items()]
    return parts, [of_prometheus([300 * at], pod=pod) for pod, at in others]


def counted_at_most_once(folder, files):
    history = read_history(stored(folder, *files), Repairs())
    whole = history.whole.frame
    used = float((whole["cpu_cores"] * whole["duration_seconds"]).sum())
    slack = 2.0 * (0 if history.unwatched is None else len(history.unwatched))
    assert used <= len(set(seconds_of(whole))) + slack
    agent, others = files
    for part in agent:  # what the agent saw is there as it was
        known = history.frame[history.frame["instance"].astype(str) == part["instance"][0]]
        row = known[known["start_unix_seconds"] == part["unix_seconds"][0]]
        assert list(row["duration_seconds"]) == part["duration_seconds"]
    known = set(seconds_of(whole))  # and what only Prometheus saw, where it saw nothing of the row
    watched = set(seconds_of(history.frame))
    for part in others:
        own = {(part["instance"][0], part["unix_seconds"][0] + each) for each in range(300)}
        assert own & watched or own <= known


@settings(max_examples=60, deadline=None)
@given(mixtures(offset=10))
def test_no_second_is_counted_twice(tmp_path_factory, files):
    counted_at_most_once(tmp_path_factory.mktemp("store"), files)


@settings(max_examples=60, deadline=None, phases=[Phase.generate])
@given(mixtures(offset=0))
def test_no_second_is_counted_twice_where_rows_begin_together(tmp_path_factory, files):
    counted_at_most_once(tmp_path_factory.mktemp("store"), files)


def test_the_minutes_of_an_agent_stay_minutes_beside_rows_of_five(tmp_path):
    repairs = Repairs()
    files = [of_agent(range(0, 600, 60), cores=0.1)], [of_prometheus([0, 300, 600], cores=0.2)]
    history = read_history(stored(tmp_path, *files), repairs)
    assert set(history.frame["duration_seconds"]) == {60.0}
    assert set(history.frame["requests_per_second"]) == {7 / 60}
    assert list(history.frame["cpu_cores"]) == pytest.approx([0.1] * 10)
    assert times(history.unwatched) == [("a", 600)]
    assert repairs["rows_duplicated"] == 0
