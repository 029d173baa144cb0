"""Quality of service of a pod, as the API server computes it: of CPU and memory of all its containers.

Reference: Kubernetes, "Pod Quality of Service Classes"; init containers count like the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from recommender.history import Container
from recommender.inventory import Inventory
from recommender.resources import PAIRS, RESOURCE_NAMES, Resources

Quality = Literal["Guaranteed", "Burstable", "BestEffort"]
#: Cluster, kind, namespace and name.
Workload = tuple[str, str, str, str]


def quality_of(containers: Sequence[Resources]) -> Quality:
    """Of a pod with these containers.

    >>> quality_of([Resources(0.5, 0.5, 64e6, 64e6), Resources()])
    'Burstable'
    """
    if not any(getattr(each, name) for each in containers for name in RESOURCE_NAMES):
        return "BestEffort"
    pairs = [(getattr(each, ask), getattr(each, most)) for each in containers for ask, most in PAIRS.values()]
    return "Guaranteed" if all(most and ask == most for ask, most in pairs) else "Burstable"


def workload_of(container: Container) -> Workload:
    """Whose pods it is in."""
    return container.cluster, container.kind, container.namespace, container.workload


def by_workload(inventory: Inventory) -> dict[Workload, Quality]:
    """Of the pods of each, as they are declared."""
    declared: dict[Workload, list[Resources]] = defaultdict(list)
    for each in inventory.containers:
        declared[workload_of(each.container)].append(each.resources)
    return {workload: quality_of(own) for workload, own in declared.items()}
