"""How many nodes of one type pods need: CPU, memory and number of pods together (vector bin packing).

    pods of the same size are one item   --first fit decreasing, in several orders-->  a packing
                                         --column generation (Gilmore and Gomory)-->   a lower bound, and patterns
    patterns + bound                     --integer programme over patterns-->          a better packing, if there is one

The answer says how good it is: no packing can use fewer than `at_least` nodes. Of many sizes the bound is that of the
sums alone, and first fit is good enough: the more pods fit on a node, the closer it comes.

References: P. Gilmore, R. Gomory, A linear programming approach to the cutting-stock problem, Operations Research 9
(1961); R. Panigrahy et al., Heuristics for vector bin packing (2011), for the orders.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import LinearConstraint, linprog, milp

_EPS = 1e-9
_MOST_SIZES, _MOST_PODS = 60, 3000  # of which patterns are generated
_FEW_SIZES = 200  # that every order is tried with
_MOST_ROUNDS, _OTHERS = 400, 60
_REDUCED_COST = 1e-6
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, slots=True)
class Size:
    """Pods that need the same.

    :ivar needs: (d,) of each resource of a node: cores, bytes, one pod
    """

    needs: tuple[float, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Packing:
    """Nodes of one type.

    :ivar nodes: each the number of pods of every size on it, in the order of the sizes given
    :ivar at_least: fewer nodes cannot hold them
    :ivar too_large: places of the sizes that fit no node at all; they are in no node
    """

    nodes: tuple[tuple[int, ...], ...]
    at_least: int
    too_large: tuple[int, ...]

    @property
    def number(self) -> int:
        """How many nodes."""
        return len(self.nodes)


def pack(sizes: Sequence[Size], capacity: Sequence[float], budget_seconds: float = 3.0) -> Packing:
    """The fewest nodes found, and the fewest that there can be.

    The same sizes give the same packing, unless the time is over before.

    :param capacity: (d,) what a node has for pods
    :param budget_seconds: after which no further patterns are looked for
    """
    needs, counts = _shares(sizes, capacity)
    too_large = (needs > 1 + _EPS).any(axis=1)
    left = np.flatnonzero(~too_large & (counts > 0))
    if not len(left):
        return Packing((), 0, tuple(map(int, np.flatnonzero(too_large))))
    shares, wanted = needs[left], counts[left]
    nodes = _first_fit(shares, wanted)
    bound = _bound_of_sums(shares, wanted)
    if budget_seconds and len(nodes) > bound and len(left) <= _MOST_SIZES and wanted.sum() <= _MOST_PODS:
        nodes, bound = _improved(shares, wanted, nodes, bound, budget_seconds)
    whole = np.zeros((len(nodes), len(sizes)), dtype=int)
    whole[:, left] = nodes
    return Packing(tuple(tuple(map(int, row)) for row in whole), bound, tuple(map(int, np.flatnonzero(too_large))))


def _shares(sizes: Sequence[Size], capacity: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Needs as shares of a node, (n, d), and counts; infinite where there is nothing of what is needed."""
    needs = np.array([each.needs for each in sizes], dtype=float).reshape(len(sizes), len(capacity))
    room = np.array(capacity, dtype=float)
    shares = np.divide(needs, room, out=np.where(needs > 0, np.inf, 0.0), where=room > 0)
    return shares, np.array([each.count for each in sizes], dtype=int)


def at_least(sizes: Sequence[Size], capacity: Sequence[float]) -> int:
    """The fewest nodes that the sums alone allow; sizes that fit no node are left out."""
    shares, wanted = _shares(sizes, capacity)
    fits = (shares <= 1 + _EPS).all(axis=1) & (wanted > 0)
    return _bound_of_sums(shares[fits], wanted[fits]) if fits.any() else 0


def _bound_of_sums(shares: np.ndarray, wanted: np.ndarray) -> int:
    """No node holds more than all of itself; and of pods larger than half a node each needs its own."""
    sums = math.ceil(float((shares * wanted[:, None]).sum(axis=0).max()) - 1e-6)
    halves = int((wanted[:, None] * (shares > 0.5 + _EPS)).sum(axis=0).max())
    return max(1, sums, halves)


