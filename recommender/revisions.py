"""Which version of its workload a pod is of, as the pod's own name tells: a ReplicaSet's hash stands in it.

    web-b994bf9fb-m5nts     Deployment web, template b994bf9fb

Other kinds (StatefulSet, DaemonSet) give a new version the same names; steps in the cost of a request then have to
show by themselves. Memory does not start anew with a version: most carry the same load, and a daily deploy would
leave a day of evidence.
"""

from __future__ import annotations

import re

from recommender.history import Container, History, instance_names

_BY_REPLICA_SET = ("Deployment", "Rollout")
_LETTERS = "[bcdfghjklmnpqrstvwxz2456789]"  # those that Kubernetes makes names of


def revision_of(container: Container, instance: str) -> str:
    """The hash of the pod's template; empty where its name does not tell.

    >>> revision_of(Container("prod", "shop", "Deployment", "web", "app"), "web-b994bf9fb-m5nts")
    'b994bf9fb'
    """
    if container.kind not in _BY_REPLICA_SET or not instance.startswith(f"{container.workload}-"):
        return ""
    match = re.fullmatch(f"({_LETTERS}{{1,10}})-{_LETTERS}{{5}}", instance[len(container.workload) + 1 :])
    return match[1] if match else ""


def revisions_of(history: History) -> list[str] | None:
    """By code of the instance; None where there is one version, or it is not told of each."""
    found = [revision_of(history.container, name) for name in instance_names(history.frame)]
    return found if all(found) and len(set(found)) > 1 else None
