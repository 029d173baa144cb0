import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.classes import accuracy, answers, report
from policies.schema import load_policies
from recommender.classify import WorkloadClass, burst_index, classify, traffic
from recommender.demand import fit_demand
from recommender.error_patterns import Driver, follows_resources
from recommender.memory import fit_memory
from recommender.recommend import recommend
from recommender.resources import RESOURCE_NAMES
from recommender.rhythm import rhythm_of
from recommender.start_up import start_up_of
from tests.recommender.labelled.cases import HALVES, cases
from tests.recommender.labelled.simulate import Service, simulate

ROOT = Path(__file__).parent.parent.parent
POLICY = load_policies("balanced")[0]
NEVER_CUT = {"saturated", "censored"}
MEBIBYTE = 2**20


def class_of(history):
    return classify(history, fit_demand(history), fit_memory(history))


def with_columns(history, **columns):
    return dataclasses.replace(history, frame=history.frame.assign(**columns))


# the labelled set


def test_the_labelled_set_is_large_covers_every_class_and_has_recorded_cases():
    every = cases()
    assert len(every) >= 60
    assert len({case.name for case in every}) == len(every)
    for half in HALVES:
        assert {case.label for case in every if case.half == half} == {
            each.value for each in WorkloadClass if each is not WorkloadClass.UNSEEN
        }
    assert sum(case.origin == "recorded" for case in every) >= 20


@pytest.mark.parametrize("half", HALVES)
def test_at_least_95_of_100_are_right(half):
    rows = answers(half)
    wrong = [(case.name, answer.name.value, answer.evidence) for case, answer in rows if case.label != answer.name]
    assert accuracy(rows) >= 0.95, wrong


def test_the_documented_matrix_is_what_is_measured(golden):
    head, begin, rest = (ROOT / "docs/classes.md").read_text().partition("<!-- written by make golden -->\n")
    _, end, tail = rest.partition("<!-- end -->")
    golden("../../docs/classes.md", f"{head}{begin}{report()}{end}{tail}")


def never_to_be_cut():
    return [case for case in cases() if case.label in NEVER_CUT]


@pytest.mark.parametrize("case", never_to_be_cut(), ids=lambda case: case.name)
def test_what_is_saturated_or_censored_is_never_cut(case):
    """Sizes in force are set so high that only the class can hold them."""
    frame = case.history.frame
    in_force = {
        "cpu_request_cores": 16.0,
        "memory_limit_bytes": frame["memory_limit_bytes"].fillna(32.0 * 1024 * MEBIBYTE),
    }
    if frame["cpu_limit_cores"].isna().all():
        in_force["cpu_limit_cores"] = 16.0
    history = with_columns(case.history, **in_force)
    row = recommend(history, POLICY)
    assert row.classification.name.value == case.label
    for name in RESOURCE_NAMES:
        current, target = getattr(row.current, name), getattr(row.target, name)
        removed = name in row.unset  # a limit that is taken away is no cut
        assert current is None or removed or target >= current, (name, row.reasons[name])


@pytest.mark.parametrize("half", HALVES)
def test_every_answer_has_its_figures_and_a_confidence(half):
    for case, answer in answers(half):
        assert 0 <= answer.confidence <= 1
        assert answer.evidence
        assert answer.evidence[-1] != "."
        assert "nan" not in answer.evidence, case.name
        assert any(letter.isdigit() for letter in answer.evidence) or "Job" in answer.evidence
        assert answer.never_cut == (answer.name.value in NEVER_CUT)


def test_the_sure_ones_are_right_more_often():
    rows = [row for half in HALVES for row in answers(half)]
    sure = [case.label == answer.name for case, answer in rows if answer.confidence >= 0.7]
    assert len(sure) > len(rows) / 2
    assert np.mean(sure) >= 0.97


# single rules


