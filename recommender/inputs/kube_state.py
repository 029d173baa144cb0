"""The inventory as kube-state-metrics tells it to Prometheus: for those who may not ask the API server.

Pods are what it knows best; a workload's resources are those of most of its pods, LimitRange
defaults included. Labels, annotations and templates are not told.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from recommender.history import Container
from recommender.inputs.answers import Samples
from recommender.inputs.prometheus import Prometheus
from recommender.inventory import Autoscaler, Declared, Inventory, Metric, sorted_containers

_Pod = tuple[str, str]  # namespace and name
_NONE = "<none>"
_OF_THE_TARGET = ("namespace", "pod", "container")
_RESOURCES = 'resource=~"cpu|memory"'


def read_kube_state(prometheus: Prometheus, cluster: str, unix_seconds: float) -> Inventory | None:
    """What was declared at a time; None where kube-state-metrics is not there.

    :raises recommender.inputs.prometheus.PrometheusError: when Prometheus does not answer
    """
    moved = ""

    def ask(by: str, metric: str, *matchers: str) -> list[Samples]:
        names = [f"{moved}{name}" if name in _OF_THE_TARGET else name for name in by.split(", ")]
        found = prometheus.at(f"max by ({', '.join(names)}) ({prometheus.select(metric, *matchers)})", unix_seconds)
        needed = [name for name in names if name.removeprefix(moved) in _OF_THE_TARGET[:2]]
        found = [each for each in found if all(each.labels.get(name) for name in needed)]
        return [
            replace(each, labels={name.removeprefix(moved): text for name, text in each.labels.items()})
            for each in found
        ]

    without_honor = prometheus.select("kube_pod_owner", 'exported_pod!=""')
    if prometheus.at(f"count({without_honor})", unix_seconds):
        moved = "exported_"  # without honor_labels, pod is that of kube-state-metrics itself
    pods = ask("namespace, pod, owner_kind, owner_name", "kube_pod_owner")
    if not pods:
        return None
    above = _above(
        ask("namespace, replicaset, owner_kind, owner_name", "kube_replicaset_owner"),
        ask("namespace, job_name, owner_kind, owner_name", "kube_job_owner"),
    )
    owners = {(each.labels["namespace"], each.labels["pod"]): _top(each.labels, above) for each in pods}
    requests, limits = (
        _quantities(ask("namespace, pod, container, resource", f"kube_pod_container_resource_{what}", _RESOURCES))
        for what in ("requests", "limits")
    )
    named = ask("namespace, pod, container", "kube_pod_container_info")
    scalers = _scalers(ask)
    replicas = Counter((namespace, *owner) for (namespace, _), owner in owners.items())
    containers: dict[Container, list[tuple[_Pod, str]]] = defaultdict(list)
    of_pods = {key[:3] for key in (*requests, *limits)} | {_key(each) for each in named}
    for namespace, pod, name in sorted(of_pods):
        kind, workload = owners.get((namespace, pod), ("Pod", pod))
        containers[Container(cluster, namespace, kind, workload, name)].append(((namespace, pod), name))
    declared = [
        Declared(
            container,
            "main",
            _usual(requests, own),
            _usual(limits, own),
            replicas[container.namespace, container.kind, container.workload] or None,
            scalers.get((container.namespace, container.kind, container.workload)),
        )
        for container, own in containers.items()
    ]
    return Inventory(cluster, "kube-state-metrics", sorted_containers(declared), owners)


def _key(each: Samples) -> tuple[str, str, str]:
    return each.labels["namespace"], each.labels["pod"], each.labels["container"]


def _above(replica_sets: Iterable[Samples], jobs: Iterable[Samples]) -> dict[tuple[str, str, str], tuple[str, str]]:
    """What owns a ReplicaSet or Job, by its namespace, kind and name."""
    found = {}
    for kind, label, series in (("ReplicaSet", "replicaset", replica_sets), ("Job", "job_name", jobs)):
        for each in series:
            owner = each.labels.get("owner_kind", ""), each.labels.get("owner_name", "")
            if owner[0] not in ("", _NONE):
                found[each.labels["namespace"], kind, each.labels[label]] = owner
    return found


def _top(labels: Mapping[str, str], above: Mapping[tuple[str, str, str], tuple[str, str]]) -> tuple[str, str]:
    kind, name = labels.get("owner_kind", ""), labels.get("owner_name", "")
    if kind in ("", _NONE, "Node"):  # a static pod belongs to its node
        return "Pod", labels["pod"]
    return above.get((labels["namespace"], kind, name), (kind, name))


def _quantities(series: Iterable[Samples]) -> dict[tuple[str, str, str, str], str]:
    found = {}
    for each in series:
        resource, value = each.labels["resource"], float(each.values[-1])
        text = f"{round(value * 1000)}m" if resource == "cpu" else str(round(value))
        found[(*_key(each), resource)] = text
    return found


def _usual(quantities: Mapping[tuple[str, str, str, str], str], own: Iterable[tuple[_Pod, str]]) -> dict[str, str]:
    """What most of the pods have."""
    usual = {}
    for resource in ("cpu", "memory"):
        found = Counter(quantities.get((*pod, name, resource)) for pod, name in own)
        most = max(found.items(), key=lambda entry: (entry[1], entry[0] or ""))[0]
        if most is not None:
            usual[resource] = most
    return usual


def _scalers(ask: Callable[..., list[Samples]]) -> dict[tuple[str, str, str], Autoscaler]:
    by = "namespace, horizontalpodautoscaler"
    prefix = "kube_horizontalpodautoscaler"
    infos = ask(f"{by}, scaletargetref_kind, scaletargetref_name", f"{prefix}_info")
    if not infos:
        return {}
    least, most = (
        {(each.labels["namespace"], each.labels["horizontalpodautoscaler"]): int(each.values[-1]) for each in series}
        for series in (ask(by, f"{prefix}_spec_min_replicas"), ask(by, f"{prefix}_spec_max_replicas"))
    )
    metrics: dict[tuple[str, str], list[Metric]] = defaultdict(list)
    for each in ask(f"{by}, metric_name, metric_target_type, container", f"{prefix}_spec_target_metric"):
        labels, container = each.labels, each.labels.get("container") or None
        is_share = labels.get("metric_target_type") == "utilization"
        of_pod = "Resource" if labels["metric_name"] in ("cpu", "memory") else "Pods"
        kind = "ContainerResource" if container else of_pod
        metric = Metric(kind, labels["metric_name"], container, int(each.values[-1]) if is_share else None)
        metrics[labels["namespace"], labels["horizontalpodautoscaler"]].append(metric)
    found = {}
    for each in infos:
        key = each.labels["namespace"], each.labels["horizontalpodautoscaler"]
        target = key[0], each.labels["scaletargetref_kind"], each.labels["scaletargetref_name"]
        found[target] = Autoscaler(key[1], least.get(key, 1), most.get(key, 1), tuple(metrics[key]))
    return found
