"""Versions of a workload by the names of its pods, and what they change."""

import numpy as np
import pandas as pd
import pytest

from recommender.demand import DemandFit, fit_demand
from recommender.evidence import Evidence
from recommender.history import Container, History
from recommender.revisions import revision_of, revisions_of

WEB = Container("prod", "shop", "Deployment", "web", "app")


@pytest.mark.parametrize(
    ("kind", "workload", "instance", "revision"),
    [
        ("Deployment", "web", "web-b994bf9fb-m5nts", "b994bf9fb"),
        ("Rollout", "web", "web-b994bf9fb-m5nts", "b994bf9fb"),
        ("Deployment", "web-api", "web-api-6d5c-b2c4d", "6d5c"),
        ("Deployment", "web", "web-b994bf9fb-m5nt", ""),  # no pod's name
        ("Deployment", "web", "other-b994bf9fb-m5nts", ""),
        ("Deployment", "web", "web-aeiou-m5nts", ""),  # letters that no hash has
        ("StatefulSet", "web", "web-b994bf9fb-m5nts", ""),
        ("DaemonSet", "agent", "agent-m5nts", ""),
    ],
)
def test_a_pods_name_tells_its_version_where_a_replica_set_made_it(kind, workload, instance, revision):
    assert revision_of(Container("prod", "shop", kind, workload, "app"), instance) == revision


def history(costs, container=WEB):
    """Two pods a version, each for three hours; a request costs what its version says."""
    chance, rows = np.random.default_rng(5), []
    for number, (revision, cost) in enumerate(costs):
        for minute in range(180):
            rate = 20 + 15 * np.sin(minute / 20) + chance.normal(0, 1)
            for pod in ("m5nts", "x2x7p"):
                cores = 0.02 + cost * rate + chance.normal(0, 0.002)
                start = 60.0 * (180 * number + minute)
                rows.append((start, 60.0, f"web-{revision}-{pod}", 60 * rate, 0.0, rate, cores))
    names = (
        "start_unix_seconds",
        "duration_seconds",
        "instance",
        "requests",
        "errors",
        "requests_per_second",
        "cpu_cores",
    )
    nothing = Evidence.of([])
    return History(container, pd.DataFrame(rows, columns=names), nothing, nothing, 0, {}, ())


def test_the_cost_of_a_request_is_that_of_the_newest_version():
    fit = fit_demand(history([("b994bf9fb", 0.002), ("6d5c4d7f8", 0.004)]))
    assert isinstance(fit, DemandFit)
    assert fit.seconds_per_request == pytest.approx(0.004, rel=0.05)
    assert [(each.name, each.deploy) for each in fit.regimes] == [("b994bf9fb", True), ("6d5c4d7f8", True)]


def test_versions_are_told_only_where_each_pod_tells_its_own():
    assert revisions_of(history([("b994bf9fb", 0.002)])) is None
    mixed = history([("b994bf9fb", 0.002), ("6d5c4d7f8", 0.004)])
    assert revisions_of(mixed) == ["6d5c4d7f8", "6d5c4d7f8", "b994bf9fb", "b994bf9fb"]
    mixed.frame.loc[0, "instance"] = "debug"
    assert revisions_of(History(WEB, mixed.frame, *(Evidence.of([]),) * 2, 0, {}, ())) is None
    stateful = history(
        [("b994bf9fb", 0.002), ("6d5c4d7f8", 0.004)], Container("prod", "shop", "StatefulSet", "web", "app")
    )
    assert revisions_of(stateful) is None


def hours(*lives):
    """(revision, cost, from, to): two pods of it for these hours."""
    frames = []
    for revision, cost, begin, end in lives:
        part = history([(revision, cost)] * 1).frame
        later = [part.assign(start_unix_seconds=part["start_unix_seconds"] + 10_800 * n) for n in range(9)]
        whole = pd.concat(later, ignore_index=True)
        chosen = whole[whole["start_unix_seconds"] < 3600 * (end - begin)]
        frames.append(chosen.assign(start_unix_seconds=chosen["start_unix_seconds"] + 3600 * begin))
    frame = pd.concat(frames).sort_values(["start_unix_seconds", "instance"], ignore_index=True)
    nothing = Evidence.of([])
    return History(WEB, frame, nothing, nothing, 0, {}, ())


@pytest.mark.parametrize(
    ("lives", "cost"),
    [
        ([("b994bf9fb", 0.004, 0, 9), ("6d5c4d7f8", 0.012, 9, 12), ("b994bf9fb", 0.004, 12, 18)], 0.004),  # rolled back
        ([("b994bf9fb", 0.004, 0, 18), ("6d5c4d7f8", 0.012, 6, 9)], 0.004),  # a canary that was given up
        ([("b994bf9fb", 0.004, 0, 18), ("6d5c4d7f8", 0.012, 12, 18)], 0.012),  # one that goes on
        ([("b994bf9fb", 0.004, 0, 9), ("6d5c4d7f8", 0.012, 9, 18)], 0.012),
        (
            [
                ("b994bf9fb", 0.004, 0, 3),
                ("6d5c4d7f8", 0.012, 3, 6),
                ("b994bf9fb", 0.004, 6, 9),
                ("6d5c4d7f8", 0.012, 9, 18),
            ],
            0.012,
        ),
    ],
    ids=["rolled back", "given up", "goes on", "deployed", "rolled back and forth"],
)
def test_the_version_that_runs_counts_though_another_came_later(lives, cost):
    fit = fit_demand(hours(*lives))
    assert isinstance(fit, DemandFit)
    assert fit.seconds_per_request == pytest.approx(cost, rel=0.05)


def test_regimes_are_in_order_of_time_and_a_throttled_version_runs_all_the_same():
    fit = fit_demand(hours(("b994bf9fb", 0.004, 0, 10), ("6d5c4d7f8", 0.012, 2, 4), ("8f9b7c6d5", 0.004, 10, 18)))
    assert isinstance(fit, DemandFit)
    assert [each.name for each in fit.regimes] == ["b994bf9fb", "6d5c4d7f8", "8f9b7c6d5"]
    cut = hours(("b994bf9fb", 0.004, 0, 18), ("6d5c4d7f8", 0.012, 12, 18))
    late = cut.frame["start_unix_seconds"] > 17.3 * 3600
    newest = cut.frame["instance"].str.contains("6d5c4d7f8")
    cut.frame["periods"], cut.frame["throttled_periods"] = 600.0, np.where(late & newest, 300.0, 0.0)
    fit = fit_demand(cut)
    assert isinstance(fit, DemandFit)
    assert fit.seconds_per_request == pytest.approx(0.012, rel=0.05)