def _first_fit(shares: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The best of several orders: by the largest share, the sum, each resource, and by what is scarce."""
    scarce = (shares * wanted[:, None]).sum(axis=0)
    scarce = scarce / max(scarce.sum(), _EPS)
    keys = [shares.max(axis=1), shares @ scarce, shares.sum(axis=1)]
    if len(wanted) <= _FEW_SIZES:
        keys += [np.square(shares).sum(axis=1), *shares.T]
    found = [_placed(shares, wanted, np.argsort(-key, kind="stable")) for key in keys]
    found.append(_filled(shares, wanted, scarce))
    return min(found, key=len)


def _placed(shares: np.ndarray, wanted: np.ndarray, order: np.ndarray) -> np.ndarray:
    """First fit: size by size into the open nodes, as many into each as it takes."""
    free = np.ones((0, shares.shape[1]))
    nodes = np.zeros((0, len(wanted)), dtype=int)
    for item in order:
        need, left = shares[item], int(wanted[item])
        if len(free):
            room = _room(free, need)
            taken = np.minimum(room, np.maximum(0, left - np.concatenate([[0], np.cumsum(room)[:-1]])))
            free, left = free - taken[:, None] * need, left - int(taken.sum())
            nodes[:, item] += taken
        if left:
            each = int(_room(np.ones((1, len(need))), need)[0])
            number = -(-left // each)
            taken = np.full(number, each)
            taken[-1] = left - each * (number - 1)
            opened = np.zeros((number, len(wanted)), dtype=int)
            opened[:, item] = taken
            nodes = np.vstack([nodes, opened])
            free = np.vstack([free, 1 - taken[:, None] * need])
    return nodes


def _filled(shares: np.ndarray, wanted: np.ndarray, scarce: np.ndarray) -> np.ndarray:
    """Node by node: always what fits best to what is left of it (the dot product of need and room)."""
    left, nodes = wanted.copy(), []
    while left.sum():
        free, node = np.ones(shares.shape[1]), np.zeros(len(wanted), dtype=int)
        while True:
            fits = (left > 0) & (shares <= free + _EPS).all(axis=1)
            if not fits.any():
                break
            item = int(np.argmax(np.where(fits, shares @ (free * scarce), -1.0)))
            number = min(int(left[item]), max(1, int(_room(free[None], shares[item])[0]) // 2))
            node[item] += number
            left[item] -= number
            free = free - number * shares[item]
        # the same node again, as often as there is enough of everything on it
        again = int((left[node > 0] // node[node > 0]).min()) + 1
        left -= node * (again - 1)
        nodes += [node] * again
    return np.array(nodes)


def _room(free: np.ndarray, need: np.ndarray) -> np.ndarray:
    """How many more of one size each node takes."""
    asked = need > 0
    if not asked.any():
        return np.full(len(free), np.iinfo(np.int32).max)
    room: np.ndarray = np.maximum(0, np.floor((free[:, asked] + _EPS) / need[asked]).min(axis=1)).astype(int)
    return room


def _improved(
    shares: np.ndarray, wanted: np.ndarray, nodes: np.ndarray, bound: int, budget_seconds: float
) -> tuple[np.ndarray, int]:
    """Better nodes where patterns give them; the bound is that of the linear programme once no pattern helps it."""
    with _silent():
        return _by_patterns(shares, wanted, nodes, bound, time.monotonic() + budget_seconds)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Some versions of HiGHS write lines about themselves to stdout, past Python, whatever they are told."""
    with _ONE_AT_A_TIME:  # there is one stdout
        if sys.stdout is not None:
            sys.stdout.flush()
        try:
            kept = os.dup(1)
        except OSError:  # it is closed
            yield
            return
        nothing = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nothing, 1)
            yield
        finally:
            ctypes.CDLL(None).fflush(None)  # C's own buffer, while it still goes nowhere
            os.dup2(kept, 1)
            os.close(kept)
            os.close(nothing)


def _by_patterns(
    shares: np.ndarray, wanted: np.ndarray, nodes: np.ndarray, bound: int, until: float
) -> tuple[np.ndarray, int]:
    patterns = np.unique(nodes, axis=0).T
    patterns = np.hstack([patterns, np.diag(np.minimum(wanted, _room_each(shares)))])
    values = np.ones(len(wanted))
    for _ in range(_MOST_ROUNDS):
        master = linprog(np.ones(patterns.shape[1]), A_ub=-patterns, b_ub=-wanted, method="highs")
        if master.status or time.monotonic() > until:
            break
        values = -np.asarray(master.ineqlin.marginals)
        column = _best_pattern(shares, wanted, values)
        if column is None or float(values @ column) <= 1 + _REDUCED_COST:
            bound = max(bound, math.ceil(float(master.fun) - 1e-6))
            break
        patterns = np.hstack([patterns, column[:, None]])
    if len(nodes) > bound:
        patterns = np.hstack([patterns, *_others(shares, wanted, values, until)])
    if len(nodes) > bound and (better := _whole(patterns, wanted, until)) is not None and len(better) < len(nodes):
        nodes = better
    return nodes, bound


def _others(shares: np.ndarray, wanted: np.ndarray, values: np.ndarray, until: float) -> list[np.ndarray]:
    """Patterns that are nearly best: those of the linear programme alone may add up to no whole packing."""
    chance, found = np.random.default_rng(1), []
    for _ in range(_OTHERS):
        if time.monotonic() > until:
            break
        column = _best_pattern(shares, wanted, values * chance.uniform(0.7, 1.3, len(values)))
        if column is not None:
            found.append(column[:, None])
    return found


def _room_each(shares: np.ndarray) -> np.ndarray:
    return np.array([_room(np.ones((1, shares.shape[1])), need)[0] for need in shares])


def _best_pattern(shares: np.ndarray, wanted: np.ndarray, values: np.ndarray) -> np.ndarray | None:
    """The node worth most at these values: an integer knapsack with one constraint per resource."""
    result = milp(
        -values,
        constraints=LinearConstraint(shares.T, -np.inf, 1 + _EPS),
        integrality=np.ones(len(values)),
        bounds=(0, wanted),
        options={"mip_rel_gap": 0.0},
    )
    if result.x is None:
        return None
    column: np.ndarray = np.round(result.x).astype(int)
    while (shares.T @ column > 1 + _EPS).any():  # the solver's tolerance is wider than a node
        column[np.argmax(np.where(column > 0, shares.max(axis=1), -1.0))] -= 1
    return column


def _whole(patterns: np.ndarray, wanted: np.ndarray, until: float) -> np.ndarray | None:
    """Whole numbers of nodes by pattern; what is there more than once too often is taken off."""
    result = milp(
        np.ones(patterns.shape[1]),
        constraints=LinearConstraint(patterns, wanted, np.inf),
        integrality=np.ones(patterns.shape[1]),
        options={"time_limit": max(0.5, until - time.monotonic())},
    )
    if result.x is None:
        return None
    used = np.repeat(patterns.T, np.round(result.x).astype(int), axis=0)
    left = wanted.copy()
    for node in used:
        np.minimum(node, left, out=node)
        left -= node
    return used[used.any(axis=1)] if not left.any() else None
