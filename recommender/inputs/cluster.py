"""Objects of a live cluster: the official client's credentials and connection, its answers raw and page by page.

A kind that may not be read is left out and said; only pods and workloads that nobody may read are an
error. Nothing here writes to the cluster.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from policies.annotations import PREFIX
from profiles.errors import HeadroomError
from recommender.inputs.access import Access, is_in_cluster
from recommender.inputs.objects import REVISION, inventory_of
from recommender.inventory import TEMPLATES, Inventory

PAGE = 500
_PATHS = {
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
    "Namespace": ("/api/v1", "namespaces"),
    "Node": ("/api/v1", "nodes"),
}
_OF_THE_CLUSTER = {"Namespace": "no annotations of its own", "Node": "no largest size"}
_NEEDED = {"Pod", "Deployment"}
_TRIES, _AGAIN = 4, {429, 500, 502, 503, 504}
_TIMEOUT = urllib3.Timeout(connect=10.0, read=60.0)
_SHOWN = 200
_LONGEST_WAIT = 10.0


class ClusterError(HeadroomError):
    """The API server could not be asked."""


def read_cluster(access: Access, cluster: str) -> Inventory:
    """What the cluster declares.

    :raises ClusterError: when it cannot be asked, or may not be
    """
    with _connected(access) as connection:
        missing: list[str] = []
        objects = list(_objects(connection, access.namespace, missing))
    return inventory_of(objects, cluster, "api", tuple(missing))


def _objects(connection: client.ApiClient, namespace: str | None, missing: list[str]) -> Iterator[dict[str, Any]]:
    for kind, (group, plural) in _PATHS.items():
        if namespace and kind in _OF_THE_CLUSTER:
            missing.append(f"with one namespace, {plural} are not asked for: {_OF_THE_CLUSTER[kind]}")
            continue
        inside = f"/namespaces/{namespace}" if namespace else ""
        try:
            yield from _pages(connection, f"{group}{inside}/{plural}", kind)
        except _Refused as error:
            if error.status == 404 and kind not in _NEEDED:  # no such kind there
                continue
            refused = f"{plural} may not be read ({error.status}: {error})"
            if error.status != 403 or kind in _NEEDED:
                raise ClusterError(f"The API server: {refused}.", _step(error.status)) from error
            missing.append(refused)


def _pages(connection: client.ApiClient, path: str, kind: str) -> Iterator[dict[str, Any]]:
    """Every object of a list; begun anew, once, when its continuation has expired meanwhile."""
    for is_last_try in (False, True):
        found, token = [], ""
        try:
            while True:
                page = _get(connection, path, {"limit": str(PAGE)} | ({"continue": token} if token else {}))
                found += [_pruned(each, kind, page["apiVersion"]) for each in page.get("items") or ()]
                token = page["metadata"].get("continue") or ""
                if not token:
                    yield from found
                    return
        except _Refused as error:
            if error.status != 410 or is_last_try:
                raise


def _get(connection: client.ApiClient, path: str, query: Mapping[str, str]) -> dict[str, Any]:
    """One page. Credentials and connections are the official client's; its methods differ between versions."""
    settings, host = connection.configuration, connection.configuration.host
    for attempt in range(_TRIES):
        headers = {"Accept": "application/json"}
        headers |= {each["key"]: each["value"] for each in settings.auth_settings().values() if each["value"]}
        last = attempt == _TRIES - 1
        try:
            answer = connection.rest_client.pool_manager.request(
                "GET", f"{host}{path}", fields=query, headers=headers, timeout=_TIMEOUT, retries=False
            )
        except urllib3.exceptions.HTTPError as error:
            if isinstance(error, urllib3.exceptions.ProtocolError) and not attempt:
                continue  # a connection that was kept, and is closed now
            raise ClusterError(
                f"The API server at {host} does not answer.", "Look whether kubectl reaches it with the same context."
            ) from error
        if answer.status in _AGAIN and not last:
            time.sleep(_wait(answer.headers.get("Retry-After"), attempt))
            continue
        try:
            document = json.loads(answer.data)
        except ValueError as error:
            if answer.status != 200:
                raise _Refused(answer.status, str(answer.reason)) from error
            raise ClusterError(
                f"The API server at {host} did not answer with JSON.", "Look whether a proxy or a login page answered."
            ) from error
        if answer.status != 200:
            said = document.get("message") if isinstance(document, dict) else None
            raise _Refused(answer.status, str(said or answer.reason)[:_SHOWN])
        if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
            raise ClusterError(
                f"{host}{path} did not answer with a list.", "Look whether a proxy or a login page answered."
            )
        return document
    raise AssertionError


def _wait(retry_after: str | None, attempt: int) -> float:
    """As long as the server asks for, within reason."""
    asked = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
    return float(min(_LONGEST_WAIT, max(asked, 0.2 * 2**attempt)))


class _Refused(Exception):
    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


def _pruned(each: Mapping[str, Any], kind: str, api_version: str) -> dict[str, Any]:
    """Of an object what an inventory is made of: a twentieth of a pod."""
    metadata, spec = each["metadata"], each.get("spec") or {}
    kept = {name: metadata[name] for name in ("name", "namespace", "ownerReferences") if name in metadata}
    ours = {
        name: text
        for name, text in (metadata.get("annotations") or {}).items()
        if name.startswith(PREFIX) or name == REVISION
    }
    made = {"kind": kind, "apiVersion": api_version, "metadata": kept | {"annotations": ours}}
    if kind == "Pod":
        return made | {"spec": _pod_spec(spec)}
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
    return {
        group: [
            {name: container[name] for name in ("name", "resources", "restartPolicy") if name in container}
            for container in spec[group]
        ]
        for group in ("containers", "initContainers")
        if spec.get(group)
    }


def _connected(access: Access) -> client.ApiClient:
    settings = client.Configuration()
    try:
        if access.kubeconfig is None and access.context is None and is_in_cluster():
            config.load_incluster_config(client_configuration=settings)
        else:
            file = str(access.kubeconfig) if access.kubeconfig else None
            config.load_kube_config(file, access.context, client_configuration=settings, persist_config=False)
    except (ConfigException, OSError, yaml.YAMLError, TypeError, ValueError, AttributeError, KeyError) as error:
        why = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise ClusterError(
            f"There is no way into a cluster: {why}.",
            "Give --kubeconfig and --context, as for kubectl.",
        ) from error
    return client.ApiClient(settings)


def _step(status: int | None) -> str:
    if status == 401:
        return "Log in again: kubectl works with the same context when it is right."
    if status == 403:
        return "Give it the role that deploy/ has (get, list and watch), or --namespace with one that you may read."
    return "Look at the API server's log, and try again."
