"""What a report draws over time, against counting by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from profiles.histogram import LATENCY, Histogram
from recommender.latency_steps import MOST_STEPS, STEPS_SECONDS, latency_steps, step_over
from recommender.timeline import timeline_of

BEGIN = 1_699_999_200.0  # on the hour
COUNTS = {
    "requests_per_second": "requests",
    "server_errors_per_second": "errors",
    "client_errors_per_second": "client_errors",
    "unanswered_per_second": "unanswered",
}


def rows(number, seconds=60.0, instance="a", start=BEGIN, every=None, **columns):
    """Rows of one instance after one another; a column may be a list."""
    frame = pd.DataFrame({"start_unix_seconds": start + np.arange(number) * (every or seconds)})
    frame["duration_seconds"], frame["instance"] = seconds, instance
    for name, value in ({"requests": 600.0, "errors": 0.0, "cpu_cores": 0.5} | columns).items():
        frame[name] = value
    return frame


def together(*frames):
    return pd.concat(frames, ignore_index=True).sort_values("start_unix_seconds", kind="stable", ignore_index=True)


def steps_of(timeline):
    return max(len(values) for values in timeline.columns.values())


def seconds_of_steps(frame, timeline):
    """Of each step the seconds that any row of it covers and none before it did, counted one by one."""
    seen, covered = set(), [0] * steps_of(timeline)
    for row in frame.sort_values("start_unix_seconds", kind="stable").itertuples():
        own = set(range(int(row.start_unix_seconds), int(row.start_unix_seconds + row.duration_seconds)))
        place = int((row.start_unix_seconds - timeline.start_unix_seconds) // timeline.step_seconds)
        covered[place] += len(own - seen)
        seen |= own
    return covered


known_or_not = st.one_of(st.just(np.nan), st.integers(0, 5000).map(float))
any_rows = st.lists(
    st.fixed_dictionaries(
        {
            "start_unix_seconds": st.integers(0, 900).map(lambda second: BEGIN + second),
            "duration_seconds": st.integers(1, 90).map(float),
            "instance": st.sampled_from("abc"),
            "requests": known_or_not,
            "errors": known_or_not,
            "unanswered": known_or_not,
            "cpu_cores": known_or_not,
            "cpu_peak_cores": known_or_not,
            "periods": known_or_not,
            "throttled_periods": known_or_not,
            "memory_working_set_bytes": known_or_not,
            "oom_kills": known_or_not,
        }
    ),
    min_size=1,
    max_size=40,
).map(lambda made: pd.DataFrame(made).sort_values("start_unix_seconds", kind="stable", ignore_index=True))


def by_hand(own, seconds):
    """The figures of the rows of one step, as sentences of the documentation say."""

    def known(*names):
        return own.dropna(subset=list(names))

    told = {}
    for name, of in COUNTS.items():
        if of in own and seconds:
            share = known(of).duration_seconds.sum() / own.duration_seconds.sum()
            told[name] = known(of)[of].sum() / (share * seconds) if share >= 0.9 else None
    used = known("cpu_cores")
    if len(used):
        told["cpu_cores"] = (used.cpu_cores * used.duration_seconds).sum() / used.duration_seconds.sum()
    peaks = own.cpu_peak_cores.fillna(own.cpu_cores).dropna()
    told["cpu_peak_cores"] = peaks.max() if len(peaks) else None
    both = known("periods", "throttled_periods")
    told["throttled_share"] = both.throttled_periods.sum() / both.periods.sum() if both.periods.sum() else None
    for name, reduce in (("memory_working_set_bytes", max), ("oom_kills", sum)):
        values = list(known(name)[name])
        told[name] = reduce(values) if values else None
    told["instances"] = own.duration_seconds.sum() / seconds if seconds else None
    return told


@settings(max_examples=60, deadline=None)
@given(any_rows)
def test_every_figure_of_every_step_is_that_of_its_rows(frame):
    timeline = timeline_of(frame, None)
    places = ((frame.start_unix_seconds - timeline.start_unix_seconds) // timeline.step_seconds).astype(int)
    covered = seconds_of_steps(frame, timeline)
    assert timeline.start_unix_seconds % timeline.step_seconds == 0
    assert places.min() == 0
    for step, seconds in enumerate(covered):
        wanted = by_hand(frame[places == step], seconds)
        for name in (*COUNTS, "cpu_cores", "cpu_peak_cores", "throttled_share", "oom_kills", "instances"):
            found = timeline.columns[name][step] if name in timeline.columns else None
            value = wanted.get(name)
            assert found == (None if value is None else pytest.approx(value, rel=6e-5)), (name, step)


@settings(max_examples=100, deadline=None)
@given(any_rows)
def test_rates_times_seconds_are_all_requests(frame):
    """Whatever gaps there are, and however rows overlap or straddle steps; where all rows know them."""
    frame["requests"] = frame["requests"].fillna(1.0)
    timeline = timeline_of(frame, None)
    pairs = zip(timeline.columns["requests_per_second"], seconds_of_steps(frame, timeline), strict=True)
    lost = [place for place, seconds in enumerate(seconds_of_steps(frame, timeline)) if not seconds]
    places = ((frame.start_unix_seconds - timeline.start_unix_seconds) // timeline.step_seconds).astype(int)
    told = frame[~places.isin(lost)].requests.sum()  # rows within a longer one of an earlier step add no time
    assert sum(rate * seconds for rate, seconds in pairs if rate is not None) == pytest.approx(told, rel=1e-4)


def test_rates_are_of_all_instances_and_cpu_is_of_one():
    frame = together(rows(30, instance="a", cpu_cores=0.2), rows(30, instance="b", cpu_cores=0.6, requests=1200.0))
    timeline = timeline_of(frame, None)
    assert (timeline.start_unix_seconds, timeline.step_seconds) == (BEGIN, 60)
    assert set(timeline.columns["requests_per_second"]) == {30.0}
    assert set(timeline.columns["instances"]) == {2.0}
    assert set(timeline.columns["cpu_cores"]) == {0.4}
    assert set(timeline.columns["cpu_peak_cores"]) == {0.6}


def test_instances_watched_by_minutes_and_by_five_minutes_are_two():
    """As cAdvisor's rows of one node beside an agent's of another."""
    of_agent = rows(60, cpu_cores=0.4)
    of_cadvisor = rows(12, seconds=300.0, instance="b", requests=3000.0, cpu_cores=0.4)
    timeline = timeline_of(together(of_agent, of_cadvisor), None)
    assert set(timeline.columns["instances"]) == {2.0}
    assert set(timeline.columns["requests_per_second"]) == {20.0}


def test_one_instance_watched_by_five_minutes_beside_many_by_minutes_is_there_all_the_time():
    of_many = [rows(60, instance=f"m{number}", cpu_cores=0.1) for number in range(25)]
    of_cadvisor = rows(12, seconds=300.0, instance="b", requests=3000.0, cpu_cores=0.1)
    timeline = timeline_of(together(of_cadvisor, *of_many), None)
    assert timeline.step_seconds == 60
    assert set(timeline.columns["instances"]) == {26.0}
    assert set(timeline.columns["requests_per_second"]) == {260.0}


def test_a_gap_has_no_figures_and_no_zero():
    frame = rows(10, cpu_cores=0.5).drop(index=[4, 5])
    columns = timeline_of(frame, None).columns
    for name in ("requests_per_second", "cpu_cores", "instances"):
        assert [value is None for value in columns[name]] == [False] * 4 + [True] * 2 + [False] * 4


@pytest.mark.parametrize(("unwatched", "rate"), [(0, 10.0), (2, 10.0), (4, None), (30, None)])
def test_a_step_has_a_rate_if_nine_tenths_of_it_were_watched(unwatched, rate):
    """Then what was not is as what was; less would look like a dip."""
    frame = rows(2240)
    frame.loc[range(unwatched), ["requests", "errors"]] = np.nan
    timeline = timeline_of(frame, None)
    assert timeline.step_seconds == 30 * 60
    assert timeline.columns["requests_per_second"][:2] == (rate, 10.0)


def test_what_was_never_known_is_not_there():
    timeline = timeline_of(rows(5, errors=np.nan), None)
    assert set(timeline.columns) == {"requests_per_second", "cpu_cores", "cpu_peak_cores", "instances"}
    assert (timeline.latency, timeline.latency_unix_seconds) == ({}, ())
    assert timeline_of(rows(0), None) is None


def test_kills_add_up_and_the_throttled_share_is_of_all_periods():
    frame = together(
        rows(4, instance="a", oom_kills=[0.0, 1.0, 0.0, np.nan], periods=600.0, throttled_periods=60.0),
        rows(4, instance="b", oom_kills=[0.0, 2.0, np.nan, np.nan], periods=200.0, throttled_periods=[0.0, 0, 0, 180]),
    )
    columns = timeline_of(frame, None).columns
    assert columns["oom_kills"] == (0.0, 3.0, 0.0, None)
    assert columns["throttled_share"] == (0.075, 0.075, 0.075, 0.3)


def test_a_row_counts_in_the_step_in_which_it_began():
    frame = rows(4, seconds=60.0, start=BEGIN + 45, requests=[60.0, 120.0, 180.0, 240.0])
    timeline = timeline_of(frame, None)
    assert (timeline.start_unix_seconds, timeline.step_seconds) == (BEGIN, 60)
    assert timeline.columns["requests_per_second"] == (1.0, 2.0, 3.0, 4.0)


def test_without_profiles_the_latency_is_the_highest_of_the_rows():
    frame = rows(6, p50_seconds=[0.1, np.nan, 0.3, 0.1, 0.1, 0.1], p95_seconds=0.5)
    timeline = timeline_of(together(frame, rows(6, instance="b", p50_seconds=0.2)), None)
    assert timeline.latency["p50_seconds"] == (0.2, 0.2, 0.3, 0.2, 0.2, 0.2)
    assert (timeline.latency_of, set(timeline.latency)) == ("rows", {"p50_seconds", "p95_seconds"})
    assert timeline.latency_unix_seconds == tuple(BEGIN + 60 * place for place in range(6))


def test_with_profiles_the_latency_is_of_all_requests():
    found = latency_steps(np.array([BEGIN] * 2), np.array([100, 200]), np.array([90, 30]))
    timeline = timeline_of(rows(3), found)
    assert (timeline.latency_of, timeline.latency_unix_seconds) == ("requests", (BEGIN,))
    assert timeline.latency["p50_seconds"][0] == pytest.approx(LATENCY.middle_seconds(100), rel=1e-4)
    assert timeline.latency["p99_seconds"][0] == pytest.approx(LATENCY.middle_seconds(200), rel=1e-4)


@given(st.integers(0, 40 * 86400), st.sampled_from([1.0, 10.0, 60.0, 300.0, 3600.0]), st.integers(0, 604_800))
@settings(max_examples=100, deadline=None)
def test_there_are_at_most_114_steps_and_none_is_shorter_than_a_row(span, seconds, start):
    number = int(span // seconds % 3000) + 1
    timeline = timeline_of(rows(number, seconds=seconds, start=BEGIN + start), None)
    assert timeline.step_seconds in STEPS_SECONDS
    assert timeline.step_seconds >= seconds
    assert steps_of(timeline) <= MOST_STEPS


@pytest.mark.parametrize(
    ("span", "least", "step"), [(62, 1, 1), (113, 1, 1), (114, 1, 2), (62, 10.05, 10), (10, 61, 120)]
)
def test_the_step_is_the_shortest_that_covers(span, least, step):
    assert step_over(span, least) == step
    assert step_over(14 * 86400, 60) == 10_800
    assert step_over(1e12, 60) == STEPS_SECONDS[-1]


entries = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, LATENCY.buckets - 1), st.integers(1, 300)), min_size=1, max_size=60
)


def merged_steps(made, step):
    """By the start of each step the histogram of its requests."""
    found = {}
    for second, bucket, count in made:
        found.setdefault((BEGIN + second) // step * step, []).append(Histogram(LATENCY, {bucket: count}))
    return {start: Histogram.merged(LATENCY, parts) for start, parts in sorted(found.items())}


@settings(max_examples=100, deadline=None)
@given(entries)
@example([(0, 10, 50), (0, 20, 51)])  # the 51st of 101 is the middle one
def test_the_quantiles_of_a_step_are_those_of_all_its_requests(made):
    """None where fewer than one request is slower."""
    seconds, buckets, counts = (np.array(column) for column in zip(*made, strict=True))
    found = latency_steps(BEGIN + seconds, buckets, counts)
    wanted = merged_steps(made, found.step_seconds)
    assert list(found.unix_seconds) == list(wanted)
    for histogram, values in zip(wanted.values(), found.quantiles_seconds, strict=True):
        for quantile, least, value in zip((0.5, 0.95, 0.99), (2, 20, 100), values, strict=True):
            if histogram.total < least:
                assert np.isnan(value)
            else:
                assert value == histogram.quantile_seconds(quantile)


@pytest.mark.parametrize(("requests", "known"), [(1, 0), (2, 1), (19, 1), (20, 2), (99, 2), (100, 3)])
def test_a_quantile_needs_a_request_above_it(requests, known):
    found = latency_steps(np.array([BEGIN]), np.array([50]), np.array([requests]))
    assert np.isfinite(found.quantiles_seconds[0]).sum() == known


def test_without_a_request_there_are_no_steps():
    nothing = np.array([])
    assert latency_steps(nothing, nothing, nothing) is None
    assert latency_steps(np.array([BEGIN]), np.array([3]), np.array([0])) is None


@pytest.mark.parametrize(("a_minute", "step"), [(1000, 60), (60, 120), (10, 600), (1, 900)])
def test_few_requests_are_seen_in_longer_steps_but_in_twelve_at_least(a_minute, step):
    """Steps of which most requests are among a hundred of their step; three hours of them."""
    minutes = BEGIN + 60.0 * np.arange(112 if a_minute == 1000 else 180)
    found = latency_steps(minutes, np.full(len(minutes), 80), np.full(len(minutes), a_minute))
    assert found.step_seconds == step
    assert len(found.unix_seconds) >= 12


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 3000), st.sampled_from([1, 10, 60, 300]), st.integers(0, 604_800))
@example(336, 10, 10)
def test_latency_has_at_most_114_steps(number, seconds, start):
    times = BEGIN + start + seconds * np.arange(number, dtype=float)
    found = latency_steps(times, np.full(number, 80), np.full(number, 1000))
    assert len(found.unix_seconds) <= MOST_STEPS
    assert found.step_seconds >= seconds


def test_a_history_shows_what_was_not_watched_beside_what_was(make_history):
    """The rows without an agent have CPU and no rate."""
    history = make_history(windows=20, seconds=60.0)
    later = history.frame.assign(start_unix_seconds=history.frame["start_unix_seconds"] + 20 * 60)
    later[["requests", "errors", "requests_per_second"]] = np.nan
    columns = dataclasses.replace(history, unwatched=later).timeline.columns
    assert [rate is None for rate in columns["requests_per_second"]].count(True) == 20
    assert None not in columns["cpu_cores"]
    told = sum(rate * 60 for rate in columns["requests_per_second"] if rate is not None)
    assert told == pytest.approx(history.requests, rel=1e-4)
