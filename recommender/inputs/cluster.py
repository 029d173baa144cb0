"""Objects of a live cluster: the official client's credentials and connection, its answers raw and page by page.

A kind that may not be read is left out and said; only pods and workloads that nobody may read are an
error. Nothing here writes to the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubernetes import client

from policies.annotations import PREFIX
from recommender.inputs.access import Access
from recommender.inputs.api import JSON, METADATA_LIST, ClusterError, Refused, ask, connected, next_step
from recommender.inputs.objects import REVISION, inventory_of
from recommender.inventory import TEMPLATES, Inventory

PAGE = 500
#: Where the objects of each kind are: group and version, and their plural.
PATHS = {
    "Pod": ("/api/v1", "pods"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "StatefulSet": ("/apis/apps/v1", "statefulsets"),
    "DaemonSet": ("/apis/apps/v1", "daemonsets"),
    "ReplicaSet": ("/apis/apps/v1", "replicasets"),
    "Job": ("/apis/batch/v1", "jobs"),
    "CronJob": ("/apis/batch/v1", "cronjobs"),
    "Rollout": ("/apis/argoproj.io/v1alpha1", "rollouts"),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
    "VerticalPodAutoscaler": ("/apis/autoscaling.k8s.io/v1", "verticalpodautoscalers"),
    "LimitRange": ("/api/v1", "limitranges"),
    "ResourceQuota": ("/api/v1", "resourcequotas"),
    "ControllerRevision": ("/apis/apps/v1", "controllerrevisions"),
    "PriorityClass": ("/apis/scheduling.k8s.io/v1", "priorityclasses"),
    "Namespace": ("/api/v1", "namespaces"),
    "Node": ("/api/v1", "nodes"),
}
_OF_THE_CLUSTER = {
    "Namespace": "no annotations of its own",
    "Node": "no largest size",
    "PriorityClass": "no default priority",
}
#: Each holds a whole template; when it was made is all that is wanted.
_METADATA_ALONE = {"ControllerRevision"}
_NEEDED = {"Pod", "Deployment"}


def read_cluster(access: Access, cluster: str) -> Inventory:
    """What the cluster declares.

    :raises ClusterError: when it cannot be asked, or may not be
    """
    with connected(access) as connection:
        missing: list[str] = []
        objects = list(_objects(connection, access.namespace, missing))
    return inventory_of(objects, cluster, "api", tuple(missing))


def _objects(connection: client.ApiClient, namespace: str | None, missing: list[str]) -> Iterator[dict[str, Any]]:
    for kind, (group, plural) in PATHS.items():
        if namespace and kind in _OF_THE_CLUSTER:
            missing.append(f"with one namespace, {plural} are not asked for: {_OF_THE_CLUSTER[kind]}")
            continue
        inside = f"/namespaces/{namespace}" if namespace else ""
        try:
            yield from _pages(connection, f"{group}{inside}/{plural}", kind)
        except Refused as error:
            if error.status == 404 and kind not in _NEEDED:  # no such kind there
                continue
            refused = f"{plural} may not be read ({error.status}: {error})"
            if error.status != 403 or kind in _NEEDED:
                raise ClusterError(f"The API server: {refused}.", next_step(error.status)) from error
            missing.append(refused)


def _pages(connection: client.ApiClient, path: str, kind: str) -> Iterator[dict[str, Any]]:
    """Every object of a list; begun anew, once, when its continuation has expired meanwhile."""
    accept = METADATA_LIST if kind in _METADATA_ALONE else JSON
    for is_last_try in (False, True):
        found, token = [], ""
        try:
            while True:
                query = {"limit": str(PAGE)} | ({"continue": token} if token else {})
                page = ask(connection, path, query, accept=accept).document
                found += [_pruned(each, kind, page["apiVersion"]) for each in page.get("items") or ()]
                token = page["metadata"].get("continue") or ""
                if not token:
                    yield from found
                    return
        except Refused as error:
            if error.status != 410 or is_last_try:
                raise


#: Of what kinds more of the metadata is wanted: which cluster it is; type and zone of a node.
_MORE_NAMES = {"Namespace": ("uid",), "Node": ("labels",)}


def _pruned(each: Mapping[str, Any], kind: str, api_version: str) -> dict[str, Any]:
    """Of an object what an inventory is made of: a twentieth of a pod."""
    metadata, spec = each["metadata"], each.get("spec") or {}
    names = ("name", "namespace", "ownerReferences", "creationTimestamp", *_MORE_NAMES.get(kind, ()))
    kept = {name: metadata[name] for name in names if name in metadata}
    ours = {
        name: text
        for name, text in (metadata.get("annotations") or {}).items()
        if name.startswith(PREFIX) or name == REVISION
    }
    made = {"kind": kind, "apiVersion": api_version, "metadata": kept | {"annotations": ours}}
    if kind == "Pod":
        return made | {"spec": _pod_spec(spec)}
    if kind == "PriorityClass":
        return made | {"globalDefault": each.get("globalDefault", False)}
    if kind not in TEMPLATES:
        return made | {"spec": spec, "status": each.get("status") or {}}
    pod = spec
    for step in TEMPLATES[kind]:
        pod = pod.get(step) or {}
    inner: dict[str, Any] = {"spec": _pod_spec(pod.get("spec") or {})}
    for step in reversed(TEMPLATES[kind]):
        inner = {step: inner}
    return made | {"spec": inner | ({"replicas": spec["replicas"]} if "replicas" in spec else {})}


def _pod_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    priority = {name: spec[name] for name in ("priorityClassName",) if spec.get(name)}
    return priority | {
        group: [
            {name: container[name] for name in ("name", "resources", "restartPolicy") if name in container}
            for container in spec[group]
        ]
        for group in ("containers", "initContainers")
        if spec.get(group)
    }
