"""One workload of a live cluster: what it is, a patch of it, how its roll-out goes, and how its pods are.

The only place that may change something in a cluster, and only when it is not a dry run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubernetes import client

from profiles.errors import HeadroomError
from recommender.inputs.access import Access
from recommender.inputs.api import Answer, ClusterError, Refused, ask, connected, next_step
from recommender.inputs.cluster import PATHS
from recommender.inputs.objects import SYSTEM

_MANAGER = "headroom"
_TYPES = {"json": "application/json-patch+json", "strategic": "application/strategic-merge-patch+json"}
_BAD_WAITS = {
    "CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "ImagePullBackOff",
    "RunContainerError",  # also of a limit that is too small to begin with
}  # fmt: skip
#: Their pods stay as they are when the template changes.
_NOT_ROLLED_OUT = {"CronJob", "ReplicaSet", "ReplicationController"}

Target = tuple[str, str, str, str]  # cluster, kind, namespace and name


class RefusedByCluster(HeadroomError):
    """The API server does not take it: nothing was stored."""


class Unanswered(ClusterError):
    """Whether it was stored is not known, or who asks is not."""

    def __init__(self, sentence: str, next_step: str, status: int) -> None:
        super().__init__(sentence, next_step)
        self.status = status


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a roll-out is.

    :ivar done: every replica is of the newest revision, and available
    :ivar rests: none is being replaced, available or not
    :ivar failed: why it will not get there; empty while it may
    :ivar told: in words
    """

    done: bool
    rests: bool
    failed: str
    told: str


@dataclass(frozen=True, slots=True)
class Health:
    """Of the new pods of a workload, those that are on their way out left aside.

    :ivar restarts: of all containers
    :ivar harm: what too small a size does to one of them (a kill for want of memory, an eviction); empty for nothing
    :ivar trouble: what is wrong with one of them now; empty where nothing is
    """

    restarts: int
    harm: str
    trouble: str


