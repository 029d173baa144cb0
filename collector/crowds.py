"""Where a service's paths have too many children: users' names, not the names of functions.

    /users/anna  /users/bob  /users/...     most were asked for once: there will be ever more     -->  /users/*
    /rpc/Get     /rpc/Put    /rpc/List      each was asked for again and again: that is all       -->  as they are

A. Chao, Nonparametric estimation of the number of classes in a population (1984): where f1 kinds were seen once and f2
twice, at least f1 (f1 - 1) / (2 (f2 + 1)) further ones were not seen at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from collector.routes import ONE_OF_MANY, Folded

ALWAYS_APART = 10
_MOST_KINDS = 100  # there are, seen or not
_ENOUGH_REQUESTS = 100  # to tell
_STANDS_OUT = 5.0  # times as many requests as the next one: /users/me among users
_MOST_OUTSTANDING = 50


def kinds(counts: Iterable[int]) -> float:
    """How many there are, at least, after each was seen so often."""
    seen = list(counts)
    once, twice = seen.count(1), seen.count(2)
    return len(seen) + once * (once - 1) / (2 * (twice + 1))


def children_of(paths: Mapping[Folded, int]) -> dict[Folded, dict[bytes, int]]:
    """Requests by prefix and by the segment behind it."""
    found: dict[Folded, dict[bytes, int]] = defaultdict(lambda: defaultdict(int))
    for path, requests in paths.items():
        for at in range(1, len(path)):
            found[path[:at]][path[at]] += requests
    return found


def crowd(paths: Mapping[Folded, int], apart: Mapping[Folded, str], pressed: bool) -> tuple[Folded, list[bytes]] | None:
    """The shortest prefix whose children should be one, and those of them that stand out; None when all is well.

    :param paths: requests by folded path
    :param apart: prefixes whose children are one already
    :param pressed: there is hardly any room left: do not wait until there are enough requests to tell
    """
    found = children_of(paths)
    for prefix in sorted(found, key=lambda prefix: (len(prefix), prefix)):
        counts = {segment: requests for segment, requests in found[prefix].items() if segment not in (b"", ONE_OF_MANY)}
        total = sum(counts.values())
        if prefix in apart or len(counts) <= ALWAYS_APART or not (pressed or total >= _ENOUGH_REQUESTS):
            continue
        if kinds(counts.values()) > _MOST_KINDS:
            return prefix, outstanding(counts)
    return None


def outstanding(counts: Mapping[bytes, int]) -> list[bytes]:
    """Those asked for much more often than all others; a popular user is not, since others are nearly as popular."""
    order = sorted(counts, key=lambda segment: (-counts[segment], segment))
    for last in range(min(_MOST_OUTSTANDING, len(order) - 1), 0, -1):
        if counts[order[last - 1]] >= _STANDS_OUT * counts[order[last]]:
            return order[:last]
    return []
