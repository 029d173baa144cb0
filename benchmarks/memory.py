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
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from benchmarks.memory_workloads import DAYS, KINDS, Workload, generate, kruize, nezha
from recommender import memory
from recommender.baselines import MEMORY, with_margin
from recommender.leak import LeakVerdict, find_leak, lives_of
from recommender.series import DAY_SECONDS, Series
from recommender.troughs import Life

PER_KIND = 30
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
