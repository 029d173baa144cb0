"""What others would have recommended, from the same histories: the rules to be measured against.

A rule takes the pods' histories (what is at or after `now` is not looked at), the time as unix
seconds, and the current request; it returns the request of one pod in the unit of the series, or
None without data. All are our own, from published constants. None sees the future: the oracle is
not one of them.

    request = CPU["vpa_target"](pods, now, None)
    wider = with_margin(CPU["vpa_target"], 1.3)     # for a sweep; a factor, not an addition
    deployed = with_floors(CPU["vpa_target"])       # floors, and whatever else knows the unit
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from recommender.baselines import autopilot, crane, goldilocks, krr, kruize, simple, vpa
from recommender.series import Series

Rule = Callable[[Sequence[Series], float, float | None], float | None]

CPU: dict[str, Rule] = {
    "vpa_target": vpa.CPU_TARGET,
    "vpa_lower": vpa.CPU_LOWER,
    "vpa_upper": vpa.CPU_UPPER,
    "goldilocks_guaranteed": goldilocks.CPU_GUARANTEED,
    "goldilocks_burstable": goldilocks.CPU_BURSTABLE,
    "krr_simple": krr.CPU_SIMPLE,
    "krr_simple_limit": krr.CPU_SIMPLE_LIMIT,
    "crane": crane.CPU,
    "crane_as_run": crane.CPU_AS_RUN,
    "kruize_cost": kruize.CPU_COST,
    "kruize_performance": kruize.CPU_PERFORMANCE,
    "autopilot": autopilot.CPU,
    "maximum": simple.MAXIMUM,
    "mean_3_sigma": simple.MEAN_3_SIGMA,
    "current": simple.current,
}

MEMORY: dict[str, Rule] = {
    "vpa_target": vpa.MEMORY_TARGET,
    "vpa_lower": vpa.MEMORY_LOWER,
    "vpa_upper": vpa.MEMORY_UPPER,
    "goldilocks_guaranteed": goldilocks.MEMORY_GUARANTEED,
    "goldilocks_burstable": goldilocks.MEMORY_BURSTABLE,
    "krr": krr.MEMORY,
    "crane": crane.MEMORY,
    "crane_as_run": crane.MEMORY_AS_RUN,
    "kruize": kruize.MEMORY,
    "autopilot": autopilot.MEMORY,
    "autopilot_peak": autopilot.MEMORY_PEAK,
    "maximum": simple.MAXIMUM,
    "mean_3_sigma": simple.MEAN_3_SIGMA,
    "current": simple.current,
}


def with_margin(rule: Rule, margin: float) -> Rule:
    """A rule of this package with another margin: a factor on its estimate, in place of its own."""
    return cast("Rule", partial(cast("Any", rule), margin=margin))


def with_floors(rule: Rule) -> Rule:
    """A rule of this package as it is deployed: with its floors and all else that knows the unit."""
    return cast("Rule", partial(cast("Any", rule), floors=True))
