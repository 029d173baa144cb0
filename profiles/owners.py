"""What a pod belongs to, where the object between is not known: both halves must call it the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Labels with the hash that a controller puts behind its name to call its ReplicaSet.
_HASHES = {"pod-template-hash": "Deployment", "rollouts-pod-template-hash": "Rollout"}
_SCHEDULED = re.compile(r"(.+)-[0-9]{8,10}")  # CronJob, and the minute it was due


def guessed_owner(kind: str, name: str, labels: Mapping[str, str]) -> tuple[str, str]:
    """Kind and name of what made the controller of a pod, as its own name and the pod's labels tell.

    >>> guessed_owner("ReplicaSet", "web-b994bf9fb", {"pod-template-hash": "b994bf9fb"})
    ('Deployment', 'web')
    >>> guessed_owner("Job", "nightly-29388120", {})
    ('CronJob', 'nightly')
    >>> guessed_owner("StatefulSet", "db", {})
    ('StatefulSet', 'db')
    """
    if kind == "ReplicaSet":
        for label, workload in _HASHES.items():
            if label in labels and name.endswith(f"-{labels[label]}"):
                return workload, name.removesuffix(f"-{labels[label]}")
    if kind == "Job" and (match := _SCHEDULED.fullmatch(name)):
        return "CronJob", match[1]
    return kind, name