def test_throttling_is_saturation_with_requests_and_censoring_without(make_history, no_traffic):
    throttled = {"periods": 100.0, "throttled_periods": 2.0, "cpu_limit_cores": 1.0}
    assert class_of(make_history(**throttled)).name is WorkloadClass.SATURATED
    assert class_of(no_traffic(base=0.3, **throttled)).name is WorkloadClass.CENSORED
    throttled["throttled_periods"] = 1.0  # 1 %, not more
    assert class_of(no_traffic(base=0.3, **throttled)).name is WorkloadClass.WORKER


def test_low_usage_does_not_hide_throttling(no_traffic):
    """As in kruize's costmanagement-metrics-operator: a few per cent of the limit at most, and throttled."""
    history = no_traffic(base=0.01, cpu_limit_cores=0.5)
    history = with_columns(history, throttled_seconds=np.arange(60) % 6 == 0).frame.astype({"throttled_seconds": float})
    history = dataclasses.replace(no_traffic(base=0.01, cpu_limit_cores=0.5), frame=history)
    found = class_of(history)
    assert found.name is WorkloadClass.CENSORED
    assert "throttled in 17% of its windows, although its highest CPU is 2% of its limit" in found.evidence


def test_usage_at_the_limit_is_censored_and_below_it_is_not(no_traffic):
    assert class_of(no_traffic(base=0.96, cpu_limit_cores=1.0)).name is WorkloadClass.CENSORED
    assert class_of(no_traffic(base=0.90, cpu_limit_cores=1.0)).name is WorkloadClass.WORKER


def test_memory_at_its_limit_and_oom_kills_are_censored(no_traffic):
    full = no_traffic(base=0.3, memory_limit_bytes=102.0 * MEBIBYTE)
    assert class_of(full).name is WorkloadClass.CENSORED
    assert "anonymous memory is at its limit in 100% of its windows" in class_of(full).evidence
    killed = no_traffic(base=0.3, oom_kills=1.0)
    assert "the kernel killed it 60 times" in class_of(killed).evidence


def test_probes_are_no_traffic():
    probed = simulate("probed", Service(work=lambda _: 0.2, probes=True), 1)
    assert probed.requests > 0
    assert traffic(probed) == 0
    assert class_of(probed).name is WorkloadClass.WORKER
    assert "probes" in class_of(probed).evidence


def test_a_job_is_batch_whatever_its_usage(no_traffic):
    history = no_traffic(base=0.5)
    history = dataclasses.replace(history, container=dataclasses.replace(history.container, kind="CronJob"))
    assert class_of(history).name is WorkloadClass.PERIODIC
    assert class_of(history).evidence == "it is a CronJob"


def test_confidence_falls_towards_the_threshold_and_with_few_windows(no_traffic):
    near, far = class_of(no_traffic(base=0.0095)), class_of(no_traffic(base=0.001))
    assert near.name is far.name is WorkloadClass.IDLE
    assert near.confidence < 0.6
    assert far.confidence > 0.9
    assert class_of(no_traffic(base=0.001, windows=5)).confidence < far.confidence


def test_nothing_seen_is_no_crash(no_traffic):
    blank = dict.fromkeys(
        ("cpu_cores", "memory_anon_bytes", "memory_working_set_bytes", "memory_peak_bytes", "oom_kills")
    )
    found = class_of(no_traffic(**blank))
    assert found.name is WorkloadClass.IDLE
    assert class_of(no_traffic(windows=1)).name is not None


def test_a_burst_index_needs_bins_and_work():
    assert burst_index({}, 10.0, 0.5) is None
    assert burst_index({4: 1}, 10.0, 0.0) is None
    assert burst_index({4: 1}, 0.0, 0.5) is None
    assert burst_index({16: 500}, 10.0, 0.5) == pytest.approx(1.03125 / 0.5)


def usage(cores, seconds=60.0):
    times = 1.7e9 + seconds * np.arange(len(cores))
    return pd.DataFrame({"start_unix_seconds": times, "duration_seconds": seconds, "cpu_cores": cores})


