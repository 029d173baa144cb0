"""What the cluster declares: workloads, their containers' resources, autoscalers, and whose pod is whose.

Where it came from (API server, files, kube-state-metrics) is the business of :mod:`recommender.inputs`.
It is plain data, so that it can lie beside a store and be read again without a cluster.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

from recommender.history import Container
from recommender.resources import Resources, parse_quantity

_VERSION = 1
#: As JSON has it: "100m", 1, 0.5.
Quantity = str | int | float
#: Where the pod's spec stands in each kind that has one.
TEMPLATES = {
    "Deployment": ("template",),
    "StatefulSet": ("template",),
    "DaemonSet": ("template",),
    "ReplicaSet": ("template",),
    "ReplicationController": ("template",),
    "Job": ("template",),
    "CronJob": ("jobTemplate", "spec", "template"),
    "Rollout": ("template",),
}
_HASH, _FIVE = "[bcdfghjklmnpqrstvwxz2456789]{6,10}", "[bcdfghjklmnpqrstvwxz2456789]{5}"
_LONGEST, _KEPT = 63, 58  # letters of a pod's name, and those before the random ones
_REST = re.compile("[0-9]*|[bcdfghjklmnpqrstvwxz2456789]{0,10}-?")
#: How the pods of a kind are called after their owner.
_POD_NAMES = {
    "Deployment": f"-{_HASH}-{_FIVE}",
    "Rollout": f"-{_HASH}-{_FIVE}",
    "ReplicaSet": f"-{_FIVE}",
    "ReplicationController": f"-{_FIVE}",
    "StatefulSet": "-[0-9]+",
    "DaemonSet": f"-{_FIVE}",
    "CronJob": f"-[0-9]+-{_FIVE}",
    "Job": f"-(?:[0-9]+-)?{_FIVE}",
    "Pod": "",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """What an autoscaler follows.

    :ivar kind: Resource, ContainerResource, Pods, Object or External
    :ivar name: of the resource or metric: ``cpu``
    :ivar container: of a ContainerResource
    :ivar utilization_percent: of the requests, where that is the target; None where it is a value
    """

    kind: str
    name: str
    container: str | None = None
    utilization_percent: int | None = None


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """A HorizontalPodAutoscaler."""

    name: str
    least_replicas: int
    most_replicas: int
    metrics: tuple[Metric, ...]

    def follows(self, resource: str, container: str) -> bool:
        """Whether the replicas depend on this container's request for the resource."""
        return any(
            each.name == resource
            and each.utilization_percent is not None
            and (each.kind == "Resource" or (each.kind == "ContainerResource" and each.container == container))
            for each in self.metrics
        )


@dataclass(frozen=True, slots=True)
class Declared:
    """One container of a workload's template, or of its pods where no template is known.

    :ivar role: ``main``, ``init`` or ``sidecar`` (an init container that is restarted always)
    :ivar requests, limits: quantities as written, by resource; of all resources, not only of CPU and memory
    :ivar has_resources: whether there is a place for them
    :ivar groups: which of ``requests`` and ``limits`` are there, though they may be empty; None where it is not known
    :ivar position: of the container in its list, which may be that of a pod; None where that is not known
    :ivar api_version: of the workload, where its own list was read; else empty
    :ivar vertical: the update mode of a VerticalPodAutoscaler for it
    :ivar annotations: those of ours, of the workload and its namespace
    :ivar priority_class: of its pods; empty for none, or where it is not known
    :ivar deployed_unix_seconds: when each version that is still known was made, in order
    """

    container: Container
    role: str
    requests: Mapping[str, Quantity]
    limits: Mapping[str, Quantity]
    replicas: int | None = None
    autoscaler: Autoscaler | None = None
    api_version: str = ""
    position: int | None = None
    vertical: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    has_resources: bool = True
    priority_class: str = ""
    deployed_unix_seconds: tuple[float, ...] = ()
    groups: tuple[str, ...] | None = None

    @property
    def resources(self) -> Resources:
        """In cores and bytes. What has a limit alone is given that as its request."""
        written: list[Quantity | None] = []
        for resource in ("cpu", "memory"):
            limit = self.limits.get(resource)
            written += [self.requests.get(resource, limit), limit]
        return Resources(*(None if each is None else parse_quantity(each) for each in written))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a LimitRange allows of one resource, in cores or bytes; None is "anything".

    :ivar of: ``Container``, or ``Pod`` for the sum of its containers
    :ivar ratio: the limit at most so many times the request
    :ivar default_limit: what a container without a limit is given
    """

    namespace: str
    name: str
    of: str
    resource: str
    least: float | None
    most: float | None
    ratio: float | None
    default_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """A ResourceQuota: by name of the resource (``requests.cpu``), in cores, bytes or pieces."""

    namespace: str
    name: str
    hard: Mapping[str, float]
    used: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Node:
    """What a node can give to pods.

    :ivar type, zone: by its labels; empty where they are not known
    :ivar pods: how many it takes
    :ivar open: whether pods of all kinds can come: it is ready, not cordoned, and not tainted
    """

    name: str
    cores: float
    memory_bytes: float
    type: str = ""
    zone: str = ""
    pods: int = 110
    open: bool = True


@dataclass(frozen=True)
class Inventory:
    """A cluster as it is declared.

    :ivar cluster: how it is called
    :ivar source: ``api``, ``files`` or ``kube-state-metrics``
    :ivar containers: in order of their names
    :ivar owners: workload by namespace and pod
    :ivar missing: what could not be read, a sentence each
    :ivar bounds, quotas: what namespaces allow
    :ivar nodes: what pods can be put on
    :ivar uid: of the cluster itself: that of its namespace kube-system; empty where it was not read
    """

    cluster: str
    source: str
    containers: tuple[Declared, ...]
    owners: Mapping[tuple[str, str], tuple[str, str]]
    missing: tuple[str, ...] = ()
    bounds: tuple[Bounds, ...] = ()
    quotas: tuple[Quota, ...] = ()
    nodes: tuple[Node, ...] = ()
    uid: str = ""

    def owner_of(self, namespace: str, pod: str) -> tuple[str, str]:
        """Kind and name of the workload that the pod belongs to; the pod itself where none is known.

        A pod that has been gone for long is known by its name alone: that of its owner comes first.
        """
        known = self.owners.get((namespace, pod))
        if known is not None:
            return known
        for kind, name, pattern in self._patterns.get(namespace, ()):
            if pod.startswith(name) and pattern.fullmatch(pod, len(name)):
                return kind, name
            if len(pod) == _LONGEST and kind != "StatefulSet" and _is_cut(pod[:_KEPT], name):
                return kind, name
        return "Pod", pod

    @cached_property
    def by_container(self) -> Mapping[Container, Declared]:
        """What is declared, by whose it is."""
        return {each.container: each for each in self.containers}

    @cached_property
    def _patterns(self) -> Mapping[str, list[tuple[str, str, re.Pattern[str]]]]:
        """Per namespace kind, name and what follows it in a pod's name; longer names first."""
        found: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for each in self.containers:
            found[each.container.namespace].add((each.container.kind, each.container.workload))
        return {
            namespace: [
                (kind, name, re.compile(_POD_NAMES.get(kind, _POD_NAMES["Deployment"])))
                for kind, name in sorted(own, key=lambda pair: (-len(pair[1]), pair))
            ]
            for namespace, own in found.items()
        }


