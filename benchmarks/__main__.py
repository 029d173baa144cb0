"""Run every measurement, or those named: ``python -m benchmarks [exactness latency cost closed_loop cli]``."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

from benchmarks import cli, closed_loop, cost, exactness, latency

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
        results["latency"] = {"saturated": latency.saturated(), "proxied": latency.proxied()}
    if "closed_loop" in wanted:
        results["closed_loop"] = closed_loop.measure()
    if "cli" in wanted:
        results |= cli.measure()
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    show(results)


def show(results: dict) -> None:
    print(f"{'figure':<36}{'measured':>12}{'at most':>10}")
    for name, (aim, unit) in AIMS.items():
        if name in results:
            print(f"{name:<36}{results[name]:>12.3g}{aim:>10g} {unit}")
    if "exactness" in results:
        each = results["exactness"]
        print(f"{each['requests']} requests, exact on both ends: {each['exact']}")
    for name, each in results.get("latency", {}).items():
        print(f"latency, {name}: difference to the generator {each['difference_percent']} %")
    if "closed_loop" in results:
        each = results["closed_loop"]
        print(
            f"limit {each['limit_cores'] * 1000:.0f}m: P95 {each['measured_adds']:+.1%} measured, "
            f"{each['predicted_adds']:+.1%} predicted, budget {each['budget']:.0%}, noise {each['noise']:.1%}"
        )


if __name__ == "__main__":
    main()
