"""Horizontal autoscaling beside a new request.

An autoscaler on CPU utilization keeps   replicas = usage / (request x target)   whole. Another request
alone would change the number of replicas; so its target changes with it, and request x target stays:

    target' = target x request / request'          requests summed over what the metric counts
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from recommender.inventory import Autoscaler, Metric
from recommender.recommendation import Recommendation, Verdict
from recommender.resources import PAIRS


@dataclass(frozen=True, slots=True)
class Retarget:
    """Another target for one metric of an autoscaler.

    :ivar index: of the metric in its list
    :ivar before, after: percent of the requests
    :ivar replicas_change: what rounding the target to whole percents does to the replicas, as a share
    """

    cluster: str
    namespace: str
    autoscaler: str
    index: int
    metric: Metric
    before: int
    after: int
    replicas_change: float

    @property
    def place(self) -> str:
        """Where the metric stands in the autoscaler, as a JSON pointer."""
        of = "containerResource" if self.metric.kind == "ContainerResource" else "resource"
        return f"/spec/metrics/{self.index}/{of}"

    @property
    def path(self) -> str:
        """Where its target stands."""
        return f"{self.place}/target/averageUtilization"


def retargets(rows: Sequence[Recommendation]) -> list[Retarget]:
    """The targets that change with the requests of `rows`, in order of namespace and name.

    Only those whose requests are all known: without one, the autoscaler itself does not work.
    """
    together: dict[tuple[str, str, str, str], list[Recommendation]] = defaultdict(list)
    for row in rows:
        of = row.container
        if row.declared is not None and row.declared.autoscaler is not None and row.declared.role != "init":
            together[of.cluster, of.namespace, of.kind, of.workload].append(row)
    found = []
    for (cluster, namespace, _, _), own in sorted(together.items()):
        assert own[0].declared is not None
        scaler = own[0].declared.autoscaler
        assert scaler is not None
        found += [
            each for index in range(len(scaler.metrics)) if (each := _retarget(cluster, namespace, scaler, index, own))
        ]
    return found


def _retarget(
    cluster: str, namespace: str, scaler: Autoscaler, index: int, own: Sequence[Recommendation]
) -> Retarget | None:
    metric = scaler.metrics[index]
    if metric.utilization_percent is None or metric.name not in PAIRS:
        return None
    column, _ = PAIRS[metric.name]
    counted = [row for row in own if scaler.metrics[index].container in (None, row.container.container)]
    before = [getattr(row.current, column) for row in counted]
    after = [
        getattr(row.target if row.verdict is Verdict.RESIZE else row.current, column) or now
        for row, now in zip(counted, before, strict=True)
    ]
    if not counted or any(each is None for each in before) or not sum(before) or sum(before) == sum(after):
        return None
    exact = metric.utilization_percent * sum(before) / sum(after)
    target = max(1, round(exact))
    if target == metric.utilization_percent:
        return None
    return Retarget(
        cluster, namespace, scaler.name, index, metric, metric.utilization_percent, target, exact / target - 1
    )
