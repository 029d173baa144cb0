"""Another request, another target, the same replicas."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.schema import load_policies
from recommender.autoscaler import retargets
from recommender.history import Container
from recommender.inventory import Autoscaler, Declared, Metric
from recommender.recommend import without_usage
from recommender.recommendation import Verdict
from recommender.resources import Resources

BALANCED = load_policies("balanced")
CPU = Metric("Resource", "cpu", None, 80)


def row(before, after, container="app", metrics=(CPU,), role="main", verdict=Verdict.RESIZE):
    scaler = Autoscaler("web", 2, 10, metrics)
    declared = Declared(Container("prod", "shop", "Deployment", "web", container), role, {}, {}, 3, scaler)
    current, target = Resources(before, None, 2**20, None), Resources(after, None, 2**21, None)
    return replace(without_usage(declared, BALANCED), verdict=verdict, current=current, target=target)


def replicas(usage, request, percent):
    """As the controller counts them, for usage over all pods."""
    return math.ceil(usage / (request * percent / 100) - 1e-9)


def test_the_target_rises_as_the_request_falls():
    (found,) = retargets([row(1.0, 0.4)])
    assert (found.before, found.after, found.index) == (80, 200, 0)
    assert found.path == "/spec/metrics/0/resource/target/averageUtilization"
    assert replicas(5.6, 1.0, 80) == replicas(5.6, 0.4, 200) == 7


@given(st.floats(0.01, 8), st.floats(0.01, 8), st.integers(5, 400))
def test_request_times_target_stays_as_near_as_whole_percents_go(before, after, percent):
    found = retargets([row(before, after, metrics=(replace(CPU, utilization_percent=percent),))])
    now = found[0].after if found else percent
    exact = percent * before / after
    assert abs(now - exact) <= 0.5 + 1e-6 or (now == 1 and exact < 1)
    if found:
        assert found[0].replicas_change == pytest.approx(exact / now - 1)


def test_a_pod_is_counted_with_all_its_containers():
    rows = [row(1.0, 0.4), row(0.2, 0.2, container="proxy", verdict=Verdict.KEEP)]
    (found,) = retargets(rows)
    assert found.after == round(80 * 1.2 / 0.6)


def test_init_containers_are_not_counted_by_an_autoscaler():
    (found,) = retargets([row(1.0, 0.5), row(4.0, 4.0, container="init", role="init")])
    assert found.after == 160


def test_a_metric_of_one_container_follows_that_container_alone():
    metric = Metric("ContainerResource", "cpu", "app", 50)
    rows = [row(1.0, 0.5, metrics=(metric,)), row(1.0, 3.0, container="proxy", metrics=(metric,))]
    (found,) = retargets(rows)
    assert found.after == 100
    assert found.path == "/spec/metrics/0/containerResource/target/averageUtilization"


@pytest.mark.parametrize(
    "metric",
    [
        Metric("Pods", "requests_per_second", None, None),
        Metric("External", "queue", None, None),
        Metric("Object", "hits", None, None),
        Metric("Resource", "cpu", None, None),  # an average value: no request is in it
        Metric("Resource", "ephemeral-storage", None, 60),
    ],
)
def test_an_autoscaler_that_follows_no_request_is_left_alone(metric):
    assert retargets([row(1.0, 0.5, metrics=(metric,))]) == []


def test_each_metric_has_its_own_target():
    memory = Metric("Resource", "memory", None, 70)
    found = retargets([row(1.0, 0.5, metrics=(CPU, memory))])
    assert [(each.index, each.before, each.after) for each in found] == [(0, 80, 160), (1, 70, 35)]


def test_without_a_request_the_autoscaler_does_not_work_and_is_left_alone():
    assert retargets([row(None, 0.5)]) == []


def test_after_both_are_applied_nothing_changes_any_more():
    """The fixed point: the same size asked of the new state changes neither request nor target."""
    (found,) = retargets([row(1.0, 0.4)])
    applied = row(0.4, 0.4, metrics=(replace(CPU, utilization_percent=found.after),), verdict=Verdict.KEEP)
    assert retargets([applied]) == []
