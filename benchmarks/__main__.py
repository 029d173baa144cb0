"""Run every measurement, or those named: ``python -m benchmarks [exactness latency cost closed_loop cli]``."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

from benchmarks import cli, cost, exactness, latency
from benchmarks.closed_loop import recommended

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


def main() -> None:
    wanted = sys.argv[1:] or ["exactness", "latency", "cost", "closed_loop", "cli"]
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["machine"] = {"kernel": platform.release(), "cpus": os.cpu_count(), "python": platform.python_version()}
    if "cost" in wanted:
        results |= cost.footprint()
        results["programs"] = cost.programs()
        results |= {name: results["programs"][name] for name in ("program_ns_per_request", "limit_bank_core_percent")}
    if "exactness" in wanted:
        results["exactness"] = exactness.measure()
    if "latency" in wanted:
        parts = (latency.service, latency.saturated, latency.proxied)
        results["latency"] = {part.__name__: part() for part in parts}
    if "closed_loop" in wanted:
        results["closed_loop"] = recommended.measure()
    if "cli" in wanted:
        results |= cli.measure()
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
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
    for name, each in results.get("latency", {}).items():
        ends = each["difference_percent"]
        text = "; ".join(f"{end} {ends[end]['p50']:+g} / {ends[end]['p95']:+g} %" for end in ends)
        rows.append((f"P50 / P95 beside the generator's, {name}", text, "10"))
    if "closed_loop" in results:
        each = results["closed_loop"]
        text = f"{each['measured_adds']:+.1%} measured, {each['predicted_adds']:+.1%} predicted"
        aim = f"{each['budget']:.0%} + noise {each['noise']:.1%}"
        rows.append((f"recommended limit of {each['limit_cores'] * 1000:.0f}m as a real quota, P95", text, aim))
    return rows


def show(results: dict) -> None:
    for what, measured, aim in lines(results):
        print(f"{what:<84}{measured:>44}   at most {aim}")


if __name__ == "__main__":
    main()
