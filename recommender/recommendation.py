"""What the recommender says of one container. It can be written to disk and read by people."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from policies.schema import Policy
from recommender.classify import Classification
from recommender.confidence import Confidence
from recommender.curve import HeadroomCurve
from recommender.demand import DemandFit, NotIdentifiable
from recommender.history import Container, History
from recommender.memory import MemoryFit
from recommender.self_check import Check

MEBIBYTE = 2**20


class Verdict(StrEnum):
    """What to do."""

    RESIZE = "resize"
    KEEP = "keep"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Resources:
    """Requests and limits; None is "not set". CPU in cores, memory in bytes."""

    cpu_request_cores: float | None = None
    cpu_limit_cores: float | None = None
    memory_request_bytes: float | None = None
    memory_limit_bytes: float | None = None


#: The names of the four numbers, in the order in which people read them.
RESOURCE_NAMES = ("cpu_request_cores", "cpu_limit_cores", "memory_request_bytes", "memory_limit_bytes")


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

    @property
    def container(self) -> Container:
        """Whose recommendation it is."""
        return self.history.container

    @property
    def limit_adds(self) -> float | None:
        """What the target limit adds at the policy's quantile in the busiest windows, if it can be told."""
        return self._adds(self.busiest_curve, self.target.cpu_limit_cores)

    @property
    def request_adds(self) -> float | None:
        """What having no more than the target request adds at the policy's quantile, if it can be told."""
        return self._adds(self.curve, self.target.cpu_request_cores)

    def _adds(self, curve: HeadroomCurve | None, cores: float | None) -> float | None:
        return None if curve is None or cores is None else curve.adds_at(cores, self.policy.latency.quantile)


def round_up_cores(cores: float) -> float:
    """To 1m below 100m, to 5m below one core, else to 50m; never down."""
    step = 1 if cores < 0.1 else 5 if cores < 1 else 50
    # 1e-6: 0.3 * 1000 is 300.00000000000006, which is not 305m
    return math.ceil(cores * 1000 / step - 1e-6) * step / 1000


def round_up_bytes(size: float) -> float:
    """To whole MiB; never down."""
    return float(math.ceil(size / MEBIBYTE - 1e-9) * MEBIBYTE)


def format_cores(cores: float | None) -> str | None:
    """A Kubernetes quantity: ``250m``, ``2``."""
    if cores is None:
        return None
    millicores = math.ceil(cores * 1000 - 1e-6)
    return str(millicores // 1000) if millicores % 1000 == 0 else f"{millicores}m"


def format_bytes(size: float | None) -> str | None:
    """A Kubernetes quantity: ``128Mi``, ``2Gi``."""
    if size is None:
        return None
    mebibytes = math.ceil(size / MEBIBYTE - 1e-9)
    return f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"


def format_resource(name: str, value: float | None) -> str | None:
    """The quantity of one of :data:`RESOURCE_NAMES`."""
    return format_cores(value) if name.startswith("cpu") else format_bytes(value)