def _is_cut(head: str, owner: str) -> bool:
    """Whether `head` is what is kept of the name of an owner's pod before its five random letters."""
    whole = f"{owner}-"
    return whole.startswith(head) or (head.startswith(whole) and _REST.fullmatch(head, len(whole)) is not None)


def to_json(inventory: Inventory) -> str:
    """Stable text: same inventory, same bytes."""
    owners = [[*pod, *owner] for pod, owner in sorted(inventory.owners.items())]
    document = {
        "version": _VERSION,
        "cluster": inventory.cluster,
        "source": inventory.source,
        "missing": list(inventory.missing),
        "containers": [asdict(each) for each in inventory.containers],
        "owners": owners,
        "bounds": [asdict(each) for each in inventory.bounds],
        "quotas": [asdict(each) for each in inventory.quotas],
        "nodes": [asdict(each) for each in inventory.nodes],
        "uid": inventory.uid,
    }
    return json.dumps(document, separators=(",", ":")) + "\n"


def from_json(text: str) -> Inventory:
    """The inverse of :func:`to_json`.

    :raises ValueError: when it is of another version, or no inventory
    """
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise ValueError("it is of another version")
    try:
        return Inventory(
            document["cluster"],
            document["source"],
            tuple(map(_declared, document["containers"])),
            {(namespace, pod): (kind, name) for namespace, pod, kind, name in document["owners"]},
            tuple(document["missing"]),
            tuple(Bounds(**each) for each in document["bounds"]),
            tuple(Quota(**each) for each in document["quotas"]),
            tuple(Node(**each) for each in document["nodes"]),
            document.get("uid", ""),
        )
    except (KeyError, TypeError) as error:
        raise ValueError("it is no inventory") from error


def merged(old: Inventory, new: Inventory, namespaces: Iterable[str]) -> Inventory:
    """The `new` one, which tells of these namespaces alone, with what the `old` one knows of all others."""
    told = set(namespaces)
    return replace(
        new,
        containers=sorted_containers(
            [*(each for each in old.containers if each.container.namespace not in told), *new.containers]
        ),
        owners={pod: owner for pod, owner in old.owners.items() if pod[0] not in told} | dict(new.owners),
        bounds=(*(each for each in old.bounds if each.namespace not in told), *new.bounds),
        quotas=(*(each for each in old.quotas if each.namespace not in told), *new.quotas),
        nodes=new.nodes or old.nodes,
        uid=new.uid or old.uid,
    )


def sorted_containers(containers: Iterable[Declared]) -> tuple[Declared, ...]:
    """In order of their names, each once."""
    return tuple(sorted({each.container: each for each in containers}.values(), key=lambda each: each.container))


def _declared(each: Mapping[str, object]) -> Declared:
    values = dict(each)
    scaler = values.pop("autoscaler")
    if isinstance(scaler, dict):
        scaler = Autoscaler(**{**scaler, "metrics": tuple(Metric(**metric) for metric in scaler["metrics"])})
    deployed: tuple[float, ...] = tuple(values.pop("deployed_unix_seconds", ()))  # type: ignore[arg-type]
    container = Container(**values.pop("container"))  # type: ignore[arg-type]
    groups = values.pop("groups", None)
    there: tuple[str, ...] | None = None if groups is None else tuple(groups)  # type: ignore[arg-type]
    return Declared(container=container, autoscaler=scaler, deployed_unix_seconds=deployed, groups=there, **values)  # type: ignore[arg-type]
