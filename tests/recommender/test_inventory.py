"""What objects declare, and whose pod is whose."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.errors import UsageError
from recommender.history import Container
from recommender.inputs.objects import inventory_of
from recommender.inventory import (
    Autoscaler,
    Bounds,
    Declared,
    Inventory,
    Metric,
    Node,
    Quota,
    from_json,
    sorted_containers,
    to_json,
)
from recommender.resources import Resources
from tests.cluster.replay import recorded, shop

MIB = 2**20
TEMPLATED = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "Rollout")


def container(name="app", cpu=None, memory=None, limits=None, **more):
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value is not None}
    resources = {key: value for key, value in (("requests", requests), ("limits", limits)) if value}
    return {"name": name} | ({"resources": resources} if resources else {}) | more


def made(kind, name, spec, owner=None, namespace="shop", api_version="v1", controller=True, **metadata):
    """An object; `owner` is kind and name of what controls it."""
    metadata |= {"name": name, "namespace": namespace}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "controller": controller}]
    return {"kind": kind, "apiVersion": api_version, "metadata": metadata, "spec": spec}


def workload(kind, name, *containers, owner=None, init=(), **spec):
    template = {"spec": {"containers": list(containers or [container()]), "initContainers": list(init)}}
    if kind == "CronJob":
        return made(kind, name, {"jobTemplate": {"spec": {"template": template}}}, owner)
    return made(kind, name, {"template": template} | spec, owner)


def pod(name, *containers, owner=None, **more):
    return made("Pod", name, {"containers": list(containers or [container()])}, owner, **more)


def names(inventory):
    """Kind, workload and container of all that is declared."""
    return [(each.container.kind, each.container.workload, each.container.container) for each in inventory.containers]


def only(inventory):
    (found,) = inventory.containers
    return found


def scaler(*metrics, kind="Deployment", name="web", **spec):
    target = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": name}, "maxReplicas": 5}
    return made("HorizontalPodAutoscaler", name, target | ({"metrics": list(metrics)} if metrics else {}) | spec)


def vertical(name, of, **policy):
    target = {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": of}}
    return made("VerticalPodAutoscaler", name, target | ({"updatePolicy": policy} if policy else {}))


def shuffled(objects, seed):
    objects = list(objects)
    random.Random(seed).shuffle(objects)
    return objects


def of_workloads(*workloads):
    """An inventory of templates alone: all their pods are gone."""
    return inventory_of([workload(kind, name) for kind, name in workloads], "test")


def test_the_recorded_shop_is_declared_by_its_workloads_and_not_by_their_pods():
    inventory = inventory_of(shop(), "test")
    assert names(inventory) == [
        ("CronJob", "tick", "c"),
        ("DaemonSet", "agent", "agent"),
        ("Deployment", "oomer", "o"),
        ("Deployment", "web", "app"),
        ("Deployment", "web", "sidecar"),
        ("StatefulSet", "db", "db"),
    ]
    assert {(each.container.cluster, each.container.namespace) for each in inventory.containers} == {("test", "shop")}
    assert (inventory.source, inventory.missing) == ("files", ())


def test_the_recorded_pods_belong_to_what_controls_them_in_the_end():
    owners = inventory_of(shop(), "test").owners
    assert owners == {
        ("shop", "agent-s5ngh"): ("DaemonSet", "agent"),
        ("shop", "db-0"): ("StatefulSet", "db"),
        ("shop", "oomer-64f5847bf-4qszp"): ("Deployment", "oomer"),
        ("shop", "tick-29919523-lp5th"): ("CronJob", "tick"),
        ("shop", "tick-29919524-84npl"): ("CronJob", "tick"),
        ("shop", "tick-29919525-6lvfs"): ("CronJob", "tick"),
        ("shop", "web-c6757df8b-m5nts"): ("Deployment", "web"),
        ("shop", "web-c6757df8b-xrb9c"): ("Deployment", "web"),
    }


def test_the_recorded_pods_are_found_by_their_names_alone_too():
    templates = [each for each in shop() if each["kind"] not in ("Pod", "Job", "ReplicaSet")]
    gone = inventory_of(templates, "test")
    assert gone.owners == {}
    for (namespace, name), owner in inventory_of(shop(), "test").owners.items():
        assert gone.owner_of(namespace, name) == owner


def test_the_recorded_web_has_its_resources_replicas_and_autoscalers():
    inventory = inventory_of(shop(), "test")
    web = inventory.by_container[Container("test", "shop", "Deployment", "web", "app")]
    assert web.resources == Resources(0.2, None, 64 * MIB, 128 * MIB)
    assert (web.requests, web.limits) == ({"cpu": "200m", "memory": "64Mi"}, {"memory": "128Mi"})
    assert web.autoscaler == Autoscaler("web", 2, 5, (Metric("Resource", "cpu", None, 900),))
    assert (web.role, web.replicas, web.api_version, web.vertical) == ("main", 2, "apps/v1", "Off")
    oomer = inventory.by_container[Container("test", "shop", "Deployment", "oomer", "o")]
    assert (oomer.autoscaler, oomer.vertical, oomer.replicas) == (None, None, 1)


def test_the_recorded_limits_of_the_namespace_are_in_cores_and_bytes():
    inventory = inventory_of(shop(), "test")
    assert inventory.bounds == (
        Bounds("shop", "lr", "Container", "cpu", 0.001, 4.0, None, default_limit=0.5),
        Bounds("shop", "lr", "Container", "memory", 4.0 * MIB, 4096.0 * MIB, None, default_limit=256.0 * MIB),
    )
    (quota,) = inventory.quotas
    assert (quota.namespace, quota.name) == ("shop", "rq")
    assert quota.hard == {"limits.memory": 2.0**35, "pods": 50, "requests.cpu": 8, "requests.memory": 2.0**34}
    assert quota.used["requests.cpu"] == 0.535


def test_the_recorded_nodes_give_what_pods_can_have_of_them():
    nodes = [{"kind": "Node", "apiVersion": "v1"} | each for each in recorded("list_nodes")["body"]["items"]]
    found = inventory_of(nodes, "test").nodes
    assert len(found) == len({each.name for each in found}) == 50
    assert all(each.cores >= 1 and each.memory_bytes > 1024 * MIB for each in found)


@pytest.mark.parametrize("kind", [*TEMPLATED, "CronJob"])
def test_every_kind_of_template_declares_its_containers(kind):
    inventory = inventory_of([workload(kind, "web", container("app", "100m"), container("proxy"))], "test")
    assert names(inventory) == [(kind, "web", "app"), (kind, "web", "proxy")]
    assert inventory.containers[0].requests == {"cpu": "100m"}
    assert inventory.containers[0].api_version == "v1"


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "ReplicaSet", "ReplicationController", "Rollout"])
def test_kinds_that_are_scaled_know_their_replicas(kind):
    assert only(inventory_of([workload(kind, "web", replicas=3)], "test")).replicas == 3
    assert only(inventory_of([workload(kind, "web", replicas=0)], "test")).replicas == 0


@pytest.mark.parametrize("kind", ["Job", "CronJob", "DaemonSet"])
def test_kinds_that_are_not_scaled_have_no_replicas(kind):
    assert only(inventory_of([workload(kind, "web")], "test")).replicas is None


@pytest.mark.parametrize("owner", [None, ("Node", "worker-1")])
def test_a_bare_pod_and_a_static_pod_are_their_own(owner):
    inventory = inventory_of([pod("etcd-worker-1", container(cpu="100m"), owner=owner)], "test")
    assert names(inventory) == [("Pod", "etcd-worker-1", "app")]
    assert inventory.owners == {("shop", "etcd-worker-1"): ("Pod", "etcd-worker-1")}
    assert only(inventory).requests == {"cpu": "100m"}


def test_an_owner_that_does_not_control_is_no_owner():
    inventory = inventory_of([pod("p", owner=("ConfigMap", "c"), controller=False)], "test")
    assert inventory.owners == {("shop", "p"): ("Pod", "p")}


def test_an_argo_rollout_owns_its_pods_through_replica_sets():
    objects = [
        workload("Rollout", "web", container(cpu="300m"), replicas=3),
        workload("ReplicaSet", "web-6c8f7d9b5", container(cpu="200m"), owner=("Rollout", "web"), replicas=3),
        pod("web-6c8f7d9b5-bcdfg", container(cpu="100m"), owner=("ReplicaSet", "web-6c8f7d9b5")),
    ]
    inventory = inventory_of(objects, "test")
    assert names(inventory) == [("Rollout", "web", "app")]
    assert (only(inventory).replicas, only(inventory).requests) == (3, {"cpu": "300m"})
    assert inventory.owner_of("shop", "web-6c8f7d9b5-bcdfg") == ("Rollout", "web")


def test_an_argo_rollout_that_refers_to_a_deployment_has_containers_too():
    # docs: argoproj.github.io/argo-rollouts/migrating: no template of its own, the Deployment is scaled to zero
    rollout = made("Rollout", "web", {"workloadRef": {"kind": "Deployment", "name": "web"}, "replicas": 3})
    objects = [
        rollout,
        workload("Deployment", "web", container(cpu="300m"), replicas=0),
        workload("ReplicaSet", "web-6c8f7d9b5", container(cpu="300m"), owner=("Rollout", "web"), replicas=3),
        pod("web-6c8f7d9b5-bcdfg", container(cpu="300m"), owner=("ReplicaSet", "web-6c8f7d9b5")),
    ]
    inventory = inventory_of(objects, "test")
    assert inventory.owner_of("shop", "web-6c8f7d9b5-bcdfg") == ("Rollout", "web")
    assert ("Rollout", "web", "app") in names(inventory)


def test_an_unknown_kind_owns_its_pods_and_they_declare_it():
    objects = [pod(f"kafka-{number}", container(cpu="1"), owner=("StrimziPodSet", "kafka")) for number in range(3)]
    inventory = inventory_of(objects, "test")
    assert names(inventory) == [("StrimziPodSet", "kafka", "app")]
    assert (only(inventory).requests, only(inventory).api_version) == ({"cpu": "1"}, "")
    assert set(inventory.owners.values()) == {("StrimziPodSet", "kafka")}


def test_an_unknown_kind_owns_what_its_replica_set_owns():
    objects = [
        workload("ReplicaSet", "shop-6c8f7d9b5", container(cpu="1"), owner=("Website", "shop"), replicas=3),
        pod("shop-6c8f7d9b5-bcdfg", container(cpu="1"), owner=("ReplicaSet", "shop-6c8f7d9b5")),
    ]
    inventory = inventory_of(objects, "test")
    assert names(inventory) == [("Website", "shop", "app")]
    assert inventory.owner_of("shop", "shop-6c8f7d9b5-bcdfg") == ("Website", "shop")


@pytest.mark.parametrize("seed", range(3))
def test_the_template_of_a_replica_set_counts_before_its_pods(seed):
    # pods carry what was injected into them, and no replicas
    objects = [
        workload("ReplicaSet", "shop-6c8f7d9b5", container(cpu="1"), owner=("Website", "shop"), replicas=3),
        pod("shop-6c8f7d9b5-bcdfg", container(cpu="2"), owner=("ReplicaSet", "shop-6c8f7d9b5")),
    ]
    found = only(inventory_of(shuffled(objects, seed), "test"))
    assert (found.requests, found.replicas) == ({"cpu": "1"}, 3)


def test_what_is_no_use_here_is_passed_over():
    objects = [made("Service", "web", {"ports": []}), made("ConfigMap", "c", {}), workload("Deployment", "web")]
    assert names(inventory_of(objects, "test")) == [("Deployment", "web", "app")]


def test_workloads_of_one_name_in_two_namespaces_are_two():
    objects = [workload("Deployment", "web"), workload("Deployment", "web")]
    objects[1]["metadata"]["namespace"] = "mall"
    assert [each.container.namespace for each in inventory_of(objects, "test").containers] == ["mall", "shop"]


def test_init_containers_and_native_sidecars_have_their_roles():
    init = [container("migrate"), container("proxy", restartPolicy="Always")]
    found = inventory_of([workload("Deployment", "web", container("app"), init=init)], "test")
    assert {each.container.container: each.role for each in found.containers} == {
        "app": "main",
        "migrate": "init",
        "proxy": "sidecar",
    }


@pytest.mark.parametrize("resources", [None, {}, {"requests": None, "limits": {}}, {"requests": {"cpu": None}}])
def test_missing_resources_are_not_set(resources):
    found = only(inventory_of([workload("Deployment", "web", {"name": "app", "resources": resources})], "test"))
    assert (found.requests, found.limits) == ({}, {})
    assert found.resources == Resources()


def test_other_resources_than_cpu_and_memory_are_kept_as_they_are_and_are_no_sizes():
    limits = {"nvidia.com/gpu": 1, "ephemeral-storage": "1Gi", "memory": "1Gi"}
    found = only(inventory_of([workload("Job", "train", container(limits=limits))], "test"))
    assert found.limits == limits
    assert found.resources == Resources(None, None, 2**30, 2**30)


@pytest.mark.parametrize(
    ("cpu", "cores"), [("0.1", 0.1), (0.1, 0.1), ("100m", 0.1), (2, 2.0), ("1e3", 1000.0), ("250000u", 0.25)]
)
def test_cores_are_read_however_they_are_written(cpu, cores):
    found = only(inventory_of([workload("Deployment", "web", container(cpu=cpu))], "test"))
    assert found.requests == {"cpu": cpu}
    assert found.resources.cpu_request_cores == cores


@pytest.mark.parametrize("memory", ["123Mi", "128974848", 128974848, "129e6", "129M", "128974848000m", "1.29E8"])
def test_bytes_are_read_however_they_are_written(memory):
    found = only(inventory_of([workload("Deployment", "web", container(limits={"memory": memory}))], "test"))
    assert found.resources.memory_limit_bytes == (129e6 if "129" in str(memory) or "1.29" in str(memory) else 123 * MIB)


@pytest.mark.parametrize("text", ["5x", "", "-1", "1 Gi", "Mi", "1ee3", "0x10"])
@pytest.mark.parametrize(
    ("broken", "name"),
    [
        (lambda text: workload("Deployment", "web", container(cpu=text)), "shop/Deployment/web"),
        (lambda text: workload("CronJob", "tick", container(limits={"memory": text})), "shop/CronJob/tick"),
        (lambda text: workload("Job", "j", init=[container(memory=text)]), "shop/Job/j"),
        (lambda text: pod("p", container(memory=text)), "shop/Pod/p"),
        (lambda text: made("LimitRange", "lr", {"limits": [{"type": "Pod", "max": {"cpu": text}}]}), "LimitRange/lr"),
        (lambda text: made("ResourceQuota", "rq", {"hard": {"pods": text}}), "shop/ResourceQuota/rq"),
        (lambda text: made("Node", "n", {}) | {"status": {"allocatable": {"cpu": text}}}, "Node/n"),
    ],
)
def test_a_bad_quantity_names_its_object(text, broken, name):
    with pytest.raises(UsageError) as error:
        inventory_of([workload("Deployment", "good"), broken(text)], "test")
    assert f"{name}: {text!r} is not a Kubernetes quantity." in error.value.sentence
    assert error.value.next_step


def test_owners_in_a_circle_come_to_an_end():
    objects = [
        workload("ReplicaSet", "a", owner=("ReplicaSet", "b")),
        workload("ReplicaSet", "b", owner=("ReplicaSet", "a")),
        workload("ReplicaSet", "self", owner=("ReplicaSet", "self")),
        pod("p", owner=("ReplicaSet", "a")),
    ]
    inventory = inventory_of(objects, "test")
    assert inventory.owners[("shop", "p")][0] == "ReplicaSet"
    assert names(inventory) == [("ReplicaSet", name, "app") for name in ("a", "b", "self")]


def test_annotations_are_those_of_ours_and_the_workload_overrides_its_namespace():
    web = workload("Deployment", "web")
    web["metadata"]["annotations"] = {"headroom.dev/policy": "lean", "kubernetes.io/x": "y"}
    namespace = made("Namespace", "shop", {}, annotations={"headroom.dev/policy": "bold", "headroom.dev/skip": "no"})
    found = inventory_of([web, workload("Deployment", "other"), namespace], "test").by_container
    assert found[Container("test", "shop", "Deployment", "web", "app")].annotations == {
        "headroom.dev/policy": "lean",
        "headroom.dev/skip": "no",
    }
    assert found[Container("test", "shop", "Deployment", "other", "app")].annotations["headroom.dev/policy"] == "bold"


@pytest.mark.parametrize("seed", range(8))
def test_the_order_of_objects_does_not_matter(seed):
    assert inventory_of(shuffled(shop(), seed), "test") == inventory_of(shop(), "test")
    assert to_json(inventory_of(shuffled(shop(), seed), "test")) == to_json(inventory_of(shop(), "test"))


@pytest.mark.parametrize(
    "objects",
    [
        [made("LimitRange", name, {"limits": [{"type": "Container", "max": {"cpu": "4"}}]}) for name in "abcd"],
        [made("ResourceQuota", name, {"hard": {"pods": "9"}}) for name in "abcd"],
        [made("Node", name, {}) | {"status": {"allocatable": {"cpu": "4", "memory": "1Gi"}}} for name in "abcd"],
    ],
    ids=["limit ranges", "quotas", "nodes"],
)
def test_the_order_of_what_a_cluster_allows_does_not_matter(objects):
    assert (
        len({inventory_of(shuffled(objects, seed), "test") == inventory_of(objects, "test") for seed in range(8)}) == 1
    )
    assert len({to_json(inventory_of(shuffled(objects, seed), "test")) for seed in range(8)}) == 1


@pytest.mark.parametrize(
    "objects",
    [
        [pod(f"kafka-{n}", container(cpu=str(n)), owner=("StrimziPodSet", "kafka")) for n in range(4)],
        [workload("ReplicaSet", f"web-{n}", container(cpu=str(n)), owner=("Website", "web")) for n in range(4)],
        [workload("Deployment", "web"), *(vertical(mode, "web", updateMode=mode) for mode in ("Off", "Auto"))],
        [
            workload("Deployment", "web"),
            *(scaler(maxReplicas=n) | {"metadata": {"name": f"s{n}", "namespace": "shop"}} for n in range(4)),
        ],
    ],
    ids=["pods that differ", "replica sets that differ", "two vertical autoscalers", "two autoscalers"],
)
def test_the_order_of_objects_that_contradict_each_other_does_not_matter(objects):
    assert len({to_json(inventory_of(shuffled(objects, seed), "test")) for seed in range(8)}) == 1


@pytest.mark.parametrize(
    ("policy", "mode"), [({"updateMode": "Off"}, "Off"), ({"updateMode": "Initial"}, "Initial"), ({}, "Auto")]
)
def test_the_mode_of_a_vertical_autoscaler_is_known(policy, mode):
    objects = [vertical("v", "web", **policy), workload("Deployment", "web"), workload("StatefulSet", "web")]
    found = inventory_of(objects, "test").by_container
    assert found[Container("test", "shop", "Deployment", "web", "app")].vertical == mode
    assert found[Container("test", "shop", "StatefulSet", "web", "app")].vertical is None


def test_an_autoscaler_of_version_1_follows_cpu():
    found = only(inventory_of([scaler(targetCPUUtilizationPercentage=70), workload("Deployment", "web")], "test"))
    assert found.autoscaler == Autoscaler("web", 1, 5, (Metric("Resource", "cpu", None, 70),))


def test_every_kind_of_metric_of_version_2_is_read():
    value, share = {"type": "AverageValue", "averageValue": "1Gi"}, {"type": "Utilization", "averageUtilization": 60}
    metrics = [
        {"type": "Resource", "resource": {"name": "memory", "target": value}},
        {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "app", "target": share}},
        {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": value}},
        {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "30"}}},
        {"type": "Object", "object": {"metric": {"name": "hits"}, "describedObject": {"name": "i"}, "target": value}},
    ]
    objects = [scaler(*metrics, minReplicas=2), workload("Deployment", "web")]
    found = only(inventory_of(objects, "test")).autoscaler
    assert (found.least_replicas, found.most_replicas) == (2, 5)
    assert found.metrics == (
        Metric("Resource", "memory"),
        Metric("ContainerResource", "cpu", "app", 60),
        Metric("Pods", "rps"),
        Metric("External", "queue"),
        Metric("Object", "hits"),
    )


@pytest.mark.parametrize(
    ("metric", "cpu_of_app", "cpu_of_proxy", "memory_of_app"),
    [
        (Metric("Resource", "cpu", None, 70), True, True, False),
        (Metric("Resource", "memory", None, 70), False, False, True),
        (Metric("Resource", "cpu"), False, False, False),
        (Metric("ContainerResource", "cpu", "app", 70), True, False, False),
        (Metric("ContainerResource", "cpu", "app"), False, False, False),
        (Metric("Pods", "cpu"), False, False, False),
        (Metric("External", "cpu", None, 70), False, False, False),
    ],
)
def test_an_autoscaler_follows_requests_where_its_target_is_a_share_of_them(
    metric, cpu_of_app, cpu_of_proxy, memory_of_app
):
    autoscaler = Autoscaler("web", 1, 5, (Metric("Pods", "rps"), metric))
    assert autoscaler.follows("cpu", "app") is cpu_of_app
    assert autoscaler.follows("cpu", "proxy") is cpu_of_proxy
    assert autoscaler.follows("memory", "app") is memory_of_app


def test_a_limit_range_bounds_containers_and_pods_and_nothing_else():
    limits = [
        {"type": "Container", "max": {"cpu": "2"}, "maxLimitRequestRatio": {"memory": "1.5"}},
        {"type": "Pod", "min": {"memory": "64Mi"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Ti"}},
        {"type": "Container", "default": {"memory": "1Gi"}, "defaultRequest": {"cpu": "1"}},
    ]
    assert inventory_of([made("LimitRange", "lr", {"limits": limits})], "test").bounds == (
        Bounds("shop", "lr", "Container", "cpu", None, 2.0, None),
        Bounds("shop", "lr", "Container", "memory", None, None, 1.5),
        Bounds("shop", "lr", "Pod", "memory", 64.0 * MIB, None, None),
        Bounds("shop", "lr", "Container", "memory", None, None, None, default_limit=1024.0 * MIB),
    )


def test_a_quota_without_a_status_is_what_it_asks_for():
    quota = made("ResourceQuota", "rq", {"hard": {"requests.cpu": "1500m", "pods": "10"}})
    assert inventory_of([quota], "test").quotas == (Quota("shop", "rq", {"pods": 10, "requests.cpu": 1.5}, {}),)


@pytest.mark.parametrize(
    ("kind", "name", "gone"),
    [
        ("Deployment", "web", "web-c6757df8b-m5nts"),
        ("Deployment", "web", "web-84cb69cbd6-2l9xv"),
        ("Rollout", "web", "web-c6757df8b-m5nts"),
        ("StatefulSet", "db", "db-0"),
        ("StatefulSet", "db", "db-117"),
        ("DaemonSet", "agent", "agent-s5ngh"),
        ("CronJob", "tick", "tick-29919523-lp5th"),
        ("Job", "once", "once-lp5th"),
        ("Job", "indexed", "indexed-12-lp5th"),
        ("ReplicaSet", "old", "old-lp5th"),
        ("ReplicationController", "older", "older-lp5th"),
        ("Pod", "alone", "alone"),
    ],
)
def test_a_pod_that_is_gone_is_known_by_its_name(kind, name, gone):
    inventory = Inventory("c", "files", (Declared(Container("c", "shop", kind, name, "app"), "main", {}, {}),), {})
    assert inventory.owner_of("shop", gone) == (kind, name)
    assert inventory.owner_of("mall", gone) == ("Pod", gone)


@pytest.mark.parametrize(
    ("kind", "name", "before"),
    [("Deployment", "d" * 50, "-c6757df8b-"), ("CronJob", "c" * 52, "-29919523-"), ("DaemonSet", "a" * 60, "-")],
)
def test_a_pod_that_is_gone_is_known_by_its_name_where_kubernetes_cut_it(kind, name, before):
    # apiserver/pkg/storage/names: 58 characters of what is before, and five more
    gone = (name + before)[:58] + "m5nts"
    assert of_workloads((kind, name)).owner_of("shop", gone) == (kind, name)


@pytest.mark.parametrize(
    ("gone", "owner"),
    [
        ("web-api-c6757df8b-m5nts", ("Deployment", "web-api")),
        ("web-c6757df8b-m5nts", ("Deployment", "web")),
        ("web-api-0", ("StatefulSet", "web-api")),
        ("web-1-0", ("StatefulSet", "web-1")),
        ("web-1", ("StatefulSet", "web")),
        ("web-29919523-lp5th", ("CronJob", "web")),
    ],
)
def test_the_longest_name_that_fits_is_the_owner(gone, owner):
    workloads = [
        ("Deployment", "web"), ("Deployment", "web-api"), ("StatefulSet", "web"), ("StatefulSet", "web-api"),
        ("StatefulSet", "web-1"), ("CronJob", "web"),
    ]  # fmt: skip
    for seed in range(4):
        assert of_workloads(*shuffled(workloads, seed)).owner_of("shop", gone) == owner


@pytest.mark.parametrize(
    "gone", ["web", "web-", "webb-c6757df8b-m5nts", "web-c6757df8b", "web-c6757df8b-aeiou", "xweb-c6757df8b-m5nts", ""]
)
def test_a_pod_of_nobody_is_its_own(gone):
    assert of_workloads(("Deployment", "web"), ("CronJob", "web")).owner_of("shop", gone) == ("Pod", gone)


def test_what_controls_a_pod_counts_before_its_name():
    objects = [workload("Deployment", "web"), pod("web-c6757df8b-m5nts", owner=("Website", "other"))]
    assert inventory_of(objects, "test").owner_of("shop", "web-c6757df8b-m5nts") == ("Website", "other")


def test_containers_are_sorted_and_each_is_there_once():
    declared = [Declared(Container("c", "shop", "Deployment", name, "app"), "main", {}, {}) for name in "bcab"]
    assert [each.container.workload for each in sorted_containers(declared)] == ["a", "b", "c"]


def test_the_recorded_shop_is_the_same_after_it_was_written_and_read():
    inventory = inventory_of(shop(), "test", "api", ("nodes may not be read",))
    text = to_json(inventory)
    assert from_json(text) == inventory
    assert to_json(from_json(text)) == text
    assert text.endswith("\n")


words, sizes = st.text(max_size=8), st.floats(0, 1e18)
few = {"max_size": 2}
metrics = st.builds(Metric, words, words, st.none() | words, st.none() | st.integers(0, 1000))
autoscalers = st.builds(Autoscaler, words, st.integers(), st.integers(), st.lists(metrics, **few).map(tuple))
declarations = st.builds(
    Declared,
    st.builds(Container, words, words, words, words, words),
    st.sampled_from(["main", "init", "sidecar"]),
    requests=st.dictionaries(words, words, **few),
    limits=st.dictionaries(words, words, **few),
    replicas=st.none() | st.integers(),
    autoscaler=st.none() | autoscalers,
    api_version=words,
    vertical=st.none() | words,
    annotations=st.dictionaries(words, words, **few),
)
bounds = st.builds(Bounds, words, words, words, words, *[st.none() | sizes] * 3)
quotas = st.builds(Quota, words, words, *[st.dictionaries(words, sizes, **few)] * 2)
inventories = st.builds(
    Inventory,
    words,
    words,
    st.lists(declarations, **few).map(sorted_containers),
    st.dictionaries(st.tuples(words, words), st.tuples(words, words), **few),
    *[st.lists(each, **few).map(tuple) for each in (words, bounds, quotas, st.builds(Node, words, sizes, sizes))],
)


@settings(max_examples=60, deadline=None)
@given(inventories)
def test_every_inventory_is_the_same_after_it_was_written_and_read(inventory):
    assert from_json(to_json(inventory)) == inventory
    assert to_json(from_json(to_json(inventory))) == to_json(inventory)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"version":0}', '{"version":1}', "<html>"])
def test_what_is_no_inventory_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        from_json(text)


@pytest.mark.parametrize("name", ["source", "missing", "containers", "owners", "bounds", "quotas", "nodes"])
@pytest.mark.parametrize("value", [None, [3], [[]], [{}], ["words"]])
def test_an_inventory_with_a_broken_part_is_a_value_error(name, value):
    document = json.loads(to_json(inventory_of(shop(), "test")))
    if name in ("source", "missing"):
        del document[name]
    else:
        document[name] = value
    with pytest.raises(ValueError, match=r"."):
        from_json(json.dumps(document))


def test_versions_of_a_workload_are_known_by_when_they_were_made():
    objects = [
        workload("Deployment", "web"),
        made("ReplicaSet", "web-a", {}, ("Deployment", "web"), creationTimestamp="2026-11-20T10:00:00Z"),
        made("ReplicaSet", "web-b", {}, ("Deployment", "web"), creationTimestamp="2026-11-19T10:00:00Z"),
        made(
            "ReplicaSet", "web-c", {}, ("Deployment", "web"), controller=False, creationTimestamp="2026-11-18T10:00:00Z"
        ),
        workload("StatefulSet", "db"),
        made("ControllerRevision", "db-1", {}, ("StatefulSet", "db"), creationTimestamp="2026-11-20T10:00:00Z"),
        workload("DaemonSet", "agent"),
    ]
    inventory = inventory_of(objects, "prod")
    deployed = {each.container.workload: each.deployed_unix_seconds for each in inventory.containers}
    assert deployed == {"web": (1795082400.0, 1795168800.0), "db": (1795168800.0,), "agent": ()}
    assert from_json(to_json(inventory)) == inventory


def test_pods_without_a_priority_class_have_the_clusters_default():
    critical = workload("Deployment", "critical")
    critical["spec"]["template"]["spec"]["priorityClassName"] = "system-cluster-critical"
    usual = made("PriorityClass", "usual", {}) | {"globalDefault": True}
    other = made("PriorityClass", "batch", {}) | {"globalDefault": False}

    def classes(*objects):
        declared = inventory_of([critical, workload("CronJob", "nightly"), *objects], "prod").containers
        return {each.container.workload: each.priority_class for each in declared}

    assert classes(other) == {"critical": "system-cluster-critical", "nightly": ""}
    assert classes(other, usual) == {"critical": "system-cluster-critical", "nightly": "usual"}