class Workloads:
    """An open connection."""

    def __init__(self, access: Access) -> None:
        """Connect.

        :raises profiles.errors.HeadroomError: when there is no way into a cluster
        """
        self._connection: client.ApiClient = connected(access)

    def cluster_uid(self) -> str:
        """That of the namespace kube-system; empty where it may not be read."""
        try:
            found = ask(self._connection, f"/api/v1/namespaces/{SYSTEM}").document
        except Refused as error:
            if error.status == 403:
                return ""
            raise _refused(f"the namespace {SYSTEM}", error) from error
        return str(found["metadata"].get("uid", ""))

    def get(self, target: Target) -> dict[str, Any]:
        """The object.

        :raises RefusedByCluster: when it may not be read, or is not there
        """
        return self._asked(target, "GET").document

    def patch(self, target: Target, text: str, kind: str, *, dry_run: bool) -> Answer:
        """Patch it; a dry run goes through all of admission, and stores nothing.

        :param kind: ``strategic`` or ``json``
        :raises RefusedByCluster: with the server's own words
        :raises profiles.errors.HeadroomError: when no answer says whether it was stored
        """
        query = {"fieldManager": _MANAGER, "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        try:
            return self._asked(target, "PATCH", query, text, _TYPES[kind])
        except Unanswered as error:
            if dry_run and error.status not in (401, 429):  # a webhook that fails; nothing is stored either way
                raise RefusedByCluster(error.sentence, error.next_step) from error
            raise

    def health(self, target: Target, workload: Mapping[str, Any], old: Collection[str]) -> Health:
        """How its pods are.

        :param old: the uids of pods that were there before: how they are, no patch has done
        :raises RefusedByCluster: when they may not be listed
        """
        return _health([pod for pod in self._pods(target, workload) if pod["metadata"]["uid"] not in old])

    def pod_uids(self, target: Target) -> frozenset[str]:
        """The uids of its pods.

        :raises RefusedByCluster: when they may not be listed, or it is not there
        """
        return frozenset(pod["metadata"]["uid"] for pod in self._pods(target, self.get(target)))

    def _pods(self, target: Target, workload: Mapping[str, Any]) -> list[dict[str, Any]]:
        selector = ((workload.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
        if not selector:
            return []
        labels = ",".join(f"{name}={value}" for name, value in sorted(selector.items()))
        path = f"/api/v1/namespaces/{target[2]}/pods"
        try:
            return ask(self._connection, path, {"labelSelector": labels}).document.get("items") or []
        except Refused as error:
            raise _refused(f"the pods of {target[2]}/{target[3]}", error) from error

    def _asked(
        self,
        target: Target,
        method: str,
        query: Mapping[str, str] | None = None,
        body: str | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        _, kind, namespace, name = target
        if kind not in PATHS:
            raise RefusedByCluster(f"headroom cannot patch a {kind}.", "Apply its patch with kubectl.")
        group, plural = PATHS[kind]
        try:
            return ask(
                self._connection, f"{group}/namespaces/{namespace}/{plural}/{name}", query, method, body, content_type
            )
        except Refused as error:
            raise _refused(f"{kind} {namespace}/{name}", error) from error

    def close(self) -> None:
        """Close its connections."""
        self._connection.close()


def progress_of(workload: Mapping[str, Any]) -> Progress:
    """How far a roll-out is, by the rules of ``kubectl rollout status``."""
    kind, spec, status = workload.get("kind"), workload.get("spec") or {}, workload.get("status") or {}
    if kind == "HorizontalPodAutoscaler":
        return Progress(True, True, "", "")
    strategy = spec.get("updateStrategy") or {}
    if kind in _NOT_ROLLED_OUT or strategy.get("type") == "OnDelete":
        return Progress(True, True, "", "the next pods take it, those that run stay as they are")
    # a Rollout's is a text
    if int(status.get("observedGeneration") or 0) < int((workload.get("metadata") or {}).get("generation") or 0):
        return Progress(False, False, "", "not seen by its controller yet")
    if kind == "DaemonSet":
        wanted, new = int(status.get("desiredNumberScheduled") or 0), int(status.get("updatedNumberScheduled") or 0)
        ready = int(status.get("numberAvailable") or 0)
    else:
        wanted, new = int(spec.get("replicas", 1)), int(status.get("updatedReplicas") or 0)
        known = "readyReplicas" if kind == "StatefulSet" and "availableReplicas" not in status else "availableReplicas"
        ready = int(status.get(known) or 0)  # a Deployment leaves it out where it is 0
    to_be_new = wanted - int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    old = int(status.get("replicas") or new) - new if kind == "Deployment" else 0
    told = f"{new} of {max(to_be_new, 0)} replicas are new, {ready} available"
    is_well = status.get("phase", "Healthy") == "Healthy"  # of a Rollout, which may wait between its steps
    rests = new >= to_be_new and old <= 0
    return Progress(rests and ready >= wanted and is_well, rests, _failed(status), told)


def _failed(status: Mapping[str, Any]) -> str:
    """Why its controller has given up; empty where it has not."""
    if status.get("phase") == "Degraded":
        return str(status.get("message") or "it is degraded")
    for each in status.get("conditions") or ():
        if each.get("reason") == "ProgressDeadlineExceeded":  # a quota that is full for a moment is none
            return str(each.get("message") or each["reason"])
    return ""


def _health(pods: Sequence[Mapping[str, Any]]) -> Health:
    restarts, harm, trouble = 0, "", ""
    for pod in pods:
        if pod["metadata"].get("deletionTimestamp") or _is_jobs(pod):
            continue
        status, name = pod.get("status") or {}, pod["metadata"]["name"]
        if status.get("reason") == "Evicted":
            harm = f"{name} was evicted: {status.get('message', '')}"
        for each in (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())):
            restarts += int(each.get("restartCount") or 0)
            states = [(each.get(state) or {}).get("terminated") or {} for state in ("state", "lastState")]
            if any(state.get("reason") == "OOMKilled" for state in states):
                harm = f"the kernel killed container {each['name']} of {name} for want of memory"
            why = ((each.get("state") or {}).get("waiting") or {}).get("reason")
            if why in _BAD_WAITS:
                trouble = f"container {each['name']} of {name}: {why}"
    return Health(restarts, harm, trouble)


def _is_jobs(pod: Mapping[str, Any]) -> bool:
    """A Job's may have the same labels."""
    return any(each.get("kind") == "Job" for each in pod["metadata"].get("ownerReferences") or ())


def _refused(what: str, error: Refused) -> HeadroomError:
    if error.status >= 500 or error.status in (401, 409, 429):  # at 5xx it may have been stored all the same
        return Unanswered(
            f"The API server failed at {what} ({error.status}: {error}).", next_step(error.status), error.status
        )
    step = "Pull the store again: it is not there any more." if error.status == 404 else next_step(error.status)
    if error.status == 403:
        step = "Apply needs the verb patch, which no role of the chart has: use a kubeconfig of your own."
    return RefusedByCluster(f"The API server does not take {what} ({error.status}: {error}).", step)
