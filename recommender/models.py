"""All models of one container, fitted once, whichever policy will use them."""

from __future__ import annotations

from dataclasses import dataclass

from recommender.classify import Classification, classify
from recommender.confidence import Confidence, confidence_of
from recommender.demand import DemandFit, NotIdentifiable, cost_drift, fit_demand
from recommender.history import History
from recommender.memory import MemoryFit, fit_memory
from recommender.self_check import Check, self_check


@dataclass(frozen=True, slots=True)
class Models:
    """What is known of a container before anybody says what is allowed.

    :ivar drift: sigma of CPU per request
    :ivar checks: predictions of earlier limits and what came of them
    """

    demand: DemandFit | NotIdentifiable
    memory: MemoryFit | None
    kind: Classification
    drift: float
    checks: tuple[Check, ...]
    confidence: Confidence


def fit_models(history: History) -> Models:
    """Fit everything."""
    demand, memory = fit_demand(history), fit_memory(history)
    drift = cost_drift(history, demand)
    seen = history if history.requests else history.whole  # by what it is sized by
    return Models(
        demand,
        memory,
        classify(seen, demand, memory),
        drift,
        self_check(history.regimes, drift),
        confidence_of(seen),
    )
