"""What requests reserve over all replicas, before and after, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from policies.prices import Prices
from recommender.inventory import Node
from recommender.recommendation import Recommendation

HOURS_A_MONTH = 730.0
_GIBIBYTE = 2**30


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices of one cluster.

    :ivar priced_nodes: of how many of its nodes the price is known by their type; the others cost the general rate
    """

    currency: str
    core_hour: float
    gib_hour: float
    priced_nodes: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """Of one container over its replicas. None: no request, so nothing is reserved.

    :ivar replicas: that there are at once, on average; of a Job, over the time between its runs as well
    """

    replicas: float
    cores_before: float | None
    cores_after: float | None
    bytes_before: float | None
    bytes_after: float | None

    @property
    def cores_freed(self) -> float | None:
        """Below zero where more is reserved; None where nothing was before, or will be after."""
        return _freed(self.cores_before, self.cores_after)

    @property
    def bytes_freed(self) -> float | None:
        """Likewise."""
        return _freed(self.bytes_before, self.bytes_after)

    def month_saves(self, rates: Rates) -> float | None:
        """By the rates; None where nothing was reserved before."""
        cores, size = self.cores_freed, self.bytes_freed
        if cores is None and size is None:
            return None
        hour = (cores or 0.0) * rates.core_hour + (size or 0.0) / _GIBIBYTE * rates.gib_hour
        return hour * HOURS_A_MONTH


def reserved_of(row: Recommendation) -> Reserved:
    """By its requests and replicas."""
    replicas = row.history.mean_instances
    if not replicas:
        declared = row.declared.replicas if row.declared is not None else None
        replicas = float(declared or 0)
    now, then = row.current, row.target
    return Reserved(
        replicas,
        _times(now.cpu_request_cores, replicas),
        _times(then.cpu_request_cores, replicas),
        _times(now.memory_request_bytes, replicas),
        _times(then.memory_request_bytes, replicas),
    )


def rates_of(prices: Prices, nodes: Sequence[Node]) -> Rates:
    """What a core and a GiB of these nodes cost on average; the general rates where no node is known."""
    known = [(node, prices.rates_of(node.type)) for node in nodes]
    priced = [(node, rates or (prices.core_hour, prices.gib_hour)) for node, rates in known]
    cores = _mean(((node.cores, rates[0]) for node, rates in priced), prices.core_hour)
    size = _mean(((node.memory_bytes, rates[1]) for node, rates in priced), prices.gib_hour)
    return Rates(prices.currency, cores, size, sum(1 for _, rates in known if rates is not None), len(nodes))


def _mean(pairs: Iterable[tuple[float, float]], otherwise: float) -> float:
    known = list(pairs)
    weight = sum(each for each, _ in known)
    return sum(each * value for each, value in known) / weight if weight else otherwise


def _times(value: float | None, replicas: float) -> float | None:
    return None if value is None else value * replicas


def _freed(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else before - after
