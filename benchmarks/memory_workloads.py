"""Memory as it was recorded (kruize, Nezha) and as it is made up, seeded: what the benchmark of memory is scored on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from benchmarks.stand import DATA
from recommender.series import DAY_SECONDS, Series

MIB = 2.0**20
DAYS, STEP = 15, 300.0
SEED = 20240


@dataclass(frozen=True)
class Workload:
    """One series with what is known of it.

    :ivar periods: (now, end) of each origin
    :ivar starts: indexes at which a new life begins, known to the generator alone
    """

    kind: str
    name: str
    series: Series
    periods: list[tuple[float, float]]
    starts: list[int] = field(default_factory=list)


# --- generated ---------------------------------------------------------------


def generate(kind: str, seed: int, leak_percent: float = 0.0) -> Workload:
    """A workload of one kind; with a leak, that grows with the age of the container."""
    chance = np.random.default_rng([SEED, seed, sorted(KINDS).index(kind)])
    n = int(DAYS * DAY_SECONDS / STEP)
    day = np.arange(n) * STEP / DAY_SECONDS
    level = float(np.exp(chance.uniform(np.log(60), np.log(4000)))) * MIB
    shape, starts = KINDS[kind](chance, day)
    shape = shape * (1 + 0.004 * chance.standard_normal(n))
    if leak_percent:
        age = day - day[np.maximum.accumulate(np.where(np.isin(np.arange(n), starts), np.arange(n), 0))]
        shape = shape + leak_percent / 100 * age * np.median(shape)
    times = 1.7e9 + day * DAY_SECONDS
    origins = [(1.7e9 + each * DAY_SECONDS, 1.7e9 + (each + 1) * DAY_SECONDS) for each in range(1, DAYS)]
    return Workload(kind, f"{kind}-{seed}", Series.of(f"{kind}-{seed}", times, level * shape), origins, starts)


def _flat(chance: np.random.Generator, day: np.ndarray) -> tuple[np.ndarray, list[int]]:
    return 1 + 0.01 * _wander(chance, len(day), 0.2), []


def _wandering(chance: np.random.Generator, day: np.ndarray) -> tuple[np.ndarray, list[int]]:
    return np.exp(chance.uniform(0.02, 0.06) * _wander(chance, len(day), chance.uniform(0.5, 2))), []


def _diurnal(chance: np.random.Generator, day: np.ndarray) -> tuple[np.ndarray, list[int]]:
    height = chance.uniform(0.1, 0.5) * np.exp(0.08 * chance.standard_normal(DAYS))[day.astype(int)]
    weekend = np.where((day.astype(int) + chance.integers(7)) % 7 < 2, chance.uniform(0.4, 1.0), 1.0)
    wave = 0.5 - 0.5 * np.cos(2 * np.pi * (day + chance.uniform()))
    return 1 + height * weekend * wave + 0.01 * _wander(chance, len(day), 0.1), []


def _cache(chance: np.random.Generator, day: np.ndarray) -> tuple[np.ndarray, list[int]]:
    filled = 1 - np.exp(-day / chance.uniform(0.2, 3.0))
    return 1 + chance.uniform(0.3, 2.0) * filled + 0.01 * _wander(chance, len(day), 0.2), []


def _steps(chance: np.random.Generator, day: np.ndarray) -> tuple[np.ndarray, list[int]]:
    at = int(len(day) * chance.uniform(0.2, 0.85))
    factor = 1 + chance.choice([-1, 1]) * chance.uniform(0.05, 0.35)
    shape = np.where(np.arange(len(day)) < at, 1.0, factor) * (1 + 0.015 * _wander(chance, len(day), 0.1))
    shape[at : at + 3] *= (0.4, 0.7, 0.9)
    return shape, [at]


def _jvm(chance: np.random.Generator, day: np.ndarray) -> tuple[np.ndarray, list[int]]:
    cycle = chance.uniform(0.03, 0.3)
    live, heap = chance.uniform(0.35, 0.6), 1 - 0.3 * np.exp(-day / chance.uniform(0.1, 0.6))
    phase = (day / cycle + 0.05 * _wander(chance, len(day), 0.5)) % 1
    top = 1 - 0.06 * np.abs(_wander(chance, len(day), 0.05))
    return 0.25 + heap * (live + (top - live) * phase), []


def _restarts(chance: np.random.Generator, day: np.ndarray) -> tuple[np.ndarray, list[int]]:
    starts = np.cumsum(chance.uniform(1.5, 6.0, size=12))
    starts = [int(each * DAY_SECONDS / STEP) for each in starts if each < DAYS - 0.1]
    shape, spike = 1 + 0.015 * _wander(chance, len(day), 0.1), chance.uniform(0.8, 1.5)
    warm = chance.uniform(0.02, 0.3)
    for start in starts:
        age = day[start:] - day[start]
        shape[start:] = np.where(age < 12 * warm, shape[start:] * (1 - 0.5 * np.exp(-age / warm)), shape[start:])
        shape[start : start + 2] = spike * chance.uniform(0.97, 1.03)
    return shape, starts


def _bursts(chance: np.random.Generator, day: np.ndarray) -> tuple[np.ndarray, list[int]]:
    shape = 1 + 0.01 * _wander(chance, len(day), 0.2)
    for _ in range(chance.poisson(chance.uniform(1, 8) * DAYS)):
        start, long = chance.integers(len(day)), chance.integers(1, 18)
        shape[start : start + long] *= 1 + min(0.8, 0.25 * float(np.exp(0.35 * chance.standard_normal())))
    return np.minimum(shape, 2.2), []


def _wander(chance: np.random.Generator, n: int, days: float) -> np.ndarray:
    """Autocorrelated noise of standard deviation one: it forgets within `days`."""
    keep = float(np.exp(-STEP / DAY_SECONDS / days))
    steps = np.sqrt(1 - keep**2) * chance.standard_normal(n)
    out = np.empty(n)
    out[0] = chance.standard_normal()
    for index in range(1, n):
        out[index] = keep * out[index - 1] + steps[index]
    return out


KINDS: dict[str, Callable[[np.random.Generator, np.ndarray], tuple[np.ndarray, list[int]]]] = {
    "flat": _flat,
    "diurnal": _diurnal,
    "cache": _cache,
    "steps": _steps,
    "jvm": _jvm,
    "restarts": _restarts,
    "bursts": _bursts,
    "wander": _wandering,
}


# --- recorded ----------------------------------------------------------------


def kruize() -> list[Workload]:
    """Highest usage and highest RSS per interval of each container; tfbresults is tfb-qrh once more."""
    found = []
    for path in sorted((DATA / "kruize_containers").glob("*.csv.gz")):
        frame = pd.read_csv(path)
        if "tfbresults" in path.name:
            continue
        start = next(name for name in ("interval_start", "start_timestamp") if name in frame)
        text = frame[start].str.replace(" +0000 UTC", "", regex=False).str.replace(r"UTC (\d{4})$", r"\1", regex=True)
        unix = pd.to_datetime(text, utc=True, format="mixed").astype("datetime64[ns, UTC]").astype("int64") / 1e9
        for name in frame.columns:
            if re.fullmatch(r"memory_(rss_)?usage_\w+_max", name):
                series = Series.of(f"{path.name.split('_')[0]} {name}", unix.to_numpy(), frame[name].to_numpy(float))
                found.append(Workload("kruize", series.name, series, _days(series)))
    return found


def nezha() -> list[Workload]:
    """Working set of each pod that reports one; sub-day periods."""
    found = []
    for path in sorted((DATA / "nezha_pods").glob("*_metric.csv.gz")):
        frame = pd.read_csv(path)
        used = frame["MemoryUsage(Mi)"].to_numpy(float) * MIB
        if not (used > 0).any():
            continue
        clock = pd.to_datetime(frame["Time"].str.slice(0, 19), utc=True).astype("datetime64[ns, UTC]")
        series = Series.of(path.name.split("-")[3] + path.name[:10], clock.astype("int64").to_numpy() / 1e9, used)
        first, last = series.unix_seconds[[0, -1]]
        edges = np.linspace(first + 0.4 * (last - first), last + 1, 4)
        periods = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
        found.append(Workload("nezha", series.name, series, periods))
    return found


def _days(series: Series) -> list[tuple[float, float]]:
    """Days that were mostly seen, after at least one such day in the week before."""
    origins = np.arange(series.unix_seconds[0] + DAY_SECONDS, series.unix_seconds[-1], DAY_SECONDS)
    return [
        (float(now), float(now + DAY_SECONDS))
        for now in origins
        if len(series.between(now, now + DAY_SECONDS).known) >= 48 and len(series.between(now - 7 * DAY_SECONDS, now))
    ]
