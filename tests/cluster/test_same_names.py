"""Agent and recommender read the same pods, and must call every container of them the same."""

import gzip
import json

import pytest

from collector.pods import Pods
from recommender.inputs.objects import inventory_of
from tests.cluster.replay import RECORDED


def recorded(name):
    read = json.loads(gzip.decompress((RECORDED / name).read_bytes()))
    return read.get("body", read) if isinstance(read, dict) else read


def pods():
    listed = [recorded(f"list_pods_{name}.json.gz")["items"] for name in ("of_node", "shop", "page1", "page2")]
    listed.append([each for each in recorded("shop_objects.json.gz")["items"] if each["kind"] == "Pod"])
    return [each | {"kind": "Pod"} for items in listed for each in items]


@pytest.mark.parametrize("known", ["pods alone", "and what is above them"])
def test_both_halves_call_every_container_the_same(known):
    above = [each for each in recorded("shop_objects.json.gz")["items"] if each["kind"] != "Pod"]
    inventory = inventory_of([*pods(), *(above if known != "pods alone" else ())], "prod")
    watched, kinds = Pods("prod"), set()
    for pod in pods():
        watched.put(pod)
        for status in pod["status"].get("containerStatuses", ()):
            identity = watched.identity(pod["metadata"]["uid"], status["containerID"].rpartition("//")[2][:12])
            assert (identity.kind, identity.workload) == inventory.owner_of(identity.namespace, identity.instance)
            assert (identity.instance, identity.container) == (pod["metadata"]["name"], status["name"])
            kinds.add(identity.kind)
    assert kinds == {"Deployment", "StatefulSet", "DaemonSet", "CronJob"}
