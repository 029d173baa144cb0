"""Run every measurement, or those named: ``python -m benchmarks [exactness latency cost limit cli backtest ...]``."""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results.json"

#: figure -> (what it may be at most, unit)
AIMS = {
    "program_ns_per_request": (1000.0, "ns"),
    "limit_bank_core_percent": (1.0, "% of a core"),
    "agent_memory_mib": (38.1, "MiB"),  # 40 MB
    "agent_idle_core_percent": (1.0, "% of a core"),
    "help_seconds": (0.3, "s"),
    "recommend_seconds": (3.0, "s"),
}


def _cost() -> dict[str, Any]:
    from benchmarks import cost

    programs = cost.programs()
    shown = {name: programs[name] for name in ("program_ns_per_request", "limit_bank_core_percent")}
    return cost.footprint() | {"programs": programs} | shown


def _latency() -> dict[str, Any]:
    from benchmarks import latency

    return {"latency": {part.__name__: part() for part in (latency.service, latency.saturated, latency.proxied)}}


def _part(module: str, key: str | None, function: str = "measure") -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        result = getattr(importlib.import_module(f"benchmarks.{module}"), function)()
        return {key: result} if key else result

    return run


#: name -> what it adds to the results
PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "cost": _cost,
    "exactness": _part("exactness", "exactness"),
    "rate": _part("rate", "rate"),
    "http2": _part("http2", "http2"),
    "cardinality": _part("cardinality", "cardinality"),
    "restarts": _part("restarts", "restarts"),
    "fuzz": _part("fuzz", "fuzz"),
    "latency": _latency,
    "overhead": _part("overhead", "overhead"),
    "limit": _part("closed_loop.recommended", "closed_loop"),
    "cli": _part("cli", None),
    "backtest": _part("backtest", "backtest"),
    "memory": _part("memory", "memory"),
    "classes": _part("classes", "classes"),
    "demand": _part("calibration_demand", "demand"),
    "forecast": _part("calibration_forecast", "forecast"),
    "fleet": _part("fleet", "fleet"),
    "report": _part("report", "report"),
    "plan": _part("plan", "plan"),
}


def main() -> None:
    wanted = sys.argv[1:] or list(PARTS)
    if unknown := [name for name in wanted if name not in PARTS]:
        sys.exit(f"There is no part {unknown[0]}. There are: {', '.join(PARTS)}.")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["machine"] = {"kernel": platform.release(), "cpus": os.cpu_count(), "python": platform.python_version()}
    for name in wanted:
        results |= PARTS[name]()
        RESULTS.write_text(json.dumps(results, indent=2, default=float) + "\n")
    show(results)


LABELS = {
    "program_ns_per_request": "program time per request, server side (its measuring, 2 x 75 ns, included)",
    "limit_bank_core_percent": "limit bank, nginx at saturation",
    "agent_memory_mib": "agent: resident memory and kernel maps, 100 groups, 2,000 routes",
    "agent_idle_core_percent": "agent: CPU with 100 groups that do next to nothing, windows of 10 s",
    "help_seconds": "`headroom --help`",
    "recommend_seconds": "`headroom recommend`, demo store",
}


