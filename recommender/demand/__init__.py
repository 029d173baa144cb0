"""CPU (and memory) against traffic: base load plus cost per request, per pod.

    cpu_cores = base_cores + seconds_per_request * requests_per_second

    history -> rows -> stretches, each its cells and line -> regimes, pooled -> scatter, routes -> DemandFit

One row is one window of one instance, so replicas are accounted for by themselves: it is CPU per pod against
requests/s per pod. The line is a robust one (Huber's, then Tukey's weights), fitted per regime; the last regime
is the fit. Both parameters are at least zero.

The gates are those of docs/decisions/0008: a slope needs traffic that varies and an interval that is narrower
than itself; what does not pass is not told.
"""

from recommender.demand.fit import cost_drift, fit_demand, fit_memory_demand
from recommender.demand.results import (
    DemandFit,
    MemoryDemandFit,
    Noise,
    NotIdentifiable,
    Regime,
    Replica,
    RouteCost,
    Tail,
)

__all__ = [
    "DemandFit",
    "MemoryDemandFit",
    "Noise",
    "NotIdentifiable",
    "Regime",
    "Replica",
    "RouteCost",
    "Tail",
    "cost_drift",
    "fit_demand",
    "fit_memory_demand",
]
