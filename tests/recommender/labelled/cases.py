"""The labelled set: generated and recorded cases, in two halves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache

from recommender.history import History
from tests.recommender.labelled.generated import recipes
from tests.recommender.labelled.real import recorded
from tests.recommender.labelled.simulate import simulate

HALVES = ("dev", "held out")


@dataclass(frozen=True)
class Case:
    """One workload whose class is known.

    :ivar half: ``dev`` (thresholds were set on it) or ``held out`` (reported)
    :ivar origin: ``generated`` or ``recorded``
    """

    name: str
    label: str
    half: str
    origin: str
    known_from: str
    history: History


@cache
def cases() -> tuple[Case, ...]:
    """All of them; recorded ones fall into the halves in turn, within their class and by name."""
    found = [
        Case(name, label, half, "generated", "simulated so", simulate(name, service, seed))
        for half in HALVES
        for name, label, service, seed in recipes(half)
    ]
    turn: Counter[str] = Counter()
    for name, label, known_from, history in recorded():
        found.append(Case(name, label, HALVES[turn[label] % 2], "recorded", known_from, history))
        turn[label] += 1
    return tuple(found)
