"""Do forecast intervals contain what came as often as they say? ``python -m benchmarks.calibration_forecast``.

Rolling origin over public series and 128 generated ones; each origin sees its past only. Constants were
tuned on every second series (`--half dev`); the table is of the others. A cell is coverage in percent,
pooled over series: every (series, origin) of a family weighs the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.stand import DATA
from recommender.forecast import Forecast, forecast
from recommender.series import DAY_SECONDS, Series

LEVELS = (0.8, 0.95)
DAYS_AHEAD = (1, 7)
KINDS = ("flat", "diurnal", "weekly", "trend", "wander", "bursts", "holidays", "steps")
SEEDS = 16


@dataclass(frozen=True, slots=True)
class Case:
    family: str
    series: Series
    origins_days: tuple[float, ...]


def generated(kind: str, seed: int, days: int = 28) -> Series:
    """Five-minute samples whose truth is known: `kind` on top of autocorrelated noise."""
    chance = np.random.default_rng([KINDS.index(kind), seed])
    per_day = 288
    day = np.arange(days * per_day) / per_day
    noise = _autoregressive(chance, len(day), 0.9) * chance.uniform(0.02, 0.15)
    z = noise + np.repeat(chance.normal(0, chance.uniform(0.01, 0.06), days), per_day)
    depth, phase = chance.uniform(0.2, 1.0), chance.random()
    if kind != "flat":
        z += depth * np.sin(2 * np.pi * (day + phase)) + 0.3 * depth * np.sin(4 * np.pi * (day + phase))
    if kind in {"weekly", "holidays"}:
        z -= chance.uniform(0.2, 0.8) * (np.floor(day + seed) % 7 >= 5)
    if kind == "trend":
        z += np.log(chance.uniform(0.85, 1.25)) * day / 7
    if kind == "wander":
        z += np.repeat(np.cumsum(chance.normal(0, chance.uniform(0.03, 0.10), days)), per_day)
    if kind == "bursts":
        z += np.repeat((chance.random(days * 96) < chance.uniform(0.005, 0.05)) * chance.exponential(1.0, days * 96), 3)
    if kind == "holidays":
        for holiday in chance.choice(days, 2, replace=False):
            z[holiday * per_day : (holiday + 1) * per_day] -= chance.uniform(0.4, 0.8)
    if kind == "steps":
        for step in chance.choice(np.arange(3, days), 2, replace=False):
            z[step * per_day :] += chance.choice([-1, 1]) * chance.uniform(0.25, 0.7)
    return Series.of(f"{kind}-{seed:02d}", 1.7e9 + 300.0 * np.arange(len(day)), np.exp(z) * 10 ** chance.uniform(-2, 2))


def _autoregressive(chance: np.random.Generator, count: int, memory: float) -> np.ndarray:
    values = chance.standard_normal(count) * np.sqrt(1 - memory**2)
    for place in range(1, count):
        values[place] += memory * values[place - 1]
    return values


def cases(half: str) -> Iterator[Case]:
    """Every second series of each family: `dev` to tune with, `test` to report."""
    families: dict[str, list[Case]] = {}
    for case in _all():
        families.setdefault(case.family, []).append(case)
    for members in families.values():
        ordered = sorted(members, key=lambda case: case.series.name)
        yield from ordered[0 if half == "dev" else 1 :: 2]


def _all() -> Iterator[Case]:
    yield from _long()
    yield from _hours()
    for kind in KINDS:
        for seed in range(SEEDS):
            yield Case(f"made: {kind}", generated(kind, seed), (1.0, 2.0, 4.0, 8.0, 13.0, 16.0, 20.5))


def _long() -> Iterator[Case]:
    """One to nine weeks: an origin a day."""
    for family in ("crane_dsp", "nab_aws"):
        for path in sorted((DATA / family).glob("*.csv.gz")):
            if "latency" not in path.name and "grok" not in path.name:
                yield _daily(family, _csv(path))
    for path in sorted((DATA / "kruize_containers").glob("*.csv.gz")):
        if "namespace" not in path.name and "15day" not in path.name:
            yield _daily("kruize", _kruize(path))


def _hours() -> Iterator[Case]:
    """15 to 49 hours: two origins."""
    for path in sorted((DATA / "nezha_pods").glob("*_metric.csv.gz")):
        frame = pd.read_csv(path)
        times = pd.to_datetime(frame["Time"].str.slice(0, 19)).astype("datetime64[s]").astype("int64").to_numpy()
        yield Case("nezha RPS", Series.of(path.name, times, frame["PodWorkload(Ops)"].to_numpy()), (0.3, 0.5))
    for path in sorted((DATA / "petshop").glob("*.csv.gz")):
        frame = pd.read_csv(path, header=[0, 1, 2], index_col=0)
        for name, column in frame.xs(("requests", "Sum"), axis=1, level=(1, 2)).items():
            series = Series.of(f"{name} {path.name}", frame.index.to_numpy(dtype=float), column.to_numpy(dtype=float))
            if len(series.known) > 500:
                yield Case("petshop", series, (0.5, 1.0))


def _daily(family: str, series: Series) -> Case:
    return Case(family, series, tuple(float(day) for day in range(1, min(40, int(series.days)))))


def _csv(path: Path) -> Series:
    frame = pd.read_csv(path)
    times = frame.iloc[:, 0]
    seconds = times if times.dtype.kind in "if" else pd.to_datetime(times).astype("datetime64[s]").astype("int64")
    return Series.of(path.name.split(".")[0], seconds.to_numpy(dtype=float), frame["value"].to_numpy(dtype=float))


def _kruize(path: Path) -> Series:
    frame = pd.read_csv(path)
    begins = frame["interval_start"].str.replace(" +0000 UTC", "", regex=False)
    seconds = pd.to_datetime(begins, format="mixed", utc=True).dt.tz_localize(None)
    times = seconds.astype("datetime64[s]").astype("int64").to_numpy()
    return Series.of(path.name.split("_")[0], times, frame["cpu_usage_container_avg"].to_numpy(dtype=float))


def judged(case: Case) -> Iterator[dict[str, float | str]]:
    """One row per origin, day ahead and quantity: share inside of each interval, width over the middle."""
    for origin in case.origins_days:
        now = float(case.series.unix_seconds[0]) + origin * DAY_SECONDS
        past = case.series.before(now)
        if len(past.known) < 2 or now - past.unix_seconds[-1] > 2 * case.series.step_seconds:
            continue
        said = forecast(past, 7, LEVELS)
        for ahead in DAYS_AHEAD:
            if ahead == 1 or case.series.days >= 14:
                yield from _scored(case, said, origin, ahead)


def _scored(case: Case, said: Forecast, origin: float, ahead: int) -> Iterator[dict[str, float | str]]:
    begins = float(said.unix_seconds[0]) + (ahead - 1) * DAY_SECONDS
    came = case.series.between(begins, begins + DAY_SECONDS).without_missing()
    if not len(came):
        return
    per_day = round(DAY_SECONDS / said.step_seconds)
    place = ((came.unix_seconds - begins) / said.step_seconds + 1e-9).astype(int)
    counts = np.bincount(place, minlength=per_day)
    truth = np.bincount(place, weights=came.values, minlength=per_day) / np.maximum(counts, 1)
    rows = np.flatnonzero(counts) + (ahead - 1) * per_day
    row: dict[str, float | str] = {"family": case.family, "series": case.series.name, "ahead": ahead, "origin": origin}
    found = truth[counts > 0], said.lower[:, rows], said.upper[:, rows], said.middle[rows]
    yield row | {"of": "steps"} | _inside(*found)
    if (counts > 0).mean() > 0.9:
        day = slice(ahead - 1, ahead)
        peak = said.daily_peak
        found = np.array([came.known.max()]), peak.lower[:, day], peak.upper[:, day], peak.middle[day]
        yield row | {"of": "peaks"} | _inside(*found)


def _inside(truth: np.ndarray, lower: np.ndarray, upper: np.ndarray, middle: np.ndarray) -> dict[str, float]:
    slack = 1e-9 * np.abs(truth)
    inside = ((truth >= lower - slack) & (truth <= upper + slack)).mean(axis=1)
    size = max(float(truth.mean()), 1e-12)
    return {
        "80": float(inside[0]),
        "95": float(inside[1]),
        "above95": float((truth > upper[1] + slack).mean()),
        "width80": float((upper[0] - lower[0]).mean()) / size,
        "error": float(np.abs(truth - middle).mean()) / size,
    }


def measure(half: str = "test") -> dict[str, dict[str, float]]:
    """Coverage by family, quantity and day ahead, `public`, `made` and `all` beside the families; 0 to 1."""
    frame = pd.DataFrame([row for case in cases(half) for row in judged(case)])
    made = frame["family"].str.startswith("made")
    pools = {name: frame[frame["family"] == name] for name in frame["family"].unique()}
    pools |= {
        "public": frame[~made],
        "made": frame[made],
        "made but steps": frame[made & (frame["family"] != "made: steps")],
    }
    pools["all"] = frame
    table: dict[str, dict[str, float]] = {}
    for name, part in pools.items():
        for (of, ahead), group in part.groupby(["of", "ahead"], sort=False):
            table[f"{name}, {of}, day {ahead}"] = {
                "series": float(group["series"].nunique()),
                "forecasts": float(len(group)),
                "inside_80": float(group["80"].mean()),
                "inside_95": float(group["95"].mean()),
                "above_95": float(group["above95"].mean()),
                "width_80": float(group["width80"].median()),
                "error": float(group["error"].median()),
            }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration_forecast", description=__doc__)
    parser.add_argument("--half", choices=("dev", "test"), default="test")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    table = measure(chosen.half)
    if chosen.json:
        print(json.dumps(table, indent=1))
        return
    print(f"{'':36}{'series':>7}{'forecasts':>10}{'80 %':>7}{'95 %':>7}{'above':>7}{'width':>8}{'error':>8}")
    for name, row in table.items():
        shares = "".join(f"{100 * row[key]:7.1f}" for key in ("inside_80", "inside_95", "above_95"))
        print(f"{name:36}{row['series']:7.0f}{row['forecasts']:10.0f}{shares}{row['width_80']:8.2f}{row['error']:8.3f}")


if __name__ == "__main__":
    main()
