"""What is no room for pods: nodes that take none, and replicas that an autoscaler does not make."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest

from policies.prices import Prices
from policies.schema import load_policies
from recommender.capacity import scaled
from recommender.history import Container
from recommender.inputs.objects import inventory_of
from recommender.inventory import Autoscaler, Declared, Node
from recommender.pods import pods_of
from recommender.recommend import without_usage
from recommender.review import Question, review

BALANCED = load_policies("balanced")
NODE = {
    "kind": "Node",
    "apiVersion": "v1",
    "metadata": {
        "name": "n",
        "labels": {"node.kubernetes.io/instance-type": "m6i.xlarge", "topology.kubernetes.io/zone": "eu-1a"},
    },
    "spec": {},
    "status": {
        "allocatable": {"cpu": "3920m", "memory": "14Gi", "pods": "58"},
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}


def with_(path, value):
    made = deepcopy(NODE)
    inner = made
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return made


def read(node):
    (found,) = inventory_of([node], "c", "files", ()).nodes
    return found


def test_type_zone_and_pods_of_a_node_are_read():
    assert read(NODE) == Node("n", 3.92, 14 * 2**30, "m6i.xlarge", "eu-1a", 58, open=True)


@pytest.mark.parametrize(
    ("path", "value", "is_open"),
    [
        (("spec", "unschedulable"), True, False),
        (("spec", "taints"), [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}], False),
        (("spec", "taints"), [{"key": "drain", "effect": "NoExecute"}], False),
        (("spec", "taints"), [{"key": "spot", "effect": "PreferNoSchedule"}], True),
        (("status", "conditions"), [{"type": "Ready", "status": "Unknown"}], False),
        (("status", "conditions"), [{"type": "DiskPressure", "status": "False"}], True),
    ],
)
def test_a_node_that_takes_no_pods_is_closed(path, value, is_open):
    assert read(with_(path, value)).open is is_open


def web(most=None):
    scaler = Autoscaler("web", 1, most, ()) if most else None
    of = Container("c", "shop", "Deployment", "web", "main")
    declared = Declared(of, "main", {"cpu": "1", "memory": "1Gi"}, {}, replicas=3, autoscaler=scaler)
    return without_usage(declared, BALANCED)


def test_closed_nodes_are_no_room_and_are_said():
    nodes = [Node("a", 4.0, 2**34, "m", "z"), Node("b", 40.0, 2**36, "l", "z", open=False)]
    found = review("c", [web()], nodes, Prices(), Question(headroom=0.0))
    assert (found.nodes, found.cores, [shape.name for shape in found.shapes]) == (1, 4.0, ["m"])
    assert any("1 nodes are cordoned, tainted or not ready" in each for each in found.notes)


def test_an_autoscaler_makes_no_more_than_its_most():
    (of,) = pods_of([web(most=5)])
    assert [scaled([of], factor, math.inf)[0].replicas for factor in (1.0, 1.5, 3.0)] == [3, 5, 5]
    already = replace(of, replicas=7)
    assert scaled([already], 2.0, math.inf)[0].replicas == 7


def test_demand_past_the_most_of_an_autoscaler_is_said(make_history):
    row = web(most=3)
    history = make_history(windows=96, seconds=3600.0, instances=3, cpu_cores=0.3)
    row = replace(row, history=replace(history, container=row.container))
    found = review("c", [row], [Node("a", 40.0, 2**36, "m", "z")], Prices(), Question(days=28, quantile=0.95))
    said = any("more replicas than their autoscaler makes" in each for each in found.notes)
    assert said is (found.growth.highest(0.95, 28) > 1.0)
    assert said