def test_a_period_is_found_and_drift_is_none():
    chance = np.random.default_rng(3)
    wave = 1 + 0.5 * np.sin(np.arange(300) / 30 * 2 * np.pi) + 0.1 * chance.standard_normal(300)
    found = rhythm_of(usage(wave))
    assert found.period_seconds % 1800 == 0
    assert found.repeats > 0.8
    drift = np.exp(np.cumsum(0.1 * chance.standard_normal(300)))
    assert rhythm_of(usage(drift)).repeats < 0.5
    assert rhythm_of(usage(chance.random(300))).repeats < 0.4
    assert rhythm_of(usage(np.ones(300))).repeats == 0
    assert rhythm_of(usage(wave[:20])).repeats == 0
    assert rhythm_of(usage(np.full(50, np.nan))).repeats == 0


def lives(*spans, seconds=30.0, **columns):
    frames = []
    for number, (begin, cores) in enumerate(spans):
        part = usage(np.array(cores, dtype=float), seconds)
        part["start_unix_seconds"] += begin * seconds
        frames.append(part.assign(instance=f"/{number}", requests_per_second=0.0, memory_anon_bytes=1e8, **columns))
    return pd.concat(frames)


def test_a_start_is_seen_only_of_what_was_born_meanwhile():
    born = lives((0, [0.2] * 40), (10, [1.0] * 3 + [0.2] * 20))
    assert start_up_of(born).starts == 1
    assert start_up_of(born).cpu_ratio == pytest.approx(3.4 / 5 / 0.2)  # five windows are its first fifth
    assert start_up_of(lives((0, [1.0] * 3 + [0.2] * 37))) is None
    assert start_up_of(lives((0, [0.2] * 40), (38, [1.0, 0.2]))) is None  # too short to tell
    assert start_up_of(lives((0, [0.001] * 40), (10, [0.02] * 3 + [0.001] * 20))).cpu_ratio == 1  # no burden


# error patterns


def errors_by(share, windows=120, seed=1, **columns):
    chance = np.random.default_rng(seed)
    now = np.arange(windows)
    load = 200 + 120 * np.sin(now / 8)
    requests = chance.poisson(load)
    frame = pd.DataFrame(
        {
            "start_unix_seconds": 1.7e9 + 10.0 * now,
            "duration_seconds": 10.0,
            "instance": "/a",
            "requests": requests.astype(float),
            "errors": chance.binomial(requests, np.clip(share(now, load), 0, 1)).astype(float),
            **{name: each(now, load) for name, each in columns.items()},
        }
    )
    return dataclasses.replace(cases()[0].history, frame=frame)


def waiting(now, load):
    return 10 * np.clip((load - 250) / 100, 0.001, None)


def test_errors_that_rise_with_cpu_wait_block_a_cut_and_ask_for_cpu():
    found = follows_resources(errors_by(lambda _, load: 0.001 + 0.1 * (load > 260), cpu_pressure_seconds=waiting))
    assert found.follows_resources
    assert (found.driver, found.asks_for) == (Driver.CPU_WAIT, "cpu")
    assert found.ratio > 5
    assert found.evidence.startswith("errors rise with CPU wait: ")


def test_throttling_is_named_before_load():
    throttled = {"periods": lambda *_: 100.0, "throttled_periods": lambda _, load: 30.0 * (load > 260)}
    found = follows_resources(errors_by(lambda _, load: 0.001 + 0.1 * (load > 260), **throttled))
    assert (found.driver, found.asks_for) == (Driver.THROTTLING, "cpu")


def test_errors_that_rise_with_memory_pressure_ask_for_memory():
    pressed = {"memory_pressure_seconds": lambda now, _: 5.0 * (now % 30 < 6)}
    found = follows_resources(errors_by(lambda now, _: 0.001 + 0.1 * (now % 30 < 6), **pressed))
    assert (found.follows_resources, found.driver, found.asks_for) == (True, Driver.MEMORY, "memory")


