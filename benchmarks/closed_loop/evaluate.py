"""Judge: from the baselines alone, what does the curve say of each limit, and what did the limit do?

Every segment that was recorded is in; nothing is discarded. Per cell (server, shape, limit):

    true        P95 of all its limited segments over P95 of all baselines
    raw         the product's prediction from the baselines
    normalised  the same, told by what factor k the CPU of the same requests differed in the limited
                segments: they take k times as long by themselves, and their demand meets the limit as
                today's meets q / k. What is left is the error of the model, without that of the
                machine's drifting speed
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from benchmarks.closed_loop.segments import Segment, path_of, read, unpacked
from benchmarks.closed_loop.servers import SERVERS, Server
from benchmarks.closed_loop.shapes import SHAPES
from profiles.histogram import LATENCY, Histogram
from profiles.limit_bank import LimitBank
from recommender.curve import HeadroomCurve, fit_curve
from recommender.evidence import Evidence, Observation

RESULTS = Path(__file__).parent / "results.json"
QUANTILES = (0.5, 0.95, 0.99)
BUDGETS = (0.05, 0.10, 0.20)
_UNTOUCHED = 0.005  # share of periods throttled: such a limit does nothing to a P95
LEAST_CYCLES = 6  # with fewer, the noise of a measured factor is itself not known, and every budget would seem to hold


@dataclass(frozen=True, slots=True)
class Cell:
    """One server, shape and limit.

    :ivar cost_ratio: CPU of the limited segments over that of the baselines, for the same requests
    :ivar noise: standard deviation of the logarithm of `true`, from segment to segment
    """

    server: str
    shape: str
    limit_cores: float
    over_mean: float
    seconds: float
    cost_ratio: float
    true: float
    raw: float
    upper: float
    normalised: float
    slower_cpu: float
    true_p99: float
    raw_p99: float
    normalised_p99: float
    throttled: float
    throttled_predicted: float
    throttled_normalised: float
    sharp: bool
    interval_80: tuple[float, float]
    interval_95: tuple[float, float]
    noise: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The grid limit chosen for a budget, from the baselines alone, and what it truly did."""

    server: str
    shape: str
    budget: float
    chosen_cores: float | None
    measured_adds: float | None
    noise: float
    smallest_that_holds: float | None
    twice_peak_cores: float
    twice_peak_adds: float | None


