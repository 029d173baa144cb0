"""Pods of this node, and whose a container's cgroup is.

A cgroup's path tells the UID of its pod and the id of its container, nothing else. What that pod is
called, what it belongs to, and which of its containers has that id is in the pod's own object.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from collector.identity import ID_SHOWN, pod_of
from profiles.owners import guessed_owner
from profiles.schema import Identity

#: For at least so long a pod that is gone is remembered: its last window is yet to be stored.
LEAST_REMEMBERED_SECONDS = 120.0
_STATIC = "kubernetes.io/config.hash"  # of a static pod the kubelet's UID is not the API server's

#: The controller of a Job, by namespace and name; None where it cannot be told.
OwnerOfJob = Callable[[str, str], tuple[str, str] | None]


@dataclass(slots=True)
class Pod:
    """One pod.

    :ivar owner: kind and name of the workload
    :ivar declared: names of its containers, in order
    :ivar by_id: name of a container by the beginning of its id
    :ivar gone: when it was deleted, on the monotonic clock
    """

    namespace: str
    name: str
    owner: tuple[str, str]
    declared: tuple[str, ...]
    by_id: dict[str, str]
    gone: float | None = None


class Pods:
    """All that are, and those that were a short while ago. It may be asked while it is told."""

    def __init__(
        self,
        cluster: str,
        owner_of_job: OwnerOfJob = lambda *_: None,
        remembered_seconds: float = LEAST_REMEMBERED_SECONDS,
    ) -> None:
        self._cluster, self._owner_of_job, self._remembered_seconds = cluster, owner_of_job, remembered_seconds
        self._lock = threading.Lock()
        self._by_uid: dict[str, Pod] = {}

    def replace(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """These are all; any other is gone."""
        listed = set()
        for each in objects:
            self.put(each)
            listed |= _uids(each)
        with self._lock:
            for uid, pod in self._by_uid.items():
                if uid not in listed and pod.gone is None:
                    pod.gone = time.monotonic()
        self._forget()

    def put(self, each: Mapping[str, Any]) -> None:
        """A pod came, or changed. Ids of containers that were are kept: their cgroups may be yet to be read."""
        metadata, spec, status = each["metadata"], each.get("spec") or {}, each.get("status") or {}
        uids = _uids(each)
        groups = ("initContainers", "containers", "ephemeralContainers")
        declared = tuple(str(one["name"]) for group in groups for one in spec.get(group) or ())
        by_id: dict[str, str] = {}
        for group in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
            for one in status.get(group) or ():
                by_id |= dict.fromkeys(_ids(one), str(one["name"]))
        with self._lock:
            before = next((self._by_uid[uid] for uid in uids if uid in self._by_uid), None)
        namespace, name = str(metadata.get("namespace", "default")), str(metadata["name"])
        owner = before.owner if before is not None else self._owner(namespace, name, metadata)
        pod = Pod(namespace, name, owner, declared, (before.by_id if before else {}) | by_id)
        with self._lock:
            for uid in uids:
                self._by_uid[uid] = pod

    def remove(self, each: Mapping[str, Any]) -> None:
        """A pod was deleted; its last state may name containers that were not known yet."""
        self.put(each)
        with self._lock:
            for uid in _uids(each):
                self._by_uid[uid].gone = time.monotonic()
        self._forget()

    def identity(self, uid: str, container_id: str) -> Identity | None:
        """Whose the cgroup is of that pod and container; None while that is not known, or for a pod's sandbox.

        :param container_id: its first characters, as :data:`collector.identity.ID_SHOWN` has it
        """
        with self._lock:
            pod = self._by_uid.get(uid)
            if pod is None:
                return None
            name = pod.by_id.get(container_id)
            if name is None and len(pod.declared) == 1 and not pod.by_id:
                name = pod.declared[0]  # its id is yet to be told; the sandbox beside it does next to nothing
            if name is None:
                return None
            return Identity(self._cluster, pod.namespace, *pod.owner, name, pod.name)

    def is_sandbox(self, uid: str, container_id: str) -> bool:
        """Whether it is the group of the pod's own namespaces: all its containers are known to be others."""
        with self._lock:
            pod = self._by_uid.get(uid)
            return pod is not None and container_id not in pod.by_id and set(pod.declared) <= set(pod.by_id.values())

    def name_of(self, identity: Identity) -> Identity | None:
        """What the agent calls a cgroup: a pod's container by its workload, all else as its path says."""
        of = pod_of(identity)
        if of is None:
            return replace(identity, cluster=self._cluster)
        found = self.identity(*of)
        if found is None and self.is_sandbox(*of):
            return None
        return found or replace(identity, cluster=self._cluster)

    def __len__(self) -> int:
        with self._lock:
            return sum(pod.gone is None for pod in self._by_uid.values())

    def _owner(self, namespace: str, name: str, metadata: Mapping[str, Any]) -> tuple[str, str]:
        above = next((each for each in metadata.get("ownerReferences") or () if each.get("controller")), None)
        if above is None or above["kind"] == "Node":
            return "Pod", name
        kind, owner = str(above["kind"]), str(above["name"])
        told = self._owner_of_job(namespace, owner) if kind == "Job" else None
        return told or guessed_owner(kind, owner, metadata.get("labels") or {})

    def _forget(self) -> None:
        since = time.monotonic() - self._remembered_seconds
        with self._lock:
            for uid in [uid for uid, pod in self._by_uid.items() if pod.gone is not None and pod.gone < since]:
                del self._by_uid[uid]


def _uids(each: Mapping[str, Any]) -> set[str]:
    metadata = each["metadata"]
    static = (metadata.get("annotations") or {}).get(_STATIC)
    return {str(metadata["uid"]), *([str(static)] if static else [])}


def _ids(status: Mapping[str, Any]) -> list[str]:
    """Of the container that runs, and of the one before it."""
    ended = [((status.get(state) or {}).get("terminated") or {}).get("containerID") for state in ("state", "lastState")]
    found = [status.get("containerID"), *ended]
    return [str(each).rpartition("//")[2][:ID_SHOWN] for each in found if each]