def test_errors_that_rise_with_load_alone_count():
    found = follows_resources(errors_by(lambda _, load: 0.001 + 0.1 * (load > 260)))
    assert (found.follows_resources, found.driver) == (True, Driver.LOAD)


def test_requests_without_an_answer_count_as_errors():
    lost = {"unanswered": lambda _, load: 30.0 * (load > 260)}
    found = follows_resources(errors_by(lambda *_: 0.0, cpu_pressure_seconds=waiting, **lost))
    assert found.follows_resources
    assert found.bad == 30 * int((errors_by(lambda *_: 0.0, t=lambda _, load: load > 260).frame["t"]).sum())


@pytest.mark.parametrize(
    "share",
    [
        lambda now, _: 0.03 + 0 * now,  # always some
        lambda now, _: np.where((now > 40) & (now < 60), 0.4, 0.0),  # a bad release, rolled back
        lambda now, _: np.where(now > 70, 0.1, 0.0),  # a bad release that stays
        lambda _, load: 0.2 * (load < 150),  # fewer with more load
        lambda now, _: 0.3 * (now % 37 < 4),  # a dependency with a rhythm of its own
    ],
    ids=["constant", "episode", "step", "inverse", "other rhythm"],
)
@pytest.mark.parametrize("seed", range(4))
def test_errors_that_follow_no_resource_change_nothing(share, seed):
    found = follows_resources(errors_by(share, seed=seed, cpu_pressure_seconds=waiting))
    assert not found.follows_resources
    assert (found.driver, found.asks_for) == (None, None)
    assert found.bad > 10


def three_faults(seed):
    begins = np.random.default_rng(seed).integers(0, 110, 3)
    return lambda now, _: 0.2 * ((now[:, None] >= begins) & (now[:, None] < begins + 8)).any(axis=1)


def test_faults_that_are_not_of_resources_are_rarely_taken_for_it():
    taken = [
        follows_resources(errors_by(three_faults(seed), seed=seed, cpu_pressure_seconds=waiting)).follows_resources
        for seed in range(60)
    ]
    assert sum(taken) <= 3


@pytest.mark.parametrize("case", [each for each in cases() if each.name.startswith("nezha-")][:6], ids=lambda x: x.name)
def test_errors_at_random_minutes_of_recorded_usage_change_nothing(case):
    """No error was published of Nezha's pods, so its faults are put in: half an hour apart, five minutes long."""
    frame = case.history.frame
    minute = np.arange(len(frame))
    history = with_columns(case.history, errors=np.where(minute % 31 < 5, np.ceil(frame["requests"] * 0.3), 0.0))
    assert not follows_resources(history).follows_resources


def test_too_little_to_tell():
    few = errors_by(lambda *_: 0.5, windows=10)
    assert "10 of 20 windows needed" in follows_resources(few).evidence
    none = follows_resources(errors_by(lambda *_: 0.0))
    assert (none.follows_resources, none.bad, none.evidence) == (False, 0, "no request failed")
    blank = errors_by(lambda *_: 0.5)
    assert not follows_resources(with_columns(blank, requests=np.nan)).follows_resources
    assert not follows_resources(with_columns(blank, errors=np.nan)).follows_resources
    assert not follows_resources(dataclasses.replace(blank, frame=blank.frame.iloc[:0])).follows_resources


def test_more_errors_than_requests_are_no_more_than_all():
    odd = errors_by(lambda *_: 0.5)
    assert follows_resources(with_columns(odd, errors=1e9)).bad == int(odd.frame["requests"].sum())


def test_the_same_history_gives_the_same_verdict():
    history = errors_by(lambda _, load: 0.002 + 0.02 * (load > 260), cpu_pressure_seconds=waiting)
    assert follows_resources(history) == follows_resources(history)