def lines(results: dict) -> list[tuple[str, str, str]]:
    """(what, measured, aim) of every result."""
    rows = [
        (LABELS[name], f"{results[name]:.3g} {unit}", f"{aim:g}")
        for name, (aim, unit) in AIMS.items()
        if name in results
    ]
    if "exactness" in results:
        each = results["exactness"]
        counted = "equal by status, both ends" if each["exact"] else "NOT EQUAL"
        rows.append((f"{each['requests']:,} requests, a tenth 404 or 503", counted, "equal"))
    if "rate" in results:
        each = results["rate"]
        what = f"{each['handled']:,} requests in {each['seconds']} s, as fast as they go: counted; agent's cores"
        exact = set(each["counted"].values()) == {each["handled"]} and not each["lost"]
        rows.append((what, f"{'all, both ends' if exact else 'NOT ALL'}; {each['agent_cores']:.1%}", "all"))
    for at_once, each in results.get("http2", {}).items():
        what = f"{each['requests']:,} requests of HTTP/2, {at_once} at once in a connection; program time per end"
        counted = "equal by status, both ends" if each["exact"] and not each["lost"] else "NOT EQUAL"
        rows.append((what, f"{counted}; {each['program_ns_per_request_and_end']:,.0f} ns", "equal"))
    if "cardinality" in results:
        each = results["cardinality"]
        what = f"{each['handled']:,} requests, ever new paths of ten shapes: routes"
        shares = f"{each['overflow'] / each['handled']:.1%} in `__overflow__`"
        exact = "all counted" if each["counted"] == each["handled"] else "NOT ALL COUNTED"
        rows.append((what, f"{each['routes']}; {exact}, {shares}", "50"))
    if "restarts" in results:
        each = results["restarts"]
        what = f"agent stopped and started {each['turns']} times under load, {each['requests']:,} requests between"
        rows.append((what, f"{each['exact_turns']} of {each['turns']} turns equal, both ends", "all"))
    if "fuzz" in results:
        noise, mutants, proper = (results["fuzz"][kind] for kind in ("noise", "mutants", "proper"))
        what = f"{noise['segments']:,} segments of noise and other protocols: requests counted"
        rows.append((what, str(sum(noise["requests"].values())), "0"))
        same = "the same at both ends" if len(set(mutants["requests"].values())) == 1 else "NOT THE SAME"
        exact = set(proper["requests"].values()) == {1000} and not proper["losses"]
        then = "then 1,000 of 1,000" if exact else "THEN NOT ALL"
        rows.append(
            (f"{mutants['segments']:,} segments of mutated HTTP: requests counted", f"{same}; {then}", "the same")
        )
    for name, each in results.get("latency", {}).items():
        ends = each["difference_percent"]
        text = "; ".join(f"{end} {ends[end]['p50']:+g} / {ends[end]['p95']:+g} %" for end in ends)
        rows.append((f"P50 / P95 beside the generator's, {name}", text, "10"))
    if "overhead" in results:
        from benchmarks import overhead

        rows += overhead.shown(results["overhead"])
    if "closed_loop" in results:
        each = results["closed_loop"]
        text = f"{each['measured_adds']:+.1%} measured, {each['predicted_adds']:+.1%} predicted"
        aim = f"{each['budget']:.0%} + noise {each['noise']:.1%}"
        rows.append((f"recommended limit of {each['limit_cores'] * 1000:.0f}m as a real quota, P95", text, aim))
    return rows + _models(results)


def _models(results: dict) -> list[tuple[str, str, str]]:
    """What the models are worth."""
    rows = []
    if "backtest" in results:
        for name in ("headroom", "autopilot"):
            each = results["backtest"][name]
            figures = ("minutes_over_percent", "waste_percent", "days_changed_percent")
            text = " / ".join(f"{each[figure]:.1f}" for figure in figures)
            label = "ours" if name == "headroom" else "Autopilot's moving window"
            rows.append(
                (f"CPU, 8 public series: minutes over / waste / days changed, {label}", f"{text} %", "1.8 / 37 / 6")
            )
    if "fleet" in results:
        each = results["fleet"]
        what = f"{each['containers']:,.0f} containers, {each['days']:.0f} days of minutes, from Parquet, 2 cores"
        rows.append((what, f"{each['seconds']:.0f} s, {each['peak_mib']:.0f} MiB", "120 s, 1024 MiB"))
    if "report" in results:
        each = results["report"]
        what = f"report of {each['containers']:,.0f} containers: size; opens; a search; a sort, in headless Chromium"
        times = f"{each['open_seconds']:.1f} s; {each['search_ms']:.0f} ms; {each['sort_ms']:.0f} ms"
        rows.append((what, f"{each['megabytes']:.1f} MB; {times}", "5 MB; 2 s; 100 ms; 100 ms"))
    if "plan" in results:
        each = results["plan"]["packing"]
        what = f"nodes for {each['cases']} small clusters, against OR-tools' CP-SAT: {each['optimum']:,}"
        rows.append((what, f"{each['nodes']:,}, {each['nodes'] / each['optimum'] - 1:+.2%}", "+1 %"))
        held = results["plan"]["forecast"]["1"]["held"]
        text = " / ".join(f"{share:.0%}" for share in held.values())
        rows.append((f"highest of a week left out, below its {' / '.join(held)} forecast", text, "equal"))
    return rows


def show(results: dict) -> None:
    for what, measured, aim in lines(results):
        print(f"{what:<92}{measured:>44}   at most {aim}")


if __name__ == "__main__":
    main()
