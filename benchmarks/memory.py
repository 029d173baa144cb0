"""Sizes of memory, retrained daily and scored on the next day; and what the leak test finds.

    python -m benchmarks.memory          # what nothing was tuned on: other seeds, the other half of the recorded series
    python -m benchmarks.memory dev      # what the constants were chosen on

Three sources, side by side: kruize (15 minutes, 15 days, highest usage and highest RSS of the
interval), Nezha (one minute, 20 h and 15 h: the sizes of two fifths of it, scored on the rest in
three parts) and generated workloads (5 minutes, 15 days), seeded. No baseline waits before it
changes a size, and none has its floor on. A leak is reported and not sized away, so leaking
workloads are shown apart.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from benchmarks.stand import DATA
from recommender import memory
from recommender.baselines import MEMORY, with_margin
from recommender.leak import LeakVerdict, find_leak, lives_of
from recommender.series import DAY_SECONDS, Series
from recommender.troughs import Life

MIB = 2.0**20
DAYS, STEP = 15, 300.0
PER_KIND, SEED = 30, 20240
LIMIT_RATIO = 1.25  # policy balanced: limit = request x this
RATES = (0.5, 1.0, 2.0, 5.0)  # % a day

Rule = Callable[[list[Series], float, float | None], float | None]
RULES: dict[str, Rule] = {
    "headroom": memory.rule,
    "VPA target": MEMORY["vpa_target"],
    "VPA upper": MEMORY["vpa_upper"],
    "KRR (max x1.15)": MEMORY["krr"],
    "Autopilot P98": MEMORY["autopilot"],
    "Autopilot max": MEMORY["autopilot_peak"],
    "max x1.10": with_margin(MEMORY["krr"], 1.10),
    "max x1.30": with_margin(MEMORY["krr"], 1.30),
}


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


# --- scoring -----------------------------------------------------------------


def backtest(workload: Workload, rule: Rule | None) -> pd.DataFrame:
    """One row per period: the request, and what was used then. No rule: the oracle, the period's own peak."""
    rows, current = [], None
    for now, end in workload.periods:
        used = workload.series.between(now, end).known
        peak, mean = float(used.max()), float(used.mean())
        request = peak if rule is None else rule([workload.series], now, current)
        if request is None or not np.isfinite(request):
            continue
        changed = current is not None and abs(np.log(request / current)) > 0.01
        rows.append((workload.kind, workload.name, now, request, peak, mean, changed))
        current = request
    columns = ["kind", "name", "now", "request", "peak", "mean", "changed"]
    return pd.DataFrame(rows, columns=columns)


def summary(rows: pd.DataFrame) -> dict[str, float]:
    """Shares in %, over periods; slack is the mean over workload-days."""
    return {
        "days": len(rows),
        "oom_percent": 100 * float((rows["peak"] > rows["request"]).mean()),
        "oom_at_limit_percent": 100 * float((rows["peak"] > LIMIT_RATIO * rows["request"]).mean()),
        "slack_to_mean_percent": 100 * float((1 - rows["mean"] / rows["request"]).mean()),
        "slack_to_peak_percent": 100 * float((1 - rows["peak"] / rows["request"]).mean()),
        "changes_per_day": float(rows["changed"].mean()),
    }


def leak_of(series: Series) -> LeakVerdict:
    known = series.without_missing()
    parts = lives_of(known.unix_seconds, known.values)
    return find_leak([Life(known.unix_seconds[part], known.values[part]) for part in parts])  # noqa: PD011 - not pandas


def with_leak(series: Series, percent_a_day: float) -> Series:
    age = (series.unix_seconds - series.unix_seconds[0]) / DAY_SECONDS
    grown = series.values + percent_a_day / 100 * age * np.median(series.known)  # noqa: PD011 - not pandas
    return Series.of(series.name, series.unix_seconds, grown)


def generated(half: str) -> list[Workload]:
    first = 0 if half == "dev" else 100
    return [generate(kind, seed) for kind in KINDS for seed in range(first, first + PER_KIND)]


def chosen_half(workloads: list[Workload], half: str) -> list[Workload]:
    """Every second workload of its kind; kruize by container, so that usage and RSS stay together."""
    kinds: dict[str, list[str]] = {}
    for each in workloads:
        names = kinds.setdefault(each.kind, [])
        if _key(each) not in names:
            names.append(_key(each))
    wanted = 0 if half == "dev" else 1
    return [each for each in workloads if kinds[each.kind].index(_key(each)) % 2 == wanted]


