"""How long rows are, where those of an agent and those of Prometheus stand beside each other."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender.confidence import confidence_of
from recommender.evidence import Evidence
from recommender.history import Container, History
from recommender.size import _minutes
from tests.recommender.test_unwatched import KEY


def usage_history(frame, unwatched=None):
    frame = frame.assign(requests=0.0, errors=0.0, requests_per_second=0.0)
    nothing = Evidence.of([])
    return History(Container(*KEY), frame, nothing, nothing, 0, {}, (), unwatched=unwatched)


def usage_rows(seconds, cores, peaks=None, pod="a", start=0.0):
    cores = np.asarray(cores, dtype=float)
    return pd.DataFrame(
        {
            "start_unix_seconds": start + seconds * np.arange(len(cores)),
            "duration_seconds": float(seconds),
            "instance": pod,
            "cpu_cores": cores,
            "cpu_peak_cores": cores if peaks is None else np.asarray(peaks, dtype=float),
        }
    )


def minute_by_minute(frame):
    """Of each instance (time, cores), as an earlier headroom told them of rows of one length."""
    minutes = round(float(np.median(frame["duration_seconds"])) / 60)
    for pod in sorted(set(frame["instance"])):
        found = []
        for row in frame[frame["instance"] == pod].itertuples():
            highest = np.fmax(row.cpu_peak_cores, row.cpu_cores)
            for each in range(max(1, minutes)):
                other = (
                    np.maximum(0.0, minutes * row.cpu_cores - highest) / (minutes - 1) if minutes > 1 else row.cpu_cores
                )
                value = highest if each == 0 and minutes > 1 else other
                found.append((row.start_unix_seconds + 60 * each, value))
        yield pod, found


cores_of_rows = st.lists(st.one_of(st.floats(0, 8), st.just(float("nan"))), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([10, 30, 60, 120, 300, 600]), cores_of_rows, st.floats(0, 12), st.booleans())
def test_rows_of_one_length_give_the_minutes_that_they_gave(seconds, cores, peak, known):
    peaks = [peak if known and index % 3 else float("nan") for index in range(len(cores))]
    frame = pd.concat([usage_rows(seconds, cores, peaks, pod) for pod in ("b", "a")], ignore_index=True)
    expected = list(minute_by_minute(frame))
    for pod, (name, rows) in zip(_minutes(usage_history(frame)), expected, strict=True):
        assert pod.name == name
        assert list(pod.unix_seconds) == [time for time, _ in rows]
        np.testing.assert_allclose(pod.values, [value for _, value in rows])


def test_of_rows_of_ten_seconds_the_peak_of_a_part_is_not_asked_for():
    (pod,) = _minutes(usage_history(usage_rows(10, [0.1, 0.2, 0.3], peaks=[5, 5, 5])))
    assert (list(pod.unix_seconds), list(pod.values)) == ([0, 10, 20], [0.1, 0.2, 0.3])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([60, 120, 300, 600]), st.floats(0.01, 4), st.floats(1, 2)), min_size=1))
def test_rows_of_any_length_keep_their_work(made):
    ends = np.cumsum([seconds for seconds, _, _ in made])
    rows = [
        usage_rows(seconds, [cores], [cores * more], start=float(end - seconds))
        for (seconds, cores, more), end in zip(made, ends, strict=True)
    ]
    (pod,) = _minutes(usage_history(rows[0], pd.concat(rows[1:], ignore_index=True) if rows[1:] else None).whole)
    assert list(pod.unix_seconds) == list(range(0, int(ends[-1]), 60))
    assert 60 * np.sum(pod.known) == pytest.approx(sum(seconds * cores for seconds, cores, _ in made))


def test_minutes_and_rows_of_five_are_each_as_long_as_they_are():
    watched, others = usage_rows(60, [0.1] * 5, start=300.0), usage_rows(300, [0.4], [0.8])
    (pod,) = _minutes(usage_history(watched, others).whole)
    assert list(pod.unix_seconds) == list(range(0, 600, 60))
    assert list(pod.values) == pytest.approx([0.8, 0.3, 0.3, 0.3, 0.3] + [0.1] * 5)


def test_the_time_of_both_after_each_other_is_the_sum():
    watched, others = usage_rows(60, [0.1] * 1440, start=86400.0), usage_rows(300, [0.1] * 288)
    whole = usage_history(watched, others).whole
    assert whole.seconds == 2 * 86400
    assert confidence_of(whole).reason.startswith("2 days recorded")


def test_the_time_of_both_beside_each_other_counts_once():
    watched, others = usage_rows(60, [0.1] * 8 * 1440, pod="a"), usage_rows(300, [0.1] * 8 * 288, pod="b")
    whole = usage_history(watched, others).whole
    assert whole.seconds == 8 * 86400
    assert confidence_of(whole).reason.startswith("8 days recorded")
