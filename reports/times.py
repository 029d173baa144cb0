"""Moments and spans as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(unix_seconds: float) -> str:
    """To the minute, in UTC.

    >>> moment(1795354449)
    '2026-11-22 13:34'
    """
    return f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%d %H:%M}"


def span(seconds: float) -> str:
    """In the largest unit of which there are two or more.

    >>> span(62), span(7200), span(14 * 86400)
    ('62 s', '2 h', '14 days')
    """
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