def _key(workload: Workload) -> str:
    return workload.name.split(" ", maxsplit=1)[0]


def sizes(workloads: list[Workload], rules: dict[str, Rule | None]) -> pd.DataFrame:
    parts = [backtest(each, rule).assign(rule=name) for name, rule in rules.items() for each in workloads]
    rows = pd.concat([part for part in parts if len(part)])
    answered = rows.groupby(["name", "now"])["rule"].transform("count") == len(rules)  # where every rule answers
    return rows[answered]


def leaks(stable: list[Workload]) -> dict:
    """False verdicts by source, and the share of injected leaks that is found, by rate and days."""
    found: dict[str, dict[str, float]] = {"false": {}, "found": {}}
    false_all: list[bool] = []
    for kind in sorted({each.kind for each in stable}):
        verdicts = [leak_of(each.series).leaking for each in stable if each.kind == kind]
        found["false"][kind] = _share(verdicts)
        false_all += verdicts
    found["false"]["all"] = _share(false_all)
    found["false"]["count"] = len(false_all)
    made = [each for each in stable if each.kind in KINDS]
    for days in (3, 5, 7, 10):
        verdicts = [leak_of(each.series.before(1.7e9 + days * DAY_SECONDS)).leaking for each in made]
        found["false"][f"generated, {days} days seen"] = _share(verdicts)
    for rate in RATES:
        leaky = [generate(each.kind, int(each.name.split("-")[1]), rate) for each in made]
        for days in (7, 14):
            seen = [leak_of(each.series.before(1.7e9 + days * DAY_SECONDS)).leaking for each in leaky]
            found["found"][f"generated {rate:g} %/day, {days} days"] = _share(seen)
            if rate == 1 and days == 14:
                lasting = [leaking for each, leaking in zip(leaky, seen, strict=True) if each.kind != "restarts"]
                found["found"]["  of these, lives longer than 6 days"] = _share(lasting)
                for kind in KINDS:
                    of_kind = [leaking for each, leaking in zip(leaky, seen, strict=True) if each.kind == kind]
                    found["found"][f"  of these {kind}"] = _share(of_kind)
        recorded = [each.series for each in stable if each.kind == "kruize"]
        for days in (7, 15):
            ends = [each.since(each.unix_seconds[-1] - days * DAY_SECONDS) for each in recorded]
            seen = [leak_of(with_leak(each, rate)).leaking for each in ends]
            found["found"][f"kruize {rate:g} %/day, last {days} days"] = _share(seen)
    for rate in (1, 50, 100, 200):
        pods = [with_leak(each.series, rate) for each in stable if each.kind == "nezha"]
        found["found"][f"nezha {rate:g} %/day, 15 to 20 h"] = _share(leak_of(each).leaking for each in pods)
    return found


def _share(verdicts: Iterable[bool]) -> float:
    each = list(verdicts)
    return round(100 * sum(each) / len(each), 2) if each else float("nan")


def warnings_before_kills(half: str) -> dict[str, float]:
    """Leaks of 1 to 5 % a day, sized daily until the verdict and then left: does it come before the first kill?"""
    ahead, first, lead = 0, 0, []
    leaky = [generate(kind, 1000 + seed, 1 + 4 * seed / 9) for kind in ("flat", "diurnal", "jvm") for seed in range(10)]
    for each in chosen_half(leaky, half):
        rows = backtest(each, memory.rule)
        said = next((now for now in rows["now"] if leak_of(each.series.before(now)).leaking), None)
        killed = rows.loc[rows["peak"] > rows["request"], "now"]
        first += 1
        if said is not None and (killed.empty or said <= killed.iloc[0]):
            ahead += 1
            lead.append((killed.iloc[0] - said) / DAY_SECONDS if len(killed) else DAYS - 1)
    return {
        "leaks": first,
        "told_before_first_kill_percent": round(100 * ahead / first, 1),
        "median_days_ahead": float(np.median(lead)),
    }


