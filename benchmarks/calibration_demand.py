"""Do the intervals of demand contain the truth as often as they say? ``python -m benchmarks.calibration_demand``.

Synthetic workloads have a known base load and cost per request: the parameter intervals are judged by them. The
prediction intervals are judged by held-out windows: fit on the first 60 %, judge the rest, synthetic and nezha
pods (all listed faults fall into the first part: they are fitted, not judged). Constants were chosen on even
seeds and on the pods at even places of the sorted list; the table is of the others.
``tune`` as argument shows the even ones.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.stand import DATA
from recommender.demand import DemandFit, NotIdentifiable, fit_demand
from recommender.evidence import Evidence
from recommender.history import Container, History

LEVELS = (0.8, 0.95)
PODS = DATA / "nezha_pods"
TRAINED = 0.6
_NO_EVIDENCE = Evidence.of([])


@dataclass(frozen=True)
class Case:
    """How one kind of workload is made; noise and rates are per window."""

    name: str
    windows: int = 400
    base: float = 0.05
    cost: float = 0.005
    noise: float = 0.1  # of the usual usage
    memory: float = 0.0  # AR(1)
    proportional: bool = False
    outliers: float = 0.0
    lag: int = 0
    step: float = 0.0  # of the cost, after 30 % of the windows
    revisions: bool = True
    replicas: int = 1
    shape: str = "sine"


_PLAIN = Case("white noise")
CASES = (
    _PLAIN,
    replace(_PLAIN, name="short, 60 windows", windows=100),
    replace(_PLAIN, name="AR(1) 0.5", memory=0.5),
    replace(_PLAIN, name="AR(1) 0.8", memory=0.8),
    replace(_PLAIN, name="AR(1) 0.8, short", memory=0.8, windows=160),
    replace(_PLAIN, name="noise in proportion", proportional=True, memory=0.3),
    replace(_PLAIN, name="5 % outliers", outliers=0.05),
    replace(_PLAIN, name="lag of 2 windows", lag=2, memory=0.3),
    replace(_PLAIN, name="deploy +18 %", step=0.18, memory=0.3),
    replace(_PLAIN, name="step +40 %, no revision", step=0.4, memory=0.3, revisions=False, windows=600),
    replace(_PLAIN, name="3 replicas", replicas=3, memory=0.3),
    replace(_PLAIN, name="3 days of minutes", windows=4320, memory=0.5, outliers=0.02, shape="day"),
    replace(_PLAIN, name="random walk of traffic", shape="walk", memory=0.3),
    replace(_PLAIN, name="100 cores", base=20.0, cost=0.5, memory=0.3),
    replace(_PLAIN, name="1 millicore", base=0.0002, cost=0.00001, memory=0.3),
)


def history_of(frame: pd.DataFrame) -> History:
    """A history of nothing but its frame."""
    container = Container("bench", "bench", "Deployment", "bench", "bench")
    return History(container, frame, _NO_EVIDENCE, _NO_EVIDENCE, 0, {}, ())


def synthetic(case: Case, seed: int) -> pd.DataFrame:
    """Rows of one workload."""
    chance = np.random.default_rng([seed, *map(ord, case.name)])
    count, at = case.windows, np.arange(case.windows)
    if case.shape == "walk":
        rate = 40 * np.exp(0.6 * _autoregressive(chance, count, 0.97))
    else:
        period = 1440 if case.shape == "day" else chance.uniform(30, 90)
        rate = 40 + 30 * np.sin(2 * np.pi * at / period + chance.uniform(0, 6)) + 3 * chance.standard_normal(count)
    rate = np.maximum(0.0, rate)
    after = at >= 0.3 * count
    cost = case.cost * (1 + case.step * after)
    lagged = np.concatenate([np.full(case.lag, rate[0]), rate[: count - case.lag]])
    truth = case.base + cost * lagged
    parts = []
    for replica in range(case.replicas):
        noise = case.noise * _autoregressive(chance, count, case.memory)
        usage = truth * (1 + noise) if case.proportional else truth + noise * float(np.mean(truth))
        usage = usage + (chance.random(count) < case.outliers) * truth.mean() * chance.uniform(1, 4, count)
        parts.append(
            pd.DataFrame(
                {
                    "start_unix_seconds": 1.7e9 + 60.0 * at,
                    "duration_seconds": 60.0,
                    "instance": f"/{replica}",
                    "requests_per_second": rate,
                    "cpu_cores": np.maximum(0.0, usage),
                }
                | ({"revision": np.where(after, "b", "a")} if case.step and case.revisions else {})
            )
        )
    return pd.concat(parts).sort_values(["start_unix_seconds", "instance"], ignore_index=True)


def _autoregressive(chance: np.random.Generator, count: int, memory: float) -> np.ndarray:
    """AR(1) with deviation 1."""
    values, last = np.empty(count), chance.standard_normal()
    for index, shock in enumerate(chance.standard_normal(count) * np.sqrt(1 - memory**2)):
        last = values[index] = memory * last + shock
    return values


def pod_frame(path: Path) -> pd.DataFrame:
    """CPU and rate of one nezha pod by the minute."""
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    unit = 0.01 if path.name.startswith("2022") else 0.001  # OnlineBoutique counts in tens of millicores
    return pd.DataFrame(
        {
            "start_unix_seconds": [float(row["TimeStamp"]) for row in rows],
            "duration_seconds": 60.0,
            "instance": "/pod",
            "requests_per_second": [_number(row["PodWorkload(Ops)"]) for row in rows],
            "cpu_cores": [_number(row["CpuUsage(m)"]) * unit for row in rows],
        }
    )


def _number(text: str) -> float:
    return float(text) if text.strip() else float("nan")


def _split(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    starts = np.unique(frame["start_unix_seconds"])
    edge = starts[int(TRAINED * len(starts))]
    return frame[frame["start_unix_seconds"] < edge], frame[frame["start_unix_seconds"] >= edge]


def held_out(fit: DemandFit, test: pd.DataFrame) -> dict[float, float]:
    """Share of held-out windows inside the prediction interval, per level."""
    lag = fit.lag_windows
    rate = test.groupby("instance")["requests_per_second"].shift(lag).to_numpy()
    usage = test["cpu_cores"].to_numpy()
    known = np.isfinite(rate) & np.isfinite(usage)
    shares = {}
    for level in LEVELS:
        low, high = fit.predict(rate[known], level)
        shares[level] = float(np.mean((usage[known] >= low) & (usage[known] <= high)))
    return shares


def synthetic_table(seeds: list[int]) -> list[dict]:
    """One row per kind of workload: shares of intervals that contain the truth."""
    table = []
    for case in CASES:
        hits: dict[str, list[float]] = {}
        for seed in seeds:
            train, test = _split(synthetic(case, seed))
            fit = fit_demand(history_of(train))
            hits.setdefault("told", []).append(isinstance(fit, DemandFit))
            if isinstance(fit, NotIdentifiable):
                continue
            truth = {"base": case.base, "cost": case.cost * (1 + case.step)}
            for level in LEVELS:
                for (name, value), (low, high) in zip(truth.items(), fit.intervals(level), strict=True):
                    hits.setdefault(f"{name} {level:.0%}", []).append(low <= value <= high)
            for level, share in held_out(fit, test).items():
                hits.setdefault(f"windows {level:.0%}", []).append(share)
            hits.setdefault("error %", []).append(100 * abs(fit.seconds_per_request / truth["cost"] - 1))
            hits.setdefault("lag ok", []).append(fit.lag_windows == case.lag)
            hits.setdefault("regimes ok", []).append(len(fit.regimes) == 1 + bool(case.step))
        table.append({"case": case.name} | {name: float(np.mean(values)) for name, values in hits.items()})
    return table


def pods_table(parity: int | None = 1) -> list[dict]:
    """One row per nezha pod; `parity` chooses every second pod of the sorted list, None all."""
    table = []
    for index, path in enumerate(sorted(PODS.glob("*_metric.csv.gz"))):
        if parity is not None and index % 2 != parity:
            continue
        train, test = _split(pod_frame(path))
        fit = fit_demand(history_of(train))
        row: dict = {"pod": path.name.removesuffix("_metric.csv.gz").rsplit("-", 2)[0]}
        if isinstance(fit, NotIdentifiable):
            table.append(row | {"reason": fit.reason})
            continue
        expected = fit.cores_at(test["requests_per_second"].to_numpy())
        moved = float(np.nanmedian(test["cpu_cores"].to_numpy() / expected)) - 1
        shares = {f"windows {level:.0%}": share for level, share in held_out(fit, test).items()}
        table.append(row | shares | {"r2": fit.r_squared, "regimes": len(fit.regimes), "moved": moved})
    return table


def timing() -> dict[str, float]:
    """Milliseconds of one fit of 14 days of minutes; least of five."""
    found = {}
    for name, case in {
        "14 days, 1 replica": replace(_PLAIN, windows=20160, memory=0.5, shape="day"),
        "14 days, deploy": replace(_PLAIN, windows=20160, memory=0.5, shape="day", step=0.18),
        "14 days, 3 replicas": replace(_PLAIN, windows=20160, memory=0.5, shape="day", replicas=3),
        "1 hour": replace(_PLAIN, windows=60),
    }.items():
        history, times = history_of(synthetic(case, 1)), []
        for _ in range(5):
            before = time.perf_counter()
            fit_demand(history)
            times.append(time.perf_counter() - before)
        found[name] = 1e3 * min(times)
    return found


def measure(workloads: int = 60, parity: int = 1) -> dict:
    """Everything: `workloads` per kind; parity 1 reports, 0 is for tuning."""
    rows = synthetic_table([2 * index + parity for index in range(workloads)])
    pods = pods_table(parity)
    told = [row for row in pods if "reason" not in row]
    names = [f"{what} {level:.0%}" for what in ("base", "cost", "windows") for level in LEVELS]
    return {
        "workloads": workloads * len(CASES),
        "overall": {name: float(np.mean([row[name] for row in rows if name in row])) for name in names},
        "cases": rows,
        "pods": {f"windows {level:.0%}": _mean([row[f"windows {level:.0%}"] for row in told]) for level in LEVELS}
        | {"told": len(told), "refused": len(pods) - len(told)},
        "pod": pods,
        "milliseconds": timing(),
    }


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def show(rows: list[dict]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    width = max(len(str(row[columns[0]])) for row in rows)
    print(f"{columns[0]:{width}}  " + "  ".join(f"{name:>11}" for name in columns[1:] if name != "reason"))
    for row in rows:
        cells = "  ".join(f"{row[name]:11.3f}" if name in row else " " * 11 for name in columns[1:] if name != "reason")
        print(f"{row[columns[0]]:{width}}  {cells}  {row.get('reason', '')}".rstrip())


def main() -> dict:
    parity = 0 if "tune" in sys.argv[1:] else 1
    result = measure(parity=parity)
    show(result["cases"])
    print("overall", json.dumps(result["overall"]))
    if result["pod"]:
        show(result["pod"])
        print("pods", json.dumps(result["pods"]))
    print("milliseconds per container", json.dumps(result["milliseconds"]))
    return result


if __name__ == "__main__":
    main()
