"""What a fit of the demand says: frozen, with its evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

#: probabilities at which the residuals are kept, for prediction intervals
PROBABILITIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995)


@dataclass(frozen=True, slots=True)
class Tail:
    """The line that a share of the windows stays under (linear quantile regression).

    :ivar quantile: that share
    :ivar base_cores, seconds_per_request: of the line, both at least zero

    Reference: R. Koenker and G. Bassett, Econometrica 46 (1978).
    """

    quantile: float
    base_cores: float
    seconds_per_request: float

    def cores_at(self, requests_per_second: np.ndarray) -> np.ndarray:
        """CPU that the share of windows stays under, in cores, in the shape of the rates."""
        return self.base_cores + self.seconds_per_request * requests_per_second


@dataclass(frozen=True, slots=True)
class RouteCost:
    """CPU of one route class.

    :ivar seconds_per_request: None when it cannot be told, with the `reason`
    :ivar interval: 95 %
    :ivar variance_inflation: by how much the other classes' traffic blurs it (VIF)
    """

    name: str
    seconds_per_request: float | None
    interval: tuple[float, float] | None
    variance_inflation: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class Replica:
    """One instance beside the others.

    :ivar usage_ratio: its CPU over what the fit expects of its traffic; 1 is like the others
    """

    name: str
    windows: int
    usage_ratio: float


@dataclass(frozen=True, slots=True)
class Noise:
    """What windows scatter by around the line: deviation * (fitted / reference) ** exponent.

    :ivar deviation: in cores where the fitted usage is `reference`
    :ivar exponent: 0 for the same noise everywhere, 1 for noise in proportion to usage
    :ivar quantiles: of the residuals in units of that, at 0.5, 1, 2.5, 5, 10, 25, 50 ... 99.5 %
    :ivar covariance: of the line: base and base, base and cost, cost and cost
    :ivar freedom: degrees of freedom behind it
    """

    deviation: float
    exponent: float
    reference: float
    quantiles: tuple[float, ...]
    covariance: tuple[float, float, float]
    freedom: float


@dataclass(frozen=True, slots=True)
class Regime:
    """A stretch in which a request costs the same.

    :ivar name: the revision; ``changed at <UTC>`` for a step that no revision explains; ``all`` for the only one
    :ivar start_unix_seconds: of its first window
    :ivar windows: rows used
    :ivar seconds_per_request: CPU time per request, with its 95 % interval
    :ivar change: against the regime before it, 0.18 for +18 %; None for the first
    :ivar change_interval: 95 %; a change whose interval contains 0 may be none
    :ivar deploy: it began with a new revision
    """

    name: str
    start_unix_seconds: float
    windows: int
    seconds_per_request: float
    interval: tuple[float, float]
    change: float | None
    change_interval: tuple[float, float] | None
    deploy: bool


@dataclass(frozen=True, slots=True)
class DemandFit:
    """A fitted demand: that of the latest regime.

    :ivar base_cores: load without traffic, with its 95 % interval
    :ivar seconds_per_request: CPU time per request, with its 95 % interval
    :ivar r_squared: share of the variance of CPU that it explains, over the windows used
    :ivar windows: rows used, all regimes
    :ivar tail: the CPU that 95 % of the windows stay under at a rate
    :ivar lag_windows: windows by which CPU follows its requests
    :ivar coverage: share of the rows that were used, 0 to 1
    :ivar censored_windows: rows left out because their limit throttled over 1 % of their periods
    :ivar regimes: in order of time; the last is the one that is fitted
    :ivar replicas: instances of the latest regime, by name
    :ivar routes: cost per route class; empty when the windows carry no counts per class
    :ivar noise: scatter around the line
    :ivar notes: what a reader should know, one sentence each
    """

    base_cores: float
    base_interval: tuple[float, float]
    seconds_per_request: float
    cost_interval: tuple[float, float]
    r_squared: float
    windows: int
    tail: Tail
    lag_windows: int
    coverage: float
    censored_windows: int
    regimes: tuple[Regime, ...]
    replicas: tuple[Replica, ...]
    routes: tuple[RouteCost, ...]
    noise: Noise
    notes: tuple[str, ...]

    def cores_at(self, requests_per_second: np.ndarray) -> np.ndarray:
        """Fitted CPU in cores, in the shape of the rates."""
        return self.base_cores + self.seconds_per_request * requests_per_second

    def intervals(self, level: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """Intervals of base load (cores) and cost per request (seconds) at a level between 0 and 1.

        :raises ValueError: unless 0 < level < 1
        """
        width = _students(level, self.noise.freedom)
        base, cost = (width * math.sqrt(max(0.0, self.noise.covariance[index])) for index in (0, 2))
        return (
            (max(0.0, self.base_cores - base), self.base_cores + base),
            (max(0.0, self.seconds_per_request - cost), self.seconds_per_request + cost),
        )

    def predict(self, requests_per_second: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Bounds that a share `level` of windows lies between, in cores, in the shape of the rates.

        Both what windows scatter by and what is not known of the line are in it; a change of the cost
        that is still to come is not.

        :raises ValueError: unless 0 < level < 1
        """
        width = _students(level, self.noise.freedom)
        rate, noise = np.asarray(requests_per_second, dtype=float), self.noise
        fitted = self.cores_at(rate)
        shape = noise.deviation * noise_shape(fitted, noise.reference, noise.exponent)
        base, both, cost = noise.covariance
        line = width * np.sqrt(np.maximum(base + 2 * both * rate + cost * np.square(rate), 0.0))
        scores = ndtri(PROBABILITIES)
        low, high = (float(np.interp(ndtri((1 + side * level) / 2), scores, noise.quantiles)) for side in (-1, 1))
        middle = noise.quantiles[len(noise.quantiles) // 2]
        below, above = (np.hypot((each - middle) * shape, line) for each in (low, high))
        return np.maximum(0.0, fitted + middle * shape - below), fitted + middle * shape + above


@dataclass(frozen=True, slots=True)
class MemoryDemandFit:
    """Memory that comes with traffic: base_bytes + bytes_per_request_rate * requests_per_second.

    :ivar base_bytes: with its 95 % interval
    :ivar bytes_per_request_rate: bytes for one request/s more, with its 95 % interval
    :ivar r_squared: share of the variance of memory that it explains
    """

    base_bytes: float
    base_interval: tuple[float, float]
    bytes_per_request_rate: float
    rate_interval: tuple[float, float]
    r_squared: float
    windows: int
    coverage: float


@dataclass(frozen=True, slots=True)
class NotIdentifiable:
    """Why there is no fit.

    :ivar censored_windows: rows left out because their limit throttled over 1 % of their periods
    """

    reason: str
    censored_windows: int = 0


def noise_shape(fitted: np.ndarray, reference: float, exponent: float) -> np.ndarray:
    """The factor of :class:`Noise` at each fitted usage, in the shape of `fitted`; 1 at the reference."""
    if exponent == 0.0 or reference <= 0:
        return np.ones_like(fitted)
    shape: np.ndarray = np.maximum(fitted / reference, 0.05) ** exponent
    return shape


def _students(level: float, freedom: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not {level}")
    return float(stdtrit(freedom, (1 + level) / 2))