def measure(half: str = "test") -> dict:
    """Everything, over one half of the series."""
    everything = generated(half) + chosen_half(kruize() + nezha(), half)
    rows = sizes(everything, {**RULES, "oracle (next day's peak)": None})
    sources = {"generated": list(KINDS), "kruize": ["kruize"], "nezha": ["nezha"]}
    result: dict = {"half": half, "workloads": len(everything), "sizes": {}}
    for source, kinds in {"all": [*KINDS, "kruize", "nezha"], **sources}.items():
        part = rows[rows["kind"].isin(kinds)]
        result["sizes"][source] = {
            name: summary(part[part["rule"] == name]) for name in (*RULES, "oracle (next day's peak)")
        }
    ours = rows[rows["rule"] == "headroom"]
    result["by_kind"] = {kind: summary(ours[ours["kind"] == kind]) for kind in KINDS}
    first = ours["kind"].eq("steps") & _on_step_day(ours, everything)
    result["without_days_of_a_deploy"] = summary(ours[~first])
    result["frontier"] = frontier(everything)
    result["leaks"] = leaks(everything)
    result["warnings"] = warnings_before_kills(half)
    result["milliseconds"] = cost()
    return result


def _on_step_day(rows: pd.DataFrame, workloads: list[Workload]) -> pd.Series:
    at = {each.name: [float(each.series.unix_seconds[start]) for start in each.starts] for each in workloads}
    return pd.Series(
        [
            any(now <= step < now + DAY_SECONDS for step in at[name])
            for name, now in zip(rows["name"], rows["now"], strict=True)
        ],
        index=rows.index,
    )


def frontier(workloads: list[Workload]) -> dict[str, dict[str, float]]:
    """Max x margin over a range of margins: what a plain rule pays for the same kills."""
    margins = {f"max x{each:g}": with_margin(MEMORY["krr"], each) for each in (1.0, 1.05, 1.2, 1.25, 1.35, 1.4)}
    rows = sizes(workloads, margins)
    return {name: summary(rows[rows["rule"] == name]) for name in margins}


def cost() -> dict[str, float]:
    """CPU time per container of 14 days of one-minute readings; the least of 20 runs."""
    chance = np.random.default_rng(1)
    times = 1.7e9 + np.arange(14 * 1440) * 60.0
    used = 4e8 * (1 + 0.1 * np.sin(times / DAY_SECONDS * 2 * np.pi) + 0.01 * chance.standard_normal(len(times)))
    series = Series.of("cost", times, used)
    rate = 50 + 20 * np.sin(times / DAY_SECONDS * 2 * np.pi)
    jobs = {
        "leak": lambda: leak_of(series),
        "leak with traffic": lambda: find_leak([Life(times, used, rate)]),
        "rule, all of it": lambda: memory.rule([series], float(times[-1]) + 60, None),
    }
    return {name: round(min(_milliseconds(job) for _ in range(20)), 2) for name, job in jobs.items()}


def _milliseconds(job: Callable[[], object]) -> float:
    start = time.process_time()
    job()
    return 1e3 * (time.process_time() - start)


def show(result: dict) -> None:
    head = f"{'days':>6} {'OOM %':>7} {'at limit':>9} {'slack %':>8} {'to peak':>8} {'changes':>8}"
    for source, rules in result["sizes"].items():
        print(f"\n{source:<26}{head}")
        for name, each in rules.items():
            print(f"{name:<26}{_line(each)}")
    print(f"\n{'headroom, by kind':<26}{head}")
    for kind, each in {
        **result["by_kind"],
        **result["frontier"],
        "all but days of a deploy": result["without_days_of_a_deploy"],
    }.items():
        print(f"{kind:<26}{_line(each)}")
    for title, rows in result["leaks"].items():
        print(f"\nleaks: {title}, %")
        for name, each in rows.items():
            print(f"{name:<40}{each:>8g}")
    print("\n" + json.dumps(result["warnings"]), json.dumps(result["milliseconds"]))


def _line(each: dict[str, float]) -> str:
    return (
        f"{each['days']:>6} {each['oom_percent']:>7.2f} {each['oom_at_limit_percent']:>9.2f} "
        f"{each['slack_to_mean_percent']:>8.1f} {each['slack_to_peak_percent']:>8.1f} {each['changes_per_day']:>8.3f}"
    )


if __name__ == "__main__":
    measured = measure(sys.argv[1] if len(sys.argv) > 1 else "test")
    show(measured)
