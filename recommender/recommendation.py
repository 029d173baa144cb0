"""What the recommender says of one container. It can be written to disk and read by people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from policies.schema import Policy
from recommender.classify import Classification
from recommender.confidence import Confidence
from recommender.curve import HeadroomCurve
from recommender.demand import DemandFit, NotIdentifiable
from recommender.history import Container, History
from recommender.inventory import Declared
from recommender.memory import MemoryFit
from recommender.resources import Resources
from recommender.self_check import Check


class Verdict(StrEnum):
    """What to do."""

    RESIZE = "resize"
    KEEP = "keep"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Recommendation:
    """One container's sizes with their evidence, or the reason why there are none.

    :ivar target: what to set; a field equal to `current` is not to be changed
    :ivar reasons: by resource name, why the number is what it is (or why there is none)
    :ivar unset: names of resources that are not to be set, and removed where they are
    :ivar curve: over all windows, by which the request is chosen
    :ivar busiest_curve: over the busiest windows, by which the limit is chosen
    :ivar bounds: by resource name, lower and upper: what the evidence would also bear
    :ivar notes: what else the reader should know
    :ivar checks: predictions of earlier limits and what came of them
    :ivar declared: what the cluster has, where it was asked
    :ivar policy_sources: where keys of the policy come from that are not the files'
    """

    history: History
    policy: Policy
    classification: Classification
    verdict: Verdict
    current: Resources
    target: Resources
    uncapped: Resources
    reasons: dict[str, str]
    unset: frozenset[str]
    bounds: dict[str, tuple[float | None, float | None]]
    notes: tuple[str, ...]
    confidence: Confidence
    demand: DemandFit | NotIdentifiable
    curve: HeadroomCurve | None
    busiest_curve: HeadroomCurve | None
    checks: tuple[Check, ...]
    memory: MemoryFit | None
    declared: Declared | None = None
    policy_sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def container(self) -> Container:
        """Whose recommendation it is."""
        return self.history.container

    @property
    def limit_adds(self) -> float | None:
        """What the target limit adds at the policy's quantile in the busiest windows, if it can be told."""
        return self.adds_at_limit(self.target.cpu_limit_cores)

    @property
    def request_adds(self) -> float | None:
        """What having no more than the target request adds at the policy's quantile, if it can be told."""
        return self.adds_at_request(self.target.cpu_request_cores)

    def adds_at_limit(self, cores: float | None) -> float | None:
        """What another limit would add; None as well where `cores` is."""
        return self._adds(self.busiest_curve, cores)

    def adds_at_request(self, cores: float | None) -> float | None:
        """What another request would add on a full node."""
        return self._adds(self.curve, cores)

    def _adds(self, curve: HeadroomCurve | None, cores: float | None) -> float | None:
        return None if curve is None or cores is None else curve.adds_at(cores, self.policy.latency.quantile)
