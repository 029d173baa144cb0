"""How sure a recommendation can be by the time it has seen, and what is said of it.

    under an hour     this load, this hour
    under a day       no daily peak yet
    under a week      no whole week: weekends and the busiest weekday are unknown
    one week          every weekday once
    two weeks         every weekday twice: the first time that a week can be compared with another

With a maximum and a margin, a chance under 5 % of exceeding next week would need about nineteen like
weeks; what is missing widens the interval (docs/decisions/0011).
"""

from __future__ import annotations

from dataclasses import dataclass

from recommender.history import History

_HOUR, _DAY, _WEEK = 3600.0, 86400.0, 7 * 86400.0
_LEAST_COVERAGE = 0.9

#: From so many seconds on: level, how much wider the interval is (in logarithms), what is said, what would help.
_STAGES = (
    (2 * _WEEK, "high", 0.05, "every weekday seen twice", None),
    (_WEEK, "medium", 0.08, "every weekday seen once", "a second week would show how weeks differ"),
    (_DAY, "medium", 0.12, "no whole week yet", "a week would show weekends and the busiest weekday"),
    (_HOUR, "low", 0.2, "it has seen no daily peak", "a day would show the daily peak"),
    (0.0, "low", 0.3, "right for this load, but it has seen no daily peak", "a day would show the daily peak"),
)


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure, and why.

    :ivar level: ``low``, ``medium`` or ``high``
    :ivar widening: of intervals, in logarithms: what the time not seen may hold
    :ivar missing: what would be needed for more
    """

    level: str
    reason: str
    widening: float
    missing: str | None


def confidence_of(history: History) -> Confidence:
    """By the time recorded; gaps do not count."""
    seconds = history.seconds
    _, level, widening, what, missing = next(stage for stage in _STAGES if seconds >= stage[0])
    reason = f"{_span(seconds)} recorded: {what}"
    covered = _coverage(history)
    if covered < _LEAST_COVERAGE:
        reason += f"; {1 - covered:.0%} of the time between its first and last window is missing"
    return Confidence(level, reason, widening, missing)


def _coverage(history: History) -> float:
    starts = history.column("start_unix_seconds")
    span = float(starts.max() - starts.min() + history.column("duration_seconds")[-1])
    return min(1.0, history.seconds / span) if span > 0 else 1.0


def _span(seconds: float) -> str:
    if seconds < 2 * _HOUR:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.0f} h"
    return f"{seconds / _DAY:.0f} days"