def evaluate(least_cycles: int = LEAST_CYCLES) -> None:
    """Print every cell and the summary; write results.json, but for a first look at fewer cycles than that takes."""
    cells: list[Cell] = []
    choices: list[Choice] = []
    for server in SERVERS:
        for shape in SHAPES:
            segments = list(read(path_of(server.name, shape)))
            cycles = sum(each.limit_cores is None for each in segments)
            if cycles < least_cycles:
                print(f"{server.name} {shape}: {cycles} of at least {least_cycles} cycles: not judged yet")
                continue
            own = cells_of(server, shape, segments)
            cells.extend(own)
            choices.extend(_choices(server, shape, segments, own))
    if not cells:
        print("nothing to judge yet; go on with: make closed-loop")
        return
    for cell in cells:
        print(_line(cell))
    summary = summarise(cells, choices)
    print(json.dumps(summary, indent=2))
    if least_cycles < LEAST_CYCLES:
        return
    document = {
        "summary": summary,
        "cells": [asdict(each) for each in cells],
        "choices": [asdict(each) for each in choices],
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")


def curve_of(baselines: Sequence[Segment]) -> HeadroomCurve:
    """What the product makes of the baselines: their latencies, the agent's own bank, the drift of cost."""
    observations = [
        Observation(
            Histogram.of(LATENCY, (float(each) * 1e-6 for each in unpacked(segment.latencies_us))),
            LimitBank.from_bytes(base64.b64decode(segment.bank or "")),
            segment.cpu_seconds,
            segment.seconds,
        )
        for segment in baselines
    ]
    curve = fit_curve(Evidence.of(observations), drift_of(baselines), QUANTILES)
    if curve is None:
        raise RuntimeError("no curve")
    return curve


def drift_of(baselines: Sequence[Segment]) -> float:
    """As recommender.demand.cost_drift, over segments."""
    costs = np.log([segment.cpu_seconds / segment.requests for segment in baselines])
    return max(0.03, float(np.std(costs)))


def cells_of(server: Server, shape: str, segments: Sequence[Segment]) -> list[Cell]:
    baselines = [each for each in segments if each.limit_cores is None]
    curve, free, noise = curve_of(baselines), _pooled(baselines), noise_of(baselines) / 2
    mean = sum(each.cpu_seconds for each in baselines) / sum(each.seconds for each in baselines)
    cells = []
    for limit in sorted({each.limit_cores for each in segments if each.limit_cores}):
        limited = [each for each in segments if each.limit_cores == limit]
        ratio = sum(each.cpu_seconds for each in limited) / sum(each.cpu_seconds for each in baselines)
        true = {level: float(np.quantile(_pooled(limited), level) / np.quantile(free, level)) for level in QUANTILES}
        periods = sum(each.periods or 0 for each in limited)
        nearest = min(curve.points, key=lambda point: abs(np.log(point.limit_cores / limit)))
        cells.append(
            Cell(
                server.name,
                shape,
                limit,
                limit / mean,
                sum(each.seconds for each in limited),
                ratio,
                true[0.95],
                1 + curve.adds_at(limit, 0.95),
                1 + curve.adds_at(limit, 0.95, upper=True),
                ratio * (1 + curve.adds_at(limit / ratio, 0.95)),
                _slower_cpu(limit, mean, server.parallel),
                true[0.99],
                1 + curve.adds_at(limit, 0.99),
                ratio * (1 + curve.adds_at(limit / ratio, 0.99)),
                sum(each.throttled_periods or 0 for each in limited) / max(1, periods),
                curve.throttled_at(limit),
                curve.throttled_at(limit / ratio),
                nearest.sharp and limit >= 1.6 * mean,
                curve.interval(limit, 0.95, 0.80),
                curve.interval(limit, 0.95, 0.95),
                noise,
            )
        )
    return cells


def summarise(cells: Sequence[Cell], choices: Sequence[Choice]) -> dict[str, object]:
    """The figures that the issue asks for."""
    groups: dict[str, Callable[[Cell], bool]] = {
        "all": lambda _: True,
        "inside the gate": lambda cell: cell.sharp,
        "factor under 2.2": lambda cell: cell.true < 2.2,
        "factor under 1.3": lambda cell: cell.true < 1.3,
    }
    made = [each for each in choices if each.chosen_cores is not None and each.measured_adds is not None]
    held = [each for each in made if (each.measured_adds or 0.0) <= each.budget + each.noise]
    tight = [
        each
        for each in made
        if each.smallest_that_holds and (each.chosen_cores or 0) <= 1.31 * each.smallest_that_holds
    ]
    return {
        "cells": len(cells),
        "seconds_per_limit": min((cell.seconds for cell in cells), default=0.0),
        "gate_share": _round(np.mean([cell.sharp for cell in cells])),
        "p95_error": {
            name: {
                "cells": sum(map(chosen, cells)),
                **{
                    model: _errors([(getattr(cell, model), cell.true) for cell in cells if chosen(cell)])
                    for model in ("raw", "normalised", "slower_cpu")
                },
            }
            for name, chosen in groups.items()
        },
        "untouched": _untouched([cell.true for cell in cells if cell.throttled <= _UNTOUCHED]),
        "p99_error": {
            model: _errors([(getattr(cell, f"{model}_p99"), cell.true_p99) for cell in cells])
            for model in ("raw", "normalised")
        },
        "throttled_share_error": {
            "raw": _round(np.mean([abs(cell.throttled_predicted - cell.throttled) for cell in cells])),
            "normalised": _round(np.mean([abs(cell.throttled_normalised - cell.throttled) for cell in cells])),
        },
        "interval_holds": {
            name: _round(np.mean([_within(cell, getattr(cell, name)) for cell in cells]))
            for name in ("interval_80", "interval_95")
        }
        | {
            f"{name}_with_the_noise_of_the_truth": _round(
                np.mean([_within(cell, _widened(cell, getattr(cell, name), level)) for cell in cells])
            )
            for name, level in (("interval_80", 0.80), ("interval_95", 0.95))
        },
        "upper_bound_holds": _round(np.mean([cell.true <= cell.upper for cell in cells if cell.sharp])),
        "budgets": {
            "made": len(made),
            "inside_budget_and_noise": len(held),
            "at_most_1.3_times_the_smallest": len(tight),
            "no_limit_chosen": len(choices) - len(made),
            "twice_peak_inside": sum(
                each.twice_peak_adds is not None and each.twice_peak_adds <= each.budget + each.noise
                for each in choices
            ),
        },
    }


def _choices(server: Server, shape: str, segments: Sequence[Segment], cells: Sequence[Cell]) -> list[Choice]:
    baselines = [each for each in segments if each.limit_cores is None]
    noise = noise_of(baselines)
    # the peak that a scrape every second would see
    peak = max(
        float(bins[: len(bins) // 100 * 100].reshape(-1, 100).sum(axis=1).max()) / 1e6 for bins in map(_bins, baselines)
    )
    twice = next((cell for cell in cells if cell.limit_cores >= 2 * peak), None)
    choices = []
    for budget in BUDGETS:
        chosen = next((cell for cell in cells if cell.sharp and cell.upper - 1 <= budget), None)
        holding: float | None = None
        for cell in reversed(cells):
            if cell.true - 1 > budget + noise:
                break
            holding = cell.limit_cores
        choices.append(
            Choice(
                server.name,
                shape,
                budget,
                chosen.limit_cores if chosen else None,
                chosen.true - 1 if chosen else None,
                noise,
                holding,
                2 * peak,
                twice.true - 1 if twice else None,
            )
        )
    return choices


def noise_of(baselines: Sequence[Segment]) -> float:
    """Two standard deviations of the ratio of two P95 of as many segments: the noise of a measured factor."""
    if len(baselines) < 2:
        return float("inf")
    chance = np.random.default_rng(5)
    latencies = [unpacked(each.latencies_us) for each in baselines]
    draws = [
        np.quantile(
            np.concatenate([latencies[index] for index in chance.integers(len(latencies), size=len(latencies))]), 0.95
        )
        for _ in range(200)
    ]
    return float(2 * np.sqrt(2) * np.std(np.log(draws)))


def _widened(cell: Cell, interval: tuple[float, float], level: float) -> tuple[float, float]:
    """The interval of what would be measured: the truth is known with its own noise."""
    reach, middle = float(ndtri((1 + level) / 2)) * cell.noise, np.log(cell.raw)
    low, high = (np.log1p(each) for each in interval)
    return float(np.expm1(middle - np.hypot(middle - low, reach))), float(
        np.expm1(middle + np.hypot(high - middle, reach))
    )


def _within(cell: Cell, interval: tuple[float, float]) -> bool:
    """Whether the measured factor is inside; a quarter of a percent is no overhead."""
    return interval[0] - 0.0025 <= cell.true - 1 <= interval[1] + 0.0025


def _slower_cpu(limit: float, mean: float, parallel: int) -> float:
    """A limit as a slower CPU: time in an M/M/1 queue served at `limit` over that at `parallel` cores."""
    if limit >= parallel:
        return 1.0
    return float((parallel - mean) / max(limit - mean, 1e-3))


def _pooled(segments: Sequence[Segment]) -> np.ndarray:
    return np.concatenate([unpacked(each.latencies_us) for each in segments])


def _bins(segment: Segment) -> np.ndarray:
    return unpacked(segment.bins_us or "")


def _errors(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    errors = [abs(predicted / true - 1) for predicted, true in pairs]
    return {"mean": _round(np.mean(errors)), "median": _round(np.median(errors))} if errors else {}


def _untouched(factors: Sequence[float]) -> dict[str, float]:
    """Limits that throttled nothing: their true factor is 1, so this is the error of the measurement alone."""
    return {
        "cells": len(factors),
        "mean": _round(np.mean([abs(each - 1) for each in factors])),
        "below_one": _round(np.mean([each < 1 for each in factors])),
    }


def _round(value: float | np.floating) -> float:
    return round(float(value), 4)


def _line(cell: Cell) -> str:
    return (
        f"{cell.server:9}{cell.shape:9} {cell.limit_cores:5.2f} q/rho {cell.over_mean:4.2f} "
        f"cost x{cell.cost_ratio:.3f} "
        f"true {cell.true:6.3f} raw {cell.raw:6.3f} norm {cell.normalised:6.3f} upper {cell.upper:7.3f} "
        f"slow {cell.slower_cpu:6.2f} thr {cell.throttled:.3f} pred {cell.throttled_predicted:.3f} "
        f"{'sharp' if cell.sharp else ''}"
    )
