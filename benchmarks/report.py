"""A report of 1,000 containers with 14 days of minutes: its size, and how long a browser takes to open and use it.

``python -m benchmarks.report``: generates the fleet of :mod:`benchmarks.fleet` with an inventory beside it, writes the
report with the command, and opens it in headless Chromium: from navigation to the load event and the next frame, and
from the last key of a search, or the click on a heading, to the frame that shows the answer.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.fleet import generate
from profiles.parquet import ParquetReader
from recommender.history import Container
from recommender.inputs.inventory_file import write_inventory
from recommender.inventory import Declared, Inventory, Node

CONTAINERS, DAYS, TIMES = 1000, 14, 5
_SINCE = """async (act) => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const begin = performance.now();
  eval(act);
  await frame();
  return performance.now() - begin;
}"""
_SEARCH = "const box = document.getElementById('search'); box.value = '{}'; box.dispatchEvent(new Event('input'));"
_SORT = "document.querySelectorAll('table.sizes th button')[{}].click();"


def declare(store: Path) -> None:
    """An inventory that declares every container of the store, so that each has a patch."""
    keys = [each.key for each in ParquetReader(store).containers]
    requests = {"cpu": "1500m", "memory": "1Gi"}
    declared = [
        Declared(Container(*key), "main", requests, {"memory": "2Gi"}, replicas=2, api_version="apps/v1")
        for key in keys
    ]
    nodes = tuple(Node(f"node-{number}", 15.9, 60 * 2**30, "", "abc"[number % 3]) for number in range(60))
    for cluster in {key[0] for key in keys}:
        own = tuple(
            sorted((each for each in declared if each.container.cluster == cluster), key=lambda each: each.container)
        )
        write_inventory(store, Inventory(cluster, "files", own, {}, nodes=nodes))


def measure(containers: int = CONTAINERS, folder: Path | None = None) -> dict[str, float]:
    """Figures of one report; the store goes afterwards, unless `folder` says where to keep it."""
    with tempfile.TemporaryDirectory(prefix="headroom-report-") as temporary:
        store, page = (folder or Path(temporary)) / "store", (folder or Path(temporary)) / "report.html"
        if not store.exists():
            generate(store, containers, DAYS)
            declare(store)
        begin = time.perf_counter()
        command = [sys.executable, "-m", "headroom", "report", "--store", str(store), "--out", str(page)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        written = time.perf_counter() - begin
        return {
            "containers": containers,
            "megabytes": round(page.stat().st_size / 1e6, 2),
            "write_seconds": round(written, 1),
            **used(page),
        }


def used(page: Path) -> dict[str, float]:
    """Median of five runs of a new browser page each; seconds to open, milliseconds to answer."""
    from playwright.sync_api import sync_playwright

    opened, found = [], {"search_ms": [], "sort_ms": [], "picture_ms": []}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(TIMES):
            context = browser.new_context(viewport={"width": 1360, "height": 900}, bypass_csp=True)
            tab = context.new_page()
            begin = time.perf_counter()
            tab.goto(page.as_uri())
            tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
            opened.append(time.perf_counter() - begin)
            for text in ("app-0001", "idle", ""):
                found["search_ms"].append(tab.evaluate(_SINCE, _SEARCH.format(text)))
            for column in (0, 2, 7, 7):
                found["sort_ms"].append(tab.evaluate(_SINCE, _SORT.format(column)))
            begin = time.perf_counter()
            tab.evaluate("document.querySelectorAll('details.workload')[500].open = true")
            tab.locator("details.workload").nth(500).locator("svg").first.wait_for()
            found["picture_ms"].append(1000 * (time.perf_counter() - begin))
            context.close()
        browser.close()
    return {"open_seconds": round(statistics.median(opened), 2)} | {
        name: round(max(values), 1) for name, values in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=CONTAINERS)
    parser.add_argument("--keep", type=Path, help="folder in which store and report stay")
    options = parser.parse_args()
    print(json.dumps(measure(options.containers, options.keep), indent=2))


if __name__ == "__main__":
    main()
