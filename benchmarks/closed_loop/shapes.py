"""When requests arrive: Poisson, in batches, and at the rate of a recorded service. Seeded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_MEAN_BATCH = 6
_CANDIDATE_RATE_FACTOR = 2.5  # above the highest rate of the recording over its mean
# autothrottle (NSDI'24), traces/bursty.txt, MIT: requests per second, one value per second.
_RECORDED = Path(__file__).parent / "bursty_rps.txt"
_SPEED_UP = 60  # a minute of the recording in a second: a segment holds ten of its sixty minutes

#: How heavy a request is, in units of work, and how often: most are light.
WEIGHTS = {1: 0.75, 3: 0.2, 6: 0.05}


def poisson(chance: random.Random, seconds: float, rate: float, cycle: int) -> Iterator[float]:
    del cycle
    now = 0.0
    while (now := now + chance.expovariate(rate)) < seconds:
        yield now


def batches(chance: random.Random, seconds: float, rate: float, cycle: int) -> Iterator[float]:
    """Geometric batches that come at once, as from a queue consumer or a cron."""
    for now in poisson(chance, seconds, rate / _MEAN_BATCH, cycle):
        yield now
        while chance.random() > 1 / _MEAN_BATCH:
            yield now


def recorded(chance: random.Random, seconds: float, rate: float, cycle: int) -> Iterator[float]:
    """Poisson at the rate of the recording, scaled to the mean `rate`; each cycle another part of it."""
    values = np.loadtxt(_RECORDED)
    factors = values / values.mean()
    offset = cycle * seconds * _SPEED_UP
    for now in poisson(chance, seconds, rate * _CANDIDATE_RATE_FACTOR, cycle):
        at = int(offset + now * _SPEED_UP) % len(factors)
        if chance.random() * _CANDIDATE_RATE_FACTOR < factors[at]:
            yield now


SHAPES = {"poisson": poisson, "batches": batches, "recorded": recorded}


def requests(shape: str, seed: int, seconds: float, rate: float, cycle: int) -> list[tuple[float, int]]:
    """(due in seconds, units of work) of every request of a segment: the same for the same seed."""
    chance = random.Random(seed)
    units, weights = list(WEIGHTS), list(WEIGHTS.values())
    return [(due, chance.choices(units, weights)[0]) for due in SHAPES[shape](chance, seconds, rate, cycle)]
