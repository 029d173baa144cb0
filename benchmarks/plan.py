"""Is a capacity review right? ``python -m benchmarks.plan``: packing against an exact solver, forecasts against weeks.

Packing: small random clusters (4 to 14 sizes of pods, up to 70 pods, three resources) against OR-tools' CP-SAT, which
proves its optimum (`pip install ortools`; not one of headroom's packages), and larger ones against our own lower bound.

Forecast: rolling over the public series of two weeks and more. At each origin the plan's own question is asked of the
past alone: which multiple of the last week's peak will the next one, two or three weeks not exceed, at each certainty?
Then those weeks are looked at. Origins of one series overlap, so that every series weighs the same.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict

import numpy as np

from benchmarks.calibration_forecast import _long
from recommender.growth import _growth
from recommender.packing import Packing, Size, pack
from recommender.series import DAY_SECONDS, Series

CASES, LARGE = 200, ((60, 30), (300, 8), (1000, 6))
CERTAINTIES, WEEKS = (0.5, 0.8, 0.9, 0.95), (1, 2, 3)
_STEP_SECONDS = 10_800
_NODE = (3.92, 14.1, 30.0)


def small(chance: np.random.Generator) -> list[Size]:
    """Sizes as people write them."""
    cores = (0.1, 0.25, 0.3, 0.5, 0.7, 1.0, 1.3, 1.5, 2.0)
    return [
        Size((float(chance.choice(cores)), float(np.round(chance.uniform(0.2, 6), 1)), 1.0), int(chance.integers(1, 6)))
        for _ in range(chance.integers(4, 15))
    ]


def exact(sizes: list[Size], most: int, seconds: float = 60.0) -> tuple[int, int]:
    """The fewest nodes that CP-SAT finds, and the fewest that it proves there can be."""
    from ortools.sat.python import cp_model

    model, fine = cp_model.CpModel(), 1000
    counts = [[model.new_int_var(0, size.count, "") for _ in range(most)] for size in sizes]
    used = [model.new_bool_var("") for _ in range(most)]
    for size, row in zip(sizes, counts, strict=True):
        model.add(sum(row) == size.count)
    for node in range(most):
        for place, room in enumerate(_NODE):
            needs = (round(size.needs[place] * fine) * row[node] for size, row in zip(sizes, counts, strict=True))
            model.add(sum(needs) <= round(room * fine) * used[node])
        if node:
            model.add(used[node] <= used[node - 1])
    model.minimize(sum(used))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds, solver.parameters.num_workers = seconds, 2
    solver.solve(model)
    return round(solver.objective_value), int(np.ceil(solver.best_objective_bound - 1e-6))


def is_valid(sizes: list[Size], packing: Packing, room: tuple[float, ...]) -> bool:
    """Every pod on one node, no node overfull."""
    nodes = np.array(packing.nodes)
    needs = np.array([size.needs for size in sizes])
    placed = (nodes.sum(axis=0) == [size.count for size in sizes])[
        [p for p in range(len(sizes)) if p not in packing.too_large]
    ]
    return bool(placed.all() and (nodes @ needs <= np.array(room) + 1e-6).all())


def packing() -> dict[str, object]:
    chance = np.random.default_rng(6)
    ours = best = worse = proved = 0
    seconds = 0.0
    for _ in range(CASES):
        sizes = small(chance)
        begin = time.perf_counter()
        found = pack(sizes, _NODE)
        seconds = max(seconds, time.perf_counter() - begin)
        optimum, bound = exact(sizes, found.number)
        assert is_valid(sizes, found, _NODE)
        assert found.at_least <= optimum
        ours, best, worse = ours + found.number, best + optimum, worse + (found.number > optimum)
        proved += optimum == bound
    large = []
    for number, most in LARGE:
        sizes = [
            Size(
                (float(np.round(chance.lognormal(-1.2, 1), 3)), float(np.round(chance.lognormal(-0.3, 1), 2)), 1.0),
                int(chance.integers(1, most)),
            )
            for _ in range(number)
        ]
        begin = time.perf_counter()
        found = pack(sizes, (15.8, 60.0, 110.0))
        assert is_valid(sizes, found, (15.8, 60.0, 110.0))
        large.append(
            {
                "sizes": number,
                "pods": sum(size.count for size in sizes),
                "nodes": found.number,
                "at_least": found.at_least,
                "seconds": round(time.perf_counter() - begin, 2),
            }
        )
    return {
        "cases": CASES, "proved_by_the_solver": proved, "nodes": ours, "optimum": best, "cases_with_more": worse,
        "slowest_seconds": round(seconds, 2), "large": large,
    }  # fmt: skip


def coarse(series: Series) -> Series:
    """As a timeline has it: means of three hours."""
    known = series.without_missing()
    place = (known.unix_seconds // _STEP_SECONDS).astype(int)
    steps, index = np.unique(place, return_inverse=True)
    return Series.of(series.name, steps * float(_STEP_SECONDS), np.bincount(index, known.values) / np.bincount(index))


def forecasts() -> dict[str, dict[str, object]]:
    """By weeks ahead: series, origins, and how often each certainty held, every series weighing the same."""
    held: dict[int, dict[str, list[list[bool]]]] = {weeks: defaultdict(list) for weeks in WEEKS}
    for case in _long():
        series = coarse(case.series)
        begin, end = float(series.unix_seconds[0]), float(series.unix_seconds[-1])
        for weeks in WEEKS:
            origin = begin + 7 * DAY_SECONDS
            while origin + weeks * 7 * DAY_SECONDS <= end + _STEP_SECONDS:
                past, came = series.before(origin), series.between(origin, origin + weeks * 7 * DAY_SECONDS)
                growth = _growth(past, weeks * 7) if len(past.known) > 7 else None
                recent = past.since(origin - 7 * DAY_SECONDS).known
                if growth is not None and len(came.known) > 20 and len(recent) and recent.max() > 0:
                    truth = float(came.known.max() / recent.max())
                    held[weeks][series.name].append(
                        [truth <= growth.highest(each, weeks * 7) * (1 + 1e-9) for each in CERTAINTIES]
                    )
                origin += DAY_SECONDS
    found: dict[str, dict[str, object]] = {}
    for weeks, by_series in held.items():
        means = np.array([np.mean(rows, axis=0) for rows in by_series.values()])
        found[str(weeks)] = {
            "series": len(by_series),
            "origins": sum(map(len, by_series.values())),
            "held": {
                f"{each:.0%}": round(float(share), 3)
                for each, share in zip(CERTAINTIES, means.mean(axis=0), strict=True)
            },
        }
    return found


def measure() -> dict[str, object]:
    return {"packing": packing(), "forecast": forecasts()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["packing", "forecast"])
    only = parser.parse_args().only
    found = {"packing": packing, "forecast": forecasts}[only]() if only else measure()
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
