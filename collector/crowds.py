"""Where a service's paths have too many children: users' names, not the names of functions.

    /users/anna  /users/bob  /users/...     most were asked for once: there will be ever more     -->  /users/*
    /rpc/Get     /rpc/Put    /rpc/List      each was asked for again and again: that is all       -->  as they are

A. Chao, Nonparametric estimation of the number of classes in a population (1984): where f1 kinds were seen once and f2
twice, at least f1 (f1 - 1) / (2 (f2 + 1)) further ones were not seen at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from collector.routes import ONE_OF_MANY, Folded, Merges

ALWAYS_APART = 10
_MOST_KINDS = 100  # there are, seen or not
_ENOUGH_REQUESTS = 100  # to tell
_STANDS_OUT = 5.0  # times as many requests as the next one: /users/me among users
_MOST_OUTSTANDING = 50
_DEEPEST = 12  # segments; what is longer has no names to speak of


def kinds(counts: Iterable[int]) -> float:
    """How many there are, at least, after each was seen so often."""
    seen = list(counts)
    once, twice = seen.count(1), seen.count(2)
    return len(seen) + once * (once - 1) / (2 * (twice + 1))


def may_crowd(paths: Iterable[Folded]) -> bool:
    """Whether a prefix has children enough, however often they were asked for; quick."""
    children: dict[Folded, set[bytes]] = defaultdict(set)
    for path in paths:
        for at in range(min(len(path), _DEEPEST + 1)):
            children[path[:at]].add(path[at])
    return any(kinds([1] * len(each)) > _MOST_KINDS for each in children.values())


def crowds(
    paths: Iterable[tuple[Folded, int]], merges: Merges, pressed: bool, kept: Collection[Folded] = ()
) -> dict[Folded, list[Folded]]:
    """Prefixes whose children should be one from now on, with those of them that keep their names.

    :param paths: folded paths and their requests
    :param merges: what is one already
    :param pressed: there is hardly any room left: do not wait until there are enough requests to tell
    :param kept: further prefixes that keep their names
    """
    found: dict[Folded, list[Folded]] = {}
    levels: list[tuple[Folded, list[tuple[Folded, int]]]] = [((), list(paths))]
    while levels:  # from short prefixes to long ones, so that what is merged is merged below as well
        prefix, here = levels.pop()
        children: dict[bytes, list[tuple[Folded, int]]] = defaultdict(list)
        for path, requests in here:
            if len(path) > len(prefix):
                children[path[len(prefix)]].append((path, requests))
        if prefix not in merges.shown:
            counts = {child: sum(requests for _, requests in each) for child, each in children.items()}
            counts = {child: count for child, count in counts.items() if child not in (b"", ONE_OF_MANY)}
            words = outstanding(counts) if len(counts) > ALWAYS_APART else []
            if not _is_crowd(counts, words, pressed):
                levels += [((*prefix, child), each) for child, each in children.items() if len(prefix) < _DEEPEST]
                continue
            found[prefix] = [(*prefix, child) for child in words]
        stays = {*found.get(prefix, ()), *merges.kept, *kept}
        many: list[tuple[Folded, int]] = []
        for child, each in children.items():
            if child == b"" or (*prefix, child) in stays:
                levels.append(((*prefix, child), each))
            else:
                many += [((*prefix, ONE_OF_MANY, *path[len(prefix) + 1 :]), requests) for path, requests in each]
        if len(prefix) < _DEEPEST:
            levels.append(((*prefix, ONE_OF_MANY), many))
    return found


def _is_crowd(counts: Mapping[bytes, int], words: Collection[bytes], pressed: bool) -> bool:
    """Whether there are too many without the words, which stand out: their requests say nothing of the others."""
    rest = [requests for child, requests in counts.items() if child not in words]
    return len(counts) > ALWAYS_APART and kinds(rest) > _MOST_KINDS and (pressed or sum(rest) >= _ENOUGH_REQUESTS)


def outstanding(counts: Mapping[bytes, int]) -> list[bytes]:
    """Those asked for much more often than all others; a popular user is not, since others are nearly as popular."""
    order = sorted(counts, key=lambda segment: (-counts[segment], segment))
    for last in range(min(_MOST_OUTSTANDING, len(order) - 1), 0, -1):
        if counts[order[last - 1]] >= _STANDS_OUT * counts[order[last]]:
            return order[:last]
    return []
